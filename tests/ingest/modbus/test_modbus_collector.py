"""From buses to the inlet: durable, bounded, and nothing dropped without a word."""

from __future__ import annotations

import asyncio

import pytest

from devices.bus import BusTransport
from devices.codecs.registers import Read, RegisterCodec, decode_poll
from devices.gap import Gap
from devices.profile import Line, read_profile
from devices.profile_library import shipped_profile
from firmware_sims.modbus_node import ModbusBus
from firmware_sims.modbus_slave import slave_of
from ingest.collector import Arrival, SpoolFull
from ingest.modbus.assembly import Attached, budgets, bus_mistakes, bus_warnings, dtu_names
from ingest.modbus.bus_core import PollResult
from ingest.modbus.collector import ModbusCollector, Outbox
from tests.ingest.modbus.test_bus import T, attached, build, described, truth
from tests.rig.waiting import eventually

ACROSS_TEXT = """
profile: across
protocol: modbus
maker: nobody
model: across
name: {en: soil probe that may be read across}
sources: [{text: test, evidence: C}]
limits: {gap: 4}
blocks:
  - function: 3
    points:
      - {address: 2, type: uint16, unit: µS/cm, quantity: soil_ec}
      - {address: 3, type: uint16, scale: 0.1, quantity: soil_ph}
      - {address: 7, type: uint16, quantity: soil_salinity}
"""
SOIL = shipped_profile("sn-3001-tr-ecthnpkph-n01")
ACROSS = read_profile(ACROSS_TEXT, "across.yaml")
WEATHER = shipped_profile("renke-rs-fsxcs")
CO2 = shipped_profile("vaisala-gmp252")


class Spool:
    """An inlet that can be full."""

    def __init__(self) -> None:
        self.kept: list[Arrival] = []
        self.full = False

    async def accept(self, arrivals) -> None:
        await asyncio.sleep(0)
        if self.full:
            raise SpoolFull("no room")
        self.kept += arrivals


class Gaps:
    def __init__(self) -> None:
        self.kept: list[Gap] = []

    async def record(self, gap: Gap) -> None:
        self.kept.append(gap)


def poll(number: int) -> PollResult:
    return PollResult("d", 1, (Read(3, 0, 1, number, b"\0\1"),))


async def test_poll_becomes_an_arrival_that_its_codec_reads():
    sim = ModbusBus([slave_of(SOIL, truth, 4)], "tcp")
    spool, stop = Spool(), asyncio.Event()
    async with sim.listening() as port:
        bus = described(T.TCP, port)
        collector = ModbusCollector(
            lambda publish: [build(bus, [attached(SOIL, 4, 0.1)], publish)], spool, Gaps()
        )
        run = asyncio.create_task(collector.run(stop))
        await eventually(lambda: len(spool.kept) >= 3)
        assert [one.bus for one in collector.status()] == ["bus"]
        assert collector.bus("bus").name == "bus"
        with pytest.raises(KeyError):
            collector.bus("other")
        stop.set()
        await run
    arrival = spool.kept[0]
    assert (arrival.source, arrival.topic) == ("modbus", SOIL.name)
    assert decode_poll(arrival.payload).unit == 4
    (sample,) = RegisterCodec(SOIL).decode(arrival.payload)
    assert sample.observed_at_us == arrival.received_at_us
    assert len(sample.values) == 9
    assert len(arrival.payload) < 100


async def test_only_the_wanted_points_are_asked_for_and_given():
    wanted = Attached("d", 4, ACROSS, {"soil_ec": 0.1, "soil_salinity": 0.1})
    sim = ModbusBus([slave_of(ACROSS, truth, 4)], "tcp")
    spool, stop = Spool(), asyncio.Event()
    async with sim.listening() as port:
        bus = described(T.TCP, port)
        collector = ModbusCollector(lambda p: [build(bus, [wanted], p)], spool, Gaps())
        run = asyncio.create_task(collector.run(stop))
        await eventually(lambda: spool.kept)
        stop.set()
        await run
    (read,) = decode_poll(spool.kept[0].payload).reads
    assert (read.address, read.count) == (2, 6)
    (sample,) = RegisterCodec(ACROSS).decode(spool.kept[0].payload)
    assert sample.values.keys() == {"soil_ec", "soil_salinity"}


async def test_full_spool_holds_polls_back_and_they_go_in_when_there_is_room():
    spool, gaps = Spool(), Gaps()
    outbox = Outbox(spool, gaps, most=100)
    spool.full = True
    task = asyncio.create_task(outbox.run())
    for number in range(1, 51):
        outbox.put("bus", poll(number))
    await eventually(lambda: outbox.is_blocked)
    assert outbox.waiting == 50
    spool.full = False
    await eventually(lambda: outbox.accepted == 50)
    task.cancel()
    assert [arrival.received_at_us for arrival in spool.kept] == list(range(1, 51))
    assert gaps.kept == []
    assert outbox.dropped == 0


