"""Which level of database we stand on; one schema fits all three."""

from __future__ import annotations

from enum import StrEnum

from storage.pool import Connection
from storage.statements import statements

# Since 2.28 a continuous aggregate can be refreshed in parts of a size we choose, so that a long
# refresh is many short transactions.  An older server is used as if it were the Apache edition.
OLDEST_COMMUNITY = [2, 28]


class Edition(StrEnum):
    """Levels of database, the plainest first."""

    POSTGRESQL = "postgresql"
    TIMESCALEDB_APACHE = "timescaledb_apache"
    TIMESCALEDB_COMMUNITY = "timescaledb_community"

    @property
    def has_hypertables(self) -> bool:
        """Whether readings lie in chunks that can be dropped whole."""
        return self is not Edition.POSTGRESQL

    @property
    def has_continuous_aggregates(self) -> bool:
        """Whether the server keeps roll-ups itself, and has the columnstore."""
        return self is Edition.TIMESCALEDB_COMMUNITY


async def detect(connection: Connection) -> Edition:
    """Return the edition that the server offers to this database.

    TimescaleDB counts when its extension is installed in the database; a server that has it loaded
    but not installed here is plain until `storage.migrate.migrate` has installed it.
    """
    cursor = await connection.execute(statements("editions")["detect"])
    row = await cursor.fetchone()
    version, licence = row if row else (None, None)
    if version is None:
        return Edition.POSTGRESQL
    if licence == "timescale" and version >= OLDEST_COMMUNITY:
        return Edition.TIMESCALEDB_COMMUNITY
    return Edition.TIMESCALEDB_APACHE
