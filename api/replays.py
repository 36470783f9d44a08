"""Rules tried on stored readings: the live engine over history, bounded, and beside the event loop.

    question = Question(rules, since_us, until_us, sites=None, other=changed_rules)
    answer = await replay_stored(question, registry, surroundings, history, bounds)

There is one reading of history for both versions of the rules, and one engine for live and replay.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from alerts.binding import Binding, Surroundings, Unbound, bind
from alerts.conditions import compile_levels
from alerts.engine import Settings
from alerts.episode import Episode, RuleFailure
from alerts.errors import AlertsError
from alerts.replay import Comparison, Replay, Summary, compare, summarise, with_limit
from alerts.rule import Rule
from api.history import RawHistory
from api.stretches import stretches
from devices.document import nearest
from devices.registry import Registry


class ReplayTooLarge(Exception):
    """A replay has passed one of its bounds; says which, and what to ask for instead."""


class LimitRefused(Exception):
    """A rule that nobody knows, or a limit of it that cannot be changed; says why."""


class ReplayBusy(Exception):
    """Another replay is under way."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one replay may take; None does not bind."""

    readings: int | None = None
    seconds: float | None = None
    episodes: int = 500_000


@dataclass(frozen=True, slots=True)
class Question:
    """*rules* (and those of *other*, another version of them) on readings in [since, until).

    *sites*: only subjects at one of these; layers are settled as they are everywhere.
    """

    rules: tuple[Rule, ...]
    since_us: int
    until_us: int
    sites: frozenset[str] | None = None
    other: tuple[Rule, ...] | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """What one version of the rules has come to; *episodes* by rule, subject and start."""

    rules: tuple[Rule, ...]
    bindings: tuple[Binding, ...]
    unbound: tuple[Unbound, ...]
    episodes: tuple[Episode, ...]
    failures: Mapping[str, RuleFailure]


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished replay: how many *readings* of how many *series* were judged, in *took_s*."""

    first: Version
    other: Version | None
    since_us: int
    until_us: int
    series: int
    readings: int
    took_s: float


class Turnstile:
    """Lets one replay through at a time, whichever loop or thread it comes from."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Hold the place for the length of the block; raise `ReplayBusy` where it is taken."""
        if not self._lock.acquire(blocking=False):
            raise ReplayBusy
        try:
            yield
        finally:
            self._lock.release()


async def replay_stored(
    question: Question,
    registry: Registry,
    surroundings: Surroundings,
    history: RawHistory,
    bounds: Bounds | None = None,
) -> Answer:
    """Run the rules of *question* over stored readings.

    Everything that computes does so in a thread.  Raises `ReplayTooLarge` as soon as a bound is
    passed, and whatever *history* raises.
    """
    run = _Run(bounds or Bounds())
    versions = [question.rules] if question.other is None else [question.rules, question.other]
    settings = Settings(surroundings=surroundings)
    started = [
        await asyncio.to_thread(_Started, rules, registry, settings, question.sites)
        for rules in versions
    ]
    ids = {one for version in started for one in version.replay.series_ids}
    interval_s = {
        registry.series_ids[code]: series.interval_s
        for code, series in registry.series.items()
        if registry.series_ids.get(code) in ids
    }
    async for batch in stretches(history, interval_s, question.since_us, question.until_us):
        run.take(len(batch))
        for version in started:
            await asyncio.to_thread(version.replay.feed, batch)
            run.check(version.replay.episodes)
    finished = [await asyncio.to_thread(one.finish, question.until_us) for one in started]
    other = finished[1] if len(finished) > 1 else None
    return Answer(
        finished[0], other, question.since_us, question.until_us,
        len(ids), run.readings, run.elapsed_s,
    )  # fmt: skip


class _Started:
    """One version of the rules on its way through history."""

    def __init__(
        self,
        rules: tuple[Rule, ...],
        registry: Registry,
        settings: Settings,
        sites: frozenset[str] | None,
    ) -> None:
        self._rules = rules
        bindings, unbound = bind(rules, registry, settings.surroundings)
        self._bindings = tuple(b for b in bindings if sites is None or b.subject.site in sites)
        self._unbound = tuple(unbound)
        self.replay = Replay(rules, registry, settings, self._bindings)

    def finish(self, until_us: int) -> Version:
        episodes = self.replay.finish(until_us)
        failures = dict(self.replay.failures)
        return Version(self._rules, self._bindings, self._unbound, episodes, failures)


