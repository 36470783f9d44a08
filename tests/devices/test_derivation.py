"""Derived series in the site file: inputs that are named, found, missing or ambiguous."""

from __future__ import annotations

import pytest

from devices.derivation import bound, derivations, input_ids
from devices.derived_recipe import INCREASE_OF, RECIPES
from devices.errors import DocumentError
from devices.quantity import QUANTITIES
from devices.registry import Registry
from devices.series import Transport
from devices.site import Placement
from devices.site_file import read_site_file

SITE = """
version: 1
sites:
  - code: base
    kind: base
    {place}
    sites:
      - code: h1
        kind: greenhouse
        area_m2: 2400
        derived:
          {derived}
        sites: [{{code: h1-north, kind: zone}}, {{code: h1-south, kind: zone}}]
broker: {{host: 127.0.0.1}}
buses: [{{code: north, transport: tcp, addresses: ["192.0.2.1"]}}]
devices:
  - {{code: weather, site: base, placement: outdoor, series: [
      {{quantity: air_temperature}}, {{quantity: global_radiation}}, {{quantity: rainfall}}]}}
  - {{code: air, site: h1, interval: 10s, series: [
      {{quantity: air_temperature}}, {{quantity: relative_humidity, interval: 1min}},
      {{quantity: ppfd}}]}}
  - {{code: n, site: h1-north, placement: root_zone, series: [{{quantity: soil_moisture}},
      {{quantity: soil_ec}}, {{quantity: soil_temperature}}]}}
  - {{code: s, site: h1-south, placement: root_zone, series: [{{quantity: soil_moisture}},
      {{quantity: soil_ec}}, {{quantity: soil_temperature}}]}}
  - {{code: meter, site: h1, transport: modbus, bus: north, unit: 1, interval: 60s,
      profile: generic-pulse-counter}}
  - {{code: tip, site: base, placement: outdoor, series: [{{quantity: rainfall, unit: in,
      counter: {{wraps_at: 100}}}}]}}
"""
PLACE = "latitude: 36.88\n    longitude: 118.74\n    altitude_m: 1500"


def read(*derived: str, place: str = PLACE):
    lines = "\n          ".join(f"- {one}" for one in derived)
    return read_site_file(SITE.format(derived=lines or "[]", place=place), "site.yaml")


def made(*derived: str):
    registry = read(*derived).registry
    return {
        series.code: (series, derivations(device)[series.key])
        for device in registry.devices
        if device.transport is Transport.DERIVED
        for series in device.series
    }


def mistakes(*derived: str, place: str = PLACE) -> list[str]:
    with pytest.raises(DocumentError) as error:
        read(*derived, place=place)
    return [str(mistake) for mistake in error.value.mistakes]


def test_inputs_are_found_where_only_one_fits():
    found = made("{formula: vapour_pressure_deficit}")
    series, how = found["h1-derived.vapour_pressure_deficit"]
    assert how.inputs == {
        "air_temperature": "air.air_temperature",
        "relative_humidity": "air.relative_humidity",
    }
    assert (how.version, how.source) == (1, "FAO-56 eq. 11")
    assert (series.site, series.placement) == ("h1", Placement.INSIDE)
    assert series.interval_s == 60.0  # as often as the slower one
    assert series.unit == "kPa"


def test_what_is_not_at_the_site_is_found_above_it():
    _, how = made("{formula: ppfd_from_radiation, parameters: {transmission: 0.6}}")[
        "h1-derived.ppfd"
    ]
    assert how.inputs == {"global_radiation": "weather.global_radiation"}
    assert how.parameters == {"transmission": 0.6}


def test_what_stands_on_the_device_of_a_named_input_belongs_to_it():
    text = "{formula: pore_water_ec_from_moisture, inputs: {soil_ec: n.soil_ec}}"
    series, how = made(text)["h1-derived.pore_water_ec"]
    assert set(how.inputs.values()) == {"n.soil_ec", "n.soil_moisture", "n.soil_temperature"}
    assert series.placement is Placement.ROOT_ZONE


def test_a_derived_series_may_be_an_input_of_those_after_it():
    found = made(
        "{formula: degree_days}",
        "{formula: growing_degree_days, parameters: {since: 2025-03-01}}",
        "{formula: irrigation_depth}",
    )
    _, total = found["h1-derived.growing_degree_days"]
    assert total.inputs == {"degree_days": "h1-derived.degree_days"}
    _, depth = found["h1-derived.irrigation_depth"]
    assert depth.inputs == {"irrigation_increase": "h1-derived.irrigation_increase.meter"}
    assert depth.parameters == {"area_m2": 2400.0, "period": "day", "pause_min": 30.0}


