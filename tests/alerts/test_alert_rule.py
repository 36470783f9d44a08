"""Rule files: what they become, and how their mistakes are told."""

from __future__ import annotations

import pytest

from alerts.rule import Label, Layer, Per, Severity, pack_schema, read_pack
from devices.errors import DocumentError
from devices.site import Placement

WHOLE = """
pack: house
version: 3
layer: local
name: {zh: 温室, en: House}
source: {standard: DB 62, edition: "2025", evidence: V}
tell: [operator, bureau]
rules:
  - id: hot
    name: {zh: 高温, en: Hot}
    levels:
      critical: {when: air_temperature > 40 degC, for: 5min, clear: 38 degC}
      warning:
        {when: air_temperature > 33 degC, for: 15min, hysteresis: 3.6 degF, keep_firing: 2min}
    where: {placement: [inside, root_zone], crop: tomato, tags: far}
    per: series
    schedule: {sun: day, clock: ["06:00-20:00"], dates: 04-01..10-31, stage: fruiting}
    valid: {from: 2026-03-01, to: 2030-12-31}
    message: {zh: "{site} {value} {unit}", en: "{site} {value} {unit}"}
    label: exceedance
    methods: shielded
    limit_of: heat
    hides: cold
    group: climate
"""


def test_a_rule_carries_everything_that_was_written():
    pack = read_pack(WHOLE, "house.yaml")
    (rule,) = pack.rules
    assert (pack.layer, rule.layer) == (Layer.LOCAL, Layer.LOCAL)
    assert (rule.code, rule.version, rule.per) == ("house.hot", 3, Per.SERIES)
    assert [level.severity for level in rule.levels] == [Severity.WARNING, Severity.CRITICAL]
    warning = rule.levels[0]
    assert (warning.for_us, warning.keep_us) == (900_000_000, 120_000_000)
    assert warning.tree.clear.value == pytest.approx(31.0)  # 3.6 °F are 2 K
    assert rule.where.placements == (Placement.INSIDE, Placement.ROOT_ZONE)
    assert rule.schedule.clock == ((6 * 3_600_000_000, 20 * 3_600_000_000),)
    assert rule.schedule.dates == (((4, 1), (10, 31)),)
    assert (rule.valid_from.year, rule.valid_to.year) == (2026, 2030)
    assert rule.label is Label.EXCEEDANCE
    assert rule.source.title == "DB 62-2025"
    assert (rule.hides, rule.group, rule.tell) == (("cold",), "climate", ("operator", "bureau"))


def test_mistakes_of_shape_are_told_at_once_with_their_lines():
    text = """
pack: House
version: 0
rules:
  - id: hot
    when: air_temprature > 3 degC
    for: 3 weeks
    where: {placement: insde, quantty: x}
    severity: warn
  - id: schedule
    when: co2 > 900 ppm
    schedule: {clock: "25:00-26:00", dates: "02-30..03-01", sun: noon}
"""
    with pytest.raises(DocumentError) as caught:
        read_pack(text, "house.yaml")
    found = [(m.line, m.key, m.hint) for m in caught.value.mistakes]
    assert found == [
        (2, "pack", ""),
        (3, "version", ""),
        (6, "rules[0].when", "air_temperature"),
        (7, "rules[0].for", ""),
        (8, "rules[0].where.placement[0]", "inside"),
        (8, "rules[0].where.quantty", "quantity"),
        (9, "rules[0].severity", "warning"),
        (12, "rules[1].schedule.clock[0]", ""),
        (12, "rules[1].schedule.dates[0]", ""),
        (12, "rules[1].schedule.sun", ""),
    ]
    assert all(str(m).startswith("house.yaml:") for m in caught.value.mistakes)


def test_mistakes_of_meaning_are_found_in_every_rule():
    text = """
pack: house
version: 1
rules:
  - id: hot
    when: air_temprature > 3 degC
    where: {quantity: co3}
  - id: hot
    when: air_temperature > 35
  - id: texts
    when: air_temperature > 35 degC
    message: {en: "{valu}", zh: "{"}
    label: exceedance
  - id: levels
    for: 5min
    levels: {warning: {when: co2 > 900 ppm}}
  - id: neither
  - id: valid
    when: co2 > 900 ppm
    valid: {from: 2027-01-01, to: 2026-01-01}
  - id: clear
    when: co2 > 900 ppm and co2 < 2000 ppm
    clear: 800 ppm
"""
    with pytest.raises(DocumentError) as caught:
        read_pack(text, "house.yaml")
    found = [(m.line, m.key, m.hint) for m in caught.value.mistakes]
    assert found == [
        (6, "rules[0].when", "air_temperature"),
        (7, "rules[0].where.quantity[0]", "o3"),
        (8, "rules[1].id", ""),
        (9, "rules[1].when", "°C"),
        (12, "rules[2].message.en", "value"),
        (12, "rules[2].message.zh", ""),
        (13, "rules[2].label", ""),
        (13, "rules[2].label", ""),
        (15, "rules[3].for", ""),
        (17, "rules[4]", ""),
        (20, "rules[5].valid", ""),
        (23, "rules[6].clear", ""),
    ]


