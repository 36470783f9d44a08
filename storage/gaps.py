"""Gaps: where something that was sent may not have reached us."""

from __future__ import annotations

from collections.abc import Sequence

from devices.gap import Gap
from storage.instant import fits, instant, microseconds
from storage.outcome import Outcome, put_columns
from storage.pool import Connection, Pool
from storage.statements import statements


class GapStore:
    """The gaps behind *pool*."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def put(self, gaps: Sequence[Gap]) -> Outcome:
        """Keep *gaps*; never raises for what the database does.

        One of the same source, reason and start is the same gap: it is kept with its latest end.
        """
        if any(not fits(us) for gap in gaps for us in (gap.started_at_us, gap.ended_at_us)):
            return Outcome("refused", reason="a gap outside the years 1 to 9999")
        latest = {
            (gap.started_at_us, gap.source, gap.reason): gap
            for gap in sorted(gaps, key=lambda gap: gap.ended_at_us)
        }.values()
        columns = {
            "started_at": [instant(gap.started_at_us) for gap in latest],
            "ended_at": [instant(gap.ended_at_us) for gap in latest],
            "source": [gap.source for gap in latest],
            "reason": [gap.reason for gap in latest],
            "text": [gap.text for gap in latest],
        }

        return await put_columns(self._pool, _SQL["put"], columns, len(gaps))

    async def list(self, since_us: int, until_us: int) -> list[Gap]:
        """Return the gaps that touch the span, by start; microseconds since 1970 UTC."""
        span = {"since": instant(since_us), "until": instant(until_us)}

        async def read(connection: Connection) -> list[Gap]:
            cursor = await connection.execute(_SQL["list"], span)
            return [
                Gap(source, microseconds(started_at), microseconds(ended_at), reason, text)
                async for source, started_at, ended_at, reason, text in cursor
            ]

        return await self._pool.run(read)


_SQL = statements("gaps")
