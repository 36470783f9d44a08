"""Durations as people write them: ``10s``, ``5min``, ``1h``, ``30d``, or ISO 8601 ``PT10S``."""

from __future__ import annotations

import re

_UNIT_S = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SHORT = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)")
_ISO = re.compile(
    r"P(?:(?P<w>\d+(?:\.\d+)?)W)?(?:(?P<d>\d+(?:\.\d+)?)D)?"
    r"(?:T(?=\d)(?:(?P<h>\d+(?:\.\d+)?)H)?(?:(?P<m>\d+(?:\.\d+)?)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?"
)
_ISO_S = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}


def parse_duration_s(text: str) -> float:
    """Return *text* in seconds; raise ValueError, with the accepted forms, if it is not a duration.

    Years and months are refused: their length is not fixed.
    """
    if match := _SHORT.fullmatch(text.strip()):
        return float(match[1]) * _UNIT_S[match[2]]
    match = _ISO.fullmatch(text.strip())
    if match and (parts := {k: v for k, v in match.groupdict().items() if v is not None}):
        return sum(float(value) * _ISO_S[key] for key, value in parts.items())
    raise ValueError("a duration with its unit, such as 10s, 5min, 1h, 30d or PT10S")


def format_duration(seconds: float) -> str:
    """Return *seconds* in the largest unit that divides it: 90.0 -> ``90s``, 3600.0 -> ``1h``."""
    for unit in ("d", "h", "min", "s"):
        amount = seconds / _UNIT_S[unit]
        if amount >= 1 and amount == int(amount):
            return f"{int(amount)}{unit}"
    return f"{seconds:g}s"
