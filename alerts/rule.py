"""Rules as text: packs of rules in YAML, checked whole before any of them is used.

`read_pack` is pure: text in, `Pack` out, or a `DocumentError` that names every mistake at once,
with its line and the nearest right word.  A rule's limits are kept as they were written;
`alerts.binding` compiles them for the subjects that the rule is about.
"""

from __future__ import annotations

import hashlib
import json
import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from enum import IntEnum, StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from alerts.conditions import compile_levels
from alerts.errors import ConditionError
from alerts.expression import (
    Both,
    Compare,
    Condition,
    CountOf,
    Not,
    Number,
    parse,
    parse_limit,
)
from alerts.schedule import Schedule
from devices.document import Document, Path, load, nearest, validate_part
from devices.duration import parse_duration_s
from devices.errors import DocumentError, Mistake
from devices.quantity import QUANTITIES
from devices.site import Medium, Placement, SiteKind
from devices.units import UnitError, conversion

VERSION = 1  # of the file format


class Severity(IntEnum):
    """How bad it is; the words of the screen."""

    INFO = 1
    WARNING = 2
    CRITICAL = 3

    @property
    def word(self) -> str:
        """The word in files and answers."""
        return self.name.lower()


class Layer(IntEnum):
    """Whose rules a pack holds; where several set a limit on the same, the strictest counts."""

    NATIONAL = 1
    LOCAL = 2
    BASE = 3


class Label(StrEnum):
    """What an alert may be called.

    ``exceedance`` of a standard by its own method; ``indicative`` by another; ``screening`` a proxy
    of what the standard limits; ``advisory`` a limit of nobody's standard.
    """

    EXCEEDANCE = "exceedance"
    INDICATIVE = "indicative"
    SCREENING = "screening"
    ADVISORY = "advisory"


class Per(StrEnum):
    """What a rule is judged for: one alert for each of these."""

    SERIES = "series"
    DEVICE = "device"
    SITE = "site"
    HOUSE = "house"
    BASE = "base"


@dataclass(frozen=True, slots=True)
class Name:
    """Text in both languages of the screen."""

    zh: str = ""
    en: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a limit comes from; without a *standard* it is advice.

    *evidence* is how well the number is known: V (read in the standard), V2 (two sources), C
    (computed), M (from memory: never the basis of an exceedance).
    """

    standard: str = ""
    edition: str = ""
    clause: str = ""
    evidence: str = ""
    text: str = ""

    @property
    def title(self) -> str:
        """Standard with edition, as one cites it."""
        return f"{self.standard}-{self.edition}" if self.edition else self.standard


@dataclass(frozen=True, slots=True)
class Selector:
    """Which series a rule is about; what is empty does not restrict.

    *sites* are codes and stand for all below them; *tags* must all be present, of *without_tags*
    none may be.
    """

    quantities: tuple[str, ...] = ()
    media: tuple[Medium, ...] = ()
    placements: tuple[Placement, ...] = ()
    site_kinds: tuple[SiteKind, ...] = ()
    sites: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    crops: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    without_tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Level:
    """One severity of a rule: *text* is the condition as written, *tree* what it means."""

    severity: Severity
    text: str
    tree: Condition = field(compare=False)
    for_us: int = 0
    keep_us: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition with all that belongs to it; *code* is ``pack.rule`` and unique.

    *levels* rise in severity.  *valid_from* and *valid_to* are dates of the site's zone, both
    included.  *limit_of* names what is limited: of several packs' rules with the same word on one
    subject only the strictest is judged.  *methods* are those by which a reading may be called an
    exceedance; of a series by any other method the alert is indicative.  *hides* are rules whose
    alerts within this alert's subject are not told while it stands.  *group* gathers alerts of one
    cause.  *tell* says who is told.
    """

    code: str
    version: int
    layer: Layer
    name: Name
    levels: tuple[Level, ...]
    where: Selector = Selector()
    per: Per | None = None
    schedule: Schedule = field(default_factory=Schedule)
    valid_from: date | None = None
    valid_to: date | None = None
    message: Name = Name()
    runbook: Name = Name()
    source: Source = Source()
    label: Label = Label.ADVISORY
    methods: tuple[str, ...] = ()
    limit_of: str = ""
    hides: tuple[str, ...] = ()
    group: str = ""
    tell: tuple[str, ...] = ("operator",)
    enabled: bool = True

    @property
    def fingerprint(self) -> str:
        """16 hex digits of everything that decides when it fires; texts do not count."""
        parts: list[Any] = [self.code, self.version, self.per, self.where, self.schedule]
        parts += [self.valid_from, self.valid_to, self.limit_of, int(self.layer)]
        parts += [(int(x.severity), x.text, repr(x.tree), x.for_us, x.keep_us) for x in self.levels]
        text = json.dumps([repr(part) for part in parts])
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Pack:
    """A file of rules."""

    code: str
    version: int
    layer: Layer
    name: Name
    source: Source
    rules: tuple[Rule, ...]


