"""Brokers that do what they should not; both versions, raw bytes."""

from __future__ import annotations

import asyncio
import logging
import socket
import time

import pytest

from ingest.collector import ArrivalFlag
from ingest.mqtt.memory import MemoryFile
from tests.ingest.mqtt.scene import VERSIONS, FakeBroker, Keeper, Peer, frame, message, play


@pytest.fixture(params=VERSIONS, ids=[version.version for version in VERSIONS])
def connect(request):
    return request.param


def publish_bytes(body: bytes, first: int = 0x32) -> bytes:
    return frame(first, body)


# What comes after a good message -> the same for both versions, given the properties' bytes.
MALFORMED = {
    "topic that is not UTF-8": lambda props: publish_bytes(b"\0\2\xff\xfe\0\5" + props + b"v"),
    "topic with a surrogate": lambda props: publish_bytes(b"\0\3\xed\xa0\x80\0\5" + props + b"v"),
    "empty topic": lambda props: publish_bytes(b"\0\0\0\5" + props + b"v"),
    "topic with +": lambda props: publish_bytes(b"\0\6gh/+/d\0\5" + props + b"v"),
    "topic with #": lambda props: publish_bytes(b"\0\4gh/#\0\5" + props + b"v"),
    "topic with NUL": lambda props: publish_bytes(b"\0\4gh\0d\0\5" + props + b"v"),
    "topic longer than its packet": lambda props: publish_bytes(b"\0\x63gh"),
    "packet id 0": lambda props: publish_bytes(b"\0\4gh/d\0\0" + props + b"v"),
    "no packet id": lambda props: publish_bytes(b"\0\4gh/d"),
    "QoS 3": lambda props: publish_bytes(b"\0\4gh/d\0\5" + props + b"v", first=0x36),
    "length of five bytes": lambda props: b"\x32\xff\xff\xff\xff\x01",
    "packet over our limit": lambda props: b"\x32\xff\xff\xff\x7f\0\4gh/d",
    "packet of no known type": lambda props: b"\x00\x02\x00\x00",
    "AUTH": lambda props: b"\xf0\x00",
    "a client's packet": lambda props: b"\xc0\x00\xc0\x00"[:2],
    "second CONNACK": lambda props: frame(0x20, b"\0\0" + props),
    "SUBACK nobody asked for": lambda props: frame(0x90, b"\x12\x34" + props + b"\1"),
    "short SUBACK": lambda props: frame(0x90, b"\1"),
    "PUBREL without a packet id": lambda props: b"\x62\x00",
    "noise": lambda props: bytes(range(251, 17, -1)),
}


@pytest.mark.parametrize("what", MALFORMED)
async def test_malformed_packets_end_the_connection_and_nothing_else(connect, eventually, what):
    async def script(peer: Peer) -> None:
        await peer.welcome(session_present=True)
        await peer.grant()
        if len(fake.peers) == 1:
            props = b"\0" if peer.is_v5 else b""
            peer.send(peer.message(b"good", packet_id=7) + MALFORMED[what](props))
        await peer.until_end()

    async with FakeBroker(script) as fake, play(connect, fake) as scene:
        await eventually(lambda: len(fake.peers) == 2 and scene.subscribed)
        await eventually(lambda: fake.peers[0].at_end)  # the socket is closed, not leaked
        # That nothing spins is seen only in a time; what spins does it in every one of them.
        shares = []
        for _ in range(4):
            busy_s, began_s = time.process_time(), time.monotonic()
            await asyncio.sleep(0.05)
            shares.append((time.process_time() - busy_s) / (time.monotonic() - began_s))
        assert min(shares) < 0.5
        assert scene.counters.mqtt_failures == {"violation": 1}
    assert scene.keeper.payloads == [b"good"]
    # What came before was still acknowledged where it came from.
    assert (0x40, b"\0\7") in fake.peers[0].seen


