"""One field device, or a gateway with a few, on MQTT, with the habits of real firmware.

It announces itself under ``…/status`` (retained ``online``; the broker says ``offline`` for it when
it is lost), publishes with QoS 1, keeps what it measured until the broker has acknowledged it,
bounded, and after an outage sends that first, oldest first, many samples a message, under the times
at which they were measured.

    offer ──▶ OutageBuffer ──▶ one message at a time ──PUBACK──▶ forget
                 │ full: the oldest goes, counted
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import aiomqtt

from firmware_sims.payload import MOST_SAMPLES, encode, packed
from firmware_sims.sample import Sample

log = logging.getLogger(__name__)
_MQTT_LOG = logging.getLogger("firmware_sims.paho")
_MQTT_LOG.setLevel(logging.CRITICAL)  # every failure comes to us as an error; once is enough


@dataclass(frozen=True)
class BrokerAddress:
    """Where simulated devices publish; *topic* is the template of the site file's broker section.

    *password* and *tls* are as the operator of the base would put them into firmware.
    """

    host: str
    port: int = 1883
    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None
    topic: str = "gh/{site}/{device}"

    def topic_of(self, site: str, device: str) -> str:
        """Return the topic of a device's readings."""
        return self.topic.replace("{site}", site).replace("{device}", device)


