"""JSON of any layout, read by a mapping (`devices.mapping`): where the values are stands in a file.

A mapping is compiled once.  What it does not name is counted as ignored; what it names must be
there at least in part, and must be of the kind that it says.  Absent is no reading, null is a
sensor without one.  The work is bounded by the payload's size: paths visit a part of it at most
once for each of their nodes (`devices.json_path`), and depth, samples and readings have limits.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final, NoReturn

import msgspec

from devices.codecs.sample import MAX_READINGS, MAX_SAMPLES, Sample
from devices.codecs.strict_json import read, shorten
from devices.errors import DecodeError
from devices.ignore import ignored_by
from devices.json_path import ABSENT, JsonPath, PathError
from devices.mapping import NamedRule, PayloadMapping, Place, TimeRule, ValueRule
from devices.quality import Quality

MAX_DEPTH = 32
_FIELD_LEVELS = 4

_SENTINEL: Final = object()  # the device says that its sensor failed
_NO_NUMBER: Final = object()  # text that nobody explained
_LARGEST = 2**1023
_LAST_US = 253_402_300_799_999_999  # the end of the year 9999
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)\s*(.*?)\s*", re.DOTALL)
_MAX_TEXT = 100  # no number that a device writes is longer
_MAX_NAMES = 1_000  # remembered of a payload that brings its own

_decode = msgspec.json.Decoder().decode


@dataclass(slots=True)
class _Found:
    """What one element of the payload says; *where* is its place, empty for the payload."""

    where: str
    values: dict[str, float | None] = field(default_factory=dict)
    failed: dict[str, float | None] = field(default_factory=dict)
    ignored: int = 0

    def put(self, key: str, value: Any, path: str) -> None:
        """Add what a reader made of the value at *path*."""
        if key in self.values or key in self.failed:
            _fail("E-FIELD", self.where + path, f"{shorten(key)} a second time", "each key once")
        if value is _SENTINEL:
            self.failed[key] = None
        else:
            self.values[key] = value


class MappingCodec:
    """Decodes payloads by *mapping*; implements `devices.codecs.sample.Codec`."""

    def __init__(self, mapping: PayloadMapping) -> None:
        self._mapping = mapping
        # What is looked for in each element: no two of them have one key.
        self._values = [
            (rule.key, place.from_root, place.path.find, _reader(rule), place.text)
            for rule in mapping.values
            if (place := rule.place) is not None
        ]
        self._options = {name: (rule.key, _reader(rule)) for name, rule in mapping.options.items()}
        self._unwanted: dict[str, bool] = {}
        self._names_all = mapping.keys is not None
        self._ignores = ignored_by(mapping.ignore)
        self._known = _names(mapping)
        self._taken = _taken(mapping)
        self._time_us = None if mapping.time is None else _time_reader(mapping.time)

    def decode(self, payload: bytes) -> list[Sample]:
        """Return the samples in *payload*; raise `DecodeError` naming the first mistake in it."""
        document = read(_decode, payload)
        _check_depth(payload, document)
        mapping = self._mapping
        if mapping.when is not None:
            self._check_kind(document)
        if mapping.columns:
            return self._columns(document)
        if mapping.samples is None:
            return self._sample(document, document, "")
        elements = _find(mapping.samples, document, mapping.samples.text)
        if type(elements) is not list:
            _fail("E-SHAPE", mapping.samples.text, _name(elements), "a list of samples")
        if len(elements) > MAX_SAMPLES:
            _fail("E-COUNT", mapping.samples.text, f"{len(elements)} samples", f"{MAX_SAMPLES}")
        samples = [
            sample
            for index, element in enumerate(elements)
            for sample in self._sample(element, document, f"[{index}].")
        ]
        return _checked(samples)

    def _check_kind(self, document: Any) -> None:
        when = self._mapping.when
        if when is None:
            return
        found = _find(when, document, "when")
        if found is ABSENT or found is None or found is False or found in ("", [], {}):
            got = f"a message for which {when.text} does not hold"
            _fail("E-EVENT", "payload", got, f"those that mapping {self._mapping.name} is for")

    def _sample(self, element: Any, document: Any, where: str) -> list[Sample]:
        found = _Found(where)
        values = found.values
        try:
            path = ""
            for key, from_root, find, reader, path in self._values:
                raw = find(document if from_root else element)
                if raw is not ABSENT:
                    value = reader(raw, where, path)
                    if value is _SENTINEL:
                        found.failed[key] = None
                    else:
                        values[key] = value
        except PathError as error:
            _misfit(error, where + path)
        mapping = self._mapping
        if self._names_all:
            if type(element) is dict:
                found.ignored = sum(name not in self._known for name in element)
        else:
            if mapping.fields is not None:
                self._add_fields(mapping.fields, element, document, found)
            if mapping.named is not None:
                self._add_named(mapping.named, element, document, found)
        if not values and not found.failed and (self._names_all or not found.ignored):
            self._fail_empty(where, element)
        at_us = device = None
        if mapping.time is not None:
            at_us = self._at(element, document, where, alone=not where)
        if mapping.device is not None:
            device = self._device(element, document, where)
        return _samples(found, at_us, device)

    def _fail_empty(self, where: str, element: Any) -> NoReturn:
        got = "an object without" if type(element) is dict else f"{_name(element)}, not"
        wanted = ", ".join(path for *_, path in self._values[:5])
        more = f" or {len(self._values) - 5} more" if len(self._values) > 5 else ""
        expected = f"one of {wanted}{more}" if wanted else "readings"
        _fail("E-FIELD", where.rstrip(".") or "payload", f"{got} any mapped value", expected)

    def _at(self, element: Any, document: Any, where: str, *, alone: bool) -> int | None:
        rule = self._mapping.time
        if rule is None or self._time_us is None:
            return None
        raw = _find(rule.place.path, document if rule.place.from_root else element, where + "time")
        return self._time_us(raw, where + rule.place.text, alone)

    def _device(self, element: Any, document: Any, where: str) -> str | None:
        place = self._mapping.device
        if place is None:
            return None
        raw = _find(place.path, document if place.from_root else element, where + place.text)
        if isinstance(raw, bool) or not isinstance(raw, str | int) or raw == "":
            _fail("E-TYPE", where + place.text, _name(raw), "the name of a device")
        return str(raw)

    # An object whose numbers are readings under their own names.

    def _add_fields(self, place: Place, element: Any, document: Any, found: _Found) -> None:
        where = found.where + place.text
        node = _find(place.path, document if place.from_root else element, where)
        if type(node) is not dict:
            _fail("E-SHAPE", where, _name(node), "an object of values")
        self._walk(node, "", _FIELD_LEVELS, found)

    def _walk(self, node: Any, prefix: str, levels: int, found: _Found) -> None:
        pairs = node.items() if type(node) is dict else enumerate(node, start=1)
        for name, raw in pairs:
            path = f"{prefix}{name}"
            if path in self._taken:
                continue
            if type(raw) in (dict, list) and path not in self._options:
                if levels > 1 and not self._ignores(path):
                    self._walk(raw, f"{path}.", levels - 1, found)
                else:
                    found.ignored += 1
                continue
            self._add(path, raw, path, found)

    # Values beside their names.

    def _add_named(self, rule: NamedRule, element: Any, document: Any, found: _Found) -> None:
        where = found.where + rule.place.text
        node = _find(rule.place.path, document if rule.place.from_root else element, where)
        head = f"{rule.place.text}."
        find = rule.value.find
        for name, item in _items(rule, node, where):
            try:
                raw = find(item)
            except PathError as error:
                _misfit(error, where)
            if raw is ABSENT:
                found.ignored += 1
            else:
                self._add(name, raw, head + name, found)

    def _add(self, name: str, raw: Any, path: str, found: _Found) -> None:
        """Add the value *raw*, which its payload calls *name*, unless nobody wants it."""
        option = self._options.get(name)
        if option is None:
            value = _NO_NUMBER if self._is_unwanted(name) else _plain(raw, found.where, path)
            key = name
        else:
            key, reader = option
            value = reader(raw, found.where, path)
        if value is _NO_NUMBER:
            found.ignored += 1
        else:
            found.put(key, value, path)

    def _is_unwanted(self, name: str) -> bool:
        unwanted = self._unwanted.get(name)
        if unwanted is None:
            unwanted = self._ignores(name)
            if len(self._unwanted) < _MAX_NAMES and len(name) <= _MAX_TEXT:
                self._unwanted[name] = unwanted
        return unwanted

    # Columns: the i-th of each list make a sample.

    def _columns(self, document: Any) -> list[Sample]:
        mapping = self._mapping
        columns: list[tuple[str, str, Any, list[Any]]] = []
        length: tuple[int, str] | None = None
        times: list[Any] | None = None
        if mapping.time is not None:
            text = mapping.time.place.text
            times = _column(_find(mapping.time.place.path, document, text), text)
            length = (len(times), text)
        for rule, (key, _, _, reader, path) in zip(mapping.values, self._values, strict=True):
            raw = ABSENT if rule.place is None else _find(rule.place.path, document, path)
            if raw is ABSENT or raw is None:
                continue
            column = _column(raw, path)
            length = length or (len(column), path)
            if len(column) != length[0]:
                got = f"{len(column)} values"
                _fail("E-SHAPE", path, got, f"{length[0]}, as many as in {length[1]}")
            columns.append((key, path, reader, column))
        if not columns or length is None:
            self._fail_empty("", document)
        samples: list[Sample] = []
        device = self._device(document, document, "")
        for index in range(length[0]):
            found = _Found(f"[{index}] ")
            for key, text, reader, column in columns:
                found.put(key, reader(column[index], found.where, text), text)
            at_us = None
            if times is not None and mapping.time is not None and self._time_us is not None:
                place_text = f"[{index}] {mapping.time.place.text}"
                at_us = self._time_us(times[index], place_text, length[0] == 1)
            samples += _samples(found, at_us, device)
        samples = _checked(samples)
        if type(document) is dict and (ignored := len(document.keys() - self._known)):
            samples[0] = msgspec.structs.replace(samples[0], ignored=ignored)
        return samples


def _samples(found: _Found, at_us: int | None, device: str | None) -> list[Sample]:
    if not found.failed:
        return [Sample(at_us, found.values, device, ignored=found.ignored)]
    failed = Sample(at_us, found.failed, device, int(Quality.SENTINEL))
    if not found.values:
        return [msgspec.structs.replace(failed, ignored=found.ignored)]
    return [Sample(at_us, found.values, device, ignored=found.ignored), failed]


def _checked(samples: list[Sample]) -> list[Sample]:
    """Return the samples of a list, at least one; the first carries what all of them ignored."""
    if not samples:
        return [Sample(None, {})]
    if len(samples) > 2 * MAX_SAMPLES:
        _fail("E-COUNT", "payload", f"{len(samples)} samples", f"at most {MAX_SAMPLES}")
    readings = sum(len(sample.values) for sample in samples)
    if readings > MAX_READINGS:
        _fail("E-COUNT", "payload", f"{readings} readings", f"at most {MAX_READINGS}")
    seen: set[tuple[str | None, str]] = set()
    for sample in samples:
        if sample.observed_at_us is None:
            for key in sample.values:
                if (sample.device, key) in seen:
                    got = f"{shorten(key)} more than once without a time"
                    _fail("E-FIELD", "payload", got, "a time in each sample")
                seen.add((sample.device, key))
    ignored = sum(sample.ignored for sample in samples)
    if ignored == samples[0].ignored:
        return samples
    return [
        msgspec.structs.replace(sample, ignored=0 if index else ignored)
        for index, sample in enumerate(samples)
    ]


def _column(raw: Any, text: str) -> list[Any]:
    if type(raw) is not list:
        _fail("E-SHAPE", text, _name(raw), "a list of values")
    if len(raw) > MAX_SAMPLES:
        _fail("E-COUNT", text, f"{len(raw)} values", f"at most {MAX_SAMPLES}")
    return raw


def _items(rule: NamedRule, node: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Yield (name, item) for each value that stands beside its name."""
    if rule.name is None:
        if type(node) is not dict:
            _fail("E-SHAPE", where, _name(node), "an object, its names being those of the values")
        yield from node.items()
        return
    if type(node) is dict:
        node = [node]
    if type(node) is not list:
        _fail("E-SHAPE", where, _name(node), "a list of names and values")
    for index, item in enumerate(node):
        name = _find(rule.name, item, where)
        if type(name) is str and name:
            yield name, item
        elif type(name) is int:
            yield str(name), item
        else:
            place = f"{where}[{index}].{rule.name.text}"
            _fail("E-FIELD", place, _name(name), "the name of a value")