async def test_a_broker_that_ignores_our_limits_cannot_fill_memory(connect, eventually):
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.welcome()
        await peer.grant()
        reading = asyncio.create_task(peer.until_end(), name="fake-reading")
        block = b"".join(peer.message(b"x" * 1000, packet_id=id % 65535 + 1) for id in range(1000))
        try:
            while sent < 200_000_000 and not reading.done():
                peer.send(block)
                sent += len(block)
                await peer.writer.drain()
        finally:
            reading.cancel()
            await asyncio.wait([reading])

    keeper = Keeper()
    keeper.full = True
    limits = {"max_inflight_bytes": 1_000_000, "keepalive_s": 1.0, "keeper": keeper}
    async with FakeBroker(script) as fake, play(connect, fake, **limits) as scene:
        await eventually(lambda: scene.collector.status.spool_full)
        await eventually(lambda: 0xC0 in [first for first, _ in fake.peers[0].seen])
        connection = scene.collector._connection
        assert connection is not None
        assert connection.inbound.is_full
        assert connection.inbound.bytes < 1_000_000 + 2 * 65_536
        # The rest waits where it came from (the kernel's buffers take some megabytes).
        assert sent < 50_000_000
        # A broker that is not read is not dead: it is pinged and kept.
        await eventually(lambda: [first for first, _ in fake.peers[0].seen].count(0xC0) >= 3)
        assert scene.counters.mqtt_failures == {}
        scene.keeper.full = False
        await eventually(lambda: len(scene.keeper.arrivals) > 20_000)
        assert scene.counters.mqtt_failures == {}


async def test_one_large_packet_is_taken_and_the_memory_given_back(connect, eventually):
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.grant()
        peer.send(peer.message(b"x" * 5_000_000) + peer.message(b"small", packet_id=2))
        await peer.until_end()

    async with FakeBroker(script) as fake, play(connect, fake) as scene:
        await eventually(lambda: len(scene.keeper.arrivals) == 2)
        connection = scene.collector._connection
        assert connection is not None
        assert len(connection._buffer) == 65_536
    assert [len(payload) for payload in scene.keeper.payloads] == [5_000_000, 5]


async def test_messages_one_byte_at_a_time(connect, eventually):
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.grant()
        for byte in peer.message(b"first", packet_id=1) + peer.message(b"second", packet_id=2):
            peer.send(bytes([byte]))
            await peer.writer.drain()
            await asyncio.sleep(0)
        await peer.until_end()

    async with FakeBroker(script) as fake, play(connect, fake) as scene:
        await eventually(lambda: scene.counters.mqtt_acknowledged == 2)
    assert scene.keeper.payloads == [b"first", b"second"]


async def test_messages_before_the_answer_to_subscribe_are_taken(connect, eventually):
    """A broker with a session of ours sends what it kept before it looks at our SUBSCRIBE."""

    async def script(peer: Peer) -> None:
        await peer.welcome(session_present=True)
        peer.send(peer.message(b"kept"))
        await eventually(lambda: scene.keeper.arrivals)
        await peer.grant()
        await peer.until_end()

    async with FakeBroker(script) as fake, play(connect, fake) as scene:
        await eventually(lambda: scene.subscribed)
    assert scene.keeper.payloads == [b"kept"]


async def test_acknowledgements_go_out_in_receive_order(connect, eventually):
    ids = [5, 3, 65535, 1, 300]

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.grant()
        peer.send(b"".join(peer.message(packet_id=number) for number in ids))
        await peer.until_end()

    async with FakeBroker(script) as fake, play(connect, fake) as scene:
        await eventually(lambda: fake.peers and fake.peers[0].kinds().count(4) == len(ids))
    acknowledged = [body for first, body in fake.peers[0].seen if first == 0x40]
    assert acknowledged == [number.to_bytes(2, "big") for number in ids]
    assert scene.counters.mqtt_acknowledged == len(ids)


async def test_qos_2_is_ours_only_after_it_is_accepted(connect, eventually):
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.grant()
        peer.send(peer.message(b"exactly", qos=2, packet_id=9) + peer.message(b"1", packet_id=10))
        while peer.kinds().count(4) < 1:
            await peer.packet()
        peer.send(frame(0x62, b"\0\x09"))
        await peer.until_end()

    keeper = Keeper()
    keeper.hold()
    async with FakeBroker(script) as fake, play(connect, fake, keeper=keeper) as scene:
        await eventually(lambda: scene.keeper.offered == 2)
        assert 5 not in fake.peers[0].kinds()
        scene.keeper.release()
        await eventually(lambda: 7 in fake.peers[0].kinds())
    assert scene.keeper.payloads == [b"exactly", b"1"]
    answers = [packet for packet in fake.peers[0].seen if packet[0] >> 4 in (4, 5, 7)]
    assert answers == [(0x50, b"\0\x09"), (0x40, b"\0\x0a"), (0x70, b"\0\x09")]


