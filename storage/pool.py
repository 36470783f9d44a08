"""Connections that notice a dead server, and a pool for reads that survives a restart of it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow, dict_row
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
        # Statements over many chunks look expensive; compiling one took 3.4 s, running it 24 ms.
        "jit": "off",
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


class NoAnswer(psycopg.OperationalError):
    """We gave a connection up because the other side did not answer in time."""


@contextmanager
def hang_up_after(connection: Connection, limit_s: float) -> Iterator[None]:
    """Break *connection* when the block takes longer than *limit_s*; who waits on it then gets
    `NoAnswer`.

    Cancelling instead would ask the server to cancel and wait ten seconds for a server that hangs.
    """
    overdue = False

    def hang_up() -> None:
        nonlocal overdue
        overdue = True
        if not connection.closed:
            # The driver goes on owning its socket; it reads the end of it at once.
            with socket.socket(fileno=os.dup(connection.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)

    timer = asyncio.get_running_loop().call_later(limit_s, hang_up)
    try:
        yield
    except psycopg.OperationalError as error:
        if overdue:
            raise NoAnswer(f"no answer within {limit_s:g} s") from error
        raise
    finally:
        timer.cancel()


class Pool:
    """A few connections for short statements that may safely be run twice.

    ``async with Pool(dsn) as pool`` opens it without waiting for a server, and closes it.  When all
    *max_size* connections are in use for *timeout_s*, or no server takes a connection for that
    long, the caller gets `DatabaseUnavailable`.  A statement may take *statement_timeout_s*; a
    server that does not say so itself is given up two seconds later.
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
        self._answer_within_s = statement_timeout_s + 2.0
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

    async def run(
        self, work: Callable[[Connection], Awaitable[T]], *, within_s: float | None = None
    ) -> T:
        """Return what *work* returns for a connection in autocommit mode.

        *work* is run once more when the connection turns out to be dead, so it must be harmless
        twice.  It may take *within_s*, which is a little more than one statement may unless said.
        Raises `DatabaseUnavailable`, `DatabaseMisconfigured` or `DataRefused`.
        """
        limit_s = self._answer_within_s if within_s is None else within_s
        try:
            return await self._once(work, limit_s)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if not _is_stale(error):
                raise wrapped(error) from error
        except (psycopg.Error, UnicodeEncodeError, OSError) as error:
            raise wrapped(error) from error
        try:
            await self._pool.check()
            return await self._once(work, limit_s)
        except (psycopg.Error, UnicodeEncodeError, OSError) as error:
            raise wrapped(error) from error

    async def rows(
        self, query: bytes, arguments: Mapping[str, object], make: Callable[[Any], T]
    ) -> list[T]:
        """Return what *make* makes of each row of *query*, a dict by the names of its columns."""

        async def read(connection: Connection) -> list[T]:
            cursor = connection.cursor(row_factory=dict_row)
            return [make(row) async for row in await cursor.execute(query, arguments)]

        return await self.run(read)

    async def _once(self, work: Callable[[Connection], Awaitable[T]], limit_s: float) -> T:
        task = asyncio.current_task()
        asked = task.cancelling() if task else 0
        async with self._pool.connection() as connection:
            with hang_up_after(connection, limit_s):
                result = await work(connection)
        if task and task.cancelling() > asked:
            # Whoever waits in the pool while its connection comes can lose a cancellation.
            raise asyncio.CancelledError
        return result


def _is_stale(error: psycopg.Error) -> bool:
    """Whether another connection may do better: the server ended this one, or it broke."""
    if isinstance(error, (PoolTimeout, PoolClosed, TooManyRequests, NoAnswer)):
        return False
    state = error.sqlstate
    return trouble(error) == "unavailable" and (
        state is None or state[:2] == "08" or state in ("57P01", "57P02", "57P03", "25P03", "0A000")
    )
