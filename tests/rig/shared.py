"""The services that tests share: `up`, `down`, `env` and `status` of scripts/services."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.rig.broker import Broker
from tests.rig.database import DatabaseServer
from tests.rig.process import (
    accepts_connections,
    command_line,
    descendants,
    free_port,
    started_ticks,
    wait_gone,
)
from tests.rig.root import (
    Say,
    ServiceRoot,
    ServicesUnavailable,
    build_root,
    locked,
    services_dir,
)

# Exit codes of scripts/services.
UNAVAILABLE = 3
DOWN = 4


@dataclass(frozen=True, slots=True)
class Server:
    """A process that `up` has started, with what tells it from a later one of the same pid."""

    pid: int
    ticks: int
    port: int
    folder: str

    @property
    def alive(self) -> bool:
        """Tell whether exactly this process still runs."""
        return started_ticks(self.pid) == self.ticks and self.folder in command_line(self.pid)


@dataclass(frozen=True, slots=True)
class State:
    """What `up` has started, as kept in state.json."""

    dsn: str
    mqtt: str
    root: str
    database: Server
    broker: Server

    @property
    def alive(self) -> bool:
        """Tell whether both servers run."""
        return self.database.alive and self.broker.alive

    def environment(self) -> dict[str, str]:
        """Return the variables that tell tests where the services are."""
        return {
            "GREENHOUSE_TEST_DSN": self.dsn,
            "GREENHOUSE_TEST_MQTT": self.mqtt,
            "GREENHOUSE_SERVICES_ROOT": self.root,
        }


def read_state() -> State | None:
    """Return what `up` has noted, whether it still runs or not; None when there is nothing."""
    try:
        noted = json.loads(_state_file().read_text())
    except FileNotFoundError:
        return None
    return State(
        **{key: noted[key] for key in ("dsn", "mqtt", "root")},
        database=Server(**noted["database"]),
        broker=Server(**noted["broker"]),
    )


def running_state() -> State | None:
    """Return the state when both services run, else None."""
    state = read_state()
    return state if state is not None and state.alive else None


def up(say: Say) -> State:
    """Start what does not run yet and return where it is; twice is harmless."""
    with locked(services_dir(), say):
        state = running_state()
        if state is not None:
            return state
        root = build_root(say)
        _stop_noted(say)
        return _start(root, say)


def down(say: Say) -> None:
    """Stop what `up` has started, and only that."""
    with locked(services_dir(), say):
        _stop_noted(say)


def _start(root: ServiceRoot, say: Say) -> State:
    say("starting PostgreSQL 17 with TimescaleDB and mosquitto on 127.0.0.1")
    before = read_state()
    folder = root.home / "shared"
    broker_folder = root.home / "shared-broker"
    if not folder.exists():
        root.make_folder("shared", "postgres")
    shutil.rmtree(broker_folder, ignore_errors=True)
    root.make_folder("shared-broker", "mosquitto")
    # The same ports as last time where they are free, so that a shell's exports stay true.
    ports = [before.database.port, before.broker.port] if before else [free_port(), free_port()]
    ports = [free_port() if accepts_connections("127.0.0.1", port) else port for port in ports]
    database = DatabaseServer(root, folder, port=ports[0], outlives_parent=True)
    broker = Broker(root, broker_folder, port=ports[1], outlives_parent=True)
    database.start()
    try:
        broker.start()
    except BaseException:
        database.stop()
        raise
    state = State(
        dsn=database.dsn,
        mqtt=broker.address,
        root=str(root.path),
        database=_server(database.pid, database.port, root.inner(folder)),
        broker=_server(broker.pid, broker.port, root.inner(broker_folder)),
    )
    partial = _state_file().with_suffix(".partial")
    partial.touch(mode=0o600)
    partial.write_text(json.dumps(asdict(state), indent=2))
    partial.rename(_state_file())
    say(f"services are up: PostgreSQL on port {ports[0]}, mosquitto on port {ports[1]}")
    return state


def _server(pid: int, port: int, folder: str) -> Server:
    ticks = started_ticks(pid)
    if ticks is None:
        raise RuntimeError(f"process {pid} ended at once")
    return Server(pid, ticks, port, folder)


def _stop_noted(say: Say) -> None:
    state = read_state()
    if state is None:
        return
    for name, server, number in (
        ("mosquitto", state.broker, signal.SIGTERM),
        ("PostgreSQL", state.database, signal.SIGINT),
    ):
        if server.alive:
            say(f"stopping {name}")
            _stop(server, number)


def _stop(server: Server, number: signal.Signals) -> None:
    below = [(pid, started_ticks(pid)) for pid in descendants(server.pid)]
    os.kill(server.pid, number)
    if wait_gone(server.pid, server.ticks, 30):
        return
    for pid, ticks in [(server.pid, server.ticks), *below]:
        if started_ticks(pid) == ticks:
            os.kill(pid, signal.SIGKILL)
    wait_gone(server.pid, server.ticks, 10)


def _state_file() -> Path:
    return services_dir() / "state.json"


def main(arguments: Sequence[str]) -> int:
    """Run one verb of scripts/services and return its exit code."""
    started = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"services [{time.monotonic() - started:5.1f} s] {text}\n")
        sys.stderr.flush()

    match list(arguments):
        case ["up"]:
            try:
                up(say)
            except ServicesUnavailable as reason:
                say(f"not available: {reason}")
                return UNAVAILABLE
        case ["down"]:
            down(say)
        case ["env"]:
            state = running_state()
            if state is None:
                say("not up; start them with: scripts/services up")
                return DOWN
            for name, value in state.environment().items():
                sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
        case ["status"]:
            return _status()
        case _:
            sys.stderr.write("usage: scripts/services up | down | env | status\n")
            return 2
    return 0


def _status() -> int:
    state = read_state()
    if state is None:
        sys.stdout.write("down\n")
        return DOWN
    for name, server in (("PostgreSQL", state.database), ("mosquitto", state.broker)):
        word = "up" if server.alive else "down"
        sys.stdout.write(f"{name}: {word}, port {server.port}, pid {server.pid}\n")
    return 0 if state.alive else DOWN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
