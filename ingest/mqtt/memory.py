"""The file in which a collector keeps what it knows about its session."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ingest.mqtt.coverage import Memory
from ingest.whole_file import write_whole


class MemoryUnreadable(ValueError):
    """The file is there and does not hold what it should."""


class MemoryFile:
    """One small JSON file, always whole.

    Both calls block on the disk for a moment; `save` may be called from several threads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

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
        write_whole(self.path, msgspec.json.encode(memory))
