"""Every shipped register profile through the whole service: slave, line, spool, database, API."""

from __future__ import annotations

import asyncio
import math
import socket

import psycopg
import pytest

from devices.profile_library import shipped_profile, shipped_profile_names
from devices.quality import Quality
from firmware_sims.modbus_node import DialledOut, ModbusBus
from firmware_sims.modbus_slave import slave_of
from tests.ingest.modbus.test_bus import truth as plain_truth
from tests.rig.service import ServiceProcess

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


def truth(key: str, at_s: float) -> float:
    """A different number for every key, all of them possible."""
    return 400.0 + sum(key.encode()) % 37 if key == "co2" else plain_truth(key, at_s)


def _line(speech: str) -> ModbusBus:
    profiles = [shipped_profile(name) for name in shipped_profile_names()]
    slaves = [slave_of(profile, truth, unit) for unit, profile in enumerate(profiles, 1)]
    return ModbusBus(slaves, speech=speech)


def _site_text(buses: dict[str, str]) -> str:
    lines = ["version: 1", "sites: [{code: base, kind: base}]", "buses:"]
    lines += [f"  - {{code: {code}, {reached}}}" for code, reached in buses.items()]
    lines += ["devices:"]
    for bus in buses:
        for unit, name in enumerate(shipped_profile_names(), 1):
            device = f"{bus}-{name}"
            lines.append(
                f"  - {{code: {device}, site: base, transport: modbus, bus: {bus}, unit: {unit},"
                f" profile: {name}, interval: 60s}}"
            )
    return "\n".join(lines) + "\n"


def _newest(dsn: str) -> dict[tuple[str, str], tuple[float, int]]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT DISTINCT ON (s.id) d.code, s.key, r.value, r.quality FROM readings r"
            " JOIN series s ON s.id = r.series_id JOIN devices d ON d.id = s.device_id"
            " WHERE d.transport = 'modbus'"
            " ORDER BY s.id, r.observed_at DESC"
        ).fetchall()
    return {(device, key): (value, quality) for device, key, value, quality in rows}


async def test_every_profile_arrives_with_the_simulators_values_over_tcp_rtu_over_tcp_and_a_pty(
    tmp_path, timescale_dsn, eventually
):
    tcp, over_tcp, serial = _line("tcp"), _line("rtu"), _line("rtu")
    wanted = {
        (f"{bus}-{name}", point.key)
        for bus in ("tcp", "gateway", "serial")
        for name in shipped_profile_names()
        for point in shipped_profile(name).series()
    }
    assert len(shipped_profile_names()) >= 20
    async with (
        tcp.listening() as tcp_port,
        over_tcp.listening() as gateway_port,
        serial.on_a_pty() as path,
    ):
        buses = {
            "tcp": f'transport: tcp, addresses: ["127.0.0.1:{tcp_port}"]',
            "gateway": f'transport: rtu_over_tcp, addresses: ["127.0.0.1:{gateway_port}"]',
            "serial": f"transport: rtu, port: {path}, line: {{baud: 115200}}",
        }
        with ServiceProcess(tmp_path / "service", timescale_dsn, _site_text(buses)) as service:
            await asyncio.to_thread(service.start_ready)
            await eventually(
                lambda: _newest(timescale_dsn).keys() == wanted, timeout_s=90, interval_s=0.5
            )
            newest = _newest(timescale_dsn)
            log = service.log()
    _check_values(newest)
    assert "Traceback" not in log


async def test_every_profile_arrives_from_dtus_that_dial_in_and_speak_rtu_or_tcp(
    tmp_path, timescale_dsn, eventually
):
    by_name, by_beat = _line("rtu"), _line("tcp")
    wanted = {
        (f"{bus}-{name}", point.key)
        for bus in ("named", "beating")
        for name in shipped_profile_names()
        for point in shipped_profile(name).series()
    }
    buses = {
        "named": (
            'transport: dial_in, dtu: {registration: {text: DTU-07}, heartbeat: {hex: "FE FE"}}'
        ),
        "beating": 'transport: dial_in, dtu: {heartbeat: {hex: "7B 01"}, speaks: tcp}',
    }
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    service = ServiceProcess(
        tmp_path / "service", timescale_dsn, _site_text(buses), DIAL_IN_PORT=str(port)
    )
    with service:
        await asyncio.to_thread(service.start_ready)
        named = await by_name.dial("127.0.0.1", port, b"DTU-07", b"\xfe\xfe")
        beating = await by_beat.dial("127.0.0.1", port, heartbeat=b"\x7b\x01")
        beating.beat()
        try:
            await eventually(lambda: _has_all(timescale_dsn, wanted, named, beating), timeout_s=90)
            newest = _newest(timescale_dsn)
            log = service.log()
        finally:
            named.close()
            beating.close()
    _check_values(newest)
    assert "Traceback" not in log


def _has_all(dsn: str, wanted: set[tuple[str, str]], *calls: DialledOut) -> bool:
    """Whether every series has a reading; the DTUs beat now and then, as they do."""
    for call in calls:
        call.beat()
    return _newest(dsn).keys() == wanted


def _check_values(newest: dict[tuple[str, str], tuple[float, int]]) -> None:
    for (device, key), (value, quality) in newest.items():
        name = device.partition("-")[2]
        point = shipped_profile(name).point(key)
        expected = truth(key, 0.0)
        step = abs(expected) * 1e-6 if point.type.is_float else float(abs(point.ratio)) / 2
        assert math.isclose(value, expected, abs_tol=max(step, 1e-6) + 1e-9), (device, key)
        assert not quality & Quality.COMMUNICATION, (device, key)
