"""Fault runs on real sockets: what a sick device or line does to others, and how fast it heals."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import statistics
import sys
import time

import psutil
import pytest

from devices.profile_library import shipped_profile
from firmware_sims.modbus_faults import Fault, FaultKind
from firmware_sims.modbus_node import ModbusBus
from firmware_sims.modbus_registers import RegisterMemory
from firmware_sims.modbus_slave import SimulatedSlave, slave_of
from ingest.modbus.breaker import SlaveState
from ingest.modbus.bus import running
from tests.ingest.modbus.test_bus import (
    Polls,
    T,
    attached,
    build,
    check_values,
    described,
    truth,
)
from tests.rig.waiting import eventually

SOIL = shipped_profile("sn-3001-tr-ecthnpkph-n01")
SPARSE = shipped_profile("jxct-jxbs-3001-tr")


def numbered(unit: int) -> SimulatedSlave:
    """Every register of the sparse probe holds a number that no other register holds."""
    memory = RegisterMemory()
    for point in SPARSE.points:
        memory.set(3, point.address, unit * 256 + point.address)
    return SimulatedSlave(unit, memory, functions=frozenset((3, 6)))


def wrong_registers(polls: Polls) -> int:
    wrong = 0
    for result in polls.results:
        for read in result.reads:
            if not read.error:
                at = range(read.address, read.address + read.count)
                words = [(result.unit * 256 + one).to_bytes(2, "big") for one in at]
                wrong += read.data != b"".join(words)
    return wrong


@pytest.mark.timeout(180)
async def test_ten_thousand_requests_over_rtu_over_tcp_with_late_replies_none_wrong():
    chance = random.Random(7)
    slaves = [numbered(unit) for unit in (1, 2)]
    for slave in slaves:
        for _ in range(20_000):
            late = chance.random() < 0.004
            seconds = chance.uniform(0.03, 0.25)
            slave.faults.coming.append(Fault(FaultKind.LATE, seconds) if late else None)
    sim, polls = ModbusBus(slaves, "rtu"), Polls()
    devices = [attached(SPARSE, unit, 0.002, f"d{unit}") for unit in (1, 2)]
    async with sim.listening() as port:
        bus = described(T.RTU_OVER_TCP, port, timeout_s=0.04, quiet_s=0.04, horizon_s=1.0)
        async with running(build(bus, devices, polls)) as run:
            await eventually(lambda: run.status().counters.requests >= 10_000, timeout_s=150)
            counters = run.status().counters
    assert wrong_registers(polls) == 0
    assert counters.late_replies > 10
    assert counters.replies > 8_000


async def test_one_dead_slave_of_ten_delays_the_others_by_less_than_a_tenth():
    """Beside a bus on which all ten live, so that a machine that stalls holds up both alike."""
    alive = {"well": range(1, 11), "sick": range(1, 10)}
    polls = {name: Polls() for name in alive}
    runs = {}
    async with contextlib.AsyncExitStack() as stack:
        for name, units in alive.items():
            slaves = [slave_of(SOIL, truth, unit, refresh_s=60.0) for unit in units]
            sim = ModbusBus(slaves, "rtu", turnaround_s=0.002)
            port = await stack.enter_async_context(sim.listening())
            # A turn in vain takes longer than all have between two polls.
            bus = described(T.RTU_OVER_TCP, port, timeout_s=0.2, quiet_s=0.2)
            devices = [attached(SOIL, unit, 0.25, f"d{unit}") for unit in range(1, 11)]
            runs[name] = await stack.enter_async_context(running(build(bus, devices, polls[name])))
        await eventually(
            lambda: {s.unit: s.state for s in runs["sick"].status().slaves}[10] is SlaveState.DOWN
        )
        assert {read.error for r in polls["sick"].results if r.unit == 10 for read in r.reads} == {
            "E-MB-TIMEOUT"
        }
        for each in polls.values():
            each.results.clear()
        of_each = [(name, unit) for name in alive for unit in range(1, 10)]
        await eventually(
            lambda: min(len(whole_at_s(polls[name], unit)) for name, unit in of_each) > 16,
            timeout_s=30,
        )
    for unit in range(1, 10):
        period_s = {name: mean_period_s(whole_at_s(polls[name], unit)[:17]) for name in alive}
        assert period_s["sick"] < 1.1 * period_s["well"], unit


def whole_at_s(polls: Polls, unit: int) -> list[float]:
    """Return when each whole poll of *unit* was answered."""
    return [result.reads[0].at_us / 1e6 for result in polls.whole() if result.unit == unit]


def mean_period_s(at_s: list[float]) -> float:
    return (at_s[-1] - at_s[0]) / (len(at_s) - 1)


async def test_gateway_that_restarts_is_read_again_within_five_seconds():
    polls = Polls()
    device = attached(SOIL, 1, 0.1)
    sim = ModbusBus([slave_of(SOIL, truth, 1)], "rtu")
    async with sim.listening() as port:
        run = build(described(T.RTU_OVER_TCP, port, timeout_s=0.3, quiet_s=0.1), [device], polls)
        async with running(run):
            await eventually(lambda: polls.whole())
            sim.hang_up()
            before = time.monotonic()
            seen = len(polls.whole())
            await eventually(lambda: len(polls.whole()) > seen, timeout_s=5)
            assert time.monotonic() - before < 5
    for result in polls.whole():
        check_values(device, result)


async def test_gateway_that_refuses_for_a_while_is_read_within_five_seconds_of_its_return():
    polls = Polls()
    sim = ModbusBus([slave_of(SOIL, truth, 1)], "tcp")
    async with sim.listening() as port:
        pass
    bus = described(T.TCP, port, timeout_s=0.3)
    async with running(build(bus, [attached(SOIL, 1, 0.1)], polls)) as run:
        await eventually(lambda: run.status().counters.connect_failures >= 5, timeout_s=10)
        async with sim.listening(port=port):
            back = time.monotonic()
            await eventually(lambda: polls.whole(), timeout_s=5)
            assert time.monotonic() - back < 5


@pytest.mark.parametrize("transport", [T.TCP, T.RTU_OVER_TCP], ids=str)
async def test_half_open_connection_is_replaced_within_five_seconds(transport):
    polls = Polls()
    sim = ModbusBus([slave_of(SOIL, truth, 1)], "tcp" if transport is T.TCP else "rtu")
    async with sim.listening() as port:
        bus = described(transport, port, timeout_s=0.3, quiet_s=0.3, horizon_s=5.0)
        async with running(build(bus, [attached(SOIL, 1, 0.2)], polls)) as run:
            await eventually(lambda: len(polls.whole()) >= 3)
            sim.is_deaf = True
            await eventually(lambda: run.status().counters.connects >= 2, timeout_s=5)
            sim.is_deaf = False
            back, seen = time.monotonic(), len(polls.whole())
            await eventually(lambda: len(polls.whole()) > seen, timeout_s=6)
            assert time.monotonic() - back < 5
    assert "E-MB-TIMEOUT" in polls.errors()


_FLOOD = """
import os, socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
noise = os.urandom(1 << 20)
while True:
    peer, _ = listener.accept()
    try:
        for _ in range(64):
            peer.sendall(noise)
    except OSError:
        pass
    peer.close()