# -- the shape of the file

_CODE = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_CLOCK = re.compile(r"([01]\d|2[0-4]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")
_DATES = re.compile(r"(\d\d)-(\d\d)\.\.(\d\d)-(\d\d)")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def _code(value: str) -> str:
    if not _CODE.fullmatch(value):
        raise ValueError("lower-case letters, digits, - and _, starting with a letter or digit")
    return value


def _duration_us(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError("a duration with its unit, such as 10s, 15min, 6h or PT1H")
    return round(parse_duration_s(value) * 1e6)


def _clock(value: str) -> tuple[int, int]:
    match = _CLOCK.fullmatch(value)
    if not match:
        raise ValueError("a window of the clock such as 08:00-18:00")
    numbers = [int(number) for number in match.groups()]
    begin, end = numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]
    if max(begin, end) > 24 * 60 or begin == end:
        raise ValueError("a window of the clock between 00:00 and 24:00 that has a length")
    return begin * 60_000_000, end * 60_000_000


def _dates(value: str) -> tuple[tuple[int, int], tuple[int, int]]:
    match = _DATES.fullmatch(value)
    if not match:
        raise ValueError("days of the year such as 11-15..03-10")
    numbers = [int(number) for number in match.groups()]
    try:
        date(2000, numbers[0], numbers[1]), date(2000, numbers[2], numbers[3])
    except ValueError as error:
        raise ValueError("days of the year such as 11-15..03-10") from error
    return (numbers[0], numbers[1]), (numbers[2], numbers[3])


def _day(value: str) -> date:
    if not _DATE.fullmatch(value):
        raise ValueError("a date such as 2026-03-01")
    try:
        return date.fromisoformat(value)
    except ValueError as error:
        raise ValueError("a date such as 2026-03-01") from error


def _list(value: object) -> object:
    """Let one word stand for a list of one."""
    return [value] if isinstance(value, str) else value


Code = Annotated[str, AfterValidator(_code)]
Duration = Annotated[int, BeforeValidator(_duration_us)]
Words = Annotated[list[str], BeforeValidator(_list)]
SeverityWord = Literal["info", "warning", "critical"]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class NameEntry(_Entry):
    """A text in both languages."""

    zh: str = ""
    en: str = ""


class SourceEntry(_Entry):
    """Standard, edition and clause; or the text of an advice."""

    standard: str = ""
    edition: str = ""
    clause: str = ""
    evidence: Literal["", "V", "V2", "C", "M"] = ""
    text: str = ""


class LevelEntry(_Entry):
    """One severity of a rule."""

    when: str
    for_: Duration = Field(default=0, alias="for")
    clear: str | None = None
    hysteresis: str | None = None
    keep_firing: Duration = 0


class WhereEntry(_Entry):
    """Which series; one word or a list of words each."""

    quantity: Words = []
    medium: Annotated[list[Annotated[Medium, Field(strict=False)]], BeforeValidator(_list)] = []
    placement: Annotated[
        list[Annotated[Placement, Field(strict=False)]], BeforeValidator(_list)
    ] = []
    site_kind: Annotated[
        list[Annotated[SiteKind, Field(strict=False)]], BeforeValidator(_list)
    ] = []
    site: Words = []
    device: Words = []
    crop: Words = []
    tags: Words = []
    without_tags: Words = []