class OutageBuffer:
    """Samples that the broker has not acknowledged, oldest first.

    Holds at most *capacity*; when it is full the oldest sample is dropped and counted, as a ring in
    flash memory does.  Taking is by transaction: `head` shows, `release` forgets.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("a buffer for at least one sample")
        self._samples: deque[Sample] = deque()
        self._capacity = capacity
        self._released = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._samples)

    def offer(self, sample: Sample) -> None:
        """Add *sample* at the end."""
        if len(self._samples) == self._capacity:
            self._samples.popleft()
            self._released += 1
            self.dropped += 1
        self._samples.append(sample)

    def head(self, most: int = MOST_SAMPLES) -> tuple[int, list[Sample]]:
        """Return a mark and the oldest samples that fit one message, at most *most*."""
        packs = packed(islice(self._samples, most), most)
        return self._released, next(packs, [])

    def release(self, mark: int, count: int) -> None:
        """Forget the *count* samples that `head` showed with *mark*, less what overflow dropped."""
        for _ in range(max(0, mark + count - self._released)):
            self._samples.popleft()
            self._released += 1

    def clear(self) -> int:
        """Forget all; return how many there were."""
        count = len(self._samples)
        self._samples.clear()
        self._released += count
        return count


class Backoff:
    """How long to wait before the next attempt to connect: doubling, with jitter and a cap."""

    def __init__(self, seed: int, first_s: float = 0.5, longest_s: float = 30.0) -> None:
        self._random = random.Random(seed)
        self._first_s, self._longest_s = first_s, longest_s
        self._next_s = first_s

    def reset(self) -> None:
        """Begin anew: a connection held."""
        self._next_s = self._first_s

    def next_s(self) -> float:
        """Return the next delay, half to one and a half of its nominal length."""
        nominal = self._next_s
        self._next_s = min(self._longest_s, nominal * 2.0)
        return nominal * self._random.uniform(0.5, 1.5)


@dataclass
class Outbox:
    """One device as its node sees it; *buffer* holds what it measured."""

    device: str
    site: str
    buffer: OutageBuffer


class _PowerLost(Exception):
    """The node must drop its connection without a word."""


class MqttNode:
    """Publishes for the devices of *outboxes* over one connection; call `run` in a task.

    A device of its own has the broker say ``offline`` for it; a gateway carries several, and only
    the first of them has that (a connection has one will).  *keeps_buffer* tells flash from RAM:
    without it a power cut loses what was not yet sent (`lost`).
    """

    def __init__(
        self,
        broker: BrokerAddress,
        outboxes: Sequence[Outbox],
        *,
        seed: int = 0,
        keepalive_s: int = 15,
        keeps_buffer: bool = False,
        backoff: Backoff | None = None,
        flush_s: float = 3.0,
    ) -> None:
        self._broker = broker
        self._outboxes = {outbox.device: outbox for outbox in outboxes}
        self._first = outboxes[0]
        self._keepalive_s = keepalive_s
        self._keeps_buffer = keeps_buffer
        self._backoff = backoff or Backoff(seed)
        self._flush_s = flush_s
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.powered = self.linked = True
        self._stopping = False
        self._was_reported = False
        self.connected = False
        self.connections = 0
        self.messages_sent = 0
        self.samples_sent = 0
        self.lost = 0

    @property
    def backlog(self) -> int:
        """Samples that the broker has not acknowledged."""
        return sum(len(outbox.buffer) for outbox in self._outboxes.values())

    @property
    def dropped(self) -> int:
        """Samples that an overflowing buffer let go."""
        return sum(outbox.buffer.dropped for outbox in self._outboxes.values())

    def offer(self, device: str, sample: Sample) -> None:
        """Take what *device* has measured; ignored while the node has no power."""
        if not self.powered:
            return
        self._outboxes[device].buffer.offer(sample)
        self._idle.clear()
        self._wake.set()

    async def drained(self) -> None:
        """Return when everything offered so far has been acknowledged, or lost with the power."""
        await self._idle.wait()

    def cut_power(self) -> None:
        """Switch off: no readings, no goodbye to the broker."""
        self.powered = False
        if not self._keeps_buffer:
            self.lost += sum(outbox.buffer.clear() for outbox in self._outboxes.values())
            self._idle.set()
        self._wake.set()

    def restore_power(self) -> None:
        """Switch on again."""
        self.powered = True
        self._wake.set()

    def cut_link(self) -> None:
        """Take the network away; the device goes on measuring."""
        self.linked = False
        self._wake.set()

    def restore_link(self) -> None:
        """Give the network back."""
        self.linked = True
        self._wake.set()

    def stop(self) -> None:
        """End `run` in order: send what can be sent within *flush_s*, say ``offline``."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Connect, publish and reconnect until `stop`."""
        while not self._stopping:
            if not (self.powered and self.linked):
                await self._changed()
                continue
            try:
                await self._connect_and_publish()
            except* (aiomqtt.MqttError, _PowerLost) as errors:
                self._report(errors.exceptions[0])
            if self.powered and self.linked and not self._stopping:
                await self._pause(self._backoff.next_s())

    async def _connect_and_publish(self) -> None:
        """Hold one connection until the stop, a loss of the network or a cut of the power."""
        client = self._client()
        async with client:
            self.connected = True
            self.connections += 1
            try:
                async with asyncio.TaskGroup() as group:
                    watch = group.create_task(until_lost(client), name="watch the connection")
                    await self._publish(client)
                    watch.cancel()
            except* _PowerLost:
                # paho has no call to drop a connection; without this the exit would say goodbye
                # and the broker would not publish the will.
                client._client._sock_close()
                raise
            finally:
                self.connected = False

    async def _publish(self, client: aiomqtt.Client) -> None:
        for outbox in self._outboxes.values():
            await client.publish(self._status_topic(outbox), b"online", qos=1, retain=True)
        self._backoff.reset()
        self._was_reported = False
        while not self._stopping:
            await self._upload(client)
            if not self._stopping:
                await self._changed()
            self._check_power()
        try:
            async with asyncio.timeout(self._flush_s):
                await self._upload(client)
        except TimeoutError:
            log.warning("%s stops with %d samples unsent", self._first.device, self.backlog)
        for outbox in self._outboxes.values():
            await client.publish(self._status_topic(outbox), b"offline", qos=1, retain=True)

    async def _upload(self, client: aiomqtt.Client) -> None:
        """Send all that is buffered, a message of each device in turn."""
        while self.backlog:
            for outbox in self._outboxes.values():
                mark, samples = outbox.buffer.head()
                if not samples:
                    continue
                topic = self._broker.topic_of(outbox.site, outbox.device)
                await client.publish(topic, encode(samples), qos=1)
                self._check_power()
                outbox.buffer.release(mark, len(samples))
                self.messages_sent += 1
                self.samples_sent += len(samples)
        self._idle.set()

    def _check_power(self) -> None:
        if not (self.powered and self.linked):
            raise _PowerLost

    def _client(self) -> aiomqtt.Client:
        status = aiomqtt.Will(self._status_topic(self._first), b"offline", qos=1, retain=True)
        return aiomqtt.Client(
            self._broker.host,
            self._broker.port,
            identifier=self._first.device,
            username=self._broker.username,
            password=self._broker.password,
            tls_context=self._broker.tls,
            will=status,
            clean_session=True,
            keepalive=self._keepalive_s,
            timeout=5.0,
            logger=_MQTT_LOG,
        )

    def _status_topic(self, outbox: Outbox) -> str:
        return self._broker.topic_of(outbox.site, outbox.device) + "/status"

    def _report(self, error: BaseException) -> None:
        """Say once that the broker is gone; in between only time passes."""
        if not isinstance(error, _PowerLost) and not self._was_reported:
            self._was_reported = True
            log.info("%s lost its broker: %s", self._first.device, error)

    async def _changed(self) -> None:
        await self._wake.wait()
        self._wake.clear()

    async def _pause(self, seconds: float) -> None:
        """Wait, less long when the node is told to stop."""
        try:
            async with asyncio.timeout(seconds):
                while not self._stopping:
                    await self._changed()
        except TimeoutError:
            return


async def until_lost(client: aiomqtt.Client) -> None:
    """Read what nobody sends; raises `aiomqtt.MqttError` when the connection is lost.

    aiomqtt lets a publish wait for its whole timeout where the connection has broken meanwhile;
    this beside it in a task group ends both at once.
    """
    async for _ in client.messages:
        pass
