"""The shell of one bus: does what the core says, and tells it what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence

from devices.codecs.registers import Read
from ingest.modbus.bell import Bell
from ingest.modbus.bus_core import BusCore, Close, Connect, Job, PollResult, Send
from ingest.modbus.bus_status import BusStatus
from ingest.modbus.dial_in import DialIn
from ingest.modbus.framing import Framing, Speech
from ingest.modbus.reply import Answer, Failure
from ingest.modbus.request import NotAsked, Request
from ingest.modbus.transport import (
    Arrived,
    Garbled,
    Link,
    LinkError,
    Lost,
    SerialEndpoint,
    TcpEndpoint,
    open_serial,
    open_tcp,
)

_log = logging.getLogger(__name__)

Endpoint = TcpEndpoint | SerialEndpoint | str
"""Where a bus is reached; a string is the code of a DTU that dials in."""


class BusBusy(NotAsked):
    """Too many jobs wait for this bus already."""


class BusStopped(NotAsked):
    """Nobody works on this bus now, so nothing that it is asked would ever be sent."""

    code = "E-MB-STOPPED"


class Bus:
    """One physical bus: one connection, one request at a time.

    *core* decides; *endpoints* are its addresses, the preferred one first; *publish* is called on
    the event loop with the bus' code and each poll, and must not wait.  `run` works until it is
    cancelled and closes the connection then.  `ask` may be called while it runs.
    """

    def __init__(
        self,
        core: BusCore,
        endpoints: Sequence[Endpoint],
        publish: Callable[[str, PollResult], None],
        dial_in: DialIn | None = None,
        connect_timeout_s: float = 3.0,
    ) -> None:
        self._core = core
        self._endpoints = tuple(endpoints)
        self._publish = publish
        self._dial_in = dial_in
        self._connect_timeout_s = connect_timeout_s
        self._framing = Framing(core.settings.speech)
        self._bell = Bell()
        self._link: Link | None = None
        self._answers: dict[Job, asyncio.Future[None]] = {}
        self._garbled_logged = False
        self._is_running = False

    @property
    def name(self) -> str:
        """The bus' code."""
        return self._core.settings.name

    def status(self) -> BusStatus:
        """Return the state of the bus and its slaves; `BusStatus` times are of the loop's clock."""
        return self._core.status()

    async def ask(
        self, requests: Sequence[Request], timeout_s: float | None = None, goes_on: bool = False
    ) -> list[Answer | Failure]:
        """Ask *requests* between the polls and return what came of each, in their order.

        Raises `BusBusy` when too many wait and `BusStopped` while `run` does not work.  When the
        caller is cancelled, what was not sent yet is not sent any more.
        """
        if not self._is_running:
            raise BusStopped(f"bus {self.name}: not running, so nothing can be asked")
        job = Job(tuple(requests), timeout_s, goes_on)
        if not job.requests:
            return []
        if not self._core.add_job(job):
            raise BusBusy(f"bus {self.name}: too many commands wait")
        done = self._answers[job] = asyncio.get_running_loop().create_future()
        self._bell.ring()
        try:
            await done
        finally:
            self._answers.pop(job, None)
            self._core.drop_job(job)
        return job.outcomes

    async def run(self) -> None:
        """Poll until cancelled."""
        loop = asyncio.get_running_loop()
        self._is_running = True
        try:
            while True:
                if self._link is not None and self._link.events:
                    self._take_strays(self._link)
                step = self._core.step(loop.time())
                self._hand_over()
                if isinstance(step, Send):
                    await self._exchange(step)
                elif isinstance(step, Connect):
                    await self._connect(step.endpoint)
                elif isinstance(step, Close):
                    self._close()
                else:
                    await self._idle(step.until_s)
        finally:
            self._is_running = False
            self._bell.close()
            self._close()
            self._let_go()

    def recover(self, text: str) -> None:
        """Forget the connection and the request under way, so that `run` may begin again.

        For after an error that is a bug, and counted as one.
        """
        self._core.counters.bugs += 1
        self._core.lost(asyncio.get_running_loop().time(), _now_us(), text)
        self._close()

    # ---- one step ---------------------------------------------------------------------------

    async def _exchange(self, step: Send) -> None:
        """Send one request and feed the core what comes until the request is over."""
        loop = asyncio.get_running_loop()
        link = self._link
        if link is None:
            self._core.lost(loop.time(), _now_us(), "not connected")
            return
        link.send(step.request.unit, step.request.pdu, step.transaction)
        while True:
            while link.events:
                if self._feed(link):
                    return
            if not await self._bell.wait(step.deadline_s) and not link.events:
                self._core.timed_out(loop.time(), _now_us())
                return

    async def _idle(self, until_s: float) -> None:
        if not await self._bell.wait(until_s):
            await asyncio.sleep(0)  # even a wait that is over lets others have the loop

    async def _connect(self, endpoint: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._link = await self._open(self._endpoints[endpoint])
        except LinkError as error:
            self._core.connect_failed(loop.time(), str(error))
        else:
            self._core.connected(loop.time())

    async def _open(self, endpoint: Endpoint) -> Link:
        if isinstance(endpoint, str):
            if self._dial_in is None:
                raise LinkError(f"DTU {endpoint}: nobody listens for it")
            return await self._dial_in.open(
                endpoint,
                lambda heartbeat: Link(self._framing, self._bell, heartbeat),
                self._connect_timeout_s,
            )
        echoes = isinstance(endpoint, SerialEndpoint) and endpoint.echoes
        link = Link(self._framing, self._bell, echoes=echoes)
        try:
            if isinstance(endpoint, SerialEndpoint):
                await open_serial(endpoint, link)
            else:
                await open_tcp(endpoint, link, self._connect_timeout_s)
        except BaseException:  # cancelled too: nobody else knows of this link yet
            link.close()
            raise
        return link

    def _close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def _let_go(self) -> None:
        """Tell those who wait for answers that there will be none."""
        stopped = Failure("E-MB-LINK", "the bus was stopped")
        for job, done in self._answers.items():
            if not done.done():
                job.outcomes += [stopped] * (len(job.requests) - len(job.outcomes))
                done.set_result(None)

    # ---- events -> core ---------------------------------------------------------------------

    def _feed(self, link: Link) -> bool:
        """Hand one event to the core; return whether the request that waits is over."""
        now_s = asyncio.get_running_loop().time()
        event = link.events.popleft()
        if isinstance(event, Arrived):
            return self._core.received(event.frame, now_s, event.at_us)
        if isinstance(event, Garbled):
            self._log_garbled(event)
            self._core.garbled(event.code, event.text, now_s, event.at_us)
            return True
        self._core.lost(now_s, event.at_us, event.text)
        self._close()
        return True

    def _take_strays(self, link: Link) -> None:
        """Tell the core what came while nothing was asked."""
        now_s = asyncio.get_running_loop().time()
        while link.events:
            event = link.events.popleft()
            if isinstance(event, Lost):
                self._core.lost(now_s, event.at_us, event.text)
                self._close()
                return
            if isinstance(event, Garbled):
                self._log_garbled(event)
                if self._framing.speech is Speech.TCP:
                    self._core.garbled(event.code, event.text, now_s, event.at_us)
                    return
            self._core.stray(event.frame if isinstance(event, Arrived) else None, now_s)

    def _log_garbled(self, event: Garbled) -> None:
        """Show the first garbage of a bus; after that a counter moves."""
        level = logging.DEBUG if self._garbled_logged else logging.WARNING
        self._garbled_logged = True
        _log.log(level, "bus %s: %s %s: %s", self.name, event.code, event.text, event.sample)

    # ---- core -> the world ------------------------------------------------------------------

    def _hand_over(self) -> None:
        for notice in self._core.take_notices():
            _log.warning("%s", notice)
        for result in self._core.take_results():
            self._publish(self.name, _stamped(result))
        for job in self._core.take_finished():
            done = self._answers.get(job)
            if done is not None and not done.done():
                done.set_result(None)


def _stamped(result: PollResult) -> PollResult:
    """Give reads that were never sent the time of now: it is when it was known."""
    if all(read.at_us for read in result.reads):
        return result
    now_us = _now_us()
    reads = tuple(read if read.at_us else _at(read, now_us) for read in result.reads)
    return PollResult(result.device, result.unit, reads, result.keys)


def _at(read: Read, at_us: int) -> Read:
    return Read(read.function, read.address, read.count, at_us, read.data, read.error, read.text)


def _now_us() -> int:
    return time.time_ns() // 1000


@contextlib.asynccontextmanager
async def running(bus: Bus) -> AsyncIterator[Bus]:
    """Run *bus* in the background for as long as the block lasts."""
    task = asyncio.create_task(bus.run(), name=f"modbus-{bus.name}")
    await asyncio.sleep(0)  # it has begun, and may be asked
    try:
        yield bus
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
