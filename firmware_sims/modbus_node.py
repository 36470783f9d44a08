"""Simulated Modbus buses: a gateway, a serial port or a DTU with slaves behind it.

Raw asyncio, so that every malformed answer is possible.  One bus is one line: it takes one request
at a time and finishes the reply to it before it looks at the next, as a half-duplex line does; a
late reply therefore comes before the reply to whatever was asked meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import random
import ssl
import time
import tty
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Protocol

from firmware_sims import modbus_frames
from firmware_sims.modbus_faults import Fault, FaultKind
from firmware_sims.modbus_slave import SimulatedSlave

_TURNS_TO_MAKE = 3  # of the loop, from a connection that is accepted to one that can be closed


class _Wire(Protocol):
    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class ModbusBus:
    """The line behind one gateway or port.

    *speech* is ``tcp``, ``rtu`` or ``ascii``.  *turnaround_s* is what each reply takes.  Units that
    are not in *slaves* stay silent, or a gateway answers for them with *no_target* (11) if that is
    set.  *clock* gives the time at which slaves measure.  While `is_deaf`, connections are taken
    and bytes acknowledged, and nothing comes back: half open.
    """

    def __init__(
        self,
        slaves: Iterable[SimulatedSlave],
        speech: str = "rtu",
        turnaround_s: float = 0.0,
        no_target: int = 0,
        clock: Callable[[], float] = time.time,
        seed: int = 1,
    ) -> None:
        self.slaves = {slave.unit: slave for slave in slaves}
        self.speech = speech
        self.turnaround_s = turnaround_s
        self.no_target = no_target
        self.requests = 0
        self.connections = 0
        self.is_deaf = False
        self._clock = clock
        self._random = random.Random(seed)
        self._line = asyncio.Lock()
        self._wires: set[_Wire] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    # ---- ways to reach it -------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def listening(
        self, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[int]:
        """Serve over TCP; yields the port."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: _Connection(self), host, port, ssl=tls, reuse_address=True
        )
        try:
            yield int(server.sockets[0].getsockname()[1])
        finally:
            # A server that is closed between accepting a connection and making its transport loses
            # the socket, so: take no more, let those that were taken be made, then close.
            loop.remove_reader(server.sockets[0].fileno())
            for _ in range(_TURNS_TO_MAKE):
                await asyncio.sleep(0)
            server.close()
            self.hang_up()
            await self._settle()

    @contextlib.asynccontextmanager
    async def on_a_pty(self) -> AsyncIterator[str]:
        """Serve at one end of a pseudo-terminal; yields the path of the other end."""
        ours, theirs = pty.openpty()
        tty.setraw(ours)
        tty.setraw(theirs)
        os.set_blocking(ours, False)
        loop = asyncio.get_running_loop()
        port = _Port(ours)
        conversation = _Conversation(self, port)
        loop.add_reader(ours, lambda: conversation.hear(port.read()))
        try:
            yield os.ttyname(theirs)
        finally:
            loop.remove_reader(ours)
            conversation.end()
            await self._settle()
            os.close(theirs)
            os.close(ours)

    async def dial(
        self, host: str, port: int, registration: bytes = b"", heartbeat: bytes = b""
    ) -> DialledOut:
        """Call a listener as a DTU does, and serve over that connection until it is closed."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(self), host, port)
        connection.say(registration)
        return DialledOut(connection, heartbeat)

    def hang_up(self) -> None:
        """Close every connection, as a gateway does that restarts."""
        for wire in tuple(self._wires):
            wire.close()

    async def _settle(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---- one request ------------------------------------------------------------------------

    async def serve(self, wire: _Wire, unit: int, pdu: bytes, transaction: int) -> None:
        """Answer one request on *wire*, after those before it."""
        async with self._line:
            self.requests += 1
            if self.turnaround_s:
                await asyncio.sleep(self.turnaround_s)
            slave = self.slaves.get(unit)
            if slave is None:
                if self.no_target and self.speech == "tcp":
                    reply = bytes((pdu[0] | 0x80, self.no_target))
                    wire.write(modbus_frames.encode(self.speech, unit, reply, transaction))
                return
            fault = slave.faults.take()
            reply = slave.answer(pdu, self._clock())
            if fault is None:
                wire.write(modbus_frames.encode(self.speech, unit, reply, transaction))
            else:
                await self._spoilt(wire, fault, unit, pdu, reply, transaction)

    def serve_at_once(self, wire: _Wire, unit: int, pdu: bytes, transaction: int) -> bool:
        """Answer without a task where nothing has to be waited for; False if that cannot be."""
        slave = self.slaves.get(unit)
        if (
            self._line.locked()
            or self._tasks
            or self.turnaround_s
            or slave is None
            or slave.faults.coming
            or slave.faults.always is not None
        ):
            return False
        self.requests += 1
        reply = slave.answer(pdu, self._clock())
        wire.write(modbus_frames.encode(self.speech, unit, reply, transaction))
        return True

    def start(self, wire: _Wire, unit: int, pdu: bytes, transaction: int) -> None:
        """Begin to answer one request."""
        if self.is_deaf or not pdu or self.serve_at_once(wire, unit, pdu, transaction):
            return
        task = asyncio.get_running_loop().create_task(self.serve(wire, unit, pdu, transaction))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _spoilt(
        self, wire: _Wire, fault: Fault, unit: int, pdu: bytes, reply: bytes, transaction: int
    ) -> None:
        kind = fault.kind
        if kind is FaultKind.SILENCE:
            return
        if kind is FaultKind.CLOSE:
            wire.close()
            return
        if kind is FaultKind.LATE:
            await asyncio.sleep(fault.seconds)
        if kind is FaultKind.GARBAGE:
            wire.write(self._random.randbytes(fault.code or 32))
            return
        frame = self._frame(fault, unit, reply, transaction, pdu)
        if kind is FaultKind.SLOW:
            for octet in frame:
                wire.write(bytes((octet,)))
                await asyncio.sleep(fault.seconds)
            return
        if kind is FaultKind.ECHO:
            frame = modbus_frames.encode(self.speech, unit, pdu, transaction) + frame
        wire.write(frame)

    def _frame(self, fault: Fault, unit: int, reply: bytes, transaction: int, pdu: bytes) -> bytes:
        """Return the frame of *reply* with one thing wrong."""
        kind, data = fault.kind, reply[2:]
        function = reply[0]
        if kind is FaultKind.EXCEPTION:
            reply = bytes((pdu[0] | 0x80, fault.code))
        elif kind is FaultKind.SHORT:
            reply = bytes((function, max(0, len(data) - 2))) + data[:-2]
        elif kind is FaultKind.LONG:
            reply = bytes((function, len(data) + 2)) + data + b"\x12\x34"
        elif kind is FaultKind.EMPTY:
            reply = bytes((function, 0))
        elif kind is FaultKind.ODD:
            reply = bytes((function, max(0, len(data) - 1))) + data[:-1]
        elif kind is FaultKind.OVERSTATED:
            reply = bytes((function, len(data) + 8)) + data
        elif kind is FaultKind.WRONG_FUNCTION:
            reply = bytes(({3: 4, 4: 3, 1: 2, 2: 1}.get(function, 3),)) + reply[1:]
        elif kind is FaultKind.WRONG_UNIT:
            unit = unit % 247 + 1
        elif kind is FaultKind.WRONG_TRANSACTION:
            transaction = (transaction + 1000) % 65536
        elif kind is FaultKind.ZERO_TRANSACTION:
            transaction = 0
        frame = modbus_frames.encode(self.speech, unit, reply, transaction)
        if kind is FaultKind.WRONG_PROTOCOL:
            return frame[:2] + b"\x00\x01" + frame[4:]
        if kind is FaultKind.WRONG_LENGTH:
            return frame[:4] + b"\x00\xc8" + frame[6:]
        if kind is FaultKind.BAD_CHECKSUM:
            return self._with_bad_checksum(frame)
        if kind is FaultKind.NOISE_BEFORE:
            return b"\xff\x00\xff" + frame
        if kind is FaultKind.NOISE_AFTER:
            return frame + b"\xff\x00\xff"
        if kind is FaultKind.GLUED:
            return frame + frame
        if kind is FaultKind.TRUNCATED:
            return frame[: len(frame) // 2]
        return frame

    def _with_bad_checksum(self, frame: bytes) -> bytes:
        if self.speech == "tcp":
            raise ValueError("frames over TCP have no checksum")
        if self.speech == "ascii":
            digit = b"1" if frame[-3:-2] == b"0" else b"0"
            return frame[:-3] + digit + frame[-2:]
        return frame[:-1] + bytes((frame[-1] ^ 0xFF,))

    def joined(self, wire: _Wire) -> None:
        """A connection was made."""
        self.connections += 1
        self._wires.add(wire)

    def left(self, wire: _Wire) -> None:
        """A connection ended."""
        self._wires.discard(wire)


class _Conversation:
    """Requests out of the bytes of one connection; ``mute`` ones are read and forgotten."""

    def __init__(self, bus: ModbusBus, wire: _Wire) -> None:
        self._bus = bus
        self._wire = wire
        self._buffer = b""
        bus.joined(wire)

    def hear(self, data: bytes) -> None:
        self._buffer += data
        while taken := modbus_frames.take_request(self._bus.speech, self._buffer):
            used, unit, pdu, transaction = taken
            self._buffer = self._buffer[used:]
            self._bus.start(self._wire, unit, pdu, transaction)

    def end(self) -> None:
        self._bus.left(self._wire)


class _Connection(asyncio.Protocol):
    """One TCP connection of a simulated gateway or DTU."""

    def __init__(self, bus: ModbusBus) -> None:
        self._bus = bus
        self._transport: asyncio.Transport | None = None
        self._conversation: _Conversation | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._conversation = _Conversation(self._bus, self)

    def data_received(self, data: bytes) -> None:
        assert self._conversation is not None
        self._conversation.hear(data)

    def connection_lost(self, exc: Exception | None) -> None:
        assert self._conversation is not None
        self._conversation.end()
        self._transport = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def say(self, data: bytes) -> None:
        if self._transport is not None and data:
            self._transport.write(data)

    def write(self, data: bytes) -> None:
        self.say(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class _Port:
    """Our end of a pseudo-terminal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self) -> bytes:
        try:
            return os.read(self._descriptor, 4096)
        except (BlockingIOError, OSError):
            return b""  # nobody has the other end open at this moment

    def write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(self._descriptor, data)

    def close(self) -> None:
        """A cable cannot hang up."""


class DialledOut:
    """A DTU's call: `beat` sends its heartbeat, `close` hangs up."""

    def __init__(self, connection: _Connection, heartbeat: bytes) -> None:
        self._connection = connection
        self._heartbeat = heartbeat

    @property
    def is_open(self) -> bool:
        """Whether the other side still has the call."""
        return self._connection.is_open

    def beat(self) -> None:
        """Send the heartbeat once."""
        self._connection.say(self._heartbeat)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
