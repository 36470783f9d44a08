"""One file of the spool: what is known of it, and what a failing disk means for it.

Two kinds of failure are told apart.  No room: the file is cut back to its last whole block and can
be used again.  Anything else, and any failed sync: the file is never written or synced again,
because after a failed sync the kernel may call pages clean that never reached the disk.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from ingest.backlog import Backlog
from ingest.whole_file import sync_folder

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_NAME = re.compile(r"([0-9]{16})-([0-9a-f]{8})\.(segment|corrupt)")
_PAGE = 4096


class NoRoom(Exception):
    """The disk is full; what was to be written is not in the file."""


class Disk:
    """The disk as the spool uses it; a test may put a failing one in its place."""

    def create(self, path: Path) -> int:
        """Create *path*, durably known to its folder, and return its descriptor for appending."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self.sync_folder(path.parent)
        except BaseException:  # interrupted too: nobody else knows the descriptor
            os.close(fd)
            path.unlink()
            raise
        return fd

    def write(self, fd: int, data: memoryview) -> int:
        """Write some of *data* and return how many bytes."""
        return os.write(fd, data)

    def sync(self, fd: int) -> None:
        """Return when the content of *fd* is on the disk."""
        os.fdatasync(fd)

    def truncate(self, fd: int, size: int) -> None:
        """Cut *fd* back to *size* bytes."""
        os.ftruncate(fd, size)

    def sync_folder(self, folder: Path) -> None:
        """Return when the names in *folder* are on the disk."""
        sync_folder(folder)

    def read(self, fd: int, size: int, start: int) -> bytes:
        """Return up to *size* bytes from byte *start*."""
        return os.pread(fd, size, start)

    def room(self, folder: Path) -> tuple[int, int]:
        """Return (free bytes, all bytes) of the file system under *folder*."""
        stat = os.statvfs(folder)
        return stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize


def segment_name(number: int, salt: int) -> str:
    """Return the file name of a segment; the salt seeds its checks (`ingest.spool_format`)."""
    return f"{number:016d}-{salt:08x}.segment"


def read_segment_name(name: str) -> tuple[int, int, bool] | None:
    """Return (number, salt, set aside as damaged), or None where *name* is no segment's."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2], 16), match[3] == "corrupt") if match else None


@dataclass(slots=True, eq=False)
class Segment:
    """What the spool knows of one segment; only the event loop changes it once it is known there.

    *size* counts whole, synced bytes.  *sealed*: not appended to any more.  *recovered*: left by an
    earlier process.  *outstanding* counts what is in memory or being read of it.
    """

    number: int
    salt: int
    path: Path
    size: int = 0
    sealed: bool = False
    recovered: bool = False
    damaged: bool = False
    outstanding: int = 0
    backlog: Backlog = field(default_factory=Backlog)


class SegmentFile:
    """Appends to one new segment; used by one thread.  *size* counts whole, synced bytes only."""

    def __init__(self, disk: Disk, path: Path) -> None:
        self.path = path
        self.size = 0
        self._disk = disk
        self._fd = disk.create(path)

    def append(self, data: bytes) -> None:
        """Return when *data* is durable.

        Raises `NoRoom` with the segment as it was before, or OSError when it must be abandoned.
        """
        try:
            self._write(data)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            self._disk.truncate(self._fd, self.size)
            raise NoRoom(str(error)) from error
        self._disk.sync(self._fd)
        self.size += len(data)

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._disk.write(self._fd, rest) :]

    def close(self) -> None:
        """Close the file without another sync; whatever counts is synced already."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def read_stretch(disk: Disk, fd: int, size: int, start: int) -> bytes:
    """Return *size* bytes from *start*, fewer at the end of the file.

    Pages that the disk cannot read are zeros, so that the blocks beyond them are still found.
    """
    try:
        return disk.read(fd, size, start)
    except OSError:
        pieces = []
        for at in range(start, start + size, _PAGE):
            length = min(_PAGE, start + size - at)
            try:
                pieces.append(disk.read(fd, length, at))
            except OSError:
                pieces.append(bytes(length))
        return b"".join(pieces)
