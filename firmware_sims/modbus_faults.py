"""What can go wrong with a slave and its line, as a list that a test fills."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum


class FaultKind(StrEnum):
    """One way to answer otherwise than asked."""

    SILENCE = "silence"  # no reply at all
    LATE = "late"  # the right reply, `seconds` later; the line is busy until then
    SLOW = "slow"  # the right reply, one byte every `seconds`
    SHORT = "short"  # one register fewer than asked
    LONG = "long"  # one register more
    EMPTY = "empty"  # no register at all
    ODD = "odd"  # half a register
    OVERSTATED = "overstated"  # a byte count larger than what follows
    WRONG_FUNCTION = "wrong_function"
    WRONG_UNIT = "wrong_unit"
    WRONG_TRANSACTION = "wrong_transaction"
    ZERO_TRANSACTION = "zero_transaction"
    WRONG_PROTOCOL = "wrong_protocol"
    WRONG_LENGTH = "wrong_length"  # in the head of a TCP frame
    BAD_CHECKSUM = "bad_checksum"
    EXCEPTION = "exception"  # refuses with `code`
    GARBAGE = "garbage"  # `code` bytes of nonsense instead of a reply
    NOISE_BEFORE = "noise_before"
    NOISE_AFTER = "noise_after"
    GLUED = "glued"  # the reply twice in one piece
    TRUNCATED = "truncated"  # the first half of the reply
    ECHO = "echo"  # the request itself comes back before the reply
    CLOSE = "close"  # the connection is closed instead of a reply


@dataclass(frozen=True, slots=True)
class Fault:
    """*kind* with what it needs: *seconds* for late and slow, *code* for exception and garbage."""

    kind: FaultKind
    seconds: float = 0.0
    code: int = 0


@dataclass(slots=True)
class FaultPlan:
    """Faults of one slave: *coming* are used up one a request, then *always* holds, if set."""

    coming: deque[Fault | None] = field(default_factory=deque)
    always: Fault | None = None

    def add(self, kind: FaultKind, times: int = 1, seconds: float = 0.0, code: int = 0) -> None:
        """Spoil the next *times* replies that are not spoilt yet."""
        self.coming.extend([Fault(kind, seconds, code)] * times)

    def skip(self, times: int) -> None:
        """Let the next *times* replies be right before what is added later."""
        self.coming.extend([None] * times)

    def take(self) -> Fault | None:
        """Return the fault of the next reply."""
        return self.coming.popleft() if self.coming else self.always
