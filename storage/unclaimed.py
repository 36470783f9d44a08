"""Devices that nobody has described yet, bounded, and who described which."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from devices.unclaimed import MAX_DEVICE_BYTES, MAX_DEVICES, MAX_TOPICS, HeardMessage, Unclaimed
from storage.instant import fits, instant, microseconds
from storage.pool import Connection, Pool
from storage.statements import statements

SILENT_FOR = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Claim:
    """Who made *device* of the unclaimed device behind *pattern*.

    *files* are the texts that were written, by name; *revision* is that of the registry which has
    the device, None where it did not come so far.
    """

    unclaimed_id: str
    pattern: str
    device: str
    actor: str
    claimed_at_us: int
    files: Mapping[str, str]
    revision: int | None = None


class UnclaimedStore:
    """The unclaimed devices behind *pool*; every method may raise the errors of `Pool.run`."""

    def __init__(self, pool: Pool, keep: int = MAX_DEVICES) -> None:
        self._pool = pool
        self._keep = keep

    async def note(self, found: Sequence[Unclaimed], now: datetime) -> int:
        """Add *found* to what is known, and delete what is beyond the limits at the time *now*.

        Returns how many devices that pushed out.  Twice counts twice: that is harmless, the numbers
        are for people.
        """
        rows = [_row(one) for one in found if fits(one.first_at_us) and fits(one.last_at_us)]
        arguments = {
            "rows": Jsonb(rows),
            "max_topics": MAX_TOPICS,
            "max_bytes": 2 * MAX_DEVICE_BYTES,
        }
        limits = {"silent_since": now - SILENT_FOR, "keep": self._keep}

        async def note(connection: Connection) -> int:
            async with connection.transaction():
                await connection.execute(_SQL["note"], arguments)
                return (await connection.execute(_SQL["trim"], limits)).rowcount

        return await self._pool.run(note)

    async def list(self, limit: int, offset: int = 0) -> list[Unclaimed]:
        """Return unclaimed devices, those heard last first."""
        return [*await self._read("list", {"limit": limit, "offset": offset})]

    async def count(self) -> int:
        """Return how many there are."""

        async def count(connection: Connection) -> int:
            row = await (await connection.execute(_SQL["count"])).fetchone()
            return int(row[0]) if row is not None else 0

        return await self._pool.run(count)

    async def get(self, unclaimed_id: str) -> Unclaimed | None:
        """Return one of them, None when it is not known (any more)."""
        found = await self._read("get", {"id": unclaimed_id})
        return found[0] if found else None

    async def topics(self) -> Sequence[tuple[str, str, Sequence[str]]]:
        """Return of each its id, its pattern and the topics of its samples."""

        async def read(connection: Connection) -> Sequence[tuple[str, str, Sequence[str]]]:
            cursor = await connection.execute(_SQL["topics"])
            return [(one, pattern, topics) async for one, pattern, topics in cursor]

        return await self._pool.run(read)

    async def forget(self, ids: Sequence[str]) -> None:
        """Delete those that are described now."""

        async def forget(connection: Connection) -> None:
            await connection.execute(_SQL["forget"], {"ids": [*ids]})

        await self._pool.run(forget)

    async def begin_claim(self, claim: Claim) -> int:
        """Keep who claims what, durably, and return the number of the claim."""
        arguments = {
            "unclaimed_id": claim.unclaimed_id,
            "pattern": claim.pattern,
            "device": claim.device,
            "actor": claim.actor,
            "claimed_at": instant(claim.claimed_at_us),
            "files": Jsonb(dict(claim.files)),
        }

        async def begin(connection: Connection) -> int:
            row = await (await connection.execute(_SQL["begin_claim"], arguments)).fetchone()
            assert row is not None
            return int(row[0])

        return await self._pool.run(begin)

    async def end_claim(self, number: int, revision: int) -> None:
        """Keep that the registry of *revision* has the device of claim *number*."""

        async def end(connection: Connection) -> None:
            await connection.execute(_SQL["end_claim"], {"id": number, "revision": revision})

        await self._pool.run(end)

    async def claims(self, device: str | None = None, limit: int = 100) -> Sequence[Claim]:
        """Return claims, the newest first."""
        arguments = {"device": device, "limit": limit}
        return await self._pool.rows(_SQL["claims"], arguments, _claim)

    async def _read(self, name: str, arguments: Mapping[str, object]) -> Sequence[Unclaimed]:
        return await self._pool.rows(_SQL[name], arguments, _unclaimed)


_SQL = statements("unclaimed")


def _row(one: Unclaimed) -> dict[str, Any]:
    return {
        "id": one.id,
        "pattern": _showable(one.pattern),
        "site": _showable(one.site),
        "device": _showable(one.device),
        "first_at": instant(one.first_at_us).isoformat(),
        "last_at": instant(one.last_at_us).isoformat(),
        "messages": one.messages,
        "bytes": one.bytes,
        "samples": {
            _showable(sample.topic): {
                "at_us": sample.received_at_us,
                "size": sample.size,
                "payload": base64.b64encode(sample.payload).decode("ascii"),
            }
            for sample in one.samples
        },
    }


def _unclaimed(row: Mapping[str, Any]) -> Unclaimed:
    samples = [
        HeardMessage(topic, base64.b64decode(one["payload"]), one["size"], one["at_us"])
        for topic, one in row["samples"].items()
    ]
    return Unclaimed(
        row["id"],
        row["pattern"],
        row["site"],
        row["device"],
        microseconds(row["first_at"]),
        microseconds(row["last_at"]),
        row["messages"],
        row["bytes"],
        tuple(sorted(samples, key=lambda one: (-one.received_at_us, one.topic))),
    )


def _claim(row: Mapping[str, Any]) -> Claim:
    return Claim(
        row["unclaimed_id"],
        row["pattern"],
        row["device"],
        row["actor"],
        microseconds(row["claimed_at"]),
        row["files"],
        row["revision"],
    )


def _showable(text: str) -> str:
    """Return *text* with the replacement character for what the server's text cannot hold."""
    valid = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return valid.replace("\0", "\N{REPLACEMENT CHARACTER}")
