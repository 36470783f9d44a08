"""The keeper over a real database: starts from history, outages, other rules, and the desks."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from alerts.binding import Surroundings
from alerts.book import Silence
from alerts.engine import Engine
from alerts.episode import Episode
from alerts.errors import IllegalAction
from alerts.replay import replay
from alerts.rule import read_pack
from alerts.state import Action, Phase
from api.alerts import (
    AlertChanged,
    AlertQuery,
    AlertsElsewhere,
    Deed,
    GroupQuery,
    PackChange,
    UnknownAlert,
    UnknownSilence,
)
from devices.reading import Batch
from devices.registry import Registry
from devices.site import SiteKind
from greenhouse.alerting import keeper as keeper_module
from greenhouse.alerting.desk import LiveDesk, StoredDesk
from greenhouse.alerting.keeper import AlertKeeper
from greenhouse.alerting.rules import RuleSource
from greenhouse.alerting.status import Pace
from greenhouse.pack_folder import PackFolder
from ingest.counters import Counters
from ingest.listener import Listener
from storage.alerts import AlertStore, Wanted
from storage.errors import DatabaseUnavailable
from storage.migrate import migrate
from storage.pool import Pool
from storage.readings import ReadingWriter
from storage.registry import RegistryStore
from tests.alerts.places import SECOND, device, series, site

RULES = """
pack: house
version: {version}
layer: base
name: {{en: House}}
rules:
  - id: hot
    levels:
      warning: {{when: air_temperature > {hot} degC, for: 20s, clear: 29 degC}}
      critical: {{when: air_temperature > 40 degC}}
  - {{id: damp, when: relative_humidity > 95 %}}
"""
SILENCES = """
pack: silences
version: 1
layer: base
name: {en: Silences}
rules:
  - {id: silent, when: no data for 5 intervals, per: device, severity: warning}
  - {id: useless, when: no valid data for 20 intervals, where: {quantity: air_temperature}}
