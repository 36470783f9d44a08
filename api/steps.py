"""Which resolution answers a question without drowning it: the choice of step, and its grid.

A rolled answer is a dense grid: every bucket between start and end stands in it, empty ones too,
so the number of points is known before the database is asked.  Raw readings can only be estimated
from the expected interval; the shell counts what really came and asks again, one step coarser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

import numpy as np

from devices.reading import Int64Array


class Step(StrEnum):
    """Resolutions of an answer, finest first."""

    RAW = "raw"
    MINUTE = "1m"
    QUARTER = "15m"
    HOUR = "1h"
    DAY = "1d"


_STEP_US = {
    Step.MINUTE: 60_000_000,
    Step.QUARTER: 900_000_000,
    Step.HOUR: 3_600_000_000,
}
_DAY_US = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Ask:
    """One question: how long a time, of which series, and how many points may come back.

    *intervals_s* and *zones* hold one entry a series: its expected interval, and the zone of its
    site.  *max_points* is for each series, *max_total* for the whole answer.
    """

    start_us: int
    end_us: int
    intervals_s: tuple[float, ...]
    zones: tuple[str, ...]
    max_points: int
    max_total: int

    @property
    def points_each(self) -> int:
        """How many points one series may have, so that all together stay under the total."""
        return min(self.max_points, self.max_total // len(self.zones))


def bucket_starts_us(step: Step, start_us: int, end_us: int, zone: str) -> Int64Array:
    """Return the start of every bucket that overlaps [start, end), rising, int64 (n,).

    Minutes to hours are aligned to UTC; days begin at midnight in *zone* and so may last 23 or 25
    hours.  *step* is not `Step.RAW`.
    """
    if step is not Step.DAY:
        width = _STEP_US[step]
        return np.arange(start_us // width * width, end_us, width, dtype=np.int64)
    tz = ZoneInfo(zone)
    day = (_EPOCH + timedelta(microseconds=start_us)).astimezone(tz).date()
    starts: list[int] = []
    while (midnight := _midnight_us(day, tz)) < end_us:
        starts.append(midnight)
        day += timedelta(days=1)
    return np.asarray(starts, np.int64)


def _midnight_us(day: date, tz: ZoneInfo) -> int:
    midnight = datetime(day.year, day.month, day.day, tzinfo=tz)
    return (midnight.astimezone(UTC) - _EPOCH) // _US


def points_of(step: Step, ask: Ask) -> int:
    """Return how many points the longest series of the answer has; an estimate for raw readings."""
    span_us = ask.end_us - ask.start_us
    if step is Step.RAW:
        return 1 + max(int(span_us / (interval * 1e6)) for interval in ask.intervals_s)
    if step is not Step.DAY:
        width = _STEP_US[step]
        return -(-ask.end_us // width) - ask.start_us // width
    if span_us > (ask.max_total + 2) * _DAY_US:
        return span_us // _DAY_US
    zones = set(ask.zones)
    return max(len(bucket_starts_us(step, ask.start_us, ask.end_us, zone)) for zone in zones)


def fitting_steps(ask: Ask, steps: Sequence[Step] = tuple(Step)) -> list[Step]:
    """Return those of *steps* whose answer stays within the limits, finest first."""
    limit = ask.points_each
    return [step for step in steps if points_of(step, ask) <= limit]