# Numbers.


def _reader(rule: ValueRule) -> Callable[[Any, str, str], Any]:
    """Return what makes a number of what stands at the place of *rule*.

    The result is a number, None, or `_SENTINEL`; anything else is a `DecodeError`.
    """
    sentinels, texts, suffix = rule.sentinels, rule.texts, _folded(rule.suffix)
    scale, offset, per_unit = rule.scale, rule.offset, rule.per_unit
    is_plain = scale == 1.0 and offset == 0.0

    def scaled(number: float, where: str, path: str) -> float:
        if not is_plain:
            number = (number / per_unit if per_unit else number * scale) + offset
        return number if math.isfinite(number) else _too_large(where + path)

    def read_other(raw: Any, where: str, path: str) -> Any:
        if raw is None:
            return None
        if isinstance(raw, bool):
            return texts.get("true" if raw else "false", float(raw))
        if isinstance(raw, str):
            if raw in sentinels:
                return _SENTINEL
            if raw in texts:
                return texts[raw]
            number = _number(raw, suffix)
            if number in sentinels:
                return _SENTINEL
            if number is not None:
                return scaled(number, where, path)
        words = f", or one of {', '.join(texts)}" if texts else ""
        unit = f" with or without {rule.suffix}" if suffix and isinstance(raw, str) else ""
        _fail("E-TYPE", where + path, _name(raw), f"a number{unit}{words}")

    def read_value(raw: Any, where: str, path: str) -> Any:
        if type(raw) is float or (type(raw) is int and -_LARGEST < raw < _LARGEST):
            if sentinels and raw in sentinels:
                return _SENTINEL
            return raw if is_plain else scaled(raw, where, path)
        if type(raw) is int:
            _too_large(where + path)
        return read_other(raw, where, path)

    return read_value


