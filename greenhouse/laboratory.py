"""Reviewed results on their way to the rules: they are in the database before anybody is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from devices.reading import Batch
from storage.errors import StorageError
from storage.laboratory import LaboratoryStore

_log = logging.getLogger(__name__)
_EVERY_S = 2.0
_AT_A_TIME = 1_000


class ResultTeller:
    """Hands the readings of new results to *tell*, whoever added them: a post, or the command line.

    At least once: a result is marked when it was told, so a crash between the two tells it again.
    """

    def __init__(self, results: LaboratoryStore, tell: Callable[[Batch], None]) -> None:
        self._results = results
        self._tell = tell

    async def run(self) -> None:
        """Run until cancelled; a database that is away is simply asked again."""
        while True:
            try:
                while await self.tell_some():
                    pass
            except StorageError as error:
                _log.debug("no results to tell now: %s", error)
            await asyncio.sleep(_EVERY_S)

    async def tell_some(self) -> int:
        """Tell some of the results that nobody was told of; return how many."""
        untold = await self._results.untold(_AT_A_TIME)
        if not untold.ids:
            return 0
        self._tell(untold.batch)
        await self._results.mark_told(untold.ids, datetime.now(UTC))
        _log.info("%d results of samples are readings now", len(untold.ids))
        return len(untold.ids)
