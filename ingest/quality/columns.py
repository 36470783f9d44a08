"""Limits of all series as columns, looked up by the number of a series.

A base has many series and few kinds of them, so a series has the number of its kind (`kind`), and
each limit is a short table by kind that stays in the processor's nearest memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np
import numpy.typing as npt

from devices.checks import Checks, Limits, limits_of, shipped_checks
from devices.quantity import QUANTITIES
from devices.reading import FloatArray, Int32Array, Int64Array
from devices.registry import Registry
from ingest.quality.peers import PeerTable, peer_table

BoolArray = npt.NDArray[np.bool_]
IntpArray = npt.NDArray[np.intp]
UInt32Array = npt.NDArray[np.uint32]

_NEVER_US = 1 << 60
_GAP_INTERVALS = 3.5  # a series is stale after three: what was silent was not frozen
_GAP_SHARE = 8  # but no fewer readings than this must prove that a value is frozen
_MOST_LAG_INTERVALS = 4


@dataclass(frozen=True, slots=True)
class Kinds:
    """One row a kind of series; row 0 is of series that nothing is known about.

    Times are int64 microseconds, *rate* is the quantity's unit per microsecond.  *low* and *high*
    are what is physically possible.
    """

    low: FloatArray
    high: FloatArray
    sensor_low: FloatArray
    sensor_high: FloatArray
    saturates_at: FloatArray
    step: FloatArray
    rate: FloatArray
    flat_us: Int64Array
    gap_us: Int64Array
    rest_low: FloatArray
    rest_high: FloatArray
    ahead_us: Int64Array
    behind_us: Int64Array
    lag_us: Int64Array
    pace_us: Int64Array
    never_zero: BoolArray
    sentinels: tuple[tuple[float, BoolArray], ...]


@dataclass(frozen=True, slots=True)
class Columns:
    """What the judge knows of every series, by its number; numbers beyond are unknown to it.

    *name* tells by a checksum whether a number still means the same series, 0 for none.  *kind*
    intp, *device* int32 (numbers of no meaning of their own), *scale* and *offset* the
    conversion of units.  *least_lag_us* is the least of all kinds.
    """

    revision: int
    name: UInt32Array
    kind: IntpArray
    device: Int32Array
    scale: FloatArray
    offset: FloatArray
    kinds: Kinds
    codes: FloatArray
    least_lag_us: int
    peers: PeerTable

    @property
    def size(self) -> int:
        """One more than the largest number of a series."""
        return len(self.kind)


def columns(registry: Registry, checks: Checks) -> Columns:
    """Lay out *registry* with the shipped limits and what *checks* changes of them."""
    ids = registry.series_ids
    size = max(ids.values(), default=-1) + 1
    name, kind = np.zeros(size, np.uint32), np.zeros(size, np.intp)
    device = np.full(size, -1, np.int32)
    scale, offset = np.ones(size), np.zeros(size)
    known: dict[tuple[str, Limits, float], int] = {}
    devices = {code: number for number, code in enumerate(registry.device)}
    for series, limits in limits_of(registry, checks):
        number = ids.get(series.code)
        if number is None:
            continue
        key = (series.quantity, limits, series.interval_s)
        name[number] = crc32(series.code.encode())
        kind[number] = known.setdefault(key, len(known) + 1)
        device[number] = devices[series.device]
        scale[number], offset[number] = series.conversion.scale, series.conversion.offset
    kinds = _kinds(list(known))
    return Columns(
        registry.revision,
        name,
        kind,
        device,
        scale,
        offset,
        kinds,
        np.array(shipped_checks().codes),
        int(kinds.lag_us.min()),
        peer_table(registry, checks, size),
    )


def _kinds(keys: list[tuple[str, Limits, float]]) -> Kinds:
    rows = [Limits(), *(limits for _, limits, _ in keys)]
    intervals = [0.0, *(interval_s for _, _, interval_s in keys)]
    quantities = [None, *(QUANTITIES.get(name) for name, _, _ in keys)]
    flat_s = [max(one.flat_s, 5 * every) for one, every in zip(rows, intervals, strict=True)]
    gap_s = [
        max(_GAP_INTERVALS * every, flat / _GAP_SHARE)
        for flat, every in zip(flat_s, intervals, strict=True)
    ]
    numbers = sorted({number for one in rows for number in one.sentinels})
    return Kinds(
        low=np.array([q.low if q else -np.inf for q in quantities]),
        high=np.array([q.high if q else np.inf for q in quantities]),
        sensor_low=np.array([one.sensor_low for one in rows]),
        sensor_high=np.array([one.sensor_high for one in rows]),
        saturates_at=np.array([one.saturates_at for one in rows]),
        step=np.array([one.step for one in rows]),
        rate=np.array([one.rate_per_s / 1e6 for one in rows]),
        flat_us=_us(flat_s),
        gap_us=_us(gap_s),
        rest_low=np.array([one.rest_low for one in rows]),
        rest_high=np.array([one.rest_high for one in rows]),
        ahead_us=_us([one.ahead_s for one in rows]),
        behind_us=_us([one.behind_s for one in rows]),
        lag_us=_us([one.lag_s for one in rows]),
        pace_us=_us(intervals),
        never_zero=np.array([one.never_zero for one in rows]),
        sentinels=tuple(
            (number, np.array([number in one.sentinels for one in rows])) for number in numbers
        ),
    )


def _us(seconds: list[float]) -> Int64Array:
    """Return *seconds* as microseconds, those without an end as a time that never comes."""
    return np.minimum(np.array(seconds) * 1e6, _NEVER_US).astype(np.int64)
