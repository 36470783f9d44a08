"""Our reader of Sparkplug's protobuf beside protobuf's own library."""

from __future__ import annotations

import math

import pytest
from google.protobuf.message import DecodeError as OracleError
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.codecs.sparkplug_wire import (
    Datatype,
    Metric,
    ValueField,
    flag,
    gone,
    read_payload,
    told,
    write_payload,
)
from devices.errors import DecodeError
from tests.devices.codecs.sparkplug_oracle import file_descriptor, oracle

uint32 = st.integers(0, 2**32 - 1)
uint64 = st.integers(0, 2**64 - 1)
texts = st.text(max_size=12)
float32 = st.floats(width=32)

scalars = {
    "int_value": uint32,
    "long_value": uint64,
    "float_value": float32,
    "double_value": st.floats(),
    "boolean_value": st.booleans(),
    "string_value": texts,
}


def one_of(fields):
    return st.one_of(st.just({}), *(st.builds(lambda v, n=n: {n: v}, s) for n, s in fields.items()))


def some(fields):
    return st.fixed_dictionaries({}, optional=fields)


property_values = st.builds(
    lambda head, value: oracle("PropertyValue")(**head, **value),
    some({"type": uint32, "is_null": st.booleans()}),
    one_of(scalars),
)


@st.composite
def property_sets(draw):
    known = ["Quality", "engUnit", "x"]
    keys = draw(st.lists(st.sampled_from(known), max_size=4, unique=True))
    return oracle("PropertySet")(keys=keys, values=[draw(property_values) for _ in keys])


data_sets = st.builds(
    lambda columns, types: oracle("DataSet")(
        num_of_columns=len(columns), columns=columns, types=types
    ),
    st.lists(texts, max_size=3),
    st.lists(uint32, max_size=3),
)
templates = st.builds(
    lambda ref, names: oracle("Template")(
        template_ref=ref, metrics=[oracle("Metric")(name=name) for name in names]
    ),
    texts,
    st.lists(texts, max_size=2),
)
metrics = st.builds(
    lambda head, properties, value: oracle("Metric")(**head, **properties, **value),
    some(
        {
            "name": texts,
            "alias": uint64,
            "timestamp": uint64,
            "datatype": uint32,
            "is_historical": st.booleans(),
            "is_transient": st.booleans(),
            "is_null": st.booleans(),
            "metadata": st.builds(lambda text: oracle("MetaData")(description=text), texts),
        }
    ),
    some({"properties": property_sets()}),
    one_of(
        scalars
        | {
            "bytes_value": st.binary(max_size=8),
            "dataset_value": data_sets,
            "template_value": templates,
        }
    ),
)
payloads = st.builds(
    lambda head, found: oracle()(**head, metrics=found),
    some({"timestamp": uint64, "seq": uint64, "uuid": texts, "body": st.binary(max_size=8)}),
    st.lists(metrics, max_size=4),
)

_SIMPLE = (
    "int_value",
    "long_value",
    "float_value",
    "double_value",
    "boolean_value",
    "string_value",
)


def expected_metric(message) -> dict[str, object]:
    """Say of the library's *message* what a `Metric` says of ours."""

    def has(name):
        return getattr(message, name) if message.HasField(name) else None

    which = message.WhichOneof("value")
    number = message.DESCRIPTOR.fields_by_name[which].number if which else 0
    found: dict[str, object] = {}
    for key, value in zip(message.properties.keys, message.properties.values, strict=False):
        kind = value.WhichOneof("value")
        known = kind in ("int_value", "long_value", "string_value") and not value.is_null
        found[key] = getattr(value, kind) if known else None
    quality, unit = found.get("Quality"), found.get("engUnit")
    return {
        "name": has("name"),
        "alias": has("alias"),
        "at_ms": has("timestamp"),
        "datatype": has("datatype"),
        "is_historical": message.is_historical,
        "is_transient": message.is_transient,
        "is_null": message.is_null,
        "field": number,
        "value": getattr(message, which) if which in _SIMPLE else None,
        "quality": quality if isinstance(quality, int) else None,
        "unit": unit if isinstance(unit, str) else None,
    }


def same(ours: Metric, expected: dict[str, object]) -> None:
    for name, wanted in expected.items():
        got = getattr(ours, name)
        if isinstance(wanted, float) and math.isnan(wanted):
            assert math.isnan(got)
        else:
            assert (got, type(got)) == (wanted, type(wanted)), name


def check(data: bytes) -> None:
    message, ours = oracle().FromString(data), read_payload(data)
    assert ours.at_ms == (message.timestamp if message.HasField("timestamp") else None)
    assert ours.seq == (message.seq if message.HasField("seq") else None)
    assert len(ours.metrics) == len(message.metrics)
    for one, other in zip(ours.metrics, message.metrics, strict=True):
        same(one, expected_metric(other))


