from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs.json import JsonCodec
from devices.codecs.sample import MAX_READINGS, MAX_SAMPLES, Sample
from devices.errors import DecodeError
from tests.rig.growth import growth

T = 1_767_225_600_000  # 2026-01-01T00:00:00Z

decode = JsonCodec().decode


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        # the plain form
        (
            b'{"t":1767225600000,"v":{"air_temperature":21.5,"co2":812}}',
            [Sample(T * 1000, {"air_temperature": 21.5, "co2": 812.0})],
        ),
        # no clock
        (b'{"v":{"co2":812}}', [Sample(None, {"co2": 812.0})]),
        # null is no clock, too
        (b'{"t":null,"v":{"co2":812}}', [Sample(None, {"co2": 812.0})]),
        # a sensor without a reading
        (
            b'{"t":1767225600000,"v":{"soil_moisture.2":null}}',
            [Sample(T * 1000, {"soil_moisture.2": None})],
        ),
        # who speaks
        (b'{"v":{"co2":1},"device":"h1-climate"}', [Sample(None, {"co2": 1.0}, "h1-climate")]),
        # a list
        (
            b'[{"t":1767225600000,"v":{"co2":1}},{"t":1767225610000,"v":{"co2":2}}]',
            [Sample(T * 1000, {"co2": 1.0}), Sample((T + 10_000) * 1000, {"co2": 2.0})],
        ),
        # ISO 8601, Beijing and UTC, with and without fractions
        (b'{"t":"2026-01-01T08:00:00+08:00","v":{"co2":1}}', [Sample(T * 1000, {"co2": 1.0})]),
        (b'{"t":"2026-01-01T08:00:00+0800","v":{"co2":1}}', [Sample(T * 1000, {"co2": 1.0})]),
        (b'{"t":"2026-01-01T00:00:00Z","v":{"co2":1}}', [Sample(T * 1000, {"co2": 1.0})]),
        (b'{"t":"2026-01-01 00:00:00Z","v":{"co2":1}}', [Sample(T * 1000, {"co2": 1.0})]),
        (
            b'{"t":"2026-01-01T00:00:00.123456Z","v":{"co2":1}}',
            [Sample(T * 1000 + 123_456, {"co2": 1.0})],
        ),
        # what is finer than a microsecond is cut off
        (
            b'{"t":"2026-01-01T00:00:00.123456789Z","v":{"co2":1}}',
            [Sample(T * 1000 + 123_456, {"co2": 1.0})],
        ),
        # before 1970 is a time; whether it can be believed is not the codec's to say
        (b'{"t":-1,"v":{"co2":1}}', [Sample(-1000, {"co2": 1.0})]),
        # white space, and a byte order mark
        (b' {"v" : {"co2" : 1 } }\r\n', [Sample(None, {"co2": 1.0})]),
        (b'\xef\xbb\xbf{"v":{"co2":1}}', [Sample(None, {"co2": 1.0})]),
        # keys with escapes, colons, Chinese
        ('{"v":{"空气温度":1}}'.encode(), [Sample(None, {"空气温度": 1.0})]),
        (b'{"v":{"\\u7a7a\\u6c14":1}}', [Sample(None, {"空气": 1.0})]),
        (b'{"v":{"a:b":1}}', [Sample(None, {"a:b": 1.0})]),
        # numbers as JSON has them
        (
            b'{"v":{"a":-0.5,"b":1e3,"c":1E-3,"d":0}}',
            [Sample(None, {"a": -0.5, "b": 1e3, "c": 1e-3, "d": 0.0})],
        ),
        # fields that nobody reads are counted
        (b'{"v":{"co2":1},"seq":7,"rssi":-70}', [Sample(None, {"co2": 1.0}, ignored=2)]),
        (
            b'{"v":{"co2":1},"fw":"1.2:b","x":{"y":[1,{"z":null}]}}',
            [Sample(None, {"co2": 1.0}, ignored=2)],
        ),
        (
            b'[{"v":{"co2":1},"seq":7},{"v":{"co2":2},"seq":8}]',
            [Sample(None, {"co2": 1.0}, ignored=2), Sample(None, {"co2": 2.0})],
        ),
    ],
)
def test_payload_is_read(payload, expected):
    assert decode(payload) == expected


