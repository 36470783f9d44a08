"""Whole histories of an edge node, with everything that can happen to them on the way.

The node knows what each of its aliases stands for at every moment; the host only hears.  However
messages are lost, late, repeated or kept back, whatever the host passes on under a name is what the
node meant by it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from devices.codecs.sparkplug import SparkplugCodec
from devices.codecs.sparkplug_wire import read_payload
from devices.errors import DecodeError
from ingest.collector import Arrival, ArrivalFlag
from ingest.sparkplug.session import NodeState, Rules, recalled, tick
from ingest.sparkplug.topic import Node
from ingest.sparkplug.translation import translate
from tests.ingest.sparkplug_words import SECOND, T0_US, dbirth, ddata, ddeath, nbirth, ndeath

NAMES = ("temperature", "humidity", "co2")
GW = Node("g", "gw")


@dataclass
class EdgeNode:
    """Truth: *meant* has for each value, which is never used twice, the name it was measured as."""

    draw: random.Random
    now_us: int = T0_US
    bd_seq: int = 0
    seq: int = 0
    value: float = 0.0
    connected: bool = False
    alive: bool = False
    aliases: dict[str, int] = field(default_factory=dict)
    meant: dict[float, str] = field(default_factory=dict)

    def next_seq(self) -> int:
        self.seq = (self.seq + 1) % 256
        return self.seq

    def births(self, *, shuffle: bool) -> Iterator[Arrival]:
        # A configuration is not changed in the same breath as the last one: a node that begins anew
        # twice within a few messages, unheard, can look as if it had gone on.
        if (shuffle and self.seq >= 30) or not self.aliases:
            self.aliases = dict(zip(NAMES, self.draw.sample(range(1, 5), 3), strict=True))
        self.seq, self.connected, self.alive = 0, True, True
        yield nbirth(0, self.bd_seq, self.tick())
        yield dbirth(self.next_seq(), self.aliases, self.tick())

    def data(self) -> Arrival:
        values: dict[int | str, float] = {}
        for name in self.draw.sample(NAMES, self.draw.randint(1, 3)):
            self.value += 1.0
            self.meant[self.value] = name
            values[self.aliases[name]] = self.value
        return ddata(self.next_seq(), values, self.tick())

    def dies(self) -> Arrival:
        self.connected, self.alive = False, False
        death = ndeath(self.bd_seq, self.tick())
        self.bd_seq += 1
        return death

    def tick(self) -> int:
        self.now_us += self.draw.randint(1, 400) * 1000
        return self.now_us


class Host:
    """What hears the node: states that may be forgotten, letters that may be replayed."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.states: dict[Node, NodeState] = {}
        self.link = 1
        self.read: list[tuple[str, float]] = []
        self.heard: list[float] = []
        self.letters: list[Arrival] = []
        self.born_us = 0
        self.asked = False

    def hear(self, arrival: Arrival) -> None:
        known = frozenset({"g/gw/d"})
        if "DDATA" in arrival.topic:
            self.heard += values_of(arrival)
        done = translate(self.states, [arrival], self.rules, known, self.link)
        self.states.update(done.states)
        for passed in done.arrivals:
            try:
                samples = SparkplugCodec().decode(passed.payload)
            except DecodeError as error:
                assert error.code == "E-ALIAS"
                self.letters.append(arrival)
                continue
            self.read += [
                (name, value)
                for sample in samples
                for name, value in sample.values.items()
                if value is not None and "DDATA" in passed.topic
            ]
        if done.reborn:
            self.replay(max(done.reborn.values()))

    def replay(self, born_us: int) -> None:
        """Send in again what was received before a birth, as the service does."""
        waiting = [one for one in self.letters if one.received_at_us <= born_us]
        self.letters = [one for one in self.letters if one.received_at_us > born_us]
        for one in waiting:
            flags = int(ArrivalFlag.REPLAYED)
            self.hear(Arrival(one.source, one.topic, one.payload, one.received_at_us, flags))

    def wait(self, now_us: int) -> None:
        for node, state in self.states.items():
            found = tick(state, now_us, self.rules)
            self.states[node] = found.state
            self.asked |= found.ask

    def restart(self) -> None:
        self.states = {node: recalled(state) for node, state in self.states.items()}
        self.link += 1


