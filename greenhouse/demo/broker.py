"""A broker of the demo's own: mosquitto where it is on PATH, otherwise amqtt from its wheel.

It listens on 127.0.0.1 only and takes anybody there, which nothing outside the demo does.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

from greenhouse.demo.children import Child, free_port, start_child, wait_for_port

_MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 200000
max_inflight_messages 1000
max_packet_size 65536
log_type error
log_type warning
"""

# amqtt reads YAML; its plugins must be named or it takes nobody.
_AMQTT = """\
listeners:
  default:
    type: tcp
    bind: 127.0.0.1:{port}
    max_connections: 500
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin:
    allow_anonymous: true
"""


class EmbeddedBroker:
    """A broker for one run of the demo; it keeps nothing, the simulated devices buffer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._child: Child | None = None
        self.port = 0
        self.name = "mosquitto" if _mosquitto() else "amqtt"

    @property
    def protocol(self) -> str:
        """The newest MQTT version that the broker speaks."""
        return "5" if self.name == "mosquitto" else "3.1.1"

    async def start(self) -> None:
        """Return when the broker listens."""
        self.port = free_port()
        template = _MOSQUITTO if self.name == "mosquitto" else _AMQTT
        config = self._folder / f"{self.name}.conf"
        text = template.format(port=self.port)
        if self.name == "mosquitto" and os.geteuid() == 0:
            text += "user root\n"  # otherwise it changes to a user who cannot read its own file
        config.write_text(text, "utf-8")
        amqtt = Path(sys.executable).with_name("amqtt")
        command: list[str | Path] = (
            [_mosquitto() or "mosquitto", "-c", config]
            if self.name == "mosquitto"
            else [amqtt, "-c", config]
        )
        log = self._folder / "broker.log"
        self._child = await start_child(f"the broker ({self.name})", command, log)
        await wait_for_port(self._child, self.port, 30.0)

    async def stop(self) -> None:
        """Stop the broker."""
        if self._child is not None:
            await self._child.stop(signal.SIGTERM, 5.0)

    @property
    def child(self) -> Child:
        """The broker's process; only after `start`."""
        assert self._child is not None
        return self._child


def _mosquitto() -> str | None:
    """Find mosquitto; Debian keeps it in a folder that is not on a plain user's PATH."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