async def test_what_does_not_fit_is_dropped_oldest_first_counted_and_recorded():
    spool, gaps = Spool(), Gaps()
    outbox = Outbox(spool, gaps, most=10)
    spool.full = True
    task = asyncio.create_task(outbox.run())
    for number in range(1, 31):
        outbox.put("bus", poll(number))
    assert outbox.waiting == 10
    spool.full = False
    await eventually(lambda: outbox.accepted == 10 and gaps.kept)
    task.cancel()
    assert [arrival.received_at_us for arrival in spool.kept] == list(range(21, 31))
    (gap,) = gaps.kept
    assert (gap.source, gap.reason, gap.started_at_us, gap.ended_at_us) == (
        "modbus",
        "spool_full",
        1,
        20,
    )
    assert outbox.dropped == 20
    assert outbox.accepted + outbox.dropped == 30


async def test_stop_hands_over_what_was_read():
    spool = Spool()
    outbox = Outbox(spool, Gaps())
    for number in range(1, 2001):
        outbox.put("bus", poll(number))
    await outbox.drain()
    assert len(spool.kept) == 2000


async def test_stop_with_a_full_spool_records_what_is_lost():
    spool, gaps = Spool(), Gaps()
    spool.full = True
    outbox = Outbox(spool, gaps)
    outbox.put("bus", poll(7))
    await outbox.drain()
    assert (outbox.dropped, gaps.kept[0].started_at_us) == (1, 7)


async def test_bug_in_one_bus_does_not_end_the_others(monkeypatch, caplog):
    monkeypatch.setattr("ingest.modbus.collector._AFTER_A_BUG_S", 0.05)
    sim = ModbusBus([slave_of(SOIL, truth, 1)], "tcp")
    spool, stop = Spool(), asyncio.Event()
    async with sim.listening() as port:
        bus = described(T.TCP, port)

        def make(publish):
            def stumble(name, result):
                if not spool.kept and not caplog.records:
                    raise RuntimeError("a bug")
                publish(name, result)

            broken = build(bus, [attached(SOIL, 1, 0.05)], stumble)
            return [broken, build(bus, [attached(SOIL, 1, 0.05)], publish)]

        collector = ModbusCollector(make, spool, Gaps())
        run = asyncio.create_task(collector.run(stop))
        await eventually(lambda: len(spool.kept) > 20)
        await eventually(lambda: collector.buses[0].status().counters.replies > 5)
        assert [one.counters.bugs for one in collector.status()] == [1, 0]
        stop.set()
        await run
    assert "a bug: bus bus begins again" in caplog.text


# ---- what a site file may ask of a bus --------------------------------------------------------


def test_unit_that_two_devices_have_is_a_mistake():
    bus = described(T.TCP, 502)
    devices = [attached(SOIL, 1, 60.0), Attached("twin", 1, CO2, {"co2": 60.0})]
    assert bus_mistakes(bus, devices) == [
        f"bus bus: twin and {SOIL.name} both have unit 1",
    ]


def test_bus_that_has_too_little_time_is_a_mistake_with_the_arithmetic():
    bus = described(T.RTU, "/dev/ttyUSB0", timeout_s=0.5, quiet_s=0.5, pause_s=0.02)
    devices = [Attached(f"s{n}", n, SOIL, {"soil_ec": 2.0}) for n in range(1, 21)]
    (text,) = bus_mistakes(bus, devices)
    assert text.startswith(
        "bus bus: 20 devices, 20 requests x 0.122 s + one probe 1.000 s = 3.44 s"
    )
    assert text.endswith("> interval 2 s")
    assert all(budget.fits for budget in budgets(bus, devices[:5]))


def test_devices_with_other_line_settings_than_the_bus_are_named():
    bus = described(T.RTU, "/dev/ttyUSB0", line=Line(4800))
    warnings = bus_warnings(bus, [attached(SOIL, 1), attached(CO2, 2)])
    assert warnings == [
        "bus bus: vaisala-gmp252 (vaisala-gmp252) is shipped with 19200 8N2, "
        "the bus has 4800 8N1; set the device to that"
    ]
    behind = described(T.RTU_OVER_TCP, 502)
    assert bus_warnings(behind, [attached(SOIL, 1), attached(CO2, 2)]) == [
        "bus bus: its devices are shipped with 19200 8N2, 4800 8N1; a bus has one setting"
    ]
    assert bus_warnings(behind, [attached(SOIL, 1), attached(WEATHER, 2)]) == []


def test_dtus_are_known_to_the_listener_by_their_bus():
    dtu = described(BusTransport.DIAL_IN, 0, addresses=(), registration=b"A", heartbeat=b"B")
    (name,) = dtu_names([dtu, described(T.TCP, 502)])
    assert (name.code, name.registration, name.heartbeat) == ("bus", b"A", b"B")