def _plain(raw: Any, where: str, path: str) -> Any:
    """Return the number that *raw* is without being told how, None, or `_NO_NUMBER`."""
    if type(raw) is float or (type(raw) is int and -_LARGEST < raw < _LARGEST):
        return raw
    if raw is None:
        return None
    if isinstance(raw, bool):
        return float(raw)
    if isinstance(raw, str):
        number = _number(raw, "")
        return _NO_NUMBER if number is None else number
    return _too_large(where + path) if isinstance(raw, int) else _NO_NUMBER


def _number(text: str, suffix: str) -> float | None:
    """Return the number that *text* is, with *suffix* or nothing behind it; None if it is none."""
    match = _NUMBER.fullmatch(text) if len(text) <= _MAX_TEXT and text.isprintable() else None
    if match is None or not match[1].isascii():
        return None
    if match[2] and _folded(match[2]) != suffix:
        return None
    number = float(match[1])
    return number if math.isfinite(number) else None


def _folded(text: str) -> str:
    """Return *text* with its signs in one spelling: ℃ and °C are the same, and so are µ and μ."""
    return unicodedata.normalize("NFKC", text).replace(" ", "")


def _too_large(where: str) -> NoReturn:
    _fail("E-NUM", where, "one too large", "a number that a double can hold")


