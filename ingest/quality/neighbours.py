"""A reading against those before it in measured time: too fast, frozen, told twice differently.

Pure but for the lanes that it moves on.  The bits of a reading depend on the readings of its series
that came before it and on nothing else, however they were cut into batches:

    jump      it differs from each of the three readings before it by more than the quantity can
              change in the time between.  Three, so that what follows a single wrong reading is not
              blamed for it, and a lasting new level is marked once
    frozen    it and an unbroken run of readings before it have exactly the same value, for longer
              than that happens by chance
    conflict  another value of the same moment is remembered

Rows of one series that do not rise in time are taken in turns, each turn rising; after
`MOST_TURNS` the rest of a batch is taken as if it had come in the order of time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from devices.quality import Quality
from devices.reading import FloatArray, Int32Array, Int64Array
from ingest.quality.columns import Columns
from ingest.quality.lanes import LATE, LIVE, NEVER_US, BoolArray, IntpArray, Lane

MOST_TURNS = 16

_STEP, _FLAT = np.int32(Quality.STEP), np.int32(Quality.FLAT_LINE)
_CONFLICT = np.int32(Quality.CONFLICT)


@dataclass(frozen=True, slots=True)
class Rows:
    """Usable readings by series, those of one series rising in time; *kind* is of the series."""

    series: IntpArray
    at_us: Int64Array
    value: FloatArray
    kind: IntpArray

    def __len__(self) -> int:
        return len(self.series)

    def take(self, index: npt.NDArray[Any]) -> Rows:
        """Return some rows, in their order."""
        return Rows(self.series[index], self.at_us[index], self.value[index], self.kind[index])


@dataclass(slots=True)
class Neighbours:
    """The lanes of all series; *newest_us* is the last time of the live one.

    *seam* marks series whose state was written before the last readings of an earlier process: what
    follows them at once continues, anything else begins anew.
    """

    live: Lane = field(default_factory=lambda: Lane.empty(LIVE))
    late: Lane = field(default_factory=lambda: Lane.empty(LATE))
    newest_us: Int64Array = field(default_factory=lambda: np.empty(0, np.int64))
    seam: BoolArray | None = None

    def grow(self, size: int) -> None:
        """Make room for series up to *size*."""
        more = size - len(self.newest_us)
        if more <= 0:
            return
        self.live.grow(size)
        self.late.grow(size)
        self.newest_us = np.concatenate([self.newest_us, np.full(more, NEVER_US, np.int64)])
        if self.seam is not None:
            self.seam = np.concatenate([self.seam, np.zeros(more, bool)])

    def forget(self, series: IntpArray) -> None:
        """Begin *series* anew."""
        self.live.clear(series)
        self.late.clear(series)
        self.newest_us[series] = NEVER_US

    def judge(self, rows: Rows, columns: Columns) -> Int32Array:
        """Return the bits of *rows*, which are in the order of arrival, and remember them."""
        bits = np.zeros(len(rows), np.int32)
        if not len(rows):
            return bits
        order = _by_series(rows.series)
        cut = _turns(rows.series[order], rows.at_us[order])
        for turn in cut.turns:
            index = order if turn is None else order[turn]
            bits[index] = self._take(rows.take(index), columns)
        if len(cut.repeats):
            again, told = order[cut.repeats], order[cut.repeated]
            same = rows.value[again] == rows.value[told]
            bits[again] = np.where(same, bits[told], _CONFLICT)
        return bits

    def _take(self, rows: Rows, columns: Columns) -> Int32Array:
        """Judge one turn: rows by series, strictly rising in each."""
        if self.seam is not None:
            self._mend(rows, columns)
        newest = self.newest_us[rows.series]
        fresh = rows.at_us > newest
        if fresh.all():
            return self._take_live(rows, columns)
        bits = np.zeros(len(rows), np.int32)
        # Late rows of a series come before its fresh ones, and see none of them.
        bits[~fresh] = self._take_late(rows.take(~fresh), columns)
        if fresh.any():
            bits[fresh] = self._take_live(rows.take(fresh), columns)
        return bits

    def _take_live(self, rows: Rows, columns: Columns) -> Int32Array:
        run = _Run.of(rows, self.live)
        bits = run.bits(columns, self.live, None)
        run.append(self.live, bits)
        last = run.rank == run.count - 1
        self.newest_us[rows.series[last]] = rows.at_us[last]
        return bits

    def _take_late(self, rows: Rows, columns: Columns) -> Int32Array:
        bits = np.zeros(len(rows), np.int32)
        told = self._told_before(rows, self.live, bits)
        told_late = self._told_before(rows, self.late, bits)
        if told_late.any():
            told_late &= ~self._begin_late(rows, told | told_late)
        else:
            self._begin_late(rows, told)
        told |= told_late
        rows = rows.take(~told)
        bits[~told] = 0
        if len(rows):
            run = _Run.of(rows, self.late)
            found = run.bits(columns, self.late, self.live)
            run.append(self.late, found)
            bits[~told] = found
        return bits

    def _told_before(self, rows: Rows, lane: Lane, bits: Int32Array) -> BoolArray:
        """Return which rows *lane* remembers; the same value again has the same *bits*."""
        told = np.zeros(len(rows), bool)
        places = lane.all_of(rows.series)
        again, entry = np.nonzero(lane.at_us[places] == rows.at_us[:, None])
        at = places[again, entry]
        same = lane.value[at] == rows.value[again]
        bits[again] = np.where(same, lane.bits[at], _CONFLICT)
        told[again] = True
        return told

    def _begin_late(self, rows: Rows, told: BoolArray) -> BoolArray:
        """Begin the late lane anew where it falls back; return the rows that it no longer knows."""
        new = np.flatnonzero(~told)
        new = new[_firsts(rows.series[new])]
        series = rows.series[new]
        back = rows.at_us[new] <= self.late.at_us[self.late.place(series, 1)]
        since = np.full(len(self.newest_us), len(rows)) if back.any() else None
        if since is None:
            return np.zeros(len(rows), bool)
        self.late.clear(series[back])
        since[series[back]] = new[back]
        return np.arange(len(rows)) > since[rows.series]

    def _mend(self, rows: Rows, columns: Columns) -> None:
        """Begin series anew whose readings did not follow the last known one at once."""
        assert self.seam is not None
        first = np.flatnonzero(_firsts(rows.series))
        series = rows.series[first]
        torn = first[self.seam[series]]
        if not len(torn):
            return
        series = rows.series[torn]
        gap = rows.at_us[torn] - self.newest_us[series]
        missed = gap > columns.kinds.pace_us[rows.kind[torn]] * 3 // 2
        self.live.clear(series[missed])
        self.seam[series[gap > 0]] = False
        if not self.seam.any():
            self.seam = None


@dataclass(frozen=True, slots=True)
class _Run:
    """Rows with their place among those of their series, and the reading before each.

    *rank* counts from 0, *count* is of the series.  *before_us* and *before* are of the reading
    before, `NEVER_US` and NaN where there is none.
    """

    rows: Rows
    first: BoolArray
    rank: IntpArray
    count: IntpArray
    before_us: Int64Array
    before: FloatArray
    run_us: Int64Array

    @staticmethod
    def of(rows: Rows, lane: Lane) -> _Run:
        """Look up what lies before *rows* in *lane*; `run_us` is filled by `bits`."""
        first = _firsts(rows.series)
        number = np.arange(len(rows))
        starts = number[first]
        newest = lane.place(rows.series[starts], 1)
        if len(starts) == len(rows):
            rank, count = np.zeros(len(rows), np.intp), np.ones(len(rows), np.intp)
            before_us, before = lane.at_us[newest], lane.value[newest]
        else:
            sizes = np.diff(starts, append=len(rows))
            rank = number - np.repeat(starts, sizes)
            count = np.repeat(sizes, sizes)
            before_us, before = np.empty_like(rows.at_us), np.empty_like(rows.value)
            before_us[1:], before[1:] = rows.at_us[:-1], rows.value[:-1]
            before_us[starts], before[starts] = lane.at_us[newest], lane.value[newest]
        return _Run(rows, first, rank, count, before_us, before, np.empty_like(rows.at_us))

    def bits(self, columns: Columns, lane: Lane, beside: Lane | None) -> Int32Array:
        """Return the bits of all rows; entries of *beside* may lie between them and their lane."""
        rows, kinds = self.rows, columns.kinds
        foreign, run_beside = self._look_beside(beside)
        passed = rows.at_us - self.before_us
        with np.errstate(over="ignore"):
            jump = np.abs(rows.value - self.before) > (
                kinds.step.take(rows.kind) + kinds.rate.take(rows.kind) * passed
            )
        bits = np.zeros(len(rows), np.int32)
        if jump.any():
            bits[self._jumps(np.flatnonzero(jump), columns, lane, beside)] = _STEP
        same = (rows.value == self.before) & (passed <= kinds.gap_us.take(rows.kind))
        self._follow_runs(same, lane, foreign, run_beside)
        frozen = rows.at_us - self.run_us >= kinds.flat_us.take(rows.kind)
        if frozen.any():
            at = np.flatnonzero(frozen)
            value, kind = rows.value[at], rows.kind[at]
            awake = (value > kinds.rest_low[kind]) & (value < kinds.rest_high[kind])
            bits[at[awake]] |= _FLAT
        return bits

    def append(self, lane: Lane, bits: Int32Array) -> None:
        """Remember all rows in *lane*."""
        rows = self.rows
        lane.append(rows.series, self.rank, self.count, rows.at_us, rows.value, self.run_us, bits)

    def _look_beside(self, beside: Lane | None) -> tuple[BoolArray | None, Int64Array]:
        """Put entries of *beside* where they are nearer; return (where, their runs' begins)."""
        nothing = np.empty(0, np.int64)
        if beside is None:
            return None, nothing
        places = beside.all_of(self.rows.series)
        at_us = beside.at_us[places]
        at_us = np.where(at_us < self.rows.at_us[:, None], at_us, NEVER_US)
        best = at_us.argmax(axis=1)
        row = np.arange(len(best))
        foreign = at_us[row, best] > self.before_us
        if not foreign.any():
            return None, nothing
        at = places[row, best][foreign]
        self.before_us[foreign] = beside.at_us[at]
        self.before[foreign] = beside.value[at]
        return foreign, beside.run_us[at]

    def _follow_runs(
        self,
        same: BoolArray,
        lane: Lane,
        foreign: BoolArray | None,
        run_beside: Int64Array,
    ) -> None:
        """Fill `run_us`: since when each row's value has stood still."""
        rows, begin = self.rows, self.run_us
        begin[:] = rows.at_us
        origin = ~same | self.first
        kept = np.flatnonzero(self.first & same)
        begin[kept] = lane.run_us[lane.place(rows.series[kept], 1)]
        if foreign is not None:
            origin |= foreign
            begin[foreign] = np.where(same[foreign], run_beside, rows.at_us[foreign])
        if not origin.all():
            at = np.maximum.accumulate(np.where(origin, np.arange(len(rows)), 0))
            begin[:] = begin[at]

    def _jumps(self, at: IntpArray, columns: Columns, lane: Lane, beside: Lane | None) -> IntpArray:
        """Return which rows of *at*, that jump from the reading before, do so from three."""
        rows, kinds = self.rows, columns.kinds
        before_us, before = self._three_before(at, lane, beside)
        kind = rows.kind[at]
        passed = rows.at_us[at, None] - before_us
        with np.errstate(over="ignore"):
            far = np.abs(rows.value[at, None] - before) > (
                kinds.step[kind, None] + kinds.rate[kind, None] * passed
            )
        return at[(far & (before_us > NEVER_US)).all(axis=1)]

    def _three_before(
        self, at: IntpArray, lane: Lane, beside: Lane | None
    ) -> tuple[Int64Array, FloatArray]:
        """Return (times, values) of the three readings before each row of *at*, (n, 3)."""
        rows = self.rows
        series, rank = rows.series[at], self.rank[at]
        before_us = np.empty((len(at), 3), np.int64)
        before = np.empty((len(at), 3))
        for back in (1, 2, 3):
            inside = rank >= back
            entry = lane.place(series, np.where(inside, 1, back - rank))
            row = np.where(inside, at - back, 0)
            before_us[:, back - 1] = np.where(inside, rows.at_us[row], lane.at_us[entry])
            before[:, back - 1] = np.where(inside, rows.value[row], lane.value[entry])
        if beside is None:
            return before_us, before
        places = beside.all_of(series)
        near = beside.at_us[places]
        earlier = near < rows.at_us[at, None]
        all_us = np.hstack([before_us, np.where(earlier, near, NEVER_US)])
        values = np.hstack([before, beside.value[places]])
        nearest = np.argsort(-all_us, axis=1, kind="stable")[:, :3]
        row = np.arange(len(at))[:, None]
        return all_us[row, nearest], values[row, nearest]


def _firsts(series: IntpArray) -> BoolArray:
    first = np.empty(len(series), bool)
    first[:1] = True
    np.not_equal(series[1:], series[:-1], out=first[1:])
    return first


def _by_series(series: IntpArray) -> IntpArray:
    """Return the order by series that leaves rows of one series in theirs.

    Sorting numbers made of series and place is several times as fast as a stable argsort.
    """
    count = len(series)
    width = max(1, (count - 1).bit_length())
    keys = (series.astype(np.int64) << width) | np.arange(count)
    keys.sort()
    return (keys & ((1 << width) - 1)).astype(np.intp, copy=False)


@dataclass(frozen=True, slots=True)
class _Cut:
    """Rows cut into turns, None for all of them; *repeats* tell what *repeated* ones told."""

    turns: list[IntpArray | None]
    repeats: IntpArray
    repeated: IntpArray


def _turns(series: IntpArray, at_us: Int64Array) -> _Cut:
    """Cut rows (by series, then arrival) into turns in which each series rises."""
    none = np.empty(0, np.intp)
    fallen = (series[1:] == series[:-1]) & (at_us[1:] <= at_us[:-1])
    if not fallen.any():
        return _Cut([None], none, none)
    falls = np.concatenate([[0], np.cumsum(fallen)])
    turn = falls - np.maximum.accumulate(np.where(_firsts(series), falls, 0))
    last = MOST_TURNS - 1
    turns: list[IntpArray | None] = [
        np.flatnonzero(turn == number) for number in range(min(int(turn.max()) + 1, last))
    ]
    rest = np.flatnonzero(turn >= last)
    if not len(rest):
        return _Cut(turns, none, none)
    rest = rest[np.lexsort((at_us[rest], series[rest]))]
    first = np.ones(len(rest), bool)
    first[1:] = (series[rest][1:] != series[rest][:-1]) | (at_us[rest][1:] != at_us[rest][:-1])
    told = np.maximum.accumulate(np.where(first, np.arange(len(rest)), 0))
    return _Cut([*turns, rest[first]], rest[~first], rest[told][~first])
