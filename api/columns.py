"""Answers as columns: what the database gave, made dense, with gaps that stay gaps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from devices.reading import FloatArray, Int32Array, Int64Array
from devices.series import STALE_AFTER_INTERVALS, Series

Column = npt.NDArray[Any]

QUALITY_BITS = "quality_bits"
NO_QUALITY = -1


@dataclass(frozen=True, slots=True)
class Columns:
    """One series' part of an answer.

    *observed_at_us* int64 (n,), rising.  Each of *columns* is (n,): float64 with NaN where there is
    nothing, or an integer kind with `NO_QUALITY` where there is nothing.  Raw readings have
    ``value`` and ``quality_bits``; rolled ones have a column for each aggregate asked for.
    """

    series: Series
    observed_at_us: Int64Array
    columns: Mapping[str, Column]

    def __len__(self) -> int:
        return len(self.observed_at_us)


def raw_columns(
    series: Series,
    observed_at_us: Int64Array,
    value: FloatArray,
    quality: Int32Array,
    mark_gaps: bool = True,
) -> Columns:
    """Return raw readings, with an empty row wherever neighbours stand too far apart.

    Too far is more than three expected intervals; the empty row stands where the first missing
    reading should have been.
    """
    if mark_gaps:
        interval_us = int(series.interval_s * 1e6)
        after = np.flatnonzero(np.diff(observed_at_us) > STALE_AFTER_INTERVALS * interval_us)
        if len(after):
            missing_at = observed_at_us[after] + interval_us
            observed_at_us = np.insert(observed_at_us, after + 1, missing_at)
            value = np.insert(value, after + 1, np.nan)
            quality = np.insert(quality, after + 1, NO_QUALITY)
    return Columns(series, observed_at_us, {"value": value, QUALITY_BITS: quality})


def dense_columns(
    series: Series, grid_us: Int64Array, start_us: Int64Array, columns: Mapping[str, Column]
) -> Columns:
    """Return buckets laid onto *grid_us*; buckets that nothing fell into are NaN, counts are 0.

    *start_us* (m,) are the starts of the filled buckets, *columns* each (m,).  A bucket belongs to
    the grid's last entry at or before it: where a clock is set back over midnight the database and
    the grid may name different instants for the start of one and the same day.
    """
    at = np.searchsorted(grid_us, start_us, side="right") - 1
    if len(at) and (at[0] < 0 or (np.diff(at) <= 0).any()):
        raise ValueError("buckets do not lie on the grid one by one")
    dense: dict[str, Column] = {}
    for name, column in columns.items():
        empty = np.nan if column.dtype.kind == "f" else 0
        dense[name] = np.full(len(grid_us), empty, column.dtype)
        dense[name][at] = column
    return Columns(series, grid_us, dense)
