"""Derived series follow late and corrected inputs, against the slow and obvious computation."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from click.testing import CliRunner
from psycopg.conninfo import conninfo_to_dict

from api.health import DerivationHealth
from devices.derivation import input_ids
from devices.quality import BAD_MASK, Quality
from devices.reading import Batch
from devices.registry import Registry
from devices.site_file import read_site_file
from greenhouse.cli import main
from greenhouse.derivation_keeper import DerivationKeeper
from ingest.counters import Counters
from ingest.listener import Listener
from storage.derived import DerivedStore
from storage.history import History, Step
from storage.maintenance import Maintenance
from storage.migrate import migrate
from storage.pool import Connection, Pool, connect, hardened
from storage.readings import ReadingWriter
from storage.registry import RegistryStore

SITE = """
version: 1
sites:
  - code: base
    kind: base
    latitude: 36.88
    longitude: 118.74
    timezone: Asia/Shanghai
    sites:
      - code: h1
        kind: greenhouse
        area_m2: 1000
        derived:
          - {formula: vapour_pressure_deficit}
          - {formula: daily_light_integral}
          - {formula: irrigation_depth}
          - {formula: irrigation_per_mu, parameters: {period: irrigation, pause_min: 15}}
          - {formula: degree_days}
          - {formula: growing_degree_days, parameters: {since: 2025-05-30}}
broker: {host: 127.0.0.1}
devices:
  - code: air
    site: h1
    interval: 60s
    series:
      - {quantity: air_temperature}
      - {quantity: relative_humidity, interval: 5min}
      - {quantity: ppfd}
      - {quantity: irrigation_volume, counter: {wraps_at: 1000}}
