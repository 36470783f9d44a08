"""The outside of packets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.mqtt.failures import BrokerViolation
from ingest.mqtt.frame import packet_size, read_topic
from tests.ingest.mqtt.scene import frame, message


# The limits of each number of length bytes: MQTT 5.0, table 1-1.
@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
def test_the_size_is_read_at_every_limit(size):
    packet = frame(0x30, bytes(size))
    assert packet_size(memoryview(packet)) == len(packet)
    assert packet_size(memoryview(packet + b"next")) == len(packet)


@given(st.integers(0, 268_435_455), st.integers(0, 4))
def test_a_cut_length_is_no_length(size, kept):
    head = frame(0x30, b"")[:1]
    length, rest = b"", size
    while True:
        rest, byte = rest // 128, rest % 128
        length += bytes([byte | (0x80 if rest else 0)])
        if not rest:
            break
    got = packet_size(memoryview(head + length[:kept]))
    assert got == (1 + len(length) + size if kept >= len(length) else None)


@pytest.mark.parametrize("head", [b"", b"\x30", b"\x30\x80", b"\x30\xff\xff\xff"])
def test_a_short_head_has_no_size_yet(head):
    assert packet_size(memoryview(head)) is None


def test_a_length_of_five_bytes_is_refused():
    with pytest.raises(BrokerViolation, match="longer than 4 bytes"):
        packet_size(memoryview(b"\x30\xff\xff\xff\xff\x01"))


GOOD = st.text(
    st.characters(exclude_characters="\0+#", exclude_categories=("Cs",)), min_size=1, max_size=300
)


@given(GOOD, st.booleans(), st.sampled_from([0, 1, 2]))
def test_every_topic_that_may_be_is_read(topic, is_v5, qos):
    packet = message(b"x" * 200, is_v5=is_v5, topic=topic.encode(), qos=qos)
    assert read_topic(memoryview(packet)) == topic


@given(st.binary(max_size=40))
def test_any_bytes_are_a_topic_or_a_violation(raw):
    packet = memoryview(message(is_v5=True, topic=raw))
    try:
        topic = read_topic(packet)
    except BrokerViolation as violation:
        assert str(violation).startswith("a message with") or "not UTF-8" in str(violation)
    else:
        assert topic.encode() == raw and topic and not set(topic) & set("\0+#")