class _Run:
    """Counts what a replay takes, and ends it at its bounds."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._began_s = time.monotonic()
        self.readings = 0

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    def take(self, readings: int) -> None:
        self.readings += readings
        most = self._bounds.readings
        if most is not None and self.readings > most:
            raise ReplayTooLarge(f"more than {most} readings; ask for less time or fewer sites")

    def check(self, episodes: int) -> None:
        if episodes > self._bounds.episodes:
            most = self._bounds.episodes
            raise ReplayTooLarge(f"more than {most} alerts; the rules fire all the time")
        most_s = self._bounds.seconds
        if most_s is not None and self.elapsed_s > most_s:
            raise ReplayTooLarge(f"longer than {most_s:g} s; ask for less time or fewer sites")


# -- other limits, other versions


def with_limits(rules: Sequence[Rule], limits: Mapping[str, str]) -> tuple[Rule, ...]:
    """Return *rules* with other limits, by ``rule`` or ``rule:severity``, such as ``34 degC``.

    A rule may be named by its code or by its word within the pack.  Raises `LimitRefused` with
    the reason where one cannot be changed.
    """
    changed = {rule.code: rule for rule in rules}
    for name, limit in limits.items():
        word, _, severity = name.partition(":")
        code = find_rule(rules, word).code
        changed[code] = _changed(changed[code], severity, limit)
    return tuple(changed[rule.code] for rule in rules)


def find_rule(rules: Sequence[Rule], word: str) -> Rule:
    """Return the rule of this code, or the only one of this word within its pack.

    Raises `LimitRefused`, with the nearest code, where there is none or more than one.
    """
    found = [rule for rule in rules if word in (rule.code, rule.code.partition(".")[2])]
    if len(found) == 1:
        return found[0]
    if found:
        codes = ", ".join(rule.code for rule in found)
        raise LimitRefused(f"got {word!r}, expected one of {codes}")
    hint = nearest(word, [n for r in rules for n in (r.code, r.code.partition(".")[2])])
    near = f" (did you mean {hint}?)" if hint else ""
    raise LimitRefused(f"got {word!r}, expected the code of one of the rules{near}")


def _changed(rule: Rule, severity: str, limit: str) -> Rule:
    words = [level.severity.word for level in rule.levels]
    if not severity and len(words) > 1:
        raise LimitRefused(f"{rule.code} has levels; say which, as {rule.code}:{words[0]}")
    level = next((x for x in rule.levels if severity in ("", x.severity.word)), None)
    if level is None:
        raise LimitRefused(f"{rule.code} has no level {severity!r}, only {', '.join(words)}")
    try:
        changed = with_limit(rule, level.severity, limit)
        # Units, and on which side of the limit the clear level lies, show where it is compiled.
        compile_levels([(one.tree, one.for_us) for one in changed.levels])
        return changed
    except AlertsError as error:
        raise LimitRefused(f"the limit {limit!r} of {rule.code}: {error}") from error


@dataclass(frozen=True, slots=True)
class Difference:
    """What another version changes; *rule* is the earlier code, *other* the later, or empty."""

    rule: str
    other: str
    comparison: Comparison


def differences(first: Version, other: Version, until_us: int) -> list[Difference]:
    """Return how the rules of two versions differ on the same history.

    Rules correspond by their code, else by their word within the pack, else where either version
    has but one.
    """
    old, new = _by_rule(first.episodes), _by_rule(other.episodes)
    pairs = _pairs([r.code for r in first.rules], [r.code for r in other.rules])
    return [
        Difference(one, two, compare(old.get(one, []), new.get(two, []), until_us))
        for one, two in pairs
    ]


def _by_rule(episodes: Sequence[Episode]) -> dict[str, list[Episode]]:
    found: dict[str, list[Episode]] = defaultdict(list)
    for episode in episodes:
        found[episode.rule].append(episode)
    return found


def _pairs(old: Sequence[str], new: Sequence[str]) -> list[tuple[str, str]]:
    if len(old) == len(new) == 1:
        return [(old[0], new[0])]
    left = list(new)
    pairs = []
    for code in old:
        word = code.partition(".")[2]
        twin = next((c for c in left if c == code), "")
        twin = twin or next((c for c in left if c.partition(".")[2] == word), "")
        if twin:
            left.remove(twin)
        pairs.append((code, twin))
    return pairs + [("", code) for code in left]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of an answer: *summary* is None where the rule never fired, *bound* on how many
    subjects it was judged.
    """

    rule: Rule
    bound: int
    subject: str
    summary: Summary | None


def rows(version: Version, registry: Registry, until_us: int, per_subject: bool) -> list[Row]:
    """Return what came of every rule, the most frequent first; those that never fired last."""
    bound = Counter(binding.rule.code for binding in version.bindings)
    rules = {rule.code: rule for rule in version.rules}
    found = [
        Row(rules[one.rule], bound[one.rule], one.subject, one)
        for one in summarise(version.episodes, registry, until_us, per_subject)
    ]
    fired = {row.rule.code for row in found}
    silent = [Row(rule, bound[code], "", None) for code, rule in rules.items() if code not in fired]
    return found + silent
