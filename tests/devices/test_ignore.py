from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.ignore import ignored_by
from tests.rig.growth import growth


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("rssi", "rssi", True),
        ("rssi", "rssi2", False),
        ("debug_*", "debug_", True),
        ("debug_*", "debug_heap.free", True),
        ("*.raw", "a.b.raw", True),
        ("*a*b", "xaxaxb", True),
        ("*a*b", "xbxa", False),
        ("t?", "t1", True),
        ("t?", "t", False),
        ("temp[Cel]", "temp[Cel]", True),  # brackets mean themselves
        ("temp[Cel]", "tempC", False),
        ("*", "", True),
        ("a*a", "a", False),
    ],
)
def test_a_pattern_matches_as_people_expect(pattern, key, matches):
    assert ignored_by([pattern])(key) is matches


def test_without_patterns_nothing_is_ignored():
    assert not ignored_by(())("rssi")


def _matches(pattern: str, key: str) -> bool:
    """The definition, letter by letter."""
    if not pattern:
        return not key
    if pattern[0] == "*":
        return any(_matches(pattern[1:], key[at:]) for at in range(len(key) + 1))
    return bool(key) and pattern[0] in ("?", key[0]) and _matches(pattern[1:], key[1:])


@given(
    patterns=st.lists(st.text(alphabet="ab*?", max_size=6), max_size=3),
    key=st.text(alphabet="ab", max_size=7),
)
def test_patterns_match_by_their_definition(patterns, key):
    assert ignored_by(patterns)(key) is any(_matches(pattern, key) for pattern in patterns)


def test_no_key_makes_a_pattern_slow():
    is_ignored = ignored_by(["*a" * 40 + "b"])
    assert not is_ignored("a" * 60_000)
    assert growth(is_ignored, "a" * 6_000, "a" * 60_000) < 40
