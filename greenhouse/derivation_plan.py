"""Which derived values a change of readings touches, cut into pieces of work.  Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from devices.derivation import Bound, bound
from devices.derived_series import Follower, Made, Period, Span, Track
from devices.natural_day import Periods
from devices.registry import Registry
from storage.derived import Change, Order, Recorded

_NEAR_US = 3_600_000_000  # spans that lie closer are made in one go
_ROWS_AT_A_TIME = 100_000
_ORDERS_AT_A_TIME = 1_000
_MOST_LOTS = 16
_NEVER_US = 1 << 62


@dataclass(frozen=True, slots=True)
class Piece:
    """One derived series to be made in one span."""

    series_id: int
    span: Span


class DerivationPlan:
    """The derived series of one *registry*; *lost* are the codes of those that cannot be made.

    *watched* are the numbers of all inputs.
    """

    def __init__(self, registry: Registry) -> None:
        self.revision = registry.revision
        found, self.lost = bound(registry)
        self.bound: Mapping[int, Bound] = {one.series_id: one for one in found}
        self._intervals_s = {
            registry.series_ids[one.code]: one.interval_s for one in registry.series.values()
        }
        self._by_input: defaultdict[int, list[tuple[Bound, int]]] = defaultdict(list)
        for one in found:
            for which, number in enumerate(one.input_ids):
                self._by_input[number].append((one, which))
        self.watched = frozenset(self._by_input)
        # Those whose value may change by time alone: periods that end.
        self.periods: Mapping[int, Period] = {
            one.series_id: one.follower for one in found if isinstance(one.follower, Period)
        }
        self._by_length: defaultdict[Periods, list[int]] = defaultdict(list)
        for series_id, period in self.periods.items():
            self._by_length[period.periods].append(series_id)

    def running(self, now_us: int) -> dict[int, int]:
        """Return when the period that goes on began, of each series that has periods."""
        began: dict[int, int] = {}
        for how, series_ids in self._by_length.items():
            began |= dict.fromkeys(series_ids, how.start_of(now_us))
        return began

    def touched(self, changes: Iterable[Change]) -> dict[int, list[Span]]:
        """Return the spans that *changes* of inputs touch, by derived series; none overlap."""
        spans: defaultdict[int, list[Span]] = defaultdict(list)
        for change in changes:
            rows = zip(change.series_ids, change.first_us, change.last_us, strict=True)
            for series_id, first_us, last_us in rows:
                for one, which in self._by_input.get(series_id, ()):
                    spans[one.series_id].append(one.follower.touched(which, first_us, last_us))
        return {series_id: joined(some) for series_id, some in spans.items()}

    def cut(self, piece: Piece) -> tuple[Piece, tuple[int, int, int] | None]:
        """Return the newest part of *piece*, and what is left as (series, first, last)."""
        span, step_us = piece.span, self.bound[piece.series_id].follower.step_us
        if span.end_us - span.start_us <= step_us:
            return piece, None
        middle_us = span.end_us - step_us
        newest = Piece(piece.series_id, Span(middle_us, span.end_us))
        return newest, (piece.series_id, span.start_us, middle_us - 1)

    def order(self, piece: Piece, now_us: int) -> Order:
        """Return what the database has to be asked for, to make *piece*."""
        one = self.bound[piece.series_id]
        needs = one.follower.needs(piece.span)
        return Order(
            piece.series_id,
            tuple(zip(one.input_ids, needs, strict=True)),
            partial(_make, one.follower, piece.span, now_us),
            piece.series_id in self.watched,
            piece.span.start_us,
        )

    def lots(
        self, pieces: Sequence[Piece], now_us: int
    ) -> tuple[list[list[Order]], list[tuple[int, int, int]]]:
        """Return the newest parts of *pieces* as orders in `batches`, and what is left of them."""
        cut = [self.cut(piece) for piece in pieces]
        orders = [self.order(newest, now_us) for newest, _ in cut]
        return self.batches(orders), [rest for _, rest in cut if rest is not None]

    def batches(self, orders: Sequence[Order]) -> list[list[Order]]:
        """Return *orders* in lots that one transaction can do in a moment; one lot at least.

        What lies far apart in time is kept apart where that makes few lots: continuous aggregates
        make all anew between the earliest and the latest time that a transaction touches.
        """
        by_time = sorted(orders, key=lambda order: order.start_us)
        apart = len({order.start_us // _NEAR_US for order in orders}) <= _MOST_LOTS
        lots: list[list[Order]] = [[]]
        rows = 0.0
        for order in by_time:
            size = sum(
                min((need.end_us - need.start_us) / 1e6, 366 * 86400.0) / self._intervals_s[one]
                for one, need in order.needs
            )
            lot = lots[-1]
            if lot and (
                rows + size > _ROWS_AT_A_TIME
                or len(lot) >= _ORDERS_AT_A_TIME
                or (apart and order.start_us - lot[0].start_us > _NEAR_US)
            ):
                lots.append([])
                rows = 0.0
            lots[-1].append(order)
            rows += size
        return lots

    def unlike(self, recorded: Mapping[int, Recorded]) -> dict[int, Recorded]:
        """Return how series are made that are new, or were made otherwise."""
        wanted = {
            one.series_id: Recorded(
                one.derivation.formula, one.derivation.version, one.derivation.as_setting()
            )
            for one in self.bound.values()
        }
        return {number: how for number, how in wanted.items() if recorded.get(number) != how}


def joined(spans: Iterable[Span]) -> list[Span]:
    """Return *spans* as few that do not overlap; those that lie close become one."""
    out: list[Span] = []
    for span in sorted(spans):
        if out and span.start_us <= out[-1].end_us + _NEAR_US:
            out[-1] = Span(out[-1].start_us, max(out[-1].end_us, span.end_us))
        else:
            out.append(span)
    return out


def _make(
    follower: Follower, span: Span, now_us: int, tracks: Sequence[Track], whole_from_us: int
) -> Made | None:
    """Make *span* as far as its inputs are all there: before, nothing is touched."""
    inside = Span(max(span.start_us, whole_from_us), span.end_us)
    if inside.start_us >= inside.end_us:
        return None
    there = [_within(track, whole_from_us, _NEVER_US) for track in tracks]
    made = follower.made(there, inside, now_us, whole_from_us)
    return Made(made.span, _within(made.track, made.span.start_us, made.span.end_us))


def _within(track: Track, start_us: int, end_us: int) -> Track:
    """Return what of *track* lies in [start, end); most often that is all of it."""
    if not len(track) or (start_us <= track.at_us[0] and track.at_us[-1] < end_us):
        return track
    return track.take(slice(*np.searchsorted(track.at_us, (start_us, end_us)).tolist()))
