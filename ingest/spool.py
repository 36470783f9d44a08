"""The spool: where an arrival becomes durable before anybody is told that it was accepted.

    accept() ─▶ pending ─▶ one write + one sync ─▶ durable ─▶ fresh, in memory ─▶ pipeline
                 (shared by all who wait)             │                              │
                                                      └──▶ backlog, on the disk ◀────┘ put_back()

Arrivals lie in segments, files that are only ever appended to (`ingest.spool_format`).  What was
just written is handed on from memory, newest traffic first.  Whatever cannot be kept in memory, is
given back by the pipeline, or was left by an earlier process, is the backlog: stretches of segments
that are read again, oldest first, while fresh arrivals pass beside them.  A segment is removed when
nothing in it is outstanding; removing needs no room, so a full disk drains.

All bookkeeping is done on the event loop.  One thread writes and syncs, another reads and removes.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from ingest.backlog import Stretch
from ingest.collector import Arrival, ArrivalFlag, IngestError, SpoolFull
from ingest.counters import Counters, add_all
from ingest.segment import Disk, Segment
from ingest.spool_format import Damage, Scan
from ingest.spool_reader import read_window, recover
from ingest.spool_writer import Commit, SpoolWriter

_log = logging.getLogger(__name__)

_COMMIT_BYTES = 8 << 20  # payload bytes that share one write, more only for one caller
_NO_TIME_US = 1 << 62
_RECLAIM_BYTES = 1 << 20  # a drained segment of this size is removed though it is not full


class SpoolUnusable(IngestError):
    """The folder cannot be a spool; the message names the folder and the reason."""


@dataclass(frozen=True, slots=True)
class Lag:
    """What is accepted and not yet released.

    *age_s* is how long ago the oldest of it was received, 0 where there is none.  *records* is an
    estimate where part of the spool is damaged.
    """

    bytes: int
    records: int
    age_s: float


@dataclass(slots=True, eq=False)
class Portion:
    """Arrivals on loan from the spool, in order; give them to `release` or to `put_back`.

    *fresh* says that they come straight from `accept`, *seen* that they were put back as seen.
    """

    arrivals: Sequence[Arrival]
    fresh: bool
    seen: bool
    start: int
    end: int
    segment: Segment

    @property
    def bytes(self) -> int:
        """Their size on the disk."""
        return self.end - self.start

    @property
    def place(self) -> tuple[int, int]:
        """Where they lie, the same whenever they are read again."""
        return self.segment.number, self.start


@dataclass(slots=True)
class _Group:
    """One call of accept, waiting for its commit."""

    arrivals: Sequence[Arrival]
    bytes: int
    done: asyncio.Future[None]


class Spool:
    """A durable queue in *folder*; implements `ingest.collector.Inlet`; used by ``async with``.

    *quota_bytes* bounds what it may take on the disk.  It also leaves *min_free_share* of the file
    system free for others (at most 2 GiB).  *fresh_bytes* bounds what is kept in memory between
    accept and the pipeline; beyond it the oldest moves to the backlog.  *pending_bytes* bounds what
    may wait for a commit; beyond it `accept` refuses at once.  Entering raises `SpoolUnusable`.
    """

    def __init__(
        self,
        folder: Path,
        counters: Counters,
        *,
        quota_bytes: int = 2 << 30,
        min_free_share: float = 0.05,
        segment_bytes: int = 16 << 20,
        fresh_bytes: int = 8 << 20,
        pending_bytes: int = 64 << 20,
        disk: Disk | None = None,
    ) -> None:
        self._folder = folder
        self._counters = counters
        self._quota_bytes = quota_bytes
        self._min_free_share = min_free_share
        self._segment_bytes = segment_bytes
        self._fresh_limit = fresh_bytes
        self._pending_limit = pending_bytes
        self._disk = disk or Disk()
        self._lock_fd = -1
        self._open = False
        self._writer: SpoolWriter | None = None  # the loop touches it only while no commit runs
        self._pending: deque[_Group] = deque()
        self._pending_bytes = 0
        self._commit_running: asyncio.Future[Commit] | None = None
        self._segments: dict[int, Segment] = {}
        self._used_bytes = 0
        self._fresh: deque[Portion] = deque()
        self._fresh_bytes = 0
        self._on_loan: set[Portion] = set()
        self._being_read: Stretch | None = None
        self._problem = ""

    # Opening and closing.

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._fresh_ready = asyncio.Event()
        self._backlog_ready = asyncio.Event()
        self._lock_fd = _claim(self._folder)
        self._writing = ThreadPoolExecutor(1, "spool-writer")
        self._reading = ThreadPoolExecutor(1, "spool-reader")
        try:
            found = await self._loop.run_in_executor(
                self._reading, recover, self._folder, self._disk
            )
        except OSError as error:
            self._let_go()
            raise SpoolUnusable(f"spool folder {self._folder}: unreadable: {error}") from error
        except BaseException:  # cancelled too: the folder must not stay locked
            self._let_go()
            raise
        self._writer = SpoolWriter(
            self._folder,
            self._disk,
            segment_bytes=self._segment_bytes,
            min_free_share=self._min_free_share,
            next_segment=found.next_segment,
            next_record=found.next_record,
        )
        self._used_bytes = found.aside_bytes
        for segment in found.segments:
            self._segments[segment.number] = segment
            self._used_bytes += segment.size
            self._retire(segment)
        if self._segments:
            lag = self.lag(0)
            _log.info("spool %s: %d arrivals left by an earlier run", self._folder, lag.records)
        self._note_backlog()
        self._open = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open = False
        try:
            while self._commit_running is not None:
                await asyncio.wait([self._commit_running])
            self._end_active()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """End the threads (their work is short) and let another process have the folder."""
        self._writing.shutdown(wait=True)
        self._reading.shutdown(wait=True)
        if self._writer is not None:
            self._writer.end_segment()
            self._writer = None
        _answer(list(self._pending), f"the spool {self._folder} is closed")
        self._pending.clear()
        os.close(self._lock_fd)

    # Accepting.

    async def accept(self, arrivals: Sequence[Arrival]) -> None:
        """Return when all of *arrivals* are durable; raise `SpoolFull` when none of them are.

        A caller that is cancelled does not take its arrivals back: they may become durable.
        """
        if not arrivals:
            return
        size, by_source = self._count_received(arrivals)
        try:
            if not self._open:
                raise SpoolFull(f"the spool {self._folder} is closed")
            if self._pending and self._pending_bytes + size > self._pending_limit:
                raise SpoolFull(f"{self._pending_bytes} bytes wait for the disk already")
            group = _Group(arrivals, size, self._loop.create_future())
            self._pending.append(group)
            self._pending_bytes += size
            self._commit_next()
            await group.done
        except SpoolFull:
            add_all(self._counters.arrivals_refused, by_source)
            raise
        add_all(self._counters.arrivals_accepted, by_source)
        self._counters.bytes_accepted += size

    def _count_received(self, arrivals: Sequence[Arrival]) -> tuple[int, dict[str, int]]:
        """Count *arrivals*; return their payload bytes and how many came from each source."""
        counters = self._counters
        by_source: dict[str, int] = {}
        size = 0
        for arrival in arrivals:
            size += len(arrival.payload)
            by_source[arrival.source] = by_source.get(arrival.source, 0) + 1
            if flags := arrival.flags:
                counters.qos0_received += bool(flags & ArrivalFlag.QOS0)
                counters.retained_received += bool(flags & ArrivalFlag.RETAINED)
                counters.replayed_received += bool(flags & ArrivalFlag.REPLAYED)
        add_all(counters.arrivals_received, by_source)
        return size, by_source

    def _commit_next(self) -> None:
        """Begin a commit of what is pending, unless one is running."""
        if self._commit_running is not None or not self._pending or self._writer is None:
            return
        groups: list[_Group] = []
        size = 0
        while self._pending and (not groups or size + self._pending[0].bytes <= _COMMIT_BYTES):
            group = self._pending.popleft()
            self._pending_bytes -= group.bytes
            size += group.bytes
            groups.append(group)
        arrivals = (
            groups[0].arrivals
            if len(groups) == 1
            else [arrival for group in groups for arrival in group.arrivals]
        )
        room = self._quota_bytes - self._used_bytes
        future = self._loop.run_in_executor(self._writing, self._writer.commit, arrivals, room)
        self._commit_running = future
        future.add_done_callback(lambda done: self._note_commit(groups, done))

    def _note_commit(self, groups: list[_Group], done: asyncio.Future[Commit]) -> None:
        """Tell those who wait, and hand on what is durable."""
        self._commit_running = None
        if (error := done.exception()) is not None:
            for group in groups:
                if not group.done.done():
                    group.done.set_exception(error)
        else:
            commit = done.result()
            self._note_errors(commit)
            self._note_blocks(commit)
            self._note_ended(commit.ended)
            _answer(groups, commit.full)
        if self._problem:
            self._reclaim()
        self._commit_next()

    def _note_errors(self, commit: Commit) -> None:
        for problem in commit.errors:
            _log.error("spool: a segment is not written to any more: %s", problem)
        self._counters.spool_errors += len(commit.errors)
        if commit.full:
            self._counters.spool_full += 1
            if not self._problem:
                _log.error("spool %s accepts nothing: %s", self._folder, commit.full)
        elif self._problem:
            _log.warning("spool %s accepts again", self._folder)
        self._problem = commit.full

    def _note_blocks(self, commit: Commit) -> None:
        segment = commit.segment
        if segment is None:
            return
        self._counters.spool_commits += 1
        self._segments.setdefault(segment.number, segment)
        for block in commit.blocks:
            portion = Portion(block.arrivals, True, False, block.start, block.end, segment)
            segment.size = block.end
            self._used_bytes += portion.bytes
            self._lend(portion)
            self._fresh.append(portion)
            self._fresh_bytes += portion.bytes
        while self._fresh_bytes > self._fresh_limit:
            self.put_back([self._pop_fresh()], seen=False)
        if self._fresh:
            self._fresh_ready.set()

    # Reading.

    async def wait_fresh(self) -> None:
        """Return when `take_fresh` has something."""
        await self._fresh_ready.wait()

    def take_fresh(self, max_records: int) -> list[Portion]:
        """Borrow what was accepted since the last call, about *max_records* at most."""
        taken: list[Portion] = []
        records = 0
        while self._fresh and records < max_records:
            portion = self._pop_fresh()
            records += len(portion.arrivals)
            taken.append(portion)
        return taken

    def _pop_fresh(self) -> Portion:
        portion = self._fresh.popleft()
        self._fresh_bytes -= portion.bytes
        if not self._fresh:
            self._fresh_ready.clear()
        return portion

    async def wait_backlog(self) -> None:
        """Return when `read_backlog` has something."""
        await self._backlog_ready.wait()

    async def read_backlog(self) -> list[Portion]:
        """Borrow the oldest part of the backlog, about a mebibyte; empty where it is damaged.

        Raises OSError where a segment cannot be opened; it is then as it was before.
        """
        segment = min(
            (segment for segment in self._segments.values() if segment.backlog),
            key=lambda segment: segment.number,
            default=None,
        )
        if segment is None:
            return []
        stretch = self._being_read = segment.backlog.pop()
        segment.outstanding += 1  # it stays while it is read
        try:
            found = await self._loop.run_in_executor(
                self._reading, read_window, self._disk, segment, stretch.start, stretch.end
            )
        except FileNotFoundError:
            found = Scan([], [Damage(stretch.start, stretch.end)], stretch.end)
        except BaseException:  # cancelled too: what was not read is still to be read
            segment.backlog.add(stretch)
            raise
        finally:
            self._being_read = None
            segment.outstanding -= 1
        portions = [
            Portion(block.arrivals, False, stretch.seen, block.start, block.end, segment)
            for block in found.blocks
        ]
        for portion in portions:
            self._lend(portion)
        self._note_scan(segment, stretch, found)
        self._retire(segment)
        self._note_backlog()
        return portions

    def _note_scan(self, segment: Segment, stretch: Stretch, found: Scan) -> None:
        """Count what was read, and keep the rest of *stretch* for the next time."""
        records = stretch.records - sum(len(block.arrivals) for block in found.blocks)
        at = found.end
        if found.torn or not (found.blocks or found.damage):
            self._note_tail(segment, at, stretch.end)
            at = stretch.end
        for damage in found.damage:
            self._note_damage(segment, damage.start, damage.end)
        if at < stretch.end:
            oldest_at_us = stretch.oldest_at_us
            if found.blocks:
                oldest_at_us = _waiting_since_us(found.blocks[-1].arrivals)
            rest = Stretch(at, stretch.end, max(0, records), oldest_at_us, stretch.seen)
            segment.backlog.add(rest)
        elif segment.damaged and records > 0:
            self._counters.spool_lost_records += records
            _log.error("spool: %d accepted arrivals lost in %s", records, segment.path)

    def _note_tail(self, segment: Segment, start: int, end: int) -> None:
        if segment.recovered and end == segment.size:
            self._counters.spool_torn_bytes += end - start
            _log.warning("spool: %d bytes of an unfinished write in %s", end - start, segment.path)
        elif start < end:
            self._note_damage(segment, start, end)

    def _note_damage(self, segment: Segment, start: int, end: int) -> None:
        segment.damaged = True
        self._counters.spool_corrupt_bytes += end - start
        _log.error("spool: bytes %d to %d of %s are damaged", start, end, segment.path)

    # Giving back.

    def release(self, portions: Sequence[Portion]) -> None:
        """Say that all in *portions* is durable elsewhere; the spool may forget it."""
        for portion in portions:
            self._on_loan.remove(portion)
            portion.segment.outstanding -= 1
            self._retire(portion.segment)
        if self._commit_running is None:
            self._reclaim()

    def put_back(self, portions: Sequence[Portion], *, seen: bool) -> None:
        """Make *portions* backlog, out of memory; *seen* is what they will say when read again."""
        for portion in portions:
            self._on_loan.remove(portion)
            portion.segment.outstanding -= 1
            arrivals = portion.arrivals
            self._counters.spool_put_back += len(arrivals)
            portion.segment.backlog.add(
                Stretch(
                    portion.start, portion.end, len(arrivals), _waiting_since_us(arrivals), seen
                )
            )
        self._note_backlog()

    def _lend(self, portion: Portion) -> None:
        self._on_loan.add(portion)
        portion.segment.outstanding += 1

    def _note_backlog(self) -> None:
        if any(segment.backlog for segment in self._segments.values()):
            self._backlog_ready.set()
        else:
            self._backlog_ready.clear()

    def _reclaim(self) -> None:
        """Remove the active segment once it is drained and worth it, so that less comes again.

        Only while no commit runs.  Where there is no room, any size is worth it.
        """
        segment = self._writer.active if self._writer is not None else None
        if segment is None or segment.outstanding or segment.backlog or not segment.size:
            return
        if segment.size >= min(_RECLAIM_BYTES, self._quota_bytes // 4) or self._problem:
            self._end_active()

    def _end_active(self) -> None:
        if self._writer is not None:
            self._note_ended(self._writer.end_segment())

    def _note_ended(self, segments: Sequence[Segment]) -> None:
        for segment in segments:
            segment.sealed = True
            self._segments.setdefault(segment.number, segment)
            self._retire(segment)

    def _retire(self, segment: Segment) -> None:
        """Remove *segment* if nothing in it is wanted any more."""
        if not segment.sealed or segment.outstanding or segment.backlog:
            return
        if self._segments.pop(segment.number, None) is None:
            return
        if not segment.damaged:
            self._used_bytes -= segment.size
        self._reading.submit(_remove, segment.path, segment.damaged)

    # Looking.

    @property
    def problem(self) -> str:
        """Why nothing was accepted the last time, in one sentence; empty while all is well."""
        return self._problem

    @property
    def used_bytes(self) -> int:
        """What the spool takes on the disk, damaged segments that were kept included."""
        return self._used_bytes

    @property
    def quota_bytes(self) -> int:
        """How much it may take on the disk."""
        return self._quota_bytes

    @property
    def backlog_bytes(self) -> int:
        """How much `read_backlog` has still to read, in all."""
        return sum(one.end - one.start for one in self._stretches())

    def lag(self, now_us: int) -> Lag:
        """Return what is accepted and not yet released, at *now_us*."""
        stretches = self._stretches()
        size = sum(portion.bytes for portion in self._on_loan)
        size += sum(one.end - one.start for one in stretches)
        records = sum(len(portion.arrivals) for portion in self._on_loan)
        records += sum(one.records for one in stretches)
        times = [_waiting_since_us(portion.arrivals) for portion in self._on_loan]
        times += [one.oldest_at_us for one in stretches]
        age_s = max(0.0, (now_us - min(times)) / 1e6) if times else 0.0
        return Lag(size, records, age_s)

    def _stretches(self) -> list[Stretch]:
        """Everything that is to be read from the disk, what is being read included."""
        stretches = [one for segment in self._segments.values() for one in segment.backlog]
        return [*stretches, self._being_read] if self._being_read is not None else stretches


def _claim(folder: Path) -> int:
    """Return the descriptor of the folder's lock, which ends with the process however it ends."""
    uid = os.geteuid()
    if not folder.is_dir():
        raise SpoolUnusable(f"spool folder {folder}: not there, or not a folder (uid {uid})")
    owner = folder.stat().st_uid
    if owner != uid:
        raise SpoolUnusable(f"spool folder {folder}: owned by uid {owner}, this process is {uid}")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise SpoolUnusable(f"spool folder {folder}: uid {uid} may not write there")
    try:
        fd = os.open(folder / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SpoolUnusable(f"spool folder {folder}: uid {uid} cannot use it: {error}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise SpoolUnusable(f"spool folder {folder}: another process is using it") from error
    return fd


def _waiting_since_us(arrivals: Sequence[Arrival]) -> int:
    """Return when the first of *arrivals* came; what is sent in again carries an older time."""
    first = arrivals[0]
    return first.received_at_us if not first.flags & ArrivalFlag.REPLAYED else _NO_TIME_US


def _answer(groups: list[_Group], refusal: str) -> None:
    for group in groups:
        if group.done.done():
            continue  # its caller was cancelled
        if refusal:
            group.done.set_exception(SpoolFull(refusal))
        else:
            group.done.set_result(None)


def _remove(path: Path, damaged: bool) -> None:
    """Remove a drained segment; a damaged one keeps its bytes under another name."""
    try:
        if damaged:
            path.rename(path.with_suffix(".corrupt"))
        else:
            path.unlink()
    except OSError:
        _log.exception("spool: %s cannot be removed; it will be read again at the next start", path)
