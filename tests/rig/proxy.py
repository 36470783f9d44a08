"""A TCP proxy that a test may put between client and server, and hurt.

It runs in a thread of its own, so it works under a plain test as under an async one and goes on
while the test's event loop is busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from tests.rig.listener import Listener
from tests.rig.process import free_port

T = TypeVar("T")

HOST = "127.0.0.1"
_CHUNK = 64 * 1024


@dataclass(slots=True)
class _Faults:
    """What the proxy does to bytes at this moment."""

    delay_s: float = 0
    bytes_per_s: float | None = None
    swallow: bool = False
    alter: Callable[[bytes], bytes] | None = None


class _Link:
    """One client's connection and the one made for it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.writers = (client, server)
        self.gone = asyncio.Event()

    def reset(self) -> None:
        for writer in self.writers:
            sock = writer.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                # Linger on with time 0: closing sends RST and drops what was not sent.
                linger = struct.pack("ii", 1, 0)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()


class TcpProxy:
    """Forwards connections to *target_host*:*target_port*; made closed, `open` it.

    Faults hold for connections that exist and for new ones, until `heal`.
    """

    host = HOST

    def __init__(self, target_host: str, target_port: int) -> None:
        self.port = free_port()
        self.bytes_to_server = 0
        self.bytes_to_client = 0
        self.connections_made = 0
        self._target = (target_host, target_port)
        self._to_server = _Faults()
        self._to_client = _Faults()
        self._links: set[_Link] = set()
        self._listeners: list[Listener] = []  # the last one listens, the others keep connections
        self._is_listening = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"proxy-{self.port}", daemon=True
        )

    @property
    def connections(self) -> int:
        """How many clients are connected through the proxy now."""
        return len(self._links)

    def dsn(self, dsn: str) -> str:
        """Return the database URL *dsn* with this proxy in the place of host and port."""
        parts = urlsplit(dsn)
        user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        return urlunsplit(parts._replace(netloc=f"{user}{self.host}:{self.port}"))

    def open(self) -> None:
        """Start to forward."""
        self._thread.start()
        self.accept()

    def close(self) -> None:
        """Cut everything and end; the proxy cannot be opened again."""
        self.refuse()
        self.cut()
        self._call(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> int:
        """Reset (RST) every connection that exists, on both sides; return how many there were."""
        return self._call(self._cut())

    def refuse(self) -> None:
        """Refuse new connections until `accept`, as when nobody listens; others live on."""
        self._call(self._refuse())

    def accept(self) -> None:
        """Take new connections again."""
        self._call(self._accept())

    def blackhole(self, *, to_server: bool = True, to_client: bool = True) -> None:
        """Take bytes and lose them, on connections that stay open: a dead router on the way."""
        self._to_server.swallow, self._to_client.swallow = to_server, to_client

    def delay(self, to_server_s: float = 0, to_client_s: float = 0) -> None:
        """Deliver every byte that much later; order and throughput are kept."""
        self._to_server.delay_s, self._to_client.delay_s = to_server_s, to_client_s

    def throttle(self, bytes_per_s: float | None) -> None:
        """Let no more than so many bytes pass a second, each way and connection."""
        self._to_server.bytes_per_s = self._to_client.bytes_per_s = bytes_per_s

    def corrupt(
        self,
        to_server: Callable[[bytes], bytes] | None = None,
        to_client: Callable[[bytes], bytes] | None = None,
    ) -> None:
        """Pass every chunk through a function of the test's choice."""
        self._to_server.alter, self._to_client.alter = to_server, to_client

    def heal(self) -> None:
        """Forward faithfully from now on; what was lost stays lost."""
        self._to_server, self._to_client = _Faults(), _Faults()
        self.accept()

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=10)

    async def _accept(self) -> None:
        if not self._is_listening:
            listening = socket.create_server((HOST, self.port))
            self._listeners.append(Listener(listening, self._serve))
            self._is_listening = True

    async def _refuse(self) -> None:
        if self._is_listening:
            self._listeners[-1].refuse()
            self._is_listening = False

    async def _cut(self) -> int:
        links = list(self._links)
        for link in links:
            link.reset()
        for link in links:
            await link.gone.wait()
        return len(links)

    async def _finish(self) -> None:
        for listener in self._listeners:
            await listener.close()
        await asyncio.get_running_loop().shutdown_default_executor()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection(*self._target)
        except OSError:
            # Nobody listens behind: the client sees its connection reset.
            _Link(writer, writer).reset()
            return
        link = _Link(writer, there[1])
        self._links.add(link)
        self.connections_made += 1
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(reader, there[1], to_server=True))
                tasks.create_task(self._pump(there[0], writer, to_server=False))
        except* OSError:
            link.reset()
        finally:
            for end in link.writers:
                end.close()
            for end in link.writers:
                with contextlib.suppress(OSError):
                    await end.wait_closed()
            self._links.discard(link)
            link.gone.set()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, to_server: bool
    ) -> None:
        """Carry one direction: a reader stamps each chunk with its due time, a writer keeps it."""
        loop = asyncio.get_running_loop()
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=1024)

        async def read() -> None:
            while chunk := await reader.read(_CHUNK):
                await on_the_way.put((loop.time() + self._faults(to_server).delay_s, chunk))
            await on_the_way.put((loop.time() + self._faults(to_server).delay_s, b""))

        async def write() -> None:
            while True:
                due_at_s, chunk = await on_the_way.get()
                await asyncio.sleep(max(0.0, due_at_s - loop.time()))
                if not chunk:
                    break
                await self._deliver(chunk, writer, to_server=to_server)
            if not self._faults(to_server).swallow and writer.can_write_eof():
                writer.write_eof()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read())
            tasks.create_task(write())

    async def _deliver(
        self, chunk: bytes, writer: asyncio.StreamWriter, *, to_server: bool
    ) -> None:
        faults = self._faults(to_server)
        if faults.swallow:
            return
        if faults.alter is not None:
            chunk = faults.alter(chunk)
        while chunk:
            rate = self._faults(to_server).bytes_per_s
            # A fifth of a second's worth at a time, so that a new rate soon counts.
            part = chunk if rate is None else chunk[: max(1, int(rate / 5))]
            chunk = chunk[len(part) :]
            # Counted before it can arrive, so that who has received it finds it counted.
            if to_server:
                self.bytes_to_server += len(part)
            else:
                self.bytes_to_client += len(part)
            writer.write(part)
            await writer.drain()
            if rate is not None:
                await asyncio.sleep(len(part) / rate)

    def _faults(self, to_server: bool) -> _Faults:
        return self._to_server if to_server else self._to_client
