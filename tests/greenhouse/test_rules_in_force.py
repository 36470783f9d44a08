"""Which packs a site file puts in force, what is wrong with them, and what they are judged on."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from alerts.engine import Engine, Settings
from alerts.pack_library import shipped_pack_names
from alerts.rule import read_pack
from devices.registry import Registry
from greenhouse.alerting.rules import (
    LoadedRules,
    RuleSource,
    build,
    pack_names,
    rule_use,
    surroundings,
)
from greenhouse.cli import main
from greenhouse.pack_folder import PackFolder
from greenhouse.site_files import read_site_files

SITE = """
version: 1
{packs}
sites:
  - code: b
    kind: base
    sites:
      - {{code: h1, kind: greenhouse{house}}}
broker: {{host: localhost}}
devices:
  - {{code: c, site: h1, series: [{{quantity: air_temperature, tags: [canopy]}}]}}
"""
OWN = """
pack: own
version: 1
layer: base
name: {en: Own}
rules:
  - {id: hot, when: air_temperature > 30 degC, where: {crop: celery, tags: canopy}}
  - {id: acid, when: solution_ph < 5, enabled: true}
  - {id: off, when: air_temperature > 90 degC, enabled: false}
"""


def written(folder: Path, packs: str = "", house: str = "", own: str | None = None) -> Path:
    file = folder / "site.yaml"
    file.write_text(SITE.format(packs=packs, house=house), "utf-8")
    if own is not None:
        (folder / "site.d" / "packs").mkdir(parents=True)
        (folder / "site.d" / "packs" / "own.yaml").write_text(own, "utf-8")
    return file


def checked(file: Path):
    return CliRunner().invoke(main, ["check", str(file)])


def test_without_a_word_the_common_packs_and_those_of_the_crops_are_in_force(tmp_path):
    names = pack_names(read_site_files(written(tmp_path, house=", crop: tomato")))
    assert set(names) == {
        "climate", "equipment", "gb3095-2026", "gb5084-2021", "gb15618-2018", "tomato",
    }  # fmt: skip
    assert set(names) <= set(shipped_pack_names())
    planted = ", crop: tomato, planting: {crop: pepper}"
    assert {"tomato", "pepper"} <= set(
        pack_names(read_site_files(written(tmp_path, house=planted)))
    )
    assert pack_names(read_site_files(written(tmp_path, packs="packs: []"))) == ()


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"packs": "packs: [climat]"}, ("site.yaml:3:", "packs[0]", "did you mean 'climate'?")),
        (
            {"house": ", planting: {crop: tomatoe}"},
            ("planting.crop", "did you mean 'tomato'?"),
        ),
        ({"own": "pack: other\nversion: 1\nrules: []\n"}, ("own.yaml",)),
        ({"own": OWN.replace("30 degC", "30 kPa")}, ("own.yaml:7:", "rules[0].when")),
    ],
)
def test_check_names_what_is_wrong_with_packs_and_crops(tmp_path, parts, words):
    result = checked(written(tmp_path, **parts))
    assert result.exit_code == 2
    for word in words:
        assert word in result.output


def test_a_crop_of_an_own_pack_is_a_crop(tmp_path):
    file = written(tmp_path, packs="packs: [climate]", house=", planting: {crop: celery}", own=OWN)
    result = checked(file)
    assert result.exit_code == 0
    assert "own 1 of 2 (nothing is judged by own.acid)" in result.output
    use = {one.pack: one for one in rule_use(read_site_files(file), PackFolder.of(file))}
    assert use["own"].idle == ("own.acid",)
    assert not use["climate"].is_own
    assert 0 < use["climate"].used < use["climate"].used + len(use["climate"].idle)


def test_tags_and_plantings_reach_the_rules(tmp_path):
    house = ", planting: {crop: celery, stages: [{name: late, on: 2026-01-01}]}"
    text = OWN.replace("tags: canopy}", "tags: canopy}, schedule: {stage: late}")
    file = written(tmp_path, packs="packs: []", house=house, own=text)
    site_file = read_site_files(file)
    source = RuleSource.of(site_file, PackFolder.of(file))
    registry = Registry(
        site_file.registry.sites, site_file.registry.devices, {"c.air_temperature": 1}
    )
    settings = Settings(surroundings=surroundings(site_file.growing))
    built = build(source.load(), registry, settings, 0)
    assert [b.subject.key for b in built.engine.bindings] == ["series:c.air_temperature"]
    assert built.all_failures() == {}


def test_an_own_pack_that_is_broken_is_left_out_and_the_others_go_on(tmp_path):
    file = written(tmp_path, packs="packs: [climate]", own="pack: [")
    loaded = RuleSource.of(read_site_files(file), PackFolder.of(file)).load()
    assert [pack.code for pack in loaded.packs] == ["climate"]
    assert len(loaded.mistakes) == 1


def test_a_rule_that_cannot_be_built_is_told_and_stops_no_other(tmp_path, monkeypatch):
    file = written(tmp_path, packs="packs: []", own=OWN)
    site_file = read_site_files(file)
    registry = Registry(
        site_file.registry.sites, site_file.registry.devices, {"c.air_temperature": 1}
    )
    pack = read_pack(OWN.replace("crop: celery, ", ""), "own.yaml")
    honest = Engine.__init__

    def fails(self, rules, *others):
        rules = list(rules)
        if any(rule.code == "own.acid" for rule in rules):
            raise ZeroDivisionError("by design")
        honest(self, rules, *others)

    monkeypatch.setattr(Engine, "__init__", fails)
    settings = Settings(surroundings=surroundings(site_file.growing))
    built = build(LoadedRules((pack,)), registry, settings, 7)
    assert list(built.failures) == ["own.acid"]
    assert "by design" in built.failures["own.acid"].reason
    assert [b.rule.code for b in built.engine.bindings] == ["own.hot"]
