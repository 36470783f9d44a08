import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.instants import format_instant, parse_instant_us

NEW_YEAR_US = 1_704_067_200_000_000


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-01T00:00:00Z",
        "2024-01-01T00:00:00.000Z",
        "2024-01-01T00:00:00+00:00",
        "2024-01-01T08:00:00+08:00",
        "2024-01-01T08:00:00+0800",  # without the colon, as many programs write it
        "2024-01-01 08:00:00+08:00",  # a space instead of the T, RFC 3339 section 5.6
        "2024-01-01t00:00:00z",  # lower case, the same section
        "2024-01-01T00:00Z",  # no seconds
        "2023-12-31T19:00:00,0-05:00",  # a decimal comma, ISO 8601
    ],
)
def test_the_same_moment_may_be_written_in_several_ways(text):
    assert parse_instant_us(text) == NEW_YEAR_US


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2024-01-01T00:00:00", "zone is missing"),
        ("2024-01-01", "neither hour nor zone"),
        ("2024-01-01T08:00:00 08:00", "encode + as %2B"),  # what an unescaped + becomes
        ("1700000000", "seconds or milliseconds"),
        ("1700000000000", "seconds or milliseconds"),
        ("-1", "seconds or milliseconds"),
        ("1.7e9", "with its zone"),
        ("", "with its zone"),
        ("now", "with its zone"),
        ("yesterday", "with its zone"),
        ("2024-02-30T00:00:00Z", "day"),  # there is no such day
        ("2024-01-01T25:00:00Z", "hour"),
        ("2024-01-01T00:00:60Z", "second"),  # leap seconds have no place in UTC microseconds
        ("2024-01-01T00:00:00+99:00", "with its zone"),
        ("1969-12-31T23:59:59Z", "1970"),
        ("2200-01-01T00:00:00Z", "2199"),
        ("0001-01-01T00:00:00+08:00", "1970"),  # before the calendar, once in UTC
        ("9999-12-31T23:59:59-08:00", "2199"),  # after it
        ("٢٠٢٤-01-01T00:00:00Z", "with its zone"),  # digits of another script
        ("2024-01-01T00:00:00Z\n", "with its zone"),
        ("2024-01-01T00:00:00Z; drop table", "with its zone"),
    ],
)
def test_a_time_that_could_be_meant_two_ways_is_refused_with_a_reason(text, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        parse_instant_us(text)


zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(datetime(1971, 1, 1), datetime(2199, 12, 30), timezones=zones))
def test_every_moment_is_read_back_as_itself(moment):
    at_us = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert parse_instant_us(moment.isoformat()) == at_us
    assert parse_instant_us(format_instant(at_us)) == at_us