def values_of(arrival: Arrival) -> list[float]:
    return [float(one.value or 0) for one in read_payload(arrival.payload).metrics]


def received(arrival: Arrival, at_us: int) -> Arrival:
    return Arrival(arrival.source, arrival.topic, arrival.payload, at_us, arrival.flags)


def world(
    seed: int, *, loss: float, late: float, away: bool, changes: bool = True
) -> tuple[EdgeNode, Host]:
    """Let a node and a host live for a while; the broker keeps the order of each topic."""
    draw = random.Random(seed)
    node, host = EdgeNode(draw), Host(Rules(reorder_us=SECOND, rebirth=True))
    held: list[Arrival] = []

    def send(*messages: Arrival) -> None:
        for message in messages:
            is_will = "NDEATH" in message.topic
            if not is_will and draw.random() < loss:
                continue
            held.append(message)
            while held and (len(held) > 3 or draw.random() > late):
                # Another topic may go first; of one topic the oldest goes.
                topic = draw.choice(held).topic
                first = next(one for one in held if one.topic == topic)
                held.remove(first)
                host.hear(received(first, max(node.now_us, int(host.born_us))))
                if draw.random() < 0.05:
                    host.hear(received(first, node.now_us))

    send(*node.births(shuffle=True))
    for _ in range(draw.randint(60, 200)):
        what = draw.random()
        if not node.alive:
            send(*node.births(shuffle=changes and draw.random() < 0.5))
        elif what < 0.015:
            send(node.dies())
        elif what < 0.03:
            send(*node.births(shuffle=changes and draw.random() < 0.5))
        elif what < 0.045 and node.connected:
            send(ddeath(node.next_seq(), node.tick()))
            send(dbirth(node.next_seq(), node.aliases, node.tick()))
        elif what < 0.06 and away:
            for _ in range(draw.randint(0, 4)):
                node.data()  # nobody hears it
            host.restart() if draw.random() < 0.5 else setattr(host, "link", host.link + 1)
        else:
            send(node.data())
        node.now_us += draw.randint(0, 600) * 1000
        host.wait(node.now_us)
        if host.asked and node.alive:
            host.asked = False
            send(*node.births(shuffle=False))
    while held:
        host.hear(received(held.pop(0), node.now_us))
    return node, host


LIVES = [
    (loss, late, away) for loss in (0.0, 0.1, 0.3) for late in (0.0, 0.4) for away in (False, True)
]


@pytest.mark.parametrize(("loss", "late", "away"), LIVES)
def test_no_value_ever_stands_under_another_name(loss, late, away):
    read = 0
    for seed in range(15):
        node, host = world(seed, loss=loss, late=late, away=away)
        wrong = [
            (name, value, node.meant[value])
            for name, value in host.read
            if node.meant[value] != name
        ]
        assert not wrong, (seed, wrong[:3])
        read += len(host.read)
    assert read > 500, "and many are read"


@pytest.mark.parametrize(("loss", "late", "away"), LIVES)
def test_a_node_whose_aliases_stay_is_read_whole_when_it_is_born_again(loss, late, away):
    for seed in range(15):
        node, host = world(seed, loss=loss, late=late, away=away, changes=False)
        heard = set(host.heard)
        node.now_us += 700 * SECOND
        for birth in node.births(shuffle=False):
            host.hear(received(birth, node.now_us))
        run = host.states[GW].devices["d"].run
        assert run is not None
        # What came in a session that ended before we ever heard a birth is nobody's.
        assert all(one.received_at_us < run.died_us for one in host.letters), seed
        nobodys = {value for one in host.letters for value in values_of(one)}
        assert {value for _, value in host.read} == heard - nobodys


def test_without_loss_everything_is_read_in_the_end():
    for seed in range(30):
        node, host = world(seed, loss=0.0, late=0.0, away=False)
        assert {value for _, value in host.read} == set(node.meant)
        assert not host.letters
