"""What is kept of recent readings, held against plain dictionaries; and how few chunks it takes."""

from __future__ import annotations

import random

import numpy as np
import pytest

from alerts.recent import Readings, RecentReadings


def readings(rows):
    """Rows of (series, at, value) as sorted columns."""
    rows = sorted(rows)
    return Readings(
        np.array([row[0] for row in rows], np.int32),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64),
        np.zeros(len(rows), np.int32),
    )


def as_rows(kept):
    return list(zip(kept.series.tolist(), kept.at_us.tolist(), kept.value.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_what_is_kept_is_found_again_and_forgotten_by_series(seed):
    rng = random.Random(seed)
    recent, known = RecentReadings(), {}
    for _ in range(40):
        rows = {(rng.randrange(6), rng.randrange(400)) for _ in range(rng.randrange(1, 30))}
        fresh = sorted(rows - known.keys())
        there = readings([(*key, 0.0) for key in rows])
        assert recent.has(there).tolist() == [key in known for key in sorted(rows)]
        added = [(*key, rng.random()) for key in fresh]
        recent.add(readings(added))
        known |= {(series, at): value for series, at, value in added}
        if rng.random() < 0.2:
            after = [rng.randrange(-1, 300) for _ in range(6)]
            recent.forget(np.array(after, np.int64))
            known = {key: value for key, value in known.items() if key[1] > after[key[0]]}
        wanted = sorted(rng.sample(range(6), rng.randrange(1, 6)))
        found = as_rows(recent.of_series(np.array(wanted, np.int32)))
        everything = sorted((*key, value) for key, value in known.items())
        assert found == [row for row in everything if row[0] in wanted]
        series, moment = np.array(wanted, np.int32), rng.randrange(400)
        assert recent.count(series) == len(found)
        assert recent.count_before(series, moment) == sum(row[1] < moment for row in found)
        assert as_rows(recent.all()) == everything
        assert len(recent) == len(known)


def test_nothing_is_kept_at_first_and_nothing_is_added_by_nothing():
    recent = RecentReadings()
    recent.add(readings([]))
    assert len(recent) == 0
    assert recent.has(readings([(1, 2, 3.0)])).tolist() == [False]
    assert as_rows(recent.of_series(np.array([1], np.int32))) == []


def test_many_small_batches_make_few_chunks_and_none_that_is_slow_to_merge():
    recent = RecentReadings()
    for at in range(9_000):
        recent.add(readings([(at % 3, at, 0.0)]))
    sizes = [len(chunk) for chunk in recent._chunks]
    assert sum(sizes) == 9_000
    assert len(sizes) <= 20
    assert max(sizes) <= 4096


def test_of_equal_readings_the_first_to_come_stays():
    twice = Readings.joined([readings([(1, 5, 1.0), (2, 5, 2.0)]), readings([(1, 5, 9.0)])])
    assert as_rows(twice.sorted().first_of_each()) == [(1, 5, 1.0), (2, 5, 2.0)]
    alone = readings([(1, 5, 1.0), (1, 6, 1.0), (2, 6, 1.0)])
    assert as_rows(alone.first_of_each()) == as_rows(alone)


def test_readings_are_sorted_by_series_and_then_by_time():
    rows = [(2, 5, 1.0), (1, 7, 1.0), (1, 6, 1.0), (3, 1, 1.0)]
    backwards = Readings.joined([readings([row]) for row in rows])
    assert as_rows(backwards.sorted()) == sorted(rows)
    assert as_rows(Readings.joined([readings([row]) for row in rows[:2]]).sorted()) == [
        (1, 7, 1.0), (2, 5, 1.0),
    ]  # fmt: skip
    risen = readings(rows)
    assert risen.sorted() is risen
