"""The two masters that `bench modbus` holds against each other, each in a process of its own.

    python _modbus_contenders.py bare|collector --registers 100 --ports 40001,40002,...

connects to all slaves, and then, for each number of seconds that comes on its standard input, works
that long and prints what it did as one JSON line.  Between two such stretches its event loop does
not turn, so the other one has the machine and the slaves for itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pymodbus.client import AsyncModbusTcpClient

from devices.bus import Bus, BusTransport
from devices.codecs.registers import RegisterCodec
from devices.profile import Profile, read_profile
from devices.reading import Batch
from devices.registry import Registry
from devices.series import Device, Series, Transport
from devices.site import Medium, Placement, Site, SiteKind
from devices.units import Conversion
from firmware_sims.modbus_load import register_value
from ingest.counters import Counters
from ingest.gap_journal import GapJournal
from ingest.modbus.assembly import Attached, make_bus
from ingest.modbus.collector import ModbusCollector
from ingest.modbus.poll_plan import wanted_points
from ingest.pipeline import DecoderSource, Pipeline
from ingest.spool import Spool

WARM_UP_S = 1.0
SETTLE_S = 0.05  # at first there are the replies that came while the loop did not turn
END_WITHIN_S = 10.0
AT_ONCE_S = 0.001  # an interval that is always over: the next poll follows the reply


# ---- what is read ---------------------------------------------------------------------------


def load_profile(registers: int) -> Profile:
    """A device with *registers* temperatures, one a register."""
    points = "\n".join(
        f"      - {{address: {n}, type: int16, scale: 0.1, quantity: illuminance, unit: lx, "
        f"channel: r{n}}}"
        for n in range(registers)
    )
    return read_profile(
        f"""
