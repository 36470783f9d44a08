"""Which stretches of a segment are still to be read from the disk.

Bookkeeping only.  Stretches are kept in the order of the file, neighbours become one, and their
number is bounded: beyond it the two that lie closest become one, with what lies between them.
That is then read a second time, which is harmless, and memory stays bounded.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass

MAX_STRETCHES = 64


@dataclass(slots=True)
class Stretch:
    """Bytes *start* to *end* of a segment.

    *records* is how many arrivals they hold as far as is known, *oldest_at_us* when the first of
    them was received.  *seen* says that listeners had them before.
    """

    start: int
    end: int
    records: int
    oldest_at_us: int
    seen: bool

    def joined(self, later: Stretch) -> Stretch:
        """Return this stretch extended to the end of *later*."""
        return Stretch(
            self.start,
            max(self.end, later.end),
            self.records + later.records,
            min(self.oldest_at_us, later.oldest_at_us),
            self.seen and later.seen,
        )


class Backlog:
    """The stretches of one segment, first in the file first."""

    def __init__(self) -> None:
        self._stretches: list[Stretch] = []

    def __bool__(self) -> bool:
        return bool(self._stretches)

    def __iter__(self) -> Iterator[Stretch]:
        return iter(self._stretches)

    def add(self, stretch: Stretch) -> None:
        """Add *stretch*; where it overlaps others, they become one."""
        insort(self._stretches, stretch, key=lambda known: known.start)
        at = self._stretches.index(stretch)
        self._join_if_neighbours(at)
        if at:
            self._join_if_neighbours(at - 1)
        if len(self._stretches) > MAX_STRETCHES:
            self._join(self._closest())

    def pop(self) -> Stretch:
        """Take out the first stretch."""
        return self._stretches.pop(0)

    def _join_if_neighbours(self, at: int) -> None:
        if at + 1 < len(self._stretches):
            one, other = self._stretches[at : at + 2]
            if one.end > other.start or (one.end == other.start and one.seen == other.seen):
                self._join(at)

    def _join(self, at: int) -> None:
        self._stretches[at : at + 2] = [self._stretches[at].joined(self._stretches[at + 1])]

    def _closest(self) -> int:
        def gap(at: int) -> int:
            return self._stretches[at + 1].start - self._stretches[at].end

        return min(range(len(self._stretches) - 1), key=gap)
