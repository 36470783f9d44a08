"""From the spool to the sinks.

    spool ──fresh──▶ feed: linger, decode ──▶ listeners        (never waits for a sink)
      │                        └────────────▶ queue ─┐
      └──backlog──▶ drain: read, decode ────▶ queue ─┴─▶ write: rows, then dead letters ─▶ release

What the queue of fresh batches cannot hold while the sink is slow or away goes back to the spool as
backlog.  The writer takes turns between the two queues, so after an outage what is measured now is
stored within a batch or two while the backlog drains beside it.  Nothing is released before all of
it is stored; whatever happens in between, the spool still has it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from devices.codecs.sample import Codec
from devices.dead_letter import DeadLetter
from devices.quality import BAD_MASK, SUSPECT_MASK, reasons
from devices.reading import Batch, Int32Array
from devices.registry import Registry
from ingest.batcher import Batcher
from ingest.collector import Arrival, DeadLetterSink, Sink, WriteOutcome
from ingest.counters import Counters
from ingest.decoder import Decoded, Decoder, dead_letter
from ingest.listener import Listener
from ingest.quality.judge import Judge
from ingest.quality.notes import Notes
from ingest.retry import Backoff
from ingest.spool import Portion, Spool
from ingest.uplinks import Uplinks

_log = logging.getLogger(__name__)

# Decoded in one go.  Good messages take 3 µs and bad ones up to 50; a large bad one 15 ms.
_CHUNK_ARRIVALS = 250
_CHUNK_BYTES = 65_536
_FEED_ARRIVALS = 5_000
_MAX_LETTERS = 500
_MAX_LETTER_BYTES = 4 << 20
_BACKLOG_UNITS = 2


class DecoderSource:
    """Where the pipeline finds the decoder for the registry as it is now.

    *topics* and *codecs* are as for `Decoder`.  Until the first registry is adopted there is none,
    and the pipeline waits.  *judge* follows the registry too; without one readings have the quality
    that their decoder gives them.
    """

    def __init__(
        self,
        topics: str | Sequence[str],
        codecs: Mapping[str, Codec],
        judge: Judge | None = None,
    ) -> None:
        self._topics = topics
        self._codecs = codecs
        self.judge = judge
        self.uplinks = Uplinks()
        self._decoder: Decoder | None = None
        self._known = asyncio.Event()

    def prepare(self, topics: str | Sequence[str], codecs: Mapping[str, Codec]) -> None:
        """Use *topics* and *codecs* from the next registry on that is another than before."""
        self._topics, self._codecs = topics, codecs

    async def adopt(self, registry: Registry, *, anew: bool = False) -> bool:
        """Decode by *registry* from the next batch on; return whether it is another than before.

        With *anew* also where it is the same, for what was prepared since.
        """
        if not anew and self._decoder is not None and self.revision == registry.revision:
            return False
        # A city's registry takes a while to lay out; the loop goes on meanwhile.
        decoder = await asyncio.to_thread(
            Decoder, registry, self._topics, self._codecs, self.uplinks
        )
        if self.judge is not None:
            self.judge.use(await asyncio.to_thread(self.judge.lay_out, registry))
        self._decoder = decoder
        self._known.set()
        return True

    @property
    def known(self) -> bool:
        """Whether there is a decoder yet."""
        return self._decoder is not None

    @property
    def topics(self) -> tuple[str, ...]:
        """The templates of topics."""
        return (self._topics,) if isinstance(self._topics, str) else tuple(self._topics)

    @property
    def revision(self) -> int | None:
        """The revision of the registry that is decoded by; None before the first."""
        return None if self._decoder is None else self._decoder.revision

    def knows(self, source: str, topic: str) -> bool:
        """Whether a message of *source* on *topic* belongs to a device, as far as is known now."""
        return self._decoder is not None and self._decoder.knows(source, topic)

    async def current(self) -> Decoder:
        """Return the decoder, waiting for the first registry."""
        while self._decoder is None:
            await self._known.wait()
        return self._decoder


@dataclass(slots=True, eq=False)
class _Unit:
    """Portions of the spool, decoded together; stored and released together."""

    portions: list[Portion]
    arrivals: list[Arrival]
    batch: Batch
    origin: Int32Array
    letters: list[DeadLetter]
    bytes: int

    def parts(self) -> Iterator[tuple[Portion, slice]]:
        """Yield each portion with its rows of the batch."""
        counts = [len(portion.arrivals) for portion in self.portions]
        edges = np.searchsorted(self.origin, np.cumsum(counts)).tolist()
        for portion, start, end in zip(self.portions, [0, *edges[:-1]], edges, strict=True):
            yield portion, slice(start, end)


class Pipeline:
    """Moves what *spool* accepted to *sink* and *dead_letters*, until `stop`.

    *max_rows* is the largest batch for the sink, *linger_s* how long a small one waits for company,
    *queued_bytes* (as the spool counts) bounds the decoded batches that wait for the sink.  *draw*
    is the source of chance for retries.  Nothing is stored before *may_store* is set, where given.
    """

    def __init__(
        self,
        spool: Spool,
        decoders: DecoderSource,
        sink: Sink,
        dead_letters: DeadLetterSink,
        counters: Counters,
        listeners: Sequence[Listener] = (),
        *,
        max_rows: int = 20_000,
        linger_s: float = 0.02,
        queued_bytes: int = 8 << 20,
        stop_deadline_s: float = 5.0,
        retry_first_s: float = 0.2,
        retry_cap_s: float = 30.0,
        draw: Callable[[], float] = random.random,
        may_store: asyncio.Event | None = None,
    ) -> None:
        self._may_store = may_store
        self._spool = spool
        self._decoders = decoders
        self._sink = sink
        self._dead_letters = dead_letters
        self._counters = counters
        self._listeners = tuple(listeners)
        self._max_rows = max_rows
        self._queued_bytes = queued_bytes
        self._stop_deadline_s = stop_deadline_s
        self._unavailable = Backoff(retry_first_s, retry_cap_s, draw)
        # What only a person can mend is not asked for five times a second.
        self._misconfigured = Backoff(max(retry_first_s, retry_cap_s / 4), retry_cap_s, draw)
        self._batcher: Batcher[Portion] = Batcher(_FEED_ARRIVALS, linger_s)
        self._fresh: deque[_Unit] = deque()
        self._fresh_bytes = 0
        self._backlog: deque[_Unit] = deque()
        self._backlog_is_next = False
        self._stopping = asyncio.Event()
        self._work = asyncio.Event()
        self._settled = asyncio.Event()
        self._backlog_room = asyncio.Event()
        self._storing = asyncio.Lock()
        self._notes = Notes()
        self._problem = ""

    @property
    def problem(self) -> str:
        """Why nothing is being stored, in one sentence; empty while all is well."""
        return self._problem

    def stop(self) -> None:
        """Make `run` store what is decoded and return, within the deadline."""
        self._stopping.set()

    async def run(self) -> None:
        """Run until `stop`.  What is not stored by then stays in the spool."""
        try:
            async with asyncio.TaskGroup() as group:
                feed = group.create_task(self._feed(), name="pipeline-feed")
                drain = group.create_task(self._drain(), name="pipeline-drain")
                write = group.create_task(self._write(), name="pipeline-write")
                await self._stopping.wait()
                feed.cancel()
                drain.cancel()
                await asyncio.wait([feed, drain])
                await self._flush()
                write.cancel()
        finally:
            for unit in (*self._fresh, *self._backlog):
                self._spool.put_back(unit.portions, seen=True)
            while rest := self._batcher.take():
                self._spool.put_back(rest, seen=False)
            self._fresh.clear()
            self._backlog.clear()
            self._fresh_bytes = 0

    async def _flush(self) -> None:
        try:
            async with asyncio.timeout(self._stop_deadline_s):
                if self._decoders.known:
                    await self._feed_rest()
                await self._settled.wait()
        except TimeoutError:
            lag = self._spool.lag(0)
            _log.warning("stopped with %d arrivals left in the spool", lag.records)

    # Fresh arrivals and the backlog, decoded.

    async def _feed(self) -> None:
        loop = asyncio.get_running_loop()
        await self._decoders.current()  # until then arrivals wait in the spool
        while True:
            try:
                async with asyncio.timeout_at(self._batcher.due_at_s()):
                    await self._spool.wait_fresh()
            except TimeoutError:
                pass  # a small batch has waited long enough
            self._gather(loop.time())
            while portions := self._batcher.take_if_due(loop.time()):
                self._queue_fresh(await self._decode(portions))

    async def _feed_rest(self) -> None:
        self._gather(asyncio.get_running_loop().time())
        while portions := self._batcher.take():
            self._queue_fresh(await self._decode(portions))
            self._gather(asyncio.get_running_loop().time())

    def _gather(self, now_s: float) -> None:
        for portion in self._spool.take_fresh(_FEED_ARRIVALS):
            self._batcher.add(portion, len(portion.arrivals), now_s)

    async def _drain(self) -> None:
        pause = Backoff(1.0, 30.0, lambda: 1.0)
        await self._decoders.current()
        while True:
            await self._spool.wait_backlog()
            while len(self._backlog) >= _BACKLOG_UNITS:
                self._backlog_room.clear()
                await self._backlog_room.wait()
            try:
                portions = await self._spool.read_backlog()
            except OSError:
                _log.exception("the backlog of the spool cannot be read")
                self._counters.spool_errors += 1
                await asyncio.sleep(pause.failed(0.0))
                continue
            pause.succeeded()
            if portions:
                self._backlog.append(await self._decode(portions))
                self._note_work()

    async def _decode(self, portions: list[Portion]) -> _Unit:
        """Decode *portions*, all fresh or all of one kind of backlog, and let listeners hear."""
        try:
            decoder = await self._decoders.current()
            arrivals = [arrival for portion in portions for arrival in portion.arrivals]
            parts: list[tuple[int, Decoded]] = []
            for start, end in _chunks(arrivals):
                parts.append((start, decoder.decode(arrivals[start:end])))
                await asyncio.sleep(0)
        except BaseException:  # cancelled too: who borrowed must give back
            self._spool.put_back(portions, seen=portions[0].seen)
            raise
        unit = _Unit(
            portions,
            arrivals,
            Batch.concatenate([part.batch for _, part in parts]),
            np.concatenate([part.origin + np.int32(start) for start, part in parts]),
            [letter for _, part in parts for letter in part.letters],
            sum(portion.bytes for portion in portions),
        )
        # From here on nothing waits: what is judged is heard, once.
        self._judge(unit)
        if not portions[0].seen:
            self._count_decoded([part for _, part in parts])
            fresh = portions[0].fresh
            for listener in self._listeners:
                listener.offer(unit.batch, fresh)
        return unit

    def _judge(self, unit: _Unit) -> None:
        """Give the readings of *unit* their quality: the one they were heard with, if they were."""
        judge = self._decoders.judge
        if judge is None:
            return
        if unit.portions[0].seen:
            bits = [
                self._notes.take(portion.place, unit.batch.take(rows))
                for portion, rows in unit.parts()
            ]
            unit.batch = judge.again(unit.batch, np.concatenate(bits))
            self._counters.marks_forgotten = self._notes.forgotten
            return
        unit.batch = judge.judge(unit.batch)
        self._count_marks(unit.batch.quality)

    def _count_marks(self, quality: Int32Array) -> None:
        marks = int(np.bitwise_or.reduce(quality)) & (BAD_MASK | SUSPECT_MASK)
        for reason in reasons(marks):
            count = int(np.count_nonzero(quality & np.int32(reason.bit)))
            self._counters.readings_marked[reason.name] += count

    def _put_back(self, unit: _Unit) -> None:
        """Give *unit*, which was heard, back to the spool, with a note of its quality."""
        if self._decoders.judge is not None:
            for portion, rows in unit.parts():
                self._notes.keep(portion.place, unit.batch.take(rows))
        self._spool.put_back(unit.portions, seen=True)

    def _count_decoded(self, parts: Sequence[Decoded]) -> None:
        counters = self._counters
        for part in parts:
            counters.messages_decoded += part.messages
            counters.readings_decoded += len(part.batch)
            counters.unknown_keys += part.unknown_keys
            counters.ignored_fields += part.ignored_fields

    def _queue_fresh(self, unit: _Unit) -> None:
        """Queue *unit* for the writer; what does not fit goes back to the spool, oldest first."""
        self._fresh.append(unit)
        self._fresh_bytes += unit.bytes
        while self._fresh_bytes > self._queued_bytes and len(self._fresh) > 1:
            oldest = self._fresh.popleft()
            self._fresh_bytes -= oldest.bytes
            self._put_back(oldest)
        self._note_work()

    def _note_work(self) -> None:
        self._settled.clear()
        self._work.set()

    # Storing.

    async def _write(self) -> None:
        while True:
            if self._may_store is not None and (self._fresh or self._backlog):
                await self._may_store.wait()
            async with self._storing:
                stored = await self._write_next()
            if not stored:
                self._settled.set()
                self._work.clear()
                await self._work.wait()

    async def _write_next(self) -> bool:
        """Store the next units; return whether there were any."""
        units = self._next_units()
        try:
            if units:
                await self._store(units)
        except BaseException:  # cancelled too: what is not stored stays in the spool
            for unit in units:
                self._spool.put_back(unit.portions, seen=True)
            raise
        for unit in units:
            self._spool.release(unit.portions)
        return bool(units)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Store nothing inside the block, and nothing afterwards that was decoded before it.

        What waits to be stored goes back to the spool, to be decoded again; listeners hear on.
        """
        async with self._storing:
            for unit in (*self._fresh, *self._backlog):
                self._put_back(unit)
            self._fresh.clear()
            self._backlog.clear()
            self._fresh_bytes = 0
            self._backlog_room.set()
            yield

    def _next_units(self) -> list[_Unit]:
        """Take the next units, of both kinds in turn, as many as fit a batch."""
        if self._backlog and (self._backlog_is_next or not self._fresh):
            queue = self._backlog
        else:
            queue = self._fresh
        self._backlog_is_next = queue is self._fresh
        units: list[_Unit] = []
        rows = 0
        while queue and (not units or rows + len(queue[0].batch) <= self._max_rows):
            unit = queue.popleft()
            rows += len(unit.batch)
            units.append(unit)
        if queue is self._fresh:
            self._fresh_bytes -= sum(unit.bytes for unit in units)
        else:
            self._backlog_room.set()
        return units

    async def _store(self, units: Sequence[_Unit]) -> None:
        """Return when everything in *units* is stored: rows, letters, and rows as letters."""
        batch = Batch.concatenate([unit.batch for unit in units])
        refused: dict[Arrival, str] = {}
        starts = range(0, len(batch), self._max_rows)
        parts = [(start, min(start + self._max_rows, len(batch))) for start in reversed(starts)]
        while parts:
            start, end = parts.pop()
            piece = batch.take(slice(start, end))
            outcome = await self._insist(partial(self._sink.write, piece))
            if outcome.kind == "written":
                self._count_written(outcome)
            elif end - start == 1:
                self._counters.readings_refused += 1
                text = f"series {piece.series_id[0]} at {piece.observed_at_us[0]} µs"
                refused.setdefault(_arrival_of(units, start), f"{text}: {outcome.reason}")
            else:
                middle = (start + end) // 2
                parts += [(middle, end), (start, middle)]
        if refused:
            first = next(iter(refused.values()))
            _log.error("readings of %d arrivals refused for good, first %s", len(refused), first)
        letters = [letter for unit in units for letter in unit.letters]
        letters += [dead_letter(arrival, "E-ROW", text) for arrival, text in refused.items()]
        await self._keep(letters)

    def _count_written(self, outcome: WriteOutcome) -> None:
        counters = self._counters
        counters.batches_written += 1
        counters.readings_written += outcome.inserted
        counters.readings_duplicate += outcome.duplicates
        counters.readings_conflicting += outcome.conflicts

    async def _keep(self, letters: Sequence[DeadLetter]) -> None:
        """Return when all *letters* are kept.  One that no sink takes is written to the log."""
        parts = list(reversed(_parcels(letters)))
        while parts:
            part = parts.pop()
            outcome = await self._insist(partial(self._dead_letters.put, part))
            if outcome.kind == "written":
                for letter in part:
                    self._counters.dead_letters[letter.code] += 1
            elif len(part) == 1:
                self._counters.dead_letters_unkept += 1
                _log.error("a dead letter was refused (%s): %r", outcome.reason, part[0])
            else:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]

    async def _insist(self, offer: Callable[[], Awaitable[WriteOutcome]]) -> WriteOutcome:
        """Offer until the outcome is written or refused, however long that takes."""
        kind: str
        while True:
            try:
                outcome = await offer()
                if outcome.kind in ("written", "refused"):
                    self._note_well()
                    return outcome
                kind, reason = outcome.kind, outcome.reason
            except Exception as error:  # whatever a sink raises that breaks its word
                # It must not end the pipeline, and is counted and told like a sink that is away,
                # under a name of its own.
                kind, reason = "broken", f"{type(error).__name__}: {error}"
                if not self._problem.startswith(kind):
                    _log.exception("the sink failed in a way it should not")
            await asyncio.sleep(self._note_trouble(kind, reason))

    def _note_trouble(self, kind: str, reason: str) -> float:
        """Count and say, once, that nothing can be stored; return how long to wait."""
        now_s = asyncio.get_running_loop().time()
        self._counters.sink_retries[kind] += 1
        if not self._problem.startswith(kind):
            level = logging.ERROR if kind == "misconfigured" else logging.WARNING
            _log.log(level, "nothing can be stored, the spool keeps everything: %s", reason)
        self._problem = f"{kind}: {reason}"
        retry = self._misconfigured if kind == "misconfigured" else self._unavailable
        return retry.failed(now_s)

    def _note_well(self) -> None:
        if self._problem:
            _log.warning("storing again; it was %s", self._problem)
            self._problem = ""
            self._unavailable.succeeded()
            self._misconfigured.succeeded()


