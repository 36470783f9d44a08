"""What History answers, against the readings that were written."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from devices.reading import Batch
from storage.history import History, Step
from storage.pool import Connection, Pool
from storage.readings import ReadingWriter
from storage.registry import RegistryStore
from storage.statements import statements
from tests.storage.samples import DAY_US, MINUTE_US, batch, noisy, registry, us

START = us(2025, 2, 1)


@pytest.fixture
async def readings(dsn: str) -> Batch:
    made = noisy([1, 2, 3], START, START + 20 * DAY_US, 20 * MINUTE_US, seed=1)
    async with ReadingWriter(dsn) as writer:
        await writer.write(made)
    return made


def _of(readings: Batch, one: int, start: int, end: int) -> Batch:
    at = readings.observed_at_us
    chosen = readings.take((readings.series_id == one) & (at >= start) & (at < end))
    return chosen.take(np.argsort(chosen.observed_at_us))


async def test_raw_readings_come_by_series_oldest_first(pool: Pool, readings: Batch):
    start, end = START + DAY_US + 1, START + 9 * DAY_US
    found = await History(pool).raw([3, 1, 99], start, end, 1_000_000)
    assert sorted(found) == [1, 3, 99]
    assert len(found[99]) == 0
    for one in (1, 3):
        expected = _of(readings, one, start, end)
        points = found[one]
        np.testing.assert_array_equal(points.at_us, expected.observed_at_us)
        np.testing.assert_array_equal(points.value, expected.value)
        np.testing.assert_array_equal(points.quality, expected.quality)
        types = (points.at_us.dtype, points.value.dtype, points.quality.dtype)
        assert types == (np.int64, np.float64, np.int32)


async def test_a_span_is_half_open(pool: Pool, readings: Batch):
    at = np.sort(readings.observed_at_us[readings.series_id == 1])
    history = History(pool)
    found = await history.raw([1], int(at[5]), int(at[8]), 100)
    np.testing.assert_array_equal(found[1].at_us, at[5:8])
    assert await history.count([1], int(at[5]), int(at[8]), 100) == 3


async def test_the_limit_holds_for_each_series_and_takes_the_oldest(pool: Pool, readings: Batch):
    far = START + 100 * DAY_US
    found = await History(pool).raw([1, 2], START, far, 7)
    for one in (1, 2):
        expected = _of(readings, one, START, far).observed_at_us[:7]
        np.testing.assert_array_equal(found[one].at_us, expected)


async def test_pages_join_to_the_whole(pool: Pool, readings: Batch):
    far = START + 100 * DAY_US
    pages: list[int] = []
    start = START
    while len(points := (await History(pool).raw([2], start, far, 100))[2]):
        pages += points.at_us.tolist()
        start = pages[-1] + 1
    assert pages == _of(readings, 2, START, far).observed_at_us.tolist()


async def test_counting_stops_at_the_cap(pool: Pool, readings: Batch):
    history = History(pool)
    far = START + 100 * DAY_US
    assert await history.count([1, 2, 3], START, far, 10**9) == len(readings)
    assert await history.count([1, 2, 3], START, far, 50) == 50
    assert await history.count([], START, far, 50) == 0
    assert await history.count([42], START, far, 50) == 0


async def test_the_latest_reading_of_each_series_is_its_newest(pool: Pool, readings: Batch):
    found = await History(pool).latest([3, 2, 77])
    assert found.series_id.tolist() == [2, 3]
    for row, one in enumerate((2, 3)):
        expected = _of(readings, one, START, START + 100 * DAY_US)
        assert found.observed_at_us[row] == expected.observed_at_us[-1]
        assert found.received_at_us[row] == expected.received_at_us[-1]
        assert found.quality[row] == expected.quality[-1]
        np.testing.assert_array_equal(found.value[row], expected.value[-1])


async def test_the_latest_of_all_is_of_the_series_in_use(dsn: str, pool: Pool):
    store = RegistryStore(pool)
    await store.apply(registry("UTC", "UTC"), {})
    ids = (await store.load()).series_ids
    kept, gone = ids["probe-0.air_temperature"], ids["probe-1.air_temperature"]
    async with ReadingWriter(dsn) as writer:
        await writer.write(batch(kept, [START, START + 1], [1.0, math.nan]))
        await writer.write(batch(gone, [START], [3.0]))
    assert (await History(pool).latest()).series_id.tolist() == [kept, gone]
    await store.apply(registry("UTC"), {})
    found = await History(pool).latest()
    assert found.series_id.tolist() == [kept]
    assert found.observed_at_us.tolist() == [START + 1]
    assert math.isnan(found.value[0])


async def test_an_empty_database_answers_with_empty_columns(pool: Pool):
    history = History(pool)
    assert len(await history.latest()) == len(await history.latest([])) == 0
    assert await history.raw([], START, START + 1, 10) == {}
    assert len((await history.raw([1], START, START + 1, 10))[1]) == 0
    for step in Step:
        assert len((await history.rolled([1], START, START + DAY_US, step))[1]) == 0


async def test_spans_beyond_all_calendars_are_no_error(pool: Pool, readings: Batch):
    await RegistryStore(pool).apply(registry("UTC", "UTC", "UTC"), {})
    history = History(pool)
    everything = (-(2**63), 2**63 - 1)
    assert await history.count([1, 2, 3], *everything, 10**9) == len(readings)
    for step in Step:
        found = await history.rolled([1], *everything, step)
        assert found[1].count.sum() == (readings.series_id == 1).sum()


async def test_the_latest_looks_at_one_reading_of_a_series(connection: Connection, readings: Batch):
    """Its own statement reads the index backwards, and old chunks not at all."""
    await connection.execute("ANALYZE readings")
    cursor = await connection.execute(
        b"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) " + statements("history")["latest"],
        {"series_ids": [1, 2]},
    )
    plan = [line.strip() for (line,) in await cursor.fetchall()]
    scans = [line for line in plan if "Scan" in line and "never executed" not in line]
    chunks = {chunk for line in scans for chunk in re.findall(r" (_hyper_\d+_\d+_chunk)\b", line)}
    assert len(chunks) <= 1, plan
    assert any("Index" in line for line in scans), plan
    assert not any("Seq Scan" in line for line in scans), plan
