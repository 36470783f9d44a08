"""The pool for reads: a restart of the server costs milliseconds, its absence a clear error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from storage.errors import DatabaseMisconfigured, DatabaseUnavailable, DataRefused
from storage.pool import Connection, Pool, connect, hardened

_TRIES = 3  # the machine may stall; it does not do so every time


async def _one(connection: Connection) -> int:
    row = await (await connection.execute("SELECT 1")).fetchone()
    assert row is not None
    return int(row[0])


def _statement(text: str) -> Callable:
    async def run(connection: Connection) -> None:
        await connection.execute(text.encode())

    return run


def test_a_dsn_is_given_limits_and_keeps_its_own():
    made = conninfo_to_dict(
        hardened("postgresql://u@h/db?connect_timeout=9&options=-c%20a.b%3D1", "x")
    )
    assert made["host"] == "h" and made["user"] == "u" and made["dbname"] == "db"
    assert made["connect_timeout"] in ("9", 9)
    assert str(made["tcp_user_timeout"]) == "8000"
    assert made["application_name"] == "x"
    options = str(made["options"])
    assert "statement_timeout=10000" in options and "lock_timeout=3000" in options
    assert options.endswith("-c a.b=1")


async def test_the_limits_hold_in_a_session(database_dsn: str):
    connection = await connect(hardened(database_dsn, "greenhouse-test"))
    shown = {}
    for name in ("statement_timeout", "lock_timeout", "application_name", "timezone"):
        row = await (await connection.execute(f"SHOW {name}".encode())).fetchone()
        assert row is not None
        shown[name] = row[0]
    await connection.close()
    assert shown == {
        "statement_timeout": "10s",
        "lock_timeout": "3s",
        "application_name": "greenhouse-test",
        "timezone": "UTC",
    }


async def test_connections_that_were_ended_cost_one_retry(database_dsn: str):
    async with Pool(database_dsn) as pool:

        async def held(connection: Connection) -> None:
            await connection.execute("SELECT pg_sleep(0.05)")

        await asyncio.gather(*(pool.run(held) for _ in range(6)))
        killer = await connect(hardened(database_dsn, "killer"), autocommit=True)
        took_s = []
        for _ in range(_TRIES):
            await killer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'greenhouse-reads' AND datname = current_database()"
            )
            started = time.monotonic()
            answers = await asyncio.gather(*(pool.run(_one) for _ in range(6)))
            took_s.append(time.monotonic() - started)
            assert answers == [1] * 6
        await killer.close()
        assert min(took_s) < 1  # the pool's own check of its connections takes a second at least


async def test_a_restarted_server_is_used_again_at_once(database_server: Callable):
    server = database_server()
    async with Pool(server.dsn) as pool:
        took_s = []
        for _ in range(_TRIES):
            assert await pool.run(_one) == 1
            server.restart()
            started = time.monotonic()
            assert await pool.run(_one) == 1
            took_s.append(time.monotonic() - started)
        assert min(took_s) < 1


async def test_a_stopped_server_is_unavailable_in_time_and_a_started_one_is_found(
    database_server: Callable, eventually: Callable
):
    server = database_server()
    async with Pool(server.dsn, timeout_s=0.5) as pool:
        assert await pool.run(_one) == 1
        server.stop()
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
            await pool.run(_one)
        assert time.monotonic() - started < 8  # the system's own limit is ten seconds and more
        server.start()

        async def answers() -> bool:
            try:
                return await pool.run(_one) == 1
            except DatabaseUnavailable:
                return False

        await eventually(answers, timeout_s=10)


async def test_a_server_that_hangs_is_unavailable_in_time(timescale_dsn: str, proxy: Callable):
    address = conninfo_to_dict(timescale_dsn)
    between = proxy(str(address["host"]), int(str(address["port"])))
    dsn = between.dsn(timescale_dsn)
    async with Pool(dsn, timeout_s=20.0, statement_timeout_s=18.0) as pool:
        assert await pool.run(_one) == 1
        between.blackhole()
        patient_s, pool._answer_within_s = pool._answer_within_s, 0.5
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable, match="no answer within"):
            await pool.run(_one)
        assert time.monotonic() - started < 8  # 20 s where the limit is not kept
        between.heal()
        between.cut()
        pool._answer_within_s = patient_s
        assert await pool.run(_one) == 1


async def test_a_pool_that_is_used_up_is_unavailable_in_time(database_dsn: str):
    async with Pool(database_dsn, max_size=1, timeout_s=0.2) as pool:
        taken, done = asyncio.Event(), asyncio.Event()

        async def hold(connection: Connection) -> None:
            taken.set()
            await done.wait()

        holding = asyncio.create_task(pool.run(hold), name="holding")
        await taken.wait()
        took_s = []
        for _ in range(_TRIES):
            started = time.monotonic()
            with pytest.raises(DatabaseUnavailable):
                await pool.run(_one)
            took_s.append(time.monotonic() - started)
        assert min(took_s) < 1  # two seconds unless said
        done.set()
        await holding


async def test_each_kind_of_error_has_its_class(database_dsn: str):
    async with Pool(database_dsn, statement_timeout_s=0.2) as pool:
        for statement, wanted in (
            ("SELECT pg_sleep(5)", DatabaseUnavailable),
            ("SELECT * FROM no_such_table", DatabaseMisconfigured),
            ("SELECT 1 / 0", DataRefused),
        ):
            with pytest.raises(wanted) as caught:
                await pool.run(_statement(statement))
            assert isinstance(caught.value.__cause__, psycopg.Error)
        assert await pool.run(_one) == 1


async def test_an_error_of_the_work_itself_is_not_wrapped(database_dsn: str):
    async def broken(connection: Connection) -> None:
        raise KeyError("ours")

    async with Pool(database_dsn) as pool:
        with pytest.raises(KeyError):
            await pool.run(broken)


async def test_a_changed_table_does_not_break_a_statement_for_ever(database_dsn: str):
    """With prepared statements, 0A000 would come back at every try."""
    async with Pool(database_dsn, max_size=1) as pool:
        await pool.run(_statement("CREATE TABLE shape (a integer)"))
        for _ in range(8):
            await pool.run(_statement("SELECT * FROM shape"))
        other = await connect(hardened(database_dsn, "other"), autocommit=True)
        await other.execute("ALTER TABLE shape ADD b text")
        await other.close()
        await pool.run(_statement("SELECT * FROM shape"))


async def test_a_wrong_database_is_misconfigured_or_unavailable(database_dsn: str):
    async with Pool(make_conninfo(database_dsn, dbname="no_such"), timeout_s=0.5) as pool:
        with pytest.raises((DatabaseMisconfigured, DatabaseUnavailable)):
            await pool.run(_one)


@pytest.mark.parametrize("after_ms", range(0, 60, 4))
async def test_a_cancellation_is_never_lost_while_a_connection_comes(dsn: str, after_ms: int):
    async def work(pool: Pool) -> str:
        await pool.run(lambda connection: connection.execute("SELECT 1"))
        task = asyncio.current_task()
        return "lost" if task and task.cancelling() else "in time"

    async with Pool(dsn) as pool:
        task = asyncio.create_task(work(pool))
        await asyncio.sleep(after_ms / 1000)  # any moment is a moment to be cancelled
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.result() == "in time"
