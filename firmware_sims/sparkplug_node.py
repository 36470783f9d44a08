"""An edge node that speaks Sparkplug B, with a few devices behind it.

    connect (will: NDEATH with bdSeq) ─▶ NBIRTH, DBIRTH … ─▶ DDATA by alias ─▶ NCMD? born again

It follows the specification as a gateway on the market does: QoS 0 for what is measured, aliases
after the birth, a bdSeq that rises with every connection.  A node with a primary host publishes
only while that host says that it is there, keeps what it measured meanwhile, and sends it after its
births, marked as historical and with the times at which it was measured.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiomqtt

from firmware_sims.sparkplug_payload import REBIRTH, Metric, asks_for_rebirth, encode

_MOST_KEPT = 10_000


@dataclass
class EdgeDevice:
    """A device behind the node: its metrics by name, each with its Sparkplug type.

    *values* are the newest, *measured_ms* when each was measured: a birth repeats both.
    """

    kinds: Mapping[str, str]
    values: dict[str, float | bool | str | None] = field(default_factory=dict)
    measured_ms: dict[str, int] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)
    online: bool = True


class SparkplugNode:
    """The edge node *node* of *group*; *devices* maps names to metrics and their types.

    *primary_host* is the host application that it waits for.  *births* and *sent* count what it
    published since it was made.
    """

    def __init__(
        self,
        group: str,
        node: str,
        devices: Mapping[str, Mapping[str, str]],
        primary_host: str | None = None,
    ) -> None:
        self._group, self._node = group, node
        self.devices = {name: EdgeDevice(kinds) for name, kinds in devices.items()}
        self._primary_host = primary_host
        self._client: aiomqtt.Client | None = None
        self._seq = 0
        self._bd_seq = -1
        self._next_alias = 1
        self._kept: deque[tuple[str, dict[str, float | bool | str | None], int]] = deque(
            maxlen=_MOST_KEPT
        )
        self.speaking = asyncio.Event()
        self.births = 0
        self.sent = 0
        self.give_aliases()

    def give_aliases(self) -> None:
        """Give every metric a new alias, as a changed configuration does; valid from a birth on."""
        for device in self.devices.values():
            device.aliases = {}
            for name in device.kinds:
                device.aliases[name] = self._next_alias
                self._next_alias += 1

    @asynccontextmanager
    async def connected(self, host: str, port: int) -> AsyncIterator[SparkplugNode]:
        """Be connected to the broker; leaving says goodbye with a death certificate."""
        self._bd_seq = (self._bd_seq + 1) % 256
        death = self._death()
        will = aiomqtt.Will(self._topic("NDEATH"), death, qos=1)
        client = aiomqtt.Client(
            host, port, identifier=f"{self._group}-{self._node}", will=will, keepalive=5
        )
        async with client:
            self._client = client
            await client.subscribe(self._topic("NCMD"), qos=1)
            if self._primary_host is not None:
                await client.subscribe(f"spBv1.0/STATE/{self._primary_host}", qos=1)
            listener = asyncio.create_task(self._listen(client), name="sparkplug-node")
            try:
                if self._primary_host is None:
                    await self._speak()
                yield self
                if self.speaking.is_set():
                    await client.publish(self._topic("NDEATH"), death, qos=1)
            finally:
                self.speaking.clear()
                listener.cancel()
                await asyncio.gather(listener, return_exceptions=True)
                self._client = None

    def crash(self) -> None:
        """Lose the connection without a word, so that the broker sends the will."""
        assert self._client is not None
        sock = self._client._client.socket()
        assert isinstance(sock, socket.socket)
        self.speaking.clear()
        sock.shutdown(socket.SHUT_RDWR)

    async def measure(
        self, device: str, values: Mapping[str, float | bool | str | None], at_ms: int
    ) -> None:
        """Publish *values* of *device*, measured at *at_ms*; keep them while nobody listens."""
        self.devices[device].values.update(values)
        self.devices[device].measured_ms.update(dict.fromkeys(values, at_ms))
        if not self.speaking.is_set():
            self._kept.append((device, dict(values), at_ms))
            return
        await self._data(device, values, at_ms, historical=False)

    def lose(self, messages: int = 1) -> None:
        """Count *messages* as sent that never were: the network lost them."""
        self._seq = (self._seq + messages) % 256

    async def end_device(self, device: str) -> None:
        """Publish the death of *device*."""
        self.devices[device].online = False
        await self._publish(f"{self._topic('DDEATH')}/{device}", [])

    async def begin_device(self, device: str) -> None:
        """Publish the birth of *device*, which had died."""
        self.devices[device].online = True
        await self._device_birth(device)

    async def bear(self) -> None:
        """Publish the birth certificates of the node and of every device that is online."""
        self._seq = 0
        metrics = [
            Metric(self._bd_seq, "UInt64", "bdSeq"),
            Metric(False, "Boolean", REBIRTH),
        ]
        await self._publish(self._topic("NBIRTH"), metrics)
        for name, device in self.devices.items():
            if device.online:
                await self._device_birth(name)
        self.births += 1

    async def _speak(self) -> None:
        await self.bear()
        while self._kept:
            device, values, at_ms = self._kept.popleft()
            await self._data(device, values, at_ms, historical=True)
        self.speaking.set()

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            payload = bytes(message.payload)
            if str(message.topic).startswith("spBv1.0/STATE/"):
                online = json.loads(payload)["online"]
                if online and not self.speaking.is_set():
                    await self._speak()
                elif not online:
                    self.speaking.clear()
            elif asks_for_rebirth(payload) and self.speaking.is_set():
                await self.bear()

    async def _device_birth(self, name: str) -> None:
        device = self.devices[name]
        metrics = [
            Metric(
                device.values.get(metric),
                kind,
                metric,
                device.aliases[metric],
                device.measured_ms.get(metric),
            )
            for metric, kind in device.kinds.items()
        ]
        await self._publish(f"{self._topic('DBIRTH')}/{name}", metrics)

    async def _data(
        self,
        name: str,
        values: Mapping[str, float | bool | str | None],
        at_ms: int,
        *,
        historical: bool,
    ) -> None:
        device = self.devices[name]
        metrics = [
            Metric(
                value,
                device.kinds[metric],
                alias=device.aliases[metric],
                at_ms=at_ms,
                tells_kind=False,
                historical=historical,
            )
            for metric, value in values.items()
        ]
        await self._publish(f"{self._topic('DDATA')}/{name}", metrics)

    async def _publish(self, topic: str, metrics: Sequence[Metric]) -> None:
        assert self._client is not None
        payload = encode(metrics, time.time_ns() // 1_000_000, self._seq)
        self._seq = (self._seq + 1) % 256
        self.sent += 1
        await self._client.publish(topic, payload, qos=0)

    def _death(self) -> bytes:
        return encode([Metric(self._bd_seq, "UInt64", "bdSeq")], None, None)

    def _topic(self, kind: str) -> str:
        return f"spBv1.0/{self._group}/{kind}/{self._node}"