async def test_a_refused_subscription_is_said_recorded_and_tried_again(connect, eventually, caplog):
    async def script(peer: Peer) -> None:
        await peer.welcome()
        refusal = 0x87 if peer.is_v5 else 0x80
        await peer.grant(refusal)
        peer.send(peer.message(b"of another filter"))
        await peer.grant(refusal)
        await peer.grant(1)
        await peer.until_end()

    async with FakeBroker(script) as fake, play(connect, fake, slow_retry_s=0.3) as scene:
        await eventually(lambda: scene.collector.status.refused_filters)
        assert scene.collector.status.problem == "the broker refuses gh/+/+"
        assert scene.collector.status.connected
        await eventually(lambda: scene.keeper.arrivals)
        await eventually(lambda: scene.collector.status.refused_filters == ())
        await eventually(lambda: len(scene.keeper.gaps) == 2)
    assert scene.counters.mqtt_subscriptions_refused == 2
    first, second = scene.keeper.gaps
    assert {first.reason, second.reason} == {"subscription_refused"}
    assert first.ended_at_us == second.started_at_us < second.ended_at_us
    said = [line for line in caplog.messages if "refused the subscription 'gh/+/+'" in line]
    assert len(said) == 1
    assert "access list" in said[0]


async def test_a_subscription_that_is_never_granted_is_a_gap_to_the_end(connect, eventually):
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.grant(0x80)
        await peer.until_end()

    async with FakeBroker(script) as fake, play(connect, fake) as scene:
        await eventually(lambda: scene.keeper.gaps)
        before_us = time.time_ns() // 1000
        await scene.stop()
    first, last = scene.keeper.gaps
    assert first.ended_at_us == last.started_at_us
    assert last.ended_at_us >= before_us


async def test_a_broker_that_grants_only_qos_0_is_named(connect, eventually, caplog):
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.grant(0)
        peer.send(peer.message(b"1", qos=0))
        await peer.until_end()

    async with FakeBroker(script) as fake, play(connect, fake) as scene:
        await eventually(lambda: scene.keeper.arrivals)
    assert any("at QoS 0 only" in line for line in caplog.messages)
    assert scene.keeper.arrivals[0].flags == ArrivalFlag.QOS0


async def test_no_answer_to_subscribe_is_no_life(connect, eventually):
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.until_end()

    async with FakeBroker(script) as fake, play(connect, fake, connect_timeout_s=0.2) as scene:
        await eventually(lambda: scene.counters.mqtt_failures["violation"])
        await eventually(lambda: fake.peers[0].at_end)


async def test_no_answer_to_connect_is_no_life(connect, eventually):
    async def script(peer: Peer) -> None:
        await peer.until_end()

    async with FakeBroker(script) as fake, play(connect, fake, connect_timeout_s=0.2) as scene:
        await eventually(lambda: scene.counters.mqtt_failures["link_lost"])
        assert "no answer from the broker" in scene.collector.status.problem
        await eventually(lambda: fake.peers[0].at_end)


async def test_a_broker_that_closes_at_once_is_not_hammered(connect, eventually):
    async def script(peer: Peer) -> None:
        await peer.welcome()

    async with FakeBroker(script) as fake, play(connect, fake, retry_cap_s=30.0) as scene:
        await eventually(lambda: len(fake.peers) >= 3)
        await asyncio.sleep(1.5)  # how little happens
        assert len(fake.peers) < 20
        assert scene.keeper.gaps == [] or scene.keeper.gaps[0].reason == "session_lost"


async def test_a_broker_that_reads_nothing_is_left(connect, eventually, caplog):
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.grant()
        await eventually(lambda: scene.subscribed)
        # Little room on our side too: the kernel would take megabytes of acknowledgements.
        transport = scene.collector._connection._transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        block = b"".join(peer.message(packet_id=number + 1) for number in range(65_535))
        while True:
            peer.send(block)
            await peer.writer.drain()

    options = {"keepalive_s": 1.0, "max_inflight_messages": 1000}
    async with FakeBroker(script) as fake, play(connect, fake, **options) as scene:
        await eventually(lambda: scene.counters.mqtt_failures["link_lost"], timeout_s=30)
        assert fake.peers
    assert any("does not read what we send" in line for line in caplog.messages)


async def test_the_goodbye_keeps_the_session(connect, eventually):
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.grant()
        await peer.until_end()

    async with FakeBroker(script) as fake, play(connect, fake) as scene:
        await eventually(lambda: scene.subscribed)
        await scene.stop()
        await eventually(lambda: fake.peers[0].at_end)
    # No session expiry of its own and no reason but "normal".
    assert fake.peers[0].seen[-1] in ((0xE0, b""), (0xE0, b"\0"), (0xE0, b"\0\0"))


