"""Real servers in containers, from the images that docker-compose.yml pins."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.rig.place import TIMESCALE, Kind, Place, as_options, owner_is_gone
from tests.rig.process import StartFailed
from tests.rig.root import Say, ServicesUnavailable

_COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"
_LABEL = "greenhouse-monitor.test-place"
_IMAGES: dict[Kind, str] = {
    "database": "timescale/timescaledb",
    "broker": "eclipse-mosquitto",
}
# The folder of the server's files in each image, and the user that reads them.
_FOLDERS: dict[Kind, str] = {"database": "/tmp", "broker": "/mosquitto/config"}
_OWNERS: dict[Kind, int] = {"database": 0, "broker": 1883}


class DockerFailed(Exception):
    """A docker command failed; the message says which and why."""


def docker(*arguments: str, content: bytes | None = None, timeout_s: float = 120) -> str:
    """Run a docker command and return what it printed."""
    try:
        done = subprocess.run(
            ["docker", *arguments],
            input=content,
            stdin=subprocess.DEVNULL if content is None else None,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise DockerFailed(f"docker {arguments[0]}: {error}") from error
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip()
        raise DockerFailed(f"docker {' '.join(arguments[:2])} failed: {reason}")
    return done.stdout.decode(errors="replace")


def engine_answers() -> bool:
    """Tell whether a docker engine can be used here."""
    try:
        docker("version", "--format", "{{.Server.Version}}", timeout_s=10)
    except DockerFailed:
        return False
    return True


def pinned_image(kind: Kind) -> str:
    """Return the image of *kind* with the tag that docker-compose.yml gives it."""
    name = re.escape(_IMAGES[kind])
    found = re.search(rf"^\s*image:\s*({name}:\S+)", _COMPOSE.read_text(), re.MULTILINE)
    if found is None:
        raise LookupError(f"{_COMPOSE.name} names no image {_IMAGES[kind]}")
    return found.group(1)


class DockerEngine:
    """The `Backend` of machines with docker."""

    name = "docker"

    def pull(self, say: Say) -> None:
        """Fetch the images that are not here yet."""
        for kind in _IMAGES:
            image = pinned_image(kind)
            if docker("image", "ls", "--quiet", image).strip():
                continue
            say(f"pulling {image}")
            try:
                docker("pull", "--quiet", image, timeout_s=1200)
            except DockerFailed as error:
                raise ServicesUnavailable(str(error)) from error

    def make_place(self, kind: Kind, name: str, port: int, *, keeps_running: bool = False) -> Place:
        """Make the place of a container; the container itself is made at the first start."""
        return ContainerPlace(kind, name, port, replaces=keeps_running)

    def make_cluster(self, place: Place, port: int) -> tuple[list[str], str, Callable[[], bool]]:
        """Leave it to the image, which initialises its cluster at the first start."""
        assert isinstance(place, ContainerPlace)
        password = secrets.token_hex(16)
        place.environment = {
            "POSTGRES_PASSWORD": password,
            "POSTGRES_INITDB_ARGS": "--no-sync",
            "NO_TS_TUNE": "true",
            "TIMESCALEDB_TELEMETRY": "off",
        }
        # While the image initialises, its server listens on no address at all.
        ready = ("pg_isready", "--quiet", "--host=127.0.0.1", f"--port={port}")
        return ["postgres", *as_options(TIMESCALE)], password, lambda: place.succeeds(*ready)

    def broker_command(self, place: Place) -> list[str]:
        """Return the command of the image's own mosquitto."""
        return ["mosquitto", "-c", place.inner("mosquitto.conf")]

    def sweep(self) -> None:
        """Remove the containers of sessions that are gone."""
        lines = docker(
            "ps", "--all", "--filter", f"label={_LABEL}", "--format", "{{.Names}}"
        ).split()
        for container in lines:
            name = container.removeprefix("greenhouse-")
            if re.fullmatch(r"\d+_\d+_\d+", name) and owner_is_gone(name):
                docker("rm", "--force", "--volumes", container)


