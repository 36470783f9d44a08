"""The sequence number of an edge node: 0 to 255 and again, one more with each message.

MQTT keeps the order of one topic only, so a message may overtake another.  Numbers that come too
early wait for what they overtook; what has not come within the reorder timeout is lost.  A number
that lies behind belongs to a message that came before, and is known by its stamp, or to a node that
began anew without our hearing of it.
"""

from __future__ import annotations

from enum import Enum, auto

import msgspec

NUMBERS = 256
LATE = 16  # a number up to this far behind lies behind, beyond it others before it were lost


class Place(Enum):
    """Where a number stands among those before it."""

    NEXT = auto()
    EARLY = auto()
    REPEATED = auto()
    ASTRAY = auto()


class Sequence(msgspec.Struct, frozen=True):
    """Numbers heard so far.

    *expected* is the next one, None before the first.  *early* came before their turn; *since_us*
    is when the first of them came, None where nothing is missing.  *heard* are the last few
    messages, each with its number and the stamp that the node gave it.
    """

    expected: int | None = None
    early: frozenset[int] = frozenset()
    since_us: int | None = None
    heard: tuple[tuple[int, int | None], ...] = ()

    def hear(self, number: int, at_us: int, stamp: int | None = None) -> tuple[Sequence, Place]:
        """Return the sequence after *number*, which came at *at_us*, and where it stands."""
        number %= NUMBERS
        if (number, stamp) in self.heard:
            return self, Place.REPEATED
        heard = (*self.heard, (number, stamp))[-LATE - len(self.early) :]
        if self.expected is None:
            return Sequence((number + 1) % NUMBERS, heard=heard), Place.NEXT
        ahead = (number - self.expected) % NUMBERS
        if ahead == 0:
            return self._moved(number, at_us, heard), Place.NEXT
        if number in self.early or ahead >= NUMBERS - LATE:
            return self, Place.ASTRAY
        since_us = at_us if self.since_us is None else self.since_us
        return Sequence(self.expected, self.early | {number}, since_us, heard), Place.EARLY

    def _moved(
        self, number: int, at_us: int, heard: tuple[tuple[int, int | None], ...]
    ) -> Sequence:
        """Return the sequence after the expected *number*: on to what is missing next."""
        early = set(self.early)
        number = (number + 1) % NUMBERS
        while number in early:
            early.remove(number)
            number = (number + 1) % NUMBERS
        return Sequence(number, frozenset(early), at_us if early else None, heard)

    def give_up(self) -> tuple[Sequence, int]:
        """Return the sequence that waits for nothing any more, and how many numbers were lost."""
        if self.expected is None or not self.early:
            return self, 0
        last = max((number - self.expected) % NUMBERS for number in self.early)
        lost = last + 1 - len(self.early)
        return Sequence((self.expected + last + 1) % NUMBERS, heard=self.heard), lost
