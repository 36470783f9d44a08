"""Scenarios: those we ship, and what is said about a wrong one."""

from __future__ import annotations

import pytest

from devices.errors import DocumentError
from devices.quantity import QUANTITIES
from devices.series import Transport
from devices.site import Medium, Placement
from devices.site_file import read_site_file
from firmware_sims.scenario import (
    Scenario,
    read_scenario,
    shipped,
    shipped_names,
    shipped_site_file,
)

START_US = 1_795_000_000_000_000
SMALL = """\
version: 1
name: one-house
seed: 4
place: {latitude: 36.9, longitude: 118.7}
houses:
  - {site: h1, type: multi_span, root_zones: 2}
devices:
  - {code: node, site: h1, kind: climate_node, interval: 10s}
  - {code: slab, site: h1, kind: substrate_probe, zone: 2, interval: 1min}
"""


def _mistakes(text: str) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        read_scenario(text, "my.yaml")
    return [str(mistake) for mistake in caught.value.mistakes]


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_scenarios_and_the_site_file_agree_on_every_key(name: str):
    scenario = shipped(name)
    registry = read_site_file(shipped_site_file("small-base"), "small-base.site.yaml").registry
    published = {(code, key) for code, keys in scenario.published_keys.items() for key in keys}
    measuring = [d for d in registry.devices if d.transport is not Transport.DERIVED]
    described = {(d.code, series.key) for d in measuring for series in d.series}
    assert published == described
    assert {d.code: d.site for d in scenario.devices} == {d.code: d.site for d in measuring}
    assert scenario.name == name


def test_intervals_of_the_small_base_are_those_of_its_site_file():
    registry = read_site_file(shipped_site_file("small-base"), "small-base.site.yaml").registry
    for device in shipped("small-base").devices:
        for series in registry.device[device.code].series:
            assert series.interval_s == device.interval, series.code


def test_the_small_base_is_a_base_under_county_and_city_with_names_in_both_languages():
    registry = read_site_file(shipped_site_file("small-base"), "small-base.site.yaml").registry
    chain = [site.kind.value for site in registry.ancestors("h3")]
    assert chain == ["greenhouse", "base", "county", "city"]
    names = [(site.name_zh, site.name_en) for site in registry.sites]
    names += [(device.name_zh, device.name_en) for device in registry.devices]
    assert all(zh and en and zh != en for zh, en in names)
    assert 70 <= len(registry.series) <= 100


@pytest.mark.parametrize(
    ("series", "placement", "medium"),
    [
        ("h1-climate.air_temperature", Placement.INSIDE, Medium.AIR),
        ("weather.air_temperature", Placement.OUTDOOR, Medium.WEATHER),
        ("weather.global_radiation", Placement.OUTDOOR, Medium.WEATHER),
        ("fence-dust.pm2_5", Placement.PERIMETER, Medium.AIR),
        ("well.water_ec", Placement.INTAKE_WATER, Medium.WATER),
        ("h1-drain.drain_ec", Placement.DRAIN_WATER, Medium.FERTIGATION),
        ("h1-slab-2.soil_moisture", Placement.ROOT_ZONE, Medium.SOIL),
        ("fertigation.solution_ec", Placement.INSIDE, Medium.FERTIGATION),
    ],
)
def test_series_stand_where_a_grower_would_look(series: str, placement, medium):
    registry = read_site_file(shipped_site_file("small-base"), "small-base.site.yaml").registry
    assert registry.series[series].placement is placement
    assert registry.series[series].medium is medium


@pytest.mark.parametrize("name", shipped_names())
def test_every_published_key_names_a_quantity(name: str):
    for keys in shipped(name).published_keys.values():
        for key in keys:
            assert key.partition(".")[0] in QUANTITIES


def test_a_small_scenario_reads_and_resolves_its_times():
    text = SMALL + (
        "weather: [{event: frost_night, day: 1, amount: -8}]\n"
        "breakdowns: [{failure: pump_failure, at: 10min, lasts: 2h}]\n"
        "faults:\n"
        "  - {fault: stuck, device: node, keys: [co2], at: -1h, lasts: 30min}\n"
        "  - {fault: power_cut, site: h1, at: 5min, lasts: 1min}\n"
        "  - {fault: reboot, device: slab, at: 0, down: 15s}\n"
    )
    scenario = read_scenario(text, "my.yaml")
    plan = scenario.plan(START_US)
    assert plan.weather_events[0].day == plan.climate.solar_day(START_US) + 1
    assert plan.breakdowns[0].from_us == START_US + 600_000_000
    node, slab = scenario.devices
    assert len(scenario.faults(node, START_US).faults) == 1
    assert scenario.faults(node, START_US).faults[0].window.from_us == START_US - 3_600_000_000
    assert [(o.without_power, o.window.from_us) for o in scenario.outages(slab, START_US)] == [
        (True, START_US + 300_000_000),
        (True, START_US),
    ]
    assert scenario.outages(slab, START_US)[1].window.until_us == START_US + 15_000_000


