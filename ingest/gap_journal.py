"""Gaps on their way to the database: kept in a small file until somebody has stored them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from devices.gap import Gap
from ingest.collector import WriteOutcome
from ingest.counters import Counters
from ingest.whole_file import write_whole

_log = logging.getLogger(__name__)
_MOST = 1_000


class GapJournal:
    """A ledger of gaps (`ingest.collector.GapLedger`) that outlives the process.

    At most 1,000 gaps wait; beyond that the oldest is dropped, logged, and counted as dropped.  A
    disk that cannot keep the file costs a log line, never an exception.
    """

    def __init__(self, path: Path, counters: Counters) -> None:
        self._path = path
        self._counters = counters
        self._waiting: deque[Gap] = deque()
        self._news = asyncio.Event()
        self._saving = asyncio.Lock()

    async def recall(self) -> None:
        """Take up what an earlier process could not deliver."""
        try:
            content = await asyncio.to_thread(self._path.read_bytes)
            self._waiting.extend(msgspec.json.decode(content, type=list[Gap]))
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            _log.error("gaps of an earlier run cannot be read from %s: %s", self._path, error)
        if self._waiting:
            self._news.set()

    async def record(self, gap: Gap) -> None:
        """Keep *gap* until it is delivered; never raises, and never waits for the database."""
        self._counters.gaps[gap.reason] += 1
        self._waiting.append(gap)
        while len(self._waiting) > _MOST:
            dropped = self._waiting.popleft()
            self._counters.readings_dropped["gap_journal"] += 1
            _log.error("gap journal full, dropped: %s", dropped)
        self._news.set()
        await self._save()

    async def deliver(
        self, put: Callable[[Sequence[Gap]], Awaitable[WriteOutcome]], retry_s: float
    ) -> None:
        """Hand everything that waits to *put*, forever; runs until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            batch = list(self._waiting)
            outcome = await put(batch) if batch else None
            if outcome is None:
                continue
            if outcome.kind in ("written", "refused"):
                if outcome.kind == "refused":
                    _log.error("the database refuses gaps: %s: %s", outcome.reason, batch)
                for _ in batch:
                    self._waiting.popleft()
                await self._save()
            else:
                await asyncio.sleep(retry_s)
                self._news.set()

    async def _save(self) -> None:
        async with self._saving:  # what is newest must be what stays
            content = msgspec.json.encode(list(self._waiting))
            try:
                await asyncio.to_thread(write_whole, self._path, content)
            except OSError as error:
                _log.error("gaps cannot be kept in %s: %s", self._path, error)
