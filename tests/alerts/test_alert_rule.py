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
    ],
)
def test_the_fingerprint_changes_with_what_decides(change, same):
    old = read_pack(WHOLE, "x").rules[0].fingerprint
    new = read_pack(WHOLE.replace(*change), "x").rules[0].fingerprint
    assert (old == new) is same


def test_the_schema_describes_a_rule_down_to_its_levels():
    schema = pack_schema()
    assert schema["properties"]["rules"]["items"] == {"$ref": "#/$defs/RuleEntry"}
    assert "LevelEntry" in schema["$defs"]
    assert "for" in schema["$defs"]["RuleEntry"]["properties"]
