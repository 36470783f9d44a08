from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ingest.backlog import MAX_STRETCHES, Backlog, Stretch


def _stretches(*spans, seen=False):
    backlog = Backlog()
    for start, end in spans:
        backlog.add(Stretch(start, end, end - start, 1000 + start, seen))
    return backlog


def _spans(backlog):
    return [(one.start, one.end) for one in backlog]


def test_stretches_come_in_the_order_of_the_file():
    assert _spans(_stretches((50, 60), (10, 20), (30, 40))) == [(10, 20), (30, 40), (50, 60)]


def test_neighbours_become_one():
    (one,) = _stretches((10, 20), (30, 40), (20, 30))
    assert (one.start, one.end, one.records, one.oldest_at_us) == (10, 40, 30, 1010)


def test_neighbours_stay_apart_where_only_one_was_seen():
    backlog = _stretches((10, 20))
    backlog.add(Stretch(20, 30, 10, 0, seen=True))
    assert [one.seen for one in backlog] == [False, True]


def test_a_stretch_within_another_adds_nothing():
    assert _spans(_stretches((10, 40), (20, 30))) == [(10, 40)]


def test_first_comes_out_first():
    backlog = _stretches((30, 40), (10, 20))
    assert backlog.pop().start == 10
    assert backlog.pop().start == 30
    assert not backlog


def test_their_number_is_bounded_and_the_closest_become_one():
    spans = [(at * 100, at * 100 + 10) for at in range(MAX_STRETCHES)]
    backlog = _stretches(*spans)
    backlog.add(Stretch(715, 720, 5, 0, seen=True))  # five bytes behind the one at 700
    assert len(_spans(backlog)) == MAX_STRETCHES
    joined = next(one for one in backlog if one.start == 700)
    assert (joined.end, joined.records, joined.seen) == (720, 15, False)


@given(st.permutations(range(100)), st.integers(1, 100))
def test_no_byte_that_was_added_is_forgotten(order, count):
    backlog = Backlog()
    added = set()
    for at in order[:count]:
        backlog.add(Stretch(at * 2, at * 2 + 1 + at % 2, 1, at, seen=at % 3 == 0))
        added.update(range(at * 2, at * 2 + 1 + at % 2))
    spans = _spans(backlog)
    assert added <= {byte for start, end in spans for byte in range(start, end)}
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert len(spans) <= MAX_STRETCHES
