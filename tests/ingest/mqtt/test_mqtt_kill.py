"""kill -9 in the middle: what is not in the spool is still at the broker."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from ingest.counters import Counters
from ingest.spool import Spool
from tests.ingest.mqtt.scene import VERSIONS, numbered, publish

REPOSITORY = Path(__file__).parents[3]
VICTIM = Path(__file__).with_name("victim.py")
KILLS, PART = 3, 500


async def start(version: str, port: int, folder: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(VICTIM),
        version,
        str(port),
        str(folder),
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )


async def in_spool(folder: Path) -> list[bytes]:
    payloads: list[bytes] = []
    async with Spool(folder, Counters()) as spool:
        while spool.lag(0).bytes:
            portions = await spool.read_backlog()
            payloads += [arrival.payload for one in portions for arrival in one.arrivals]
            spool.release(portions)
    return payloads


@pytest.mark.parametrize("version", [version.version for version in VERSIONS])
async def test_killed_again_and_again_it_loses_nothing(broker, eventually, tmp_path, version):
    server = broker("max_queued_messages 100000", "max_inflight_messages 100")
    victim = await start(version, server.port, tmp_path)
    try:
        await eventually(lambda: "Sending SUBACK to collector" in server.log, timeout_s=20)
        for kill in range(KILLS):
            written = spool_bytes(tmp_path)
            messages = numbered(kill * PART, PART)
            publishing = asyncio.create_task(publish(server, messages), name="device")
            # In the middle: when some of this part is durable and more is on the way.
            await eventually(
                lambda written=written: spool_bytes(tmp_path) > written + 2000, interval_s=0.001
            )
            victim.kill()
            await victim.wait()
            victim = await start(version, server.port, tmp_path)
            await publishing
        await eventually(lambda: messages[-1] in spool_content(tmp_path), timeout_s=20)
    finally:
        victim.kill()
        await victim.wait()
    payloads = await in_spool(tmp_path)
    assert set(payloads) == set(numbered(0, KILLS * PART))
    assert not (tmp_path / "gaps.json").exists(), "nothing was lost, and nothing is said to be"


def segments(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix not in (".json", ".new")]


def spool_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in segments(folder))


def spool_content(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in segments(folder))
