"""A device that nobody has seen before: from its first message to live series, by configuration."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from datetime import UTC, datetime
from typing import Any

import aiomqtt
import httpx
import pytest

from tests.ingest.mqtt.scene import publish
from tests.rig.service import TOKEN, ServiceProcess

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

SITE = """
version: 1
sites: [{{code: h1, kind: greenhouse, name: {{zh: 一号温室, en: House 1}}}}]
broker:
  host: 127.0.0.1
  port: {port}
  topics: ["gh/{{site}}/{{device}}", "farm/{{site}}/{{device}}/{{key}}", "vendor/#"]
devices:
  - {{code: known, site: h1, series: [{{quantity: co2}}]}}
"""


def invented(at_s: float, warmth: float) -> bytes:
    """A layout of nobody's: nested, odd names, numbers as text, seconds since 1970."""
    return json.dumps(
        {
            "hdr": {"uid": "AX-7", "ts": str(round(at_s))},
            "payload": {
                "env": [{"n": "wendu", "v": f"{warmth}C"}, {"n": "shidu", "v": "61%"}],
                "soil": {"ec-val": 850, "VWC": "0.31"},
                "bat_mv": 3600,
            },
            "fw": "v1.2",
        }
    ).encode()


async def ask(
    service: ServiceProcess, path: str, body: object | None = None
) -> tuple[int, Any, httpx.Headers]:
    headers = {"Authorization": f"Bearer {TOKEN}".encode(), "X-Actor": "李伟".encode()}
    async with httpx.AsyncClient(base_url=service.url, headers=headers, timeout=30) as client:
        if body is None:
            answer = await client.get(f"/api/v1{path}")
        else:
            answer = await client.post(f"/api/v1{path}", json=body)
    return answer.status_code, answer.json(), answer.headers


async def values(service: ServiceProcess, series: str) -> list[tuple[int, float]]:
    """The raw readings of the last hour: (ms, value)."""
    status, answer, _ = await ask(
        service, f"/series/{series}/readings?step=raw&time=epoch_ms&gaps=false"
    )
    if status != 200:
        return []
    (part,) = answer["series"]
    return list(zip(part["observed_at"], part["value"], strict=True))


