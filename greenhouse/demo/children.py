"""Child processes that end with the demo, whatever ends the demo.

Each child runs in a process group of its own, so that Ctrl-C reaches the demo alone and it can
stop them in order.  On Linux a child is also told by the kernel when the demo is killed
(``setpriv --pdeathsig``); elsewhere a killed demo leaves its children to the user.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

_NOBODY = "65534"


class ChildError(Exception):
    """A child did not start, or ended when it should not have."""


class Child:
    """One running child; *log* receives all that it prints."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.returncode is None

    async def stop(self, number: signal.Signals, timeout_s: float) -> None:
        """Ask it to end with signal *number*; kill its group if it has not within *timeout_s*."""
        if self.running:
            self.process.send_signal(number)
        try:
            async with asyncio.timeout(timeout_s):
                await self.process.wait()
        except TimeoutError:
            os.killpg(self.process.pid, signal.SIGKILL)
            await self.process.wait()

    def last_words(self, lines: int = 12) -> str:
        """Return the end of its log, for an error message."""
        try:
            text = self.log.read_text("utf-8", "replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


async def start_child(
    name: str,
    command: Sequence[str | Path],
    log: Path,
    environment: Mapping[str, str] | None = None,
    unprivileged: bool = False,
) -> Child:
    """Start *command*; as root with *unprivileged* it runs as nobody but may enter our folders."""
    arguments = [*_prefix(unprivileged), *map(str, command)]
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=None if environment is None else dict(environment),
            start_new_session=True,
        )
    return Child(name, process, log)


def _prefix(unprivileged: bool) -> list[str]:
    """Return what stands before a command: tell it of our death, and drop root where asked.

    PostgreSQL refuses to run as root.  As nobody it could not enter a data folder below /root, so
    it keeps the one capability that opens folders.
    """
    if shutil.which("setpriv") is None:
        if unprivileged and os.geteuid() == 0:
            raise ChildError("running the database as root needs setpriv (package util-linux)")
        return []
    prefix = ["setpriv", "--pdeathsig", "INT"]
    if unprivileged and os.geteuid() == 0:
        caps = "+dac_override"
        prefix += [f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
        prefix += [f"--inh-caps={caps}", f"--ambient-caps={caps}"]
    return [*prefix, "--"]


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def port_is_free(host: str, port: int) -> bool:
    """Tell whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


async def wait_for_port(child: Child, port: int, timeout_s: float) -> None:
    """Return when something listens on *port*; raise `ChildError` when *child* ends or is late."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while asyncio.get_running_loop().time() < deadline:
        if not child.running:
            raise ChildError(f"{child.name} ended at once:\n{child.last_words()}")
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        await writer.wait_closed()
        return
    raise ChildError(f"{child.name} does not listen after {timeout_s:g} s:\n{child.last_words()}")