class ScheduleEntry(_Entry):
    """When a rule holds."""

    sun: Literal["", "day", "night"] = ""
    clock: Annotated[
        list[Annotated[tuple[int, int], BeforeValidator(_clock)]], BeforeValidator(_list)
    ] = []
    dates: Annotated[list[Annotated[Any, BeforeValidator(_dates)]], BeforeValidator(_list)] = []
    stage: Words = []


class ValidEntry(_Entry):
    """From and to which date a rule holds at all, both included."""

    from_: Annotated[date, BeforeValidator(_day)] | None = Field(default=None, alias="from")
    to: Annotated[date, BeforeValidator(_day)] | None = None


class RuleEntry(_Entry):
    """One rule; either *when* with its own keys, or *levels* by severity."""

    id: Code
    name: NameEntry = NameEntry()
    when: str | None = None
    for_: Duration = Field(default=0, alias="for")
    clear: str | None = None
    hysteresis: str | None = None
    keep_firing: Duration = 0
    severity: SeverityWord = "warning"
    levels: dict[SeverityWord, LevelEntry] = {}
    where: WhereEntry = WhereEntry()
    per: Annotated[Per, Field(strict=False)] | None = None
    schedule: ScheduleEntry = ScheduleEntry()
    valid: ValidEntry | None = None
    message: NameEntry = NameEntry()
    runbook: NameEntry = NameEntry()
    source: SourceEntry | None = None
    label: Annotated[Label, Field(strict=False)] | None = None
    methods: Words = []
    limit_of: str = ""
    hides: Words = []
    group: str = ""
    tell: Words = []
    enabled: bool = True


class PackDocument(_Entry):
    """The whole file; what it says about *valid*, *source*, *label*, *tell* holds for its rules."""

    pack: Code
    format: int = VERSION
    version: int = Field(ge=1)
    layer: Literal["national", "local", "base"] = "base"
    name: NameEntry = NameEntry()
    valid: ValidEntry | None = None
    source: SourceEntry = SourceEntry()
    label: Annotated[Label, Field(strict=False)] = Label.ADVISORY
    tell: Words = ["operator"]
    rules: list[Any] = Field(min_length=1)  # RuleEntry, each checked by itself


def read_pack(text: str, file: str) -> Pack:
    """Check *text* and return its rules; *file* is only used to name places."""
    document = load(text, file)
    mistakes: list[Mistake] = []
    entry = validate_part(document, (), PackDocument, mistakes)
    if entry is None:
        # The head is unusable; the rules below it can still be looked at.
        rules = document.data.get("rules") if isinstance(document.data, dict) else None
        rules = rules if isinstance(rules, list) else []
        entry = PackDocument.model_construct(pack="", version=1, rules=rules)
    return _Reader(document, entry, mistakes).read()


def pack_schema() -> dict[str, Any]:
    """Return the JSON schema of the file, for editors."""
    schema = PackDocument.model_json_schema()
    rule = RuleEntry.model_json_schema(ref_template="#/$defs/{model}")
    schema["$defs"] = schema.get("$defs", {}) | rule.pop("$defs", {}) | {"RuleEntry": rule}
    schema["properties"]["rules"]["items"] = {"$ref": "#/$defs/RuleEntry"}
    return schema


MESSAGE_FIELDS = (
    "value", "unit", "limit", "site", "subject", "rule", "severity", "duration", "started",
)  # fmt: skip


