"""What a host application says: that it is there, and who is to be born again.

A connection of its own, so that the collector never waits for it.  Nothing that is said here needs
an acknowledgement: a request that is lost is made again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import aiomqtt
import msgspec

from devices.codecs.sparkplug_wire import flag, write_payload
from ingest.mqtt.settings import MqttSettings
from ingest.retry import Backoff
from ingest.sparkplug.inlet import SparkplugInlet
from ingest.sparkplug.topic import Kind, Node, Subject, state_topic, write_topic

_log = logging.getLogger(__name__)

REBIRTH = "Node Control/Rebirth"
_LOOK_EVERY_S = 0.25
_CALM_S = 30.0
_GOODBYE_S = 1.0


@dataclass(frozen=True, slots=True)
class _State:
    """Our own state as the specification has it said (3.0, chapter 6.2.9)."""

    online: bool
    timestamp: int

    def encoded(self) -> bytes:
        return msgspec.json.encode(self)


def rebirth_command(node: Node, now_ms: int) -> tuple[str, bytes]:
    """Return topic and payload of the request that *node* be born again."""
    topic = write_topic(Subject(Kind.NCMD, node))
    return topic, write_payload(now_ms, [flag(REBIRTH, now_ms)])


class SparkplugHost:
    """Asks for the rebirths that *inlet* wants; says that we are there where *host_id* is given.

    *listening* answers whether our collector hears everything now: edge nodes that wait for us may
    send only then.  *protocol* is ``5`` or ``3.1.1``.
    """

    def __init__(
        self,
        settings: MqttSettings,
        protocol: str,
        inlet: SparkplugInlet,
        host_id: str | None,
        listening: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._protocol = aiomqtt.ProtocolVersion.V5 if protocol == "5" else None
        self._inlet = inlet
        self._host_id = host_id
        self._listening = listening

    async def run(self) -> None:
        """Run until cancelled; a broker that is away is tried again and again."""
        backoff = Backoff(1.0, 30.0, random.random)
        while True:
            began_s = asyncio.get_running_loop().time()
            try:
                await self._speak()
            except aiomqtt.MqttError as error:
                if not backoff.failures:
                    _log.warning("sparkplug: nothing can be said to the broker: %s", error)
            now_s = asyncio.get_running_loop().time()
            if now_s - began_s > _CALM_S:
                backoff.succeeded()
            await asyncio.sleep(0.5 + backoff.failed(now_s))

    async def _speak(self) -> None:
        settings = self._settings
        began_ms = _now_ms()
        will = None
        if self._host_id is not None:
            gone = _State(False, began_ms).encoded()
            will = aiomqtt.Will(state_topic(self._host_id), gone, qos=1, retain=True)
        async with aiomqtt.Client(
            settings.host,
            settings.port,
            username=settings.username,
            password=settings.password.decode() if settings.password is not None else None,
            identifier=f"{settings.client_id}-sparkplug",
            protocol=self._protocol,
            tls_context=settings.tls,
            will=will,
            keepalive=max(1, round(settings.keepalive_s)),
        ) as client:
            work = [self._ask(client)]
            if self._host_id is not None:
                work.append(self._say_state(client, self._host_id, began_ms))
            await _until_one_ends(work)

    async def _ask(self, client: aiomqtt.Client) -> None:
        while True:
            now_us = time.time_ns() // 1000
            due_us = self._inlet.due_at_us()
            if due_us is None or due_us > now_us:
                pause_s = None if due_us is None else (due_us - now_us) / 1e6
                try:
                    async with asyncio.timeout(pause_s):
                        await self._inlet.news()
                except TimeoutError:
                    pass  # Then it is due.
                continue
            for node in await self._inlet.tick(now_us):
                topic, payload = rebirth_command(node, _now_ms())
                await client.publish(topic, payload, qos=0)
                self._inlet.note_asked(node)

    async def _say_state(self, client: aiomqtt.Client, host_id: str, began_ms: int) -> None:
        """Say online while we listen; whoever says of us that we are not is corrected."""
        topic = state_topic(host_id)
        await client.subscribe(topic, qos=1)
        said: bool | None = None
        heard = asyncio.create_task(self._hear(client), name="sparkplug-own-state")
        try:
            while True:
                listening = self._listening()
                if heard.done():
                    said = None if heard.result() != listening else said
                    heard = asyncio.create_task(self._hear(client), name="sparkplug-own-state")
                if listening != said:
                    # The birth has the time of the will that it is paired with.
                    state = _State(listening, began_ms if listening else _now_ms())
                    await client.publish(topic, state.encoded(), qos=1, retain=True)
                    said = listening
                await asyncio.wait([heard], timeout=_LOOK_EVERY_S)
        finally:
            heard.cancel()
            if said:
                # Where the connection is gone the broker says it for us.
                with contextlib.suppress(aiomqtt.MqttError, TimeoutError):
                    async with asyncio.timeout(_GOODBYE_S):
                        gone = _State(False, _now_ms()).encoded()
                        await client.publish(topic, gone, qos=1, retain=True)

    async def _hear(self, client: aiomqtt.Client) -> bool | None:
        """Return the next thing that is said of us; None where it is no state."""
        message = await anext(aiter(client.messages))
        try:
            return msgspec.json.decode(bytes(message.payload), type=_State).online
        except (msgspec.DecodeError, TypeError):
            return None


async def _until_one_ends(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run *work* side by side; raise what ends the first of them, after ending the others."""
    tasks = [asyncio.create_task(one, name="sparkplug-host") for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
