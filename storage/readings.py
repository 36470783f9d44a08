"""Writes batches of readings: one connection, binary COPY, and each reading once.

    batch --sorted, unique--> COPY into readings ----------------------> committed
                                   | a key is there already (23505)
                                   v
                              COPY into a temporary table --> INSERT .. ON CONFLICT DO NOTHING

COPY alone is the fastest way in and knows no duplicates.  They are rare until something is sent
again, and then they come in rows, so after one the slower way is taken until a batch has none.
A connection that was lost may have committed before it went: the next batch takes that way too.

A continuous aggregate remembers of each transaction and chunk only the earliest and the latest time
that it touched, and makes all between anew: one reading that is five days late among fresh ones
would cost five days of all series.  So where there are aggregates, readings that lie far apart in
time are written in transactions of their own.

Of series from which others are derived the transaction also notes what was written (changed_spans),
so that whoever derives finds it, however either of the two ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import psycopg

from devices.reading import Batch, Int32Array, Int64Array
from storage.editions import detect
from storage.instant import SERVER_EPOCH_US, out_of_range
from storage.outcome import Outcome
from storage.pool import Connection, connect, hang_up_after, hardened
from storage.statements import statements

# One row in the binary form of COPY: the number of fields, then each field's length and value.
# PostgreSQL manual, COPY, "Binary Format"; everything is big-endian.
_ROW = np.dtype(
    [
        ("fields", ">i2"),
        ("series_id_length", ">i4"),
        ("series_id", ">i4"),
        ("observed_at_length", ">i4"),
        ("observed_at", ">i8"),
        ("received_at_length", ">i4"),
        ("received_at", ">i8"),
        ("value_length", ">i4"),
        ("value", ">f8"),
        ("quality_length", ">i4"),
        ("quality", ">i4"),
    ]
)
_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TAIL = b"\xff\xff"
_NULL = -1


def copy_bytes(batch: Batch) -> bytes:
    """Return *batch* as the whole input of a binary COPY of the five columns, NaN as NULL."""
    rows = np.empty(len(batch), _ROW)
    rows["fields"] = 5
    for name, length in (("series_id", 4), ("observed_at", 8), ("received_at", 8), ("quality", 4)):
        rows[f"{name}_length"] = length
    rows["series_id"] = batch.series_id
    rows["observed_at"] = batch.observed_at_us - SERVER_EPOCH_US
    rows["received_at"] = batch.received_at_us - SERVER_EPOCH_US
    rows["value"] = batch.value
    rows["quality"] = batch.quality
    missing = np.isnan(batch.value)
    rows["value_length"] = np.where(missing, _NULL, 8)
    return b"".join((_HEAD, _without_values(rows, missing), _TAIL))


def _without_values(rows: npt.NDArray[np.void], missing: npt.NDArray[np.bool_]) -> bytes:
    """Return the bytes of *rows*, leaving out the eight of the value where it is *missing*."""
    if not missing.any():
        return rows.tobytes()
    kept = np.ones((len(rows), _ROW.itemsize), bool)
    start = _offset("value")
    kept[missing, start : start + 8] = False
    return rows.view(np.uint8).reshape(len(rows), _ROW.itemsize)[kept].tobytes()


def _offset(name: str) -> int:
    fields = _ROW.fields
    assert fields is not None
    return fields[name][1]


_FAR_APART_US = 3600 * 1_000_000
_MOST_STRETCHES = 16


def stretches(batch: Batch) -> list[Batch]:
    """Return *batch* in parts whose readings lie together in time, the oldest part first.

    It is cut where nothing was measured for more than an hour, at the longest such pauses when
    there are more than a few.
    """
    if len(batch) < 2 or np.ptp(batch.observed_at_us) <= _FAR_APART_US:
        return [batch]
    at = np.sort(batch.observed_at_us)
    pause = np.diff(at)
    longest = np.argsort(pause)[::-1][: _MOST_STRETCHES - 1]
    cuts = np.sort(at[longest[pause[longest] > _FAR_APART_US]])
    part = np.searchsorted(cuts, batch.observed_at_us)
    return [batch.take(part == number) for number in range(len(cuts) + 1)]


async def copy_readings(connection: Connection, batch: Batch) -> None:
    """Copy *batch* straight into readings, as fast as this database takes rows.

    Nothing is sorted, checked or committed; a key that is there already fails the whole COPY.  The
    measure that everything else is compared with.
    """
    async with connection.cursor().copy(_SQL["copy"]) as copy:
        await copy.write(copy_bytes(batch))


class ReadingWriter:
    """Writes batches on one connection of its own, which it opens, loses and opens again.

    ``async with ReadingWriter(dsn) as writer`` does not wait for the database; the first `write`
    connects.  *timeout_s* bounds each `write`, also against a server that hangs; connecting before
    it takes at most a few seconds more.
    """

    def __init__(
        self, dsn: str, *, timeout_s: float = 20.0, application_name: str = "greenhouse-writer"
    ) -> None:
        self._conninfo = hardened(dsn, application_name)
        self._timeout_s = timeout_s
        self._connection: Connection | None = None
        self._one_at_a_time = asyncio.Lock()
        self._expect_duplicates = True
        self._has_aggregates = False
        self._watched = np.zeros(0, bool)

    def watch(self, series_ids: Collection[int]) -> None:
        """Note from now on what is written of these series, and of no others."""
        watched = np.zeros(max(series_ids, default=-1) + 1, bool)
        watched[list(series_ids)] = True
        self._watched = watched

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._disconnect()

    async def write(self, batch: Batch) -> Outcome:
        """Write *batch* whole or not at all; the same batch again is harmless.

        With continuous aggregates, and readings far apart in time, not at all may be in part: what
        was written before it failed is a duplicate when *batch* is offered again.

        Never raises for what the database does.  The first reading of a key stays, whatever value
        comes later.  ``refused`` tells that some row can never be taken: an infinite value, or a
        time outside the years 1 to 9999.
        """
        if wrong := _unfit(batch):
            return Outcome("refused", reason=wrong)
        if not len(batch):
            return Outcome("written")
        async with self._one_at_a_time:
            try:
                connection = await self._connected()
                with hang_up_after(connection, self._timeout_s):
                    return await self._write(connection, batch)
            except (psycopg.Error, OSError) as error:
                if not isinstance(error, psycopg.DataError | psycopg.IntegrityError):
                    await self._disconnect()
                return Outcome.failed(error)
            except BaseException:  # cancelled too: the connection may be in the middle of a COPY
                await self._disconnect()
                raise

    async def _write(self, connection: Connection, batch: Batch) -> Outcome:
        if not self._has_aggregates:
            return await self._write_together(connection, batch)
        done = [await self._write_together(connection, part) for part in stretches(batch)]
        return Outcome(
            "written",
            sum(outcome.inserted for outcome in done),
            sum(outcome.duplicates for outcome in done),
            sum(outcome.conflicts for outcome in done),
        )

    async def _write_together(self, connection: Connection, batch: Batch) -> Outcome:
        first, repeated = batch.sorted_unique()
        if not self._expect_duplicates:
            try:
                async with connection.transaction():
                    await copy_readings(connection, first)
                    await self._note(connection, first)
            except psycopg.errors.UniqueViolation:
                self._expect_duplicates = True
            else:
                return Outcome("written", len(first), len(repeated), _differing(first, repeated))
        outcome = await self._merge(connection, first, repeated)
        self._expect_duplicates = outcome.duplicates > len(repeated)
        return outcome

    async def _merge(self, connection: Connection, first: Batch, repeated: Batch) -> Outcome:
        """Insert those of *first* whose key is new; tell how many of both hold another value."""
        rows = Batch.concatenate([first, repeated])
        async with connection.transaction():
            async with connection.cursor().copy(_SQL["copy_incoming"]) as copy:
                await copy.write(copy_bytes(rows))
            inserted = (await connection.execute(_SQL["insert_incoming"])).rowcount
            if inserted:
                await self._note(connection, first)
            conflicts = 0
            if inserted < len(rows):
                found = await (await connection.execute(_SQL["count_conflicts"])).fetchone()
                conflicts = int(found[0]) if found else 0
        return Outcome("written", inserted, len(rows) - inserted, conflicts)

    async def _note(self, connection: Connection, rows: Batch) -> None:
        """Note from when to when each watched series was written; *rows* are sorted."""
        spans = _spans(rows, self._watched)
        if spans is None:
            return
        together, alone = _gathered(spans, len(self._watched))
        for members, first_us, last_us in together:
            many = {"members": members, "first_us": first_us, "last_us": last_us}
            await connection.execute(_SQL["note_many_changed"], many)
        if len(alone.series_id):
            few = {
                "series_ids": alone.series_id.tolist(),
                "first_us": alone.first_us.tolist(),
                "last_us": alone.last_us.tolist(),
            }
            await connection.execute(_SQL["note_changed"], few)

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._expect_duplicates = True
            connection = self._connection = await connect(self._conninfo, autocommit=True)
            with hang_up_after(connection, self._timeout_s):
                await connection.execute(_SQL["create_incoming"])
                self._has_aggregates = (await detect(connection)).has_continuous_aggregates
                if self._has_aggregates:
                    await connection.execute(_SQL["unpack_freely"])
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


_SQL = statements("readings")


@dataclass(frozen=True, slots=True)
class _Spans:
    """For each of some series when its first and its last row was observed."""

    series_id: Int32Array
    first_us: Int64Array
    last_us: Int64Array

    def take(self, index: npt.NDArray[Any]) -> _Spans:
        return _Spans(self.series_id[index], self.first_us[index], self.last_us[index])


def _spans(rows: Batch, watched: npt.NDArray[np.bool_]) -> _Spans | None:
    """Return the spans of *watched* series in *rows*, which are sorted; None without any."""
    if not len(watched):
        return None
    # A number that is larger than any watched one is taken for the last place, and left out.
    place = np.minimum(rows.series_id, len(watched) - 1)
    some = np.flatnonzero(watched[place] & (place == rows.series_id))
    if not len(some):
        return None
    series_id, at_us = rows.series_id[some], rows.observed_at_us[some]
    last = np.append(np.flatnonzero(np.diff(series_id)), len(some) - 1)
    first = np.append(0, last[:-1] + 1)
    return _Spans(series_id[last], at_us[first], at_us[last])


_CELL_US = 300 * 1_000_000
_MOST_CELLS = 4
_MANY = 32


def _gathered(spans: _Spans, size: int) -> tuple[list[tuple[bytes, int, int]], _Spans]:
    """Return many short spans that lie together as (bits of *size* series, first, last), and those
    that stand alone.

    Written out, ten thousand series would cost as much as their readings; as bits next to nothing.
    """
    if len(spans.series_id) < _MANY:
        return [], spans
    cell = spans.first_us // _CELL_US
    is_short = spans.last_us - spans.first_us <= _CELL_US
    cells, count = np.unique(cell[is_short], return_counts=True)
    together: list[tuple[bytes, int, int]] = []
    alone = np.ones(len(cell), bool)
    for place in np.argsort(count)[::-1][:_MOST_CELLS]:
        if count[place] < _MANY:
            break
        inside = is_short & (cell == cells[place])
        alone &= ~inside
        member = np.zeros(size, bool)
        member[spans.series_id[inside]] = True
        bits = np.packbits(member).tobytes()
        first_us, last_us = spans.first_us[inside].min(), spans.last_us[inside].max()
        together.append((bits, int(first_us), int(last_us)))
    return together, spans.take(alone)


def _unfit(batch: Batch) -> str:
    """Return what in *batch* no database could take, in one line; empty when it is fit."""
    if np.isinf(batch.value).any():
        at = int(np.isinf(batch.value).argmax())
        return f"series {batch.series_id[at]}: value is {batch.value[at]}, expected a finite number"
    for name in ("observed_at_us", "received_at_us"):
        if out_of_range(getattr(batch, name)):
            return f"{name} outside the years 1 to 9999"
    return ""


def _differing(first: Batch, repeated: Batch) -> int:
    """Return how many of *repeated* hold another value than the row of *first* with their key."""
    if not len(repeated):
        return 0
    key = np.dtype([("series_id", np.int32), ("at", np.int64)])

    def keys(batch: Batch) -> npt.NDArray[np.void]:
        made = np.empty(len(batch), key)
        made["series_id"], made["at"] = batch.series_id, batch.observed_at_us
        return made

    kept = first.value[np.searchsorted(keys(first), keys(repeated))]
    same = (kept == repeated.value) | (np.isnan(kept) & np.isnan(repeated.value))
    return int((~same).sum())
