"""The file in which a collector keeps what it knows about its session."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import msgspec

from ingest.mqtt.coverage import Memory


class MemoryUnreadable(ValueError):
    """The file is there and does not hold what it should."""


class MemoryFile:
    """One small JSON file, always whole: a new one is written beside it and takes its place.

    Both calls block on the disk for a moment; `save` may be called from several threads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def load(self) -> Memory | None:
        """Return what was saved, None where nothing was; raise `MemoryUnreadable` for junk."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return msgspec.json.decode(content, type=Memory)
        except msgspec.DecodeError as error:
            raise MemoryUnreadable(f"{self.path} is not what we wrote: {error}") from error

    def save(self, memory: Memory) -> None:
        """Keep *memory* over a loss of power; raises OSError where the disk cannot."""
        beside = self.path.with_name(self.path.name + ".new")
        with self._lock:
            with beside.open("wb") as file:
                file.write(msgspec.json.encode(memory))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
