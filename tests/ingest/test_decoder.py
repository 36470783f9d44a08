from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs.json import JsonCodec
from devices.codecs.sample import Sample
from devices.codecs.value import ValueCodec
from devices.quality import Quality
from devices.reading import Batch
from devices.site_file import read_site_file
from ingest.collector import ArrivalFlag
from ingest.decoder import MAX_LAYOUTS, MAX_TOPICS, Decoder
from ingest.replay import replayed
from tests.ingest.house import CODECS, RECEIVED_MS, RECEIVED_US, TOPIC, arrival, decoder, house

DAY_MS = 86_400_000


def _rows(batch: Batch):
    """The batch as (series code, observed, received, value, quality)."""
    code = {number: code for code, number in house().series_ids.items()}
    columns = (batch.observed_at_us, batch.received_at_us, batch.value, batch.quality)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [(code[s], *row) for s, row in zip(batch.series_id.tolist(), rows, strict=True)]


def _decode(*arrivals):
    return decoder().decode(arrivals)


def test_readings_come_out_in_order_under_their_series():
    decoded = _decode(
        arrival({"t": RECEIVED_MS - 5, "v": {"co2": 812, "air_temperature": 21.5}}),
        arrival({"t": RECEIVED_MS, "v": {"soil_moisture.2": 31.25}}, "gh/h1/h1-soil"),
    )
    assert _rows(decoded.batch) == [
        ("h1-climate.co2", RECEIVED_US - 5000, RECEIVED_US, 812.0, 0),
        ("h1-climate.air_temperature", RECEIVED_US - 5000, RECEIVED_US, 21.5, 0),
        ("h1-soil.soil_moisture.2", RECEIVED_US, RECEIVED_US, 31.25, 0),
    ]
    assert decoded.origin.tolist() == [0, 0, 1]
    assert (decoded.messages, decoded.letters) == (2, [])


def test_columns_have_their_types():
    batch = _decode(arrival({"v": {"co2": 1}})).batch
    types = (batch.series_id, batch.observed_at_us, batch.received_at_us, batch.value)
    assert [column.dtype for column in types] == [np.int32, np.int64, np.int64, np.float64]
    assert batch.quality.dtype == np.int32
    assert all(column.flags.c_contiguous for column in types)


def test_nothing_gives_nothing():
    decoded = decoder().decode([])
    assert len(decoded.batch) == len(decoded.origin) == decoded.messages == 0


def test_units_are_brought_to_those_of_the_quantity():
    (_, _, _, light, _), (_, _, _, warmth, _), (_, _, _, ec, _) = _rows(
        _decode(
            arrival({"v": {"light": 50}}), arrival({"v": {"t": 77, "ec": 1500}}, "gh/h1/h1-soil")
        ).batch
    )
    assert (light, warmth, ec) == pytest.approx((50_000, 25, 1.5))


def test_a_value_in_its_own_unit_keeps_its_last_bit():
    value = 0.1 + 0.2
    assert _decode(arrival({"v": {"air_temperature": value}})).batch.value[0] == value


@pytest.mark.parametrize(
    ("value", "quality"),
    [
        (None, Quality.MISSING),
        (-273.16, Quality.PHYSICAL_RANGE),
        (70.0, Quality.GOOD),
        (70.01, Quality.PHYSICAL_RANGE),
        (-50.0, Quality.GOOD),
        (1e308, Quality.PHYSICAL_RANGE),
    ],
)
def test_quality_says_what_is_wrong_with_a_value(value, quality):
    batch = _decode(arrival({"t": RECEIVED_MS, "v": {"air_temperature": value}})).batch
    assert batch.quality.tolist() == [quality]
    assert np.isnan(batch.value[0]) == (value is None)


def test_limits_hold_after_the_conversion_of_units():
    batch = _decode(arrival({"t": RECEIVED_MS, "v": {"t": 200}}, "gh/h1/h1-soil")).batch
    assert batch.quality.tolist() == [Quality.PHYSICAL_RANGE]  # 93 °C


def test_a_device_without_a_clock_gets_the_time_of_receipt_and_a_mark():
    (row,) = _rows(_decode(arrival({"v": {"co2": 500}})).batch)
    assert row[1:] == (RECEIVED_US, RECEIVED_US, 500.0, Quality.RECEIVE_TIME)


