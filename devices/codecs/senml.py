"""SenML, RFC 8428, in JSON and in CBOR: records that inherit name, time, unit, value and sum.

    [{"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076e+09,"n":"voltage","u":"V","v":120.1},
     {"n":"current","t":-5,"u":"A","v":1.2}]

A reading's key is its resolved name and, in brackets, its unit: ``urn:…6:voltage[V]``.  A pack may
use one name with several units, and a device that changes its unit is then an unknown key and not a
wrong value.  A sum's key ends in ``.sum``.  Truth values are 1 and 0; text and data are no readings
and are counted as ignored.

Times below 2^28 are relative to now, which is the time of receipt: the sample says how far from it
(`Sample.after_receipt_us`), and whoever knows that time adds it up.

Versions are bit maps of features (RFC 9100): 10 is that of RFC 8428, 26 adds the secondary units of
RFC 8798, which are units like the others here.  A pack that needs any other feature is refused.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NoReturn

import cbor2
import msgspec
from msgspec import UNSET, UnsetType

from devices.codecs.sample import MAX_READINGS, Sample
from devices.codecs.strict_json import read, shorten
from devices.errors import DecodeError

_VERSION = 10
_VERSIONS = (*range(1, _VERSION + 1), 26)
_RELATIVE_BELOW_S = 2**28
_LAST_S = 253_402_300_799  # the end of the year 9999
_is_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-:./_]*").fullmatch
_TEXTS = ("bn", "bu", "n", "u", "vs", "vd")
_NUMBERS = ("bt", "bv", "bs", "v", "s", "t", "ut")


class _Record(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    bn: str | UnsetType = UNSET
    bt: float | UnsetType = UNSET
    bu: str | UnsetType = UNSET
    bv: float | UnsetType = UNSET
    bs: float | UnsetType = UNSET
    bver: int | UnsetType = UNSET
    n: str | UnsetType = UNSET
    u: str | UnsetType = UNSET
    v: float | UnsetType = UNSET
    vs: str | UnsetType = UNSET
    vb: bool | UnsetType = UNSET
    vd: str | UnsetType = UNSET
    s: float | UnsetType = UNSET
    t: float | UnsetType = UNSET
    ut: float | UnsetType = UNSET


_LABELS = {name: name for name in _Record.__struct_fields__}
_CBOR_LABELS = {
    -1: "bver",
    -2: "bn",
    -3: "bt",
    -4: "bu",
    -5: "bv",
    -6: "bs",
    0: "n",
    1: "u",
    2: "v",
    3: "vs",
    4: "vb",
    5: "s",
    6: "t",
    7: "ut",
    8: "vd",
}

_read_records = msgspec.json.Decoder(list[_Record]).decode
_read_any = msgspec.json.Decoder(list[dict[str, Any]]).decode


@dataclass(slots=True)
class _Base:
    """The base values in force."""

    name: str = ""
    time_s: float = 0.0
    unit: str = ""
    value: float | UnsetType = UNSET
    sum: float | UnsetType = UNSET
    version: int | UnsetType = UNSET


@dataclass(slots=True)
class _Pack:
    """Readings by (whether their time is relative to now, microseconds)."""

    by_time: dict[tuple[bool, int], dict[str, float | None]] = field(default_factory=dict)
    ignored: int = 0
    readings: int = 0

    def add(self, at: tuple[bool, int], key: str, value: float, where: int) -> None:
        values = self.by_time.get(at)
        if values is None:
            values = self.by_time[at] = {}
        elif key in values:
            got = f"{shorten(key)} a second time at one time"
            _fail("E-FIELD", f"[{where}]", got, "it once")
        if not math.isfinite(value):
            _fail("E-NUM", f"[{where}]", f"{value}", "a finite number")
        self.readings += 1
        if self.readings > MAX_READINGS:
            _fail("E-COUNT", "payload", f"more than {MAX_READINGS} readings", "fewer")
        values[key] = value


class SenmlCodec:
    """Decodes SenML in JSON; implements `devices.codecs.sample.Codec`."""

    def decode(self, payload: bytes) -> list[Sample]:
        """Return one sample a time, oldest first, those relative to now last."""
        try:
            return _resolved(_read_records(payload), 0)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # A field that is not RFC 8428's, or a mistake, which the slower reading names.
            records, ignored = _checked(read(_read_any, payload), _LABELS)
            return _resolved(records, ignored)


class SenmlCborCodec:
    """Decodes SenML in CBOR; implements `devices.codecs.sample.Codec`."""

    def decode(self, payload: bytes) -> list[Sample]:
        """Return one sample a time, oldest first, those relative to now last."""
        maps = _read_cbor(payload)
        try:
            records, ignored = msgspec.convert(_named(maps), list[_Record]), 0
        except (KeyError, msgspec.ValidationError):
            records, ignored = _checked(maps, _CBOR_LABELS)
        return _resolved(records, ignored)


# CBOR.  Tags turn what follows into something else (dates, regular expressions, references that go
# in circles); but for big numbers and decimal fractions none has a place in SenML.

_SELF_DESCRIBED = b"\xd9\xd9\xf7"
_MAX_DEPTH = 8


def _refuse_tag(*_: object) -> NoReturn:
    raise ValueError("a tag that has no place in SenML")


_TAGS = {
    tag: _refuse_tag
    for tag in (0, 1, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000, 55799)
}


def _read_cbor(payload: bytes) -> list[dict[Any, Any]]:
    if not payload:
        raise DecodeError("E-EMPTY", "payload is empty (0 bytes)")
    stream = io.BytesIO(payload.removeprefix(_SELF_DESCRIBED))
    try:
        found = cbor2.CBORDecoder(
            stream, tag_hook=_refuse_tag, semantic_decoders=_TAGS, max_depth=_MAX_DEPTH
        ).decode()
    except cbor2.CBORDecodeError as error:
        reason = str(error.__cause__ or error)
        raise DecodeError("E-CBOR", f"payload: got {shorten(reason)}, expected CBOR") from error
    if left := len(stream.read()):
        _fail("E-CBOR", "payload", f"{left} bytes behind the pack", "the pack alone")
    if type(found) is not list:
        _fail("E-TYPE", "payload", _kind(found), "an array of records")
    for index, record in enumerate(found):
        if type(record) is not dict:
            _fail("E-TYPE", f"[{index}]", _kind(record), "a map")
        for label, value in record.items():
            if isinstance(value, Decimal):
                record[label] = float(value)
            elif isinstance(value, bytes) and label == 8:
                record[label] = ""
    return found


def _named(maps: list[dict[Any, Any]]) -> list[dict[str, Any]]:
    """Return *maps* under the names of RFC 8428; KeyError for any other label.

    True is 1 to a dict, and 1.0 as well; neither is a label.
    """
    if not all(type(label) is int for one in maps for label in one):
        raise KeyError
    return [{_CBOR_LABELS[label]: one[label] for label in one} for one in maps]


# The slower reading, which names what is wrong and counts what nobody reads.


def _checked(records: list[dict[Any, Any]], labels: Mapping[Any, str]) -> tuple[list[_Record], int]:
    """Return *records* with their fields under the names of RFC 8428, and how many are ignored."""
    ignored = 0
    found: list[_Record] = []
    for index, record in enumerate(records):
        fields: dict[str, Any] = {}
        for label, value in record.items():
            name = labels.get(label) if type(label) in (int, str) else None
            place = f"[{index}].{name or shorten(str(label))}"
            if name is not None:
                fields[name] = _field(name, value, place)
            elif isinstance(label, str) and label.endswith("_"):
                _fail("E-FIELD", place, "a field that must be understood", "one of RFC 8428")
            elif label in _LABELS:
                _fail("E-FIELD", place, "a label in words", "its number, as CBOR has it")
            else:
                ignored += 1
        found.append(_Record(**fields))
    return found, ignored


def _field(name: str, value: Any, place: str) -> Any:
    if name in _NUMBERS:
        if isinstance(value, bool) or not isinstance(value, int | float):
            _fail("E-TYPE", place, _kind(value), "a number")
        try:
            return float(value)
        except OverflowError:
            _fail("E-NUM", place, "one too large", "a number that a double can hold")
    if name in _TEXTS and not isinstance(value, str):
        _fail("E-TYPE", place, _kind(value), "text")
    if name == "vb" and not isinstance(value, bool):
        _fail("E-TYPE", place, _kind(value), "true or false")
    if name == "bver" and (isinstance(value, bool) or not isinstance(value, int)):
        _fail("E-TYPE", place, _kind(value), "a whole number above zero")
    return value


def _kind(value: Any) -> str:
    return shorten(str(value)) if isinstance(value, str | int | float) else type(value).__name__


# Resolution (RFC 8428, section 4.6).


def _resolved(records: list[_Record], ignored: int) -> list[Sample]:
    if not records:
        _fail("E-SHAPE", "payload", "an empty array", "at least one record")
    base, pack = _Base(), _Pack(ignored=ignored)
    for index, record in enumerate(records):
        _inherit(record, base, index)
        if record.v is UNSET or base.value is not UNSET or not _is_plain(record, base):
            _resolve(record, base, pack, index)
            continue
        key = _key(record, base, index)
        at = _at(base.time_s if record.t is UNSET else base.time_s + record.t, index)
        pack.add(at, key, record.v, index)
    samples = [
        Sample(None, pack.by_time[at], after_receipt_us=at[1])
        if at[0]
        else Sample(at[1], pack.by_time[at])
        for at in sorted(pack.by_time)
    ]
    samples = samples or [Sample(None, {})]
    if pack.ignored:
        samples[0] = msgspec.structs.replace(samples[0], ignored=pack.ignored)
    return samples


def _inherit(record: _Record, base: _Base, index: int) -> None:
    """Take up the base values of *record*; they hold until another record has others."""
    if record.bn is not UNSET:
        base.name = record.bn
    if record.bt is not UNSET:
        base.time_s = record.bt
    if record.bu is not UNSET:
        base.unit = record.bu
    if record.bv is not UNSET:
        base.value = record.bv
    if record.bs is not UNSET:
        base.sum = record.bs
    version = record.bver
    if version is UNSET:
        return
    place = f"[{index}].bver"
    if version < 1:
        _fail("E-TYPE", place, str(version), "a whole number above zero")
    if version not in _VERSIONS:
        _fail("E-FIELD", place, shorten(str(version)), f"at most {_VERSION}, or 26")
    if base.version is not UNSET and version != base.version:
        _fail("E-FIELD", place, str(version), f"{base.version} as before")
    base.version = version


def _resolve(record: _Record, base: _Base, pack: _Pack, index: int) -> None:
    """Add what *record* says to *pack*; a record of base values alone says nothing."""
    v, vb = record.v, record.vb
    words = (record.vs is not UNSET) + (record.vd is not UNSET)
    given = (v is not UNSET) + (vb is not UNSET) + words
    if given > 1:
        names = [name for name in ("v", "vs", "vb", "vd") if getattr(record, name) is not UNSET]
        _fail("E-FIELD", f"[{index}]", " and ".join(names), "one value")
    total: float | UnsetType = UNSET
    if record.s is not UNSET:
        total = record.s + (0.0 if base.sum is UNSET else base.sum)
    elif base.sum is not UNSET:
        total = base.sum
    if not given and total is UNSET and base.value is UNSET:
        if _is_base_alone(record):
            return
        _fail("E-FIELD", f"[{index}]", "no value", "one of v, vs, vb, vd, or a sum")
    if not given and _is_base_alone(record):
        return
    key = _key(record, base, index)
    at = _at(base.time_s if record.t is UNSET else base.time_s + record.t, index)
    if total is not UNSET:
        pack.add(at, f"{key}.sum", total, index)
    if vb is not UNSET:
        pack.add(at, key, float(vb), index)
    elif v is not UNSET:
        pack.add(at, key, v if base.value is UNSET else v + base.value, index)
    elif words:
        pack.ignored += 1
    elif base.value is not UNSET:
        pack.add(at, key, base.value, index)


def _is_plain(record: _Record, base: _Base) -> bool:
    """Whether a record with a number has nothing beside it."""
    return (
        record.vb is UNSET
        and record.s is UNSET
        and record.vs is UNSET
        and record.vd is UNSET
        and base.sum is UNSET
    )


def _key(record: _Record, base: _Base, index: int) -> str:
    name = base.name if record.n is UNSET else base.name + record.n
    if not _is_name(name):
        expected = "letters, digits and - : . / _, a letter or digit first"
        _fail("E-FIELD", f"[{index}].n", shorten(name), expected)
    unit = base.unit if record.u is UNSET else record.u
    return f"{name}[{unit}]" if unit else name


def _is_base_alone(record: _Record) -> bool:
    rest = (record.n, record.u, record.s, record.t, record.ut)
    return all(value is UNSET for value in rest)


def _at(time_s: float, index: int) -> tuple[bool, int]:
    """Return whether *time_s* is relative to now, and it in microseconds."""
    if -_RELATIVE_BELOW_S < time_s < _RELATIVE_BELOW_S:
        return True, round(time_s * 1e6)
    if not _RELATIVE_BELOW_S <= time_s <= _LAST_S:
        _fail("E-TIME", f"[{index}].t", f"{time_s:g}", "seconds since 1970, or from now")
    return False, round(time_s * 1e6)


def _fail(code: str, where: str, got: str, expected: str) -> NoReturn:
    raise DecodeError(code, f"{where}: got {got}, expected {expected}")
