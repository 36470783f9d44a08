"""The sun against an independent library, and what it must do by itself."""

from __future__ import annotations

import datetime as dt

import pytest
from astral import Observer
from astral.sun import azimuth, elevation
from hypothesis import given
from hypothesis import strategies as st

from firmware_sims.sun import beam_gain, clear_sky_w_m2, day_length_h, solar_hour, sun_at

PLACES = {"Shouguang": (36.88, 118.74), "Zhangye": (38.93, 100.45), "Bleiswijk": (52.0, 4.5)}


def _us(*when: int) -> int:
    return round(dt.datetime(*when, tzinfo=dt.UTC).timestamp() * 1e6)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("month", [1, 3, 6, 9, 11, 12])
def test_sun_stands_where_astral_says(place: str, month: int):
    latitude, longitude = PLACES[place]
    observer = Observer(latitude, longitude, 0)
    for hour in range(24):
        when = dt.datetime(2026, month, 17, hour, 20, tzinfo=dt.UTC)
        sun = sun_at(round(when.timestamp() * 1e6), latitude, longitude)
        assert sun.elevation_deg == pytest.approx(
            elevation(observer, when, with_refraction=False), abs=0.05
        )
        if -80 < sun.elevation_deg < 80:
            turned = (sun.azimuth_deg - azimuth(observer, when) + 180) % 360 - 180
            assert turned == pytest.approx(0, abs=0.15)


def test_noon_in_zhangye_comes_late_by_the_clock_of_beijing():
    at_us = _us(2026, 4, 16, 5, 18)  # 13:18 Beijing; the equation of time is 0 that day
    assert solar_hour(at_us, 100.45) == pytest.approx(12.0, abs=0.05)


def test_days_are_short_in_winter_and_even_in_march():
    assert day_length_h(_us(2026, 12, 21, 4), 36.88) == pytest.approx(9.47, abs=0.05)
    assert day_length_h(_us(2026, 3, 20, 4), 36.88) == pytest.approx(12.0, abs=0.05)
    assert day_length_h(_us(2026, 12, 21, 4), 80.0) == 0.0
    assert day_length_h(_us(2026, 6, 21, 4), 80.0) == 24.0


@given(st.floats(-90, 90))
def test_clear_sky_gives_nothing_at_night_and_never_more_than_space(elevation_deg: float):
    given_w = clear_sky_w_m2(elevation_deg)
    assert 0.0 <= given_w < 1361.0
    assert (given_w > 0.0) == (elevation_deg > 0.0) or elevation_deg < 0.1


def test_a_roof_to_the_south_gains_in_winter_and_loses_at_the_summer_noon():
    winter = sun_at(_us(2026, 12, 21, 4, 5), 36.88, 118.74)
    summer = sun_at(_us(2026, 6, 21, 4, 5), 36.88, 118.74)
    assert beam_gain(winter, 28.0, 180.0) > 1.5
    assert beam_gain(summer, 28.0, 180.0) < 1.05
    assert beam_gain(winter, 28.0, 0.0) < 0.1  # the same roof to the north


@given(st.integers(0, 2**51), st.floats(-66, 66), st.floats(-180, 180))
def test_a_level_roof_gains_and_loses_nothing(at_us: int, latitude: float, longitude: float):
    sun = sun_at(at_us, latitude, longitude)
    if sun.elevation_deg > 0.01:
        assert beam_gain(sun, 0.0, 180.0) == pytest.approx(1.0)
