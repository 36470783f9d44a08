"""What a meter added, across wraps, restarts, gaps and jumps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.running_total import CounterRule, Course, accumulated, course, increments

NAN = float("nan")
U16 = CounterRule(65_536.0)
METER = CounterRule(2.0**32 * 10, most_per_s=50.0)


def added(total: list[float], rule: CounterRule, every_s: float = 60.0) -> list[float]:
    at_s = np.arange(len(total)) * every_s
    return increments(np.array(total), at_s, rule).tolist()


CASES = [
    # what it is, totals, rule, what each sample added
    ("plain", [5, 8, 8, 20], U16, [NAN, 3, 0, 12]),
    ("a wrap near the end", [65_500, 65_530, 20], U16, [NAN, 30, 26]),
    ("a restart in the middle", [1000, 1200, 30], U16, [NAN, 200, 30]),
    ("a restart of a counter that never wraps", [1000, 5], CounterRule(), [NAN, 5]),
    ("a wrap told by the flow", [2.0**32 * 10 - 100, 50], METER, [NAN, 150]),
    ("a restart told by the flow", [5_000_000, 2000], METER, [NAN, 2000]),
    ("a restart to more than can have flowed", [5_000_000, 4_000_000], METER, [NAN, NAN]),
    (
        "a jump that cannot have flowed",
        [0, 1000, 9_000_000, 9_001_000],
        METER,
        [NAN, 1000, NAN, 1000],
    ),
    ("a step back that is neither", [1000, 990, 1001], U16, [NAN, NAN, 11]),
    ("a step back of a meter that never wraps", [1000, 990], CounterRule(), [NAN, NAN]),
    ("a gap: the next value has it all", [10, NAN, NAN, 16, 18], U16, [NAN, NAN, NAN, 6, 2]),
    ("a wrap inside a gap", [65_530, NAN, 10], U16, [NAN, NAN, 16]),
    ("nothing at first", [NAN, 5, 6], U16, [NAN, NAN, 1]),
    ("never anything", [NAN, NAN], U16, [NAN, NAN]),
    ("one value", [7], U16, [NAN]),
]


@pytest.mark.parametrize(("what", "total", "rule", "expected"), CASES, ids=[c[0] for c in CASES])
def test_increments(what, total, rule, expected):
    assert added(total, rule) == pytest.approx(expected, nan_ok=True)


def test_each_course_is_told():
    total = np.array([65_530.0, 10.0, 30_000.0, 5.0, 4.9, NAN, 5.0])
    added, kind = course(total, np.arange(7) * 60.0, U16)
    assert [Course(one).name for one in kind] == [
        "PLAIN", "WRAPPED", "PLAIN", "RESTARTED", "UNEXPLAINED", "PLAIN", "PLAIN"
    ]  # fmt: skip
    assert added == pytest.approx([NAN, 16, 29_990, 5, NAN, NAN, 0.1], nan_ok=True)


def test_several_series_are_taken_at_once():
    total = np.array([[1.0, 2.0, 4.0], [65_535.0, NAN, 1.0]])
    found = increments(total, np.array([0.0, 10.0, 20.0]), U16)
    np.testing.assert_allclose(found, [[NAN, 1, 2], [NAN, NAN, 2]])


def test_accumulated_never_falls_and_keeps_gaps():
    total = np.array([65_500.0, 65_530.0, NAN, 20.0, 5.0])
    found = accumulated(total, np.arange(5) * 60.0, U16)
    np.testing.assert_allclose(found, [0, 30, NAN, 56, 61])


@pytest.mark.parametrize("kwargs", [{"wraps_at": 0.0}, {"wraps_at": -1.0}, {"most_per_s": 0.0}])
def test_rule_without_sense_cannot_be_made(kwargs):
    with pytest.raises(ValueError):
        CounterRule(**kwargs)


@given(
    start=st.integers(0, 65_535),
    steps=st.lists(st.integers(0, 3000), min_size=1, max_size=60),
    missing=st.sets(st.integers(1, 59)),
)
def test_a_counter_that_only_wraps_adds_up_to_what_flowed(start, steps, missing):
    flowed = np.concatenate([[0], np.cumsum(steps)]).astype(float)
    total = (start + flowed) % 65_536
    rule = CounterRule(65_536.0, most_per_s=50.0)
    at_s = np.arange(len(total)) * 60.0
    # no more than ten samples are missing in a row, so that less than a whole turn can have flowed
    holes = [place for place in missing if place < len(total) - 1 and place % 10]
    total[holes] = NAN
    found = accumulated(total, at_s, rule)
    keep = ~np.isnan(total)
    np.testing.assert_allclose(found[keep], flowed[keep])


@given(st.lists(st.floats(0, 65_535) | st.just(NAN), min_size=1, max_size=50))
def test_nothing_negative_ever_comes_out(total):
    found = np.array(added(total, U16))
    assert not (found < 0).any()
    assert np.isnan(found[np.isnan(np.array(total))]).all()