MQTT5, MQTT311 = VERSIONS
REFUSED_CONNECTIONS = [
    # version, code, kind, what must be said
    (MQTT311, 1, "refused", "broker.protocol"),
    (MQTT311, 2, "refused", "client id not valid"),
    (MQTT311, 3, "link_lost", "server unavailable"),
    (MQTT311, 4, "refused", "bad user name or password"),
    (MQTT311, 5, "refused", "not authorized"),
    (MQTT311, 9, "violation", "a code that MQTT 3.1.1 does not have"),
    (MQTT5, 0x84, "refused", "broker.protocol"),
    (MQTT5, 0x85, "refused", "client id not valid"),
    (MQTT5, 0x88, "link_lost", "server unavailable"),
    (MQTT5, 0x86, "refused", "bad user name or password"),
    (MQTT5, 0x87, "refused", "not authorized"),
    (MQTT5, 0x8A, "refused", "banned"),
    (MQTT5, 0x89, "link_lost", "server busy"),
    (MQTT5, 0x9D, "refused", "server moved"),
]


@pytest.mark.parametrize(("version", "code", "kind", "words"), REFUSED_CONNECTIONS)
async def test_refused_connections_name_the_reason(eventually, caplog, version, code, kind, words):
    async def script(peer: Peer) -> None:
        await peer.packet()
        peer.send(frame(0x20, bytes([0, code]) + (b"\0" if version is MQTT5 else b"")))
        await peer.until_end()

    async with FakeBroker(script) as fake, play(version, fake) as scene:
        await eventually(lambda: scene.counters.mqtt_failures[kind])
        assert words in scene.collector.status.problem
        await eventually(lambda: fake.peers[0].at_end)


DISMISSALS = [
    (0x8B, "link_lost", "server shutting down"),
    (0x8D, "link_lost", "keep alive timeout"),
    (0x8E, "taken_over", "client ids must be unique"),
    (0x87, "refused", "not authorized"),
    (0x98, "refused", "put out by an administrator"),
]


@pytest.mark.parametrize(("code", "kind", "words"), DISMISSALS)
async def test_mqtt5_says_why_it_puts_us_out(eventually, caplog, code, kind, words):
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.grant()
        peer.send(peer.message(b"last") + frame(0xE0, bytes([code, 0])))
        await peer.until_end()

    async with FakeBroker(script) as fake, play(VERSIONS[0], fake) as scene:
        await eventually(lambda: scene.counters.mqtt_failures[kind])
        assert any(words in line for line in caplog.messages)
        await eventually(lambda: scene.keeper.payloads[:1] == [b"last"])
        assert fake.peers


async def test_mqtt5_to_an_older_broker_says_what_to_set(eventually):
    async def script(peer: Peer) -> None:
        await peer.packet()
        peer.send(b"\x20\x02\x00\x01")
        await peer.until_end()

    async with FakeBroker(script) as fake, play(VERSIONS[0], fake) as scene:
        await eventually(lambda: scene.counters.mqtt_failures["refused"])
        assert "set broker.protocol" in scene.collector.status.problem
        assert fake.peers


async def test_mqtt5_tells_the_broker_our_limits_and_heeds_its_own(eventually, caplog):
    async def script(peer: Peer) -> None:
        # Server keep alive 1 s; session expiry 60 s.
        await peer.welcome(properties=b"\x13\0\1\x11\0\0\0\x3c")
        await peer.grant()
        await peer.until_end()

    options = {"receive_maximum": 1000, "max_packet_bytes": 2048, "session_expiry_s": 7200}
    async with FakeBroker(script) as fake, play(VERSIONS[0], fake, **options) as scene:
        await eventually(lambda: fake.peers and fake.peers[0].kinds().count(12) >= 2, timeout_s=3)
        assert scene.subscribed
    _, hello = fake.peers[0].seen[0]
    assert b"\x21" + (1000).to_bytes(2, "big") in hello
    assert b"\x27" + (2048).to_bytes(4, "big") in hello
    assert b"\x11" + (7200).to_bytes(4, "big") in hello
    assert hello[7] & 0x02 == 0, "no clean start"
    _, subscription = fake.peers[0].seen[1]
    # QoS 1, retained not as published, retained only when the subscription is new.
    assert subscription[-1] == 0b0001_0001
    assert any("keeps our session for 60 s only" in line for line in caplog.messages)


