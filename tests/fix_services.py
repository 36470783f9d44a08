"""Fixtures: real databases and brokers, and what a test may do to them.

    timescale_dsn    an empty database on the shared TimescaleDB
    plain_dsn        an empty database on an embedded PostgreSQL without TimescaleDB
    database_dsn     the test runs once on each of the two
    database_server  a factory of private TimescaleDB servers to stop, kill and restart
    broker           a factory of private mosquittos to stop, kill and restart
    broker_address   host and port of the shared mosquitto
    certificates     a factory of certificate authorities
    chromium_path    a Chromium for Playwright
    proxy            a factory of TCP proxies to cut, delay, throttle and blackhole
    eventually       wait for a condition with a deadline

A test that needs the real services carries the mark `services` by using these.  Where the services
cannot be had it is skipped with the reason, or fails when GREENHOUSE_REQUIRE_SERVICES is set.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

import pytest

from tests.rig import shared
from tests.rig.backend import PathMosquitto, find_backend
from tests.rig.broker import Broker
from tests.rig.certificates import Certificates
from tests.rig.database import DatabaseServer, create_database, drop_database
from tests.rig.place import Backend, own_name
from tests.rig.plain import WheelPostgres
from tests.rig.process import free_port
from tests.rig.proxy import TcpProxy
from tests.rig.root import services_dir, why_no_root
from tests.rig.waiting import eventually as _eventually

SERVICE_FIXTURES = frozenset({"timescale_dsn", "database_server", "broker", "broker_address"})

_numbers = itertools.count(1)


def services_missing(what: str, reason: str = "") -> NoReturn:
    """Skip the test for want of *what*, or fail it where the services are required."""
    reason = reason or (
        os.environ.get("GREENHOUSE_TEST_SERVICES_MISSING")
        or why_no_root()
        or "scripts/services up has not been run"
    )
    if os.environ.get("GREENHOUSE_REQUIRE_SERVICES"):
        pytest.fail(f"{what} is required here and missing: {reason}", pytrace=False)
    pytest.skip(f"no {what}: {reason}")


@pytest.fixture(scope="session")
def services_backend() -> Backend | None:
    """What can make private servers; None where there is nothing."""
    backend = find_backend()
    if backend is not None:
        backend.sweep()
    return backend


@pytest.fixture(scope="session")
def timescale_server_dsn(services_backend: Backend | None) -> Iterator[str | None]:
    """The shared TimescaleDB as superuser; None where there is none."""
    if dsn := os.environ.get("GREENHOUSE_TEST_DSN"):
        yield dsn
        return
    with contextlib.ExitStack() as stack:
        services_dir().mkdir(parents=True, exist_ok=True)
        stack.enter_context(shared.in_use())
        if state := shared.running_state():
            yield state.dsn
        elif services_backend is not None:
            # Nobody ran `scripts/services up`; a server for this session costs a second.
            yield _start_database(services_backend, stack, {}).dsn
        else:
            yield None


def _start_database(
    backend: Backend, stack: contextlib.ExitStack, settings: Mapping[str, str]
) -> DatabaseServer:
    port = free_port()
    place = backend.make_place("database", own_name(next(_numbers)), port)
    stack.callback(place.remove)
    server = DatabaseServer(backend, place, port, settings)
    server.start()
    return server


@pytest.fixture
def timescale_dsn(timescale_server_dsn: str | None) -> Iterator[str]:
    """The DSN of an empty database in a real TimescaleDB; dropped afterwards.

    The extension is installed on the server, not in the database.
    """
    if timescale_server_dsn is None:
        services_missing("TimescaleDB")
    with _fresh_database(timescale_server_dsn) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def plain_server_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An embedded PostgreSQL without TimescaleDB, as superuser."""
    programs = WheelPostgres()
    place = programs.make_place(tmp_path_factory.mktemp("plain"))
    try:
        server = DatabaseServer(programs, place, free_port())
        server.start()
        yield server.dsn
    finally:
        place.remove()


@pytest.fixture
def plain_dsn(plain_server_dsn: str) -> Iterator[str]:
    """The DSN of an empty database in a plain PostgreSQL; dropped afterwards."""
    with _fresh_database(plain_server_dsn) as dsn:
        yield dsn


