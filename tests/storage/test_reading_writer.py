"""The writer: each reading once, and the right word for every way in which it can fail."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from devices.reading import Batch
from storage.derived import DerivedStore
from storage.grants import grant
from storage.history import History
from storage.instant import FIRST_US, LAST_US
from storage.migrate import migrate
from storage.outcome import Outcome
from storage.pool import Connection, Pool, connect, hardened
from storage.readings import ReadingWriter, copy_readings, stretches
from tests.storage.samples import DAY_US, HOUR_US, MINUTE_US, SECOND_US, batch, us

START = us(2025, 3, 1)


@pytest.fixture
async def writer(dsn: str) -> AsyncIterator[ReadingWriter]:
    async with ReadingWriter(dsn) as made:
        yield made


async def _stored(connection: Connection) -> dict[tuple[int, int], float | None]:
    cursor = await connection.execute(
        "SELECT series_id, (extract(epoch FROM observed_at) * 1000000)::bigint, value FROM readings"
    )
    return {(one, at): value async for one, at, value in cursor}


def _readings(series_id: int, n: int, first: int = 0) -> Batch:
    at = [START + (first + k) * SECOND_US for k in range(n)]
    return batch(series_id, at, [float(first + k) for k in range(n)])


async def test_every_field_comes_back_as_it_was_written(
    writer: ReadingWriter, connection: Connection, pool: Pool
):
    at = [START + 3, START + 1, START - 1, us(1969, 12, 31), us(2999, 1, 1)]
    readings = Batch.of(
        [7] * 5,
        at,
        [t + 17 for t in at],
        [1.5, math.nan, -0.1, 1e-300, 1e300],
        [0, 1, 5, -1, 1 << 30],
    )
    assert await writer.write(readings) == Outcome("written", inserted=5)
    found = (await History(pool).raw([7], us(1900, 1, 1), us(3000, 1, 1), 10))[7]
    order = np.argsort(readings.observed_at_us)
    assert found.at_us.tolist() == readings.observed_at_us[order].tolist()
    np.testing.assert_array_equal(found.value, readings.value[order])
    assert found.quality.tolist() == readings.quality[order].tolist()
    cursor = await connection.execute(
        "SELECT count(*) FROM readings WHERE received_at = observed_at + INTERVAL '17 microseconds'"
    )
    assert await cursor.fetchone() == (5,)


async def test_a_missing_value_is_null_and_not_nan(writer: ReadingWriter, connection: Connection):
    await writer.write(batch(1, [START, START + 1], [math.nan, 2.0]))
    assert await _stored(connection) == {(1, START): None, (1, START + 1): 2.0}


async def test_an_empty_batch_is_written(writer: ReadingWriter):
    assert await writer.write(Batch.empty()) == Outcome("written")


_rows = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.integers(0, 5),
        st.sampled_from([1.0, 2.0, 0.0, -0.0, math.nan]),
    ),
    max_size=12,
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(batches=st.lists(_rows, min_size=1, max_size=5))
async def test_the_first_value_of_a_key_stays_and_every_other_is_counted(
    connection: Connection,
    writer: ReadingWriter,
    batches: list[list[tuple[int, int, float]]],
):
    """Against a dictionary: duplicates within a batch, between batches, NaN equal to NaN."""
    await connection.execute("TRUNCATE readings")
    model: dict[tuple[int, int], float] = {}
    for rows in batches:
        inserted = conflicts = 0
        for one, at, value in rows:
            key = (one, START + at)
            if key not in model:
                model[key] = value
                inserted += 1
            elif model[key] != value and not (math.isnan(model[key]) and math.isnan(value)):
                conflicts += 1
        readings = Batch.of(
            [one for one, _, _ in rows],
            [START + at for _, at, _ in rows],
            [START for _ in rows],
            [value for _, _, value in rows],
            [0 for _ in rows],
        )
        expected = Outcome("written", inserted, len(rows) - inserted, conflicts)
        assert await writer.write(readings) == expected
    expected_rows = {k: None if math.isnan(v) else v for k, v in model.items()}
    assert await _stored(connection) == expected_rows


async def test_the_same_batch_again_inserts_nothing(writer: ReadingWriter, connection: Connection):
    readings = _readings(1, 1000)
    assert await writer.write(readings) == Outcome("written", 1000)
    assert await writer.write(readings) == Outcome("written", 0, 1000)
    assert await writer.write(_readings(1, 1000, 500)) == Outcome("written", 500, 500)
    assert len(await _stored(connection)) == 1500


async def test_two_writers_of_the_same_readings_store_each_once(dsn: str, connection: Connection):
    batches = [_readings(one, 500) for one in range(1, 9)]
    async with ReadingWriter(dsn) as a, ReadingWriter(dsn) as b:

        async def write_all(writer: ReadingWriter, order: list[Batch]) -> int:
            inserted = 0
            for readings in order:
                while (outcome := await writer.write(readings)).kind == "unavailable":
                    pass
                assert outcome.kind == "written", outcome
                inserted += outcome.inserted
            return inserted

        counts = await asyncio.gather(write_all(a, batches), write_all(b, batches[::-1]))
    assert sum(counts) == 8 * 500 == len(await _stored(connection))


@pytest.mark.parametrize("value", [math.inf, -math.inf])
async def test_an_infinite_value_is_refused_and_nothing_is_written(
    writer: ReadingWriter, connection: Connection, value: float
):
    outcome = await writer.write(batch(9, [START, START + 1], [1.0, value]))
    assert outcome.kind == "refused"
    assert "series 9" in outcome.reason
    assert await _stored(connection) == {}


@pytest.mark.parametrize("at", [FIRST_US - 1, LAST_US + 1, -(2**63), 2**63 - 1])
async def test_a_time_that_nobody_can_write_down_is_refused(writer: ReadingWriter, at: int):
    for observed_at, received_at in ((at, START), (START, at)):
        readings = Batch.of(
            [1, 1], [observed_at, START + 1], [received_at, START], [1.0, 2.0], [0, 0]
        )
        assert (await writer.write(readings)).kind == "refused"


@pytest.mark.parametrize("at", [FIRST_US, LAST_US - SECOND_US])
async def test_the_first_and_last_times_are_taken(
    writer: ReadingWriter, connection: Connection, at: int
):
    assert (await writer.write(batch(1, [at], [1.0]))).kind == "written"
    assert list(await _stored(connection)) == [(1, at)]


async def test_the_table_itself_takes_neither_nan_nor_infinity(connection: Connection):
    for value in ("NaN", "Infinity", "-Infinity"):
        with pytest.raises(psycopg.errors.CheckViolation):
            await connection.execute(
                "INSERT INTO readings VALUES (1, now(), now(), %s::float8, 0)", (value,)
            )


async def test_a_poison_row_is_refused_and_the_halves_without_it_are_written(
    writer: ReadingWriter, connection: Connection
):
    """What a pipeline does with ``refused``: halve, and in the end one row is left."""
    await connection.execute("ALTER TABLE readings ADD CHECK (value <> 13)")
    rest, poison = [_readings(1, 64)], []
    while rest:
        readings = rest.pop()
        outcome = await writer.write(readings)
        if outcome.kind == "written":
            assert outcome.inserted == len(readings)
        elif len(readings) == 1:
            assert outcome.kind == "refused"
            poison.append(readings)
        else:
            assert outcome.kind == "refused"
            half = len(readings) // 2
            rest += [readings.take(slice(half)), readings.take(slice(half, None))]
    assert [one.value.tolist() for one in poison] == [[13.0]]
    assert len(await _stored(connection)) == 63


async def test_copy_readings_fails_whole_on_a_duplicate(connection: Connection):
    await copy_readings(connection, _readings(1, 10))
    with pytest.raises(psycopg.errors.UniqueViolation):
        await copy_readings(connection, _readings(1, 10, 9))
    assert len(await _stored(connection)) == 10


# --- the database says no -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "state"),
    [
        ("lock_timeout", "55P03"),
        ("statement_timeout", "57014"),  # our own
    ],
)
async def test_a_lock_that_is_held_too_long_is_unavailable(
    dsn: str, connection: Connection, limit: str, state: str
):
    impatient = make_conninfo(dsn, options=f"-c {limit}=100")
    async with ReadingWriter(impatient) as writer:
        await writer.write(_readings(1, 1))
        async with connection.transaction():
            await connection.execute("LOCK TABLE readings IN ACCESS EXCLUSIVE MODE")
            outcome = await writer.write(_readings(1, 10))
            assert outcome.kind == "unavailable"
            assert state in outcome.reason
        assert await writer.write(_readings(1, 10)) == Outcome("written", 9, 1)


async def test_a_connection_that_was_ended_is_opened_again(
    writer: ReadingWriter, connection: Connection
):
    await writer.write(_readings(1, 1))
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'greenhouse-writer' AND datname = current_database()"
    )
    outcome = await writer.write(_readings(2, 10))
    assert outcome.kind == "unavailable"
    assert await writer.write(_readings(2, 10)) == Outcome("written", 10)


async def test_a_database_without_the_schema_is_misconfigured(database_dsn: str):
    async with ReadingWriter(database_dsn) as writer:
        outcome = await writer.write(_readings(1, 1))
        assert outcome.kind == "misconfigured"
        assert "42P01" in outcome.reason
        await migrate(database_dsn)
        assert await writer.write(_readings(1, 1)) == Outcome("written", 1)


async def test_a_read_only_database_is_misconfigured_until_it_is_mended(
    dsn: str, connection: Connection
):
    name = sql.Identifier(str(conninfo_to_dict(dsn)["dbname"]))
    switch = sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}")
    await connection.execute(switch.format(name, sql.Literal("on")))
    async with ReadingWriter(dsn) as writer:
        outcome = await writer.write(_readings(1, 1))
        assert outcome.kind == "misconfigured"
        assert "25006" in outcome.reason
        await connection.execute(switch.format(name, sql.Literal("off")))
        assert await writer.write(_readings(1, 1)) == Outcome("written", 1)


@asynccontextmanager
async def _user(connection: Connection, dsn: str) -> AsyncIterator[tuple[str, str]]:
    """Yield the name and the DSN of a user that may nothing yet."""
    name = f"writer_{conninfo_to_dict(dsn)['dbname']}"
    user = sql.Identifier(name)
    await connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x'").format(user))
    try:
        yield name, make_conninfo(dsn, user=name, password="x")
    finally:
        await connection.execute(sql.SQL("DROP OWNED BY {}").format(user))
        await connection.execute(sql.SQL("DROP ROLE {}").format(user))


async def test_a_missing_permission_is_misconfigured_until_it_is_granted(
    dsn: str, connection: Connection
):
    async with _user(connection, dsn) as (name, user_dsn), ReadingWriter(user_dsn) as writer:
        outcome = await writer.write(_readings(1, 5))
        assert outcome.kind == "misconfigured"
        assert "42501" in outcome.reason
        await grant(dsn, writer=name)
        assert await writer.write(_readings(1, 5)) == Outcome("written", 5)
        assert await writer.write(_readings(1, 10)) == Outcome("written", 5, 5)
        revoke = sql.SQL("REVOKE INSERT ON readings FROM {}").format(sql.Identifier(name))
        await connection.execute(revoke)
        assert (await writer.write(_readings(1, 20))).kind == "misconfigured"
    assert len(await _stored(connection)) == 10


async def test_an_unknown_database_or_user_is_misconfigured(dsn: str):
    for wrong in ({"dbname": "no_such_database"}, {"user": "no_such_user", "password": "x"}):
        async with ReadingWriter(make_conninfo(dsn, **wrong)) as writer:
            outcome = await writer.write(_readings(1, 1))
            assert outcome.kind == "misconfigured", outcome


# --- the database goes away ---------------------------------------------------------------------


async def test_a_stopped_server_is_unavailable_and_a_started_one_takes_the_same_batch(
    database_server: Callable,
):
    server = database_server()
    dsn = server.create_database("greenhouse")
    await migrate(dsn)
    async with ReadingWriter(dsn) as writer:
        await writer.write(_readings(1, 100))
        server.stop()
        outcome = await writer.write(_readings(1, 200))
        assert outcome.kind == "unavailable"
        assert (await writer.write(_readings(1, 200))).kind == "unavailable"
        server.start()
        assert await writer.write(_readings(1, 200)) == Outcome("written", 100, 100)


async def test_a_server_killed_under_load_loses_nothing_and_doubles_nothing(
    database_server: Callable, eventually: Callable
):
    server = database_server()
    dsn = server.create_database("greenhouse")
    await migrate(dsn)
    done = 0
    async with ReadingWriter(dsn) as writer:

        async def write_all() -> None:
            nonlocal done
            for n in range(60):
                readings = _readings(n, 500)
                while (outcome := await writer.write(readings)).kind != "written":
                    assert outcome.kind == "unavailable", outcome
                    await asyncio.sleep(0.01)  # the pace of who tries again
                assert outcome.inserted + outcome.duplicates == 500
                done += 1

        async def kill_twice() -> None:
            for after in (10, 30):
                await eventually(lambda after=after: done >= after)
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)

        await asyncio.gather(write_all(), kill_twice())
    assert done == 60
    connection = await connect(hardened(dsn, "test"), autocommit=True)
    stored = await _stored(connection)
    await connection.close()
    assert len(stored) == 60 * 500


async def test_a_commit_whose_answer_is_lost_is_a_duplicate_the_next_time(
    timescale_dsn: str, proxy: Callable
):
    await migrate(timescale_dsn)
    address = conninfo_to_dict(timescale_dsn)
    between = proxy(str(address["host"]), int(str(address["port"])))
    async with ReadingWriter(between.dsn(timescale_dsn), timeout_s=1.0) as writer:
        await writer.write(_readings(1, 10))
        await writer.write(_readings(1, 10, 10))
        between.corrupt(to_client=lambda chunk: b"" if b"COMMIT\0" in chunk else chunk)
        outcome = await writer.write(_readings(2, 100))
        assert outcome.kind == "unavailable"
        between.heal()
        assert await writer.write(_readings(2, 100)) == Outcome("written", 0, 100)


async def test_a_server_that_hangs_is_unavailable_in_time(timescale_dsn: str, proxy: Callable):
    await migrate(timescale_dsn)
    address = conninfo_to_dict(timescale_dsn)
    between = proxy(str(address["host"]), int(str(address["port"])))
    async with ReadingWriter(between.dsn(timescale_dsn), timeout_s=0.5) as writer:
        await writer.write(_readings(1, 10))
        between.blackhole()
        started = time.monotonic()
        outcome = await writer.write(_readings(2, 100))
        assert outcome.kind == "unavailable"
        assert time.monotonic() - started < 8  # a statement may take ten seconds by itself
        between.heal()
        between.cut()
        assert await writer.write(_readings(2, 100)) == Outcome("written", 100)


async def test_connections_that_are_all_taken_are_unavailable(
    database_server: Callable, eventually: Callable
):
    server = database_server({"max_connections": "12", "superuser_reserved_connections": "3"})
    dsn = server.create_database("greenhouse")
    await migrate(dsn)
    taken = []
    try:
        async with ReadingWriter(dsn) as writer:
            while True:
                try:
                    taken.append(await connect(hardened(dsn, "test")))
                except psycopg.OperationalError:
                    break
            outcome = await writer.write(_readings(1, 1))
            assert outcome.kind == "unavailable", outcome
            await taken.pop().close()

            async def is_written() -> bool:
                return (await writer.write(_readings(1, 1))).kind == "written"

            await eventually(is_written)
    finally:
        for connection in taken:
            await connection.close()


@given(at=st.lists(st.integers(-3, 300).map(lambda minutes: minutes * 20 * MINUTE_US), max_size=40))
def test_stretches_hold_every_reading_once_and_lie_apart(at: list[int]):
    readings = batch(1, at, [float(k) for k in range(len(at))])
    parts = stretches(readings)
    assert 1 <= len(parts) <= 16
    assert sorted(v for part in parts for v in part.value.tolist()) == readings.value.tolist()
    spans = [(part.observed_at_us.min(), part.observed_at_us.max()) for part in parts if len(part)]
    assert len(spans) == len(parts) or not at
    for (_, last), (first, _) in pairwise(spans):
        assert first - last > HOUR_US
    pauses = sum(later - earlier > HOUR_US for earlier, later in pairwise(sorted(at)))
    assert len(parts) == min(pauses + 1, 16)


def test_the_longest_pauses_cut_a_batch_that_has_many():
    at = [k * 2 * HOUR_US for k in range(30)] + [100 * DAY_US, 300 * DAY_US]
    parts = stretches(batch(1, at, [0.0] * len(at)))
    assert [part.observed_at_us.tolist() for part in parts[-2:]] == [[at[-2]], [at[-1]]]


async def test_readings_of_many_weeks_in_one_batch_are_written(
    writer: ReadingWriter, connection: Connection
):
    at = [START - k * 7 * DAY_US for k in range(60)]
    readings = batch(1, at, [float(k) for k in range(60)])
    assert await writer.write(readings) == Outcome("written", 60)
    assert len(await _stored(connection)) == 60


async def test_what_is_written_of_watched_series_is_noted_however_many_and_however_far_apart(
    dsn: str, pool: Pool
):
    """In few rows, each series at least from its first to its last reading, and no other series."""
    rng = np.random.default_rng(3)
    start, size = us(2025, 5, 1), 5_000
    for round_ in range(6):
        series_id = rng.integers(0, 3_000, size).astype(np.int32)
        at = start + round_ * DAY_US + rng.integers(0, 60 * SECOND_US, size)
        wide = rng.random(size) < 0.02
        at[wide] -= rng.integers(0, 5 * DAY_US, int(wide.sum()))
        readings = Batch(series_id, at, at, np.zeros(size), np.zeros(size, np.int32))
        watched = set(rng.choice(3_500, 2_000 if round_ % 2 else 20, replace=False).tolist())
        async with ReadingWriter(dsn) as writer:
            writer.watch(watched)
            assert (await writer.write(readings)).kind == "written"
        store = DerivedStore(pool)
        changes = await store.pending(100)
        assert 1 <= len(changes) <= 6
        await store.rework([], 0, [one.id for one in changes])
        noted: dict[int, list[tuple[int, int]]] = {}
        for change in changes:
            for one, *span in zip(change.series_ids, change.first_us, change.last_us, strict=True):
                noted.setdefault(one, []).append(tuple(span))
        for one in watched:
            moments = at[series_id == one]
            assert (one in noted) == bool(len(moments))
            for moment in moments:
                assert any(first <= moment <= last for first, last in noted[one])
        close = {one for one in noted if np.ptp(at[series_id == one]) < 60 * SECOND_US}
        assert all(last - first <= 600 * SECOND_US for one in close for first, last in noted[one])
