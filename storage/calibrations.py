"""The calibration book in the database, and its entries about the past carried out there.

    add ─▶ revision rises ─▶ (somebody compares the book before and after)
        ─▶ plan ─▶ correct, correct ... or finish ─▶ refresh

Nothing may be written into readings by an older state of the book from `plan` to `finish`: who
writes sees to that.  A piece of work moves on in the transaction that corrects, so that whatever
ends in the middle is taken up where it stopped and no reading is corrected twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from devices.calibration import Calibration, Change, Ledger, Scope, Window, WindowKind
from storage.errors import DataRefused, wrapped
from storage.instant import instant, microseconds
from storage.migrate import schema_edition
from storage.pool import Connection, Pool, connect, hardened
from storage.statements import statements

_KEPT = {"kept_1m": "1 minute", "kept_15m": "15 minutes", "kept_1h": "1 hour"}
_AGGREGATES = ("rollup_1m", "rollup_15m", "rollup_1h")
_PIECE = timedelta(days=7)  # a chunk's length: each transaction touches two of them at most
_HOUR = timedelta(hours=1)
_PIECE_WITHIN_S = 130.0


@dataclass(frozen=True, slots=True)
class Corrected:
    """What one transaction corrected; *readings* of *series_id* in [*start_us*, *end_us*)."""

    series_id: int
    start_us: int
    end_us: int
    readings: int


@dataclass(frozen=True, slots=True)
class KeptCorrection:
    """One line of the log of corrections; *finished_us* is None while it is under way."""

    id: int
    revision: int
    series: str
    start_us: int
    end_us: int
    readings: int
    finished_us: int | None


class CalibrationStore:
    """The book behind *pool*; every method may raise the errors of `Pool.run`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def state(self) -> tuple[int, int]:
        """Return (revision, applied); cheap enough to poll."""

        async def read(connection: Connection) -> tuple[int, int]:
            row = await (await connection.execute(_SQL["state"])).fetchone()
            return (int(row[0]), int(row[1])) if row else (0, 0)

        return await self._pool.run(read)

    async def ledger(self) -> Ledger:
        """Return all of the book."""

        async def read(connection: Connection) -> Ledger:
            async with connection.transaction():
                await connection.execute(_SQL["one_moment"])
                return await _ledger(connection)

        return await self._pool.run(read)

    async def add_calibration(self, entry: Calibration) -> Calibration:
        """Enter *entry*, return it with its number; raise `DataRefused` for an unknown series."""
        row = {
            "token": uuid4().hex,
            "series": entry.series,
            "valid_from": instant(entry.from_us),
            "gain": entry.gain,
            "shift": entry.shift,
            "points": Jsonb([list(pair) for pair in entry.points]),
            "method": entry.method,
            "reference": entry.reference,
            "note": entry.note,
            "actor": entry.actor,
            "due_at": None if entry.due_us is None else instant(entry.due_us),
            "withdrawn": entry.withdrawn,
        }
        refusal = f"series {entry.series!r} is not in the registry"
        number, revision, entered_at = await self._add("calibration", row, refusal)
        return replace(entry, id=number, revision=revision, entered_us=microseconds(entered_at))

    async def add_window(self, entry: Window) -> Window:
        """Enter *entry* and return it with its number."""
        row = {
            "token": uuid4().hex,
            "scope": entry.scope.value,
            "code": entry.code,
            "kind": entry.kind.value,
            "starting": instant(entry.start_us),
            "ending": instant(entry.end_us),
            "actor": entry.actor,
            "reason": entry.reason,
            "replaces": entry.replaces,
            "withdrawn": entry.withdrawn,
        }
        number, revision, entered_at = await self._add("window", row, "the window is not known")
        return replace(entry, id=number, revision=revision, entered_us=microseconds(entered_at))

    async def _add(
        self, kind: str, row: Mapping[str, object], refusal: str
    ) -> tuple[int, int, datetime]:
        """Return (id, revision, entered at) of the new row; the same row again is harmless."""

        async def add(connection: Connection) -> tuple[int, int, datetime]:
            async with connection.transaction():
                known = await (await connection.execute(_SQL[f"entered_{kind}"], row)).fetchone()
                if known is None:
                    raised = await (await connection.execute(_SQL["raise_revision"])).fetchone()
                    numbered = {**row, "revision": raised[0] if raised else 0}
                    made = await connection.execute(_SQL[f"add_{kind}"], numbered)
                    known = await made.fetchone()
                if known is None:
                    raise DataRefused(refusal)
                return int(known[0]), int(known[1]), known[2]

        return await self._pool.run(add)

    # Carrying out what was entered about the past.

    async def planned(self) -> bool:
        """Return whether there is work left."""

        async def read(connection: Connection) -> bool:
            row = await (await connection.execute(_SQL["planned"])).fetchone()
            return bool(row and row[0])

        return await self._pool.run(read)

    async def plan(
        self, revision: int, changes: Sequence[Change], limits: Mapping[int, tuple[float, float]]
    ) -> None:
        """Note what *revision* changes of stored readings; *limits* are the possible values."""
        rows = [_plan(revision, one, limits) for one in changes]

        async def write(connection: Connection) -> None:
            async with connection.transaction():
                for row in rows:
                    await connection.execute(_SQL["plan"], row)

        await self._pool.run(write, within_s=_PIECE_WITHIN_S)

    async def correct(self) -> Corrected | None:
        """Correct the next piece of what is planned, in one transaction; None when all is done."""

        async def work(connection: Connection) -> Corrected | None:
            edition = await schema_edition(connection)
            async with connection.transaction():
                await connection.execute(_SQL["be_patient"])
                if edition.has_continuous_aggregates:
                    await connection.execute(_SQL["unpack_freely"])
                return await _correct(connection)

        return await self._pool.run(work, within_s=_PIECE_WITHIN_S)

    async def finish(self, revision: int) -> None:
        """Note that stored readings follow the book up to *revision*, which planned nothing.

        Where something was planned, its last piece notes that.
        """

        async def write(connection: Connection) -> None:
            await connection.execute(_SQL["note_applied"], {"revision": revision})

        await self._pool.run(write)

    async def corrections(self, series: str | None, limit: int) -> list[KeptCorrection]:
        """Return up to *limit* corrections, the newest first."""
        arguments = {"series": series, "limit": limit}
        return await self._pool.rows(_SQL["corrections"], arguments, _kept)


