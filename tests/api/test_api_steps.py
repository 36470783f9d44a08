from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.steps import Ask, Step, bucket_starts_us, fitting_steps, points_of

DAY_US = 86_400_000_000
ROLLED = [Step.MINUTE, Step.QUARTER, Step.HOUR, Step.DAY]
ZONES = ["Asia/Shanghai", "Europe/Amsterdam", "Asia/Kathmandu", "America/Havana", "UTC"]


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000


def ask(start: str, end: str, *intervals_s: float, each: int = 720, total: int = 10_000) -> Ask:
    zones = ("Asia/Shanghai",) * len(intervals_s)
    return Ask(at(start), at(end), intervals_s, zones, each, total)


@pytest.mark.parametrize(
    ("question", "finest"),
    [
        # an hour of 10-second readings is 361 points
        (ask("2024-01-01T00:00Z", "2024-01-01T01:00Z", 10), Step.RAW),
        # six hours of them are 2161: minutes
        (ask("2024-01-01T00:00Z", "2024-01-01T06:00Z", 10), Step.MINUTE),
        # a day of minutes would be 1440
        (ask("2024-01-01T00:00Z", "2024-01-02T00:00Z", 10), Step.QUARTER),
        # a day of a slow probe is raw
        (ask("2024-01-01T00:00Z", "2024-01-02T00:00Z", 300), Step.RAW),
        (ask("2024-01-01T00:00Z", "2024-01-20T00:00Z", 10), Step.HOUR),
        (ask("2024-01-01T00:00Z", "2024-12-31T00:00Z", 10), Step.DAY),
        # one fast series among slow ones sets the step for all, so that charts line up
        (ask("2024-01-01T00:00Z", "2024-01-01T06:00Z", 300, 300, 10), Step.MINUTE),
        # the whole answer is bounded too: 100 series leave 100 points for each
        (ask("2024-01-01T00:00Z", "2024-01-01T06:00Z", *[60] * 100), Step.QUARTER),
    ],
)
def test_the_finest_step_that_fits_is_offered_first(question, finest):
    assert fitting_steps(question)[0] is finest


def test_no_step_fits_a_range_too_long_even_for_days():
    assert fitting_steps(ask("1990-01-01T00:00Z", "2190-01-01T00:00Z", 10)) == []


@given(
    start_us=st.integers(0, 7_000_000_000_000_000),
    span_us=st.integers(1, 900 * DAY_US),
    each=st.integers(1, 2000),
    total=st.integers(1, 12_000),
    zones=st.lists(st.sampled_from(ZONES), min_size=1, max_size=12),
    interval_s=st.floats(0.1, 90_000),
)
@settings(max_examples=150, deadline=None)
def test_no_answer_exceeds_the_limits(start_us, span_us, each, total, zones, interval_s):
    end_us = start_us + span_us
    intervals = (interval_s,) * len(zones)
    question = Ask(start_us, end_us, intervals, tuple(zones), each, total)
    for step in fitting_steps(question):
        if step is Step.RAW:
            assert span_us / (interval_s * 1e6) <= each
            continue
        grids = [bucket_starts_us(step, start_us, end_us, zone) for zone in zones]
        assert max(len(grid) for grid in grids) <= each
        assert sum(len(grid) for grid in grids) <= total


@given(
    start_us=st.integers(0, 7_000_000_000_000_000),
    span_us=st.integers(1, 20 * DAY_US),
    step=st.sampled_from(ROLLED),
    zone=st.sampled_from(ZONES),
)
@settings(max_examples=150, deadline=None)
def test_a_grid_is_dense_and_covers_the_whole_range(start_us, span_us, step, zone):
    end_us = start_us + span_us
    grid = bucket_starts_us(step, start_us, end_us, zone)
    widths = np.diff(grid)
    assert grid[0] <= start_us
    assert grid[-1] < end_us
    if step is Step.DAY:
        assert set(widths.tolist()) <= {DAY_US, DAY_US - DAY_US // 24, DAY_US + DAY_US // 24}
        assert start_us - grid[0] < DAY_US + DAY_US // 24
    else:
        width = {Step.MINUTE: 60, Step.QUARTER: 900, Step.HOUR: 3600}[step] * 1_000_000
        assert (widths == width).all()
        assert grid[0] > start_us - width
        assert grid[-1] + width >= end_us
    question = Ask(start_us, end_us, (1.0,), (zone,), 10**6, 10**6)
    assert points_of(step, question) == len(grid)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Amsterdam", "2024-03-31", 23),  # clocks go forward
        ("Europe/Amsterdam", "2024-10-27", 25),  # and back
        ("Asia/Shanghai", "2024-03-31", 24),
        ("America/Havana", "2024-03-10", 23),  # forward at midnight: the day begins at one
        ("America/Havana", "2024-11-03", 25),  # back from one to midnight
    ],
)
def test_a_day_lasts_as_long_as_it_does_at_the_site(zone, day, hours):
    noon = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=ZoneInfo(zone))
    noon_us = int(noon.timestamp()) * 1_000_000
    grid = bucket_starts_us(Step.DAY, noon_us, noon_us + 13 * 3_600_000_000, zone)
    assert len(grid) == 2
    assert grid[1] - grid[0] == hours * 3_600_000_000
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(grid[0]))).astimezone(
        ZoneInfo(zone)
    )
    assert local.date().isoformat() == day
