"""What firmware writes, read back by a reader that is not ours."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.codecs.json import JsonCodec
from firmware_sims.payload import MOST_BYTES, MOST_READINGS, MOST_SAMPLES, encode, packed
from firmware_sims.sample import Sample

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.none()
keys = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30)
samples = st.builds(
    lambda ms, values: Sample(ms * 1000, ms * 1000, values),
    st.integers(0, 4_000_000_000_000),
    st.dictionaries(keys, numbers, min_size=1, max_size=40),
)


def test_one_sample_is_an_object_and_several_are_a_list():
    one = Sample(0, 1_700_000_000_123_000, {"air_temperature": 21.5, "co2": None})
    assert encode([one]) == b'{"t":1700000000123,"v":{"air_temperature":21.5,"co2":null}}'
    assert encode([one, one]) == b"[" + encode([one]) + b"," + encode([one]) + b"]"


def test_the_stamp_of_the_devices_own_clock_is_sent():
    assert (
        json.loads(encode([Sample(5_000_000, 946_684_800_000_000, {"x": 1.0})]))["t"]
        == 946684800000
    )


@given(st.lists(samples, min_size=1, max_size=5))
def test_every_digit_survives(rows: list[Sample]):
    read = json.loads(encode(rows))
    read = [read] if len(rows) == 1 else read
    assert [one["v"] for one in read] == [dict(row.values) for row in rows]
    assert [one["t"] * 1000 for one in read] == [row.stamp_us for row in rows]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_is_not_sent(value: float):
    with pytest.raises(ValueError, match="JSON"):
        encode([Sample(0, 0, {"x": value})])


def test_a_message_without_samples_is_refused():
    with pytest.raises(ValueError, match="without samples"):
        encode([])


@settings(max_examples=50)
@given(st.lists(samples, max_size=60), st.integers(1, 400))
def test_packs_keep_order_lose_nothing_and_fit(rows: list[Sample], most: int):
    packs = list(packed(rows, most))
    assert [sample for pack in packs for sample in pack] == rows
    for pack in packs:
        assert 0 < len(pack) <= most
        if len(pack) > 1:
            assert sum(len(sample.values) for sample in pack) <= MOST_READINGS


def test_a_day_of_a_full_station_fits_the_limits_of_a_collector():
    values = {f"some_rather_long_quantity_name.channel-{n}": 123456.789012345 for n in range(20)}
    rows = [Sample(n, n * 10_000_000, values) for n in range(8640)]
    for pack in packed(rows):
        assert len(pack) <= MOST_SAMPLES <= 1000
        assert sum(len(sample.values) for sample in pack) <= MOST_READINGS <= 1000
        assert len(encode(pack)) <= MOST_BYTES <= 65_536


@given(st.lists(samples, min_size=1, max_size=5))
def test_the_decoder_of_the_service_reads_what_firmware_writes(rows: list[Sample]):
    decoded = JsonCodec().decode(encode(rows))
    assert [dict(one.values) for one in decoded] == [dict(row.values) for row in rows]
    assert [one.observed_at_us for one in decoded] == [row.stamp_us for row in rows]