def test_running_totals_get_their_increase_with_the_rule_of_profile_or_file():
    found = made()
    assert set(found) == {
        "h1-derived.irrigation_increase.meter", "base-derived.rainfall_increase.tip"
    }  # fmt: skip
    _, meter = found["h1-derived.irrigation_increase.meter"]
    assert meter.parameters == {"wraps_at": 10 * 2.0**32, "most_per_s": 50.0}
    _, tip = found["base-derived.rainfall_increase.tip"]
    assert tip.parameters == {"wraps_at": pytest.approx(2540.0)}  # 100 inches in millimetres


def test_every_running_total_of_the_vocabulary_has_an_increase():
    assert set(INCREASE_OF) == {one.name for one in QUANTITIES.values() if one.counter}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{formula: vpd}", "derived[0].formula: got 'vpd', expected a formula: "),
        ("{formula: dew_pont}", "(did you mean 'dew_point'?)"),
        ("{}", "derived[0].formula: got nothing, expected the key 'formula'"),
        (
            "{formula: relative_soil_moisture, parameters: {field_capacity: 30}}",
            "expected inputs: {soil_moisture: …} to say which of n.soil_moisture, s.soil_moisture",
        ),
        ("{formula: dew_point_margin}", "expected a series of surface_temperature at h1, below it"),
        (
            "{formula: dew_point, inputs: {air_temperature: air.relative_humidity}}",
            "inputs.air_temperature: got 'air.relative_humidity', expected the code of a series of",
        ),
        (
            "{formula: dew_point, inputs: {temperature: air.air_temperature}}",
            "got 'temperature', expected one of air_temperature, relative_humidity",
        ),
        (
            "{formula: relative_soil_moisture, inputs: {soil_moisture: n.soil_moisture}}",
            "parameters.field_capacity: got nothing, expected a number from 1 to 100",
        ),
        (
            "{formula: growing_degree_days, parameters: {since: yesterday}}",
            "got 'yesterday', expected a day such as 2025-03-01",
        ),
        (
            "{formula: ppfd_from_illuminance, parameters: {light: led}}",
            "got 'led', expected one of sunlight, hps",
        ),
        (
            "{formula: dew_point, parameters: {alpha: 1}}",
            "got 'alpha', expected none for this formula",
        ),
        (
            "{formula: increase, inputs: {total: meter.irrigation_volume}, channel: meter}",
            "expected a channel that tells it from the other one of its kind",
        ),
    ],
)
def test_each_mistake_is_named_at_its_place(entry, said):
    (mistake,) = mistakes(entry)
    assert mistake.startswith("site.yaml:1")
    assert said in mistake


def test_place_and_area_are_asked_for_where_a_formula_needs_them():
    said = mistakes("{formula: day_night_difference}", place="crop: tomato")
    assert "expected a site with latitude and longitude" in said[0]
    said = mistakes(
        "{formula: co2_mass_concentration, inputs: {co2: air.co2}}", place="crop: tomato"
    )
    assert "expected a number from -450 to 9000, here or as altitude_m of the site" in said[0]


def test_no_device_is_of_transport_derived():
    text = SITE.format(derived="[]", place=PLACE).replace("transport: modbus", "transport: derived")
    with pytest.raises(DocumentError, match="expected mqtt, http or modbus"):
        read_site_file(text, "site.yaml")


def test_a_registry_without_an_input_tells_which_series_are_lost():
    registry = read("{formula: dew_point}").registry
    numbers = {code: n for n, code in enumerate(registry.series)}
    whole = Registry(registry.sites, registry.devices, numbers)
    found, lost = bound(whole)
    assert (len(found), lost) == (3, [])
    assert input_ids(whole) == {number for one in found for number in one.input_ids}
    without = tuple(device for device in registry.devices if device.code != "air")
    found, lost = bound(Registry(registry.sites, without, numbers))
    assert (len(found), lost) == (2, ["h1-derived.dew_point"])


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda one: one.name)
def test_every_recipe_speaks_of_known_quantities_and_tells_its_source(recipe):
    for slot in recipe.inputs:
        assert set(slot.quantities) <= set(QUANTITIES)
    assert set(recipe.outputs.values()) <= set(QUANTITIES)
    assert recipe.version >= 1
    assert recipe.source


@pytest.mark.parametrize("name", RECIPES)
def test_every_formula_is_in_the_reference(name):
    from pathlib import Path

    page = Path(__file__).parents[2] / "docs" / "reference" / "derived.md"
    assert f"`{name}`" in page.read_text("utf-8")
