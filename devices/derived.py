"""Quantities that are computed from others: formulas on arrays, each with its source and version.

All functions take and return float64 arrays (or numbers) of any one shape, NaN where an input is
missing or the formula does not hold.  Temperatures are °C, humidities % relative, pressures kPa,
unless a name says otherwise.  A formula that changes gets a new version; a stored value names the
one that it was made with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_MOLAR_GAS_CONSTANT = 8.314462  # J/(mol K)
_MOLAR_MASS_CO2 = 44.0095  # g/mol
_ZERO_C_K = 273.15


def saturation_vapour_pressure(temperature: Array) -> Array:
    """Return kPa over water (Tetens; FAO-56 eq. 11); agronomy uses water below 0 °C too."""
    return np.asarray(0.6108 * np.exp(17.27 * temperature / (temperature + 237.3)))


def _humidity(relative_humidity: Array) -> Array:
    """Clamp what a condensed sensor reads (100-105 %) to 100 %; below 0 there is no humidity."""
    clamped = np.minimum(relative_humidity, 100.0)
    return np.where(clamped >= 0.0, clamped, np.nan)


def vapour_pressure(temperature: Array, relative_humidity: Array) -> Array:
    """Return the actual vapour pressure, kPa (FAO-56)."""
    return np.asarray(
        saturation_vapour_pressure(temperature) * _humidity(relative_humidity) / 100.0
    )


def vapour_pressure_deficit(temperature: Array, relative_humidity: Array) -> Array:
    """Return the deficit of the air, kPa (FAO-56); 0 where the air is saturated."""
    return np.asarray(
        saturation_vapour_pressure(temperature) * (1.0 - _humidity(relative_humidity) / 100.0)
    )


def leaf_vapour_pressure_deficit(
    leaf_temperature: Array, temperature: Array, relative_humidity: Array
) -> Array:
    """Return the deficit between leaf and air, kPa; negative where the leaf is below dew point."""
    return np.asarray(
        saturation_vapour_pressure(leaf_temperature)
        - vapour_pressure(temperature, relative_humidity)
    )


def dew_point(temperature: Array, relative_humidity: Array) -> Array:
    """Return °C (inverse of Tetens); NaN at 0 % humidity, where there is none."""
    pressure = vapour_pressure(temperature, relative_humidity)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.log(pressure / 0.6108)
        point = 237.3 * x / (17.27 - x)
    return np.where(pressure > 0.0, point, np.nan)


def dew_point_margin(
    surface_temperature: Array, temperature: Array, relative_humidity: Array
) -> Array:
    """Return how far a surface is above the dew point of the air, K; at 0 and below it is wet."""
    return np.asarray(surface_temperature - dew_point(temperature, relative_humidity))


def absolute_humidity(temperature: Array, relative_humidity: Array) -> Array:
    """Return g/m³ (ideal gas, molar mass of water 18.015 g/mol)."""
    return np.asarray(
        2166.8 * vapour_pressure(temperature, relative_humidity) / (temperature + _ZERO_C_K)
    )


def humidity_deficit(temperature: Array, relative_humidity: Array) -> Array:
    """Return how much more water the air could hold, g/m³ (Dutch practice)."""
    saturated = np.full_like(np.asarray(relative_humidity, np.float64), 100.0)
    return np.asarray(
        absolute_humidity(temperature, saturated)
        - absolute_humidity(temperature, relative_humidity)
    )


def wet_bulb_temperature(temperature: Array, relative_humidity: Array) -> Array:
    """Return °C (Stull 2011, doi 10.1175/JAMC-D-11-0143.1); NaN outside 5-99 %, -20-50 °C."""
    t, rh = np.asarray(temperature, np.float64), np.asarray(relative_humidity, np.float64)
    holds = (rh >= 5.0) & (rh <= 99.0) & (t >= -20.0) & (t <= 50.0)
    rh = np.where(holds, rh, 50.0)
    bulb = (
        t * np.arctan(0.151977 * np.sqrt(rh + 8.313659))
        + np.arctan(t + rh)
        - np.arctan(rh - 1.676331)
        + 0.00391838 * rh**1.5 * np.arctan(0.023101 * rh)
        - 4.686035
    )
    return np.where(holds, bulb, np.nan)


def pressure_at_altitude(altitude_m: float) -> float:
    """Return the usual air pressure, kPa (FAO-56 eq. 7)."""
    return float(101.3 * ((293.0 - 0.0065 * altitude_m) / 293.0) ** 5.26)


def co2_mass_concentration(co2: Array, temperature: Array, pressure: Array | float) -> Array:
    """Return mg/m³ from ppm at *pressure* kPa (ideal gas); altitude matters: 1000 ppm at 25 °C is
    1799 mg/m³ at sea level and 1509 at 85 kPa.
    """
    molar = _MOLAR_GAS_CONSTANT * (temperature + _ZERO_C_K)
    return np.asarray(co2 * _MOLAR_MASS_CO2 * (np.asarray(pressure) * 1000.0) / molar / 1000.0)


def ec_at_25(ec: Array, temperature: Array, alpha: float = 0.020) -> Array:
    """Return conductivity at 25 °C; *alpha* per °C, 0.019-0.022 by maker, 2.0 %/K most common."""
    factor = 1.0 + alpha * (np.asarray(temperature) - 25.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(factor > 0.0, ec / factor, np.nan)


def pore_water_ec(soil_ec: Array, permittivity: Array, temperature: Array) -> Array:
    """Return mS/cm (Hilhorst 2000); NaN where the soil is too dry for it (permittivity < 10).

    *soil_ec* is the bulk conductivity; the offset 4.1 is the usual one for mineral soil.
    """
    water = 80.3 - 0.37 * (np.asarray(temperature) - 20.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        pore = water * soil_ec / (np.asarray(permittivity) - 4.1)
    return np.where(np.asarray(permittivity) >= 10.0, pore, np.nan)


def permittivity_from_moisture(soil_moisture: Array) -> Array:
    """Return the permittivity at *soil_moisture* % by volume: Topp et al. 1980, solved for it.

    Real root of 4.3e-6 e³ - 5.5e-4 e² + 2.92e-2 e - 0.053 = moisture; Newton from a good guess.
    """
    theta = np.asarray(soil_moisture, np.float64) / 100.0
    e = 3.03 + 9.3 * theta + 146.0 * theta**2 - 76.7 * theta**3
    for _ in range(8):
        value = ((4.3e-6 * e - 5.5e-4) * e + 2.92e-2) * e - 5.3e-2 - theta
        slope = (3 * 4.3e-6 * e - 2 * 5.5e-4) * e + 2.92e-2
        e = e - value / slope
    return np.where((theta >= 0.0) & (theta <= 0.8), e, np.nan)


def moisture_from_permittivity(permittivity: Array) -> Array:
    """Return % by volume (Topp et al. 1980); permittivity 20 gives 34.5 %."""
    e = np.asarray(permittivity, np.float64)
    return np.asarray(100.0 * (((4.3e-6 * e - 5.5e-4) * e + 2.92e-2) * e - 5.3e-2))


def relative_soil_moisture(soil_moisture: Array, field_capacity: float) -> Array:
    """Return % of *field_capacity* (% by volume, of that soil): how Chinese rules are written."""
    return np.asarray(soil_moisture / field_capacity * 100.0)


PPFD_PER_RADIATION_OUTSIDE = 2.02  # umol/J, Thimijan & Heins 1983
PPFD_PER_LUX = MappingProxyType({"sunlight": 1.0 / 54.0, "hps": 1.0 / 82.0})


def ppfd_from_radiation(global_radiation: Array, transmission: float = 1.0) -> Array:
    """Return µmol/m²/s below a cover that lets *transmission* (0.5-0.75 of a house) through."""
    return np.asarray(global_radiation * PPFD_PER_RADIATION_OUTSIDE * transmission)


def ppfd_from_illuminance(illuminance: Array, light: str = "sunlight") -> Array:
    """Return µmol/m²/s; for ``sunlight`` and ``hps`` only: the spectrum of LED differs."""
    return np.asarray(illuminance * PPFD_PER_LUX[light])


def drain_fraction(drain_volume: Array, irrigation_volume: Array) -> Array:
    """Return % of what was given that ran out again; NaN where nothing was given."""
    given = np.asarray(irrigation_volume, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(given > 0.0, drain_volume / given * 100.0, np.nan)


def degree_days_of_extremes(low: float, high: float, base: float, upper: float) -> float:
    """Return °C·d of a day between *low* and *high*: the mean of both, cut at *base* and *upper*,
    above *base*.
    """
    return max(0.0, (min(high, upper) + max(low, base)) / 2.0 - base)


# HJ 633-2026, table 1: concentrations at which each part is 0, 50, 100, 150, 200, 300, 400, 500;
# CO in mg/m³, the others in µg/m³.  A shorter row ends where the standard gives no more: what is
# above has the last part (note b: SO2 of an hour at most 200; note c: O3 of eight hours 300).
_PARTS = np.array([0.0, 50.0, 100.0, 150.0, 200.0, 300.0, 400.0, 500.0])
_DAILY_PARTICLES = {
    "pm10": (0.0, 50, 120, 250, 350, 420, 500, 600),
    "pm2_5": (0.0, 35, 60, 115, 150, 250, 350, 500),
}
AIR_QUALITY_OF_AN_HOUR: Mapping[str, tuple[float, ...]] = MappingProxyType({
    "so2": (0.0, 150, 500, 650, 800),
    "no2": (0.0, 100, 200, 700, 1200, 2340, 3090, 3840),
    "co": (0.0, 5, 10, 35, 60, 90, 120, 150),
    "o3": (0.0, 160, 200, 300, 400, 800, 1000, 1200),
    **_DAILY_PARTICLES,  # the real-time report uses those of the day
})  # fmt: skip
AIR_QUALITY_OF_A_DAY: Mapping[str, tuple[float, ...]] = MappingProxyType({
    "so2": (0.0, 50, 150, 475, 800, 1600, 2100, 2620),
    "no2": (0.0, 40, 80, 180, 280, 565, 750, 940),
    "co": (0.0, 2, 4, 14, 24, 36, 48, 60),
    "o3": (0.0, 100, 160, 215, 265, 800),  # the highest mean of eight hours
    **_DAILY_PARTICLES,
})  # fmt: skip


def air_quality_part(concentration: Array, steps: tuple[float, ...]) -> Array:
    """Return the part of the air quality index (HJ 633-2026), a whole number, rounded up."""
    part = np.interp(concentration, np.asarray(steps), _PARTS[: len(steps)])
    # The standard counts in decimals: 50.000000000000007 is 50.
    return np.asarray(np.ceil(np.round(part, 6)))


@dataclass(frozen=True, slots=True)
class Formula:
    """One derived quantity: what it is computed from, by which version of which source.

    *inputs* are quantities of one zone at one moment, in the order of *compute*'s arguments.
    """

    quantity: str
    version: int
    inputs: tuple[str, ...]
    source: str
    compute: Callable[..., Any]


_TABLE = (
    Formula("vapour_pressure_deficit", 1, ("air_temperature", "relative_humidity"),
            "FAO-56 eq. 11", vapour_pressure_deficit),
    Formula("leaf_vapour_pressure_deficit", 1,
            ("leaf_temperature", "air_temperature", "relative_humidity"),
            "FAO-56 eq. 11", leaf_vapour_pressure_deficit),
    Formula("dew_point", 1, ("air_temperature", "relative_humidity"),
            "inverse of Tetens", dew_point),
    Formula("absolute_humidity", 1, ("air_temperature", "relative_humidity"),
            "ideal gas", absolute_humidity),
    Formula("humidity_deficit", 1, ("air_temperature", "relative_humidity"),
            "ideal gas", humidity_deficit),
    Formula("wet_bulb_temperature", 1, ("air_temperature", "relative_humidity"),
            "Stull 2011", wet_bulb_temperature),
    Formula("dew_point_margin", 1,
            ("surface_temperature", "air_temperature", "relative_humidity"),
            "inverse of Tetens", dew_point_margin),
)  # fmt: skip

FORMULAS: Mapping[str, Formula] = MappingProxyType({f.quantity: f for f in _TABLE})
