"""JSON of other people's making, read into typed messages; every mistake is a `DecodeError`.

What the message types do not name is passed over: a network server may add fields in its next
release.  What they name must be of the right type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from devices.codecs.sample import MAX_READINGS
from devices.errors import DecodeError

Message = TypeVar("Message")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def read(decode: Callable[[bytes], Message], payload: bytes) -> Message:
    """Return *payload* as *decode* (of a `msgspec.json.Decoder`) reads it."""
    if not payload or payload.isspace():
        raise DecodeError("E-EMPTY", f"payload is empty ({len(payload)} bytes)")
    try:
        return decode(payload)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, UnicodeDecodeError):
            raise DecodeError("E-UTF8", f"payload: got {error}, expected UTF-8") from error
        code = "E-NUM" if "out of range" in str(error) else "E-TYPE"
        raise DecodeError(code, f"payload: {_first_small(str(error))}") from error
    except msgspec.DecodeError as error:
        raise DecodeError("E-JSON", f"syntax: {_first_small(str(error))}") from error
    except UnicodeDecodeError as error:
        raise DecodeError("E-UTF8", f"payload: got {error.reason}, expected UTF-8") from error
    except RecursionError as error:
        raise DecodeError("E-DEPTH", "payload: got too many levels, expected fewer") from error


def instant_us(text: str, where: str) -> int:
    """Return the RFC 3339 time *text*, found at *where*, in microseconds since 1970 UTC.

    What is finer than a microsecond is cut off: network servers send nanoseconds.
    """
    expected = "a date and a time with a zone"
    try:
        moment = datetime.fromisoformat(text)
        if text[10:11] not in ("T", "t", " ") or moment.tzinfo is None:
            raise ValueError(text)
        return (moment - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError) as error:
        raise DecodeError("E-TIME", f"{where}: got {shorten(text)}, expected {expected}") from error


def leaves(document: Mapping[str, Any], levels: int) -> tuple[dict[str, float | None], int]:
    """Return the numbers in *document* by their path, and how many other things stand in it.

    A path joins the names with dots and counts the places of a list from 1; null is a sensor
    without a reading, true and false are 1 and 0.  What lies more than *levels* deep, and text, is
    only counted.
    """
    values: dict[str, float | None] = {}
    others = _gather(document, "", levels, values)
    return values, others


def _gather(node: Any, path: str, levels: int, values: dict[str, float | None]) -> int:
    """Add what stands in *node*, found at *path*, to *values*; return how much is no reading."""
    others = 0
    pairs = node.items() if isinstance(node, dict) else enumerate(node, start=1)
    for name, leaf in pairs:
        place = f"{path}.{name}" if path else str(name)
        if isinstance(leaf, dict | list):
            if levels > 1:
                others += _gather(leaf, place, levels - 1, values)
            else:
                others += 1
        elif leaf is not None and not isinstance(leaf, int | float):
            others += 1
        else:
            if place in values:
                text = f"{shorten(place)}: got this path a second time, expected each once"
                raise DecodeError("E-FIELD", text)
            if len(values) >= MAX_READINGS:
                text = f"payload: got more than {MAX_READINGS} readings, expected fewer"
                raise DecodeError("E-COUNT", text)
            values[place] = None if leaf is None else _finite(leaf, place)
    return others


def _finite(number: float, where: str) -> float:
    try:
        value = float(number)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise DecodeError("E-NUM", f"{shorten(where)}: got one too large, expected a finite number")
    return value


def shorten(text: str) -> str:
    """Return *text* in quotes, cut where it is too long for a log."""
    shown = repr(text)
    return shown if len(shown) <= 80 else f"{shown[:60]}… ({len(text)} characters)"


def _first_small(text: str) -> str:
    return text[:1].lower() + text[1:]
