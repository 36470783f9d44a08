"""When to try a broker again, and when to speak of it."""

from __future__ import annotations

from collections.abc import Callable

from ingest.mqtt.failures import MqttError
from ingest.retry import Backoff

_FIRST_S = 0.2
_LASTED_S = 10.0  # a connection of less is no proof that the trouble is over
_QUIET_S = 60.0


class Redial:
    """The pauses between connections.

    The first try after a connection that lasted comes at once; the next ones after the pauses of
    `Backoff`, 0.2 s to *cap_s* with full jitter.  Where a person must mend something, and where
    another client took our place, the pause is half to one and a half *slow_s* each time: two that
    fight for one client id would otherwise put each other out hundreds of times a second.

    *draw* returns a random number between 0 and 1.
    """

    def __init__(self, cap_s: float, slow_s: float, draw: Callable[[], float]) -> None:
        self._backoff = Backoff(min(_FIRST_S, cap_s), cap_s, draw)
        self._slow_s = slow_s
        self._draw = draw
        self._first = True

    def pause_s(self, failure: MqttError, lasted_s: float, now_s: float) -> float:
        """Return how long to wait after *failure* of a connection that held for *lasted_s*."""
        if lasted_s >= _LASTED_S:
            self._backoff.succeeded()
            self._first = True
        if failure.needs_a_person:
            return self._slow_s * (0.5 + self._draw())
        if self._first:
            self._first = False
            return 0.0
        return self._backoff.failed(now_s)


class Outage:
    """Decides what is worth a line in the log: once when the broker is lost, once when it is back.

    A link that comes and goes many times a minute gets one pair of lines a minute.  But a loss that
    is not over at the next try is always told, and so is a new cause that a person must mend.
    """

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._failures = 0
        self._told: str | None = None
        self._told_at_s = float("-inf")

    @property
    def failures(self) -> int:
        """How many tries have failed since the broker was lost."""
        return self._failures

    def lost(self, failure: MqttError, now_s: float) -> bool:
        """Note *failure*; return whether to tell it."""
        if self._since_s is None:
            self._since_s = now_s
        self._failures += 1
        is_new = failure.needs_a_person and self._told != str(failure)
        is_due = self._told is None and (self._failures > 1 or now_s >= self._told_at_s + _QUIET_S)
        if is_new or is_due:
            self._told, self._told_at_s = str(failure), now_s
            return True
        return False

    def back(self, now_s: float) -> float | None:
        """Note that the broker is there; return for how many seconds it was not, if to be told."""
        since_s, was_told = self._since_s, self._told is not None
        self._since_s, self._failures, self._told = None, 0, None
        return now_s - since_s if since_s is not None and was_told else None
