"""The service: every room introduced to the others, started and stopped in order.

    start: spool ▶ pipeline ▶ HTTP ▶ collectors
    stop:  commands under way ▶ collectors ▶ HTTP ▶ pipeline ▶ spool

The database is not waited for: what arrives before it answers lies in the spool.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import uvicorn

from api.app import create_app
from api.health import (
    BrokerHealth,
    BusDeviceHealth,
    BusHealth,
    DatabaseHealth,
    Health,
    SpoolHealth,
)
from api.services import ApiSettings, Services
from api.tokens import Tokens
from devices.codecs.library import CODECS
from devices.derivation import input_ids
from devices.registry import Registry
from devices.site_file import BrokerEntry, SiteFile
from greenhouse.alerting.room import AlertRoom
from greenhouse.command_desk import CommandDesk
from greenhouse.derivation_keeper import DerivationKeeper
from greenhouse.doorstep import Doorstep
from greenhouse.laboratory import ResultTeller
from greenhouse.onboarding import Onboarding
from greenhouse.quality_room import QualityRoom
from greenhouse.registry_keeper import RegistryKeeper
from greenhouse.reload import Reload
from greenhouse.replayer import Replayer
from greenhouse.settings import Settings, SettingsError, read_secret
from greenhouse.site_files import Codecs, attached, site_file_filters
from greenhouse.site_follower import SiteFollower
from greenhouse.sparkplug import SparkplugRoom
from greenhouse.uplink_keeper import UplinkKeeper
from ingest.collector import Inlet
from ingest.counters import Counters
from ingest.gap_journal import GapJournal
from ingest.modbus.assembly import dtu_names, make_bus
from ingest.modbus.bus import Bus
from ingest.modbus.bus_core import PollResult
from ingest.modbus.collector import ModbusCollector
from ingest.modbus.dial_in import DialIn
from ingest.mqtt.collector import MqttCollector
from ingest.mqtt.memory import MemoryFile
from ingest.mqtt.mqtt5 import Mqtt5Connection
from ingest.mqtt.mqtt311 import Mqtt311Connection
from ingest.mqtt.settings import MqttSettings
from ingest.mqtt.settings import SettingsError as MqttSettingsError
from ingest.mqtt.tls import tls_context
from ingest.pipeline import DecoderSource, Pipeline
from ingest.spool import Spool
from storage.commands import CommandStore
from storage.dead_letters import DeadLetterStore
from storage.derived import DerivedStore
from storage.errors import StorageError
from storage.gaps import GapStore
from storage.history import History
from storage.laboratory import LaboratoryStore
from storage.maintenance import Maintenance
from storage.migrate import migrate
from storage.pool import Pool
from storage.readings import ReadingWriter
from storage.registry import RegistryStore

_log = logging.getLogger(__name__)

_REGISTRY_EVERY_S = 2.0
_GAPS_RETRY_S = 5.0
_MAINTENANCE_EVERY_S = 3600.0
_DEFAULT_TOPIC = "gh/{site}/{device}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What one process is to run: *site_file* as read from *path*, and which halves of it."""

    site_file: SiteFile
    path: Path
    settings: Settings
    ingest: bool = True
    api: bool = True


async def run_service(
    plan: Plan, stop: asyncio.Event, listening: Callable[[int], None] = lambda port: None
) -> None:
    """Run until *stop* is set, then stop in order; *listening* is told the port of HTTP.

    Raises `SettingsError` for what a person must mend before anything can start, `SpoolUnusable`
    and `storage.errors.MigrationError`.
    """
    async with AsyncExitStack() as stack:
        house = await _House.open(plan, stack)
        async with asyncio.TaskGroup() as tasks:
            background: list[asyncio.Task[None]] = [
                tasks.create_task(work, name=name) for name, work in house.background().items()
            ]
            pipeline = None
            if house.pipeline is not None:
                pipeline = tasks.create_task(house.pipeline.run(), name="pipeline")
            http = None
            if plan.api:
                sock = _listen(plan.settings.host, plan.settings.port)
                server = _Server(_uvicorn_config(house.app()))
                http = tasks.create_task(server.serve(sockets=[sock]), name="http")
                listening(sock.getsockname()[1])
            buses_stop = asyncio.Event()  # a command under way needs its bus to the end
            collectors = [
                tasks.create_task(collector.run(when), name=name)
                for name, collector, when in (
                    ("mqtt", house.mqtt, stop),
                    ("modbus", house.modbus, buses_stop),
                )
                if collector is not None
            ]
            await stop.wait()
            _log.info("stopping")
            if house.desk is not None:
                await house.desk.close(plan.settings.stop_timeout_s / 3)
            buses_stop.set()
            if collectors:
                await asyncio.wait(collectors)
            if http is not None:
                server.should_exit = True
                await asyncio.wait([http])
            if pipeline is not None and house.pipeline is not None:
                house.pipeline.stop()
                await asyncio.wait([pipeline])
                await house.quality.close()
            await house.alerts.close(plan.settings.stop_timeout_s / 5)
            for task in background:
                task.cancel()
    _log.info("stopped")


