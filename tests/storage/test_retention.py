"""Raw readings expire; what they came to stays, and late readings are added to it."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import pytest

from devices.dead_letter import DeadLetter
from devices.reading import Batch
from storage.dead_letters import DeadLetterStore
from storage.errors import DatabaseUnavailable
from storage.history import History, Step
from storage.maintenance import Maintenance
from storage.migrate import schema_edition
from storage.pool import Connection, Pool
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

ZONES = ("Europe/Amsterdam", "Asia/Shanghai")
QUANTITIES = ("air_temperature", "soil_moisture")
START = us(2024, 10, 20)
DAYS = 20
NOW = EPOCH + timedelta(microseconds=START + DAYS * DAY_US + 5 * HOUR_US)


@pytest.fixture
async def series_ids(pool: Pool) -> list[int]:
    store = RegistryStore(pool)
    await store.apply(registry(*ZONES, quantities=QUANTITIES), {"default": 10 * 86400.0})
    loaded = await store.load()
    return [loaded.series_ids[code] for code in loaded.series]


def _zones(series_ids: list[int]) -> dict[int, str]:
    return {one: ZONES[n // len(QUANTITIES)] for n, one in enumerate(series_ids)}


async def _keep(pool: Pool, retention_s: dict[str, float]) -> None:
    await RegistryStore(pool).apply(registry(*ZONES, quantities=QUANTITIES), retention_s)


async def _write(dsn: str, readings: Batch) -> None:
    async with ReadingWriter(dsn) as writer:
        outcome = await writer.write(readings)
    assert (outcome.kind, outcome.inserted) == ("written", len(readings)), outcome


def _keys(readings: Batch) -> set[tuple[int, int]]:
    return {*zip(readings.series_id.tolist(), readings.observed_at_us.tolist(), strict=True)}


async def _assert_rollups(pool: Pool, series_ids: list[int], readings: Batch) -> None:
    history = History(pool)
    for step in Step:
        expected = slow_rollup(readings, step, _zones(series_ids))
        found = await history.rolled(series_ids, START - 400 * DAY_US, START + 400 * DAY_US, step)
        for one in series_ids:
            assert_same(as_buckets(found[one]), expected.get(one, {}))


async def _raw_spans(pool: Pool, series_ids: list[int]) -> list[tuple[float, int]]:
    """Return the day of the oldest raw reading of each series, and how many readings it has."""
    far = 1000 * DAY_US
    found = await History(pool).raw(series_ids, START - far, START + far, 1_000_000)
    return [
        ((int(points.at_us[0]) - START) // DAY_US if len(points) else -1, len(points))
        for points in found.values()
    ]


async def test_rollups_outlive_raw_readings(dsn: str, pool: Pool, series_ids: list[int]):
    readings = noisy(series_ids, START, START + DAYS * DAY_US, 17 * MINUTE_US, seed=1)
    await _write(dsn, readings)
    await _assert_rollups(pool, series_ids, readings)
    report = await Maintenance(dsn).run(NOW)
    cutoff = START + 10 * DAY_US
    expired = int((readings.observed_at_us < cutoff).sum())
    assert (report.ran, report.expired) == (True, expired)
    assert expired > 0
    assert all(day == 10 for day, _ in await _raw_spans(pool, series_ids))
    await _assert_rollups(pool, series_ids, readings)


async def test_each_quantity_expires_by_its_own_time(dsn: str, pool: Pool, series_ids: list[int]):
    readings = noisy(series_ids, START, START + DAYS * DAY_US, 31 * MINUTE_US, seed=2)
    await _write(dsn, readings)
    await _keep(pool, {"soil_moisture": 3 * 86400.0})
    await Maintenance(dsn).run(NOW)
    assert [day for day, _ in await _raw_spans(pool, series_ids)] == [0, 17, 0, 17]
    await _keep(pool, {"soil_moisture": 3 * 86400.0, "default": 15 * 86400.0})
    await Maintenance(dsn).run(NOW)
    assert [day for day, _ in await _raw_spans(pool, series_ids)] == [5, 17, 5, 17]
    await _assert_rollups(pool, series_ids, readings)


async def test_without_retention_nothing_expires(dsn: str, pool: Pool, series_ids: list[int]):
    await _keep(pool, {})
    readings = noisy(series_ids, START, START + DAY_US, 31 * MINUTE_US, seed=3)
    await _write(dsn, readings)
    report = await Maintenance(dsn).run(datetime(2090, 1, 1, tzinfo=UTC))
    assert (report.ran, report.expired) == (True, 0)
    assert sum(n for _, n in await _raw_spans(pool, series_ids)) == len(readings)


async def test_a_retention_of_ages_is_no_error(dsn: str, pool: Pool, series_ids: list[int]):
    await _keep(pool, {"default": 1e15})
    await _write(dsn, batch(series_ids[0], [START], [1.0]))
    assert (await Maintenance(dsn).run(NOW)).expired == 0


async def test_maintaining_twice_and_two_at_once_is_harmless(
    dsn: str, pool: Pool, series_ids: list[int]
):
    readings = noisy(series_ids, START, START + DAYS * DAY_US, 23 * MINUTE_US, seed=4)
    await _write(dsn, readings)
    reports = await asyncio.gather(*(Maintenance(dsn).run(NOW) for _ in range(3)))
    assert any(report.ran for report in reports)
    expected = int((readings.observed_at_us < START + 10 * DAY_US).sum())
    assert sum(report.expired for report in reports) == expected
    assert (await Maintenance(dsn).run(NOW)).expired == 0
    await _assert_rollups(pool, series_ids, readings)


async def test_late_readings_are_added_to_buckets_that_have_expired(
    dsn: str, pool: Pool, connection: Connection, series_ids: list[int]
):
    """Before the kept first, after the kept last, between, and into buckets that had none."""
    readings = noisy(series_ids, START, START + DAYS * DAY_US, 29 * MINUTE_US, seed=5)
    await _write(dsn, readings)
    await Maintenance(dsn).run(NOW)
    late = noisy(series_ids, START - 2 * DAY_US, START + 12 * DAY_US, 41 * MINUTE_US, seed=6)
    assert _keys(readings).isdisjoint(_keys(late))
    await _write(dsn, late)
    everything = Batch.concatenate([readings, late])
    if not (await schema_edition(connection)).has_continuous_aggregates:
        # There they are added by the next refresh; here at once.
        await _assert_rollups(pool, series_ids, everything)
    report = await Maintenance(dsn).run(NOW)
    assert report.expired == int((late.observed_at_us < START + 10 * DAY_US).sum())
    await _assert_rollups(pool, series_ids, everything)


async def test_rollups_tell_the_same_at_every_moment_of_a_maintenance(
    dsn: str, pool: Pool, series_ids: list[int]
):
    readings = noisy(series_ids, START, START + DAYS * DAY_US, 37 * MINUTE_US, seed=7)
    await _write(dsn, readings)
    running = asyncio.create_task(Maintenance(dsn).run(NOW), name="maintenance")
    rounds = 0
    while not running.done() or rounds == 0:
        await _assert_rollups(pool, series_ids, readings)
        rounds += 1
    assert (await running).expired > 0


async def test_readings_that_come_late_during_a_maintenance_are_neither_lost_nor_doubled(
    dsn: str, pool: Pool, series_ids: list[int]
):
    """They race for days and chunks that are being rolled up and deleted."""
    end = START + 40 * DAY_US
    now = EPOCH + timedelta(microseconds=end)
    readings = noisy(series_ids, START, end, 61 * MINUTE_US, seed=10)
    late = noisy(series_ids, START, end, 67 * MINUTE_US, seed=11)
    assert _keys(readings).isdisjoint(_keys(late))
    await _write(dsn, readings)

    async def maintain() -> None:
        # A deadlock with the writer may end it; the next run goes on.
        with contextlib.suppress(DatabaseUnavailable):
            await Maintenance(dsn).run(now)

    async def write_late() -> None:
        async with ReadingWriter(dsn) as writer:
            for start in range(0, len(late), 200):
                part = late.take(slice(start, start + 200))
                while (outcome := await writer.write(part)).kind == "unavailable":
                    pass
                assert outcome.inserted == len(part), outcome

    await asyncio.gather(maintain(), write_late())
    everything = Batch.concatenate([readings, late])
    await Maintenance(dsn).run(now)
    assert all(day == 30 for day, _ in await _raw_spans(pool, series_ids))
    await _assert_rollups(pool, series_ids, everything)


async def test_a_maintenance_that_is_cut_off_is_finished_by_the_next(
    dsn: str, pool: Pool, connection: Connection, series_ids: list[int], eventually
):
    readings = noisy(series_ids, START, START + DAYS * DAY_US, 37 * MINUTE_US, seed=8)
    await _write(dsn, readings)
    running = asyncio.create_task(Maintenance(dsn).run(NOW), name="maintenance")

    async def some_days_are_done() -> bool:
        cursor = await connection.execute("SELECT count(*) FROM kept_1h")
        row = await cursor.fetchone()
        return row is not None and row[0] > 0

    await eventually(some_days_are_done)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'greenhouse-maintenance' AND datname = current_database()"
    )
    try:
        await running
    except DatabaseUnavailable:
        await _assert_rollups(pool, series_ids, readings)
    await Maintenance(dsn).run(NOW)
    assert all(day == 10 for day, _ in await _raw_spans(pool, series_ids))
    await _assert_rollups(pool, series_ids, readings)


async def test_chunks_that_have_expired_for_all_series_are_dropped_whole(
    dsn: str, pool: Pool, connection: Connection, series_ids: list[int]
):
    readings = noisy(series_ids, START, START + 40 * DAY_US, 97 * MINUTE_US, seed=9)
    await _write(dsn, readings)
    now = EPOCH + timedelta(microseconds=START + 40 * DAY_US)
    report = await Maintenance(dsn).run(now)
    cutoff = START + 30 * DAY_US
    assert report.expired == int((readings.observed_at_us < cutoff).sum())
    if (await schema_edition(connection)).has_hypertables:
        assert report.chunks_dropped >= 3
        cursor = await connection.execute(
            "SELECT min(range_end) FROM timescaledb_information.chunks"
            " WHERE hypertable_name = 'readings'"
        )
        row = await cursor.fetchone()
        assert row is not None and row[0] > EPOCH + timedelta(microseconds=cutoff)
    else:
        assert report.chunks_dropped == 0
    await _assert_rollups(pool, series_ids, readings)


async def test_the_registry_tells_from_when_on_raw_readings_are_complete(
    dsn: str, connection: Connection, series_ids: list[int]
):
    await Maintenance(dsn).run(NOW)
    cursor = await connection.execute("SELECT DISTINCT raw_from FROM series")
    assert await cursor.fetchall() == [(datetime(2024, 10, 30, tzinfo=UTC),)]


async def test_dead_letters_are_bounded_by_age_and_by_number(dsn: str, pool: Pool):
    store = DeadLetterStore(pool)
    now = datetime(2025, 6, 1, tzinfo=UTC)
    letters = [
        DeadLetter("mqtt", "gh/x", str(day).encode(), us(2025, 5, day), "E-JSON", "broken")
        for day in range(1, 31)
    ]
    await store.put(letters)
    tidy = Maintenance(dsn, dead_letters_kept_s=20 * 86400.0, dead_letters_limit=1000)
    assert (await tidy.run(now)).dead_letters == 11
    tidy = Maintenance(dsn, dead_letters_kept_s=20 * 86400.0, dead_letters_limit=7)
    assert (await tidy.run(now)).dead_letters == 12
    assert [kept.letter.payload for kept in await store.list(100)] == [
        str(day).encode() for day in range(30, 23, -1)
    ]
