"""The keeper of alerts: feeds the engine, writes down what it says, and loses none of it.

    pipeline ──Listener──▶ engine ──▶ ledger ──▶ journal ──▶ database
    every second ─────────▶                        (disk)      (when it answers)

The engine's state is saved in a file every half minute; the journal holds what was decided since.
A start takes both up, then judges what the database received since that state was saved; the rest
comes again through the pipeline.  The engine tells the same episodes again under the same ids, and
the book passes over what it knows.  Without a state everything is judged anew from stored history.

Time stands still for the engine while the collectors catch up after a start (`Pace.warm_up_s`):
otherwise every sensor would have been silent for as long as the service was away.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np

from alerts.binding import Surroundings
from alerts.engine import Engine, Overdue, Settings
from alerts.episode import Change, RuleFailure, Transition
from alerts.errors import SnapshotError
from alerts.state import Phase
from devices.reading import Batch
from devices.registry import Registry
from greenhouse.alerting.journal import Journal, late_of, read_journal
from greenhouse.alerting.ledger import Ledger
from greenhouse.alerting.rules import BuiltEngine, LoadedRules, RuleSource, build
from greenhouse.alerting.saved_state import SavedState, read_state, write_state
from greenhouse.alerting.status import KeeperStatus, Pace
from greenhouse.alerting.unsaved import singles
from ingest.listener import Listener
from ingest.retry import Backoff
from storage.alerts import AlertChanges, AlertStore, StoredAlert
from storage.errors import DataRefused, StorageError
from storage.judged import JudgedReadings
from storage.pool import Pool

T = TypeVar("T")

_log = logging.getLogger(__name__)

_S = 1_000_000
_PIECE_ROWS = 20_000
_MOST_OLD_ROWS = 200_000
_AT_ONCE_ROWS = 200  # more than these are judged beside the loop
_REVISED_AT_ONCE = 50
# A reading received longer ago than the first, or observed longer ago than the second, came late:
# a start must look for it by itself, and not only among what was received last.
_RECEIVED_LATE_US = 60 * _S
_OBSERVED_LATE_US = 900 * _S
_PAGE_LATE_US = 300 * _S
# What was heard within the first and measured no longer before that than the second is in the
# engine's memory for certain, whether the database has it or not.
_LONGEST_LAG_S = 45.0
_HEARD_OLD_US = 45 * _S
_AHEAD_US = 3600 * _S
_LATELY_US = 48 * 3600 * _S
_ANY_HISTORY_US = 35 * 86400 * _S


@dataclass(slots=True)
class _Missed:
    """What is to be looked up in the database: what was received since, and what came late.

    After a start, or after the queue was full (*is_dropped*).
    """

    received_since_us: int
    late_us: Mapping[int, int]
    is_dropped: bool = False


class AlertKeeper:
    """Judges what *listener* hears by the rules of *source*, and keeps the alerts.

    *registry* returns the one in use.  *folder* holds the journal and the saved state.
    *prepared* is set when the database has its tables.  *lag_s* is the age of the oldest reading
    that is accepted and not in the database yet.
    """

    def __init__(
        self,
        listener: Listener,
        registry: Callable[[], Registry],
        source: RuleSource,
        pool: Pool,
        folder: Path,
        *,
        prepared: asyncio.Event,
        lag_s: Callable[[], float] = lambda: 0.0,
        pace: Pace | None = None,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._listener = listener
        self._registry = registry
        self._source = source
        self._folder = folder
        self._prepared = prepared
        self._lag_s = lag_s
        self._pace = pace or Pace()
        self.now_us = now_us
        self.store = AlertStore(pool)
        self._readings = JudgedReadings(pool)
        self.ledger = Ledger(Journal(folder / "alerts.journal"))
        self.lock = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "alerts")
        self._building = asyncio.Lock()
        self._built: BuiltEngine | None = None
        self._known_registry = Registry()
        self._loaded = LoadedRules()
        self._warm_at_s = 0.0
        self._horizon_us = 0
        self._is_outdated = False
        self._late_us: dict[int, int] = {}
        self._old: list[Batch] = []
        self._old_since_s = 0.0
        self._old_until_s = 0.0
        self._missed: _Missed | None = None
        self._book_is_read = False
        self._dropped = 0
        self._unbroken_us = 0
        self._heard_old_s: dict[int, float] = {}
        self._given_up: dict[str, RuleFailure] = {}
        self._overdue_count = 0
        self._kept_back: set[str] = set()
        self._revised = 0
        self._judged_lag_s = 0.0
        self._problems: dict[str, str] = {}

    # -- its life

    async def run(self) -> None:
        """Take up what an earlier run left, then judge until cancelled."""
        await self._begin()
        loops: Mapping[str, Callable[[], Awaitable[None]]] = {
            "hear": self._hear,
            "old": self._judge_old_together,
            "tick": self._tick,
            "follow": self._follow,
            "store": self._store_unsaved,
            "save": self._save_now_and_then,
            "revise": self._revise_now_and_then,
            "catch-up": self._catch_up_where_missed,
        }
        async with asyncio.TaskGroup() as tasks:
            for name, loop in loops.items():
                tasks.create_task(self._insist(name, loop), name=f"alerts-{name}")

    async def close(self, within_s: float) -> None:
        """Judge what was heard, save the state, and offer the database what waits; then stop it.

        Call it while `run` still runs, after the pipeline has ended.
        """
        if self._built is None:
            return
        try:
            async with asyncio.timeout(within_s):
                await _until(lambda: not len(self._listener))
        except TimeoutError:
            _log.warning("stopped before all that was heard was judged; it is stored")
        await self.save()
        try:
            async with asyncio.timeout(within_s):
                await _until(lambda: not len(self.ledger.unsaved))
        except TimeoutError:
            waiting = len(self.ledger.unsaved)
            _log.warning("%d rows of alerts are in the journal and not in the database", waiting)

    async def _insist(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do *work* again when it fails in a way it should not: judging must not end."""
        while True:
            try:
                await work()
                self._problems.pop(name, None)
                return
            except Exception as error:  # whatever it is: logged, and in the health's reason
                _log.exception("alerts: %s failed in a way it should not", name)
                self._problems[name] = f"{name}: {type(error).__name__}: {error}"
                await asyncio.sleep(1.0)

    # -- beginning

    async def _begin(self) -> None:
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        lines = await asyncio.to_thread(read_journal, self._folder / "alerts.journal")
        now_us = self._unbroken_us = self.now_us()
        self._book_is_read = self.ledger.take_up(lines, now_us)
        self._loaded = await asyncio.to_thread(self._load)
        registry = await self._first_registry()
        self.ledger.since_us = self.ledger.since_us or now_us
        built = await self._build(registry)
        saved = await asyncio.to_thread(read_state, self._folder / "alerts.engine")
        self._late_us = dict(late_of(lines))
        self.ledger.adopt(built.loaded.rules(), registry)
        await self._write_anew()
        await self._restore(built, saved)
        self._built, self._known_registry = built, registry
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._pace.database_s):
                await self._prepared.wait()
        except TimeoutError:
            _log.warning("alerts: judging before the database was asked")
        else:
            await self._catch_up_once(loop.time() + self._pace.database_s)
        await self.save()
        self._warm_at_s = loop.time() + self._pace.warm_up_s
        _log.info(
            "alerts: %d rules on %d subjects%s",
            len(built.loaded.rules()),
            len(built.engine.bindings),
            "" if saved else ", without a saved state",
        )

    def _load(self) -> LoadedRules:
        loaded = self._source.load()
        for mistake in loaded.mistakes:
            _log.error("a pack is left out: %s", mistake)
        return loaded

    async def _first_registry(self) -> Registry:
        await _until(lambda: bool(self._registry().series_ids))
        return self._registry()

    async def _build(self, registry: Registry) -> BuiltEngine:
        settings = Settings(since_us=self.ledger.since_us, surroundings=self._source.surroundings)
        return await asyncio.to_thread(build, self._loaded, registry, settings, self.now_us())

    async def _restore(self, built: BuiltEngine, saved: SavedState | None) -> None:
        """Give a new engine what an earlier run knew; without that, let it doubt everything."""
        engine = built.engine
        if saved is not None:
            try:
                gone = await asyncio.to_thread(engine.restore, saved.engine)
            except SnapshotError as error:
                _log.error("the saved state of alerts is of no use: %s", error)
            else:
                self._horizon_us = saved.horizon_us
                self._missed = _Missed(saved.at_us - _RECEIVED_LATE_US, dict(self._late_us))
                await self.ledger.take(gone, self.now_us())
                return
        now_us = self.now_us()
        self._horizon_us = now_us - round(self._pace.recall_s * _S)
        blank = Engine((), engine.registry)
        blank.advance(self._horizon_us)
        engine.restore(blank.snapshot())

    # -- catching up with the database

    async def _catch_up_where_missed(self) -> None:
        """Catch up where the start could not wait for the database, or a full queue dropped some.

        What was dropped is looked up when it is stored.
        """
        loop = asyncio.get_running_loop()
        backoff = Backoff(0.5, 10.0, random.random)
        await self._prepared.wait()
        while True:
            self._note_dropped()
            missed = self._missed
            waits = missed is not None and missed.is_dropped and self._lag_s() > self._pace.settle_s
            if self._is_caught_up or waits:
                await asyncio.sleep(self._pace.tick_s)
            elif await self._catch_up_once(loop.time() + self._pace.database_s):
                backoff.succeeded()
                await self.save()
            else:
                await asyncio.sleep(backoff.failed(loop.time()))

    def _note_dropped(self) -> None:
        """Notice that the queue was full, so that something was stored and not judged."""
        dropped = self._listener.dropped
        if dropped != self._dropped:
            self._dropped = dropped
            since_us = self._unbroken_us - _RECEIVED_LATE_US
            self._missed = _Missed(since_us, dict(self._late_us), is_dropped=True)
        elif self._missed is None and not len(self._listener):
            self._unbroken_us = self.now_us()

    async def _catch_up_once(self, until_s: float) -> bool:
        """Catch up if the database answers; return whether it did."""
        try:
            await self._catch_up(until_s)
        except StorageError as error:
            _log.warning("alerts: judging before the database was asked: %s", error)
            return False
        return True

    @property
    def _is_caught_up(self) -> bool:
        return self._book_is_read and self._missed is None

    async def _catch_up(self, until_s: float) -> None:
        """Take up what the database knows better; raises `StorageError`.

        What is not judged anew by *until_s* (of the loop's clock) is, beside what comes in then.
        """
        now_us = self.now_us()
        if not self._book_is_read:
            stored = await self.store.awake(now_us - _LATELY_US, now_us)
            async with self.lock:
                self.ledger.take_up_stored(stored, now_us)
                await self._withdraw_orphans()
            self._book_is_read = True
        missed = self._missed
        if missed is not None:
            batch = await self._heard_since(missed)
            async with self.lock:
                for piece in _pieces(batch, len(batch) or 1):
                    await self._judge(piece)
            if self._missed is missed:
                self._missed = None
            if len(batch):
                _log.info("alerts: caught up with %d stored readings", len(batch))
        else:
            await self._revise_at_start(until_s)

    async def _heard_since(self, missed: _Missed) -> Batch:
        ids = self._series_ids()
        since_us = missed.received_since_us
        batches = [await self._readings.heard_since(ids, since_us - _OBSERVED_LATE_US, since_us)]
        until_us = self.now_us() + _AHEAD_US
        for series, at_us in missed.late_us.items():
            batches.append(await self._readings.span([series], at_us, until_us))
        return Batch.concatenate(batches).sorted_unique()[0]

    async def _revise_at_start(self, until_s: float) -> None:
        """Judge stored history before anything new, where there is any."""
        built, now_us = self._built, self.now_us()
        if not await self._overdue():
            return
        since_us, until_us = now_us - _ANY_HISTORY_US, now_us + _AHEAD_US
        if not await self._readings.is_any(self._series_ids(), since_us, until_us):
            async with self.lock:
                if self._built is built:
                    self._engine().trust()
            return
        while asyncio.get_running_loop().time() < until_s and self._built is built:
            overdue = await self._overdue()
            if not overdue:
                return
            await self._revise(overdue[:_REVISED_AT_ONCE])

    async def _withdraw_orphans(self) -> None:
        """Let go of open alerts whose rule or subject has gone while nobody looked."""
        judged = {(b.rule.code, b.subject.key) for b in self._engine().bindings}
        now_us = self.now_us()
        gone = [
            Transition(Change.WITHDRAWN, alert.episode, now_us, now_us)
            for alert in self.ledger.book.alerts()
            if alert.is_open and (alert.episode.rule, alert.episode.subject) not in judged
        ]
        if gone:
            await self.ledger.take(gone, now_us)

    # -- judging

    async def _hear(self) -> None:
        while True:
            batch = await self._listener.get_together(_PIECE_ROWS)
            now_us = self.now_us()
            is_old = batch.observed_at_us < now_us - _PAGE_LATE_US
            if is_old.any():
                async with self.lock:
                    await self._gather_old(batch.take(is_old), now_us)
                batch = batch.take(~is_old)
            if not self._is_warm and self._has_old_of(batch):
                # Just started: the store of each series comes before what is measured now.
                async with self.lock:
                    await self._judge_old()
            for piece in _pieces(batch, _PIECE_ROWS):
                async with self.lock:
                    await self._judge(piece)

    async def _gather_old(self, batch: Batch, now_us: int) -> None:
        """Keep *batch*, measured long ago, to be judged with more of it; the lock is held."""
        now_s = asyncio.get_running_loop().time()
        self._old_since_s = self._old_since_s if self._old else now_s
        self._old_until_s = now_s
        self._old.append(batch)
        self._note_old(batch, now_us)
        await self._note_late(batch, now_us)
        if sum(len(one) for one in self._old) >= _MOST_OLD_ROWS:
            await self._judge_old()

    def _has_old_of(self, batch: Batch) -> bool:
        """Tell whether old readings wait of a series in *batch*."""
        return any(np.isin(batch.series_id, old.series_id).any() for old in self._old)

    async def _judge_old_together(self) -> None:
        """Judge what was measured long ago when no more of it comes, or enough was waited.

        Nobody is woken by it, and each piece alone would write history anew.
        """
        while True:
            await asyncio.sleep(self._pace.tick_s)
            now_s = asyncio.get_running_loop().time()
            is_quiet = now_s - self._old_until_s >= self._pace.quiet_s
            if is_quiet or now_s - self._old_since_s >= self._pace.gather_s:
                await self._judge_old_by_turns()

    async def _judge_old_by_turns(self) -> None:
        """Judge what waits of old readings; between its pieces others have their turn."""
        async with self.lock:
            self._old = list(_by_series(self._old))
            count = len(self._old)
        for _ in range(count):
            async with self.lock:
                if self._old:  # a save has not judged it meanwhile
                    await self._judge(self._old.pop(0))

    async def _judge_old(self) -> None:
        """Judge what waits of old readings; the lock is held."""
        old, self._old = self._old, []
        for piece in _by_series(old):
            await self._judge(piece)

    async def _judge(self, batch: Batch) -> None:
        """Judge *batch*; the lock is held."""
        now_us = self.now_us()
        self._note_old(batch, now_us)
        engine, horizon_us = self._engine(), self._time(now_us)
        if len(batch) > _AT_ONCE_ROWS:
            news = await self._beside(engine.feed, batch, horizon_us)
        else:
            news = engine.feed(batch, horizon_us)
        news = self._without_old_pages(news, now_us)
        await self._note_late(batch, now_us)
        if news:
            await self.ledger.take(news, now_us)
        if len(batch):
            self._judged_lag_s = max(0.0, (self.now_us() - int(batch.received_at_us.max())) / _S)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._pace.tick_s)
            async with self.lock:
                now_us = self.now_us()
                news = await self._beside(self._engine().advance, self._time(now_us))
                news = [*self._old_pages(now_us), *self._without_old_pages(news, now_us)]
                await self.ledger.take(news, now_us)
                if self.ledger.problem:
                    await self._write_anew()
                self._overdue_count = len(self._engine().overdue())

    @property
    def _is_warm(self) -> bool:
        return asyncio.get_running_loop().time() >= self._warm_at_s > 0

    def _time(self, now_us: int) -> int:
        """Return the time for the engine: it stands still while the collectors catch up."""
        if self._is_warm:
            self._horizon_us = now_us
        return self._horizon_us

    def _without_old_pages(self, news: Sequence[Transition], now_us: int) -> list[Transition]:
        """Keep back pages for what was measured long ago, until it is known what still stands."""
        out = []
        for one in news:
            if one.page and not self._is_warm and one.at_us < now_us - _PAGE_LATE_US:
                self._kept_back.add(one.episode.id)
                one = replace(one, page=False)
            out.append(one)
        return out

    def _old_pages(self, now_us: int) -> list[Transition]:
        """Return pages that were kept back for what stands still, when that can be known."""
        if not self._kept_back or not self._is_warm:
            return []
        found = [self.ledger.book.alert(one) for one in self._kept_back]
        self._kept_back.clear()
        return [
            Transition(Change.STANDS, alert.episode, now_us, now_us, page=True)
            for alert in found
            if alert is not None and alert.is_open
        ]

    async def _note_late(self, batch: Batch, now_us: int) -> None:
        late = (batch.observed_at_us < now_us - _OBSERVED_LATE_US) | (
            batch.received_at_us < now_us - _RECEIVED_LATE_US
        )
        if not late.any():
            return
        batch = batch.take(late)
        found: dict[int, int] = {}
        for series in np.unique(batch.series_id).tolist():
            at_us = int(batch.observed_at_us[batch.series_id == series].min())
            if at_us < self._late_us.get(series, at_us + 1):
                found[series] = at_us
        if found:
            self._late_us |= found
            await self.ledger.note_late(found)

    def _engine(self) -> Engine:
        assert self._built is not None
        return self._built.engine

    def _series_ids(self) -> list[int]:
        engine = self._engine()
        codes = {code for b in engine.bindings for codes in b.leaves for code in codes}
        return sorted(engine.registry.series_ids[code] for code in codes)

    # -- other rules, another registry

    def use(self, source: RuleSource) -> None:
        """Judge by the rules of *source* soon."""
        if not source.says_the_same(self._source):
            self._source = source
            self._is_outdated = True

    async def _follow(self) -> None:
        """Build another engine when the registry or the site file is another one."""
        while True:
            await asyncio.sleep(self._pace.tick_s)
            registry = self._registry()
            is_other = registry.revision != self._known_registry.revision
            if not registry.series_ids or not (is_other or self._is_outdated):
                continue
            async with self._building:
                if self._is_outdated:
                    self._is_outdated = False
                    self._loaded = await asyncio.to_thread(self._load)
                await self._rebuild(registry)

    async def reload(self) -> None:
        """Judge by the packs as they now lie on the disk."""
        async with self._building:
            self._loaded = await asyncio.to_thread(self._load)
            if self._built is not None:
                await self._rebuild(self._known_registry)

    async def _rebuild(self, registry: Registry) -> None:
        """Put another engine in the place of this one; judging goes on while it is built."""
        before_us = self.ledger.since_us
        self.ledger.since_us = self.now_us()
        try:
            built = await self._build(registry)
        except BaseException:  # cancelled, too: the engine in use goes on as it was
            self.ledger.since_us = before_us
            raise
        async with self.lock:
            data = await self._beside(self._engine().snapshot)
            gone = await asyncio.to_thread(built.engine.restore, data)
            self._built, self._known_registry = built, registry
            self._given_up.clear()
            self.ledger.adopt(built.loaded.rules(), registry)
            await self.ledger.take(gone, self.now_us())
        _log.info("alerts: now %d subjects are judged", len(built.engine.bindings))
        await self.save()

    # -- readings that came too late for memory

    async def _revise_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(self._pace.revise_s)
            ripe = await self._ripe()
            if not ripe or not self._is_caught_up:
                continue
            try:
                await self._revise(ripe[:_REVISED_AT_ONCE])
            except StorageError as error:
                _log.debug("history is not judged again yet: %s", error)

    async def _ripe(self) -> list[Overdue]:
        """Return what is overdue and whose readings are known: in the database, or in memory.

        A history that lacks what was heard and forgotten again would make silences of it.
        """
        lag_s = self._lag_s()
        if lag_s > _LONGEST_LAG_S:
            return []
        stored_s = asyncio.get_running_loop().time() - lag_s - self._pace.settle_s
        self._heard_old_s = {
            series: heard_s for series, heard_s in self._heard_old_s.items() if heard_s > stored_s
        }
        return [
            one for one in await self._overdue() if not self._has_heard_old_since(one, stored_s)
        ]

    async def _beside(self, work: Callable[..., T], *arguments: object) -> T:
        """Do *work* of the engine beside the loop, always in one thread: each has its own heap."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(work, *arguments))

    def _note_old(self, batch: Batch, now_us: int) -> None:
        """Remember which series spoke of times that the engine's memory may not hold for long."""
        old = batch.observed_at_us < now_us - _HEARD_OLD_US
        if old.any():
            now_s = asyncio.get_running_loop().time()
            self._heard_old_s |= dict.fromkeys(np.unique(batch.series_id[old]).tolist(), now_s)

    def _has_heard_old_since(self, overdue: Overdue, since_s: float) -> bool:
        return any(self._heard_old_s.get(one, since_s) > since_s for one in overdue.series_ids)

    async def _overdue(self) -> list[Overdue]:
        async with self.lock:
            overdue = self._engine().overdue()
        return [one for one in overdue if one.rule not in self._given_up]

    async def _revise(self, overdue: Sequence[Overdue]) -> None:
        """Judge *overdue* again from stored history; raises `StorageError`."""
        built = self._built
        keys = [(one.rule, one.subject, one.late_us) for one in overdue]
        stored = await self.store.known(keys)
        groups = await self.store.some_groups({one.group for one in stored if one.group})
        for one in overdue:
            known = self._known(one, stored)
            since_us = one.since_us(alert.alert.episode for alert in known)
            until_us = self.now_us() + _AHEAD_US
            asked_s = asyncio.get_running_loop().time()
            history = await self._readings.span(one.series_ids, since_us, until_us)
            async with self.lock:
                if self._built is not built:
                    return
                if self._has_heard_old_since(one, asked_s):
                    continue  # the history may lack that; it stays overdue
                self.ledger.remember(known, groups)
                await self._revise_one(one, history, known)

    def _known(self, overdue: Overdue, stored: Sequence[StoredAlert]) -> list[StoredAlert]:
        """Return what is known of the episodes of *overdue*; memory goes before the database."""
        found = {one.alert.id: one for one in (*stored, *self.ledger.all())}
        return [
            one
            for one in found.values()
            if one.alert.episode.rule == overdue.rule
            and one.alert.episode.subject == overdue.subject
            and one.alert.phase not in (Phase.RETRACTED, Phase.WITHDRAWN)
            and (one.alert.episode.resolved_at_us or overdue.late_us) >= overdue.late_us
        ]

    async def _revise_one(
        self, overdue: Overdue, history: Batch, known: Sequence[StoredAlert]
    ) -> None:
        engine = self._engine()
        episodes = [one.alert.episode for one in known]
        try:
            news = await self._beside(engine.revise, [overdue], history, episodes)
        except Exception as error:  # one broken rule must not stop the others
            _log.exception("rule %s cannot be judged again", overdue.rule)
            reason = f"{type(error).__name__}: {error}"
            self._given_up[overdue.rule] = RuleFailure(overdue.rule, reason, self.now_us())
            return
        self._revised += 1
        if news:
            await self.ledger.take(news, self.now_us())

    # -- keeping

    async def save(self) -> None:
        """Save the engine's state, and write the journal anew.

        Not before a start has looked up what it missed: that belongs to the state on the disk.
        """
        if self._missed is not None:
            return
        async with self.lock:
            await self._judge_old()
            now_us = self.now_us()
            data = await self._beside(self._engine().snapshot)
            late_us, self._late_us = self._late_us, {}
            state = SavedState(now_us, self._horizon_us, data)
            try:
                await asyncio.to_thread(write_state, self._folder / "alerts.engine", state)
            except OSError as error:
                _log.error("the state of alerts cannot be saved: %s", error)
                self._problems["save"] = f"the state of alerts cannot be saved: {error}"
                self._late_us = late_us
            else:
                self._problems.pop("save", None)
            if self.ledger.has_grown or late_us:
                await self._write_anew()

    async def _write_anew(self) -> None:
        try:
            await self.ledger.write_anew(self._late_us)
        except OSError as error:
            _log.error("the journal of alerts cannot be written anew: %s", error)

    async def _save_now_and_then(self) -> None:
        loop = asyncio.get_running_loop()
        pause_s = self._pace.save_s
        while True:
            await asyncio.sleep(pause_s)
            begun_s = loop.time()
            await self.save()
            # With very many subjects a save takes long, and everything waits for it.
            pause_s = max(self._pace.save_s, 50 * (loop.time() - begun_s))

    async def _store_unsaved(self) -> None:
        """Bring to the database what waits for it, for ever."""
        backoff = Backoff(0.2, 5.0, random.random)
        loop = asyncio.get_running_loop()
        await self._prepared.wait()
        while True:
            await self.ledger.waiting.wait()
            batch = self.ledger.unsaved.batch()
            try:
                await self.store.write(batch)
            except DataRefused:
                await self._store_singly(batch)
            except StorageError as error:
                self._note_away(error)
                await asyncio.sleep(backoff.failed(loop.time()))
                continue
            backoff.succeeded()
            self._note_away(None)
            self.ledger.stored(batch)

    async def _store_singly(self, changes: AlertChanges) -> None:
        """Store each row of *changes* alone; what the database can never take goes to the log."""
        for one in singles(changes):
            try:
                await self.store.write(one)
            except DataRefused as error:
                self.ledger.unsaved.dropped += 1
                _log.error("the database refuses %s: %r", error, one)

    def _note_away(self, error: StorageError | None) -> None:
        if error is not None and "store" not in self._problems:
            _log.warning("alerts wait for the database: %s", error)
            self._problems["store"] = f"alerts wait for the database: {error}"
        elif error is None and self._problems.pop("store", ""):
            _log.info("alerts are in the database again")

    # -- looking

    @property
    def loaded(self) -> LoadedRules:
        """The packs in force, and what is wrong with others."""
        return self._loaded

    @property
    def surroundings(self) -> Surroundings:
        """Tags and plantings of the site file."""
        return self._source.surroundings

    @property
    def built(self) -> BuiltEngine | None:
        """The engine in use; None before the registry is known."""
        return self._built

    def failures(self) -> Mapping[str, RuleFailure]:
        """Return the rules that are out of use, by code."""
        return {**(self._built.all_failures() if self._built else {}), **self._given_up}

    def status(self) -> KeeperStatus:
        """Return how it is."""
        counts: dict[int, int] = {}
        for alert in self.ledger.book.alerts():
            if alert.is_open:
                severity = alert.episode.severity
                counts[severity] = counts.get(severity, 0) + 1
        built = self._built
        problems = [self.ledger.problem, *self._problems.values()]
        return KeeperStatus(
            judging=built is not None,
            warming_up=not self._is_warm,
            problem="; ".join(problem for problem in problems if problem),
            bindings=len(built.engine.bindings) if built else 0,
            open=counts,
            failures=self.failures(),
            mistakes=len(self._loaded.mistakes),
            waiting=sum(len(batch) for batch in self._old),
            overdue=self._overdue_count,
            revised=self._revised,
            unsaved=len(self.ledger.unsaved),
            dropped=self.ledger.unsaved.dropped,
            lag_s=self._judged_lag_s,
            entries=dict(self.ledger.entries_by_kind),
            notices=dict(self.ledger.notices_by_told),
        )


def _pieces(batch: Batch, rows: int) -> Iterator[Batch]:
    for start in range(0, len(batch), rows):
        yield batch.take(slice(start, start + rows))


def _by_series(batches: Sequence[Batch]) -> Iterator[Batch]:
    """Yield *batches* in pieces that have all readings of a series, in the order they came."""
    if not batches:
        return
    batch = Batch.concatenate(batches)
    batch = batch.take(np.argsort(batch.series_id, kind="stable"))
    firsts = np.flatnonzero(np.diff(batch.series_id)) + 1
    start = 0
    for begin, end in pairwise([0, *firsts.tolist(), len(batch)]):
        if end - start > _PIECE_ROWS and begin > start:
            yield batch.take(slice(start, begin))
            start = begin
    yield batch.take(slice(start, len(batch)))


async def _until(condition: Callable[[], bool]) -> None:
    """Return when *condition* holds."""
    while True:
        if condition():
            return
        await asyncio.sleep(0.02)
