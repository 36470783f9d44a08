"""A private PostgreSQL 17 with TimescaleDB that a test may stop, kill and start again."""

from __future__ import annotations

import contextlib
import fcntl
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from tests.rig.process import ServerProcess, free_port
from tests.rig.root import POSTGRES_BIN, ServiceRoot

HOST = "127.0.0.1"
SUPERUSER = "postgres"
# As installed by default, durability included; what differs is said here.
SETTINGS = {
    "shared_preload_libraries": "timescaledb",
    "timescaledb.telemetry_level": "off",
    "max_connections": "200",
    "max_worker_processes": "64",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "listen_addresses": HOST,
    # A path of the root would be of no use outside of it.
    "unix_socket_directories": "",
    "logging_collector": "off",
}

_STOP_SIGNALS = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}


def template_cluster(root: ServiceRoot) -> tuple[Path, str]:
    """Return an initialised data folder that is only ever copied, and its superuser's password."""
    home = root.home
    folder = home / "template-17"
    with (home / "template.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "password").exists():
            for left_over in home.glob("template-17*"):
                shutil.rmtree(left_over)
            partial = root.make_folder("template-17.partial", "postgres")
            password = secrets.token_hex(16)
            root.write_file(partial / "password", password, "postgres")
            inner = root.inner(partial)
            root.run(
                "postgres",
                f"{POSTGRES_BIN}/initdb",
                f"--pgdata={inner}/data",
                f"--username={SUPERUSER}",
                f"--pwfile={inner}/password",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            )
            partial.rename(folder)
        return folder / "data", (folder / "password").read_text()


class DatabaseServer:
    """A database cluster of its own; made stopped, `start` it.

    *folder* lies in the root, belongs to postgres and is the caller's to remove after `stop`.
    The data outlive every stop, kill and restart; so does the port.
    """

    host = HOST

    def __init__(
        self,
        root: ServiceRoot,
        folder: Path,
        settings: Mapping[str, str] | None = None,
        *,
        port: int | None = None,
        outlives_parent: bool = False,
    ) -> None:
        self.port = port or free_port()
        self._root = root
        self._data = folder / "data"
        self._settings = {**SETTINGS, "port": str(self.port), **(settings or {})}
        self._outlives_parent = outlives_parent
        self._process = ServerProcess("PostgreSQL", folder / "log")
        template, self._password = template_cluster(root)
        if not self._data.exists():
            partial = folder / "data.partial"
            subprocess.run(["cp", "-a", "--reflink=auto", str(template), str(partial)], check=True)
            partial.rename(self._data)

    @property
    def dsn(self) -> str:
        """Where the superuser reaches the database `postgres`."""
        return self.dsn_of("postgres")

    def dsn_of(self, database: str) -> str:
        """Return where the superuser reaches *database*."""
        return f"postgresql://{SUPERUSER}:{self._password}@{self.host}:{self.port}/{database}"

    @property
    def pid(self) -> int:
        """The pid of the running postmaster."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Tell whether the postmaster runs."""
        return self._process.running

    @property
    def log(self) -> str:
        """All that the server has logged."""
        return self._process.log

    def start(self, *, timeout_s: float = 60) -> None:
        """Start the server and return when it takes connections, crash recovery included."""
        options = [
            word for key, value in self._settings.items() for word in ("-c", f"{key}={value}")
        ]
        self._process.start(
            self._root.command(
                "postgres",
                f"{POSTGRES_BIN}/postgres",
                "-D",
                self._root.inner(self._data),
                *options,
                dies_with_parent=not self._outlives_parent,
            ),
            self._root.environment(),
            self._is_ready,
            timeout_s=timeout_s,
            own_session=self._outlives_parent,
        )

    def stop(self, mode: Literal["fast", "immediate", "smart"] = "fast") -> None:
        """Stop as `pg_ctl -m` does; nothing happens when it is stopped already."""
        self._process.stop(_STOP_SIGNALS[mode])

    def kill(self) -> None:
        """Kill all processes of the server at once, as when the power goes."""
        self._process.kill()

    def restart(self, mode: Literal["fast", "immediate", "smart"] = "fast") -> None:
        """Stop, if it runs, and start again on the same port."""
        self.stop(mode)
        self.start()

    def create_database(self, name: str) -> str:
        """Make an empty database and return its DSN."""
        create_database(self.dsn, name)
        return self.dsn_of(name)

    def discard(self) -> None:
        """Kill the server and forget what it left in the kernel; its folder may go then."""
        self._process.kill()
        _remove_shared_memory(self._data / "postmaster.pid")

    def _is_ready(self) -> bool:
        with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
            lines = (self._data / "postmaster.pid").read_text().splitlines()
            return int(lines[0]) == self._process.pid and lines[7].strip() == "ready"
        return False


def create_database(dsn: str, name: str) -> None:
    """Make the empty database *name* on the server of *dsn*."""
    # template1 may be in use by TimescaleDB's own workers, template0 never is.
    _execute(dsn, f"CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'UTF8'")


def drop_database(dsn: str, name: str) -> None:
    """Drop the database *name*, whoever is still connected to it."""
    _execute(dsn, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _execute(dsn: str, statement: str) -> None:
    import psycopg

    with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:
        connection.execute(statement)  # type: ignore[call-overload]


def _remove_shared_memory(pid_file: Path) -> None:
    """Remove the System V segment of a server that was killed and will not be started again."""
    with contextlib.suppress(FileNotFoundError, IndexError):
        segment = pid_file.read_text().splitlines()[6].split()[1]
        subprocess.run(["ipcrm", "-m", segment], check=False, capture_output=True)
