"""The demo as a newcomer starts it: live, stopped by Ctrl-C, nothing left behind, started again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.rig.process import free_port

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


class Demo:
    """One ``greenhouse demo`` in a process group of its own."""

    def __init__(self, *arguments: str) -> None:
        self.port = free_port()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("GREENHOUSE_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "greenhouse", "demo", f"--port={self.port}", "--no-browser",
             *arguments],
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )  # fmt: skip
        self.output = ""

    def until(self, words: str) -> None:
        """Read what it prints until *words* come."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if words in line:
                return
        raise AssertionError(f"the demo ended without {words!r}:\n{self.output}")

    def get(self, path: str):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return json.load(answer)

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal as a terminal would, and return the exit code."""
        self.process.send_signal(number)
        assert self.process.stdout is not None
        self.output += self.process.stdout.read()
        self.process.stdout.close()
        return self.process.wait(60)


def _alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    _, alive = psutil.wait_procs(processes, timeout=20)
    return alive


def _temporary() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("greenhouse-demo-*"))


def test_the_demo_is_live_ends_with_ctrl_c_and_leaves_nothing_behind(eventually):
    before = _temporary()
    demo = Demo()
    demo.until("Ctrl-C stops everything")
    eventually(
        lambda: sum(not one["stale"] for one in demo.get("/api/v1/latest")) > 70, timeout_s=60
    )
    latest = demo.get("/api/v1/latest")
    assert {"h4-soil.soil_ec", "h1-climate.air_temperature"} <= {one["series"] for one in latest}
    assert set(latest[0]) >= {"series", "observed_at", "value", "unit", "quality", "stale"}
    family = demo.family()
    assert len(family) >= 3
    assert demo.end() == 0
    assert "everything has ended" in demo.output
    assert not _alive(family)
    assert _temporary() == before
    assert "Traceback" not in demo.output


def test_a_second_start_with_the_same_data_goes_on_where_the_first_one_ended(tmp_path):
    data = tmp_path / "kept"
    first = Demo(f"--data={data}")
    first.until("Ctrl-C stops everything")
    token = (data / "token.secret").read_text()
    path = "/api/v1/series/h1-climate.air_temperature/readings?step=raw"
    kept = first.get(path)["series"][0]["observed_at"][:5]
    assert first.end() == 0
    second = Demo(f"--data={data}")
    second.until("Ctrl-C stops everything")
    try:
        assert second.get(path)["series"][0]["observed_at"][:5] == kept
        assert (data / "token.secret").read_text() == token
        assert token in second.output
    finally:
        assert second.end(signal.SIGTERM) == 0
    log = (data / "service.log").read_text()
    assert "Traceback" not in log


def test_a_killed_demo_takes_its_children_with_it(tmp_path):
    demo = Demo(f"--data={tmp_path / 'kept'}")
    demo.until("starting simulated base")
    family = demo.family()
    demo.end(signal.SIGKILL)
    assert not _alive(family)


def test_two_demos_cannot_share_their_data(tmp_path):
    data = tmp_path / "kept"
    first = Demo(f"--data={data}")
    first.until("starting service")
    second = Demo(f"--data={data}")
    with pytest.raises(AssertionError):
        second.until("never said")
    assert second.process.wait(20) == 1
    assert "another demo is using it" in second.output
    second.process.stdout.close()
    assert first.end() == 0


def test_a_taken_port_is_told_as_such():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "greenhouse", "demo", f"--port={port}", "--no-browser"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert f"port {port} of 127.0.0.1 is taken" in done.stderr
