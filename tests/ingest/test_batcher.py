from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest.batcher import Batcher


def test_nothing_is_due_while_there_is_nothing():
    batcher: Batcher[str] = Batcher(10, 0.5)
    assert batcher.due_at_s() is None
    assert batcher.take_if_due(1e9) == []
    assert batcher.take() == []


def test_a_small_batch_is_due_when_its_first_item_has_waited():
    batcher: Batcher[str] = Batcher(10, 0.5)
    batcher.add("a", 1, 100.0)
    batcher.add("b", 1, 100.4)
    assert batcher.due_at_s() == 100.5
    assert batcher.take_if_due(100.49) == []
    assert batcher.take_if_due(100.5) == ["a", "b"]
    assert batcher.due_at_s() is None


def test_a_full_batch_is_due_at_once():
    batcher: Batcher[str] = Batcher(10, 0.5)
    batcher.add("a", 4, 100.0)
    batcher.add("b", 6, 100.1)
    assert batcher.take_if_due(100.1) == ["a", "b"]


def test_what_does_not_fit_waits_for_the_next_batch():
    batcher: Batcher[str] = Batcher(10, 0.5)
    for name, weight in (("a", 6), ("b", 6), ("c", 3)):
        batcher.add(name, weight, 100.0)
    assert batcher.take_if_due(100.0) == ["a"]
    assert batcher.take_if_due(100.0) == []  # 9 of 10, and not long here
    assert batcher.take_if_due(100.5) == ["b", "c"]


def test_an_item_heavier_than_a_batch_goes_alone():
    batcher: Batcher[str] = Batcher(10, 0.5)
    batcher.add("a", 50, 1.0)
    batcher.add("b", 1, 1.0)
    assert batcher.take_if_due(1.0) == ["a"]
    assert batcher.take() == ["b"]


@given(st.lists(st.tuples(st.integers(1, 15), st.floats(0, 5))), st.floats(0, 2))
def test_every_item_comes_out_once_in_order_and_in_time(items, linger_s):
    batcher: Batcher[tuple[int, int, float]] = Batcher(20, linger_s)
    now_s, out = 0.0, []

    def take():
        while batch := batcher.take_if_due(now_s):
            assert len(batch) == 1 or sum(weight for _, weight, _ in batch) <= 20
            out.extend(batch)

    for number, (weight, pause_s) in enumerate(items):
        while (due_at_s := batcher.due_at_s()) is not None and due_at_s <= now_s + pause_s:
            now_s, before_s = max(now_s, due_at_s), now_s
            pause_s -= now_s - before_s
            take()
        now_s += pause_s
        batcher.add((number, weight, now_s), weight, now_s)
        take()
    while batcher:
        out += batcher.take()
    assert [number for number, _, _ in out] == list(range(len(items)))
