"""The services that tests share: `up`, `down`, `env`, `status` and `run` of scripts/services."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tests.rig.backend import prepare_backend
from tests.rig.broker import Broker
from tests.rig.database import DatabaseServer
from tests.rig.docker import DockerFailed, container_runs, remove_container
from tests.rig.place import Backend, Place, stop_process
from tests.rig.process import StartFailed, accepts_connections, free_port, started_ticks
from tests.rig.root import DebianRoot, Say, ServicesUnavailable, locked, services_dir

# Exit codes of scripts/services.
UNAVAILABLE = 3
DOWN = 4

# How each is asked to stop.
_STOP_SIGNALS = {"database": signal.SIGINT, "broker": signal.SIGTERM}
_TITLES = {"database": "PostgreSQL", "broker": "mosquitto"}


@dataclass(frozen=True, slots=True)
class Server:
    """A server that `up` has started, with what tells it from any later one.

    *identity* is a pid and its start, or a container's id.
    """

    port: int
    identity: dict[str, str | int]

    @property
    def alive(self) -> bool:
        """Tell whether exactly this server still runs."""
        match self.identity:
            case {"pid": int(pid), "ticks": ticks}:
                return started_ticks(pid) == ticks
            case {"container": str(container)}:
                return container_runs(container)
        raise ValueError(f"what is {self.identity}?")

    def stop(self, number: signal.Signals) -> None:
        """Stop exactly this server."""
        match self.identity:
            case {"pid": int(pid), "ticks": int(ticks)}:
                stop_process(pid, ticks, number)
            case {"container": str(container)}:
                remove_container(container, number)


@dataclass(frozen=True, slots=True)
class State:
    """What `up` has started, as kept in state.json.  *kept* until somebody says `down`."""

    dsn: str
    mqtt: str
    root: str
    kept: bool
    database: Server
    broker: Server

    @property
    def alive(self) -> bool:
        """Tell whether both servers run."""
        return self.database.alive and self.broker.alive

    def environment(self) -> dict[str, str]:
        """Return the variables that tell tests where the services are."""
        found = {"GREENHOUSE_TEST_DSN": self.dsn, "GREENHOUSE_TEST_MQTT": self.mqtt}
        # A container has no root folder to show.
        return found | ({"GREENHOUSE_SERVICES_ROOT": self.root} if self.root else {})


def read_state() -> State | None:
    """Return what `up` has noted, whether it still runs or not; None when there is nothing."""
    try:
        noted = json.loads(_state_file().read_text())
    except FileNotFoundError:
        return None
    database, broker = Server(**noted.pop("database")), Server(**noted.pop("broker"))
    return State(**noted, database=database, broker=broker)


def running_state() -> State | None:
    """Return the state when both services run, else None."""
    state = read_state()
    return state if state is not None and state.alive else None


def up(say: Say, *, keep: bool = True) -> State:
    """Start what does not run yet and return where it is; twice is harmless."""
    with locked(services_dir(), say):
        state = running_state()
        if state is not None:
            if keep and not state.kept:
                state = replace(state, kept=True)
                _write_state(state)
            return state
        backend = prepare_backend(say)
        _stop_noted(say)
        try:
            state = _start(backend, say, keep=keep)
        except (StartFailed, DockerFailed) as failure:
            raise ServicesUnavailable(f"they did not start: {failure}") from failure
        _write_state(state)
        return state


def down(say: Say) -> None:
    """Stop what `up` has started, and only that."""
    with locked(services_dir(), say):
        _stop_noted(say)


@contextlib.contextmanager
def in_use() -> Iterator[None]:
    """Tell others, while this lasts, that the services are in use and must not be stopped."""
    with _users_file().open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        yield


def release(say: Say) -> None:
    """Stop the services unless somebody wants them kept or uses them."""
    with locked(services_dir(), say), _users_file().open("a") as users:
        state = read_state()
        if state is None or state.kept:
            return
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _stop_noted(say)


def run(command: Sequence[str], say: Say) -> int:
    """Run *command* with the services up and return its exit code.

    Where they cannot be had the command runs all the same and finds the reason in
    GREENHOUSE_TEST_SERVICES_MISSING.
    """
    environment = dict(os.environ)
    services_dir().mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            # In use before they are up, so that nobody stops them in between.
            stack.enter_context(in_use())
            for name, value in up(say, keep=False).environment().items():
                environment.setdefault(name, value)
        except ServicesUnavailable as reason:
            say(f"not available: {reason}")
            environment["GREENHOUSE_TEST_SERVICES_MISSING"] = str(reason).splitlines()[0]
        code = _run(command, environment)
    release(say)
    return code


def _run(command: Sequence[str], environment: dict[str, str]) -> int:
    process = subprocess.Popen(command, env=environment)
    # The terminal's Ctrl-C reaches the command by itself; what ends only us is passed on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: process.send_signal(received))
    code = process.wait()
    return code if code >= 0 else 128 - code


def _start(backend: Backend, say: Say, *, keep: bool) -> State:
    say("starting PostgreSQL 17 with TimescaleDB, and mosquitto, on 127.0.0.1")
    before = read_state()
    # The same ports as last time where they are free, so that a shell's exports stay true.
    database_port = _port(before.database.port if before else None)
    broker_port = _port(before.broker.port if before else None)
    place = backend.make_place("database", "database", database_port, keeps_running=True)
    broker_place = backend.make_place("broker", "broker", broker_port, keeps_running=True)
    database = DatabaseServer(backend, place, database_port)
    broker = Broker(backend, broker_place, broker_port)
    with _stopped_on_failure(place), _stopped_on_failure(broker_place):
        _start_after_orphans(database)
        broker.start()
        return State(
            dsn=database.dsn,
            mqtt=broker.address,
            root=str(backend.path) if isinstance(backend, DebianRoot) else "",
            kept=keep,
            database=Server(database_port, place.identity()),
            broker=Server(broker_port, broker_place.identity()),
        )


def _start_after_orphans(database: DatabaseServer) -> None:
    """Start, waiting until nothing is left of a server that was killed.

    Its other processes take a moment to notice, and it stays a zombie until somebody reaps it.
    """
    deadline = time.monotonic() + 15
    while True:
        try:
            database.start()
        except StartFailed as failure:
            in_the_way = ("still in use", 'lock file "postmaster.pid" already exists')
            last_words = str(failure)[-600:]
            if time.monotonic() > deadline or not any(each in last_words for each in in_the_way):
                raise
            time.sleep(0.2)
        else:
            return


@contextlib.contextmanager
def _stopped_on_failure(place: Place) -> Iterator[None]:
    try:
        yield
    except BaseException:  # whatever it was, also an interrupt: what runs already must not stay
        place.kill()
        raise


def _port(wanted: int | None) -> int:
    if wanted is None or accepts_connections("127.0.0.1", wanted):
        return free_port()
    return wanted


def _stop_noted(say: Say) -> None:
    state = read_state()
    if state is None:
        return
    for name in ("broker", "database"):
        server: Server = getattr(state, name)
        if server.alive:
            say(f"stopping {_TITLES[name]}")
            server.stop(_STOP_SIGNALS[name])


def _write_state(state: State) -> None:
    partial = _state_file().with_suffix(".partial")
    # It holds a password.
    partial.touch(mode=0o600)
    partial.write_text(json.dumps(asdict(state), indent=2))
    partial.rename(_state_file())


def _state_file() -> Path:
    return services_dir() / "state.json"


def _users_file() -> Path:
    return services_dir() / "in-use"


def main(arguments: Sequence[str]) -> int:
    """Run one verb of scripts/services and return its exit code."""
    started = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"services [{time.monotonic() - started:5.1f} s] {text}\n")
        sys.stderr.flush()

    match list(arguments):
        case ["up"]:
            try:
                state = up(say)
            except ServicesUnavailable as reason:
                say(f"not available: {reason}")
                return UNAVAILABLE
            say(f"PostgreSQL on port {state.database.port}, mosquitto on {state.broker.port}")
        case ["down"]:
            down(say)
        case ["env"]:
            return _print_environment(say)
        case ["status"]:
            return _print_status()
        case ["run", *command] if command:
            return run(command, say)
        case _:
            sys.stderr.write("usage: scripts/services up | down | env | status | run COMMAND...\n")
            return 2
    return 0


def _print_environment(say: Say) -> int:
    state = running_state()
    if state is None:
        say("not up; start them with: scripts/services up")
        return DOWN
    for name, value in state.environment().items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
    return 0


def _print_status() -> int:
    state = read_state()
    if state is None:
        sys.stdout.write("down\n")
        return DOWN
    for name, title in _TITLES.items():
        server: Server = getattr(state, name)
        where = ", ".join(f"{key} {value}" for key, value in server.identity.items())
        word = "up" if server.alive else "down"
        sys.stdout.write(f"{title}: {word}, port {server.port}, {where}\n")
    return 0 if state.alive else DOWN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
