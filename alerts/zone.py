"""Calendar of a time zone as tables: hours, natural days and seasons of microsecond instants.

Instants are int64 microseconds since 1970 UTC; keys are consecutive integers (hours, days since
1970-01-01 local, years), so that the next key is always the next hour, day or season.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
_FIRST_YEAR, _LAST_YEAR = 2000, 2070
_EPOCH = date(1970, 1, 1)


class ZoneCalendar:
    """Answers for one IANA zone; days may have 23 or 25 hours, hours always have sixty minutes.

    Days hold from 2000 to 2070; an instant outside counts as the first or the last of them.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._zone = ZoneInfo(name)
        self._first_day = (date(_FIRST_YEAR, 1, 1) - _EPOCH).days
        days = (date(_LAST_YEAR, 1, 1) - date(_FIRST_YEAR, 1, 1)).days
        first = date(_FIRST_YEAR, 1, 1)
        starts = [self._midnight_us(first + timedelta(days=day)) for day in range(days + 1)]
        self._day_starts = np.array(starts, np.int64)
        # Hours are counted on the zone's own minutes past the hour (30 in India), which stay the
        # same over a change of daylight saving time.
        self._minutes_us = self._day_starts[0] % HOUR_US

    def _midnight_us(self, day: date) -> int:
        return instant_us(datetime(day.year, day.month, day.day, tzinfo=self._zone))

    def hour(self, at_us: Int64Array) -> Int64Array:
        """Return the key of the calendar hour of each instant."""
        return np.asarray((at_us - self._minutes_us) // HOUR_US)

    def hour_start_us(self, key: Int64Array) -> Int64Array:
        """Return when the hour *key* begins; the one before ends then."""
        return np.asarray(key * HOUR_US + self._minutes_us)

    def day(self, at_us: Int64Array) -> Int64Array:
        """Return the natural day of each instant as days since 1970-01-01."""
        found = np.searchsorted(self._day_starts, at_us, "right") - 1
        return np.asarray(np.maximum(found, 0) + self._first_day)

    def day_start_us(self, key: Int64Array) -> Int64Array:
        """Return the local midnight that begins the day *key*."""
        position = np.clip(key - self._first_day, 0, len(self._day_starts) - 1)
        return np.asarray(self._day_starts[position])

    def season(self, at_us: Int64Array, month: int, day: int) -> Int64Array:
        """Return the year in which the season of each instant began, at local midnight of a day."""
        starts = self._season_starts(month, day)
        return np.asarray(np.searchsorted(starts, at_us, "right") - 1 + _FIRST_YEAR)

    @lru_cache(maxsize=64)  # noqa: B019 - calendars live as long as the process
    def _season_starts(self, month: int, day: int) -> Int64Array:
        years = range(_FIRST_YEAR, _LAST_YEAR + 1)
        return np.array([self._midnight_us(date(year, month, day)) for year in years], np.int64)

    def clock_us(self, at_us: Int64Array) -> Int64Array:
        """Return what the clock on the wall shows, as time since its midnight."""
        day = self.day(at_us)
        start, end = self.day_start_us(day), self.day_start_us(day + 1)
        clock = at_us - start
        odd = end - start != DAY_US
        for key in np.unique(day[odd]):
            changed = (day == key) & (at_us >= self._change_us(int(key)))
            clock[changed] = DAY_US - (end[changed] - at_us[changed])
        return np.asarray(clock)

    @lru_cache(maxsize=512)  # noqa: B019 - calendars live as long as the process
    def _change_us(self, key: int) -> int:
        """Return when the clock is put forward or back on the day *key*."""
        midnight = datetime.combine(day_date(key), datetime.min.time(), self._zone)
        before = midnight.utcoffset()
        moment = midnight.astimezone(UTC)
        while moment.astimezone(self._zone).utcoffset() == before:
            moment += timedelta(minutes=15)
        return instant_us(moment)


@lru_cache(maxsize=256)
def calendar(name: str) -> ZoneCalendar:
    """Return the calendar of the zone *name*, built once (about 50 ms)."""
    return ZoneCalendar(name)


def instant_us(moment: datetime) -> int:
    """Return an aware datetime as microseconds since 1970 UTC, exactly."""
    since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def day_date(key: int) -> date:
    """Return the date of a day's key."""
    return _EPOCH + timedelta(days=key)
