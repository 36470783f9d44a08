from __future__ import annotations

import json
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs.sample import Sample
from devices.codecs.tasmota import TasmotaCodec
from devices.codecs.zigbee2mqtt import Zigbee2MqttCodec
from devices.errors import DecodeError

AHT = {"Temperature": 24.7, "Humidity": 61.9, "DewPoint": 16.8}
VALUES = {f"AHT1X-0x38.{key}": value for key, value in AHT.items()}
NEW_YEAR_US = 1_577_836_800_000_000  # 2020-01-01T00:00:00Z

tasmota = TasmotaCodec().decode
in_beijing = TasmotaCodec(ZoneInfo("Asia/Shanghai")).decode
in_berlin = TasmotaCodec(ZoneInfo("Europe/Berlin")).decode
zigbee = Zigbee2MqttCodec().decode


def sensor(time="2020-01-01T00:00:00", **fields):
    return json.dumps({"Time": time, "AHT1X-0x38": AHT, "TempUnit": "C"} | fields).encode()


def test_a_sensors_values_have_its_name_before_theirs():
    assert tasmota(sensor()) == [Sample(None, VALUES, ignored=1)]


@pytest.mark.parametrize(
    ("decode", "time", "at_us"),
    [
        # local, and nobody said where
        (tasmota, "2020-01-01T00:00:00", None),
        (in_beijing, "2020-01-01T08:00:00", NEW_YEAR_US),
        (in_berlin, "2020-01-01T01:00:00", NEW_YEAR_US),
        # a zone in the message
        (tasmota, "2020-01-01T08:00:00+08:00", NEW_YEAR_US),
        (in_berlin, "2020-01-01T08:00:00+08:00", NEW_YEAR_US),
        # the clock was never set
        (in_beijing, "1970-01-01T00:03:12", None),
        # the hour that comes twice, and the one that never comes
        (in_berlin, "2020-10-25T02:30:00", None),
        (in_berlin, "2020-03-29T02:30:00", None),
        (in_beijing, None, None),
        (in_beijing, "9999-12-31T23:59:59", 253_402_271_999_000_000),
    ],
)
def test_a_local_time_is_used_only_where_it_names_one_moment(decode, time, at_us):
    assert decode(sensor(time))[0].observed_at_us == at_us


def test_a_sensor_without_a_reading_has_no_value():
    payload = sensor(DS18B20={"Id": "01131B123456", "Temperature": None})
    assert tasmota(payload) == [Sample(None, VALUES | {"DS18B20.Temperature": None}, ignored=2)]


def test_places_of_a_list_count_from_one():
    payload = sensor(ENERGY={"Power": [10, 20], "Total": 1.5})
    assert tasmota(payload)[0].values == VALUES | {
        "ENERGY.Power.1": 10.0,
        "ENERGY.Power.2": 20.0,
        "ENERGY.Total": 1.5,
    }


@pytest.mark.parametrize(
    ("payload", "code", "text"),
    [
        (b"Online", "E-EVENT", "got the state Online"),
        (b"Offline", "E-EVENT", "got the state Offline"),
        (b"", "E-EMPTY", "empty"),
        (b"Onlin", "E-JSON", "syntax"),
        (b"[1]", "E-TYPE", "expected `object`"),
        (sensor("today"), "E-TIME", "Time: got 'today'"),
        (sensor(7), "E-TIME", "Time: got '7'"),
        (b'{"a.b":1,"a":{"b":2}}', "E-FIELD", "'a.b': got this path a second time"),
        (b'{"a":1e999}', "E-NUM", "out of range"),
        (json.dumps({str(i): i for i in range(1001)}).encode(), "E-COUNT", "more than 1000"),
    ],
)
def test_what_is_no_telemetry_is_refused(payload, code, text):
    with pytest.raises(DecodeError) as caught:
        tasmota(payload)
    assert caught.value.code == code
    assert text in caught.value.text


STATE = {"temperature": 21.4, "soil_moisture": 38, "battery": None, "water_leak": True}
STATE_VALUES = {"temperature": 21.4, "soil_moisture": 38.0, "battery": None, "water_leak": 1.0}


@pytest.mark.parametrize(
    ("extra", "at_us", "ignored"),
    [
        ({}, None, 0),
        ({"last_seen": None}, None, 0),
        ({"last_seen": 1_577_836_800_000}, NEW_YEAR_US, 0),
        ({"last_seen": "2020-01-01T00:00:00.000Z"}, NEW_YEAR_US, 0),
        ({"last_seen": "2020-01-01T08:00:00+08:00"}, NEW_YEAR_US, 0),
        ({"update": {"installed_version": 7}, "power_on_behavior": "off"}, None, 2),
    ],
)
def test_a_zigbee_device_gives_its_values(extra, at_us, ignored):
    payload = json.dumps(STATE | extra).encode()
    assert zigbee(payload) == [Sample(at_us, STATE_VALUES, ignored=ignored)]


@pytest.mark.parametrize("seen", ["2020-01-01T00:00:00", "now", -1, 1.5, True, 10**18])
def test_a_time_that_is_none_is_refused(seen):
    with pytest.raises(DecodeError, match="last_seen") as caught:
        zigbee(json.dumps({"temperature": 1, "last_seen": seen}).encode())
    assert caught.value.code == "E-TIME"


_NODES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
_NAMES = st.sampled_from(["Time", "last_seen", "a", "a.b"]) | st.text(max_size=4)
_MESSAGES = st.dictionaries(_NAMES, _NODES).map(lambda message: json.dumps(message).encode())


@pytest.mark.parametrize("decode", [tasmota, in_beijing, zigbee])
@given(payload=st.binary(max_size=100) | _MESSAGES)
def test_any_bytes_give_samples_or_a_decode_error(decode, payload):
    try:
        assert decode(payload)
    except DecodeError:
        return


@pytest.mark.parametrize("decode", [tasmota, zigbee])
@pytest.mark.parametrize("digits", [20, 400])
def test_a_whole_number_of_any_length_is_a_number_or_a_mistake(decode, digits):
    payload = b'{"a":' + b"9" * digits + b"}"
    if digits == 20:
        assert decode(payload)[0].values == {"a": 1e20}
    else:
        with pytest.raises(DecodeError):
            decode(payload)
