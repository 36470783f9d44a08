from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest

from devices.dead_letter import DeadLetter
from devices.reading import Batch
from ingest.counters import Counters
from ingest.decoder import Decoder
from ingest.listener import Listener
from ingest.pipeline import DecoderSource, Pipeline
from ingest.replay import replayed
from ingest.spool import Spool
from tests.ingest.house import CODECS, RECEIVED_MS, TOPIC, arrival, house, readings
from tests.rig.waiting import eventually


@dataclass(frozen=True)
class Outcome:
    kind: str = "written"
    inserted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    reason: str = ""


@dataclass
class Table:
    """A sink that keeps rows by key, as the database does; *answer* may stand in its way."""

    rows: dict[tuple[int, int], float] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    calls: int = 0
    answer: object = None
    poison: set[float] = field(default_factory=set)
    busy: asyncio.Event | None = None
    pause_s: float = 0.0

    async def write(self, batch: Batch) -> Outcome:
        self.calls += 1
        if self.busy is not None:
            await self.busy.wait()
        if self.pause_s:
            await asyncio.sleep(self.pause_s)
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            return self.answer
        if self.poison.intersection(batch.value.tolist()):
            return Outcome("refused", reason="value violates check constraint")
        self.sizes.append(len(batch))
        before, conflicts = len(self.rows), 0
        keys = zip(batch.series_id.tolist(), batch.observed_at_us.tolist(), strict=True)
        for key, value in zip(keys, batch.value.tolist(), strict=True):
            conflicts += self.rows.setdefault(key, value) != value
            self.order.append(key[1])
        inserted = len(self.rows) - before
        return Outcome("written", inserted, len(batch) - inserted, conflicts)


@dataclass
class Letters:
    kept: dict[str, DeadLetter] = field(default_factory=dict)
    answer: Outcome | None = None
    poison: str = "-"

    async def put(self, letters: Sequence[DeadLetter]) -> Outcome:
        if self.answer is not None:
            return self.answer
        if any(self.poison in letter.topic for letter in letters) and self.poison != "-":
            return Outcome("refused", reason="cannot be encoded")
        self.kept.update({letter.id: letter for letter in letters})
        return Outcome("written", len(letters))


