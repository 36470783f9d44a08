"""Windows: statistics of sliding spans, calendar hours and days, and running totals.

A window is a stretch of a table that holds single readings and, before them, the sums that the
state carried over from earlier ones.  Sums over a stretch are differences of running totals, exact
because they are whole numbers; smallest and largest come from `segments.range_max`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from alerts.segments import (
    LONG_AGO,
    NEVER,
    BoolArray,
    FloatArray,
    IndexArray,
    Int64Array,
    before,
    heads,
    interleave,
    range_max,
    since_start,
    tails,
)
from alerts.stream import Clock, Facts, Rows, State, Stream, exact
from alerts.zone import HOUR_US, ZoneCalendar

STEPS = 60  # a sliding window moves in sixtieths of its length
COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    ">": np.greater,
    ">=": np.greater_equal,
    "<": np.less,
    "<=": np.less_equal,
    "==": np.equal,
    "!=": np.not_equal,
}
INTEGRAL_SCALE = float(2**20)  # steps of an integral: 1e-6 of a unit-second


def _speaks_for(good: Rows, state: State, facts: Facts) -> Int64Array:
    """Return how long each reading speaks for: back to the one before, one interval at most."""
    previous = before(good.at_us, heads(good.owner), state["previous"][good.owner])
    return np.asarray(np.minimum(good.at_us - previous, facts.interval_us[good.owner]))


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What a window adds up of each reading.

    *name* is a statistic of `alerts.expression.STATISTICS`, ``pNN``, ``hours`` (with *test* and
    *limits*, which are in the quantity's unit) or ``excess`` (above, or below where *test* is
    ``<``, of ``limits[0]``).
    """

    name: str
    test: str = ""
    limits: tuple[float, ...] = ()
    need_us: int = 0
    need_share: float = 0.0

    def needed_us(self, length_us: Int64Array | int) -> Int64Array:
        """Return how much must have been observed of spans of *length_us*."""
        return np.asarray(np.maximum(self.need_us, np.rint(self.need_share * length_us))).astype(
            np.int64
        )


_SUM_FIELDS = [("count", "<i8"), ("total", "<i8"), ("spoken", "<i8")]
_EDGE_FIELDS = [("low", "<f8"), ("high", "<f8"), ("first_at", "<i8"), ("first", "<f8")]


@dataclass(slots=True)
class _Table:
    """Pieces of windows: single readings, and sums of earlier ones that the state carried over.

    All columns (n,): *owner*, *bin* (which step, hour, day it is in), *count*, *total* (exact),
    *spoken* (µs), *low*, *high*, *first_at*, *first*; *row* is the reading's position, -1 for what
    was carried.
    """

    owner: IndexArray
    bin: Int64Array
    count: Int64Array
    total: Int64Array
    spoken: Int64Array
    low: FloatArray
    high: FloatArray
    first_at: Int64Array
    first: FloatArray
    row: IndexArray

    def groups(self) -> tuple[IndexArray, IndexArray]:
        """Return first and last row of each (owner, bin)."""
        new = heads(self.owner)
        new[1:] |= self.bin[1:] != self.bin[:-1]
        start = np.flatnonzero(new)
        return start, np.append(start[1:], len(self.owner)) - 1


def _pieces(aggregate: Aggregate, good: Rows, state: State, facts: Facts) -> tuple[Any, ...]:
    """Return (total, spoken) of each reading, exactly, and remember the last ones in *state*."""
    spoken = _speaks_for(good, state, facts)
    values = good.value
    if aggregate.name == "hours":
        total = np.where(holds(values, aggregate.test, aggregate.limits), spoken, 0)
    elif aggregate.name == "excess":
        limit = aggregate.limits[0]
        beyond = np.maximum(limit - values if aggregate.test == "<" else values - limit, 0.0)
        total = exact_integral(beyond, spoken)
    elif aggregate.name == "increase":
        last = before(values, heads(good.owner), state["last"][good.owner])
        step = np.where(values >= last, values - last, values)
        total = exact(np.where(np.isnan(last), 0.0, step), facts.scale[good.owner])
        tail = tails(good.owner)
        state["last"][good.owner[tail]] = values[tail]
    else:
        total = exact(values, facts.scale[good.owner])
    tail = tails(good.owner)
    state["previous"][good.owner[tail]] = good.at_us[tail]
    return total, spoken


