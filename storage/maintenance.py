"""What must happen now and then: raw readings expire, their roll-ups stay.

A reading is deleted and added to its three kept buckets in one transaction, so at every moment the
roll-ups tell the same, and a run that is killed has done some whole days and left the rest.  Late
readings that come afterwards lie among the raw ones until the next run adds them in their turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from storage.errors import wrapped
from storage.migrate import schema_edition
from storage.pool import Connection, connect, hardened
from storage.statements import statements

_KEPT = {"kept_1m": "1 minute", "kept_15m": "15 minutes", "kept_1h": "1 hour"}
# Each is made of the one before it; how many buckets are refreshed in one transaction: a quarter of
# a day, a day, a week.
_AGGREGATES = {"rollup_1m": 360, "rollup_15m": 96, "rollup_1h": 168}
_DAY = timedelta(days=1)
_FIRST_DAY = datetime(1, 1, 2, tzinfo=UTC)
# A day of so many series is a few million rows at the most: one transaction.
_SERIES_AT_A_TIME = 500
_LETTERS_AT_A_TIME = 10_000
# The last hour is rolled up when asked for, so ordinary lateness costs the aggregates nothing.
_REFRESH_LAG = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class MaintenanceReport:
    """What a run did; *ran* is False when another one was at it, and then the rest is nothing.

    *expired* counts raw readings that were rolled up and deleted, *chunks_dropped* those of them
    that went whole, *dead_letters* the letters deleted.
    """

    ran: bool
    expired: int = 0
    chunks_dropped: int = 0
    dead_letters: int = 0


class Maintenance:
    """Maintains the database at *dsn*, as the owner of its schema.

    Dead letters are kept for *dead_letters_kept_s*, and of those at most the newest
    *dead_letters_limit*.
    """

    def __init__(
        self,
        dsn: str,
        *,
        dead_letters_kept_s: float = 90 * 86400.0,
        dead_letters_limit: int = 1_000_000,
    ) -> None:
        self._conninfo = hardened(
            dsn,
            "greenhouse-maintenance",
            statement_timeout_s=0.0,
            lock_timeout_s=10.0,
            idle_in_transaction_timeout_s=60.0,
        )
        self._dead_letters_kept_s = dead_letters_kept_s
        self._dead_letters_limit = dead_letters_limit

    async def run(self, now: datetime) -> MaintenanceReport:
        """Delete what has expired at the aware time *now* and roll up what was written late.

        Twice is harmless; of two at once one does nothing.  Readings expire by days UTC, when all
        of the day is old enough.  Made to be called at start and about every hour.  Raises the
        errors of `storage.errors`; what was done by then stays done.
        """
        try:
            connection = await connect(self._conninfo, autocommit=True)
            try:
                return await self._run(connection, now)
            finally:
                await connection.close()
        except (psycopg.Error, OSError) as error:
            raise wrapped(error) from error

    async def _run(self, connection: Connection, now: datetime) -> MaintenanceReport:
        if not (await _rows(connection, _SQL["lock"]))[0][0]:
            return MaintenanceReport(ran=False)
        edition = await schema_edition(connection)
        if edition.has_continuous_aggregates:
            await connection.execute(_SQL["unpack_freely"])
        chunks = expired = 0
        groups = await _expiring(connection, now)
        if edition.has_hypertables and groups.all_before is not None:
            chunks, expired = await _drop_chunks(connection, groups.all_before)
        for before, series_ids in groups.by_time:
            for some in _in_parts(series_ids):
                expired += await _expire(connection, some, before)
        if edition.has_continuous_aggregates:
            await _refresh(connection, now)
        return MaintenanceReport(True, expired, chunks, await self._prune(connection, now))

    async def _prune(self, connection: Connection, now: datetime) -> int:
        before = now - timedelta(seconds=self._dead_letters_kept_s)
        deleted = (
            await connection.execute(_SQL["delete_old_letters"], {"before": before})
        ).rowcount
        spare = {"keep": self._dead_letters_limit, "at_a_time": _LETTERS_AT_A_TIME}
        while count := (await connection.execute(_SQL["delete_spare_letters"], spare)).rowcount:
            deleted += count
        return deleted


@dataclass(frozen=True, slots=True)
class _Expiring:
    """Series by the midnight UTC before which they expire, and the one before which all do."""

    by_time: Sequence[tuple[datetime, Sequence[int]]]
    all_before: datetime | None


_SQL = statements("maintenance")
_SQL_TIMESCALEDB = statements("maintenance_timescaledb")


async def _expiring(connection: Connection, now: datetime) -> _Expiring:
    groups = await _rows(connection, _SQL["kept_for"])
    by_time = [
        (_midnight(now, keep_s), series_ids) for keep_s, series_ids in groups if keep_s is not None
    ]
    some_for_ever = len(by_time) < len(groups)
    all_before = None if some_for_ever else min((before for before, _ in by_time), default=None)
    return _Expiring(by_time, all_before)


def _midnight(now: datetime, keep_s: float) -> datetime:
    """Return the last midnight UTC that lies at least *keep_s* before *now*."""
    age = timedelta(seconds=min(keep_s, (now - _FIRST_DAY).total_seconds()))
    return (now.astimezone(UTC) - age).replace(hour=0, minute=0, second=0, microsecond=0)


def _in_parts(series_ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(series_ids), _SERIES_AT_A_TIME):
        yield series_ids[start : start + _SERIES_AT_A_TIME]


async def _expire(connection: Connection, series_ids: Sequence[int], before: datetime) -> int:
    """Roll up and delete the readings of *series_ids* before *before*, a day a transaction."""
    await connection.execute(_SQL["create_expired"])
    expired = 0
    chosen = {"series_ids": [*series_ids], "before": before}
    while (oldest := (await _rows(connection, _SQL["oldest"], chosen))[0][0]) is not None:
        day = oldest.replace(hour=0, minute=0, second=0, microsecond=0)
        async with connection.transaction():
            deleted = await connection.execute(
                _SQL["delete_expired"], {**chosen, "start": day, "end": day + _DAY}
            )
            await _keep(connection, sql.Identifier("expired"))
            await connection.execute(_SQL["note_raw_from"], {**chosen, "raw_from": day + _DAY})
        expired += deleted.rowcount
    await connection.execute(_SQL["note_raw_from"], {**chosen, "raw_from": before})
    return expired


async def _drop_chunks(connection: Connection, before: datetime) -> tuple[int, int]:
    """Roll up and drop the chunks that end before *before*; return how many, and their readings."""
    chunks = await _rows(connection, _SQL_TIMESCALEDB["chunks"], {"before": before})
    expired = 0
    for schema, name, start, end in chunks:
        chunk = sql.Identifier(schema, name)
        async with connection.transaction():
            await connection.execute(_composed(_SQL_TIMESCALEDB["lock_chunk"], chunk=chunk))
            counted = _composed(_SQL_TIMESCALEDB["count_chunk"], chunk=chunk)
            expired += (await _rows(connection, counted))[0][0]
            await _keep(connection, chunk)
            await connection.execute(_SQL["note_raw_from_of_all"], {"raw_from": end})
            await connection.execute(_SQL_TIMESCALEDB["drop_chunk"], {"start": start, "end": end})
    return len(chunks), expired


async def _keep(connection: Connection, expired: sql.Identifier) -> None:
    """Add the readings in the table *expired* to the kept roll-ups."""
    for kept, step in _KEPT.items():
        statement = _composed(
            _SQL["keep"], kept=sql.Identifier(kept), step=sql.Literal(step), expired=expired
        )
        await connection.execute(statement)


async def _refresh(connection: Connection, now: datetime) -> None:
    until = {"until": (now - _REFRESH_LAG).replace(minute=0, second=0, microsecond=0)}
    for aggregate, buckets in _AGGREGATES.items():
        parts = {"aggregate": sql.Literal(aggregate), "buckets": sql.Literal(buckets)}
        await connection.execute(_composed(_SQL_TIMESCALEDB["refresh"], **parts), until)
    await connection.execute(_SQL_TIMESCALEDB["note_refreshed_to"], until)


def _composed(statement: bytes, **parts: sql.Composable) -> sql.Composed:
    """Return *statement* with names of tables put in; the text is one of our files."""
    return sql.SQL(statement.decode()).format(**parts)


async def _rows(
    connection: Connection,
    statement: bytes | sql.Composed,
    arguments: Mapping[str, Any] | None = None,
) -> list[TupleRow]:
    return await (await connection.execute(statement, arguments)).fetchall()
