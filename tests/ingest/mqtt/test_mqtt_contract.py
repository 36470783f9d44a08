"""One contract, two versions of MQTT, a real mosquitto."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from pathlib import Path

import aiomqtt
import pytest

from ingest.collector import ArrivalFlag
from ingest.mqtt.settings import SettingsError
from tests.ingest.mqtt.scene import VERSIONS, Connect, numbered, play, publish

# No limit of the broker's own: 3.1.1 knows no Receive Maximum.
BROKER = ("max_queued_messages 100000", "max_inflight_messages 1000")


@pytest.fixture(params=VERSIONS, ids=[version.version for version in VERSIONS])
def connect(request: pytest.FixtureRequest) -> Connect:
    version: Connect = request.param
    return version


async def test_what_is_published_arrives_whole_and_in_order(connect, broker, eventually):
    server = broker(*BROKER)
    before_us = time.time_ns() // 1000
    async with play(connect, server) as scene:
        await eventually(lambda: scene.subscribed)
        await publish(server, [*numbered(0, 500), b"", b"\x00\xff" * 40_000, "温室".encode()])
        await eventually(lambda: len(scene.keeper.arrivals) == 503)
    arrivals = scene.keeper.arrivals
    assert [arrival.payload for arrival in arrivals[:500]] == numbered(0, 500)
    assert [arrival.payload for arrival in arrivals[500:]] == [
        b"",
        b"\x00\xff" * 40_000,
        "温室".encode(),
    ]
    assert {(arrival.source, arrival.topic, arrival.flags) for arrival in arrivals} == {
        ("mqtt", "gh/h1/h1-climate", 0)
    }
    assert all(before_us <= a.received_at_us <= time.time_ns() // 1000 for a in arrivals)
    assert scene.keeper.gaps == []
    assert scene.counters.mqtt_acknowledged == 503


async def test_topics_of_any_script_arrive(connect, broker, eventually):
    server = broker()
    async with play(connect, server) as scene:
        await eventually(lambda: scene.subscribed)
        await publish(server, [b"1"], topic="gh/一号/温度 计 🌡")
        await eventually(lambda: scene.keeper.arrivals)
    assert scene.keeper.arrivals[0].topic == "gh/一号/温度 计 🌡"


async def test_nothing_is_acknowledged_before_it_is_accepted(connect, broker, eventually):
    server = broker(*BROKER)
    async with play(connect, server) as scene:
        await eventually(lambda: scene.subscribed)
        scene.keeper.hold()
        await publish(server, numbered(0, 200))
        await eventually(lambda: scene.keeper.offered)
        await scene.crash()
    assert scene.keeper.arrivals == []
    async with play(connect, server) as scene:
        await eventually(lambda: len(scene.keeper.arrivals) == 200)
    assert scene.keeper.payloads == numbered(0, 200)
    assert scene.keeper.gaps == []


async def test_what_is_acknowledged_does_not_come_again(connect, broker, eventually):
    server = broker(*BROKER)
    async with play(connect, server) as scene:
        await eventually(lambda: scene.subscribed)
        await publish(server, numbered(0, 200))
        await eventually(lambda: scene.counters.mqtt_acknowledged == 200)
    # The broker reads our last acknowledgements and the goodbye in its own time.
    await eventually(lambda: "Client collector disconnected" in server.log)
    async with play(connect, server) as scene:
        await eventually(lambda: scene.subscribed)
        await publish(server, [b"new"])
        await eventually(lambda: scene.keeper.arrivals)
    assert scene.keeper.payloads == [b"new"]


async def test_an_old_connections_messages_are_never_acknowledged_on_a_new_one(
    connect, broker, eventually
):
    """Packet ids start from 1 on every connection: a stale acknowledgement deletes new messages."""
    server = broker(*BROKER)
    async with play(connect, server) as scene:
        await eventually(lambda: scene.subscribed)
        scene.keeper.hold()
        await publish(server, numbered(0, 500))
        await eventually(lambda: scene.keeper.offered)
        server.restart()  # without persistence: the session and its 500 messages are gone
        scene.keeper.release()
        await eventually(lambda: scene.counters.mqtt_connections == 2 and scene.subscribed)
        scene.keeper.hold()
        offered = scene.keeper.offered
        await publish(server, numbered(500, 500))
        await eventually(lambda: scene.keeper.offered > offered)
        await scene.crash()
    # What the first connection had brought was not lost with the broker's session.
    assert set(numbered(0, 500)) <= set(scene.keeper.payloads)
    async with play(connect, server) as scene:
        await eventually(lambda: len(scene.keeper.arrivals) >= 500)
    assert scene.keeper.payloads == numbered(500, 500)


async def test_the_session_lives_over_a_reset_connection(connect, broker, proxy, eventually):
    server = broker(*BROKER)
    link = proxy(server.host, server.port)
    async with play(connect, link) as scene:
        await eventually(lambda: scene.subscribed)
        await publish(server, numbered(0, 100))
        await eventually(lambda: len(scene.keeper.arrivals) == 100)
        link.refuse()
        link.cut()
        await eventually(lambda: not scene.collector.status.connected)
        await publish(server, numbered(100, 100))
        link.accept()
        await eventually(lambda: len(set(scene.keeper.payloads)) == 200)
        assert scene.counters.mqtt_connections == 2
    assert scene.keeper.gaps == []


async def test_a_storm_of_resets_loses_nothing(connect, broker, proxy, eventually):
    server = broker(*BROKER)
    link = proxy(server.host, server.port)
    async with play(connect, link) as scene:
        await eventually(lambda: scene.subscribed)
        for part in range(8):
            await publish(server, numbered(part * 250, 250))
            link.cut()
            await eventually(lambda part=part: link.connections_made > part + 1)
            await eventually(lambda: scene.subscribed)
        await eventually(lambda: len(set(scene.keeper.payloads)) == 2000)
    assert scene.keeper.gaps == []


async def test_silence_is_found_within_the_keepalive(connect, broker, proxy, eventually):
    server = broker(*BROKER)
    link = proxy(server.host, server.port)
    async with play(connect, link, keepalive_s=1.0, connect_timeout_s=0.5) as scene:
        await eventually(lambda: scene.subscribed)
        took_s = []
        while len(took_s) < 3 and min(took_s, default=9.0) >= 1.5:  # the machine may stall
            link.heal()
            await eventually(lambda: scene.collector.status.connected)
            link.blackhole()
            began = time.monotonic()
            await eventually(lambda: not scene.collector.status.connected)
            took_s.append(time.monotonic() - began)
        assert min(took_s) < 1.5, took_s
        assert "silence of 1 s" in scene.collector.status.problem
        await publish(server, numbered(0, 50))
        link.heal()
        await eventually(lambda: len(set(scene.keeper.payloads)) == 50)
    assert scene.keeper.gaps == []


async def test_an_idle_connection_is_kept(connect, broker, eventually):
    server = broker("max_keepalive 60")
    async with play(connect, server, keepalive_s=1.0) as scene:
        await eventually(lambda: server.log.count("Received PINGREQ from collector") >= 3)
        assert scene.counters.mqtt_connections == 1
        assert scene.counters.mqtt_failures == {}


async def test_a_restarted_broker_with_persistence_loses_nothing(connect, broker, eventually):
    server = broker(*BROKER, persistence=True)
    async with play(connect, server) as scene:
        await eventually(lambda: scene.subscribed)
        await publish(server, numbered(0, 50))
        await eventually(lambda: len(scene.keeper.arrivals) == 50)
        server.restart()
        await publish(server, numbered(50, 50))
        await eventually(lambda: len(set(scene.keeper.payloads)) == 100)
    assert scene.keeper.gaps == []
    assert scene.counters.sessions_lost == 0


async def test_a_broker_that_starts_late_is_waited_for(connect, broker, eventually, caplog):
    server = broker()
    server.stop()
    with caplog.at_level(logging.INFO, "ingest.mqtt"):
        async with play(connect, server, retry_cap_s=0.05) as scene:
            await eventually(lambda: scene.counters.mqtt_failures["link_lost"] >= 5)
            assert not scene.collector.status.connected
            server.start()
            await eventually(lambda: scene.subscribed)
            await publish(server, [b"1"])
            await eventually(lambda: scene.keeper.arrivals)
    lost = [line for line in caplog.messages if "cannot reach the broker" in line]
    assert len(lost) == 1, "said once, however many tries it takes"
    assert f"127.0.0.1:{server.port}: Connect call failed" in lost[0] or "refused" in lost[0]
    assert sum("is back after" in line for line in caplog.messages) == 1


async def test_old_retained_messages_are_marked_and_live_ones_are_not(connect, broker, eventually):
    server = broker()
    await publish(server, [b"old"], retain=True)
    async with play(connect, server) as scene:
        await eventually(lambda: scene.keeper.arrivals)
        await publish(server, [b"live"], retain=True)
        await eventually(lambda: len(scene.keeper.arrivals) == 2)
    assert [(arrival.payload, arrival.flags) for arrival in scene.keeper.arrivals] == [
        (b"old", ArrivalFlag.RETAINED),
        (b"live", ArrivalFlag.NONE),
    ]


async def test_messages_without_a_promise_are_marked(connect, broker, eventually):
    server = broker()
    async with play(connect, server) as scene:
        await eventually(lambda: scene.subscribed)
        await publish(server, [b"1"], qos=0)
        await publish(server, [b"2"], qos=2)
        await eventually(lambda: len(scene.keeper.arrivals) == 2)
    assert [(arrival.payload, arrival.flags) for arrival in scene.keeper.arrivals] == [
        (b"1", ArrivalFlag.QOS0),
        (b"2", ArrivalFlag.NONE),  # what was published at QoS 2 comes at QoS 1
    ]
    assert scene.counters.mqtt_acknowledged == 1


async def test_where_devices_publish_at_qos_0_a_disconnection_is_a_gap(
    connect, broker, proxy, eventually
):
    server = broker()
    link = proxy(server.host, server.port)
    async with play(connect, link) as scene:
        await eventually(lambda: scene.subscribed)
        await publish(server, [b"1"], qos=0)
        await eventually(lambda: scene.keeper.arrivals)
        link.cut()
        await eventually(lambda: scene.keeper.gaps)
    (gap,) = scene.keeper.gaps
    assert (gap.source, gap.reason) == (f"mqtt:{link.host}:{link.port}", "disconnected")
    assert gap.started_at_us == scene.keeper.arrivals[0].received_at_us
    assert gap.started_at_us < gap.ended_at_us <= time.time_ns() // 1000


async def test_a_session_that_the_broker_lost_is_said_and_recorded(
    connect, broker, eventually, caplog
):
    server = broker()
    async with play(connect, server) as scene:
        await eventually(lambda: scene.subscribed)
        await publish(server, [b"1"])
        await eventually(lambda: scene.counters.mqtt_acknowledged == 1)
        server.restart()
        await eventually(lambda: scene.keeper.gaps)
        assert scene.counters.sessions_lost == 1
    (gap,) = scene.keeper.gaps
    assert gap.reason == "session_lost"
    assert scene.keeper.arrivals[0].received_at_us <= gap.started_at_us < gap.ended_at_us
    assert any("messages may be missing from" in line for line in caplog.messages)


async def test_a_session_lost_while_no_process_ran_is_recorded(
    connect, broker, eventually, tmp_path: Path
):
    server = broker()
    memory = tmp_path / "session.json"
    async with play(connect, server, memory=memory) as scene:
        await eventually(lambda: scene.subscribed)
    left_at_us = time.time_ns() // 1000
    server.restart()
    async with play(connect, server, memory=memory) as scene:
        await eventually(lambda: scene.keeper.gaps)
    (gap,) = scene.keeper.gaps
    assert gap.reason == "session_lost"
    assert gap.started_at_us <= left_at_us < gap.ended_at_us
    # Said once: the next process finds the session of this one.
    async with play(connect, server, memory=memory) as scene:
        await eventually(lambda: scene.subscribed)
    assert scene.keeper.gaps == []


async def test_subscriptions_of_an_earlier_configuration_end(
    connect, broker, eventually, tmp_path: Path
):
    server, memory = broker(), tmp_path / "session.json"
    old, new = {"topic_filters": ("old/+", "gh/+/+")}, {"topic_filters": ("gh/+/+",)}
    async with play(connect, server, memory=memory, **old) as scene:
        await eventually(lambda: scene.subscribed)
    async with play(connect, server, memory=memory, **new) as scene:
        await eventually(lambda: scene.subscribed)
        await publish(server, [b"unwanted"], topic="old/1")
        await publish(server, [b"wanted"])
        await eventually(lambda: scene.keeper.arrivals)
    assert scene.keeper.payloads == [b"wanted"]


async def test_subscriptions_change_while_we_are_connected_and_nothing_is_missed(
    connect, broker, eventually, tmp_path: Path
):
    server, memory = broker(), tmp_path / "session.json"
    first = {"topic_filters": ("gh/+/+", "one/1")}
    async with play(connect, server, memory=memory, **first) as scene:
        await eventually(lambda: scene.subscribed)
        for number in range(3):  # a device's own topic, then one filter that covers it, and back
            scene.collector.listen_to(("gh/+/+", "one/#") if number % 2 == 0 else ("one/1",))
            await eventually(
                lambda: (
                    scene.collector._coverage.memory.topic_filters
                    == scene.collector._settings.topic_filters
                )
            )
            await publish(server, [b"kept %d" % number], topic="one/1")
            await publish(server, [b"new %d" % number], topic="one/2")
        await publish(server, [b"last"], topic="gh/h1/a")
        await eventually(lambda: b"last" in scene.keeper.payloads)
    assert scene.keeper.payloads == [b"kept 0", b"new 0", b"kept 1", b"kept 2", b"new 2", b"last"]
    assert scene.keeper.gaps == []
    assert scene.counters.mqtt_connections == 1


async def test_a_filter_that_cannot_be_meant_changes_nothing(connect, broker, eventually):
    server = broker()
    async with play(connect, server, topic_filters=("gh/+/+",)) as scene:
        await eventually(lambda: scene.subscribed)
        with pytest.raises(SettingsError):
            scene.collector.listen_to(("gh/#/x",))
        scene.collector.listen_to(("gh/+/+", "more/#"))

        async def heard() -> bool:
            await publish(server, [b"more"], topic="more/1")
            return b"more" in scene.keeper.payloads

        await eventually(heard)


async def test_bad_credentials_are_said_and_tried_again_slowly(connect, broker, eventually, caplog):
    server = broker(users={"collector": "right"})
    options = {"username": "collector", "password": b"wrong", "slow_retry_s": 0.3}
    async with play(connect, server, **options) as scene:
        await eventually(lambda: scene.counters.mqtt_failures["refused"] >= 3)
        problem = scene.collector.status.problem
        assert f"127.0.0.1:{server.port} refused client 'collector'" in problem
        assert "broker.password_file" in problem
        server.set_users({"collector": "wrong"})
        server.reload()
        await eventually(lambda: scene.subscribed)
        assert scene.collector.status.problem == ""
    said = [line for line in caplog.messages if "refused client" in line]
    assert len(said) == 1
    assert "wrong" not in "".join(caplog.messages), "the password is nobody's business"


async def test_user_name_and_password_let_us_in(connect, broker, eventually):
    users = {"collector": "pässword"}
    server = broker(users=users)
    options = {"username": "collector", "password": "pässword".encode()}
    async with play(connect, server, **options) as scene:
        await eventually(lambda: scene.subscribed)
        await publish(server, [b"1"], username="collector", password="pässword")
        await eventually(lambda: scene.keeper.arrivals)
    assert scene.counters.mqtt_failures == {}


async def test_two_with_one_client_id_do_not_fight_in_a_hot_loop(connect, broker, eventually):
    server = broker()

    async def thief() -> None:
        while True:
            with contextlib.suppress(aiomqtt.MqttError):
                options = {"identifier": "collector", "clean_session": True}
                async with aiomqtt.Client(server.host, server.port, **options) as client:
                    async for _ in client.messages:
                        pass

    async with play(connect, server, retry_cap_s=5.0) as scene:
        await eventually(lambda: scene.subscribed)
        fight = asyncio.create_task(thief(), name="thief")
        await eventually(lambda: scene.counters.mqtt_failures)
        await asyncio.sleep(2)  # that little happens in a time only time can show
        fight.cancel()
        await asyncio.wait([fight])
        assert scene.counters.mqtt_connections <= 15
        if connect.version == "5":
            # Here the broker says why, so we do not even begin.
            assert scene.counters.mqtt_failures == {"taken_over": 1}
            assert "client ids must be unique" in scene.collector.status.problem


async def test_a_full_spool_holds_everything_until_there_is_room(connect, broker, eventually):
    server = broker(*BROKER)
    async with play(connect, server, max_inflight_messages=100) as scene:
        await eventually(lambda: scene.subscribed)
        scene.keeper.full = True
        await publish(server, numbered(0, 3000))
        await eventually(lambda: scene.keeper.refusals >= 2)
        status = scene.collector.status
        assert status.spool_full and status.connected
        # Two buffers' worth of messages at most beyond the limit.
        assert 100 <= status.unaccepted < 100 + 2 * 65536 // 30
        assert scene.counters.mqtt_acknowledged == 0
        scene.keeper.full = False
        await eventually(lambda: len(scene.keeper.arrivals) == 3000)
        await eventually(lambda: scene.counters.mqtt_acknowledged == 3000)
        assert scene.counters.mqtt_connections == 1
    assert scene.keeper.payloads == numbered(0, 3000)
    assert scene.keeper.gaps == []


async def test_a_full_spool_and_a_lost_connection_lose_nothing(connect, broker, proxy, eventually):
    server = broker(*BROKER)
    link = proxy(server.host, server.port)
    async with play(connect, link) as scene:
        await eventually(lambda: scene.subscribed)
        scene.keeper.full = True
        await publish(server, numbered(0, 500))
        await eventually(lambda: scene.keeper.refusals)
        link.cut()
        await eventually(lambda: scene.counters.mqtt_connections == 2)
        refusals = scene.keeper.refusals
        await eventually(lambda: scene.keeper.refusals > refusals)
        scene.keeper.full = False
        await eventually(lambda: len(set(scene.keeper.payloads)) == 500)
    assert scene.keeper.gaps == []


async def test_an_orderly_stop_keeps_and_acknowledges_what_is_in_hand(connect, broker, eventually):
    server = broker(*BROKER)
    async with play(connect, server, stop_timeout_s=30.0) as scene:
        await eventually(lambda: scene.subscribed)
        scene.keeper.hold()
        await publish(server, numbered(0, 300))
        await eventually(lambda: scene.keeper.offered)
        stopping = asyncio.create_task(scene.stop(), name="stopping")
        await eventually(lambda: scene.collector._stop.is_set())
        scene.keeper.release()
        async with asyncio.timeout(10):
            await stopping
    assert scene.counters.mqtt_acknowledged == len(scene.keeper.arrivals) > 0
    await eventually(lambda: "Client collector disconnected" in server.log)
    async with play(connect, server) as second:
        await eventually(lambda: second.subscribed)
        rest = 300 - len(scene.keeper.arrivals)
        await eventually(lambda: len(second.keeper.arrivals) >= rest)
    assert scene.keeper.payloads + second.keeper.payloads == numbered(0, 300)


@pytest.mark.parametrize("when", ["connecting", "waiting", "full"])
async def test_a_stop_is_quick_whatever_is_going_on(connect, broker, proxy, eventually, when):
    server = broker()
    link = proxy(server.host, server.port)
    if when == "connecting":
        link.blackhole()
    elif when == "waiting":
        server.stop()
    patience = {"retry_cap_s": 30.0, "connect_timeout_s": 20.0, "stop_timeout_s": 30.0}
    async with play(connect, link, **patience) as scene:
        if when == "connecting":
            await eventually(lambda: link.connections == 1)
        elif when == "waiting":
            await eventually(lambda: scene.counters.mqtt_failures["link_lost"] >= 2)
        else:
            await eventually(lambda: scene.subscribed)
            scene.keeper.full = True
            await publish(server, [b"1"])
            await eventually(lambda: scene.keeper.refusals)
        async with asyncio.timeout(8):
            await scene.stop()