@pytest.fixture(
    params=[pytest.param("timescale_dsn", marks=pytest.mark.services), "plain_dsn"],
    ids=["timescale", "plain"],
)
def database_dsn(request: pytest.FixtureRequest) -> str:
    """The DSN of an empty database, once in TimescaleDB and once in plain PostgreSQL."""
    dsn: str = request.getfixturevalue(request.param)
    return dsn


@contextlib.contextmanager
def _fresh_database(server_dsn: str) -> Generator[str]:
    name = f"test_{own_name(next(_numbers))}"
    create_database(server_dsn, name)
    try:
        yield _with_database(server_dsn, name)
    finally:
        drop_database(server_dsn, name)


def _with_database(dsn: str, name: str) -> str:
    before, _, query = dsn.partition("?")
    return f"{before.rpartition('/')[0]}/{name}{'?' if query else ''}{query}"


class DatabaseServerFactory(Protocol):
    """Makes private database servers, started."""

    def __call__(self, settings: Mapping[str, str] | None = None) -> DatabaseServer:
        """Start a server; *settings* are lines of postgresql.conf."""
        ...


@pytest.fixture
def database_server(services_backend: Backend | None) -> Iterator[DatabaseServerFactory]:
    """A factory of private PostgreSQL 17 + TimescaleDB servers; see `DatabaseServer`."""
    with contextlib.ExitStack() as stack:

        def make(settings: Mapping[str, str] | None = None) -> DatabaseServer:
            if services_backend is None:
                services_missing("TimescaleDB")
            return _start_database(services_backend, stack, settings or {})

        yield make


class BrokerFactory(Protocol):
    """Makes private brokers, started."""

    def __call__(
        self,
        *config: str,
        users: Mapping[str, str] | None = None,
        acl: Sequence[str] = (),
        tls: Certificates | None = None,
        require_client_certificate: bool = False,
        persistence: bool = False,
    ) -> Broker:
        """Start a mosquitto; *config* are further lines of mosquitto.conf."""
        ...


@pytest.fixture
def broker(services_backend: Backend | None, tmp_path: Path) -> Iterator[BrokerFactory]:
    """A factory of private mosquittos; see `Broker`.

    The backend's mosquitto is taken before one on PATH, so that machines test the same version
    where they can.
    """
    with contextlib.ExitStack() as stack:

        def make(*config: str, **options: Any) -> Broker:
            port, number = free_port(), next(_numbers)
            if services_backend is not None:
                place = services_backend.make_place("broker", own_name(number), port)
                server = Broker(services_backend, place, port, config, **options)
            else:
                try:
                    on_path = PathMosquitto()
                except LookupError:
                    services_missing("mosquitto")
                folder = tmp_path / f"mosquitto-{number}"
                folder.mkdir()
                place = on_path.make_place(folder)
                server = Broker(on_path, place, port, config, **options)
            stack.callback(place.remove)
            server.start()
            return server

        yield make


@pytest.fixture
def broker_address(broker: BrokerFactory) -> tuple[str, int]:
    """Host and port of a mosquitto that anybody may use; share it with nobody's topics in mind."""
    if address := os.environ.get("GREENHOUSE_TEST_MQTT"):
        host, _, port = address.rpartition(":")
        return host, int(port)
    if state := shared.running_state():
        return "127.0.0.1", state.broker.port
    private = broker()
    return private.host, private.port


@pytest.fixture
def certificates(tmp_path: Path) -> Callable[..., Certificates]:
    """A factory of certificate authorities; see `Certificates`."""

    def make(**options: Any) -> Certificates:
        folder = tmp_path / f"certificates-{next(_numbers)}"
        folder.mkdir()
        return Certificates(folder, **options)

    return make


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The path of a Chromium that Playwright can start (`executable_path`, without sandbox)."""
    for name in ("chromium", "chromium-browser", "chromium-headless-shell", "google-chrome"):
        if found := shutil.which(name):
            return found
    services_missing("Chromium", "none of its names is on PATH")


@pytest.fixture
def proxy() -> Iterator[Callable[[str, int], TcpProxy]]:
    """A factory of TCP proxies, open; see `TcpProxy`."""
    with contextlib.ExitStack() as stack:

        def make(target_host: str, target_port: int) -> TcpProxy:
            made = TcpProxy(target_host, target_port)
            made.open()
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """`tests.rig.waiting.eventually`."""
    return _eventually