"""
TAGGED = "  - {id: young, when: air_temperature > 25 degC, where: {tags: seedlings}}\n"
QUICK = Pace(
    tick_s=0.02, save_s=3600.0, warm_up_s=0.0, revise_s=0.02, settle_s=0.0, recall_s=3600.0,
    database_s=3.0, quiet_s=0.02, gather_s=0.1,
)  # fmt: skip


def now_us() -> int:
    return time.time_ns() // 1000


def place(*devices: str, revision: int = 1) -> Registry:
    sites = (site("b", SiteKind.BASE, None), site("h", SiteKind.GREENHOUSE, "b"))
    return Registry(
        sites,
        tuple(
            device(
                code,
                "h",
                series(code, "air_temperature", "h", 10.0),
                series(code, "relative_humidity", "h", 10.0),
            )
            for code in devices
        ),
        revision=revision,
    )


class Base:
    """A database with a registry, and processes of the service that come and go over it."""

    def __init__(self, folder: Path, dsn: str) -> None:
        self.folder = folder
        self.dsn = dsn
        self.packs = PackFolder(folder / "packs")
        self.write_rules()
        self.registry = Registry()
        self.prepared = asyncio.Event()

    def write_rules(self, hot: int = 30, version: int = 1) -> None:
        self.packs.put("house", RULES.format(hot=hot, version=version), None)

    async def apply(self, registry: Registry) -> None:
        async with Pool(self.dsn) as pool:
            store = RegistryStore(pool)
            await store.apply(registry, {})
            self.registry = await store.load()

    async def write(self, batch: Batch) -> None:
        async with ReadingWriter(self.dsn) as writer:
            assert (await writer.write(batch)).kind == "written"

    def readings(self, code: str, first_us: int, values: Sequence[float], step_s=10) -> Batch:
        number = self.registry.series_ids[code]
        at = [first_us + index * step_s * SECOND for index in range(len(values))]
        return Batch.of([number] * len(at), at, at, list(values), [0] * len(at))

    @contextlib.asynccontextmanager
    async def process(
        self, pace: Pace = QUICK, dsn: str = "", max_rows: int = 9_999, clock=now_us
    ) -> AsyncIterator[Process]:
        """A process that judges; it ends as by a kill unless it was closed."""
        async with Pool(dsn or self.dsn, timeout_s=0.3 if dsn else 5.0) as pool:
            process = Process(self, pool, pace, max_rows, clock)
            task = asyncio.create_task(process.keeper.run())
            try:
                yield process
            finally:
                task.cancel()
                await asyncio.wait([task])


class Process:
    def __init__(self, base: Base, pool: Pool, pace: Pace, max_rows: int, clock) -> None:
        self.counters = Counters()
        self.listener = Listener("alerts", self.counters, max_rows)
        self.lag_s = 0.0  # of the database behind what was heard
        self.keeper = AlertKeeper(
            self.listener,
            lambda: base.registry,
            RuleSource((), base.packs, Surroundings()),
            pool,
            base.folder / "alerts",
            prepared=base.prepared,
            lag_s=lambda: self.lag_s,
            pace=pace,
            now_us=clock,
        )
        self.desk = LiveDesk(self.keeper)

    async def open(self) -> list[str]:
        return [one.alert.id for one in await self.desk.alerts(AlertQuery(50, is_open=True))]


@pytest.fixture
async def base(tmp_path: Path, plain_dsn: str) -> Base:
    await migrate(plain_dsn)
    made = Base(tmp_path, plain_dsn)
    await made.apply(place("c", "d"))
    made.prepared.set()
    return made


async def stored(dsn: str) -> list[tuple[str, str, list[str]]]:
    """Return every alert in the database with its phase and the kinds of its history."""
    async with Pool(dsn) as pool:
        store = AlertStore(pool)
        return [
            (
                one.alert.id,
                one.alert.phase.value,
                [entry.kind for entry in await store.entries(one.alert.id)],
            )
            for one in await store.list(Wanted(100))
        ]


async def test_without_a_saved_state_alerts_are_found_in_stored_history(base, eventually):
    begin = now_us() - 600 * SECOND
    await base.write(base.readings("c.air_temperature", begin, [20.0] * 20 + [35.0] * 40))
    async with base.process() as process:
        (alert,) = await eventually(process.open)
        found = await process.desk.alert(alert)
        assert found.kept.alert.episode.started_at_us == begin + 200 * SECOND
        await eventually(lambda: not len(process.keeper.ledger.unsaved))
    # The disk of that process is lost, too: what the database has is the same alert.
    for file in (base.folder / "alerts").iterdir():
        file.unlink()
    async with base.process() as process:
        await eventually(lambda: process.keeper.ledger.find(alert))
        assert await process.open() == [alert]
        fresh = base.readings("c.air_temperature", now_us(), [20.0])
        process.listener.offer(fresh, True)
        await eventually(lambda: not len(process.keeper.ledger.unsaved))
        await eventually(lambda: process.keeper.ledger.find(alert).alert.phase is Phase.RESOLVED)
        await eventually(lambda: not len(process.keeper.ledger.unsaved))
    assert await stored(base.dsn) == [(alert, "resolved", ["pending", "fired", "resolved"])]


async def test_a_database_that_is_away_delays_no_alert_and_has_it_afterwards(base, eventually):
    async with base.process() as process:
        await eventually(lambda: process.keeper.status().judging)
        await process.keeper.close(1.0)
    begin = now_us()
    away = "host=127.0.0.1 port=1 dbname=x"
    async with base.process(dsn=away) as process:
        await eventually(lambda: process.keeper.status().judging)
        hot = base.readings("c.air_temperature", begin, [35.0] * 3)
        process.listener.offer(hot, True)
        (alert,) = await eventually(process.open)
        groups = await process.desk.groups(GroupQuery(9, is_open=True))
        assert [(one.group.members, one.open) for one in groups] == [((alert,), 1)]
        await process.desk.act(alert, Deed(Action.COMMENT, "li.wei", "fan is off"), None)
        silence = Silence("s", "li.wei", "x", begin, begin + 9**12, sites=("h",))
        await process.desk.silence(silence)
        assert [one.silence for one in await process.desk.silences(False, 9)] == [silence]
        history = [entry.kind for entry in (await process.desk.alert(alert)).history]
        assert history == ["pending", "fired", "comment"]
        with pytest.raises(DatabaseUnavailable):
            await process.desk.alert("0" * 32)
        await eventually(lambda: "database" in process.keeper.status().problem)
    await base.write(hot)  # as the spool does when the database is back
    async with base.process() as process:
        await eventually(lambda: process.keeper.status().judging)
        assert await process.open() == [alert]
        await eventually(lambda: not len(process.keeper.ledger.unsaved))
    assert await stored(base.dsn) == [(alert, "firing", ["pending", "fired", "comment"])]


async def test_readings_that_were_stored_after_the_last_save_are_judged_by_a_start(
    base, eventually
):
    async with base.process() as process:
        await eventually(lambda: process.keeper.status().judging)
    begin = now_us()
    await base.write(base.readings("c.air_temperature", begin, [35.0] * 3))
    async with base.process() as process:
        (alert,) = await eventually(process.open)
        assert (await process.desk.alert(alert)).kept.alert.episode.started_at_us == begin


async def test_what_a_full_queue_dropped_is_judged_when_it_is_stored(base, eventually):
    async with base.process(max_rows=1) as process:
        await eventually(lambda: process.keeper.status().judging)
        at = now_us()
        lost = base.readings("c.air_temperature", at, [41.0])
        heard = base.readings("d.air_temperature", at, [20.0])
        await base.write(lost)
        process.listener.offer(lost, True)
        process.listener.offer(heard, True)
        assert process.listener.dropped == 1
        (alert,) = await eventually(process.open)
        kept = (await process.desk.alert(alert)).kept.alert.episode
        assert (kept.subject, kept.started_at_us) == ("series:c.air_temperature", at)


async def standing(process: Process) -> list[Episode]:
    """Return what is not taken back."""
    return [
        one.alert.episode
        for one in await process.desk.alerts(AlertQuery(200))
        if one.alert.phase is not Phase.RETRACTED
    ]


def cut(batch: Batch, rows: int) -> list[Batch]:
    return [batch.take(slice(start, start + rows)) for start in range(0, len(batch), rows)]


async def test_hours_that_arrive_at_once_are_judged_as_stored_however_far_the_database_is_behind(
    base, eventually
):
    """Memory forgets hours as they pass; a history without them would be full of silences."""
    base.packs.put("silences", SILENCES, None)
    now = now_us()
    begin = now - 3 * 3600 * SECOND
    known = base.readings("c.air_temperature", begin - 60 * SECOND, [20.0] * 6)
    await base.write(known)
    values = [35.0 if minute % 60 < 20 else 20.0 for minute in range(180) for _ in range(6)]
    hours = cut(base.readings("c.air_temperature", begin, values), 90)
    live = cut(base.readings("c.air_temperature", now, [20.0] * 60), 1)
    clock = now
    async with base.process(clock=lambda: clock) as process:
        await eventually(lambda: process.keeper.status().judging)
        process.lag_s = 5.0
        for piece in hours:
            process.listener.offer(piece, False)
            await eventually(lambda: not len(process.listener))
        await base.write(Batch.concatenate(hours[:2]))
        for one in live:
            clock = int(one.observed_at_us[0]) + SECOND
            process.listener.offer(one, True)
            await eventually(lambda: not len(process.listener))
            async with process.keeper.lock:
                pass  # it has been judged
        await base.write(Batch.concatenate([*hours[2:], *live]))
        process.lag_s = 0.0
        await eventually(lambda: process.keeper.status().overdue == 0)
        found = {
            (one.rule, one.started_at_us, one.resolved_at_us)
            for one in await standing(process)
            if one.subject in ("device:c", "series:c.air_temperature")
        }
    rules = [rule for pack in base.packs.packs([]) for rule in pack.rules]
    expected = replay(rules, base.registry, Batch.concatenate([known, *hours, *live]), clock)
    assert {one.rule for one in expected} == {"house.hot"}
    assert found == {(one.rule, one.started_at_us, one.resolved_at_us) for one in expected}


async def test_a_store_that_comes_in_pieces_changes_once_what_was_said_of_the_silence(
    base, eventually
):
    base.packs.put("silences", SILENCES, None)
    now = now_us()
    known = base.readings("c.air_temperature", now - 3600 * SECOND, [20.0] * 6)
    await base.write(known)
    store = base.readings("c.air_temperature", now - 3540 * SECOND, [20.0] * 300)
    async with base.process(replace(QUICK, quiet_s=3600.0, gather_s=3600.0)) as process:
        silent = await eventually(process.open)
        for piece in cut(store, 10):
            process.listener.offer(piece, False)
            await eventually(lambda: not len(process.listener))
            async with process.keeper.lock:
                pass  # it has been heard
        assert await process.open() == silent
        await process.keeper.save()  # which judges what waits

        before, after = now - 3500 * SECOND, now - 500 * SECOND

        async def has_moved_once() -> bool:
            found = [
                one.alert
                for one in await process.desk.alerts(AlertQuery(200))
                if (one.alert.episode.rule, one.alert.episode.subject)
                == ("silences.silent", "device:c")
            ]
            return {(one.phase, one.episode.started_at_us) for one in found} == {
                (Phase.RETRACTED, before),
                (Phase.FIRING, after),
            }

        await eventually(has_moved_once)


async def test_pieces_of_old_readings_have_all_of_a_series_in_the_order_they_came(monkeypatch):
    monkeypatch.setattr(keeper_module, "_PIECE_ROWS", 5)
    came = [(3, 9), (1, 7), (2, 5), (1, 4), (1, 8), (1, 1), (4, 2), (1, 6), (1, 3), (2, 4)]
    ids, at = [one for one, _ in came], [moment for _, moment in came]
    batch = Batch.of(ids, at, at, [0.0] * 10, [0] * 10)
    halves = [batch.take(slice(0, 4)), batch.take(slice(4, 10))]
    pieces = [
        list(zip(piece.series_id.tolist(), piece.observed_at_us.tolist(), strict=True))
        for piece in keeper_module._by_series(halves)
    ]
    assert pieces == [
        [(1, 7), (1, 4), (1, 8), (1, 1), (1, 6), (1, 3)],
        [(2, 5), (2, 4), (3, 9), (4, 2)],
    ]
    assert list(keeper_module._by_series([])) == []


async def test_another_registry_is_judged_by_and_what_is_gone_is_withdrawn(base, eventually):
    async with base.process() as process:
        await eventually(lambda: process.keeper.status().judging)
        process.listener.offer(base.readings("c.air_temperature", now_us(), [35.0] * 3), True)
        (alert,) = await eventually(process.open)
        await base.apply(place("d", "e"))
        await eventually(
            lambda: process.keeper.ledger.find(alert).alert.phase is Phase.WITHDRAWN, timeout_s=20
        )
        process.listener.offer(base.readings("e.air_temperature", now_us(), [35.0] * 3), True)
        (other,) = await eventually(process.open)
        assert other != alert


async def test_a_site_file_that_is_read_again_brings_its_packs_and_tags(base, eventually):
    base.packs.put("house", RULES.format(hot=30, version=1) + TAGGED, None)
    async with base.process() as process:
        await eventually(lambda: process.keeper.status().judging)
        tags = Surroundings({"device:c": frozenset({"seedlings"})})
        process.keeper.use(RuleSource(("climate",), base.packs, tags))

        def young() -> set[str]:
            bindings = process.desk.rules().bindings
            return {one.subject.key for one in bindings if one.rule.code == "house.young"}

        assert await eventually(young) == {"series:c.air_temperature"}
        assert [pack.code for pack in process.desk.rules().packs] == ["climate", "house"]


async def test_a_rule_that_fails_is_told_and_tried_again_when_its_pack_changes(
    base, eventually, monkeypatch
):
    honest = Engine._take_in

    def fails(self, group):
        if any(b.rule.code == "house.damp" and b.rule.version == 1 for b in group.bindings):
            raise ZeroDivisionError("by design")
        honest(self, group)

    monkeypatch.setattr(Engine, "_take_in", fails)
    async with base.process() as process:
        await eventually(lambda: process.keeper.status().judging)
        at = now_us()
        for code, value in (("c.relative_humidity", 99.0), ("c.air_temperature", 41.0)):
            process.listener.offer(base.readings(code, at, [value]), True)
        (hot,) = await eventually(process.open)
        failures = process.desk.rules().failures
        assert list(failures) == ["house.damp"]
        assert "by design" in failures["house.damp"].reason
        base.write_rules(version=2)
        rules = await process.desk.reload()
        assert rules.failures == {}
        process.listener.offer(base.readings("c.relative_humidity", now_us(), [99.0]), True)
        await eventually(lambda: len(process.keeper.ledger.book.alerts()) >= 2)
        codes = {one.alert.episode.rule for one in process.keeper.ledger.all() if one.alert.is_open}
        assert "house.damp" in codes
        assert hot


async def test_a_row_that_the_database_refuses_holds_up_no_other(base, eventually):
    async with base.process() as process:
        await eventually(lambda: process.keeper.status().judging)
        bad = PackChange("own", "li.wei", "", 2**61, None, "pack: own")
        good = PackChange("own", "li.wei", "", now_us(), None, "pack: own")
        await process.desk.record(bad)
        await process.desk.record(good)
        await eventually(lambda: not len(process.keeper.ledger.unsaved))
        assert process.keeper.status().dropped == 1
        assert await process.desk.pack_changes("own", 9) == [good]


async def test_after_a_start_nobody_is_woken_for_what_is_over_by_the_time_it_is_known(
    base, eventually
):
    """The backlog of a broker comes piece by piece: what it holds of long ago waits."""
    async with base.process() as process:
        await eventually(lambda: process.keeper.status().judging)
        await process.keeper.close(1.0)
    async with base.process(replace(QUICK, warm_up_s=1.5)) as process:
        await eventually(lambda: process.keeper.status().judging)
        long_ago = now_us() - 1800 * SECOND
        for code, values in (("c", [35.0] * 3), ("d", [35.0] * 3), ("c", [20.0])):
            first = long_ago if len(values) > 1 else long_ago + 60 * SECOND
            process.listener.offer(base.readings(f"{code}.air_temperature", first, values), False)
            await eventually(lambda: not len(process.listener))
        assert process.keeper.status().warming_up
        ledger = process.keeper.ledger
        await eventually(lambda: len(ledger.all()) == 2)
        assert ledger.notices_by_told == {}
        await eventually(lambda: ledger.notices_by_told == {"firing": 1}, timeout_s=10)
        (alert,) = await process.open()
        subject = (await process.desk.alert(alert)).kept.alert.episode.subject
        assert subject == "series:d.air_temperature"


async def test_what_people_do_over_the_desk_is_checked_and_kept(base, eventually):
    async with base.process() as process:
        await eventually(lambda: process.keeper.status().judging)
        desk = process.desk
        process.listener.offer(base.readings("c.air_temperature", now_us(), [35.0] * 3), True)
        (alert,) = await eventually(process.open)
        with pytest.raises(AlertChanged) as changed:
            await desk.act(alert, Deed(Action.ACKNOWLEDGE, "li.wei"), 1)
        assert changed.value.version == 2
        kept = await desk.act(alert, Deed(Action.ACKNOWLEDGE, "li.wei"), 2)
        assert (kept.version, kept.held_back.value) == (3, "acknowledged")
        with pytest.raises(IllegalAction):
            await desk.act(alert, Deed(Action.ACKNOWLEDGE, "li.wei"), None)
        with pytest.raises(UnknownAlert):
            await desk.act("0" * 32, Deed(Action.COMMENT, "li.wei", "x"), None)
        now = now_us()
        silence = Silence("s", "li.wei", "x", now, now + 600 * SECOND, sites=("h",))
        await desk.silence(silence)
        with pytest.raises(UnknownSilence):
            await desk.end_silence("t", "li.wei", "")
        ended = await desk.end_silence("s", "王芳", "back")
        assert ended.ended_by == "王芳"
        await eventually(lambda: not len(process.keeper.ledger.unsaved))
        with pytest.raises(IllegalAction):
            await desk.end_silence("s", "王芳", "back")
        # A process that only reads sees the same, and refuses to change it.
        async with Pool(base.dsn) as pool:
            source = RuleSource((), base.packs, Surroundings())
            reader = StoredDesk(AlertStore(pool), source, lambda: base.registry, now_us)
            task = asyncio.create_task(reader.run(60.0))
            await eventually(lambda: reader.rules().bindings)
            assert await reader.alerts(AlertQuery(9)) == await desk.alerts(AlertQuery(9))
            assert await reader.alert(alert) == await desk.alert(alert)
            assert await reader.groups(GroupQuery(9)) == await desk.groups(GroupQuery(9))
            assert await reader.silences(True, 9) == await desk.silences(True, 9)
            with pytest.raises(AlertsElsewhere):
                await reader.act(alert, Deed(Action.COMMENT, "li.wei", "x"), None)
            task.cancel()
            await asyncio.wait([task])


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"limit": 2},
        {"is_open": True},
        {"needs_attention": False},
        {"phases": (Phase.RESOLVED,)},
        {"severities": (3,)},
        {"rules": ("house.h*",)},
        {"rules": ("house",)},
        {"sites": ()},
        {"sites": ("h",)},
        {"subjects": ("series:d.air_temperature",)},
        {"since_us": 35 * SECOND},
        {"until_us": 5 * SECOND},
    ],
)
async def test_memory_and_database_list_the_same(base, eventually, query):
    begin = now_us() - 100 * SECOND
    given = {"limit": 50, **query}
    for key in ("since_us", "until_us"):
        if key in given:
            given[key] += begin
    async with base.process() as process:
        await eventually(lambda: process.keeper.status().judging)
        for code, first, values in (
            ("c.air_temperature", begin, [35.0, 35.0, 35.0, 20.0]),
            ("d.air_temperature", begin, [35.0, 35.0, 45.0]),
            ("d.relative_humidity", begin + 50 * SECOND, [99.0]),
        ):
            process.listener.offer(base.readings(code, first, values), True)
        ledger = process.keeper.ledger
        await eventually(lambda: len(ledger.all()) == 3 and not len(ledger.unsaved))
        from_database = await process.desk.alerts(AlertQuery(**given))
        async with Pool("host=127.0.0.1 port=1 dbname=x", timeout_s=0.2) as nothing:
            process.desk._store = AlertStore(nothing)
            assert await process.desk.alerts(AlertQuery(**given)) == from_database


def test_the_rules_of_these_tests_are_right():
    assert len(read_pack(RULES.format(hot=30, version=1), "house.yaml").rules) == 2
