"""When to try again: doubling delays with full jitter.  Pure: fed the time and a source of chance.

Full jitter (a draw between nothing and the delay) keeps many that failed together from trying again
together; see the AWS Architecture Blog, "Exponential Backoff And Jitter" (2015).
"""

from __future__ import annotations

from collections.abc import Callable


class Backoff:
    """Delays that double from *first_s* to *cap_s* for as long as something fails.

    *draw* returns numbers between 0 and 1, such as `random.random`.
    """

    def __init__(self, first_s: float, cap_s: float, draw: Callable[[], float]) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self._draw = draw
        self._ceiling_s = first_s
        self.failures = 0
        self.failing_since_s: float | None = None

    def failed(self, now_s: float) -> float:
        """Note a failure at *now_s*; return after how many seconds to try again."""
        if self.failing_since_s is None:
            self.failing_since_s = now_s
        self.failures += 1
        delay_s = self._ceiling_s * self._draw()
        self._ceiling_s = min(2 * self._ceiling_s, self._cap_s)
        return delay_s

    def succeeded(self) -> None:
        """Begin anew."""
        self._ceiling_s = self._first_s
        self.failures = 0
        self.failing_since_s = None
