"""Whose turn it is on a bus; pure, fed *now*.

Each device has a turn for each of its paces.  Turns are due on a fixed grid, so that a slow answer
shifts nothing after it; of those that are due, the one with the nearest deadline goes first, and
devices that failed last time wait until the others are done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ingest.modbus.poll_plan import PlannedRead


@dataclass(slots=True, eq=False)
class Turn:
    """One pace of one device: *reads* every *interval_s*, due next at *due_at_s*.

    *missed* counts the times that were skipped because the bus was late.
    """

    device: str
    interval_s: float
    reads: tuple[PlannedRead, ...]
    due_at_s: float
    missed: int = 0

    def take(self, now_s: float) -> None:
        """Note that its time has come; the next one stays on the grid."""
        self.due_at_s += self.interval_s
        if self.due_at_s <= now_s:
            late = int((now_s - self.due_at_s) // self.interval_s) + 1
            self.missed += late
            self.due_at_s += late * self.interval_s

    def catch_up(self, now_s: float) -> None:
        """Be due now, on the grid: the device was set aside and nothing was missed."""
        if self.due_at_s < now_s:
            self.due_at_s += (now_s - self.due_at_s) // self.interval_s * self.interval_s


class Schedule:
    """All turns of a bus."""

    def __init__(self, turns: Iterable[Turn]) -> None:
        self.turns = tuple(turns)

    def due(
        self, now_s: float, rank: Callable[[str], int | None], skip: Sequence[str] = ()
    ) -> Turn | None:
        """Return the turn to take now, None if none is due.

        *rank* orders devices before deadlines do; None leaves a device out, and so does *skip*.
        """
        best: tuple[int, float, Turn] | None = None
        for turn in self.turns:
            if turn.due_at_s > now_s or turn.device in skip:
                continue
            order = rank(turn.device)
            if order is None:
                continue
            candidate = (order, turn.due_at_s + turn.interval_s, turn)
            if best is None or candidate[:2] < best[:2]:
                best = candidate
        return best[2] if best else None

    def next_due_s(self, rank: Callable[[str], int | None]) -> float | None:
        """Return when the next turn of a device with a rank is due."""
        times = [turn.due_at_s for turn in self.turns if rank(turn.device) is not None]
        return min(times, default=None)
