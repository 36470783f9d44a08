"""Instants in queries: RFC 3339 with a zone, and nothing that could be meant two ways."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from devices.duration import parse_duration_s

_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?"
    r"(?P<zone>[Zz]|[+-][0-9]{2}:?[0-9]{2})?"
)
_LOST_PLUS = re.compile(r".*[0-9] [0-9]{2}:?[0-9]{2}")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)

_EXPECTED = "a time with its zone, such as 2024-01-01T00:00:00Z or 2024-01-01T08:00:00+08:00"


def parse_instant_us(text: str) -> int:
    """Return *text* as microseconds since 1970 UTC.

    Raises ValueError that says what was expected, for a time without a zone, a number (seconds and
    milliseconds cannot be told apart), a time outside 1970..2200, and a ``+`` that was sent without
    its escape and so became a space.
    """
    if _NUMBER.fullmatch(text):
        raise ValueError(f"{_EXPECTED}; a bare number may mean seconds or milliseconds")
    match = _RFC3339.fullmatch(text)
    if match is None:
        if _LOST_PLUS.fullmatch(text):
            raise ValueError(f"{_EXPECTED}; encode + as %2B in a URL")
        if len(text) == 10 and _RFC3339.fullmatch(text + "T00:00Z"):
            raise ValueError(f"{_EXPECTED}; a day alone says neither hour nor zone")
        raise ValueError(_EXPECTED)
    if match["zone"] is None:
        raise ValueError(f"{_EXPECTED}; the time zone is missing")
    try:
        instant = datetime.fromisoformat(text.upper().replace(",", "."))
    except ValueError as error:
        raise ValueError(f"{_EXPECTED}; {error}") from error
    try:
        instant = instant.astimezone(UTC)
    except OverflowError:
        instant = _LATEST
    if not _EPOCH <= instant < _LATEST:
        raise ValueError(f"{_EXPECTED}, from 1970 to 2199")
    return (instant - _EPOCH) // _US


_AGO = re.compile(r"[0-9]{1,6}(\.[0-9]+)? ?(min|[shd])|P.{1,20}")


def moment_us(text: str, before_us: int) -> int:
    """Return *text* as an instant, or as the moment that lies a duration before *before_us*.

    Raises ValueError that says what was expected.
    """
    if _AGO.fullmatch(text):
        return before_us - round(parse_duration_s(text) * 1e6)
    try:
        return parse_instant_us(text)
    except ValueError as error:
        raise ValueError(f"{error}; or how long ago, such as 90d") from error


def format_instant(at_us: int) -> str:
    """Return *at_us* as RFC 3339 in UTC, with milliseconds, or microseconds where they matter."""
    places = "milliseconds" if at_us % 1000 == 0 else "microseconds"
    instant = _EPOCH + timedelta(microseconds=at_us)
    return instant.replace(tzinfo=None).isoformat(timespec=places) + "Z"


def _parse(value: object) -> object:
    return parse_instant_us(value) if isinstance(value, str) else value


Instant = Annotated[
    int,
    BeforeValidator(_parse),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A query parameter that arrives as microseconds since 1970 UTC."""
