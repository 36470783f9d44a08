import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.columns import NO_QUALITY, dense_columns, raw_columns
from devices.series import Series
from devices.site import Medium, Placement
from devices.units import Conversion

SERIES = Series(
    device="node-1",
    quantity="air_temperature",
    channel="",
    key="t",
    site="house-1",
    placement=Placement.INSIDE,
    medium=Medium.AIR,
    unit="°C",
    conversion=Conversion(),
    interval_s=10.0,
)
S = 1_000_000


def raw(*at_s: float, **options: bool):
    at = np.array([int(one * S) for one in at_s], np.int64)
    value = np.arange(len(at), dtype=np.float64)
    return raw_columns(SERIES, at, value, np.zeros(len(at), np.int32), **options)


def test_neighbours_within_three_intervals_stay_joined():
    assert raw(0, 10, 40).observed_at_us.tolist() == [0, 10 * S, 40 * S]


def test_a_gap_longer_than_three_intervals_gets_one_empty_row():
    part = raw(0, 10, 40.000001, 50)
    assert part.observed_at_us.tolist() == [0, 10 * S, 20 * S, 40_000_001, 50 * S]
    assert np.isnan(part.columns["value"]).tolist() == [False, False, True, False, False]
    assert part.columns["quality_bits"].tolist() == [0, 0, NO_QUALITY, 0, 0]


def test_gaps_may_be_left_unmarked():
    assert len(raw(0, 1000, mark_gaps=False)) == 2


def test_an_empty_answer_and_a_single_reading_have_no_gap():
    assert len(raw()) == 0
    assert len(raw(5)) == 1


@given(st.lists(st.integers(0, 10**6), unique=True, max_size=60).map(sorted))
def test_marking_gaps_keeps_every_reading_and_never_joins_over_a_gap(at_s):
    part = raw(*at_s)
    filled = ~np.isnan(part.columns["value"])
    assert part.observed_at_us[filled].tolist() == [one * S for one in at_s]
    assert part.columns["value"][filled].tolist() == list(range(len(at_s)))
    assert (np.diff(part.observed_at_us) > 0).all()
    joined = filled[1:] & filled[:-1]
    assert (np.diff(part.observed_at_us)[joined] <= 30 * S).all()
    assert len(part) < 2 * max(1, len(at_s))


def test_empty_buckets_are_null_and_their_counts_are_zero():
    grid = np.arange(5, dtype=np.int64) * 60 * S
    filled = {"mean": np.array([1.5, 2.5]), "count": np.array([3, 4], np.int64)}
    part = dense_columns(SERIES, grid, grid[[1, 4]], filled)
    assert part.observed_at_us.tolist() == grid.tolist()
    assert part.columns["count"].tolist() == [0, 3, 0, 0, 4]
    np.testing.assert_array_equal(part.columns["mean"], [np.nan, 1.5, np.nan, np.nan, 2.5])


def test_a_day_whose_midnight_comes_twice_finds_its_place():
    """Havana, 3 November 2024: the grid begins at the first midnight, the database at the second"""
    grid = np.array([1730606400, 1730696400], np.int64) * S
    at_second_midnight = np.array([1730610000], np.int64) * S
    part = dense_columns(SERIES, grid, at_second_midnight, {"mean": np.array([7.0])})
    np.testing.assert_array_equal(part.columns["mean"], [7.0, np.nan])


def test_buckets_that_do_not_belong_to_the_grid_are_an_error():
    grid = np.array([60 * S, 120 * S], np.int64)
    with pytest.raises(ValueError, match="grid"):
        dense_columns(SERIES, grid, np.array([0], np.int64), {"mean": np.array([1.0])})
    with pytest.raises(ValueError, match="grid"):
        twice = np.array([60 * S, 61 * S], np.int64)
        dense_columns(SERIES, grid, twice, {"mean": np.array([1.0, 2.0])})