NUMBER = "expected a number or null"
SHAPE = 'expected an object with "t" and "v"'


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "E-EMPTY payload is empty (0 bytes)"),
        (b" \r\n", "E-EMPTY payload is empty (3 bytes)"),
        (b"{", "E-JSON syntax at byte 1: expecting property name enclosed in double quotes"),
        (b'{"t":1767225600000,"v":{"a":1}}x', "E-JSON trailing data at byte 31"),
        (b'{"v":{"a":1,}}', "E-JSON syntax at byte 12"),
        (b'{"v":{"a":01}}', "E-JSON syntax at byte 11"),
        (b'{"v":{"a":.5}}', "E-JSON syntax at byte 10"),
        (b"{'v':{'a':1}}", "E-JSON syntax at byte 1"),
        (b'{"v":{"a":1}', "E-JSON syntax at byte 12"),
        ('{"v":{"空气":}}'.encode(), "E-JSON syntax at byte 15"),  # bytes, not characters
        (b'{"v":{"a\x01":1}}', "E-JSON syntax at byte 8: invalid control character"),
        (b'{"v":{"a":nan}}', "E-JSON syntax at byte 10"),
        (b"null", f"E-SHAPE payload: got null, {SHAPE}"),
        (b"true", f"E-SHAPE payload: got true, {SHAPE}"),
        (b"21.5", f"E-SHAPE payload: got number 21.5, {SHAPE}"),
        (b'"21.5"', f"E-SHAPE payload: got text '21.5', {SHAPE}"),
        (b"[]", "E-SHAPE payload: got an empty array"),
        (b"[[]]", f"E-SHAPE [0]: got an array, {SHAPE}"),
        (b'[{"v":{"a":1}},7]', f"E-SHAPE [1]: got number 7, {SHAPE}"),
        (b'{"v":{"a":"21.5"}}', f"E-TYPE v.a: got text '21.5', {NUMBER}"),
        (b'{"v":{"a":true}}', f"E-TYPE v.a: got true, {NUMBER}"),
        (b'{"v":{"a":[1]}}', f"E-TYPE v.a: got an array, {NUMBER}"),
        (b'{"v":{"a":{"value":1}}}', f"E-TYPE v.a: got an object, {NUMBER}"),
        (b'{"v":21.5}', "E-TYPE v: got number 21.5, expected an object of readings"),
        (b'{"v":null}', "E-TYPE v: got null, expected an object of readings"),
        (b'{"t":true,"v":{"a":1}}', "E-TYPE t: got true, expected milliseconds"),
        (b'{"t":{},"v":{"a":1}}', "E-TYPE t: got an object, expected milliseconds"),
        (b'{"v":{"a":1},"device":7}', "E-TYPE device: got number 7, expected text"),
        (b'[{"v":{"a":1}},{"v":{"b":"x"}}]', f"E-TYPE [1].v.b: got text 'x', {NUMBER}"),
        (b"{}", "E-FIELD v: got nothing, expected an object of readings"),
        (
            b'{"V":{"a":1}}',
            "E-FIELD v: got nothing, expected an object of readings such as "
            "{\"air_temperature\": 21.5} (did you mean 'V' to be 'v'?)",
        ),
        (b'{"v":{}}', "E-FIELD v: got an empty object, expected at least one reading"),
        (b'{"v":{"a":1,"a":2}}', "E-FIELD v.a: got this key a second time, expected each key once"),
        (b'{"v":{"a":1},"v":{"a":2}}', "E-FIELD v: got this key a second time"),
        (b'{"t":1,"v":{"a":1},"seq":1,"t":2}', "E-FIELD t: got this key a second time"),
        (b'{"v":{"a":NaN}}', "E-NUM v.a: got NaN, expected a finite number or null"),
        (b'{"v":{"a":Infinity}}', "E-NUM v.a: got Infinity"),
        (b'{"v":{"a":-Infinity}}', "E-NUM v.a: got -Infinity"),
        (b'{"v":{"a":1e400}}', "E-NUM v.a: got 1e400"),
        (b'{"v":{"a":1' + b"0" * 400 + b"}}", "E-NUM v.a: got 1000"),
        (b'{"v":{"a":1' + b"0" * 5000 + b"}}", "E-NUM v.a: got 1000"),  # beyond int()'s own limit
        (b'{"t":1e300,"v":{"a":1}}', "E-TIME t: got 1e+300, expected milliseconds"),
        (b'{"t":1767225600000.5,"v":{"a":1}}', "E-TIME t: got 1767225600000.5"),
        (
            b'{"t":9223372036854775808,"v":{"a":1}}',
            "E-TIME t: got 9223372036854775808, which is beyond",
        ),
        (
            b'{"t":"2026-01-01T00:00:00","v":{"a":1}}',
            "E-TIME t: got '2026-01-01T00:00:00', which names no time zone",
        ),
        (
            b'{"t":"2026-01-01","v":{"a":1}}',
            "E-TIME t: got '2026-01-01', which is not a date and a time",
        ),
        (
            b'{"t":"2026-13-01T00:00:00Z","v":{"a":1}}',
            "E-TIME t: got '2026-13-01T00:00:00Z', which is no time (month",
        ),
        (b'{"t":"","v":{"a":1}}', "E-TIME t: got '', which is not a date"),
        (
            b'{"t":"1767225600000","v":{"a":1}}',
            "E-TIME t: got '1767225600000', which is not a date",
        ),
        (b'{"v":{"\xff":1}}', "E-UTF8 byte 7: got 0xff (invalid start byte), expected UTF-8"),
        ('{"v":{"温":1}}'.encode("gbk"), "E-UTF8 byte 7"),
        ('{"v":{"a":1}}'.encode("utf-16"), "E-UTF8 payload: got what looks like UTF-16"),
        ('{"v":{"a":1}}'.encode("utf-16-be"), "E-UTF8 payload: got what looks like UTF-16"),
        (b'{"v":{"\\ud800":1}}', "E-UTF8 v.'\\ud800': got half of a surrogate pair"),
        (b'{"v":{"a":1}}\0', "E-NUL byte 13: got a NUL byte"),
        (b'{"v":{"a\\u0000":1}}', "E-NUL v.'a\\x00': got the character \\u0000"),
        (b'{"v":{"a":1},"device":"\\u0000"}', "E-NUL device: got the character \\u0000"),
        (
            b'{"v":{"a":1},"x":' + b"[" * 8 + b"]" * 8 + b"}",
            "E-DEPTH payload: got 9 levels or more, expected at most 8",
        ),
        (b'{"v":{"a":1},"x":' + b"[" * 30_000, "E-DEPTH payload"),
        (b"[" * 60_000, "E-DEPTH payload"),
        (
            json.dumps([{"v": {"a": 1}}] * (MAX_SAMPLES + 1)).encode(),
            "E-COUNT payload: got 1001 samples, expected at most 1000",
        ),
        (
            json.dumps({"v": {f"k{n}": 1 for n in range(MAX_READINGS + 1)}}).encode(),
            "E-COUNT payload: got 1001 readings",
        ),
        (
            json.dumps([{"v": {"a": 1, "b": 2}}] * 501).encode(),
            "E-COUNT payload: got 1002 readings",
        ),
    ],
)
def test_mistake_is_named_with_its_place(payload, reason):
    with pytest.raises(DecodeError) as caught:
        decode(payload)
    assert str(caught.value).startswith(reason)
    assert "\0" not in str(caught.value), "a database could not keep the reason"
    str(caught.value).encode()  # nor half a character
    assert len(str(caught.value)) < 400


