"""Many derived series that are due at once leave the event loop its turns."""

from __future__ import annotations

import asyncio
import time

from devices.derivation import input_ids
from devices.reading import Batch
from devices.site_file import read_site_file
from greenhouse.derivation_keeper import DerivationKeeper
from storage.derived import DerivedStore
from storage.history import History
from storage.migrate import migrate
from storage.pool import Pool
from storage.readings import ReadingWriter
from storage.registry import RegistryStore

HOUSES = 500
MINUTE = 60_000_000
NOW = 1_780_000_000_000_000

_HEAD = """
version: 1
broker: {host: 127.0.0.1}
sites:
  - code: base
    kind: base
    latitude: 36.88
    longitude: 118.74
    timezone: Asia/Shanghai
    sites:
"""
_HOUSE = """
      - code: h{0}
        kind: greenhouse
        derived: [{{formula: vapour_pressure_deficit}}, {{formula: dew_point}}]
"""
_DEVICE = """
  - code: air{0}
    site: h{0}
    interval: 60s
    series: [{{quantity: air_temperature}}, {{quantity: relative_humidity}}]
"""


def city() -> str:
    """Two derived series a house, which are all due with one batch."""
    houses, devices = ("".join(map(one.format, range(HOUSES))) for one in (_HOUSE, _DEVICE))
    return f"{_HEAD}{houses}devices:\n{devices}"


async def turns(spent_s: list[float]) -> None:
    """Add the processor time of each turn of the loop, which no other program can make longer."""
    began_s = time.thread_time()
    while True:
        await asyncio.sleep(0)
        now_s = time.thread_time()
        spent_s.append(now_s - began_s)
        began_s = now_s


def plain_work_s() -> float:
    """Return the processor time of some ten milliseconds of work, on this machine now."""
    began_s = time.thread_time()
    sum(number % 7 for number in range(200_000))
    return time.thread_time() - began_s


async def test_a_thousand_series_at_once_hold_the_loop_for_no_more_than_a_moment(timescale_dsn):
    await migrate(timescale_dsn)
    site_file = read_site_file(city(), "site.yaml")
    clock_us = NOW
    async with Pool(timescale_dsn) as pool, ReadingWriter(timescale_dsn) as writer:
        store, derived = RegistryStore(pool), DerivedStore(pool)
        await store.apply(site_file.registry, {})
        registry = await store.load()
        inputs = sorted(input_ids(registry))
        derived_ids = sorted(set(registry.series_ids.values()) - set(inputs))
        writer.watch(inputs)
        keeper = DerivationKeeper(derived, lambda: registry, now_us=lambda: clock_us)
        await keeper.step()  # the month before is ordered, and waits behind what is new

        longest_s = []
        for turn in range(3):
            at_us = clock_us
            values = [20.0 + (number + turn) % 40 for number in inputs]
            times = [at_us] * len(inputs)
            batch = Batch.of(inputs, times, times, values, [0] * len(inputs))
            assert (await writer.write(batch)).kind == "written"
            clock_us += MINUTE
            spent_s: list[float] = []
            ticking = asyncio.create_task(turns(spent_s))
            await keeper.step()
            ticking.cancel()
            longest_s.append(max(spent_s))
            found = await History(pool).raw(derived_ids, at_us, at_us + 1, 1)
            assert sum(len(points) for points in found.values()) == 2 * HOUSES
    # The best of three against some plain work; in one piece it took twice as long as this allows.
    assert min(longest_s) < 2 * min(plain_work_s() for _ in range(3)), longest_s
