"""The place between the MQTT collector and the spool where Sparkplug sessions are kept.

    collector --raw--> SparkplugInlet --messages that stand on their own--> spool

The order is: translate, keep the certificates that changed, have the arrivals accepted, and only
then believe the new states.  If the spool refuses, nothing has happened and the collector brings
the same arrivals again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from devices.gap import Gap
from ingest.collector import Arrival, GapLedger, Inlet
from ingest.counters import Counters
from ingest.sparkplug.session import Certificate, NodeState, Rules, due_at_us, tick
from ingest.sparkplug.shelf import Shelf
from ingest.sparkplug.topic import Node, is_sparkplug
from ingest.sparkplug.translation import Translation, source, translate

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PartyStatus:
    """How a node or a device is; *since_us* (microseconds UTC) is when *online* last changed."""

    address: str
    online: bool
    since_us: int
    problem: str = ""


class SparkplugInlet:
    """Keeps the sessions of all edge nodes; implements `ingest.collector.Inlet`.

    *addresses* answers with those of the devices we know, *link* with a number that changes when
    our own connection does.  Calls may overlap; those with Sparkplug in them go one by one.
    """

    def __init__(
        self,
        inlet: Inlet,
        rules: Rules,
        shelf: Shelf,
        addresses: Callable[[], AbstractSet[str]],
        link: Callable[[], int],
        gaps: GapLedger,
        counters: Counters,
    ) -> None:
        self._inlet = inlet
        self._rules = rules
        self._shelf = shelf
        self._addresses = addresses
        self._link = link
        self._gaps = gaps
        self._counters = counters
        self._states: dict[Node, NodeState] = {}
        self._reborn: dict[Node, int] = {}
        self._lock = asyncio.Lock()
        self._news = asyncio.Event()
        self._shelf_failed = False

    async def recall(self) -> None:
        """Take up what an earlier process knew."""
        for state in await asyncio.to_thread(self._shelf.load):
            self._states[state.name] = state
            if state.itself.online:
                # Letters that a birth should have replayed may still wait.
                self._reborn[state.name] = state.itself.since_us

    async def accept(self, arrivals: Sequence[Arrival]) -> None:
        """Return when all of *arrivals* are durable; raise `SpoolFull` when none of them are."""
        if not any(is_sparkplug(arrival.topic) for arrival in arrivals):
            await self._inlet.accept(arrivals)
            return
        async with self._lock:
            done = translate(self._states, arrivals, self._rules, self._addresses(), self._link())
            if done.certified:
                await self._keep([done.states[node] for node in sorted(done.certified)])
            if done.arrivals:
                await self._inlet.accept(done.arrivals)
            self._believe(done)
        for gap in done.gaps:
            await self._gaps.record(gap)

    async def _keep(self, states: Sequence[NodeState]) -> None:
        try:
            await asyncio.to_thread(self._shelf.save, states)
        except OSError as error:
            if not self._shelf_failed:
                _log.error("sparkplug: certificates cannot be kept: %s", error)
            self._shelf_failed = True
        else:
            self._shelf_failed = False

    def _believe(self, done: Translation) -> None:
        self._states.update(done.states)
        self._reborn.update(done.reborn)
        for word, number in done.counts.items():
            self._counters.sparkplug[word] += number
        self._news.set()

    # Rebirths.

    def due_at_us(self) -> int | None:
        """Return when `tick` will have something to do; None while nothing waits."""
        times = (due_at_us(state, self._rules) for state in self._states.values())
        return min((time for time in times if time is not None), default=None)

    async def news(self) -> None:
        """Wait until a message may have changed what is due."""
        await self._news.wait()
        self._news.clear()

    async def tick(self, now_us: int) -> list[Node]:
        """Give up what did not come by *now_us*; return the nodes to ask for a rebirth."""
        asked: list[Node] = []
        gaps: list[Gap] = []
        async with self._lock:
            for node, state in self._states.items():
                due_us = due_at_us(state, self._rules)
                if due_us is None or due_us > now_us:
                    continue
                found = tick(state, now_us, self._rules)
                self._states[node] = found.state
                if found.lost:
                    self._counters.sparkplug["lost_messages"] += found.lost
                    text = f"{found.lost} messages of edge node {node} did not arrive"
                    gaps.append(Gap(source(node), found.since_us, now_us, "sequence", text))
                if found.ask:
                    asked.append(node)
        for gap in gaps:
            _log.warning("sparkplug: %s", gap.text)
            await self._gaps.record(gap)
        return asked

    def note_asked(self, node: Node) -> None:
        """Count a request for a rebirth that was sent."""
        self._counters.sparkplug["rebirth_requests"] += 1
        _log.info("sparkplug: edge node %s was asked to be born again", node)

    # What others ask.

    def reborn(self) -> dict[Node, int]:
        """Return the nodes whose letters are to be replayed: those received before their birth."""
        return dict(self._reborn)

    def note_replayed(self, node: Node, until_us: int) -> None:
        """Forget that letters of *node* wait, unless it was born again after *until_us*."""
        if self._reborn.get(node) == until_us:
            del self._reborn[node]

    def certificates(self) -> dict[str, Certificate]:
        """Return the certificates that hold now, by address."""
        return {
            f"{node}/{name}" if name else str(node): party.birth
            for node, state in self._states.items()
            for name, party in (("", state.itself), *state.devices.items())
            if party.valid and party.birth is not None
        }

    def status(self) -> tuple[PartyStatus, ...]:
        """Return how every node and every device of it is, nodes first."""
        found: list[PartyStatus] = []
        for node, state in sorted(self._states.items()):
            problem = ""
            if state.wanted_since_us is not None:
                problem = "messages are missing or not understood until it is born again"
            itself = state.itself
            found.append(PartyStatus(str(node), itself.online, itself.since_us, problem))
            for name, device in sorted(state.devices.items()):
                found.append(PartyStatus(f"{node}/{name}", device.online, device.since_us))
        return tuple(found)
