"""Running totals that wrap and restart: what a water meter or rain gauge added between readings.

A counter of 16 bits comes back to 0 after 65535; a counter module that lost its power begins at 0
as well.  Both look like a fall.  Which of the two it was is told by how much can have flowed in the
time, where that is known, and else by where the counter stood: near its end before and near its
beginning after is a wrap.  Pure array arithmetic; totals in the quantity's own unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from devices.profile import Point

FloatArray = npt.NDArray[np.float64]

_NEAR = 0.25  # of the counter's range: what is near its end, what is near its beginning


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
    total = np.asarray(total, np.float64)
    before, since_s = _previous(total, np.asarray(observed_at_s, np.float64))
    added = total - before
    fell = added < 0
    if fell.any():
        wrapped = total - before + (rule.wraps_at or np.nan)
        added = np.where(fell, _after_a_fall(total, before, wrapped, since_s, rule), added)
    if rule.most_per_s is not None:
        with np.errstate(invalid="ignore"):
            added = np.where(added > rule.most_per_s * since_s, np.nan, added)
    return added


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
) -> FloatArray:
    """Return what was added where the total fell: around the end, or since a restart at 0."""
    if rule.wraps_at is None:
        return total
    if rule.most_per_s is not None:
        with np.errstate(invalid="ignore"):
            is_wrap = wrapped <= rule.most_per_s * since_s
    else:
        near = _NEAR * rule.wraps_at
        is_wrap = (before >= rule.wraps_at - near) & (total < near)
    return np.where(is_wrap, wrapped, total)


def counter_rule(point: Point) -> CounterRule:
    """Return the rule of a point that counts; raise ValueError for one that does not."""
    if point.counter is None:
        raise ValueError(f"{point.key} is no running total")
    wraps_at = point.counter.wraps_at
    return CounterRule(
        None if wraps_at is None else wraps_at * float(point.ratio), point.counter.most_per_s
    )
