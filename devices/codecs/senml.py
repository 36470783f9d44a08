"""SenML in JSON, RFC 8428: a pack of records that inherit name, time, unit and value.

    [{"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076e+09,"n":"voltage","u":"V","v":120.1},
     {"n":"current","t":-5,"u":"A","v":1.2}]

A reading's key is its resolved name and, in brackets, its unit: ``urn:…6:voltage[V]``.  A pack may
use one name with several units, and a device that changes its unit is then an unknown key and not a
wrong value.  A sum's key ends in ``.sum``.  Truth values are 1 and 0; text and data are no readings
and are counted as ignored.

Times below 2^28 are relative to now.  This codec has no clock, so exactly "now" (0, or no time)
gives a sample without a time, to which the time of receipt is given; a record from before or after
now is refused as E-RELATIVE.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import msgspec

from devices.codecs.sample import MAX_READINGS, Sample
from devices.codecs.strict_json import read, shorten
from devices.errors import DecodeError

_VERSION = 10
_RELATIVE_BELOW_S = 2**28
_LAST_S = 253_402_300_799  # the end of the year 9999
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-:./_]*")
_VALUES = ("v", "vs", "vb", "vd")
_TEXTS = ("bn", "bu", "n", "u", "vs", "vd")
_NUMBERS = ("bt", "bv", "bs", "v", "s", "t", "ut")
_BASES = ("bn", "bt", "bu", "bv", "bs", "bver")
_KNOWN = frozenset((*_TEXTS, *_NUMBERS, "bver", "vb"))

_read = msgspec.json.Decoder(list[dict[str, Any]]).decode


@dataclass(slots=True)
class _Base:
    """The base values in force; *value* and *sum* are None until one is given."""

    name: str = ""
    time_s: float = 0.0
    unit: str | None = None
    value: float | None = None
    sum: float | None = None

    def update(self, record: Mapping[str, Any]) -> None:
        self.name = record.get("bn", self.name)
        self.time_s = record.get("bt", self.time_s)
        self.unit = record.get("bu", self.unit)
        self.value = record.get("bv", self.value)
        self.sum = record.get("bs", self.sum)


@dataclass(slots=True)
class _Pack:
    """Readings by their time in microseconds, None for now."""

    by_time: dict[int | None, dict[str, float | None]] = field(default_factory=dict)
    ignored: int = 0
    readings: int = 0

    def add(self, at_us: int | None, key: str, value: float, where: str) -> None:
        values = self.by_time.setdefault(at_us, {})
        if key in values:
            _fail("E-FIELD", where, f"{shorten(key)} a second time at one time", "it once")
        if not math.isfinite(value):
            _fail("E-NUM", where, f"{value}", "a finite number")
        self.readings += 1
        if self.readings > MAX_READINGS:
            _fail("E-COUNT", "payload", f"more than {MAX_READINGS} readings", "fewer")
        values[key] = value


class SenmlCodec:
    """Decodes SenML in JSON; implements `devices.codecs.sample.Codec`."""

    def decode(self, payload: bytes) -> list[Sample]:
        """Return one sample a time, oldest first, those of now last."""
        records = read(_read, payload)
        if not records:
            _fail("E-SHAPE", "payload", "an empty array", "at least one record")
        base, pack = _Base(), _Pack()
        version: float | None = None
        for index, record in enumerate(records):
            where = f"[{index}]"
            _check(record, where, pack)
            version = _version(record, version, where)
            base.update(record)
            _resolve(record, base, pack, where)
        return _samples(pack)


def _samples(pack: _Pack) -> list[Sample]:
    times = sorted(at for at in pack.by_time if at is not None)
    samples = [Sample(at, pack.by_time[at]) for at in times]
    if None in pack.by_time:
        samples.append(Sample(None, pack.by_time[None]))
    samples = samples or [Sample(None, {})]
    if pack.ignored:
        samples[0] = msgspec.structs.replace(samples[0], ignored=pack.ignored)
    return samples


def _check(record: dict[str, Any], where: str, pack: _Pack) -> None:
    """Refuse fields of a wrong type; turn numbers into floats; count what nobody reads."""
    for name, value in record.items():
        place = f"{where}.{name}"
        if name in _NUMBERS:
            if isinstance(value, bool) or not isinstance(value, int | float):
                _fail("E-TYPE", place, shorten(str(value)), "a number")
            try:
                record[name] = float(value)
            except OverflowError:
                _fail("E-NUM", place, shorten(str(value)), "a number that a double can hold")
        elif name in _TEXTS:
            if not isinstance(value, str):
                _fail("E-TYPE", place, shorten(str(value)), "text")
        elif name == "vb":
            if not isinstance(value, bool):
                _fail("E-TYPE", place, shorten(str(value)), "true or false")
        elif name.endswith("_"):
            _fail("E-FIELD", place, "a field that must be understood", "one of RFC 8428")
        elif name not in _KNOWN:
            pack.ignored += 1


def _version(record: Mapping[str, Any], known: float | None, where: str) -> float | None:
    version = record.get("bver")
    if version is None:
        return known
    place = f"{where}.bver"
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        _fail("E-TYPE", place, shorten(str(version)), "a whole number above zero")
    if version > _VERSION:
        _fail("E-FIELD", place, str(version), f"at most {_VERSION}")
    if known is not None and version != known:
        _fail("E-FIELD", place, str(version), f"{known:g} as before")
    return version


def _resolve(record: Mapping[str, Any], base: _Base, pack: _Pack, where: str) -> None:
    """Add what *record* says to *pack*; a record of base values alone says nothing."""
    given = [name for name in _VALUES if name in record]
    if len(given) > 1:
        _fail("E-FIELD", where, " and ".join(given), "one value")
    if not given and not any(name in _KNOWN and name not in _BASES for name in record):
        return
    total = None
    if "s" in record or base.sum is not None:
        total = record.get("s", 0.0) + (base.sum or 0.0)
    if not given and total is None and base.value is None:
        _fail("E-FIELD", where, "no value", "one of v, vs, vb, vd, or a sum")
    key = _key(record, base, where)
    at_us = _time_us(base.time_s + record.get("t", 0.0), where)
    if total is not None:
        pack.add(at_us, f"{key}.sum", total, where)
    if "vb" in record:
        pack.add(at_us, key, float(record["vb"]), where)
    elif "v" in record or (not given and base.value is not None):
        pack.add(at_us, key, record.get("v", 0.0) + (base.value or 0.0), where)
    elif given:
        pack.ignored += 1


def _key(record: Mapping[str, Any], base: _Base, where: str) -> str:
    name = base.name + record.get("n", "")
    if not _NAME.fullmatch(name):
        expected = "letters, digits and - : . / _, a letter or digit first"
        _fail("E-FIELD", f"{where}.n", shorten(name), expected)
    unit = record.get("u", base.unit)
    return f"{name}[{unit}]" if unit else name


def _time_us(time_s: float, where: str) -> int | None:
    if time_s == 0:
        return None
    if time_s < _RELATIVE_BELOW_S:
        _fail("E-RELATIVE", f"{where}.t", f"{time_s:g} s from now", "seconds since 1970, or 0")
    if not time_s <= _LAST_S:
        _fail("E-TIME", f"{where}.t", f"{time_s:g}", "seconds since 1970")
    return round(time_s * 1e6)


def _fail(code: str, where: str, got: str, expected: str) -> NoReturn:
    raise DecodeError(code, f"{where}: got {got}, expected {expected}")
