"""Where the sun stands, and what it gives under a clear sky.

Low-precision formulas of the NOAA solar calculator (after Meeus, Astronomical Algorithms): good to
a hundredth of a degree for a century around 2000.  No refraction: at the horizon the sun is seen
half a degree higher than computed here, where it gives nothing worth counting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

_J2000_US = 946_728_000_000_000  # 2000-01-01 12:00 UTC
_CENTURY_US = 36525 * 86400 * 1_000_000
_DAY_US = 86400 * 1_000_000


@dataclass(frozen=True, slots=True)
class Sun:
    """*elevation_deg* above the horizon, *azimuth_deg* from north over east."""

    elevation_deg: float
    azimuth_deg: float

    @property
    def is_up(self) -> bool:
        """Whether its centre stands above the horizon."""
        return self.elevation_deg > 0.0


@lru_cache(maxsize=256)  # every house of a base asks for the same moment
def sun_at(at_us: int, latitude: float, longitude: float) -> Sun:
    """Return the sun's place in the sky of *latitude*, *longitude* (degrees, east positive)."""
    declination, equation_min = _declination_and_equation(at_us)
    minutes = (at_us % _DAY_US) / 60e6 + equation_min + 4.0 * longitude
    hour_angle = math.radians(minutes / 4.0 - 180.0)
    here = math.radians(latitude)
    sine = math.sin(here) * math.sin(declination)
    sine += math.cos(here) * math.cos(declination) * math.cos(hour_angle)
    azimuth = math.atan2(
        -math.sin(hour_angle) * math.cos(declination),
        math.sin(declination) * math.cos(here)
        - math.cos(declination) * math.sin(here) * math.cos(hour_angle),
    )
    elevation = math.asin(max(-1.0, min(1.0, sine)))
    return Sun(math.degrees(elevation), math.degrees(azimuth) % 360.0)


@lru_cache(maxsize=256)
def day_length_h(at_us: int, latitude: float) -> float:
    """Return the hours between sunrise and sunset on the day of *at_us*: 0 and 24 at the poles."""
    declination, _ = _declination_and_equation(at_us)
    cosine = -math.tan(math.radians(latitude)) * math.tan(declination)
    return 24.0 / math.pi * math.acos(max(-1.0, min(1.0, cosine)))


def solar_hour(at_us: int, longitude: float) -> float:
    """Return the hour of the sun's day, 12 when the sun is highest."""
    _, equation_min = _declination_and_equation(at_us)
    return ((at_us % _DAY_US) / 3600e6 + longitude / 15.0 + equation_min / 60.0) % 24.0


def clear_sky_w_m2(elevation_deg: float) -> float:
    """Return global radiation on level ground under a clear sky (Haurwitz 1945), W/m²."""
    if elevation_deg <= 0.0:
        return 0.0
    sine = math.sin(math.radians(elevation_deg))
    return 1098.0 * sine * math.exp(-0.057 / sine)


def beam_gain(sun: Sun, tilt_deg: float, facing_deg: float) -> float:
    """Return direct light on a tilted plane over that on level ground, 0 to 2.5.

    *facing_deg* is where the plane looks, from north over east.  The bound stands for the horizon:
    a sun that low reaches nothing between neighbouring houses.
    """
    if sun.elevation_deg <= 0.0:
        return 0.0
    elevation, tilt = math.radians(sun.elevation_deg), math.radians(tilt_deg)
    aside = math.cos(math.radians(sun.azimuth_deg - facing_deg))
    incidence = math.sin(elevation) * math.cos(tilt)
    incidence += math.cos(elevation) * math.sin(tilt) * aside
    return max(0.0, min(2.5, incidence / math.sin(elevation)))


def _declination_and_equation(at_us: int) -> tuple[float, float]:
    """Return declination in radians and the equation of time in minutes."""
    t = (at_us - _J2000_US) / _CENTURY_US
    mean_longitude = math.radians((280.46646 + t * (36000.76983 + t * 0.0003032)) % 360.0)
    anomaly = math.radians(357.52911 + t * (35999.05029 - 0.0001537 * t))
    eccentricity = 0.016708634 - t * (0.000042037 + 0.0000001267 * t)
    centre = (1.914602 - t * (0.004817 + 0.000014 * t)) * math.sin(anomaly)
    centre += (0.019993 - 0.000101 * t) * math.sin(2 * anomaly) + 0.000289 * math.sin(3 * anomaly)
    node = math.radians(125.04 - 1934.136 * t)
    apparent = mean_longitude + math.radians(centre - 0.00569 - 0.00478 * math.sin(node))
    obliquity = math.radians(23.439291 - 0.0130042 * t + 0.00256 * math.cos(node))
    declination = math.asin(math.sin(obliquity) * math.sin(apparent))
    y = math.tan(obliquity / 2.0) ** 2
    equation = y * math.sin(2 * mean_longitude) - 2 * eccentricity * math.sin(anomaly)
    equation += 4 * eccentricity * y * math.sin(anomaly) * math.cos(2 * mean_longitude)
    equation -= 0.5 * y * y * math.sin(4 * mean_longitude)
    equation -= 1.25 * eccentricity * eccentricity * math.sin(2 * anomaly)
    return declination, 4.0 * math.degrees(equation)
