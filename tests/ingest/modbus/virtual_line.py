"""A Modbus line in virtual time: the bus core talks to slaves that are functions."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from devices.profile import Limits
from ingest.modbus.bus_core import (
    BusCore,
    BusSettings,
    Close,
    Connect,
    PollResult,
    Send,
    SlavePlan,
    Wait,
)
from ingest.modbus.framing import Frame, Speech
from ingest.modbus.poll_plan import PollGroup, Stretch, plan_stretches, planned_read
from ingest.modbus.request import Request

Reply = tuple[float, Frame | str]
"""(seconds after the request, a frame, or ``lost`` / ``garbled``)."""
Slave = Callable[[Request, float], Sequence[Reply]]


def register(unit: int, address: int) -> int:
    """What register *address* of *unit* holds: no two are alike in a test."""
    return (unit * 1000 + address) & 0xFFFF


def answer(request: Request, unit: int | None = None) -> bytes:
    """The right answer to a read."""
    who = request.unit if unit is None else unit
    words = [register(who, at) for at in range(request.address, request.last + 1)]
    data = b"".join(word.to_bytes(2, "big") for word in words)
    return bytes((request.function, len(data))) + data


def healthy(delay_s: float = 0.01) -> Slave:
    return lambda request, now_s: [(delay_s, Frame(request.unit, answer(request)))]


def dead(request: Request, now_s: float) -> list[Reply]:
    return []


def refusing(code: int) -> Slave:
    return lambda request, now_s: [
        (0.01, Frame(request.unit, bytes((request.function | 0x80, code))))
    ]


def plan(
    device: str,
    unit: int,
    *pairs: tuple[int, int],
    every: float = 1.0,
    timeout_s: float = 0.3,
    gap: int = 0,
    function: int = 3,
    fixed: bool = False,
) -> SlavePlan:
    """A device whose values lie at the inclusive address ranges *pairs*."""
    stretches = [Stretch(a, b + 1) for a, b in pairs]
    runs = [[one] for one in stretches] if fixed else plan_stretches(stretches, 125, gap)
    lines = {stretch.start: 10 + place for place, stretch in enumerate(stretches)}
    reads = tuple(planned_read(unit, function, run, lines, fixed) for run in runs)
    return SlavePlan(device, unit, (PollGroup(every, reads),), timeout_s, Limits().pause_s)


@dataclass
class VirtualLine:
    """Runs a core until a time; *slaves* maps units to what they answer."""

    slaves: dict[int, Slave]
    plans: Sequence[SlavePlan]
    speech: Speech = Speech.RTU
    endpoints: dict[int, bool] = field(default_factory=lambda: {0: True})
    settings: dict = field(default_factory=dict)
    now_s: float = 100.0
    echoes: Callable[[int], int] | None = None

    def __post_init__(self) -> None:
        self.core = BusCore(
            BusSettings(
                name="line",
                speech=self.speech,
                endpoints=len(self.endpoints),
                **({"timeout_s": 0.3} | self.settings),
            ),
            self.plans,
            self.now_s,
            random.Random(1).random,
        )
        self.results: list[tuple[float, PollResult]] = []
        self.notices: list[str] = []
        self.sent: list[tuple[float, Request]] = []
        self.connects: list[tuple[float, int]] = []
        self.closes: list[tuple[float, str]] = []
        self._coming: list[tuple[float, int, Frame | str]] = []
        self._number = 0

    @property
    def at_us(self) -> int:
        return int(self.now_s * 1e6)

    def run(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            step = self.core.step(self.now_s)
            self._collect()
            if isinstance(step, Connect):
                self.connects.append((self.now_s, step.endpoint))
                if self.endpoints[step.endpoint]:
                    self.core.connected(self.now_s)
                else:
                    self.core.connect_failed(self.now_s, "refused")
            elif isinstance(step, Close):
                self.closes.append((self.now_s, step.text))
            elif isinstance(step, Wait):
                self._wait(min(step.until_s, end_s))
            else:
                self._send(step)
            self._collect()

    def _collect(self) -> None:
        self.results += [(self.now_s, result) for result in self.core.take_results()]
        self.notices += self.core.take_notices()

    def _send(self, step: Send) -> None:
        self.sent.append((self.now_s, step.request))
        slave = self.slaves.get(step.request.unit, dead)
        for delay_s, what in slave(step.request, self.now_s):
            if isinstance(what, Frame) and self.speech is Speech.TCP:
                number = self.echoes(step.transaction) if self.echoes else step.transaction
                what = Frame(what.unit, what.pdu, number)
            self._number += 1
            heapq.heappush(self._coming, (self.now_s + delay_s, self._number, what))
        while True:
            if not self._coming or self._coming[0][0] > step.deadline_s:
                self.now_s = step.deadline_s
                self.core.timed_out(self.now_s, self.at_us)
                return
            self.now_s, _, what = heapq.heappop(self._coming)
            if what == "lost":
                self.core.lost(self.now_s, self.at_us, "closed by the gateway")
                return
            if what == "garbled":
                self.core.garbled("E-MB-CRC", "wrong checksum", self.now_s, self.at_us)
                return
            assert isinstance(what, Frame)
            if self.core.received(what, self.now_s, self.at_us):
                return

    def _wait(self, until_s: float) -> None:
        if self._coming and self._coming[0][0] <= until_s:
            self.now_s, _, what = heapq.heappop(self._coming)
            self.core.stray(what if isinstance(what, Frame) else None, self.now_s)
            return
        self.now_s = max(until_s, self.now_s + 1e-9)

    # ---- what tests look at -----------------------------------------------------------------

    def polls(self, device: str) -> list[tuple[float, PollResult]]:
        return [(at_s, result) for at_s, result in self.results if result.device == device]

    def errors(self, device: str) -> list[str]:
        return [read.error for _, result in self.polls(device) for read in result.reads]

    def wrong_values(self) -> int:
        """How many reads claim registers that they do not hold."""
        wrong = 0
        for _, result in self.results:
            for read in result.reads:
                if read.error:
                    continue
                at = range(read.address, read.address + read.count)
                words = [register(result.unit, one) for one in at]
                wrong += read.data != b"".join(word.to_bytes(2, "big") for word in words)
        return wrong
