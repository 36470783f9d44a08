"""Gaps wait on the disk until somebody has stored them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec
import pytest

from devices.gap import Gap
from ingest.counters import Counters
from ingest.gap_journal import GapJournal
from tests.ingest.test_pipeline import Outcome
from tests.rig.waiting import eventually

GAP = Gap("mqtt", 1_000_000, 2_000_000, "session_lost", "the broker forgot us")


class Store:
    """Takes gaps, or answers as it is told."""

    def __init__(self):
        self.kept, self.answers = [], []

    async def put(self, gaps):
        answer = self.answers.pop() if self.answers else "written"
        if answer == "written":
            self.kept += gaps
        return Outcome(answer)


async def delivered(journal, store, count):
    task = asyncio.create_task(journal.deliver(store.put, 0.01))
    await eventually(lambda: len(store.kept) == count)
    task.cancel()
    await asyncio.wait([task])


def on_disk(path):
    return msgspec.json.decode(path.read_bytes(), type=list[Gap])


async def test_gaps_that_come_at_once_are_all_on_the_disk(tmp_path, caplog):
    path = tmp_path / "gaps.json"
    journal = GapJournal(path, Counters())
    gaps = [replace(GAP, started_at_us=number) for number in range(60)]
    await asyncio.gather(*(journal.record(gap) for gap in gaps))
    assert on_disk(path) == gaps
    assert not caplog.records


async def test_a_gap_outlives_the_process_until_it_is_stored(tmp_path):
    path = tmp_path / "gaps.json"
    await GapJournal(path, Counters()).record(GAP)
    journal, store = GapJournal(path, Counters()), Store()
    await journal.recall()
    store.answers = ["unavailable", "unavailable"]
    await delivered(journal, store, 1)
    assert store.kept == [GAP]
    assert on_disk(path) == []


@pytest.mark.parametrize("junk", [b"", b"{}", b'[{"source": 1}]'])
async def test_junk_on_the_disk_is_told_and_does_not_hold_up_the_next_gap(tmp_path, caplog, junk):
    path = tmp_path / "gaps.json"
    path.write_bytes(junk)
    journal = GapJournal(path, Counters())
    await journal.recall()
    assert "cannot be read" in caplog.text
    await journal.record(GAP)
    assert on_disk(path) == [GAP]


async def test_a_disk_that_keeps_nothing_costs_a_line_and_no_gap(tmp_path, caplog):
    counters, store = Counters(), Store()
    journal = GapJournal(tmp_path / "not there" / "gaps.json", counters)
    await journal.record(GAP)
    assert "gaps cannot be kept" in caplog.text
    await delivered(journal, store, 1)
    assert (store.kept, counters.gaps) == ([GAP], {"session_lost": 1})
