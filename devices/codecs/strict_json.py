"""JSON of other people's making, read into typed messages; every mistake is a `DecodeError`.

What the message types do not name is passed over: a network server may add fields in its next
release.  What they name must be of the right type.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec

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
        raise DecodeError("E-TYPE", f"payload: {_first_small(str(error))}") from error
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


def shorten(text: str) -> str:
    """Return *text* in quotes, cut where it is too long for a log."""
    shown = repr(text)
    return shown if len(shown) <= 80 else f"{shown[:60]}… ({len(text)} characters)"


def _first_small(text: str) -> str:
    return text[:1].lower() + text[1:]
