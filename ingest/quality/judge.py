"""The judge: gives every reading its quality, once, before anybody hears or stores it.

    decoder ──batch──▶ line of calibration ▶ ranges, codes, clock ▶ peers ▶ neighbours ──▶ listeners
                       └────────── of the reading alone ─────────┘ └─ remembered ──┘       and sink

What is told of a reading alone is the same whenever it is asked.  What is told from memory
(`REMEMBERED`) depends on what came before, so it is told once: a batch that goes back to the spool
and is decoded again gets those bits from a note (`ingest.quality.notes`), and what is stored is
what listeners heard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from devices.calibration import Ledger, Timeline
from devices.checks import Checks
from devices.quality import BAD_MASK, Quality
from devices.reading import Batch, Int32Array
from devices.registry import Registry
from ingest.quality.alone import Seen, look
from ingest.quality.columns import Columns, columns
from ingest.quality.lag import Lag
from ingest.quality.lanes import LATE, LIVE, NEVER_US, Lane
from ingest.quality.neighbours import Neighbours, Rows
from ingest.quality.peers import Peers, zeros_together

REMEMBERED = int(
    Quality.STEP
    | Quality.FLAT_LINE
    | Quality.CONFLICT
    | Quality.TWIN
    | Quality.CROSS_CHECK
    | Quality.CLOCK
)
VERSION = 1  # of what `columns` gives; another version is begun anew

_CROSS, _CLOCK = np.int32(Quality.CROSS_CHECK), np.int32(Quality.CLOCK)
# What a person entered stands alone, and what a broker had kept is no news.
_APART = np.int32(Quality.MANUAL | Quality.RETAINED)
_SPOILED = np.int32(BAD_MASK) | _APART


class Judge:
    """Judges batches, in the order in which they arrived; its state is that of all series.

    *timeline* says which line of calibration a reading is on, and may be set at any time.  *judged*
    counts readings.
    """

    def __init__(self, checks: Checks | None = None) -> None:
        self._checks = checks or Checks()
        self._columns = columns(Registry(), Checks())
        self.timeline = Timeline.build(Ledger(), Registry())
        self._neighbours = Neighbours()
        self._peers = Peers()
        self._lag = Lag()
        self._names = np.empty(0, np.uint32)
        self.judged = 0

    def lay_out(self, registry: Registry) -> Columns:
        """Return *registry* as columns for `use`; takes a while for a city, and touches nothing."""
        return columns(registry, self._checks)

    def use(self, laid_out: Columns) -> None:
        """Judge by *laid_out* from the next batch on."""
        self._columns = laid_out
        for part in (self._neighbours, self._peers, self._lag):
            part.grow(laid_out.size)
        names = laid_out.name
        more = max(0, len(names) - len(self._names))
        self._names = np.concatenate([self._names, np.zeros(more, np.uint32)])
        known = self._names[: len(names)]
        other = np.flatnonzero((known != names) & (known != 0) & (names != 0))
        if len(other):  # another database has given these numbers to others
            self._neighbours.forget(other)
            self._peers.at_us[other] = NEVER_US
            self._lag.received_us[other] = NEVER_US
        known[names != 0] = names[names != 0]

    def adopt(self, registry: Registry) -> None:
        """Judge by *registry* from the next batch on."""
        self.use(self.lay_out(registry))

    def judge(self, batch: Batch) -> Batch:
        """Return *batch*, just decoded, with calibrated values and all bits; moves the state on."""
        if not len(batch):
            return batch
        seen = look(batch, self._columns, self.timeline)
        self._mark_zeros(batch, seen)
        self._mark_lag(batch, seen)
        self._mark_peers(batch, seen)
        self._mark_neighbours(batch, seen)
        self.judged += len(batch)
        return replace(batch, value=seen.value, quality=seen.quality)

    def again(self, batch: Batch, remembered: Int32Array) -> Batch:
        """Return *batch*, decoded once more, with the bits that were *remembered* when it was new.

        The state stays as it is.
        """
        if not len(batch):
            return batch
        seen = look(batch, self._columns, self.timeline)
        return replace(batch, value=seen.value, quality=seen.quality | remembered)

    def _mark_zeros(self, batch: Batch, seen: Seen) -> None:
        if np.count_nonzero(seen.raw == 0.0) < 2:
            return
        known = np.flatnonzero((seen.kind > 0) & ((seen.quality & _APART) == 0))
        series = seen.series[known]
        never_zero = self._columns.kinds.never_zero[seen.kind[known]]
        at_us, raw = batch.observed_at_us[known], seen.raw[known]
        broken = zeros_together(self._columns.device[series], at_us, raw, never_zero)
        seen.quality[known[broken]] |= _CROSS

    def _mark_lag(self, batch: Batch, seen: Seen) -> None:
        if int(seen.lateness_us.max()) <= self._columns.least_lag_us:
            return
        series, kind, late_us = seen.series, seen.kind, seen.lateness_us
        if (apart := (seen.quality & _APART) != 0).any():
            kind = np.where(apart, 0, kind)
        steady = self._lag.judge(series, kind, batch.received_at_us, late_us, self._columns)
        seen.quality[steady] |= _CLOCK

    def _mark_peers(self, batch: Batch, seen: Seen) -> None:
        table = self._columns.peers
        if not table:
            return
        members = self._usable(seen, table.member.take(seen.series, mode="clip"))
        if not len(members):
            return
        series, at_us = seen.series[members], batch.observed_at_us[members]
        bits = self._peers.judge(table, series, at_us, seen.value[members])
        if bits.any():
            seen.quality[members] |= bits

    def _mark_neighbours(self, batch: Batch, seen: Seen) -> None:
        usable = self._usable(seen)
        # Raw values: a new calibration is no jump.
        rows = Rows(seen.series, batch.observed_at_us, seen.raw, seen.kind)
        if len(usable) < len(batch):
            rows = rows.take(usable)
        bits = self._neighbours.judge(rows, self._columns)
        if bits.any():
            seen.quality[usable] |= bits

    def _usable(
        self, seen: Seen, among: npt.NDArray[np.bool_] | None = None
    ) -> npt.NDArray[np.intp]:
        """Return the rows with a value to go by, of those *among* which are asked about."""
        fit = ((seen.quality & _SPOILED) == 0) & (seen.kind > 0) & ~np.isnan(seen.raw)
        return np.flatnonzero(fit if among is None else fit & among)

    # What outlives the process.

    def remembered(self) -> dict[str, npt.NDArray[Any]]:
        """Return a copy of the state as named arrays, for a file."""
        neighbours = self._neighbours
        return {
            "version": np.array([VERSION]),
            "names": self._names.copy(),
            **neighbours.live.columns("live"),
            **neighbours.late.columns("late"),
            "newest_us": neighbours.newest_us.copy(),
            "peer_us": self._peers.at_us.copy(),
            "peer_value": self._peers.value.copy(),
            "lag_received_us": self._lag.received_us.copy(),
            "lag_lateness_us": self._lag.lateness_us.copy(),
        }

    def recall(self, columns: Mapping[str, npt.NDArray[Any]], *, complete: bool) -> None:
        """Take up the state that an earlier process remembered.

        *complete* says that it judged nothing afterwards.  If it may have, a series goes on only if
        its next reading follows the last known one at once: rather a bit too few than a wrong one.
        Raises KeyError or ValueError, and changes nothing, if *columns* cannot be used.
        """
        if int(columns["version"][0]) != VERSION:
            raise ValueError(f"version {columns['version'][0]}, expected {VERSION}")
        live, late = Lane.of(LIVE, "live", columns), Lane.of(LATE, "late", columns)
        newest_us = columns["newest_us"].astype(np.int64)
        size = len(newest_us)
        peers = Peers(columns["peer_us"].astype(np.int64), columns["peer_value"].astype(np.float64))
        lag = Lag(
            columns["lag_received_us"].astype(np.int64),
            columns["lag_lateness_us"].astype(np.int64),
        )
        lengths = {len(live.written), len(late.written), len(peers.at_us), len(peers.value)}
        names = columns["names"].astype(np.uint32)
        lengths |= {len(lag.received_us), len(lag.lateness_us), len(names), size}
        if lengths != {size}:
            raise ValueError(f"columns of different lengths: {sorted(lengths)}")
        seam = None
        if not complete and size:
            late = Lane.empty(LATE, size)
            seam = np.ones(size, bool)
        self._neighbours = Neighbours(live, late, newest_us, seam)
        self._peers, self._lag, self._names = peers, lag, names
        self.use(self._columns)