def _arrival_of(units: Sequence[_Unit], row: int) -> Arrival:
    """Return what row number *row* of *units* was decoded from."""
    for unit in units:
        if row < len(unit.batch):
            return unit.arrivals[int(unit.origin[row])]
        row -= len(unit.batch)
    raise IndexError(row)


def _chunks(arrivals: Sequence[Arrival]) -> list[tuple[int, int]]:
    """Cut *arrivals* into runs that are decoded without a pause for the event loop."""
    chunks: list[tuple[int, int]] = []
    start = size = 0
    for position, arrival in enumerate(arrivals):
        length = len(arrival.payload)
        if position > start and (
            position - start >= _CHUNK_ARRIVALS or size + length > _CHUNK_BYTES
        ):
            chunks.append((start, position))
            start, size = position, 0
        size += length
    return [*chunks, (start, len(arrivals))]


def _parcels(letters: Sequence[DeadLetter]) -> list[list[DeadLetter]]:
    """Cut *letters* into lots that a sink can take at once."""
    parcels: list[list[DeadLetter]] = []
    size = 0
    for letter in letters:
        full = parcels and (
            len(parcels[-1]) >= _MAX_LETTERS or size + len(letter.payload) > _MAX_LETTER_BYTES
        )
        if full or not parcels:
            parcels.append([])
            size = 0
        parcels[-1].append(letter)
        size += len(letter.payload)
    return parcels
