"""Sparkplug's place in the service: an inlet before the spool, a voice at the broker, replays."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

from api.health import EdgeHealth
from devices.registry import Registry
from devices.sparkplug import PAYLOAD, SparkplugEntry, addresses, read_address
from ingest.collector import GapLedger
from ingest.counters import Counters
from ingest.mqtt.settings import MqttSettings
from ingest.sparkplug.agreement import disagreements
from ingest.sparkplug.host import SparkplugHost
from ingest.sparkplug.inlet import PartyStatus, SparkplugInlet
from ingest.sparkplug.session import Rules
from ingest.sparkplug.shelf import Shelf
from ingest.sparkplug.topic import Kind, Subject, write_topic
from ingest.spool import Spool
from storage.dead_letters import DeadLetterStore
from storage.errors import StorageError

_log = logging.getLogger(__name__)

FOLDER = "sparkplug"
_REPLAY_EVERY_S = 1.0


class SparkplugRoom:
    """Sessions of the edge nodes behind one broker; *registry* answers with it as it is now.

    *entry* is the section of the site file, *applied* the registry that the file describes: it
    holds until the database was reached for the first time.
    """

    def __init__(
        self,
        entry: SparkplugEntry | None,
        applied: Registry,
        registry: Callable[[], Registry],
        spool: Spool,
        folder: Path,
        letters: DeadLetterStore,
        gaps: GapLedger,
        counters: Counters,
    ) -> None:
        self._entry = entry or SparkplugEntry()
        self._registry = registry
        self._applied = addresses(applied.devices)
        self._seen = registry()
        self._known = self._applied
        self._spool = spool
        self._letters = letters
        self._disagreements: dict[str, tuple[object, object, str]] = {}
        rules = Rules(round(self._entry.reorder_timeout * 1e6), self._entry.rebirth)
        self.inlet = SparkplugInlet(
            spool,
            rules,
            Shelf(folder / FOLDER),
            self._addresses,
            lambda: counters.mqtt_connections,
            gaps,
            counters,
        )

    def _addresses(self) -> frozenset[str]:
        registry = self._registry()
        if registry is not self._seen:
            self._seen = registry
            self._known = self._applied | addresses(registry.devices)
        return self._known

    def work(
        self, settings: MqttSettings, protocol: str, listening: Callable[[], bool]
    ) -> dict[str, Coroutine[None, None, None]]:
        """Return what runs beside the flow of readings, by the name of its task."""
        entry = self._entry
        host = SparkplugHost(settings, protocol, self.inlet, entry.host_id, listening)
        speaks = entry.rebirth or entry.host_id is not None
        return {
            "sparkplug-replays": self._replay(),
            "sparkplug-host": host.run() if speaks else self._give_up(),
        }

    async def _give_up(self) -> None:
        """Count what was lost, where nobody may be asked for it."""
        while True:
            await asyncio.sleep(_REPLAY_EVERY_S)
            await self.inlet.tick(time.time_ns() // 1000)

    async def _replay(self) -> None:
        """Have the letters that waited for a birth sent in again, when all of them are stored."""
        while True:
            await asyncio.sleep(_REPLAY_EVERY_S)
            self._compare()
            for node, born_us in self.inlet.reborn().items():
                now_us = time.time_ns() // 1000
                lag = self._spool.lag(now_us)
                if lag.records and now_us - round(lag.age_s * 1e6) <= born_us:
                    continue
                try:
                    wanted = await self._letters.want_on(
                        "E-ALIAS",
                        topic=write_topic(Subject(Kind.NDATA, node)),
                        below=write_topic(Subject(Kind.DDATA, node)) + "/",
                        until_us=born_us,
                    )
                except StorageError as error:
                    _log.debug("no replay of %s now: %s", node, error)
                    continue
                if wanted:
                    _log.info("sparkplug: %d letters of %s wait no longer", wanted, node)
                self.inlet.note_replayed(node, born_us)

    def _compare(self) -> None:
        """Hold births, and devices, that are new to each other; say once what differs."""
        registry = self._registry()
        devices = {
            str(device.settings.get("address")): device
            for device in registry.devices
            if device.payload == PAYLOAD
        }
        for address, certificate in self.inlet.certificates().items():
            device = devices.get(address)
            known = self._disagreements.get(address)
            if device is None or (known and known[:2] == (certificate, device)):
                continue
            text = "; ".join(disagreements(device, certificate))
            self._disagreements[address] = (certificate, device, text)
            if text and (known is None or known[2] != text):
                _log.warning("sparkplug: %s: %s", address, text)

    def health(self) -> tuple[EdgeHealth, ...]:
        """Return how the devices that we know are, and the edge nodes that they are behind."""
        known = self._addresses()
        found = (read_address(address) for address in known)
        wanted = known | {f"{one.group}/{one.node}" for one in found if one is not None}
        return tuple(
            EdgeHealth(one.address, one.online, one.since_us, self._reason(one))
            for one in self.inlet.status()
            if one.address in wanted
        )

    def _reason(self, status: PartyStatus) -> str:
        told = self._disagreements.get(status.address)
        return "; ".join(text for text in (status.problem, told[2] if told else "") if text)
