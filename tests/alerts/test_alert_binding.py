"""Which rules are judged on what: subjects, selectors, derived quantities, stages, layers."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from itertools import pairwise

import pytest

from alerts.binding import Surroundings, bind
from alerts.program import Joined
from alerts.rule import Label, read_pack
from alerts.schedule import Planting, StageBegin
from alerts.segments import LONG_AGO, NEVER
from devices.series import Device, Transport
from devices.site import Placement, SiteKind
from tests.alerts import places
from tests.alerts.worlds import pack_of


def subjects(rule, registry=None, **surroundings):
    bindings, _ = bind(
        pack_of([rule]).rules, registry or places.base(), Surroundings(**surroundings)
    )
    return sorted(binding.subject.key for binding in bindings)


H1_TEMPERATURES = ["series:c1.air_temperature.a", "series:c1.air_temperature.b"]

# rule, its subjects in the base of two houses
SUBJECTS = [
    ("when: air_temperature > 30 degC, where: {crop: tomato}", H1_TEMPERATURES),
    ("when: air_temperature > 30 degC, where: {placement: outdoor}", ["series:w.air_temperature"]),
    ("when: air_temperature.b > 30 degC", H1_TEMPERATURES[1:]),
    ("when: air_temperature@outdoor > 30 degC", ["series:w.air_temperature"]),
    ("when: air_temperature > 30 degC, where: {site: h2}", ["series:c2.air_temperature"]),
    ("when: air_temperature > 30 degC, where: {site_kind: base}",
     [*H1_TEMPERATURES, "series:c2.air_temperature", "series:w.air_temperature"]),
    ("when: air_temperature > 30 degC, where: {device: [c2, w]}",
     ["series:c2.air_temperature", "series:w.air_temperature"]),
    ("when: air_temperature > 30 degC and relative_humidity > 80 %", ["site:h1", "site:h2"]),
    ("when: air_temperature > 30 degC, per: device, where: {placement: inside}",
     ["device:c1", "device:c2"]),
    ("when: any of air_temperature > 30 degC, per: base", ["site:base"]),
    ("when: no data for 3 intervals, per: house", ["site:h1", "site:h2"]),
    ("when: air_temperature - twins(air_temperature) > 2 K, where: {placement: inside}",
     H1_TEMPERATURES),  # a lone thermometer has no twin
    ("when: air_temperature - air_temperature@outdoor > 5 K, where: {placement: inside}",
     ["site:h1", "site:h2"]),  # the outdoor one stands at the base above
    ("when: vapour_pressure_deficit > 1 kPa, where: {placement: inside}", ["site:h1", "site:h2"]),
    ("when: co2 > 900 ppm", []),
    ("when: air_temperature > 30 degC, where: {site: [h1, h2], device: c2}",
     ["series:c2.air_temperature"]),
    ("when: air_temperature > 30 degC, where: {site_kind: greenhouse}",
     [*H1_TEMPERATURES, "series:c2.air_temperature"]),
    ("when: air_temperature > 30 degC, where: {site: base, crop: [tomato, pepper]}",
     H1_TEMPERATURES),
    ("when: air_temperature > 30 degC, where: {crop: pepper}", []),
    ("when: air_temperature > 30 degC, where: {medium: air, site: h2}",
     ["series:c2.air_temperature"]),
    ("when: air_temperature > 30 degC, where: {medium: soil}", []),
    ("when: air_temperature - twins(air_temperature) > 2 K",
     H1_TEMPERATURES),  # those without one are passed over, wherever they stand
]  # fmt: skip


@pytest.mark.parametrize(("rule", "expected"), SUBJECTS)
def test_a_rule_finds_its_subjects(rule, expected):
    assert subjects(rule) == expected


def test_derived_series_are_looked_at_by_name_only_and_never_for_what_a_formula_makes():
    derived = Device(
        "h-derived",
        "h",
        Transport.DERIVED,
        series=(
            places.series("h-derived", "vapour_pressure_deficit", "h"),
            places.series("h-derived", "growing_degree_days", "h"),
        ),
    )
    measured = places.device(
        "c", "h", places.series("c", "air_temperature", "h"),
        places.series("c", "relative_humidity", "h"),
    )  # fmt: skip
    house = places.site("h", SiteKind.GREENHOUSE, None)
    registry = places.registry([house], [measured, derived])
    # Computed by the rule: it must not wait until the database has made it.
    assert subjects("when: vapour_pressure_deficit > 1 kPa", registry) == ["site:h"]
    assert subjects("when: growing_degree_days > 10 °C·d", registry) == [
        "series:h-derived.growing_degree_days"
    ]
    # What nobody measures cannot be silent, or stuck.
    assert subjects("when: no data for 3 intervals", registry) == [
        "series:c.air_temperature", "series:c.relative_humidity",
    ]  # fmt: skip
    assert subjects("when: no data for 3 intervals, per: device", registry) == ["device:c"]


def test_a_house_is_silent_though_a_unit_outside_speaks_of_its_valve():
    base = places.site("base", SiteKind.BASE, None)
    house = places.site("h", SiteKind.GREENHOUSE, "base")
    climate = places.device("c", "h", places.series("c", "air_temperature", "h"))
    unit = places.device(
        "u", "base", places.series("u", "flow_rate", "base"), places.series("u", "valve_state", "h")
    )
    registry = places.registry([base, house], [climate, unit])

    def listened_to(rule):
        bindings, _ = bind(pack_of([rule]).rules, registry, Surroundings())
        return {b.subject.key: sorted(c for leaf in b.leaves for c in leaf) for b in bindings}

    assert listened_to("when: no data for 3 intervals, per: house") == {
        "site:h": ["c.air_temperature"]
    }
    assert listened_to("when: no data for 3 intervals, per: device") == {
        "device:c": ["c.air_temperature"],
        "device:u": ["u.flow_rate", "u.valve_state"],
    }
    # A rule that names what it wants to hear has it, wherever its device stands.
    assert listened_to("when: highest(valve_state) == 1, per: house") == {
        "site:h": ["u.valve_state"]
    }


def test_a_series_without_a_twin_is_passed_over_and_the_others_are_not():
    sites = [places.site(code, SiteKind.GREENHOUSE, None) for code in ("alone", "h")]
    registry = places.registry(
        sites,
        [places.device("lone", "alone", places.series("lone", "air_temperature", "alone")),
         places.device("c", "h", *(places.series("c", "air_temperature", "h", 60, channel)
                                   for channel in "ab"))],
    )  # fmt: skip
    assert subjects("when: air_temperature - twins(air_temperature) > 2 K", registry) == [
        "series:c.air_temperature.a", "series:c.air_temperature.b",
    ]  # fmt: skip


def test_what_a_formula_makes_is_judged_for_a_site_unless_a_series_is_asked_for():
    rule = "when: vapour_pressure_deficit > 1 kPa, where: {placement: inside}"
    assert subjects(rule) == ["site:h1", "site:h2"]
    assert subjects(rule + ", per: series") == []
    assert subjects("when: so2 > 1 ug/m3") == ["series:w.so2"]


def test_a_measured_quantity_goes_before_a_computed_one():
    registry = places.registry(
        [places.site("h", SiteKind.GREENHOUSE, None)],
        [places.device("c", "h", *(places.series("c", q, "h") for q in (
            "air_temperature", "relative_humidity", "vapour_pressure_deficit")))],
    )  # fmt: skip
    rule = "when: vapour_pressure_deficit > 1 kPa"
    assert subjects(rule, registry) == ["series:c.vapour_pressure_deficit"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("{tags: shaded}", H1_TEMPERATURES),  # of the site
        ("{tags: [shaded, old]}", H1_TEMPERATURES[:1]),  # all of them
        ("{tags: shaded, without_tags: old}", H1_TEMPERATURES[1:]),
    ],
)
def test_tags_of_site_device_and_series_count(where, expected):
    tags = {"site:h1": frozenset({"shaded"}), H1_TEMPERATURES[0]: frozenset({"old"})}
    rule = f"when: air_temperature > 30 degC, where: {where}"
    assert subjects(rule, tags=tags) == expected


def test_a_series_without_a_number_is_not_bound():
    registry = places.base()
    partial = type(registry)(registry.sites, registry.devices, {"c2.air_temperature": 4})
    assert subjects("when: air_temperature > 30 degC", partial) == ["series:c2.air_temperature"]


@pytest.mark.parametrize(
    ("method", "label"),
    [
        ("method:uv_fluorescence", Label.EXCEEDANCE),
        ("method:electrochemical", Label.INDICATIVE),
        ("", Label.INDICATIVE),  # nobody said
    ],
)
def test_only_a_listed_method_makes_an_exceedance(method, label):
    text = """
