"""A listener for DTUs that dial in: cellular boxes behind somebody's NAT, with a serial bus.

A DTU connects to us and says who it is by a registration packet, or by the first heartbeat (see
`dtu_name`); then it carries frames both ways.  Whoever connects and does not say a known name
within the time is turned away.  The newest connection of a DTU is the right one: when a mobile
network drops the old one, nobody tells us.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from ingest.modbus.dtu_name import DtuName, name_mistakes, recognise
from ingest.modbus.transport import Link, LinkError, notice_silence

_log = logging.getLogger(__name__)

_MAX_GREETING = 512
_REST_OF_A_NAME_S = 1.0  # a name that another one begins with is taken when no more has come
_PATIENCE_S = 20.0  # mobile networks pause for seconds, and a DTU takes long to dial again


@dataclass(slots=True, eq=False)
class _Call:
    """A DTU that has dialled in and said its name; *rest* is what it sent after that."""

    transport: asyncio.Transport
    rest: bytes


@dataclass(slots=True, eq=False)
class _Line:
    name: DtuName
    waiting: _Call | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    link: Link | None = None
    calls: int = 0


class DialIn:
    """Listens for DTUs and hands each to its bus.

    At most *most_unnamed* connections may be without a name at a time; one more is refused.  Of
    calls that nobody has taken, the newest is kept.  Use as ``async with``.  Raises ValueError for
    *names* that could be taken for each other.
    """

    def __init__(
        self,
        host: str,
        port: int,
        names: Sequence[DtuName],
        name_within_s: float = 15.0,
        most_unnamed: int = 64,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._name_within_s = name_within_s
        self._most_unnamed = most_unnamed
        for code, text in name_mistakes(names):
            raise ValueError(f"DTU {code} {text}")
        self._names = tuple(names)
        self._lines = {name.code: _Line(name) for name in names}
        self._unnamed: set[_Greeting] = set()
        self._server: asyncio.Server | None = None
        self.turned_away = 0

    @property
    def port(self) -> int:
        """The port that is listened on."""
        if self._server is None:
            return self._port
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> DialIn:
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: _Greeting(self), self._host, self._port, ssl=self._tls
            )
        except OSError as error:
            raise LinkError(f"{self._host}:{self._port}: {error.strerror or error}") from error
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for greeting in tuple(self._unnamed):
            greeting.hang_up()
        for line in self._lines.values():
            if line.waiting is not None:
                line.waiting.transport.abort()
                line.waiting = None
        await self._server.wait_closed()

    async def open(self, code: str, make_link: Callable[[bytes], Link], timeout_s: float) -> Link:
        """Return a link over the next call of DTU *code*; raise `LinkError` if none comes.

        *make_link* is given the heartbeat that has to be taken out of the stream.
        """
        line = self._lines[code]
        try:
            async with asyncio.timeout(timeout_s):
                await line.arrived.wait()
        except TimeoutError as error:
            raise LinkError(f"DTU {code} has not dialled in") from error
        call = line.waiting
        assert call is not None
        line.waiting = None
        line.arrived.clear()
        notice_silence(call.transport.get_extra_info("socket"), _PATIENCE_S)
        link = make_link(line.name.heartbeat)
        line.link = link
        call.transport.set_protocol(link)
        link.connection_made(call.transport)
        call.transport.resume_reading()
        if call.rest:
            link.data_received(call.rest)
        return link

    def _named(self, line: _Line, call: _Call) -> None:
        """A DTU said its name: what there was of it before is out of date."""
        line.calls += 1
        if line.waiting is not None:
            line.waiting.transport.abort()
        if line.link is not None:
            line.link.replaced()
            line.link = None
        call.transport.pause_reading()
        line.waiting = call
        line.arrived.set()
        peer = call.transport.get_extra_info("peername")
        _log.info("dtu %s dialled in from %s", line.name.code, peer)

    def _forget(self, transport: asyncio.BaseTransport) -> None:
        """A call ended before its bus took it."""
        for line in self._lines.values():
            if line.waiting is not None and line.waiting.transport is transport:
                line.waiting = None
                line.arrived.clear()


class _Greeting(asyncio.Protocol):
    """A connection that has not said its name yet, or whose bus has not taken it yet."""

    def __init__(self, owner: DialIn) -> None:
        self._owner = owner
        self._heard = b""
        self._call: _Call | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rest_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        owner = self._owner
        if len(owner._unnamed) >= owner._most_unnamed:
            self.hang_up("too many connections without a name")
            return
        owner._unnamed.add(self)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(owner._name_within_s, self.hang_up, "it said no name in time")

    def data_received(self, data: bytes) -> None:
        if self._call is not None:
            self._call.rest = (self._call.rest + data)[:_MAX_GREETING]
            return
        self._heard += data[: _MAX_GREETING - len(self._heard)]
        found = recognise(self._owner._names, self._heard)
        if self._rest_timer is not None:
            self._rest_timer.cancel()
        if found.code is None:
            self._heard = self._heard[found.used :]  # heartbeats say nothing
            if not found.undecided:
                self.hang_up(f"unknown name {self._heard[:64]!r}")
        elif found.undecided:
            loop = asyncio.get_running_loop()
            introduce = functools.partial(self._introduce, found.code, found.used)
            self._rest_timer = loop.call_later(_REST_OF_A_NAME_S, introduce)
        else:
            self._introduce(found.code, found.used)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        if self._transport is not None:
            self._owner._forget(self._transport)
            self._transport = None

    def hang_up(self, why: str = "") -> None:
        if self._transport is None:
            return
        if why:
            self._owner.turned_away += 1
            peer = self._transport.get_extra_info("peername")
            _log.info("dial-in connection from %s turned away: %s", peer, why)
        self._leave()
        self._transport.abort()
        self._transport = None

    def _introduce(self, code: str, used: int) -> None:
        assert self._transport is not None
        self._leave()
        self._call = _Call(self._transport, self._heard[used:])
        self._owner._named(self._owner._lines[code], self._call)

    def _leave(self) -> None:
        self._owner._unnamed.discard(self)
        for timer in (self._timer, self._rest_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._rest_timer = None
