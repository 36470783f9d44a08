"""A small base to ask about, and what stands in for the database where no SQL is in question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import httpx
import numpy as np
from fastapi import FastAPI

from api.app import create_app
from api.health import DatabaseHealth, Health
from api.services import ApiSettings, Services
from api.tokens import Tokens
from devices.gap import Gap
from devices.quality import BAD_MASK
from devices.reading import Batch
from devices.registry import Registry
from devices.site_file import read_site_file
from ingest.collector import Arrival, Inlet, SpoolFull
from ingest.counters import Counters
from storage.dead_letters import DeadLetterStore
from storage.errors import DatabaseUnavailable
from storage.gaps import GapStore
from storage.history import Buckets, History, Points, Step
from storage.pool import Pool

TOKEN = "a-long-and-random-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOW_US = 1_717_200_000_000_000  # 2024-06-01T00:00:00Z
MINUTE_US = 60_000_000

SITE_FILE = """
version: 1
sites:
  - code: zhangye
    kind: city
    name: {zh: 张掖市, en: Zhangye}
    latitude: 38.9
    longitude: 100.4
    sites:
      - code: ganzhou
        kind: county
        name: {zh: 甘州区, en: Ganzhou}
        sites:
          - code: base-1
            kind: base
            name: {zh: 一号基地, en: Base 1}
            sites:
              - code: house-1
                kind: greenhouse
                name: {zh: 一号温室, en: House 1}
                area_m2: 3200
                crop: tomato
                sites:
                  - {code: house-1-north, kind: zone, name: {zh: 北区, en: North}}
              - {code: house-2, kind: greenhouse, name: {zh: 二号温室, en: House 2}}
      - code: westland
        kind: county
        name: {zh: 对照区, en: Westland}
        timezone: Europe/Amsterdam
        sites:
          - {code: house-nl, kind: greenhouse, name: {en: Dutch house}}
broker: {host: 127.0.0.1}
devices:
  - code: climate-1
    site: house-1
    transport: http
    interval: 10s
    name: {zh: 气候站, en: Climate node}
    series:
      - {quantity: air_temperature}
      - {quantity: relative_humidity}
      - {quantity: co2, key: CO2}
      - {quantity: soil_moisture, channel: north, site: house-1-north, interval: 5min}
  - code: climate-2
    site: house-2
    transport: http
    interval: 10s
    series:
      - {quantity: air_temperature, unit: °F}
      - {quantity: illuminance, unit: klx}
  - code: station
    site: base-1
    placement: outdoor
    interval: 1min
    series:
      - {quantity: global_radiation}
      - {quantity: wind_speed}
      - {quantity: battery_level, name: {zh: '=1+1 <b>电池</b>', en: '=1+1 <b>battery</b>'}}
  - code: probe-nl
    site: house-nl
    transport: http
    interval: 5min
    series:
      - {quantity: air_temperature}
