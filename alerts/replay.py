"""Rules tried on history: the live engine over stored columns, and what it would have told.

    replay = Replay(rules, registry)
    for batch in history:            # rising in time; a year of one series is one array
        replay.feed(batch)
    episodes = replay.finish(until_us)
    for summary in summarise(episodes, registry): ...

There is no second engine: a replay is the engine with `now` taken from the readings.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from alerts.binding import Binding
from alerts.engine import Engine, Settings, chunks_by_time
from alerts.episode import Change, Episode, RuleFailure, Transition
from alerts.errors import AlertsError
from alerts.expression import Compare, parse_limit
from alerts.rule import Level, Rule, Severity, comparisons, replaced, same_unit
from alerts.schedule import sun_times
from devices.reading import Batch
from devices.registry import Registry

CHUNK_ROWS = 16_384  # small enough that all columns of a chunk stay in the processor's cache


class Replay:
    """One run over history; `failures` are rules that raised an error on the way.

    *bindings* are those to judge, where not all that `bind` finds.
    """

    def __init__(
        self,
        rules: Iterable[Rule],
        registry: Registry,
        settings: Settings | None = None,
        bindings: Sequence[Binding] | None = None,
    ) -> None:
        self._engine = Engine(rules, registry, settings, bindings)
        self._episodes: dict[str, Episode] = {}

    @property
    def failures(self) -> Mapping[str, RuleFailure]:
        """Rules that raised an error, by code."""
        return self._engine.failures

    @property
    def episodes(self) -> int:
        """How many there are so far."""
        return len(self._episodes)

    @property
    def series_ids(self) -> tuple[int, ...]:
        """The series whose history the rules look at."""
        codes = {code for b in self._engine.bindings for codes in b.leaves for code in codes}
        return tuple(sorted(self._engine.registry.series_ids[code] for code in codes))

    def feed(self, batch: Batch) -> None:
        """Take in a stretch of history, later than what came before."""
        for chunk in chunks_by_time(batch, CHUNK_ROWS):
            now_us = int(chunk.observed_at_us[-1])
            self._note(self._engine.feed(chunk, now_us))

    def finish(self, until_us: int) -> tuple[Episode, ...]:
        """Return all episodes, by rule, subject and start; *until_us* is the end of history."""
        grace_us = round(self._engine.settings.grace_s * 1e6)
        self._note(self._engine.advance(until_us + grace_us))
        found = self._episodes.values()
        return tuple(sorted(found, key=lambda e: (e.rule, e.subject, e.started_at_us)))

    def _note(self, news: Iterable[Transition]) -> None:
        for transition in news:
            if transition.change is Change.RETRACTED:
                self._episodes.pop(transition.episode.id, None)
            else:
                self._episodes[transition.episode.id] = transition.episode


def replay(
    rules: Iterable[Rule],
    registry: Registry,
    history: Batch,
    until_us: int,
    settings: Settings | None = None,
) -> tuple[Episode, ...]:
    """Return the episodes of *rules* on *history* (any order), up to *until_us*."""
    run = Replay(rules, registry, settings)
    run.feed(history)
    return run.finish(until_us)


@dataclass(frozen=True, slots=True)
class Summary:
    """How often a rule fired on a subject (or on all: *subject* is empty), and how long for.

    Durations in seconds from start to end; an open episode lasts until the end of history.  *day*
    and *night* count episodes by the sun where they started; None where the place is unknown.
    """

    rule: str
    subject: str
    episodes: int
    by_severity: Mapping[int, int]
    day: int | None
    night: int | None
    median_s: float
    longest_s: float
    total_s: float
    first_at_us: int
    last_at_us: int
    open: int
    held: int


def summarise(
    episodes: Iterable[Episode], registry: Registry, until_us: int, per_subject: bool = False
) -> list[Summary]:
    """Return one summary a rule, or one a rule and subject, the most frequent first."""
    grouped: dict[tuple[str, str], list[Episode]] = defaultdict(list)
    for episode in episodes:
        grouped[episode.rule, episode.subject if per_subject else ""].append(episode)
    out = [_summary(*key, members, registry, until_us) for key, members in grouped.items()]
    return sorted(out, key=lambda s: (-s.episodes, s.rule, s.subject))


def duration_s(episode: Episode, until_us: int) -> float:
    """Return how long *episode* lasted; up to *until_us* where it is open."""
    end_us = until_us if episode.resolved_at_us is None else episode.resolved_at_us
    return max(0, end_us - episode.started_at_us) / 1e6


def _summary(
    rule: str, subject: str, members: Sequence[Episode], registry: Registry, until_us: int
) -> Summary:
    lasted = [duration_s(episode, until_us) for episode in members]
    light = [_is_day(episode, registry) for episode in members]
    worst: dict[int, int] = defaultdict(int)
    for episode in members:
        worst[episode.worst] += 1
    known = None not in light
    return Summary(
        rule=rule,
        subject=subject,
        episodes=len(members),
        by_severity=dict(sorted(worst.items())),
        day=sum(bool(one) for one in light) if known else None,
        night=sum(not one for one in light) if known else None,
        median_s=statistics.median(lasted),
        longest_s=max(lasted),
        total_s=sum(lasted),
        first_at_us=min(e.started_at_us for e in members),
        last_at_us=max(e.started_at_us for e in members),
        open=sum(e.is_open for e in members),
        held=sum(any(s.kind.value == "held" for s in e.steps) for e in members),
    )


def _is_day(episode: Episode, registry: Registry) -> bool | None:
    site = registry.site.get(episode.site)
    if site is None or site.latitude is None or site.longitude is None:
        return None
    sun = sun_times(site.latitude, site.longitude, site.timezone)
    return bool(sun.is_day(np.array([episode.started_at_us], np.int64))[0])


# -- other limits, other versions


def with_limit(rule: Rule, severity: Severity, limit: str) -> Rule:
    """Return *rule* with another limit at one severity, such as ``34 degC``.

    The clear level moves by as much.  Raises `AlertsError` where the rule has no such level, or
    not exactly one comparison in it; `ConditionError` for a limit that makes no sense.
    """
    levels = list(rule.levels)
    for position, level in enumerate(levels):
        if level.severity is severity:
            levels[position] = _moved(level, limit)
            return replace(rule, levels=tuple(levels))
    raise AlertsError(f"{rule.code} has no level {severity.word}")


def _moved(level: Level, limit: str) -> Level:
    places = list(comparisons(level.tree))
    if len(places) != 1:
        raise AlertsError(f"{level.text!r} has {len(places)} comparisons; one can be moved")
    old = places[0]
    number = parse_limit(limit)
    new: Compare = replace(old, limit=number)
    if old.clear is not None:
        way_back = same_unit(old.clear, number) - same_unit(old.limit, number)
        new = replace(new, clear=replace(number, value=number.value + way_back))
    return replace(level, tree=replaced(level.tree, old, new), text=f"{level.text} [{limit}]")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changes from one version of rules to another on the same history.

    Episodes correspond where they overlap on one subject; *longer_s* is by how much the later
    version's episodes last longer in all.
    """

    kept: tuple[tuple[Episode, Episode], ...]
    lost: tuple[Episode, ...]
    gained: tuple[Episode, ...]
    longer_s: float


def compare(old: Sequence[Episode], new: Sequence[Episode], until_us: int) -> Comparison:
    """Return how *new* episodes differ from *old* ones, whatever their rules are called."""
    by_subject: dict[str, list[Episode]] = defaultdict(list)
    for episode in new:
        by_subject[episode.subject].append(episode)
    kept, lost, met = [], [], set()
    for episode in old:
        twins = [e for e in by_subject[episode.subject] if _overlap(episode, e, until_us)]
        if not twins:
            lost.append(episode)
        for twin in twins:
            kept.append((episode, twin))
            met.add(twin.id)
    gained = tuple(episode for episode in new if episode.id not in met)
    longer = sum(duration_s(e, until_us) for e in new) - sum(duration_s(e, until_us) for e in old)
    return Comparison(tuple(kept), tuple(lost), gained, longer)


def _overlap(one: Episode, other: Episode, until_us: int) -> bool:
    one_end = until_us if one.resolved_at_us is None else one.resolved_at_us
    other_end = until_us if other.resolved_at_us is None else other.resolved_at_us
    return one.started_at_us <= other_end and other.started_at_us <= one_end
