"""Texts of packs and their trials, checked whole; pure, and slow enough to want a thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alerts.pack_library import read_own_pack
from alerts.rule import Pack, read_pack
from alerts.trial import Failure, run_trials
from api.problems import Finding, Problem
from devices.errors import DocumentError, Mistake

MOST_TEXT = 256_000  # characters; the largest shipped pack has 20,000
_MOST_FINDINGS = 100


@dataclass(frozen=True, slots=True)
class Checked:
    """What there is to say of a text: *pack* is None where it has mistakes.

    *failures* are tests of the trials that did not come out.
    """

    pack: Pack | None
    mistakes: tuple[Mistake, ...] = ()
    trial_mistakes: tuple[Mistake, ...] = ()
    failures: tuple[Failure, ...] = ()

    @property
    def is_valid(self) -> bool:
        """Whether nothing is wrong with it."""
        return not (self.mistakes or self.trial_mistakes or self.failures)


def checked(text: str, trials: str | None, name: str | None) -> Checked:
    """Check a pack, and run its *trials*; with *name*, as an own one that lies under it."""
    try:
        pack = read_pack(text, "text") if name is None else read_own_pack(text, "text", name)
    except DocumentError as error:
        return Checked(None, error.mistakes)
    if trials is None:
        return Checked(pack)
    try:
        return Checked(pack, failures=tuple(run_trials(trials, "trials", pack.rules)))
    except DocumentError as error:
        return Checked(pack, trial_mistakes=error.mistakes)


def refusal(found: Checked) -> Problem:
    """Return the 422 of a pack that cannot be kept, naming everything with its line."""
    mistakes = [*found.mistakes, *found.trial_mistakes]
    if mistakes:
        return _problem("invalid-pack", [_finding(one) for one in mistakes])
    return _problem("trials-failed", [_failed(one) for one in found.failures])


def _problem(slug: str, findings: Sequence[Finding]) -> Problem:
    first = findings[0]
    detail = f"{first.where}: got {first.got}, expected {first.expected}; nothing was saved"
    return Problem(422, slug, detail, findings=findings[:_MOST_FINDINGS])


def _finding(one: Mistake) -> Finding:
    where = f"{one.file}:{one.line}:{one.column} {one.key}".rstrip()
    return Finding(where, one.got, one.expected, one.hint)


def _failed(one: Failure) -> Finding:
    return Finding(f"{one.file}:{one.line} {one.test}", one.text, "the test to come out")