def test_our_text_names_every_field_of_the_specification_once():
    messages = {one.name: one for one in file_descriptor().message_type}
    payload = {field.name: field.number for field in messages["Payload"].field}
    assert payload == {"timestamp": 1, "metrics": 2, "seq": 3, "uuid": 4, "body": 5}
    metric = {field.number: field.name for field in messages["Metric"].field}
    assert sorted(metric) == list(range(1, 20))
    assert {metric[field] for field in ValueField if field} == {
        field.name for field in messages["Metric"].field if field.HasField("oneof_index")
    }


@settings(max_examples=150)
@given(payloads)
def test_what_the_library_writes_is_read_as_the_library_reads_it(message):
    check(message.SerializeToString())


@settings(max_examples=150)
@given(payloads, payloads, st.integers(20, 900), st.binary(max_size=6))
def test_fields_come_in_any_order_and_twice_and_strange_ones_are_passed_over(
    message, other, key, content
):
    tag = key << 3 | 2
    strange = bytes([tag & 0x7F | 0x80, tag >> 7, len(content)]) + content
    check(other.SerializeToString() + strange + message.SerializeToString())


@settings(max_examples=200)
@given(payloads, st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3))
def test_damaged_bytes_are_refused_or_read_as_the_library_reads_them(message, damage):
    data = bytearray(message.SerializeToString())
    for at, byte in damage:
        if data:
            data[at % len(data)] = byte
    judge(bytes(data))


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_read_as_the_library_reads_them(data):
    judge(data)


def judge(data: bytes) -> None:
    """Hold our reading to the library's; we may refuse more (groups, text that is no UTF-8)."""
    try:
        read_payload(data)
    except DecodeError as error:
        assert error.code in ("E-PROTOBUF", "E-UTF8")
        return
    try:
        oracle().FromString(data)
    except OracleError:
        # What is passed over is not looked into by us: a template may be broken inside.
        return
    check(data)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x08", "byte 1: got half of a number, expected all of it"),
        (b"\x08\x80", "byte 1: got half of a number, expected all of it"),
        (b"\x08" + b"\xff" * 10 + b"\x01", "byte 1: got a number of more than 10 bytes"),
        (b"\x12\x05\x0a", "byte 0: got a field of 5 bytes, expected at most 1"),
        (b"\x00\x01", "byte 0: got field number 0, expected 1 to 536870911"),
        (b"\x0b", "byte 0: got wire type 3, expected 0, 1, 2 or 5"),
        (b"\x12\x03\x0a\x01\xff", "byte 4: got 0xff (invalid start byte), expected UTF-8"),
        (b'{"t": 1}', "byte 0: got wire type 3, expected 0, 1, 2 or 5"),
    ],
)
def test_a_broken_message_is_refused_with_the_place(data: bytes, text: str):
    with pytest.raises(DecodeError) as refusal:
        read_payload(data)
    assert refusal.value.text.startswith(text)


@given(metrics, texts, st.integers(1, 34))
def test_a_completed_metric_differs_in_name_and_datatype_only(message, name, datatype):
    data = message.SerializeToString()
    [ours] = read_payload(write_payload(7, [data])).metrics
    completed = oracle("Metric").FromString(told(ours, name, datatype))
    wanted = oracle("Metric").FromString(data)
    if not message.HasField("name"):
        wanted.name = name
    if not message.HasField("datatype"):
        wanted.datatype = datatype
    assert completed.SerializeToString() == wanted.SerializeToString()


@given(uint64 | st.none(), st.lists(metrics, max_size=3), st.integers(0, 255) | st.none())
def test_what_we_write_the_library_reads(at_ms, found, seq):
    data = write_payload(at_ms, [one.SerializeToString() for one in found], seq)
    head = {} if at_ms is None else {"timestamp": at_ms}
    tail = {} if seq is None else {"seq": seq}
    wanted = oracle()(**head, **tail, metrics=found)
    assert oracle().FromString(data).SerializeToString() == wanted.SerializeToString()


def test_what_went_away_has_no_value_and_stale_quality():
    message = oracle("Metric").FromString(gone("温度", Datatype.DOUBLE))
    assert (message.name, message.datatype, message.is_null) == ("温度", 10, True)
    assert list(message.properties.keys) == ["Quality"]
    assert message.properties.values[0].int_value == 500
    assert message.WhichOneof("value") is None


def test_a_command_is_a_true_boolean():
    message = oracle("Metric").FromString(flag("Node Control/Rebirth", 5))
    assert (message.name, message.datatype, message.timestamp) == ("Node Control/Rebirth", 11, 5)
    assert message.boolean_value is True