class _Reader:
    """Turns checked shape into rules, collecting what the shape cannot tell."""

    def __init__(self, document: Document, entry: PackDocument, mistakes: list[Mistake]) -> None:
        self._document = document
        self._entry = entry
        self._mistakes = mistakes

    def read(self) -> Pack:
        entry = self._entry
        if entry.format != VERSION:
            self._wrong(("format",), entry.format, str(VERSION))
        rules = []
        seen: set[str] = set()
        for position in range(len(entry.rules)):
            path: Path = ("rules", position)
            item = validate_part(self._document, path, RuleEntry, self._mistakes)
            if item is None:
                continue
            if item.id in seen:
                self._wrong((*path, "id"), item.id, "an id that no other rule has")
            seen.add(item.id)
            if rule := self._rule(item, path):
                rules.append(rule)
        if self._mistakes:
            raise DocumentError(self._mistakes)
        return Pack(
            entry.pack,
            entry.version,
            Layer[entry.layer.upper()],
            _name(entry.name),
            Source(**entry.source.model_dump()),
            tuple(rules),
        )

    def _wrong(self, path: Path, got: object, expected: str, hint: str = "") -> None:
        self._mistakes.append(self._document.mistake(path, got, expected, hint))

    def _rule(self, item: RuleEntry, path: Path) -> Rule | None:
        levels = self._levels(item, path)
        where = self._selector(item.where, path)
        source = Source(**(item.source or self._entry.source).model_dump())
        label = item.label or self._entry.label
        self._check_label(label, source, path)
        valid = item.valid or self._entry.valid
        if valid and valid.from_ and valid.to and valid.to < valid.from_:
            self._wrong((*path, "valid"), str(valid.to), f"an end not before {valid.from_}")
        self._check_texts(item, path)
        if levels is None:
            return None
        return Rule(
            code=f"{self._entry.pack}.{item.id}",
            version=self._entry.version,
            layer=Layer[self._entry.layer.upper()],
            name=_name(item.name),
            levels=levels,
            where=where,
            per=item.per,
            schedule=Schedule(
                item.schedule.sun,
                tuple(item.schedule.clock),
                tuple(item.schedule.dates),
                tuple(item.schedule.stage),
            ),
            valid_from=valid.from_ if valid else None,
            valid_to=valid.to if valid else None,
            message=_name(item.message),
            runbook=_name(item.runbook),
            source=source,
            label=label,
            methods=tuple(item.methods),
            limit_of=item.limit_of,
            hides=tuple(item.hides),
            group=item.group,
            tell=tuple(item.tell or self._entry.tell),
            enabled=item.enabled,
        )

    def _check_label(self, label: Label, source: Source, path: Path) -> None:
        if label is Label.EXCEEDANCE and not source.standard:
            self._wrong((*path, "label"), label.value, "a source with its standard beside it")
        if label is Label.EXCEEDANCE and source.evidence in ("M", ""):
            self._wrong(
                (*path, "label"), label.value, "advisory, while the evidence is not V, V2 or C"
            )

    def _check_texts(self, item: RuleEntry, path: Path) -> None:
        for language in ("zh", "en"):
            text = getattr(item.message, language)
            try:
                parts = list(string.Formatter().parse(text))
            except ValueError as error:
                self._wrong((*path, "message", language), text, f"balanced braces ({error})")
                continue
            for _, name, width, form in parts:
                if name is None:
                    continue
                if width or form:
                    got = f"{name}!{form}" if form else f"{name}:{width}"
                    self._wrong((*path, "message", language), got, "a field as it is: {value}")
                elif name not in MESSAGE_FIELDS:
                    self._wrong(
                        (*path, "message", language), name, "one of " + ", ".join(MESSAGE_FIELDS),
                        nearest(name, MESSAGE_FIELDS),
                    )  # fmt: skip

    def _selector(self, where: WhereEntry, path: Path) -> Selector:
        for position, name in enumerate(where.quantity):
            if name not in QUANTITIES:
                at = (*path, "where", "quantity", position)
                self._wrong(at, name, "a quantity of the vocabulary", nearest(name, QUANTITIES))
        return Selector(
            tuple(where.quantity),
            tuple(where.medium),
            tuple(where.placement),
            tuple(where.site_kind),
            tuple(where.site),
            tuple(where.device),
            tuple(where.crop),
            tuple(where.tags),
            tuple(where.without_tags),
        )

    # -- levels

    def _levels(self, item: RuleEntry, path: Path) -> tuple[Level, ...] | None:
        if (item.when is None) == (not item.levels):
            self._wrong(path, "both" if item.levels else "neither", "either when or levels")
            return None
        if item.when is not None:
            single = LevelEntry.model_validate(
                {
                    "when": item.when,
                    "clear": item.clear,
                    "hysteresis": item.hysteresis,
                }
            ).model_copy(update={"for_": item.for_, "keep_firing": item.keep_firing})
            found = [self._level(item.severity, single, path)]
        else:
            for key in ("clear", "hysteresis", "for", "keep_firing", "severity"):
                if key in self._document.at(path):
                    self._wrong((*path, key), key, "it inside each level, where levels are given")
            found = [
                self._level(word, level, (*path, "levels", word))
                for word, level in sorted(item.levels.items(), key=lambda i: Severity[i[0].upper()])
            ]
        levels = [level for level in found if level is not None]
        if len(levels) < len(found):
            return None
        return tuple(levels) if self._compiles(levels, path) else None

    def _level(self, word: str, entry: LevelEntry, path: Path) -> Level | None:
        try:
            tree = parse(entry.when)
        except ConditionError as error:
            self._condition_wrong((*path, "when"), entry.when, error)
            return None
        for key, text in (("clear", entry.clear), ("hysteresis", entry.hysteresis)):
            if text is None:
                continue
            changed = self._cleared(tree, key, text, path)
            if changed is None:
                return None
            tree = changed
        level = Level(Severity[word.upper()], entry.when, tree, entry.for_, entry.keep_firing)
        try:
            compile_levels([(tree, entry.for_)])
        except ConditionError as error:
            self._condition_wrong((*path, "when"), entry.when, error)
            return None
        return level

    def _compiles(self, levels: Sequence[Level], path: Path) -> bool:
        try:
            compile_levels([(level.tree, level.for_us) for level in levels])
        except ConditionError as error:
            self._condition_wrong(path, levels[0].text, error)
            return False
        return True

    def _condition_wrong(self, path: Path, text: str, error: ConditionError) -> None:
        place = f"{error.got} at character {error.at + 1} of {text!r}"
        mistake = self._document.mistake(path, text, error.expected, error.hint)
        self._mistakes.append(replace(mistake, got=place))

    def _cleared(self, tree: Condition, key: str, text: str, path: Path) -> Condition | None:
        """Return *tree* with the clear level of the key *clear* or *hysteresis* put in."""
        try:
            number = parse_limit(text)
            return set_clear(tree, number, relative=key == "hysteresis")
        except ConditionError as error:
            self._condition_wrong((*path, key), text, error)
            return None


