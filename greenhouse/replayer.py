"""Dead letters that somebody asked for are sent in again."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from ingest.collector import Inlet, SpoolFull
from ingest.replay import replayed
from storage.dead_letters import DeadLetterStore
from storage.errors import StorageError

_log = logging.getLogger(__name__)
_EVERY_S = 1.0
_AT_A_TIME = 500


class Replayer:
    """Hands the letters that wait for a replay to *inlet*, a few hundred at a time.

    A letter is marked first and handed in then: should it fail again it becomes a dead letter
    again, and the mark is taken back.
    """

    def __init__(self, letters: DeadLetterStore, inlet: Inlet) -> None:
        self._letters = letters
        self._inlet = inlet

    async def run(self) -> None:
        """Run until cancelled; a database that is away is simply asked again."""
        while True:
            try:
                while await self.replay_some():
                    pass
            except StorageError as error:
                _log.debug("no replay now: %s", error)
            await asyncio.sleep(_EVERY_S)

    async def replay_some(self) -> int:
        """Replay up to a few hundred letters that wait for it; return how many."""
        wanted = await self._letters.wanted(_AT_A_TIME)
        if not wanted:
            return 0
        ids = [kept.id for kept in wanted]
        await self._letters.mark_replayed(ids, datetime.now(UTC))
        try:
            await self._inlet.accept([*replayed(kept.letter for kept in wanted)])
        except SpoolFull as error:
            _log.warning("replay put off: %s", error)
            await self._letters.mark_replayed(ids, None)
            return 0
        _log.info("%d dead letters sent in again", len(ids))
        return len(ids)
