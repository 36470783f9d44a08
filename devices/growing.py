"""What the site file says for the rules: packs that are in force, tags, and what is planted where.

`read_growing` reads the keys ``packs``, ``tags`` and ``planting`` wherever they stand.  Which packs
and crops there are is for whoever knows the rules; here only the shape is checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from devices.document import Document, Path, validate_part
from devices.errors import Mistake
from devices.profile import Entry
from devices.registry import Registry
from devices.sample_result import PAYLOAD as LABORATORY
from devices.sample_result import TAG
from devices.series import Device

_TAG = re.compile(r"[a-z0-9][a-z0-9_.:-]{0,62}")
_WORD = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


def _day(value: object) -> date:
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise ValueError("a date such as 2026-03-01")
    try:
        return date.fromisoformat(value)
    except ValueError as error:
        raise ValueError("a date such as 2026-03-01") from error


def _word(value: object) -> str:
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise ValueError("lower-case letters, digits, - and _, starting with a letter or digit")
    return value


Day = Annotated[date, BeforeValidator(_day)]
Word = Annotated[str, BeforeValidator(_word)]


class StageEntry(Entry):
    """A stage begins *on* a date, or at so many *degree_days*."""

    name: Word
    on: Day | None = None
    degree_days: float | None = Field(default=None, ge=0)


class PlantingEntry(Entry):
    """What is planted at a site."""

    crop: Word
    variety: str = ""
    planted_on: Day | None = None
    ends_on: Day | None = None
    stages: list[Any] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PlantedStage:
    """A stage begins *on* a date or at so many *degree_days* of growth; never both, never none."""

    name: str
    on: date | None = None
    degree_days: float | None = None


@dataclass(frozen=True, slots=True)
class Planted:
    """What grows at *site* and all below it; *stages* in their order."""

    site: str
    crop: str
    variety: str = ""
    planted_on: date | None = None
    ends_on: date | None = None
    stages: tuple[PlantedStage, ...] = ()


@dataclass(frozen=True, slots=True)
class Growing:
    """*packs* as the file names them, None where it does not say.

    *tags* by ``site:…``, ``device:…`` and ``series:…`` with the code behind; *planted* in the order
    of the file, *crop_paths* the place of each crop in the document.
    """

    packs: tuple[str, ...] | None = None
    tags: Mapping[str, frozenset[str]] = field(default_factory=dict)
    planted: tuple[Planted, ...] = ()
    crop_paths: tuple[Path, ...] = ()


def read_growing(
    document: Document, registry: Registry, packs: list[str] | None, mistakes: list[Mistake]
) -> Growing:
    """Return what *document* says for the rules, adding everything wrong to *mistakes*.

    *registry* is what else it describes; what is broken there is passed over here.
    """
    tags: dict[str, frozenset[str]] = {}
    planted: list[Planted] = []
    crop_paths: list[Path] = []
    for path, entry in _sites(document):
        found = _tags(document, path, entry, mistakes)
        if found:
            tags[f"site:{entry.get('code')}"] = found
        if entry.get("planting") is not None:
            one = _planted(document, path, str(entry.get("code")), mistakes)
            if one is not None:
                planted.append(one)
                crop_paths.append((*path, "planting", "crop"))
    for path, entry in _entries(document, (), "devices"):
        device = registry.device.get(str(entry.get("code")))
        found = _tags(document, path, entry, mistakes)
        if device is not None and device.payload == LABORATORY:
            found |= {TAG}
        if found and device is not None:
            tags[f"device:{device.code}"] = found
        for inner, series in _entries(document, path, "series"):
            found = _tags(document, inner, series, mistakes)
            code = _series_code(device, series)
            if found and code:
                tags[f"series:{code}"] = found
    for index, name in enumerate(packs or ()):
        if name in (packs or ())[:index]:
            mistakes.append(document.mistake(("packs", index), name, "each pack once"))
    chosen = None if packs is None else tuple(packs)
    return Growing(chosen, tags, tuple(planted), tuple(crop_paths))


def _entries(document: Document, path: Path, key: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the mappings in the list *key* of the mapping at *path*."""
    owner = document.at(path)
    entries = owner.get(key) if isinstance(owner, dict) else None
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        if isinstance(entry, dict):
            yield (*path, key, index), entry


def _sites(document: Document, path: Path = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    for inner, entry in _entries(document, path, "sites"):
        yield inner, entry
        yield from _sites(document, inner)


def _tags(
    document: Document, path: Path, entry: Mapping[str, Any], mistakes: list[Mistake]
) -> frozenset[str]:
    given = entry.get("tags")
    if given is None:
        return frozenset()
    if not isinstance(given, list):
        mistakes.append(document.mistake((*path, "tags"), given, "a list of words"))
        return frozenset()
    found = set()
    for index, tag in enumerate(given):
        if isinstance(tag, str) and _TAG.fullmatch(tag):
            found.add(tag)
            continue
        expected = "a word of lower-case letters, digits, - _ . and :"
        mistakes.append(document.mistake((*path, "tags", index), tag, expected))
    return frozenset(found)


def _series_code(device: Device | None, entry: Mapping[str, Any]) -> str:
    """Return the code of the series that *entry* became, empty where it became none."""
    if device is None:
        return ""
    quantity, channel, key = (entry.get(name) for name in ("quantity", "channel", "key"))
    for series in device.series:
        if series.quantity != quantity:
            continue
        if key is not None and series.key == key:
            return series.code
        if key is None and series.channel == ("" if channel is None else str(channel)):
            return series.code
    return ""


def _planted(document: Document, path: Path, site: str, mistakes: list[Mistake]) -> Planted | None:
    path = (*path, "planting")
    entry = validate_part(document, path, PlantingEntry, mistakes)
    if entry is None:
        return None
    stages = []
    for index in range(len(entry.stages)):
        stage = validate_part(document, (*path, "stages", index), StageEntry, mistakes)
        if stage is not None:
            stages.append(PlantedStage(stage.name, stage.on, stage.degree_days))
            _check_stage(document, (*path, "stages", index), stages, mistakes)
    last = stages[-1].on if stages else entry.planted_on
    if entry.ends_on is not None and last is not None and entry.ends_on <= last:
        expected = f"a date after {last}"
        mistakes.append(document.mistake((*path, "ends_on"), str(entry.ends_on), expected))
    return Planted(site, entry.crop, entry.variety, entry.planted_on, entry.ends_on, tuple(stages))


def _check_stage(
    document: Document, path: Path, stages: list[PlantedStage], mistakes: list[Mistake]
) -> None:
    """Hold the last of *stages* to those before it."""
    stage, before = stages[-1], stages[-2] if len(stages) > 1 else None

    def wrong(key: str, got: object, expected: str) -> None:
        mistakes.append(document.mistake((*path, key), got, expected))

    if (stage.on is None) == (stage.degree_days is None):
        got = "nothing" if stage.on is None else "both"
        wrong("name", got, "either on: a date, or degree_days: a number")
        return
    if any(other.name == stage.name for other in stages[:-1]):
        wrong("name", stage.name, "each stage once")
    if before is None:
        return
    if stage.on is not None:
        if before.on is None:
            wrong("on", str(stage.on), "degree_days, as the stages before")
        elif stage.on <= before.on:
            wrong("on", str(stage.on), f"a date after {before.on}, when the stage before begins")
    elif before.degree_days is None:
        wrong("degree_days", stage.degree_days, "on: a date, as the stages before")
    elif stage.degree_days is not None and stage.degree_days <= before.degree_days:
        wrong("degree_days", stage.degree_days, f"more than {before.degree_days:g}")
