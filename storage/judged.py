"""Readings as rules want them again: what an engine missed, and spans to judge anew."""

from __future__ import annotations

from collections.abc import Sequence

from devices.quality import Quality
from devices.reading import Batch
from storage.columns import column_cursor
from storage.instant import instant
from storage.pool import Connection, Pool
from storage.statements import statements


class JudgedReadings:
    """Reads through *pool*; every method may raise the errors of `Pool.run`.

    Rows come in no order that counts.  What a period that goes on has come to so far is in none:
    rules do not hear it either.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def heard_since(
        self, series_ids: Sequence[int], observed_since_us: int, received_since_us: int
    ) -> Batch:
        """Return the readings observed and received since these moments."""
        arguments = {
            "series_ids": list(series_ids),
            "observed_since": instant(observed_since_us),
            "received_since": instant(received_since_us),
            **_PASSED_OVER,
        }
        return await self._read("heard_since", arguments)

    async def span(self, series_ids: Sequence[int], start_us: int, end_us: int) -> Batch:
        """Return all readings observed in [start, end)."""
        arguments = {
            "series_ids": list(series_ids),
            "start": instant(start_us),
            "end": instant(end_us),
            **_PASSED_OVER,
        }
        return await self._read("span", arguments)

    async def is_any(self, series_ids: Sequence[int], start_us: int, end_us: int) -> bool:
        """Tell whether there is a reading observed in [start, end)."""
        arguments = {
            "series_ids": list(series_ids),
            "start": instant(start_us),
            "end": instant(end_us),
            **_PASSED_OVER,
        }

        async def read(connection: Connection) -> bool:
            row = await (await connection.execute(_SQL["is_any"], arguments)).fetchone()
            return bool(row and row[0])

        return await self._pool.run(read)

    async def _read(self, name: str, arguments: dict[str, object]) -> Batch:
        async def read(connection: Connection) -> Batch:
            cursor = await column_cursor(connection).execute(_SQL[name], arguments)
            row = await cursor.fetchone()
            return Batch(*row) if row else Batch.empty()

        return await self._pool.run(read)


_SQL = statements("alerts")
_PASSED_OVER = {"passed_over": int(Quality.PROVISIONAL)}