async def test_an_invented_layout_becomes_live_series_with_its_history(
    tmp_path, timescale_dsn, broker, eventually
):
    server = broker()
    start_s = round(time.time()) - 600
    before = [invented(start_s + 60 * n, 20.5 + n) for n in range(5)]
    text = SITE.format(port=server.port)
    with ServiceProcess(tmp_path / "service", timescale_dsn, text) as service:
        await asyncio.to_thread(service.start_ready)
        await eventually(lambda: "mqtt: connected" in service.log(), timeout_s=20)
        files = set(service.folder.rglob("*"))
        await publish(server, before, "vendor/AX-7/up")

        # It is seen, with what it may be saying.
        async def seen() -> Any:
            _, listed, headers = await ask(service, "/unclaimed")
            return (listed, headers) if listed and listed[0]["messages"] == 5 else None

        listed, headers = await eventually(seen, timeout_s=20)
        (one,) = listed
        assert headers["x-total-count"] == "1"
        assert (one["pattern"], one["device"], one["size_bytes"]) == (
            "vendor/AX-7/up",
            "",
            sum(map(len, before)),
        )
        assert one["formats"][0]["payload"] == "mapping/"
        assert one["time"]["path"] == "hdr.ts"
        assert {(v["quantity"], v["unit"]) for v in one["values"] if v["quantity"]} == {
            ("air_temperature", "°C"),
            ("relative_humidity", "%"),
            ("soil_ec", "µS/cm"),
            ("soil_moisture", "m³/m³"),
            ("battery_voltage", "mV"),
        }

        # It is tried; nothing is saved.
        wanted = {"code": "ax-7", "site": "h1", "placement": "root_zone"}
        body = {"unclaimed": one["id"], "device": wanted, "guessed": True}
        status, tried, _ = await ask(service, "/profiles/try", body)
        assert status == 200, tried
        assert tried["unreadable"] == []
        assert {r["series"]: (r["value"], r["unit"]) for r in tried["readings"]} == {
            "ax-7.air_temperature": (24.5, "°C"),
            "ax-7.relative_humidity": (61.0, "%"),
            "ax-7.soil_ec": (0.85, "mS/cm"),
            "ax-7.soil_moisture": (31.0, "%"),
            "ax-7.battery_voltage": (3.6, "V"),
        }
        assert tried["readings"][0]["observed_at"].startswith(
            datetime.fromtimestamp(start_s + 240, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        )
        status, problem, _ = await ask(
            service, "/profiles/try", body | {"device": wanted | {"site": "h9", "intervall": "1s"}}
        )
        assert (status, problem["type"]) == (422, "urn:greenhouse:problem:try-refused")
        assert {(e["where"].split(":")[0], e["got"]) for e in problem["errors"]} == {
            ("site.d/devices/ax-7.yaml", "'h9'"),
            ("site.d/devices/ax-7.yaml", "'intervall'"),
        }
        assert set(service.folder.rglob("*.yaml")) <= files

        # It is claimed: its history stands in its series, and what comes next.
        claimed_s = time.monotonic()
        status, claimed, _ = await ask(
            service, f"/unclaimed/{one['id']}/claim", {"device": wanted, "guessed": True}
        )
        assert status == 201, claimed
        assert claimed["actor"] == "李伟"
        assert set(claimed["files"]) == {"site.d/devices/ax-7.yaml", "site.d/mappings/ax-7.yaml"}
        expected = [((start_s + 60 * n) * 1000, 20.5 + n) for n in range(5)]

        async def history() -> bool:
            return await values(service, "ax-7.air_temperature") == expected

        await eventually(history, timeout_s=20)
        took_s = time.monotonic() - claimed_s
        assert took_s < 10
        await publish(server, [invented(start_s + 300, 30.5)], "vendor/AX-7/up")

        async def live() -> bool:
            return (await values(service, "ax-7.air_temperature"))[5:] == [
                ((start_s + 300) * 1000, 30.5)
            ]

        await eventually(live, timeout_s=20)
        assert (await ask(service, "/unclaimed"))[1] == []
        assert (await ask(service, f"/unclaimed/{one['id']}"))[0] == 404

        # Nobody wrote a line of Python, and the files alone carry it over a restart.
        new = {file for file in set(service.folder.rglob("*")) - files if file.suffix == ".py"}
        assert new == set()
        assert service.stop() == 0
        assert "nothing wrong" in service.command("check", str(service.site_file))
        await asyncio.to_thread(service.start_ready)
        await publish(server, [invented(start_s + 360, 31.5)], "vendor/AX-7/up")

        async def after_restart() -> bool:
            return len(await values(service, "ax-7.air_temperature")) == 7

        await eventually(after_restart, timeout_s=60)
        log = service.log()
    assert "李伟 claimed vendor/AX-7/up as device ax-7" in log
    assert "Traceback" not in log


async def test_a_topic_of_its_own_is_subscribed_to_without_a_restart(
    tmp_path, timescale_dsn, broker, eventually
):
    server = broker()
    text = SITE.format(port=server.port)
    with ServiceProcess(tmp_path / "service", timescale_dsn, text) as service:
        await asyncio.to_thread(service.start_ready)
        home = service.folder / "site.d" / "devices"
        home.mkdir(parents=True)
        (home / "plug.yaml").write_text(
            "code: plug\nsite: h1\npayload: mapping/plug\ntopic: other/plug\n"
            "series: [{quantity: air_temperature, key: temp}]\n"
        )
        mapping = service.folder / "site.d" / "mappings" / "plug.yaml"
        mapping.parent.mkdir()
        mapping.write_text("mapping: plug\nvalues: [{path: temp}]\n")
        await asyncio.to_thread(service.command, "apply", str(service.site_file))

        async def live() -> bool:
            await publish(server, [b'{"temp": 21.5}'], "other/plug")
            found = await values(service, "plug.air_temperature")
            return bool(found) and {value for _, value in found} == {21.5}

        await eventually(live, timeout_s=20, interval_s=0.5)

        # A mapping that is edited changes nothing in the registry; SIGHUP has it taken up.
        mapping.write_text("mapping: plug\nvalues: [{path: temp, offset: 1]\n")
        os.kill(service.pid, signal.SIGHUP)
        await eventually(lambda: "not taken up again" in service.log(), timeout_s=20)
        mapping.write_text("mapping: plug\nvalues: [{path: temp, offset: 1}]\n")
        os.kill(service.pid, signal.SIGHUP)

        async def mended() -> bool:
            await publish(server, [b'{"temp": 21.5}'], "other/plug")
            return 22.5 in {value for _, value in await values(service, "plug.air_temperature")}

        await eventually(mended, timeout_s=20, interval_s=0.5)
        assert "Traceback" not in service.log()


async def test_a_flood_of_topics_is_bounded_and_a_device_in_it_is_found(
    tmp_path, timescale_dsn, broker, eventually
):
    server = broker("max_queued_messages 100000")
    text = SITE.format(port=server.port)
    with ServiceProcess(tmp_path / "service", timescale_dsn, text) as service:
        await asyncio.to_thread(service.start_ready)
        await publish(server, [b"21.5"], "farm/h1/n3/temp")
        await publish(server, [b"60"], "farm/h1/n3/rh")

        async def floods() -> None:
            async def one(client: Any, number: int) -> None:
                await client.publish(f"vendor/{number}", b"{}", 1)

            async with aiomqtt.Client(server.host, server.port) as client:
                client.pending_calls_threshold = 100_000
                await asyncio.gather(*(one(client, number) for number in range(3000)))

        await floods()
        await publish(server, [b"22.5"], "farm/h1/n3/temp")

        async def all_kept() -> bool:
            metrics = await asyncio.to_thread(service.metrics)
            return metrics.get("greenhouse_unclaimed_messages_total", 0) == 3003

        await eventually(all_kept, timeout_s=60)

        async def found() -> Any:
            _, listed, headers = await ask(service, "/unclaimed?limit=200")
            mine = [one for one in listed if one["device"] == "n3"]
            return (mine[0], headers) if mine and mine[0]["messages"] == 3 else None

        one, headers = await eventually(found, timeout_s=60)
        assert int(headers["x-total-count"]) <= 1000
        assert one["pattern"] == "farm/h1/n3/{key}"
        assert one["formats"][0]["payload"] == "value"
        status, claimed, _ = await ask(
            service,
            f"/unclaimed/{one['id']}/claim",
            {"device": {"code": "node-3", "site": "h1"}, "guessed": True},
        )
        assert status == 201, claimed

        async def history() -> bool:
            temperatures = [v for _, v in await values(service, "node-3.air_temperature")]
            humidities = [v for _, v in await values(service, "node-3.relative_humidity")]
            return (temperatures, humidities) == ([21.5, 22.5], [60.0])

        await eventually(history, timeout_s=60)
        assert "Traceback" not in service.log()