class _House:
    """The rooms of one process, opened and introduced to each other."""

    def __init__(self, plan: Plan, pool: Pool) -> None:
        self.plan = plan
        self.pool = pool
        self.counters = Counters()
        self.letters = DeadLetterStore(pool)
        self.gaps = GapStore(pool)
        broker = plan.site_file.broker
        codecs = Codecs(CODECS, plan.site_file)
        folder = plan.settings.spool_dir
        self.prepared = asyncio.Event()
        self.quality = QualityRoom(
            plan.site_file.checks,
            folder if plan.ingest else None,
            pool,
            plan.settings.dsn,
            lambda: self.registry.current,
            lambda: self.registry.archive,
            self.prepared,
        )
        topics = broker.templates if broker else _DEFAULT_TOPIC
        self.decoders = DecoderSource(topics, codecs, self.quality.judge)
        self.uplinks = UplinkKeeper(self.decoders.uplinks, folder / "uplinks.json")
        self.doorstep = Doorstep(self.letters, pool, self.decoders, self.counters)
        self.registry = RegistryKeeper(
            pool, self.decoders, folder / "registry.json", self._watch_inputs
        )
        self.journal = GapJournal(folder / "gaps.json", self.counters)
        self.spool: Spool | None = None
        self.pipeline: Pipeline | None = None
        self.writer: ReadingWriter | None = None
        self.mqtt: MqttCollector | None = None
        self.mqtt_settings: MqttSettings | None = None
        self.sparkplug: SparkplugRoom | None = None
        self.modbus: ModbusCollector | None = None
        self.alerts = AlertRoom(
            plan.site_file,
            plan.path,
            pool,
            lambda: self.registry.current,
            self.counters,
            self.prepared,
            folder / "alerts" if plan.ingest else None,
            self._spool_lag_s,
        )
        self.derivations = DerivationKeeper(
            DerivedStore(pool), lambda: self.registry.current, [self.alerts.listener]
        )
        self.commands = CommandStore(pool)
        self.results = LaboratoryStore(pool)
        self.desk: CommandDesk | None = None
        self.reload: Reload | None = None

    @classmethod
    async def open(cls, plan: Plan, stack: AsyncExitStack) -> _House:
        """Open everything that is opened before the first task; *stack* closes it."""
        settings = plan.settings
        pool = await stack.enter_async_context(Pool(settings.dsn))
        house = cls(plan, pool)
        if not plan.ingest:
            return house
        mqtt = _mqtt_settings(plan)
        settings.spool_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
        spool = Spool(
            settings.spool_dir,
            house.counters,
            quota_bytes=settings.spool_max_bytes,
            min_free_share=settings.spool_min_free_share,
        )
        house.spool = await stack.enter_async_context(spool)
        house.writer = await stack.enter_async_context(ReadingWriter(settings.dsn))
        house.pipeline = Pipeline(
            house.spool,
            house.decoders,
            house.writer,
            house.doorstep,
            house.counters,
            (house.alerts.listener,),
            stop_deadline_s=settings.stop_timeout_s / 2,
            retry_cap_s=5.0,
            may_store=house.quality.may_store,
        )
        house.quality.pipeline = house.pipeline
        await house.quality.recall()
        await house.uplinks.recall()
        await house.registry.recall()
        follower = SiteFollower(
            plan.path, house.decoders, house.doorstep, lambda: house.mqtt, house.alerts.use
        )
        house.registry.following = follower.follow
        house.reload = Reload(plan.path, pool, follower, house.registry, house.decoders)
        await house.journal.recall()
        if mqtt is not None:
            house.mqtt_settings = mqtt
            house.sparkplug = house._sparkplug(house.spool)
            await house.sparkplug.inlet.recall()
            house.mqtt = house._mqtt(mqtt, house.sparkplug.inlet)
        if plan.site_file.buses:
            house.modbus = house._modbus(house.spool)
            house.desk = CommandDesk(plan.site_file, house.modbus.bus, house.commands)
        return house

    def _modbus(self, spool: Spool) -> ModbusCollector:
        """Return the collector of all buses; their turns are spread so that none ask at once."""
        site_file, settings = self.plan.site_file, self.plan.settings
        names = dtu_names(site_file.buses)
        dial_in = DialIn(settings.dial_in_host, settings.dial_in_port, names) if names else None
        now_s = asyncio.get_running_loop().time()

        def make_buses(publish: Callable[[str, PollResult], None]) -> list[Bus]:
            return [
                make_bus(
                    bus,
                    attached(site_file.slaves.get(bus.code, ())),
                    publish,
                    now_s,
                    dial_in,
                    phase_s=index / len(site_file.buses),
                )
                for index, bus in enumerate(site_file.buses)
            ]

        return ModbusCollector(make_buses, spool, self.journal, dial_in)

    def _sparkplug(self, spool: Spool) -> SparkplugRoom:
        site_file = self.plan.site_file
        return SparkplugRoom(
            site_file.sparkplug,
            site_file.registry,
            lambda: self.registry.current,
            spool,
            self.plan.settings.spool_dir,
            self.letters,
            self.journal,
            self.counters,
        )

    def _mqtt(self, mqtt: MqttSettings, inlet: Inlet) -> MqttCollector:
        broker = self.plan.site_file.broker
        newest = broker is not None and broker.protocol == "5"
        return MqttCollector(
            mqtt,
            Mqtt5Connection if newest else Mqtt311Connection,
            inlet,
            self.journal,
            self.counters,
            MemoryFile(self.plan.settings.spool_dir / "mqtt-session.json"),
            stop_timeout_s=self.plan.settings.stop_timeout_s / 3,
        )

    def background(self) -> dict[str, Coroutine[None, None, None]]:
        """Return what runs beside the flow of readings, by the name of its task."""
        work: dict[str, Coroutine[None, None, None]] = {
            "registry": self._keep_registry(),
            "alerts": self.alerts.run(),
            **self.quality.background(),
        }
        if self.spool is not None:
            inlet = self.sparkplug.inlet if self.sparkplug is not None else self.spool
            replayer = Replayer(self.letters, inlet)
            work["gaps"] = self.journal.deliver(self.gaps.put, _GAPS_RETRY_S)
            work["replays"] = replayer.run()
            work["unclaimed"] = self.doorstep.run()
            work["uplinks"] = self.uplinks.run()
            work["maintenance"] = self._maintain()
            work["derivations"] = self._derive()
            work["results"] = self._tell_results()
        if self.reload is not None:
            work["reload"] = self.reload.run()
        broker, mqtt = self.plan.site_file.broker, self.mqtt
        if self.sparkplug and self.mqtt_settings and broker and mqtt:
            work |= self.sparkplug.work(
                self.mqtt_settings, broker.protocol, lambda: mqtt.status.subscribed
            )
        return work

    def _watch_inputs(self, registry: Registry) -> None:
        self.quality.adopt(registry)
        if self.writer is not None:
            self.writer.watch(input_ids(registry))

    async def _derive(self) -> None:
        await self.prepared.wait()
        await self.derivations.run()

    async def _tell_results(self) -> None:
        teller = ResultTeller(self.results, lambda batch: self.alerts.listener.offer(batch, True))
        await self.prepared.wait()
        await teller.run()

    async def _keep_registry(self) -> None:
        await self.registry.prepare(self._bring_up_database)
        self.prepared.set()
        await self.registry.follow(_REGISTRY_EVERY_S)

    async def _bring_up_database(self) -> None:
        """Migrate and apply the site file; only the process that ingests changes anything."""
        if not self.plan.ingest:
            return
        report = await migrate(self.plan.settings.dsn)
        if report.applied:
            _log.info("database migrated: %s", ", ".join(report.applied))
        site_file = self.plan.site_file
        store = RegistryStore(self.pool)
        changes = await store.apply(site_file.registry, site_file.retention_s)
        if changes:
            _log.info("site file applied: %s", changes)

    async def _maintain(self) -> None:
        """Maintain at the start and every hour; continuous aggregates are only as good as that."""
        maintenance = Maintenance(self.plan.settings.dsn)
        await self.prepared.wait()
        while True:
            try:
                report = await maintenance.run(datetime.now(UTC))
            except StorageError as error:
                _log.error("maintenance put off for an hour: %s", error)
            else:
                _log.info("maintenance: %s", report)
            await asyncio.sleep(_MAINTENANCE_EVERY_S)

    def app(self) -> Callable[..., Awaitable[None]]:
        """Return the HTTP application over these rooms."""
        settings = self.plan.settings
        services = Services(
            registry=lambda: self.registry.current,
            archive=lambda: self.registry.archive,
            history=History(self.pool),
            dead_letters=self.letters,
            gaps=self.gaps,
            health=self.health,
            counters=self.counters,
            tokens=Tokens(settings.tokens),
            inlet=self.spool,
            commands=self.desk,
            alerts=self.alerts.desk,
            packs=self.alerts.packs,
            onboarding=Onboarding(self.plan.path, self.pool, self.registry.catch_up),
            command_shelf=self.commands,
            results=self.results,
            calibrations=self.quality,
            settings=ApiSettings(
                open_loopback_reads=settings.open_loopback_reads, docs=settings.api_docs
            ),
        )
        return create_app(services)

    async def health(self) -> Health:
        """Return how every part is, from what each knows already; asks nobody."""
        registry = self.registry
        return Health(
            version=version("greenhouse-monitor"),
            database=DatabaseHealth(
                reachable=not registry.problem,
                edition=registry.edition or "",
                reason=registry.problem,
            ),
            spool=self._spool_health(),
            brokers=self._broker_health(),
            buses=self._bus_health(),
            edges=self.sparkplug.health() if self.sparkplug is not None else (),
            alerts=self.alerts.health(),
            calibrations=self.quality.health(time.time_ns() // 1000),
            derivations=self.derivations.health() if self.spool is not None else None,
        )

    def _spool_lag_s(self) -> float:
        return self.spool.lag(time.time_ns() // 1000).age_s if self.spool is not None else 0.0

    def _spool_health(self) -> SpoolHealth | None:
        if self.spool is None:
            return None
        lag = self.spool.lag(time.time_ns() // 1000)
        problem = self.spool.problem
        writing = self.pipeline.problem if self.pipeline is not None else ""
        return SpoolHealth(
            accepting=not problem,
            lag_s=lag.age_s,
            size_bytes=self.spool.used_bytes,
            reason=problem or writing,
        )

    def _bus_health(self) -> tuple[BusHealth, ...]:
        if self.modbus is None:
            return ()
        return tuple(
            BusHealth(
                status.bus,
                status.connected,
                status.error,
                tuple(
                    BusDeviceHealth(one.device, one.state.value, one.error) for one in status.slaves
                ),
                asdict(status.counters),
            )
            for status in self.modbus.status()
        )

    def _broker_health(self) -> tuple[BrokerHealth, ...]:
        broker = self.plan.site_file.broker
        if self.mqtt is None or broker is None:
            return ()
        status = self.mqtt.status
        name = f"{broker.host}:{broker.port}"
        return (BrokerHealth(name, status.connected, status.problem),)


def _mqtt_settings(plan: Plan) -> MqttSettings | None:
    """Return the broker section with its secrets read; None where there is no broker."""
    broker = plan.site_file.broker
    if broker is None:
        return None
    mistakes: list[str] = []
    password = None
    if broker.password_file is not None:
        file = _beside(plan.path, broker.password_file)
        password = read_secret("broker.password_file", file, mistakes).encode()
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    try:
        return MqttSettings(
            host=broker.host,
            port=broker.port,
            client_id=broker.client_id,
            topic_filters=site_file_filters(plan.site_file),
            keepalive_s=broker.keepalive,
            session_expiry_s=round(broker.session_expiry),
            username=broker.username,
            password=password,
            tls=_tls(plan.path, broker),
        )
    except MqttSettingsError as error:
        raise SettingsError(f"{plan.path}: broker: {error}") from error


def _tls(path: Path, broker: BrokerEntry) -> ssl.SSLContext | None:
    if broker.tls is None:
        return None
    entry = broker.tls
    files = [
        _beside(path, name) if name is not None else None
        for name in (entry.ca_file, entry.cert_file, entry.key_file)
    ]
    return tls_context(*files, now=datetime.now(UTC))


def _beside(path: Path, name: str) -> str:
    """Return *name* as seen from the folder of the site file: secrets stand beside it."""
    return str(path.parent / name)


class _Server(uvicorn.Server):
    """Uvicorn that leaves the signals to the command line."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _uvicorn_config(app: Callable[..., Awaitable[None]]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=65_536,
        limit_concurrency=1_000,
    )


def _listen(host: str, port: int) -> socket.socket:
    """Bind before anything depends on it, so that a taken port is told as such."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise SettingsError(f"cannot listen on {host}:{port}: {error}") from error
    return sock
