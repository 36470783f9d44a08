"""Outdoor weather at one place, as a function of seed and moment.

Each solar day draws a mean, a cloudiness and with it a range between the night's low and the
afternoon's high; the temperature runs between these in cosine arcs, from shortly after sunrise to
two hours after noon and down again.  The dew point follows the night's low, so humidity falls by
day and rises by night without a formula of its own.  Events of a scenario replace what a day drew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from firmware_sims import humid_air
from firmware_sims.noise import lattice, smooth
from firmware_sims.sun import Sun, clear_sky_w_m2, day_length_h, sun_at

_DAY_US = 86400 * 1_000_000
_HIGH_HOUR = 14.0  # solar time of the day's high
_WARMEST_DAY = 200.0  # of the year, north of the equator
_RAIN_CLOUD = 0.82  # a day as cloudy as this brings rain


class WeatherEventKind(StrEnum):
    """What a scenario may ask of a day."""

    FROST_NIGHT = "frost_night"
    HEAT_DAY = "heat_day"
    OVERCAST_DAY = "overcast_day"
    RAIN_DAY = "rain_day"
    GALE_DAY = "gale_day"


@dataclass(frozen=True, slots=True)
class WeatherEvent:
    """*amount* is the night's low or the day's high in °C, or the gale's mean wind in m/s.

    *day* counts solar days since 1970 (`solar_day`).
    """

    kind: WeatherEventKind
    day: int
    amount: float = 0.0


@dataclass(frozen=True, slots=True)
class Climate:
    """Where the base lies and what its years are like; *annual_swing_c* is half of the swing."""

    latitude: float
    longitude: float
    altitude_m: float = 0.0
    annual_mean_c: float = 13.3
    annual_swing_c: float = 14.6

    def solar_day(self, at_us: int) -> int:
        """Return the number of the sun's day, counted from 1970, to which *at_us* belongs."""
        return (at_us + self._east_us) // _DAY_US

    def solar_hour(self, at_us: int) -> float:
        """Return mean solar time in hours."""
        return (at_us + self._east_us) % _DAY_US / 3600e6

    def day_starts_at_us(self, day: int) -> int:
        """Return when solar *day* begins."""
        return day * _DAY_US - self._east_us

    def season(self, day: int) -> float:
        """Return -1 in the coldest days of the year to 1 in the warmest."""
        towards = 1.0 if self.latitude >= 0.0 else -1.0
        return towards * math.cos(
            2.0 * math.pi * ((day + 0.5) % 365.2425 - _WARMEST_DAY) / 365.2425
        )

    def deep_soil_c(self, day: int) -> float:
        """Return the temperature a metre below open ground: damped, and two months late."""
        return self.annual_mean_c + 0.45 * self.annual_swing_c * self.season(day - 60)

    @property
    def _east_us(self) -> int:
        return round(self.longitude / 15.0 * 3600e6)


@dataclass(frozen=True, slots=True)
class Weather:
    """The weather at one moment; *cloud* is 0 to 1, *diffuse_share* of the global radiation."""

    temperature_c: float
    relative_humidity: float
    global_radiation_w_m2: float
    diffuse_share: float
    cloud: float
    sky_temperature_c: float
    wind_speed_m_s: float
    wind_direction_deg: float
    rain_mm_h: float
    pressure_kpa: float
    co2_ppm: float
    pm2_5_ug_m3: float
    pm10_ug_m3: float

    @property
    def vapour_g_m3(self) -> float:
        """Vapour in the outdoor air."""
        return humid_air.vapour_density_g_m3(self.temperature_c, self.relative_humidity)


@dataclass(frozen=True, slots=True)
class _Day:
    """What one solar day drew; *low_c* is its morning's, hours are solar."""

    low_c: float
    high_c: float
    cloud: float
    dew_point_c: float
    wind_m_s: float
    rain_from_h: float
    rain_until_h: float
    rain_mm_h: float


