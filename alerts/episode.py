"""Episodes: what an alert is before anybody has touched it, and how it comes to be known.

An `Episode` is a fact about readings, the same for everyone who has the same readings.  A
`Transition` is news: it carries the whole episode as it now stands, so a receiver that missed one
needs only the latest.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum


class StepKind(StrEnum):
    """What may happen to an episode on its way."""

    FIRED = "fired"
    SEVERITY = "severity"
    HELD = "held"
    RETURNED = "returned"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Step:
    """*at_us* is measured time; *severity* from then on (0 when over), *value* what was read.

    *peak* and *unobserved_us* are those of the episode up to here.
    """

    at_us: int
    kind: StepKind
    severity: int
    value: float | None
    peak: float | None
    unobserved_us: int


@dataclass(frozen=True, slots=True)
class Episode:
    """One stretch of one binding from its first raised reading to the one that cleared it.

    Times are measured microseconds.  What an episode has come to is what its *steps* say; the last
    of them is the newest word.
    """

    id: str
    rule: str
    rule_version: int
    subject: str
    site: str
    started_at_us: int
    steps: tuple[Step, ...]

    @property
    def fired_at_us(self) -> int:
        """When it fired: its first step."""
        return self.steps[0].at_us

    @property
    def resolved_at_us(self) -> int | None:
        """When it was over, None while it is open."""
        last = self.steps[-1]
        return last.at_us if last.kind is StepKind.RESOLVED else None

    @property
    def severity(self) -> int:
        """The present severity, or the last one before it was over."""
        return next(step.severity for step in reversed(self.steps) if step.severity)

    @property
    def worst(self) -> int:
        """The highest severity there was."""
        return max(step.severity for step in self.steps)

    @property
    def value(self) -> float | None:
        """What was read at the last step that a reading made."""
        steps = (s for s in reversed(self.steps) if s.kind is not StepKind.HELD)
        return next(steps).value

    @property
    def peak(self) -> float | None:
        """The worst value since it started, up to the last step."""
        return self.steps[-1].peak

    @property
    def unobserved_us(self) -> int:
        """How much of it lies in gaps between readings, up to the last step."""
        return self.steps[-1].unobserved_us

    @property
    def is_open(self) -> bool:
        """Whether it has not been resolved."""
        return self.steps[-1].kind is not StepKind.RESOLVED

    @property
    def is_held(self) -> bool:
        """Whether it waits for data."""
        return self.steps[-1].kind is StepKind.HELD

    def before(self, at_us: int) -> Episode | None:
        """Return what was known of it before *at_us*, None where it had not fired."""
        steps = tuple(step for step in self.steps if step.at_us < at_us)
        return replace(self, steps=steps) if steps else None

    def coverage(self, until_us: int) -> float:
        """Return the share (0-1) of its time up to *until_us* that was observed."""
        end_us = until_us if self.resolved_at_us is None else self.resolved_at_us
        duration_us = end_us - self.started_at_us
        return 1.0 if duration_us <= 0 else max(0.0, 1.0 - self.unobserved_us / duration_us)


class Change(StrEnum):
    """What a transition tells.

    The first five are steps of an episode.  REVISED: late data changed what was said of it.
    RETRACTED: with the late data it never happened.  STANDS: found in old data, and open still.
    WITHDRAWN: its rule or its subject is no longer there.
    """

    FIRED = "fired"
    SEVERITY = "severity"
    HELD = "held"
    RETURNED = "returned"
    RESOLVED = "resolved"
    REVISED = "revised"
    RETRACTED = "retracted"
    STANDS = "stands"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Transition:
    """News of one episode.

    *at_us* is the measured moment it is about, *noticed_at_us* the `now` at which it was found.
    *revised* says that it changes what had been said of that time before.  *page* says that someone
    should be told now.  *replaces* is the id of a retracted episode that this one takes the place
    of.
    """

    change: Change
    episode: Episode
    at_us: int
    noticed_at_us: int
    revised: bool = False
    page: bool = False
    replaces: str = ""


@dataclass(frozen=True, slots=True)
class RuleFailure:
    """A rule that raised an error and is out of use until the engine is built anew."""

    rule: str
    reason: str
    noticed_at_us: int


def episode_id(rule: str, subject: str, started_at_us: int) -> str:
    """Return 32 hex digits that a restart or a replay finds again."""
    text = f"{rule}\0{subject}\0{started_at_us}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
