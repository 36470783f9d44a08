"""All buses of a service: their polls become arrivals in the inlet.

    bus ─┐
    bus ─┼─▶ outbox (bounded) ─▶ Inlet.accept ─▶ spool
    bus ─┘

A poll cannot be asked for again, so when the inlet has no room the outbox holds what it can; beyond
that the oldest polls are dropped, counted, and recorded as a gap.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Callable, Sequence

from devices.codecs.registers import Poll, encode_poll
from devices.gap import Gap
from ingest.collector import Arrival, GapLedger, Inlet, SpoolFull
from ingest.modbus.bus import Bus
from ingest.modbus.bus_core import PollResult
from ingest.modbus.bus_status import BusStatus
from ingest.modbus.dial_in import DialIn
from ingest.retry import Backoff

_log = logging.getLogger(__name__)

SOURCE = "modbus"
_MOST_WAITING = 20_000
_AT_ONCE = 512
_RETRY_S = (0.1, 2.0)
_STOP_WITHIN_S = 3.0
_AFTER_A_BUG_S = 5.0


class Outbox:
    """Polls on their way into the inlet.

    Holds *most* arrivals; when it is full the oldest one is dropped and counted.  `run` hands over
    until cancelled; `drain` hands over what is left, for as long as a stop may take.
    """

    def __init__(self, inlet: Inlet, gaps: GapLedger, most: int = _MOST_WAITING) -> None:
        self._inlet = inlet
        self._gaps = gaps
        self._most = most
        self._waiting: deque[Arrival] = deque()
        self._taken = 0  # of those that wait, how many are being handed over now
        self._filled = asyncio.Event()
        self._lost: tuple[int, int, int] | None = None  # (how many, first and last receipt)
        self.accepted = 0
        self.dropped = 0
        self.is_blocked = False

    @property
    def waiting(self) -> int:
        """How many arrivals are not durable yet."""
        return len(self._waiting)

    def put(self, bus: str, result: PollResult) -> None:
        """Queue the arrival of *result*; never waits."""
        received_at_us = max(read.at_us for read in result.reads)
        payload = encode_poll(Poll(bus, result.unit, result.reads, result.keys))
        if len(self._waiting) >= self._most + self._taken:
            self._drop_oldest()
        self._waiting.append(Arrival(SOURCE, result.device, payload, received_at_us))
        self._filled.set()

    async def run(self) -> None:
        """Hand over for ever."""
        backoff = Backoff(*_RETRY_S, random.random)
        loop = asyncio.get_running_loop()
        while True:
            await self._filled.wait()
            try:
                await self._hand_over()
            except SpoolFull as refusal:
                if not self.is_blocked:
                    self.is_blocked = True
                    _log.error("modbus: polls wait, the spool has no room: %s", refusal)
                await asyncio.sleep(backoff.failed(loop.time()))
            else:
                if self.is_blocked:
                    _log.info("modbus: the spool has room again")
                self.is_blocked = False
                backoff.succeeded()
                await self._record_lost()

    async def drain(self) -> None:
        """Hand over what is left; what the inlet has no room for now is lost and recorded."""
        try:
            while self._waiting:
                await self._hand_over()
        except SpoolFull:
            while self._waiting:
                self._drop_oldest()
        await self._record_lost()

    async def _hand_over(self) -> None:
        portion = [self._waiting[place] for place in range(min(_AT_ONCE, len(self._waiting)))]
        self._taken = len(portion)
        try:
            if portion:
                await self._inlet.accept(portion)
        finally:
            self._taken = 0
        for _ in portion:
            self._waiting.popleft()
        self.accepted += len(portion)
        if not self._waiting:
            self._filled.clear()

    def _drop_oldest(self) -> None:
        """Drop the oldest poll that is not being handed over at this moment."""
        place = self._taken
        arrival = self._waiting[place]
        del self._waiting[place]
        self.dropped += 1
        count, first, _ = self._lost or (0, arrival.received_at_us, 0)
        self._lost = (count + 1, first, arrival.received_at_us)

    async def _record_lost(self) -> None:
        if self._lost is None:
            return
        count, first, last = self._lost
        self._lost = None
        text = f"{count} polls were dropped because the spool had no room"
        await self._gaps.record(Gap(SOURCE, first, last, "spool_full", text))


class ModbusCollector:
    """Runs all buses of a service.

    *make_buses* is called with the function that each bus publishes to.  *dial_in* is the listener
    of buses whose DTUs dial in, opened and closed here.
    """

    def __init__(
        self,
        make_buses: Callable[[Callable[[str, PollResult], None]], Sequence[Bus]],
        inlet: Inlet,
        gaps: GapLedger,
        dial_in: DialIn | None = None,
        most_waiting: int = _MOST_WAITING,
    ) -> None:
        self.outbox = Outbox(inlet, gaps, most_waiting)
        self.buses = tuple(make_buses(self.outbox.put))
        self._dial_in = dial_in

    def bus(self, name: str) -> Bus:
        """Return the bus *name*; raise KeyError if there is none."""
        for bus in self.buses:
            if bus.name == name:
                return bus
        raise KeyError(name)

    def status(self) -> list[BusStatus]:
        """Return the state of every bus."""
        return [bus.status() for bus in self.buses]

    async def run(self, stop: asyncio.Event) -> None:
        """Poll until *stop* is set; then hand over what was read, and leave within 3 s."""
        async with contextlib.AsyncExitStack() as stack:
            if self._dial_in is not None:
                await stack.enter_async_context(self._dial_in)
            async with asyncio.TaskGroup() as tasks:
                forward = tasks.create_task(self.outbox.run(), name="modbus-outbox")
                polls = [
                    tasks.create_task(_keep_running(bus), name=f"modbus-{bus.name}")
                    for bus in self.buses
                ]
                await stop.wait()
                for task in polls:
                    task.cancel()
                if polls:
                    await asyncio.wait(polls)
                forward.cancel()
            try:
                async with asyncio.timeout(_STOP_WITHIN_S):
                    await self.outbox.drain()
            except TimeoutError:
                _log.error("modbus: %d polls were not kept in time", self.outbox.waiting)


async def _keep_running(bus: Bus) -> None:
    """Run *bus*; a bug that ends it must not end the others."""
    while True:
        try:
            await bus.run()
        except Exception:  # whatever the bug is; `recover` counts it
            _log.exception("modbus: a bug: bus %s begins again", bus.name)
            bus.recover("the bus began again after a bug")
            await asyncio.sleep(_AFTER_A_BUG_S)