pack: gb
version: 1
source: {standard: GB 3095, edition: "2026", evidence: V}
label: exceedance
rules:
  - {id: so2, when: so2 mean over each hour needing 45min > 500 ug/m3, methods: uv_fluorescence}
"""
    tags = {"device:w": frozenset({method})}
    bindings, _ = bind(read_pack(text, "x").rules, places.base(), Surroundings(tags))
    assert [binding.label for binding in bindings] == [label]


def test_a_stage_rule_needs_a_planting_and_follows_it():
    rule = (
        "when: air_temperature > 30 degC, where: {placement: inside}, schedule: {stage: flowering}"
    )
    assert subjects(rule) == []
    stages = (StageBegin("flowering", date(2026, 5, 1)), StageBegin("fruiting", date(2026, 6, 1)))
    plantings = {"h1": Planting("h1", "pepper", stages)}
    assert subjects(rule, plantings=plantings) == H1_TEMPERATURES
    crop = "when: air_temperature > 30 degC, where: {crop: pepper}"
    assert subjects(crop, plantings=plantings) == H1_TEMPERATURES  # what grows goes before the site


def test_a_stage_by_degree_days_becomes_part_of_the_condition():
    registry = places.registry(
        [places.site("h", SiteKind.GREENHOUSE, None)],
        [places.device("c", "h", places.series("c", "air_temperature", "h"),
                       places.series("c", "growing_degree_days", "h", 86400))],
    )  # fmt: skip
    rules = pack_of(["when: air_temperature > 30 degC, schedule: {stage: b}"]).rules
    stages = (
        StageBegin("a", None, 0.0),
        StageBegin("b", None, 500.0),
        StageBegin("c", None, 900.0),
    )
    found, missing = bind(
        rules, registry, Surroundings(plantings={"h": Planting("h", "tomato", stages)})
    )
    (binding,) = found
    assert binding.leaves == (("c.air_temperature",), ("c.growing_degree_days",))
    assert binding.program.params == (30.0, 500.0, 900.0)
    assert missing == []
    # The last one has no end; of several each counts.
    last = Surroundings(plantings={"h": Planting("h", "tomato", stages[1:2])})
    ((binding,), _) = bind(rules, registry, last)
    assert binding.program.params == (30.0, 500.0)
    several = pack_of(["when: air_temperature > 30 degC, schedule: {stage: [a, c]}"]).rules
    all_three = Surroundings(plantings={"h": Planting("h", "tomato", stages)})
    ((binding,), _) = bind(several, registry, all_three)
    assert binding.program.params == (30.0, 0.0, 500.0, 900.0)
    assert isinstance(binding.program.levels[0].parts[1], Joined)
    assert binding.program.levels[0].parts[1].word == "or"


def test_a_stage_by_degree_days_is_not_judged_where_nobody_counts_them():
    stages = (StageBegin("a", None, 0.0), StageBegin("b", None, 500.0))
    rule = "when: air_temperature > 30 degC, where: {site: h1}, schedule: {stage: b}"
    planted = Surroundings(plantings={"h1": Planting("h1", "tomato", stages)})
    found, missing = bind(pack_of([rule]).rules, places.base(), planted)
    assert found == []
    assert [(one.subject, one.reason) for one in missing] == [
        (key, "no growing_degree_days here, which its stages begin by") for key in H1_TEMPERATURES
    ]


@pytest.mark.parametrize("place", [(None, None), (38.9, None), (None, 100.4)])
def test_what_cannot_be_judged_is_said_with_its_reason(place):
    nowhere = places.registry(
        [places.site("h", SiteKind.GREENHOUSE, None, at=place)],
        [places.device("c", "h", places.series("c", "air_temperature", "h"))],
    )
    rules = pack_of(["when: air_temperature > 30 degC, schedule: {sun: night}"]).rules
    bindings, unbound = bind(rules, nowhere, Surroundings())
    assert bindings == []
    assert "coordinates" in unbound[0].reason


# -- layers

LAYER = """
pack: {pack}
version: 1
layer: {layer}
rules:
  - {{id: so2, when: so2 mean over each hour > {limit} ug/m3, limit_of: so2-hour{valid}}}
