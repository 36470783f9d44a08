"""The units of SenML (RFC 8428 and 8798) in the words that a site file uses.

The registry has letters of its own for some: C is coulomb and not °C, F farad and not °F, ``/`` a
ratio.  What is not named here is written alike in both.
"""

from __future__ import annotations

import re

UNITS = {
    "Cel": "°C",
    "C": "coulomb",
    "F": "farad",
    "%RH": "%",
    "%EL": "%",
    "EL": "s",
    "/": "1",
    "/100": "%",
    "/1000": "permille",
    "count": "1",
    "lat": "°",
    "lon": "°",
    "deg": "°",
    "l": "L",
    "l/s": "L/s",
    "m2": "m**2",
    "m/s2": "m/s**2",
    "m3/s": "m**3/s",
    "Ohm": "ohm",
    "kg/m3": "kg/m**3",
}
_IN_KEY = re.compile(r"\[([^\[\]]+)\](?:\.sum)?")


def senml_unit(key: str) -> str | None:
    """Return the unit in the *key* of a reading, such as ``urn:dev:h1:temp[Cel]``; None without."""
    match = _IN_KEY.search(key)
    return None if match is None else UNITS.get(match[1], match[1])
