"""What the collector plays with in tests: an inlet, a ledger of gaps, a broker that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import aiomqtt

from devices.gap import Gap
from ingest.collector import Arrival, SpoolFull
from ingest.counters import Counters
from ingest.mqtt.collector import MqttCollector
from ingest.mqtt.connection import Connection
from ingest.mqtt.memory import MemoryFile
from ingest.mqtt.mqtt5 import Mqtt5Connection
from ingest.mqtt.mqtt311 import Mqtt311Connection
from ingest.mqtt.settings import MqttSettings
from tests.rig.listener import Listener

Connect = type[Connection]
VERSIONS: tuple[Any, ...] = (Mqtt5Connection, Mqtt311Connection)


class Keeper:
    """An inlet and a gap ledger: keeps what it is given, or holds, or has no room."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.offered = 0
        self.refusals = 0
        self.gaps: list[Gap] = []
        self.full = False
        self._may_return = asyncio.Event()
        self._may_return.set()

    def hold(self) -> None:
        """Let `accept` wait from now on, as on a slow disk."""
        self._may_return.clear()

    def release(self) -> None:
        self._may_return.set()

    async def accept(self, arrivals: Sequence[Arrival]) -> None:
        self.offered += len(arrivals)
        await self._may_return.wait()
        if self.full:
            self.refusals += 1
            raise SpoolFull("no room in the test's spool")
        self.arrivals += arrivals

    async def record(self, gap: Gap) -> None:
        self.gaps.append(gap)

    @property
    def payloads(self) -> list[bytes]:
        return [arrival.payload for arrival in self.arrivals]


class Scene:
    """One collector with its keeper; made by `play`."""

    def __init__(
        self,
        settings: MqttSettings,
        connect: Connect,
        memory: Path | None,
        keeper: Keeper,
        stop_timeout_s: float,
    ) -> None:
        self.keeper = keeper
        self.counters = Counters()
        self.settings = settings
        self.collector = MqttCollector(
            settings,
            connect,
            self.keeper,
            self.keeper,
            self.counters,
            MemoryFile(memory) if memory else None,
            stop_timeout_s=stop_timeout_s,
        )
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self.collector.run(self._stop), name="scene")

    async def stop(self) -> None:
        """Stop in order."""
        assert self._task is not None
        self._stop.set()
        await self._task

    async def crash(self) -> None:
        """End it as a power cut would: the socket dies, nothing more is said."""
        assert self._task is not None
        if connection := self.collector._connection:
            connection.abort()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def subscribed(self) -> bool:
        """Whether the broker has answered our subscription on the connection there is."""
        return self.collector.status.subscribed


@contextlib.asynccontextmanager
async def play(
    connect: Connect,
    where: Any,
    *,
    memory: Path | None = None,
    keeper: Keeper | None = None,
    stop_timeout_s: float = 3.0,
    **options: Any,
) -> AsyncIterator[Scene]:
    """Run a collector against *where* (anything with host and port) until the block ends."""
    settings = {
        "host": where.host,
        "port": where.port,
        "client_id": "collector",
        "topic_filters": ("gh/+/+",),
        "keepalive_s": 15.0,
        "retry_cap_s": 0.2,
        "slow_retry_s": 30.0,
        **options,
    }
    scene = Scene(MqttSettings(**settings), connect, memory, keeper or Keeper(), stop_timeout_s)
    scene.start()
    try:
        yield scene
    finally:
        if scene.running:
            scene.keeper.release()
            await scene.stop()


async def publish(
    where: Any,
    payloads: Sequence[bytes],
    topic: str = "gh/h1/h1-climate",
    qos: int = 1,
    *,
    retain: bool = False,
    **options: Any,
) -> None:
    """Publish as a device does, and return when the broker has taken all."""
    async with aiomqtt.Client(where.host, where.port, **options) as client:
        client.pending_calls_threshold = 100_000
        waits = [client.publish(topic, payload, qos, retain=retain) for payload in payloads]
        await asyncio.gather(*waits)


def numbered(start: int, count: int) -> list[bytes]:
    return [b"%06d" % number for number in range(start, start + count)]


class FakeBroker:
    """A server that speaks raw bytes; *script* gets each connection, one after the other.

    It ends a connection when the script returns.
    """

    host = "127.0.0.1"

    def __init__(self, script: Callable[[Peer], Awaitable[None]]) -> None:
        self._script = script
        self._listener: Listener | None = None
        self.peers: list[Peer] = []

    async def __aenter__(self) -> FakeBroker:
        listening = socket.create_server((self.host, 0))
        # Little room, so that a script that does not read is soon felt.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._listener = Listener(listening, self._serve)
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._listener is not None
        await self._listener.close()

    @property
    def port(self) -> int:
        assert self._listener is not None
        return self._listener.port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.peers.append(peer)
        try:
            await self._script(peer)
        except asyncio.IncompleteReadError:
            pass  # the client ended where the script would have read on
        finally:
            peer.over = True


class Peer:
    """A client of the fake broker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.seen: list[tuple[int, bytes]] = []
        self.over = False
        self.at_end = False

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def packet(self) -> tuple[int, bytes]:
        """Return the next packet as (first byte, body)."""
        try:
            first = (await self.reader.readexactly(1))[0]
        except asyncio.IncompleteReadError:
            self.at_end = True
            raise
        size, shift = 0, 0
        while True:
            byte = (await self.reader.readexactly(1))[0]
            size |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        packet = first, await self.reader.readexactly(size)
        self.seen.append(packet)
        return packet

    async def welcome(self, *, session_present: bool = False, properties: bytes = b"") -> None:
        """Take the CONNECT and answer it in its own version."""
        _, body = await self.packet()
        self.is_v5 = body[6] == 5
        tail = bytes([len(properties)]) + properties if self.is_v5 else b""
        self.send(frame(0x20, bytes([session_present, 0]) + tail))

    async def grant(self, code: int = 1) -> None:
        """Wait for a SUBSCRIBE and answer it."""
        while (packet := await self.packet())[0] != 0x82:
            pass
        body = packet[1]
        properties = b"\0" if self.is_v5 else b""
        self.send(frame(0x90, body[:2] + properties + bytes([code])))

    async def until_end(self) -> None:
        """Read packets, answering pings, until the client closes."""
        while True:
            first, _ = await self.packet()
            if first == 0xC0:
                self.send(b"\xd0\x00")

    def kinds(self) -> list[int]:
        return [first >> 4 for first, _ in self.seen]

    def message(self, payload: bytes = b"v", **options: Any) -> bytes:
        return message(payload, is_v5=self.is_v5, **options)


def frame(first: int, body: bytes) -> bytes:
    size, length = len(body), b""
    while True:
        size, byte = size // 128, size % 128
        length += bytes([byte | (0x80 if size else 0)])
        if not size:
            return bytes([first]) + length + body


def message(
    payload: bytes = b"v",
    *,
    is_v5: bool,
    topic: bytes = b"gh/h1/d1",
    packet_id: int = 1,
    qos: int = 1,
    retain: bool = False,
) -> bytes:
    """Return a PUBLISH, written by other code than ours."""
    body = len(topic).to_bytes(2, "big") + topic
    if qos:
        body += packet_id.to_bytes(2, "big")
    if is_v5:
        body += b"\0"
    return frame(0x30 | qos << 1 | retain, body + payload)
