"""Where one server lives: its files, its process, and how to end it.

Backend (a Debian folder, or a docker engine)
  └─ Place (a folder and a process in that root, or a container)
       └─ DatabaseServer or Broker, which know what to run there
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, Protocol

from tests.rig.process import ServerProcess, descendants, started_ticks, wait_gone

Kind = Literal["database", "broker"]

# Settings of every server with TimescaleDB.
TIMESCALE = ("shared_preload_libraries=timescaledb", "timescaledb.telemetry_level=off")


class Place(Protocol):
    """Room for one server.  Its data outlive every stop, kill and start, until `remove`."""

    # The address the server must listen on to be reached at 127.0.0.1.
    bind_host: str

    @property
    def running(self) -> bool:
        """Tell whether the server's process runs."""
        ...

    @property
    def pid(self) -> int:
        """The pid of the running server; raises ProcessLookupError when it does not run."""
        ...

    @property
    def log(self) -> str:
        """All that the server has written, over all its starts."""
        ...

    def inner(self, name: str) -> str:
        """Return what the file *name* is called by the server."""
        ...

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file that only the server may read."""
        ...

    def start(
        self, command: Sequence[str], is_ready: Callable[[], bool], timeout_s: float = 60
    ) -> None:
        """Start *command*, the same at every start, and return when *is_ready* answers True."""
        ...

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the running server."""
        ...

    def stop(self, number: signal.Signals, timeout_s: float = 30) -> None:
        """Ask the server to end and wait for it; nothing happens when it does not run."""
        ...

    def kill(self) -> None:
        """End all of the server's processes at once."""
        ...

    def remove(self) -> None:
        """Kill the server and remove all that it has left."""
        ...

    def identity(self) -> dict[str, str | int]:
        """Return what finds the running server again from another process."""
        ...


class MakesClusters(Protocol):
    """What a `DatabaseServer` needs to know of a backend."""

    def make_cluster(self, place: Place, port: int) -> tuple[list[str], str, Callable[[], bool]]:
        """Make a database cluster in *place*, or find the one that is there.

        Return the command that serves it (settings may follow), the superuser's password, and a
        test of whether it takes connections.
        """
        ...


class RunsMosquitto(Protocol):
    """What a `Broker` needs to know of a backend."""

    def broker_command(self, place: Place) -> list[str]:
        """Return the command that runs mosquitto on the place's ``mosquitto.conf``."""
        ...


class Backend(MakesClusters, RunsMosquitto, Protocol):
    """What can make places for TimescaleDB and for mosquitto."""

    name: str

    def make_place(self, kind: Kind, name: str, port: int, *, keeps_running: bool = False) -> Place:
        """Make an empty place; a server in it ends with this process unless it *keeps_running*."""
        ...

    def sweep(self) -> None:
        """Remove what sessions that are gone have left."""
        ...


class FolderPlace:
    """A folder and a child process.

    *inside* tells how the server calls a path of the folder, *around* puts its command into the
    root and under its user, *hand_over* gives a file to that user.
    """

    bind_host = "127.0.0.1"

    def __init__(
        self,
        folder: Path,
        *,
        environment: dict[str, str],
        inside: Callable[[Path], str] = str,
        around: Callable[[Sequence[str]], list[str]] = list,
        hand_over: Callable[[Path], None] = lambda path: None,
        tidy: Callable[[Path], None] = lambda folder: None,
        keeps_running: bool = False,
    ) -> None:
        self.folder = folder
        self._environment = environment
        self._inside = inside
        self._around = around
        self._hand_over = hand_over
        self._tidy = tidy
        self._keeps_running = keeps_running
        self._process = ServerProcess(folder.name, folder / "log")

    @property
    def running(self) -> bool:
        return self._process.running

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._process.log

    def inner(self, name: str) -> str:
        return self._inside(self.folder / name)

    def write(self, name: str, content: str | bytes) -> None:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        self._hand_over(path)

    def start(
        self, command: Sequence[str], is_ready: Callable[[], bool], timeout_s: float = 60
    ) -> None:
        self._process.start(
            self._around(command),
            self._environment,
            is_ready,
            timeout_s=timeout_s,
            own_session=self._keeps_running,
        )

    def send(self, number: signal.Signals) -> None:
        self._process.send(number)

    def stop(self, number: signal.Signals, timeout_s: float = 30) -> None:
        self._process.stop(number, timeout_s)

    def kill(self) -> None:
        self._process.kill()

    def remove(self) -> None:
        self._process.kill()
        self._tidy(self.folder)

    def identity(self) -> dict[str, str | int]:
        ticks = started_ticks(self.pid)
        if ticks is None:
            raise RuntimeError(f"{self.folder.name} ended at once:\n{self.log[-2000:]}")
        return {"pid": self.pid, "ticks": ticks}


def as_options(settings: Iterable[str]) -> list[str]:
    """Return ``name=value`` settings as options of the program postgres."""
    return [word for setting in settings for word in ("-c", setting)]


def postmaster_is_ready(place: Place, data: Path) -> bool:
    """Tell whether the server of *place* has noted in *data* that it takes connections."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = (data / "postmaster.pid").read_text().splitlines()
        return int(lines[0]) == place.pid and lines[7].strip() == "ready"
    return False


def remove_place(folder: Path) -> None:
    """Remove a stopped server's folder, and what a killed PostgreSQL has left in the kernel."""
    with contextlib.suppress(FileNotFoundError, IndexError):
        segment = (folder / "data/postmaster.pid").read_text().splitlines()[6].split()[1]
        subprocess.run(["ipcrm", "-m", segment], check=False, capture_output=True)
    shutil.rmtree(folder)


def own_name(number: int) -> str:
    """Return a name that no other place of any running session has, and that tells its owner."""
    return f"{os.getpid()}_{started_ticks(os.getpid()) or 0}_{number}"


def owner_is_gone(name: str) -> bool:
    """Tell whether the process that made *name* by `own_name` has ended."""
    pid, ticks, *_ = name.split("_")
    return (started_ticks(int(pid)) or 0) != int(ticks)


def stop_process(pid: int, ticks: int, number: signal.Signals, timeout_s: float = 30) -> None:
    """Stop exactly the process *pid* that started at *ticks*, by force if asking does not help."""
    if started_ticks(pid) != ticks:
        return
    below = [(child, started_ticks(child)) for child in descendants(pid)]
    os.kill(pid, number)
    if wait_gone(pid, ticks, timeout_s):
        return
    for each, each_ticks in [(pid, ticks), *below]:
        if started_ticks(each) == each_ticks:
            os.kill(each, signal.SIGKILL)
    if not wait_gone(pid, ticks, 10):
        raise TimeoutError(f"process {pid} survived SIGKILL")
