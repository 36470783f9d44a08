"""The shipped packs: every rule tried, every number as it stands in the standard and no surer."""

from __future__ import annotations

from datetime import date

import pytest
import yaml

from alerts.pack_library import (
    shipped_pack,
    shipped_pack_names,
    shipped_pack_text,
    shipped_trials,
)
from alerts.rule import Label, Layer
from alerts.trial import run_trials
from devices.site import Placement

PACKS = {name: shipped_pack(name) for name in shipped_pack_names()}
RULES = {rule.code: rule for pack in PACKS.values() for rule in pack.rules}


@pytest.mark.parametrize("name", PACKS)
def test_the_trials_of_a_pack_come_out_as_written(name):
    trials = shipped_trials(name)
    assert trials is not None
    assert [str(f) for f in run_trials(trials, f"{name}.yaml", PACKS[name].rules)] == []


@pytest.mark.parametrize("name", PACKS)
def test_every_rule_that_is_switched_on_fires_in_a_trial(name):
    trials = yaml.safe_load(shipped_trials(name))["tests"]
    fired = {expected["rule"] for trial in trials for expected in trial.get("expect") or ()}
    enabled = {rule.code.partition(".")[2] for rule in PACKS[name].rules if rule.enabled}
    assert enabled - fired == set()


@pytest.mark.parametrize("code", RULES)
def test_a_rule_speaks_both_languages(code):
    rule = RULES[code]
    assert rule.name.zh
    assert rule.name.en
    assert rule.message.zh
    assert rule.message.en
    assert bool(rule.runbook.zh) == bool(rule.runbook.en)


@pytest.mark.parametrize("code", RULES)
def test_nothing_from_memory_is_authoritative(code):
    rule = RULES[code]
    if rule.source.evidence == "M":
        assert rule.label in (Label.ADVISORY, Label.SCREENING)
    if rule.label is Label.EXCEEDANCE:
        assert rule.source.standard
        assert rule.methods


def test_ambient_air_is_judged_outdoors_only():
    pack = PACKS["gb3095-2026"]
    assert pack.layer is Layer.NATIONAL
    for rule in pack.rules:
        assert set(rule.where.placements) == {Placement.OUTDOOR, Placement.PERIMETER}
        assert rule.valid_from >= date(2026, 3, 1)


# quantity, period, level-2 limit in transition and from 2031 on (GB 3095-2026 table 1)
AIR = [
    ("so2", "hour", 500, 150), ("so2", "day", 150, 50),
    ("no2", "hour", 200, 200), ("no2", "day", 80, 50),
    ("co", "hour", 10, 10), ("co", "day", 4, 4),
    ("o3", "hour", 200, 200), ("o3", "eight-hours", 160, 160),
    ("pm10", "day", 120, 100), ("pm2_5", "day", 60, 50),
]  # fmt: skip


@pytest.mark.parametrize(("quantity", "period", "transition", "final"), AIR)
def test_the_limits_of_air_are_those_of_the_standard_at_their_dates(
    quantity, period, transition, final
):
    rules = [r for r in PACKS["gb3095-2026"].rules if r.limit_of == f"{quantity}-{period}"]
    for day, limit in ((date(2030, 12, 31), transition), (date(2031, 1, 1), final)):
        valid = [
            r for r in rules
            if r.valid_from <= day and (r.valid_to is None or day <= r.valid_to)
        ]  # fmt: skip
        assert [r.levels[0].tree.limit.value for r in valid] == [limit]


@pytest.mark.parametrize("code", [c for c in RULES if c.startswith("gb3095-2026.")])
def test_completeness_is_asked_for_as_table_4_says(code):
    text = RULES[code].levels[0].text
    gas = not text.startswith("pm")
    if "over each hour" in text:
        assert "needing 45min" in text
    elif "8h means" in text:
        assert "needing 6 hours of 45min" in text
    else:
        assert ("needing 20 hours of 45min" if gas else "needing 20 hours >") in text


def test_irrigation_water_has_no_limits_that_the_standard_does_not_know():
    text = shipped_pack_text("gb5084-2021")
    rules = [line for line in text.splitlines() if line.strip().startswith("when:")]
    for invented in ("ammonia", "nitrogen", "phosphorus", "oxygen", "turbidity"):
        assert not any(invented in line for line in rules)
    proxy = RULES["gb5084-2021.salts-by-conductivity"]
    assert proxy.label is Label.SCREENING
    assert not RULES["gb5084-2021.temperature"].enabled


def test_the_equipment_pack_lets_the_larger_silence_hide_the_smaller():
    hides = {name: set(RULES[f"equipment.{name}"].hides) for name in (
        "house-silent", "gateway-silent", "device-silent", "sensor-silent")}  # fmt: skip
    assert hides["house-silent"] > hides["gateway-silent"] > hides["device-silent"]
    assert hides["device-silent"] > hides["sensor-silent"]
    groups = {RULES[f"equipment.{name}"].group for name in hides}
    assert groups == {"silence"}