"""


def layered(*packs):
    rules = [rule for pack in packs for rule in read_pack(LAYER.format(**pack), "x").rules]
    bindings, _ = bind(rules, places.base(), Surroundings())
    return bindings


def pack(name, layer, limit, valid=""):
    return {"pack": name, "layer": layer, "limit": limit,
            "valid": f", valid: {valid}" if valid else ""}  # fmt: skip


def test_the_strictest_layer_is_judged_and_names_the_others():
    for order in ((0, 1, 2), (2, 1, 0)):
        packs = [pack("gb", "national", 500), pack("gansu", "local", 300), pack("own", "base", 400)]
        (binding,) = layered(*(packs[i] for i in order))
        assert binding.rule.code == "gansu.so2"
        assert set(binding.stricter_than) == {"gb.so2", "own.so2"}


def test_of_equal_limits_the_nearest_layer_is_judged():
    (binding,) = layered(pack("gb", "national", 500), pack("own", "base", 500))
    assert binding.rule.code == "own.so2"


def test_the_strictest_counts_only_while_it_is_valid():
    bindings = layered(
        pack("gb", "national", 500),
        pack("olympics", "local", 100, "{from: 2026-07-01, to: 2026-07-31}"),
    )
    spans = {binding.rule.code: binding.timetable.spans for binding in bindings}
    (july,) = spans["olympics.so2"]
    zone = timezone(timedelta(hours=8))
    first, after = (datetime(2026, month, 1, tzinfo=zone).timestamp() * 1e6 for month in (7, 8))
    assert july == (first, after)  # the last day too
    assert spans["gb.so2"] == ((int(LONG_AGO), july[0]), (july[1], int(NEVER)))
    edges = sorted(span for each in spans.values() for span in each)
    assert all(before[1] == after[0] for before, after in pairwise(edges))


def test_limits_of_different_things_do_not_compete():
    text = LAYER.format(**pack("gb", "national", 500)).replace("limit_of: so2-hour", "limit_of: a")
    rules = [
        *read_pack(text, "x").rules,
        *read_pack(LAYER.format(**pack("own", "base", 100)), "x").rules,
    ]
    bindings, _ = bind(rules, places.base(), Surroundings())
    assert len(bindings) == 2


def test_a_lower_limit_competes_from_below():
    rules = []
    for name, limit in (("a", 5), ("b", 8)):
        text = LAYER.format(**pack(name, "base", limit)).replace(
            "so2 mean over each hour >", "so2 <"
        )
        rules += read_pack(text, "x").rules
    (binding,) = bind(rules, places.base(), Surroundings())[0]
    assert binding.rule.code == "b.so2"  # 8 is stricter where less is worse


def test_placement_tells_ambient_air_from_the_air_of_a_house():
    registry = places.registry(
        [places.site("h", SiteKind.GREENHOUSE, None)],
        [places.device("c", "h", places.series("c", "so2", "h", placement=placement))
         for placement in (Placement.INSIDE,)],
    )  # fmt: skip
    assert subjects("when: so2 > 1 ug/m3, where: {placement: [outdoor, perimeter]}", registry) == []