profile: load
protocol: modbus
maker: bench
model: load
name: {{en: load}}
sources: [{{text: made for this run, evidence: C}}]
blocks:
  - function: 3
    points:
{points}
""",
        "load.yaml",
    )


def registry_of(profile: Profile, slaves: int) -> Registry:
    """All slaves as devices, all points as series, numbered from 1 slave by slave."""
    site = Site("load", SiteKind.BASE, "load", "load", None)
    devices = []
    for number in range(slaves):
        code = f"d{number}"
        series = tuple(
            Series(
                code,
                point.quantity or "",
                point.channel,
                point.key,
                "load",
                Placement.INSIDE,
                Medium.AIR,
                point.reading_unit,
                Conversion(),
                1.0,
            )
            for point in profile.series()
        )
        devices.append(Device(code, "load", Transport.MODBUS, "load", series=series))
    codes = [series.code for device in devices for series in device.series]
    ids = {code: number for number, code in enumerate(codes, 1)}
    return Registry((site,), tuple(devices), ids, revision=1)


# ---- pymodbus alone -------------------------------------------------------------------------


@dataclass
class Work:
    """What a contender has done so far."""

    points: int = 0
    wrong: int = 0
    failures: int = 0


@contextlib.asynccontextmanager
async def bare(ports: Sequence[int], registers: int) -> AsyncIterator[Callable[[], Work]]:
    """pymodbus' own asyncio client, one connection a slave, all slaves at once.

    Each client asks for the next block as soon as it has the last one.  It counts the registers and
    throws them away: no check, no time stamp, nothing decoded, nothing kept.
    """
    clients = [AsyncModbusTcpClient("127.0.0.1", port=port) for port in ports]
    for client in clients:
        if not await client.connect():
            raise SystemExit("bench: a slave does not answer")
    work = Work()
    is_over = False

    async def read(client: AsyncModbusTcpClient) -> None:
        while not is_over:
            reply = await client.read_holding_registers(0, count=registers, device_id=1)
            work.points += len(reply.registers)

    async with asyncio.TaskGroup() as tasks:
        for client in clients:
            tasks.create_task(read(client))
        yield lambda: work
        is_over = True
    for client in clients:
        client.close()


# ---- the collector --------------------------------------------------------------------------


@dataclass
class Written:
    """A batch that was taken."""

    kind: str
    inserted: int
    duplicates: int = 0
    conflicts: int = 0
    reason: str = ""


@dataclass
class CountingSink:
    """Stands where the database would; checks every value against what the slave holds."""

    slaves: int
    registers: int
    readings: int = 0
    wrong: int = 0
    at_us: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self._expected = np.array(
            [
                register_value(slave, address) / 10
                for slave in range(self.slaves)
                for address in range(self.registers)
            ]
        )
        self._is_first = np.arange(self.slaves * self.registers) % self.registers == 0

    async def write(self, batch: Batch) -> Written:
        """Count and compare."""
        place = batch.series_id - 1
        is_wrong = (batch.value != self._expected[place]) | (batch.quality != 0)
        self.wrong += int(np.count_nonzero(is_wrong))
        self.readings += len(batch)
        first = self._is_first[place]
        slaves = place[first] // self.registers
        for slave, at_us in zip(slaves, batch.observed_at_us[first], strict=True):
            self.at_us[int(slave)].append(int(at_us))
        return Written("written", len(batch))


class NoLetters:
    """Nothing may be unreadable here."""

    async def put(self, letters: Sequence[object]) -> Written:
        """End the run."""
        raise SystemExit(f"bench: a dead letter: {letters[0]}")


@dataclass
class Collecting:
    """A collector at work, and where its readings go."""

    collector: ModbusCollector
    sink: CountingSink

    def work(self) -> Work:
        """Return what it has done so far."""
        counters = [bus.counters for bus in self.collector.status()]
        failures = sum(
            one.timeouts + one.garbled + one.mismatches + one.refusals + one.losses
            for one in counters
        )
        return Work(self.sink.readings, self.sink.wrong, failures)


@contextlib.asynccontextmanager
async def collecting(
    ports: Sequence[int], registers: int, interval_s: float
) -> AsyncIterator[Collecting]:
    """The whole path as the service runs it: one bus a slave, every *interval_s*.

    Each reply is checked, stamped, put durably into the spool, decoded, converted and judged; what
    is counted has come out at the other end, where the database would take it.
    """
    profile = load_profile(registers)
    registry = registry_of(profile, len(ports))
    counters, stop = Counters(), asyncio.Event()
    sink = CountingSink(len(ports), registers)
    decoders = DecoderSource("gh/{site}/{device}", {"load": RegisterCodec(profile)})
    await decoders.adopt(registry)
    now_s = asyncio.get_running_loop().time()
    wanted = wanted_points(profile, interval_s)

    def make(publish):
        return [
            make_bus(
                Bus(
                    f"b{n}", BusTransport.TCP, "tcp", 1.0, 0.0, 1.0, 5.0, 1, (("127.0.0.1", port),)
                ),
                [Attached(f"d{n}", 1, profile, wanted)],
                publish,
                now_s,
                phase_s=interval_s * n / len(ports),
            )
            for n, port in enumerate(ports)
        ]

    with tempfile.TemporaryDirectory() as folder:
        async with Spool(Path(folder), counters) as spool:
            journal = GapJournal(Path(folder) / "gaps.json", counters)
            pipeline = Pipeline(spool, decoders, sink, NoLetters(), counters)
            collector = ModbusCollector(make, spool, journal)
            async with asyncio.TaskGroup() as tasks:
                polling = tasks.create_task(collector.run(stop))
                storing = tasks.create_task(pipeline.run())
                yield Collecting(collector, sink)
                stop.set()
                await asyncio.wait([polling])
                pipeline.stop()
                await asyncio.wait([storing])


# ---- a process of its own -------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _collector(ports: Sequence[int], registers: int) -> AsyncIterator[Callable[[], Work]]:
    async with collecting(ports, registers, AT_ONCE_S) as run:
        yield run.work


def serve(contender: AbstractAsyncContextManager[Callable[[], Work]]) -> None:
    """Work for as long as each line of standard input says, until there are no more."""
    ready, end = asyncio.Event(), asyncio.Event()
    looks: list[Callable[[], Work]] = []

    async def live() -> None:
        async with contender as look:
            looks.append(look)
            ready.set()
            await end.wait()

    async def begin() -> asyncio.Task[None]:
        life = asyncio.create_task(live())
        life.add_done_callback(lambda _: ready.set())
        await ready.wait()
        await asyncio.sleep(WARM_UP_S)
        return life

    with asyncio.Runner() as runner:
        life = runner.run(begin())
        if life.done():
            life.result()
        _say({"ready": True})
        for line in sys.stdin:
            if life.done():
                break  # of an error, which is raised below
            look = looks[0]
            runner.run(asyncio.sleep(SETTLE_S))
            before, cpu_s, began_s = look().points, time.process_time(), time.perf_counter()
            runner.run(asyncio.sleep(float(line)))
            took_s = time.perf_counter() - began_s
            work = look()
            _say(
                {
                    "points_per_s": (work.points - before) / took_s,
                    "cpu": (time.process_time() - cpu_s) / took_s,
                    "wrong": work.wrong,
                    "failures": work.failures,
                }
            )
        end.set()
        runner.run(_ended(life))


async def _ended(life: asyncio.Task[None]) -> None:
    async with asyncio.timeout(END_WITHIN_S):
        await life


def _say(figures: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Be one of the two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("contender", choices=("bare", "collector"))
    parser.add_argument("--registers", type=int, required=True)
    parser.add_argument("--ports", required=True, help="of the slaves, with commas")
    options = parser.parse_args()
    ports = [int(port) for port in options.ports.split(",")]
    be = {"bare": bare, "collector": _collector}[options.contender]
    serve(be(ports, options.registers))


if __name__ == "__main__":
    main()
