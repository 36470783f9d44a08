"""What can be wrong with a rule, or with what somebody asks of an alert."""

from __future__ import annotations


class AlertsError(Exception):
    """Root of this package's errors."""


class ConditionError(AlertsError):
    """A condition that cannot be understood.

    *at* counts characters of the condition from 0, *got* is the part in question, *expected* says
    what would be right there, *hint* is the nearest word that would be.
    """

    def __init__(self, at: int, got: str, expected: str, hint: str = "") -> None:
        near = f" (did you mean {hint!r}?)" if hint else ""
        super().__init__(f"at character {at + 1}: got {got}, expected {expected}{near}")
        self.at = at
        self.got = got
        self.expected = expected
        self.hint = hint


class IllegalAction(AlertsError):
    """What was asked of an alert does not fit its state; nothing has changed."""


class SnapshotError(AlertsError):
    """A saved state cannot be read: another format, or damaged."""
