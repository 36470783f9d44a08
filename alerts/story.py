"""The story of one binding: its episodes as they unfold, and what changes when it is told anew.

Every step makes a new version of an episode, and all versions are kept until no late reading can
reach them.  So going back in time is forgetting the versions after a moment, and what late data
changed is the difference between two lists of versions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from alerts.binding import Binding
from alerts.episode import Change, Episode, Step, StepKind, Transition, episode_id
from alerts.lanes import Happening


@dataclass(slots=True)
class Story:
    """*versions*: each episode after each of its steps, in the order of measured time."""

    binding: Binding
    gap_us: int
    versions: list[Episode] = field(default_factory=list)

    @property
    def last(self) -> Episode | None:
        """The newest version of the newest episode."""
        return self.versions[-1] if self.versions else None

    @property
    def episodes(self) -> list[Episode]:
        """The newest version of each episode, oldest first."""
        return list({version.id: version for version in self.versions}.values())

    def happen(self, happening: Happening) -> None:
        """Take in what the state machine found at one sample."""
        if happening.gap_from_us is not None:
            last = self._open_one()
            if not last.is_held:
                self.hold(happening.gap_from_us + self.gap_us)
            self._step(StepKind.RETURNED, happening, last.severity)
        if happening.opened:
            self.versions.append(self._opened(happening))
        elif happening.was_open and not happening.is_open:
            self._step(StepKind.RESOLVED, happening, 0)
        elif happening.severity != happening.severity_before:
            self._step(StepKind.SEVERITY, happening, happening.severity)

    def hold(self, at_us: int) -> None:
        """Note that the open episode has been without a sample for too long since *at_us*."""
        last = self._open_one()
        step = Step(at_us, StepKind.HELD, last.severity, None, last.peak, last.unobserved_us)
        self.versions.append(replace(last, steps=(*last.steps, step)))

    def rewind(self, settled_us: int) -> None:
        """Forget every step after *settled_us*, and a holding that lasts until then."""
        self.versions = [v for v in self.versions if v.steps[-1].at_us <= settled_us]
        if self.versions and self.versions[-1].is_held:
            self.versions.pop()

    def settle(self, settled_us: int) -> None:
        """Let go of episodes that were over at *settled_us*: nothing can change them."""
        over = {
            v.id for v in self.versions if v.resolved_at_us is not None
            and v.resolved_at_us <= settled_us
        }  # fmt: skip
        self.versions = [v for v in self.versions if v.id not in over]

    def _open_one(self) -> Episode:
        last = self.last
        if last is None or not last.is_open:
            raise AssertionError(
                f"{self.binding.rule.code} of {self.binding.subject.key} has no open episode"
            )
        return last

    def _opened(self, happening: Happening) -> Episode:
        rule, subject = self.binding.rule, self.binding.subject
        return Episode(
            id=episode_id(rule.code, subject.key, happening.start_us),
            rule=rule.code,
            rule_version=rule.version,
            subject=subject.key,
            site=subject.site,
            started_at_us=happening.start_us,
            steps=(_step_of(StepKind.FIRED, happening, happening.severity),),
        )

    def _step(self, kind: StepKind, happening: Happening, severity: int) -> None:
        last = self._open_one()
        step = _step_of(kind, happening, severity)
        self.versions.append(replace(last, steps=(*last.steps, step)))


def _step_of(kind: StepKind, happening: Happening, severity: int) -> Step:
    value, peak = _known(happening.value), _known(happening.peak)
    return Step(happening.at_us, kind, severity, value, peak, happening.lost_us)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def news_of_steps(versions: Iterable[Episode], now_us: int, known_us: int) -> Iterator[Transition]:
    """Yield a transition for each of *versions*; what lies at or before *known_us* is revised."""
    for version in versions:
        step = version.steps[-1]
        yield Transition(
            Change(step.kind.value), version, step.at_us, now_us, revised=step.at_us <= known_us
        )


def news_of_revision(
    old: Sequence[Episode], new: Sequence[Episode], now_us: int, known_us: int
) -> list[Transition]:
    """Return what has to be said when the versions *old* turn out to be *new*.

    *known_us* is how far measured time had been judged when *old* was said.  ``page`` is set where
    an episode that was said to be over is open; who is woken is for the caller to decide.
    """
    before, after = _by_id(old), _by_id(new)
    gone = [before[key][-1] for key in before if key not in after]
    out = [
        Transition(Change.RETRACTED, episode, episode.started_at_us, now_us, revised=True)
        for episode in gone
    ]
    for key, versions in after.items():
        told = before.get(key, [])
        if versions[: len(told)] == told:
            news = list(news_of_steps(versions[len(told) :], now_us, known_us))
            if news and not told:
                news[0] = replace(news[0], replaces=_overlapped(versions[-1], gone))
            out += news
        elif versions[-1] != told[-1]:
            at_us = _first_difference_us(told[-1].steps, versions[-1].steps)
            reopened = versions[-1].is_open and not told[-1].is_open
            out.append(
                Transition(Change.REVISED, versions[-1], at_us, now_us, revised=True, page=reopened)
            )
    return out


def _by_id(versions: Sequence[Episode]) -> dict[str, list[Episode]]:
    out: dict[str, list[Episode]] = {}
    for version in versions:
        out.setdefault(version.id, []).append(version)
    return out


def _overlapped(episode: Episode, gone: Sequence[Episode]) -> str:
    """Return the id of the episode in *gone* whose time *episode* shares, or nothing."""
    end = math.inf if episode.resolved_at_us is None else episode.resolved_at_us
    for other in gone:
        other_end = math.inf if other.resolved_at_us is None else other.resolved_at_us
        if other.started_at_us <= end and episode.started_at_us <= other_end:
            return other.id
    return ""


def _first_difference_us(told: Sequence[Step], now: Sequence[Step]) -> int:
    for one, other in zip(told, now, strict=False):
        if one != other:
            return min(one.at_us, other.at_us)
    longer = told if len(told) > len(now) else now
    shorter = min(len(told), len(now))
    return longer[shorter].at_us if len(longer) > shorter else now[-1].at_us
