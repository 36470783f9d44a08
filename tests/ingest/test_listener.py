from __future__ import annotations

import asyncio

from devices.reading import Batch
from ingest.counters import Counters
from ingest.listener import Listener


def _batch(rows, series=1):
    return Batch.of([series] * rows, range(rows), range(rows), [0.0] * rows, [0] * rows)


async def test_batches_come_in_order_with_their_mark():
    listener = Listener("rules", Counters())
    listener.offer(_batch(1, series=1), fresh=True)
    listener.offer(_batch(1, series=2), fresh=False)
    first, second = await listener.get(), await listener.get()
    assert (first.batch.series_id[0], first.fresh) == (1, True)
    assert (second.batch.series_id[0], second.fresh) == (2, False)


async def test_the_oldest_are_dropped_and_counted_when_it_is_full():
    counters = Counters()
    listener = Listener("live", counters, max_rows=10)
    for series in range(5):
        listener.offer(_batch(4, series), fresh=True)
    assert [(await listener.get()).batch.series_id[0] for _ in range(2)] == [3, 4]
    assert counters.readings_dropped == {"live": 12}


async def test_a_batch_larger_than_the_queue_is_delivered_alone():
    counters = Counters()
    listener = Listener("live", counters, max_rows=10)
    listener.offer(_batch(50), fresh=True)
    assert len((await listener.get()).batch) == 50
    assert not counters.readings_dropped


async def test_who_waits_is_woken():
    listener = Listener("rules", Counters())
    heard = []

    async def listen():
        async for item in listener:
            heard.append(item)
            if len(heard) == 2:
                return

    async with asyncio.TaskGroup() as group:
        group.create_task(listen())
        for _ in range(2):
            await asyncio.sleep(0)
            listener.offer(_batch(1), fresh=True)
    assert len(heard) == 2


async def test_an_empty_batch_is_not_news():
    listener = Listener("rules", Counters())
    listener.offer(_batch(0), fresh=True)
    listener.offer(_batch(3), fresh=True)
    assert len((await listener.get()).batch) == 3


async def test_what_waits_is_taken_together_in_order_and_no_more_than_asked_for():
    listener = Listener("rules", Counters())
    for series in range(1, 6):
        listener.offer(_batch(4, series), fresh=True)
    assert (await listener.get_together(10)).series_id.tolist() == [1] * 4 + [2] * 4
    assert (await listener.get_together(1)).series_id.tolist() == [3] * 4
    assert len(listener) == 8
    assert len(await listener.get_together(100)) == 8
    assert len(listener) == 0