def test_limits_themselves_are_accepted():
    assert len(decode(json.dumps([{"v": {"a": 1}}] * MAX_SAMPLES).encode())) == MAX_SAMPLES
    one = json.dumps({"v": {f"k{n}": 1 for n in range(MAX_READINGS)}}).encode()
    assert len(decode(one)[0].values) == MAX_READINGS
    nested = b'{"v":{"a":1},"x":' + b"[" * 7 + b"]" * 7 + b"}"
    assert decode(nested)[0].ignored == 1


def test_brackets_in_text_are_no_depth():
    assert decode(b'{"v":{"a":1},"x":"[[[[[[[[[[[[\\"[["}')[0].ignored == 1


@pytest.mark.parametrize(
    ("before", "repeated", "after"),
    [
        (b'"', b'\\"', b""),  # text that never ends, with quotes to begin again at
        (b'{"v":{"a":1},"x":[', b"[],", b"[]]}"),
        (b'{"v":{"a":', b"1", b"}}"),
        (b"", b"\\", b""),
    ],
)
def test_no_payload_takes_more_than_its_length(before, repeated, after):
    def refuse(length):
        with pytest.raises(DecodeError):
            decode(before + repeated * (length // len(repeated)) + after + b"!")

    assert growth(refuse, 6_500, 65_000) < 40


keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
values = st.floats(allow_nan=False, allow_infinity=False) | st.none()
times = st.none() | st.integers(-62_000_000_000_000, 253_000_000_000_000)
zones = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
instants = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=zones)
messages = st.fixed_dictionaries(
    {"v": st.dictionaries(keys, values, min_size=1, max_size=6)},
    optional={
        "t": times | instants.map(lambda moment: moment.isoformat()),
        "device": keys,
        "extra": st.recursive(st.none() | st.booleans() | keys, st.lists, max_leaves=3),
    },
)


def _expected_us(t):
    if isinstance(t, str):
        elapsed = datetime.fromisoformat(t) - datetime(1970, 1, 1, tzinfo=UTC)
        return elapsed // timedelta(microseconds=1)
    return None if t is None else t * 1000


@given(st.lists(messages, min_size=1, max_size=4), st.booleans(), st.booleans())
def test_whatever_is_written_is_read_back(written, escaped, alone):
    document = written[0] if alone else written
    payload = json.dumps(document, ensure_ascii=escaped).encode()
    samples = decode(payload)
    for sample, message in zip(samples, written[:1] if alone else written, strict=True):
        assert sample.observed_at_us == _expected_us(message.get("t"))
        assert sample.values == message["v"]
        assert sample.device == message.get("device")
    extras = sum("extra" in message for message in (written[:1] if alone else written))
    assert samples[0].ignored == extras


@given(
    st.binary(max_size=200) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace"))
)
def test_any_bytes_give_samples_or_a_decode_error(payload):
    try:
        samples = decode(payload)
    except DecodeError as error:
        assert error.code.startswith("E-")
    else:
        assert samples


@given(messages, st.data())
def test_one_changed_byte_never_raises_anything_else(message, data):
    payload = bytearray(json.dumps(message).encode())
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] = data.draw(st.integers(0, 255))
    try:
        samples = decode(bytes(payload))
    except DecodeError:
        return
    assert all(v is None or math.isfinite(v) for s in samples for v in s.values.values())
