"""Gaps are kept once and found by any span that they touch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devices.gap import Gap
from storage.gaps import GapStore
from storage.outcome import Outcome
from storage.pool import Pool
from tests.storage.samples import MINUTE_US, us

AT = us(2025, 5, 1)
GAP = Gap("mqtt:broker", AT, AT + 10 * MINUTE_US, "session_lost", "the broker forgot us")


@pytest.fixture
def store(pool: Pool) -> GapStore:
    return GapStore(pool)


async def test_a_gap_is_kept_once_with_its_latest_end(store: GapStore):
    assert await store.put([GAP]) == Outcome("written", 1)
    assert await store.put([GAP]) == Outcome("written", 0, 1)
    longer = replace(GAP, ended_at_us=GAP.ended_at_us + 1)
    assert await store.put([longer, GAP]) == Outcome("written", 0, 2)
    assert await store.list(AT, AT + 1) == [longer]


async def test_gaps_of_other_sources_and_reasons_are_others(store: GapStore):
    gaps = [GAP, replace(GAP, source="http"), replace(GAP, reason="disconnected")]
    assert await store.put(gaps) == Outcome("written", 3)
    assert len(await store.list(AT, AT + 1)) == 3


@pytest.mark.parametrize(
    ("since", "until", "found"),
    [
        (AT - 5, AT, False),
        (AT - 5, AT + 1, True),
        (AT + 1, AT + 2, True),
        (GAP.ended_at_us, GAP.ended_at_us + 5, True),
        (GAP.ended_at_us + 1, GAP.ended_at_us + 5, False),
        (-(2**63), 2**63 - 1, True),
    ],
)
async def test_a_gap_is_found_by_the_spans_it_touches(
    store: GapStore, since: int, until: int, found: bool
):
    await store.put([GAP])
    assert await store.list(since, until) == ([GAP] if found else [])


async def test_nothing_to_keep_is_written_and_no_calendar_is_refused(store: GapStore):
    assert await store.put([]) == Outcome("written")
    assert (await store.put([replace(GAP, ended_at_us=2**63 - 1)])).kind == "refused"
