from __future__ import annotations

import pytest

from devices.senml_unit import UNITS, senml_unit
from devices.site_file import read_site_file
from devices.units import UnitError, conversion

SITE = """
version: 1
sites: [{{code: h1, kind: greenhouse}}]
broker: {{host: localhost}}
devices:
  - code: node
    site: h1
    payload: {payload}
    series: [{{quantity: {quantity}, key: "urn:dev:n1:x[{unit}]"{own}}}]
"""


def _scale(quantity, unit, payload="senml", own=""):
    text = SITE.format(quantity=quantity, unit=unit, payload=payload, own=own)
    (series,) = read_site_file(text, "site.yaml").registry.series.values()
    line = series.conversion
    return 10 * line.scale + line.offset


@pytest.mark.parametrize(
    ("quantity", "unit", "ten"),
    [
        ("air_temperature", "Cel", 10),
        ("air_temperature", "K", -263.15),
        ("relative_humidity", "%RH", 10),
        ("soil_ec", "S/m", 100),  # our unit is mS/cm
        ("soil_moisture", "/", 1000),  # a ratio, in per cent
        ("flow_rate", "m3/s", 600_000),
        ("illuminance", "lx", 10),
        ("wind_speed", "m/s", 10),
        ("wind_direction", "deg", 10),
        ("battery_voltage", "V", 10),
        ("air_pressure", "Pa", 0.01),
        ("co2", "ppm", 10),
    ],
)
@pytest.mark.parametrize("payload", ["senml", "senml-cbor"])
def test_the_unit_in_the_key_is_that_of_the_series(quantity, unit, ten, payload):
    assert _scale(quantity, unit, payload) == pytest.approx(ten)


def test_an_own_unit_of_the_series_comes_first():
    assert _scale("air_temperature", "Cel", own=", unit: °F") == pytest.approx(-12.2222, abs=1e-3)


def test_only_senml_has_units_in_its_keys():
    assert _scale("air_temperature", "K", payload="json") == 10


@pytest.mark.parametrize(
    ("key", "unit"),
    [("a[kWh].sum", "kWh"), ("a", None), ("a.sum", None), ("urn:x:a[C]", "coulomb")],
)
def test_the_unit_stands_in_brackets(key, unit):
    assert senml_unit(key) == unit


@pytest.mark.parametrize("unit", sorted(set(UNITS.values())))
def test_every_unit_in_the_table_is_one(unit):
    with pytest.raises(UnitError, match="measures"):
        conversion(unit, "candela/kelvin")
