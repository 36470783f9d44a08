"""The desk finds the bus, lets nothing through that is not allowed, and loses no end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from api.commands import CommandDeskClosed, CommandEndNotKept, CommandNotKept
from devices.profile_library import shipped_profile
from devices.site_file import SiteFile, read_site_file
from firmware_sims.modbus_faults import FaultKind
from firmware_sims.modbus_node import ModbusBus
from firmware_sims.modbus_slave import SimulatedSlave, slave_of
from greenhouse.command_desk import CommandDesk, CommandUnderWay, NotAModbusDevice, PatientLedger
from greenhouse.site_files import attached
from ingest.modbus.assembly import make_bus
from ingest.modbus.bus import Bus, running
from ingest.modbus.command import (
    CommandRecord,
    Outcome,
    PointNotWritable,
    ValueOutOfRange,
    WriteCommand,
    WriteRefused,
    WritesOff,
)
from storage.errors import DatabaseUnavailable, DataRefused
from tests.rig.waiting import eventually

SITE = """
version: 1
sites: [{{code: house, kind: greenhouse}}]
broker: {{host: 127.0.0.1}}
buses:
  - {{code: north, transport: tcp, addresses: ["127.0.0.1:{port}"], timeout: {timeout},
     writes: {writes}}}
devices:
  - {{code: mixer, site: house, transport: modbus, bus: north, unit: 7,
     profile: generic-fertigation-unit, interval: 60s}}
  - {{code: valves, site: house, transport: modbus, bus: north, unit: 8,
     profile: generic-relay-8, interval: 60s}}
  - {{code: node, site: house, series: [{{quantity: air_temperature}}]}}
