"""Take TCP connections, and end every one of them when the test is over.

asyncio's own server forgets a connection that it has accepted and not begun to serve when it is
closed or its loop ends: the socket is then found as garbage in some later test.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """Serves each connection to a listening socket in a task of its own; made in a running loop.

    *serve* may end by an `OSError`, because its client went; its connection is closed after it.
    Any other error of *serve* is reported by the loop.
    """

    def __init__(self, listening: socket.socket, serve: Serve) -> None:
        listening.setblocking(False)
        self._listening = listening
        self._serve = serve
        self._loop = asyncio.get_running_loop()
        self._connections: dict[asyncio.Task[None], socket.socket] = {}
        self._loop.add_reader(listening, self._take)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._listening.getsockname()[1])

    def refuse(self) -> None:
        """Listen no more, for good; connections that were taken live on."""
        if self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening)
            self._listening.close()

    async def close(self) -> None:
        """Listen no more and end every connection."""
        self.refuse()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await asyncio.sleep(0)  # a transport closes its socket one turn after it was told

    def _take(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # the client has gone already
        # Noted down before anything can happen to it: a task that is cancelled before its first
        # step runs nothing of its own, not even a `finally`.
        task = self._loop.create_task(self._attend(connection))
        self._connections[task] = connection
        task.add_done_callback(self._over)

    async def _attend(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            await self._serve(reader, writer)
        except OSError:
            pass  # as a client that goes does it
        finally:
            writer.transport.abort()

    def _over(self, task: asyncio.Task[None]) -> None:
        self._connections.pop(task).close()
        if not task.cancelled() and (error := task.exception()) is not None:
            context = {"message": "a connection's server failed", "exception": error, "task": task}
            self._loop.call_exception_handler(context)
