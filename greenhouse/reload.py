"""SIGHUP: the site file and what lies beside it are read again and applied, without a restart."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

from devices.errors import DocumentError
from greenhouse.registry_keeper import RegistryKeeper
from greenhouse.site_files import read_site_files
from greenhouse.site_follower import SiteFollower
from ingest.pipeline import DecoderSource
from storage.errors import StorageError
from storage.pool import Pool
from storage.registry import RegistryStore

_log = logging.getLogger(__name__)


class Reload:
    """Applies the site file *file* when the process is told to, as `greenhouse apply` does.

    Mappings and templates of topics are taken up even where the registry stays as it is.
    """

    def __init__(
        self,
        file: Path,
        pool: Pool,
        follower: SiteFollower,
        keeper: RegistryKeeper,
        decoders: DecoderSource,
    ) -> None:
        self._file = file
        self._store = RegistryStore(pool)
        self._follower = follower
        self._keeper = keeper
        self._decoders = decoders

    async def run(self) -> None:
        """Wait for the signal, again and again; runs until cancelled."""
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, told.set)
        try:
            while True:
                await told.wait()
                told.clear()
                await self.reload()
        finally:
            loop.remove_signal_handler(signal.SIGHUP)

    async def reload(self) -> None:
        """Apply the site file; one with mistakes, or a database that is away, changes nothing."""
        try:
            site_file = await asyncio.to_thread(read_site_files, self._file)
            changes = await self._store.apply(site_file.registry, site_file.retention_s)
        except (DocumentError, OSError, UnicodeDecodeError, StorageError) as error:
            _log.error("not taken up again: %s", error)
            return
        _log.info("site file applied again: %s", changes or "nothing new in the registry")
        await self._keeper.catch_up()
        if not changes:
            registry = self._keeper.current
            self._follower.use(site_file, registry)
            await self._decoders.adopt(registry, anew=True)
