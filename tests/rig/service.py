"""The service in a process of its own, to start, stop, kill and look at from outside."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil

TOKEN = "system-test-token"


class ServiceProcess:
    """``greenhouse run`` over *site_text*, with its spool and its log in *folder*."""

    def __init__(self, folder: Path, dsn: str, site_text: str, **settings: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.spool = folder / "spool"
        self.log_file = folder / "service.log"
        self.site_file = folder / "site.yaml"
        self.site_file.write_text(site_text, "utf-8")
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text(TOKEN)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("GREENHOUSE_")},
            "GREENHOUSE_DSN": dsn,
            "GREENHOUSE_SPOOL_DIR": str(self.spool),
            "GREENHOUSE_TOKEN_FILE": str(token),
            "GREENHOUSE_PORT": str(self.port),
            "GREENHOUSE_OPEN_LOOPBACK_READS": "true",
            **{f"GREENHOUSE_{name}": value for name, value in settings.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ServiceProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.running:
            self.kill()

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id; only while it runs."""
        assert self._process is not None
        return self._process.pid

    def start(self, *arguments: str) -> None:
        """Start the process; does not wait for anything."""
        with self.log_file.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "greenhouse", "run", str(self.site_file), *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def start_ready(self, timeout_s: float = 40.0) -> None:
        """Start the process and wait until it says that it is ready."""
        self.start()
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            assert self.running, self.log()
            if self.health_code() == 200:
                return
            time.sleep(0.05)
        raise AssertionError(f"not ready after {timeout_s} s:\n{self.log()}")

    def start_ready_soon(self, timeout_s: float = 40.0) -> None:
        """Start the process and return as soon as HTTP answers at all."""
        self.start()
        deadline = time.monotonic() + timeout_s
        while not self.health_code():
            assert self.running, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.01)

    def kill(self) -> None:
        """End the process with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self, timeout_s: float = 20.0) -> int:
        """Ask it to stop; return its exit code, or fail when it takes too long."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout_s)

    def wait(self, timeout_s: float = 20.0) -> int:
        """Return its exit code when it ends by itself."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def log(self) -> str:
        """All that it logged, over all its starts."""
        return self.log_file.read_text("utf-8", "replace") if self.log_file.exists() else ""

    def memory_mb(self) -> float:
        """Resident memory of the running process."""
        rss: int = psutil.Process(self.pid).memory_info().rss
        return rss / 1e6

    def health_code(self) -> int:
        """HTTP status of /healthz/ready; 0 while nothing answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/healthz/ready", timeout=3) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return 0

    @property
    def url(self) -> str:
        """The address of its HTTP service."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> Any:
        """Return the JSON answer for *path*."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=20) as answer:
            return json.load(answer)

    def get_health(self) -> Any:
        """Return /healthz, whatever its status."""
        try:
            return self.get("/healthz")
        except urllib.error.HTTPError as error:
            with error:
                return json.load(error)

    def post(self, path: str, body: object) -> int:
        """Post *body* with the token; return the HTTP status."""
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def command(self, *arguments: str) -> str:
        """Run another command of the command line with the service's settings."""
        done = subprocess.run(
            [sys.executable, "-m", "greenhouse", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def metrics(self) -> dict[str, float]:
        """Return the samples of /metrics by name, labels summed up."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=20) as answer:
            lines = answer.read().decode().splitlines()
        found: dict[str, float] = {}
        for line in lines:
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                name = name.partition("{")[0]
                found[name] = found.get(name, 0.0) + float(value)
        return found
