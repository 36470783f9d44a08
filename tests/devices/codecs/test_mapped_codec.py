"""Payloads read by a mapping: where values stand, how they are written, and what is refused."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.codecs.mapped import MappingCodec
from devices.codecs.sample import MAX_PAYLOAD_BYTES, Sample
from devices.errors import DecodeError
from devices.mapping import read_mapping
from devices.quality import Quality

AT = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
AT_US = int(AT.timestamp()) * 1_000_000
SENTINEL = int(Quality.SENTINEL)


def codec(text):
    return MappingCodec(read_mapping("mapping: m\n" + text, "m.yaml"))


def decode(text, payload):
    if not isinstance(payload, bytes | str):
        payload = json.dumps(payload)
    return codec(text).decode(payload if isinstance(payload, bytes) else payload.encode())


def refused(text, payload):
    with pytest.raises(DecodeError) as caught:
        decode(text, payload)
    return caught.value


def test_values_are_found_by_path_under_their_keys():
    text = """
values:
  - {path: env.temp, key: air_temperature}
  - {path: env.rh}
  - {path: 'probes[1]."soil.vwc"', key: vwc}
"""
    payload = {"env": {"temp": 21.5, "rh": 60}, "probes": [{}, {"soil.vwc": 0.31}]}
    expected = {"air_temperature": 21.5, "rh": 60, "vwc": 0.31}
    assert decode(text, payload) == [Sample(None, expected)]


def test_absent_is_no_reading_and_null_is_a_sensor_without_one():
    text = "values: [{path: a}, {path: b}, {path: c}]"
    assert decode(text, {"a": None, "c": 1}) == [Sample(None, {"a": None, "c": 1})]


def test_fields_that_no_path_names_are_counted_as_ignored():
    text = "values: [{path: d.a}]\ntime: {path: ts, format: s}"
    payload = {"d": {"a": 1}, "ts": 1_772_352_000, "rssi": -80, "fw": "1.2"}
    assert decode(text, payload) == [Sample(AT_US, {"a": 1}, ignored=2)]


@pytest.mark.parametrize(
    ("options", "raw", "value"),
    [
        ("scale: 0.1", 3, 0.3),  # not 0.30000000000000004
        ("scale: 0.001", 1234, 1.234),
        ("scale: 2, offset: -40", 50, 60.0),
        ("unit: °C", "21.5 °C", 21.5),
        ("unit: °C", "21.5℃", 21.5),  # one sign, two spellings
        ("unit: °C", " -3 ", -3.0),
        ("unit: '%'", "60%", 60.0),
        ("unit: µS/cm", "850 μS/cm", 850.0),  # Greek mu and micro
        ("suffix: Grad", "21.5 Grad", 21.5),
        ("scale: 0.1, unit: °C", "215", 21.5),
        ("texts: {ON: 1, 'OFF': 0}", "ON", 1.0),
        ("texts: {unknown: null}", "unknown", None),
        ("texts: {'true': 5}", True, 5.0),
        ("unit: °C", True, 1.0),
        ("unit: °C", "1e3", 1000.0),
    ],
)
def test_numbers_are_read_as_they_are_written(options, raw, value):
    (sample,) = decode(f"values: [{{path: x, {options}}}]", {"x": raw})
    assert sample.values == {"x": value}


@pytest.mark.parametrize("raw", [-999, -999.0, "--", "-999"])
def test_an_error_code_is_no_value_and_says_so(raw):
    text = "values: [{path: x, sentinels: [-999, '--']}, {path: y}]"
    assert decode(text, {"x": raw, "y": 2}) == [
        Sample(None, {"y": 2}),
        Sample(None, {"x": None}, quality=SENTINEL),
    ]
    assert decode(text, {"x": raw}) == [Sample(None, {"x": None}, quality=SENTINEL)]


@pytest.mark.parametrize(
    ("time", "raw", "at_us"),
    [
        ("format: s", 1_772_352_000, AT_US),
        ("format: s", 1_772_352_000.25, AT_US + 250_000),
        ("format: s", "1772352000", AT_US),
        ("format: ms", 1_772_352_000_123, AT_US + 123_000),
        ("format: us", 1_772_352_000_123_456, AT_US + 123_456),
        ("format: ns", "1772352000123456789", AT_US + 123_456),
        ("format: iso", "2026-03-01T08:00:00Z", AT_US),
        ("format: iso", "2026-03-01 16:00:00+08:00", AT_US),
        ("format: local, zone: Asia/Shanghai", "2026-03-01T16:00:00", AT_US),
        ("format: local, zone: Asia/Shanghai", "2026-03-01T08:00:00Z", AT_US),
        ("format: '%d.%m.%Y %H:%M', zone: Asia/Shanghai", "01.03.2026 16:00", AT_US),
        ("format: '%Y/%m/%d %H:%M:%S %z'", "2026/03/01 16:00:00 +0800", AT_US),
        ("format: s, unset: [0]", 0, None),
        ("format: iso, unset: ['']", "", None),
        ("format: s", None, None),
        # The hour that Paris has twice, and the one that it has not.
        ("format: local, zone: Europe/Paris", "2026-10-25T02:30:00", None),
        ("format: local, zone: Europe/Paris", "2026-03-29T02:30:00", None),
    ],
)
def test_times_are_read_as_they_are_written(time, raw, at_us):
    text = f"values: [{{path: x}}]\ntime: {{path: t, {time}}}"
    assert decode(text, {"x": 1, "t": raw}) == [Sample(at_us, {"x": 1})]


def test_without_a_time_the_time_of_receipt_stands_in():
    text = "values: [{path: x}]\ntime: {path: t, format: s}"
    assert decode(text, {"x": 1}) == [Sample(None, {"x": 1})]
    assert decode("values: [{path: x}]", {"x": 1}) == [Sample(None, {"x": 1})]


def test_a_list_gives_one_sample_an_element():
    text = """
