"""Readings as columns: what flows from a decoder to the database, the rules and the screens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Batch:
    """Many readings as columns of equal length n; the arrays are not to be written to.

    *series_id* int32 (n,), the registry's number of the series; *observed_at_us* and
    *received_at_us* int64 (n,), microseconds since 1970-01-01 UTC; *value* float64 (n,) in the
    quantity's own unit, NaN where the device said that it has none; *quality* int32 (n,), bits of
    `devices.quality.Quality`.
    """

    series_id: Int32Array
    observed_at_us: Int64Array
    received_at_us: Int64Array
    value: FloatArray
    quality: Int32Array

    def __len__(self) -> int:
        return len(self.series_id)

    def take(self, index: npt.NDArray[Any] | slice) -> Batch:
        """Return the rows that *index* (positions, mask or slice) selects."""
        return Batch(*(getattr(self, field.name)[index] for field in fields(self)))

    @staticmethod
    def empty() -> Batch:
        """Return a batch without rows."""
        return Batch.of([], [], [], [], [])

    @staticmethod
    def of(
        series_id: Sequence[int],
        observed_at_us: Sequence[int],
        received_at_us: Sequence[int],
        value: Sequence[float],
        quality: Sequence[int],
    ) -> Batch:
        """Build a batch from Python sequences of equal length."""
        return Batch(
            np.asarray(series_id, np.int32),
            np.asarray(observed_at_us, np.int64),
            np.asarray(received_at_us, np.int64),
            np.asarray(value, np.float64),
            np.asarray(quality, np.int32),
        )

    @staticmethod
    def concatenate(batches: Sequence[Batch]) -> Batch:
        """Return all rows of *batches*, in order."""
        if len(batches) == 1:
            return batches[0]
        if not batches:
            return Batch.empty()
        return Batch(
            *(np.concatenate([getattr(b, field.name) for b in batches]) for field in fields(Batch))
        )

    def sorted_unique(self) -> tuple[Batch, Batch]:
        """Return (first reading of each key, the rest), both ordered by (series, observed_at).

        The order keeps two writers from locking the same rows crosswise; "first" is the order of
        arrival, so the earliest value for a key wins whatever follows.
        """
        order = np.lexsort((self.observed_at_us, self.series_id))
        series_id, at = self.series_id[order], self.observed_at_us[order]
        repeated = np.zeros(len(order), bool)
        repeated[1:] = (series_id[1:] == series_id[:-1]) & (at[1:] == at[:-1])
        if not repeated.any():
            return self.take(order), self.take(order[:0])
        return self.take(order[~repeated]), self.take(order[repeated])