# Times.


def _time_reader(rule: TimeRule) -> Callable[[Any, str, bool], int | None]:
    """Return what makes microseconds of a time as *rule* says; None where the clock is not set.

    A local time that its zone has twice or not at all is no time for a sample that comes *alone*,
    to which the time of receipt is then given, and a mistake in a list.
    """
    unset = rule.unset
    per_second = _PER_SECOND.get(rule.format)

    def read_time(raw: Any, where: str, alone: bool) -> int | None:
        if raw is ABSENT or raw is None or (type(raw) in (str, int, float) and raw in unset):
            return None
        if per_second is not None:
            return _since_1970(raw, per_second, rule.format, where)
        moment = _moment(raw, rule, where)
        if moment.tzinfo is None and rule.zone is not None:
            local = _placed(moment, rule.zone)
            if local is None:
                if alone:
                    return None
                got = f"{moment}, which {rule.zone} has twice or not at all"
                _fail("E-TIME", where, got, "a time that is clear")
            moment = local
        return (moment - _EPOCH) // _MICROSECOND

    return read_time


def _since_1970(raw: Any, per_second: int, unit: str, where: str) -> int:
    expected = f"{_UNITS[unit]} since 1970"
    number = _number(raw, "") if isinstance(raw, str) else raw
    if isinstance(number, bool) or not isinstance(number, int | float):
        _fail("E-TIME", where, _name(raw), expected)
    if isinstance(raw, str) and raw.strip().isascii() and raw.strip().isdecimal():
        number = int(raw)  # a double has no room for nanoseconds
    if isinstance(number, int):
        at_us = number * 1_000_000 // per_second
    else:
        at_us = round(number * 1_000_000 / per_second)
    if not 0 <= at_us <= _LAST_US:
        _fail("E-TIME", where, shorten(str(raw)), f"{expected}, before the year 10000")
    return at_us


