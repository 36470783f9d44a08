"""Connections to buses: TCP, TLS and serial ports, and what comes in over them as events.

A `Link` is one open connection.  It stamps the time when bytes arrive, takes frames out of them and
rings a bell; what the frames mean is not its business.  Serial ports are opened by pymodbus'
transport over pyserial, sockets by asyncio; frames by pymodbus' framers (see `framing`).
pymodbus' clients are not used: they return replies of other functions and lengths as success,
swallow mismatches until the timeout, and keep the time of the reply to themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections import deque
from dataclasses import dataclass
from typing import cast

import msgspec
from pymodbus.transport.serialtransport import create_serial_connection
from serial import SerialException

from devices.profile import Line, Parity
from ingest.collector import IngestError
from ingest.modbus.bell import Bell
from ingest.modbus.framing import Frame, FrameError, Framing

_MAX_EVENTS = 64
_FLOOD_BYTES = 16_384
_PARITY = {Parity.NONE: "N", Parity.EVEN: "E", Parity.ODD: "O"}


class LinkError(IngestError):
    """A connection could not be opened; the text says why."""


@dataclass(frozen=True, slots=True)
class TcpEndpoint:
    """A gateway or device in the network; *tls* makes it Modbus Security."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class SerialEndpoint:
    """A serial port of this machine; *echoes* if the adapter hands back what is sent."""

    port: str
    line: Line
    echoes: bool = False

    def __str__(self) -> str:
        return f"{self.port} {self.line}"


class Arrived(msgspec.Struct, frozen=True):
    """A frame, with the time at which its last byte was here (microseconds UTC)."""

    frame: Frame
    at_us: int


