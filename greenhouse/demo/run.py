"""The demo from its first line to its last: start in order, watch, stop in order, leave nothing."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from firmware_sims.fleet import run_fleet
from firmware_sims.modbus_house import modbus_house
from firmware_sims.mqtt_node import BrokerAddress
from firmware_sims.scenario import shipped
from greenhouse.demo.base import HOST, demo_site_text
from greenhouse.demo.broker import EmbeddedBroker
from greenhouse.demo.children import Child, ChildError, free_port, port_is_free, start_child
from greenhouse.demo.database import EmbeddedDatabase

DEFAULT_PORT = 8000
_HISTORY_S = 3 * 3600.0
_READY_S = 60.0
_LIVE_S = 60.0
_FRESH_S = 60.0
_POLL_S = 0.2
_MODBUS_SEED = 4

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """*data* None is a temporary folder that goes with the demo; *port* None takes 8000 or the next
    free one.
    """

    data: Path | None
    port: int | None
    browser: bool
    scenario: str


async def run_demo(options: DemoOptions, stop: asyncio.Event, say: Say) -> None:
    """Run until *stop* is set or a part fails; raises `ChildError` with what the part last said."""
    port = _choose_port(options.port)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(_data_folder(options.data))
        stack.enter_context(_locked(folder))
        demo = _Demo(folder, port, options, say)
        await demo.start(stack, stop)
        if not stop.is_set():
            demo.introduce()
            await demo.watch(stop)
        say("stopping")
    say("everything has ended" + (f"; data kept in {folder}" if options.data else ""))


class _Demo:
    """The parts of one run, in the order in which they depend on each other."""

    def __init__(self, folder: Path, port: int, options: DemoOptions, say: Say) -> None:
        self._folder = folder
        self._port = port
        self._options = options
        self._say = say
        self._children: list[Child] = []
        self._fleet: asyncio.Task[Any] | None = None
        self._started_at = time.monotonic()

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self._port}"

    async def start(self, stack: AsyncExitStack, stop: asyncio.Event) -> None:
        """Start everything; returns early when *stop* is set meanwhile."""
        database, broker = EmbeddedDatabase(self._folder), EmbeddedBroker(self._folder)
        async with self._step("database (PostgreSQL in a wheel)"):
            stack.push_async_callback(database.stop)
            await database.start()
            self._children.append(database.child)
        async with self._step(f"broker ({broker.name})"):
            stack.push_async_callback(broker.stop)
            await broker.start()
            self._children.append(broker.child)
        async with self._step("service"):
            line = modbus_house(_MODBUS_SEED, time.time())
            modbus_port = await stack.enter_async_context(line.listening(HOST))
            service = await self._start_service(database, broker, modbus_port)
            stack.push_async_callback(service.stop, signal.SIGTERM, 15.0)
            self._children.append(service)
            await self._until(stop, _READY_S, service, self._is_ready)
        if stop.is_set():
            return
        async with self._step("simulated base (4 houses, weather station, fertigation unit)"):
            await self._start_fleet(stack, broker)
            await self._until(stop, _LIVE_S, service, self._is_live)

    def introduce(self) -> None:
        """Print where everything is and what to try."""
        token = self._token()
        header = f"-H 'Authorization: Bearer {token}' -H 'Content-Type: application/json'"
        body = '{"device": "well", "v": {"water_temperature": 15.5}}'
        self._say(
            f"""
live after {time.monotonic() - self._started_at:.0f} s:  {self.address}/

  token for writing:  {token}

three things to try:
  1. open the page and watch the houses breathe:
       {self.address}/
  2. take a day of one series into a spreadsheet:
       curl '{self.address}/api/v1/series/h1-climate.air_temperature/readings?step=15m&format=csv'
  3. send a reading of your own, and see it on the page:
       curl {header} -d '{body}' {self.address}/api/v1/readings

