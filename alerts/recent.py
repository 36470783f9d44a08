"""The readings of the last two or three lateness bounds: what a late one is judged again with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alerts.segments import BoolArray, FloatArray, Int64Array

Int32Array = npt.NDArray[np.int32]

_CHUNK = 4_096  # rows; larger chunks are not merged, so no merge takes long


@dataclass(frozen=True, slots=True)
class Readings:
    """Columns by (series, time): *series* is the engine's own dense number of each."""

    series: Int32Array
    at_us: Int64Array
    value: FloatArray
    quality: Int32Array

    def __len__(self) -> int:
        return len(self.series)

    def take(self, index: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Readings:
        """Return some rows."""
        return Readings(
            self.series[index], self.at_us[index], self.value[index], self.quality[index]
        )

    def sorted(self) -> Readings:
        """Return the rows by (series, time); of equal ones the first to come stands first."""
        series, at_us = self.series, self.at_us
        rising = (series[1:] > series[:-1]) | (
            (series[1:] == series[:-1]) & (at_us[1:] >= at_us[:-1])
        )
        if rising.all():
            return self
        return self.take(np.lexsort((at_us, series)))

    def first_of_each(self) -> Readings:
        """Return sorted rows without those whose key stands before them."""
        again = (self.series[1:] == self.series[:-1]) & (self.at_us[1:] == self.at_us[:-1])
        if not again.any():
            return self
        return self.take(np.concatenate([[True], ~again]))

    @staticmethod
    def joined(parts: list[Readings]) -> Readings:
        """Return the rows of all *parts*, one after the other."""
        return Readings(
            np.concatenate([np.empty(0, np.int32), *(part.series for part in parts)]),
            np.concatenate([np.empty(0, np.int64), *(part.at_us for part in parts)]),
            np.concatenate([np.empty(0), *(part.value for part in parts)]),
            np.concatenate([np.empty(0, np.int32), *(part.quality for part in parts)]),
        )


class RecentReadings:
    """Chunks of readings in the order they came, each sorted by (series, time)."""

    def __init__(self) -> None:
        self._chunks: list[Readings] = []

    def __len__(self) -> int:
        return sum(len(chunk) for chunk in self._chunks)

    def add(self, readings: Readings) -> None:
        """Keep sorted *readings*; small chunks are merged so that there are few."""
        if not len(readings):
            return
        self._chunks.append(readings)
        while len(self._chunks) > 1:
            last, previous = self._chunks[-1], self._chunks[-2]
            if len(previous) > 2 * len(last) or len(previous) + len(last) > _CHUNK:
                break
            self._chunks[-2:] = [Readings.joined([previous, last]).sorted()]

    def of_series(self, series: npt.NDArray[np.signedinteger[Any]]) -> Readings:
        """Return all readings of *series* (rising), by (series, time)."""
        parts = [chunk.take(rows) for chunk, rows in self._places(series)]
        return Readings.joined(parts).sorted()

    def count(self, series: npt.NDArray[np.signedinteger[Any]]) -> int:
        """Return how many readings of *series* (rising) are kept."""
        return sum(int(_spans(chunk, series)[1].sum()) for chunk in self._chunks)

    def count_before(self, series: npt.NDArray[np.signedinteger[Any]], at_us: int) -> int:
        """Return how many readings of *series* (rising) are kept from before *at_us*."""
        places = self._places(series)
        return sum(int((chunk.at_us[rows] < at_us).sum()) for chunk, rows in places)

    def _places(
        self, series: npt.NDArray[np.signedinteger[Any]]
    ) -> Iterator[tuple[Readings, npt.NDArray[np.intp]]]:
        """Yield the chunks that hold any of *series* (rising), with the rows of those."""
        for chunk in self._chunks:
            start, count = _spans(chunk, series)
            if count.any():
                rows = np.repeat(start - np.cumsum(count) + count, count)
                yield chunk, np.asarray(rows + np.arange(len(rows)), np.intp)

    def has(self, readings: Readings) -> BoolArray:
        """Return which of *readings* (sorted) are kept already, by their key."""
        if not len(readings):
            return np.zeros(0, bool)
        first_us, last_us = readings.at_us.min(), readings.at_us.max()
        parts = []
        for chunk, rows in self._places(np.unique(readings.series)):
            at_us = chunk.at_us[rows]
            parts.append(chunk.take(rows[(at_us >= first_us) & (at_us <= last_us)]))
        known = Readings.joined(parts)
        if not len(known):
            return np.zeros(len(readings), bool)
        both = Readings.joined([known, readings])
        order = np.lexsort((both.at_us, both.series))
        series, at_us = both.series[order], both.at_us[order]
        same = (series[1:] == series[:-1]) & (at_us[1:] == at_us[:-1])
        found = np.zeros(len(order), bool)
        found[order[1:]] = same
        return found[len(known) :]

    def forget(self, keep_after_us: Int64Array) -> None:
        """Drop the readings of each series (by its number) that are not after its moment."""
        kept = []
        for chunk in self._chunks:
            wanted = chunk.at_us > keep_after_us[chunk.series]
            if wanted.all():
                kept.append(chunk)
            elif wanted.any():
                kept.append(chunk.take(wanted))
        self._chunks = kept

    def all(self) -> Readings:
        """Return everything that is kept."""
        return Readings.joined(self._chunks).sorted()


def _spans(
    chunk: Readings, series: npt.NDArray[np.signedinteger[Any]]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return where the rows of each of *series* (rising) begin in a chunk, and how many."""
    start = np.searchsorted(chunk.series, series, "left")
    return start, np.searchsorted(chunk.series, series, "right") - start
