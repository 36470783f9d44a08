"""What the simulated node writes, read by protobuf's own library."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sims.sparkplug_payload import REBIRTH, TYPES, Metric, asks_for_rebirth, encode
from ingest.sparkplug.host import rebirth_command
from ingest.sparkplug.topic import Node
from tests.devices.codecs.sparkplug_oracle import oracle

values = {
    "Int16": st.integers(-(2**15), 2**15 - 1),
    "Int32": st.integers(-(2**31), 2**31 - 1),
    "UInt64": st.integers(0, 2**64 - 1),
    "Float": st.floats(width=32, allow_nan=False),
    "Double": st.floats(allow_nan=False),
    "Boolean": st.booleans(),
    "String": st.text(max_size=10),
}
FIELDS = {
    "Int16": "int_value",
    "Int32": "int_value",
    "UInt64": "long_value",
    "Float": "float_value",
    "Double": "double_value",
    "Boolean": "boolean_value",
    "String": "string_value",
}


@st.composite
def metrics(draw):
    kind = draw(st.sampled_from(sorted(TYPES)))
    return Metric(
        draw(values[kind] | st.none()),
        kind,
        draw(st.text(max_size=10) | st.none()),
        draw(st.integers(0, 2**64 - 1) | st.none()),
        draw(st.integers(0, 2**63) | st.none()),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.sampled_from([None, "°C"])),
    )


@given(st.lists(metrics(), max_size=4), st.integers(0, 2**63), st.integers(0, 255) | st.none())
def test_the_library_reads_what_the_node_meant(sent, at_ms, seq):
    message = oracle().FromString(encode(sent, at_ms, seq))
    assert message.timestamp == at_ms and message.HasField("seq") is (seq is not None)
    assert seq is None or message.seq == seq
    for metric, read in zip(sent, message.metrics, strict=True):
        assert (metric.name is None) or read.name == metric.name
        assert (metric.alias is None) or read.alias == metric.alias
        assert (metric.at_ms is None) or read.timestamp == metric.at_ms
        assert read.datatype == (TYPES[metric.kind] if metric.tells_kind else 0)
        assert read.is_historical is metric.historical
        assert read.is_null is (metric.value is None)
        if metric.unit:
            assert read.properties.values[0].string_value == metric.unit
        if metric.value is None:
            assert read.WhichOneof("value") is None
        elif FIELDS[metric.kind] == "int_value":
            assert read.int_value == metric.value % 2**32
        else:
            assert getattr(read, FIELDS[metric.kind]) == metric.value


@pytest.mark.parametrize(("value", "asked"), [(True, True), (False, False)])
def test_a_command_asks_for_a_rebirth_only_if_it_is_true(value, asked):
    command = encode([Metric(value, "Boolean", REBIRTH)], 1_767_225_600_000, None)
    assert asks_for_rebirth(command) is asked


def test_the_node_understands_what_the_service_asks():
    topic, payload = rebirth_command(Node("g", "gw"), 1_767_225_600_000)
    assert (topic, asks_for_rebirth(payload)) == ("spBv1.0/g/NCMD/gw", True)
