"""What the service's database users may do: the owner migrates, the writer adds, the reader reads.

The users themselves are made by whoever runs the server; their passwords are no business of ours.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

from storage.errors import wrapped
from storage.pool import connect, hardened
from storage.statements import statements


async def grant(dsn: str, *, writer: str | None = None, reader: str | None = None) -> None:
    """Let the existing users *writer* and *reader* do their work and nothing else.

    *dsn* is the owner's.  Twice is harmless; run it after each migration, for what that added.
    Raises the errors of `storage.errors`.
    """
    try:
        connection = await connect(hardened(dsn, "greenhouse-grants"))
        try:
            async with connection.transaction():
                for name, user in (("reader", reader), ("reader", writer), ("writer", writer)):
                    if user is not None:
                        statement = sql.SQL(_SQL[name].decode())
                        await connection.execute(statement.format(user=sql.Identifier(user)))
        finally:
            await connection.close()
    except (psycopg.Error, OSError) as error:
        raise wrapped(error) from error


_SQL = statements("grants")
