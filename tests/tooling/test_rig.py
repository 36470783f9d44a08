"""The rig itself: what the other tests rely on when they hurt a server."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import ssl
import threading
import time
import warnings

import aiomqtt
import psycopg
import pytest

from tests.rig.proxy import TcpProxy


def rows(dsn, query):
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(query).fetchall()


def test_fresh_database_has_timescaledb_at_hand(timescale_dsn):
    rows_before = rows(timescale_dsn, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    assert rows_before == [(0,)]
    with psycopg.connect(timescale_dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION timescaledb")
        connection.execute("CREATE TABLE t (at timestamptz NOT NULL)")
        connection.execute("SELECT create_hypertable('t', by_range('at'))")


def test_plain_database_has_no_timescaledb(plain_dsn):
    query = "SELECT count(*) FROM pg_available_extensions WHERE name = 'timescaledb'"
    assert rows(plain_dsn, query) == [(0,)]


def test_database_dsn_is_empty_on_both_servers(database_dsn):
    query = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    assert rows(database_dsn, query) == [(0,)]


def test_private_database_survives_stop_kill_and_restart(database_server):
    server = database_server({"work_mem": "5MB"})
    assert rows(server.dsn, "SHOW work_mem") == [("5MB",)]
    dsn = server.create_database("kept")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
    server.kill()
    assert not server.running
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(dsn)
    server.start()
    assert "automatic recovery in progress" in server.log
    assert rows(dsn, "SELECT count(*) FROM t") == [(1000,)]
    server.stop("immediate")
    server.start()
    server.restart()
    assert rows(dsn, "SELECT count(*) FROM t") == [(1000,)]


def test_two_private_databases_know_nothing_of_each_other(database_server):
    first, second = database_server(), database_server()
    first.create_database("only_here")
    query = "SELECT count(*) FROM pg_database WHERE datname = 'only_here'"
    assert rows(first.dsn, query) == [(1,)]
    assert rows(second.dsn, query) == [(0,)]


async def collect_one(address, *, publish_after=None, **options):
    host, port = address
    async with aiomqtt.Client(host, port, timeout=5, **options) as client:
        await client.subscribe("rig/#", qos=1)
        if publish_after is not None:
            await client.publish(publish_after, b"payload", qos=1)
        async for message in client.messages:
            return str(message.topic)
    return None


async def test_private_broker_delivers(broker):
    mosquitto = broker()
    address = (mosquitto.host, mosquitto.port)
    async with asyncio.timeout(10):
        assert await collect_one(address, publish_after="rig/a") == "rig/a"


async def test_shared_broker_delivers(broker_address):
    async with asyncio.timeout(10):
        async with aiomqtt.Client(*broker_address, timeout=5) as client:
            await client.publish("rig/shared", b"", qos=1)


async def test_broker_keeps_to_users_and_acl(broker):
    mosquitto = broker(
        users={"collector": "secret"}, acl=["user collector", "topic readwrite rig/#"]
    )
    address = (mosquitto.host, mosquitto.port)
    with pytest.raises(aiomqtt.MqttError):
        async with aiomqtt.Client(*address, username="collector", password="wrong", timeout=5):
            pass
    async with asyncio.timeout(10):
        topic = await collect_one(
            address, username="collector", password="secret", publish_after="rig/b"
        )
    assert topic == "rig/b"
    mosquitto.set_users({"collector": "changed"})
    mosquitto.reload()
    async with aiomqtt.Client(*address, username="collector", password="changed", timeout=5):
        pass


async def test_broker_speaks_tls_and_asks_for_client_certificates(broker, certificates):
    authority, stranger = certificates(), certificates()
    mosquitto = broker(tls=authority, require_client_certificate=True)
    address = (mosquitto.host, mosquitto.port)
    context = authority.client_context(authority.client("node-1"))
    async with asyncio.timeout(10):
        assert await collect_one(address, tls_context=context, publish_after="rig/c") == "rig/c"
    for refused in (
        authority.client_context(),
        authority.client_context(stranger.client("node-1")),
        stranger.client_context(),
    ):
        # Under TLS 1.3 the server's refusal comes with the first read.
        with (
            dial(mosquitto) as plain,
            pytest.raises(ssl.SSLError),
            refused.wrap_socket(plain, server_hostname="localhost") as client,
        ):
            client.recv(1)


async def test_broker_with_persistence_keeps_a_session_over_a_restart(broker):
    mosquitto = broker(persistence=True)
    address = (mosquitto.host, mosquitto.port)
    async with aiomqtt.Client(*address, identifier="keeper", clean_session=False) as client:
        await client.subscribe("rig/#", qos=1)
    async with aiomqtt.Client(*address) as client:
        await client.publish("rig/d", b"kept", qos=1)
    mosquitto.restart()
    async with asyncio.timeout(10):
        async with aiomqtt.Client(*address, identifier="keeper", clean_session=False) as client:
            async for message in client.messages:
                assert message.payload == b"kept"
                break


def test_broker_killed_refuses_and_comes_back_on_its_port(broker):
    mosquitto = broker()
    mosquitto.kill()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((mosquitto.host, mosquitto.port), timeout=5)
    mosquitto.start()
    socket.create_connection((mosquitto.host, mosquitto.port), timeout=5).close()


@pytest.fixture
def echo_port():
    """A server that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads = []

    def serve(connection):
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except ConnectionError:
                return

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=serve, args=(connection,))
            threads.append(thread)
            thread.start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    acceptor.join()
    for thread in threads:
        thread.join()


