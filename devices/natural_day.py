"""Natural days and hours of a time zone, and where in them the sun is up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

from astral import Observer
from astral.sun import elevation, sunrise, sunset

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)
_HOUR_US = 3_600_000_000


class PeriodLength(StrEnum):
    """How long a period is; days are natural days of the site."""

    HOUR = "hour"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Periods:
    """Time cut into hours (of UTC) or natural days of *zone*, which may last 23 or 25 hours.

    All times are microseconds since 1970 UTC.
    """

    length: PeriodLength
    zone: str = "UTC"

    def start_of(self, at_us: int) -> int:
        """Return the start of the period that *at_us* lies in."""
        if self.length is PeriodLength.HOUR:
            return at_us // _HOUR_US * _HOUR_US
        return _midnight_us(_day_of(at_us, self.zone), self.zone)

    def end_of(self, at_us: int) -> int:
        """Return the start of the period after the one that *at_us* lies in."""
        if self.length is PeriodLength.HOUR:
            return (at_us // _HOUR_US + 1) * _HOUR_US
        return _midnight_us(_day_of(at_us, self.zone) + timedelta(days=1), self.zone)

    def starts(self, start_us: int, end_us: int) -> list[int]:
        """Return the starts that lie in [start, end)."""
        found: list[int] = []
        at_us = self.start_of(start_us)
        while at_us < end_us:
            if at_us >= start_us:
                found.append(at_us)
            at_us = self.end_of(at_us)
        return found


def _day_of(at_us: int, zone: str) -> date:
    return (_EPOCH + at_us * _US).astimezone(ZoneInfo(zone)).date()


@lru_cache(maxsize=4096)
def _midnight_us(day: date, zone: str) -> int:
    midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone))
    return (midnight.astimezone(UTC) - _EPOCH) // _US


def midnight_us(day: date, zone: str) -> int:
    """Return when *day* begins in *zone*, microseconds since 1970 UTC."""
    return _midnight_us(day, zone)


@lru_cache(maxsize=4096)
def sun_up(day_start_us: int, zone: str, latitude: float, longitude: float) -> tuple[int, int]:
    """Return when the sun rises and sets in the natural day that begins at *day_start_us*.

    (0, 0) where it does not rise, the whole day where it does not set.
    """
    observer = Observer(latitude, longitude)
    day = _day_of(day_start_us, zone)
    tz = ZoneInfo(zone)
    try:
        rise, set_ = sunrise(observer, day, tzinfo=tz), sunset(observer, day, tzinfo=tz)
    except ValueError:  # it does neither on that day
        noon = _EPOCH + day_start_us * _US + timedelta(hours=12)
        if elevation(observer, noon) < 0:
            return 0, 0
        return day_start_us, _midnight_us(day + timedelta(days=1), zone)
    return (rise - _EPOCH) // _US, (set_ - _EPOCH) // _US
