import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.derived import (
    FORMULAS,
    absolute_humidity,
    co2_mass_concentration,
    dew_point,
    drain_fraction,
    ec_at_25,
    humidity_deficit,
    leaf_vapour_pressure_deficit,
    moisture_from_permittivity,
    permittivity_from_moisture,
    pore_water_ec,
    pressure_at_altitude,
    saturation_vapour_pressure,
    vapour_pressure_deficit,
    wet_bulb_temperature,
)
from devices.quantity import QUANTITIES


def _array(*values):
    return np.array(values, np.float64)


# T °C, RH %, es kPa, VPD kPa, dew point °C, absolute humidity g/m³ (Tetens)
@pytest.mark.parametrize(
    ("t", "rh", "es", "vpd", "td", "ah"),
    [
        (25, 60, 3.16778, 1.26711, 16.696, 13.813),
        (20, 80, 2.33828, 0.46766, 16.445, 13.827),
        (30, 40, 4.24307, 2.54584, 14.926, 12.131),
        (15, 95, 1.70535, 0.08527, 14.206, 12.182),
        (-5, 70, 0.42118, 0.12635, -9.603, 2.382),
        (0, 100, 0.61080, 0.0, 0.0, 4.845),
    ],
)
def test_humid_air_has_its_reference_values(t, rh, es, vpd, td, ah):
    t, rh = _array(t), _array(rh)
    assert saturation_vapour_pressure(t)[0] == pytest.approx(es, abs=5e-6)
    assert vapour_pressure_deficit(t, rh)[0] == pytest.approx(vpd, abs=5e-6)
    assert dew_point(t, rh)[0] == pytest.approx(td, abs=5e-4)
    assert absolute_humidity(t, rh)[0] == pytest.approx(ah, abs=6e-4)


def test_leaf_deficit_has_its_reference_value():
    got = leaf_vapour_pressure_deficit(_array(23), _array(25), _array(60))
    assert got[0] == pytest.approx(0.90877, abs=5e-6)


@pytest.mark.parametrize(("alpha", "expected"), [(0.020, 2.500), (0.019, 2.469)])
def test_conductivity_is_brought_to_25_degrees(alpha, expected):
    assert ec_at_25(_array(2.0), _array(15.0), alpha)[0] == pytest.approx(expected, abs=5e-4)


def test_pressure_and_co2_follow_the_altitude():
    assert pressure_at_altitude(1500) == pytest.approx(84.8, abs=0.05)
    assert pressure_at_altitude(2200) == pytest.approx(77.9, abs=0.1)
    sea = co2_mass_concentration(_array(1000), _array(25), 101.325)[0]
    high = co2_mass_concentration(_array(1000), _array(25), 85.0)[0]
    assert (round(sea), round(high)) == (1799, 1509)


def test_there_is_no_dew_point_without_humidity():
    assert np.isnan(dew_point(_array(20), _array(0))[0])


def test_a_condensed_sensor_reads_no_negative_deficit():
    assert vapour_pressure_deficit(_array(20), _array(103))[0] == 0.0
    assert humidity_deficit(_array(20), _array(105))[0] == pytest.approx(0.0)


def test_outside_its_range_a_formula_says_nothing():
    assert np.isnan(wet_bulb_temperature(_array(20), _array(2))[0])
    assert np.isnan(pore_water_ec(_array(0.5), _array(8), _array(20))[0])
    assert np.isnan(drain_fraction(_array(1), _array(0))[0])
    assert wet_bulb_temperature(_array(20), _array(50))[0] == pytest.approx(13.7, abs=0.1)


def test_permittivity_20_is_34_5_percent_water():
    assert moisture_from_permittivity(_array(20))[0] == pytest.approx(34.5, abs=0.05)


@given(st.floats(min_value=0, max_value=70))
def test_moisture_and_permittivity_are_inverse(moisture):
    there = permittivity_from_moisture(_array(moisture))
    assert moisture_from_permittivity(there)[0] == pytest.approx(moisture, abs=1e-6)


@given(
    st.floats(min_value=-20, max_value=50),
    st.floats(min_value=1, max_value=100),
)
def test_dew_point_never_stands_above_the_air_and_wet_bulb_between(t, rh):
    td = dew_point(_array(t), _array(rh))[0]
    assert td <= t + 1e-9
    wet = wet_bulb_temperature(_array(t), _array(rh))[0]
    if not np.isnan(wet) and t > 0:
        assert td - 1.0 <= wet <= t + 1.0  # Stull's fit errs by up to 1 K


def test_every_formula_speaks_of_known_quantities_and_keeps_missing_values():
    for formula in FORMULAS.values():
        assert formula.quantity in QUANTITIES
        assert set(formula.inputs) <= set(QUANTITIES)
        for missing in range(len(formula.inputs)):
            inputs = [_array(20.0) for _ in formula.inputs]
            inputs[missing] = _array(np.nan)
            assert np.isnan(formula.compute(*inputs)).all()