def exact_integral(beyond: FloatArray, spoken_us: Int64Array) -> Int64Array:
    """Return unit-seconds in whole steps of an integral."""
    return np.rint(beyond * (spoken_us / 1e6) * INTEGRAL_SCALE).astype(np.int64)


def holds(values: FloatArray, test: str, limits: tuple[float, ...]) -> BoolArray:
    """Return where *values* pass a test of an ``hours with``."""
    if test == "inside":
        return np.asarray((values >= limits[0]) & (values <= limits[1]))
    if test == "outside":
        return np.asarray((values < limits[0]) | (values > limits[1]))
    return np.asarray(COMPARE[test](values, limits[0]))


def _table(
    good: Rows, bins: Int64Array, total: Int64Array, spoken: Int64Array, carried: _Table
) -> _Table:
    """Return what was carried over and the new readings as one table by (owner, bin)."""
    into_carried, into_new, size = interleave(carried.owner, good.owner)

    def column(old: Any, new: Any, dtype: Any) -> Any:
        out = np.empty(size, dtype)
        out[into_carried], out[into_new] = old, new
        return out

    ones = np.ones(len(good.owner), np.int64)
    return _Table(
        column(carried.owner, good.owner, np.intp),
        column(carried.bin, bins, np.int64),
        column(carried.count, ones, np.int64),
        column(carried.total, total, np.int64),
        column(carried.spoken, spoken, np.int64),
        column(carried.low, good.value, np.float64),
        column(carried.high, good.value, np.float64),
        column(carried.first_at, good.at_us, np.int64),
        column(carried.first, good.value, np.float64),
        column(-1, np.arange(len(good.owner)), np.intp),
    )


@dataclass(slots=True)
class _Window:
    """For each of n windows, the first and last row of a table, and what lies in between."""

    table: _Table
    start: IndexArray
    position: IndexArray

    def count(self) -> Int64Array:
        return since_start(self.table.count, self.start, self.position)

    def total(self) -> Int64Array:
        return since_start(self.table.total, self.start, self.position)

    def spoken(self) -> Int64Array:
        return since_start(self.table.spoken, self.start, self.position)

    def high(self) -> FloatArray:
        return range_max(self.table.high, self.start, self.position)

    def low(self) -> FloatArray:
        return -range_max(-self.table.low, self.start, self.position)

    def owner(self) -> IndexArray:
        return self.table.owner[self.position]


def _statistic(aggregate: Aggregate, window: _Window, facts: Facts) -> FloatArray:
    """Return the statistic of each window, NaN where nothing is in it."""
    name = aggregate.name
    scale = facts.scale[window.owner()]
    count = window.count()
    if name == "mean":
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(window.total() / count / scale)
    if name == "count":
        return count.astype(np.float64)
    if name == "min":
        return window.low()
    if name == "max":
        return window.high()
    if name == "range":
        return window.high() - window.low()
    if name == "hours":
        return window.total() / HOUR_US
    if name == "excess":
        return window.total() / INTEGRAL_SCALE / 3600.0
    return window.total() / scale  # sum, increase


def _covered(
    aggregate: Aggregate, window: _Window, values: FloatArray, length_us: Int64Array | int
) -> FloatArray:
    """Return *values* with NaN where too little of the window was observed."""
    if not aggregate.need_us and not aggregate.need_share:
        return values
    enough = window.spoken() >= aggregate.needed_us(length_us)
    return np.where(enough, values, np.nan)


