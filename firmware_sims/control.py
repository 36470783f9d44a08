"""The climate computer of a house: set-points and what it sees in, positions of its motors out.

Simple on purpose, and alike to what small Chinese bases run: vents follow temperature with a band
and a dead band, storms and frost limit them; pipes heat below the set-point of the hour; a screen
or a quilt follows the sun.
"""

from __future__ import annotations

from dataclasses import dataclass

from firmware_sims.climate import Controls, House, State
from firmware_sims.sun import Sun
from firmware_sims.weather import Weather

_VENT_TRAVEL_S = 240.0  # rack and pinion, closed to open
_SCREEN_TRAVEL_S = 420.0
_VENT_BAND_C = 4.0
_STORM_M_S = 11.0


@dataclass(frozen=True, slots=True)
class SetPoints:
    """Temperatures in °C; *co2_ppm* 0 means no injection; *humidity* in percent."""

    heating_day_c: float = 18.0
    heating_night_c: float = 14.0
    ventilation_c: float = 25.0
    co2_ppm: float = 0.0
    humidity: float = 78.0


def heating_set_point_c(set_points: SetPoints, sun: Sun) -> float:
    """Return what pipes hold at this hour; the change at dawn takes half an hour."""
    day_share = max(0.0, min(1.0, (sun.elevation_deg + 6.0) / 6.0))
    span = set_points.heating_day_c - set_points.heating_night_c
    return set_points.heating_night_c + day_share * span


def control(
    house: House,
    set_points: SetPoints,
    state: State,
    before: Controls,
    weather: Weather,
    sun: Sun,
    dt_s: float,
) -> Controls:
    """Return where the motors stand *dt_s* seconds later, and what else is switched on."""
    heating_c = heating_set_point_c(set_points, sun)
    vent_goal = _vent_goal(set_points, state, before, weather, heating_c)
    vent = _travel(before.vent_position, vent_goal, dt_s / _VENT_TRAVEL_S)
    screen_goal = _screen_goal(house, before, weather, sun)
    inject = (
        set_points.co2_ppm > 0.0
        and vent < 0.1
        and state.ppfd > 80.0
        and state.co2_ppm < set_points.co2_ppm
    )
    return Controls(
        vent_position=vent,
        screen_position=_travel(before.screen_position, screen_goal, dt_s / _SCREEN_TRAVEL_S),
        heating_w_m2=_heating(house, state, before, heating_c),
        co2_mg_m2_s=1.5 if inject else 0.0,
        fans_on=state.relative_humidity > (80.0 if before.fans_on else 85.0),
    )


def _vent_goal(
    set_points: SetPoints, state: State, before: Controls, weather: Weather, heating_c: float
) -> float:
    above = state.air_c - set_points.ventilation_c
    dead_band = 0.5 if before.vent_position <= 0.0 else -0.5
    # Cold air falls on the crop: the colder it is outside, the slower the vents follow.
    band = _VENT_BAND_C + 0.25 * max(0.0, state.air_c - weather.temperature_c - 8.0)
    goal = max(0.0, min(1.0, (above + 0.5) / band)) if above > dead_band else 0.0
    damp = state.relative_humidity - set_points.humidity
    if damp > 0.0 and state.air_c > heating_c - 0.5 and weather.temperature_c > 0.0:
        goal = max(goal, min(0.2, 0.04 + 0.02 * damp))
    if weather.wind_speed_m_s > _STORM_M_S:
        goal = min(goal, 0.1)
    if weather.rain_mm_h > 0.0:
        goal = min(goal, 0.25)
    return goal


def _screen_goal(house: House, before: Controls, weather: Weather, sun: Sun) -> float:
    if not house.screen_inside:  # the quilt: rolled up when the sun can pay for the lost cover
        opens, closes = (9.0, 6.0)
        limit = closes if before.screen_position < 0.5 else opens
        return 1.0 if sun.elevation_deg < limit else 0.0
    limit = -1.0 if before.screen_position < 0.5 else 2.0
    return 1.0 if sun.elevation_deg < limit and weather.temperature_c < 12.0 else 0.0


def _heating(house: House, state: State, before: Controls, heating_c: float) -> float:
    below = heating_c - state.air_c
    if below < (-0.4 if before.heating_w_m2 > 0.0 else 0.3):
        return 0.0
    return max(0.0, min(house.heating_max_w_m2, 70.0 * (below + 0.6)))


def _travel(position: float, goal: float, most: float) -> float:
    return position + max(-most, min(most, goal - position))
