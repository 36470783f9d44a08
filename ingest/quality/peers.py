"""A reading against other series: twins, one quantity below a part of it, a probe in the air.

A series is held against the newest reading of the other at or before its own time, if that is not
older than half an interval (an interval for twins).  Readings of one batch count as known to each
other, so both of two that came in one message are marked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from devices.checks import Checks, limits_of, shipped_checks
from devices.quality import Quality
from devices.reading import FloatArray, Int32Array, Int64Array
from devices.registry import Registry
from devices.series import Series

BoolArray = npt.NDArray[np.bool_]
IntpArray = npt.NDArray[np.intp]

_NEVER_US = -(1 << 62)
_MS_BITS = 43  # milliseconds from 1970 to 2248, before the bits of the series
_MOST_MS = (1 << _MS_BITS) - 1
_CROSS, _TWIN = np.int32(Quality.CROSS_CHECK), np.int32(Quality.TWIN)


@dataclass(frozen=True, slots=True)
class PeerTable:
    """Pairs, each twice: *of* is held against *other*.

    A row of *of* gets *bit* where its value less that of *other* is above *most* or below *least*,
    or where its value is at most *own_at_most* and the other's at most *other_at_most*.  By series:
    *member* has a peer, its pairs are the *count* from *first* on, and only values up to *screen*
    can be wrong.
    """

    member: BoolArray
    screen: FloatArray
    first: Int64Array
    count: Int64Array
    other: Int32Array
    within_us: Int64Array
    least: FloatArray
    most: FloatArray
    own_at_most: FloatArray
    other_at_most: FloatArray
    bit: Int32Array

    def __bool__(self) -> bool:
        return len(self.other) > 0


@dataclass(frozen=True, slots=True)
class _Pair:
    of: int
    other: int
    within_us: int
    bit: int
    least: float = -np.inf
    most: float = np.inf
    own_at_most: float = -np.inf
    other_at_most: float = -np.inf


def peer_table(registry: Registry, checks: Checks, size: int) -> PeerTable:
    """Return the pairs among the series of *registry*, whose numbers are below *size*."""
    found = sorted(_pairs(registry, checks), key=lambda pair: (pair.of, pair.other))
    found = [pair for pair in found if pair.of >= 0 and pair.other >= 0]
    count = np.bincount([pair.of for pair in found], minlength=max(size, 1)).astype(np.int64)
    screen = np.full(len(count), -np.inf)
    for pair in found:
        compares = pair.least > -np.inf or pair.most < np.inf
        screen[pair.of] = max(screen[pair.of], np.inf if compares else pair.own_at_most)
    return PeerTable(
        count > 0,
        screen,
        np.concatenate([[0], np.cumsum(count)[:-1]]).astype(np.int64),
        count,
        np.array([pair.other for pair in found], np.int32),
        np.array([pair.within_us for pair in found], np.int64),
        np.array([pair.least for pair in found], np.float64),
        np.array([pair.most for pair in found], np.float64),
        np.array([pair.own_at_most for pair in found], np.float64),
        np.array([pair.other_at_most for pair in found], np.float64),
        np.array([pair.bit for pair in found], np.int32),
    )


def _pairs(registry: Registry, checks: Checks) -> Iterator[_Pair]:
    ids = registry.series_ids
    for twins in checks.twins:
        first, second = registry.series.get(twins.first), registry.series.get(twins.second)
        if first is None or second is None:
            continue
        one, other = ids.get(first.code, -1), ids.get(second.code, -1)
        near = round(1e6 * max(first.interval_s, second.interval_s))
        yield _Pair(one, other, near, int(_TWIN), -twins.within, twins.within)
        yield _Pair(other, one, near, int(_TWIN), -twins.within, twins.within)
    shipped = shipped_checks()
    quantities = {one.quantity for one in shipped.not_below} | {
        one.quantity for one in shipped.zero_together
    }
    together: dict[tuple[str, str], dict[str, Series]] = {}
    for series, limits in limits_of(registry, checks):
        if limits.pairs:
            together.setdefault((series.device, series.channel), {})[series.quantity] = series
    for group in together.values():
        if not quantities.isdisjoint(group):
            yield from _pairs_of(group, registry)


def _pairs_of(group: dict[str, Series], registry: Registry) -> Iterator[_Pair]:
    ids, shipped, cross = registry.series_ids, shipped_checks(), int(_CROSS)
    for rule in shipped.not_below:
        if rule.quantity in group and rule.of in group:
            whole, part = group[rule.quantity], group[rule.of]
            one, other, near = ids.get(whole.code, -1), ids.get(part.code, -1), _near(whole, part)
            yield _Pair(one, other, near, cross, least=-rule.within)
            yield _Pair(other, one, near, cross, most=rule.within)
    for zero in shipped.zero_together:
        if zero.quantity in group and zero.other in group:
            wet, salt = group[zero.quantity], group[zero.other]
            one, other, near = ids.get(wet.code, -1), ids.get(salt.code, -1), _near(wet, salt)
            limits = (zero.at_most, zero.other_at_most)
            yield _Pair(one, other, near, cross, own_at_most=limits[0], other_at_most=limits[1])
            yield _Pair(other, one, near, cross, own_at_most=limits[1], other_at_most=limits[0])


def _near(one: Series, other: Series) -> int:
    return round(0.5e6 * min(one.interval_s, other.interval_s))


@dataclass(slots=True)
class Peers:
    """The newest usable reading of every series that has a peer."""

    at_us: Int64Array = field(default_factory=lambda: np.empty(0, np.int64))
    value: FloatArray = field(default_factory=lambda: np.empty(0))

    def grow(self, size: int) -> None:
        """Make room for series up to *size*."""
        more = size - len(self.at_us)
        if more > 0:
            self.at_us = np.concatenate([self.at_us, np.full(more, _NEVER_US, np.int64)])
            self.value = np.concatenate([self.value, np.full(more, np.nan)])

    def judge(
        self, table: PeerTable, series: IntpArray, at_us: Int64Array, value: FloatArray
    ) -> Int32Array:
        """Return the bits of usable rows of members, and remember the newest of each series."""
        bits = np.zeros(len(series), np.int32)
        asked = np.flatnonzero(value <= table.screen[series])
        if len(asked):
            pairs = table.count[series[asked]]
            row = np.repeat(asked, pairs)
            begin = np.cumsum(pairs) - pairs
            pair = table.first[series[row]] + np.arange(len(row)) - np.repeat(begin, pairs)
            other = self._seen(table, pair, at_us[row], series, at_us, value)
            own = value[row]
            with np.errstate(over="ignore"):
                wrong = (own - other < table.least[pair]) | (own - other > table.most[pair])
            wrong |= (own <= table.own_at_most[pair]) & (other <= table.other_at_most[pair])
            np.bitwise_or.at(bits, row[wrong], table.bit[pair[wrong]])
        self._remember(series, at_us, value)
        return bits

    def _seen(
        self,
        table: PeerTable,
        pair: npt.NDArray[np.int64],
        when_us: Int64Array,
        series: IntpArray,
        at_us: Int64Array,
        value: FloatArray,
    ) -> FloatArray:
        """Return the value of the other of each pair at *when_us*, NaN where none is near."""
        keys = _keys(series, at_us)
        order = np.argsort(keys, kind="stable")
        other = table.other[pair].astype(np.intp)
        found = np.searchsorted(keys[order], _keys(other, when_us), "right") - 1
        at = order[np.maximum(found, 0)]
        here = (found >= 0) & (series[at] == other) & (at_us[at] <= when_us)
        known_us = np.where(here, at_us[at], _NEVER_US)
        known = np.where(here, value[at], np.nan)
        older = self.at_us[other]
        newer = (older <= when_us) & (older > known_us)
        known_us = np.where(newer, older, known_us)
        known = np.where(newer, self.value[other], known)
        near = when_us - known_us <= table.within_us[pair]
        return np.where(near, known, np.nan)

    def _remember(self, series: IntpArray, at_us: Int64Array, value: FloatArray) -> None:
        newer = at_us > self.at_us[series]
        if not newer.all():
            series, at_us, value = series[newer], at_us[newer], value[newer]
        self.at_us[series] = at_us  # of several rows of one series the last stays
        self.value[series] = value
        if (self.at_us[series] < at_us).any():
            order = np.argsort(at_us, kind="stable")
            self.at_us[series[order]] = at_us[order]
            self.value[series[order]] = value[order]


def _keys(series: IntpArray, at_us: Int64Array) -> Int64Array:
    """Return numbers that sort by series and then by time, to the millisecond."""
    ms = np.clip(at_us // 1000, 0, _MOST_MS)
    return (series.astype(np.int64) << _MS_BITS) | ms


def zeros_together(
    device: Int32Array, at_us: Int64Array, value: FloatArray, never_zero: BoolArray
) -> BoolArray:
    """Return which rows, in the order of arrival, are noughts of a message without values.

    A message is a stretch of rows of one device and moment.  Where at least two of its quantities
    are improbable at nought, and all of these are exactly that, they are an error of the device (an
    export without data, a probe that is starting up); the message's other noughts are too, unless
    it has any value at all.
    """
    nought = value == 0.0
    suspects = nought & never_zero
    found = np.zeros(len(value), bool)
    if np.count_nonzero(suspects) < 2:
        return found
    begins = np.empty(len(value), bool)
    begins[:1] = True
    begins[1:] = (device[1:] != device[:-1]) | (at_us[1:] != at_us[:-1])
    message = np.cumsum(begins) - 1
    count = message[-1] + 1
    all_odd = np.bincount(message[never_zero & ~np.isnan(value)], minlength=count)
    odd = np.bincount(message[suspects], minlength=count)
    some = np.bincount(message[~nought & ~np.isnan(value)], minlength=count) > 0
    broken = (odd >= 2) & (odd == all_odd)
    return np.asarray(broken[message] & nought & (never_zero | ~some[message]), np.bool_)
