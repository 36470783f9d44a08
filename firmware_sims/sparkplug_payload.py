"""Sparkplug B as an edge node writes it: protobuf by hand, as small firmware does.

Written here and read in `devices.codecs` by other code, so that the two cannot agree on a mistake.
Field numbers after the Sparkplug 3.0 specification, chapter 6.4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

TYPES = {"Int16": 2, "Int32": 3, "UInt64": 8, "Float": 9, "Double": 10, "Boolean": 11, "String": 12}
REBIRTH = "Node Control/Rebirth"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric to be sent; None for what is left out.  *value* None is sent as null."""

    value: float | bool | str | None
    kind: str
    name: str | None = None
    alias: int | None = None
    at_ms: int | None = None
    tells_kind: bool = True
    historical: bool = False
    unit: str | None = None


def encode(metrics: Iterable[Metric], at_ms: int | None, seq: int | None) -> bytes:
    """Return one payload."""
    out = bytearray()
    if at_ms is not None:
        out += b"\x08" + _digits(at_ms)
    for metric in metrics:
        body = _metric(metric)
        out += b"\x12" + _digits(len(body)) + body
    if seq is not None:
        out += b"\x18" + _digits(seq)
    return bytes(out)


def asks_for_rebirth(payload: bytes) -> bool:
    """Whether *payload*, that of a command, asks for a rebirth: the name, and a true Boolean."""
    return REBIRTH.encode() in payload and b"\x70\x01" in payload


def _metric(metric: Metric) -> bytes:
    out = bytearray()
    if metric.name is not None:
        out += _text(1, metric.name)
    if metric.alias is not None:
        out += b"\x10" + _digits(metric.alias)
    if metric.at_ms is not None:
        out += b"\x18" + _digits(metric.at_ms)
    if metric.tells_kind:
        out += b"\x20" + _digits(TYPES[metric.kind])
    if metric.historical:
        out += b"\x28\x01"
    if metric.unit is not None:
        value = b"\x08\x0c" + _text(8, metric.unit)
        properties = _text(1, "engUnit") + b"\x12" + _digits(len(value)) + value
        out += b"\x4a" + _digits(len(properties)) + properties
    return bytes(out + _value(metric))


def _value(metric: Metric) -> bytes:
    value = metric.value
    if value is None:
        return b"\x38\x01"
    if isinstance(value, str):
        return _text(15, value)
    match metric.kind:
        case "Float":
            return b"\x65" + struct.pack("<f", value)
        case "Double":
            return b"\x69" + struct.pack("<d", value)
        case "Boolean":
            return b"\x70\x01" if value else b"\x70\x00"
        case "UInt64":
            return b"\x58" + _digits(int(value))
        case _:
            # A negative integer in two's complement of 32 bits, whatever its own width.
            return b"\x50" + _digits(struct.unpack("<I", struct.pack("<i", int(value)))[0])


def _text(field: int, text: str) -> bytes:
    content = text.encode()
    return bytes([field << 3 | 2]) + _digits(len(content)) + content


def _digits(number: int) -> bytes:
    """Return *number* in base 128, the lowest digit first, all but the last marked."""
    digits = [number >> shift & 0x7F for shift in range(0, max(1, number.bit_length()), 7)]
    return bytes([digit | 0x80 for digit in digits[:-1]] + [digits[-1]])
