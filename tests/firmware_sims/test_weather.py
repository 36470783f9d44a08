"""Outdoor weather: repeatable, bounded, and with the day it was asked for."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sims.weather import Climate, Weather, WeatherEvent, WeatherEventKind, WeatherGenerator

SHOUGUANG = Climate(36.88, 118.74, 23.0)
MINUTE_US = 60_000_000


def _us(*when: int) -> int:
    return round(dt.datetime(*when, tzinfo=dt.UTC).timestamp() * 1e6)


def _day(generator: WeatherGenerator, day: int) -> list[Weather]:
    start_us = generator.climate.day_starts_at_us(day)
    return [generator.at(start_us + minute * MINUTE_US) for minute in range(0, 1440, 10)]


def test_the_same_seed_answers_the_same_whatever_was_asked_before():
    moments = [_us(2026, 11, 20) + minute * MINUTE_US for minute in range(0, 4320, 30)]
    forwards = WeatherGenerator(5, SHOUGUANG)
    backwards = WeatherGenerator(5, SHOUGUANG)
    rising = [forwards.at(at_us) for at_us in moments]
    falling = [backwards.at(at_us) for at_us in reversed(moments)]
    assert rising == falling[::-1]
    assert rising != [WeatherGenerator(6, SHOUGUANG).at(at_us) for at_us in moments]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.integers(1_700_000_000, 1_900_000_000))
def test_weather_stays_within_what_the_plain_knows(seed: int, at_s: int):
    generator = WeatherGenerator(seed, SHOUGUANG)
    weather = generator.at(at_s * 1_000_000)
    assert -25 < weather.temperature_c < 45
    assert 5 <= weather.relative_humidity <= 100
    assert 0 <= weather.global_radiation_w_m2 < 1200
    assert 0 <= weather.cloud <= 1 and 0 <= weather.diffuse_share <= 1
    assert weather.sky_temperature_c < weather.temperature_c
    assert 0 <= weather.wind_speed_m_s < 40 and 0 <= weather.wind_direction_deg < 360
    assert 0 <= weather.rain_mm_h < 40
    assert 98 < weather.pressure_kpa < 105
    assert 380 < weather.co2_ppm < 480
    assert 0 < weather.pm2_5_ug_m3 < weather.pm10_ug_m3
    if not generator.sun(at_s * 1_000_000).is_up:
        assert weather.global_radiation_w_m2 == 0


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_mornings_are_colder_than_afternoons_and_nights_are_damper(seed: int):
    generator = WeatherGenerator(
        seed, SHOUGUANG, [WeatherEvent(WeatherEventKind.FROST_NIGHT, 20778, -8)]
    )
    day = _day(generator, 20778)
    assert day[7 * 6].temperature_c < day[14 * 6].temperature_c - 5
    assert day[6 * 6].relative_humidity > day[14 * 6].relative_humidity + 15


def test_years_have_winters_and_summers():
    generator = WeatherGenerator(1, SHOUGUANG)

    def mean(month: int) -> float:
        days = [_us(2026, month, day, hour) for day in range(1, 29, 3) for hour in range(0, 24, 3)]
        return sum(generator.at(at_us).temperature_c for at_us in days) / len(days)

    assert -6 < mean(1) < 3
    assert 23 < mean(7) < 31


def test_south_of_the_equator_january_is_the_summer():
    south = Climate(-36.88, 118.74)
    assert south.season(SHOUGUANG.solar_day(_us(2026, 1, 20))) > 0.9


@pytest.mark.parametrize("seed", [1, 7, 30])
def test_a_frost_night_ends_on_its_day_with_its_low(seed: int):
    day = 20778
    events = [WeatherEvent(WeatherEventKind.FROST_NIGHT, day, -12.0)]
    low = min(
        weather.temperature_c for weather in _day(WeatherGenerator(seed, SHOUGUANG, events), day)
    )
    assert low == pytest.approx(-12.0, abs=0.6)


@pytest.mark.parametrize("seed", [1, 7, 30])
def test_a_heat_day_has_its_high_and_a_clear_sky(seed: int):
    day = 20649
    events = [WeatherEvent(WeatherEventKind.HEAT_DAY, day, 39.0)]
    hours = _day(WeatherGenerator(seed, SHOUGUANG, events), day)
    assert max(weather.temperature_c for weather in hours) == pytest.approx(39.0, abs=0.6)
    assert max(weather.global_radiation_w_m2 for weather in hours) > 850


def test_an_overcast_day_is_dim_and_even():
    day = 20649
    clear = _day(
        WeatherGenerator(3, SHOUGUANG, [WeatherEvent(WeatherEventKind.HEAT_DAY, day, 30)]), day
    )
    dull = _day(
        WeatherGenerator(3, SHOUGUANG, [WeatherEvent(WeatherEventKind.OVERCAST_DAY, day)]), day
    )
    assert sum(w.global_radiation_w_m2 for w in dull) < 0.45 * sum(
        w.global_radiation_w_m2 for w in clear
    )
    spread = max(w.temperature_c for w in dull) - min(w.temperature_c for w in dull)
    assert spread < 8


def test_a_rain_day_rains_by_day_and_a_gale_day_blows():
    day = 20649
    rain = _day(
        WeatherGenerator(3, SHOUGUANG, [WeatherEvent(WeatherEventKind.RAIN_DAY, day, 4.0)]), day
    )
    total_mm = sum(weather.rain_mm_h for weather in rain) / 6.0
    assert 15 < total_mm < 80
    assert all(weather.rain_mm_h == 0 for weather in rain[: 7 * 6])
    gale = _day(
        WeatherGenerator(3, SHOUGUANG, [WeatherEvent(WeatherEventKind.GALE_DAY, day, 16.0)]), day
    )
    assert max(weather.wind_speed_m_s for weather in gale) > 14
