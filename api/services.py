"""What the HTTP room is given: typed, opened by somebody else, closed by them too."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from fastapi import Request

from devices.dead_letter import DeadLetter
from devices.gap import Gap
from devices.registry import Registry
from ingest.collector import Inlet
from storage.history import Buckets, Points

if TYPE_CHECKING:
    from api.auth import Tokens


class ReadingHistory(Protocol):
    """Readings as they were stored; every method may raise `storage` 's DatabaseUnavailable."""

    async def raw(
        self, series_ids: Sequence[int], start_us: int, end_us: int, limit: int
    ) -> Mapping[int, Points]:
        """Return the readings in [start, end), at most *limit* rows in all."""
        ...

    async def rolled(
        self, series_ids: Sequence[int], start_us: int, end_us: int, step: str
    ) -> Mapping[int, Buckets]:
        """Return the buckets that begin in [start, end)."""
        ...

    async def latest(self, series_ids: Collection[int] | None = None) -> Mapping[int, Points]:
        """Return the newest reading of each series."""
        ...