async def refresh_rollups(dsn: str, start_us: int, end_us: int) -> bool:
    """Make the continuous aggregates anew in a span; return whether there are any.

    As the owner of the schema, and only after the readings were changed.  Raises the errors of
    `storage.errors`.
    """
    conninfo = hardened(dsn, "greenhouse-refresh", statement_timeout_s=0.0, lock_timeout_s=0.0)
    # Buckets that the span cuts are made anew too; an hour is the longest.
    span = {"start": instant(start_us) - _HOUR, "end": instant(end_us) + _HOUR}
    try:
        connection = await connect(conninfo, autocommit=True)
        try:
            if not (await schema_edition(connection)).has_continuous_aggregates:
                return False
            await connection.execute(_SQL["wait_for_maintenance"])
            for aggregate in _AGGREGATES:
                statement = sql.SQL(_SQL["refresh"].decode())
                await connection.execute(statement.format(aggregate=sql.Literal(aggregate)), span)
            return True
        finally:
            await connection.close()
    except (psycopg.Error, OSError) as error:
        raise wrapped(error) from error


_SQL = statements("calibrations")


def _plan(
    revision: int, change: Change, limits: Mapping[int, tuple[float, float]]
) -> dict[str, Any]:
    low, high = limits.get(change.series_id, (-1e308, 1e308))
    return {
        "revision": revision,
        "series_id": change.series_id,
        "starting": instant(change.start_us),
        "ending": instant(change.end_us),
        "old_gain": change.old.gain,
        "old_shift": change.old.shift,
        "new_gain": change.new.gain,
        "new_shift": change.new.shift,
        "added_bits": change.new.bits & ~change.old.bits,
        "removed_bits": change.old.bits & ~change.new.bits,
        "low": low,
        "high": high,
    }