@dataclass(frozen=True, slots=True)
class Garbled:
    """Bytes that are no frame; *sample* is the first of them in hexadecimal, for the log."""

    code: str
    text: str
    at_us: int
    sample: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is gone."""

    text: str
    at_us: int


LinkEvent = Arrived | Garbled | Lost


class Link(asyncio.Protocol):
    """One open connection; events wait in `events`, and *bell* is rung for each.

    Holds at most one unfinished frame (`Framing.max_bytes`) and 64 events; garbage beyond 16 KiB
    without a sound frame closes the connection.  *heartbeat* bytes of a DTU are taken out between
    frames.  Close it with `close`.
    """

    def __init__(
        self, framing: Framing, bell: Bell, heartbeat: bytes = b"", echoes: bool = False
    ) -> None:
        self.events: deque[LinkEvent] = deque()
        self.heartbeats = 0
        self.bytes_received = 0
        self._framing = framing
        self._bell = bell
        self._heartbeat = heartbeat
        self._echoes = echoes
        self._echo = b""
        self._buffer = b""
        self._garbage = 0
        self._transport: asyncio.Transport | None = None
        self._closed = False

    # ---- called by the bus ------------------------------------------------------------------

    def send(self, unit: int, pdu: bytes, transaction: int) -> None:
        """Send one request; on lines without transactions an unfinished frame is forgotten."""
        if self._transport is None or self._closed:
            return
        if not self._framing.has_transactions:
            self._buffer = b""
        frame = self._framing.encode(unit, pdu, transaction)
        if self._echoes:
            self._echo = frame
        self._transport.write(frame)

    def close(self) -> None:
        """Close the connection at once; no event tells of it."""
        self._closed = True
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def replaced(self) -> None:
        """Close, and tell the bus: the same DTU has dialled in anew."""
        if not self._closed:
            self.close()
            self._tell(Lost("replaced by a newer call", time.time_ns() // 1000))

    # ---- called by asyncio ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast(asyncio.Transport, transport)
        if self._closed:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Stamp the bytes, take the frames out of them."""
        at_us = time.time_ns() // 1000
        self.bytes_received += len(data)
        if self._closed:
            return
        if self._echo:
            data = self._without_echo(data)
        buffer = self._buffer + data if self._buffer else data
        try:
            buffer = self._take_frames(buffer, at_us)
        except FrameError as error:
            buffer = self._discard(buffer, error.code, error.text, at_us)
        if len(buffer) > self._framing.max_bytes:
            buffer = self._discard(buffer, "E-MB-FRAME", "more bytes than any answer has", at_us)
        self._buffer = buffer

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the bus, unless it was the one who closed."""
        self._transport = None
        if not self._closed:
            self._closed = True
            text = str(exc) if exc is not None else "closed by the other side"
            self._tell(Lost(text or type(exc).__name__, time.time_ns() // 1000))

    # ---- inside -----------------------------------------------------------------------------

    def _take_frames(self, buffer: bytes, at_us: int) -> bytes:
        while buffer:
            if self._heartbeat and buffer.startswith(self._heartbeat):
                self.heartbeats += 1
                buffer = buffer[len(self._heartbeat) :]
                continue
            if self._heartbeat and self._heartbeat.startswith(buffer):
                return buffer
            used, frame = self._framing.take(buffer)
            if frame is None:
                return buffer
            self._garbage = 0
            self._tell(Arrived(frame, at_us))
            buffer = buffer[used:]
        return buffer

    def _discard(self, buffer: bytes, code: str, text: str, at_us: int) -> bytes:
        """Give up what is in the buffer; a flood of garbage ends the connection."""
        self._garbage += len(buffer)
        if not (self.events and isinstance(self.events[-1], Garbled)):
            self._tell(Garbled(code, text, at_us, buffer[:64].hex(" ")))
        if self._garbage > _FLOOD_BYTES and self._transport is not None:
            self.close()
            self._tell(Lost(f"{self._garbage} bytes of garbage", at_us))
        return b""

    def _without_echo(self, data: bytes) -> bytes:
        """Take the echo of our own bytes off the front; what differs is not an echo."""
        common = min(len(data), len(self._echo))
        if data[:common] != self._echo[:common]:
            self._echo = b""
            return data
        self._echo = self._echo[common:]
        return data[common:]

    def _tell(self, event: LinkEvent) -> None:
        if len(self.events) >= _MAX_EVENTS:
            self.events.popleft()
        self.events.append(event)
        self._bell.ring()


async def open_tcp(endpoint: TcpEndpoint, link: Link, timeout_s: float) -> None:
    """Connect *link* to *endpoint*; raise `LinkError` if that fails or takes longer."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            transport, _ = await loop.create_connection(
                lambda: link, endpoint.host, endpoint.port, ssl=endpoint.tls
            )
    except TimeoutError as error:
        raise LinkError(f"{endpoint}: no connection after {timeout_s:g} s") from error
    except (OSError, ssl.SSLError) as error:
        raise LinkError(f"{endpoint}: {error.strerror or error}") from error
    notice_silence(transport.get_extra_info("socket"))


async def open_serial(endpoint: SerialEndpoint, link: Link) -> None:
    """Open the port for *link*; raise `LinkError` if it is not there or in use."""
    line = endpoint.line
    try:
        await create_serial_connection(
            asyncio.get_running_loop(),
            lambda: link,
            endpoint.port,
            baudrate=line.baud,
            bytesize=line.data_bits,
            parity=_PARITY[line.parity],
            stopbits=line.stop_bits,
            timeout=0,
        )
    except (SerialException, OSError, ValueError) as error:
        raise LinkError(f"{endpoint}: {error}") from error


def notice_silence(sock: socket.socket | None, patience_s: float = 3.0) -> None:
    """Have the kernel notice that the other side is gone without saying so.

    What we send must be acknowledged within *patience_s*; an idle connection is looked at in time.
    """
    if sock is None:
        return
    options = [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", None), max(1, int(patience_s))),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", None), max(1, int(patience_s / 2))),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPCNT", None), 2),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_USER_TIMEOUT", None), int(patience_s * 1000)),
    ]
    for level, option, value in options:
        if option is not None:
            with contextlib.suppress(OSError):  # a system without it has its own patience
                sock.setsockopt(level, option, value)


def tls_context(
    ca_file: str | None, cert_file: str | None = None, key_file: str | None = None
) -> ssl.SSLContext:
    """Return a client context that verifies the gateway; with our own certificate if given."""
    context = ssl.create_default_context(cafile=ca_file)
    if cert_file is not None:
        context.load_cert_chain(cert_file, key_file)
    return context
