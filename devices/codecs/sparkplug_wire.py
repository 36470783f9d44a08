"""Sparkplug B on the wire: protobuf read and written as far as this one set of messages needs it.

The messages are those of `sparkplug_b.proto`.  Read is what a host application has a use for; data
sets, templates and metadata are seen and passed over, and so is whatever the specification leaves
to extensions.  docs/decisions/0013-sparkplug.md says why this is not generated code; the tests hold
it to protobuf's own library.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import NoReturn

import msgspec

from devices.errors import DecodeError


class Datatype(IntEnum):
    """What a metric holds (specification 6.4.16); beyond these are arrays, 22 to 34."""

    UNKNOWN = 0
    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATE_TIME = 13
    TEXT = 14
    UUID = 15
    DATA_SET = 16
    BYTES = 17
    FILE = 18
    TEMPLATE = 19
    PROPERTY_SET = 20
    PROPERTY_SET_LIST = 21


class ValueField(IntEnum):
    """In which field of the oneof a metric brings its value; NONE where it brings none."""

    NONE = 0
    INT = 10
    LONG = 11
    FLOAT = 12
    DOUBLE = 13
    BOOLEAN = 14
    STRING = 15
    BYTES = 16
    DATA_SET = 17
    TEMPLATE = 18
    EXTENSION = 19


class Metric(msgspec.Struct, frozen=True, gc=False):
    """One metric as sent; None where a field is not there.

    *value* is a number as it stands on the wire (integers without a sign), a bool or a text; None
    for the other kinds, which *field* tells.  *quality* and *unit* are the properties ``Quality``
    and ``engUnit``.  *raw* is the metric's own bytes.
    """

    name: str | None = None
    alias: int | None = None
    at_ms: int | None = None
    datatype: int | None = None
    is_historical: bool = False
    is_transient: bool = False
    is_null: bool = False
    field: int = 0
    value: int | float | bool | str | None = None
    quality: int | None = None
    unit: str | None = None
    raw: bytes = b""


class Payload(msgspec.Struct, frozen=True, gc=False):
    """One message; *seq* is None in a death certificate of a node."""

    at_ms: int | None = None
    metrics: tuple[Metric, ...] = ()
    seq: int | None = None


_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FLOAT, _DOUBLE = struct.Struct("<f"), struct.Struct("<d")
_UINT32, _UINT64 = (1 << 32) - 1, (1 << 64) - 1
_QUALITY, _UNIT = "Quality", "engUnit"


_Field = tuple[int, int, int, int, int]
"""A field as found: key, wire type, number (of a varint), start and end of its content.