async def test_where_the_broker_keeps_no_session_a_disconnection_is_a_gap(eventually):
    async def script(peer: Peer) -> None:
        await peer.welcome(properties=b"\x11\0\0\0\0")
        await peer.grant()
        if len(fake.peers) == 1:
            await eventually(lambda: scene.subscribed)
            return
        await peer.until_end()

    async with FakeBroker(script) as fake, play(VERSIONS[0], fake) as scene:
        await eventually(lambda: scene.keeper.gaps)
    assert [gap.reason for gap in scene.keeper.gaps] == ["disconnected"]
    assert scene.counters.sessions_lost == 0


async def test_messages_of_qos_0_that_cannot_be_kept_are_counted_and_recorded(connect, eventually):
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.grant()
        peer.send(peer.message(b"1", qos=0) + peer.message(b"2") + peer.message(b"3", qos=0))
        await peer.until_end()

    keeper = Keeper()
    keeper.full = True
    async with FakeBroker(script) as fake, play(connect, fake, keeper=keeper) as scene:
        await eventually(lambda: scene.subscribed and keeper.refusals)
        await eventually(lambda: scene.collector.status.unaccepted == 3)
        await scene.stop()
        assert fake.peers
    assert scene.counters.mqtt_dropped == 2
    (gap,) = keeper.gaps
    assert (gap.reason, gap.text[:22]) == ("dropped", "2 messages of QoS 0 we")


async def test_a_full_spool_is_a_gap_where_devices_publish_at_qos_0(
    connect, eventually, monkeypatch, caplog
):
    monkeypatch.setattr("ingest.mqtt.collector._MEMORY_EVERY_S", 0.02)
    monkeypatch.setattr("ingest.mqtt.collector._SPOOL_CALM_S", 0.1)

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.grant()
        peer.send(peer.message(b"1", qos=0))
        await peer.until_end()

    keeper = Keeper()
    keeper.full = True
    caplog.set_level(logging.INFO, "ingest.mqtt")
    async with FakeBroker(script) as fake, play(connect, fake, keeper=keeper) as scene:
        await eventually(lambda: keeper.refusals >= 3)
        assert scene.collector.status.spool_full
        keeper.full = False
        await eventually(lambda: keeper.gaps)
        assert not scene.collector.status.spool_full
    assert [gap.reason for gap in keeper.gaps] == ["spool_full"]
    assert sum("until the spool has room" in line for line in caplog.messages) == 1
    assert sum("the spool has room again" in line for line in caplog.messages) == 1


async def test_what_we_know_of_our_session_is_written_down_while_all_is_well(
    connect, eventually, monkeypatch, tmp_path
):
    monkeypatch.setattr("ingest.mqtt.collector._MEMORY_EVERY_S", 0.02)
    memory = MemoryFile(tmp_path / "session.json")

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.grant()
        peer.send(peer.message(b"1"))
        await peer.until_end()

    async with FakeBroker(script) as fake, play(connect, fake, memory=memory.path) as scene:
        await eventually(lambda: scene.keeper.arrivals)
        received_at_us = scene.keeper.arrivals[0].received_at_us
        # A process that is killed leaves no more than this behind.
        await eventually(
            lambda: (known := memory.load()) and known.covered_until_us >= received_at_us
        )


@pytest.mark.parametrize("trouble", ["junk", "no folder"])
async def test_a_memory_that_cannot_be_used_is_said_once_and_stops_nobody(
    connect, eventually, monkeypatch, tmp_path, caplog, trouble
):
    monkeypatch.setattr("ingest.mqtt.collector._MEMORY_EVERY_S", 0.01)
    path = tmp_path / ("missing/session.json" if trouble == "no folder" else "session.json")
    if trouble == "junk":
        path.write_bytes(b"junk")

    async def script(peer: Peer) -> None:
        await peer.welcome(session_present=True)
        await peer.grant()
        for number in range(1, 20):
            peer.send(peer.message(packet_id=number))
            await peer.packet()
        await peer.until_end()

    async with FakeBroker(script) as fake, play(connect, fake, memory=path) as scene:
        await eventually(lambda: len(scene.keeper.arrivals) == 19)
    said = [line for line in caplog.messages if "session" in line and str(tmp_path) in line]
    assert len(said) == 1


def test_the_fake_brokers_messages_are_what_mqtt_says():
    """The fake writes by hand what the codecs read; MQTT 5.0, figure 3.8 and below."""
    assert message(b"v", is_v5=False, topic=b"a/b", packet_id=10) == b"\x32\x08\0\3a/b\0\x0av"
    assert message(b"v", is_v5=True, topic=b"a/b", qos=0) == b"\x30\x07\0\3a/b\0v"
