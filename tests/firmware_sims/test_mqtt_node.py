"""Nodes on a real broker: announcements, outages, buffers, power cuts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sims.mqtt_node import Backoff, BrokerAddress, MqttNode, OutageBuffer, Outbox
from firmware_sims.sample import Sample
from tests.firmware_sims.listening import Listener

T0_US = 1_795_000_000_000_000


def _sample(n: int) -> Sample:
    at_us = T0_US + n * 1_000_000
    return Sample(at_us, at_us, {"air_temperature": 20.0 + n / 10, "n": float(n)})


def _node(broker, *devices: str, capacity: int = 1000, **options) -> MqttNode:
    outboxes = [Outbox(device, "h1", OutageBuffer(capacity)) for device in devices or ("node",)]
    return MqttNode(
        BrokerAddress(broker.host, broker.port),
        outboxes,
        backoff=Backoff(1, first_s=0.05, longest_s=0.2),
        keepalive_s=5,
        **options,
    )


@contextlib.asynccontextmanager
async def _running(*nodes: MqttNode) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        for node in nodes:
            group.create_task(node.run())
        try:
            yield
        finally:
            for node in nodes:
                node.stop()


class TestOutageBuffer:
    def test_holds_the_newest_and_counts_what_it_dropped(self):
        buffer = OutageBuffer(3)
        for n in range(5):
            buffer.offer(_sample(n))
        _, head = buffer.head()
        assert [s.values["n"] for s in head] == [2, 3, 4]
        assert buffer.dropped == 2

    def test_what_is_shown_stays_until_it_is_released(self):
        buffer = OutageBuffer(10)
        for n in range(4):
            buffer.offer(_sample(n))
        mark, head = buffer.head(2)
        assert len(buffer) == 4 and len(head) == 2
        buffer.release(mark, len(head))
        assert [s.values["n"] for s in buffer.head()[1]] == [2, 3]

    def test_releasing_does_not_take_what_came_while_the_message_was_under_way(self):
        buffer = OutageBuffer(3)
        for n in range(3):
            buffer.offer(_sample(n))
        mark, head = buffer.head()
        buffer.offer(_sample(3))  # drops sample 0, which is under way
        buffer.release(mark, len(head))
        assert [s.values["n"] for s in buffer.head()[1]] == [3]

    def test_a_message_fits_the_limits_however_long_the_outage_was(self):
        buffer = OutageBuffer(5000)
        for n in range(5000):
            buffer.offer(_sample(n))
        assert 0 < len(buffer.head()[1]) <= 250

    @given(st.lists(st.sampled_from(["offer", "head", "release", "clear"]), max_size=60))
    def test_nothing_is_lost_uncounted_and_nothing_twice(self, steps: list[str]):
        buffer, offered, taken, pending = OutageBuffer(7), 0, [], None
        cleared = 0
        for step in steps:
            if step == "offer":
                buffer.offer(_sample(offered))
                offered += 1
            elif step == "head":
                pending = buffer.head(3)
            elif step == "release" and pending is not None:
                before = [s.values["n"] for s in buffer.head(1000)[1]]
                buffer.release(pending[0], len(pending[1]))
                left = {s.values["n"] for s in buffer.head(1000)[1]}
                taken += [n for n in before if n not in left]
                pending = None
            elif step == "clear":
                cleared += buffer.clear()
                pending = None
        assert offered == len(taken) + buffer.dropped + cleared + len(buffer)
        assert len(set(taken)) == len(taken)
        assert len(buffer) <= 7

    def test_a_buffer_for_nothing_is_refused(self):
        with pytest.raises(ValueError, match="at least one"):
            OutageBuffer(0)


class TestBackoff:
    def test_doubles_with_jitter_up_to_its_cap_and_begins_anew(self):
        backoff = Backoff(3, first_s=1.0, longest_s=8.0)
        delays = [backoff.next_s() for _ in range(20)]
        for n, delay in enumerate(delays):
            nominal = min(8.0, 2.0**n)
            assert 0.5 * nominal <= delay <= 1.5 * nominal
        backoff.reset()
        assert backoff.next_s() <= 1.5


async def test_a_node_announces_itself_publishes_and_says_goodbye(broker, eventually):
    server = broker()
    with Listener(server.host, server.port) as listener:
        node = _node(server)
        async with _running(node):
            node.offer("node", _sample(1))
            await eventually(lambda: listener.data("node"))
        await eventually(lambda: listener.states("node") == ["online", "offline"])
    heard = listener.data("node")[0]
    assert heard.topic == "gh/h1/node" and heard.qos == 1 and not heard.retain
    assert heard.samples == [{"t": T0_US // 1000 + 1000, "v": {"air_temperature": 20.1, "n": 1.0}}]
    with Listener(server.host, server.port, "later") as later:
        await eventually(lambda: later.states("node") == ["offline"])
        assert later.messages[0].retain  # the status is kept, readings are not
    assert (node.connections, node.samples_sent, node.dropped, node.lost) == (1, 1, 0, 0)


async def test_the_broker_speaks_for_a_node_that_loses_its_power(broker, eventually):
    server = broker()
    with Listener(server.host, server.port) as listener:
        node = _node(server)
        async with _running(node):
            await eventually(lambda: listener.states("node") == ["online"])
            node.cut_power()
            await eventually(lambda: listener.states("node") == ["online", "offline"])
            node.offer("node", _sample(1))  # without power nothing is measured
            assert node.backlog == 0
            node.restore_power()
            await eventually(lambda: listener.states("node")[-1] == "online")
            node.offer("node", _sample(2))
            await eventually(lambda: listener.samples("node"))
    assert [sample["v"]["n"] for sample in listener.samples("node")] == [2.0]
    assert node.connections == 2


async def test_power_takes_what_lay_in_memory_and_leaves_what_lay_in_flash(broker, eventually):
    server = broker()
    server.stop()
    forgetful = _node(server, "ram")
    careful = _node(server, "flash", keeps_buffer=True)
    async with _running(forgetful, careful):
        for n in range(5):
            forgetful.offer("ram", _sample(n))
            careful.offer("flash", _sample(n))
        forgetful.cut_power()
        careful.cut_power()
        assert forgetful.lost == 5 and forgetful.backlog == 0
        assert careful.lost == 0 and careful.backlog == 5
        server.start()
        with Listener(server.host, server.port) as listener:
            forgetful.restore_power()
            careful.restore_power()
            await eventually(lambda: len(listener.samples("flash")) == 5)
            await eventually(lambda: listener.states("ram")[-1:] == ["online"])
            assert listener.samples("ram") == []


async def test_an_outage_is_uploaded_afterwards_oldest_first_as_lists_under_its_own_times(
    broker, eventually
):
    server = broker("max_inflight_messages 0")
    with Listener(server.host, server.port) as listener:
        node = _node(server)
        async with _running(node):
            node.offer("node", _sample(0))
            await eventually(lambda: len(listener.samples("node")) == 1)
            node.cut_link()
            await eventually(lambda: not node.connected)
            for n in range(1, 901):
                node.offer("node", _sample(n))
            assert node.backlog == 900
            node.restore_link()
            await node.drained()
            await eventually(lambda: len(listener.samples("node")) == 901)
    samples = listener.samples("node")
    assert [sample["v"]["n"] for sample in samples] == list(range(901))
    assert [sample["t"] for sample in samples] == [T0_US // 1000 + 1000 * n for n in range(901)]
    messages = listener.data("node")
    assert len(messages) < 10 and len(messages[1].samples) == 250
    assert node.dropped == node.lost == 0


async def test_an_outage_longer_than_the_buffer_loses_the_oldest_and_counts_them(
    broker, eventually
):
    server = broker()
    node = _node(server, capacity=100)
    for n in range(250):
        node.offer("node", _sample(n))
    with Listener(server.host, server.port) as listener:
        async with _running(node):
            await eventually(lambda: len(listener.samples("node")) == 100)
    assert [sample["v"]["n"] for sample in listener.samples("node")] == list(range(150, 250))
    assert node.dropped == 150 and node.samples_sent == 100


async def test_a_node_survives_restarts_of_its_broker_without_loss(broker, eventually):
    server = broker(persistence=True)
    with Listener(server.host, server.port) as listener:
        node = _node(server)
        async with _running(node):
            for round_ in range(3):
                for n in range(round_ * 10, round_ * 10 + 10):
                    node.offer("node", _sample(n))
                await node.drained()
                await asyncio.to_thread(server.restart)
                await eventually(lambda: node.connected, timeout_s=20)
            await eventually(
                lambda: {s["v"]["n"] for s in listener.samples("node")} >= set(range(30)),
                timeout_s=30,
            )
    assert node.connections == 4


async def test_an_idle_node_notices_a_lost_connection_and_comes_back(broker, proxy, eventually):
    server = broker()
    between = proxy(server.host, server.port)
    node = _node(between)
    async with _running(node):
        await eventually(lambda: node.connected)
        between.cut()
        await eventually(lambda: node.connections == 2 and node.connected)


async def test_a_refused_node_tries_again_and_stops_when_told(broker, eventually):
    server = broker(users={"node": "right"})
    node = _node(server)
    async with _running(node):
        node.offer("node", _sample(0))
        await asyncio.to_thread(eventually, lambda: server.log.count("not authorised") >= 2, 10)
        assert node.connections == 0 and node.backlog == 1
    assert node.backlog == 1


async def test_a_gateway_carries_several_devices_over_one_connection(broker, eventually):
    server = broker()
    with Listener(server.host, server.port) as listener:
        gateway = _node(server, "gw", "far-1", "far-2")
        async with _running(gateway):
            for device in ("gw", "far-1", "far-2"):
                gateway.offer(device, _sample(7))
            await eventually(lambda: len(listener.data()) == 3)
            assert server.log.count("New client connected") == 2  # the gateway and the listener
            await eventually(lambda: listener.states("far-2") == ["online"])
        await eventually(lambda: listener.states("far-2") == ["online", "offline"])
    assert {heard.topic for heard in listener.data()} == {"gh/h1/gw", "gh/h1/far-1", "gh/h1/far-2"}


async def test_credentials_and_the_topic_template_are_used(broker, eventually):
    server = broker(
        users={"base": "secret", "ear": "x"},
        acl=["user base", "topic write farm/#", "user ear", "topic read farm/#"],
    )
    address = BrokerAddress(
        server.host, server.port, "base", "secret", topic="farm/{site}/x/{device}"
    )
    node = MqttNode(address, [Outbox("node", "h1", OutageBuffer(5))])
    async with _running(node):
        node.offer("node", _sample(0))
        await node.drained()
    assert "farm/h1/x/node" in server.log
    assert node.samples_sent == 1
