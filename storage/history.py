"""What was measured: raw readings, roll-ups and the newest reading, as NumPy columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from devices.reading import Batch, FloatArray, Int32Array, Int64Array
from storage.columns import column_cursor
from storage.instant import instant
from storage.pool import Connection, Pool
from storage.statements import statements


class Step(StrEnum):
    """Lengths of a roll-up's buckets; a day is a natural day at the series' site."""

    MINUTE = "1m"
    QUARTER = "15m"
    HOUR = "1h"
    DAY = "1d"

    @property
    def nominal_s(self) -> int:
        """Seconds of an ordinary bucket; a day of a clock change is an hour shorter or longer."""
        return _NOMINAL_S[self]


_NOMINAL_S = {Step.MINUTE: 60, Step.QUARTER: 900, Step.HOUR: 3600, Step.DAY: 86400}


@dataclass(frozen=True, slots=True)
class Points:
    """Raw readings of one series as columns of equal length, oldest first.

    *at_us* int64 microseconds UTC, *value* float64 in the quantity's unit, NaN where missing,
    *quality* int32 bits.
    """

    at_us: Int64Array
    value: FloatArray
    quality: Int32Array

    def __len__(self) -> int:
        return len(self.at_us)


@dataclass(frozen=True, slots=True)
class Buckets:
    """Roll-ups of one series as columns of equal length, oldest first; empty buckets are left out.

    *start_us* int64 microseconds UTC, the start of each interval.  *count* int64 is all readings,
    *valid_count* int64 those with a value that is not bad.  *min* to *last* float64 are over the
    valid ones, NaN where there is none; so is *sum*.
    """

    start_us: Int64Array
    count: Int64Array
    valid_count: Int64Array
    min: FloatArray
    max: FloatArray
    mean: FloatArray
    first: FloatArray
    last: FloatArray
    sum: FloatArray

    def __len__(self) -> int:
        return len(self.start_us)


class History:
    """Reads through *pool*; every method may raise `storage.errors.DatabaseUnavailable`.

    Spans are half open: ``start_us <= t < end_us``, microseconds since 1970 UTC.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def raw(
        self, series_ids: Sequence[int], start_us: int, end_us: int, limit: int
    ) -> dict[int, Points]:
        """Return the readings of each of *series_ids* in the span, none left out of the mapping.

        Of each series at most *limit* readings come, the oldest; who gets *limit* of them asks
        again from the last one's time.
        """
        arguments = _span(series_ids, start_us, end_us) | {"limit": limit}

        async def read(connection: Connection) -> dict[int, Points]:
            cursor = await column_cursor(connection).execute(_SQL["raw"], arguments)
            return {row[0]: Points(*row[1:]) async for row in cursor}

        return await self._pool.run(read)

    async def count(self, series_ids: Sequence[int], start_us: int, end_us: int, cap: int) -> int:
        """Return how many readings *series_ids* have in the span, at most *cap*."""
        arguments = _span(series_ids, start_us, end_us) | {"cap": cap}

        async def read(connection: Connection) -> int:
            row = await (await connection.execute(_SQL["count"], arguments)).fetchone()
            return int(row[0]) if row else 0

        return await self._pool.run(read)

    async def rolled(
        self, series_ids: Sequence[int], start_us: int, end_us: int, step: Step
    ) -> dict[int, Buckets]:
        """Return the buckets of each of *series_ids* that start in the span.

        A bucket is never cut: one that starts before *end_us* holds all its readings.
        """
        arguments = _span(series_ids, start_us, end_us)

        async def read(connection: Connection) -> dict[int, Buckets]:
            cursor = await column_cursor(connection).execute(_SQL[f"rolled_{step}"], arguments)
            found = {row[0]: Buckets(*row[1:]) async for row in cursor}
            return {int(one): found.get(int(one), _NO_BUCKETS) for one in series_ids}

        return await self._pool.run(read)

    async def latest(self, series_ids: Sequence[int] | None = None) -> Batch:
        """Return the newest reading of each series, by series; all registered ones when None.

        A series without readings has no row.
        """

        async def read(connection: Connection) -> Batch:
            cursor = column_cursor(connection)
            if series_ids is None:
                await cursor.execute(_SQL["latest_of_all"])
            else:
                await cursor.execute(_SQL["latest"], {"series_ids": _ids(series_ids)})
            row = await cursor.fetchone()
            return Batch(*row) if row else Batch.empty()

        return await self._pool.run(read)


_SQL = statements("history")


_NO_BUCKETS = Buckets(
    np.empty(0, np.int64),
    np.empty(0, np.int64),
    np.empty(0, np.int64),
    *(np.empty(0, np.float64) for _ in range(6)),
)


def _ids(series_ids: Sequence[int]) -> list[int]:
    return [int(one) for one in series_ids]


def _span(series_ids: Sequence[int], start_us: int, end_us: int) -> dict[str, object]:
    return {
        "series_ids": _ids(series_ids),
        "start": instant(start_us),
        "end": instant(end_us),
    }