samples: data.records
device: $.gateway
time: {path: at, format: ms}
values: [{path: t}, {path: '$.battery'}]
"""
    payload = {
        "gateway": "gw-1",
        "battery": 3.6,
        "data": {"records": [{"at": AT_US // 1000 + i * 60_000, "t": 20 + i} for i in range(3)]},
    }
    assert decode(text, payload) == [
        Sample(AT_US + i * 60_000_000, {"t": 20 + i, "battery": 3.6}, "gw-1") for i in range(3)
    ]


def test_an_empty_list_is_no_reading_and_no_mistake():
    assert decode("samples: '@'\nvalues: [{path: t}]", []) == [Sample(None, {})]


def test_rows_of_a_table_are_a_list_of_lists():
    text = "samples: rows\ntime: {path: '[0]', format: s}\nvalues: [{path: '[1]', key: t}]"
    payload = {"columns": ["time", "temp"], "rows": [[1_772_352_000, 21], [1_772_352_060, 22]]}
    first, second = decode(text, payload)
    assert (first.observed_at_us, first.values) == (AT_US, {"t": 21})
    assert (second.observed_at_us, second.values) == (AT_US + 60_000_000, {"t": 22})


def test_columns_give_one_sample_a_place():
    text = """
columns: true
time: {path: d.t, format: s}
values: [{path: d.temp, sentinels: [-99]}, {path: d.hum}, {path: d.co2}]
"""
    payload = {"d": {"t": [1_772_352_000, 1_772_352_060], "temp": [20, -99], "hum": [60, None]}}
    assert decode(text, payload) == [
        Sample(AT_US, {"temp": 20, "hum": 60}),
        Sample(AT_US + 60_000_000, {"hum": None}),
        Sample(AT_US + 60_000_000, {"temp": None}, quality=SENTINEL),
    ]


def test_names_may_stand_beside_their_values():
    text = """
named: {path: sensors, name: n, value: v}
ignore: [rssi, "debug_*"]
values: [{name: temp, key: air_temperature, unit: °C}]
"""
    sensors = [
        {"n": "temp", "v": "21.5 °C"},
        {"n": "hum", "v": 60},
        {"n": "rssi", "v": -80},
        {"n": "debug_heap", "v": 1},
        {"n": "fw", "v": "1.2.3"},  # text that nobody explained
        {"n": "late"},  # without a value
    ]
    expected = {"air_temperature": 21.5, "hum": 60}
    assert decode(text, {"sensors": sensors}) == [Sample(None, expected, ignored=4)]


def test_names_may_be_those_of_an_object():
    text = "named: {path: sensors, value: value}"
    payload = {"sensors": {"temp": {"value": 20, "unit": "C"}, "hum": {"value": None}}}
    assert decode(text, payload) == [Sample(None, {"temp": 20, "hum": None})]


def test_records_that_carry_name_value_and_time_are_samples_each():
    text = """
samples: '@'
time: {path: t, format: s}
named: {path: '@', name: n, value: v}
"""
    payload = [{"n": "a", "v": 1, "t": 1_772_352_000}, {"n": "b", "v": 2, "t": 1_772_352_000}]
    assert decode(text, payload) == [Sample(AT_US, {"a": 1}), Sample(AT_US, {"b": 2})]


def test_every_number_of_an_object_may_be_a_reading_under_its_own_name():
    text = """
