"""The spool in a process of its own: killed, on a failing disk, and for its memory."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ingest.counters import Counters
from ingest.spool import Spool
from tests.ingest.spool_child import arrival

ROOT = Path(__file__).parents[2]


@contextmanager
def _child(folder: Path, first: int, *before: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child and whatever runs it, as a process group that is killed at the end at the latest."""
    command = [sys.executable, "-m", "tests.ingest.spool_child", str(folder), str(first), "3"]
    child = subprocess.Popen(
        [*before, *command], cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        yield child
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


def _accepted(child: subprocess.Popen[bytes], lines: int) -> set[int]:
    """Read *lines* lines, kill the child, and read what it had said by then."""
    assert child.stdout is not None
    said = [child.stdout.readline() for _ in range(lines)]
    os.killpg(child.pid, signal.SIGKILL)
    said += child.stdout.read().splitlines(keepends=True)
    return {int(line) for line in said if line.endswith(b"\n")}


async def _found(folder: Path, counters: Counters, release: bool) -> set[int]:
    """Read everything in *folder*; each arrival must be whole."""
    numbers = set()
    async with Spool(folder, counters) as spool:
        while spool.backlog_bytes:
            portions = await spool.read_backlog()
            for portion in portions:
                for one in portion.arrivals:
                    assert one == arrival(one.received_at_us)
                    numbers.add(one.received_at_us)
            if release:
                spool.release(portions)
    return numbers


async def test_kill_9_at_any_moment_loses_nothing_that_was_accepted(tmp_path):
    """Twenty times, each on top of what the last left; every third time it is drained between."""
    chance = random.Random(2026)
    accepted, drained, counters = set(), set(), Counters()
    for turn in range(20):
        with _child(tmp_path, 1_000_000 * turn) as child:
            said = _accepted(child, lines=chance.randrange(1, 2500))
        assert said
        accepted |= said
        if turn % 3 == 2:
            drained |= await _found(tmp_path, counters, release=True)
            assert accepted <= drained
            assert list(tmp_path.glob("*.segment")) == []
    drained |= await _found(tmp_path, counters, release=True)
    assert accepted <= drained
    assert counters.spool_corrupt_bytes == counters.spool_lost_records == 0


async def test_an_error_of_the_real_sync_loses_nothing_that_was_accepted(tmp_path):
    """The kernel answers EIO to every fifth fdatasync (injected by strace)."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not here")
    inject = "inject=fdatasync:error=EIO:when=4+5"
    strace = ("strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", "trace=fdatasync")
    folder = tmp_path / "spool"
    folder.mkdir()
    with _child(folder, 0, *strace, "-e", inject) as child:
        accepted = _accepted(child, lines=300)
    if not accepted:
        pytest.skip("strace may not trace here")
    trace = (tmp_path / "trace").read_text()
    assert trace.count("EIO") > 3, "the disk did fail"
    counters = Counters()
    assert accepted <= await _found(folder, counters, release=False)
    assert counters.spool_lost_records == 0


_FLOOD = """
import asyncio, sys
from pathlib import Path
import psutil
from msgspec.structs import replace
from ingest.counters import Counters
from ingest.pipeline import DecoderSource, Pipeline
from ingest.spool import Spool
from tests.ingest.house import CODECS, TOPIC, house, readings
from tests.ingest.test_pipeline import Letters, Outcome, Table

async def main():
    counters, table, decoders = Counters(), Table(), DecoderSource(TOPIC, CODECS)
    await decoders.adopt(house())
    table.answer = Outcome("unavailable", reason="gone")
    process = psutil.Process()
    async with Spool(Path(sys.argv[1]), counters) as spool:
        pipeline = Pipeline(spool, decoders, table, Letters(), counters, stop_deadline_s=0.1)
        run = asyncio.create_task(pipeline.run())
        before = most = None
        for start in range(0, 200_000, 500):
            batch = [readings(number) for number in range(start, start + 500)]
            await spool.accept([replace(one, payload=one.payload + b" " * 400) for one in batch])
            await asyncio.sleep(0)
            rss = process.memory_info().rss
            before = before or rss
            most = max(most or 0, rss)
        assert spool.lag(0).records == 200_000, spool.lag(0)
        print((most - before) // 2**20, spool.lag(0).bytes // 2**20)
        pipeline.stop()
        await run

asyncio.run(main())
"""


def test_memory_is_bounded_while_the_database_is_away(tmp_path):
    """200,000 messages of half a kilobyte: ninety megabytes on the disk, not in memory."""
    command = [sys.executable, "-c", _FLOOD, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    grown_mb, spooled_mb = map(int, done.stdout.split())
    assert spooled_mb > 90
    assert grown_mb < 50, f"{grown_mb} MB more memory for {spooled_mb} MB of messages"