"""


def _truth(key: str, at_s: float) -> float:
    return 0.0 if key.startswith(("valve", "pump")) else 6.0


def order(key: str, value: float, device: str = "mixer") -> WriteCommand:
    return WriteCommand(device, key, value, "li.wei")


@dataclass
class Ledger:
    """A ledger in memory; *refuses* are raised, one a call, before it works."""

    records: list[CommandRecord] = field(default_factory=list)
    refuses: list[Exception | None] = field(default_factory=list)

    async def record(self, record: CommandRecord) -> None:
        if self.refuses and (error := self.refuses.pop(0)) is not None:
            raise error
        self.records.append(record)


@dataclass
class House:
    """A bus with two devices on it, and a desk."""

    desk: CommandDesk
    ledger: Ledger
    line: ModbusBus
    mixer: SimulatedSlave
    valves: SimulatedSlave
    written: list[tuple[int, int, list[int]]]
    asked: list[str]


def _bus(site_file: SiteFile) -> Bus:
    now_s = asyncio.get_running_loop().time()
    slaves = attached(site_file.slaves["north"])
    return make_bus(site_file.buses[0], slaves, lambda name, result: None, now_s, None)


@contextlib.asynccontextmanager
async def house(
    writes: bool = True, turnaround_s: float = 0.0, patience: str = "5s"
) -> AsyncIterator[House]:
    mixer = slave_of(shipped_profile("generic-fertigation-unit"), _truth, 7)
    mixer.memory.set(3, 100, 180)
    valves = slave_of(shipped_profile("generic-relay-8"), _truth, 8)
    written: list[tuple[int, int, list[int]]] = []
    asked: list[str] = []
    for slave in (mixer, valves):
        slave.written = lambda function, address, values: written.append(
            (function, address, list(values))
        )
    line, ledger = ModbusBus([mixer, valves], "tcp", turnaround_s), Ledger()
    async with line.listening() as port:
        text = SITE.format(port=port, writes=str(writes).lower(), timeout=patience)
        site_file = read_site_file(text, "site.yaml")
        async with running(_bus(site_file)) as bus:

            def way(code: str) -> Bus:
                asked.append(code)
                return bus

            desk = CommandDesk(site_file, way, ledger)
            yield House(desk, ledger, line, mixer, valves, written, asked)


async def test_a_command_goes_to_its_device_and_is_read_back():
    async with house() as base:
        record = await base.desk.write(order("ec_set_point", 2.344))
        relay = await base.desk.write(order("valve_state.3", 1, "valves"))
    assert (record.outcome, record.unit) == (Outcome.DONE, 7)
    assert (record.old, record.new, record.read_back) == (1.8, 2.34, 2.34)
    assert (relay.unit, relay.old, relay.read_back) == (8, 0.0, 1.0)
    assert base.written == [(6, 100, [234]), (5, 2, [1])]
    assert base.asked == ["north", "north"]
    assert [one.outcome for one in base.ledger.records] == ["begun", "done", "begun", "done"]


@pytest.mark.parametrize(
    ("wanted", "writes", "kind"),
    [
        (order("ec_set_point", 2.0), False, WritesOff),
        (order("ec_set_point", 2.0, "node"), True, NotAModbusDevice),
        (order("ec_set_point", 2.0, "nobody"), True, NotAModbusDevice),
        (order("solution_ec", 2.0), True, PointNotWritable),
        (order("no_such_point", 2.0), True, PointNotWritable),
        (order("ec_set_point", 5.01), True, ValueOutOfRange),
        (order("ec_set_point", float("nan")), True, ValueOutOfRange),
        (order("valve_state.1", 0.5, "valves"), True, ValueOutOfRange),
    ],
)
async def test_what_is_not_allowed_is_neither_sent_nor_recorded(wanted, writes, kind):
    async with house(writes) as base:
        with pytest.raises(WriteRefused) as refused:
            await base.desk.write(wanted)
    assert type(refused.value) is kind
    assert base.written == []
    assert base.ledger.records == []


async def test_a_second_command_to_a_device_waits_for_nobody_and_is_refused():
    async with house(turnaround_s=0.05) as base:
        first = asyncio.create_task(base.desk.write(order("ec_set_point", 2.0)))
        await eventually(lambda: base.ledger.records)
        with pytest.raises(CommandUnderWay):
            await base.desk.write(order("ec_set_point", 3.0))
        other = await base.desk.write(order("valve_state.1", 1, "valves"))
        assert (await first).outcome is Outcome.DONE
        assert other.outcome is Outcome.DONE
        assert (await base.desk.write(order("ec_set_point", 3.0))).old == 2.0


async def test_nothing_is_sent_without_a_record():
    async with house() as base:
        base.ledger.refuses = [DatabaseUnavailable("away")]
        with pytest.raises(CommandNotKept):
            await base.desk.write(order("ec_set_point", 2.0))
        assert base.written == []
        assert (await base.desk.write(order("ec_set_point", 2.0))).outcome is Outcome.DONE


async def test_an_end_is_offered_until_the_database_is_back():
    async with house() as base:
        away = DatabaseUnavailable("away")
        base.ledger.refuses = [None, away, away]
        record = await base.desk.write(order("ec_set_point", 2.0))
    assert base.ledger.records[-1] == record
    assert record.outcome is Outcome.DONE


@pytest.mark.parametrize("error", [DatabaseUnavailable("away"), DataRefused("it ended otherwise")])
async def test_an_end_that_cannot_be_kept_is_told_to_the_log_whole(caplog, error):
    ledger = Ledger(refuses=[error] * 50)
    record = CommandRecord(
        "c1", "mixer", 7, "ec_set_point", "mS/cm", "li.wei", "", 0, Outcome.DONE, 2.0, 1.8, 2.0, 9
    )
    with pytest.raises(CommandEndNotKept) as told:
        await PatientLedger(ledger, keep_within_s=0.1).record(record)
    assert told.value.record == record
    assert "c1 of 'li.wei': mixer ec_set_point 1.8 -> 2.0 mS/cm: done" in caplog.text


async def test_a_device_that_does_not_answer_is_not_written_to():
    async with house(patience="200ms") as base:
        base.mixer.faults.add(FaultKind.SILENCE, 20)
        record = await base.desk.write(order("ec_set_point", 2.0))
    assert record.outcome is Outcome.FAILED
    assert "not written" in record.text
    assert base.written == []


async def test_closing_waits_for_what_is_under_way_and_takes_no_more():
    async with house(turnaround_s=0.05) as base:
        under_way = asyncio.create_task(base.desk.write(order("ec_set_point", 2.0)))
        await eventually(lambda: base.ledger.records)
        await base.desk.close(5.0)
        assert base.ledger.records[-1].outcome is Outcome.DONE
        with pytest.raises(CommandDeskClosed):
            await base.desk.write(order("ec_set_point", 3.0))
        assert (await under_way).outcome is Outcome.DONE


async def test_closing_gives_up_in_time_and_says_what_had_not_ended(caplog):
    async with house(turnaround_s=0.15) as base:
        under_way = asyncio.create_task(base.desk.write(order("ec_set_point", 2.0)))
        await eventually(lambda: base.ledger.records)
        await base.desk.close(0.01)
        assert "commands to mixer had not ended in time" in caplog.text
        assert (await under_way).outcome is Outcome.DONE
