"""A process with a collector and a spool, to be killed: ``victim.py VERSION PORT FOLDER``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from ingest.counters import Counters
from ingest.gap_journal import GapJournal
from ingest.mqtt.collector import MqttCollector
from ingest.mqtt.memory import MemoryFile
from ingest.mqtt.mqtt5 import Mqtt5Connection
from ingest.mqtt.mqtt311 import Mqtt311Connection
from ingest.mqtt.settings import MqttSettings
from ingest.spool import Spool


async def main(version: str, port: str, folder: Path) -> None:
    counters = Counters()
    settings = MqttSettings("127.0.0.1", int(port), "collector", ("gh/+/+",))
    connect = Mqtt5Connection if version == "5" else Mqtt311Connection
    journal = GapJournal(folder / "gaps.json", counters)
    await journal.recall()
    async with Spool(folder, counters) as spool:
        memory = MemoryFile(folder / "session.json")
        collector = MqttCollector(settings, connect, spool, journal, counters, memory)
        await collector.run(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
