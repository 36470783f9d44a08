"""Sparkplug metrics as readings; the messages are written by protobuf's own library."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs.sample import Sample
from devices.codecs.sparkplug import SparkplugCodec
from devices.codecs.sparkplug_wire import gone, write_payload
from devices.errors import DecodeError
from devices.quality import Quality
from tests.devices.codecs.sparkplug_oracle import oracle

decode = SparkplugCodec().decode
T = 1_767_225_600_000  # ms


def message(*metrics: dict[str, object], timestamp: int | None = T, seq: int = 1) -> bytes:
    head = {} if timestamp is None else {"timestamp": timestamp}
    built = [oracle("Metric")(**one) for one in metrics]
    return oracle()(**head, seq=seq, metrics=built).SerializeToString()


def quality(code: int):
    value = oracle("PropertyValue")(type=3, int_value=code)
    return oracle("PropertySet")(keys=["Quality"], values=[value])


def one_value(**metric: object) -> float | None:
    [sample] = decode(message({"name": "x", **metric}))
    return sample.values["x"]


@pytest.mark.parametrize(
    ("datatype", "field", "sent", "value"),
    [
        (1, "int_value", 0xFFFFFFFB, -5.0),  # Int8 extended to 32 bits, as Java and C write it
        (1, "int_value", 0xFB, -5.0),  # cut to its own width
        (1, "int_value", 127, 127.0),
        (1, "int_value", 0x80, -128.0),
        (2, "int_value", 0xFFFF8000, -32768.0),
        (2, "int_value", 0x8000, -32768.0),
        (3, "int_value", 0xFFFFFFFF, -1.0),
        (3, "int_value", 0x7FFFFFFF, 2147483647.0),
        (3, "long_value", 2**64 - 1, -1.0),
        (4, "long_value", 2**64 - 1, -1.0),
        (4, "long_value", 2**63, -(2.0**63)),
        (4, "long_value", 2**53, 2.0**53),
        (5, "int_value", 255, 255.0),
        (6, "int_value", 65535, 65535.0),
        (7, "int_value", 2**32 - 1, 4294967295.0),
        (7, "long_value", 2**32 - 1, 4294967295.0),  # so the older Java library
        (8, "long_value", 2**64 - 1, 2.0**64),
        (9, "float_value", 21.5, 21.5),
        (10, "double_value", 0.1, 0.1),
        (11, "boolean_value", True, 1.0),
        (11, "boolean_value", False, 0.0),
        (13, "long_value", T, float(T)),
    ],
)
def test_each_datatype_has_its_number(datatype, field, sent, value):
    assert one_value(datatype=datatype, **{field: sent}) == value


@given(st.sampled_from([(1, 8), (2, 16), (3, 32), (4, 64)]), st.data())
def test_every_signed_integer_survives_whichever_way_it_is_extended(kind, data):
    datatype, bits = kind
    number = data.draw(st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
    for width in {bits, max(bits, 32), 64}:
        field = "int_value" if width <= 32 else "long_value"
        assert one_value(datatype=datatype, **{field: number % 2**width}) == float(number)


@pytest.mark.parametrize(
    ("datatype", "field", "sent"),
    [
        (1, "int_value", 0x1FF),  # wider than 8 bits, and no sign extended
        (5, "int_value", 256),
        (6, "int_value", 65536),
        (9, "int_value", 21),  # an integer that says it is a float
        (3, "float_value", 21.0),
        (11, "int_value", 1),
        (10, "boolean_value", True),
    ],
)
def test_a_value_unlike_its_datatype_is_a_fault_of_the_device_and_no_number(datatype, field, sent):
    wrong = {"name": "x", "datatype": datatype, field: sent}
    good = {"name": "y", "datatype": 9, "float_value": 2.0}
    assert decode(message(wrong, good)) == [
        Sample(T * 1000, {"x": None}, quality=Quality.DEVICE_FAULT),
        Sample(T * 1000, {"y": 2.0}),
    ]


def test_a_metric_has_its_own_time_or_that_of_the_message():
    early = {"name": "a", "datatype": 9, "float_value": 1.0, "timestamp": T - 60_000}
    now = {"name": "b", "datatype": 9, "float_value": 2.0}
    also = {"name": "c", "datatype": 11, "boolean_value": True, "timestamp": T}
    assert decode(message(early, now, also)) == [
        Sample((T - 60_000) * 1000, {"a": 1.0}),
        Sample(T * 1000, {"b": 2.0, "c": 1.0}),
    ]


def test_a_message_without_any_time_leaves_it_open():
    [sample] = decode(message({"name": "a", "datatype": 9, "float_value": 1.0}, timestamp=None))
    assert sample == Sample(None, {"a": 1.0})


def test_values_that_were_kept_through_an_outage_come_at_their_own_times():
    rows = [
        {"name": "a", "datatype": 9, "float_value": v, "timestamp": T + v, "is_historical": True}
        for v in range(5)
    ]
    samples = decode(message(*rows, timestamp=T + 3_600_000))
    assert [(one.observed_at_us, one.values) for one in samples] == [
        ((T + v) * 1000, {"a": float(v)}) for v in range(5)
    ]


def test_one_name_twice_at_one_moment_stays_two_values():
    rows = [{"name": "a", "datatype": 9, "float_value": float(v)} for v in (1, 2)]
    assert decode(message(*rows)) == [Sample(T * 1000, {"a": 1.0}), Sample(T * 1000, {"a": 2.0})]


@pytest.mark.parametrize(
    ("code", "bits"),
    [(192, 0), (0, Quality.DEVICE_FAULT), (500, Quality.COMMUNICATION), (7, Quality.DEVICE_FAULT)],
)
def test_the_quality_property_becomes_quality_bits(code, bits):
    metric = {"name": "a", "datatype": 9, "float_value": 1.0, "properties": quality(code)}
    assert decode(message(metric)) == [Sample(T * 1000, {"a": 1.0}, quality=bits)]


def test_null_and_not_a_number_are_no_value():
    null = {"name": "a", "datatype": 9, "is_null": True}
    nan = {"name": "b", "datatype": 10, "double_value": math.nan}
    bare = {"name": "c", "datatype": 9}
    assert decode(message(null, nan, bare)) == [Sample(T * 1000, {"a": None, "b": None, "c": None})]


def test_text_files_sets_templates_and_what_a_node_says_of_itself_are_counted_and_left_out():
    metrics = [
        {"name": "bdSeq", "datatype": 8, "long_value": 3},
        {"name": "Node Control/Rebirth", "datatype": 11, "boolean_value": False},
        {"name": "firmware", "datatype": 12, "string_value": "1.2"},
        {"name": "note", "datatype": 14, "string_value": "…"},
        {"name": "id", "datatype": 15, "string_value": "6c…"},
        {"name": "table", "datatype": 16, "dataset_value": oracle("DataSet")(num_of_columns=0)},
        {"name": "raw", "datatype": 17, "bytes_value": b"\1"},
        {"name": "file", "datatype": 18, "bytes_value": b"\1"},
        {"name": "motor", "datatype": 19, "template_value": oracle("Template")(version="1")},
        {"name": "list", "datatype": 24, "bytes_value": b"\1\0\0\0"},
        {"name": "passing", "datatype": 9, "float_value": 1.0, "is_transient": True},
    ]
    kept = {"name": "t", "datatype": 9, "float_value": 1.0}
    [sample] = decode(message(*metrics, kept))
    assert (sample.values, sample.ignored) == ({"t": 1.0}, len(metrics))
    assert decode(message(*metrics)) == [Sample(T * 1000, {}, ignored=len(metrics))]


def test_an_alias_without_a_name_cannot_be_read():
    with pytest.raises(DecodeError, match=r"E-ALIAS metrics\[1\]: got alias 7, expected a birth"):
        decode(
            message(
                {"name": "a", "datatype": 9, "float_value": 1.0}, {"alias": 7, "float_value": 1.0}
            )
        )


def test_an_integer_without_a_datatype_cannot_be_read_and_a_float_can():
    with pytest.raises(DecodeError, match=r"E-ALIAS .*without a datatype"):
        decode(message({"name": "a", "int_value": 4_294_967_295}))
    assert one_value(float_value=1.5) == 1.5


def test_a_death_has_no_values_and_says_that_nobody_answers():
    [sample] = decode(write_payload(None, [gone("a", 9), gone("b", 3)]))
    assert sample == Sample(None, {"a": None, "b": None}, quality=Quality.COMMUNICATION)


def test_too_many_metrics_are_refused_with_their_number():
    metrics = [{"name": f"m{n}", "datatype": 9, "float_value": 1.0} for n in range(1001)]
    with pytest.raises(DecodeError, match="E-COUNT metrics: got 1001, expected at most 1000"):
        decode(message(*metrics))


@given(st.binary(max_size=80))
def test_any_bytes_give_samples_or_a_decode_error(data):
    try:
        samples = decode(data)
    except DecodeError:
        return
    assert samples and all(isinstance(sample, Sample) for sample in samples)
