"""What MQTT 3.1.1 and 5 have in common on the wire: how long a packet is, what a topic may be."""

from __future__ import annotations

from ingest.mqtt.failures import BrokerViolation

PINGREQ = b"\xc0\x00"

_LENGTH_BYTES = 4


def packet_size(view: memoryview) -> int | None:
    """Return how long the packet at the start of *view* is, in bytes, its header included.

    None while the length itself is not all there.  Raises `BrokerViolation` for a length of more
    than four bytes.
    """
    size = 0
    for index, byte in enumerate(view[1 : 1 + _LENGTH_BYTES]):
        size |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            return 2 + index + size
    if len(view) > _LENGTH_BYTES:
        raise BrokerViolation(f"a packet whose length is longer than {_LENGTH_BYTES} bytes")
    return None


def read_topic(packet: memoryview) -> str:
    """Return the topic of a whole PUBLISH *packet*.

    Raises `BrokerViolation` if nobody can have published to it (MQTT 5.0, 1.5.4 and 4.7).  Clients
    choke on such topics (paho spins at full load, the codec of MQTT 5 panics), so they stop here.
    """
    at = 1
    while packet[at] & 0x80:
        at += 1
    begin = at + 3
    end = begin + int.from_bytes(packet[at + 1 : begin])
    if end > len(packet):
        raise BrokerViolation("a message whose topic is longer than itself")
    raw = bytes(packet[begin:end])
    try:
        topic = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BrokerViolation(f"a message whose topic is not UTF-8: {raw[:64]!r}") from error
    if not topic:
        raise BrokerViolation("a message with an empty topic")
    if "\0" in topic:
        raise BrokerViolation(f"a message with a NUL in its topic: {topic[:64]!r}")
    if "+" in topic or "#" in topic:
        raise BrokerViolation(f"a message with a wildcard in its topic: {topic[:64]!r}")
    return topic
