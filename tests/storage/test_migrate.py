"""The schema: each migration once, whoever starts, and never against the wrong database."""

from __future__ import annotations

import asyncio
import re
from importlib.resources import files

import pytest

from storage import migrate as module
from storage.editions import Edition, detect
from storage.errors import (
    DatabaseMisconfigured,
    DatabaseUnavailable,
    MigrationChanged,
    MigrationError,
    SchemaTooNew,
)
from storage.migrate import Migration, migrate, migrations, schema_edition
from storage.pool import connect, hardened


async def _schema(dsn: str) -> list[tuple]:
    connection = await connect(hardened(dsn, "test"), autocommit=True)
    try:
        cursor = await connection.execute(
            "SELECT table_name, column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = 'public' ORDER BY 1, 2"
        )
        return await cursor.fetchall()
    finally:
        await connection.close()


async def test_migrating_twice_is_harmless(database_dsn: str):
    first = await migrate(database_dsn)
    schema = await _schema(database_dsn)
    second = await migrate(database_dsn)
    assert first.applied[0] == "0001_registry"
    assert second.applied == ()
    assert (second.edition, second.version) == (first.edition, first.version)
    assert await _schema(database_dsn) == schema


async def test_several_that_start_at_once_apply_each_migration_once(database_dsn: str):
    reports = await asyncio.gather(*(migrate(database_dsn) for _ in range(5)))
    applied = [name for report in reports for name in report.applied]
    assert len(applied) == len(set(applied)) == len(migrations(reports[0].edition))


async def test_a_server_with_timescaledb_loaded_gets_it_installed(timescale_dsn: str):
    report = await migrate(timescale_dsn)
    assert report.edition is not Edition.POSTGRESQL
    connection = await connect(hardened(timescale_dsn, "test"), autocommit=True)
    assert await detect(connection) is report.edition is await schema_edition(connection)
    await connection.close()


async def test_a_plain_server_is_plain(plain_dsn: str):
    assert (await migrate(plain_dsn)).edition is Edition.POSTGRESQL


async def test_every_edition_has_the_same_tables_and_rollups(timescale_dsn: str, plain_dsn: str):
    await migrate(timescale_dsn)
    await migrate(plain_dsn)
    ours = [row for row in await _schema(timescale_dsn) if not row[0].startswith("rollup_")]
    assert ours == await _schema(plain_dsn)


async def _change(dsn: str, statement: str) -> None:
    connection = await connect(hardened(dsn, "test"), autocommit=True)
    await connection.execute(statement.encode())
    await connection.close()


async def test_a_database_of_a_newer_program_is_refused_untouched(database_dsn: str):
    await migrate(database_dsn)
    await _change(
        database_dsn,
        "INSERT INTO migrations (number, name, edition, checksum)"
        " SELECT 9999, 'tomorrow', edition, 'x' FROM migrations LIMIT 1",
    )
    schema = await _schema(database_dsn)
    with pytest.raises(SchemaTooNew, match="9999_tomorrow"):
        await migrate(database_dsn)
    assert await _schema(database_dsn) == schema


async def test_an_edited_migration_is_refused(database_dsn: str):
    await migrate(database_dsn)
    await _change(database_dsn, "UPDATE migrations SET checksum = 'x' WHERE number = 2")
    with pytest.raises(MigrationChanged, match="0002_readings"):
        await migrate(database_dsn)


async def test_a_migration_that_fails_leaves_nothing_of_itself(
    database_dsn: str, monkeypatch: pytest.MonkeyPatch
):
    real = module.migrations

    def with_a_bad_one(edition: Edition) -> tuple[Migration, ...]:
        bad = Migration(9000, "bad", ("CREATE TABLE half_done (a integer); SELECT 1 / 0;",))
        return (*real(edition), bad)

    monkeypatch.setattr(module, "migrations", with_a_bad_one)
    with pytest.raises(Exception, match="division by zero"):
        await migrate(database_dsn)
    assert not any(table == "half_done" for table, _, _ in await _schema(database_dsn))
    monkeypatch.setattr(module, "migrations", real)
    assert (await migrate(database_dsn)).applied == ()


async def test_statements_outside_a_transaction_are_run_one_by_one(
    database_dsn: str, monkeypatch: pytest.MonkeyPatch
):
    """VACUUM refuses to run in a transaction, and in a string of several statements."""
    text = "-- outside a transaction\n-- tidy; up\nVACUUM sites;\nVACUUM devices;\n"
    real = module.migrations

    def with_vacuum(edition: Edition) -> tuple[Migration, ...]:
        return (*real(edition), Migration(9000, "vacuum", (text,)))

    monkeypatch.setattr(module, "migrations", with_vacuum)
    assert (await migrate(database_dsn)).applied[-1] == "9000_vacuum"


async def test_a_server_that_is_too_old_is_refused(
    database_dsn: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "OLDEST_SERVER", 990000)
    with pytest.raises(MigrationError, match="PostgreSQL 99 or newer"):
        await migrate(database_dsn)
    assert await _schema(database_dsn) == []


async def test_a_database_that_was_never_migrated_has_no_edition(database_dsn: str):
    connection = await connect(hardened(database_dsn, "test"), autocommit=True)
    with pytest.raises(MigrationError, match="never migrated"):
        await schema_edition(connection)
    await connection.close()


async def test_no_server_is_unavailable():
    with pytest.raises(DatabaseUnavailable):
        await migrate("postgresql://nobody@127.0.0.1:1/none")


async def test_an_unknown_database_is_misconfigured(database_dsn: str):
    from psycopg.conninfo import make_conninfo

    with pytest.raises(DatabaseMisconfigured, match="no_such_database"):
        await migrate(make_conninfo(database_dsn, dbname="no_such_database"))


@pytest.mark.parametrize("edition", list(Edition))
def test_migrations_are_numbered_once_and_named_alike(edition: Edition):
    found = migrations(edition)
    assert [one.number for one in found] == sorted({one.number for one in found})
    assert all(one.texts for one in found)


def test_every_file_is_used_by_some_edition():
    names = [file.name for file in (files("storage") / "sql" / "migrations").iterdir()]
    used = {text for edition in Edition for one in migrations(edition) for text in one.texts}
    for name in names:
        text = (files("storage") / "sql" / "migrations" / name).read_text("utf-8")
        assert text in used, f"{name} belongs to no edition"
    stems = {}
    for name in names:
        number, rest = name.split("_", 1)
        stems.setdefault(number, set()).add(rest.split(".")[0])
    assert all(len(names) == 1 for names in stems.values()), stems


def test_every_named_statement_says_what_it_is_for():
    for file in (files("storage") / "sql" / "queries").iterdir():
        text = file.read_text("utf-8")
        names = re.findall(r"^-- name: (\w+)\n(.*)$", text, re.MULTILINE)
        assert names and text.startswith("-- name: "), file.name
        for name, purpose in names:
            assert purpose.startswith("-- "), f"{file.name}: {name}"