"""


@pytest.mark.parametrize("transport", [T.TCP, T.RTU_OVER_TCP, T.ASCII_OVER_TCP], ids=str)
async def test_flood_of_garbage_is_bounded_and_delays_no_other_bus(transport):
    flood = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _FLOOD, stdout=asyncio.subprocess.PIPE
    )
    try:
        port = int(await flood.stdout.readline())
        sick_polls, polls = Polls(), Polls()
        healthy = ModbusBus([slave_of(SOIL, truth, 1, refresh_s=60.0)], "tcp")
        sick = build(
            described(transport, port, timeout_s=0.3), [attached(SOIL, 1, 0.1)], sick_polls
        )
        async with healthy.listening() as good_port, running(sick):
            good = build(described(T.TCP, good_port), [attached(SOIL, 1, 0.1)], polls)
            async with running(good):
                await eventually(lambda: len(polls.whole()) >= 3)
                memory = psutil.Process().memory_info().rss
                cpu, wall = time.process_time(), time.monotonic()
                await eventually(lambda: time.monotonic() - wall > 2, timeout_s=5)
                busy = (time.process_time() - cpu) / (time.monotonic() - wall)
                grown = psutil.Process().memory_info().rss - memory
        counters = sick.status().counters
        at_s = [r.reads[0].at_us / 1e6 for r in polls.whole()]
        periods = [after - before for before, after in itertools.pairwise(at_s)]
    finally:
        flood.kill()
        await flood.wait()
    assert busy < 0.5
    assert grown < 20e6
    assert counters.connects < 40
    assert sick_polls.whole() == []
    assert statistics.median(periods) == pytest.approx(0.1, rel=0.1)
