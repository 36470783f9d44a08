"""Looking at a bus by hand: registers in every order, units that answer, profiles that fit."""

from __future__ import annotations

import asyncio
import contextlib
import struct

import pytest

from devices.bus import BusTransport
from devices.profile_library import shipped_profile, shipped_profile_names
from firmware_sims.modbus_node import ModbusBus
from firmware_sims.modbus_registers import RegisterMemory
from firmware_sims.modbus_slave import SimulatedSlave, slave_of
from ingest.modbus.bus import running
from ingest.modbus.request import ReadRequest
from ingest.modbus.survey import (
    lines_of,
    modbus_read,
    modbus_read_profile,
    modbus_scan,
    opened,
)
from tests.ingest.modbus.test_bus import Polls, T, attached, build, described, truth
from tests.rig.waiting import eventually


@contextlib.asynccontextmanager
async def asking(sim: ModbusBus, transport: BusTransport):
    now_s = asyncio.get_running_loop().time()
    async with sim.listening() as port, opened(described(transport, port), now_s) as asker:
        yield asker


WEATHER = shipped_profile("vaisala-gmp252")


async def test_registers_are_shown_in_every_order_that_devices_use():
    memory = RegisterMemory()
    memory.set(3, 0, 0xD47A)
    memory.set(3, 1, 0x43E8)
    sim = ModbusBus([SimulatedSlave(240, memory)], "rtu")
    async with asking(sim, T.RTU_OVER_TCP) as asker:
        (view,) = await modbus_read(asker, [ReadRequest(240, 3, 0, 2)], every_order=True)
    meanings = view.words[0].meanings
    assert round(meanings["float32 CDAB"], 2) == 465.66
    assert {
        f"{kind} {order}"
        for kind in ("uint32", "int32", "float32")
        for order in ("ABCD", "BADC", "CDAB", "DCBA")
    } <= set(meanings)
    assert meanings["uint32 ABCD"] == 0xD47A43E8
    assert meanings["uint32 DCBA"] == 0xE8437AD4
    assert meanings["int16"] == 0xD47A - 65536
    assert any("0xD47A" in line and "float32 CDAB 465.66" in line for line in lines_of([view]))


@pytest.mark.parametrize(
    ("order", "octets"),
    [
        ("ABCDEFGH", "4069 0000 1234 5678"),  # big end first, as the protocol means it
        ("GHEFCDAB", "5678 1234 0000 4069"),  # words the other way round
        ("BADCFEHG", "6940 0000 3412 7856"),  # bytes of each word the other way round
        ("HGFEDCBA", "7856 3412 0000 6940"),  # both
    ],
)
async def test_four_registers_are_shown_in_every_order_too(order, octets):
    memory = RegisterMemory()
    for address, word in enumerate(octets.split()):
        memory.set(4, 10 + address, int(word, 16))
    sim = ModbusBus([SimulatedSlave(1, memory)], "tcp")
    async with asking(sim, T.TCP) as asker:
        (view,) = await modbus_read(asker, [ReadRequest(1, 4, 10, 4)], every_order=True)
    meanings = view.words[0].meanings
    (number,) = struct.unpack(">d", bytes.fromhex("4069000012345678"))
    assert meanings[f"float64 {order}"] == number
    assert meanings[f"uint64 {order}"] == float(0x4069000012345678)
    assert meanings[f"int64 {order}"] == float(0x4069000012345678)
    assert "float64 ABCDEFGH" not in view.words[1].meanings, "only three registers are left"
    assert "float32 ABCD" in view.words[2].meanings
    assert set(view.words[3].meanings) == {"uint16", "int16"}


async def test_profile_is_shown_with_units_texts_and_reasons():
    unit = shipped_profile("generic-fertigation-unit")
    slave = slave_of(unit, truth, 3)
    slave.refresh = None
    slave.memory.set(3, 2, 0x8000)
    slave.memory.set(3, 11, 4)
    sim = ModbusBus([slave], "tcp")
    async with asking(sim, T.TCP) as asker:
        lines = lines_of(await modbus_read_profile(asker, 3, unit))
    assert "  solution_temperature = no reading (probe not connected)  [SENTINEL]" in lines
    assert "  status = 4 1 (calibrating)" in lines
    assert any(line.startswith("  ec_set_point = ") and line.endswith("mS/cm") for line in lines)


async def test_refused_and_silent_reads_say_why():
    sim = ModbusBus([SimulatedSlave(1)], "tcp")
    async with asking(sim, T.TCP) as asker:
        asked = [ReadRequest(1, 3, 5, 1), ReadRequest(9, 3, 5, 1), ReadRequest(1, 1, 5, 1)]
        lines = lines_of(await modbus_read(asker, asked, timeout_s=0.05))
    assert "  E-MB-EXC-2 unit 1 function 3 5..5: illegal address: check the register map" in lines
    assert "  E-MB-TIMEOUT unit 9 after 0.05 s" in lines
    assert sum("E-MB-EXC-2" in line for line in lines) == 2


async def test_coils_are_shown_as_bits():
    memory = RegisterMemory()
    memory.fill(1, 0, 9)
    memory.set(1, 8, 1)
    sim = ModbusBus([SimulatedSlave(1, memory)], "tcp")
    async with asking(sim, T.TCP) as asker:
        (view,) = await modbus_read(asker, [ReadRequest(1, 1, 0, 10)])
    assert [word.word for word in view.words] == [0] * 8 + [1, 0]


async def test_scan_finds_the_units_and_the_profiles_that_fit():
    profiles = [shipped_profile(name) for name in shipped_profile_names()]
    there = {
        3: "vaisala-gmp252",
        5: "xy-md02",
        9: "generic-relay-8",
        11: "jxct-jxbs-3001-tr",
    }
    slaves = [slave_of(shipped_profile(name), truth, unit) for unit, name in there.items()]
    sim = ModbusBus(slaves, "rtu")
    async with sim.listening() as port:
        bus = described(T.RTU_OVER_TCP, port, quiet_s=0.02)
        async with opened(bus, asyncio.get_running_loop().time()) as asker:
            units = range(1, 13)
            found = {
                one.unit: one async for one in modbus_scan(asker, units, profiles, timeout_s=0.03)
            }
    assert found.keys() == there.keys()
    for unit, name in there.items():
        best = found[unit].fits[0]
        names = [fit.profile for fit in found[unit].fits if fit.plausible == best.plausible]
        assert name in names, found[unit]
    # every register of these is where the profile says, and nothing else has that many
    assert found[11].fits[0].profile == "jxct-jxbs-3001-tr"
    assert found[9].fits[0].profile == "generic-relay-8"


async def test_scan_goes_between_the_polls_of_a_running_bus():
    slave = slave_of(WEATHER, truth, 1)
    sim = ModbusBus([slave], "tcp")
    polls = Polls()
    async with sim.listening() as port:
        bus = described(T.TCP, port)
        async with running(build(bus, [attached(WEATHER, 1, 0.05)], polls)) as asker:
            await eventually(lambda: polls.whole())
            before = len(polls.whole())
            found = [
                one.unit async for one in modbus_scan(asker, range(1, 6), [WEATHER], timeout_s=0.1)
            ]
            assert found == [1]
            assert len(polls.whole()) - before >= 6