def test_a_retained_message_with_its_own_time_is_marked_as_old():
    at = RECEIVED_MS - DAY_MS
    decoded = _decode(arrival({"t": at, "v": {"co2": 500}}, flags=ArrivalFlag.RETAINED))
    (row,) = _rows(decoded.batch)
    assert row[1:] == (at * 1000, RECEIVED_US, 500.0, Quality.RETAINED)


def test_a_retained_value_never_gets_a_fresh_time():
    decoded = _decode(arrival({"v": {"co2": 500}}, flags=ArrivalFlag.RETAINED))
    assert len(decoded.batch) == 0
    assert [letter.code for letter in decoded.letters] == ["E-RETAINED"]


@pytest.mark.parametrize(
    ("t", "device", "accepted"),
    [
        (RECEIVED_MS - 30 * DAY_MS, "h1-climate", True),
        (RECEIVED_MS - 30 * DAY_MS - 1, "h1-climate", False),
        (RECEIVED_MS - 40 * DAY_MS, "h1-soil", True),  # has its own limit
        (RECEIVED_MS - 40 * DAY_MS - 1, "h1-soil", False),
        (RECEIVED_MS + 300_000, "h1-climate", True),
        (RECEIVED_MS + 300_001, "h1-climate", False),
    ],
)
def test_a_clock_is_believed_within_the_limits_of_its_device(t, device, accepted):
    key = "co2" if device == "h1-climate" else "ec"
    decoded = _decode(arrival({"t": t, "v": {key: 500}}, f"gh/h1/{device}"))
    assert len(decoded.batch) == accepted
    assert [letter.code for letter in decoded.letters] == ([] if accepted else ["E-TIME"])


