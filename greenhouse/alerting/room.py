"""The alerts of one process: what judges or what only reads, with the desk for HTTP over it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

from alerts.rule import Severity
from api.alerts import AlertDesk
from api.health import AlertHealth
from devices.registry import Registry
from devices.site_file import SiteFile
from greenhouse.alerting.desk import LiveDesk, StoredDesk
from greenhouse.alerting.keeper import AlertKeeper
from greenhouse.alerting.rules import RuleSource
from greenhouse.alerting.status import Pace
from greenhouse.pack_folder import PackFolder
from ingest.counters import Counters
from ingest.listener import Listener
from storage.alerts import AlertStore
from storage.pool import Pool

_FOLLOW_S = 5.0
_LISTENER_ROWS = 500_000


class AlertRoom:
    """Everything about alerts that a service starts, asks and stops.

    *folder* is where alerts are kept beside the spool; None in a process that only reads.
    """

    def __init__(
        self,
        site_file: SiteFile,
        path: Path,
        pool: Pool,
        registry: Callable[[], Registry],
        counters: Counters,
        prepared: asyncio.Event,
        folder: Path | None,
        lag_s: Callable[[], float] = lambda: 0.0,
        pace: Pace | None = None,
    ) -> None:
        self.packs = PackFolder.of(path)
        source = RuleSource.of(site_file, self.packs)
        self.listener = Listener("alerts", counters, _LISTENER_ROWS)
        self._keeper: AlertKeeper | None = None
        self.desk: AlertDesk
        if folder is None:
            self._stored = StoredDesk(
                AlertStore(pool), source, registry, lambda: time.time_ns() // 1000
            )
            self.desk = self._stored
            return
        self._keeper = AlertKeeper(
            self.listener,
            registry,
            source,
            pool,
            folder,
            prepared=prepared,
            lag_s=lag_s,
            pace=pace,
        )
        self.desk = LiveDesk(self._keeper)

    def use(self, site_file: SiteFile) -> None:
        """Take up the packs, tags and plantings of a site file that was read again."""
        if self._keeper is not None:
            self._keeper.use(RuleSource.of(site_file, self.packs))

    def run(self) -> Coroutine[None, None, None]:
        """Return the work of this room, to be run until cancelled."""
        return self._keeper.run() if self._keeper else self._stored.run(_FOLLOW_S)

    async def close(self, within_s: float) -> None:
        """Judge what was heard and save it, before `run` is cancelled."""
        if self._keeper is not None:
            await self._keeper.close(within_s)

    def health(self) -> AlertHealth | None:
        """Return how judging goes; None in a process that only reads."""
        if self._keeper is None:
            return None
        status = self._keeper.status()
        return AlertHealth(
            judging=status.judging,
            warming_up=status.warming_up,
            reason=status.problem,
            bindings=status.bindings,
            open={severity.word: status.open.get(severity, 0) for severity in Severity},
            failed_rules={code: failure.reason for code, failure in status.failures.items()},
            packs_left_out=status.mistakes,
            waiting=status.waiting,
            overdue=status.overdue,
            revised=status.revised,
            unsaved=status.unsaved,
            dropped=status.dropped,
            lag_s=status.lag_s,
            transitions=status.entries,
            notices=status.notices,
        )