@dataclass
class WeatherGenerator:
    """Answers `at` for any moment; the same seed, climate and events answer the same."""

    seed: int
    climate: Climate
    events: Sequence[WeatherEvent] = ()
    _days: dict[int, _Day] = field(default_factory=dict, repr=False)

    def sun(self, at_us: int) -> Sun:
        """Return the sun's place in this sky."""
        return sun_at(at_us, self.climate.latitude, self.climate.longitude)

    def at(self, at_us: int) -> Weather:
        """Return the weather at *at_us*."""
        today = self.climate.solar_day(at_us)
        hour = self.climate.solar_hour(at_us)
        day = self._day(today)
        rain = self._rain(day, at_us, hour)
        cloud = self._cloud(day, at_us, rain)
        temperature = self._temperature(today, at_us, hour) - (0.8 if rain > 0.0 else 0.0)
        dew_point = self._dew_point(today, at_us, hour) + (1.5 if rain > 0.0 else 0.0)
        humidity = 100.0 * (
            humid_air.saturation_pressure_kpa(min(dew_point, temperature))
            / humid_air.saturation_pressure_kpa(temperature)
        )
        clear = clear_sky_w_m2(self.sun(at_us).elevation_deg)
        fine_dust = self._fine_dust(today, at_us, rain)
        return Weather(
            temperature_c=temperature,
            relative_humidity=max(8.0, min(99.5, humidity)),
            global_radiation_w_m2=0.94 * clear * (1.0 - 0.75 * cloud**3.4),
            diffuse_share=min(1.0, 0.18 + 0.9 * cloud),
            cloud=cloud,
            sky_temperature_c=_sky_temperature(temperature, dew_point, cloud),
            wind_speed_m_s=self._wind(day, at_us, hour),
            wind_direction_deg=self._wind_direction(at_us),
            rain_mm_h=rain,
            pressure_kpa=self._pressure(today, at_us),
            co2_ppm=428.0 + 9.0 * smooth(self.seed, "co2", at_us / 7200e6),
            pm2_5_ug_m3=fine_dust,
            pm10_ug_m3=fine_dust * (1.65 + 0.35 * smooth(self.seed, "coarse", at_us / 10800e6)),
        )

    def _day(self, day: int) -> _Day:
        found = self._days.get(day)
        if found is None:
            found = self._days[day] = self._with_events(day, self._draw(day))
        return found

    def _draw(self, day: int) -> _Day:
        season = self.climate.season(day)
        mean = self.climate.annual_mean_c + self.climate.annual_swing_c * season
        spell = (3.8 - 1.6 * season) * smooth(self.seed, "spell", day / 4.0)
        mean += spell + 1.3 * lattice(self.seed, "day", day)
        cloud = 0.44 + 0.5 * smooth(self.seed, "front", day / 2.3) + 0.12 * season
        cloud = max(0.03, min(1.0, cloud + 0.18 * lattice(self.seed, "cloud", day)))
        span = 13.0 - 8.5 * cloud
        low = mean - 0.5 * span
        rains = cloud > _RAIN_CLOUD
        begins = 12.0 + 9.0 * lattice(self.seed, "rain-from", day)
        lasts = 3.5 + 2.5 * lattice(self.seed, "rain-for", day)
        strength = (1.6 + 1.2 * lattice(self.seed, "rain-rate", day)) * (1.6 + season)
        return _Day(
            low_c=low,
            high_c=low + span,
            cloud=cloud,
            dew_point_c=low - 0.6 - 3.6 * (1.0 - cloud),
            wind_m_s=max(0.6, 2.3 + 1.7 * smooth(self.seed, "wind-day", day / 1.6)),
            rain_from_h=begins if rains else 0.0,
            rain_until_h=begins + lasts if rains else 0.0,
            rain_mm_h=strength if rains else 0.0,
        )

    def _with_events(self, number: int, day: _Day) -> _Day:
        for event in self.events:
            if event.day == number:
                day = _EVENTS[event.kind](day, event.amount)
        return day

    def _temperature(self, today: int, at_us: int, hour: float) -> float:
        """Run between the low after sunrise and the high after noon, in cosine arcs."""
        day = self._day(today)
        low_hour = self._low_hour(today)
        if low_hour <= hour <= _HIGH_HOUR:
            share = (hour - low_hour) / (_HIGH_HOUR - low_hour)
            value = _arc(day.low_c, day.high_c, share)
        elif hour > _HIGH_HOUR:
            length = 24.0 - _HIGH_HOUR + self._low_hour(today + 1)
            value = _arc(day.high_c, self._day(today + 1).low_c, (hour - _HIGH_HOUR) / length)
        else:
            length = 24.0 - _HIGH_HOUR + low_hour
            share = (hour + 24.0 - _HIGH_HOUR) / length
            value = _arc(self._day(today - 1).high_c, day.low_c, share)
        return value + 0.25 * smooth(self.seed, "air", at_us / 1500e6)

    def _low_hour(self, day: int) -> float:
        noon_us = self.climate.day_starts_at_us(day) + _DAY_US // 2
        length = day_length_h(noon_us, self.climate.latitude)
        return min(11.0, max(1.0, 12.0 - 0.5 * length + 0.4))

    def _dew_point(self, today: int, at_us: int, hour: float) -> float:
        """Run from one day's to the next, by noon, with a slow wander."""
        other = today + (1 if hour >= 12.0 else -1)
        share = abs(hour - 12.0) / 24.0
        here, there = self._day(today).dew_point_c, self._day(other).dew_point_c
        return here + share * (there - here) + 0.7 * smooth(self.seed, "dew", at_us / 9000e6)

    def _cloud(self, day: _Day, at_us: int, rain: float) -> float:
        spread = 1.0 - abs(2.0 * day.cloud - 1.0)  # a half-clouded day changes most
        value = day.cloud + 0.55 * spread * smooth(self.seed, "cumulus", at_us / 1500e6)
        value += 0.25 * spread * smooth(self.seed, "wisp", at_us / 260e6)
        return max(0.92 if rain > 0.0 else 0.0, min(1.0, value))

    def _rain(self, day: _Day, at_us: int, hour: float) -> float:
        if not day.rain_from_h <= hour < day.rain_until_h:
            return 0.0
        return max(0.0, day.rain_mm_h * (1.0 + 0.9 * smooth(self.seed, "shower", at_us / 900e6)))

    def _wind(self, day: _Day, at_us: int, hour: float) -> float:
        daily = 0.75 + 0.45 * max(0.0, math.sin(math.pi * (hour - 7.0) / 14.0))
        gust = 1.0 + 0.35 * smooth(self.seed, "breeze", at_us / 700e6)
        gust += 0.22 * smooth(self.seed, "gust", at_us / 35e6)
        return max(0.0, day.wind_m_s * daily * gust)

    def _wind_direction(self, at_us: int) -> float:
        slow = 130.0 * smooth(self.seed, "wind-from", at_us / 50000e6)
        return (330.0 + slow + 22.0 * smooth(self.seed, "veer", at_us / 120e6)) % 360.0

    def _pressure(self, today: int, at_us: int) -> float:
        base = humid_air.pressure_at_altitude_kpa(self.climate.altitude_m)
        swing = -0.9 * self.climate.season(today)
        return base + swing + 0.9 * smooth(self.seed, "pressure", at_us / 200000e6)

    def _fine_dust(self, today: int, at_us: int, rain: float) -> float:
        mean = 48.0 - 18.0 * self.climate.season(today)
        value = mean * (1.0 + 0.6 * smooth(self.seed, "haze", at_us / 90000e6))
        value *= 1.0 + 0.15 * smooth(self.seed, "dust", at_us / 2400e6)
        return max(4.0, value * (0.6 if rain > 0.0 else 1.0))