def dial(link):
    return socket.create_connection((link.host, link.port), timeout=5)


def test_proxy_forwards_both_ways_and_counts(proxy, echo_port, eventually):
    link = proxy("127.0.0.1", echo_port)
    with dial(link) as client:
        client.sendall(b"x" * 200_000)
        received = 0
        while received < 200_000:
            received += len(client.recv(65536))
        assert (link.bytes_to_server, link.bytes_to_client) == (200_000, 200_000)
        assert link.connections == 1
    eventually(lambda: link.connections == 0)


def test_proxy_cut_resets(proxy, echo_port):
    link = proxy("127.0.0.1", echo_port)
    with dial(link) as client:
        client.sendall(b"ping")
        assert client.recv(4) == b"ping"
        assert link.cut() == 1
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with dial(link) as client:
        client.sendall(b"again")
        assert client.recv(5) == b"again"


def test_proxy_refuses_until_it_accepts(proxy, echo_port):
    link = proxy("127.0.0.1", echo_port)
    link.refuse()
    with pytest.raises(ConnectionRefusedError):
        dial(link)
    link.accept()
    dial(link).close()


def test_proxy_blackhole_swallows_and_heals(proxy, echo_port):
    link = proxy("127.0.0.1", echo_port)
    link.blackhole()
    with dial(link) as client:
        client.settimeout(0.3)
        client.sendall(b"lost")
        with pytest.raises(TimeoutError):
            client.recv(1)
        link.heal()
        client.settimeout(5)
        client.sendall(b"seen")
        assert client.recv(4) == b"seen"


def test_proxy_delays_without_losing_throughput(proxy, echo_port):
    link = proxy("127.0.0.1", echo_port)
    link.delay(to_server_s=0.1, to_client_s=0.1)
    with dial(link) as client:
        started = time.monotonic()
        for _ in range(20):
            client.sendall(b"tick")
        received = b""
        while len(received) < 80:
            received += client.recv(80)
        took_s = time.monotonic() - started
    assert received == b"tick" * 20
    assert took_s >= 0.2


def test_proxy_throttles(proxy, echo_port):
    link = proxy("127.0.0.1", echo_port)
    link.throttle(10_000)
    with dial(link) as client:
        started = time.monotonic()
        client.sendall(b"x" * 5_000)
        received = 0
        while received < 5_000:
            received += len(client.recv(65536))
        took_s = time.monotonic() - started
    assert took_s > 0.3


def test_proxy_corrupts_as_told(proxy, echo_port):
    link = proxy("127.0.0.1", echo_port)
    link.corrupt(to_server=bytes.upper)
    with dial(link) as client:
        client.sendall(b"ping")
        assert client.recv(4) == b"PING"


def test_proxy_resets_clients_when_nobody_listens_behind(proxy):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    link = proxy("127.0.0.1", port)
    # The reset may come as early as the connection.
    with pytest.raises(ConnectionResetError), dial(link) as client:
        client.recv(1)


def test_proxy_that_is_closed_at_any_moment_closes_what_it_accepted(echo_port):
    gc.collect()  # what others left is theirs
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(30):
            link = TcpProxy("127.0.0.1", echo_port)
            link.open()
            clients = [dial(link) for _ in range(3)]
            link.close()
            for client in clients:
                client.close()
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


def test_proxy_stands_in_for_a_database(proxy, timescale_dsn):
    parts = psycopg.conninfo.conninfo_to_dict(timescale_dsn)
    link = proxy(str(parts["host"]), int(str(parts["port"])))
    with psycopg.connect(link.dsn(timescale_dsn), autocommit=True) as connection:
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
        link.cut()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_eventually_waits_in_a_plain_test(eventually):
    answers = iter([0, None, "", "there"])
    assert eventually(lambda: next(answers), interval_s=0.001) == "there"
    with pytest.raises(AssertionError, match="not within"):
        eventually(lambda: False, timeout_s=0.01, interval_s=0.001)


async def test_eventually_leaves_the_loop_free_in_an_async_test(eventually):
    flag = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, flag.set)
    assert await eventually(flag.is_set)

    async def asserting():
        assert flag.is_set()
        return 7

    assert await eventually(asserting) == 7
    with pytest.raises(KeyError):
        await eventually(lambda: os.environ["NO_SUCH_VARIABLE"])