"""


@cache
def base_registry() -> Registry:
    """Return the base with a number for each series, as the database would give them."""
    registry = read_site_file(SITE_FILE, "base.yaml").registry
    return replace(registry, series_ids={code: 7 + at for at, code in enumerate(registry.series)})


def instant_us(text: str) -> int:
    """Return an RFC 3339 time in microseconds."""
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


@dataclass
class Memory:
    """Readings in memory, answered as `storage.history.History` answers; *away* stops it."""

    registry: Registry
    away: bool = False
    rows: dict[int, dict[int, tuple[int, float, int]]] = field(default_factory=dict)

    def put(
        self,
        code: str,
        at_us: int,
        value: float,
        quality: int = 0,
        received_at_us: int | None = None,
    ) -> None:
        received = at_us + 200_000 if received_at_us is None else received_at_us
        rows = self.rows.setdefault(self.registry.series_ids[code], {})
        rows[at_us] = (received, value, quality)

    def _points(self, series_id: int, start_us: int, end_us: int) -> Points:
        rows = sorted(
            (at, value, quality)
            for at, (_, value, quality) in self.rows.get(series_id, {}).items()
            if start_us <= at < end_us
        )
        return Points(
            np.array([row[0] for row in rows], np.int64),
            np.array([row[1] for row in rows], np.float64),
            np.array([row[2] for row in rows], np.int32),
        )

    def _heard(self) -> None:
        if self.away:
            raise DatabaseUnavailable("connection refused: a detail for the log")

    async def raw(
        self, series_ids: Sequence[int], start_us: int, end_us: int, limit: int
    ) -> dict[int, Points]:
        self._heard()
        found = {one: self._points(one, start_us, end_us) for one in series_ids}
        return {
            one: Points(all_.at_us[:limit], all_.value[:limit], all_.quality[:limit])
            for one, all_ in found.items()
        }

    async def count(self, series_ids: Sequence[int], start_us: int, end_us: int, cap: int) -> int:
        self._heard()
        return min(cap, sum(len(self._points(one, start_us, end_us)) for one in series_ids))

    async def rolled(
        self, series_ids: Sequence[int], start_us: int, end_us: int, step: Step
    ) -> dict[int, Buckets]:
        self._heard()
        zones = {
            self.registry.series_ids[code]: ZoneInfo(self.registry.site[one.site].timezone)
            for code, one in self.registry.series.items()
        }
        return {one: self._buckets(one, start_us, end_us, step, zones[one]) for one in series_ids}

    def _buckets(self, one: int, start_us: int, end_us: int, step: Step, zone: ZoneInfo) -> Buckets:
        def start_of(at_us: int) -> int:
            if step is not Step.DAY:
                width = step.nominal_s * 1_000_000
                return at_us // width * width
            local = (EPOCH + timedelta(microseconds=at_us)).astimezone(zone)
            midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
            return (midnight - EPOCH) // timedelta(microseconds=1)

        points = self._points(one, -(10**17), 10**17)
        groups: dict[int, list[tuple[float, bool]]] = {}
        for at_us, value, quality in zip(points.at_us, points.value, points.quality, strict=True):
            valid = not quality & BAD_MASK and bool(np.isfinite(value))
            groups.setdefault(start_of(int(at_us)), []).append((float(value), valid))
        starts = sorted(start for start in groups if start_us <= start < end_us)
        good = [[value for value, valid in groups[start] if valid] for start in starts]
        nan = float("nan")
        return Buckets(
            np.array(starts, np.int64),
            np.array([len(groups[start]) for start in starts], np.int64),
            np.array([len(values) for values in good], np.int64),
            np.array([min(values, default=nan) for values in good], np.float64),
            np.array([max(values, default=nan) for values in good], np.float64),
            np.array([sum(v) / len(v) if v else nan for v in good], np.float64),
            np.array([v[0] if v else nan for v in good], np.float64),
            np.array([v[-1] if v else nan for v in good], np.float64),
            np.array([sum(v) if v else nan for v in good], np.float64),
        )

    async def latest(self, series_ids: Sequence[int] | None = None) -> Batch:
        self._heard()
        wanted = self.registry.series_ids.values() if series_ids is None else series_ids
        rows = [(one, max(self.rows[one])) for one in wanted if self.rows.get(one)]
        columns = list(zip(*[(one, at, *self.rows[one][at]) for one, at in rows], strict=True))
        return Batch.of(*columns) if columns else Batch.empty()


@dataclass
class Shelf:
    """Gaps, dead letters or commands in memory."""

    things: list = field(default_factory=list)

    async def list(self, *_: object) -> list:
        return self.things


@dataclass
class KeptInlet:
    """An inlet that remembers what it accepted; *full* makes it refuse."""

    full: bool = False
    arrivals: list[Arrival] = field(default_factory=list)

    async def accept(self, arrivals: Sequence[Arrival]) -> None:
        if self.full:
            raise SpoolFull("no room on /somewhere/secret")
        self.arrivals.extend(arrivals)


@dataclass
class Base:
    """The application over a small base, with everything a test may want to change."""

    registry: Registry
    memory: Memory
    inlet: KeptInlet
    gaps: Shelf
    dead_letters: Shelf
    settings: ApiSettings
    commands: Shelf = field(default_factory=Shelf)
    counters: Counters = field(default_factory=Counters)
    health: Health = field(default_factory=lambda: Health("1.2.3", DatabaseHealth(True, "plain")))
    now_us: int = NOW_US

    def services(self) -> Services:
        async def health() -> Health:
            return self.health

        return Services(
            registry=lambda: self.registry,
            history=self.memory,
            dead_letters=self.dead_letters,
            gaps=self.gaps,
            health=health,
            counters=self.counters,
            tokens=Tokens([TOKEN, "another-token"]),
            inlet=self.inlet,
            command_shelf=self.commands,
            settings=self.settings,
            now_us=lambda: self.now_us,
        )

    def app(self) -> FastAPI:
        """Return an application of its own, which takes half a second to build."""
        return create_app(self.services())

    def shared_app(self) -> FastAPI:
        """Return the application that tests share, over the services of this base."""
        app = _shared_app(self.settings.page, self.settings.docs)
        app.state.services = self.services()
        if self.settings.page:
            app.state.pages.forget()
        return app

    def client(
        self, peer: str = "127.0.0.1", app: FastAPI | None = None, **options: object
    ) -> httpx.AsyncClient:
        """Return a client whose requests come from *peer*; the application keeps its own errors."""
        transport = httpx.ASGITransport(
            app or self.shared_app(), raise_app_exceptions=False, client=(peer, 5)
        )
        defaults = {"base_url": "http://localhost", "headers": BEARER}
        return httpx.AsyncClient(transport=transport, **(defaults | options))


@cache
def _shared_app(page: bool, docs: bool) -> FastAPI:
    return make_base(page=page, docs=docs).app()


def make_base(**settings: object) -> Base:
    registry = base_registry()
    return Base(
        registry=registry,
        memory=Memory(registry),
        inlet=KeptInlet(),
        gaps=Shelf(),
        dead_letters=Shelf(),
        settings=ApiSettings(**settings),
    )


def some_gap() -> Gap:
    return Gap("mqtt:broker", NOW_US - 60_000_000, NOW_US, "session_lost", "the broker forgot us")


def stored_services(registry: Registry, pool: Pool, inlet: Inlet | None = None) -> Services:
    """Return services over the database behind *pool* instead of memory."""

    async def health() -> Health:
        return Health("test", DatabaseHealth(True))

    return Services(
        registry=lambda: registry,
        history=History(pool),
        dead_letters=DeadLetterStore(pool),
        gaps=GapStore(pool),
        health=health,
        counters=Counters(),
        tokens=Tokens([TOKEN]),
        inlet=inlet,
        now_us=lambda: NOW_US,
    )
