"""Modbus TCP slaves into the spool and through the decoder, against pymodbus alone in a bare loop.

Simulated slaves in other processes, each on a port of its own.  Four measurements:

* bare: pymodbus' asyncio client reads the same block of every slave, all slaves at once, as fast as
  they answer; the registers are counted and thrown away.  It checks nothing beyond what pymodbus
  does, stamps nothing, decodes nothing beyond the list of registers, keeps nothing.
* full speed: the collector does the same, and every poll is checked, stamped, put durably into the
  spool, decoded, converted and judged; readings are counted where the database would take them.
  The two work in turns, each in a process of its own, with as many connections to the same slaves;
  `ratio` is the median of neighbours, `ratio_of_cpu` that of the CPU time a point, which a busy
  machine sways less.
* sustained: the collector reads every slave once a second; CPU, memory, drift of the grid.
* requests: all shipped profiles on one bus; requests a cycle on the wire against the fewest that
  any legal plan can have.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
from _modbus_contenders import collecting

from devices.bus import Bus, BusTransport
from devices.profile import Profile
from devices.profile_library import shipped_profile, shipped_profile_names
from firmware_sims.modbus_node import ModbusBus
from firmware_sims.modbus_slave import slave_of
from ingest.modbus.assembly import Attached, make_bus
from ingest.modbus.bus import running
from ingest.modbus.bus_core import PollResult
from ingest.modbus.poll_plan import wanted_points

ROOT = Path(__file__).resolve().parents[2]


def say(text: str) -> None:
    """Tell progress; figures alone go to standard output."""
    print(text, file=sys.stderr, flush=True)


# ---- the slaves ------------------------------------------------------------------------------


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


# ---- full speed, and beside it pymodbus alone -----------------------------------------------


class Contender:
    """A master in a process of its own; works only while it is told to."""

    def __init__(self, name: str, ports: Sequence[int], registers: int) -> None:
        self._child = subprocess.Popen(
            [
                sys.executable,
                str(Path(__file__).with_name("_modbus_contenders.py")),
                name,
                f"--registers={registers}",
                f"--ports={','.join(map(str, ports))}",
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        _line_of(self._child)  # it is connected and warm

    def work(self, seconds: float) -> dict[str, float]:
        """Have it work, and return its figures."""
        self._child.stdin.write(f"{seconds}\n")
        self._child.stdin.flush()
        return json.loads(_line_of(self._child))

    def close(self) -> None:
        """End the process."""
        self._child.stdin.close()
        self._child.wait()


def full_speed(ports: Sequence[int], options: argparse.Namespace) -> dict[str, float]:
    """Return the figures of the collector and of pymodbus alone, taken in turns.

    A machine that others use is faster in one second than in the next, so the two work in short
    stretches, ABBA ABBA ..., and what counts is the median of the ratios within each ABBA.
    """
    names = ("collector", "bare")
    contenders = {name: Contender(name, ports, options.registers) for name in names}
    pairs: list[dict[str, dict[str, float]]] = []
    try:
        for turn in range(2 * options.rounds):
            order = names if turn % 2 else names[::-1]
            pairs.append({name: contenders[name].work(options.seconds) for name in order})
    finally:
        for contender in contenders.values():
            contender.close()
    rates = {name: np.array([pair[name]["points_per_s"] for pair in pairs]) for name in names}
    used = {name: np.array([pair[name]["cpu"] for pair in pairs]) for name in names}
    ratios = _by_two(rates["collector"]) / _by_two(rates["bare"])
    low, middle, high = np.percentile(ratios, (25, 50, 75))
    cpu_us = {name: np.median(used[name] / rates[name]) * 1e6 for name in names}
    return {
        "points_per_s": round(float(np.median(rates["collector"]))),
        "bare_points_per_s": round(float(np.median(rates["bare"]))),
        "ratio": round(float(middle), 3),
        "ratio_quartiles": [round(float(low), 3), round(float(high), 3)],
        "ratio_of_cpu": round(float(cpu_us["bare"] / cpu_us["collector"]), 3),
        "stretches": 2 * len(pairs),
        "cpu_us_per_point": round(float(cpu_us["collector"]), 3),
        "bare_cpu_us_per_point": round(float(cpu_us["bare"]), 3),
        "wrong": int(pairs[-1]["collector"]["wrong"]),
    }


def _by_two(rates: np.ndarray) -> np.ndarray:
    """Return the sums of both stretches of a contender in each ABBA."""
    return rates.reshape(-1, 2).sum(axis=1)


# ---- a second at a time ---------------------------------------------------------------------


async def sustained(ports: Sequence[int], registers: int, seconds: float) -> dict[str, float]:
    """Read every slave once a second; the first second is left out."""
    process = psutil.Process()
    async with collecting(ports, registers, 1.0) as run:
        await asyncio.sleep(1.0)
        began_s, cpu, readings = time.perf_counter(), process.cpu_times(), run.sink.readings
        memory = 0
        while time.perf_counter() - began_s < seconds:
            await asyncio.sleep(0.2)
            memory = max(memory, process.memory_info().rss)
        took_s = time.perf_counter() - began_s
        used, done = process.cpu_times(), run.sink.readings - readings
    work, status = run.work(), run.collector.status()
    return {
        "sustained_points_per_s": round(done / took_s),
        "sustained_missed": sum(bus.counters.missed_turns for bus in status),
        "drift_ms": round(_drift_ms(run.sink.at_us, 1.0), 1),
        "cpu": round((used.user + used.system - cpu.user - cpu.system) / took_s, 3),
        "memory": round(memory / 1e6, 1),
        "failures": work.failures,
        "wrong": work.wrong,
    }


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


async def measure(options: argparse.Namespace) -> dict[str, object]:
    """Run everything and return the figures."""
    loads = [os.getloadavg()[0]]
    slaves = SlaveProcesses(options.slaves, options.registers, options.processes)
    try:
        say(f"collector and bare loop in turns, {2 * options.rounds} x {options.seconds:g} s ...")
        fast = await asyncio.to_thread(full_speed, slaves.ports, options)
        say(f"    {fast['points_per_s']:,} and {fast['bare_points_per_s']:,} points/s")
        loads.append(os.getloadavg()[0])
        say(f"{options.slaves} slaves x {options.registers} registers each second ...")
        steady = await sustained(slaves.ports, options.registers, options.steady_seconds)
    finally:
        slaves.close()
    say("requests a cycle ...")
    requests, fewest = await requests_per_cycle()
    return {
        **fast,
        **steady,
        "wrong": fast["wrong"] + steady["wrong"],
        "requests_per_cycle": requests,
        "requests_lower_bound": fewest,
        "slaves": options.slaves,
        "registers": options.registers,
        "load_average": [round(load, 2) for load in loads],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="figures as one JSON object")
    parser.add_argument("--slaves", type=int, default=100)
    parser.add_argument("--registers", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2, help="processes of slaves")
    parser.add_argument("--rounds", type=int, default=40, help="how often ABBA, A bare, B ours")
    parser.add_argument("--seconds", type=float, default=0.25, help="how long each stretch")
    parser.add_argument("--steady-seconds", type=float, default=20.0)
    figures = asyncio.run(measure(parser.parse_args()))
    if "--json" in sys.argv:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        shown = str(value) if isinstance(value, list) else f"{value:,}"
        print(f"{name:24} {shown:>14}")


if __name__ == "__main__":
    main()
