"""Results of samples: every version that was told, and the readings that the reviewed ones are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row

from devices.quality import Quality
from devices.reading import Batch
from devices.sample_result import SampleResult
from storage.instant import instant, microseconds
from storage.pool import Connection, Pool
from storage.statements import statements


@dataclass(frozen=True, slots=True)
class Added:
    """What adding results did: *corrected* are versions after the first.

    *reviewed* of the new and the corrected ones have a reviewer and are readings now.
    """

    new: int = 0
    corrected: int = 0
    unchanged: int = 0
    reviewed: int = 0


@dataclass(frozen=True, slots=True)
class KeptResult:
    """A version of a result as it is kept; *is_newest* is false where a later one corrects it."""

    id: int
    result: SampleResult
    version: int
    is_newest: bool
    recorded_at: datetime
    recorded_by: str


@dataclass(frozen=True, slots=True)
class Untold:
    """Reviewed results that the rules do not know yet: their readings, and what to mark then."""

    ids: tuple[int, ...]
    batch: Batch


@dataclass(frozen=True, slots=True)
class _Version:
    result: SampleResult
    series_id: int
    version: int


class LaboratoryStore:
    """The results behind *pool*; every method may raise the errors of `Pool.run`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(
        self,
        results: Sequence[SampleResult],
        series_ids: Mapping[str, int],
        by: str,
        now: datetime,
        *,
        dry_run: bool = False,
    ) -> Added:
        """Keep *results*, all or none; *series_ids* has the number of each of their series.

        What is known already, in any version, is unchanged: an old file read again takes nothing
        back.  Anything else about the same sample is a new version.  The newest reviewed version is
        the reading of its moment.  With *dry_run* nothing is kept, and what would be is told.
        """

        async def add(connection: Connection) -> Added:
            async with connection.transaction():
                if not dry_run:
                    await connection.execute(_SQL["lock"])
                known = await _known(connection, results, series_ids)
                versions, added = _compare(results, series_ids, known)
                if versions and not dry_run:
                    await _write(connection, versions, by, now)
                return added

        return await self._pool.run(add)

    async def list(
        self,
        since_us: int,
        until_us: int,
        limit: int,
        series_ids: Sequence[int] | None = None,
        before: int | None = None,
        *,
        versions: bool = False,
    ) -> list[KeptResult]:
        """Return up to *limit* results sampled in [since, until), the newest sample first.

        With *versions* every version, otherwise the newest of each.  *before* is the id of the last
        one of the page before.
        """
        arguments = {
            "since": instant(since_us),
            "until": instant(until_us),
            "limit": limit,
            "series_ids": None if series_ids is None else [*series_ids],
            "before": before,
            "versions": versions,
        }

        return await self._pool.rows(_SQL["list"], arguments, _kept)

    async def untold(self, limit: int) -> Untold:
        """Return the readings of up to *limit* reviewed results that the rules do not know yet."""

        async def read(connection: Connection) -> Untold:
            rows = [row async for row in await connection.execute(_SQL["untold"], {"limit": limit})]
            readings = [_reading(value, floor) for *_, value, floor in rows]
            return Untold(
                tuple(row[0] for row in rows),
                Batch.of(
                    [row[1] for row in rows],
                    [microseconds(row[2]) for row in rows],
                    [microseconds(row[3]) for row in rows],
                    [value for value, _ in readings],
                    [quality for _, quality in readings],
                ),
            )

        return await self._pool.run(read)

    async def mark_told(self, ids: Sequence[int], now: datetime) -> None:
        """Note that the rules know the results *ids*."""

        async def mark(connection: Connection) -> None:
            await connection.execute(_SQL["mark_told"], {"ids": [*ids], "at": now})

        await self._pool.run(mark)


_SQL = statements("laboratory")
_WORDS = ("given", "method", "laboratory", "sampler", "reviewer", "report", "note")


def _compare(
    results: Sequence[SampleResult],
    series_ids: Mapping[str, int],
    known: Mapping[tuple[int, int], Sequence[_Version]],
) -> tuple[list[_Version], Added]:
    """Return the versions to add, and what that is called."""
    versions: list[_Version] = []
    corrected = unchanged = 0
    for result in results:
        series_id = series_ids[result.series]
        before = known.get((series_id, result.sampled_at_us), ())
        if any(_same(result, one.result) for one in before):
            unchanged += 1
            continue
        corrected += bool(before)
        last = before[-1].version if before else 0
        versions.append(_Version(result, series_id, last + 1))
    reviewed = sum(bool(one.result.reviewer) for one in versions)
    return versions, Added(len(versions) - corrected, corrected, unchanged, reviewed)


def _same(one: SampleResult, other: SampleResult) -> bool:
    names = ("value", "detection_limit", *_WORDS)
    return all(getattr(one, name) == getattr(other, name) for name in names)


async def _known(
    connection: Connection, results: Sequence[SampleResult], series_ids: Mapping[str, int]
) -> dict[tuple[int, int], list[_Version]]:
    wanted = {
        "series_id": [series_ids[one.series] for one in results],
        "sampled_at": [instant(one.sampled_at_us) for one in results],
    }
    found: dict[tuple[int, int], list[_Version]] = {}
    cursor = connection.cursor(row_factory=dict_row)
    async for row in await cursor.execute(_SQL["known"], wanted):
        version = _Version(_result("", row), row["series_id"], row["version"])
        key = (row["series_id"], version.result.sampled_at_us)
        found.setdefault(key, []).append(version)
    return found


async def _write(
    connection: Connection, versions: Sequence[_Version], by: str, now: datetime
) -> None:
    columns: dict[str, Any] = {
        "series_id": [one.series_id for one in versions],
        "sampled_at": [instant(one.result.sampled_at_us) for one in versions],
        "version": [one.version for one in versions],
        "value": [one.result.value for one in versions],
        "detection_limit": [one.result.detection_limit for one in versions],
        "recorded_at": now,
        "recorded_by": by,
    }
    columns |= {name: [getattr(one.result, name) for one in versions] for name in _WORDS}
    await connection.execute(_SQL["add"], columns)
    reviewed = [one for one in versions if one.result.reviewer]
    if not reviewed:
        return
    await connection.execute(
        _SQL["put_readings"],
        {
            "series_id": [one.series_id for one in reviewed],
            "sampled_at": [instant(one.result.sampled_at_us) for one in reviewed],
            "recorded_at": now,
            "reading": [one.result.reading for one in reviewed],
            "quality": [int(one.result.quality) for one in reviewed],
        },
    )
    times: dict[int, list[int]] = {}
    for one in reviewed:
        times.setdefault(one.series_id, []).append(one.result.sampled_at_us)
    await connection.execute(
        _SQL["note_changed"],
        {
            "series_ids": list(times),
            "first_us": [min(span) for span in times.values()],
            "last_us": [max(span) for span in times.values()],
        },
    )


def _reading(value: float | None, detection_limit: float | None) -> tuple[float, int]:
    result = SampleResult("", 0, value, detection_limit, "")
    return result.reading, int(result.quality | Quality.MANUAL)


def _result(series: str, row: Mapping[str, Any]) -> SampleResult:
    words = {name: row[name] for name in _WORDS}
    at_us = microseconds(row["sampled_at"])
    return SampleResult(series, at_us, row["value"], row["detection_limit"], **words)


def _kept(row: Mapping[str, Any]) -> KeptResult:
    return KeptResult(
        row["id"],
        _result(row["series"], row),
        row["version"],
        row["is_newest"],
        row["recorded_at"],
        row["recorded_by"],
    )
