"""A process that writes to a spool until it is killed, telling what was accepted.

Run as ``python -m tests.ingest.spool_child FOLDER FIRST CALLERS``.  Each line on its standard
output is the number of an arrival, written only after `accept` returned.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from ingest.collector import Arrival, SpoolFull
from ingest.counters import Counters
from ingest.spool import Spool


def arrival(number: int) -> Arrival:
    """The arrival that a number stands for, whole in every field."""
    return Arrival("mqtt", f"gh/h1/d{number}", b"%d " % number * (number % 50), number, number % 8)


async def _write(spool: Spool, first: int, step: int) -> None:
    number = first
    while True:
        batch = [arrival(n) for n in range(number, number + 1 + number % 7)]
        try:
            await spool.accept(batch)
        except SpoolFull:
            await asyncio.sleep(0.001)
            continue
        os.write(1, b"".join(b"%d\n" % n for n in range(number, number + len(batch))))
        number += step


async def main(folder: str, first: str, callers: str) -> None:
    spool = Spool(Path(folder), Counters(), segment_bytes=50_000, fresh_bytes=0)
    async with spool, asyncio.TaskGroup() as group:
        for caller in range(int(callers)):
            group.create_task(_write(spool, int(first) + 10 * caller, 10 * int(callers)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