class Sliding:
    """A statistic of the last *length_us*, moving in `STEPS` steps, at every usable reading."""

    def __init__(self, aggregate: Aggregate, length_us: int) -> None:
        self._aggregate = aggregate
        self._length_us = length_us
        self._step_us = max(1, length_us // STEPS)
        self.dtype = np.dtype(
            [
                ("previous", "<i8"),
                ("last", "<f8"),
                ("top", "<i8"),
                *((name, kind, (STEPS,)) for name, kind in self._ring_fields()),
            ]
        )

    def _ring_fields(self) -> list[tuple[str, str]]:
        """Return what each step must remember for this statistic, and no more."""
        fields = [("count", "<i4"), ("total", "<i8")]
        name = self._aggregate.name
        if self._aggregate.need_us or self._aggregate.need_share:
            fields.append(("spoken", "<i8"))
        if name in ("min", "range"):
            fields.append(("low", "<f8"))
        if name in ("max", "range"):
            fields.append(("high", "<f8"))
        if name == "rate":
            fields += [("first_at", "<i8"), ("first", "<f8")]
        return fields

    def blank(self, count: int) -> State:
        """Return empty windows."""
        state = np.zeros(count, self.dtype)
        state["previous"] = state["top"] = LONG_AGO
        state["last"] = np.nan
        return state

    def run(self, state: State, rows: Rows, clock: Clock, facts: Facts) -> Stream:
        """Return the statistic at each usable reading."""
        good = rows.good()
        if not len(good.owner):
            return Stream.empty()
        total, spoken = _pieces(self._aggregate, good, state, facts)
        bins = good.at_us // self._step_us
        first = heads(good.owner)
        carried = self._carried(state, good.owner[first], bins[first] - (STEPS - 1))
        table = _table(good, bins, total, spoken, carried)
        # The first row of a window, by one search over (owner, step) as a single number.
        low = int(table.bin.min()) - STEPS
        stride = int(table.bin.max()) - low + 1
        key = table.owner * stride + (table.bin - low)
        position = np.flatnonzero(table.row >= 0)
        start = np.searchsorted(
            key, table.owner[position] * stride + (table.bin[position] - (STEPS - 1) - low), "left"
        )
        window = _Window(table, start, position)
        values = self._values(window, facts)
        self._remember(state, table, key, stride, low)
        return Stream(good.owner, good.at_us, values)

    def _values(self, window: _Window, facts: Facts) -> FloatArray:
        name = self._aggregate.name
        if name == "rate":
            values = self._rate(window)
        elif name == "median" or name.startswith("p"):
            percent = 50 if name == "median" else int(name[1:])
            values = self._percentile(window, percent, facts)
        else:
            values = _statistic(self._aggregate, window, facts)
        return _covered(self._aggregate, window, values, self._length_us)

    def _rate(self, window: _Window) -> FloatArray:
        """Return units a minute since the window's first reading, if half of it lies between."""
        table = window.table
        elapsed = table.first_at[window.position] - table.first_at[window.start]
        rise = table.first[window.position] - table.first[window.start]
        enough = 2 * elapsed >= self._length_us
        return np.where(enough, rise / np.maximum(elapsed, 1) * 60e6, np.nan)

    def _percentile(self, window: _Window, percent: int, facts: Facts) -> FloatArray:
        """Return the nearest-rank percentile of the steps' means; the newest step is partial."""
        table = window.table
        start, last = table.groups()
        scale = facts.scale[table.owner[start]]
        mean = since_start(table.total, start, last) / since_start(table.count, start, last) / scale
        group = np.searchsorted(start, window.position, "right") - 1
        oldest = np.searchsorted(start, window.start, "right") - 1
        steps = group[:, None] - np.arange(STEPS)
        means = np.where(steps >= oldest[:, None], mean[np.maximum(steps, 0)], np.nan)
        own_start = start[group]
        means[:, 0] = (
            since_start(table.total, own_start, window.position)
            / since_start(table.count, own_start, window.position)
            / facts.scale[window.owner()]
        )
        means.sort(axis=1)
        rank = (percent * (group - oldest + 1) + 99) // 100 - 1
        return np.asarray(means[np.arange(len(means)), np.maximum(rank, 0)])

    def _carried(self, state: State, owners: IndexArray, oldest: Int64Array) -> _Table:
        """Return the steps that *owners* remember from *oldest* on, as rows of a table."""
        kept = state[owners]
        steps = kept["top"][:, None] - (STEPS - 1) + np.arange(STEPS)
        slot = steps % STEPS
        count = np.take_along_axis(kept["count"], slot, 1)
        filled = (count > 0) & (steps >= oldest[:, None])
        size = int(filled.sum())

        def ring(name: str, missing: float = 0.0) -> Any:
            if name not in (self.dtype.names or ()):
                return np.full(size, missing)
            return np.take_along_axis(kept[name], slot, 1)[filled]

        return _Table(
            np.broadcast_to(owners[:, None], steps.shape)[filled],
            steps[filled],
            count[filled].astype(np.int64),
            ring("total"),
            ring("spoken"),
            ring("low", np.nan),
            ring("high", np.nan),
            ring("first_at"),
            ring("first", np.nan),
            np.full(size, -1),
        )

    def _remember(
        self, state: State, table: _Table, key: Int64Array, stride: int, low: int
    ) -> None:
        """Put the last `STEPS` steps of each owner of *table* into its ring."""
        tail = tails(table.owner)
        owners, top = table.owner[tail], table.bin[tail]
        oldest = np.searchsorted(key, owners * stride + (top - (STEPS - 1) - low), "left")
        start, last = table.groups()
        rank = np.searchsorted(owners, table.owner[start])
        recent = start >= oldest[rank]
        start, last = start[recent], last[recent]
        owner, slot = table.owner[start], table.bin[start] % STEPS
        rings = state["count"]
        rings[owners] = 0
        rings[owner, slot] = since_start(table.count, start, last)
        columns: dict[str, Any] = {
            "total": lambda: since_start(table.total, start, last),
            "spoken": lambda: since_start(table.spoken, start, last),
            "low": lambda: -range_max(-table.low, start, last),
            "high": lambda: range_max(table.high, start, last),
            "first_at": lambda: table.first_at[start],
            "first": lambda: table.first[start],
        }
        for name, values in columns.items():
            if name in (self.dtype.names or ()):
                state[name][owner, slot] = values()
        state["top"][owners] = top

    def due_us(self, state: State, facts: Facts) -> Int64Array:
        """Return NEVER: a sliding window says something new only at a reading."""
        return np.full(len(state), NEVER)


_BIN_FIELDS = [
    ("previous", "<i8"), ("last", "<f8"), ("bin", "<i8"), *_SUM_FIELDS, *_EDGE_FIELDS,
]  # fmt: skip


def _blank_bins(count: int) -> State:
    state = np.zeros(count, np.dtype(_BIN_FIELDS))
    state["previous"] = state["bin"] = LONG_AGO
    state["last"] = state["low"] = state["high"] = state["first"] = np.nan
    return state


def _open_bins(state: State) -> _Table:
    """Return the unfinished bin of each owner that has one."""
    owner = np.flatnonzero(state["count"] > 0)
    kept = state[owner]
    return _Table(
        owner,
        bin=kept["bin"],
        count=kept["count"],
        total=kept["total"],
        spoken=kept["spoken"],
        low=kept["low"],
        high=kept["high"],
        first_at=kept["first_at"],
        first=kept["first"],
        row=np.full(len(owner), -1),
    )


def _keep_bins(state: State, table: _Table, start: IndexArray, last: IndexArray) -> None:
    """Remember the groups *start* to *last* of *table* as the unfinished bin of their owners."""
    owner = table.owner[start]
    state["bin"][owner] = table.bin[start]
    for name in ("count", "total", "spoken"):
        state[name][owner] = since_start(getattr(table, name), start, last)
    state["low"][owner] = -range_max(-table.low, start, last)
    state["high"][owner] = range_max(table.high, start, last)
    state["first_at"][owner], state["first"][owner] = table.first_at[start], table.first[start]


def _by_zone(facts: Facts, owner: IndexArray, ask: Any, *columns: Any) -> Int64Array:
    """Ask each row's calendar: ``ask(calendar, *columns)``, zone by zone."""
    if len(facts.calendars) == 1:
        return np.asarray(ask(facts.calendars[0], *columns))
    zone = facts.zone[owner]
    out = np.empty(len(owner), np.int64)
    for number, calendar in enumerate(facts.calendars):
        mask = zone == number
        if mask.any():
            out[mask] = ask(calendar, *(column[mask] for column in columns))
    return out


@dataclass(frozen=True, slots=True)
class Bins:
    """A way to cut time: ``hour``, ``day`` or ``season`` (from *month_day* on)."""

    kind: str
    month_day: tuple[int, int] = (1, 1)

    def key(self, facts: Facts, owner: IndexArray, at_us: Int64Array) -> Int64Array:
        """Return which bin each instant lies in."""
        if self.kind == "hour":
            return _by_zone(facts, owner, ZoneCalendar.hour, at_us)
        if self.kind == "day":
            return _by_zone(facts, owner, ZoneCalendar.day, at_us)
        month, day = self.month_day
        return _by_zone(facts, owner, lambda c, at: c.season(at, month, day), at_us)

    def start_us(self, facts: Facts, owner: IndexArray, key: Int64Array) -> Int64Array:
        """Return when each bin begins (hours and days)."""
        ask = ZoneCalendar.hour_start_us if self.kind == "hour" else ZoneCalendar.day_start_us
        return _by_zone(facts, owner, ask, key)


class Each:
    """A statistic of every calendar hour or day, said at its end.

    *before_us* is taken off the time of each row before it is filed: 1 for rows that stand at the
    end of what they speak of (the hourly means that make a day).
    """

    dtype = np.dtype(_BIN_FIELDS)

    def __init__(
        self, aggregate: Aggregate, kind: str, need_count: int = 0, before_us: int = 0
    ) -> None:
        self._aggregate = aggregate
        self._bins = Bins(kind)
        self._need_count = need_count
        self._before_us = before_us

    def blank(self, count: int) -> State:
        """Return owners without an open hour or day."""
        return _blank_bins(count)

    def run(self, state: State, rows: Rows, clock: Clock, facts: Facts) -> Stream:
        """Return a value for each hour or day that had a reading and is over by the clock."""
        good = rows.good()
        carried = _open_bins(state)
        if not len(good.owner) and not len(carried.owner):
            return Stream.empty()
        total, spoken = _pieces(self._aggregate, good, state, facts)
        bins = self._bins.key(facts, good.owner, good.at_us - self._before_us)
        table = _table(good, bins, total, spoken, carried)
        start, last = table.groups()
        owner, key = table.owner[start], table.bin[start]
        end = self._bins.start_us(facts, owner, key + 1)
        over = end <= clock.until_us[owner]
        clock.reach(owner[over], end[over])
        state["count"][table.owner] = 0
        _keep_bins(state, table, start[~over], last[~over])
        window = _Window(table, start[over], last[over])
        values = _statistic(self._aggregate, window, facts)
        length = end - self._bins.start_us(facts, owner, key)
        values = _covered(self._aggregate, window, values, length[over])
        values = np.where(window.count() >= self._need_count, values, np.nan)
        return Stream(owner[over], end[over], values)

    def due_us(self, state: State, facts: Facts) -> Int64Array:
        """Return the end of the open hour or day."""
        out = np.full(len(state), NEVER)
        owner = np.flatnonzero(state["count"] > 0)
        out[owner] = self._bins.start_us(facts, owner, state["bin"][owner] + 1)
        return out


class Running:
    """A statistic since local midnight, or since a day of the year, at every usable reading."""

    dtype = np.dtype(_BIN_FIELDS)

    def __init__(self, aggregate: Aggregate, bins: Bins) -> None:
        self._aggregate, self._bins = aggregate, bins

    def blank(self, count: int) -> State:
        """Return owners whose day has not begun."""
        return _blank_bins(count)

    def run(self, state: State, rows: Rows, clock: Clock, facts: Facts) -> Stream:
        """Return the statistic so far at each usable reading."""
        good = rows.good()
        if not len(good.owner):
            return Stream.empty()
        total, spoken = _pieces(self._aggregate, good, state, facts)
        bins = self._bins.key(facts, good.owner, good.at_us)
        carried = _open_bins(state)
        table = _table(good, bins, total, spoken, carried)
        start, last = table.groups()
        position = np.flatnonzero(table.row >= 0)
        group = np.searchsorted(start, position, "right") - 1
        window = _Window(table, start[group], position)
        values = _statistic(self._aggregate, window, facts)
        elapsed: Int64Array | int = 0
        if self._bins.kind == "day":
            elapsed = good.at_us - self._bins.start_us(facts, good.owner, bins)
        values = _covered(self._aggregate, window, values, elapsed)
        newest = tails(table.owner[start])
        _keep_bins(state, table, start[newest], last[newest])
        return Stream(good.owner, good.at_us, values)

    def due_us(self, state: State, facts: Facts) -> Int64Array:
        """Return NEVER: it changes only at a reading."""
        return np.full(len(state), NEVER)
