"""Quality on its way: what listeners hear of a reading is what is stored of it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import numpy as np

from devices.calibration import Calibration, Ledger, Timeline
from devices.quality import Quality
from devices.reading import Batch
from ingest.counters import Counters
from ingest.listener import Listener
from ingest.pipeline import DecoderSource, Pipeline
from ingest.quality.judge import Judge
from ingest.spool import Spool
from tests.ingest.house import CODECS, RECEIVED_MS, TOPIC, arrival, house
from tests.ingest.test_pipeline import Letters, Outcome
from tests.rig.waiting import eventually

TEMPERATURE, CO2 = 1, 3


class QualityTable:
    """A sink that keeps (value, quality) by key; it waits while *closed*."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, int], tuple[float, int]] = {}
        self.open = asyncio.Event()
        self.open.set()

    async def write(self, batch: Batch) -> Outcome:
        if not self.open.is_set():
            return Outcome("unavailable", reason="closed")
        for key, row in rows_of(batch):
            self.rows.setdefault(key, row)
        return Outcome("written", len(batch))


def rows_of(batch: Batch):
    keys = zip(batch.series_id.tolist(), batch.observed_at_us.tolist(), strict=True)
    return zip(keys, zip(batch.value.tolist(), batch.quality.tolist(), strict=True), strict=True)


class QualityHouse:
    def __init__(self, folder, **options):
        self.counters = Counters()
        self.table, self.letters = QualityTable(), Letters()
        self.listener = Listener("rules", self.counters)
        self.judge = Judge()
        self.decoders = DecoderSource(TOPIC, CODECS, self.judge)
        self.spool = Spool(folder, self.counters)
        self.heard: dict[tuple[int, int], tuple[float, int]] = {}
        self.calibrated_us = 0
        self.after_hold: set[tuple[int, int]] = set()
        self.options = {"linger_s": 0.0, "retry_first_s": 0.001, "retry_cap_s": 0.01} | options

    @asynccontextmanager
    async def running(self):
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
            hear = asyncio.create_task(self.hear(), name="hear")
            try:
                yield self
            finally:
                self.pipeline.stop()
                await run
                hear.cancel()

    async def hear(self):
        async for heard in self.listener:
            for key, row in rows_of(heard.batch):
                self.heard.setdefault(key, row)

    async def drained(self):
        await eventually(lambda: self.spool.lag(0).records == 0)


def at(number: int, **values: float | None):
    """The *number*-th minute of the climate sensor."""
    at_ms = RECEIVED_MS + 60_000 * number
    return arrival({"t": at_ms, "v": values}, received_at_us=1000 * at_ms + 5000)


def spiky(count: int):
    """Every fifth temperature jumps; the jumps differ, so that each is one."""
    for number in range(count):
        value = 20.0 + (10.0 + number % 7 if number % 5 == 4 else number % 2)
        yield at(number, air_temperature=value, co2=5.0 if number % 9 == 0 else 400.0 + number % 3)


async def test_what_is_stored_is_what_was_heard(tmp_path):
    async with QualityHouse(tmp_path).running() as it:
        for one in spiky(100):
            await it.spool.accept([one])
        await it.drained()
        await eventually(lambda: len(it.heard) == 200)
    assert it.table.rows == it.heard
    marked = [row for (series, _), row in it.heard.items() if series == TEMPERATURE and row[1]]
    assert len(marked) == 20
    assert {bits for _, bits in marked} == {int(Quality.STEP)}
    low = [row for (series, _), row in it.heard.items() if series == CO2 and row[0] == 5.0]
    assert {bits & int(Quality.PHYSICAL_RANGE) for _, bits in low} == {int(Quality.PHYSICAL_RANGE)}
    assert it.counters.readings_marked["step"] == 20
    assert it.counters.readings_marked["physical_range"] == 12


async def test_what_went_back_to_the_spool_is_stored_as_it_was_heard(tmp_path):
    """The sink is away while ten times what may wait for it comes; the spool is read again."""
    async with QualityHouse(tmp_path, queued_bytes=2_000).running() as it:
        it.table.open.clear()
        for one in spiky(400):
            await it.spool.accept([one])
        await eventually(lambda: len(it.heard) == 800)
        assert it.counters.spool_put_back > 100
        it.table.open.set()
        await it.drained()
    assert it.table.rows == it.heard
    assert sum(bool(bits & int(Quality.STEP)) for _, bits in it.heard.values()) == 80
    assert it.counters.marks_forgotten == 0


async def test_nothing_decoded_by_an_older_calibration_is_stored_after_a_hold(tmp_path):
    async with QualityHouse(tmp_path).running() as it:
        it.table.open.clear()
        for one in spiky(50):
            await it.spool.accept([one])
        await eventually(lambda: len(it.heard) == 100)
        held = asyncio.create_task(hold_and_calibrate(it), name="hold")
        await asyncio.sleep(0)
        it.table.open.set()
        await held
        for one in [at(number, air_temperature=20.0) for number in range(50, 60)]:
            await it.spool.accept([one])
        await it.drained()
        await eventually(lambda: len(it.heard) == 110)
    # What was in the sink's hands when the hold was asked for went in as it was; nothing after it.
    stored = [row for (series, _), row in sorted(it.table.rows.items()) if series == TEMPERATURE]
    heard = [row for (series, _), row in sorted(it.heard.items()) if series == TEMPERATURE]
    shifts = np.round([s[0] - h[0] for s, h in zip(stored, heard, strict=True)], 9)
    assert set(shifts.tolist()) <= {0.0, 100.0}
    assert it.after_hold
    for key, (value, _) in it.heard.items():
        if key in it.after_hold and key[0] == TEMPERATURE and key[1] < it.calibrated_us:
            assert it.table.rows[key][0] == value + 100.0
    assert [row[0] for row in stored[50:]] == [120.0] * 10
    # The bits from memory are those that were heard: a new line is no jump.
    assert [row[1] & int(Quality.STEP) for row in stored] == [
        row[1] & int(Quality.STEP) for row in heard
    ]


async def hold_and_calibrate(it: QualityHouse) -> None:
    async with it.pipeline.held():
        line = Calibration("h1-climate.air_temperature", 0, 1.0, 100.0, "Li", revision=1)
        it.judge.timeline = Timeline.build(Ledger((line,), (), 1), house())
        it.calibrated_us = 1000 * (RECEIVED_MS + 60_000 * 50)
        before = set(it.table.rows)
        await asyncio.sleep(0.05)  # that nothing is stored is seen only in a time
        assert set(it.table.rows) == before
        it.after_hold = set(it.heard) - before
