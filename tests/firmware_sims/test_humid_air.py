"""Humid air against the reference values of the field's tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sims import humid_air

# T °C, RH %, es kPa, VPD kPa, dew point °C, absolute humidity g/m³ (Tetens)
REFERENCE = [
    (25, 60, 3.16778, 1.26711, 16.696, 13.813),
    (20, 80, 2.33828, 0.46766, 16.445, 13.827),
    (30, 40, 4.24307, 2.54584, 14.926, 12.131),
    (15, 95, 1.70535, 0.08527, 14.206, 12.182),
    (-5, 70, 0.42118, 0.12635, -9.603, 2.382),
    (0, 100, 0.61080, 0.0, 0.0, 4.845),
]


@pytest.mark.parametrize(("t", "rh", "es", "vpd", "td", "ah"), REFERENCE)
def test_formulas_give_the_reference_values(t, rh, es, vpd, td, ah):
    assert humid_air.saturation_pressure_kpa(t) == pytest.approx(es, abs=1e-5)
    assert humid_air.vapour_pressure_deficit_kpa(t, rh) == pytest.approx(vpd, abs=1e-5)
    assert humid_air.dew_point_c(es * rh / 100) == pytest.approx(td, abs=1e-3)
    assert humid_air.vapour_density_g_m3(t, rh) == pytest.approx(ah, abs=1e-3)


@given(st.floats(-30, 50), st.floats(5, 100))
def test_humidity_of_a_density_is_the_humidity_it_was_made_from(t: float, rh: float):
    density = humid_air.vapour_density_g_m3(t, rh)
    assert humid_air.relative_humidity(t, density) == pytest.approx(rh)


@given(st.floats(-30, 50))
def test_slope_is_the_difference_over_a_small_step(t: float):
    step = 1e-4
    higher = humid_air.saturation_density_g_m3(t + step)
    lower = humid_air.saturation_density_g_m3(t - step)
    slope = (higher - lower) / (2 * step)
    assert humid_air.saturation_slope_g_m3_k(t) == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize(("altitude_m", "kpa"), [(0, 101.3), (1500, 84.8), (2200, 77.9)])
def test_pressure_falls_with_altitude(altitude_m, kpa):
    assert humid_air.pressure_at_altitude_kpa(altitude_m) == pytest.approx(kpa, abs=0.1)