def test_a_number_from_memory_is_never_called_an_exceedance():
    text = WHOLE.replace("evidence: V", "evidence: M")
    with pytest.raises(DocumentError, match="evidence is not V"):
        read_pack(text, "house.yaml")


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (("name: {zh: 高温, en: Hot}", "name: {zh: 热, en: Warm}"), True),  # only a text
        (("> 33 degC", "> 34 degC"), False),  # a limit
        (("for: 15min", "for: 16min"), False),  # a duration
        (("crop: tomato", "crop: cucumber"), False),  # its subjects
        (("per: series", "per: site"), False),
        (("clear: 38 degC", "clear: 37 degC"), False),
        (("keep_firing: 2min", "keep_firing: 3min"), False),
        (("warning:", "info:"), False),  # a severity
        (("06:00-20:00", "06:00-21:00"), False),
        (("to: 2030-12-31", "to: 2031-12-31"), False),
        (("limit_of: heat", "limit_of: cold"), False),  # what it competes with
        (("layer: local", "layer: base"), False),
        (("version: 3", "version: 4"), False),
        (("tell: [operator, bureau]", "tell: [bureau]"), True),
        (("group: climate", "group: heat"), True),
    ],
)
def test_the_fingerprint_changes_with_what_decides(change, same):
    old = read_pack(WHOLE, "x").rules[0].fingerprint
    new = read_pack(WHOLE.replace(*change), "x").rules[0].fingerprint
    assert (old == new) is same
    assert len(old) == 16


def test_the_schema_describes_a_rule_down_to_its_levels():
    schema = pack_schema()
    assert schema["properties"]["rules"]["items"] == {"$ref": "#/$defs/RuleEntry"}
    assert "LevelEntry" in schema["$defs"]
    assert "for" in schema["$defs"]["RuleEntry"]["properties"]


# a rule's keys, the comparison that gets a clear level, the level
CLEARED = [
    ("when: co2 > 900 ppm, clear: 800 ppm", lambda tree: tree, 800.0),
    ("when: co2 > 900 ppm, hysteresis: 50 ppm", lambda tree: tree, 850.0),
    ("when: co2 < 300 ppm, hysteresis: 50 ppm", lambda tree: tree, 350.0),
    ("when: co2 <= 300 ppm, hysteresis: 50 ppm", lambda tree: tree, 350.0),
    ("when: co2 >= 900 ppm, hysteresis: 50 ppm", lambda tree: tree, 850.0),
    ("when: at least 2 of co2 > 900 ppm, clear: 800 ppm", lambda tree: tree.compare, 800.0),
    ("when: not (co2 < 900 ppm), hysteresis: 100 ppm", lambda tree: tree.part, 1000.0),
    ("when: co2 > 900 ppm and air_temperature > 20 degC clear 19 degC, clear: 800 ppm",
     lambda tree: tree.parts[0], 800.0),
    ("when: no data for 3 intervals or co2 > 900 ppm, clear: 800 ppm",
     lambda tree: tree.parts[1], 800.0),
]  # fmt: skip


def rule_of(keys):
    return read_pack(f"pack: t\nversion: 1\nrules:\n  - {{id: r, {keys}}}\n", "x").rules[0]


@pytest.mark.parametrize(("keys", "place", "level"), CLEARED)
def test_a_clear_level_goes_to_the_one_comparison_without(keys, place, level):
    (found,) = rule_of(keys).levels
    assert place(found.tree).clear.value == pytest.approx(level)


@pytest.mark.parametrize(
    ("keys", "key", "got"),
    [
        ("when: no data for 3 intervals, clear: 3 ppm", "clear", "0 comparisons"),
        ("when: co2 > 3 ppm clear 2 ppm, clear: 1 ppm", "clear", "0 comparisons"),
        ("when: co2 > 900 ppm, hysteresis: -5 ppm", "hysteresis", "-5 ppm"),
        ("when: co2 > 900 ppm, hysteresis: 5 kPa", "hysteresis", "kPa"),
        ("when: valve_state > 1, hysteresis: 5 kPa", "hysteresis", "5 kPa"),
        ("when: co2 > ppm", "when", "at character 7 of 'co2 > ppm'"),
        ("when: co2 > 9 ppm, for: 300", "for", "300"),
        ("when: co2 > 9 ppm, for: -3min", "for", "-3min"),
        ("when: co2 > 9 ppm, schedule: {dates: in autumn}", "schedule.dates[0]", "autumn"),
        ("when: co2 > 9 ppm, schedule: {clock: 08:00-08:00}", "schedule.clock[0]", "08:00-08:00"),
        ("when: co2 > 9 ppm, schedule: {clock: 08:00-24:01}", "schedule.clock[0]", "24:01"),
        ("when: co2 > 9 ppm, valid: {from: 2026-02-30}", "valid.from", "2026-02-30"),
    ],
)
def test_a_value_that_cannot_be_is_told_with_its_key(keys, key, got):
    with pytest.raises(DocumentError) as caught:
        rule_of(keys)
    (mistake,) = caught.value.mistakes
    assert (mistake.line, mistake.key) == (4, f"rules[0].{key}")
    assert got in str(mistake)


def test_a_head_that_is_unusable_does_not_hide_the_mistakes_of_the_rules():
    for rules, keys in (
        ("[{id: hot, when: co3 > 900 ppm}]", ["version", "rules[0].when"]),
        ("7", ["version", "rules"]),
    ):
        with pytest.raises(DocumentError) as caught:
            read_pack(f"pack: house\nversion: 0\nrules: {rules}\n", "house.yaml")
        assert [mistake.key for mistake in caught.value.mistakes] == keys