def test_a_scenario_on_a_shipped_base_brings_only_what_happens():
    scenario = read_scenario(
        "version: 1\nname: mine\nseed: 1\nbased_on: small-base\n"
        "faults: [{fault: drift, device: h1-climate, keys: [co2], per_hour: 4, at: 0}]\n",
        "mine.yaml",
    )
    assert scenario.devices == shipped("small-base").devices
    assert isinstance(scenario, Scenario) and scenario.name == "mine"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        # a misspelt key, with the right one
        (("seed: 4", "sed: 4"), "my.yaml:3:1 sed: got 'sed', expected one of version"),
        (("interval: 10s", "interval: 10"), "expected a duration with its unit"),
        (("kind: climate_node,", "kind: climat_node,"), "(did you mean 'climate_node'?)"),
        (("zone: 2", "zone: 3"), "expected a root zone of h1: 1 to 2"),
        (
            ("site: h1, kind: sub", "site: h9, kind: sub"),
            "devices[1].site: got 'h9', expected a house above",
        ),
        (("code: slab", "code: node"), "a code that stands once"),
        (("latitude: 36.9", "latitude: 99"), "place.latitude"),
        (("type: multi_span", "type: tunnel"), "one of multi_span, solar"),
        (("version: 1", "version: 2"), "version"),
    ],
)
def test_a_mistake_is_named_with_its_place(change: tuple[str, str], said: str):
    assert SMALL.count(change[0]) == 1
    assert any(said in line for line in _mistakes(SMALL.replace(*change))), said


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("{fault: spike, device: node, at: 0}", "amount, which spike needs"),
        ("{fault: stuck, device: node, at: 0, per_hour: 2}", "what stuck takes: keys"),
        ("{fault: stuck, device: noda, at: 0}", "(did you mean 'node'?)"),
        ("{fault: stuck, device: node, keys: [co], at: 0}", "(did you mean 'co2'?)"),
        ("{fault: power_cut, device: node, at: 0}", "lasts, which power_cut needs"),
        ("{fault: stuck, at: 0}", "either device or site"),
        ("{fault: stuck, device: node, site: h1, at: 0}", "either device or site"),
        ("{fault: melt, device: node, at: 0}", "faults[0].fault"),
        ("{fault: stuck, device: node, at: soon}", "a duration with its unit"),
        ("{fault: dropout, device: node, at: 0, probability: 1.5}", "faults[0].probability"),
    ],
)
def test_a_wrong_fault_is_named_with_its_place(fault: str, said: str):
    lines = _mistakes(f"{SMALL}faults:\n  - {fault}\n")
    assert any(said in line and "my.yaml:11" in line for line in lines), lines


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("weather: [{event: frost_night, day: 0}]", "amount of frost_night"),
        ("breakdowns: [{failure: heater_failure, at: 0, lasts: 1h}]", "a house above"),
        ("breakdowns: [{failure: pump_failure, house: h1, at: 0, lasts: 1h}]", "no house"),
        ("based_on: small-base", "nothing here: based_on brings them"),
    ],
)
def test_other_contradictions_are_named(more: str, said: str):
    assert any(said in line for line in _mistakes(f"{SMALL}{more}\n"))


def test_all_mistakes_come_at_once():
    text = SMALL.replace("zone: 2", "zone: 3").replace("climate_node", "barometer")
    assert len(_mistakes(text)) == 2


def test_an_unknown_base_is_named_with_the_known_ones():
    lines = _mistakes("version: 1\nname: x\nseed: 1\nbased_on: small-bass\n")
    assert len(lines) == 1 and "(did you mean 'small-base'?)" in lines[0]
    assert "frost-night" in lines[0]


def test_without_a_base_all_of_its_parts_are_asked_for():
    lines = _mistakes("version: 1\nname: x\nseed: 1\n")
    assert [line.rpartition("expected ")[2] for line in lines] == [
        "devices, or based_on",
        "houses, or based_on",
        "place, or based_on",
    ]
