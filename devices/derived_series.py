"""How a derived series follows its inputs: what a change touches, what to read, what comes out.

    a reading of an input changed ──touched──▶ span of the derived series
    span ──needs──▶ readings of the inputs ──made──▶ all derived values of the span

Everything here is pure: the same readings give the same values, whenever and in whatever order they
came, so a span is made anew from what is stored now and replaces what was there.  A span is
half open, [start, end), in microseconds since 1970 UTC.

Two rules hold for all of them.  A reading stands for at most `HOLD_INTERVALS` of its own expected
interval, which is less than it takes a series to be stale: nothing is ever computed from a stale
input, and where an input has a gap so has what is derived from it.  And a value is never better
than what it was computed from: bad readings are not used (the value is missing, with their
reasons), and what is suspect makes suspect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from devices.natural_day import Periods
from devices.quality import BAD_MASK, SUSPECT_MASK, Quality
from devices.reading import FloatArray, Int32Array, Int64Array
from devices.running_total import CounterRule, Course, course

HOLD_INTERVALS = 2
FOR_EVER_US = 1 << 62
ENOUGH = 0.75  # of a period, for its value to be good

_MISSING = int(Quality.MISSING)
_RANGE = int(Quality.PHYSICAL_RANGE)
_UNEXPLAINED = int(Quality.MISSING | Quality.STEP)
_INCOMPLETE = int(Quality.INCOMPLETE)
_PROVISIONAL = int(Quality.PROVISIONAL)


class Span(NamedTuple):
    """[start, end), microseconds since 1970 UTC."""

    start_us: int
    end_us: int


class Need(NamedTuple):
    """Readings of one input in [start, end); *before* and *after* add the nearest one on that side
    that has a value and is not bad.
    """

    start_us: int
    end_us: int
    before: bool = False
    after: bool = False


@dataclass(frozen=True, slots=True)
class Track:
    """Readings of one series, oldest first: columns as in `devices.reading.Batch`."""

    at_us: Int64Array
    value: FloatArray
    quality: Int32Array

    def __len__(self) -> int:
        return len(self.at_us)

    def take(self, index: npt.NDArray[Any] | slice) -> Track:
        """Return the rows that *index* (positions, mask or slice) selects."""
        return Track(self.at_us[index], self.value[index], self.quality[index])

    @property
    def valid(self) -> npt.NDArray[np.bool_]:
        """Where there is a value that is not bad."""
        return np.asarray(~np.isnan(self.value) & (self.quality & BAD_MASK == 0))

    @staticmethod
    def of(at_us: Sequence[int], value: Sequence[float], quality: Sequence[int] | int = 0) -> Track:
        """Build a track from Python sequences; one *quality* may stand for all."""
        bits = [quality] * len(at_us) if isinstance(quality, int) else quality
        return Track(
            np.asarray(at_us, np.int64), np.asarray(value, np.float64), np.asarray(bits, np.int32)
        )


NOTHING = Track.of([], [])


@dataclass(frozen=True, slots=True)
class Made:
    """All values of a derived series in *span*; whatever else is stored there is gone."""

    span: Span
    track: Track


class Follower(Protocol):
    """One derived series, as far as time and arithmetic go.  Inputs are told by their position."""

    @property
    def step_us(self) -> int:
        """Return how long a span may be to be made in one go."""
        ...

    def touched(self, which: int, first_us: int, last_us: int) -> Span:
        """Return where values may change when readings of an input changed from first to last."""
        ...

    def needs(self, span: Span) -> tuple[Need, ...]:
        """Return what of each input must be read for *span*."""
        ...

    def made(self, tracks: Sequence[Track], span: Span, now_us: int, whole_from_us: int) -> Made:
        """Return the values of *span* from what was read for it.

        Readings before *whole_from_us* may have been deleted: there a reading that is missing
        says nothing.
        """
        ...


_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Instant:
    """A value for each reading of the input *pace*, with the others as they stood then.

    The pace is the slowest input: a value that comes more often than one of its inputs would
    repeat that input as if it were fresh.  *hold_us* has one entry an input.  *low* and *high* are
    the physical limits of the result.
    """

    compute: Callable[..., FloatArray]
    pace: int
    hold_us: tuple[int, ...]
    low: float
    high: float

    @property
    def step_us(self) -> int:
        """A day: some thousands of values."""
        return _DAY_US

    def touched(self, which: int, first_us: int, last_us: int) -> Span:
        """A reading of the pace touches its own moment, another one as long as it holds."""
        hold_us = 0 if which == self.pace else self.hold_us[which]
        return Span(first_us, last_us + hold_us + 1)

    def needs(self, span: Span) -> tuple[Need, ...]:
        """As far back as a reading holds."""
        return tuple(
            Need(span.start_us - (0 if which == self.pace else hold_us), span.end_us)
            for which, hold_us in enumerate(self.hold_us)
        )

    def made(self, tracks: Sequence[Track], span: Span, now_us: int, whole_from_us: int) -> Made:
        """Return a row for each moment at which every input stood."""
        at_us = tracks[self.pace].at_us
        present = np.ones(len(at_us), bool)
        rows = []
        for track, hold_us in zip(tracks, self.hold_us, strict=True):
            row = np.searchsorted(track.at_us, at_us, side="right") - 1
            present &= row >= 0
            if len(track):
                present &= at_us - track.at_us[row] <= hold_us
            rows.append(row)
        at_us = at_us[present]
        if not len(at_us):
            return Made(span, NOTHING)
        quality = np.zeros(len(at_us), np.int32)
        values = []
        usable = np.ones(len(at_us), bool)
        for track, row in zip(tracks, rows, strict=True):
            taken = track.take(row[present])
            quality |= taken.quality
            usable &= taken.valid
            values.append(taken.value)
        value = np.asarray(self.compute(*(np.where(usable, one, np.nan) for one in values)))
        return Made(span, judged(Track(at_us, value, quality), self.low, self.high))


def judged(track: Track, low: float, high: float) -> Track:
    """Return *track* with the reasons for values that are missing or physically impossible."""
    missing = ~np.isfinite(track.value)
    value = np.where(missing, np.nan, track.value)
    with np.errstate(invalid="ignore"):
        outside = (value < low) | (value > high)
    quality = track.quality | np.where(missing, _MISSING, 0) | np.where(outside, _RANGE, 0)
    return Track(track.at_us, value, quality.astype(np.int32))


@dataclass(frozen=True, slots=True)
class Increase:
    """What a running total added since its reading before, at each reading that has a value.

    After a gap the first reading has all that was added in it.
    """

    rule: CounterRule
    low: float
    high: float

    @property
    def step_us(self) -> int:
        """A day: some thousands of values."""
        return _DAY_US

    def touched(self, which: int, first_us: int, last_us: int) -> Span:
        """The readings themselves; `made` adds the one after them, which counts from the last."""
        return Span(first_us, last_us + 1)

    def needs(self, span: Span) -> tuple[Need, ...]:
        """The readings, and the neighbours that they are compared with."""
        return (Need(span.start_us, span.end_us, before=True, after=True),)

    def made(self, tracks: Sequence[Track], span: Span, now_us: int, whole_from_us: int) -> Made:
        """Return a row for each valid reading that has one before it."""
        total = tracks[0].take(tracks[0].valid)
        start_us = span.start_us
        if not len(total):
            return Made(span, NOTHING)
        end_us = max(span.end_us, int(total.at_us[-1]) + 1)
        is_first = int(total.at_us[0]) >= start_us
        if is_first and start_us <= whole_from_us:
            start_us = int(total.at_us[0]) + 1  # what it was compared with has been deleted
        added, kind = course(total.value, total.at_us / 1e6, self.rule)
        quality = total.quality.copy()
        quality[1:] |= total.quality[:-1] & SUSPECT_MASK
        for what, bits in _MARKS:
            quality[kind == what] |= bits
        rows = Track(total.at_us, added, quality).take(slice(1, None))
        rows = rows.take(rows.at_us >= start_us)
        return Made(Span(start_us, end_us), judged(rows, self.low, self.high))


_MARKS = (
    (Course.WRAPPED, int(Quality.WRAPPED)),
    (Course.RESTARTED, int(Quality.RESTARTED)),
    (Course.UNEXPLAINED, _UNEXPLAINED),
)


@dataclass(frozen=True, slots=True)
class Part:
    """Valid readings of one input that stand in one period: each for *weight_s* seconds of it.

    *from_us* is when that begins; *weight_s* is 0 for a reading that another one took over from at
    once.  *own* is false for the one that was measured before the period and still held.  *bits*
    are the quality of each.
    """

    from_us: Int64Array
    value: FloatArray
    weight_s: FloatArray
    own: npt.NDArray[np.bool_]
    bits: Int32Array

    @property
    def quality(self) -> int:
        """The quality of all of them together."""
        return int(np.bitwise_or.reduce(self.bits, initial=0))

    @property
    def covered_s(self) -> float:
        """How much of the period was measured."""
        return float(self.weight_s.sum())

    @property
    def measured(self) -> FloatArray:
        """The values that were measured in the period itself."""
        return np.asarray(self.value[self.own])

    def take(self, index: npt.NDArray[Any]) -> Part:
        """Return the rows that *index* selects."""
        return Part(
            self.from_us[index],
            self.value[index],
            self.weight_s[index],
            self.own[index],
            self.bits[index],
        )


Reducer = Callable[[Sequence[Part], Span], float]


@dataclass(frozen=True, slots=True)
class Period:
    """A value for each natural day, or hour, stamped with its start.

    *reduce* makes it of the parts and the span of the period; NaN where nothing can be said.  A
    period that goes on has a value as well, of what there is so far, marked provisional.  One of
    which less than *enough* was measured is marked incomplete.
    """

    reduce: Reducer
    periods: Periods
    hold_us: tuple[int, ...]
    low: float
    high: float
    enough: float = ENOUGH

    @property
    def step_us(self) -> int:
        """Two days, so that one fits whole."""
        return 2 * _DAY_US

    def touched(self, which: int, first_us: int, last_us: int) -> Span:
        """A reading weighs until the next one, and ends what the one before weighs."""
        hold_us = self.hold_us[which]
        return Span(
            self.periods.start_of(first_us - hold_us), self.periods.end_of(last_us + hold_us)
        )

    def needs(self, span: Span) -> tuple[Need, ...]:
        """The periods that start in the span, whole, and what still holds when they begin."""
        starts = self.periods.starts(span.start_us, span.end_us)
        if not starts:
            return tuple(Need(0, 0) for _ in self.hold_us)
        end_us = self.periods.end_of(starts[-1])
        return tuple(Need(starts[0] - hold_us, end_us) for hold_us in self.hold_us)

    def made(self, tracks: Sequence[Track], span: Span, now_us: int, whole_from_us: int) -> Made:
        """Return a row for each period of which anything was measured in every input."""
        at_us: list[int] = []
        value: list[float] = []
        quality: list[int] = []
        for start_us in self.periods.starts(span.start_us, min(span.end_us, now_us + 1)):
            whole = Span(start_us, self.periods.end_of(start_us))
            so_far = Span(start_us, min(whole.end_us, now_us))
            parts = [
                part_of(track, hold_us, so_far)
                for track, hold_us in zip(tracks, self.hold_us, strict=True)
            ]
            if not all(part.own.any() for part in parts):
                continue
            at_us.append(start_us)
            value.append(self.reduce(parts, whole))
            quality.append(self._quality(parts, whole, now_us))
        return Made(span, judged(Track.of(at_us, value, quality), self.low, self.high))

    def _quality(self, parts: Sequence[Part], whole: Span, now_us: int) -> int:
        bits = 0
        for part in parts:
            bits |= part.quality
        elapsed_s = (min(now_us, whole.end_us) - whole.start_us) / 1e6
        if min(part.covered_s for part in parts) < self.enough * elapsed_s:
            bits |= _INCOMPLETE
        return bits | (_PROVISIONAL if now_us < whole.end_us else 0)


@dataclass(frozen=True, slots=True)
class Irrigations(Period):
    """A value for each irrigation, stamped with the first reading at which water had flowed.

    An irrigation ends when none has flowed for *pause_us*, and with the natural day.  The first
    input is the water; of the others what stood then is taken.
    """

    pause_us: int = 0

    def made(self, tracks: Sequence[Track], span: Span, now_us: int, whole_from_us: int) -> Made:
        """Return a row for each irrigation of the days that start in the span."""
        at_us: list[int] = []
        value: list[float] = []
        quality: list[int] = []
        days = self.periods.starts(span.start_us, min(span.end_us, now_us + 1))
        if not days:
            return Made(Span(span.start_us, span.start_us), NOTHING)
        for start_us in days:
            end_us = self.periods.end_of(start_us)
            whole = Span(start_us, end_us)
            water, *others = (
                part_of(track, hold_us, whole)
                for track, hold_us in zip(tracks, self.hold_us, strict=True)
            )
            if not all(len(part.value) for part in others):
                continue
            flowing = water.take(water.own & (water.value > 0))
            pauses = np.flatnonzero(np.diff(flowing.from_us) > self.pause_us) + 1
            for rows in np.split(np.arange(len(flowing.value)), pauses):
                if not len(rows):
                    continue
                one = flowing.take(rows)
                last_us = int(one.from_us[-1])
                is_over = now_us >= min(last_us + self.pause_us, end_us)
                bits = one.quality
                for part in others:
                    bits |= part.quality
                at_us.append(int(one.from_us[0]))
                value.append(self.reduce([one, *others], Span(at_us[-1], last_us + 1)))
                quality.append(bits | (0 if is_over else _PROVISIONAL))
        track = judged(Track.of(at_us, value, quality), self.low, self.high)
        # Rows lie anywhere in their day, so days are replaced whole or not at all.
        return Made(Span(days[0], end_us), track)


def part_of(track: Track, hold_us: int, whole: Span) -> Part:
    """Return what *track* has to say of the period *whole*.

    A reading stands from its own time until the next one, valid or not, at most *hold_us*.
    """
    next_us = np.append(track.at_us[1:], FOR_EVER_US)[: len(track)]
    until_us = np.minimum(next_us, track.at_us + hold_us)
    from_us = np.maximum(track.at_us, whole.start_us)
    weight_s = (np.minimum(until_us, whole.end_us) - from_us) / 1e6
    own = (track.at_us >= whole.start_us) & (track.at_us < whole.end_us)
    here = track.valid & (own | ((weight_s > 0) & (track.at_us < whole.start_us)))
    return Part(
        from_us[here],
        track.value[here],
        np.maximum(weight_s[here], 0.0),
        own[here],
        track.quality[here],
    )


@dataclass(frozen=True, slots=True)
class Cumulative:
    """The sum of a series of days since *since_us*, at each of them.

    A day that is missing makes all that follow incomplete.
    """

    since_us: int
    periods: Periods
    low: float
    high: float

    @property
    def step_us(self) -> int:
        """All of it at once: a row a day."""
        return FOR_EVER_US

    def touched(self, which: int, first_us: int, last_us: int) -> Span:
        """A day is part of every sum from then on."""
        return Span(max(first_us, self.since_us), FOR_EVER_US)

    def needs(self, span: Span) -> tuple[Need, ...]:
        """Every day since the beginning."""
        return (Need(self.since_us, FOR_EVER_US),)

    def made(self, tracks: Sequence[Track], span: Span, now_us: int, whole_from_us: int) -> Made:
        """Return a row for each valid day in the span."""
        days = tracks[0].take(tracks[0].valid)
        days = days.take(days.at_us >= self.since_us)
        if not len(days):
            return Made(span, NOTHING)
        first_us = self.periods.start_of(self.since_us)
        # Rounded, because two days of a year are an hour shorter and longer.
        number = np.round((days.at_us - first_us) / _DAY_US)
        all_there = number == np.arange(len(days))
        suspect = np.bitwise_or.accumulate(days.quality & SUSPECT_MASK)
        quality = days.quality | suspect | np.where(all_there, 0, _INCOMPLETE)
        sums = Track(days.at_us, np.cumsum(days.value), quality.astype(np.int32))
        inside = (sums.at_us >= span.start_us) & (sums.at_us < span.end_us)
        return Made(span, judged(sums.take(inside), self.low, self.high))
