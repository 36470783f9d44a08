"""Mapping files: what they may say, and every mistake at its line."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.codecs.mapped import MappingCodec
from devices.codecs.mapping_case import check_case
from devices.errors import DecodeError, DocumentError
from devices.mapping import read_mapping

WHOLE = """
mapping: acme-soil
note: from the maker's leaflet
when: type == 'data'
device: $.serial
samples: records
time: {path: ts, format: local, zone: Asia/Shanghai, unset: [0, ""]}
values:
  - {path: air.t, key: air_temperature, unit: °C, scale: 0.1, sentinels: [-999]}
  - {path: door, texts: {open: 1, shut: 0}}
cases:
  - name: two records
    payload:
      type: data
      serial: s1
      records:
        - {ts: "2026-03-01T08:00:00", air: {t: 215}, door: open}
        - {ts: 0, air: {t: -999}}
    samples:
      - {at: "2026-03-01T00:00:00Z", device: s1, readings: {air_temperature: 21.5, door: 1}}
      - {readings: {air_temperature: null}}
  - name: another kind
    payload: '{"type": "status"}'
    error: E-EVENT
"""


def mistakes(text):
    with pytest.raises(DocumentError) as caught:
        read_mapping(text, "m.yaml")
    return [str(mistake) for mistake in caught.value.mistakes]


def test_a_whole_mapping_is_read_and_meets_its_cases():
    mapping = read_mapping(WHOLE, "m.yaml")
    assert mapping.payload == "mapping/acme-soil"
    assert mapping.keys == ("air_temperature", "door")
    assert mapping.units == {"air_temperature": "°C"}
    assert [case.name for case in mapping.cases] == ["two records", "another kind"]
    assert [check_case(mapping, case) for case in mapping.cases] == [[], []]


def test_keys_of_the_payloads_own_are_not_known_beforehand():
    assert read_mapping("mapping: m\nfields: '@'", "m.yaml").keys is None


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (("215", "216"), ["[0].air_temperature: got 21.6, expected 21.5"]),
        (
            ("air_temperature: 21.5", "soil: 21.5"),
            ["[0].air_temperature: the case forgets it", "[0].soil: nothing says it"],
        ),
        (
            ("-03-01T00:00:00Z", "-03-01T08:00:00Z"),
            ["[0].at: got 2026-03-01 00:00:00+00:00, expected 2026-03-01 08:00:00+00:00"],
        ),
        (("device: s1, readings", "device: s2, readings"), ["[0].device: got s1, expected s2"]),
        (
            ("air_temperature: null", "air_temperature: 0"),
            ["[1].air_temperature: got None, expected 0.0"],
        ),
        (("      - {readings: {air_temperature: null}}\n", ""), ["2 samples, not 1"]),
    ],
)
def test_a_case_that_is_not_met_says_where(change, wrong):
    assert change[0] in WHOLE
    mapping = read_mapping(WHOLE.replace(*change), "m.yaml")
    assert check_case(mapping, mapping.cases[0]) == wrong


def test_a_case_of_an_error_wants_that_error():
    for change, wrong in {
        ("E-EVENT", "E-TYPE"): "E-EVENT payload",
        ('"status"', '"data", "records": []'): "it is read, not refused as E-EVENT",
    }.items():
        mapping = read_mapping(WHOLE.replace(*change), "m.yaml")
        (said,) = check_case(mapping, mapping.cases[1])
        assert said.startswith(wrong)
    mapping = read_mapping(WHOLE.replace("type: data\n", "kind: data\n"), "m.yaml")
    (said,) = check_case(mapping, mapping.cases[0])
    assert said.startswith("E-EVENT payload: got a message for which type == 'data'")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mapping: m", "m.yaml:1:1 values: got nothing, expected values, fields or named"),
        ("mapping: m\nvalus: []", "m.yaml:2:1 valus: got 'valus', expected one of"),
        ("mapping: m\nvalus: []", "(did you mean 'values'?)"),
        ("values: [{path: a}]", "mapping: got nothing, expected the key 'mapping'"),
        ("mapping: m\nvalues: [{path: a-b}]", "m.yaml:2:11 values[0].path: got 'a-b'"),
        ("mapping: m\nvalues: [{path: a, pth: b}]", "m.yaml:2:20 values[0].pth"),
        ("mapping: m\nvalues: [{key: a}]", "values[0]: got 'both or none', expected path"),
        ("mapping: m\nvalues: [{name: a}]", "values[0].name: got 'a', expected a path"),
        ("mapping: m\nvalues: [{path: 'a[0]'}]", "values[0].key: got nothing, expected a key"),
        ("mapping: m\nvalues: [{path: a}, {path: b.a}]", "values[1].key: got 'a', expected a key"),
        ("mapping: m\nvalues: [{path: a, scale: 0}]", "values[0].scale: got 0.0"),
        ("mapping: m\nvalues: [{path: a}]\nsamples: b\ncolumns: true", "samples or columns"),
        ("mapping: m\nfields: b\ncolumns: true", "columns with values alone"),
        ("mapping: m\nvalues: [{path: a}]\ntime: {path: t, format: sec}", "one of s, ms, us, ns"),
        ("mapping: m\nvalues: [{path: a}]\ntime: {path: t, format: local}", "time.zone: got not"),
        (
            "mapping: m\nvalues: [{path: a}]\ntime: {path: t, format: s, zone: UTC}",
            "time.zone: got 'UTC', expected no zone with the format s",
        ),
        (
            "mapping: m\nvalues: [{path: a}]\ntime: {path: t, format: local, zone: Asia/Shangha}",
            "(did you mean 'Asia/Shanghai'?)",
        ),
        (
            "mapping: m\nvalues: [{path: a}]\ntime: {path: t, format: '%H:%M', zone: UTC}",
            "a pattern of strptime with year, month, day, hour and minute",
        ),
        ("mapping: m\nvalues: [{path: a}]\nnamed: {path: s}", "named.value: got nothing"),
        ("mapping: m\nvalues: [{path: a}]\ncases: [{name: c, payload: 1}]", "one of readings"),
        (
            "mapping: m\nvalues: [{path: a}]\n"
            "cases: [{name: c, payload: {a: 1}, readings: {a: 1}, at: noon}]",
            "cases[0].at: got 'noon', expected a date and a time with a zone",
        ),
    ],
)
def test_a_mistake_is_told_with_its_line(text, said):
    assert any(said in one for one in mistakes(text)), mistakes(text)


_PATHS = st.sampled_from(["a", "a.b", "@", "a[0]", "[", "$.a", "max(a)", "", "a-b", "[a,b]"])
_ANY = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-2, 2) | st.text(max_size=4)
_VALUE = st.fixed_dictionaries(
    {},
    optional={
        "path": _PATHS,
        "name": st.sampled_from(["a", ""]),
        "key": st.sampled_from(["k", ""]),
        "unit": st.sampled_from(["°C", "", "x"]),
        "scale": st.sampled_from([0, 0.1, -1, 1e300, 1e-320]),
        "offset": st.sampled_from([0, 1e308]),
        "sentinels": st.lists(_ANY, max_size=2),
        "texts": st.dictionaries(st.text(max_size=3), _ANY, max_size=2),
    },
)
_FORMATS = st.sampled_from(["s", "iso", "local", "%z", "%z%z", "%Y", "%", "%Y-%m-%d %H:%M:%S %z"])
_TIME = st.fixed_dictionaries(
    {"path": _PATHS, "format": _FORMATS | st.text(alphabet="%YmdHMSzjGVu -", max_size=12)},
    optional={"zone": st.sampled_from(["UTC", "Europe/Paris", "no"]), "unset": st.lists(_ANY)},
)
_MAPPING = st.fixed_dictionaries(
    {"mapping": st.just("m") | _ANY},
    optional={
        "when": _PATHS,
        "device": _PATHS,
        "samples": _PATHS,
        "columns": st.booleans(),
        "time": _TIME | _ANY,
        "values": st.lists(_VALUE | _ANY, max_size=3) | _ANY,
        "fields": _PATHS,
        "named": st.fixed_dictionaries({"path": _PATHS, "value": _PATHS}) | _ANY,
        "ignore": st.lists(_ANY, max_size=2),
        "cases": st.lists(st.dictionaries(st.sampled_from(["name", "payload"]), _ANY)) | _ANY,
    },
)
_PAYLOADS = st.recursive(
    _ANY | st.sampled_from(["2026-03-01 08:00:00 +0800", 1e9, "1 °C"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, min_size=1)
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(document=_MAPPING | _ANY)
def test_whatever_a_stranger_describes_is_a_mapping_or_a_mistake(document):
    try:
        MappingCodec(read_mapping(json.dumps(document), "m.yaml"))
    except DocumentError as error:
        assert error.mistakes


_READABLE: list[dict[str, Any]] = [
    {"path": "a", "unit": "°C", "sentinels": [0, "x"]},
    {"path": "a.b", "key": "k1", "scale": 1e12},
    {"path": "a[0]", "key": "k2", "scale": -1e-12, "offset": 1e308},
    {"path": "$.b", "key": "k3", "texts": {"x": 1, "true": None}},
    {"path": "max(a)", "key": "k4"},
    {"path": "a[?b].b | [0]", "key": "k5"},
]
_SOUND_VALUES = st.lists(
    st.sampled_from(_READABLE),
    min_size=1,
    max_size=4,
    unique_by=lambda value: value.get("key", "a"),
)
_SOUND_TIME = st.sampled_from(
    [
        *({"path": "b", "format": unit, "unset": [0, ""]} for unit in ("s", "ms", "us", "ns")),
        {"path": "b", "format": "iso"},
        {"path": "b", "format": "local", "zone": "Europe/Paris"},
        {"path": "b", "format": "%Y-%m-%d %H:%M:%S %z"},
        {"path": "b", "format": "%Y-%m-%d %H:%M:%S", "zone": "Asia/Shanghai"},
    ]
)
_LAYOUTS = st.one_of(
    st.fixed_dictionaries({"values": _SOUND_VALUES}),
    st.fixed_dictionaries({"values": _SOUND_VALUES, "columns": st.just(True)}),
    st.just({"fields": "@", "ignore": ["b*"]}),
    st.just({"named": {"path": "a", "value": "b"}}),
    st.just({"named": {"path": "@", "name": "a", "value": "b"}}),
)
_SOUND = st.fixed_dictionaries(
    {"mapping": st.just("m")},
    optional={
        "when": st.just("a"),
        "device": st.just("b"),
        "samples": st.sampled_from(["a", "@"]),
        "time": _SOUND_TIME,
    },
)


@settings(max_examples=600)
@given(head=_SOUND, layout=_LAYOUTS, payload=_PAYLOADS)
def test_any_sound_mapping_reads_any_json_or_says_why_not(head, layout, payload):
    if "columns" in layout:
        head.pop("samples", None)
    codec = MappingCodec(read_mapping(json.dumps(head | layout), "m.yaml"))
    try:
        samples = codec.decode(json.dumps(payload).encode())
    except DecodeError:
        return
    assert samples
    for sample in samples:
        assert all(value is None or math.isfinite(value) for value in sample.values.values())


def test_every_mistake_is_told_at_once():
    text = "mapping: m\nvalues: [{path: a-b}, {path: c, scale: 0}]\ntime: {path: t, format: x}"
    assert len(mistakes(text)) == 3
