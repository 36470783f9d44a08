"""A private PostgreSQL, with TimescaleDB or without, that a test may stop, kill and start again."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Literal

from tests.rig.place import MakesClusters, Place

HOST = "127.0.0.1"
SUPERUSER = "postgres"
# As installed by default, durability included; what differs is said here.
SETTINGS = {
    "max_connections": "200",
    "max_worker_processes": "64",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "logging_collector": "off",
}

StopMode = Literal["fast", "immediate", "smart"]

_STOP_SIGNALS: dict[StopMode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}


class DatabaseServer:
    """A database cluster of its own; made stopped, `start` it, and `discard` it at the end.

    The data outlive every stop, kill and restart; so does the port.
    """

    host = HOST

    def __init__(
        self,
        backend: MakesClusters,
        place: Place,
        port: int,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port
        self._place = place
        command, self._password, self._is_ready = backend.make_cluster(place, port)
        chosen = {
            **SETTINGS,
            "listen_addresses": place.bind_host,
            "port": str(port),
            **(settings or {}),
        }
        options = [word for key, value in chosen.items() for word in ("-c", f"{key}={value}")]
        self._command = [*command, *options]

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
        return self._place.pid

    @property
    def running(self) -> bool:
        """Tell whether the postmaster runs."""
        return self._place.running

    @property
    def log(self) -> str:
        """All that the server has logged, over all its starts."""
        return self._place.log

    def start(self, *, timeout_s: float = 60) -> None:
        """Start the server and return when it takes connections, crash recovery included."""
        self._place.start(self._command, self._is_ready, timeout_s)

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop as `pg_ctl -m` does; nothing happens when it is stopped already."""
        self._place.stop(_STOP_SIGNALS[mode])

    def kill(self) -> None:
        """Kill all processes of the server at once, as when the power goes."""
        self._place.kill()

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop, if it runs, and start again on the same port."""
        self.stop(mode)
        self.start()

    def create_database(self, name: str) -> str:
        """Make an empty database and return its DSN."""
        create_database(self.dsn, name)
        return self.dsn_of(name)

    def discard(self) -> None:
        """Kill the server and remove its data."""
        self._place.remove()


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
        connection.execute(statement)
