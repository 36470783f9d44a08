"""Modbus TCP slaves into the spool and through the decoder, against pymodbus alone in a bare loop.

Simulated slaves in other processes, each on a port of its own.  Four measurements:

* bare: pymodbus' asyncio client reads the same block of every slave, all slaves at once, as fast as
  they answer; the registers are counted and thrown away.
* full speed: the collector does the same, and every poll is checked, stamped, put durably into the
  spool, decoded, converted and judged; readings are counted where the database would take them.
* sustained: the collector reads every slave once a second; CPU, memory, drift of the grid.
* requests: all shipped profiles on one bus; requests a cycle on the wire against the fewest that
  any legal plan can have.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from pymodbus.client import AsyncModbusTcpClient

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from devices.bus import Bus, BusTransport  # noqa: E402  # the repository is put on the path above
from devices.codecs.registers import RegisterCodec  # noqa: E402
from devices.profile import Profile, read_profile  # noqa: E402
from devices.profile_library import shipped_profile, shipped_profile_names  # noqa: E402
from devices.reading import Batch  # noqa: E402
from devices.registry import Registry  # noqa: E402
from devices.series import Device, Series, Transport  # noqa: E402
from devices.site import Medium, Placement, Site, SiteKind  # noqa: E402
from devices.units import Conversion  # noqa: E402
from firmware_sims.modbus_node import ModbusBus  # noqa: E402
from firmware_sims.modbus_slave import slave_of  # noqa: E402
from ingest.counters import Counters  # noqa: E402
from ingest.gap_journal import GapJournal  # noqa: E402
from ingest.modbus.assembly import Attached, make_bus  # noqa: E402
from ingest.modbus.bus import running  # noqa: E402
from ingest.modbus.bus_core import PollResult  # noqa: E402
from ingest.modbus.collector import ModbusCollector  # noqa: E402
from ingest.modbus.poll_plan import wanted_points  # noqa: E402
from ingest.pipeline import DecoderSource, Pipeline  # noqa: E402
from ingest.spool import Spool  # noqa: E402


def say(text: str) -> None:
    """Tell progress; figures alone go to standard output."""
    print(text, file=sys.stderr, flush=True)


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
    """All slaves as devices, all points as series."""
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


class SlaveProcesses:
    """Simulated slaves in other processes."""

    def __init__(self, slaves: int, registers: int, processes: int) -> None:
        share = [len(part) for part in np.array_split(np.arange(slaves), processes)]
        first = np.concatenate([[0], np.cumsum(share)[:-1]])
        self._children = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "firmware_sims.modbus_load",
                    f"--first={start}",
                    f"--slaves={count}",
                    f"--registers={registers}",
                ],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for start, count in zip(first, share, strict=True)
        ]
        self.ports = [port for child in self._children for port in json.loads(_line_of(child))]

    def close(self) -> None:
        for child in self._children:
            child.stdin.close()
            child.wait()


def _line_of(child: subprocess.Popen[str]) -> str:
    line = child.stdout.readline()
    if not line:
        raise SystemExit("bench: the simulated slaves did not start")
    return line


# ---- bare -----------------------------------------------------------------------------------


async def bare(ports: Sequence[int], registers: int, seconds: float) -> float:
    """Return the registers a second that pymodbus alone reads."""
    clients = [AsyncModbusTcpClient("127.0.0.1", port=port) for port in ports]
    for client in clients:
        if not await client.connect():
            raise SystemExit("bench: a slave does not answer")
    count = 0
    end = time.perf_counter() + seconds

    async def loop(client: AsyncModbusTcpClient) -> None:
        nonlocal count
        while time.perf_counter() < end:
            reply = await client.read_holding_registers(0, count=registers, device_id=1)
            count += len(reply.registers)

    began = time.perf_counter()
    await asyncio.gather(*(loop(client) for client in clients))
    rate = count / (time.perf_counter() - began)
    for client in clients:
        client.close()
    return rate


# ---- the collector --------------------------------------------------------------------------


@dataclass
class Written:
    kind: str
    inserted: int
    duplicates: int = 0
    conflicts: int = 0
    reason: str = ""


class CountingSink:
    """Stands where the database would; checks every value against what the slave holds."""

    def __init__(self, registers: int) -> None:
        self.readings = 0
        self.wrong = 0
        self._registers = registers
        self.at_us: dict[int, list[int]] = defaultdict(list)

    async def write(self, batch: Batch) -> Written:
        slave, address = np.divmod(batch.series_id - 1, self._registers)
        expected = (slave * 7 + address * 3) % 1000 / 10
        self.wrong += int(np.count_nonzero((batch.value != expected) | (batch.quality != 0)))
        self.readings += len(batch)
        first = address == 0
        for number, at_us in zip(slave[first], batch.observed_at_us[first], strict=True):
            self.at_us[int(number)].append(int(at_us))
        return Written("written", len(batch))


class NoLetters:
    async def put(self, letters: Sequence[object]) -> Written:
        raise SystemExit(f"bench: a dead letter: {letters[0]}")


@dataclass
class Run:
    """What a run of the collector measured."""

    points_per_s: float
    wrong: int
    cpu: float
    memory_mb: float
    missed: int
    drift_ms: float
    failures: int


async def collect(ports: Sequence[int], profile: Profile, interval_s: float, seconds: float) -> Run:
    """Run the collector over all slaves and return what it measured, the first second left out."""
    registers = len(profile.points)
    registry = registry_of(profile, len(ports))
    counters, sink, stop = Counters(), CountingSink(registers), asyncio.Event()
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

    process = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        async with Spool(Path(folder), counters) as spool:
            journal = GapJournal(Path(folder) / "gaps.json", counters)
            pipeline = Pipeline(spool, decoders, sink, NoLetters(), counters)
            collector = ModbusCollector(make, spool, journal)
            async with asyncio.TaskGroup() as tasks:
                collecting = tasks.create_task(collector.run(stop))
                storing = tasks.create_task(pipeline.run())
                await asyncio.sleep(1.0)
                began, cpu, readings = time.perf_counter(), process.cpu_times(), sink.readings
                memory = 0
                while time.perf_counter() - began < seconds:
                    await asyncio.sleep(0.2)
                    memory = max(memory, process.memory_info().rss)
                took = time.perf_counter() - began
                used, done = process.cpu_times(), sink.readings - readings
                stop.set()
                await asyncio.wait([collecting])
                pipeline.stop()
                await asyncio.wait([storing])
    status = collector.status()
    return Run(
        points_per_s=done / took,
        wrong=sink.wrong,
        cpu=(used.user + used.system - cpu.user - cpu.system) / took,
        memory_mb=memory / 1e6,
        missed=sum(bus.counters.missed_turns for bus in status),
        drift_ms=_drift_ms(sink.at_us, interval_s),
        failures=sum(bus.counters.requests - bus.counters.replies for bus in status),
    )


def _drift_ms(at_us: dict[int, list[int]], interval_s: float) -> float:
    """Return how far the last poll of a device lies off its grid, the worst of all devices."""
    worst = 0.0
    for times in at_us.values():
        if len(times) > 2:
            first, last = sorted(times)[1], max(times)
            steps = round((last - first) / 1e6 / interval_s)
            worst = max(worst, abs((last - first) / 1e3 - steps * interval_s * 1e3))
    return worst


# ---- requests a cycle -----------------------------------------------------------------------


def fewest_requests(profile: Profile) -> int:
    """Return the least number of legal requests for the profile's series, counted on its own.

    Values from left to right; a new request begins only where the value cannot belong to the one
    before: too far away, across an illegal address, or read as a fixed block.
    """
    keys = {point.key for point in profile.series()}
    keys |= {guard.key for key in keys for guard in profile.guards(key)}
    fixed = [block for block in profile.blocks if block.span is not None]
    count = sum(any(point.key in keys for point in block.points) for block in fixed)
    by_function = defaultdict(list)
    for block in profile.blocks:
        if block.span is None:
            by_function[block.function] += [p for p in block.points if p.key in keys]
    limits = profile.limits
    for function, points in by_function.items():
        start = end = None
        for point in sorted(points, key=lambda p: p.address):
            hole = range(end or 0, point.address)
            blocked = any(
                first <= at <= last
                for at in hole
                for first, last in limits.illegal.get(function, ())
            )
            if (
                start is None
                or point.end - start > limits.most(function)
                or len(hole) > limits.gap
                or blocked
            ):
                count, start = count + 1, point.address
            end = max(point.end, end or 0) if start != point.address else point.end
    return count


async def requests_per_cycle() -> tuple[float, int]:
    """Return requests a cycle on the wire, and the fewest possible, for all shipped profiles."""
    profiles = [shipped_profile(name) for name in shipped_profile_names()]
    sim = ModbusBus(
        [
            slave_of(profile, lambda key, at_s: 1.0, n, 60.0)
            for n, profile in enumerate(profiles, 1)
        ],
        "tcp",
    )
    polls: list[int] = []
    enough = asyncio.Event()

    def count(name: str, result: PollResult) -> None:
        polls.append(len(result.reads))
        if len(polls) >= 5 * len(profiles):
            enough.set()

    async with sim.listening() as port:
        bus = Bus("all", BusTransport.TCP, "tcp", 1.0, 0.0, 1.0, 5.0, 0, (("127.0.0.1", port),))
        devices = [
            Attached(profile.name, n, profile, wanted_points(profile, 0.5))
            for n, profile in enumerate(profiles, 1)
        ]
        made = make_bus(
            bus,
            devices,
            count,
            asyncio.get_running_loop().time(),
        )
        async with running(made):
            await enough.wait()
    cycles = len(polls) / len(profiles)
    return sum(polls) / cycles, sum(fewest_requests(profile) for profile in profiles)


# ---- all of it ------------------------------------------------------------------------------


async def measure(options: argparse.Namespace) -> dict[str, float]:
    """Run everything and return the figures."""
    profile = load_profile(options.registers)
    slaves = SlaveProcesses(options.slaves, options.registers, options.processes)
    ports = slaves.ports
    try:
        bare_rates, rates, runs = [], [], []
        for turn in range(options.turns):
            say(f"bare loop {turn + 1} of {options.turns} ...")
            bare_rates.append(await bare(ports, options.registers, options.seconds))
            say(f"    {bare_rates[-1]:,.0f} points/s")
            say(f"collector at full speed {turn + 1} of {options.turns} ...")
            runs.append(await collect(ports, profile, 0.001, options.seconds))
            rates.append(runs[-1].points_per_s)
            say(f"    {rates[-1]:,.0f} points/s")
        say(f"{options.slaves} slaves x {options.registers} registers each second ...")
        steady = await collect(ports, profile, 1.0, options.steady_seconds)
    finally:
        slaves.close()
    say("requests a cycle ...")
    requests, fewest = await requests_per_cycle()
    wrong = steady.wrong + sum(run.wrong for run in runs)
    return {
        "points_per_s": round(float(np.median(rates))),
        "bare_points_per_s": round(float(np.median(bare_rates))),
        "ratio": round(float(np.median(rates) / np.median(bare_rates)), 3),
        "requests_per_cycle": requests,
        "requests_lower_bound": fewest,
        "sustained_points_per_s": round(steady.points_per_s),
        "sustained_missed": steady.missed,
        "drift_ms": round(steady.drift_ms, 1),
        "cpu": round(steady.cpu, 3),
        "memory": round(steady.memory_mb, 1),
        "memory_at_full_speed": round(max(run.memory_mb for run in runs), 1),
        "failures": steady.failures,
        "wrong": wrong,
        "slaves": options.slaves,
        "registers": options.registers,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="figures as one JSON object")
    parser.add_argument("--slaves", type=int, default=100)
    parser.add_argument("--registers", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2, help="processes of slaves")
    parser.add_argument("--turns", type=int, default=3, help="how often bare and full speed")
    parser.add_argument("--seconds", type=float, default=5.0, help="of bare and full speed, each")
    parser.add_argument("--steady-seconds", type=float, default=20.0)
    figures = asyncio.run(measure(parser.parse_args()))
    if "--json" in sys.argv:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:24} {value:>14,}")


if __name__ == "__main__":
    main()
