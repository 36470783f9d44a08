"""What docs/howto/connect-an-unknown-device.md shows happens, with real broker and database."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
import urllib.request
from functools import partial
from pathlib import Path

import pytest

from tests.ingest.mqtt.scene import publish
from tests.rig.service import TOKEN, ServiceProcess

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "connect-an-unknown-device.md"
TOPIC = "vendor/AX-7/up"
# What is another at each run: the id is made from the topic and stays.
CHANGING = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z|1[78]\d{8}")


def blocks(kind: str) -> list[tuple[str, str]]:
    """The fenced blocks of *kind*: (name, text)."""
    found = re.findall(rf"^```{kind} ?(\S*)\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    return [(name, text) for name, text in found]


def commands() -> list[tuple[list[str], list[str]]]:
    """The ``greenhouse`` and ``curl`` commands of the page, each with the lines it printed."""
    found = []
    for _, text in blocks("console"):
        for part in text.split("$ ")[1:]:
            command, *lines = part.splitlines()
            found.append((command.split(" "), lines))
    return found


def greenhouse(service: ServiceProcess, arguments: list[str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "greenhouse", *arguments],
        env=service.environment,
        cwd=service.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


def timeless(text: str) -> list[str]:
    return [CHANGING.sub("TIME", line).rstrip() for line in text.splitlines()]


async def test_the_howto_is_what_happens(tmp_path, timescale_dsn, broker, eventually):
    files = dict(blocks("yaml"))
    (_, message), *_ = blocks("json")
    server = broker()
    site = files["site.yaml"].replace("host: broker.example", f"host: {server.host}")
    site = site.replace("port: 1883", f"port: {server.port}")
    start_s = round(time.time()) - 240

    def sent(number: int) -> bytes:
        text = message.strip().replace("1795316220", str(start_s + 60 * number))
        return text.replace("23.5C", f"{20.5 + number}C").encode()

    with ServiceProcess(tmp_path / "service", timescale_dsn, site) as service:
        await asyncio.to_thread(service.start_ready)
        await eventually(lambda: "mqtt: connected" in service.log(), timeout_s=20)
        before = set(service.folder.rglob("*.py"))
        await publish(server, [sent(number) for number in range(4)], TOPIC)
        await eventually(
            lambda: "4 messages" in greenhouse(service, ["devices", "unclaimed"]), timeout_s=30
        )
        for name in ("agrix.yaml", "ax-7.yaml"):
            (service.folder / name).write_text(files[name])
        for (program, *arguments), lines in commands():
            if program == "curl":
                await publish(server, [sent(4)], TOPIC)
                wanted = timeless("\n".join(lines))
                await eventually(partial(_has, service, wanted), timeout_s=30)
                continue
            out = timeless(await asyncio.to_thread(greenhouse, service, arguments))
            missing = [line for line in timeless("\n".join(lines)) if line not in out]
            assert missing == [], (arguments, out)
            if "did you mean" in "".join(out):
                entry = service.folder / "ax-7.yaml"
                entry.write_text(entry.read_text().replace("battery_voltag}", "battery_voltage}"))
        assert set(service.folder.rglob("*.py")) == before, "Python was needed"
        assert "Traceback" not in service.log()


def _has(service: ServiceProcess, wanted: list[str]) -> bool:
    return _csv(service) == wanted


def _csv(service: ServiceProcess) -> list[str]:
    path = "/api/v1/series/ax-7.air_temperature/readings?step=raw&gaps=false&format=csv"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(service.url + path, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return timeless(answer.read().decode("utf-8-sig"))
    except OSError as error:
        return [str(error)]
