"""Measured files over a real broker."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from devices.registry import Registry
from devices.site_file import read_site_file
from firmware_sims.csv_replay import (
    ReplayDocument,
    ReplayError,
    read_mapping,
    shipped_mapping,
    shipped_mapping_site_file,
)
from firmware_sims.mqtt_node import BrokerAddress
from firmware_sims.replay import ReplayReport, main, replayed, run_replay
from tests.firmware_sims.listening import Listener
from tests.firmware_sims.measured import data_folder

MAPPING = """\
version: 1
name: two-files
site_file: site.yaml
files:
  - file: inside.csv
    time: {iso: when, timezone: Asia/Shanghai}
    columns:
      - {column: T, device: in, key: air_temperature, unit: °C}
      - {column: RH, device: in, key: relative_humidity, unit: "%"}
  - file: outside.csv
    time: {iso: when, timezone: Asia/Shanghai}
    columns:
      - {column: T, device: out, key: air_temperature, unit: °C}
"""
SITE = """\
version: 1
sites: [{code: b, kind: base, sites: [{code: g, kind: greenhouse}]}]
broker: {host: x, topic: "farm/{site}/{device}"}
devices:
  - {code: in, site: g, series: [{quantity: air_temperature}, {quantity: relative_humidity}]}
  - {code: out, site: b, series: [{quantity: air_temperature}]}
