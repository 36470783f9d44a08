"""What only the community edition of TimescaleDB has: continuous aggregates and the columnstore.

Runs where GREENHOUSE_TEST_DSN, or the services, are of that edition, and is left out elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from devices.reading import Batch
from storage.editions import Edition
from storage.history import History, Step
from storage.maintenance import Maintenance
from storage.migrate import migrate
from storage.outcome import Outcome
from storage.pool import Connection, Pool, connect, hardened
from storage.readings import ReadingWriter
from storage.registry import RegistryStore
from tests.storage.samples import (
    DAY_US,
    EPOCH,
    HOUR_US,
    MINUTE_US,
    as_buckets,
    assert_same,
    batch,
    noisy,
    registry,
    slow_rollup,
    us,
)

ZONE = "Europe/Amsterdam"
QUANTITIES = ("air_temperature", "soil_moisture")
START = us(2024, 10, 20)
DAYS = 20
NOW = EPOCH + timedelta(microseconds=START + DAYS * DAY_US)


@pytest.fixture
async def dsn(timescale_dsn: str) -> str:
    report = await migrate(timescale_dsn)
    if report.edition is not Edition.TIMESCALEDB_COMMUNITY:
        pytest.skip("no community edition of TimescaleDB")
    return timescale_dsn


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[Connection]:
    made = await connect(hardened(dsn, "test", statement_timeout_s=60), autocommit=True)
    # The columnstore is filled by the tests, when they mean it.
    await made.execute(
        "SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs"
        " WHERE hypertable_name = 'readings'"
    )
    yield made
    await made.close()


@pytest.fixture
async def series_ids(pool: Pool, connection: Connection) -> list[int]:
    return await _register(pool, {})


async def _register(pool: Pool, retention_s: dict[str, float]) -> list[int]:
    store = RegistryStore(pool)
    await store.apply(registry(ZONE, quantities=QUANTITIES), retention_s)
    loaded = await store.load()
    return [loaded.series_ids[code] for code in loaded.series]


async def _write(dsn: str, readings: Batch) -> Outcome:
    async with ReadingWriter(dsn) as writer:
        return await writer.write(readings)


async def _assert_rollups(pool: Pool, series_ids: list[int], readings: Batch) -> None:
    for step in Step:
        expected = slow_rollup(readings, step, dict.fromkeys(series_ids, ZONE))
        found = await History(pool).rolled(
            series_ids, START - 400 * DAY_US, START + 400 * DAY_US, step
        )
        for one in series_ids:
            assert_same(as_buckets(found[one]), expected.get(one, {}))


async def _pack(connection: Connection) -> int:
    """Move all chunks of readings to the columnstore; return how many there are."""
    cursor = await connection.execute(
        "SELECT compress_chunk(chunk, if_not_compressed => true) FROM show_chunks('readings') chunk"
    )
    return len(await cursor.fetchall())


async def test_the_aggregates_and_the_policy_are_there(connection: Connection):
    cursor = await connection.execute(
        "SELECT view_name, materialized_only FROM timescaledb_information.continuous_aggregates"
    )
    assert sorted(await cursor.fetchall()) == [
        ("rollup_15m", True),
        ("rollup_1h", True),
        ("rollup_1m", True),
    ]
    cursor = await connection.execute(
        "SELECT config ->> 'compress_after' FROM timescaledb_information.jobs"
        " WHERE hypertable_name = 'readings'"
    )
    assert await cursor.fetchall() == [("35 days",)]
    cursor = await connection.execute(
        "SELECT segmentby, orderby FROM timescaledb_information.hypertable_columnstore_settings"
        " WHERE hypertable = 'readings'::regclass"
    )
    assert await cursor.fetchall() == [("series_id", "observed_at")]


async def test_readings_from_before_the_last_refresh_are_there_after_the_next(
    dsn: str, pool: Pool, series_ids: list[int]
):
    readings = noisy(series_ids, START, START + DAYS * DAY_US, 31 * MINUTE_US, seed=1)
    await _write(dsn, readings)
    await Maintenance(dsn).run(NOW)
    await _assert_rollups(pool, series_ids, readings)
    late = noisy(series_ids, START - DAY_US, START + 2 * DAY_US, 37 * MINUTE_US, seed=2)
    await _write(dsn, late)
    await Maintenance(dsn).run(NOW)
    await _assert_rollups(pool, series_ids, Batch.concatenate([readings, late]))


async def test_readings_after_the_last_refresh_are_there_at_once(
    dsn: str, pool: Pool, series_ids: list[int]
):
    readings = noisy(series_ids, START, START + DAYS * DAY_US, 31 * MINUTE_US, seed=3)
    await _write(dsn, readings)
    await Maintenance(dsn).run(NOW)
    end = START + DAYS * DAY_US
    fresh = noisy(series_ids, end, end + 3 * HOUR_US, MINUTE_US, seed=4)
    await _write(dsn, fresh)
    await _assert_rollups(pool, series_ids, Batch.concatenate([readings, fresh]))


async def test_no_refresh_destroys_what_has_expired(
    dsn: str, pool: Pool, connection: Connection, series_ids: list[int]
):
    readings = noisy(series_ids, START, START + DAYS * DAY_US, 31 * MINUTE_US, seed=5)
    await _write(dsn, readings)
    await Maintenance(dsn).run(NOW)
    await _register(pool, {"default": 2 * 86400.0, "soil_moisture": 9 * 86400.0})
    report = await Maintenance(dsn).run(NOW)
    assert report.chunks_dropped > 0
    for force in ("false", "true"):
        for name in ("rollup_1m", "rollup_15m", "rollup_1h"):
            await connection.execute(
                f"CALL refresh_continuous_aggregate('{name}', NULL, NULL, force => {force},"
                " options => '{\"buckets_per_batch\": 0}')".encode()
            )
        await _assert_rollups(pool, series_ids, readings)


async def test_readings_far_apart_in_time_are_marked_apart(
    dsn: str, connection: Connection, series_ids: list[int]
):
    """One late reading does not mark all that lies between it and the fresh ones."""
    one, _ = series_ids
    end = START + DAYS * DAY_US
    await _write(dsn, noisy(series_ids, START, end, HOUR_US, seed=6))
    await Maintenance(dsn).run(NOW)
    late, later = end - 3 * DAY_US + 1, end - 2 * DAY_US + 1
    mixed = batch(one, [late, end + 1, later, end + 2], [1.0, 2.0, 3.0, 4.0])
    assert await _write(dsn, mixed) == Outcome("written", 4)
    cursor = await connection.execute(
        "SELECT lowest_modified_value, greatest_modified_value"
        " FROM _timescaledb_catalog.continuous_aggs_hypertable_invalidation_log"
    )
    marked = await cursor.fetchall()
    assert {(late, late), (later, later)} <= set(marked)
    assert all(greatest - lowest <= HOUR_US for lowest, greatest in marked), marked


async def test_readings_in_the_columnstore_are_found_and_added_to(
    dsn: str, pool: Pool, connection: Connection, series_ids: list[int]
):
    readings = noisy(series_ids, START, START + DAYS * DAY_US, 29 * MINUTE_US, seed=7)
    await _write(dsn, readings)
    assert await _pack(connection) >= 3
    await _assert_rollups(pool, series_ids, readings)
    assert (await _write(dsn, readings)).duplicates == len(readings)
    changed = Batch(
        readings.series_id,
        readings.observed_at_us,
        readings.received_at_us,
        readings.value + 1,
        readings.quality,
    ).take(slice(0, 50))
    missing = int((changed.value != changed.value).sum())
    assert await _write(dsn, changed) == Outcome("written", 0, 50, 50 - missing)
    late = noisy(series_ids, START, START + DAYS * DAY_US, 43 * MINUTE_US, seed=8)
    assert await _write(dsn, late) == Outcome("written", len(late))
    everything = Batch.concatenate([readings, late])
    await _assert_rollups(pool, series_ids, everything)
    raw = await History(pool).raw(series_ids, 0, us(2100, 1, 1), 10**6)
    assert sum(len(points) for points in raw.values()) == len(everything)
    newest = await History(pool).latest(series_ids)
    for one, at in zip(newest.series_id.tolist(), newest.observed_at_us.tolist(), strict=True):
        assert at == everything.observed_at_us[everything.series_id == one].max()


async def test_readings_in_the_columnstore_expire_by_quantity_and_by_chunk(
    dsn: str, pool: Pool, connection: Connection, series_ids: list[int]
):
    readings = noisy(series_ids, START, START + DAYS * DAY_US, 29 * MINUTE_US, seed=9)
    await _write(dsn, readings)
    await Maintenance(dsn).run(NOW)
    await _pack(connection)
    await _register(pool, {"soil_moisture": 12 * 86400.0})
    expired = (readings.series_id == series_ids[1]) & (readings.observed_at_us < START + 8 * DAY_US)
    assert (await Maintenance(dsn).run(NOW)).expired == int(expired.sum())
    await _assert_rollups(pool, series_ids, readings)
    await _register(pool, {"default": 3 * 86400.0})
    report = await Maintenance(dsn).run(NOW)
    assert report.chunks_dropped > 0
    left = await History(pool).count(series_ids, 0, us(2100, 1, 1), 10**9)
    assert left == int((readings.observed_at_us >= START + 17 * DAY_US).sum())
    await _assert_rollups(pool, series_ids, readings)
