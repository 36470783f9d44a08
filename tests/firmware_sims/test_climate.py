"""The physics of a house: what comes in is what goes out and what stays."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sims import climate, humid_air
from firmware_sims.climate import Controls, House, State
from firmware_sims.humid_air import LATENT_HEAT_J_G
from firmware_sims.sun import Sun, sun_at
from firmware_sims.weather import Climate, Weather

SHOUGUANG = Climate(36.88, 118.74, 23.0)
NOON_US = round(dt.datetime(2026, 11, 20, 4, 5, tzinfo=dt.UTC).timestamp() * 1e6)
MIDNIGHT_US = NOON_US - 12 * 3_600_000_000
HOUSES = {
    "multi_span": climate.multi_span(SHOUGUANG),
    "solar": climate.solar_greenhouse(SHOUGUANG),
}
CO2_MG_PER_PPM_M3 = 1.83


def _weather(**changes: float) -> Weather:
    plain = Weather(
        temperature_c=5.0,
        relative_humidity=60.0,
        global_radiation_w_m2=0.0,
        diffuse_share=0.3,
        cloud=0.1,
        sky_temperature_c=-12.0,
        wind_speed_m_s=2.0,
        wind_direction_deg=330.0,
        rain_mm_h=0.0,
        pressure_kpa=101.6,
        co2_ppm=430.0,
        pm2_5_ug_m3=50.0,
        pm10_ug_m3=80.0,
    )
    return replace(plain, **changes)


weathers = st.builds(
    _weather,
    temperature_c=st.floats(-15, 38),
    relative_humidity=st.floats(15, 99),
    global_radiation_w_m2=st.floats(0, 950),
    diffuse_share=st.floats(0.1, 1),
    sky_temperature_c=st.floats(-40, 15),
    wind_speed_m_s=st.floats(0, 18),
)
controls = st.builds(
    Controls,
    vent_position=st.floats(0, 1),
    screen_position=st.floats(0, 1),
    heating_w_m2=st.floats(0, 200),
    co2_mg_m2_s=st.sampled_from([0.0, 1.5]),
)


def _state(house: House, air_c: float = 18.0, humidity: float = 80.0) -> State:
    state = climate.initial_state(house, _weather(), 14.0)
    vapour = humid_air.vapour_density_g_m3(air_c, humidity)
    return replace(state, air_c=air_c, vapour_g_m3=vapour)


states = st.builds(
    lambda air, rh, soil, wall, pipe, co2: {
        "air_c": air,
        "vapour_g_m3": humid_air.vapour_density_g_m3(air, rh),
        "soil_c": (soil, soil + 1.0, soil + 2.0),
        "wall_c": (wall, wall - 4.0),
        "pipe_c": pipe,
        "co2_ppm": co2,
    },
    st.floats(4, 40),
    st.floats(25, 103),
    st.floats(5, 28),
    st.floats(2, 35),
    st.floats(5, 80),
    st.floats(180, 1500),
)


@pytest.mark.parametrize("kind", HOUSES)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_heat_that_stays_is_heat_that_came_less_heat_that_left(kind: str, data):
    house = HOUSES[kind]
    state = replace(_state(house), **data.draw(states))
    weather, control = data.draw(weathers), data.draw(controls)
    sun, dt_s = sun_at(NOON_US, 36.88, 118.74), 10.0
    flux = climate.exchange(house, state, NOON_US, sun, weather, control)
    after = climate.step(house, state, NOON_US, dt_s, weather, control)
    light = flux.light_canopy_w + flux.light_soil_w + flux.light_wall_w + flux.light_air_w
    lost = flux.cover_w + flux.vent_w + flux.deep_soil_w + flux.wall_out_w
    lost += LATENT_HEAT_J_G * flux.vent_vapour
    gained = (light + flux.heating_w - lost) * dt_s
    # What condenses on the cover leaves through it (`cover_w`); dew gives its heat to the house.
    stayed = climate.stored_heat_j_m2(house, after) - climate.stored_heat_j_m2(house, state)
    assert stayed == pytest.approx(gained, abs=1e-3 * max(1.0, abs(gained)))


@pytest.mark.parametrize("kind", HOUSES)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_water_and_carbon_are_neither_made_nor_lost(kind: str, data):
    house = HOUSES[kind]
    state = replace(_state(house), **data.draw(states))
    weather, control = data.draw(weathers), data.draw(controls)
    sun, dt_s = sun_at(NOON_US, 36.88, 118.74), 10.0
    flux = climate.exchange(house, state, NOON_US, sun, weather, control)
    after = climate.step(house, state, NOON_US, dt_s, weather, control)
    given_off = (
        after.transpired_g_m2
        + after.evaporated_g_m2
        - after.condensed_g_m2
        - (state.transpired_g_m2 + state.evaporated_g_m2 - state.condensed_g_m2)
    )
    in_air = (after.vapour_g_m3 - state.vapour_g_m3) * house.height_m
    assert in_air == pytest.approx(given_off - flux.vent_vapour * dt_s, abs=1e-6)
    carbon = (after.co2_ppm - state.co2_ppm) * CO2_MG_PER_PPM_M3 * house.height_m
    net = flux.respiration + flux.injection - flux.assimilation - flux.vent_co2
    assert carbon == pytest.approx(net * dt_s, abs=1e-6)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(HOUSES)), states, weathers, controls)
def test_the_cover_passes_on_what_it_gets(kind: str, parts, weather, control):
    """What flows through the cover from inside equals what it loses to wind and sky."""
    house = HOUSES[kind]
    state = replace(_state(house), **parts)
    sun = Sun(30.0, 180.0)
    flux = climate.exchange(house, state, NOON_US, sun, weather, control)
    wind = 2.8 + 1.2 * weather.wind_speed_m_s
    quilt = 0.0 if house.screen_inside else house.screen_resistance * control.screen_position
    outside_c = (wind * weather.temperature_c + 4.6 * weather.sky_temperature_c) / (wind + 4.6)
    conductance = 1.0 / (1.0 / (wind + 4.6) + quilt)
    lost = house.cover_area * conductance * (flux.cover_c - outside_c)
    assert flux.cover_w == pytest.approx(lost, abs=1e-6)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(HOUSES)), states, weathers, controls)
def test_fluxes_have_the_signs_that_physics_gives_them(kind: str, parts, weather, control):
    house = HOUSES[kind]
    state = replace(_state(house), **parts)
    flux = climate.exchange(house, state, NOON_US, Sun(30.0, 180.0), weather, control)
    for name in ("transpiration", "evaporation", "condensation", "dew", "assimilation", "ppfd"):
        assert getattr(flux, name) >= 0.0, name
    light = flux.light_canopy_w + flux.light_soil_w + flux.light_wall_w + flux.light_air_w
    assert light <= 2.6 * house.transmission * weather.global_radiation_w_m2 + 1e-9
    if flux.condensation > 0.0:
        assert state.vapour_g_m3 > humid_air.saturation_density_g_m3(flux.cover_c) - 1e-6


# Outdoor °C, W/m², wind; vents, screen, heating: the corners of what a house may meet.
CORNERS = [
    (outside, light, wind, vents, screen, heat)
    for outside in (-15.0, 38.0)
    for light in (0.0, 950.0)
    for wind in (0.0, 18.0)
    for vents in (0.0, 1.0)
    for screen in (0.0, 1.0)
    for heat in (0.0, 200.0)
]


@pytest.mark.parametrize("kind", HOUSES)
def test_a_house_left_alone_for_hours_stays_a_greenhouse(kind: str):
    house = HOUSES[kind]
    for corner in CORNERS:
        outside, light, wind, vents, screen, heat = corner
        weather = _weather(
            temperature_c=outside,
            global_radiation_w_m2=light,
            wind_speed_m_s=wind,
            sky_temperature_c=outside - 18.0,
        )
        control = Controls(vents, screen, heat)
        state = _state(house)
        for minute in range(0, 240, 3):
            at_us = NOON_US + minute * 60_000_000
            state = climate.step(house, state, at_us, 180.0, weather, control)
        # Cool soil keeps a house below a hot night; a clear sky pulls it below a cold one.
        assert min(outside, 17.0) - 6 < state.air_c < 95, corner
        assert 0 < state.relative_humidity < 112, corner
        assert 50 < state.co2_ppm < 8_000, corner
        assert outside - 19 < state.cover_c < 90, corner


def test_longer_steps_come_to_the_same_as_shorter_ones():
    house = HOUSES["multi_span"]
    weather, control = _weather(global_radiation_w_m2=420.0), Controls(vent_position=0.2)
    long = short = _state(house)
    for second in range(0, 3600, 60):
        long = climate.step(house, long, NOON_US + second * 10**6, 60.0, weather, control)
    for second in range(0, 3600, 5):
        short = climate.step(house, short, NOON_US + second * 10**6, 5.0, weather, control)
    assert long.air_c == pytest.approx(short.air_c, abs=0.1)
    assert long.vapour_g_m3 == pytest.approx(short.vapour_g_m3, abs=0.1)


def test_vapour_deficit_of_a_state_is_that_of_its_temperature_and_humidity():
    state = _state(HOUSES["multi_span"], air_c=25.0, humidity=60.0)
    assert state.relative_humidity == pytest.approx(60.0)
    assert state.vapour_pressure_deficit_kpa == pytest.approx(1.26711, abs=1e-5)
    fog = replace(state, vapour_g_m3=state.vapour_g_m3 * 2)
    assert fog.vapour_pressure_deficit_kpa == 0.0


def _settled(house: House, weather: Weather, control: Controls, at_us: int) -> State:
    state = _state(house)
    for minute in range(240):
        state = climate.step(house, state, at_us + minute * 60_000_000, 60.0, weather, control)
    return state


def test_a_house_cools_at_night_and_a_screen_keeps_it_warmer():
    house = HOUSES["multi_span"]
    night = _weather(temperature_c=-4.0, sky_temperature_c=-22.0)
    bare = _settled(house, night, Controls(), MIDNIGHT_US)
    screened = _settled(house, night, Controls(screen_position=1.0), MIDNIGHT_US)
    assert -4.0 < bare.air_c < 8.0
    assert screened.air_c > bare.air_c + 1.5


def test_a_solar_greenhouse_under_its_quilt_outlives_a_frost_without_heating():
    house = HOUSES["solar"]
    night = _weather(temperature_c=-10.0, sky_temperature_c=-28.0)
    covered = _settled(house, night, Controls(screen_position=1.0), MIDNIGHT_US)
    bare = _settled(house, night, Controls(), MIDNIGHT_US)
    assert covered.air_c > 4.0
    assert bare.air_c < covered.air_c - 4.0


def test_the_sun_heats_a_closed_house_far_above_the_outdoors_and_vents_bring_it_back():
    house = HOUSES["multi_span"]
    noon = _weather(temperature_c=15.0, global_radiation_w_m2=600.0)
    shut = _settled(house, noon, Controls(), NOON_US)
    vented = _settled(house, noon, Controls(vent_position=1.0), NOON_US)
    assert shut.air_c > 28.0
    assert 15.0 < vented.air_c < shut.air_c - 8.0


def test_leaves_are_colder_than_the_air_in_a_clear_night_and_the_cover_is_wet():
    house = HOUSES["multi_span"]
    night = _weather(temperature_c=2.0, sky_temperature_c=-18.0)
    state = _settled(house, night, Controls(), MIDNIGHT_US)
    assert state.leaf_c < state.air_c
    assert state.condensed_g_m2 > 0.0
    assert state.relative_humidity > 70.0


def test_a_crop_transpires_with_light_and_stops_when_it_wilts():
    house = HOUSES["multi_span"]
    noon = _weather(temperature_c=20.0, global_radiation_w_m2=600.0)
    sun = sun_at(NOON_US, 36.88, 118.74)
    state = _state(house, air_c=25.0, humidity=70.0)

    def water(state: State, weather: Weather) -> float:
        return climate.exchange(house, state, NOON_US, sun, weather, Controls()).transpiration

    bright, dark = water(state, noon), water(state, _weather(temperature_c=20.0))
    wilted = water(replace(state, water_stress=1.0), noon)
    assert 0.05 < bright < 0.25  # g/m²s: 180 to 900 g/m²h
    assert dark < 0.25 * bright
    assert wilted < 0.5 * bright


def test_a_closed_house_runs_out_of_carbon_dioxide_in_the_sun_and_fills_at_night():
    house = HOUSES["solar"]
    noon = _weather(temperature_c=10.0, global_radiation_w_m2=500.0)
    day = _settled(house, noon, Controls(), NOON_US)
    night = _settled(house, _weather(), Controls(screen_position=1.0), MIDNIGHT_US)
    assert 100 < day.co2_ppm < 350
    assert night.co2_ppm > 480


def test_ventilation_grows_with_opening_wind_and_warmth():
    house, state = HOUSES["multi_span"], _state(HOUSES["multi_span"], air_c=25.0)

    def flow(opening: float, wind: float, outside_c: float) -> float:
        weather = _weather(temperature_c=outside_c, wind_speed_m_s=wind)
        return climate.ventilation_m_s(house, state, weather, Controls(vent_position=opening))

    assert 0 < flow(0, 2, 10) < flow(0.1, 2, 10) < flow(0.5, 2, 10) < flow(1, 2, 10)
    assert flow(0.5, 1, 10) < flow(0.5, 6, 10)
    assert flow(0.5, 0, 24) < flow(0.5, 0, 5)
    assert 15 < flow(1, 3, 15) * 3600 / house.height_m < 120  # air changes an hour