"""
S = 1_000_000
MINUTE, HOUR, DAY = 60 * S, 3600 * S, 86400 * S
START = int(datetime(2025, 5, 31, 16, tzinfo=UTC).timestamp()) * S  # midnight of June in Shanghai
NOW = START + 3 * DAY + 5 * HOUR
TEMPERATURE, HUMIDITY, PPFD, TOTAL = (
    f"air.{name}" for name in ("air_temperature", "relative_humidity", "ppfd", "irrigation_volume")
)
VPD, DLI, DEPTH, GIVEN, DEGREES, SUM, ADDED = (
    f"h1-derived.{name}"
    for name in (
        "vapour_pressure_deficit",
        "dli",
        "irrigation_depth",
        "irrigation_per_mu",
        "degree_days",
        "growing_degree_days",
        "irrigation_increase.air",
    )
)


@dataclass
class Base:
    """A database with a registry, a writer that notes changes, a keeper with a clock of ours."""

    pool: Pool
    writer: ReadingWriter
    registry: Registry
    connection: Connection
    now_us: int = NOW
    listener: Listener = field(default_factory=lambda: Listener("test", Counters()))

    def __post_init__(self) -> None:
        self.keeper = self.new_keeper()

    def new_keeper(self) -> DerivationKeeper:
        store = DerivedStore(self.pool)
        return DerivationKeeper(store, lambda: self.registry, [self.listener], lambda: self.now_us)

    def rows(self, code: str, readings: list[tuple[int, float, int]]) -> Batch:
        number = self.registry.series_ids[code]
        at = [START + at for at, _, _ in readings]
        return Batch.of(
            [number] * len(at), at, at, [v for _, v, _ in readings], [q for _, _, q in readings]
        )

    async def write(self, *batches: Batch) -> None:
        outcome = await self.writer.write(Batch.concatenate(batches))
        assert outcome.kind == "written", outcome

    async def settle(self) -> None:
        """Step until nothing is left to follow."""
        while await self.keeper.step() or await self.queued():
            pass

    async def queued(self) -> int:
        row = await (await self.connection.execute("SELECT count(*) FROM changed_spans")).fetchone()
        assert row is not None
        return int(row[0])

    async def read(self, code: str) -> dict[int, tuple[float, int]]:
        """Return what is stored of a series: offset from START -> (value, quality)."""
        number = self.registry.series_ids[code]
        points = (await History(self.pool).raw([number], 0, 1 << 60, 100_000))[number]
        rows = zip(
            points.at_us.tolist(), points.value.tolist(), points.quality.tolist(), strict=True
        )
        return {at - START: (value, quality) for at, value, quality in rows}


@pytest.fixture
async def base(database_dsn: str) -> AsyncIterator[Base]:
    await migrate(database_dsn)
    site_file = read_site_file(SITE, "site.yaml")
    connection = await connect(hardened(database_dsn, "test"), autocommit=True)
    async with Pool(database_dsn) as pool, ReadingWriter(database_dsn) as writer:
        store = RegistryStore(pool)
        await store.apply(site_file.registry, {})
        registry = await store.load()
        writer.watch(input_ids(registry))
        yield Base(pool, writer, registry, connection)
    await connection.close()


def plain(every: int, count: int, value, start: int = 0) -> list[tuple[int, float, int]]:
    return [(start + n * every, value(n), 0) for n in range(count)]


# -- the slow and obvious computation

Rows = list[tuple[int, float, int]]


def _bad(value: float, quality: int) -> bool:
    return math.isnan(value) or bool(quality & BAD_MASK)


def slow_vpd(temperature: Rows, humidity: Rows) -> dict[int, tuple[float, int]]:
    """The pace is humidity (5 min); temperature (1 min) stands for two minutes."""
    out = {}
    for at, rh, q in sorted(humidity):
        standing = [row for row in sorted(temperature) if at - 2 * MINUTE <= row[0] <= at]
        if not standing:
            continue
        _, t, tq = standing[-1]
        bits = q | tq
        if _bad(rh, q) or _bad(t, tq):
            out[at] = (math.nan, bits | int(Quality.MISSING))
        else:
            es = 0.6108 * math.exp(17.27 * t / (t + 237.3))
            out[at] = (es * (1 - min(rh, 100) / 100), bits)
    return out


def slow_increase(total: Rows) -> dict[int, tuple[float, int]]:
    good = [row for row in sorted(total) if not _bad(row[1], row[2])]
    out = {}
    for (_, before, bq), (at, now, q) in pairwise(good):
        bits, added = q | (bq & int(Quality.STEP | Quality.CONFLICT)), now - before
        if added < 0 and before >= 750 and now < 250:
            added, bits = added + 1000, bits | int(Quality.WRAPPED)
        elif added < 0 and now <= before / 2:
            added, bits = now, bits | int(Quality.RESTARTED)
        elif added < 0:
            added, bits = math.nan, bits | int(Quality.MISSING | Quality.STEP)
        out[at] = (added, bits)
    return out


def slow_days(rows: Rows, reduce) -> dict[int, float]:
    days: dict[int, Rows] = {}
    for at, value, quality in sorted(rows):
        if not _bad(value, quality):
            days.setdefault(at // DAY * DAY, []).append((at, value, quality))
    return {day: reduce(day, some) for day, some in days.items()}


def slow_light(rows: Rows) -> dict[int, float]:
    """Every reading stands until the next, at most two minutes, also over midnight."""
    out: dict[int, float] = {}
    rows = sorted(rows)
    measured = {at // DAY * DAY for at, v, q in rows if not _bad(v, q)}
    for n, (at, value, quality) in enumerate(rows):
        until = min(at + 2 * MINUTE, rows[n + 1][0] if n + 1 < len(rows) else at + DAY)
        if not _bad(value, quality):
            for day in {at // DAY * DAY, (until - 1) // DAY * DAY}:
                seconds = (min(until, day + DAY) - max(at, day)) / S
                out[day] = out.get(day, 0.0) + max(seconds, 0) * max(value, 0) / 1e6
    return {day: light for day, light in out.items() if day in measured}


def slow_irrigations(increase: dict[int, tuple[float, int]]) -> dict[int, float]:
    """Cubic metres a mu of 1000 m²; a pause of more than 15 minutes or midnight ends one."""
    out: dict[int, float] = {}
    start, last = 0, None
    for at, (value, quality) in sorted(increase.items()):
        if _bad(value, quality) or value <= 0:
            continue
        if last is None or at - last > 15 * MINUTE or at // DAY != last // DAY:
            start = at
        out[start] = out.get(start, 0.0) + value / 1000 * 2 / 3
        last = at
    return out


def assert_alike(found: dict, expected: dict) -> None:
    assert sorted(found) == sorted(expected)
    for at, (value, quality) in expected.items():
        got = found[at]
        assert got[0] == pytest.approx(value, nan_ok=True, rel=1e-9, abs=1e-9), (at, got, value)
        assert got[1] == quality, (at, got, quality)


def assert_values(found: dict, expected: dict) -> None:
    assert sorted(found) == sorted(expected)
    for at, value in expected.items():
        assert found[at][0] == pytest.approx(value, rel=1e-9, abs=1e-9), at


def made_up(seed: int) -> dict[str, Rows]:
    """Three days of readings with gaps, bad and suspect ones, wraps and restarts."""
    rng = random.Random(seed)

    def track(every: int, value) -> Rows:
        rows = []
        for n in range(3 * DAY // every):
            at = n * every + rng.randrange(every // 2)
            if rng.random() < 0.1 or (every == 20 * MINUTE and 30 < n < 40):
                continue
            quality = rng.choice([0] * 8 + [int(Quality.STEP), int(Quality.SENSOR_RANGE)])
            rows.append((at, math.nan if rng.random() < 0.05 else value(n), quality))
        return rows

    total = 0.0

    def counted(_: int) -> float:
        nonlocal total
        total = 0.0 if rng.random() < 0.02 else (total + rng.randrange(150)) % 1000
        return total - rng.random() * 30 if rng.random() < 0.02 and total > 30 else total

    # Slower than the intervals that the site file gives: much of it does not stand long enough.
    return {
        TEMPERATURE: track(2 * MINUTE, lambda n: 20 + 8 * math.sin(n / 90)),
        HUMIDITY: track(6 * MINUTE, lambda n: 70 + 20 * math.sin(n / 50)),
        PPFD: track(3 * MINUTE, lambda n: max(0.0, 900 * math.sin(n / 76))),
        TOTAL: track(10 * MINUTE, counted),
    }


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_the_order_of_arrival_the_same_is_derived(base: Base, seed: int):
    rows = made_up(seed)
    rng = random.Random(seed)
    arrivals = [(code, row) for code, some in rows.items() for row in some]
    arrivals.sort(key=lambda one: one[1][0] + (rng.random() < 0.2) * rng.randrange(2 * DAY))
    place = 0
    while place < len(arrivals):
        size = rng.choice([3, 50, 400])
        part = arrivals[place : place + size]
        await base.write(*(base.rows(code, [row]) for code, row in part))
        place += size
        if rng.random() < 0.5:
            base.keeper = base.new_keeper()  # the process was killed
        if rng.random() < 0.7:
            await base.keeper.step()
    await base.settle()
    base.keeper = base.new_keeper()
    await base.settle()

    assert_alike(await base.read(VPD), slow_vpd(rows[TEMPERATURE], rows[HUMIDITY]))
    increase = slow_increase(rows[TOTAL])
    assert_alike(await base.read(ADDED), increase)
    assert_values(await base.read(DLI), slow_light(rows[PPFD]))
    litres = slow_days([(at, *rest) for at, rest in increase.items()],
                       lambda _, some: sum(v for _, v, _ in some) / 1000)  # fmt: skip
    assert_values(await base.read(DEPTH), litres)
    assert_values(await base.read(GIVEN), slow_irrigations(increase))

    def degrees(_: int, some: Rows) -> float:
        low, high = min(v for _, v, _ in some), max(v for _, v, _ in some)
        return max(0.0, (min(high, 30) + max(low, 10)) / 2 - 10)

    days = slow_days(rows[TEMPERATURE], degrees)
    assert_values(await base.read(DEGREES), days)
    assert_values(await base.read(SUM), {d: sum(days[e] for e in days if e <= d) for d in days})


async def test_litres_of_hours_and_days_are_right_across_a_wrap_a_restart_and_a_gap(base: Base):
    flowed = [0.0]
    for n in range(1, 2 * 24 * 60):
        flowed.append(flowed[-1] + (7.0 if n % 90 < 20 else 0.0))
    restart = 1_710  # the meter stands at 660: far from its end
    readings = []
    for n, total in enumerate(flowed):
        shown = total % 1000 if n < restart else (total - flowed[restart]) % 1000
        if not 2_000 <= n < 2_090:  # an hour and a half nobody heard of it
            readings.append((n * MINUTE + 30 * S, shown, 0))
    await base.write(base.rows(TOTAL, readings))
    await base.settle()
    number = base.registry.series_ids[ADDED]
    history = History(base.pool)
    days = (await history.rolled([number], START, START + 2 * DAY, Step.DAY))[number]
    hours = (await history.rolled([number], START, START + 2 * DAY, Step.HOUR))[number]
    read = {at: flowed[at // MINUTE] for at, _, _ in readings}

    def litres(start: int, end: int) -> float:
        """What was read between the last reading before the start and the last before the end."""
        before = [v for at, v in read.items() if at < start]
        inside = [v for at, v in read.items() if at < end]
        return inside[-1] - (before[-1] if before else inside[0] * 0)

    lost = flowed[restart] - flowed[restart - 1]  # it began anew before that was read
    assert lost == 7.0
    for buckets, width in ((days, DAY), (hours, HOUR)):
        for start, got in zip((buckets.start_us - START).tolist(), buckets.sum, strict=True):
            expected = litres(start, start + width)
            within = start <= restart * MINUTE < start + width
            assert got == pytest.approx(expected - (lost if within else 0.0)), start / HOUR
    marks = [quality for _, quality in (await base.read(ADDED)).values()]
    assert sum(bool(q & Quality.RESTARTED) for q in marks) == 1
    wraps = flowed[restart - 1] // 1000 + (flowed[-1] - flowed[restart]) // 1000
    assert sum(bool(q & Quality.WRAPPED) for q in marks) == wraps == 3


async def test_a_reading_that_comes_late_splits_the_increase_after_it(base: Base):
    await base.write(base.rows(TOTAL, [(0, 100.0, 0), (10 * MINUTE, 130.0, 0)]))
    await base.settle()
    assert await base.read(ADDED) == {10 * MINUTE: (30.0, 0)}
    await base.write(base.rows(TOTAL, [(4 * MINUTE, 112.0, 0)]))
    await base.settle()
    assert await base.read(ADDED) == {4 * MINUTE: (12.0, 0), 10 * MINUTE: (18.0, 0)}


async def test_what_is_derived_goes_with_a_reading_that_turns_bad(base: Base):
    await base.write(
        base.rows(TEMPERATURE, plain(MINUTE, 10, lambda n: 20.0)),
        base.rows(HUMIDITY, plain(5 * MINUTE, 2, lambda n: 60.0)),
    )
    await base.settle()
    before = await base.read(VPD)
    assert [quality for _, quality in before.values()] == [0, 0]
    await base.connection.execute(
        "UPDATE readings SET quality = %s WHERE series_id = %s AND observed_at >= to_timestamp(%s)",
        (int(Quality.CALIBRATION), base.registry.series_ids[TEMPERATURE], (START + MINUTE) / S),
    )
    await DerivedStore(base.pool).note_changed(
        {base.registry.series_ids[TEMPERATURE]: (START + MINUTE, START + 10 * MINUTE)}
    )
    await base.settle()
    after = await base.read(VPD)
    assert after[0] == before[0]
    value, quality = after[5 * MINUTE]
    assert math.isnan(value)
    assert quality == Quality.CALIBRATION | Quality.MISSING


async def test_only_what_is_new_or_other_is_offered_and_written(base: Base):
    await base.write(
        base.rows(TEMPERATURE, plain(MINUTE, 10, lambda n: 20.0)),
        base.rows(HUMIDITY, plain(5 * MINUTE, 2, lambda n: 60.0)),
    )
    await base.settle()
    heard = []
    while base.listener._queue:
        heard.append(await base.listener.get())
    assert not any(one.fresh for one in heard)  # three days old
    assert sum(len(one.batch) for one in heard) == 2 + 1 + 1  # VPD, degree days and their sum
    received = "SELECT DISTINCT received_at FROM readings WHERE series_id = %s"
    number = base.registry.series_ids[VPD]
    before = await (await base.connection.execute(received, [number])).fetchall()
    base.now_us += HOUR
    await base.write(base.rows(TEMPERATURE, [(6 * MINUTE + S, 99.0, 0)]))  # touches no moment
    await base.settle()
    assert await (await base.connection.execute(received, [number])).fetchall() == before


async def test_a_period_is_provisional_until_it_has_ended_also_when_nothing_comes_any_more(
    base: Base,
):
    base.now_us = START + 10 * HOUR
    await base.write(base.rows(PPFD, plain(MINUTE, 600, lambda n: 500.0)))
    await base.settle()
    provisional = int(Quality.PROVISIONAL)
    (light, quality), *rest = (await base.read(DLI)).values()
    assert (light, quality, rest) == (pytest.approx(500 * 36_000 / 1e6), provisional, [])
    base.now_us = START + DAY + MINUTE
    await base.settle()
    assert (await base.read(DLI))[0][1] == int(Quality.INCOMPLETE)
    base.keeper = base.new_keeper()
    await base.settle()
    assert (await base.read(DLI))[0][1] == int(Quality.INCOMPLETE)


async def test_a_running_period_is_told_every_few_minutes_and_past_ones_at_once(base: Base):
    base.now_us = START + DAY + HOUR
    await base.write(base.rows(PPFD, [(DAY, 100.0, 0)]))
    await base.settle()
    first = await base.read(DLI)
    await base.write(base.rows(PPFD, [(DAY + MINUTE, 100.0, 0), (HOUR, 100.0, 0)]))
    base.now_us += MINUTE
    await base.settle()
    second = await base.read(DLI)
    assert second[DAY] == first[DAY]
    assert second[0][0] == pytest.approx(100 * 120 / 1e6)
    base.now_us += 5 * MINUTE
    await base.settle()
    assert (await base.read(DLI))[DAY][0] == pytest.approx(100 * 180 / 1e6)


async def test_what_retention_has_deleted_is_neither_made_anew_nor_lost(
    base: Base, database_dsn: str
):
    rows = plain(HOUR // 2, 96, lambda n: 10.0 * n % 1000, start=HOUR)
    await base.write(base.rows(TOTAL, rows))
    await base.settle()
    number = base.registry.series_ids[ADDED]
    history = History(base.pool)
    before = (await history.rolled([number], START, START + 2 * DAY, Step.DAY))[number]
    await base.connection.execute("INSERT INTO retention VALUES ('default', 86400.0 * 2)")
    await Maintenance(database_dsn).run(datetime.fromtimestamp(NOW / S, UTC))
    assert min(await base.read(TOTAL)) > 0
    await base.write(base.rows(TOTAL, [(2 * HOUR + S, 500.0, 0)]))  # late, among the deleted
    last = rows[-1]
    await base.write(base.rows(TOTAL, [(last[0] + S, last[1] + 1, 0)]))
    await base.settle()
    after = (await history.rolled([number], START, START + 2 * DAY, Step.DAY))[number]
    assert after.sum.tolist() == pytest.approx([before.sum[0], before.sum[1]], abs=1.1)
    assert after.count.tolist()[0] == before.count.tolist()[0]


async def test_a_new_series_has_a_month_at_once_and_the_rest_by_command(
    base: Base, database_dsn: str, monkeypatch
):
    base.writer.watch(())  # nothing was derived yet
    days = [-40, -20, -1, 0]
    for day in days:
        await base.write(
            base.rows(TEMPERATURE, [(day * DAY, 20.0, 0)]),
            base.rows(HUMIDITY, [(day * DAY + S, 60.0, 0)]),
        )
    await base.settle()
    assert [at // DAY for at in await base.read(VPD)] == [-20, -1, 0]
    monkeypatch.setenv("GREENHOUSE_DSN", database_dsn)
    since = datetime.fromtimestamp((START - 50 * DAY) / S, UTC).isoformat()
    until = datetime.fromtimestamp(NOW / S, UTC).isoformat()
    done = await asyncio.to_thread(
        CliRunner().invoke, main, ["derive", "--since", since, "--until", until, "--series", VPD]
    )
    assert done.exit_code == 0, done.output
    assert [at // DAY for at in await base.read(VPD)] == days
    rows = await base.connection.execute(
        "SELECT formula, version, made_from < %s FROM derivations WHERE series_id = %s"
        " ORDER BY recorded_at",
        [datetime.fromtimestamp((START - 45 * DAY) / S, UTC), base.registry.series_ids[VPD]],
    )
    assert await rows.fetchall() == [
        ("vapour_pressure_deficit", 1, False),
        ("vapour_pressure_deficit", 1, True),
    ]


async def test_a_formula_of_another_version_is_computed_again_and_recorded(base: Base):
    await base.write(base.rows(TEMPERATURE, [(0, 20.0, 0)]), base.rows(HUMIDITY, [(S, 60.0, 0)]))
    await base.settle()
    number = base.registry.series_ids[VPD]
    await base.connection.execute("UPDATE derivations SET version = 0")
    await base.connection.execute("UPDATE readings SET value = 9 WHERE series_id = %s", [number])
    base.keeper = base.new_keeper()
    await base.settle()
    assert (await base.read(VPD))[S][0] == pytest.approx(2.33828 * 0.4, abs=1e-5)
    rows = await base.connection.execute(
        "SELECT version FROM derivations WHERE series_id = %s ORDER BY recorded_at", [number]
    )
    assert await rows.fetchall() == [(0,), (1,)]


async def test_of_two_that_follow_the_same_change_one_does_it(base: Base):
    await base.write(base.rows(TEMPERATURE, [(0, 20.0, 0)]), base.rows(HUMIDITY, [(S, 60.0, 0)]))
    store = DerivedStore(base.pool)
    changes = await store.pending(10)
    first = await store.rework([], NOW, [one.id for one in changes])
    second = await store.rework([], NOW, [one.id for one in changes], [(1, 0, 1)])
    assert (len(first), second, await store.pending(10, redo=True)) == (0, None, [])


async def test_nothing_is_noted_of_a_batch_that_is_not_stored(base: Base):
    good = base.rows(TEMPERATURE, [(0, 20.0, 0)])
    outcome = await base.writer.write(Batch.concatenate([good, good]))
    assert (outcome.inserted, await base.queued()) == (1, 1)
    assert (await base.writer.write(good)).duplicates == 1
    assert await base.queued() == 1
    infinite = base.rows(TEMPERATURE, [(S, math.inf, 0)])
    assert (await base.writer.write(infinite)).kind == "refused"
    assert await base.queued() == 1


async def test_a_database_that_goes_away_in_the_middle_leaves_nothing_missing(
    base: Base, database_dsn: str, proxy, eventually
):
    address = conninfo_to_dict(database_dsn)
    if "port" not in address or str(address["host"]).startswith("/"):
        pytest.skip("a proxy needs a server on TCP")
    between = proxy(str(address["host"]), int(str(address["port"])))
    rows = made_up(7)
    async with Pool(between.dsn(database_dsn), timeout_s=0.5) as pool:
        store = DerivedStore(pool)
        keeper = DerivationKeeper(store, lambda: base.registry, [], lambda: NOW)
        task = asyncio.create_task(keeper.run())
        arrivals = sorted((row[0], code, row) for code, some in rows.items() for row in some)
        for start in range(0, len(arrivals), 500):
            part = arrivals[start : start + 500]
            await base.write(*(base.rows(code, [row]) for _, code, row in part))
            between.cut()
            if start % 2_000 == 0:
                between.refuse()
                await eventually(lambda: keeper.problem, timeout_s=20)
                between.accept()
        await eventually(lambda: not keeper.problem, timeout_s=30)

        async def followed() -> bool:
            return not await base.queued()

        await eventually(followed, timeout_s=60)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert_alike(await base.read(VPD), slow_vpd(rows[TEMPERATURE], rows[HUMIDITY]))
    assert_alike(await base.read(ADDED), slow_increase(rows[TOTAL]))


async def test_health_tells_what_is_derived_and_what_waits(base: Base):
    assert base.keeper.health() == DerivationHealth()
    await base.settle()
    told = base.keeper.health()
    assert (told.series, told.lost, told.made) == (len(base.registry.series) - 4, (), 0)
    assert (told.waiting, told.redo, told.lag_s, told.ran_us) == (0, 0, 0, NOW)

    hour = plain(MINUTE, 60, lambda n: 20.0 + n, start=2 * DAY)
    await base.write(base.rows(TEMPERATURE, hour), base.rows(HUMIDITY, hour[::5]))
    base.now_us += 7 * S
    await base.settle()
    told = base.keeper.health()
    stored = [len(await base.read(code)) for code in (VPD, DEGREES, SUM)]
    assert stored[0] == 12
    assert told.made == sum(stored)
    assert (told.lag_s, told.ran_us, told.failures) == (0, NOW + 7 * S, 0)

    # A month of one series anew is a pass for each day of it; what comes in meanwhile is followed.
    month = (base.now_us - 31 * DAY, base.now_us)
    await DerivedStore(base.pool).order_redo({base.registry.series_ids[VPD]: month})
    await base.write(base.rows(HUMIDITY, [(2 * DAY + 2 * MINUTE, 50.0, 0)]))
    assert await base.keeper.step()
    told = base.keeper.health()
    assert (told.waiting, told.redo, told.lag_s) == (0, 1, 0)
    await base.settle()
    assert base.keeper.health().redo == 0


async def test_what_is_new_does_not_wait_for_the_history_of_its_own_series(base: Base):
    await base.settle()
    month = (NOW - 31 * DAY, NOW + DAY)
    await DerivedStore(base.pool).order_redo({base.registry.series_ids[VPD]: month})
    fresh = NOW - START - MINUTE
    await base.write(
        base.rows(TEMPERATURE, [(fresh, 20.0, 0)]), base.rows(HUMIDITY, [(fresh, 60.0, 0)])
    )
    assert await base.keeper.step()  # there is more: the month
    assert list(await base.read(VPD)) == [fresh]
    await base.settle()
    assert list(await base.read(VPD)) == [fresh]


async def test_more_changes_than_fit_a_pass_are_told_until_they_are_followed(base: Base):
    await base.settle()
    store = DerivedStore(base.pool)
    for _ in range(502):
        await store.note_changed({base.registry.series_ids[HUMIDITY]: (NOW, NOW)})
    assert await base.keeper.step()
    base.now_us += 4 * S
    told = base.keeper.health()
    assert (told.waiting, told.redo, told.lag_s) == (2, 0, 4.0)
    await base.settle()
    told = base.keeper.health()
    assert (told.waiting, told.lag_s, told.ran_us) == (0, 0, base.now_us)


async def test_a_formula_that_fails_ends_nothing_and_is_tried_again(base: Base, eventually):
    await base.write(base.rows(TEMPERATURE, [(0, 20.0, 0)]), base.rows(HUMIDITY, [(S, 60.0, 0)]))
    whole = base.registry
    base.registry = None  # a mistake of ours, in the middle of it
    task = asyncio.create_task(base.keeper.run())
    await eventually(lambda: base.keeper.problem.startswith("AttributeError"), timeout_s=20)
    base.now_us += 90 * S
    told = base.keeper.health()
    assert (told.reason, told.lag_s, told.ran_us) == (base.keeper.problem, 90.0, None)
    base.registry = whole
    await eventually(lambda: not base.keeper.problem, timeout_s=20)
    await eventually(lambda: base.keeper.health().lag_s == 0, timeout_s=20)
    told = base.keeper.health()
    assert (told.reason, told.ran_us) == ("", base.now_us)
    assert told.failures >= 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await base.settle()
    assert list(await base.read(VPD)) == [S]
