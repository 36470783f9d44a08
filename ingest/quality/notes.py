"""Notes on what went back to the spool: the bits that listeners heard of it.

A batch that the sink cannot take in time is decoded again, perhaps hours later, when the judge
remembers other readings.  So the bits that came from memory are noted, by the portion of the spool
and only for the rows that have any; what was good when it was heard costs nothing.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from devices.reading import Batch, Int32Array, Int64Array
from ingest.quality.judge import REMEMBERED


@dataclass(frozen=True, slots=True)
class _Note:
    """Bits of some rows of a portion; *series_id* and *at_us* tell whether they are still these."""

    rows: npt.NDArray[np.intp]
    series_id: Int32Array
    at_us: Int64Array
    bits: Int32Array


class Notes:
    """Notes of at most *most_rows* rows; beyond, a portion's are left out, and counted.

    *forgotten* counts rows whose bits could not be given back: it is stored with fewer reasons than
    listeners heard.
    """

    def __init__(self, most_rows: int = 1_000_000) -> None:
        self._most_rows = most_rows
        self._notes: dict[Hashable, _Note] = {}
        self._rows = 0
        self.forgotten = 0

    def __len__(self) -> int:
        return self._rows

    def keep(self, portion: Hashable, batch: Batch) -> None:
        """Note the bits of *batch*, which is what *portion* was decoded to."""
        rows = np.flatnonzero(batch.quality & np.int32(REMEMBERED))
        self._drop(portion)
        if not len(rows):
            return
        if self._rows + len(rows) > self._most_rows:
            self.forgotten += len(rows)
            return
        bits = batch.quality[rows] & np.int32(REMEMBERED)
        self._notes[portion] = _Note(rows, batch.series_id[rows], batch.observed_at_us[rows], bits)
        self._rows += len(rows)

    def take(self, portion: Hashable, batch: Batch) -> Int32Array:
        """Return the bits noted of *portion*, now decoded to *batch*, and forget them."""
        bits = np.zeros(len(batch), np.int32)
        note = self._drop(portion)
        if note is None:
            return bits
        # Another registry may have made other rows of the same arrivals.
        there = note.rows < len(batch)
        rows = note.rows[there]
        same = batch.series_id[rows] == note.series_id[there]
        same &= batch.observed_at_us[rows] == note.at_us[there]
        bits[rows[same]] = note.bits[there][same]
        self.forgotten += len(note.rows) - int(same.sum())
        return bits

    def _drop(self, portion: Hashable) -> _Note | None:
        note = self._notes.pop(portion, None)
        if note is not None:
            self._rows -= len(note.rows)
        return note
