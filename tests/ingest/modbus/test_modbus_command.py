"""Commands: what is not allowed is never sent, what is sent is read back and on record."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs.registers import ReadDecoder, encode_value
from devices.profile import Order, Point, RegisterType
from devices.profile_library import shipped_profile, shipped_profile_names
from firmware_sims.modbus_faults import FaultKind
from firmware_sims.modbus_node import ModbusBus
from firmware_sims.modbus_slave import slave_of
from ingest.modbus.bus import BusBusy, running
from ingest.modbus.command import (
    CommandRecord,
    Commands,
    Outcome,
    WriteCommand,
    WriteRefused,
    plan_write,
)
from ingest.modbus.request import WriteRequest
from tests.ingest.modbus.test_bus import Polls, T, attached, build, described, truth
from tests.rig.waiting import eventually

UNIT = shipped_profile("generic-fertigation-unit")
RELAYS = shipped_profile("generic-relay-8")
SOIL = shipped_profile("sn-3001-tr-ecthnpkph-n01")


def command(key: str, value: float, **more) -> WriteCommand:
    return WriteCommand(**({"device": "d", "actor": "li.wei"} | more), key=key, value=value)


class Ledger:
    def __init__(self) -> None:
        self.records: list[CommandRecord] = []
        self.broken = False

    async def record(self, record: CommandRecord) -> None:
        if self.broken:
            raise OSError("no room for records")
        self.records.append(record)


# ---- what may be sent -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "allowed", "said"),
    [
        (command("ec_set_point", 2.0), False, "writing is switched off"),
        (command("ec_set_point", 2.0, actor=" "), True, "needs the name of who gives it"),
        (command("ec_setpoint", 2.0), True, "writable: ec_set_point, ph_set_point"),
        (command("solution_ec", 2.0), True, "solution_ec is not writable"),
        (command("ec_set_point", 5.01), True, "is not between 0.2 and 5 mS/cm"),
        (command("ec_set_point", float("nan")), True, "is not between"),
        (command("dose_set_point", float("inf")), True, "is not between"),
    ],
)
def test_command_that_is_not_allowed_is_refused_in_words(wanted, allowed, said):
    with pytest.raises(WriteRefused, match=said):
        plan_write(UNIT, 1, wanted, allowed)


def test_nothing_is_ever_written_to_everybody():
    with pytest.raises(WriteRefused, match="no command goes to everybody"):
        plan_write(UNIT, 0, command("ec_set_point", 2.0), True)


def test_coil_takes_nothing_between_on_and_off():
    with pytest.raises(WriteRefused, match="neither 0 nor 1"):
        plan_write(RELAYS, 1, command("valve_state.1", 0.5), True)


@pytest.mark.parametrize(
    ("profile", "wanted", "request_", "new"),
    [
        (UNIT, command("ec_set_point", 2.344), WriteRequest(7, 6, 100, (234,)), 2.34),
        (UNIT, command("ph_set_point", 5.8), WriteRequest(7, 6, 101, (580,)), 5.8),
        (UNIT, command("dose_set_point", 12.5), WriteRequest(7, 16, 102, (0x4148, 0)), 12.5),
        (RELAYS, command("valve_state.3", 1), WriteRequest(7, 5, 2, (1,)), 1.0),
        (SOIL, command("salinity_coefficient", 0.6), WriteRequest(7, 6, 0x23, (60,)), 0.6),
        (SOIL, command("ec_temperature_coefficient", 2), WriteRequest(7, 6, 0x22, (20,)), 2.0),
    ],
)
def test_value_becomes_the_registers_of_the_profile(profile, wanted, request_, new):
    plan = plan_write(profile, 7, wanted, True)
    assert plan.write == request_
    assert plan.new == pytest.approx(new)


def test_shipped_profiles_have_something_to_command_of_every_kind():
    kinds = {
        point.write.kind
        for name in shipped_profile_names()
        for point in shipped_profile(name).points
        if point.write is not None
    }
    assert kinds == {"set_point", "calibration", "relay", "setting"}


@given(
    kind=st.sampled_from([k for k in RegisterType if k.bits >= 16]),
    word_order=st.sampled_from(list(Order)),
    byte_order=st.sampled_from(list(Order)),
    data=st.data(),
)
def test_what_is_encoded_is_what_is_decoded(kind, word_order, byte_order, data):
    p = Point("x", 3, 50, max(1, kind.bits // 16), kind, 1, None, "", 0, word_order, byte_order)
    if kind.is_float:
        raw = data.draw(st.floats(allow_nan=False, allow_infinity=False, width=kind.bits))
    elif kind.is_bcd:
        raw = data.draw(st.integers(0, 10 ** (kind.bits // 4) - 1))
    else:
        bits = min(kind.bits, 53) - kind.is_signed
        raw = data.draw(st.integers(-(2**bits) if kind.is_signed else 0, 2**bits - 1))
    words = b"".join(word.to_bytes(2, "big") for word in encode_value(p, float(raw)))
    assert ReadDecoder([p], 50, p.count).decode(words)[1][0] == raw


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (RegisterType.UINT16, -1),
        (RegisterType.UINT16, 65_536),
        (RegisterType.INT16, 40_000),
        (RegisterType.BCD16, 10_000),
        (RegisterType.BCD16, -1),
        (RegisterType.FLOAT16, 1e6),
        (RegisterType.FLOAT32, 1e39),
        (RegisterType.UINT16, float("nan")),
        (RegisterType.UINT8_LOW, 1),
    ],
)
def test_value_that_does_not_fit_is_refused(kind, value):
    with pytest.raises(ValueError, match="x: "):
        encode_value(Point("x", 3, 0, max(1, kind.bits // 16), kind, 1), value)


@contextlib.asynccontextmanager
async def bare(sim: ModbusBus):
    """A bus without polls, with little patience."""
    async with sim.listening() as port:
        bus = build(described(T.TCP, port, timeout_s=0.1), [], Polls())
        async with running(bus):
            yield bus


# ---- what becomes of it ---------------------------------------------------------------------


async def carry_out(slave, wanted, ledger, profile=UNIT, **bus):
    sim = ModbusBus([slave], "tcp")
    async with sim.listening() as port:
        settings = {"timeout_s": 0.2, "quiet_s": 0.05} | bus
        described_ = described(T.TCP, port, **settings)
        async with running(build(described_, [attached(profile, 1, 0.1)], Polls())) as run:
            commands = Commands(ledger)
            return await commands.write(run, profile, 1, wanted, allowed=True)


async def test_set_point_is_written_read_back_and_recorded_with_its_actor():
    slave, ledger = slave_of(UNIT, truth, 1), Ledger()
    slave.memory.set(3, 100, 180)
    record = await carry_out(slave, command("ec_set_point", 2.2, reason="fruit load"), ledger)
    assert slave.memory.read(3, 100, 1) == [220]
    assert (record.outcome, record.old, record.new, record.read_back) == (
        Outcome.DONE,
        1.8,
        2.2,
        2.2,
    )
    assert (record.actor, record.reason, record.quantity_unit) == ("li.wei", "fruit load", "mS/cm")
    assert [one.outcome for one in ledger.records] == [Outcome.BEGUN, Outcome.DONE]
    assert len({one.id for one in ledger.records}) == 1
    assert record.asked_at_us <= record.ended_at_us


async def test_relay_is_switched():
    slave = slave_of(RELAYS, lambda key, at_s: 0.0, 1, refresh_s=3600.0)
    record = await carry_out(slave, command("valve_state.4", 1), Ledger(), RELAYS)
    assert (record.outcome, record.old, record.read_back) == (Outcome.DONE, 0.0, 1.0)


async def test_refused_write_leaves_the_old_value_and_says_so():
    slave, ledger = slave_of(UNIT, truth, 1, functions=frozenset((3,))), Ledger()
    slave.memory.set(3, 100, 180)
    record = await carry_out(slave, command("ec_set_point", 2.2), ledger)
    assert (record.outcome, record.old, record.read_back) == (Outcome.FAILED, 1.8, 1.8)
    assert record.text.startswith("E-MB-EXC-1")


async def test_device_that_says_done_and_does_nothing_is_found_out():
    slave = slave_of(UNIT, truth, 1)
    slave.memory.set(3, 100, 180)
    slave.written = lambda function, address, values: slave.memory.set(3, address, 180)
    record = await carry_out(slave, command("ec_set_point", 2.2), Ledger())
    assert record.outcome is Outcome.FAILED
    assert record.text == "it said done, but ec_set_point is 1.8 mS/cm"


async def test_write_whose_answer_is_lost_is_done_if_the_device_says_so():
    slave, ledger = slave_of(UNIT, truth, 1), Ledger()
    slave.written = lambda function, address, values: slave.faults.coming.clear()
    sim = ModbusBus([slave], "tcp")
    async with sim.listening() as port:
        bus = described(T.TCP, port, timeout_s=0.2)
        async with running(build(bus, [], Polls())) as run:
            slave.faults.skip(1)
            slave.faults.add(FaultKind.SILENCE)
            wanted = command("ec_set_point", 2.2)
            record = await Commands(ledger).write(run, UNIT, 1, wanted, allowed=True)
    assert (record.outcome, record.read_back) == (Outcome.DONE, 2.2)


async def test_nobody_pretends_to_know_when_the_device_is_gone():
    slave, ledger = slave_of(UNIT, truth, 1), Ledger()
    slave.faults.skip(1)
    slave.faults.add(FaultKind.SILENCE, 50)
    sim = ModbusBus([slave], "tcp")
    async with bare(sim) as run:
        wanted = command("ec_set_point", 2.2)
        record = await Commands(ledger).write(run, UNIT, 1, wanted, allowed=True)
    assert record.outcome is Outcome.UNSURE
    assert "could not be read back" in record.text


async def test_nothing_is_written_that_could_not_be_read_first():
    slave, ledger = slave_of(UNIT, truth, 1), Ledger()
    slave.faults.add(FaultKind.SILENCE, 1)
    sim = ModbusBus([slave], "tcp")
    async with bare(sim) as run:
        wanted = command("ec_set_point", 2.2)
        record = await Commands(ledger).write(run, UNIT, 1, wanted, allowed=True)
    assert record.outcome is Outcome.FAILED
    assert record.old is None
    assert slave.requests == 1


async def test_nothing_is_sent_when_the_ledger_cannot_keep_it():
    ledger = Ledger()
    ledger.broken = True
    slave = slave_of(UNIT, truth, 1)
    with pytest.raises(OSError, match="no room"):
        await carry_out(slave, command("ec_set_point", 2.2), ledger)
    assert slave.memory.read(3, 100, 1) != [220]


async def test_command_is_carried_to_its_record_when_the_caller_goes_away():
    slave, ledger = slave_of(UNIT, truth, 1), Ledger()
    sim = ModbusBus([slave], "tcp", turnaround_s=0.05)
    async with bare(sim) as run:
        commands = Commands(ledger)
        wanted = command("ec_set_point", 2.2)
        caller = asyncio.create_task(commands.write(run, UNIT, 1, wanted, allowed=True))
        await eventually(lambda: ledger.records)
        caller.cancel()
        await commands.close()
    assert ledger.records[-1].outcome is Outcome.DONE
    assert slave.memory.read(3, 100, 1) == [220]


@pytest.mark.parametrize(
    ("busy_at", "outcome"), [(0, Outcome.FAILED), (1, Outcome.UNSURE), (2, Outcome.UNSURE)]
)
async def test_command_that_was_begun_has_an_end_on_a_bus_too_busy_to_ask(busy_at, outcome):
    slave, ledger = slave_of(UNIT, truth, 1), Ledger()
    async with bare(ModbusBus([slave], "tcp")) as run:

        class Crowded:
            asked = 0

            async def ask(self, requests, timeout_s=None, goes_on=False):
                self.asked += 1
                if self.asked == busy_at + 1:
                    raise BusBusy("bus north: too many commands wait")
                return await run.ask(requests, timeout_s, goes_on)

        wanted = command("ec_set_point", 2.2)
        record = await Commands(ledger).write(Crowded(), UNIT, 1, wanted, allowed=True)
    assert (record.outcome, ledger.records[-1]) == (outcome, record)
    assert "too many commands wait" in record.text or busy_at == 2
    assert (slave.memory.read(3, 100, 1) == [220]) == (busy_at == 2)


async def test_command_over_a_bus_that_does_not_run_fails_and_says_so():
    slave, ledger = slave_of(UNIT, truth, 1), Ledger()
    async with bare(ModbusBus([slave], "tcp")) as run:
        pass
    wanted = command("ec_set_point", 2.2)
    async with asyncio.timeout(5):
        record = await Commands(ledger).write(run, UNIT, 1, wanted, allowed=True)
    assert (record.outcome, ledger.records[-1]) == (Outcome.FAILED, record)
    assert "E-MB-STOPPED bus" in record.text
    assert "not running" in record.text
    assert slave.requests == 0
