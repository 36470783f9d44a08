"""When to ping a broker and when to give it up."""

from __future__ import annotations

from enum import Enum


class Pulse(Enum):
    """What the time asks for."""

    QUIET = "quiet"
    PING = "ping"
    DEAD = "dead"


class Keepalive:
    """Keeps a connection known to be alive, from both sides.

    The broker must hear from us every *interval_s*, and we from it: after half of that without a
    byte a ping is due, and when nothing has come half an interval after the ping, the peer is dead.
    So silence is found within one interval, counted from the last byte; and a process that itself
    slept (a suspended machine) asks first before it gives up.

    While `deaf` (we stopped reading on purpose) silence means nothing and the peer never dies; the
    broker still gets its pings.  Times are seconds of any clock that only goes forward.
    """

    def __init__(self, interval_s: float, now_s: float) -> None:
        self._half_s = interval_s / 2
        self._heard_at_s = now_s
        self._spoke_at_s = now_s
        self._asked_at_s: float | None = None
        self.deaf = False

    def shorten(self, interval_s: float) -> None:
        """Count with *interval_s* from now on, where that is less."""
        self._half_s = min(self._half_s, interval_s / 2)

    def heard(self, now_s: float) -> None:
        """Note that some byte came."""
        self._heard_at_s = now_s
        self._asked_at_s = None

    def spoke(self, now_s: float) -> None:
        """Note that a whole packet was sent."""
        self._spoke_at_s = now_s

    def listen_again(self, now_s: float) -> None:
        """End a deaf time; silence counts from now."""
        self.deaf = False
        self.heard(now_s)

    def look(self, now_s: float) -> Pulse:
        """Return what is to be done now; `Pulse.PING` counts as done."""
        if not self.deaf and self._asked_at_s is not None:
            if now_s >= self._asked_at_s + self._half_s:
                return Pulse.DEAD
        elif not self.deaf and now_s >= self._heard_at_s + self._half_s:
            self._asked_at_s = self._spoke_at_s = now_s
            return Pulse.PING
        if now_s >= self._spoke_at_s + self._half_s:
            self._spoke_at_s = now_s
            return Pulse.PING
        return Pulse.QUIET

    def next_look_s(self) -> float:
        """Return when `look` may next have something to say."""
        due_s = self._spoke_at_s + self._half_s
        if not self.deaf:
            silent_since_s = self._heard_at_s if self._asked_at_s is None else self._asked_at_s
            due_s = min(due_s, silent_since_s + self._half_s)
        return due_s
