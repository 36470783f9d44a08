"""The journal of alerts: a file to which everything decided is added before it counts as done.

One line a decision: eight hex digits of its CRC, a blank, JSON.  A line that a crash left
unfinished is passed over when the file is read.  Now and then the file is written anew, from what
still counts.
"""

from __future__ import annotations

import contextlib
import logging
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from alerts.book import Group
from ingest.whole_file import write_whole
from storage.alerts import AlertChanges, StoredAlert, StoredSilence

_log = logging.getLogger(__name__)

FORMAT = 1


class Standing(msgspec.Struct, frozen=True):
    """Everything that counts at one moment: what a journal begins with.

    *alerts* are those in the book and those put away lately, *groups* likewise.  *since_us* is
    since when series are expected to speak.
    """

    format: int
    since_us: int
    alerts: list[StoredAlert] = []
    groups: list[Group] = []
    rested: list[Group] = []
    silences: list[StoredSilence] = []


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line; exactly one of the fields is set.

    *changes* is what was decided (in a journal's first lines: what is not in the database yet).
    *late_us* maps series to the earliest moment of readings that came late, since the engine's
    state was last saved.
    """

    standing: Standing | None = None
    changes: AlertChanges | None = None
    late_us: dict[int, int] | None = None


class Journal:
    """The file at *path*.  Methods wait for the disk and raise `OSError`: call them in a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = -1
        self._size = 0
        self._size_anew = 0

    def rewrite(self, lines: Iterable[Line]) -> None:
        """Replace everything by *lines*, in one step that a power cut leaves done or not begun."""
        content = b"".join(_encoded(line) for line in lines)
        self.close()
        write_whole(self._path, content)
        self._handle = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        self._size = self._size_anew = len(content)

    def append(self, line: Line, *, durably: bool = True) -> None:
        """Add *line*; on return it survives a power cut, or only the process if not *durably*."""
        if self._handle < 0:
            raise OSError(f"{self._path} is not open")
        content = _encoded(line)
        try:
            written = os.write(self._handle, content)
            if written < len(content):
                raise OSError(f"{self._path}: wrote {written} of {len(content)} bytes")
            if durably:
                os.fdatasync(self._handle)
        except OSError:
            # Half a line must not swallow the next one.
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, self._size)
            raise
        self._size += len(content)

    @property
    def has_grown(self) -> bool:
        """Whether anything was added since it was written anew."""
        return self._size != self._size_anew

    def close(self) -> None:
        """Close the file; harmless twice."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def read_journal(path: Path) -> list[Line]:
    """Return the lines that an earlier run left, without those that are damaged.

    Raises OSError for a file that is there and cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    lines = []
    for number, text in enumerate(content.split(b"\n"), 1):
        if not text:
            continue
        try:
            lines.append(_decoded(text))
        except (ValueError, msgspec.MsgspecError) as error:
            _log.warning("%s, line %d is passed over: %s", path, number, error)
    return lines


def late_of(lines: Iterable[Line]) -> Mapping[int, int]:
    """Return the earliest late moment of each series in *lines*."""
    late: dict[int, int] = {}
    for line in lines:
        for series, at_us in (line.late_us or {}).items():
            late[series] = min(late.get(series, at_us), at_us)
    return late


def _encoded(line: Line) -> bytes:
    text = msgspec.json.encode(line)
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _decoded(text: bytes) -> Line:
    crc, _, body = text.partition(b" ")
    if len(crc) != 8 or int(crc, 16) != zlib.crc32(body):
        raise ValueError("its checksum is wrong")
    return msgspec.json.decode(body, type=Line)
