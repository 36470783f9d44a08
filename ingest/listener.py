"""A seat beside the database: one more consumer of every batch, which can delay nobody."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from devices.reading import Batch
from ingest.counters import Counters


@dataclass(frozen=True, slots=True)
class Heard:
    """A decoded batch; *fresh* is false for what lay in the spool and comes late."""

    batch: Batch
    fresh: bool


class Listener:
    """A bounded queue of batches for the consumer *name*, filled as soon as they are decoded.

    A batch comes at least once and does not wait for the database.  Beyond *max_rows* the oldest
    batches are dropped, and counted under the name.  A batch that is larger than that stands alone.
    """

    def __init__(self, name: str, counters: Counters, max_rows: int = 200_000) -> None:
        self.name = name
        self._counters = counters
        self._max_rows = max_rows
        self._queue: deque[Heard] = deque()
        self._rows = 0
        self._ready = asyncio.Event()

    def __len__(self) -> int:
        """Return how many rows wait."""
        return self._rows

    @property
    def dropped(self) -> int:
        """How many rows a full queue has dropped so far."""
        return self._counters.readings_dropped[self.name]

    def offer(self, batch: Batch, fresh: bool) -> None:
        """Add *batch*; returns at once."""
        if not len(batch):
            return
        self._queue.append(Heard(batch, fresh))
        self._rows += len(batch)
        while self._rows > self._max_rows and len(self._queue) > 1:
            self._counters.readings_dropped[self.name] += len(self._pop().batch)
        self._ready.set()

    async def get(self) -> Heard:
        """Return the oldest batch, waiting for one."""
        while not self._queue:
            self._ready.clear()
            await self._ready.wait()
        return self._pop()

    async def get_together(self, most_rows: int) -> Batch:
        """Return what waits, oldest first, as one batch; wait where nothing does.

        It has no more than *most_rows*, unless the oldest alone is larger.  For a consumer to whom
        a batch costs as much as a row: the busier it is, the fewer it takes.
        """
        taken = [(await self.get()).batch]
        rows = len(taken[0])
        while self._queue and rows + len(self._queue[0].batch) <= most_rows:
            taken.append(self._pop().batch)
            rows += len(taken[-1])
        return taken[0] if len(taken) == 1 else Batch.concatenate(taken)

    async def __aiter__(self) -> AsyncIterator[Heard]:
        while True:
            yield await self.get()

    def _pop(self) -> Heard:
        heard = self._queue.popleft()
        self._rows -= len(heard.batch)
        return heard
