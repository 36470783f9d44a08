"""Humid air: saturation, dew point, vapour deficit, heat of evaporation.

Tetens' formula over water at every temperature, as growers' tables use it (FAO-56 eq. 11), also
below freezing.
"""

from __future__ import annotations

import math

AIR_HEAT_J_M3_K = 1206.0  # density times specific heat of air near 20 °C and sea level
LATENT_HEAT_J_G = 2450.0  # heat of evaporation of water near 20 °C
_WATER_G_K_J = 2166.8  # molar mass of water over the gas constant, g·K/J per kPa


def saturation_pressure_kpa(temperature_c: float) -> float:
    """Return the vapour pressure of saturated air, kPa."""
    return 0.6108 * math.exp(17.27 * temperature_c / (temperature_c + 237.3))


def saturation_density_g_m3(temperature_c: float) -> float:
    """Return the vapour that a cubic metre of saturated air holds, g."""
    return _WATER_G_K_J * saturation_pressure_kpa(temperature_c) / (temperature_c + 273.15)


def saturation_slope_g_m3_k(temperature_c: float) -> float:
    """Return how much more vapour saturated air holds per kelvin, g/m³/K."""
    steepness = 17.27 * 237.3 / (temperature_c + 237.3) ** 2 - 1.0 / (temperature_c + 273.15)
    return saturation_density_g_m3(temperature_c) * steepness


def vapour_density_g_m3(temperature_c: float, relative_humidity: float) -> float:
    """Return the vapour in air of *relative_humidity* percent, g/m³."""
    return saturation_density_g_m3(temperature_c) * relative_humidity / 100.0


def relative_humidity(temperature_c: float, vapour_g_m3: float) -> float:
    """Return percent of saturation; above 100 where fog hangs in the air."""
    return 100.0 * vapour_g_m3 / saturation_density_g_m3(temperature_c)


def dew_point_c(vapour_pressure_kpa: float) -> float:
    """Return the temperature at which *vapour_pressure_kpa* (above 0) saturates."""
    x = math.log(vapour_pressure_kpa / 0.6108)
    return 237.3 * x / (17.27 - x)


def vapour_pressure_deficit_kpa(temperature_c: float, relative_humidity: float) -> float:
    """Return what air lacks to saturation, kPa; 0 where it is saturated or above."""
    return saturation_pressure_kpa(temperature_c) * (1.0 - min(relative_humidity, 100.0) / 100.0)


def pressure_at_altitude_kpa(altitude_m: float) -> float:
    """Return the mean air pressure at *altitude_m* (FAO-56 eq. 7), kPa."""
    return 101.3 * float(((293.0 - 0.0065 * altitude_m) / 293.0) ** 5.26)
