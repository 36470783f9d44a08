"""Derived readings: what has changed, what is read for them, and how they replace older ones.

    ReadingWriter ──readings, and a row in the same transaction──▶ changed_spans
    pending ──▶ (somebody decides what must be made anew) ──▶ rework

`rework` is one transaction: it locks, reads inputs and what is stored, lets *make* compute,
replaces what differs, and forgets the rows.

Since the change is durable with the readings and forgotten with what was derived from them, a crash
or an outage at any moment leaves work to do, never a value missing or stale for good.  The lock
keeps two from deriving at once: whoever comes second reads what the first has left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg.types.json import Jsonb

from devices.derived_series import Made, Need, Track
from devices.reading import Batch
from storage.columns import column_cursor
from storage.editions import detect
from storage.instant import clamped_us, instant
from storage.pool import Connection, Pool
from storage.readings import copy_readings
from storage.statements import statements

LONG_AGO_US = -(1 << 62)


@dataclass(frozen=True, slots=True)
class Change:
    """Readings of some series that were written, from the first to the last of each.

    *redo* means the derived series themselves: they are to be made anew there.
    """

    id: int
    redo: bool
    series_ids: Sequence[int]
    first_us: Sequence[int]
    last_us: Sequence[int]


@dataclass(frozen=True, slots=True)
class Order:
    """What to make: *needs* of inputs (series and span), and *make*, which gets a track for each of
    them and the time since when all their raw readings are there, and returns what the derived
    series *series_id* holds.  *propagates* tells that other series are derived from this one,
    *start_us* where its span begins.
    """

    series_id: int
    needs: Sequence[tuple[int, Need]]
    make: Callable[[Sequence[Track], int], Made | None]
    propagates: bool = False
    start_us: int = 0


@dataclass(frozen=True, slots=True)
class Recorded:
    """How a derived series is made."""

    formula: str
    version: int
    definition: Mapping[str, object] = field(default_factory=dict)


class DerivedStore:
    """Derived readings behind *pool*; every method may raise the errors of `Pool.run`.

    Needs the owner of the schema, or who may delete readings.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._has_aggregates: bool | None = None

    async def pending(self, limit: int, redo: bool = False) -> list[Change]:
        """Return the oldest *limit* changes; either those of inputs or orders to redo."""
        arguments = {"limit": limit, "redo": redo}

        async def read(connection: Connection) -> list[Change]:
            cursor = await connection.execute(_SQL["pending"], arguments)
            return [_change(*row) async for row in cursor]

        return await self._pool.run(read)

    async def waiting(self) -> tuple[int, int]:
        """Return how many changes of inputs there are, and how many orders to redo."""

        async def read(connection: Connection) -> tuple[int, int]:
            row = await (await connection.execute(_SQL["waiting"])).fetchone()
            return (row[0], row[1]) if row else (0, 0)

        return await self._pool.run(read)

    async def order_redo(self, spans: Mapping[int, tuple[int, int]]) -> None:
        """Ask for derived series to be made anew: by their number [first, last] in microseconds."""

        async def write(connection: Connection) -> None:
            await _order(connection, [(one, *span) for one, span in spans.items()])

        await self._pool.run(write)

    async def note_changed(self, spans: Mapping[int, tuple[int, int]]) -> None:
        """Tell that readings of inputs were changed, by their number [first, last].

        For who changes readings beside `storage.readings.ReadingWriter`; best told in the same
        transaction, as that does.
        """

        async def write(connection: Connection) -> None:
            await _note(connection, [(one, *span) for one, span in spans.items()])

        await self._pool.run(write)

    async def rework(
        self,
        orders: Sequence[Order],
        now_us: int,
        forget: Sequence[int] = (),
        redo: Sequence[tuple[int, int, int]] = (),
    ) -> Batch | None:
        """Do *orders*, forget the changes *forget*, and return the readings that are new or other.

        *redo* (series, first, last) is put at the end of the queue: what is left of a long span.
        All of it happens or nothing: nothing, and None is returned, when somebody else has followed
        some of *forget* meanwhile.
        """

        async def work(connection: Connection) -> Batch | None:
            fresh: Batch | None = None
            async with connection.transaction():
                await connection.execute(_SQL["lock"])
                if await self._aggregates(connection):
                    await connection.execute(_SQL["unpack_freely"])
                if forget:
                    gone = await connection.execute(_SQL["forget"], {"ids": list(forget)})
                    if gone.rowcount < len(forget):
                        raise psycopg.Rollback  # another one has followed these meanwhile
                fresh = await _make(connection, orders, now_us) if orders else Batch.empty()
                if redo:
                    await _order(connection, redo)
            return fresh

        return await self._pool.run(work, within_s=60.0)

    async def newest_us(self, series_ids: Sequence[int]) -> dict[int, int]:
        """Return when the newest reading of each series was observed; one without is left out."""

        async def read(connection: Connection) -> dict[int, int]:
            cursor = await connection.execute(_SQL["newest"], {"series_ids": list(series_ids)})
            return {one: at async for one, at in cursor}

        return await self._pool.run(read)

    async def recorded(self) -> dict[int, Recorded]:
        """Return how each derived series is made, as last recorded."""

        async def read(connection: Connection) -> dict[int, Recorded]:
            cursor = await connection.execute(_SQL["recorded"])
            return {one: Recorded(*row) async for one, *row in cursor}

        return await self._pool.run(read)

    async def record(self, made: Mapping[int, Recorded], from_us: int, last_us: int) -> None:
        """Record how series are made, and ask for them to be made anew in [from, last]."""

        async def write(connection: Connection) -> None:
            async with connection.transaction():
                rows = [
                    {
                        "series_id": one,
                        "formula": how.formula,
                        "version": how.version,
                        "definition": how.definition,
                    }
                    for one, how in made.items()
                ]
                arguments = {"rows": Jsonb(rows), "made_from": instant(from_us)}
                await connection.execute(_SQL["record"], arguments)
                await _order(connection, [(one, from_us, last_us) for one in made])

        await self._pool.run(write)

    async def _aggregates(self, connection: Connection) -> bool:
        if self._has_aggregates is None:
            self._has_aggregates = (await detect(connection)).has_continuous_aggregates
        return self._has_aggregates


