"""One server process: start it, know it again, end exactly it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# A server that dies with its parent dies with the *thread* that started it, so all are started
# from one thread that lives as long as the process.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="server-starter")


class StartFailed(Exception):
    """A server ended or stayed silent instead of coming up; the message ends with its log."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def accepts_connections(host: str, port: int) -> bool:
    """Tell whether somebody accepts TCP connections there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def started_ticks(pid: int) -> int | None:
    """Return when process *pid* started, in clock ticks since boot; None when there is none.

    Always None where there is no /proc to tell.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field, the name in brackets, may hold spaces.
    fields = stat.rsplit(")", 1)[1].split()
    return None if fields[0] == "Z" else int(fields[19])


def descendants(pid: int) -> list[int]:
    """Return the pids of all processes below *pid*, as far as /proc tells."""
    if not Path("/proc").exists():
        return []
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def wait_gone(pid: int, ticks: int | None, timeout_s: float) -> bool:
    """Wait until the process *pid* that started at *ticks* is no more; False when time is up."""
    deadline = time.monotonic() + timeout_s
    while ticks is not None and started_ticks(pid) == ticks:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


class ServerProcess:
    """A child process with a log file, watched until it is ready and reaped when it ends."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log_path = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """True between a start and the end of the process, however it ends."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The pid of the running process; raises when it is not running."""
        if self._process is None or self._process.poll() is not None:
            raise ProcessLookupError(f"{self.name} is not running")
        return self._process.pid

    @property
    def log(self) -> str:
        """All that the server has written to its log since it was made."""
        if not self.log_path.exists():
            return ""
        return self.log_path.read_text(errors="replace")

    def start(
        self,
        command: Sequence[str],
        environment: dict[str, str],
        is_ready: Callable[[], bool],
        *,
        timeout_s: float = 30,
        own_session: bool = False,
    ) -> None:
        """Start *command* and return when *is_ready* answers True.

        *own_session*: the server outlives this process and gets no signal of its terminal.
        """
        if self.running:
            raise RuntimeError(f"{self.name} is running already")
        with self.log_path.open("ab") as log:
            self._process = _starter.submit(
                subprocess.Popen,
                command,
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=own_session,
                process_group=None if own_session else 0,
            ).result()
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            if self._process.poll() is not None:
                raise StartFailed(
                    f"{self.name} ended with {self._process.returncode}:\n{self.log[-2000:]}"
                )
            if time.monotonic() > deadline:
                self.kill()
                raise StartFailed(
                    f"{self.name} is not ready after {timeout_s} s:\n{self.log[-2000:]}"
                )
            time.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the running process."""
        os.kill(self.pid, number)

    def stop(self, number: signal.Signals, timeout_s: float = 30) -> None:
        """Ask the process to end and wait for it; kill it and raise when it does not."""
        if self._process is None or not self.running:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(
                f"{self.name} did not stop within {timeout_s} s:\n{self.log[-2000:]}"
            ) from None

    def kill(self) -> None:
        """Kill the process and everything below it at once, and wait until all are gone."""
        if self._process is None or self._process.poll() is not None:
            return
        # The children first lose their parent, then none of them can tell it anything.
        below = [(pid, started_ticks(pid)) for pid in descendants(self._process.pid)]
        self._process.kill()
        for pid, ticks in below:
            if ticks is not None and started_ticks(pid) == ticks:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.wait()
        for pid, ticks in below:
            if not wait_gone(pid, ticks, 10):
                raise TimeoutError(f"process {pid} of {self.name} survived SIGKILL")
