"""The reading half of the spool: what earlier processes left, and windows of segments."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ingest.backlog import Stretch
from ingest.segment import Disk, Segment, read_segment_name, read_stretch
from ingest.spool_format import HEAD_BYTES, Scan, read_head, scan

_WINDOW_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """What lies in a spool's folder.

    *segments* have all that they hold as their backlog.  *aside_bytes* is the size of damaged ones
    that are kept and not read again.
    """

    segments: list[Segment]
    aside_bytes: int
    next_segment: int
    next_record: int


def recover(folder: Path, disk: Disk) -> Found:
    """Look through *folder*; reads the last segment whole and the heads of the others.

    The numbers of records say how many each segment holds, damaged or not.  Raises OSError.
    """
    segments: list[Segment] = []
    aside_bytes = next_segment = next_record = 0
    for path in sorted(folder.iterdir()):
        if (name := read_segment_name(path.name)) is None:
            continue
        number, salt, aside = name
        next_segment = max(next_segment, number + 1)
        size = path.stat().st_size
        if aside:
            aside_bytes += size
        else:
            segments.append(Segment(number, salt, path, size, sealed=True, recovered=True))
    firsts = [_first_record(segment, disk) for segment in segments]
    if segments:
        next_record = _record_after(segments[-1], firsts[-1][0], disk)
    for at, segment in enumerate(segments):
        first, received_at_us = firsts[at]
        after = firsts[at + 1][0] if at + 1 < len(firsts) else next_record
        if segment.size:
            records = max(0, after - first)
            segment.backlog.add(Stretch(0, segment.size, records, received_at_us, seen=False))
    return Found(segments, aside_bytes, next_segment, next_record)


def _first_record(segment: Segment, disk: Disk) -> tuple[int, int]:
    """Return number and receive time of the segment's first record; zeros where unreadable."""
    fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = read_head(read_stretch(disk, fd, HEAD_BYTES, 0), 0, segment.salt)
    finally:
        os.close(fd)
    return (found.number, found.received_at_us) if found else (0, 0)


def _record_after(segment: Segment, first: int, disk: Disk) -> int:
    """Return the number after the last record of *segment*."""
    after, start = first, 0
    while start < segment.size:
        found = read_window(disk, segment, start, segment.size)
        for block in found.blocks:
            after = max(after, block.number + len(block.arrivals))
        if found.end == start or found.torn:
            break
        start = found.end
    return after


def read_window(disk: Disk, segment: Segment, start: int, end: int) -> Scan:
    """Read the first mebibyte between *start* and *end*, more where one block is larger.

    The scan is empty only where the file ends before *end*.  Raises OSError.
    """
    size = _WINDOW_BYTES
    fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while True:
            wanted = min(size, end - start)
            data = read_stretch(disk, fd, wanted, start)
            last = len(data) < wanted or start + wanted >= end
            found = scan(data, start, segment.salt, last)
            if found.blocks or found.damage or last:
                return found
            size = max(2 * size, found.need)
    finally:
        os.close(fd)
