"""Alerts in words: every shipped rule can be said in both languages."""

from __future__ import annotations

import pytest

from alerts.episode import Episode, Step, StepKind
from alerts.message import describe
from alerts.pack_library import shipped_pack, shipped_pack_names
from alerts.rule import read_pack
from devices.errors import DocumentError
from tests.alerts.places import MINUTE, SECOND, base

START = 1_767_225_600 * SECOND  # 2026-01-01T08:00 in China


def episode(severity=2, value=34.56, end=None):
    steps = [Step(START + 15 * MINUTE, StepKind.FIRED, severity, value, value, 0)]
    if end is not None:
        steps.append(Step(START + end, StepKind.RESOLVED, 0, 30.0, value, 0))
    return Episode("e", "crop.hot", 1, "series:c2.air_temperature", "h2", START, tuple(steps))


def rule(message, condition="levels: {warning: {when: air_temperature > 33 degC}, "
         "critical: {when: air_temperature > 40 degC}}"):  # fmt: skip
    text = f"""
pack: crop
version: 1
rules:
  - id: hot
    name: {{zh: 高温, en: Too hot}}
    {condition}
    message: {{zh: "{message}", en: "{message}"}}
"""
    return read_pack(text, "x").rules[0]


# message, severity, language, what is said
SAID = [
    ("{value} {unit} in {site}", 2, "en", "34.6 °C in h2"),
    ("{limit}", 2, "en", "33 degC"),
    ("{limit}", 3, "en", "40 degC"),  # of the level that fires
    ("{severity} {rule}", 3, "zh", "严重 高温"),
    ("{subject} {started}", 2, "en", "c2 · Air temperature 2026-01-01 08:00"),
    ("{subject}", 2, "zh", "c2 空气温度"),
    ("{duration}", 2, "en", "2 h 5 min"),
    ("{duration}", 2, "zh", "2 小时 5 分钟"),
]


@pytest.mark.parametrize(("message", "severity", "language", "said"), SAID)
def test_fields_are_filled_in(message, severity, language, said):
    now = START + 125 * MINUTE
    assert describe(rule(message), episode(severity), base(), language, now) == said


@pytest.mark.parametrize("field", ["{value:>999999999}", "{value!r}", "{}", "{0}", "{site.code}"])
def test_a_message_takes_its_fields_as_they_are(field):
    with pytest.raises(DocumentError, match=r"message\.zh"):
        rule(field)


def test_a_band_shows_both_limits_and_an_ended_alert_its_own_length():
    band = rule("{limit} {duration}", "when: air_temperature outside 15..25 degC")
    said = describe(band, episode(end=20 * MINUTE), base(), "en", START + 900 * MINUTE)
    assert said == "15–25 degC 20 min"


def test_a_rule_without_a_text_says_its_name():
    assert describe(rule(""), episode(), base(), "zh", START) == "高温"


@pytest.mark.parametrize("name", shipped_pack_names())
@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_shipped_rule_can_be_said(name, language):
    for one in shipped_pack(name).rules:
        for value in (12.3, None):
            said = describe(one, episode(3, value), base(), language, START + 90 * MINUTE)
            assert said
            assert "{" not in said