_SQL = statements("derived")
_AT_A_TIME = 200  # series in a row of the queue


def _change(
    number: int,
    redo: bool,
    series_ids: list[int],
    first_us: list[int],
    last_us: list[int],
    members: bytes | None,
) -> Change:
    if members is not None:
        bits = np.unpackbits(np.frombuffer(members, np.uint8))
        series_ids = np.flatnonzero(bits).tolist()
        first_us, last_us = first_us * len(series_ids), last_us * len(series_ids)
    return Change(number, redo, series_ids, first_us, last_us)


async def _note(connection: Connection, spans: Sequence[tuple[int, int, int]]) -> None:
    """Add (series, first, last) of changed readings to the queue; a long list as several rows."""
    for start in range(0, len(spans), _AT_A_TIME):
        await connection.execute(_SQL["note"], _columns(spans[start : start + _AT_A_TIME]))


async def _order(connection: Connection, spans: Sequence[tuple[int, int, int]]) -> None:
    """Add (series, first, last) of derived series to be made anew to the queue."""
    if spans:
        await connection.execute(_SQL["order_redo"], _columns(spans))


def _columns(spans: Sequence[tuple[int, int, int]]) -> dict[str, list[int]]:
    series_ids, first_us, last_us = zip(*spans, strict=True)
    return {"series_ids": list(series_ids), "first_us": list(first_us), "last_us": list(last_us)}


async def _make(connection: Connection, orders: Sequence[Order], now_us: int) -> Batch:
    needs = [need for order in orders for need in order.needs]
    inputs = await _read(connection, needs)
    whole_from = await _whole_from(
        connection, {one for one, _ in needs} | {order.series_id for order in orders}
    )
    # In a thread: many orders are a second of arithmetic, and readings go on arriving meanwhile.
    made = await asyncio.to_thread(_made, orders, inputs, whole_from)
    stored = await _read(connection, [(order.series_id, Need(*one.span)) for order, one in made])
    return await _replace(connection, await asyncio.to_thread(_difference, made, stored, now_us))


def _made(
    orders: Sequence[Order], inputs: _Rows, whole_from: Mapping[int, int]
) -> list[tuple[Order, Made]]:
    made: list[tuple[Order, Made]] = []
    tracks = inputs.tracks()
    position = 0
    for order in orders:
        own = tracks[position : position + len(order.needs)]
        position += len(order.needs)
        involved = [order.series_id, *(one for one, _ in order.needs)]
        found = order.make(own, max(whole_from.get(one, LONG_AGO_US) for one in involved))
        if found is not None:
            made.append((order, found))
    return made


