"""Derived series follow their inputs: a loop beside the flow of readings, which it never delays."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence

from api.health import DerivationHealth
from devices.derived_series import Period, Span
from devices.quality import Quality
from devices.reading import Batch
from devices.registry import Registry
from greenhouse.derivation_plan import DerivationPlan, Piece, joined
from ingest.listener import Listener
from storage.derived import Change, DerivedStore
from storage.errors import StorageError

_log = logging.getLogger(__name__)

_EVERY_S = 0.5
_PAUSE_S = 1.0  # after something went wrong
_CHANGES_AT_A_TIME = 500
_REDO_AT_A_TIME = 10
_BACKFILL_US = 31 * 86_400_000_000
_AHEAD_US = 86_400_000_000
_FRESH_US = 300_000_000
# What a running period has come to so far is told this often: every 5 minutes of a day.
_PARTS_OF_A_PERIOD = 288


class DerivationKeeper:
    """Makes what *store* says is to be made, for the registry as it is now.

    New and other values are offered to *listeners* once they are stored, those of periods when they
    have ended.  Everything that must not
    be forgotten stands in the database; what is only kept here is found again at the next start.
    """

    def __init__(
        self,
        store: DerivedStore,
        registry: Callable[[], Registry],
        listeners: Sequence[Listener] = (),
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._store = store
        self._registry = registry
        self._listeners = tuple(listeners)
        self._now_us = now_us
        self._plan: DerivationPlan | None = None
        # Of periods: what waits for the next telling, when that is due, and what goes on.
        self._later: dict[int, Span] = {}
        self._due_us: dict[int, int] = {}
        self._running_us: dict[int, int] = {}
        self.problem = ""
        # For `health`: since when changes have been waiting, and what a pass has found and done.
        self._behind_since_us: int | None = None
        self._waiting = (0, 0)
        self._ran_us: int | None = None
        self._made = 0
        self._failures = 0

    async def run(self) -> None:
        """Run until cancelled; while the database is away nothing is lost, only late."""
        while True:
            busy, problem = False, ""
            try:
                busy = await self.step()
            except StorageError as error:
                problem = str(error)
            except Exception as error:  # whatever it is: it must not end what is measured
                kind = type(error).__name__
                problem = f"{kind}: {error}"
                if not self.problem.startswith(kind):
                    _log.exception("derived series cannot be followed")
            self._note(problem)
            if not busy:
                await asyncio.sleep(_PAUSE_S if problem else _EVERY_S)

    def health(self) -> DerivationHealth:
        """Return how it goes, from what is known here; asks nobody."""
        behind_us = 0
        if self._behind_since_us is not None:
            behind_us = max(0, self._now_us() - self._behind_since_us)
        waiting, redo = self._waiting
        plan = self._plan
        return DerivationHealth(
            series=len(plan.bound) if plan else 0,
            lost=tuple(plan.lost) if plan else (),
            reason=self.problem,
            lag_s=behind_us / 1e6,
            waiting=waiting,
            redo=redo,
            ran_us=self._ran_us,
            made=self._made,
            failures=self._failures,
        )

    def _note(self, problem: str) -> None:
        """Say it once when derived series have to wait, and once when they go on."""
        if problem:
            self._failures += 1
            self._is_behind()
        if problem and not self.problem:
            _log.warning("derived series wait: %s", problem)
        elif self.problem and not problem:
            _log.info("derived series are followed again")
        self.problem = problem

    def _is_behind(self) -> None:
        if self._behind_since_us is None:
            self._behind_since_us = self._now_us()

    async def step(self) -> bool:
        """Do what is to be done now, or a part of it; return whether there may be more."""
        is_more, is_followed = await self._step()
        self._waiting = await self._store.waiting() if is_more else (0, 0)
        if is_followed:
            self._behind_since_us = None
        self._ran_us = self._now_us()
        return is_more

    async def _step(self) -> tuple[bool, bool]:
        """Do it; return whether there may be more, and whether changes of inputs are followed."""
        plan = await self._current()
        now_us = self._now_us()
        changes = await self._store.pending(_CHANGES_AT_A_TIME)
        redo = await self._store.pending(_REDO_AT_A_TIME, redo=True)
        if changes:
            self._is_behind()
            self._waiting = len(changes), len(redo)
        # In a thread, like all that takes time with many series: readings go on arriving meanwhile.
        pieces, told = await asyncio.to_thread(self._due, plan, changes, redo, now_us)
        if not pieces and not changes and not redo:
            return False, True
        if not await self._make(plan, pieces, [one.id for one in (*changes, *redo)], now_us):
            return True, False  # another process took part of it: look again
        for one in told:
            self._later.pop(one, None)
        is_followed = len(changes) < _CHANGES_AT_A_TIME
        return not is_followed or bool(redo), is_followed

    def _due(
        self, plan: DerivationPlan, changes: Sequence[Change], redo: Sequence[Change], now_us: int
    ) -> tuple[list[Piece], list[int]]:
        """Return what is to be made, and the periods that are told with it."""
        spans = plan.touched(changes)
        told = self._tell_periods(plan, spans, now_us)
        pieces = [Piece(one, span) for one, some in spans.items() for span in some]
        # Not joined with those: the older part of a long span goes back to the end of the queue.
        return [*pieces, *(Piece(one, span) for one, span in _ordered(plan, redo))], told

    async def _make(
        self, plan: DerivationPlan, pieces: Sequence[Piece], forget: Sequence[int], now_us: int
    ) -> bool:
        """Make *pieces* and forget the changes; tell whether nobody else was at it."""
        lots, left = await asyncio.to_thread(plan.lots, pieces, now_us)
        for lot in lots[:-1]:
            self._offer(await self._store.rework(lot, now_us))
        # Only with the last of it are the changes forgotten.
        fresh = await self._store.rework(lots[-1], now_us, forget, left)
        self._offer(fresh)
        return fresh is not None

    async def _current(self) -> DerivationPlan:
        """Return the plan; a new one records how its series are made and orders what is missing."""
        registry = self._registry()
        if self._plan is not None and self._plan.revision == registry.revision:
            return self._plan
        plan = await asyncio.to_thread(DerivationPlan, registry)
        for code in plan.lost:
            _log.warning(
                "%s cannot be derived: an input is gone, or its formula is not known", code
            )
        now_us = self._now_us()
        unlike = plan.unlike(await self._store.recorded())
        if unlike:
            _log.info("%d derived series are new or made otherwise: computing a month", len(unlike))
            await self._store.record(unlike, now_us - _BACKFILL_US, now_us + _AHEAD_US)
        await self._recall_periods(plan, now_us)
        self._plan = plan
        return plan

    async def _recall_periods(self, plan: DerivationPlan, now_us: int) -> None:
        """Tell again every period from the newest that was told: it may have ended meanwhile."""
        periods = plan.periods
        newest = await self._store.newest_us(list(periods)) if periods else {}
        self._due_us = {}
        self._running_us = plan.running(now_us)
        self._later = {}
        for one, how in periods.items():
            # One that was never told may have waited for that since the period before.
            from_us = newest.get(one, self._running_us[one] - 1)
            self._later[one] = Span(how.periods.start_of(from_us), now_us + 1)

    def _tell_periods(
        self, plan: DerivationPlan, spans: dict[int, list[Span]], now_us: int
    ) -> list[int]:
        """Add to *spans* the periods that are to be told now, take out those that can wait.

        Returns the series whose waiting is over once *spans* are made.
        """
        told: list[int] = []
        for one, running_us in plan.running(now_us).items():
            has_begun = running_us > self._running_us[one]
            is_due = one in self._later and now_us >= self._due_us.get(one, 0)
            if not has_begun and not is_due and one not in spans:
                continue  # most of thousands, most of the time
            waiting = [self._later[one]] if one in self._later else []
            if has_begun:
                waiting.append(Span(self._running_us[one], running_us + 1))
                self._running_us[one] = running_us
                self._due_us.pop(one, None)
            some = spans.pop(one, [])
            past, running = _parted(some, running_us)
            waiting += running
            if waiting and now_us >= self._due_us.get(one, 0):
                past += waiting
                told.append(one)
                if running or one in self._due_us:  # what is told again at the start is no telling
                    self._due_us[one] = now_us + _pause_us(plan.periods[one], now_us)
            if waiting:
                whole = joined(waiting)
                self._later[one] = Span(whole[0].start_us, whole[-1].end_us)
            if past:
                spans[one] = joined(past)
        return told

    def _offer(self, fresh: Batch | None) -> None:
        if fresh is None:
            return
        self._made += len(fresh)
        # A period that goes on is told, not judged: 3 mol at nine in the morning is no dark day.
        fresh = fresh.take(fresh.quality & Quality.PROVISIONAL == 0)
        is_new = fresh.observed_at_us > self._now_us() - _FRESH_US
        for listener in self._listeners:
            listener.offer(fresh.take(is_new), True)
            listener.offer(fresh.take(~is_new), False)


def _ordered(plan: DerivationPlan, redo: Sequence[Change]) -> Iterator[tuple[int, Span]]:
    """Yield what was ordered of series that there are."""
    for one in redo:
        for series_id, first_us, last_us in zip(
            one.series_ids, one.first_us, one.last_us, strict=True
        ):
            if series_id in plan.bound:
                yield series_id, Span(first_us, last_us + 1)


def _parted(spans: Sequence[Span], at_us: int) -> tuple[list[Span], list[Span]]:
    """Return what of *spans* lies before *at_us*, and from then on."""
    before = [Span(one.start_us, min(one.end_us, at_us)) for one in spans if one.start_us < at_us]
    after = [Span(max(one.start_us, at_us), one.end_us) for one in spans if one.end_us > at_us]
    return before, after


def _pause_us(how: Period, now_us: int) -> int:
    length_us = how.periods.end_of(now_us) - how.periods.start_of(now_us)
    return length_us // _PARTS_OF_A_PERIOD
