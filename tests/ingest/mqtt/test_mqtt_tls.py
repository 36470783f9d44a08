"""TLS and client certificates, and what is said when they do not fit; a real mosquitto."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import uvloop

from ingest.mqtt.tls import tls_context
from tests.ingest.mqtt.scene import VERSIONS, play, publish


@pytest.fixture(params=VERSIONS, ids=[version.version for version in VERSIONS])
def connect(request):
    return request.param


def context_of(authority, pair=None):
    """Build the context as the service does."""
    files = (str(pair.certificate), str(pair.key)) if pair else (None, None)
    return tls_context(str(authority), *files, now=datetime.now(UTC))


async def test_a_trusted_broker_is_talked_to(connect, broker, certificates, eventually):
    trust = certificates()
    server = broker(tls=trust)
    async with play(connect, server, tls=context_of(trust.authority)) as scene:
        await eventually(lambda: scene.subscribed)
        payload = b"x" * 300_000  # many TLS records
        await publish(server, [payload], tls_context=trust.client_context())
        await eventually(lambda: scene.keeper.arrivals)
    assert scene.keeper.payloads == [payload]
    assert scene.counters.mqtt_failures == {}


async def test_our_certificate_lets_us_in(connect, broker, certificates, eventually):
    trust = certificates()
    server = broker(tls=trust, require_client_certificate=True)
    pair = trust.client("collector")
    async with play(connect, server, tls=context_of(trust.authority, pair)) as scene:
        await eventually(lambda: scene.subscribed)
        await publish(server, [b"1"], tls_context=trust.client_context(trust.client("d1")))
        await eventually(lambda: scene.keeper.arrivals)


async def said(scene, eventually) -> str:
    await eventually(lambda: scene.counters.mqtt_failures)
    assert scene.counters.mqtt_failures == {"refused": 1}, "a person must mend it: tried slowly"
    return scene.collector.status.problem


async def test_without_our_certificate_we_are_told(connect, broker, certificates, eventually):
    trust = certificates()
    server = broker(tls=trust, require_client_certificate=True)
    async with play(connect, server, tls=context_of(trust.authority)) as scene:
        await eventually(lambda: scene.counters.mqtt_failures)
        # Its refusal may be overtaken by the reset of the connection.
        problem = scene.collector.status.problem
        assert "did not take our certificate" in problem or "another certificate" in problem


async def test_a_broker_of_another_authority_is_refused(connect, broker, certificates, eventually):
    server = broker(tls=certificates())
    async with play(connect, server, tls=context_of(certificates().authority)) as scene:
        problem = await said(scene, eventually)
    assert f"127.0.0.1:{server.port} (TLS) is not trusted" in problem
    assert "broker.tls.ca_file" in problem


async def test_an_expired_broker_is_refused(connect, broker, certificates, eventually):
    trust = certificates(valid_days=-1)
    server = broker(tls=trust)
    async with play(connect, server, tls=context_of(trust.authority)) as scene:
        assert "has expired" in await said(scene, eventually)


async def test_a_broker_under_another_name_is_refused(connect, broker, certificates, eventually):
    trust = certificates()
    server = broker(tls=trust)
    options = {"tls": context_of(trust.authority), "host": "127.0.0.2"}
    async with play(connect, server, **options) as scene:
        await eventually(lambda: scene.counters.mqtt_failures)
        # mosquitto listens on 127.0.0.1 alone; where it can be reached, the name is what is said.
        problem = scene.collector.status.problem
        assert "another name" in problem or "cannot reach" in problem


async def test_tls_to_a_broker_without_it_is_said(connect, broker, certificates, eventually):
    server = broker()
    async with play(connect, server, tls=context_of(certificates().authority)) as scene:
        await eventually(lambda: scene.counters.mqtt_failures)
        problem = scene.collector.status.problem
    assert "TLS" in problem


async def test_no_tls_to_a_broker_with_it_is_said(connect, broker, certificates, eventually):
    server = broker(tls=certificates())
    async with play(connect, server) as scene:
        await eventually(lambda: scene.counters.mqtt_failures)
        assert "does it expect TLS?" in scene.collector.status.problem


async def test_a_corrupted_tls_link_is_left_and_nothing_altered(
    connect, broker, certificates, proxy, eventually
):
    trust = certificates()
    server = broker(tls=trust)
    link = proxy(server.host, server.port)
    async with play(connect, link, tls=context_of(trust.authority)) as scene:
        await eventually(lambda: scene.subscribed)
        link.corrupt(to_client=lambda chunk: chunk[:-1] + bytes([chunk[-1] ^ 1]))
        await publish(server, [b"true"], tls_context=trust.client_context())
        await eventually(lambda: scene.counters.mqtt_failures["link_lost"])
        assert scene.keeper.arrivals == []
        link.heal()
        await eventually(lambda: scene.keeper.arrivals)
    assert scene.keeper.payloads == [b"true"]


def test_it_works_on_uvloop_too(connect, broker, certificates, eventually):
    trust = certificates()
    server = broker(tls=trust)

    async def go() -> list[bytes]:
        async with play(connect, server, tls=context_of(trust.authority)) as scene:
            await eventually(lambda: scene.subscribed)
            scene.keeper.full = True
            payloads = [b"x" * 300_000, b"2"]
            await publish(server, payloads, tls_context=trust.client_context())
            await eventually(lambda: scene.keeper.refusals)
            scene.keeper.full = False
            await eventually(lambda: len(scene.keeper.arrivals) == 2)
            return scene.keeper.payloads

    assert uvloop.run(go()) == [b"x" * 300_000, b"2"]
