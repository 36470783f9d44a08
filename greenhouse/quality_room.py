"""Quality in the service: the judge, its state over restarts, and the calibration book.

    book in the database ──▶ hold the writer ▶ judge by it ▶ correct what is stored ▶ go on
                                                  └──▶ calibrations.json, by which readings are
                                                       judged while the database is away

Nothing is stored before the book is known to be the newest, and nothing while stored readings are
being corrected; what comes meanwhile lies in the spool, and rules hear it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path

import msgspec

from api.calibrations import overdue
from api.health import CalibrationHealth
from devices.calibration import Calibration, Ledger, Timeline, Window, changes
from devices.checks import Checks
from devices.quantity import QUANTITIES
from devices.registry import Registry
from ingest.pipeline import Pipeline
from ingest.quality.judge import Judge
from ingest.quality.state_file import StateFile, StateUnreadable
from ingest.whole_file import write_whole
from storage.calibrations import CalibrationStore, KeptCorrection, refresh_rollups
from storage.errors import StorageError
from storage.pool import Pool

_log = logging.getLogger(__name__)

_LOOK_EVERY_S = 2.0
_SAVE_EVERY_S = 10.0
_SAVED_BYTES_PER_S = 1e6  # a city's state is written less often than a house's
_RETRY_S = 1.0


class QualityRoom:
    """Keeps *judge* and the book; *folder* is the spool's, None in a process that only answers.

    *registry* and *archive* tell what is known now, the latter with what is retired.  *prepared* is
    set when the database has its schema.
    """

    def __init__(
        self,
        checks: Checks,
        folder: Path | None,
        pool: Pool,
        dsn: str,
        registry: Callable[[], Registry],
        archive: Callable[[], Registry],
        prepared: asyncio.Event,
    ) -> None:
        self.judge = Judge(checks)
        self.store = CalibrationStore(pool)
        self.ledger = Ledger()
        self.may_store = asyncio.Event()
        self.pipeline: Pipeline | None = None
        self._file = StateFile(folder / "quality.npz") if folder is not None else None
        self._cache = folder / "calibrations.json" if folder is not None else None
        self._dsn = dsn
        self._registry = registry
        self._archive = archive
        self._prepared = prepared
        self._news = asyncio.Event()
        self._problem = ""
        self._saved = -1
        self._saving = asyncio.Lock()
        self._closed = False

    # The judge's state, and the book as an earlier run knew it.

    async def recall(self) -> None:
        """Take up what an earlier process left; a file that cannot be read costs a warning."""
        if self._file is None or self._cache is None:
            return
        try:
            found = await asyncio.to_thread(self._file.load)
            if found is not None:
                columns, complete = found
                self.judge.recall(columns, complete=complete)
        except (OSError, StateUnreadable, KeyError, ValueError) as error:
            _log.warning("readings are judged without those of an earlier run: %s", error)
        # From here on the file is behind what is judged, whatever it says.
        await self._save(complete=False)
        try:
            content = await asyncio.to_thread(self._cache.read_bytes)
            self.ledger = msgspec.json.decode(content, type=Ledger)
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("the calibrations of an earlier run cannot be read: %s", error)

    def adopt(self, registry: Registry) -> None:
        """Lay the book out for *registry*, before anything is decoded by it."""
        self.judge.timeline = Timeline.build(self.ledger, registry)

    def background(self) -> dict[str, Coroutine[None, None, None]]:
        """Return what runs beside the flow of readings, by the name of its task."""
        work: dict[str, Coroutine[None, None, None]] = {"calibrations": self._follow()}
        if self._file is not None:
            work["quality"] = self._keep()
        return work

    async def close(self) -> None:
        """Keep the state as the last word; nothing may be judged any more."""
        self._closed = True
        await self._save(complete=True)

    async def _keep(self) -> None:
        pause_s = _SAVE_EVERY_S
        while not self._closed:
            await asyncio.sleep(pause_s)
            if self.judge.judged != self._saved and not self._closed:
                size = await self._save(complete=False)
                pause_s = max(_SAVE_EVERY_S, size / _SAVED_BYTES_PER_S)

    async def _save(self, *, complete: bool) -> int:
        """Write the file and return its size; one at a time, so that the last one is the last."""
        if self._file is None:
            return 0
        async with self._saving:
            self._saved = self.judge.judged
            columns = self.judge.remembered()
            try:
                return await asyncio.to_thread(self._file.save, columns, complete=complete)
            except OSError as error:
                _log.warning("what readings are judged by cannot be kept: %s", error)
                return 0

    # The book.

    async def add_calibration(self, entry: Calibration) -> Calibration:
        """Enter *entry*; it is carried out in a moment, by whichever process ingests."""
        entered = await self.store.add_calibration(entry)
        self.look()
        return entered

    async def add_window(self, entry: Window) -> Window:
        """Enter *entry*; it is carried out in a moment, by whichever process ingests."""
        entered = await self.store.add_window(entry)
        self.look()
        return entered

    async def corrections(self, series: str | None, limit: int) -> list[KeptCorrection]:
        """Return up to *limit* corrections of stored readings, the newest first."""
        return await self.store.corrections(series, limit)

    def health(self, now_us: int) -> CalibrationHealth:
        """Return how the book stands, as far as it is known."""
        ledger = self.ledger
        return CalibrationHealth(
            entries=len(ledger.calibrations) + len(ledger.windows),
            overdue=tuple(one.series for one in overdue(ledger, now_us)),
            pending=ledger.revision - ledger.applied,
            reason=self._problem,
        )

    def look(self) -> None:
        """Look for news of the book now; for whoever has just written into it."""
        self._news.set()

    async def _follow(self) -> None:
        """Follow the book in the database; runs until cancelled."""
        await self._prepared.wait()
        while True:
            try:
                await self._look()
                self._note("")
            except StorageError as error:
                self._note(str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._news.wait()
            self._news.clear()

    async def _look(self) -> None:
        revision, applied = await self.store.state()
        if self.pipeline is None:  # a process that only answers
            if (revision, applied) != (self.ledger.revision, self.ledger.applied):
                self.ledger = await self.store.ledger()
            return
        if (revision, applied) == (self.ledger.revision, revision):
            self.may_store.set()
            return
        ledger = await self.store.ledger()
        async with self.pipeline.held():
            self._use(ledger)
            span = await self._carry_out(ledger)
        self.may_store.set()
        await self._remember()
        _log.info("calibrations up to entry %d are in force", ledger.revision)
        if span is not None:
            await self._refresh(*span)

    def _use(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.adopt(self._registry())

    async def _carry_out(self, ledger: Ledger) -> tuple[int, int] | None:
        """Correct stored readings until they follow *ledger*, however long the database is away.

        Return from when to when any were corrected.
        """
        spans: list[tuple[int, int]] = []
        while True:
            try:
                if await self.store.planned():  # an earlier process ended in the middle
                    spans += await self._correct()
                before = await self.store.ledger()
                if before.applied < ledger.revision:
                    await self._plan(ledger, before.applied)
                    spans += await self._correct()
                self._note("")
                break
            except StorageError as error:
                self._note(str(error))
                await asyncio.sleep(_RETRY_S)
        self.ledger = _applied(ledger)
        if not spans:
            return None
        return min(start for start, _ in spans), max(end for _, end in spans)

    async def _plan(self, ledger: Ledger, applied: int) -> None:
        archive = self._archive()
        old = Timeline.build(ledger.until(applied), archive)
        found = list(changes(old, Timeline.build(ledger, archive)))
        if not found:
            await self.store.finish(ledger.revision)
            return
        limits = {
            number: (QUANTITIES[series.quantity].low, QUANTITIES[series.quantity].high)
            for code, number in archive.series_ids.items()
            if (series := archive.series.get(code)) is not None
        }
        await self.store.plan(ledger.revision, found, limits)

    async def _correct(self) -> list[tuple[int, int]]:
        spans = []
        while (piece := await self.store.correct()) is not None:
            if piece.readings:
                spans.append((piece.start_us, piece.end_us))
        return spans

    async def _refresh(self, start_us: int, end_us: int) -> None:
        try:
            await refresh_rollups(self._dsn, start_us, end_us)
        except StorageError as error:  # maintenance makes them anew within the hour
            _log.warning("roll-ups of corrected readings are still as they were: %s", error)

    async def _remember(self) -> None:
        if self._cache is None:
            return
        content = msgspec.json.encode(self.ledger)
        try:
            await asyncio.to_thread(write_whole, self._cache, content)
        except OSError as error:
            _log.warning("calibrations cannot be remembered in %s: %s", self._cache, error)

    def _note(self, problem: str) -> None:
        """Log once when the book cannot be read, and once when it can again."""
        if problem and not self._problem:
            _log.error("the calibration book cannot be read: %s", problem)
        elif self._problem and not problem:
            _log.info("the calibration book is read again")
        self._problem = problem


def _applied(ledger: Ledger) -> Ledger:
    return Ledger(ledger.calibrations, ledger.windows, ledger.revision, ledger.revision)