@pytest.mark.parametrize(
    ("t", "hint"),
    [
        (RECEIVED_MS // 1000, "are these seconds?"),
        (RECEIVED_US, "which is beyond the year 9999 in milliseconds"),
        (946_684_800_000, "got 2000-01-01T00:00:00.000Z, expected 2025-12-02T00:00:00.000Z to"),
        (-62_000_000_000_000, "got 0005-"),
        (-99_000_000_000_000, "µs since 1970"),
    ],
)
def test_a_wrong_clock_is_explained(t, hint):
    (letter,) = _decode(arrival({"t": t, "v": {"co2": 500}})).letters
    assert letter.code == "E-TIME"
    assert hint in letter.text


def test_what_is_known_is_stored_and_what_is_not_leaves_one_letter():
    message = {"t": RECEIVED_MS, "v": {"co2": 500, "air_temprature": 21, "xyz": 1, "light": 2}}
    decoded = _decode(arrival(message), arrival({"v": {"co2": 501}}))
    assert [row[0] for row in _rows(decoded.batch)] == [
        "h1-climate.co2",
        "h1-climate.illuminance",
        "h1-climate.co2",
    ]
    assert decoded.origin.tolist() == [0, 0, 1]
    assert decoded.unknown_keys == 2
    (letter,) = decoded.letters
    assert letter.code == "E-KEY"
    assert letter.payload == arrival(message).payload
    assert "'air_temprature' (did you mean 'air_temperature'?)" in letter.text
    assert letter.text.endswith("2 other readings of it are stored")


def test_a_message_of_unknown_keys_only_is_one_letter():
    decoded = _decode(arrival({"v": {"a": 1, "b": 2}}))
    assert len(decoded.batch) == decoded.messages == 0
    assert [letter.code for letter in decoded.letters] == ["E-KEY"]


def test_the_good_samples_of_a_list_are_stored():
    samples = [
        {"t": RECEIVED_MS, "v": {"co2": 500}},
        {"t": 5, "v": {"co2": 501}},
        {"t": RECEIVED_MS, "v": {"co3": 502}},
        {"t": RECEIVED_MS + 1, "v": {"co2": 503}},
    ]
    decoded = _decode(arrival(samples))
    assert decoded.batch.value.tolist() == [500, 503]
    (letter,) = decoded.letters
    assert letter.code == "E-TIME"
    assert letter.text.startswith("[1].t: got 1970-01-01T00:00:00.005Z")
    assert letter.text.endswith("; 1 more like this; 2 other readings of it are stored")


def test_a_post_names_its_devices_itself():
    posted = [
        {"t": RECEIVED_MS, "v": {"wind_speed": 3}, "device": "h2-post"},
        {"t": RECEIVED_MS, "v": {"co2": 500}, "device": "h1-climate"},
    ]
    decoded = _decode(arrival(posted, "/api/v1/readings", "http"))
    codes = [row[0] for row in _rows(decoded.batch)]
    assert codes == ["h2-post.wind_speed", "h1-climate.co2"]


def test_a_poll_is_addressed_by_device():
    decoded = _decode(arrival({"v": {"flow_rate": 3}}, "h2-meter", "modbus"))
    assert [row[0] for row in _rows(decoded.batch)] == ["h2-meter.flow_rate"]


def test_the_template_of_topics_is_followed():
    other = Decoder(house(), "v1/{device}/up", CODECS)
    assert len(other.decode([arrival({"v": {"co2": 1}}, "v1/h1-climate/up")]).batch) == 1
    (letter,) = other.decode([arrival({"v": {"co2": 1}}, "v1/h1-climate/down")]).letters
    assert letter.text == "topic: got 'down' at level 3, expected up as the template v1/{device}/up"


PER_VALUE = """
version: 1
sites: [{code: h1, kind: greenhouse}, {code: h2, kind: greenhouse}]
broker:
  host: 127.0.0.1
  topics: ["gh/{site}/{device}", "farm/{site}/{device}/{quantity}/{channel}",
    "v3/{app}/devices/{device}/up", "vendor/#"]
devices:
  - {code: probe, site: h1, payload: value, address: EUI-7, series: [
      {quantity: soil_moisture, channel: 1}, {quantity: soil_moisture, channel: 2}]}
  - {code: node, site: h1, address: 00-aa, series: [{quantity: co2}, {quantity: air_temperature}]}
  - {code: own, site: h2, topic: "vendor/{site}/own/{key}", series: [
      {quantity: co2, key: CO2.ppm}, {quantity: air_temperature, key: T}]}
"""


def _of_topics():
    registry = read_site_file(PER_VALUE, "topics.yaml")
    numbers = {code: number for number, code in enumerate(registry.registry.series, 1)}
    return Decoder(
        replace(registry.registry, series_ids=numbers, revision=1),
        registry.broker.templates,
        {"json": JsonCodec(), "value": ValueCodec()},
    ), {number: code for code, number in numbers.items()}


@pytest.mark.parametrize(
    ("topic", "payload", "series"),
    [
        ("farm/h1/EUI-7/soil_moisture/2", b"31.5", ["probe.soil_moisture.2"]),
        ("farm/h1/EUI-7/soil_moisture/1", b"12", ["probe.soil_moisture.1"]),
        ("gh/h1/00-aa", {"v": {"co2": 500}}, ["node.co2"]),
        ("v3/some@tenant/devices/00-aa/up", {"v": {"co2": 500}}, ["node.co2"]),
        ("v3/other/devices/00-aa/up", {"v": {"co2": 500}}, ["node.co2"]),
        ("vendor/h2/own/CO2", {"v": {"ppm": 800}}, ["own.co2"]),
        ("vendor/h2/own/T", {"v": {"value": 20}}, ["own.air_temperature"]),
    ],
)
def test_topics_say_whose_a_value_is_and_which(topic, payload, series):
    one, names = _of_topics()
    assert not one.knows("modbus", topic)
    assert one.knows("mqtt", topic)
    for _ in range(2):  # the second time the topic is remembered
        decoded = one.decode([arrival(payload, topic)])
        assert [names[number] for number in decoded.batch.series_id.tolist()] == series
        assert decoded.letters == []


@pytest.mark.parametrize(
    ("topic", "code", "text"),
    [
        ("gh/h1/nobody", "E-DEVICE", "got device 'nobody'"),
        ("gh/h1/eui7", "E-DEVICE", "did you mean 'EUI-7'"),
        ("gh/h2/00-aa", "E-MISMATCH", "got site 'h2', expected h1 for node"),
        ("gh/h2/own", "E-MISMATCH", "expected its own 'vendor/{site}/own/{key}'"),
        ("vendor/h2/other/T", "E-DEVICE", "'vendor/h2/other/T', which is no device's"),
        ("elsewhere", "E-TOPIC", "expected one of the templates gh/{site}/{device}, farm/"),
        ("vendor/h2/own/humidity", "E-KEY", "got key 'humidity.co2', expected one of device own"),
    ],
)
def test_what_no_device_sends_is_told_by_its_topic(topic, code, text):
    one, _ = _of_topics()
    (letter,) = one.decode([arrival({"v": {"co2": 1}}, topic)]).letters
    assert letter.code == code
    assert text in letter.text
    assert one.knows("mqtt", topic) == (code == "E-KEY")


def test_a_device_that_invents_topics_does_not_fill_the_memory():
    one, _ = _of_topics()
    for number in range(MAX_TOPICS + 10):
        one.decode([arrival({"v": {"value": 1}}, f"vendor/h2/own/{number}")])
    assert len(one._routes["mqtt"]) <= MAX_TOPICS + 10  # and those that are exact
    assert len(one.decode([arrival({"v": {"ppm": 1}}, "vendor/h2/own/CO2")]).batch) == 1


def test_ignored_fields_are_counted():
    assert _decode(arrival({"v": {"co2": 1}, "seq": 1, "fw": "2"})).ignored_fields == 2


def test_a_device_that_invents_keys_does_not_fill_the_memory():
    one = decoder()
    for number in range(MAX_LAYOUTS + 50):
        decoded = one.decode([arrival({"v": {"co2": 1, f"key-{number}": 1}})])
        assert len(decoded.batch) == 1
        assert [letter.code for letter in decoded.letters] == ["E-KEY"]
    assert len(one._by_code["h1-climate"].layouts) == MAX_LAYOUTS


def test_a_replayed_letter_gives_the_readings_it_would_have_given_then():
    bad = arrival({"v": {"co2": 500, "new_key": 3}}, flags=ArrivalFlag.QOS0)
    first = _decode(bad)
    (again,) = replayed(first.letters)
    assert again.received_at_us == bad.received_at_us
    assert again.flags == ArrivalFlag.QOS0 | ArrivalFlag.REPLAYED
    second = _decode(again)
    assert _rows(second.batch) == _rows(first.batch)
    assert second.letters[0].id == first.letters[0].id


def test_a_letter_can_be_kept_whatever_its_topic_held():
    (letter,) = _decode(arrival(b"{}", "gh/h1/\0\ud800")).letters
    assert letter.topic == r"gh/h1/\x00\ud800"
    assert "\0" not in letter.text
    letter.text.encode()


class Buggy:
    """A codec that raises what it should not, or returns what is no number."""

    def decode(self, payload):
        if payload == b"raises":
            raise KeyError("oops\n\0")
        value = "not a number" if payload == b"lies" else 1.0
        return [Sample(RECEIVED_US, {"co2": value})]


@pytest.mark.parametrize("payload", [b"raises", b"lies"])
def test_a_bug_in_a_codec_costs_the_one_message(payload, caplog):
    buggy = Decoder(house(), TOPIC, {"json": Buggy()})
    arrivals = [arrival(b"fine"), arrival(payload), arrival(b"fine", "gh/h9/x"), arrival(b"fine")]
    decoded = buggy.decode(arrivals)
    assert decoded.origin.tolist() == [0, 3]
    assert decoded.batch.value.tolist() == [1.0, 1.0]
    assert [letter.code for letter in decoded.letters] == ["E-INTERNAL", "E-DEVICE"]
    assert decoded.letters[0].payload == payload
    assert not set(decoded.letters[0].text) & set("\0\n")
    assert decoded.messages == 2
    assert "a bug" in caplog.text


def test_a_device_whose_payload_no_codec_reads_is_kept_for_later():
    (letter,) = Decoder(house(), TOPIC, {}).decode([arrival({"v": {"co2": 1}})]).letters
    assert letter.code == "E-CODEC"


@given(st.data())
def test_cutting_a_run_of_arrivals_changes_nothing(data):
    keys = st.sampled_from(["co2", "air_temperature", "light", "unknown"])
    values = st.none() | st.floats(-100, 100_000)
    body = st.fixed_dictionaries(
        {"v": st.dictionaries(keys, values, min_size=1)},
        optional={"t": st.integers(RECEIVED_MS - 31 * DAY_MS, RECEIVED_MS + 400_000)},
    )
    messages = data.draw(st.lists(body | st.just({"v": 1}), max_size=12))
    arrivals = [arrival(message) for message in messages]
    cut = data.draw(st.integers(0, len(arrivals)))
    one = decoder()
    whole, left, right = (one.decode(part) for part in (arrivals, arrivals[:cut], arrivals[cut:]))
    joined = Batch.concatenate([left.batch, right.batch])
    for name in ("series_id", "observed_at_us", "received_at_us", "value", "quality"):
        np.testing.assert_array_equal(getattr(whole.batch, name), getattr(joined, name))
    assert whole.origin.tolist() == left.origin.tolist() + (right.origin + cut).tolist()
    assert whole.letters == left.letters + right.letters
    assert len(set(whole.origin.tolist())) == whole.messages
    assert whole.messages + len(whole.letters) >= len(arrivals), "something vanished"
