"""Brings a database to this program's schema: numbered files, forward only, each exactly once.

``sql/migrations/NNNN_name.sql`` holds for every edition; ``NNNN_name.<edition>.sql`` is applied
after it where it fits (``timescaledb`` stands for both of its editions).  A file whose first line
is ``-- outside a transaction`` is run statement by statement, each of which must be harmless when
run again; every other migration is applied whole or not at all.

A database keeps the edition that it was first migrated for: a server that later offers more, or
less, does not change what the schema is made of.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import psycopg

from storage.editions import Edition, detect
from storage.errors import MigrationChanged, MigrationError, SchemaTooNew, wrapped
from storage.pool import Connection, connect, hardened
from storage.statements import statements

OLDEST_SERVER = 150000
_OUTSIDE = "-- outside a transaction\n"
_FILE = re.compile(r"(\d{4})_(\w+)(?:\.(\w+))?\.sql")
_TAGS = {
    Edition.POSTGRESQL: (None, "postgresql"),
    Edition.TIMESCALEDB_APACHE: (None, "timescaledb", "timescaledb_apache"),
    Edition.TIMESCALEDB_COMMUNITY: (None, "timescaledb", "timescaledb_community"),
}
_LOCK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema for one edition; *texts* are its files in the order of application."""

    number: int
    name: str
    texts: tuple[str, ...]

    @property
    def checksum(self) -> str:
        """Tells whether a file was edited after it had been applied."""
        return hashlib.sha256("\0".join(self.texts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Report:
    """What `migrate` found and did; *applied* are the names of what it applied now.

    *edition* is what the schema is made for, *server* what the server offers today.
    """

    edition: Edition
    server: Edition
    version: int
    applied: tuple[str, ...]


@cache
def migrations(edition: Edition) -> tuple[Migration, ...]:
    """Return the migrations for *edition*, in order."""
    found: dict[int, list[tuple[int, str, str]]] = {}
    for file in (files("storage") / "sql" / "migrations").iterdir():
        match = _FILE.fullmatch(file.name)
        if match is None:
            continue
        number, name, tag = match.groups()
        if tag in _TAGS[edition]:
            rank = _TAGS[edition].index(tag)
            found.setdefault(int(number), []).append((rank, name, file.read_text("utf-8")))
    return tuple(
        Migration(number, parts[0][1], tuple(text for _, _, text in parts))
        for number, parts in sorted((number, sorted(parts)) for number, parts in found.items())
    )


async def migrate(dsn: str) -> Report:
    """Bring the database at *dsn* to this program's schema and return what was done.

    Twice is harmless; of several that start at once one works and the others wait for it.  Needs
    the owner of the schema.  Raises `SchemaTooNew` and `MigrationChanged` before anything is
    touched, `MigrationError` for a server that is too old, and `DatabaseUnavailable` or
    `DatabaseMisconfigured`.
    """
    # A change of the schema may take as long as it needs; what it waits for, too.
    limits = {"statement_timeout_s": 0.0, "lock_timeout_s": 0.0, "idle_in_transaction_timeout_s": 0}
    conninfo = hardened(dsn, "greenhouse-migrate", **limits)
    try:
        connection = await connect(conninfo, autocommit=True)
        try:
            return await _under_lock(connection)
        finally:
            await connection.close()
    except (psycopg.Error, OSError) as error:
        raise wrapped(error) from error


async def schema_edition(connection: Connection) -> Edition:
    """Return the edition that the schema behind *connection* was made for.

    Raises `MigrationError` where there is no schema yet.
    """
    applied = await _applied(connection)
    if not applied:
        raise MigrationError("this database was never migrated")
    return Edition(applied[0].edition)


async def _under_lock(connection: Connection) -> Report:
    # The lock is in the database: there is nothing on our side to wait for.
    while not await _value(connection, "lock"):  # noqa: ASYNC110
        await asyncio.sleep(_LOCK_EVERY_S)
    try:
        return await _migrate(connection)
    finally:
        if not connection.broken:
            await connection.execute(_SQL["unlock"])


async def _migrate(connection: Connection) -> Report:
    version = await _value(connection, "version")
    if version < OLDEST_SERVER:
        raise MigrationError(f"PostgreSQL {OLDEST_SERVER // 10000} or newer is needed: {version}")
    applied = await _applied(connection)
    if applied:
        edition = Edition(applied[0].edition)
        server = await detect(connection)
    else:
        edition = server = await _install(connection)
    wanted = migrations(edition)
    waiting = _waiting(wanted, applied)
    if not applied:
        await connection.execute(_SQL["create"])
    for migration in waiting:
        await _apply(connection, migration, edition)
    names = tuple(f"{one.number:04}_{one.name}" for one in waiting)
    return Report(edition, server, wanted[-1].number, names)


@dataclass(frozen=True, slots=True)
class _Applied:
    number: int
    name: str
    edition: str
    checksum: str


async def _applied(connection: Connection) -> list[_Applied]:
    if not await _value(connection, "exists"):
        return []
    return [_Applied(*row) async for row in await connection.execute(_SQL["applied"])]


def _waiting(wanted: Sequence[Migration], applied: Sequence[_Applied]) -> list[Migration]:
    """Return what is still to be applied; raise when the two do not belong together."""
    known = {migration.number: migration for migration in wanted}
    for past in applied:
        if past.number > wanted[-1].number:
            raise SchemaTooNew(
                f"the database is at migration {applied[-1].number:04}_{applied[-1].name}, this "
                f"program knows up to {wanted[-1].number:04}: use the program that migrated it, "
                "or a newer one"
            )
        if past.number not in known or known[past.number].checksum != past.checksum:
            raise MigrationChanged(
                f"migration {past.number:04}_{past.name} is not the one that this database was "
                "made with: applied migrations are never edited, add a new one"
            )
    done = {past.number for past in applied}
    return [migration for migration in wanted if migration.number not in done]


async def _install(connection: Connection) -> Edition:
    """Install TimescaleDB where the server has it loaded, and return the edition."""
    if await _value(connection, "preloaded", "editions"):
        await connection.execute(statements("editions")["install"])
    return await detect(connection)


async def _apply(connection: Connection, migration: Migration, edition: Edition) -> None:
    for text in migration.texts:
        if text.startswith(_OUTSIDE):
            for statement in _split(text):
                await connection.execute(statement.encode())
    async with connection.transaction():
        for text in migration.texts:
            if not text.startswith(_OUTSIDE):
                await connection.execute(text.encode())
        await connection.execute(
            _SQL["record"],
            {
                "number": migration.number,
                "name": migration.name,
                "edition": edition.value,
                "checksum": migration.checksum,
            },
        )


def _split(text: str) -> list[str]:
    """Return the statements of a file in which each ends with a line that ends with a semicolon."""
    plain = re.sub(r"^--.*\n", "", text, flags=re.MULTILINE)
    parts = re.split(r";$", plain, flags=re.MULTILINE)
    return [statement.strip() for statement in parts if statement.strip()]


_SQL = statements("migrate")


async def _value(connection: Connection, name: str, subject: str = "migrate") -> int:
    row = await (await connection.execute(statements(subject)[name])).fetchone()
    if row is None:
        raise MigrationError(f"the server answered nothing to {name!r}")
    value: int = row[0]
    return value