for alerts within minutes, start it with --scenario power-cut or --scenario pump-failure
data and logs: {self._folder}
Ctrl-C stops everything."""
        )
        if self._options.browser:
            webbrowser.open(f"{self.address}/")

    async def watch(self, stop: asyncio.Event) -> None:
        """Return when *stop* is set; raise when a part ends by itself."""
        while not stop.is_set():
            for child in self._children:
                if not child.running:
                    raise ChildError(f"{child.name} has ended:\n{child.last_words()}")
            if self._fleet is not None and self._fleet.done():
                self._fleet.result()
                raise ChildError("the simulated base has ended")
            await _pause(stop, 1.0)

    @contextlib.asynccontextmanager
    async def _step(self, name: str) -> AsyncIterator[None]:
        self._say(f"starting {name} ...")
        started = time.monotonic()
        yield
        self._say(f"    ready after {time.monotonic() - started:.1f} s")

    async def _start_service(
        self, database: EmbeddedDatabase, broker: EmbeddedBroker, modbus_port: int
    ) -> Child:
        site_file = self._folder / "site.yaml"
        site_file.write_text(demo_site_text(broker, modbus_port), "utf-8")
        self._token()
        secret = self._folder / "dsn.secret"
        secret.touch(mode=0o600)
        secret.write_text(database.dsn, "utf-8")
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("GREENHOUSE_")},
            "GREENHOUSE_DSN_FILE": str(secret),
            "GREENHOUSE_SPOOL_DIR": str(self._folder / "spool"),
            "GREENHOUSE_TOKEN_FILE": str(self._folder / "token.secret"),
            "GREENHOUSE_HOST": HOST,
            "GREENHOUSE_PORT": str(self._port),
            "GREENHOUSE_OPEN_LOOPBACK_READS": "true",
        }
        command = [sys.executable, "-m", "greenhouse", "run", str(site_file)]
        log = self._folder / "service.log"
        return await start_child("the service", command, log, environment)

    async def _start_fleet(self, stack: AsyncExitStack, broker: EmbeddedBroker) -> None:
        stop = asyncio.Event()
        latest_us = await asyncio.to_thread(self._latest_us)
        work = run_fleet(
            shipped(self._options.scenario),
            BrokerAddress(HOST, broker.port),
            stop,
            history_s=_HISTORY_S,
            not_before_us=latest_us,
        )
        fleet = asyncio.create_task(work, name="fleet")
        self._fleet = fleet

        async def end() -> None:
            stop.set()
            await asyncio.wait([fleet], timeout=5.0)
            fleet.cancel()
            await asyncio.wait([fleet])

        stack.push_async_callback(end)

    async def _until(
        self, stop: asyncio.Event, timeout_s: float, child: Child, met: Callable[[], bool]
    ) -> None:
        deadline = time.monotonic() + timeout_s
        while not stop.is_set() and not await asyncio.to_thread(met):
            if not child.running:
                raise ChildError(f"{child.name} ended at once:\n{child.last_words()}")
            if self._fleet is not None and self._fleet.done():
                self._fleet.result()
            if time.monotonic() > deadline:
                raise ChildError(f"{child.name} is not ready yet:\n{child.last_words()}")
            await _pause(stop, _POLL_S)

    def _is_ready(self) -> bool:
        try:
            return bool(_get(f"{self.address}/healthz/ready"))
        except (urllib.error.URLError, OSError):
            return False

    def _is_live(self) -> bool:
        """Whether half of the series have a value of this very minute."""
        latest = _get(f"{self.address}/api/v1/latest?unseen=true")
        fresh = [one for one in latest if time.time() - _seconds(one) < _FRESH_S]
        return len(fresh) * 2 > len(latest) > 0

    def _latest_us(self) -> int:
        """Return when an earlier run of the demo ended, by its newest reading; 0 for none."""
        seen = [_seconds(one) for one in _get(f"{self.address}/api/v1/latest")]
        return round(max(seen, default=0.0) * 1e6)

    def _token(self) -> str:
        file = self._folder / "token.secret"
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(secrets.token_urlsafe(24), "ascii")
        return file.read_text("ascii").strip()


def _choose_port(wanted: int | None) -> int:
    if wanted is not None:
        if wanted and not port_is_free(HOST, wanted):
            raise ChildError(f"port {wanted} of {HOST} is taken; choose another with --port")
        return wanted or free_port()
    return DEFAULT_PORT if port_is_free(HOST, DEFAULT_PORT) else free_port()


@contextlib.contextmanager
def _data_folder(data: Path | None) -> Iterator[Path]:
    """Yield *data*, made if it is not there; or a folder that is removed again."""
    if data is not None:
        try:
            data.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ChildError(f"--data {data}: cannot be made: {error}") from error
        yield data.resolve()
        return
    folder = Path(tempfile.mkdtemp(prefix="greenhouse-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a second demo out of *folder*; the lock ends with the process, however it ends."""
    try:
        handle = os.open(folder / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ChildError(f"--data {folder}: cannot be used: {error}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise ChildError(f"--data {folder}: another demo is using it") from error
    try:
        yield
    finally:
        os.close(handle)


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5.0) as answer:
        return json.load(answer)


def _seconds(reading: dict[str, Any]) -> float:
    at = reading["observed_at"]
    return datetime.fromisoformat(at).timestamp() if at else 0.0


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