def set_clear(tree: Condition, number: Number, relative: bool) -> Condition:
    """Return *tree* with a clear level at its one comparison that has none.

    *relative* takes *number* as the way back from the limit.  Raises `ConditionError` where there
    is not exactly one such comparison.
    """
    places = [part for part in comparisons(tree) if part.clear is None]
    if len(places) != 1:
        raise ConditionError(
            0, f"{len(places)} comparisons without a clear level", "exactly one, or clear inside it"
        )
    place = places[0]
    if relative:
        if number.value < 0 or (number.unit and not place.limit.unit):
            raise ConditionError(0, f"{number.value:g} {number.unit}", "a way back, such as 2 K")
        back = same_unit(number, place.limit)
        number = replace(place.limit, value=place.limit.value - back * _direction(place))
    return replaced(tree, place, replace(place, clear=number))


def _direction(place: Compare) -> float:
    return 1.0 if place.sign in (">", ">=") else -1.0


def same_unit(number: Number, limit: Number) -> float:
    """Return *number*, as a difference, in the unit of *limit*."""
    if not number.unit or number.unit == limit.unit:
        return number.value
    try:
        return number.value * conversion(number.unit, limit.unit).scale
    except UnitError as error:
        raise ConditionError(0, repr(number.unit), f"a unit like {limit.unit}") from error


def comparisons(tree: Condition) -> Iterator[Compare]:
    """Yield every comparison in *tree*."""
    if isinstance(tree, Compare):
        yield tree
    elif isinstance(tree, Both):
        for part in tree.parts:
            yield from comparisons(part)
    elif isinstance(tree, Not):
        yield from comparisons(tree.part)
    elif isinstance(tree, CountOf):
        yield tree.compare


def replaced(tree: Condition, old: Compare, new: Compare) -> Condition:
    """Return *tree* with the comparison *new* in the place of *old*."""
    if tree is old:
        return new
    if isinstance(tree, Both):
        return replace(tree, parts=tuple(replaced(part, old, new) for part in tree.parts))
    if isinstance(tree, Not):
        return replace(tree, part=replaced(tree.part, old, new))
    if isinstance(tree, CountOf) and tree.compare is old:
        return replace(tree, compare=new)
    return tree


def _name(entry: NameEntry) -> Name:
    return Name(entry.zh, entry.en)
