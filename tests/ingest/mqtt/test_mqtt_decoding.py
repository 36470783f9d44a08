"""Bytes to messages, however they are cut; both versions, no network."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.collector import Arrival
from ingest.mqtt.connection import Connection
from ingest.mqtt.failures import MqttError
from ingest.mqtt.settings import MqttSettings
from tests.ingest.mqtt.scene import VERSIONS, frame, message


class Wire(asyncio.Transport):
    """A transport without a network."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.reading = True
        self.gone = False

    def write(self, data) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def abort(self) -> None:
        self.gone = True

    def is_closing(self) -> bool:
        return self.gone


@dataclass
class Sent:
    topic: str
    payload: bytes
    qos: int
    retain: bool

    def bytes(self, number: int, is_v5: bool) -> bytes:
        return message(
            self.payload,
            is_v5=is_v5,
            topic=self.topic.encode(),
            packet_id=number,
            qos=self.qos,
            retain=self.retain,
        )


SENT = st.builds(
    Sent,
    st.sampled_from(["gh/h1/d1", "gh/一号/d", "t" * 300, "x"]),
    st.one_of(st.binary(max_size=50), st.binary(min_size=100, max_size=300)),
    st.sampled_from([0, 1, 2]),
    st.booleans(),
)


def hello(is_v5: bool) -> bytes:
    return frame(0x20, b"\0\0\0" if is_v5 else b"\0\0")


def feed(connection: Connection, data: bytes) -> None:
    """Do as a transport does: as much as fits into the buffer, until all is in."""
    while data:
        room = connection.get_buffer(-1)
        assert len(room) > 0
        part = data[: len(room)]
        room[: len(part)] = part
        connection.buffer_updated(len(part))
        data = data[len(part) :]


async def begin(version: type[Connection]) -> tuple[Connection, Wire]:
    connection = version(MqttSettings("h", 1, "c", ("#",), max_packet_bytes=100_000))
    wire = Wire()
    connection._hello()  # paho must have said it before it takes an answer
    connection.connection_made(wire)
    return connection, wire


async def everything(connection: Connection) -> list[Arrival]:
    got: list[Arrival] = []
    while not connection.inbound.is_empty:
        delivery = await connection.receive()
        assert delivery is not None
        got += delivery.arrivals
        await connection.acknowledge(delivery)
    return got


@pytest.mark.parametrize("version", VERSIONS, ids=[version.version for version in VERSIONS])
@given(
    sent=st.lists(SENT, min_size=1, max_size=20),
    cuts=st.lists(st.integers(1, 400), max_size=30),
    one_by_one=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_messages_are_the_same_however_they_are_cut(version, sent, cuts, one_by_one):
    is_v5 = version.version == "5"
    stream = hello(is_v5) + b"".join(
        one.bytes(number, is_v5) for number, one in enumerate(sent, start=1)
    )

    async def go() -> tuple[list[Arrival], bytes]:
        connection, wire = await begin(version)
        rest = stream
        for cut in [1] * len(stream) if one_by_one else cuts:
            feed(connection, rest[:cut])
            rest = rest[cut:]
        feed(connection, rest)
        assert connection.failure is None
        got = await everything(connection)
        connection.abort()
        return got, bytes(wire.written)

    got, written = asyncio.run(go())
    assert [(a.topic, a.payload, a.flags) for a in got] == [
        (one.topic, one.payload, int(one.retain) + 2 * (one.qos == 0)) for one in sent
    ]
    answers = {1: 0x40, 2: 0x50}
    assert written == b"".join(
        bytes([answers[one.qos], 2]) + number.to_bytes(2, "big")
        for number, one in enumerate(sent, start=1)
        if one.qos
    )


@pytest.mark.parametrize("version", VERSIONS, ids=[version.version for version in VERSIONS])
@given(junk=st.binary(min_size=1, max_size=300), greeted=st.booleans())
@settings(max_examples=200, deadline=None)
def test_junk_ends_the_connection_or_is_waited_for_and_nothing_else(version, junk, greeted):
    is_v5 = version.version == "5"

    async def go() -> None:
        connection, wire = await begin(version)
        if greeted:
            feed(connection, hello(is_v5))
        feed(connection, junk)
        await everything(connection)
        if connection.failure is not None:
            assert isinstance(connection.failure, MqttError)
            assert not wire.reading
        connection.abort()
        assert wire.gone

    asyncio.run(go())


@pytest.mark.parametrize("version", VERSIONS, ids=[version.version for version in VERSIONS])
@given(
    sent=st.lists(SENT, min_size=1, max_size=5),
    at=st.integers(0, 10_000),
    bit=st.integers(0, 7),
)
@settings(max_examples=200, deadline=None)
def test_a_flipped_bit_raises_nothing_of_its_own(version, sent, at, bit):
    """Without TLS a bad link may alter anything; the worst is another message or a violation."""
    is_v5 = version.version == "5"
    stream = bytearray(b"".join(one.bytes(n, is_v5) for n, one in enumerate(sent, start=1)))
    stream[at % len(stream)] ^= 1 << bit

    async def go() -> None:
        connection, _ = await begin(version)
        feed(connection, hello(is_v5))
        feed(connection, bytes(stream))
        assert connection.failure is None or isinstance(connection.failure, MqttError)
        connection.abort()

    asyncio.run(go())
