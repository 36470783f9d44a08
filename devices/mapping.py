"""A mapping: where the values stand in JSON that somebody else made up, as one YAML file.

`read_mapping` is pure: text in, `PayloadMapping` out, or a `DocumentError` naming every mistake at
once.  The codec that reads payloads by it is `devices.codecs.mapped`.

    document ── samples? ──▶ elements ── values | fields | named ──▶ key → number
                   └── columns: every path gives a list, the i-th of each make one sample
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from functools import cache
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field

from devices.document import Document, Path, load, nearest, validate_part
from devices.errors import DocumentError, Mistake
from devices.json_path import JsonPath, PathError, parse_path
from devices.profile import Entry, Word
from devices.topic import VALUE

PREFIX = "mapping/"  # before the name of the mapping, where a site file names a device's payload
ROOT = "$."  # before a path that starts at the payload and not at the element of `samples`

TIME_FORMATS = ("s", "ms", "us", "ns", "iso", "local")
_MOST_SCALE = 1e12
_ZONED = re.compile(r"%(?:%|z)")


class TimeEntry(Entry):
    """Where the time stands and how it is written.

    *format* is ``s``, ``ms``, ``us``, ``ns`` since 1970, ``iso`` with a zone, ``local`` (ISO 8601
    without one), or a pattern such as ``%d.%m.%Y %H:%M:%S``.  *unset* are values of a clock that
    was never set.
    """

    path: str
    format: str
    zone: str | None = None
    unset: list[str | float] = Field(default_factory=list)


class ValueEntry(Entry):
    """One value: its *path*, or its *name* among `fields` or `named`, and how it is written.

    *suffix* is what stands behind a number that is sent as text, if it is not the *unit*.
    """

    path: str | None = None
    name: str | None = None
    key: str | None = Field(default=None, min_length=1, max_length=200)
    unit: str | None = None
    suffix: str | None = None
    scale: float = 1.0
    offset: float = 0.0
    sentinels: list[str | float] = Field(default_factory=list)
    texts: dict[str, float | None] = Field(default_factory=dict)


class NamedEntry(Entry):
    """Values that stand beside their names: the list, and in each element the name and the value.

    Without *name*, *path* is an object and its names are those of the values.
    """

    path: str
    name: str | None = None
    value: str


class CaseEntry(Entry):
    """A payload and what it must become; *payload* as text, or as YAML that is the same as JSON."""

    name: str = Field(min_length=1)
    payload: Any
    readings: dict[str, float | None] | None = None
    at: str | None = None
    device: str | None = None
    samples: list[Any] = Field(default_factory=list)
    error: str | None = None


class CaseSampleEntry(Entry):
    """One of several samples of a case."""

    readings: dict[str, float | None]
    at: str | None = None
    device: str | None = None


class MappingEntry(Entry):
    """The whole file; its parts are validated each at its own place."""

    mapping: Word
    note: str = ""
    when: str | None = None
    device: str | None = None
    samples: str | None = None
    columns: bool = False
    time: Any = None
    values: list[Any] = Field(default_factory=list)
    fields: str | None = None
    named: Any = None
    ignore: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(default_factory=list)
    cases: list[Any] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Place:
    """A path, and whether it starts at the payload rather than at the element."""

    path: JsonPath
    from_root: bool = False

    @property
    def text(self) -> str:
        """The path as it was written."""
        return f"{ROOT}{self.path.text}" if self.from_root else self.path.text


@dataclass(frozen=True, slots=True)
class TimeRule:
    """Where the time stands; *zone* is None where the text itself names one."""

    place: Place
    format: str
    zone: tzinfo | None = None
    unset: frozenset[str | float] = frozenset()


@dataclass(frozen=True, slots=True)
class ValueRule:
    """How one value is written: ``number * scale + offset`` in *unit*; *texts* are words for some.

    *per_unit* is how many steps make one unit where that is a whole number (``scale: 0.1``), and
    then divides instead: 3 / 10 is 0.3, 3 * 0.1 is not.
    """

    key: str
    place: Place | None = None
    name: str = ""
    unit: str = ""
    suffix: str = ""
    scale: float = 1.0
    offset: float = 0.0
    per_unit: float = 0.0
    sentinels: frozenset[str | float] = frozenset()
    texts: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NamedRule:
    """Values beside their names; *name* is None where they are the names of an object."""

    place: Place
    name: JsonPath | None
    value: JsonPath


@dataclass(frozen=True, slots=True)
class CaseSample:
    """What one sample of a case must be; *at* is None where it has no time."""

    readings: Mapping[str, float | None]
    at: datetime | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True)
class MappingCase:
    """A payload, and the samples or the error code that it must give; *line* in its file."""

    name: str
    line: int
    payload: str
    samples: tuple[CaseSample, ...]
    error: str | None


@dataclass(frozen=True, slots=True)
class PayloadMapping:
    """A checked mapping.  *values* have a place each; *options* are by name of a field or item."""

    name: str
    file: str
    when: JsonPath | None = None
    device: Place | None = None
    samples: JsonPath | None = None
    columns: bool = False
    time: TimeRule | None = None
    values: tuple[ValueRule, ...] = ()
    options: Mapping[str, ValueRule] = field(default_factory=dict)
    fields: Place | None = None
    named: NamedRule | None = None
    ignore: tuple[str, ...] = ()
    cases: tuple[MappingCase, ...] = ()

    @property
    def payload(self) -> str:
        """What a site file calls it."""
        return PREFIX + self.name

    @property
    def units(self) -> dict[str, str]:
        """The units that the mapping knows, by key."""
        rules = (*self.values, *self.options.values())
        return {rule.key: rule.unit for rule in rules if rule.unit}

    @property
    def keys(self) -> tuple[str, ...] | None:
        """All keys that it can give, in order; None where the payload brings its own."""
        if self.fields is not None or self.named is not None:
            return None
        return tuple(rule.key for rule in self.values)


def read_mapping(text: str, file: str) -> PayloadMapping:
    """Check *text* and return the mapping in it; raise `DocumentError` with every mistake."""
    document = load(text, file)
    mistakes: list[Mistake] = []
    mapping = read_mapping_part(document, (), mistakes)
    if mistakes or mapping is None:
        raise DocumentError(mistakes)
    return mapping


def read_mappings(
    document: Document, count: int, mistakes: list[Mistake]
) -> dict[str, PayloadMapping | None]:
    """Return the *count* entries of ``mappings`` by payload name, None for one that is useless.

    Adds every mistake to *mistakes*.
    """
    found: dict[str, PayloadMapping | None] = {}
    for index in range(count):
        path: Path = ("mappings", index)
        mapping = read_mapping_part(document, path, mistakes)
        data = document.at(path)
        name = data.get("mapping") if isinstance(data, dict) else None
        if f"{PREFIX}{name}" in found:
            expected = "a name that no other mapping has"
            mistakes.append(document.mistake((*path, "mapping"), name, expected))
        found.setdefault(f"{PREFIX}{name}", mapping)
    return found


def read_mapping_part(
    document: Document, path: Path, mistakes: list[Mistake]
) -> PayloadMapping | None:
    """Return the mapping at *path*, adding every mistake to *mistakes*; None if it is useless."""
    entry = validate_part(document, path, MappingEntry, mistakes)
    return None if entry is None else _Reader(document, path, mistakes).read(entry)


def unit_of(
    mapping: PayloadMapping | None,
    key: str,
    unit: str | None,
    wrong: Callable[[str, object, str, str], None],
) -> str | None:
    """Return the unit of a series with *key* whose own entry says *unit*, or says nothing of it.

    Tells ``wrong(name in the entry, got, expected, hint)`` where the mapping never gives such a
    key, or gives it in another unit.  A topic that names values adds levels to the mapping's keys.
    """
    if mapping is None:
        return unit
    if mapping.keys is not None and not any(_has(key, one) for one in mapping.keys):
        expected = f"a key of mapping {mapping.name}: " + ", ".join(mapping.keys)
        wrong("key", key, expected, nearest(key, mapping.keys))
    known = next((known for one, known in mapping.units.items() if _has(key, one)), None)
    if unit is not None and known is not None and unit != known:
        wrong("unit", unit, f"{known} as mapping {mapping.name} says, or nothing", "")
    return unit or known


def _has(key: str, mapped: str) -> bool:
    return f".{mapped}." in f".{key}." or mapped == VALUE


@cache
def _zones() -> set[str]:
    """Return the names of all time zones; looking for them takes a tenth of a second."""
    return available_timezones()


class _Reader:
    """Turns one entry into a mapping, collecting every mistake on the way."""

    def __init__(self, document: Document, path: Path, mistakes: list[Mistake]) -> None:
        self._document = document
        self._path = path
        self._mistakes = mistakes

    def read(self, entry: MappingEntry) -> PayloadMapping | None:
        before = len(self._mistakes)
        if entry.columns and entry.samples is not None:
            self._wrong(("columns",), True, "samples or columns, not both")
        if not entry.values and entry.fields is None and entry.named is None:
            self._wrong(("values",), "nothing", "values, fields or named")
        if entry.columns and (entry.fields is not None or entry.named is not None):
            self._wrong(("columns",), True, "columns with values alone")
        in_sample = entry.samples is not None
        values, options = self._values(entry, in_sample)
        mapping = PayloadMapping(
            name=entry.mapping,
            file=self._document.file_of((*self._path, "mapping")),
            when=self._plain(("when",), entry.when),
            device=self._place(("device",), entry.device, in_sample),
            samples=self._plain(("samples",), entry.samples),
            columns=entry.columns,
            time=self._time(entry, in_sample),
            values=values,
            options=options,
            fields=self._place(("fields",), entry.fields, in_sample),
            named=self._named(entry, in_sample),
            ignore=tuple(entry.ignore),
            cases=self._cases(entry),
        )
        return mapping if len(self._mistakes) == before else None

    def _wrong(self, path: Path, got: object, expected: str, hint: str = "") -> None:
        place = (*self._path, *path)
        self._mistakes.append(self._document.mistake(place, got, expected, hint))

    def _part(self, path: Path, model: Any) -> Any:
        return validate_part(self._document, (*self._path, *path), model, self._mistakes)

    def _plain(self, path: Path, text: str | None) -> JsonPath | None:
        if text is None:
            return None
        try:
            return parse_path(text)
        except PathError as error:
            self._wrong(path, text, str(error))
            return None

    def _place(self, path: Path, text: str | None, in_sample: bool) -> Place | None:
        if text is None:
            return None
        from_root = text.startswith(ROOT)
        found = self._plain(path, text.removeprefix(ROOT))
        return None if found is None else Place(found, from_root and in_sample)

    def _time(self, entry: MappingEntry, in_sample: bool) -> TimeRule | None:
        if entry.time is None:
            return None
        part = self._part(("time",), TimeEntry)
        if part is None:
            return None
        place = self._place(("time", "path"), part.path, in_sample)
        is_pattern = "%" in part.format
        if part.format not in TIME_FORMATS and not is_pattern:
            expected = f"one of {', '.join(TIME_FORMATS)}, or a pattern such as %Y-%m-%d %H:%M:%S"
            self._wrong(("time", "format"), part.format, expected)
        elif is_pattern:
            self._check_pattern(part.format)
        has_zone = "%z" in _ZONED.findall(part.format)
        needs_zone = part.format == "local" or (is_pattern and not has_zone)
        zone = None
        if needs_zone and part.zone is None:
            expected = "the zone of the devices' clocks, such as Asia/Shanghai"
            self._wrong(("time", "zone"), "nothing", expected)
        elif part.zone is not None and not needs_zone:
            self._wrong(("time", "zone"), part.zone, f"no zone with the format {part.format}")
        elif part.zone is not None:
            zone = self._zone(part.zone)
        if place is None:
            return None
        return TimeRule(place, part.format, zone, frozenset(part.unset))

    def _check_pattern(self, pattern: str) -> None:
        moment = datetime(2026, 11, 22, 13, 45, 56, tzinfo=UTC)
        try:
            again = datetime.strptime(moment.strftime(pattern), pattern)
        except (ValueError, OverflowError, re.error):
            again = datetime.min
        if again.replace(second=0, tzinfo=UTC) != moment.replace(second=0):
            expected = "a pattern of strptime with year, month, day, hour and minute"
            self._wrong(("time", "format"), pattern, expected)

    def _zone(self, name: str) -> tzinfo | None:
        zones = _zones()
        if name not in zones:
            self._wrong(("time", "zone"), name, "an IANA time zone", nearest(name, zones))
            return None
        return ZoneInfo(name)

    def _values(
        self, entry: MappingEntry, in_sample: bool
    ) -> tuple[tuple[ValueRule, ...], dict[str, ValueRule]]:
        values: list[ValueRule] = []
        options: dict[str, ValueRule] = {}
        keys: set[str] = set()
        for index in range(len(entry.values)):
            path: Path = ("values", index)
            part = self._part(path, ValueEntry)
            rule = None if part is None else self._value(path, part, in_sample)
            if rule is None:
                continue
            if rule.key in keys:
                self._wrong((*path, "key"), rule.key, "a key that no other value has")
            keys.add(rule.key)
            if rule.place is not None:
                values.append(rule)
            elif entry.fields is None and entry.named is None:
                expected = "a path; a name is for a mapping with fields or named"
                self._wrong((*path, "name"), rule.name, expected)
            else:
                options[rule.name] = rule
        return tuple(values), options

    def _value(self, path: Path, part: ValueEntry, in_sample: bool) -> ValueRule | None:
        if (part.path is None) == (part.name is None):
            self._wrong(path, "both or none", "path: ... or name: ...")
            return None
        place = self._place((*path, "path"), part.path, in_sample)
        if place is None and part.name is None:
            return None
        key = part.key or part.name or (place.path.last_name if place else "")
        if not key:
            self._wrong((*path, "key"), "nothing", "a key, because the path ends in no name")
            return None
        if not 1 / _MOST_SCALE <= abs(part.scale) <= _MOST_SCALE:
            expected = f"a number between {1 / _MOST_SCALE:g} and {_MOST_SCALE:g}, or below 0"
            self._wrong((*path, "scale"), part.scale, expected)
            return None
        steps = 1 / part.scale
        whole = round(steps) if abs(part.scale) < 1 else 0
        return ValueRule(
            key=key,
            place=place,
            name=part.name or "",
            unit=part.unit or "",
            suffix=part.suffix or part.unit or "",
            scale=part.scale,
            offset=part.offset,
            per_unit=float(whole) if whole and abs(steps - whole) < 1e-9 * abs(steps) else 0.0,
            sentinels=frozenset(part.sentinels),
            texts=dict(part.texts),
        )

    def _named(self, entry: MappingEntry, in_sample: bool) -> NamedRule | None:
        if entry.named is None:
            return None
        part = self._part(("named",), NamedEntry)
        if part is None:
            return None
        place = self._place(("named", "path"), part.path, in_sample)
        name = self._plain(("named", "name"), part.name)
        value = self._plain(("named", "value"), part.value)
        return NamedRule(place, name, value) if place and value else None

    def _cases(self, entry: MappingEntry) -> tuple[MappingCase, ...]:
        found = [self._case(("cases", index)) for index in range(len(entry.cases))]
        return tuple(case for case in found if case is not None)

    def _case(self, path: Path) -> MappingCase | None:
        part: CaseEntry | None = self._part(path, CaseEntry)
        if part is None:
            return None
        told = [part.readings is not None, bool(part.samples), part.error is not None]
        if sum(told) != 1:
            self._wrong(path, "none or several", "one of readings, samples, error")
            return None
        samples: list[CaseSample] = []
        if part.readings is not None:
            samples.append(CaseSample(part.readings, self._at(path, part.at), part.device))
        for index in range(len(part.samples)):
            place: Path = (*path, "samples", index)
            one: CaseSampleEntry | None = self._part(place, CaseSampleEntry)
            if one is not None:
                samples.append(CaseSample(one.readings, self._at(place, one.at), one.device))
        line = self._document.place((*self._path, *path)).line
        payload = part.payload
        if not isinstance(payload, str):
            payload = json.dumps(payload, ensure_ascii=False)
        return MappingCase(part.name, line, payload, tuple(samples), part.error)

    def _at(self, path: Path, text: str | None) -> datetime | None:
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            expected = "a date and a time with a zone, such as 2026-01-01T08:00:00+08:00"
            self._wrong((*path, "at"), text, expected)
            return None
        return moment