A plain tuple, for there are many of them.
"""


def read_payload(data: bytes) -> Payload:
    """Read one message; raise `DecodeError` where it is no protobuf, naming the byte."""
    at_ms = seq = None
    metrics: list[Metric] = []
    for key, wire, number, start, end in _fields(data, 0, len(data)):
        if key == 2 and wire == _LENGTH:
            metrics.append(_metric(data, start, end))
        elif key == 1 and wire == _VARINT:
            at_ms = number
        elif key == 3 and wire == _VARINT:
            seq = number
        elif key == 4 and wire == _LENGTH:
            _text(data, start, end)
    return Payload(at_ms, tuple(metrics), seq)


def _metric(data: bytes, start: int, end: int) -> Metric:
    name: str | None = None
    alias: int | None = None
    at_ms: int | None = None
    datatype: int | None = None
    historical = transient = null = False
    kind = 0
    value: int | float | bool | str | None = None
    keys: list[str] = []
    properties: list[int | str | None] = []
    for key, wire, number, begin, stop in _fields(data, start, end):
        if _WIRE_OF_VALUE.get(key) == wire:
            kind, value = key, _value(data, key, number, begin, stop)
        elif wire == _VARINT:
            if key == 2:
                alias = number
            elif key == 3:
                at_ms = number
            elif key == 4:
                datatype = number & _UINT32
            elif key == 5:
                historical = number != 0
            elif key == 6:
                transient = number != 0
            elif key == 7:
                null = number != 0
        elif key == 1 and wire == _LENGTH:
            name = _text(data, begin, stop)
        elif key == 9 and wire == _LENGTH:
            _properties(data, begin, stop, keys, properties)
    known = dict(zip(keys, properties, strict=False))
    quality, unit = known.get(_QUALITY), known.get(_UNIT)
    return Metric(
        name,
        alias,
        at_ms,
        datatype,
        historical,
        transient,
        null,
        kind,
        value,
        quality if isinstance(quality, int) else None,
        unit if isinstance(unit, str) else None,
        data[start:end],
    )


_WIRE_OF_VALUE = {
    int(ValueField.INT): _VARINT,
    int(ValueField.LONG): _VARINT,
    int(ValueField.FLOAT): _FIXED32,
    int(ValueField.DOUBLE): _FIXED64,
    int(ValueField.BOOLEAN): _VARINT,
    int(ValueField.STRING): _LENGTH,
    int(ValueField.BYTES): _LENGTH,
    int(ValueField.DATA_SET): _LENGTH,
    int(ValueField.TEMPLATE): _LENGTH,
    int(ValueField.EXTENSION): _LENGTH,
}


def _value(
    data: bytes, key: int, number: int, start: int, end: int
) -> int | float | bool | str | None:
    match key:
        case 10:
            return number & _UINT32
        case 11:
            return number
        case 12:
            real: float = _FLOAT.unpack_from(data, start)[0]
            return real
        case 13:
            real = _DOUBLE.unpack_from(data, start)[0]
            return real
        case 14:
            return number != 0
        case 15:
            return _text(data, start, end)
        case _:
            return None


def _properties(
    data: bytes, start: int, end: int, keys: list[str], values: list[int | str | None]
) -> None:
    """Add the keys of a property set, and of its values those that are a number or a text."""
    for key, wire, _, begin, stop in _fields(data, start, end):
        if key == 1 and wire == _LENGTH:
            keys.append(_text(data, begin, stop))
        elif key == 2 and wire == _LENGTH:
            values.append(_property(data, begin, stop))


def _property(data: bytes, start: int, end: int) -> int | str | None:
    value: int | str | None = None
    null = False
    for key, wire, number, begin, stop in _fields(data, start, end):
        match key, wire:
            case 2, 0:
                null = number != 0
            case 3, 0:
                value = number & _UINT32
            case 4, 0:
                value = number
            case 8, 2:
                value = _text(data, begin, stop)
            case (5, 5) | (6, 1) | (7, 0) | (9 | 10 | 11, 2):
                value = None  # Of the oneof the last counts, and this one is of no use to us.
    return None if null else value


def _fields(data: bytes, start: int, end: int) -> Iterator[_Field]:
    """Yield the fields between two bytes, in their order; raise `DecodeError` for what is none."""
    at = start
    while at < end:
        begin = at
        tag = data[at]
        if tag < 0x80:  # one byte, as nearly always
            at += 1
        else:
            tag, at = _varint(data, at, end)
        key, wire = tag >> 3, tag & 7
        if not key or tag > _UINT32:
            _fail(begin, f"field number {key}", "1 to 536870911")
        number, content = 0, at
        if wire == _VARINT:
            if at < end and data[at] < 0x80:
                number = data[at]
                at += 1
            else:
                number, at = _varint(data, at, end)
        elif wire == _LENGTH:
            if at < end and data[at] < 0x80:
                content = at + 1
                at = content + data[at]
            else:
                length, content = _varint(data, at, end)
                at = content + length
        elif wire == _FIXED64:
            at += 8
        elif wire == _FIXED32:
            at += 4
        else:
            _fail(begin, f"wire type {wire}", "0, 1, 2 or 5")
        if at > end:
            _fail(begin, f"a field of {at - content} bytes", f"at most {end - content}")
        yield key, wire, number, content, at


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return the number that begins at byte *at*, and where it ends."""
    number = shift = 0
    begin = at
    while at < end:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & _UINT64, at
        shift += 7
        if shift == 70:
            _fail(begin, "a number of more than 10 bytes", "at most 10")
    _fail(begin, "half of a number", "all of it")


def _text(data: bytes, start: int, end: int) -> str:
    try:
        return data[start:end].decode()
    except UnicodeDecodeError as error:
        where = start + error.start
        got = f"0x{data[where]:02x} ({error.reason})"
        raise DecodeError("E-UTF8", f"byte {where}: got {got}, expected UTF-8") from error


def _fail(at: int, got: str, expected: str) -> NoReturn:
    raise DecodeError("E-PROTOBUF", f"byte {at}: got {got}, expected {expected}")


# Writing: a message as it came, with what its birth certificate says beside each metric.


def told(metric: Metric, name: str, datatype: int | None) -> bytes:
    """Return the bytes of *metric* with *name* in front, and *datatype* where it brings none."""
    head = _string(1, name) if metric.name is None else b""
    if metric.datatype is None and datatype is not None:
        head += _number(4, datatype)
    return head + metric.raw


def gone(name: str, datatype: int) -> bytes:
    """Return a metric that has no value, because what measured it went away (quality stale)."""
    value = _number(1, Datatype.INT32) + _number(3, STALE)
    properties = _string(1, _QUALITY) + _block(2, value)
    return _string(1, name) + _number(4, datatype) + _number(7, 1) + _block(9, properties)


def write_payload(at_ms: int | None, metrics: Iterable[bytes], seq: int | None = None) -> bytes:
    """Return a message of *metrics*, each as its bytes."""
    head = b"" if at_ms is None else _number(1, at_ms)
    tail = b"" if seq is None else _number(3, seq)
    return head + b"".join(_block(2, metric) for metric in metrics) + tail


def flag(name: str, at_ms: int) -> bytes:
    """Return the metric *name* as a true Boolean, which is how a command is given."""
    head = _string(1, name) + _number(3, at_ms) + _number(4, Datatype.BOOLEAN)
    return head + _number(ValueField.BOOLEAN, 1)


GOOD, BAD, STALE = 192, 0, 500
"""The values of the property ``Quality`` (specification 6.4.11)."""


def _number(key: int, value: int) -> bytes:
    return _written(key << 3 | _VARINT) + _written(value)


def _string(key: int, text: str) -> bytes:
    return _block(key, text.encode())


def _block(key: int, content: bytes) -> bytes:
    return _written(key << 3 | _LENGTH) + _written(len(content)) + content


def _written(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
