"""Calibrations in a running service: what is stored follows the book, once, whatever ends when."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from devices.calibration import Calibration, Scope, Timeline, Window, WindowKind, changes
from devices.checks import Checks
from devices.quality import Quality
from devices.registry import Registry
from greenhouse.quality_room import QualityRoom
from ingest.counters import Counters
from ingest.listener import Listener
from ingest.pipeline import DecoderSource, Pipeline
from ingest.spool import Spool
from storage.calibrations import CalibrationStore
from storage.dead_letters import DeadLetterStore
from storage.history import History
from storage.migrate import migrate
from storage.pool import Pool
from storage.readings import ReadingWriter
from storage.registry import RegistryStore
from tests.ingest.house import CODECS, RECEIVED_US, TOPIC, house, readings
from tests.rig.waiting import eventually

CODE = "h1-climate.air_temperature"
SECOND_US = 1_000_000


@pytest.fixture
async def dsn(database_dsn: str) -> str:
    await migrate(database_dsn)
    return database_dsn


class Service:
    """The way of a reading in a service, from the spool to the database."""

    def __init__(self, dsn: str, pool: Pool, registry: Registry, folder: Path):
        self.dsn, self.pool, self.registry, self.folder = dsn, pool, registry, folder
        self.prepared = asyncio.Event()
        self.number = registry.series_ids[CODE]

    @asynccontextmanager
    async def running(self, tidily: bool = True):
        self.room = QualityRoom(
            Checks(),
            self.folder,
            self.pool,
            self.dsn,
            lambda: self.registry,
            lambda: self.registry,
            self.prepared,
        )
        counters = Counters()
        decoders = DecoderSource(TOPIC, CODECS, self.room.judge)
        self.listener = Listener("rules", counters)
        async with Spool(self.folder, counters) as self.spool, ReadingWriter(self.dsn) as writer:
            self.room.pipeline = Pipeline(
                self.spool,
                decoders,
                writer,
                DeadLetterStore(self.pool),
                counters,
                (self.listener,),
                may_store=self.room.may_store,
                linger_s=0.0,
                stop_deadline_s=1.0,
            )
            await self.room.recall()
            self.room.adopt(self.registry)
            await decoders.adopt(self.registry)
            tasks = [
                asyncio.create_task(work, name=name)
                for name, work in self.room.background().items()
            ]
            flow = asyncio.create_task(self.room.pipeline.run(), name="pipeline")
            try:
                yield self
            finally:
                self.room.pipeline.stop()
                await flow
                if tidily:
                    await self.room.close()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def bring(self, numbers) -> None:
        for number in numbers:
            await self.spool.accept([readings(number)])

    async def stored(self):
        """Return the stored values by the number of the message."""
        end_us = RECEIVED_US + 10**6 * SECOND_US
        found = await History(self.pool).raw([self.number], 0, end_us, 100_000)
        points = found[self.number]
        numbers = ((points.at_us - RECEIVED_US) // SECOND_US).tolist()
        return dict(zip(numbers, points.value.tolist(), strict=True)), points

    async def drained(self) -> None:
        await eventually(lambda: self.spool.lag(0).records == 0)


def sent(number: int) -> float:
    return 20.0 + number % 10


@pytest.fixture
async def service(dsn: str, tmp_path: Path):
    async with Pool(dsn) as pool:
        store = RegistryStore(pool)
        await store.apply(house(), {})
        yield Service(dsn, pool, await store.load(), tmp_path)


def line(gain: float, shift: float, from_number: int = 0, **fields) -> Calibration:
    at_us = RECEIVED_US + from_number * SECOND_US
    return Calibration(CODE, at_us, gain, shift, "Li Wei", **fields)


async def test_a_calibration_holds_for_what_is_stored_and_for_what_comes(service: Service):
    service.prepared.set()
    async with service.running() as it:
        await it.bring(range(50))
        await it.drained()
        await it.room.store.add_calibration(line(2.0, 1.0, from_number=20))
        it.room.look()
        # Readings go on coming while the book is carried out; late ones too.
        for number in range(50, 120):
            await it.bring([number])
            await asyncio.sleep(0)
        await eventually(lambda: it.room.ledger.applied == 1)
        await it.bring(range(120, 150))
        await it.bring([-5])
        await it.drained()
        values, _ = await it.stored()
    assert values == {
        number: sent(number) * 2.0 + 1.0 if number >= 20 else sent(number)
        for number in [-5, *range(150)]
    }


async def test_calibrations_one_after_the_other_under_load_leave_every_value_on_its_line(
    service: Service,
):
    service.prepared.set()
    shifts = [1.0, -2.0, 4.0, 0.5]
    async with service.running() as it:
        numbers = itertools.count()
        for shift in shifts:
            await it.bring(itertools.islice(numbers, 40))
            await it.room.store.add_calibration(line(1.0, shift))
            it.room.look()
            await it.bring(itertools.islice(numbers, 40))
        await eventually(lambda: it.room.ledger.applied == len(shifts))
        await it.drained()
        values, _ = await it.stored()
    assert values == {number: sent(number) + 0.5 for number in range(320)}


async def test_nothing_is_stored_before_the_work_of_an_earlier_process_is_done(service: Service):
    async with service.running() as it:
        service.prepared.set()
        await it.bring(range(30))
        await it.drained()
    store = CalibrationStore(service.pool)
    await store.add_calibration(line(1.0, 100.0))
    book = await store.ledger()
    old = Timeline.build(book.until(0), service.registry)
    found = list(changes(old, Timeline.build(book, service.registry)))
    await store.plan(1, found, {})
    await store.correct()  # and here the earlier process was killed
    service.prepared.clear()
    async with service.running() as it:
        await it.bring(range(30, 60))
        await it.listener.get()  # rules hear
        await asyncio.sleep(0.2)  # that nothing is stored is seen only in a time
        values, _ = await it.stored()
        assert len(values) == 30
        service.prepared.set()
        await it.drained()
        values, _ = await it.stored()
    assert values == {number: sent(number) + 100.0 for number in range(60)}


async def test_readings_are_calibrated_while_the_database_is_away(service: Service):
    service.prepared.set()
    async with service.running() as it:
        await it.room.store.add_calibration(line(1.0, 7.0))
        it.room.look()
        await eventually(lambda: it.room.ledger.applied == 1)
    service.prepared.clear()  # the next process does not reach it
    async with service.running() as it:
        await it.bring([3])
        heard = await it.listener.get()
    assert heard.batch.value.tolist() == [sent(3) + 7.0]


async def test_a_window_that_is_entered_later_marks_what_is_stored_and_what_comes(
    service: Service,
):
    service.prepared.set()
    async with service.running() as it:
        await it.bring(range(40))
        await it.drained()
        span = (RECEIVED_US + 20 * SECOND_US, RECEIVED_US + 60 * SECOND_US)
        window = Window(Scope.SITE, "h1", WindowKind.CALIBRATION, *span, "Li", "buffer")
        await it.room.store.add_window(window)
        it.room.look()
        await eventually(lambda: it.room.ledger.applied == 1)
        await it.bring(range(40, 80))
        await it.drained()
        _, points = await it.stored()
    marked = points.quality & int(Quality.CALIBRATION) != 0
    assert np.flatnonzero(marked).tolist() == list(range(20, 60))


async def test_what_readings_were_judged_by_outlives_the_process(service: Service):
    service.prepared.set()
    async with service.running() as it:
        await it.bring(range(10))
        await it.drained()
    async with service.running() as it:
        # A jump needs three readings before it: they are those of the process before.
        jump = {"t": (RECEIVED_US + 10 * SECOND_US) // 1000, "v": {"air_temperature": 60}}
        await it.spool.accept([arrival_of(jump)])
        await it.drained()
        _, points = await it.stored()
    assert points.quality.tolist() == [0] * 10 + [int(Quality.STEP)]


async def test_a_file_that_cannot_be_read_costs_a_warning(service: Service, caplog):
    service.prepared.set()
    (service.folder / "quality.npz").write_bytes(b"PK\x03\x04 half a file")
    (service.folder / "calibrations.json").write_bytes(b"{")
    async with service.running() as it:
        await it.bring(range(10))
        await it.drained()
        values, _ = await it.stored()
    assert len(values) == 10
    assert caplog.text.count("an earlier run") == 2


def arrival_of(payload):
    from tests.ingest.house import arrival

    return arrival(payload, received_at_us=payload["t"] * 1000)
