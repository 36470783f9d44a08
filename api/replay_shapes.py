"""What a replay found, as JSON."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from alerts.episode import Episode
from alerts.message import unit_of
from alerts.replay import duration_s
from alerts.rule import Rule, Severity
from api.alert_shapes import (
    FailureShape,
    SeverityWord,
    UnboundShape,
    failure_shape,
    named,
    unbound_shape,
)
from api.instants import format_instant
from api.replays import Answer, Difference, Row, Version, differences, rows
from api.schemas import NameShape
from devices.registry import Registry

_MOST_UNBOUND = 200
_MOST_MOMENTS = 100


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ReplayRuleShape(_Shape):
    """How often a rule would have fired, on all subjects or on one; durations from start to end."""

    rule: str
    name: NameShape
    subject: str = Field(description="empty: on all of them")
    bound: int = Field(description="subjects that the rule was judged on")
    episodes: int
    by_severity: dict[str, int]
    day: int | None = Field(description="that began by day; null where a place is unknown")
    night: int | None
    median_s: float | None = Field(description="null where it never fired")
    longest_s: float | None
    total_s: float
    first_at: str | None
    last_at: str | None
    open: int
    held: int


class ReplayEpisodeShape(_Shape):
    """An alert that there would have been."""

    id: str
    rule: str
    subject: str
    site: str
    worst: SeverityWord
    started_at: str
    fired_at: str
    resolved_at: str | None
    duration_s: float
    value: float | None
    peak: float | None
    unit: str
    coverage: float


class ReplayVersionShape(_Shape):
    """What came of one version of the rules."""

    bindings: int
    episode_count: int
    rules: list[ReplayRuleShape]
    unbound: list[UnboundShape]
    failures: list[FailureShape]


class DifferenceShape(_Shape):
    """What the other version changes; alerts correspond where they overlap on one subject."""

    rule: str
    other: str
    kept: int
    lost: int
    gained: int
    longer_s: float
    lost_at: list[str]
    gained_at: list[str]


class ReplayShape(ReplayVersionShape):
    """A replay of rules on stored readings in [since, until)."""

    since: str
    until: str
    series: int
    readings: int
    took_s: float
    episodes: list[ReplayEpisodeShape] = Field(description="the newest first, as many as asked for")
    other: ReplayVersionShape | None = Field(description="with changed limits, or the other text")
    differences: list[DifferenceShape]


def replay_shape(
    answer: Answer, registry: Registry, per_subject: bool, most_episodes: int
) -> ReplayShape:
    """Return *answer* as the API tells it, with the newest *most_episodes* one by one."""
    first, until_us = answer.first, answer.until_us
    newest = sorted(first.episodes, key=lambda e: (-e.started_at_us, e.id))[:most_episodes]
    known = {rule.code: rule for rule in first.rules}
    found = [] if answer.other is None else differences(first, answer.other, until_us)
    return ReplayShape(
        **_version(first, registry, until_us, per_subject),
        since=format_instant(answer.since_us),
        until=format_instant(until_us),
        series=answer.series,
        readings=answer.readings,
        took_s=round(answer.took_s, 3),
        episodes=[_episode(one, known[one.rule], until_us) for one in newest],
        other=None
        if answer.other is None
        else ReplayVersionShape(**_version(answer.other, registry, until_us, per_subject)),
        differences=[_difference(one) for one in found],
    )


def _version(
    version: Version, registry: Registry, until_us: int, per_subject: bool
) -> dict[str, object]:
    return {
        "bindings": len(version.bindings),
        "episode_count": len(version.episodes),
        "rules": [_row(row) for row in rows(version, registry, until_us, per_subject)],
        "unbound": [unbound_shape(one) for one in version.unbound[:_MOST_UNBOUND]],
        "failures": [failure_shape(one) for one in version.failures.values()],
    }


def _row(row: Row) -> ReplayRuleShape:
    one = row.summary
    severities = one.by_severity if one else {}
    return ReplayRuleShape(
        rule=row.rule.code,
        name=named(row.rule.name, row.rule.code),
        subject=row.subject,
        bound=row.bound,
        episodes=one.episodes if one else 0,
        by_severity={Severity(number).word: times for number, times in severities.items()},
        day=one.day if one else 0,
        night=one.night if one else 0,
        median_s=one.median_s if one else None,
        longest_s=one.longest_s if one else None,
        total_s=one.total_s if one else 0.0,
        first_at=format_instant(one.first_at_us) if one else None,
        last_at=format_instant(one.last_at_us) if one else None,
        open=one.open if one else 0,
        held=one.held if one else 0,
    )


def _episode(episode: Episode, rule: Rule, until_us: int) -> ReplayEpisodeShape:
    end_us = episode.resolved_at_us
    return ReplayEpisodeShape(
        id=episode.id,
        rule=episode.rule,
        subject=episode.subject,
        site=episode.site,
        worst=Severity(episode.worst).word,
        started_at=format_instant(episode.started_at_us),
        fired_at=format_instant(episode.fired_at_us),
        resolved_at=None if end_us is None else format_instant(end_us),
        duration_s=duration_s(episode, until_us),
        value=episode.value,
        peak=episode.peak,
        unit=unit_of(rule),
        coverage=episode.coverage(until_us),
    )


def _difference(one: Difference) -> DifferenceShape:
    comparison = one.comparison
    lost = [format_instant(e.started_at_us) for e in comparison.lost]
    gained = [format_instant(e.started_at_us) for e in comparison.gained]
    return DifferenceShape(
        rule=one.rule,
        other=one.other,
        kept=len({old.id for old, _ in comparison.kept}),
        lost=len(lost),
        gained=len(gained),
        longer_s=comparison.longer_s,
        lost_at=sorted(lost)[:_MOST_MOMENTS],
        gained_at=sorted(gained)[:_MOST_MOMENTS],
    )
