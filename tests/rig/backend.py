"""Which backend this machine has: a docker engine where one answers, else a Debian root."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.rig import docker
from tests.rig.place import Backend, FolderPlace, Place
from tests.rig.root import (
    Say,
    ServicesUnavailable,
    build_root,
    find_root,
    services_dir,
    why_no_root,
)


def prepare_backend(say: Say) -> Backend:
    """Return a backend that is ready, fetching or building it first; the caller holds the lock.

    GREENHOUSE_TEST_BACKEND (``docker`` or ``debian``) chooses where both would do.  Raises
    `ServicesUnavailable`.
    """
    chosen = os.environ.get("GREENHOUSE_TEST_BACKEND", "")
    if chosen not in ("", "docker", "debian"):
        raise ServicesUnavailable(f"GREENHOUSE_TEST_BACKEND is {chosen!r}, not docker or debian")
    backend: Backend | None = None
    if chosen != "debian":
        backend = _docker(say, required=chosen == "docker")
    if backend is None:
        backend = build_root(say)
    _note().write_text(backend.name)
    return backend


def find_backend() -> Backend | None:
    """Return the backend that was prepared last, or a root that is there; None without either."""
    noted = _note().read_text() if _note().exists() else ""
    if noted == docker.DockerEngine.name and docker.engine_answers():
        return docker.DockerEngine()
    return find_root()


def _docker(say: Say, *, required: bool) -> Backend | None:
    if not docker.engine_answers():
        if required:
            raise ServicesUnavailable("no docker engine answers")
        return None
    engine = docker.DockerEngine()
    try:
        engine.pull(say)
    except ServicesUnavailable as reason:
        if required or why_no_root():
            raise
        say(f"docker cannot be used ({reason}); taking Debian packages instead")
        return None
    return engine


def _note() -> Path:
    return services_dir() / "backend"


class PathMosquitto:
    """The mosquitto on PATH, for brokers where there is no backend."""

    def __init__(self) -> None:
        found = shutil.which("mosquitto") or shutil.which(
            "mosquitto", path="/usr/local/sbin:/usr/sbin"
        )
        if found is None:
            raise LookupError("no mosquitto on PATH")
        self._program = found

    def make_place(self, folder: Path) -> Place:
        """Make the place of a broker in *folder*, which exists."""
        return FolderPlace(folder, environment=dict(os.environ))

    def broker_command(self, place: Place) -> list[str]:
        """Return the command of this mosquitto."""
        return [self._program, "-c", place.inner("mosquitto.conf")]