def _moment(raw: Any, rule: TimeRule, where: str) -> datetime:
    if not isinstance(raw, str) or len(raw) > _MAX_TEXT:
        _fail("E-TIME", where, _name(raw), _expected(rule))
    try:
        if "%" in rule.format:
            return datetime.strptime(raw, rule.format)
        moment = datetime.fromisoformat(raw)
        if raw[10:11] not in ("T", "t", " ") or (rule.format == "iso" and moment.tzinfo is None):
            raise ValueError(raw)
    except (ValueError, OverflowError) as error:
        text = f"{where}: got {shorten(raw)}, expected {_expected(rule)}"
        raise DecodeError("E-TIME", text) from error
    return moment


def _expected(rule: TimeRule) -> str:
    if rule.format == "iso":
        return "a date and a time with a zone, such as 2026-01-01T08:00:00+08:00"
    if rule.format == "local":
        return "a date and a time such as 2026-01-01T08:00:00"
    return f"a time such as {datetime(2026, 1, 31, 8, 0).strftime(rule.format)}"


def _placed(moment: datetime, zone: tzinfo) -> datetime | None:
    """Return *moment* in *zone*, None where the zone has it twice or not at all."""
    local = moment.replace(tzinfo=zone)
    return local if local.utcoffset() == local.replace(fold=1).utcoffset() else None


# The whole.


def _names(mapping: PayloadMapping) -> frozenset[str]:
    """Return every name that some path of *mapping* reads: what else stands there is ignored."""
    places = [rule.place for rule in mapping.values]
    places += [mapping.device, mapping.fields]
    places += [mapping.time.place] if mapping.time else []
    places += [mapping.named.place] if mapping.named else []
    paths = [place.path for place in places if place is not None]
    paths += [path for path in (mapping.when, mapping.samples) if path is not None]
    return frozenset(name for path in paths for name in path.names)


def _taken(mapping: PayloadMapping) -> frozenset[str]:
    """Return the fields that are no readings because time, device or a value of its own is there.

    They are named as seen from the object of `fields`.
    """
    if mapping.fields is None or mapping.fields.path.steps is None:
        return frozenset()
    head = mapping.fields.path.steps
    places = [mapping.device, *(rule.place for rule in mapping.values)]
    places += [mapping.time.place] if mapping.time else []
    found: set[str] = set()
    for place in places:
        steps = place.path.steps if place is not None else None
        if steps and steps[: len(head)] == head:
            found.add(".".join(map(str, steps[len(head) :])))
    return frozenset(found)


def _find(path: JsonPath, node: Any, where: str) -> Any:
    try:
        return path.find(node)
    except PathError as error:
        _misfit(error, where)


def _misfit(error: PathError, where: str) -> NoReturn:
    text = f"{where}: got what the path does not fit ({error}), expected what it was written for"
    raise DecodeError("E-PATH", text) from error


def _check_depth(payload: bytes, document: Any) -> None:
    """Refuse what nests deeper than `MAX_DEPTH`; most payloads have fewer brackets than that."""
    if payload.count(b"{") + payload.count(b"[") <= MAX_DEPTH:
        return
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            if type(node) in (dict, list)
            for child in (node.values() if type(node) is dict else node)
        ]
        if not level:
            return
    if any(type(node) in (dict, list) for node in level):
        _fail("E-DEPTH", "payload", f"more than {MAX_DEPTH} levels", "fewer")


def _fail(code: str, where: str, got: str, expected: str) -> NoReturn:
    raise DecodeError(code, f"{where}: got {got}, expected {expected}")


def _name(value: Any) -> str:
    """Return what *value* is, in the words of JSON, with the value where it is short."""
    if value is ABSENT:
        return "nothing"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"text {shorten(value)}"
    if isinstance(value, int | float):
        return f"number {shorten(str(value))}"
    return "an object" if isinstance(value, dict) else "a list"
