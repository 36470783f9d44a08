"""A fleet: the same stream each time, live on a broker, with history, in hundreds."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from devices.series import Transport
from devices.site_file import read_site_file
from firmware_sims.fleet import Fleet, FleetReport, run_fleet
from firmware_sims.mqtt_node import BrokerAddress
from firmware_sims.scenario import Scenario, read_scenario, shipped, shipped_site_file
from tests.firmware_sims.listening import Listener

START_US = round(dt.datetime(2026, 11, 20, 2, tzinfo=dt.UTC).timestamp() * 1e6)
MINUTE_US = 60_000_000


def _minute_stream(name: str, minutes: int = 10, before: int = 0):
    fleet = Fleet(shipped(name), START_US, START_US - before * MINUTE_US)
    return [(d.entry.code, sample) for d, sample in fleet.until(START_US + minutes * MINUTE_US)]


def _scenario(devices: int) -> Scenario:
    lines = "".join(
        f"  - {{code: node-{n}, site: h1, kind: climate_node, interval: 10s}}\n"
        for n in range(devices)
    )
    return read_scenario(
        "version: 1\nname: many\nseed: 4\nplace: {latitude: 36.9, longitude: 118.7}\n"
        "houses:\n  - {site: h1, type: multi_span}\n"
        f"devices:\n{lines}",
        "many.yaml",
    )


@contextlib.asynccontextmanager
async def _running(scenario: Scenario, broker, **options) -> AsyncIterator[list[FleetReport]]:
    stop, reports = asyncio.Event(), []

    async def run() -> None:
        address = BrokerAddress(broker.host, broker.port)
        reports.append(await run_fleet(scenario, address, stop, **options))

    async with asyncio.TaskGroup() as group:
        group.create_task(run())
        try:
            yield reports
        finally:
            stop.set()


def test_the_same_scenario_sends_the_same_readings_again():
    assert _minute_stream("bad-firmware") == _minute_stream("bad-firmware")


def test_devices_measure_at_their_interval_at_moments_of_their_own():
    stream = _minute_stream("small-base")
    stamps = {code: [s.stamp_us for c, s in stream if c == code] for code, _ in stream}
    for device in shipped("small-base").devices:
        gaps = {b - a for a, b in zip(stamps[device.code], stamps[device.code][1:], strict=False)}
        assert gaps <= {round(device.interval * 1e6)}
        expected = 600 / device.interval
        assert expected - 1 <= len(stamps[device.code]) <= expected + 1
    assert len({times[0] % 10_000_000 for times in stamps.values()}) > 10
    assert all(sample.stamp_us % 1000 == 0 for _, sample in stream)


def test_readings_come_in_the_order_of_their_time_and_within_the_physical_limits():
    registry = read_site_file(shipped_site_file("small-base"), "s.yaml").registry
    from devices.quantity import QUANTITIES

    stream = _minute_stream("small-base", minutes=5, before=60)
    times = [sample.at_us for _, sample in stream]
    assert times == sorted(times)
    limits = {
        (series.device, series.key): QUANTITIES[series.quantity]
        for series in registry.series.values()
    }
    for code, sample in stream:
        for key, value in sample.values.items():
            assert limits[code, key].low <= value <= limits[code, key].high, (code, key, value)


def test_a_house_without_power_is_silent_and_a_cut_link_only_late():
    stream = _minute_stream("power-cut", minutes=12)
    dark = [s for code, s in stream if code.startswith("h2-")]
    minutes = {(s.at_us - START_US) // MINUTE_US for s in dark}
    assert minutes == {0, 1, 7, 8, 9, 10, 11}
    cut_off = [s for code, s in stream if code == "weather"]
    assert len(cut_off) == 72  # it goes on measuring


def test_faults_of_the_shipped_scenarios_are_seen_in_what_is_sent():
    sick = _minute_stream("sick-sensors", minutes=5)
    last = {code: sample.values for code, sample in sick}
    assert last["h2-slab-1"]["soil_temperature"] is None
    assert len({s.values["air_temperature"] for c, s in sick if c == "h2-climate"}) == 1
    firmware = _minute_stream("bad-firmware", minutes=12)
    years = {dt.datetime.fromtimestamp(s.stamp_us / 1e6, dt.UTC).year for _, s in firmware}
    assert years == {2000, 2026, 2027}


async def test_a_fleet_publishes_every_series_of_its_site_file(broker, eventually):
    server = broker()
    scenario = shipped("small-base")
    registry = read_site_file(shipped_site_file("small-base"), "s.yaml").registry
    measuring = [one for one in registry.devices if one.transport is not Transport.DERIVED]
    expected = {(device.code, series.key) for device in measuring for series in device.series}
    with Listener(server.host, server.port) as listener:

        def heard() -> set[tuple[str, str]]:
            return {
                (message.topic.split("/")[2], key)
                for message in listener.data()
                for sample in message.samples
                for key in sample["v"]
            }

        async with _running(scenario, server, start_us=START_US, speed=120.0) as reports:
            await eventually(lambda: heard() == expected, timeout_s=30)
            online = {d.code for d in scenario.devices if listener.states(d.code) == ["online"]}
            assert len(online) == len(scenario.devices)
        await eventually(
            lambda: all(listener.states(d.code)[-1] == "offline" for d in scenario.devices)
        )
    sites = {
        message.topic.split("/")[2]: message.topic.split("/")[1] for message in listener.data()
    }
    assert sites == {device.code: device.site for device in measuring}
    assert reports[0].samples_sent == len(listener.samples())
    assert reports[0].samples_unsent == reports[0].samples_dropped == 0
    stamps = [sample["t"] * 1000 for sample in listener.samples()]
    assert min(stamps) >= START_US


async def test_history_comes_first_under_its_own_times_and_then_the_present(broker, eventually):
    server = broker("max_queued_messages 0", "max_inflight_messages 0")
    begin_us = time.time_ns() // 1000
    shares: list[float] = []
    with Listener(server.host, server.port) as listener:
        async with _running(
            shipped("small-base"), server, history_s=3600.0, on_history=shares.append
        ):
            await eventually(
                lambda: any(s["t"] * 1000 > begin_us for s in listener.samples("h1-climate")),
                timeout_s=40,
            )
    stamps = [sample["t"] * 1000 for sample in listener.samples("h1-climate")]
    assert stamps == sorted(stamps) and len(set(stamps)) == len(stamps)
    gaps = {b - a for a, b in pairwise(stamps)}
    assert gaps == {10_000_000}  # no hole between history and present
    assert begin_us - stamps[0] == pytest.approx(3600e6, abs=15e6)
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert len(listener.data("h1-climate")) < len(stamps) / 10  # as lists


async def test_history_leaves_out_what_was_sent_before(broker, eventually):
    server = broker()
    now_us = time.time_ns() // 1000
    with Listener(server.host, server.port) as listener:
        async with _running(
            shipped("small-base"), server, history_s=7200.0, not_before_us=now_us - 10 * MINUTE_US
        ):
            await eventually(lambda: len(listener.samples("h1-climate")) > 55, timeout_s=30)
    stamps = [sample["t"] * 1000 for sample in listener.samples()]
    assert min(stamps) >= now_us - 10 * MINUTE_US


async def test_a_power_cut_of_a_house_is_told_by_the_broker_and_ends(broker, eventually):
    server = broker()
    scenario = read_scenario(
        "version: 1\nname: cut\nseed: 3\nbased_on: small-base\n"
        "faults: [{fault: power_cut, site: h2, at: 2min, lasts: 3min}]\n",
        "cut.yaml",
    )
    with Listener(server.host, server.port) as listener:
        async with _running(scenario, server, start_us=START_US, speed=60.0):
            await eventually(
                lambda: listener.states("h2-climate") == ["online", "offline", "online"],
                timeout_s=30,
            )
            assert listener.states("h1-climate") == ["online"]
    minutes = {(s["t"] * 1000 - START_US) // MINUTE_US for s in listener.samples("h2-climate")}
    assert not minutes & {2, 3, 4}
    assert {0, 1} <= minutes


async def test_hundreds_of_devices_run_in_one_process(broker, eventually):
    server = broker("max_connections -1")
    with Listener(server.host, server.port) as listener:
        began = time.process_time()
        async with _running(_scenario(200), server, start_us=START_US, speed=3.0) as reports:
            await eventually(lambda: len({m.topic for m in listener.data()}) == 200, timeout_s=60)
            used_s = time.process_time() - began
    assert reports[0].devices == 200
    assert server.log.count("New client connected") == 201
    assert used_s < 20


async def test_beyond_the_limit_devices_share_connections(broker, eventually):
    server = broker()
    with Listener(server.host, server.port) as listener:
        async with _running(
            _scenario(40), server, start_us=START_US, speed=5.0, most_connections=8
        ):
            await eventually(lambda: len({m.topic for m in listener.data()}) == 40, timeout_s=30)
    assert server.log.count("New client connected") == 9


async def test_a_fleet_waits_for_a_broker_that_starts_late_and_stops_without_one(
    broker, eventually
):
    server = broker()
    server.stop()
    async with _running(_scenario(3), server, start_us=START_US, speed=20.0) as reports:
        await asyncio.sleep(0)
    assert reports[0].samples_sent == 0
    async with _running(_scenario(3), server, start_us=START_US, speed=20.0) as reports:
        await asyncio.to_thread(server.start)
        with Listener(server.host, server.port) as listener:
            await eventually(lambda: len({m.topic for m in listener.data()}) == 3, timeout_s=30)
    assert reports[0].samples_sent > 0
