"""The readings that are kept, as HTTP asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from devices.reading import Batch
from storage.history import Buckets, Points
from storage.history import Step as RolledStep


class RawHistory(Protocol):
    """The part of a `ReadingHistory` that does not know of roll-ups."""

    async def raw(
        self, series_ids: Sequence[int], start_us: int, end_us: int, limit: int
    ) -> dict[int, Points]:
        """Return the readings of each series in [start, end), the oldest *limit* of each."""
        ...


class ReadingHistory(RawHistory, Protocol):
    """What `storage.history.History` answers; every method may raise `DatabaseUnavailable`."""

    async def rolled(
        self, series_ids: Sequence[int], start_us: int, end_us: int, step: RolledStep
    ) -> dict[int, Buckets]:
        """Return the filled buckets of each series that begin in [start, end)."""
        ...

    async def count(self, series_ids: Sequence[int], start_us: int, end_us: int, cap: int) -> int:
        """Return how many readings there are in [start, end), at most *cap*."""
        ...

    async def latest(self, series_ids: Sequence[int] | None = None) -> Batch:
        """Return the newest reading of each series that has any."""
        ...
