"""Who stands before the door: what the pipeline cannot place is kept, noted, and let in when known.

pipeline ─letters▶ Doorstep ─▶ DeadLetterStore        (whole, as ever)
                      └─notes, once a second─▶ UnclaimedStore
registry changed ─▶ whoever is described now: their letters are wanted again, the note goes
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from devices.dead_letter import DeadLetter
from devices.topic import Strangers, Template, TopicError
from devices.unclaimed import CODES, Gathering, Unclaimed
from ingest.counters import Counters
from ingest.pipeline import DecoderSource
from storage.dead_letters import DeadLetterStore
from storage.errors import DataRefused, StorageError
from storage.outcome import Outcome
from storage.pool import Pool
from storage.unclaimed import UnclaimedStore

_log = logging.getLogger(__name__)
_EVERY_S = 0.5


class Doorstep:
    """A `ingest.collector.DeadLetterSink` that keeps letters in *letters* and notes strangers.

    *decoders* knows who is described, and the templates of topics; the notes go to *pool*.
    """

    def __init__(
        self,
        letters: DeadLetterStore,
        pool: Pool,
        decoders: DecoderSource,
        counters: Counters,
    ) -> None:
        self._letters = letters
        self._store = UnclaimedStore(pool)
        self._decoders = decoders
        self._counters = counters
        self._gathering = Gathering(_strangers(decoders.topics))
        self._pending: list[Unclaimed] = []
        self._settled = -1
        self._problem = ""

    def use(self, templates: Sequence[str]) -> None:
        """Tell strangers apart by *templates* of topics from now on."""
        self._gathering.strangers = _strangers(templates)

    async def put(self, letters: Sequence[DeadLetter]) -> Outcome:
        """Keep *letters*, and note those that belong to no device.

        A letter may come to be kept after its device was described: it is wanted at once.
        """
        outcome = await self._letters.put(letters)
        if outcome.kind != "written":
            return outcome
        strange = [one for one in letters if one.source == "mqtt" and one.code in CODES]
        late = [one.id for one in strange if self._decoders.knows("mqtt", one.topic)]
        if late:
            await self._want(late)
        before = self._gathering.dropped
        for one in strange:
            self._gathering.note(one)
        self._counters.unclaimed_messages += len(strange)
        self._counters.unclaimed_dropped += self._gathering.dropped - before
        return outcome

    async def _want(self, ids: Sequence[str]) -> None:
        try:
            await self._letters.want(ids=ids)
        except StorageError as error:  # they are kept, and can be asked for by hand
            _log.warning("%d letters of a new device are not read again: %s", len(ids), error)

    async def run(self) -> None:
        """Write down who was heard, and let in who is known; runs until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_S)
            try:
                await self.flush()
                await self.settle()
                self._problem = ""
            except DataRefused as error:
                _log.error("who was heard is not written down, ever: %s", error)
                self._pending = []
            except StorageError as error:
                if not self._problem:
                    _log.warning("who is unclaimed cannot be written down now: %s", error)
                self._problem = str(error)

    async def flush(self) -> None:
        """Write down who was heard since the last time."""
        if not self._pending:
            self._pending = self._gathering.take()
        strangers = [one for one in self._pending if not self._is_known(one)]
        if strangers:
            pushed_out = await self._store.note(strangers, datetime.now(UTC))
            self._counters.unclaimed_forgotten += pushed_out
        self._pending = []

    async def settle(self) -> None:
        """Want the letters of all who are described since the registry last changed."""
        revision = self._decoders.revision
        if revision is None or revision == self._settled:
            return
        known: list[str] = []
        for one, pattern, topics in await self._store.topics():
            if any(self._decoders.knows("mqtt", topic) for topic in topics):
                asked = await self._letters.want_topic(_meant(pattern))
                _log.info("%s is described now: %d letters are read again", pattern, asked)
                known.append(one)
        if known:
            await self._store.forget(known)
        self._settled = revision

    def _is_known(self, one: Unclaimed) -> bool:
        return any(self._decoders.knows("mqtt", sample.topic) for sample in one.samples)


def _strangers(templates: Sequence[str]) -> Strangers:
    return Strangers(Template.parse(text) for text in templates)


def _meant(pattern: str) -> Template:
    """Return *pattern* as a template; what is none is a topic and means itself."""
    try:
        return Template.parse(pattern)
    except TopicError:
        return Template(pattern, tuple(pattern.split("/")))