def _frost(day: _Day, amount: float) -> _Day:
    return replace(
        day, low_c=amount, cloud=0.05, dew_point_c=amount - 2.0, wind_m_s=0.8, rain_mm_h=0.0
    )


def _heat(day: _Day, amount: float) -> _Day:
    return replace(
        day,
        high_c=amount,
        low_c=max(day.low_c, amount - 14.0),
        cloud=0.05,
        dew_point_c=max(day.dew_point_c, amount - 18.0),
        wind_m_s=1.5,
        rain_mm_h=0.0,
    )


def _overcast(day: _Day, amount: float) -> _Day:
    mean = 0.5 * (day.low_c + day.high_c)
    return replace(
        day, cloud=0.99, low_c=mean - 2.0, high_c=mean + 2.0, dew_point_c=mean - 3.0, rain_mm_h=0.0
    )


def _rain_day(day: _Day, amount: float) -> _Day:
    dull = _overcast(day, 0.0)
    return replace(dull, rain_from_h=8.0, rain_until_h=18.0, rain_mm_h=amount)


def _gale(day: _Day, amount: float) -> _Day:
    return replace(day, wind_m_s=amount)


_EVENTS = {
    WeatherEventKind.FROST_NIGHT: _frost,
    WeatherEventKind.HEAT_DAY: _heat,
    WeatherEventKind.OVERCAST_DAY: _overcast,
    WeatherEventKind.RAIN_DAY: _rain_day,
    WeatherEventKind.GALE_DAY: _gale,
}


def _arc(start: float, end: float, share: float) -> float:
    return start + (end - start) * 0.5 * (1.0 - math.cos(math.pi * share))


def _sky_temperature(temperature_c: float, dew_point_c: float, cloud: float) -> float:
    """Return the temperature a sky radiates with (Berdahl and Martin 1984, clouds after Clark)."""
    hundredth = dew_point_c / 100.0
    emissivity = 0.711 + 0.56 * hundredth + 0.73 * hundredth * hundredth
    emissivity += (1.0 - emissivity) * 0.84 * cloud
    return float((temperature_c + 273.15) * emissivity**0.25 - 273.15)
