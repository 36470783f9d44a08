"""Roll-ups against the slow and obvious computation, on every edition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from devices.quality import Quality
from devices.reading import Batch
from storage.history import History, Step
from storage.pool import Connection, Pool
from storage.readings import ReadingWriter
from storage.registry import RegistryStore
from tests.storage.samples import (
    DAY_US,
    HOUR_US,
    MINUTE_US,
    Bucket,
    as_buckets,
    assert_same,
    batch,
    noisy,
    registry,
    slow_rollup,
    us,
)

ZONES = (
    "Europe/Amsterdam",
    "Asia/Shanghai",
    "Asia/Kathmandu",  # 5 h 45 min
    "Africa/Cairo",  # the clock changes at midnight
    "Atlantic/Azores",  # two midnights in autumn
    "Australia/Lord_Howe",  # the clock changes by half an hour
)
CLOCK_CHANGES = [
    # (name, first day, days): around the changes of clock of the zones above in 2024
    ("spring in Europe", us(2024, 3, 29), 5),
    ("spring in Egypt", us(2024, 4, 24), 4),
    ("autumn in Europe and Egypt", us(2024, 10, 25), 8),
    ("autumn in Australia", us(2024, 4, 5), 3),
]


@pytest.fixture
async def series_ids(pool: Pool) -> list[int]:
    store = RegistryStore(pool)
    await store.apply(registry(*ZONES), {})
    loaded = await store.load()
    return [loaded.series_ids[code] for code in loaded.series]


async def _write(dsn: str, readings: Batch) -> None:
    async with ReadingWriter(dsn) as writer:
        outcome = await writer.write(readings)
    assert (outcome.kind, outcome.inserted) == ("written", len(readings)), outcome


@pytest.mark.parametrize("change", CLOCK_CHANGES, ids=[name for name, _, _ in CLOCK_CHANGES])
async def test_rollups_equal_the_slow_computation_also_when_the_clock_changes(
    dsn: str, pool: Pool, series_ids: list[int], change: tuple[str, int, int]
):
    _, start, days = change
    readings = noisy(series_ids, start, start + days * DAY_US, 7 * MINUTE_US, seed=days)
    await _write(dsn, readings)
    history = History(pool)
    zones = dict(zip(series_ids, ZONES, strict=True))
    for step in Step:
        expected = slow_rollup(readings, step, zones)
        found = await history.rolled(series_ids, start - 2 * DAY_US, start + 20 * DAY_US, step)
        for one in series_ids:
            assert_same(as_buckets(found[one]), expected[one])


async def test_a_day_has_23_and_25_hours_when_the_clock_changes(
    dsn: str, pool: Pool, series_ids: list[int]
):
    zone = "Europe/Amsterdam"
    amsterdam = series_ids[ZONES.index(zone)]
    for month, day, hours in ((3, 31, 23), (10, 27, 25), (7, 1, 24)):
        start = us(2024, month, day, zone=zone)
        at = [start + k * HOUR_US for k in range(hours)]
        around = [start - 1, *at, start + hours * HOUR_US]
        await _write(
            dsn, batch(amsterdam, around, [100.0, *[float(k) for k in range(hours)], -9.0])
        )
        found = await History(pool).rolled([amsterdam], start, start + 1, Step.DAY)
        expected = Bucket(
            hours,
            hours,
            0.0,
            hours - 1.0,
            (hours - 1) / 2,
            0.0,
            hours - 1.0,
            hours * (hours - 1) / 2,
        )
        assert as_buckets(found[amsterdam]) == {start: expected}


async def test_bad_and_missing_readings_count_but_are_not_valid(
    dsn: str, pool: Pool, series_ids: list[int]
):
    one = series_ids[0]
    start = us(2025, 1, 1)
    at = [start + k * MINUTE_US for k in range(5)]
    value = [1000.0, math.nan, 2.0, 4.0, -1000.0]
    quality = [int(q) for q in (Quality.SENTINEL, 0, Quality.STEP, 0, Quality.CALIBRATION)]
    await _write(dsn, batch(one, at, value, quality))
    found = await History(pool).rolled([one], start, start + HOUR_US, Step.HOUR)
    assert as_buckets(found[one]) == {start: Bucket(5, 2, 2.0, 4.0, 3.0, 2.0, 4.0, 6.0)}


async def test_a_bucket_without_a_valid_reading_has_no_numbers(
    dsn: str, pool: Pool, series_ids: list[int]
):
    one = series_ids[0]
    start = us(2025, 1, 1)
    await _write(dsn, batch(one, [start], [7.0], int(Quality.DEVICE_FAULT)))
    found = (await History(pool).rolled([one], start, start + 1, Step.MINUTE))[one]
    assert (found.count.tolist(), found.valid_count.tolist()) == ([1], [0])
    for name in ("min", "max", "mean", "first", "last", "sum"):
        assert np.isnan(getattr(found, name)).all()


async def test_buckets_are_chosen_by_their_start_and_never_cut(
    dsn: str, pool: Pool, series_ids: list[int]
):
    shanghai = series_ids[ZONES.index("Asia/Shanghai")]

    async def starts(step: Step, start_us: int, end_us: int) -> list[tuple[int, int]]:
        found = (await History(pool).rolled([shanghai], start_us, end_us, step))[shanghai]
        return [*zip(found.start_us.tolist(), found.count.tolist(), strict=True)]

    for month, step in enumerate(Step, 1):
        start = us(2025, month, 1, zone="Asia/Shanghai")
        length = step.nominal_s * 1_000_000
        at = [start + k * length // 2 for k in range(8)]  # four buckets of two readings
        await _write(dsn, batch(shanghai, at, [float(k) for k in range(8)]))
        four = [(start + k * length, 2) for k in range(4)]
        assert await starts(step, start, start + 4 * length) == four
        assert await starts(step, start + 1, start + 2 * length) == four[1:2]
        assert await starts(step, start + length, start + 2 * length + 1) == four[1:3]
        assert await starts(step, start, start) == []


async def test_the_views_hold_what_the_functions_answer(
    dsn: str, pool: Pool, connection: Connection, series_ids: list[int]
):
    start = us(2024, 10, 26)
    readings = noisy(series_ids[:2], start, start + 2 * DAY_US, 40 * MINUTE_US, seed=5)
    await _write(dsn, readings)
    for step in Step:
        cursor = await connection.execute(
            f"SELECT series_id, (extract(epoch FROM bucket) * 1000000)::bigint, count, valid_count,"
            f" min, max, mean, first, last, sum FROM readings_{step} ORDER BY 1, 2"
        )
        view: dict[int, dict[int, Bucket]] = {}
        async for one, at, *rest in cursor:
            view.setdefault(one, {})[at] = Bucket(*(math.nan if x is None else x for x in rest))
        found = await History(pool).rolled(series_ids[:2], us(2020, 1, 1), us(2030, 1, 1), step)
        for one in series_ids[:2]:
            assert_same(view[one], as_buckets(found[one]))


async def test_a_span_reads_no_more_than_it_needs_whatever_the_step(
    dsn: str, connection: Connection, series_ids: list[int]
):
    """The limits on the buckets become limits on observed_at in an index condition."""
    start = us(2025, 1, 1)
    await _write(dsn, noisy(series_ids, start, start + 30 * DAY_US, 10 * MINUTE_US, seed=6))
    await connection.execute("ANALYZE readings")
    for step in Step:
        cursor = await connection.execute(
            f"EXPLAIN SELECT * FROM rolled_{step}(%s, %s, %s)",
            ([series_ids[0]], "2025-01-05T00:00Z", "2025-01-06T00:00Z"),
        )
        plan = [line for (line,) in await cursor.fetchall()]
        conditions = [line for line in plan if "Index Cond" in line and "observed_at" in line]
        assert conditions, plan
        for condition in conditions:
            assert "series_id = " in condition, plan
            if "_ts_meta" not in condition:  # an index of the columnstore has one end of a batch
                assert "observed_at >= " in condition and "observed_at < " in condition, plan
        assert not any("Seq Scan on" in line and "readings" in line for line in plan), plan
