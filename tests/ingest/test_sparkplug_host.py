"""What our host says at a real broker: that it is there, and who is to be born again."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import aiomqtt
import pytest

from firmware_sims.sparkplug_payload import asks_for_rebirth
from ingest.mqtt.settings import MqttSettings
from ingest.sparkplug.host import SparkplugHost
from ingest.sparkplug.session import Rules
from tests.ingest.sparkplug_words import ddata
from tests.ingest.test_sparkplug_inlet import Room

STATE = "spBv1.0/STATE/greenhouse"


class Ears:
    """Hears everything of Sparkplug at the broker, in order."""

    def __init__(self) -> None:
        self.states: list[dict] = []
        self.commands: list[tuple[str, bytes]] = []

    @asynccontextmanager
    async def open(self, broker):
        async with aiomqtt.Client(broker.host, broker.port) as client:
            await client.subscribe("spBv1.0/#", qos=1)
            task = asyncio.create_task(self._listen(client))
            yield client
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _listen(self, client):
        async for message in client.messages:
            if str(message.topic) == STATE:
                self.states.append(json.loads(message.payload) | {"retain": message.retain})
            else:
                self.commands.append((str(message.topic), bytes(message.payload)))


class Place:
    """A host at *broker*, whose collector listens or does not."""

    def __init__(self, broker, room: Room, protocol: str = "5", host_id="greenhouse") -> None:
        self.listening = True
        settings = MqttSettings(broker.host, broker.port, "collector", ("spBv1.0/#",))
        self.host = SparkplugHost(settings, protocol, room.inlet, host_id, lambda: self.listening)

    @asynccontextmanager
    async def running(self):
        task = asyncio.create_task(self.host.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_state_is_online_while_our_collector_listens(broker, tmp_path, eventually, protocol):
    mosquitto, ears = broker(), Ears()
    place = Place(mosquitto, Room(tmp_path), protocol)
    async with ears.open(mosquitto):
        async with place.running():
            await eventually(lambda: [one["online"] for one in ears.states] == [True])
            place.listening = False
            await eventually(lambda: [one["online"] for one in ears.states] == [True, False])
            place.listening = True
            await eventually(lambda: [one["online"] for one in ears.states][2:] == [True])
            first, _, again = ears.states
            assert again["timestamp"] == first["timestamp"], "that of the will it is paired with"
        await eventually(lambda: [one["online"] for one in ears.states][3:] == [False])
    late = Ears()
    async with late.open(mosquitto):
        await eventually(lambda: late.states)
        assert late.states[0]["retain"] and late.states[0]["online"] is False


async def test_who_says_of_us_that_we_are_gone_is_corrected(broker, tmp_path, eventually):
    mosquitto, ears = broker(), Ears()
    async with ears.open(mosquitto) as other, Place(mosquitto, Room(tmp_path)).running():
        await eventually(lambda: len(ears.states) == 1)
        await other.publish(STATE, b'{"online":false,"timestamp":1}', qos=1, retain=True)
        await eventually(lambda: [one["online"] for one in ears.states] == [True, False, True])


async def test_a_broker_that_comes_back_is_told_again(broker, tmp_path, eventually):
    mosquitto, ears = broker(), Ears()
    async with Place(mosquitto, Room(tmp_path)).running():
        async with ears.open(mosquitto):
            await eventually(lambda: len(ears.states) == 1)
        mosquitto.kill()
        mosquitto.start()
        again = Ears()
        async with again.open(mosquitto):
            await eventually(lambda: any(one["online"] for one in again.states), timeout_s=30)


async def test_a_rebirth_that_is_wanted_is_asked_for_and_counted(broker, tmp_path, eventually):
    mosquitto, ears = broker(), Ears()
    room = Room(tmp_path, Rules(reorder_us=1, rebirth=True))
    async with ears.open(mosquitto), Place(mosquitto, room, host_id=None).running():
        await room.inlet.accept([ddata(7, {1: 21.5})])
        await eventually(lambda: ears.commands)
        [(topic, payload)] = ears.commands
        assert topic == "spBv1.0/g/NCMD/gw" and asks_for_rebirth(payload)
        await eventually(lambda: room.counters.sparkplug["rebirth_requests"] == 1)
        assert ears.states == [], "who has no name says nothing of itself"
