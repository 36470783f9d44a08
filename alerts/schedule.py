"""When a rule holds: by the sun, by the clock on the wall, by the date, by the stage of the crop.

Everything looks at the measured time of a sample in the zone of its site, so that a replay sees the
same nights.  `Schedule` is what a rule says; `Timetable` is the same at one place, and answers for
many instants at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from astral import Observer
from astral.sun import elevation, sunrise, sunset

from alerts.segments import LONG_AGO, NEVER, BoolArray, Int64Array
from alerts.zone import ZoneCalendar, calendar, day_date, instant_us

Spans = tuple[tuple[int, int], ...]  # [from, to) in microseconds, rising, apart
ALWAYS: Spans = ((int(LONG_AGO), int(NEVER)),)


@dataclass(frozen=True, slots=True)
class Schedule:
    """*sun* is ``day`` or ``night`` or empty; *clock* holds [from, to) in µs since midnight.

    *dates* are yearly ranges of (month, day), both included; *stages* names of crop stages.  Ranges
    of clock and dates may run over midnight and over new year.
    """

    sun: str = ""
    clock: tuple[tuple[int, int], ...] = ()
    dates: tuple[tuple[tuple[int, int], tuple[int, int]], ...] = ()
    stages: tuple[str, ...] = ()

    @property
    def is_always(self) -> bool:
        """Whether nothing restricts it (stages are resolved where the crop is known)."""
        return not (self.sun or self.clock or self.dates)


@dataclass(frozen=True, slots=True)
class StageBegin:
    """A stage begins *on* a date, or when the zone has *degree_days* of growth; never both."""

    name: str
    on: date | None = None
    degree_days: float | None = None


@dataclass(frozen=True, slots=True)
class Planting:
    """What grows at a site; *stages* in their order, each lasts until the next begins."""

    site: str
    crop: str
    stages: tuple[StageBegin, ...] = ()
    ends_on: date | None = None

    def spans(self, names: Sequence[str], zone: ZoneCalendar) -> Spans:
        """Return when one of the stages *names* holds, for those that begin on a date."""
        out = []
        for stage, following in zip(self.stages, [*self.stages[1:], None], strict=True):
            if stage.name not in names or stage.on is None:
                continue
            until = following.on if following else self.ends_on
            out.append(
                (midnight_us(stage.on, zone), midnight_us(until, zone) if until else int(NEVER))
            )
        return joined(out)

    def degree_days(self, names: Sequence[str]) -> tuple[tuple[float, float], ...]:
        """Return [from, to) in degree-days of the stages *names* that begin by them."""
        out = []
        for stage, following in zip(self.stages, [*self.stages[1:], None], strict=True):
            if stage.name in names and stage.degree_days is not None:
                until = following.degree_days if following else None
                out.append((stage.degree_days, float("inf") if until is None else until))
        return tuple(out)


def midnight_us(day: date, zone: ZoneCalendar) -> int:
    """Return the local midnight that begins *day*."""
    return instant_us(datetime.combine(day, time(), ZoneInfo(zone.name)))


def joined(spans: Sequence[tuple[int, int]]) -> Spans:
    """Return *spans* in order, with those that touch made one."""
    out: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if out and begin <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        elif end > begin:
            out.append((begin, end))
    return tuple(out)


def both(first: Spans, second: Spans) -> Spans:
    """Return what lies in *first* and in *second*."""
    return joined(
        [(max(a, c), min(b, d)) for a, b in first for c, d in second if max(a, c) < min(b, d)]
    )


def without(spans: Spans, taken: Spans) -> Spans:
    """Return what lies in *spans* but not in *taken*."""
    out = list(spans)
    for begin, end in taken:
        out = [
            part
            for a, b in out
            for part in ((a, min(b, begin)), (max(a, end), b))
            if part[0] < part[1]
        ]
    return joined(out)


class SunTimes:
    """Sunrise and sunset at one place, a natural day at a time, computed when first asked for.

    Places are taken to a tenth of a degree (24 seconds of sunrise), so that neighbours share one.
    """

    def __init__(self, latitude: float, longitude: float, zone: str) -> None:
        self._observer = Observer(latitude, longitude)
        self._zone = ZoneInfo(zone)
        self._calendar = calendar(zone)
        self._known: dict[int, tuple[int, int]] = {}

    def is_day(self, at_us: Int64Array) -> BoolArray:
        """Return where the sun is up: from sunrise until before sunset."""
        days, place = np.unique(self._calendar.day(at_us), return_inverse=True)
        times = np.array([self._of(int(day)) for day in days], np.int64).reshape(-1, 2)
        return np.asarray((at_us >= times[place, 0]) & (at_us < times[place, 1]))

    def _of(self, key: int) -> tuple[int, int]:
        if key not in self._known:
            self._known[key] = self._compute(day_date(key))
        return self._known[key]

    def _compute(self, day: date) -> tuple[int, int]:
        try:
            rise = sunrise(self._observer, day, tzinfo=self._zone)
            down = sunset(self._observer, day, tzinfo=self._zone)
        except ValueError:  # beyond the polar circles: all day, or not at all
            noon = datetime.combine(day, time(12), self._zone)
            up = elevation(self._observer, noon) > 0
            return (int(LONG_AGO), int(NEVER)) if up else (int(NEVER), int(NEVER))
        return instant_us(rise), instant_us(down)


_SUNS: dict[tuple[float, float, str], SunTimes] = {}


def sun_times(latitude: float, longitude: float, zone: str) -> SunTimes:
    """Return the sun of a place; neighbours within a tenth of a degree share it."""
    key = (round(latitude, 1), round(longitude, 1), zone)
    if key not in _SUNS:
        _SUNS[key] = SunTimes(*key)
    return _SUNS[key]


@dataclass(frozen=True)
class Timetable:
    """A schedule at one place; *spans* is when the rule is valid at all."""

    schedule: Schedule
    zone: ZoneCalendar
    sun: SunTimes | None = None
    spans: Spans = ALWAYS
    _edges: Int64Array = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_edges", np.array(self.spans, np.int64).ravel())

    @property
    def is_always(self) -> bool:
        """Whether every instant is inside."""
        return self.schedule.is_always and self.spans == ALWAYS

    def holds(self, at_us: Int64Array) -> BoolArray:
        """Return (n,) whether the rule applies at each instant."""
        out = np.searchsorted(self._edges, at_us, "right") % 2 == 1
        if self.schedule.sun and self.sun is not None:
            out &= self.sun.is_day(at_us) == (self.schedule.sun == "day")
        if self.schedule.clock:
            out &= self._by_clock(at_us)
        if self.schedule.dates:
            out &= self._by_date(at_us)
        return np.asarray(out)

    def _by_clock(self, at_us: Int64Array) -> BoolArray:
        clock = self.zone.clock_us(at_us)
        out = np.zeros(len(at_us), bool)
        for begin, end in self.schedule.clock:
            inside = (clock >= begin) & (clock < end)
            out |= inside if begin < end else (clock >= begin) | (clock < end)
        return np.asarray(out)

    def _by_date(self, at_us: Int64Array) -> BoolArray:
        days, place = np.unique(self.zone.day(at_us), return_inverse=True)
        hits = np.array([self._is_in_dates(day_date(int(day))) for day in days], bool)
        return np.asarray(hits[place])

    def _is_in_dates(self, day: date) -> bool:
        today = (day.month, day.day)
        return any(
            begin <= today <= end if begin <= end else today >= begin or today <= end
            for begin, end in self.schedule.dates
        )


def day_after(day: date) -> date:
    """Return the next date: ranges of dates include their last one."""
    return day + timedelta(days=1)
