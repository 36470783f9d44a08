"""Wall time to UTC around the changes of the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sims.wall_clock import WallClock, microseconds

AMSTERDAM = ZoneInfo("Europe/Amsterdam")


def _read(*shown: str, zone: ZoneInfo = AMSTERDAM) -> list[str | None]:
    clock = WallClock(zone)
    out: list[str | None] = []
    for text in shown:
        at_us = clock.read(datetime.fromisoformat(text)).at_us
        utc = None if at_us is None else datetime.fromtimestamp(at_us / 1e6, UTC)
        out.append(None if utc is None else f"{utc:%d %H:%M}")
    return out


@pytest.mark.parametrize(
    ("shown", "utc"),
    [
        # winter, the last minute before, the first after, summer
        (["2020-03-29 00:30", "2020-03-29 01:59"], ["28 23:30", "29 00:59"]),
        (["2020-03-29 03:00", "2020-03-29 12:00"], ["29 01:00", "29 10:00"]),
        # the hour that did not exist, with both of its ends
        (["2020-03-29 02:00", "2020-03-29 02:30", "2020-03-29 02:59"], [None, None, None]),
        # autumn: summer, the hour twice, winter
        (
            [
                "2020-10-25 01:30",
                "2020-10-25 02:00",
                "2020-10-25 02:30",
                "2020-10-25 02:00",
                "2020-10-25 02:30",
                "2020-10-25 03:00",
            ],
            ["24 23:30", "25 00:00", "25 00:30", "25 01:00", "25 01:30", "25 02:00"],
        ),
        # hourly rows: 02:00 stands twice with nothing between
        (["2020-10-25 02:00", "2020-10-25 02:00"], ["25 00:00", "25 01:00"]),
        # the first of the two hours has a hole at its end: still told apart
        (["2020-10-25 02:10", "2020-10-25 02:05"], ["25 00:10", "25 01:05"]),
        # nothing before: the earlier one
        (["2020-10-25 02:45"], ["25 00:45"]),
    ],
)
def test_wall_times_of_amsterdam(shown, utc):
    assert _read(*shown) == utc


def test_the_hour_that_exists_twice_is_marked():
    clock = WallClock(AMSTERDAM)
    marks = [clock.read(datetime(2020, 10, 25, hour, 30)).ambiguous for hour in (1, 2, 2, 3)]
    assert marks == [False, True, True, False]


def test_shanghai_has_changed_its_clocks_once_and_is_plain_today():
    shanghai = ZoneInfo("Asia/Shanghai")
    assert _read("2026-11-20 08:00", zone=shanghai) == ["20 00:00"]
    assert _read("1990-04-15 02:30", zone=shanghai) == [None]


def test_an_offset_in_the_text_is_believed():
    assert _read("2020-03-29 02:30+00:00", "2020-03-29T02:30:00+08:00") == ["29 02:30", "28 18:30"]


def test_microseconds_are_exact_far_from_1970():
    moment = datetime(2999, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=5)))
    assert microseconds(moment) % 1_000_000 == 999_999


@given(st.datetimes(datetime(1996, 1, 1), datetime(2037, 1, 1)))
def test_wall_times_agree_with_pandas(shown: datetime):
    told = pd.Timestamp(shown).tz_localize("Europe/Amsterdam", nonexistent="NaT", ambiguous=True)
    at_us = WallClock(AMSTERDAM).read(shown).at_us
    if told is pd.NaT:
        assert at_us is None
    else:
        assert at_us == told.value // 1000


@given(st.integers(0, 47), st.sampled_from([5, 10, 15, 20, 30, 60]))
def test_a_regular_log_over_both_changes_comes_out_regular(start: int, step_min: int):
    for first in (datetime(2020, 3, 28, 12), datetime(2020, 10, 24, 12)):
        at = first.replace(tzinfo=AMSTERDAM).astimezone(UTC) + timedelta(minutes=15 * start)
        true = [at + n * timedelta(minutes=step_min) for n in range(24 * 60 // step_min)]
        clock = WallClock(AMSTERDAM)
        read = [clock.read(t.astimezone(AMSTERDAM).replace(tzinfo=None, fold=0)) for t in true]
        ambiguous = [r.ambiguous for r in read]
        if not ambiguous[0]:  # a log that begins in the second of two hours cannot know it
            assert [r.at_us for r in read] == [microseconds(t) for t in true]
