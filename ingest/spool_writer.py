"""The writing half of the spool: arrivals in, durable blocks out.  One thread uses it at a time."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ingest.collector import Arrival
from ingest.segment import NO_ROOM, Disk, NoRoom, Segment, SegmentFile, segment_name
from ingest.spool_format import HEAD_BYTES, Block, Body, encode_bodies, head

_RESERVE_BYTES = 2 << 30  # a share of a large disk need not be more than this


@dataclass(slots=True)
class Commit:
    """What came of a write: *blocks* of *segment* that are durable, or in *full* why none are.

    *ended* are segments that are not appended to any more, *errors* what the disk said.
    """

    blocks: list[Block] = field(default_factory=list)
    segment: Segment | None = None
    ended: list[Segment] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    full: str = ""


class SpoolWriter:
    """Appends to segments in *folder*, each of about *segment_bytes*.

    It leaves *min_free_share* of the file system to others, at most 2 GiB.  Segments and records
    are numbered on from *next_segment* and *next_record*.
    """

    def __init__(
        self,
        folder: Path,
        disk: Disk,
        *,
        segment_bytes: int,
        min_free_share: float,
        next_segment: int,
        next_record: int,
    ) -> None:
        self._folder = folder
        self._disk = disk
        self._segment_bytes = segment_bytes
        self._min_free_share = min_free_share
        self._next_segment = next_segment
        self._next_record = next_record
        self._file: SegmentFile | None = None
        self.active: Segment | None = None

    def commit(self, arrivals: Sequence[Arrival], room: int) -> Commit:
        """Make *arrivals* durable in at most *room* bytes, with one write and one sync.

        A segment that fails is left as it is, and the same arrivals go to a new one, once.
        """
        commit = Commit()
        bodies = encode_bodies(arrivals)
        size = sum(HEAD_BYTES + len(body.data) for body in bodies)
        if size > room:
            commit.full = f"the quota is used up, {max(room, 0)} bytes are left of it"
            return commit
        for _attempt in range(2):
            try:
                self._check_reserve(size)
                file, segment = self._writable(commit)
                blocks, data = _frame(bodies, self._next_record, segment.salt, file.size)
                file.append(data)
            except NoRoom as error:
                commit.full = str(error)
                return commit
            except OSError as error:
                place = self.active.path if self.active else self._folder
                commit.errors.append(f"{place}: {error}")
                commit.ended += self.end_segment()
                continue
            self._next_record += len(arrivals)
            commit.blocks, commit.segment = blocks, segment
            return commit
        commit.full = "the disk takes nothing: " + commit.errors[-1]
        return commit

    def _check_reserve(self, size: int) -> None:
        free, total = self._disk.room(self._folder)
        reserve = min(int(total * self._min_free_share), _RESERVE_BYTES)
        if free - size < reserve:
            raise NoRoom(f"{free} bytes of the file system are free, {reserve} of them for others")

    def _writable(self, commit: Commit) -> tuple[SegmentFile, Segment]:
        """Return the segment to append to, a new one where the last is full."""
        if self.active is not None and self._file is not None:
            if self._file.size < self._segment_bytes:
                return self._file, self.active
            commit.ended += self.end_segment()
        number, salt = self._next_segment, secrets.randbits(32)
        self._next_segment += 1
        path = self._folder / segment_name(number, salt)
        try:
            file = SegmentFile(self._disk, path)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise NoRoom(str(error)) from error
            raise
        self._file, self.active = file, Segment(number, salt, path)
        return self._file, self.active

    def end_segment(self) -> list[Segment]:
        """Append no more to the active segment; return it, if there is one."""
        if self._file is not None:
            self._file.close()
        ended = [self.active] if self.active is not None else []
        self._file = self.active = None
        return ended


def _frame(bodies: list[Body], number: int, salt: int, start: int) -> tuple[list[Block], bytes]:
    """Return *bodies* as blocks of a segment from byte *start*, and their bytes."""
    blocks: list[Block] = []
    pieces: list[bytes] = []
    for body in bodies:
        end = start + HEAD_BYTES + len(body.data)
        pieces += (head(body, number, salt), body.data)
        blocks.append(Block(start, end, number, list(body.arrivals)))
        number += len(body.arrivals)
        start = end
    return blocks, b"".join(pieces)
