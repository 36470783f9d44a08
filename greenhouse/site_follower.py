"""The files beside a changed registry: payloads, topics and subscriptions follow it in one go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from devices.codecs.library import CODECS
from devices.errors import DocumentError
from devices.registry import Registry
from devices.site_file import DEFAULT_TOPIC, SiteFile
from greenhouse.doorstep import Doorstep
from greenhouse.site_files import Codecs, read_site_files, topic_filters
from ingest.mqtt.collector import MqttCollector
from ingest.pipeline import DecoderSource

_log = logging.getLogger(__name__)


class SiteFollower:
    """Reads the site file *file* again whenever the registry is another than before.

    What it finds is used by *decoders*, *doorstep* and the collector that *mqtt* returns, and told
    to *rules*.  Buses and the address of the broker are those of the start.
    """

    def __init__(
        self,
        file: Path,
        decoders: DecoderSource,
        doorstep: Doorstep,
        mqtt: Callable[[], MqttCollector | None],
        rules: Callable[[SiteFile], None],
    ) -> None:
        self._file = file
        self._decoders = decoders
        self._doorstep = doorstep
        self._mqtt = mqtt
        self._rules = rules

    async def follow(self, registry: Registry) -> None:
        """Make ready for *registry*, before anything is decoded by it.

        A file that is being edited and cannot be used now leaves everything as it was.
        """
        if registry.revision == self._decoders.revision:
            return
        try:
            site_file = await asyncio.to_thread(read_site_files, self._file)
        except (DocumentError, OSError, UnicodeDecodeError) as error:
            _log.error("the site file is not taken up again, it has mistakes: %s", error)
            return
        self.use(site_file, registry)

    def use(self, site_file: SiteFile, registry: Registry) -> None:
        """Have payloads, topics and subscriptions be those of *site_file* and *registry*."""
        broker = site_file.broker
        templates = broker.templates if broker is not None else (DEFAULT_TOPIC,)
        self._decoders.prepare(templates, Codecs(CODECS, site_file))
        self._doorstep.use(templates)
        self._rules(site_file)
        mqtt, filters = self._mqtt(), topic_filters(site_file, registry)
        if mqtt is not None and filters:
            mqtt.listen_to(filters)
