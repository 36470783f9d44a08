"""Operators: a series' readings in, the stream of values that a condition looks at out.

Each operator keeps its state as one NumPy record a series, so that a hundred thousand of them are
one array: copied in one step (checkpoints), saved as bytes, and gathered for the series that a
batch touches.  `Operator.run` gets such a gathered array, changes it in place, and returns a
stream; whoever calls it decides whether the change is kept.  Rows come sorted by (owner, time), and
never before what the state has seen.

Sums are exact: a value becomes a whole multiple of ``1 / scale`` (a power of two) before it is
added.  Exact sums do not depend on the order of addition, so cutting readings into other batches
can never change a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

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
    latest_mark,
    tails,
)
from alerts.zone import ZoneCalendar
from devices.quantity import QUANTITIES

State = npt.NDArray[Any]


@lru_cache(maxsize=1024)
def exact_scale(quantity: str) -> float:
    """Return the power of two by which values of *quantity* become whole numbers.

    Two to the fortieth spans the quantity's range (70 °C: steps of 1e-10), which leaves room for
    four million readings in one sum.
    """
    known = QUANTITIES.get(quantity)
    largest = max(abs(known.low), abs(known.high), 1.0) if known else 1.0
    return float(2.0 ** (40 - int(np.ceil(np.log2(largest)))))


def exact(values: FloatArray, scale: FloatArray | float) -> Int64Array:
    """Return *values* in whole steps; beyond ±2^41 steps they stay at that bound."""
    bound = float(2**41)
    return np.asarray(np.clip(np.rint(values * scale), -bound, bound).astype(np.int64))


@dataclass(frozen=True, slots=True)
class Facts:
    """What is fixed about each owner: expected interval, exact scale, and its zone's calendar.

    *interval_us* int64 (m,), *scale* float64 (m,), *zone* an index into *calendars* (m,).
    """

    interval_us: Int64Array
    scale: FloatArray
    zone: IndexArray
    calendars: Sequence[ZoneCalendar]

    def take(self, index: npt.NDArray[Any]) -> Facts:
        """Return the facts of some owners."""
        return Facts(self.interval_us[index], self.scale[index], self.zone[index], self.calendars)


@dataclass(frozen=True, slots=True)
class Rows:
    """Readings of m owners: *owner* (n,) rising indexes, *at_us* rising within an owner."""

    owner: IndexArray
    at_us: Int64Array
    value: FloatArray
    usable: BoolArray

    def good(self) -> Rows:
        """Return the usable ones."""
        if self.usable.all():
            return self
        mask = self.usable
        return Rows(self.owner[mask], self.at_us[mask], self.value[mask], mask[mask])


@dataclass(frozen=True, slots=True)
class Stream:
    """Values of m owners over time; NaN says that there is no valid value from here on."""

    owner: IndexArray
    at_us: Int64Array
    value: FloatArray

    @staticmethod
    def empty() -> Stream:
        """Return a stream without rows."""
        return Stream(np.empty(0, np.intp), np.empty(0, np.int64), np.empty(0))


@dataclass(slots=True)
class Clock:
    """How far time is known for m owners, and how far it has done something to them.

    *until_us* (m,): what is due up to here happens.  *reached_us* (m,): the last moment at which
    time alone closed a window or broke a silence; a reading from before it comes late.
    """

    until_us: Int64Array
    reached_us: Int64Array

    @staticmethod
    def at(until_us: Int64Array) -> Clock:
        """Return a clock that has done nothing yet."""
        return Clock(until_us, np.full(len(until_us), LONG_AGO))

    def reach(self, owner: IndexArray, at_us: Int64Array) -> None:
        """Note that time did something at *at_us*."""
        np.maximum.at(self.reached_us, owner, at_us)


class Operator(Protocol):
    """One kind of stream; the same instance serves all owners."""

    dtype: np.dtype[Any]

    def blank(self, count: int) -> State:
        """Return the state of *count* owners that have seen nothing."""
        ...

    def run(self, state: State, rows: Rows, clock: Clock, facts: Facts) -> Stream:
        """Take *rows* in, and what time brings by the *clock*; change both in place."""
        ...

    def due_us(self, state: State, facts: Facts) -> Int64Array:
        """Return (m,) when time alone will bring a new value, `NEVER` where it will not."""
        ...


class Value:
    """The readings themselves."""

    dtype = np.dtype([])

    def blank(self, count: int) -> State:
        """Return nothing: there is nothing to remember."""
        return np.zeros(count, self.dtype)

    def run(self, state: State, rows: Rows, clock: Clock, facts: Facts) -> Stream:
        """Pass on what is usable."""
        good = rows.good()
        return Stream(good.owner, good.at_us, good.value)

    def due_us(self, state: State, facts: Facts) -> Int64Array:
        """Return NEVER: readings come by themselves."""
        return np.full(len(state), NEVER)


class Silence:
    """1 from the moment that a series has been silent for too long, 0 at every reading.

    *intervals* of the series, or *length_us* where that is 0.  *confirm_us* are further moments of
    the same silence at which 1 is said again, so that a level's ``for`` finds its sample.
    """

    def __init__(
        self, intervals: float, length_us: int, valid: bool, confirm_us: Sequence[int] = ()
    ) -> None:
        self._intervals, self._length_us, self._valid = intervals, length_us, valid
        self._offsets = np.array(sorted({0, *confirm_us}), np.int64)
        self.dtype = np.dtype([("previous", "<i8"), ("said", "<i1")])

    def blank(self, count: int) -> State:
        """Return series that never spoke; they are not silent, there is no telling since when."""
        state = np.zeros(count, self.dtype)
        state["previous"] = LONG_AGO
        return state

    def patience_us(self, facts: Facts) -> Int64Array:
        """Return (m,) how long a series may be silent."""
        if self._intervals:
            return np.asarray(np.rint(self._intervals * facts.interval_us).astype(np.int64))
        return np.full(len(facts.interval_us), self._length_us, np.int64)

    def run(self, state: State, rows: Rows, clock: Clock, facts: Facts) -> Stream:
        """Return a 0 at each reading and a 1 at each limit that was passed before the next."""
        heard = rows.good() if self._valid else rows
        patience = self.patience_us(facts)
        owners = np.arange(len(state))
        # Every silence is a stretch from a reading to the next one, or to *until* for the last.
        # It begins with the one that the state remembers.
        start_at, heard_at, total = interleave(owners, heard.owner)
        owner = np.empty(total, np.intp)
        owner[start_at], owner[heard_at] = owners, heard.owner
        start = np.empty(total, np.int64)
        start[start_at], start[heard_at] = state["previous"], heard.at_us
        last = tails(owner)
        stop = np.empty(total, np.int64)
        stop[:-1] = start[1:]
        stop[last] = NEVER
        said = np.zeros(total, np.int64)
        said[start_at] = state["said"]
        streams = [Stream(heard.owner, heard.at_us, np.zeros(len(heard.owner)))]
        known = start > LONG_AGO
        count = said.copy()
        for number, offset in enumerate(self._offsets):
            moment = start + patience[owner] + offset
            # At its very end a silence is broken by a reading, but not by the mere end of knowing.
            passed = known & (moment < stop) & ~(last & (moment > clock.until_us[owner]))
            new = passed & (said <= number)
            streams.append(Stream(owner[new], moment[new], np.ones(int(new.sum()))))
            clock.reach(owner[new], moment[new])
            count = np.where(passed, number + 1, count)
        state["previous"], state["said"] = start[last], count[last]
        return _merged(streams)

    def due_us(self, state: State, facts: Facts) -> Int64Array:
        """Return the next limit of the running silence."""
        left = np.append(self._offsets, NEVER)[state["said"]]
        moment = state["previous"] + self.patience_us(facts) + np.minimum(left, NEVER // 2)
        silent = (state["previous"] > LONG_AGO) & (left < NEVER)
        return np.where(silent, moment, NEVER)


def _merged(streams: Sequence[Stream]) -> Stream:
    """Return all rows of *streams* by (owner, time)."""
    filled = [stream for stream in streams if len(stream.owner)]
    if len(filled) <= 1:
        return filled[0] if filled else Stream.empty()
    owner = np.concatenate([stream.owner for stream in filled])
    at_us = np.concatenate([stream.at_us for stream in filled])
    value = np.concatenate([stream.value for stream in filled])
    order = np.lexsort((at_us, owner))
    return Stream(owner[order], at_us[order], value[order])


class Unchanged:
    """Seconds for which a series has said exactly the same value, without a gap."""

    dtype = np.dtype([("previous", "<i8"), ("since", "<i8"), ("value", "<f8")])

    def blank(self, count: int) -> State:
        """Return series without a value."""
        state = np.zeros(count, self.dtype)
        state["previous"] = LONG_AGO
        state["value"] = np.nan
        return state

    def run(self, state: State, rows: Rows, clock: Clock, facts: Facts) -> Stream:
        """Return at each usable reading how long its value has stood."""
        good = rows.good()
        if not len(good.owner):
            return Stream.empty()
        head = heads(good.owner)
        previous = before(good.at_us, head, state["previous"][good.owner])
        last_value = before(good.value, head, state["value"][good.owner])
        gap = good.at_us - previous > 3 * facts.interval_us[good.owner]
        starts = (good.value != last_value) | gap
        mark = latest_mark(starts | head)
        since = np.where(starts[mark], good.at_us[mark], state["since"][good.owner])
        tail = tails(good.owner)
        owner = good.owner[tail]
        state["previous"][owner] = good.at_us[tail]
        state["since"][owner] = since[tail]
        state["value"][owner] = good.value[tail]
        return Stream(good.owner, good.at_us, (good.at_us - since) / 1e6)

    def due_us(self, state: State, facts: Facts) -> Int64Array:
        """Return NEVER: only readings count."""
        return np.full(len(state), NEVER)
