"""Hear what simulated devices send, by a client that is not theirs (paho, its own thread)."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion


@dataclass(frozen=True)
class Heard:
    """One message."""

    topic: str
    payload: bytes
    qos: int
    retain: bool

    @property
    def samples(self) -> list[dict[str, Any]]:
        """Its samples, single or in a list."""
        content = json.loads(self.payload)
        return content if isinstance(content, list) else [content]


class Listener:
    """Subscribes to all of ``gh/#`` at QoS 1; a context manager."""

    def __init__(self, host: str, port: int, name: str = "listener", topic: str = "gh/#") -> None:
        self.messages: list[Heard] = []
        self._subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, 1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._hear
        self._address = (host, port)

    def _hear(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        heard = Heard(message.topic, message.payload, message.qos, message.retain)
        self.messages.append(heard)

    def __enter__(self) -> Listener:
        self._client.reconnect_delay_set(min_delay=1, max_delay=1)
        self._client.connect(*self._address, keepalive=10)
        self._client.loop_start()
        assert self._subscribed.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def data(self, device: str = "") -> list[Heard]:
        """Readings, of one device or of all."""
        return [
            heard
            for heard in list(self.messages)
            if not heard.topic.endswith("/status") and heard.topic.endswith(device)
        ]

    def samples(self, device: str = "") -> list[dict[str, Any]]:
        """Samples in the order of their arrival."""
        return [sample for heard in self.data(device) for sample in heard.samples]

    def states(self, device: str) -> list[str]:
        """What was said under the device's ``status``, in order."""
        return [
            heard.payload.decode()
            for heard in list(self.messages)
            if heard.topic.endswith(f"/{device}/status")
        ]
