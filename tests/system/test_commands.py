"""Commands through the whole service: HTTP, the line, the device's registers, the database."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from devices.profile_library import shipped_profile
from firmware_sims.modbus_node import ModbusBus
from firmware_sims.modbus_slave import SimulatedSlave, slave_of
from tests.rig.service import TOKEN, ServiceProcess

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

SITE = """
version: 1
sites: [{{code: house, kind: greenhouse}}]
buses:
  - {{code: open, transport: rtu_over_tcp, addresses: ["127.0.0.1:{open}"], writes: true}}
  - {{code: shut, transport: rtu_over_tcp, addresses: ["127.0.0.1:{shut}"]}}
devices:
  - {{code: mixer, site: house, transport: modbus, bus: open, unit: 7,
     profile: generic-fertigation-unit, interval: 10s}}
  - {{code: valves, site: house, transport: modbus, bus: open, unit: 8,
     profile: generic-relay-8, interval: 10s}}
  - {{code: mixer-2, site: house, transport: modbus, bus: shut, unit: 7,
     profile: generic-fertigation-unit, interval: 10s}}
"""


def _truth(key: str, at_s: float) -> float:
    return 0.0 if key.startswith(("valve", "pump")) else 6.0


@dataclass
class Plant:
    """Two buses with devices on them, and what was written into each device."""

    slaves: dict[str, SimulatedSlave]
    ports: dict[str, int]
    written: list[tuple[str, int, int, list[int]]] = field(default_factory=list)


def _slave(profile: str, unit: int) -> SimulatedSlave:
    slave = slave_of(shipped_profile(profile), _truth, unit)
    if profile == "generic-fertigation-unit":
        slave.memory.set(3, 100, 180)
    return slave


@contextlib.asynccontextmanager
async def plant(turnaround_s: float = 0.0) -> AsyncIterator[Plant]:
    slaves = {
        "mixer": _slave("generic-fertigation-unit", 7),
        "valves": _slave("generic-relay-8", 8),
        "mixer-2": _slave("generic-fertigation-unit", 7),
    }
    buses = {
        "open": ModbusBus([slaves["mixer"], slaves["valves"]], "rtu", turnaround_s),
        "shut": ModbusBus([slaves["mixer-2"]], "rtu"),
    }
    async with contextlib.AsyncExitStack() as stack:
        ports = {
            name: await stack.enter_async_context(bus.listening()) for name, bus in buses.items()
        }
        made = Plant(slaves, ports)
        for name, slave in slaves.items():

            def written(function, address, values, name=name):
                made.written.append((name, function, address, list(values)))

            slave.written = written
        yield made


async def ask(service, path: str, body: object = None, token: str = TOKEN) -> tuple[int, Any]:
    """Return status and answer of a GET, or of a POST of *body*."""
    headers = {"Content-Type": "application/json", "X-Actor": "李伟".encode().decode("latin-1")}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{service.url}/api/v1{path}", data, headers)

    def send() -> tuple[int, object]:
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    return await asyncio.to_thread(send)


def _stages(dsn: str) -> list[tuple]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            "SELECT device, key, actor, outcome, old, new, read_back FROM commands"
            " ORDER BY asked_at, ended_at NULLS FIRST"
        ).fetchall()


SET = {"key": "ec_set_point", "value": 2.344, "reason": "苗期"}


async def test_commands_reach_only_what_is_open_to_them_and_all_are_on_record(
    tmp_path, timescale_dsn
):
    async with plant() as made:
        text = SITE.format(**made.ports)
        with ServiceProcess(tmp_path / "service", timescale_dsn, text) as service:
            await asyncio.to_thread(service.start_ready)

            # Switched off, without a token, out of range, not writable: nothing is sent.
            status, problem = await ask(service, "/devices/mixer-2/commands", SET)
            assert (status, problem["type"]) == (409, "urn:greenhouse:problem:writes-off")
            assert (await ask(service, "/devices/mixer/commands", SET, token=""))[0] == 401
            for body, slug in [
                (SET | {"value": 5.01}, "out-of-range"),
                ({"key": "solution_ec", "value": 2.0}, "not-writable"),
            ]:
                status, problem = await ask(service, "/devices/mixer/commands", body)
                assert (status, problem["type"]) == (409, f"urn:greenhouse:problem:{slug}")
            assert made.written == []
            assert _stages(timescale_dsn) == []

            # Allowed: written, read back, on record.
            status, record = await ask(service, "/devices/mixer/commands", SET)
            assert status == 200, record
            assert (record["actor"], record["reason"]) == ("李伟", "苗期")
            assert (record["old"], record["new"], record["read_back"]) == (1.8, 2.34, 2.34)
            relay = {"key": "valve_state.3", "value": 1}
            assert (await ask(service, "/devices/valves/commands", relay))[0] == 200
            assert made.written == [("mixer", 6, 100, [234]), ("valves", 5, 2, [1])]
            assert made.slaves["mixer"].memory.read(3, 100, 1) == [234]

            # A device that refuses: nothing changes, and that is on record too.
            made.slaves["mixer"].functions -= {6}
            status, problem = await ask(service, "/devices/mixer/commands", SET | {"value": 3})
            assert (status, problem["type"]) == (502, "urn:greenhouse:problem:command-failed")
            assert "E-MB-EXC-1" in problem["detail"]
            status, listed = await ask(service, "/commands?device=mixer")
            assert status == 200
            assert listed[1:] == [record]
            assert (listed[0]["outcome"], listed[0]["read_back"]) == ("failed", 2.34)
            log = service.log()
    mixer = ("mixer", "ec_set_point", "李伟")
    valves = ("valves", "valve_state.3", "李伟")
    assert _stages(timescale_dsn) == [
        (*mixer, "begun", None, 2.34, None),
        (*mixer, "done", 1.8, 2.34, 2.34),
        (*valves, "begun", None, 1.0, None),
        (*valves, "done", 0.0, 1.0, 1.0),
        (*mixer, "begun", None, 3.0, None),
        (*mixer, "failed", 2.34, 3.0, 2.34),
    ]
    assert made.slaves["mixer-2"].memory.read(3, 100, 1) == [180]
    assert "Traceback" not in log


async def test_a_command_under_way_comes_to_its_end_before_the_service_stops(
    tmp_path, timescale_dsn, eventually
):
    async with plant(turnaround_s=0.3) as made:
        text = SITE.format(**made.ports)
        with ServiceProcess(tmp_path / "service", timescale_dsn, text) as service:
            await asyncio.to_thread(service.start_ready)
            answer = asyncio.create_task(ask(service, "/devices/mixer/commands", SET))
            await eventually(lambda: _stages(timescale_dsn), timeout_s=20, interval_s=0.02)
            code = await asyncio.to_thread(service.stop)
            status, record = await answer
            log = service.log()
    assert (code, status, record["outcome"]) == (0, 200, "done")
    assert [stage[3] for stage in _stages(timescale_dsn)] == ["begun", "done"]
    assert "Traceback" not in log


async def test_a_process_without_a_bus_lists_commands_and_gives_none(tmp_path, timescale_dsn):
    text = (
        "version: 1\nsites: [{code: house, kind: greenhouse}]\n"
        "devices: [{code: node, site: house, transport: http, series: [{quantity: co2}]}]\n"
    )
    with ServiceProcess(tmp_path / "service", timescale_dsn, text) as service:
        await asyncio.to_thread(service.start_ready)
        status, problem = await ask(service, "/devices/node/commands", SET)
        assert (status, problem["type"]) == (503, "urn:greenhouse:problem:not-commanding")
        assert await ask(service, "/commands") == (200, [])


async def test_nothing_is_sent_while_no_record_can_be_kept(
    tmp_path, timescale_dsn, proxy, eventually
):
    server = conninfo_to_dict(timescale_dsn)
    line = proxy(str(server["host"]), int(server["port"]))
    async with plant() as made:
        text = SITE.format(**made.ports)
        with ServiceProcess(tmp_path / "service", line.dsn(timescale_dsn), text) as service:
            await asyncio.to_thread(service.start_ready)
            line.refuse()
            line.cut()
            status, problem = await ask(service, "/devices/mixer/commands", SET)
            assert (status, problem["type"]) == (503, "urn:greenhouse:problem:command-not-kept")
            assert made.written == []
            line.accept()

            async def is_done() -> bool:
                return (await ask(service, "/devices/mixer/commands", SET))[0] == 200

            await eventually(is_done, timeout_s=30)
            assert made.written == [("mixer", 6, 100, [234])]
    assert [stage[3] for stage in _stages(timescale_dsn)] == ["begun", "done"]
