"""Sparkplug through the whole service: our simulated node, a real broker, a real database."""

from __future__ import annotations

import asyncio
import time

import psycopg
import pytest

from devices.quality import Quality
from firmware_sims.sparkplug_node import SparkplugNode
from tests.rig.service import ServiceProcess

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

AWAY = int(Quality.MISSING | Quality.COMMUNICATION | Quality.RECEIVE_TIME)
DEVICES = {
    "climate": {"Air/Temperature": "Float", "Air/Humidity": "Int16", "Firmware": "String"},
    "soil": {"Temperature": "Double"},
}


def site_text(port: int) -> str:
    return f"""
version: 1
sites: [{{code: base, kind: base}}]
broker: {{host: 127.0.0.1, port: {port}}}
sparkplug: {{rebirth: true, host_id: greenhouse, reorder_timeout: 500ms}}
devices:
  - code: climate-1
    site: base
    payload: sparkplug
    address: base-a/gw-1/climate
    interval: 1h
    series:
      - {{quantity: air_temperature, key: Air/Temperature}}
      - {{quantity: relative_humidity, key: Air/Humidity}}
  - code: soil-1
    site: base
    payload: sparkplug
    address: base-a/gw-1/soil
    interval: 1h
    series: [{{quantity: soil_temperature, key: Temperature}}]
"""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def stored(dsn: str, series: str) -> list[tuple[int, float | None, int]]:
    """Return the readings of *series* as (ms, value or None, quality), by time."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT round(extract(epoch FROM r.observed_at) * 1000)::bigint,"
            " nullif(r.value, 'NaN'), r.quality"
            " FROM readings r JOIN series s ON s.id = r.series_id WHERE s.code = %s"
            " ORDER BY r.observed_at",
            (series,),
        ).fetchall()
    return [(int(at), value, quality) for at, value, quality in rows]


def letters(dsn: str) -> list[tuple[str, bool]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            "SELECT code, replayed_at IS NOT NULL FROM dead_letters ORDER BY received_at"
        ).fetchall()


def newest(service: ServiceProcess, series: str) -> dict:
    (row,) = service.get(f"/api/v1/latest?series={series}")
    return row


TEMPERATURE, HUMIDITY = "climate-1.air_temperature", "climate-1.relative_humidity"
SOIL = "soil-1.soil_temperature"


async def test_births_data_loss_rebirth_and_death_as_a_grower_sees_them(
    tmp_path, timescale_dsn, broker, eventually
):
    mosquitto = broker()
    node = SparkplugNode("base-a", "gw-1", DEVICES, primary_host="greenhouse")
    with ServiceProcess(tmp_path / "service", timescale_dsn, site_text(mosquitto.port)) as service:
        async with node.connected(mosquitto.host, mosquitto.port):
            # The node waits for its primary host, and what it measures meanwhile is not lost.
            early_ms = now_ms() - 60_000
            await node.measure("climate", {"Air/Temperature": 19.5}, early_ms)
            await asyncio.to_thread(service.start_ready)
            await eventually(lambda: node.speaking.is_set(), timeout_s=20)
            await eventually(lambda: stored(timescale_dsn, TEMPERATURE), timeout_s=20)
            assert stored(timescale_dsn, TEMPERATURE) == [(early_ms, 19.5, 0)], "born and sent once"
            assert node.births == 1

            at_ms = now_ms()
            reading = {"Air/Temperature": 21.5, "Air/Humidity": -5, "Firmware": "1.2"}
            await node.measure("climate", reading, at_ms)
            await eventually(lambda: newest(service, TEMPERATURE)["value"] == 21.5, timeout_s=20)
            (humidity,) = [row for row in stored(timescale_dsn, HUMIDITY) if row[0] == at_ms]
            assert humidity[1:] == (-5.0, int(Quality.PHYSICAL_RANGE)), "two's complement"
            assert newest(service, TEMPERATURE)["stale"] is False

            # A message is lost, and it may have been a birth: what follows it waits until the node
            # is born again, which it is asked for, and is then read at its own time.
            node.lose()
            await node.measure("climate", {"Air/Temperature": 22.0}, at_ms + 1)
            await eventually(lambda: newest(service, TEMPERATURE)["value"] == 22.0, timeout_s=20)
            await eventually(lambda: node.births == 2, timeout_s=20)
            rows = len(stored(timescale_dsn, TEMPERATURE))
            await node.measure("climate", {"Air/Temperature": 22.5}, at_ms + 2)
            await eventually(lambda: newest(service, TEMPERATURE)["value"] == 22.5, timeout_s=20)
            assert len(stored(timescale_dsn, TEMPERATURE)) == rows + 1, "a rebirth repeats nothing"
            await eventually(lambda: letters(timescale_dsn) == [("E-ALIAS", True)], timeout_s=30)
            counted = service.metrics()
            assert counted["greenhouse_sparkplug_total"] > 0

            # One device dies: its series are stale at once, and no value is made up.
            await node.measure("soil", {"Temperature": 15.25}, now_ms())
            await eventually(lambda: newest(service, SOIL)["value"] == 15.25, timeout_s=20)
            await node.end_device("soil")
            await eventually(lambda: newest(service, SOIL)["stale"], timeout_s=20)
            assert newest(service, SOIL)["value"] is None
            assert newest(service, TEMPERATURE)["stale"] is False
            assert stored(timescale_dsn, SOIL)[-1][2] == AWAY
            edges = {edge["address"]: edge for edge in service.get_health()["edges"]}
            assert edges["base-a/gw-1"]["online"] and not edges["base-a/gw-1/soil"]["online"]
            await node.begin_device("soil")
            await node.measure("soil", {"Temperature": 15.5}, now_ms())
            await eventually(lambda: newest(service, SOIL)["value"] == 15.5, timeout_s=20)

            # The node loses its connection: the broker says so, and everything behind it is stale.
            node.crash()
            await eventually(
                lambda: all(
                    newest(service, name)["stale"] for name in (TEMPERATURE, HUMIDITY, SOIL)
                ),
                timeout_s=30,
            )
            edges = service.get_health()["edges"]
            assert not any(edge["online"] for edge in edges) and len(edges) == 3
            sources = {gap["source"] for gap in gaps(service)}
            assert sources >= {"sparkplug:base-a/gw-1", "sparkplug:base-a/gw-1/soil"}


async def test_what_came_before_its_birth_is_read_when_the_birth_comes(
    tmp_path, timescale_dsn, broker, eventually
):
    """The node was born while nobody listened; its aliases mean nothing until it is born again."""
    mosquitto = broker()
    node = SparkplugNode("base-a", "gw-1", DEVICES)
    service = ServiceProcess(tmp_path / "service", timescale_dsn, site_text(mosquitto.port))
    with service:
        async with node.connected(mosquitto.host, mosquitto.port):
            await asyncio.to_thread(service.start_ready)
            await eventually(lambda: service.get_health()["brokers"][0]["connected"], timeout_s=20)
            sent = []

            async def read(value: float) -> bool:
                sent.append((now_ms(), value))
                await node.measure("climate", {"Air/Temperature": value}, sent[-1][0])
                return node.births > 1

            value = 20.0
            while not await read(value):
                assert value < 60.0, service.log()
                value += 0.25
                await asyncio.sleep(0.05)  # the pace of the device, not a wait for anything
            await eventually(
                lambda: sent[-1] in [row[:2] for row in stored(timescale_dsn, TEMPERATURE)],
                timeout_s=30,
            )
            kept = letters(timescale_dsn)
            assert kept and {code for code, _ in kept} == {"E-ALIAS"}
            await eventually(lambda: all(done for _, done in letters(timescale_dsn)), timeout_s=30)

            def arrived() -> set[tuple[int, float | None]]:
                return {row[:2] for row in stored(timescale_dsn, TEMPERATURE)}

            # From the first message that we heard at all, every one is there at its own time.
            await eventually(lambda: len(arrived() & set(sent)) >= len(kept) + 1, timeout_s=30)
            first = min(at for at, _ in arrived() & set(sent))
            assert {row for row in sent if row[0] >= first} <= arrived()

            # Killed and started again, the service still knows the certificates, and doubts them:
            # the number that follows is not the one it expects, so it asks once more.
            births = node.births
            await asyncio.to_thread(service.kill)
            at_ms = now_ms()
            await node.measure("climate", {"Air/Temperature": 30.0}, at_ms)  # nobody listens: lost
            await asyncio.to_thread(service.start_ready)
            await eventually(lambda: service.get_health()["brokers"][0]["connected"], timeout_s=20)
            after = now_ms()
            await node.measure("climate", {"Air/Temperature": 31.0}, after)
            await eventually(lambda: (after, 31.0) in arrived(), timeout_s=30)
            assert node.births == births + 1


def gaps(service: ServiceProcess) -> list[dict]:
    from_ms = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3600))
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60))
    return service.get(f"/api/v1/gaps?start={from_ms}&end={until}")
