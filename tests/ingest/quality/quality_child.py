"""A process that takes in numbered messages, judges and stores them, and may be killed anywhere.

    python -m tests.ingest.quality.quality_child FOLDER FIRST COUNT

Stores into FOLDER/rows, one line a reading; prints each number once its message is accepted.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from devices.checks import Checks
from devices.reading import Batch
from greenhouse import quality_room
from greenhouse.quality_room import QualityRoom
from ingest.collector import Arrival
from ingest.counters import Counters
from ingest.pipeline import DecoderSource, Pipeline
from ingest.spool import Spool
from storage.pool import Pool
from tests.ingest.house import CODECS, RECEIVED_MS, TOPIC, arrival, house
from tests.ingest.test_pipeline import Letters, Outcome
from tests.rig.waiting import eventually

EVERY_S = 60
LOT = 5


def message(number: int) -> Arrival:
    """A reading a minute of two series: one jumps now and then, one stands still for a day."""
    at_ms = RECEIVED_MS + 1000 * EVERY_S * number
    jumps = number % 37 in (5, 20)
    values = {
        "air_temperature": 20.0 + number % 3 + (15.0 + number % 7 if jumps else 0.0),
        "relative_humidity": 61.0 if 300 <= number < 1500 else 60.0 + number % 5,
    }
    return arrival({"t": at_ms, "v": values}, received_at_us=1000 * at_ms + 5000)


class Rows:
    """A sink that appends lines; the first one of a key counts, as in the database."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="ascii")

    async def write(self, batch: Batch) -> Outcome:
        for row in zip(batch.series_id, batch.observed_at_us, batch.quality, strict=True):
            self._file.write(json.dumps([int(one) for one in row]) + "\n")
        self._file.flush()
        await asyncio.sleep(0)
        return Outcome("written", len(batch))


async def run(folder: Path, first: int, count: int) -> None:
    quality_room._SAVE_EVERY_S = 0.02
    registry = house()
    async with Pool("dbname=nobody_is_there") as pool:
        room = QualityRoom(
            Checks(), folder, pool, "", lambda: registry, lambda: registry, asyncio.Event()
        )
        counters = Counters()
        decoders = DecoderSource(TOPIC, CODECS, room.judge)
        async with Spool(folder, counters) as spool:
            pipeline = Pipeline(
                spool, decoders, Rows(folder / "rows"), Letters(), counters, linger_s=0.0
            )
            await room.recall()
            room.adopt(registry)
            await decoders.adopt(registry)
            work = room.background()
            work.pop("calibrations").close()  # there is no database
            keep = asyncio.create_task(work["quality"], name="quality")
            flow = asyncio.create_task(pipeline.run(), name="pipeline")
            # What an earlier run left comes first, as it was measured.
            await eventually(lambda: spool.lag(0).records == 0, 30, 0.001)
            for number in range(first, first + count, LOT):
                last = min(number + LOT, first + count)
                await spool.accept([message(one) for one in range(number, last)])
                os.write(1, b"%d\n" % (last - 1))
            await eventually(lambda: spool.lag(0).records == 0, 30, 0.001)
            pipeline.stop()
            await flow
            await room.close()
            keep.cancel()
            await asyncio.gather(keep, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