"""
ROWS = 500
FIRST_MS = 1_577_808_000_000  # 2020-01-01 00:00 in Shanghai


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    when = [datetime(2020, 1, 1) + timedelta(minutes=n) for n in range(ROWS)]
    inside = "".join(f"{t},{n / 7!r},{'NaN' if n % 5 else n % 100}\n" for n, t in enumerate(when))
    (tmp_path / "inside.csv").write_text("when,T,RH\n" + inside)
    outside = "".join(f"{t},{-n / 3!r}\n" for n, t in enumerate(when) if n % 10 == 0)
    (tmp_path / "outside.csv").write_text("when,T\n" + outside)
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    (tmp_path / "site.yaml").write_text(SITE)
    return tmp_path


def _mapping() -> tuple[ReplayDocument, Registry]:
    return read_mapping(MAPPING, "m.yaml"), read_site_file(SITE, "site.yaml").registry


def _address(broker) -> BrokerAddress:
    return BrokerAddress(broker.host, broker.port, topic="farm/{site}/{device}")


def _check(listener: Listener) -> None:
    inside = {s["t"]: s["v"] for s in listener.samples("in")}
    outside = {s["t"]: s["v"] for s in listener.samples("out")}
    assert inside == {
        FIRST_MS + n * 60_000: {"air_temperature": n / 7}
        | ({} if n % 5 else {"relative_humidity": float(n % 100)})
        for n in range(ROWS)
    }
    assert outside == {
        FIRST_MS + n * 60_000: {"air_temperature": -n / 3} for n in range(0, ROWS, 10)
    }


def test_files_are_merged_in_the_order_of_time(folder: Path):
    rows = list(replayed(_mapping()[0], folder, ReplayReport()))
    times = [sample.at_us for _, sample in rows]
    assert times == sorted(times)
    assert {device for device, _ in rows[:2]} == {"in", "out"}


@pytest.mark.parametrize("samples_per_message", [1, 100])
async def test_every_value_arrives_with_all_its_digits(
    broker, eventually, folder, samples_per_message: int
):
    server = broker("max_queued_messages 0", "max_inflight_messages 0")
    mapping, registry = _mapping()
    with Listener(server.host, server.port, topic="farm/#") as listener:
        report = await run_replay(
            mapping, folder, registry, _address(server), samples_per_message=samples_per_message
        )
        await eventually(lambda: len(listener.samples()) == ROWS + ROWS // 10)
        _check(listener)
    assert {m.topic for m in listener.messages} == {"farm/g/in", "farm/b/out"}
    assert all(m.qos == 1 for m in listener.messages)
    assert report.samples == ROWS + ROWS // 10
    assert report.values == ROWS + ROWS // 5 + ROWS // 10
    assert report.messages == len(listener.messages)
    assert (report.messages < 10) == (samples_per_message == 100)


async def test_a_connection_that_breaks_again_and_again_loses_nothing(
    broker, proxy, eventually, folder
):
    server = broker("max_queued_messages 0", "max_inflight_messages 0")
    between = proxy(server.host, server.port)
    between.delay(to_client_s=0.02)
    mapping, registry = _mapping()
    with Listener(server.host, server.port, topic="farm/#") as listener:
        run = asyncio.create_task(
            run_replay(
                mapping, folder, registry, _address(between), samples_per_message=1, in_flight=20
            )
        )
        for heard in (30, 150, 300):
            await eventually(lambda heard=heard: len(listener.messages) > heard, timeout_s=20)
            between.cut()
        report = await run
        await eventually(
            lambda: len({(m.topic, m.payload) for m in listener.messages}) == ROWS + ROWS // 10
        )
        _check(listener)
    assert between.connections_made >= 3
    assert report.samples == ROWS + ROWS // 10


async def test_a_replay_in_time_takes_its_time(broker, folder):
    server = broker()
    mapping, registry = _mapping()
    began = time.monotonic()
    await run_replay(mapping, folder, registry, _address(server), speed=ROWS * 60 / 1.5)
    assert time.monotonic() - began > 1.4


async def test_a_site_file_that_does_not_fit_is_refused_before_anything_is_sent(folder):
    mapping, _ = _mapping()
    other = read_site_file(SITE.replace("code: out", "code: outer"), "s").registry
    with pytest.raises(ReplayError, match="out: no such device in the site file"):
        await run_replay(mapping, folder, other, BrokerAddress("127.0.0.1", 9))


async def test_a_file_that_does_not_fit_its_mapping_stops_the_replay(broker, folder):
    (folder / "outside.csv").write_text("when,Temp\n2020-01-01,1\n")
    mapping, registry = _mapping()
    with pytest.raises(ReplayError, match="no column 'T'"):
        await run_replay(mapping, folder, registry, _address(broker()))


def test_the_command_says_what_it_read_and_sent(broker, folder):
    server = broker("max_queued_messages 0")
    (folder / "outside.csv").write_text("when,T\n2020-01-01,x\n2020-01-02,1\n")
    result = CliRunner().invoke(
        main, [str(folder / "mapping.yaml"), str(folder), "--port", str(server.port)]
    )
    assert result.exit_code == 0, result.output
    assert (
        f"inside.csv: {ROWS} rows, {ROWS + ROWS // 5} values, {ROWS - ROWS // 5} missing"
        in result.output
    )
    assert "outside.csv:2 T: could not convert" in result.output
    assert f"with {ROWS + ROWS // 5 + 1} values acknowledged" in result.output
    wrong = CliRunner().invoke(main, [str(folder / "site.yaml"), str(folder)])
    assert wrong.exit_code == 1 and "site.yaml:" in wrong.output


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "folder_name", "samples"),
    [
        ("agc2-tomato", "agc2-tomato-dev", 112_856),
        ("glasshouse-30mhz", "glasshouse-30mhz-dev", 84_043),
    ],
)
async def test_the_real_files_arrive_whole(broker, eventually, name, folder_name, samples: int):
    path = data_folder(folder_name)
    server = broker("max_queued_messages 0", "max_inflight_messages 0")
    registry = read_site_file(shipped_mapping_site_file(name), name).registry
    with Listener(server.host, server.port) as listener:
        report = await run_replay(
            shipped_mapping(name), path, registry, BrokerAddress(server.host, server.port)
        )
        await eventually(lambda: len(listener.messages) == report.messages)
    assert sum(len(m.samples) for m in listener.messages) == report.samples == samples
    assert report.problem_count == 0
