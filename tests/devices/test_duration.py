import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.duration import format_duration, parse_duration_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10.0),
        ("500ms", 0.5),
        ("1.5h", 5400.0),
        ("30d", 2592000.0),
        ("5 min", 300.0),  # a blank before the unit is how people write
        ("PT10S", 10.0),
        ("PT1H30M", 5400.0),
        ("P1D", 86400.0),
        ("P2W", 1209600.0),
        ("P1DT12H", 129600.0),
    ],
)
def test_durations_are_read_as_people_write_them(text, seconds):
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "10", "10m", "P", "PT", "P1Y", "P1M", "-5s", "ten seconds", "1h 30min", "10S", "P1H"],
)
def test_what_has_no_fixed_length_is_refused(text):
    with pytest.raises(ValueError, match="a duration with its unit"):
        parse_duration_s(text)


@given(st.integers(min_value=1, max_value=10**7))
def test_a_formatted_duration_reads_back(seconds):
    assert parse_duration_s(format_duration(seconds)) == seconds
