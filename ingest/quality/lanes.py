"""What is remembered of each series: its last usable readings, in two lanes.

    live lane   the newest by measured time, in that order
    late lane   what came behind the newest, in rising order; begun anew when it falls back again

A reading looks back at what lies before it in measured time: one of the live lane at that lane, a
late one at both.  So history that a device or the spool delivers behind the present is judged like
the present, and neither disturbs the other.

A lane is a ring of entries (time, value, begin of the run of this value, bits) for each series, all
series in one array.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from devices.reading import FloatArray, Int32Array, Int64Array

BoolArray = npt.NDArray[np.bool_]
IntpArray = npt.NDArray[np.intp]

NEVER_US = -(1 << 62)
LIVE, LATE = 8, 4  # entries; powers of two, at least the three that a jump is held against


@dataclass(slots=True)
class Lane:
    """Rings of *depth* entries; *written* counts what was ever put into each."""

    depth: int
    at_us: Int64Array
    value: FloatArray
    run_us: Int64Array
    bits: Int32Array
    written: Int64Array

    @staticmethod
    def empty(depth: int, size: int = 0) -> Lane:
        """Return a lane for *size* series that has nothing."""
        entries = depth * size
        return Lane(
            depth,
            np.full(entries, NEVER_US, np.int64),
            np.full(entries, np.nan),
            np.full(entries, NEVER_US, np.int64),
            np.zeros(entries, np.int32),
            np.zeros(size, np.int64),
        )

    def grow(self, size: int) -> None:
        """Make room for series up to *size*."""
        if size <= len(self.written):
            return
        more = Lane.empty(self.depth, size - len(self.written))
        for name in ("at_us", "value", "run_us", "bits", "written"):
            setattr(self, name, np.concatenate([getattr(self, name), getattr(more, name)]))

    def clear(self, series: IntpArray) -> None:
        """Forget everything of *series*."""
        self.written[series] = 0
        places = (series[:, None] * self.depth + np.arange(self.depth)).ravel()
        self.at_us[places] = NEVER_US
        self.value[places] = np.nan

    def place(self, series: IntpArray, back: npt.NDArray[Any] | int) -> IntpArray:
        """Return where the entry lies that was written *back* entries before the next one.

        1 is the newest.  An entry that was never written reads as `NEVER_US` and NaN.
        """
        entry = (self.written[series] - back) & (self.depth - 1)
        return np.asarray(series * self.depth + entry, np.intp)

    def all_of(self, series: IntpArray) -> IntpArray:
        """Return the places of all entries of each of *series*, (n, depth), in no order."""
        return np.asarray(series[:, None] * self.depth + np.arange(self.depth), np.intp)

    def append(
        self,
        series: IntpArray,
        rank: IntpArray,
        count: IntpArray,
        at_us: Int64Array,
        value: FloatArray,
        run_us: Int64Array,
        bits: Int32Array,
    ) -> None:
        """Add entries, sorted by series and time; *rank* and *count* tell their place among those
        of their series.
        """
        if int(count.max(initial=0)) > self.depth:
            kept = rank >= count - self.depth
            series, rank, count = series[kept], rank[kept], count[kept]
            at_us, value, run_us, bits = at_us[kept], value[kept], run_us[kept], bits[kept]
        places = self.place(series, -rank)
        self.at_us[places] = at_us
        self.value[places] = value
        self.run_us[places] = run_us
        self.bits[places] = bits
        if int(count.max(initial=0)) == 1:
            self.written[series] += 1
        else:
            last = rank == count - 1
            self.written[series[last]] += count[last]

    def columns(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """Return copies of the arrays, under names that begin with *name*."""
        fields = ("at_us", "value", "run_us", "bits", "written")
        return {f"{name}_{field}": getattr(self, field).copy() for field in fields}

    @staticmethod
    def of(depth: int, name: str, columns: Mapping[str, npt.NDArray[Any]]) -> Lane:
        """Return the lane that `columns` gave; raise ValueError or KeyError if it cannot be one."""
        lane = Lane(
            depth,
            columns[f"{name}_at_us"].astype(np.int64),
            columns[f"{name}_value"].astype(np.float64),
            columns[f"{name}_run_us"].astype(np.int64),
            columns[f"{name}_bits"].astype(np.int32),
            columns[f"{name}_written"].astype(np.int64),
        )
        entries = depth * len(lane.written)
        if any(len(one) != entries for one in (lane.at_us, lane.value, lane.run_us, lane.bits)):
            raise ValueError(f"the lane {name} has columns of different lengths")
        return lane
