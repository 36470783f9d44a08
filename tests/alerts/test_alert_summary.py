"""What is made of a replay: summaries by the sun, the same rule with other limits, comparisons."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alerts.episode import Episode, Step, StepKind, episode_id
from alerts.errors import AlertsError
from alerts.replay import Replay, compare, duration_s, summarise, with_limit
from alerts.rule import Severity
from devices.site import SiteKind
from tests.alerts import places
from tests.alerts.places import HOUR, MINUTE, SECOND
from tests.alerts.worlds import pack_of

NOON = 1_780_286_400 * SECOND  # 2026-06-01T12:00 in China
END = NOON + 24 * HOUR


def episode(start, end, severity=2, rule="t.r0", subject="series:c1.air_temperature.a", **more):
    """An episode from *start* to *end* (None: open), minutes after noon."""
    started = NOON + start * MINUTE
    steps = [Step(started, StepKind.FIRED, severity, 31.0, 31.0, 0)]
    if more.pop("held", False):
        steps.append(Step(started + MINUTE, StepKind.HELD, severity, None, 31.0, 0))
    if end is not None:
        steps.append(Step(NOON + end * MINUTE, StepKind.RESOLVED, 0, 20.0, 31.0, 0))
    site = more.get("site", "h1")
    key = episode_id(rule, subject, started)
    return Episode(key, rule, 1, subject, site, started, tuple(steps))


def test_a_summary_counts_by_severity_and_by_the_sun_where_they_started():
    episodes = [
        episode(0, 30),
        episode(60, 70, severity=3),
        episode(12 * 60, 12 * 60 + 2),  # at midnight
        episode(23 * 60, None, held=True),  # open until the end of history
    ]
    (summary,) = summarise(episodes, places.base(), END)
    assert (summary.rule, summary.subject, summary.episodes) == ("t.r0", "", 4)
    assert summary.by_severity == {2: 3, 3: 1}
    assert (summary.day, summary.night) == (3, 1)
    assert (summary.median_s, summary.longest_s, summary.total_s) == (20 * 60, 3600, 6120)
    assert (summary.first_at_us, summary.last_at_us) == (NOON, NOON + 23 * HOUR)
    assert (summary.open, summary.held) == (1, 1)


def test_the_most_frequent_come_first_and_subjects_can_be_told_apart():
    other = "series:c1.air_temperature.b"
    episodes = [
        episode(0, 1, rule="t.r1"),
        episode(0, 1),
        episode(5, 6),
        episode(5, 7, subject=other),
        episode(9, 10, rule="t.a"),
    ]
    by_rule = summarise(episodes, places.base(), END)
    assert [(s.rule, s.episodes) for s in by_rule] == [("t.r0", 3), ("t.a", 1), ("t.r1", 1)]
    by_subject = summarise(episodes, places.base(), END, per_subject=True)
    assert [(s.rule, s.subject[-1], s.episodes) for s in by_subject] == [
        ("t.r0", "a", 2), ("t.a", "a", 1), ("t.r0", "b", 1), ("t.r1", "a", 1),
    ]  # fmt: skip


@pytest.mark.parametrize("place", [(None, None), (38.9, None), (None, 100.4)])
def test_without_a_place_nobody_knows_day_from_night(place):
    registry = places.registry([places.site("h1", SiteKind.GREENHOUSE, None, at=place)], [])
    (summary,) = summarise([episode(0, 30), episode(40, 50, site="gone")], registry, END)
    assert (summary.day, summary.night) == (None, None)
    (summary,) = summarise([episode(0, 30), episode(40, 50, site="gone")], places.base(), END)
    assert (summary.day, summary.night) == (None, None)


def test_an_episode_lasts_until_it_is_over_or_history_ends():
    assert duration_s(episode(5, 7), END) == 120.0
    assert duration_s(episode(5, None), NOON + 8 * MINUTE) == 180.0
    assert duration_s(episode(5, None), NOON) == 0.0  # it begins after the end


# -- other limits


def rule_of(keys):
    (rule,) = pack_of([keys]).rules
    return rule


@pytest.mark.parametrize(
    ("keys", "limit", "moved", "clear"),
    [
        ("when: co2 > 900 ppm", "1000 ppm", 1000.0, None),
        ("when: co2 > 900 ppm clear 850 ppm", "1000 ppm", 1000.0, 950.0),
        ("when: air_temperature > 30 degC clear 28 degC", "95 degF", 95.0, 91.4),
        ("when: co2 < 300 ppm, hysteresis: 20 ppm", "200 ppm", 200.0, 220.0),
    ],
)
def test_another_limit_takes_the_clear_level_with_it(keys, limit, moved, clear):
    rule = rule_of(keys)
    level = with_limit(rule, Severity.WARNING, limit).levels[0]
    assert level.tree.limit.value == moved
    assert (level.tree.clear and level.tree.clear.value) == (clear and pytest.approx(clear))
    assert level.text.endswith(f"[{limit}]")
    assert replace(level, tree=rule.levels[0].tree, text=rule.levels[0].text) == rule.levels[0]


def test_another_limit_of_one_severity_leaves_the_others_alone():
    rule = rule_of("levels: {warning: {when: any of co2 > 900 ppm}, critical: {when: co2 > 2 ppm}}")
    other = with_limit(rule, Severity.WARNING, "1000 ppm")
    assert other.levels[0].tree.compare.limit.value == 1000.0
    assert other.levels[1] == rule.levels[1]


def test_a_limit_that_is_not_there_cannot_be_moved():
    rule = rule_of("when: co2 > 900 ppm")
    with pytest.raises(AlertsError, match=r"t\.r0 has no level critical"):
        with_limit(rule, Severity.CRITICAL, "3 ppm")
    for keys, count in (("when: no data for 3 intervals", 0),
                        ("when: co2 > 900 ppm and co2 < 950 ppm", 2)):  # fmt: skip
        with pytest.raises(AlertsError, match=f"has {count} comparisons"):
            with_limit(rule_of(keys), Severity.WARNING, "3 ppm")


# -- two versions on the same history


def overlapping(one, other):
    comparison = compare([one], [other], END)
    assert bool(comparison.kept) is not bool(comparison.lost)
    assert bool(comparison.kept) is not bool(comparison.gained)
    return bool(comparison.kept)


@pytest.mark.parametrize(
    ("one", "other", "kept"),
    [
        ((0, 10), (5, 20), True),
        ((0, 10), (10, 20), True),  # they touch
        ((0, 10), (11, 20), False),
        ((0, None), (11, 20), True),  # one is open still
        ((12, None), (0, 11), False),
        ((0, None), (11, None), True),
        ((0, 30), (5, 6), True),  # one within the other
    ],
)
def test_episodes_correspond_where_they_overlap(one, other, kept):
    assert overlapping(episode(*one), episode(*other)) is kept
    assert overlapping(episode(*other), episode(*one)) is kept


def test_a_comparison_says_what_is_kept_lost_gained_and_longer():
    old = [episode(0, 10), episode(20, 30), episode(40, 50)]
    new = [
        episode(1, 9, rule="t.new"),
        episode(22, 24, rule="t.new"),
        episode(26, 38, rule="t.new"),
        episode(40, 50, rule="t.new", subject="series:c2.air_temperature"),
    ]
    comparison = compare(old, new, END)
    assert comparison.kept == ((old[0], new[0]), (old[1], new[1]), (old[1], new[2]))
    assert comparison.lost == (old[2],)
    assert comparison.gained == (new[3],)
    assert comparison.longer_s == 120.0


def test_a_replay_asks_for_the_series_its_rules_look_at_and_no_others():
    rules = pack_of([
        "when: air_temperature > 30 degC, where: {site: h2, placement: inside}",
        "when: solution_ec > 3 dS/m and valve_state == 1",
    ]).rules  # fmt: skip
    assert Replay(rules, places.base()).series_ids == (4, 8, 9)
