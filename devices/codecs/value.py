"""One bare value a message, on a topic that says what it is: ``21.5``, ``"21.5"``, ``ON``.

The value's key is ``value``; the topic gives it its name (`devices.topic`).  It has no time of its
own: that of receipt stands in.  Words for yes are 1 and for no 0; ``null`` and the words of bridges
that have lost their sensor are a sensor without a reading.
"""

from __future__ import annotations

import math
import re

from devices.codecs.sample import Sample
from devices.codecs.strict_json import shorten
from devices.errors import DecodeError
from devices.topic import VALUE

_MAX_BYTES = 64
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_WORDS: dict[str, float | None] = {
    **dict.fromkeys(("true", "on", "open", "yes"), 1.0),
    **dict.fromkeys(("false", "off", "closed", "no"), 0.0),
    **dict.fromkeys(("null", "none", "nan", "unknown", "unavailable")),
}


class ValueCodec:
    """Decodes a message that is one value; a `Codec`."""

    def decode(self, payload: bytes) -> list[Sample]:
        """Return one sample with one value."""
        return [Sample(None, {VALUE: _value(payload)})]


def _value(payload: bytes) -> float | None:
    if not payload or payload.isspace():
        raise DecodeError("E-EMPTY", f"payload is empty ({len(payload)} bytes)")
    try:
        text = payload[: _MAX_BYTES + 1].decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise _not_a_value(payload) from error
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1].strip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if len(payload) > _MAX_BYTES or not _NUMBER.fullmatch(text):
        raise _not_a_value(payload)
    number = float(text)
    if not math.isfinite(number):
        raise DecodeError("E-NUM", f"payload: got {shorten(text)}, expected a finite number")
    return number


def _not_a_value(payload: bytes) -> DecodeError:
    shown = shorten(payload.decode("utf-8", "backslashreplace"))
    return DecodeError("E-TYPE", f"payload: got {shown}, expected one bare number or on or off")
