"""Mapping files: what they may say, and every mistake at its line."""

from __future__ import annotations

import pytest

from devices.codecs.mapping_case import check_case
from devices.errors import DocumentError
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


def test_every_mistake_is_told_at_once():
    text = "mapping: m\nvalues: [{path: a-b}, {path: c, scale: 0}]\ntime: {path: t, format: x}"
    assert len(mistakes(text)) == 3