fields: '@'
device: dev
time: {path: ts, format: s}
ignore: ["*.raw"]
values: [{name: door, texts: {open: 1, closed: 0}}]
"""
    payload = {
        "dev": "n1",
        "ts": 1_772_352_000,
        "air": {"t": 20, "h": None, "raw": 812},
        "soil": [{"vwc": 0.3}, {"vwc": "0.31"}],
        "door": "open",
        "pump": False,
        "fw": "v1.2",
    }
    expected = {"air.t": 20, "air.h": None, "soil.1.vwc": 0.3, "soil.2.vwc": 0.31}
    expected |= {"door": 1.0, "pump": 0.0}
    assert decode(text, payload) == [Sample(AT_US, expected, "n1", ignored=2)]


def test_other_kinds_of_message_are_told_apart():
    text = "when: type == 'data'\nvalues: [{path: x}]"
    assert decode(text, {"type": "data", "x": 1})[0].values == {"x": 1}
    assert refused(text, {"type": "status", "x": 1}).code == "E-EVENT"


@pytest.mark.parametrize(
    ("text", "payload", "code", "said"),
    [
        (
            "values: [{path: a.t}, {path: b}]",
            {"c": 1},
            "E-FIELD",
            "payload: got an object without any mapped value, expected one of a.t, b",
        ),
        (
            "values: [{path: a.t}]",
            [1],
            "E-FIELD",
            "payload: got a list, not any mapped value, expected one of a.t",
        ),
        (
            "samples: d\nvalues: [{path: t}]",
            {"d": [{"t": 1}, {}]},
            "E-FIELD",
            "[1]: got an object without any mapped value, expected one of t",
        ),
        (
            "samples: d\nvalues: [{path: t}]",
            {"d": {"t": 1}},
            "E-SHAPE",
            "d: got an object, expected a list of samples",
        ),
        (
            "samples: d\nvalues: [{path: t}]",
            {"d": [{"t": 1}, {"t": 2}]},
            "E-FIELD",
            "payload: got 't' more than once without a time, expected a time in each sample",
        ),
        (
            "values: [{path: a.t, unit: °C, texts: {cold: -5}}]",
            {"a": {"t": "warm"}},
            "E-TYPE",
            "a.t: got text 'warm', expected a number with or without °C, or one of cold",
        ),
        (
            "values: [{path: t, unit: °C}]",
            {"t": "70 °F"},
            "E-TYPE",
            "t: got text '70 °F', expected a number with or without °C",
        ),
        ("values: [{path: t}]", {"t": "21.5 °C"}, "E-TYPE", "t: got text '21.5 °C', expected a"),
        ("values: [{path: t}]", {"t": {}}, "E-TYPE", "t: got an object, expected a number"),
        ("values: [{path: t}]", b'{"t": 1' + b"0" * 400 + b"}", "E-NUM", ""),
        ("values: [{path: t, scale: 1.0e+10}]", {"t": 1e300}, "E-NUM", "t: got one too large"),
        ("values: [{path: 'max(t)', key: t}]", {"t": {}}, "E-PATH", "max(t): got what the path"),
        (
            "columns: true\nvalues: [{path: a}, {path: b}]",
            {"a": [1, 2], "b": [1]},
            "E-SHAPE",
            "b: got 1 values, expected 2, as many as in a",
        ),
        (
            "columns: true\ntime: {path: t, format: s}\nvalues: [{path: a}]",
            {"a": [1, 2]},
            "E-SHAPE",
            "t: got nothing, expected a list of values",
        ),
        (
            "values: [{path: x}]\ntime: {path: t, format: s}",
            {"x": 1, "t": "noon"},
            "E-TIME",
            "t: got text 'noon', expected seconds since 1970",
        ),
        (
            "values: [{path: x}]\ntime: {path: t, format: iso}",
            {"x": 1, "t": "2026-03-01T08:00:00"},
            "E-TIME",
            "t: got '2026-03-01T08:00:00', expected a date and a time with a zone",
        ),
        (
            "samples: '@'\nvalues: [{path: x}]\ntime: {path: t, format: local, zone: Europe/Paris}",
            [{"x": 1, "t": "2026-10-25T02:30:00"}],
            "E-TIME",
            "[0].t: got 2026-10-25 02:30:00, which Europe/Paris has twice or not at all",
        ),
        (
            "values: [{path: x}]\ndevice: id",
            {"x": 1},
            "E-TYPE",
            "id: got nothing, expected the name of a device",
        ),
        (
            "named: {path: s, name: n, value: v}",
            {"s": [{"n": "a", "v": 1}, {"n": "a", "v": 2}]},
            "E-FIELD",
            "s.a: got 'a' a second time, expected each key once",
        ),
        (
            "named: {path: s, name: n, value: v}",
            {"s": [{"v": 1}]},
            "E-FIELD",
            "s[0].n: got nothing, expected the name of a value",
        ),
        ("named: {path: s, name: n, value: v}", {"s": 3}, "E-SHAPE", "s: got number '3'"),
        ("fields: s", {"s": 3}, "E-SHAPE", "s: got number '3', expected an object of values"),
        ("values: [{path: x}]", b"", "E-EMPTY", ""),
        ("values: [{path: x}]", b"{", "E-JSON", ""),
        ("values: [{path: x}]", b'{"x": "\xff"}', "E-UTF8", ""),
        ("values: [{path: x}]", b'{"x":' + b"[" * 40 + b"]" * 40 + b"}", "E-DEPTH", "32 levels"),
        ("values: [{path: x}]", b"[" * 60_000, "E-DEPTH", ""),
        ("samples: '@'\nvalues: [{path: x}]", [{}] * 1001, "E-COUNT", "1001 samples"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text, payload, code, said):
    error = refused(text, payload)
    assert error.code == code
    assert said in error.text


MAPPINGS = [
    "values: [{path: a, sentinels: [0]}, {path: b.c, unit: °C}, {path: 'd[0]', key: d}]",
    "samples: a\ntime: {path: b, format: iso, unset: ['']}\nvalues: [{path: c}, {path: $.d}]",
    "columns: true\ntime: {path: a, format: ms}\nvalues: [{path: b}, {path: c}]",
    "fields: '@'\ntime: {path: a, format: local, zone: Europe/Paris}\nignore: ['b*']",
    "named: {path: a, name: b, value: c}\nvalues: [{name: d, scale: 0.1}]",
    "when: a\ndevice: b\nvalues: [{path: 'max(c)', key: x}, {path: 'a[?b > `0`].c | [0]', key: y}]",
    "values: [{path: a}]\ntime: {path: b, format: '%d.%m.%Y %H:%M', zone: Asia/Shanghai}",
]
CODECS = [codec(text) for text in MAPPINGS]
_names = st.sampled_from(["a", "b", "c", "d"])
_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["", "1.5 °C", "2026-03-01T08:00:00Z", "0001-01-01T00:00:00+14:00"])
    | st.sampled_from(["9999-12-31T23:59:59", "31.12.9999 23:59", 10**400, 1e308])
)
_documents = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=500)
@given(one=st.sampled_from(CODECS), document=_documents)
def test_any_json_gives_samples_or_a_decode_error(one, document):
    try:
        samples = one.decode(json.dumps(document).encode())
    except DecodeError as error:
        assert ": got " in error.text or error.code in ("E-EMPTY", "E-JSON", "E-NUM"), error.text
        return
    assert samples
    for sample in samples:
        for value in sample.values.values():
            assert value is None or float(value) == value
        assert sample.observed_at_us is None or isinstance(sample.observed_at_us, int)


@given(one=st.sampled_from(CODECS), payload=st.binary(max_size=60))
def test_any_bytes_give_samples_or_a_decode_error(one, payload):
    try:
        assert one.decode(payload)
    except DecodeError:
        return


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4_000_000_000_000),
            st.dictionaries(_names, st.floats(-1e6, 1e6) | st.none(), min_size=1),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_rows_are_read_as_they_were_written(rows):
    text = "samples: rows\ntime: {path: t, format: ms}\nfields: v"
    payload = {"rows": [{"t": at_ms, "v": values} for at_ms, values in rows]}
    samples = decode(text, payload)
    assert [(s.observed_at_us, dict(s.values)) for s in samples] == [
        (at_ms * 1000, values) for at_ms, values in rows
    ]


@pytest.mark.parametrize(
    "payload",
    [
        b'{"a":' + b"[" * 16_000 + b"]" * 16_000 + b"}",
        json.dumps({"a": [[0] * 100] * 150}).encode(),
        json.dumps({str(i): i for i in range(4_500)}).encode(),
        json.dumps({"a": [{"b": "x", "c": i} for i in range(2_500)]}).encode(),
        b'{"a":"' + b"1" * 60_000 + b'"}',
        b'{"a":"' + b" " * 60_000 + b'x"}',
    ],
)
def test_no_payload_of_the_largest_size_takes_long(payload):
    assert len(payload) <= MAX_PAYLOAD_BYTES
    for one in CODECS:
        began = datetime.now(UTC)
        with contextlib.suppress(DecodeError):
            one.decode(payload)
        assert (datetime.now(UTC) - began).total_seconds() < 0.5
