"""Connections that notice a dead server, and a pool for reads that survives a restart of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from storage.errors import trouble, wrapped

Connection = psycopg.AsyncConnection[TupleRow]
T = TypeVar("T")

CONNECT_TIMEOUT_S = 3
# A server that vanished is noticed within about 25 s when idle and 8 s when we are sending.
_LIVELINESS: dict[str, str | int] = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 8000,
}


def hardened(
    dsn: str,
    application_name: str,
    *,
    statement_timeout_s: float = 10.0,
    lock_timeout_s: float = 3.0,
    idle_in_transaction_timeout_s: float = 15.0,
) -> str:
    """Return *dsn* with time limits for everything that can hang; what *dsn* says itself wins.

    A limit of 0 is none.  All sessions run in UTC.
    """
    given = conninfo_to_dict(dsn)
    limits = {
        "statement_timeout": round(statement_timeout_s * 1000),
        "lock_timeout": round(lock_timeout_s * 1000),
        "idle_in_transaction_session_timeout": round(idle_in_transaction_timeout_s * 1000),
        "timezone": "UTC",
    }
    options = " ".join(f"-c {name}={value}" for name, value in limits.items())
    own = str(given.pop("options", None) or "")
    merged = {
        **_LIVELINESS,
        "application_name": application_name,
        **{name: value for name, value in given.items() if value is not None},
        "options": f"{options} {own}".strip(),
    }
    return make_conninfo("", **merged)


async def connect(conninfo: str, *, autocommit: bool = False) -> Connection:
    """Open one connection; prepared statements are off, so no plan outlives a change of schema.

    Raises the driver's errors.  The caller closes it.
    """
    return await psycopg.AsyncConnection.connect(
        conninfo, autocommit=autocommit, prepare_threshold=None
    )


class Pool:
    """A few connections for short statements that may safely be run twice.

    ``async with Pool(dsn) as pool`` opens it without waiting for a server, and closes it.  When all
    *max_size* connections are in use for *timeout_s*, or no server answers for that long, the
    caller gets `DatabaseUnavailable`.
    """

    def __init__(
        self,
        dsn: str,
        *,
        max_size: int = 8,
        timeout_s: float = 2.0,
        statement_timeout_s: float = 10.0,
        application_name: str = "greenhouse-reads",
    ) -> None:
        # No `check`: with stale connections it waits 1 + 2 + 4 s between tries.  A failed statement
        # is tried once more on a fresh connection instead, which takes milliseconds.
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            hardened(dsn, application_name, statement_timeout_s=statement_timeout_s),
            min_size=0,
            max_size=max_size,
            timeout=timeout_s,
            open=False,
            kwargs={"autocommit": True, "prepare_threshold": None},
            reconnect_timeout=timeout_s,
            name=application_name,
        )

    async def __aenter__(self) -> Self:
        await self._pool.open(wait=False)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._pool.close()

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Return what *work* returns for a connection in autocommit mode.

        *work* is run once more when the connection turns out to be dead, so it must be harmless
        twice.  Raises `DatabaseUnavailable`, `DatabaseMisconfigured` or `DataRefused`.
        """
        try:
            return await self._once(work)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if not _is_stale(error):
                raise wrapped(error) from error
        except (psycopg.Error, UnicodeEncodeError, OSError) as error:
            raise wrapped(error) from error
        try:
            await self._pool.check()
            return await self._once(work)
        except (psycopg.Error, UnicodeEncodeError, OSError) as error:
            raise wrapped(error) from error

    async def _once(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._pool.connection() as connection:
            return await work(connection)


def _is_stale(error: psycopg.Error) -> bool:
    """Whether another connection may do better: the server ended this one, or it broke."""
    if isinstance(error, (PoolTimeout, PoolClosed, TooManyRequests)):
        return False
    state = error.sqlstate
    return trouble(error) == "unavailable" and (
        state is None or state[:2] == "08" or state in ("57P01", "57P02", "57P03", "25P03", "0A000")
    )
