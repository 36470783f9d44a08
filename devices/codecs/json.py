"""The project's own payload: one moment with many values, or a list of such moments.

    {"t": 1767225600000, "v": {"air_temperature": 21.5, "soil_moisture.2": null}, "device": "h1"}

``t`` is milliseconds since 1970 UTC or ISO 8601 text with a zone; a device without a clock leaves
it out.  ``v`` maps the device's keys to numbers in its own units; null says that the sensor has no
reading.  ``device`` is optional where the topic says who speaks.  Fields beyond these are counted
and ignored.  A byte order mark before the text is accepted.

There are two readings of a payload.  The quick one (msgspec) takes what is plainly right.  Whatever
it refuses, or what it would take without seeing that a key stands twice or that text is escaped,
gets the careful one, which is slow and names the mistake and its place.  Colons tell the two apart:
every key brings one, so a payload with more of them than keys that were read hides something.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import msgspec

from devices.codecs.sample import MAX_READINGS, MAX_SAMPLES, Sample
from devices.errors import DecodeError

MAX_DEPTH = 8

_BOM = b"\xef\xbb\xbf"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAST_MS = 253_402_300_799_999  # the end of the year 9999, the last that a datetime can name
_READINGS = 'an object of readings such as {"air_temperature": 21.5}'
_TIME = "milliseconds since 1970 as a whole number, or ISO 8601 text with a zone"
_FIELDS = ("t", "v", "device")


class _Message(msgspec.Struct, gc=False):
    v: dict[str, float | None]
    t: int | str | None = None
    device: str | None = None


_read = msgspec.json.Decoder(_Message | list[_Message]).decode


class JsonCodec:
    """Decodes the project's own payload; implements `devices.codecs.sample.Codec`."""

    def decode(self, payload: bytes) -> list[Sample]:
        """Return the samples in *payload*; raise `DecodeError` naming the first mistake in it."""
        try:
            message = _read(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if payload.startswith(_BOM):
                return self.decode(payload[len(_BOM) :])
            _inspect(payload)
            raise DecodeError("E-JSON", f"unreadable: {error}") from error
        if type(message) is list:
            return _samples(message, payload)
        t, values = message.t, message.v
        # Every key brings one colon; more of them means fields that are ignored, or a key twice.
        if (
            type(t) is int
            and message.device is None
            and payload.count(b":") == len(values) + 2
            and b"\\" not in payload
            and 0 < len(values) <= MAX_READINGS
            and -_LAST_MS <= t <= _LAST_MS
        ):
            return [Sample(t * 1000, values)]
        return _samples([message], payload)


def _samples(messages: list[_Message], payload: bytes) -> list[Sample]:
    """Turn *messages* into samples; whatever is not plainly right is looked at with care."""
    colons = readings = 0
    for message in messages:
        t, device = message.t, message.device
        readings += len(message.v)
        colons += len(message.v) + 1
        if t is not None:
            colons += 1 + (t.count(":") if type(t) is str else 0)
        if device is not None:
            colons += 1
    ignored = 0
    if (
        b"\\" in payload
        or not all(message.v for message in messages)
        or not 0 < len(messages) <= MAX_SAMPLES
        or readings > MAX_READINGS
    ):
        ignored = _inspect(payload)
    elif payload.count(b":") != colons:
        ignored = _ignored(payload)
    try:
        samples = [Sample(_time_us(m.t), m.v, m.device) for m in messages]
    except ValueError:
        _inspect(payload)
        raise
    if ignored:
        samples[0] = msgspec.structs.replace(samples[0], ignored=ignored)
    return samples


def _ignored(payload: bytes) -> int:
    """Return how many fields of *payload* nobody reads; raise `DecodeError` for a key twice."""
    try:
        document = msgspec.json.decode(payload)
        plain = _colons(document, MAX_DEPTH) == payload.count(b":")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        plain = False
    if not plain:
        return _inspect(payload)
    messages = document if isinstance(document, list) else [document]
    return sum(name not in _FIELDS for message in messages for name in message)


def _colons(value: Any, depth: int) -> int:
    """Count the colons that *value* has as JSON; raise RecursionError below *depth* levels."""
    if isinstance(value, str):
        return value.count(":")
    if not isinstance(value, dict | list):
        return 0
    if depth == 0:
        raise RecursionError
    if isinstance(value, list):
        return sum(_colons(item, depth - 1) for item in value)
    return sum(1 + key.count(":") + _colons(item, depth - 1) for key, item in value.items())


def _time_us(t: int | str | None) -> int | None:
    """Return *t* in microseconds; raise ValueError saying what it is instead of a time."""
    if t is None:
        return None
    if isinstance(t, int):
        if -_LAST_MS <= t <= _LAST_MS:
            return t * 1000
        raise ValueError("which is beyond the year 9999 in milliseconds")
    if t[10:11] not in ("T", "t", " "):
        raise ValueError("which is not a date and a time")
    moment = datetime.fromisoformat(t)
    if moment.tzinfo is None:
        raise ValueError("which names no time zone")
    return (moment - _EPOCH) // _MICROSECOND


# The careful reading.


class _Object(list[tuple[str, Any]]):
    """A JSON object as it stands, keys that stand twice included."""


class _Unusable(str):
    """The text of a number that is none (NaN) or that no double can hold."""


def _integer(text: str) -> int | _Unusable:
    return int(text) if len(text) <= 300 else _Unusable(text)


def _real(text: str) -> float | _Unusable:
    number = float(text)
    return _Unusable(text) if number in (float("inf"), float("-inf")) else number


_parse = json.JSONDecoder(
    object_pairs_hook=_Object, parse_int=_integer, parse_float=_real, parse_constant=_Unusable
).decode


def _inspect(payload: bytes) -> int:
    """Raise `DecodeError` for the first mistake in *payload*, or return how many fields to ignore.

    Returns where this reading finds nothing wrong.
    """
    if not payload or payload.isspace():
        raise DecodeError("E-EMPTY", f"payload is empty ({len(payload)} bytes)")
    text = _text(payload)
    _check_depth(payload)
    try:
        document = _parse(text)
    except json.JSONDecodeError as error:
        at = len(text[: error.pos].encode())
        problem = error.msg[0].lower() + error.msg[1:].removesuffix(" at").removesuffix(" starting")
        if error.msg == "Extra data":
            raise DecodeError("E-JSON", f"trailing data at byte {at}") from error
        raise DecodeError("E-JSON", f"syntax at byte {at}: {problem}") from error
    if isinstance(document, _Object):
        ignored, readings = _inspect_message(document, "")
        _check_readings(readings)
        return ignored
    return _inspect_list(document)


def _text(payload: bytes) -> str:
    head = payload[:2]
    if head in (b"\xff\xfe", b"\xfe\xff") or (len(head) == 2 and b"\0" in head):
        _fail("E-UTF8", "payload", "what looks like UTF-16", "UTF-8")
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        got = f"0x{payload[error.start]:02x} ({error.reason})"
        raise DecodeError("E-UTF8", f"byte {error.start}: got {got}, expected UTF-8") from error
    if "\0" in text:
        _fail("E-NUL", f"byte {payload.index(0)}", "a NUL byte", "JSON text without NUL")
    return text


# A string (to the end of the payload where nothing closes it) or a bracket; never goes back.
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?+|[\[\]{}]', re.DOTALL)


def _check_depth(payload: bytes) -> None:
    depth = 0
    for match in _TOKENS.finditer(payload):
        token = match[0]
        if token in (b"[", b"{"):
            depth += 1
        elif token in (b"]", b"}"):
            depth -= 1
        if depth > MAX_DEPTH:
            _fail("E-DEPTH", "payload", f"{depth} levels or more", f"at most {MAX_DEPTH}")


def _inspect_list(document: Any) -> int:
    if not isinstance(document, list):
        _fail("E-SHAPE", "payload", _name(document), 'an object with "t" and "v", or a list')
    if not document:
        _fail("E-SHAPE", "payload", "an empty array", 'at least one object with "t" and "v"')
    if len(document) > MAX_SAMPLES:
        _fail("E-COUNT", "payload", f"{len(document)} samples", f"at most {MAX_SAMPLES}")
    ignored = readings = 0
    for index, message in enumerate(document):
        if not isinstance(message, _Object):
            _fail("E-SHAPE", f"[{index}]", _name(message), 'an object with "t" and "v"')
        more_ignored, more_readings = _inspect_message(message, f"[{index}].")
        ignored += more_ignored
        readings += more_readings
    _check_readings(readings)
    return ignored


def _inspect_message(message: _Object, path: str) -> tuple[int, int]:
    """Check one moment; return how many fields are ignored and how many readings it has."""
    fields = dict(_unique(message, path))
    if "v" not in fields:
        near = next((name for name in fields if name.lower() in ("v", "values", "value")), "")
        hint = f" (did you mean {near!r} to be 'v'?)" if near else ""
        _fail("E-FIELD", f"{path}v", "nothing", f"{_READINGS}{hint}")
    values = fields["v"]
    if not isinstance(values, _Object):
        _fail("E-TYPE", f"{path}v", _name(values), _READINGS)
    if not values:
        _fail("E-FIELD", f"{path}v", "an empty object", "at least one reading")
    for key, value in _unique(values, f"{path}v."):
        _check_value(value, f"{path}v.{_show_key(key)}")
    _check_time(fields.get("t"), f"{path}t")
    _check_device(fields.get("device"), f"{path}device")
    return sum(name not in _FIELDS for name in fields), len(values)


def _unique(pairs: _Object, path: str) -> Iterator[tuple[str, Any]]:
    seen = set()
    for key, value in pairs:
        _check_text(key, path + _show_key(key))
        if key in seen:
            _fail("E-FIELD", path + _show_key(key), "this key a second time", "each key once")
        seen.add(key)
        yield key, value


def _check_value(value: Any, path: str) -> None:
    if isinstance(value, _Unusable):
        _fail("E-NUM", path, _shorten(value), "a finite number or null")
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        _fail("E-TYPE", path, _name(value), "a number or null")


def _check_time(t: Any, path: str) -> None:
    if isinstance(t, bool) or not isinstance(t, int | float | str | None):
        _fail("E-TYPE", path, _name(t), _TIME)
    if isinstance(t, float | _Unusable):
        _fail("E-TIME", path, _shorten(str(t)), _TIME)
    if isinstance(t, str):
        _check_text(t, path)
    try:
        _time_us(t)
    except ValueError as error:
        reason = str(error)
        if reason.startswith("Invalid isoformat"):
            reason = "which is not a date and a time"
        elif not reason.startswith("which"):
            reason = f"which is no time ({reason})"
        _fail("E-TIME", path, f"{_shorten(repr(t))}, {reason}", _TIME)


def _check_device(device: Any, path: str) -> None:
    if isinstance(device, _Unusable) or not isinstance(device, str | None):
        _fail("E-TYPE", path, _name(device), "text")
    if device is not None:
        _check_text(device, path)


def _check_text(text: str, path: str) -> None:
    if "\0" in text:
        _fail("E-NUL", path, r"the character \u0000", "text without NUL")
    if any("\ud800" <= character <= "\udfff" for character in text):
        _fail("E-UTF8", path, "half of a surrogate pair", "whole characters")


def _check_readings(readings: int) -> None:
    if readings > MAX_READINGS:
        _fail("E-COUNT", "payload", f"{readings} readings", f"at most {MAX_READINGS}")


def _fail(code: str, where: str, got: str, expected: str) -> NoReturn:
    raise DecodeError(code, f"{where}: got {got}, expected {expected}")


def _show_key(key: str) -> str:
    return key if re.fullmatch(r"[\w.-]{1,80}", key) else _shorten(repr(key))


def _shorten(text: str) -> str:
    return text if len(text) <= 80 else text[:60] + f"… ({len(text)} characters)"


def _name(value: Any) -> str:
    """Return what *value* is, in the words of JSON, with the value where it is short."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, _Unusable):
        return _shorten(value)
    if isinstance(value, str):
        return f"text {_shorten(repr(value))}"
    if isinstance(value, int | float):
        return f"number {_shorten(str(value))}"
    return "an object" if isinstance(value, _Object) else "an array"
