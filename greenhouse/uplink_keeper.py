"""What LoRaWAN devices sent last, in a file beside the spool: a restart makes no repeat new."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import msgspec

from ingest.uplinks import Uplinks
from ingest.whole_file import write_whole

_log = logging.getLogger(__name__)

_SAVE_EVERY_S = 5.0
_SAVED_BYTES_PER_S = 1_000_000  # a city's file is written less often


class UplinkKeeper:
    """Keeps *uplinks* in *file*, a few seconds behind.

    What is newer when the process is killed is forgotten, unless it is still in the spool: a frame
    of those seconds that comes again is then a reading of its own.
    """

    def __init__(self, uplinks: Uplinks, file: Path) -> None:
        self._uplinks = uplinks
        self._file = file
        self._saved = uplinks.seen
        self._writing = threading.Lock()  # what is cancelled while it writes goes on writing

    async def recall(self) -> None:
        """Take up what an earlier run knew."""
        try:
            self._uplinks.recall(await asyncio.to_thread(self._file.read_bytes))
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("the frames of an earlier run cannot be read: %s", error)

    async def run(self, every_s: float = _SAVE_EVERY_S) -> None:
        """Save what is new every *every_s* seconds, and when cancelled."""
        pause_s = every_s
        try:
            while True:
                await asyncio.sleep(pause_s)
                if self._uplinks.seen != self._saved:
                    seen, content = self._uplinks.seen, self._uplinks.snapshot()
                    await asyncio.to_thread(self._write, seen, content)
                    pause_s = max(every_s, len(content) / _SAVED_BYTES_PER_S)
        finally:
            if self._uplinks.seen != self._saved:
                self._write(self._uplinks.seen, self._uplinks.snapshot())

    def _write(self, seen: int, content: bytes) -> None:
        with self._writing:
            try:
                write_whole(self._file, content)
            except OSError as error:
                _log.warning("the frames of LoRaWAN devices cannot be kept: %s", error)
            else:
                self._saved = seen