class House:
    """A spool, a pipeline and the two sinks; the pipeline runs between `running` and its end."""

    def __init__(self, folder, **options):
        self.counters = Counters()
        self.table, self.letters = Table(), Letters()
        self.listener = Listener("rules", self.counters)
        self.decoders = DecoderSource(TOPIC, CODECS)
        spool_options = {k: options.pop(k) for k in list(options) if k in ("fresh_bytes",)}
        self.spool = Spool(folder, self.counters, **spool_options)
        self.options = {"linger_s": 0.0, "retry_first_s": 0.001, "retry_cap_s": 0.01} | options

    @asynccontextmanager
    async def running(self, registry=True):
        if registry:
            await self.decoders.adopt(house())
        async with self.spool:
            self.pipeline = Pipeline(
                self.spool,
                self.decoders,
                self.table,
                self.letters,
                self.counters,
                [self.listener],
                **self.options,
            )
            run = asyncio.create_task(self.pipeline.run(), name="pipeline")
            try:
                yield self
            finally:
                self.pipeline.stop()
                await run

    async def drained(self):
        await eventually(lambda: self.spool.lag(0).records == 0)

    def stored(self) -> list[int]:
        """Which of the numbered readings are in the table, in the order of their arrival there."""
        return [at // 1_000_000 - RECEIVED_MS // 1000 for at in self.table.order]


async def test_what_is_accepted_is_stored_and_forgotten(tmp_path):
    async with House(tmp_path).running() as it:
        for number in range(50):
            await it.spool.accept([readings(number)])
        await it.drained()
        assert it.stored() == list(range(50))
    assert it.counters.readings_written == it.counters.readings_decoded == 50
    assert it.counters.messages_decoded == 50
    assert list(tmp_path.glob("*.segment")) == []


async def test_small_messages_are_gathered_into_one_batch(tmp_path):
    async with House(tmp_path, linger_s=60.0).running() as it:
        for number in range(50):
            await it.spool.accept([readings(number)])
        assert it.table.calls == 0
    assert it.table.sizes == [50]


async def test_a_large_batch_is_cut_to_what_the_sink_takes(tmp_path):
    async with House(tmp_path, max_rows=64).running() as it:
        await it.spool.accept([readings(number) for number in range(1000)])
        await it.drained()
    assert max(it.table.sizes) <= 64
    assert it.stored() == list(range(1000))


async def test_the_same_arrival_twice_is_a_duplicate(tmp_path):
    async with House(tmp_path).running() as it:
        await it.spool.accept([readings(1), readings(1)])
        other = arrival({"t": RECEIVED_MS + 1000, "v": {"air_temperature": -5}})
        await it.spool.accept([other])
        await it.drained()
    assert it.counters.readings_written == 1
    assert it.counters.readings_duplicate == 2
    assert it.counters.readings_conflicting == 1


async def test_what_cannot_be_read_is_kept_and_can_be_replayed(tmp_path):
    bad = arrival({"t": RECEIVED_MS, "v": {"co2": 500, "new_sensor": 7}})
    async with House(tmp_path).running() as it:
        await it.spool.accept([readings(0), bad, readings(2), arrival(b"{")])
        await it.drained()
        assert {letter.code for letter in it.letters.kept.values()} == {"E-KEY", "E-JSON"}
        assert it.counters.dead_letters == {"E-KEY": 1, "E-JSON": 1}
        assert len(it.table.rows) == 3
        # The same again: known as the same letters, its readings as duplicates.
        await it.spool.accept(list(replayed(it.letters.kept.values())))
        await it.drained()
        assert len(it.letters.kept) == 2
        assert it.counters.readings_duplicate == 1
        assert it.counters.replayed_received == 2


async def test_a_batch_is_kept_while_the_database_is_down(tmp_path, caplog):
    async with House(tmp_path).running() as it:
        it.table.answer = Outcome("unavailable", reason="connection refused")
        await it.spool.accept([readings(number) for number in range(10)])
        await eventually(lambda: it.counters.sink_retries["unavailable"] > 5)
        assert it.pipeline.problem == "unavailable: connection refused"
        assert it.spool.lag(0).records == 10
        it.table.answer = None
        await it.drained()
        assert it.pipeline.problem == ""
        assert it.stored() == list(range(10))
    said = [record.message for record in caplog.records if record.name == "ingest.pipeline"]
    assert said == [
        "nothing can be stored, the spool keeps everything: connection refused",
        "storing again; it was unavailable: connection refused",
    ]


async def test_a_sink_that_breaks_its_word_is_asked_again(tmp_path, caplog):
    async with House(tmp_path).running() as it:
        it.table.answer = RuntimeError("a bug")
        await it.spool.accept([readings(1)])
        await eventually(lambda: it.counters.sink_retries["broken"] > 3)
        assert it.pipeline.problem == "broken: RuntimeError: a bug"
        it.table.answer = None
        await it.drained()
    assert caplog.text.count("Traceback") == 1


async def test_a_sink_that_breaks_its_word_while_the_database_is_away_is_told_too(tmp_path, caplog):
    async with House(tmp_path).running() as it:
        it.table.answer = Outcome("unavailable", reason="connection refused")
        await it.spool.accept([readings(1)])
        await eventually(lambda: it.counters.sink_retries["unavailable"] > 1)
        it.table.answer = RuntimeError("a bug")
        await eventually(lambda: it.counters.sink_retries["broken"] > 1)
        it.table.answer = None
        await it.drained()
    assert caplog.text.count("Traceback") == 1


async def test_a_misconfigured_sink_is_shouted_about_once_and_asked_slowly(tmp_path, caplog):
    async with House(tmp_path, retry_cap_s=0.4, draw=lambda: 1.0).running() as it:
        it.table.answer = Outcome("misconfigured", reason="permission denied for table readings")
        begun = asyncio.get_running_loop().time()
        await it.spool.accept([readings(1)])
        await eventually(lambda: it.counters.sink_retries["misconfigured"] == 3)
        # 0.1 and 0.2 s between the three, where an unavailable one is asked after 0.001 and 0.002.
        assert asyncio.get_running_loop().time() - begun > 0.28
        it.table.answer = None
        await it.drained()
        assert it.stored() == [1]
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert "permission denied" in errors[0].message


@pytest.mark.parametrize("count", [1, 2, 500])
async def test_a_poison_row_becomes_a_dead_letter_and_the_others_are_stored(tmp_path, count):
    async with House(tmp_path).running() as it:
        it.table.poison = {-7.0}
        arrivals = [readings(number) for number in range(count)]
        poisonous = {"t": RECEIVED_MS + 1, "v": {"co2": 400, "air_temperature": -7}}
        arrivals[count // 2] = arrival(poisonous)
        await it.spool.accept(arrivals)
        await it.drained()
        (letter,) = it.letters.kept.values()
        assert letter.code == "E-ROW"
        assert letter.payload == arrivals[count // 2].payload
        assert "value violates check constraint" in letter.text
        assert it.counters.readings_written == count  # with the co2 beside the poison
        assert it.counters.readings_refused == it.counters.dead_letters["E-ROW"] == 1
        assert it.table.calls < 2 * np.ceil(np.log2(count + 1)) + 3


async def test_a_dead_letter_that_no_sink_takes_is_written_to_the_log(tmp_path, caplog):
    async with House(tmp_path).running() as it:
        it.letters.poison = "evil"
        await it.spool.accept([arrival(b"{", "gh/evil"), arrival(b"[", "gh/x"), readings(1)])
        await it.drained()
    assert [letter.topic for letter in it.letters.kept.values()] == ["gh/x"]
    assert it.counters.dead_letters_unkept == 1
    assert "payload=b'{'" in caplog.text


async def test_nothing_is_released_before_its_dead_letters_are_kept(tmp_path):
    async with House(tmp_path).running() as it:
        it.letters.answer = Outcome("unavailable", reason="gone")
        await it.spool.accept([readings(1), arrival(b"{")])
        await eventually(lambda: it.counters.sink_retries["unavailable"] > 3)
        assert len(it.table.rows) == 1
        assert it.spool.lag(0).records == 2
        it.letters.answer = None
        await it.drained()
        assert len(it.letters.kept) == 1


async def test_listeners_hear_fresh_readings_while_the_database_is_down(tmp_path):
    async with House(tmp_path, queued_bytes=2000, fresh_bytes=2000).running() as it:
        it.table.answer = Outcome("unavailable", reason="gone")
        heard = []
        for number in range(100):
            await it.spool.accept([readings(number)])
            item = await asyncio.wait_for(it.listener.get(), 5)
            assert item.fresh
            heard += item.batch.observed_at_us.tolist()
        assert len(heard) == 100
        assert it.spool.backlog_bytes > 0, "memory is bounded, the rest is on the disk"
        it.table.answer = None
        await it.drained()
        assert sorted(it.stored()) == list(range(100))
        assert it.listener._queue == it.listener._queue.__class__(), "and hear nothing twice"
    assert it.counters.readings_decoded == 100


async def test_a_listener_that_does_not_listen_delays_nobody(tmp_path):
    it = House(tmp_path)
    it.listener = Listener("deaf", it.counters, max_rows=10)
    async with it.running():
        for number in range(100):
            await it.spool.accept([readings(number)])
            await it.drained()
    assert len(it.table.rows) == 100
    waiting = sum(len(heard.batch) for heard in it.listener._queue)
    assert 0 < waiting <= 10
    assert it.counters.readings_dropped["deaf"] == 100 - waiting


async def test_after_an_outage_fresh_readings_overtake_the_backlog(tmp_path):
    """Both lanes move: what is measured now is stored at once, the backlog in its own order."""
    async with House(tmp_path, max_rows=100, queued_bytes=20_000).running() as it:
        it.table.answer = Outcome("unavailable", reason="gone")
        for start in range(0, 20_000, 100):
            await it.spool.accept([readings(number) for number in range(start, start + 100)])
        await eventually(lambda: it.spool.backlog_bytes > 1_000_000)
        it.table.answer = None
        await it.spool.accept([readings(90_000)])
        await eventually(lambda: 90_000 in it.stored())
        stored = it.stored()
        assert stored.index(90_000) < 10_000, "it did not wait for the backlog"
        await it.drained()
        old = [number for number in it.stored() if number != 90_000]
        assert len(old) == len(set(old)) == 20_000
        # What was in memory when the database came back may stand before and between.
        in_order = sum(one < other for one, other in itertools.pairwise(old))
        assert in_order >= len(old) - 10


async def test_backlog_moves_although_fresh_readings_never_stop(tmp_path):
    it = House(tmp_path, max_rows=1000)
    async with it.spool:
        for start in range(0, 5000, 500):
            await it.spool.accept([readings(number) for number in range(start, start + 500)])
    it.spool = Spool(tmp_path, it.counters)
    it.table.pause_s = 0.05  # long enough for something fresh to wait whenever it comes back
    async with it.running():
        number = 10_000
        while len([n for n in it.stored() if n < 10_000]) < 5000:
            await it.spool.accept([readings(number)])
            number += 1
            assert it.table.calls < 30, "the backlog starves"
        it.table.pause_s = 0.0
        await it.drained()
        assert len(it.stored()) == 5000 + number - 10_000


async def test_what_an_earlier_process_left_is_heard_as_late(tmp_path):
    async with House(tmp_path).spool as spool:
        await spool.accept([readings(1)])
    async with House(tmp_path).running() as it:
        heard = await asyncio.wait_for(it.listener.get(), 5)
        assert not heard.fresh
        await it.drained()
        assert it.stored() == [1]


async def test_arrivals_wait_in_the_spool_until_the_registry_is_known(tmp_path):
    async with House(tmp_path, fresh_bytes=5000).running(registry=False) as it:
        for number in range(200):
            await it.spool.accept([readings(number)])
        assert it.table.calls == 0
        assert it.spool.lag(0).records == 200
        await it.decoders.adopt(house())
        await it.drained()
        assert sorted(it.stored()) == list(range(200))
        assert it.letters.kept == {}


async def test_a_pipeline_that_never_knew_the_registry_stops_at_once(tmp_path):
    async with asyncio.timeout(10):
        async with House(tmp_path).running(registry=False) as it:
            await it.spool.accept([readings(1)])
    async with Spool(tmp_path, Counters()) as spool:
        assert spool.lag(0).records == 1


async def test_a_new_registry_is_used_from_the_next_batch_on(tmp_path):
    async with House(tmp_path).running() as it:
        assert not await it.decoders.adopt(house()), "the same revision is no change"
        stranger = arrival({"v": {"co2": 1}}, "plant/h1-climate")
        await it.spool.accept([stranger])
        await it.drained()
        assert [letter.code for letter in it.letters.kept.values()] == ["E-TOPIC"]
        it.decoders.prepare("plant/{device}", CODECS)
        assert await it.decoders.adopt(house(revision=2))
        await it.spool.accept([stranger])
        await it.drained()
        assert len(it.table.rows) == 1


async def test_stopping_stores_what_was_accepted(tmp_path):
    async with House(tmp_path, linger_s=30.0).running() as it:
        await it.spool.accept([readings(number) for number in range(500)])
        await asyncio.sleep(0)
    assert it.stored() == list(range(500))
    assert list(tmp_path.glob("*.segment")) == []


async def test_stopping_while_the_database_is_down_keeps_to_the_deadline(tmp_path, caplog):
    loop = asyncio.get_running_loop()
    async with House(tmp_path, stop_deadline_s=0.3).running() as it:
        it.table.busy = asyncio.Event()  # a call that never comes back
        await it.spool.accept([readings(number) for number in range(500)])
        await eventually(lambda: it.table.calls)
        await it.spool.accept([readings(number) for number in range(500, 600)])
        begun = loop.time()
    # The default deadline is 5 s; without any it would not end at all.
    assert 0.2 < loop.time() - begun < 4.5
    assert "stopped with 600 arrivals left in the spool" in caplog.text
    async with House(tmp_path).running() as again:
        await again.drained()
        assert sorted(again.stored()) == list(range(600))


async def test_the_loop_is_never_held_for_long(tmp_path, monkeypatch):
    """Bad messages are the slowest to read; thousands of them leave the loop its turns.

    Counted is what is read from one turn to the next, and what is stored in one call, which waits
    in a real store: 250 bad messages are some ten milliseconds.
    """
    decoded, stored = 0, []
    decode, put = Decoder.decode, Letters.put

    def counted_decode(self, arrivals):
        nonlocal decoded
        decoded += len(arrivals)
        return decode(self, arrivals)

    async def counted_put(self, letters):
        stored.append(len(letters))
        return await put(self, letters)

    monkeypatch.setattr(Decoder, "decode", counted_decode)
    monkeypatch.setattr(Letters, "put", counted_put)
    bad = [arrival({"t": "yesterday", "v": {"co2": number}}) for number in range(4000)]
    async with House(tmp_path).running() as it:
        await it.spool.accept(bad)
        most_decoded = last = 0
        while it.spool.lag(0).records:
            await asyncio.sleep(0)
            most_decoded, last = max(most_decoded, decoded - last), decoded
    assert len(it.letters.kept) == decoded == sum(stored) == 4000
    assert most_decoded <= 2 * 250  # we may look before one part and after the next
    assert max(stored) <= 500
