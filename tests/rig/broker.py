"""A private mosquitto that a test may stop, kill and start again."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import signal
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tests.rig.place import Place, RunsMosquitto

if TYPE_CHECKING:
    from tests.rig.certificates import Certificates

HOST = "127.0.0.1"
# Option of a listener → file among `Certificates.server_files`.
TLS_OPTIONS = {"cafile": "ca.pem", "certfile": "server.pem", "keyfile": "server.key"}


def password_line(user: str, password: str) -> str:
    """Return one line of mosquitto's password file (PBKDF2 with SHA-512)."""
    salt, rounds = secrets.token_bytes(12), 101
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    encoded = "$".join(base64.b64encode(part).decode() for part in (salt, digest))
    return f"{user}:$7${rounds}${encoded}\n"


class Broker:
    """A mosquitto on a port of its own; made stopped, `start` it, and `discard` it at the end.

    *config* are further lines of mosquitto.conf; they come last, after the listener.  Without
    *users* (name → password) anybody may connect.  *acl* are the lines of an ACL file.
    *persistence* keeps sessions and queued messages over an orderly stop and, over a kill, as far
    as mosquitto had written them (its `autosave_interval`).
    """

    host = HOST

    def __init__(
        self,
        backend: RunsMosquitto,
        place: Place,
        port: int,
        config: Sequence[str] = (),
        *,
        users: Mapping[str, str] | None = None,
        acl: Sequence[str] = (),
        tls: Certificates | None = None,
        require_client_certificate: bool = False,
        persistence: bool = False,
    ) -> None:
        self.port = port
        self.certificates = tls
        self._place = place
        self._command = backend.broker_command(place)
        lines = ["log_dest stderr", "log_type all", "per_listener_settings false"]
        if users is None:
            lines.append("allow_anonymous true")
        else:
            lines += ["allow_anonymous false", f"password_file {place.inner('passwords')}"]
            self.set_users(users)
        if acl:
            lines.append(f"acl_file {place.inner('acl')}")
            self.set_acl(acl)
        if persistence:
            lines += ["persistence true", f"persistence_location {place.inner('')}/"]
        lines.append(f"listener {port} {place.bind_host}")
        if tls is not None:
            for name, content in tls.server_files().items():
                place.write(name, content)
            lines += [f"{option} {place.inner(name)}" for option, name in TLS_OPTIONS.items()]
            if require_client_certificate:
                lines.append("require_certificate true")
        place.write("mosquitto.conf", "".join(f"{line}\n" for line in [*lines, *config]))

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """The pid of the running broker."""
        return self._place.pid

    @property
    def running(self) -> bool:
        """Tell whether the broker runs."""
        return self._place.running

    @property
    def log(self) -> str:
        """All that the broker has logged, over all its starts."""
        return self._place.log

    def start(self) -> None:
        """Start the broker and return when it takes connections."""
        before = self._count(_RUNNING)
        self._place.start(self._command, lambda: self._count(_RUNNING) > before)

    def stop(self) -> None:
        """Stop in order (clients see a disconnect, persistence is written)."""
        self._place.stop(signal.SIGTERM)

    def kill(self) -> None:
        """Kill at once, as when the power goes."""
        self._place.kill()

    def restart(self) -> None:
        """Stop, if it runs, and start again on the same port."""
        self.stop()
        self.start()

    def discard(self) -> None:
        """Kill the broker and remove its files."""
        self._place.remove()

    def set_users(self, users: Mapping[str, str]) -> None:
        """Write the password file; a running broker reads it at `reload`."""
        self._place.write("passwords", "".join(password_line(*entry) for entry in users.items()))

    def set_acl(self, acl: Sequence[str]) -> None:
        """Write the ACL file; a running broker reads it at `reload`."""
        self._place.write("acl", "".join(f"{line}\n" for line in acl))

    def reload(self) -> None:
        """Make the running broker read its password and ACL files again."""
        before = self._count(_RELOADING)
        self._place.send(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while self._count(_RELOADING) == before:
            if time.monotonic() > deadline:
                raise TimeoutError("mosquitto did not reload its configuration")
            time.sleep(0.01)

    def _count(self, pattern: re.Pattern[str]) -> int:
        return len(pattern.findall(self.log))


_RUNNING = re.compile(r"mosquitto version \S+ running")
_RELOADING = re.compile(r"Reloading config")
