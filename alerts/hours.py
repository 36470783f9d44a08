"""What is made of hourly means: a day's, eight hours rolling, a day's largest eight, the usual.

The air standard defines its daily and eight-hour values by hourly means, each with its own
completeness (GB 3095-2026 table 4); so these operators stand on `window.Each`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from alerts.segments import (
    LONG_AGO,
    NEVER,
    FloatArray,
    IndexArray,
    Int64Array,
    heads,
    since_start,
    tails,
)
from alerts.stream import Clock, Facts, Rows, State, Stream, exact
from alerts.window import Aggregate, Bins, Each
from alerts.zone import HOUR_US


class _Eight:
    """The mean of eight hourly means in a row, at the end of every hour where enough are valid."""

    dtype = np.dtype(
        [("top", "<i8"), ("emitted", "<i8"), ("total", "<i8", (8,)), ("valid", "?", (8,))]
    )

    def __init__(self, need: int) -> None:
        self._need = need
        self._hours = Bins("hour")

    def blank(self, count: int) -> State:
        state = np.zeros(count, self.dtype)
        state["top"] = state["emitted"] = LONG_AGO
        return state

    def run(self, state: State, hourly: Stream, clock: Clock, facts: Facts) -> Stream:
        """Return (owner, end, mean) for the hours that are over by the clock.

        Each hourly mean takes part in the eight windows that end with it or up to seven hours
        later; a window ends whether or not its last hour is valid.
        """
        owners = np.arange(len(state))
        over = self._hours.key(facts, owners, clock.until_us) - 1  # the last hour that has ended
        valid = ~np.isnan(hourly.value)
        owner, at_us = hourly.owner[valid], hourly.at_us[valid]
        hour = self._hours.key(facts, owner, at_us) - 1
        total = exact(hourly.value[valid], facts.scale[owner])
        owner, hour, total = self._with_carried(state, owner, hour, total)
        window = (hour[:, None] + np.arange(8)).ravel()
        of, part = np.repeat(owner, 8), np.repeat(total, 8)
        wanted = (window > state["emitted"][of]) & (window <= over[of])
        of, window, part = of[wanted], window[wanted], part[wanted]
        order = np.lexsort((window, of))
        of, window, part = of[order], window[order], part[order]
        self._remember(state, owner, hour, total)
        if not len(of):
            return Stream.empty()
        new = heads(of)
        new[1:] |= window[1:] != window[:-1]
        start = np.flatnonzero(new)
        last = np.append(start[1:], len(of)) - 1
        count = last - start + 1
        enough = count >= self._need
        start, last, count = start[enough], last[enough], count[enough]
        mean = since_start(part, start, last) / count / facts.scale[of[start]]
        np.maximum.at(state["emitted"], of[start], window[start])
        end = self._hours.start_us(facts, of[start], window[start] + 1)
        clock.reach(of[start], end)
        return Stream(of[start], end, mean)

    def _with_carried(
        self, state: State, owner: IndexArray, hour: Int64Array, total: Int64Array
    ) -> tuple[IndexArray, Int64Array, Int64Array]:
        of, slot = np.nonzero(state["valid"])
        old = state["top"][of] - (state["top"][of] - slot) % 8
        return (
            np.concatenate([of, owner]),
            np.concatenate([old, hour]),
            np.concatenate([state["total"][of, slot], total]),
        )

    def _remember(
        self, state: State, owner: IndexArray, hour: Int64Array, total: Int64Array
    ) -> None:
        """Keep the newest eight hours that can take part in a window to come."""
        np.maximum.at(state["top"], owner, hour)
        recent = hour > state["top"][owner] - 8
        of, slot = owner[recent], hour[recent] % 8
        state["valid"] = False
        state["total"][of, slot] = total[recent]
        state["valid"][of, slot] = True

    def due_us(self, state: State, facts: Facts) -> Int64Array:
        """Return the end of the next hour, where enough of its eight are valid already."""
        coming = np.maximum(state["emitted"], state["top"]) + 1
        hours = state["top"][:, None] - (state["top"][:, None] - np.arange(8)) % 8
        within = state["valid"] & (hours >= coming[:, None] - 7)
        ready = np.flatnonzero(within.sum(axis=1) >= self._need)
        out = np.full(len(state), NEVER)
        out[ready] = self._hours.start_us(facts, ready, coming[ready] + 1)
        return out


class OfHours:
    """What is made of hourly means: of a day, rolling over eight hours, or a day's largest eight.

    *need_us* must be observed of an hour for its mean to count; *need_hours* such hours make the
    day (``hours_day``) or the eight (``hours_8``, ``eights_day``).  The eight-hour windows of a day
    lie inside it.
    """

    def __init__(self, kind: str, name: str, need_us: int, need_hours: int) -> None:
        self._kind = kind
        self._hourly = Each(Aggregate("mean", need_us=need_us), "hour")
        self._eight = _Eight(need_hours)
        need_count = need_hours if kind == "hours_day" else 0
        self._daily = Each(Aggregate(name), "day", need_count, before_us=1)
        parts = {
            "hours_day": [("hourly", Each.dtype), ("daily", Each.dtype)],
            "hours_8": [("hourly", Each.dtype), ("eight", _Eight.dtype)],
            "eights_day": [("hourly", Each.dtype), ("eight", _Eight.dtype), ("daily", Each.dtype)],
        }
        self.dtype = np.dtype(parts[kind])

    def blank(self, count: int) -> State:
        """Return owners without an hour."""
        state = np.zeros(count, self.dtype)
        for name, operator in self._parts():
            state[name] = operator.blank(count)
        return state

    def _parts(self) -> list[tuple[str, Any]]:
        known = {"hourly": self._hourly, "eight": self._eight, "daily": self._daily}
        return [(name, known[name]) for name in self.dtype.names or ()]

    def run(self, state: State, rows: Rows, clock: Clock, facts: Facts) -> Stream:
        """Return the value at the end of each day, or of each hour for the rolling mean."""
        stream = self._hourly.run(state["hourly"], rows, clock, facts)
        if self._kind != "hours_day":
            stream = self._eight.run(state["eight"], stream, clock, facts)
        if self._kind == "eights_day":
            stream = self._inside_a_day(stream, facts)
        if self._kind == "hours_8":
            return stream
        known = ~np.isnan(stream.value)
        daily = Rows(stream.owner[known], stream.at_us[known], stream.value[known], known[known])
        return self._daily.run(state["daily"], daily, clock, facts)

    def _inside_a_day(self, stream: Stream, facts: Facts) -> Stream:
        """Return the windows that begin and end in the same natural day."""
        days = Bins("day")
        begin = days.key(facts, stream.owner, stream.at_us - 8 * HOUR_US)
        inside = begin == days.key(facts, stream.owner, stream.at_us - 1)
        return Stream(stream.owner[inside], stream.at_us[inside], stream.value[inside])

    def due_us(self, state: State, facts: Facts) -> Int64Array:
        """Return the end of the open hour or day, whichever is first."""
        due = [operator.due_us(state[name], facts) for name, operator in self._parts()]
        return np.asarray(np.minimum.reduce(due))


class Usual:
    """The mean of the same hour of the days before, at every usable reading.

    Of *days* days at least half must have that hour.
    """

    def __init__(self, days: int) -> None:
        self._days = days
        self._hours = Bins("hour")
        self._hourly = Each(Aggregate("mean"), "hour")
        self._ring = days * 24
        self.dtype = np.dtype(
            [
                ("hourly", Each.dtype),
                ("top", "<i8"),
                ("total", "<i8", (self._ring,)),
                ("valid", "?", (self._ring,)),
            ]
        )

    def blank(self, count: int) -> State:
        """Return owners without a past."""
        state = np.zeros(count, self.dtype)
        state["hourly"] = self._hourly.blank(count)
        state["top"] = LONG_AGO
        return state

    def run(self, state: State, rows: Rows, clock: Clock, facts: Facts) -> Stream:
        """Return what is usual at the hour of each usable reading, NaN where that is unknown."""
        good = rows.good()
        # An hour is closed by a reading after it, not by time: nobody looks at it before.
        known = np.full(len(state), LONG_AGO)
        tail = tails(good.owner)
        known[good.owner[tail]] = good.at_us[tail]
        hourly = self._hourly.run(state["hourly"], good, Clock.at(known), facts)
        hour = self._hours.key(facts, hourly.owner, hourly.at_us) - 1
        total = exact(hourly.value, facts.scale[hourly.owner])
        of, slot = np.nonzero(state["valid"])
        old = state["top"][of] - (state["top"][of] - slot) % self._ring
        known_owner = np.concatenate([of, hourly.owner])
        known_hour = np.concatenate([old, hour])
        known_total = np.concatenate([state["total"][of, slot], total])
        order = np.lexsort((known_hour, known_owner))
        known_owner, known_hour = known_owner[order], known_hour[order]
        known_total = known_total[order]
        values = self._usual(good, known_owner, known_hour, known_total, facts)
        self._remember(state, known_owner, known_hour, known_total)
        return Stream(good.owner, good.at_us, values)

    def _usual(
        self,
        good: Rows,
        known_owner: IndexArray,
        known_hour: Int64Array,
        known_total: Int64Array,
        facts: Facts,
    ) -> FloatArray:
        if not len(known_owner) or not len(good.owner):
            return np.full(len(good.owner), np.nan)
        hour = self._hours.key(facts, good.owner, good.at_us)
        low = min(int(known_hour.min()), int(hour.min()) - self._ring)
        stride = max(int(known_hour.max()), int(hour.max())) - low + 1
        key = known_owner * stride + (known_hour - low)
        total = np.zeros(len(hour), np.int64)
        count = np.zeros(len(hour), np.int64)
        for day in range(1, self._days + 1):
            wanted = good.owner * stride + (hour - 24 * day - low)
            place = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
            found = key[place] == wanted
            total += np.where(found, known_total[place], 0)
            count += found
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = total / count / facts.scale[good.owner]
        return np.where(2 * count >= self._days, mean, np.nan)

    def _remember(
        self, state: State, owner: IndexArray, hour: Int64Array, total: Int64Array
    ) -> None:
        np.maximum.at(state["top"], owner, hour)
        recent = hour > state["top"][owner] - self._ring
        owner, hour, total = owner[recent], hour[recent], total[recent]
        state["valid"] = False
        slot = hour % self._ring
        state["total"][owner, slot] = total
        state["valid"][owner, slot] = True

    def due_us(self, state: State, facts: Facts) -> Int64Array:
        """Return NEVER: it says something only at a reading."""
        return np.full(len(state), NEVER)
