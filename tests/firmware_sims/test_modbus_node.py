"""The simulated slaves are held to an independent master: pymodbus' own client reads them."""

from __future__ import annotations

import math

import pytest
from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient

from devices.profile_library import shipped_profile, shipped_profile_names
from firmware_sims import modbus_frames
from firmware_sims.modbus_faults import FaultKind, FaultPlan
from firmware_sims.modbus_node import ModbusBus
from firmware_sims.modbus_registers import RegisterMemory, raw_number, remember
from firmware_sims.modbus_slave import SimulatedSlave, slave_of

SPEECH = {"tcp": FramerType.SOCKET, "rtu": FramerType.RTU, "ascii": FramerType.ASCII}


def slave() -> SimulatedSlave:
    memory = RegisterMemory()
    memory.fill(3, 0, 9)
    memory.set(3, 0, 0x0164)
    memory.set(3, 1, 0xFFDD)
    memory.fill(1, 0, 12)
    memory.set(1, 9, 1)
    return SimulatedSlave(1, memory)


async def exercise(client) -> None:
    assert await client.connect()
    try:
        reply = await client.read_holding_registers(0, count=2, device_id=1)
        assert reply.registers == [0x0164, 0xFFDD]
        coils = await client.read_coils(0, count=13, device_id=1)
        assert coils.bits[:13] == [False] * 9 + [True] + [False] * 3
        refused = await client.read_holding_registers(8, count=5, device_id=1)
        assert (refused.isError(), refused.exception_code) == (True, 2)
        await client.write_register(4, 77, device_id=1)
        await client.write_registers(5, [1, 65_535], device_id=1)
        await client.write_coil(3, True, device_id=1)
        await client.write_coils(4, [True, False, True], device_id=1)
        reply = await client.read_holding_registers(4, count=3, device_id=1)
        assert reply.registers == [77, 1, 65_535]
        coils = await client.read_coils(3, count=4, device_id=1)
        assert coils.bits[:4] == [True, True, False, True]
    finally:
        client.close()


@pytest.mark.parametrize("speech", sorted(SPEECH))
async def test_library_s_client_reads_and_writes_over_tcp(speech):
    sim = ModbusBus([slave()], speech)
    async with sim.listening() as port:
        await exercise(AsyncModbusTcpClient("127.0.0.1", port=port, framer=SPEECH[speech]))


@pytest.mark.parametrize("speech", ["rtu", "ascii"])
async def test_library_s_client_reads_and_writes_over_a_pty(speech):
    sim = ModbusBus([slave()], speech)
    async with sim.on_a_pty() as path:
        await exercise(AsyncModbusSerialClient(path, baudrate=115_200, framer=SPEECH[speech]))


@pytest.mark.parametrize(
    ("frame", "crc"),
    [("01030000 0002", "C40B"), ("010304 0164FFDD", "3BB9"), ("F0030000 0002", "D12A")],
)
def test_checksum_is_what_makers_print(frame, crc):
    assert modbus_frames.crc(bytes.fromhex(frame)) == bytes.fromhex(crc)


def test_device_stays_silent_when_the_checksum_is_wrong():
    frame = modbus_frames.encode("rtu", 1, bytes.fromhex("0300000002"))
    right = modbus_frames.take_request("rtu", frame)
    wrong = modbus_frames.take_request("rtu", frame[:-1] + b"\0")
    assert right is not None and wrong is not None
    assert (right[2], wrong[2]) == (bytes.fromhex("0300000002"), b"")
    assert modbus_frames.take_request("rtu", frame[:7]) is None


def test_every_kind_of_fault_makes_another_frame():
    sim = ModbusBus([])
    right = modbus_frames.encode("tcp", 1, bytes.fromhex("0304 0164FFDD"), 5)
    waiting = {FaultKind.SILENCE, FaultKind.LATE, FaultKind.SLOW, FaultKind.CLOSE}
    elsewhere = {FaultKind.GARBAGE, FaultKind.ECHO, FaultKind.BAD_CHECKSUM}
    sim.speech = "tcp"
    for kind in set(FaultKind) - waiting - elsewhere:
        plan = FaultPlan()
        plan.add(kind, code=6)
        frame = sim._frame(plan.take(), 1, bytes.fromhex("03040164FFDD"), 5, b"\x03\0\0\0\2")
        assert frame != right, kind
    assert plan.take() is None


@pytest.mark.parametrize("name", shipped_profile_names())
def test_truth_is_written_within_the_resolution_of_the_registers(name):
    for point in shipped_profile(name).series():
        for reading in (0.0, 1.0, 17.3, 55.5):
            if point.function in (1, 2) or point.type.bits == 1:
                continue
            raw = raw_number(point, reading)
            step = 1e-6 if point.type.is_float else float(abs(point.ratio)) / 2 + 1e-9
            assert math.isclose(point.reading(raw), reading, abs_tol=step, rel_tol=1e-9), point.key


def test_missing_reading_is_the_device_s_own_code():
    profile = shipped_profile("vaisala-wxt530")
    memory = RegisterMemory()
    remember(memory, profile, lambda key, at_s: math.nan, 0.0)
    assert memory.read(4, 0x1F, 1) == [32_767]
    with pytest.raises(ValueError, match="no code for a missing reading"):
        remember(
            RegisterMemory(),
            shipped_profile("zts-3000-tr-ph-n01"),
            lambda key, at_s: math.nan,
            0.0,
        )


def test_device_measures_anew_when_it_is_asked():
    profile = shipped_profile("zts-3000-tr-ws-n01")
    device = slave_of(profile, lambda key, at_s: at_s % 50, refresh_s=10.0)
    ask = bytes.fromhex("0300000002")
    assert device.answer(ask, 12.0)[2:] == bytes.fromhex("00780078")
    assert device.answer(ask, 15.0)[2:] == bytes.fromhex("00780078")
    assert device.answer(ask, 23.0)[2:] == bytes.fromhex("00E600E6")
