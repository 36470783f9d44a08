"""What the tests of this room share: a migrated database, and readings made by a seed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

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
