"""A private mosquitto that a test may stop, kill and start again."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tests.rig.process import ServerProcess, accepts_connections, free_port
from tests.rig.root import MOSQUITTO, ServiceRoot

if TYPE_CHECKING:
    from tests.rig.certificates import Certificates

HOST = "127.0.0.1"


def password_line(user: str, password: str) -> str:
    """Return one line of mosquitto's password file (PBKDF2 with SHA-512)."""
    salt, rounds = secrets.token_bytes(12), 101
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    encoded = (base64.b64encode(part).decode() for part in (salt, digest))
    return f"{user}:$7${rounds}${'$'.join(encoded)}\n"


class Broker:
    """A mosquitto on a port of its own; made stopped, `start` it.

    *root* None takes the mosquitto on PATH.  *config* are further lines of mosquitto.conf, before
    the listener or after it where they name one.  Without *users* anybody may connect.
    *persistence* keeps sessions and queued messages over an orderly stop, and, after a kill, as far
    as mosquitto wrote them (`autosave_interval`).
    """

    host = HOST

    def __init__(
        self,
        root: ServiceRoot | None,
        folder: Path,
        config: Sequence[str] = (),
        *,
        users: Mapping[str, str] | None = None,
        acl: Sequence[str] = (),
        tls: Certificates | None = None,
        require_client_certificate: bool = False,
        persistence: bool = False,
        port: int | None = None,
        outlives_parent: bool = False,
    ) -> None:
        self.port = port or free_port()
        self.certificates = tls
        self._root = root
        self._folder = folder
        self._outlives_parent = outlives_parent
        self._process = ServerProcess("mosquitto", folder / "log")
        lines = [
            "log_dest stderr",
            "log_type all",
            "connection_messages true",
            "per_listener_settings false",
        ]
        lines += [f"allow_anonymous {'false' if users is not None else 'true'}"]
        if users is not None:
            self.set_users(users)
            lines.append(f"password_file {self._inner('passwords')}")
        if acl:
            self._write("acl", "".join(f"{line}\n" for line in acl))
            lines.append(f"acl_file {self._inner('acl')}")
        if persistence:
            lines += ["persistence true", f"persistence_location {self._inner('')}/"]
        lines.append(f"listener {self.port} {HOST}")
        if tls is not None:
            for name, content in tls.server_files().items():
                self._write(name, content)
            lines += [f"{key} {self._inner(name)}" for key, name in tls.LISTENER_OPTIONS.items()]
            if require_client_certificate:
                lines.append("require_certificate true")
        self._write("mosquitto.conf", "".join(f"{line}\n" for line in [*lines, *config]))

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """The pid of the running broker."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Tell whether the broker runs."""
        return self._process.running

    @property
    def log(self) -> str:
        """All that the broker has logged, over all its starts."""
        return self._process.log

    def start(self) -> None:
        """Start the broker and return when it takes connections."""
        config = self._inner("mosquitto.conf")
        if self._root is None:
            command, environment = [path_mosquitto(), "-c", config], dict(os.environ)
        else:
            command = self._root.command(
                "mosquitto", MOSQUITTO, "-c", config, dies_with_parent=not self._outlives_parent
            )
            environment = self._root.environment()
        self._process.start(
            command,
            environment,
            lambda: accepts_connections(self.host, self.port),
            own_session=self._outlives_parent,
        )

    def stop(self) -> None:
        """Stop in order (clients see a disconnect, persistence is written)."""
        self._process.stop(signal.SIGTERM)

    def kill(self) -> None:
        """Kill at once, as when the power goes."""
        self._process.kill()

    def restart(self) -> None:
        """Stop, if it runs, and start again on the same port."""
        self.stop()
        self.start()

    def discard(self) -> None:
        """Kill the broker; its folder may go then."""
        self._process.kill()

    def reload(self) -> None:
        """Make the running broker read its password and ACL files again."""
        seen = self.log.count("Reloading config")
        self._process.signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while self.log.count("Reloading config") == seen:
            if time.monotonic() > deadline:
                raise TimeoutError("mosquitto did not reload its configuration")
            time.sleep(0.01)

    def set_users(self, users: Mapping[str, str]) -> None:
        """Write the password file (name → password); a running broker reads it at `reload`."""
        self._write("passwords", "".join(password_line(*entry) for entry in users.items()))

    def _inner(self, name: str) -> str:
        path = self._folder / name
        return str(path) if self._root is None else self._root.inner(path)

    def _write(self, name: str, content: str | bytes) -> None:
        path = self._folder / name
        if self._root is not None:
            self._root.write_file(path, content, "mosquitto")
            return
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(0o600)


def path_mosquitto() -> str:
    """Return the mosquitto on PATH (or in the system's sbin); raise when there is none."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/local/sbin:/usr/sbin")
    if found is None:
        raise LookupError("no mosquitto on PATH")
    return found
