"""What the tests of this room share: a migrated database, and readings made by a seed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from storage.grants import grant
from storage.migrate import migrate
from storage.pool import Connection, Pool, connect, hardened


@pytest.fixture
async def dsn(database_dsn: str) -> str:
    """A migrated database, once on TimescaleDB and once on plain PostgreSQL."""
    await migrate(database_dsn)
    return database_dsn


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    async with Pool(dsn) as made:
        yield made


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[Connection]:
    """A session of the owner, in autocommit mode."""
    made = await connect(hardened(dsn, "test"), autocommit=True)
    yield made
    await made.close()


@pytest.fixture
async def users(dsn: str, connection: Connection) -> AsyncIterator[dict[str, str]]:
    """DSNs of a granted writer and reader; granting twice is harmless."""
    database = conninfo_to_dict(dsn)["dbname"]
    names = {role: f"{role}_{database}" for role in ("writer", "reader")}
    for name in names.values():
        statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x'")
        await connection.execute(statement.format(sql.Identifier(name)))
    await grant(dsn, **names)
    await grant(dsn, **names)
    yield {role: make_conninfo(dsn, user=name, password="x") for role, name in names.items()}
    for name in names.values():
        user = sql.Identifier(name)
        await connection.execute(sql.SQL("DROP OWNED BY {}").format(user))
        await connection.execute(sql.SQL("DROP ROLE {}").format(user))
