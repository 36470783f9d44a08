"""The registry as it is now: followed in the database, remembered over an outage of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from devices.registry import Registry
from ingest.pipeline import DecoderSource
from ingest.whole_file import write_whole
from storage.editions import Edition
from storage.errors import DatabaseMisconfigured, DatabaseUnavailable, StorageError
from storage.migrate import schema_edition
from storage.pool import Pool
from storage.registry import RegistryStore

_log = logging.getLogger(__name__)


class RegistryKeeper:
    """Holds what *store* last said and hands every new registry to *decoders*.

    *cache* is the file by which readings are decoded when the database is away at the start: series
    keep their numbers, so what was right yesterday is right now.  *adopting* is told every new
    registry before anything is decoded by it; *following*, if set, is awaited before that.
    """

    def __init__(
        self,
        pool: Pool,
        decoders: DecoderSource,
        cache: Path,
        adopting: Callable[[Registry], None] = lambda registry: None,
    ) -> None:
        self._adopting = adopting
        self._pool = pool
        self._store = RegistryStore(pool)
        self._decoders = decoders
        self._cache = cache
        self.following: Callable[[Registry], Awaitable[None]] | None = None
        self.current = Registry()
        self.archive = Registry()
        self.edition: Edition | None = None
        self.problem = "the database was not reached yet"

    async def recall(self) -> None:
        """Take up the registry that an earlier run knew."""
        try:
            content = await asyncio.to_thread(self._cache.read_bytes)
            registry = msgspec.json.decode(content, type=Registry)
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("the registry of an earlier run cannot be read: %s", error)
            return
        await self._adopt(registry, registry)

    async def prepare(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do *work* (migrate, apply) when the database lets us, then take up its registry."""
        pause_s = 0.2
        while True:
            try:
                await work()
                await self._load()
            except (DatabaseUnavailable, DatabaseMisconfigured) as error:
                self._note(error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, 10.0)
            else:
                return

    async def follow(self, every_s: float) -> None:
        """Look for a newer registry every *every_s* seconds; runs until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            try:
                if await self._store.revision() != self.current.revision:
                    await self._load()
                self._note(None)
            except StorageError as error:
                self._note(error)

    async def catch_up(self) -> None:
        """Take up the registry now if it is newer, for whoever has just changed it."""
        try:
            if await self._store.revision() != self.current.revision:
                await self._load()
        except StorageError as error:
            self._note(error)  # `follow` will see it, too

    async def _load(self) -> None:
        archive = await self._store.load(include_retired=True)
        registry = await self._store.load()
        self.edition = await self._pool.run(schema_edition)
        await self._adopt(registry, archive)
        self._note(None)  # not before: who is told that all is well asks for the registry next
        try:
            await asyncio.to_thread(write_whole, self._cache, msgspec.json.encode(registry))
        except OSError as error:
            _log.warning("the registry cannot be remembered in %s: %s", self._cache, error)

    async def _adopt(self, registry: Registry, archive: Registry) -> None:
        if self.following is not None:
            await self.following(registry)
        self.current, self.archive = registry, archive
        self._adopting(registry)
        if await self._decoders.adopt(registry):
            _log.info(
                "registry %d: %d sites, %d devices, %d series",
                registry.revision,
                len(registry.sites),
                len(registry.devices),
                len(registry.series),
            )

    def _note(self, error: StorageError | None) -> None:
        """Log once when the database goes and once when it is back."""
        problem = "" if error is None else str(error)
        if problem and not self.problem:
            _log.error("the database is away: %s", problem)
        elif problem and problem != self.problem:
            _log.error("the database: %s", problem)
        elif self.problem and not problem:
            _log.info("the database answers%s", f" ({self.edition})" if self.edition else "")
        self.problem = problem
