"""``greenhouse alerts`` without a database: trials of packs, and what is refused in which words."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from firmware_sims.scenario import shipped_site_file
from greenhouse.cli import main
from greenhouse.pack_folder import PackFolder
from greenhouse.replay_report import time_text

PACK = """
pack: mine
version: 1
rules:
  - {id: warm, when: air_temperature > 28 degC, for: 5min}
"""
TRIALS = """
tests:
  - name: warm for ten minutes
    start: 2026-06-01T12:00:00+08:00
    interval: 1min
    series: {air_temperature: '20x2 29x9 20x3'}
    expect:
      - {rule: warm, started: 3min, fired: 7min, resolved: 13min}
"""


def _run(*words):
    return CliRunner().invoke(main, ["alerts", *map(str, words)])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "trials").mkdir()
    (tmp_path / "mine.yaml").write_text(PACK, "utf-8")
    (tmp_path / "trials" / "mine.yaml").write_text(TRIALS, "utf-8")
    return tmp_path


def test_the_trials_of_all_shipped_packs_come_out():
    result = _run("test")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("12 packs, ")
    assert result.output.endswith(" tests: nothing wrong\n")


@pytest.mark.parametrize("name", ["mine.yaml", "trials/mine.yaml"])
def test_trials_are_found_from_the_pack_and_the_pack_from_its_trials(folder, name):
    result = _run("test", folder / name)
    assert result.exit_code == 0, result.output
    assert result.output == "1 packs, 1 tests: nothing wrong\n"


def test_a_test_that_does_not_come_out_says_where_what_was_expected_and_what_came(folder):
    file = folder / "trials" / "mine.yaml"
    file.write_text(TRIALS.replace("fired: 7min", "fired: 8min"), "utf-8")
    result = _run("test", folder / "mine.yaml")
    assert result.exit_code == 1
    assert f"{file}:8 warm for ten minutes: expected {{rule: warm," in result.output
    assert "fired: 8min, resolved: 13min}, got {rule: mine.warm" in result.output
    assert "1 packs, 1 tests: 2 did not come out" in result.output  # one missed, one too many


def test_mistakes_of_files_are_named_and_end_with_two(folder):
    (folder / "mine.yaml").write_text(PACK.replace("degC", "ppm"), "utf-8")
    result = _run("test", folder / "mine.yaml", folder / "gone.yaml")
    assert result.exit_code == 2
    assert f"{folder / 'mine.yaml'}:5:" in result.output
    assert "gone.yaml: cannot be read" in result.output
    assert "2 mistakes in the files" in result.output


def test_a_pack_without_trials_says_so(folder):
    (folder / "trials" / "mine.yaml").unlink()
    result = _run("test", folder / "mine.yaml")
    assert result.exit_code == 0
    assert "mine.yaml: no trials" in result.output


def test_changed_trials_of_a_shipped_pack_are_run_on_it(tmp_path):
    (tmp_path / "trials").mkdir()
    file = tmp_path / "trials" / "tomato.yaml"
    text = TRIALS.replace("warm, started", "hot, started").replace(
        "interval", "rules: [hot]\n    interval"
    )
    file.write_text(text, "utf-8")
    result = _run("test", file)
    assert result.exit_code == 1
    assert "got nothing" in result.output  # 29 degrees are not too hot for tomatoes


def test_own_packs_of_a_site_file_are_tried_beside_the_shipped_ones(tmp_path):
    site_file = tmp_path / "site.yaml"
    site_file.write_text(shipped_site_file("small-base"), "utf-8")
    PackFolder.of(site_file).put("mine", PACK, TRIALS)
    PackFolder.of(site_file).put("yours", PACK, None)
    result = _run("test", "--site-file", site_file)
    assert result.exit_code == 2
    assert "pack: got 'mine', expected yours, the name it lies under" in result.output
    PackFolder.of(site_file).remove("yours")
    result = _run("test", "--site-file", site_file)
    assert result.output.startswith("13 packs, "), result.output
    assert result.exit_code == 0


# words, what is said
WRONG = [
    (["gone.yaml"], "expected a file of rules, or the name of a shipped pack"),
    (["tomatto"], "did you mean tomato?"),
    (["mine.yaml", "--since", "yesterday"], "--since: got 'yesterday'"),
    (["mine.yaml", "--since", "2100-01-01T00:00:00Z"], "a moment before the end and before now"),
    (["mine.yaml", "--until", "2026-01-01"], "a day alone says neither hour nor zone"),
    (["mine.yaml", "--limit", "warm"], "such as hot=34degC"),
    (["mine.yaml", "--limit", "worm=30degC"], "did you mean warm?"),
    (["mine.yaml", "--limit", "warm=30ppm"], "the limit '30ppm' of mine.warm"),
    (["mine.yaml", "--rule", "worm"], "--rule: got 'worm'"),
    (["mine.yaml", "--limit", "warm=30degC", "--compare", "tomato"], "at most one of them"),
    (["broken.yaml"], "1 mistake in"),
    (["latin.yaml"], "cannot be read"),
]


@pytest.mark.parametrize(("words", "says"), WRONG)
def test_a_replay_that_cannot_be_meant_is_refused_before_the_database_is_asked(
    folder, monkeypatch, words, says
):
    (folder / "broken.yaml").write_text(PACK.replace("degC", "ppm"), "utf-8")
    (folder / "latin.yaml").write_bytes(b"\xff\xfe\xfa")
    monkeypatch.chdir(folder)
    result = _run("replay", *words)
    assert result.exit_code == 2, result.output
    assert says in result.output


def test_a_replay_without_a_database_ends_with_one_line(folder):
    result = CliRunner().invoke(
        main,
        ["alerts", "replay", str(folder / "mine.yaml")],
        env={"GREENHOUSE_DSN": "host=127.0.0.1 port=9 connect_timeout=1"},
    )
    assert result.exit_code == 1
    assert result.output.startswith("the database: ")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (90, "1.5 min"), (16_632, "4.62 h"), (918_000, "10.6 d")],
)
def test_a_length_of_time_is_told_in_the_largest_unit_that_it_fills(seconds, text):
    assert time_text(seconds) == text