async def _correct(connection: Connection) -> Corrected | None:
    cursor = connection.cursor(row_factory=dict_row)
    job = await (await cursor.execute(_SQL["next"])).fetchone()
    if job is None:
        return None
    if job["done_to"] == job["starting"]:
        for kept, step in _KEPT.items():
            statement = sql.SQL(_SQL["correct_kept"].decode())
            parts = {"kept": sql.Identifier(kept), "step": sql.Literal(step)}
            await connection.execute(statement.format(**parts), job)
    row = await (await connection.execute(_SQL["first_reading"], job)).fetchone()
    start = row[0] if row else None
    if start is None:
        # The last piece and that all is done are one transaction: never is it planned again.
        await connection.execute(_SQL["note_finished"], job)
        await connection.execute(_SQL["note_applied"], job)
        done_us = microseconds(job["done_to"])
        return Corrected(job["series_id"], done_us, done_us, 0)
    end = min(start + _PIECE, job["ending"])
    span = {"start": start, "end": end}
    count = (await connection.execute(_SQL["correct"], {**job, **span})).rowcount
    done = {"id": job["id"], "done_to": end, "readings": count}
    await connection.execute(_SQL["note_done"], done)
    last = await (await connection.execute(_SQL["last_reading"], {**job, **span})).fetchone()
    first_us, last_us = microseconds(start), microseconds(last[0] if last else start)
    noted = {"series_id": job["series_id"], "first_us": first_us, "last_us": last_us}
    await connection.execute(_SQL["note_changed"], noted)
    return Corrected(job["series_id"], first_us, last_us + 1, count)


async def _ledger(connection: Connection) -> Ledger:
    cursor = connection.cursor(row_factory=dict_row)
    state = await (await connection.execute(_SQL["state"])).fetchone()
    calibrations = [_calibration(row) async for row in await cursor.execute(_SQL["calibrations"])]
    windows = [_window(row) async for row in await cursor.execute(_SQL["windows"])]
    revision, applied = (int(state[0]), int(state[1])) if state else (0, 0)
    return Ledger(tuple(calibrations), tuple(windows), revision, applied)


def _calibration(row: Mapping[str, Any]) -> Calibration:
    return Calibration(
        series=row["series"],
        from_us=microseconds(row["valid_from"]),
        gain=row["gain"],
        shift=row["shift"],
        actor=row["actor"],
        method=row["method"],
        reference=row["reference"],
        note=row["note"],
        due_us=None if row["due_at"] is None else microseconds(row["due_at"]),
        points=tuple((float(raw), float(true)) for raw, true in row["points"]),
        withdrawn=row["withdrawn"],
        id=row["id"],
        revision=row["revision"],
        entered_us=microseconds(row["entered_at"]),
    )


def _window(row: Mapping[str, Any]) -> Window:
    return Window(
        scope=Scope(row["scope"]),
        code=row["code"],
        kind=WindowKind(row["kind"]),
        start_us=microseconds(row["starting"]),
        end_us=microseconds(row["ending"]),
        actor=row["actor"],
        reason=row["reason"],
        replaces=row["replaces"],
        withdrawn=row["withdrawn"],
        id=row["id"],
        revision=row["revision"],
        entered_us=microseconds(row["entered_at"]),
    )


def _kept(row: Mapping[str, Any]) -> KeptCorrection:
    finished = row["finished_at"]
    return KeptCorrection(
        row["id"],
        row["revision"],
        row["series"],
        microseconds(row["starting"]),
        microseconds(row["ending"]),
        row["readings"],
        None if finished is None else microseconds(finished),
    )
