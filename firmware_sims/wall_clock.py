"""From what a logger's clock showed to UTC, where the clocks are set forward and back.

Loggers write local time without an offset.  Once a year an hour of it does not exist, and once an
hour exists twice; both are told here and never guessed away in silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Instant:
    """*at_us* is microseconds since 1970 UTC, None for a wall time that no clock showed."""

    at_us: int | None
    ambiguous: bool = False


class WallClock:
    """Reads wall times of one place in the order in which they were written.

    A wall time of the hour that exists twice is the earlier one, unless that would not be later
    than the time read before: then the clocks have been set back in between.
    """

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._last_us: int | None = None

    def read(self, shown: datetime) -> Instant:
        """Return the instant at which the clock showed *shown*; an offset in it is believed."""
        if shown.tzinfo is not None:
            return self._seen(Instant(microseconds(shown)))
        earlier = shown.replace(tzinfo=self._zone, fold=0)
        later = shown.replace(tzinfo=self._zone, fold=1)
        ahead, behind = earlier.utcoffset(), later.utcoffset()
        if ahead is None or behind is None or ahead == behind:
            return self._seen(Instant(microseconds(earlier)))
        if ahead < behind:  # of the two offsets around a gap neither leads back to this wall time
            return Instant(None)
        first_us, second_us = microseconds(earlier), microseconds(later)
        passed = self._last_us is not None and first_us <= self._last_us
        return self._seen(Instant(second_us if passed else first_us, ambiguous=True))

    def _seen(self, instant: Instant) -> Instant:
        self._last_us = instant.at_us
        return instant


def microseconds(moment: datetime) -> int:
    """Return an aware *moment* in microseconds since 1970 UTC, exactly."""
    return (moment - _EPOCH) // _MICROSECOND
