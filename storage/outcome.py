"""What became of something that was offered to the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from storage.errors import StorageError, reason, trouble
from storage.pool import Connection, Pool

Kind = Literal["written", "unavailable", "refused", "misconfigured"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """``written`` is durable; anything else kept nothing, and *reason* is one line for the log.

    *inserted* rows were new, *duplicates* were there already, *conflicts* of those held another
    value.  ``unavailable``: offer the same again.  ``refused``: some row can never be taken.
    ``misconfigured``: nothing can be taken until a person mends something.
    """

    kind: Kind
    inserted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    reason: str = ""

    @staticmethod
    def failed(error: BaseException) -> Outcome:
        """Return the outcome that *error* stands for; raise one that is not the database's."""
        return Outcome(trouble(error), reason=reason(error))


async def put_columns(
    pool: Pool, statement: bytes, columns: Mapping[str, object], offered: int
) -> Outcome:
    """Run *statement*, whose rows tell whether each was inserted, and return what became of them.

    Rows of the *offered* that it did not insert were there already.
    """

    async def put(connection: Connection) -> int:
        cursor = await connection.execute(statement, columns)
        return sum([inserted async for (inserted,) in cursor])

    try:
        inserted = await pool.run(put)
    except StorageError as error:
        return Outcome.failed(error)
    return Outcome("written", inserted, offered - inserted)
