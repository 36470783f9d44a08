"""Rule tests in YAML: the notation, failures with their places, mistakes of the file."""

from __future__ import annotations

import math

import pytest

from alerts.rule import read_pack
from alerts.trial import notation, run_trials
from devices.errors import DocumentError
from devices.quality import Quality

RULES = read_pack(
    """
pack: demo
version: 1
rules:
  - {id: hot, when: air_temperature > 33 degC, for: 15min, hysteresis: 2 K,
     where: {placement: inside, crop: tomato}}
""",
    "demo.yaml",
).rules

# term, what it stands for
TERMS = [
    ("5", [5]),
    ("5x3", [5, 5, 5, 5]),  # as in Prometheus: the value and three more
    ("5+1x3", [5, 6, 7, 8]),
    ("5-1.5x2", [5, 3.5, 2]),
    ("-3+2x1", [-3, -1]),
    ("_", [None]),
    ("_x3", [None, None, None]),
    ("1e3 2.5", [1000, 2.5]),
    ("", []),
]


@pytest.mark.parametrize(("term", "values"), TERMS)
def test_the_notation_of_series(term, values):
    assert [value for value, _ in notation(term)] == values


def test_stale_is_a_device_without_a_value_and_an_exclamation_mark_a_bad_one():
    (stale, mark), (bad, quality), (good, nothing) = notation("stale 50! 51")
    assert math.isnan(stale)
    assert mark == Quality.MISSING
    assert (bad, quality) == (50.0, Quality.CALIBRATION)
    assert (good, nothing) == (51.0, 0)


@pytest.mark.parametrize("term", ["5y3", "x3", "5x", "5+x3", "_3", "--5", "stale!"])
def test_a_term_that_makes_no_sense_is_named(term):
    with pytest.raises(ValueError, match="values such as"):
        list(notation(f"1 {term}"))


TEST = """
tests:
  - name: a quarter of an hour
    rules: [hot]
    start: 2026-06-01T12:00:00+08:00
    interval: 1min
    place: {{crop: {crop}}}
    series:
      air_temperature: '30x5 36x30 25x10'
    expect:
      - {{rule: hot, severity: warning, started: 6min, fired: {fired}, resolved: 37min}}
"""


def test_what_comes_as_expected_is_no_failure():
    assert run_trials(TEST.format(crop="tomato", fired="20min"), "t.yaml", RULES) == []


def test_a_failure_says_what_was_expected_and_what_came_and_where():
    missed, extra = run_trials(TEST.format(crop="tomato", fired="21min"), "t.yaml", RULES)
    assert (missed.file, missed.line, missed.test) == ("t.yaml", 11, "a quarter of an hour")
    assert "fired: 21min" in missed.text
    assert "got {rule: demo.hot" in missed.text
    assert "fired: 20min" in missed.text
    assert extra.text.startswith("not expected")
    (nothing,) = run_trials(TEST.format(crop="lettuce", fired="20min"), "t.yaml", RULES)
    assert nothing.text.endswith("got nothing")


def test_a_failure_shows_when_an_episode_was_over_or_that_it_is_open():
    (missed, extra) = run_trials(TEST.format(crop="tomato", fired="21min"), "t.yaml", RULES)
    assert "started: 6min, fired: 20min, resolved: 37min}" in missed.text
    assert "open" not in extra.text
    still = TEST.format(crop="tomato", fired="20min").replace("36x30 25x10", "36x30")
    missed, extra = run_trials(still, "t.yaml", RULES)
    assert "started: 6min, fired: 20min, open: True}" in missed.text
    assert "resolved" not in extra.text


def test_what_is_expected_may_be_any_fact_of_an_episode():
    text = TEST.format(crop="tomato", fired="20min")
    for facts, fits in (
        ("{rule: demo.hot}", True),
        ("{rule: hot, peak: 36}", True),
        ("{rule: hot, peak: 36.1}", False),
        ("{rule: hot, open: false}", True),
        ("{rule: hot, open: true}", False),
        ("{rule: hot, severity: critical}", False),
        ("{rule: hot, subject: series:d1.air_temperature}", True),
        ("{rule: hot, subject: series:d2.air_temperature}", False),
        ("{rule: hot, resolved: 36min}", False),
        ("{rule: hot, started: 5min}", False),
    ):
        expect = f"    expect: [{facts}]\n"
        failures = run_trials(text.split("    expect:")[0] + expect, "t.yaml", RULES)
        assert (failures == []) is fits, facts


