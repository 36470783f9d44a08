"""What a caller of the database can be told, and which kind a driver's error is of.

The kinds follow what a person or a program does next: try again, leave out the row, or mend the
setup.  They are read off the SQLSTATE; an error without one never reached a server's verdict.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

Trouble = Literal["unavailable", "refused", "misconfigured"]


class StorageError(Exception):
    """Root of this package's errors; *kind* is None where it is not about something offered."""

    kind: ClassVar[Trouble | None] = None


class DatabaseUnavailable(StorageError):
    """The database did not answer, or not in time; nothing is wrong with what was asked."""

    kind = "unavailable"


class DatabaseMisconfigured(StorageError):
    """A person must mend something: credentials, permissions, a table, a read-only server."""

    kind = "misconfigured"


class DataRefused(StorageError):
    """The database can never take this value; the message names it."""

    kind = "refused"


class MigrationError(StorageError):
    """The schema and this program do not belong together."""


class SchemaTooNew(MigrationError):
    """The database was migrated by a newer program; this one must not touch it."""


class MigrationChanged(MigrationError):
    """A migration was edited after it had been applied to this database."""


# Exact states first, then classes (the first two characters).  A batch that met one of the
# "unavailable" is offered again as it is.
_STATES: dict[str, Trouble] = {
    "25006": "misconfigured",  # read-only: a standby, or default_transaction_read_only
    "0A000": "unavailable",  # a cached plan went stale: a new connection has none
    "21000": "refused",
}
_CLASSES: dict[str, Trouble] = {
    "08": "unavailable",  # connection
    "25": "unavailable",  # transaction state, such as an idle session that was ended
    "40": "unavailable",  # serialisation failure, deadlock
    "53": "unavailable",  # disk full, too many connections, out of memory
    "55": "unavailable",  # lock not available
    "57": "unavailable",  # shutdown, crash, our own statement timeout
    "58": "unavailable",  # input or output of the server
    "XX": "unavailable",  # the server's own fault
    "22": "refused",  # data
    "23": "refused",  # constraint
    "28": "misconfigured",  # password
    "3D": "misconfigured",  # no such database
    "3F": "misconfigured",  # no such schema
    "42": "misconfigured",  # missing table or permission
    "0L": "misconfigured",
    "0P": "misconfigured",
}


def trouble(error: BaseException) -> Trouble:
    """Return which kind *error* is of; raise it again when it is none of the database's."""
    if isinstance(error, (PoolTimeout, PoolClosed, TooManyRequests, TimeoutError, OSError)):
        return "unavailable"
    if isinstance(error, StorageError) and error.kind is not None:
        return error.kind
    if not isinstance(error, (psycopg.Error, UnicodeEncodeError)):
        raise error
    if isinstance(error, UnicodeEncodeError):
        return "refused"
    state = error.sqlstate
    if state is None:
        # Found on our side: a value that cannot be written, or a connection that is gone.  A
        # refused log-in has no state either: libpq reports it as text only.
        if isinstance(error, psycopg.DataError):
            return "refused"
        return "misconfigured" if _is_refused_login(error) else "unavailable"
    return _STATES.get(state) or _CLASSES.get(state[:2], "unavailable")


def reason(error: BaseException) -> str:
    """Return one line that says what happened, for a log or an outcome."""
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{text} (SQLSTATE {state})" if state else text


def wrapped(error: BaseException) -> StorageError:
    """Return the error of this package that stands for the driver's *error*."""
    kind = trouble(error)
    if kind == "unavailable":
        return DatabaseUnavailable(reason(error))
    if kind == "misconfigured":
        return DatabaseMisconfigured(reason(error))
    return DataRefused(reason(error))


def _is_refused_login(error: psycopg.Error) -> bool:
    text = str(error)
    return "FATAL" in text and any(
        sign in text
        for sign in (
            "authentication failed",
            "no pg_hba.conf entry",
            "does not exist",
            "permission denied",
            "is not permitted to log in",
        )
    )