class ContainerPlace:
    """One container, and its files until it is made.  Its port is published on 127.0.0.1 only."""

    bind_host = "0.0.0.0"

    def __init__(self, kind: Kind, name: str, port: int, *, replaces: bool = False) -> None:
        self.container = f"greenhouse-{name}"
        self.environment: dict[str, str] = {}
        self._kind = kind
        self._port = port
        self._files: dict[str, bytes] = {}
        self._made = False
        if replaces:
            docker("rm", "--force", "--volumes", self.container)

    @property
    def running(self) -> bool:
        return self._made and bool(self._state()["Running"])

    @property
    def pid(self) -> int:
        state = self._state() if self._made else {}
        if not state.get("Running"):
            raise ProcessLookupError(f"{self.container} is not running")
        return int(state["Pid"])

    @property
    def log(self) -> str:
        if not self._made:
            return ""
        done = subprocess.run(
            ["docker", "logs", self.container],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=True,
        )
        return done.stdout.decode(errors="replace")

    def inner(self, name: str) -> str:
        return f"{_FOLDERS[self._kind]}/{name}"

    def write(self, name: str, content: str | bytes) -> None:
        self._files[name] = content.encode() if isinstance(content, str) else content
        if self._made:
            self._copy({name: self._files[name]})

    def start(
        self, command: Sequence[str], is_ready: Callable[[], bool], timeout_s: float = 60
    ) -> None:
        if not self._made:
            self._create(command)
        docker("start", self.container)
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            if not self.running:
                raise StartFailed(f"{self.container} ended:\n{self.log[-2000:]}")
            if time.monotonic() > deadline:
                raise StartFailed(
                    f"{self.container} is not ready after {timeout_s} s:\n{self.log[-2000:]}"
                )
            time.sleep(0.1)

    def send(self, number: signal.Signals) -> None:
        docker("kill", f"--signal={number.name}", self.container)

    def stop(self, number: signal.Signals, timeout_s: float = 30) -> None:
        if not self.running:
            return
        self.send(number)
        docker("wait", self.container, timeout_s=timeout_s)

    def kill(self) -> None:
        if self.running:
            self.send(signal.SIGKILL)
            docker("wait", self.container)

    def remove(self) -> None:
        if self._made:
            docker("rm", "--force", "--volumes", self.container)
            self._made = False

    def identity(self) -> dict[str, str | int]:
        return {"container": docker("inspect", "--format={{.Id}}", self.container).strip()}

    def succeeds(self, *command: str) -> bool:
        """Run a command in the running container and tell whether it exited with 0."""
        try:
            docker("exec", self.container, *command)
        except DockerFailed:
            return False
        return True

    def _create(self, command: Sequence[str]) -> None:
        options = [f"--env={key}" for key in self.environment]
        # The values go by the environment, where no list of processes shows them.
        done = subprocess.run(
            [
                "docker",
                "create",
                f"--name={self.container}",
                f"--label={_LABEL}",
                f"--publish=127.0.0.1:{self._port}:{self._port}",
                "--shm-size=512m",
                *options,
                pinned_image(self._kind),
                *command,
            ],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise DockerFailed(f"docker create failed: {done.stderr.strip()}")
        self._made = True
        self._copy(self._files)

    def _copy(self, files: dict[str, bytes]) -> None:
        if not files:
            return
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o600
                entry.uid = entry.gid = _OWNERS[self._kind]
                tar.addfile(entry, io.BytesIO(content))
        target = f"{self.container}:{_FOLDERS[self._kind]}"
        docker("cp", "--archive", "-", target, content=archive.getvalue())

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(
            docker("inspect", "--format={{json .State}}", self.container)
        )
        return state


def container_runs(identity: str) -> bool:
    """Tell whether exactly this container runs."""
    try:
        return docker("inspect", "--format={{.State.Running}}", identity).strip() == "true"
    except DockerFailed:
        return False


def remove_container(identity: str, number: signal.Signals) -> None:
    """Stop and remove exactly this container, if it is still there."""
    if container_runs(identity):
        docker("kill", f"--signal={number.name}", identity)
        docker("wait", identity)
    docker("rm", "--force", "--volumes", identity)