def test_the_crop_of_a_house_is_not_that_of_its_base():
    rules = read_pack(
        """
pack: demo
version: 1
rules:
  - {id: hot, when: air_temperature > 33 degC, where: {crop: tomato}}
""",
        "demo.yaml",
    ).rules
    text = """
tests:
  - name: outdoor air
    start: 2026-06-01T12:00:00+08:00
    interval: 1min
    place: {crop: tomato}
    series: {air_temperature@outdoor: '35x3', air_temperature: '20x3'}
"""
    assert run_trials(text, "t.yaml", rules) == []


@pytest.mark.parametrize(
    ("change", "key", "told"),
    [
        (("2026-06-01T12:00:00+08:00", "soon"), "tests[0].start", "a moment with its zone"),
        (("2026-06-01T12:00:00+08:00", "2026-06-01T12:00:00"), "tests[0].start", "with its zone"),
        (("air_temperature:", "air temperature:"), "tests[0].series.air temperature",
         "device/quantity.channel@placement"),
        (("air_temperature:", "the-weather-station-of-the-base/air_temperatur.top:"),
         "tests[0].series.the-weather-station-of-the-base/air_temperatur.top", "air_temperature"),
        (("tests:", "test:"), "test", "tests"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_what_was_expected(change, key, told):
    text = TEST.format(crop="tomato", fired="20min").replace(*change)
    with pytest.raises(DocumentError) as caught:
        run_trials(text, "t.yaml", RULES)
    mistake = next(m for m in caught.value.mistakes if m.key == key)
    assert told in f"{mistake.expected} {mistake.hint}"
    assert all(m.key.startswith(("test", "tests[0]")) for m in caught.value.mistakes)


def test_every_mistake_of_the_file_is_told_at_once():
    text = """
tests:
  - name: wrong
    rules: hott
    start: 2026-06-01T12:00:00
    interval: 1min
    series: {air_temperatur: '30'}
  - name: wrong too
    rules: hot
    start: 2026-06-01T12:00:00Z
    interval: 1min
    place: {timezone: Asia/Shangai}
    series: {co2: '3y'}
  - name: and this
    rules: hot
    start: 2026-06-01T12:00:00Z
    interval: 1min
    series: {co2: '3y', co2@insde: '1', ppfd: {value: '3'}}
    expect: [{rle: hot}, {rule: cold}]
"""
    with pytest.raises(DocumentError) as caught:
        run_trials(text, "t.yaml", RULES)
    found = [(m.line, m.key, m.hint) for m in caught.value.mistakes]
    assert found == [
        (5, "tests[0].start", ""),
        (12, "tests[1].place.timezone", "Asia/Shanghai"),
        (18, "tests[2].series.co2", ""),
        (18, "tests[2].series.co2@insde", ""),
        (18, "tests[2].series.ppfd.values", ""),
        (18, "tests[2].series.ppfd.value", "values"),
        (19, "tests[2].expect[0].rule", ""),
        (19, "tests[2].expect[0].rle", "rule"),
        (19, "tests[2].expect[1].rule", ""),
    ]


def test_a_few_letters_cannot_ask_for_billions_of_readings():
    one = """
  - name: much
    start: 2026-06-01T12:00:00+08:00
    interval: 1min
    series: {air_temperature: '20x%d'}
"""
    for text in ("tests:" + one % 10**12, "tests:" + (one % 200_000) * 2):
        with pytest.raises(DocumentError, match="at most 300000 moments"):
            run_trials(text, "tests.yaml", RULES)


def test_a_rule_about_one_house_is_tried_in_that_house():
    rules = read_pack(
        """
pack: own
version: 1
rules:
  - {id: hot, when: air_temperature > 33 degC, where: {site: house-7}}
""",
        "own.yaml",
    ).rules
    text = """
tests:
  - name: hot in house 7
    start: 2026-06-01T12:00:00+08:00
    interval: 1min
    %s
    series: {air_temperature: '30 35x3'}
    expect: %s
"""
    assert run_trials(text % ("place: {house: house-7}", "[{rule: hot}]"), "t", rules) == []
    assert run_trials(text % ("place: {}", "[]"), "t", rules) == []
    with pytest.raises(DocumentError, match="another code than that of the base"):
        run_trials(text % ("place: {house: base}", "[]"), "t", rules)
