"""How long to wait before the next try to connect; pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Doubles from *first_s* to *most_s*, each wait cut at random to between half and all of it.

    *chance* returns a number from 0 to 1.  The limit is short: a gateway that comes back is to be
    read again within seconds, and one attempt every few seconds costs nothing.
    """

    chance: Callable[[], float]
    first_s: float = 0.1
    most_s: float = 3.0
    tries: int = 0

    def next_s(self) -> float:
        """Return the wait before the next try."""
        wait_s = min(self.most_s, self.first_s * 2.0 ** min(self.tries, 30))
        self.tries += 1
        return wait_s * (0.5 + 0.5 * self.chance())

    def reset(self) -> None:
        """A reply came: the next loss is tried again at once."""
        self.tries = 0
