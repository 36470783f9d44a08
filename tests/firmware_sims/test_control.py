"""The climate computer: hysteresis, limits, and the sun's hours."""

from __future__ import annotations

from dataclasses import replace

import pytest

from firmware_sims import climate, humid_air
from firmware_sims.climate import Controls, House, State
from firmware_sims.control import SetPoints, control, heating_set_point_c
from firmware_sims.sun import Sun
from firmware_sims.weather import Climate, Weather

PLACE = Climate(36.88, 118.74)
HOUSE = climate.multi_span(PLACE)
SOLAR = climate.solar_greenhouse(PLACE)
DAY, NIGHT = Sun(30.0, 180.0), Sun(-30.0, 0.0)
MILD = Weather(10.0, 60.0, 300.0, 0.3, 0.2, -5.0, 2.0, 0.0, 0.0, 101.3, 430.0, 40.0, 70.0)
GOALS = SetPoints(heating_day_c=18, heating_night_c=14, ventilation_c=25, co2_ppm=700)


def _state(air_c: float, humidity: float = 60.0, **parts: float) -> State:
    state = climate.initial_state(HOUSE, MILD, 14.0)
    vapour = humid_air.vapour_density_g_m3(air_c, humidity)
    return replace(state, air_c=air_c, vapour_g_m3=vapour, **parts)


def _run(
    state: State,
    before: Controls | None = None,
    *,
    weather: Weather = MILD,
    sun: Sun = DAY,
    house: House = HOUSE,
    seconds: int = 3600,
) -> Controls:
    controls = before or Controls()
    for _ in range(seconds // 10):
        controls = control(house, GOALS, state, controls, weather, sun, 10.0)
    return controls


def test_vents_open_above_their_set_point_and_take_their_time():
    assert _run(_state(24.9)).vent_position == 0.0
    assert _run(_state(30.0)).vent_position > 0.7
    assert _run(_state(34.0)).vent_position == 1.0
    assert _run(_state(34.0), seconds=60).vent_position == pytest.approx(60 / 240)


def test_vents_have_a_dead_band_around_the_set_point():
    assert _run(_state(25.3)).vent_position == 0.0  # shut vents stay shut until 25.5
    opened = _run(_state(26.5))
    assert _run(_state(24.8), opened).vent_position > 0.0  # open ones until 24.5
    assert _run(_state(24.4), opened).vent_position == 0.0


def test_vents_open_less_when_it_is_cold_in_storm_and_in_rain():
    hot = _state(29.0)
    mild = _run(hot).vent_position
    assert _run(hot, weather=replace(MILD, temperature_c=-5.0)).vent_position < mild
    assert _run(hot, weather=replace(MILD, wind_speed_m_s=14.0)).vent_position == 0.1
    assert _run(hot, weather=replace(MILD, rain_mm_h=2.0)).vent_position == 0.25


def test_vents_let_damp_air_out_but_not_into_a_frost():
    damp = _state(20.0, humidity=92.0)
    assert 0.0 < _run(damp).vent_position <= 0.2
    assert _run(damp, weather=replace(MILD, temperature_c=-3.0)).vent_position == 0.0
    assert _run(_state(20.0, humidity=70.0)).vent_position == 0.0


def test_pipes_heat_below_the_set_point_of_the_hour_with_a_dead_band():
    assert _run(_state(13.0), sun=NIGHT).heating_w_m2 > 0.0
    assert _run(_state(16.0), sun=NIGHT).heating_w_m2 == 0.0
    assert _run(_state(16.0), sun=DAY).heating_w_m2 > 0.0
    assert _run(_state(13.9), sun=NIGHT).heating_w_m2 == 0.0  # cold pipes stay so until 13.7
    warm = Controls(heating_w_m2=50.0)
    assert _run(_state(14.2), warm, sun=NIGHT).heating_w_m2 > 0.0  # warm ones until 14.4
    assert _run(_state(-20.0), sun=NIGHT).heating_w_m2 == HOUSE.heating_max_w_m2
    assert _run(_state(2.0), sun=NIGHT, house=SOLAR).heating_w_m2 == 0.0  # it has no pipes


def test_heating_set_point_moves_from_night_to_day_at_dawn():
    goals = [heating_set_point_c(GOALS, Sun(elevation, 90.0)) for elevation in range(-12, 6)]
    assert goals[0] == 14.0 and goals[-1] == 18.0
    assert goals == sorted(goals)


def test_a_screen_closes_at_night_and_a_quilt_while_the_sun_is_low():
    assert _run(_state(15.0), sun=NIGHT).screen_position == 1.0
    assert _run(_state(15.0), sun=DAY).screen_position == 0.0
    warm_night = replace(MILD, temperature_c=20.0)
    assert _run(_state(22.0), weather=warm_night, sun=NIGHT).screen_position == 0.0
    low = Sun(7.5, 120.0)
    assert (
        _run(_state(15.0), Controls(screen_position=1.0), sun=low, house=SOLAR).screen_position == 1
    )
    assert _run(_state(15.0), Controls(), sun=low, house=SOLAR).screen_position == 0.0
    assert _run(_state(15.0), sun=NIGHT, house=SOLAR, seconds=210).screen_position == pytest.approx(
        0.5
    )


@pytest.mark.parametrize(
    ("state", "injects"),
    [
        (_state(20.0, ppfd=300.0, co2_ppm=500.0), True),
        (_state(20.0, ppfd=0.0, co2_ppm=500.0), False),  # nothing takes it up in the dark
        (_state(20.0, ppfd=300.0, co2_ppm=800.0), False),  # enough there
        (_state(30.0, ppfd=300.0, co2_ppm=500.0), False),  # it would go out by the vents
    ],
)
def test_carbon_dioxide_is_given_to_a_closed_house_in_the_light(state: State, injects: bool):
    assert (_run(state).co2_mg_m2_s > 0.0) is injects


def test_fans_run_in_damp_air_with_a_dead_band():
    assert _run(_state(20.0, humidity=86.0)).fans_on
    assert not _run(_state(20.0, humidity=82.0)).fans_on
    assert _run(_state(20.0, humidity=82.0), Controls(fans_on=True)).fans_on
