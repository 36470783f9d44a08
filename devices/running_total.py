"""Running totals that wrap and restart: what a water meter or rain gauge added between readings.

A counter of 16 bits comes back to 0 after 65535; a counter module that lost its power begins at 0
as well.  Both look like a fall.  Which of the two it was is told by how much can have flowed in the
time, where that is known, and else by where the counter stood: near its end before and near its
beginning after is a wrap, a fall to less than half is a restart.  A smaller fall is neither: nobody
knows what flowed, and what is added from there on counts again.  Pure array arithmetic; totals in
the quantity's own unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from devices.profile import CounterEntry, Point

FloatArray = npt.NDArray[np.float64]

Int8Array = npt.NDArray[np.int8]

_NEAR = 0.25  # of the counter's range: what is near its end, what is near its beginning
_RESTARTED_BELOW = 0.5  # of where it stood, where it is not known what can have flowed


class Course(IntEnum):
    """What a total did between two readings of it."""

    PLAIN = 0
    WRAPPED = 1
    RESTARTED = 2
    UNEXPLAINED = 3


@dataclass(frozen=True, slots=True)
class CounterRule:
    """How a total behaves.

    *wraps_at* is the total at which it is 0 again (None: never).  *most_per_s* is what can be added
    in a second at most (None: not known).
    """

    wraps_at: float | None = None
    most_per_s: float | None = None

    def __post_init__(self) -> None:
        for value in (self.wraps_at, self.most_per_s):
            if value is not None and not value > 0:
                raise ValueError(f"{value} is not more than 0")


def increments(total: FloatArray, observed_at_s: FloatArray, rule: CounterRule) -> FloatArray:
    """Return what each sample added since the last sample before it that had a value.

    *total* float64 (..., n), NaN where missing; *observed_at_s* float64 (n,), rising.  The result
    is (..., n), never negative, and NaN at the first value, where the value is missing, and where
    no explanation fits: a jump that cannot have flowed in the time.  A jump is not carried on: the
    next sample is compared with the one that jumped.
    """
    return course(total, observed_at_s, rule)[0]


def course(
    total: FloatArray, observed_at_s: FloatArray, rule: CounterRule
) -> tuple[FloatArray, Int8Array]:
    """Return what `increments` does, and beside it the `Course` of each sample, int8 (..., n).

    A sample without a value, or without one before it, is plain: nothing was to be explained.
    """
    total = np.asarray(total, np.float64)
    before, since_s = _previous(total, np.asarray(observed_at_s, np.float64))
    added = total - before
    compared = ~np.isnan(added)
    kind = np.zeros(total.shape, np.int8)
    fell = added < 0
    if fell.any():
        wrapped = total - before + (rule.wraps_at or np.nan)
        is_wrap, is_restart = _after_a_fall(total, before, wrapped, since_s, rule)
        added = np.where(fell, np.where(is_wrap, wrapped, total), added)
        added = np.where(fell & ~is_wrap & ~is_restart, np.nan, added)
        kind[fell & is_restart] = Course.RESTARTED
        kind[fell & is_wrap] = Course.WRAPPED
    if rule.most_per_s is not None:
        with np.errstate(invalid="ignore"):
            added = np.where(added > rule.most_per_s * since_s, np.nan, added)
    kind[compared & np.isnan(added)] = Course.UNEXPLAINED
    return added, kind


def accumulated(total: FloatArray, observed_at_s: FloatArray, rule: CounterRule) -> FloatArray:
    """Return the total without its wraps and restarts: 0 at the first value, never falling.

    NaN where *total* is NaN.  What could not be explained adds nothing.
    """
    total = np.asarray(total, np.float64)
    added = np.nan_to_num(increments(total, observed_at_s, rule), nan=0.0)
    return np.where(np.isnan(total), np.nan, np.cumsum(added, axis=-1))


def _previous(total: FloatArray, observed_at_s: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return (last value before each sample, seconds since then); NaN where there is none."""
    place = np.where(np.isnan(total), -1, np.arange(total.shape[-1]))
    last = np.maximum.accumulate(place, axis=-1)
    last = np.concatenate([np.full((*last.shape[:-1], 1), -1), last[..., :-1]], axis=-1)
    safe = np.maximum(last, 0)
    value = np.where(last >= 0, np.take_along_axis(total, safe, axis=-1), np.nan)
    since_s = np.where(last >= 0, observed_at_s - observed_at_s[safe], np.nan)
    return value, since_s


def _after_a_fall(
    total: FloatArray,
    before: FloatArray,
    wrapped: FloatArray,
    since_s: FloatArray,
    rule: CounterRule,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return (it went around the end, it may have begun anew), for samples where the total fell."""
    with np.errstate(invalid="ignore"):
        if rule.most_per_s is not None:
            most = rule.most_per_s * since_s
            return wrapped <= most, total <= most
        is_restart = total <= _RESTARTED_BELOW * before
        if rule.wraps_at is None:
            return np.zeros(total.shape, bool), is_restart
        near = _NEAR * rule.wraps_at
        return (before >= rule.wraps_at - near) & (total < near), is_restart


def counter_rule(point: Point) -> CounterRule:
    """Return the rule of a point that counts; raise ValueError for one that does not."""
    if point.counter is None:
        raise ValueError(f"{point.key} is no running total")
    wraps_at = point.counter.wraps_at
    return CounterRule(
        None if wraps_at is None else wraps_at * float(point.ratio), point.counter.most_per_s
    )


def entered_rule(entry: CounterEntry, scale: float) -> CounterRule:
    """Return the rule that a site file gives; *scale* brings what the device sends to the unit.

    Without *wraps_at* the total never wraps: what a device sends as a decimal number seldom does.
    """
    wraps_at = None if entry.wraps_at is None else entry.wraps_at * scale
    return CounterRule(wraps_at, entry.most_per_second)
