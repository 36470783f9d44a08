import re

import pytest

from devices.quantity import QUANTITIES
from devices.units import conversion


@pytest.mark.parametrize("quantity", QUANTITIES.values(), ids=lambda q: q.name)
def test_each_quantity_is_complete(quantity):
    assert re.fullmatch(r"[a-z][a-z0-9_]*", quantity.name)
    assert quantity.zh
    assert quantity.en
    assert quantity.low < quantity.high
    assert quantity.interval_s > 0
    assert quantity.decimals >= 0


def test_hj212_codes_are_of_the_standards_form_and_used_once():
    codes = [quantity.hj212 for quantity in QUANTITIES.values() if quantity.hj212]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"[aw]\d{5}", code) for code in codes)


def test_no_soil_quantity_carries_a_code_because_the_standard_has_none():
    assert not [q.name for q in QUANTITIES.values() if q.medium == "soil" and q.hj212]


# Units that the field sends, and the quantity they are sent for.
@pytest.mark.parametrize(
    ("unit", "quantity", "value", "expected"),
    [
        ("°F", "air_temperature", 77.0, 25.0),
        ("K", "air_temperature", 293.15, 20.0),
        ("µS/cm", "soil_ec", 1425.0, 1.425),
        ("uS/cm", "water_ec", 800.0, 0.8),
        ("dS/m", "soil_ec", 3.2, 3.2),
        ("S/m", "solution_ec", 0.25, 2.5),
        ("hPa", "air_pressure", 1013.25, 101.325),
        ("mbar", "air_pressure", 850.0, 85.0),
        ("Pa", "vapour_pressure_deficit", 1267.0, 1.267),
        ("lux", "illuminance", 30000.0, 30000.0),
        ("klx", "illuminance", 30.0, 30000.0),
        ("m³/m³", "soil_moisture", 0.345, 34.5),
        ("m3/h", "flow_rate", 3.0, 50.0),
        ("m³", "irrigation_volume", 1.25, 1250.0),
        ("km/h", "wind_speed", 36.0, 10.0),
        ("MJ/m²", "radiation_sum", 21.5, 2150.0),
        ("mg/m³", "pm2_5", 0.035, 35.0),
        ("mV", "battery_voltage", 3600.0, 3.6),
        ("ug/L", "water_cadmium", 5.0, 0.005),
        ("ppb", "co2", 420000.0, 420.0),
    ],
)
def test_units_are_brought_to_the_quantitys_own(unit, quantity, value, expected):
    line = conversion(unit, QUANTITIES[quantity].unit)
    assert value * line.scale + line.offset == pytest.approx(expected, rel=1e-12)