@dataclass(frozen=True, slots=True)
class _Rows:
    """Readings of *count* needs in one table, in no order; *need* counts from 1."""

    count: int
    need: npt.NDArray[np.int32]
    at_us: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]
    quality: npt.NDArray[np.int32]

    def tracks(self) -> list[Track]:
        """Return the track of each need."""
        order = np.lexsort((self.at_us, self.need))
        whole = Track(self.at_us, self.value, self.quality).take(order)
        edges = np.searchsorted(self.need[order], np.arange(1, self.count + 2)).tolist()
        return [whole.take(slice(*both)) for both in pairwise(edges)]


async def _read(connection: Connection, needs: Sequence[tuple[int, Need]]) -> _Rows:
    # Thousands of needs are told as text and answered in one row: anything else is an object for
    # each of their parts, made on the event loop.
    arguments = {
        "series_ids": _array(one for one, _ in needs),
        "start": _array(clamped_us(need.start_us) for _, need in needs),
        "end": _array(clamped_us(need.end_us) for _, need in needs),
        "before": _array(need.before for _, need in needs),
        "after": _array(need.after for _, need in needs),
    }
    cursor = await column_cursor(connection).execute(_SQL["read"], arguments)
    row = await cursor.fetchone()
    assert row is not None  # an aggregate of everything has one
    return _Rows(len(needs), *row)


def _array(items: Iterable[object]) -> str:
    """Return whole numbers, or truth values, as the server reads an array of them."""
    return "{" + ",".join(map(str, items)) + "}"


async def _whole_from(connection: Connection, series_ids: set[int]) -> dict[int, int]:
    cursor = await connection.execute(_SQL["whole_from"], {"series_ids": list(series_ids)})
    return {one: us async for one, us in cursor if us is not None}


@dataclass(slots=True)
class _Difference:
    """Readings to remove (by series and time) and to write, and what that changes for others."""

    fresh: Batch = field(default_factory=Batch.empty)
    gone_ids: list[int] = field(default_factory=list)
    gone_us: list[int] = field(default_factory=list)
    changed: list[tuple[int, int, int]] = field(default_factory=list)


def _difference(made: Sequence[tuple[Order, Made]], stored: _Rows, now_us: int) -> _Difference:
    """Return what brings *stored* to *made*; nothing of what is the same already."""
    out = _Difference()
    fresh: list[Batch] = []
    for (order, one), old in zip(made, stored.tracks(), strict=True):
        kept_old, kept_new = _alike(old, one.track)
        moments = old.at_us[~kept_old]
        rows = one.track.take(~kept_new)
        out.gone_ids += [order.series_id] * len(moments)
        out.gone_us += moments.tolist()
        fresh.append(_batch(order.series_id, rows, now_us))
        touched = np.concatenate([moments, rows.at_us])
        if order.propagates and len(touched):
            out.changed.append((order.series_id, int(touched.min()), int(touched.max())))
    # Two spans of one series may both tell of the reading between them, and tell the same.
    out.fresh, _ = Batch.concatenate(fresh).sorted_unique()
    return out


async def _replace(connection: Connection, difference: _Difference) -> Batch:
    if difference.gone_us:
        arguments = {
            "series_ids": _array(difference.gone_ids),
            "at": _array(difference.gone_us),
            "first": instant(min(difference.gone_us)),
            "last": instant(max(difference.gone_us)),
        }
        await connection.execute(_SQL["remove"], arguments)
    if len(difference.fresh):
        await copy_readings(connection, difference.fresh)
    if difference.changed:
        await _note(connection, difference.changed)
    return difference.fresh


def _alike(old: Track, new: Track) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows of each stand in the other with the same value and quality."""
    _, at_old, at_new = np.intersect1d(
        old.at_us, new.at_us, assume_unique=True, return_indices=True
    )
    a, b = old.value[at_old], new.value[at_new]
    same = ((a == b) | (np.isnan(a) & np.isnan(b))) & (old.quality[at_old] == new.quality[at_new])
    kept_old, kept_new = np.zeros(len(old), bool), np.zeros(len(new), bool)
    kept_old[at_old[same]] = True
    kept_new[at_new[same]] = True
    return kept_old, kept_new


def _batch(series_id: int, rows: Track, now_us: int) -> Batch:
    size = len(rows)
    return Batch(
        np.full(size, series_id, np.int32),
        rows.at_us,
        np.full(size, now_us, np.int64),
        rows.value,
        rows.quality,
    )
