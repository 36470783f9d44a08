"""Measured CSV files read as if devices sent them: a mapping file says which column is what.

    file ──lines──▶ header, cells ──▶ wall clock ──▶ (device, Sample) in the file's own units

A finite number in a mapped column becomes a value at its UTC time, a missing mark becomes nothing;
whatever else stands in the file is counted or reported in `ReadReport`, never passed over.  Pure
but for `open_file`.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from devices.document import Document, load, nearest, validate
from devices.duration import parse_duration_s
from devices.errors import DocumentError, Mistake
from devices.registry import Registry
from firmware_sims.sample import Sample
from firmware_sims.wall_clock import WallClock

_EXCEL_EPOCH = datetime(1899, 12, 30)
_TABLE_TOLERANCE = 1e-3
_MOST_PROBLEMS = 100


class ReplayError(Exception):
    """A mapping does not fit its data or its site file; one line for each thing that is wrong."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _seconds(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError("a duration with its unit, such as 1s or 1min")
    return parse_duration_s(value)


class PatternEntry(_Entry):
    """Cells joined by a blank and read by `datetime.strptime`."""

    columns: list[str] = Field(min_length=1)
    pattern: str = Field(min_length=1)


class PartsEntry(_Entry):
    """One column for each part of the time; what is not named is 0."""

    year: str
    month: str
    day: str
    hour: str | None = None
    minute: str | None = None
    second: str | None = None


class TimeEntry(_Entry):
    """When a row was measured: one of *excel*, *iso*, *strptime* and *parts*, in *timezone*.

    *excel* is a column of serials (days since 1899-12-30), rounded to *round_to*: five decimals of
    a day are only good to 0.4 s.  *iso* may carry offsets, which then count.
    """

    excel: str | None = None
    iso: str | None = None
    strptime: PatternEntry | None = None
    parts: PartsEntry | None = None
    round_to: Annotated[float, BeforeValidator(_seconds), Field(gt=0)] = 1.0
    timezone: str

    @model_validator(mode="after")
    def _one_way(self) -> TimeEntry:
        ways = (self.excel, self.iso, self.strptime, self.parts)
        if sum(way is not None for way in ways) != 1:
            raise ValueError("exactly one of excel, iso, strptime and parts")
        return self

    @property
    def columns(self) -> list[str]:
        """The columns that time is read from."""
        if self.strptime is not None:
            return self.strptime.columns
        if self.parts is not None:
            return [name for name in self.parts.model_dump().values() if name is not None]
        return [name for name in (self.excel, self.iso) if name is not None]


class ColumnEntry(_Entry):
    """A column that device *device* sends as *key*; *unit* is the file's, and it is sent as it is.

    *table* translates codes to values: a code within a thousandth of an entry counts as it.
    """

    column: str
    device: str = Field(min_length=1)
    key: str = Field(min_length=1)
    unit: str
    table: dict[str, float] | None = None


class LeftOutEntry(_Entry):
    """A column that is not sent, and why."""

    column: str
    why: str = Field(min_length=1)


class FileEntry(_Entry):
    """One CSV file, plain or ``.gz``; *file* is relative to the data folder.

    *skip_rows* are patterns that match from the beginning of a row (cells joined by the delimiter):
    remarks, units, footers.  A row of empty cells needs no pattern.
    """

    file: str = Field(min_length=1)
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    encoding: Literal["utf-8", "utf-16", "gb18030", "latin-1", "cp1252"] = "utf-8"
    decimal: Literal[".", ","] = "."
    lines_before_header: int = Field(default=0, ge=0)
    missing: list[str] = ["", "NaN", "nan", "NA", "-"]
    skip_rows: list[str] = []
    time: TimeEntry
    columns: list[ColumnEntry] = Field(min_length=1)
    left_out: list[LeftOutEntry] = []


class ReplayDocument(_Entry):
    """The whole mapping file; *site_file* stands beside it."""

    version: Literal[1]
    name: str = Field(min_length=1)
    site_file: str = Field(min_length=1)
    files: list[FileEntry] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a data file that could not become readings; *line* counts from 1."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.text}"


@dataclass
class ReadReport:
    """What a file held.

    *rows* are data rows, *values* the finite numbers that became readings, *missing* the mapped
    cells without one.  *nonexistent_rows* had a time that the clocks jumped over and no values (one
    with values is a problem), *ambiguous_rows* a time that exists twice, *backward_rows* one before
    that of the row above.  The first hundred *problems* are kept, all are counted.
    """

    rows: int = 0
    samples: int = 0
    values: int = 0
    missing: int = 0
    skipped_rows: int = 0
    nonexistent_rows: int = 0
    ambiguous_rows: int = 0
    backward_rows: int = 0
    problem_count: int = 0
    problems: list[Problem] = field(default_factory=list)

    def add(self, file: str, line: int, text: str) -> None:
        """Note a problem."""
        self.problem_count += 1
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(Problem(file, line, text))


def read_mapping(text: str, file: str) -> ReplayDocument:
    """Check a mapping file; *file* is only used to name places.  Raises `DocumentError`."""
    document = load(text, file)
    mapping = validate(document, ReplayDocument)
    mistakes = list(_contradictions(document, mapping))
    if mistakes:
        raise DocumentError(mistakes)
    return mapping


def shipped_mapping(name: str) -> ReplayDocument:
    """Return the mapping *name* of this package (``glasshouse-30mhz``)."""
    return read_mapping(_shipped_text(f"{name}.yaml"), f"{name}.yaml")


def shipped_mapping_site_file(name: str) -> str:
    """Return the text of the site file that belongs to the mapping *name*."""
    return _shipped_text(shipped_mapping(name).site_file)


def _shipped_text(name: str) -> str:
    folder = files("firmware_sims") / "scenarios" / "replay"
    return (folder / name).read_text(encoding="utf-8")


def _contradictions(document: Document, mapping: ReplayDocument) -> Iterator[Mistake]:
    """Yield what the parts of a mapping say against each other."""
    sent: set[tuple[str, str]] = set()
    zones = available_timezones()
    for number, entry in enumerate(mapping.files):
        path = ("files", number)
        if entry.time.timezone not in zones:
            zone = entry.time.timezone
            hint = nearest(zone, zones)
            yield document.mistake((*path, "time", "timezone"), zone, "an IANA time zone", hint)
        for index, pattern in enumerate(entry.skip_rows):
            try:
                re.compile(pattern)
            except re.error as error:
                row = (*path, "skip_rows", index)
                yield document.mistake(row, pattern, f"a regular expression: {error}")
        named = list(entry.time.columns)
        for index, column in enumerate(entry.columns):
            here = (*path, "columns", index)
            if (column.device, column.key) in sent:
                yield document.mistake((*here, "key"), column.key, "a key that it sends once")
            sent.add((column.device, column.key))
            if column.column in named:
                yield document.mistake((*here, "column"), column.column, "each column once")
            named.append(column.column)
            for code in column.table or {}:
                if not _is_number(code):
                    yield document.mistake((*here, "table", code), code, "a number as the code")
        for index, left in enumerate(entry.left_out):
            if left.column in named:
                place = (*path, "left_out", index, "column")
                yield document.mistake(place, left.column, "a column that is not sent")


def disagreements(mapping: ReplayDocument, registry: Registry) -> list[str]:
    """Return what *mapping* would send that the site file does not expect, a line each."""
    out = []
    for entry in mapping.files:
        for column in entry.columns:
            device = registry.device.get(column.device)
            if device is None:
                hint = nearest(column.device, registry.device)
                out.append(f"{column.device}: no such device in the site file{_or(hint)}")
                continue
            units = {series.key: series.unit for series in device.series}
            if column.key not in units:
                hint = nearest(column.key, units)
                out.append(f"{column.device}: no series with the key {column.key}{_or(hint)}")
            elif units[column.key] != column.unit:
                out.append(
                    f"{column.device}.{column.key}: the file has {column.unit}, "
                    f"the site file expects {units[column.key]}"
                )
    return out


@contextmanager
def open_file(entry: FileEntry, folder: Path) -> Iterator[Iterable[str]]:
    """Open the file of *entry* in *folder* as lines of text, unpacked, without byte-order mark."""
    path = folder / entry.file
    encoding = "utf-8-sig" if entry.encoding == "utf-8" else entry.encoding
    with path.open("rb") as packed:
        plain = gzip.GzipFile(fileobj=packed) if path.suffix == ".gz" else packed
        with io.TextIOWrapper(plain, encoding=encoding, newline="") as lines:
            yield lines


def read_file(
    entry: FileEntry, lines: Iterable[str], report: ReadReport
) -> Iterator[tuple[str, Sample]]:
    """Yield (device, sample) for each row of *lines* and each device that has a value in it.

    Values are in the file's units, in the order of its rows; *report* is filled on the way.  Raises
    `ReplayError` when columns of the mapping are not in the file, or some of the file in neither
    list of the mapping.
    """
    rows = csv.reader(lines, delimiter=entry.delimiter)
    for _ in range(entry.lines_before_header):
        next(rows, None)
    header = [cell.strip() for cell in next(rows, [])]
    plan = _Plan(entry, header)
    clock = WallClock(ZoneInfo(entry.time.timezone))
    patterns = [re.compile(pattern) for pattern in entry.skip_rows]
    last_us: int | None = None
    for row in rows:
        cells = [cell.strip() for cell in row]
        whole = entry.delimiter.join(cells)
        if not any(cells) or any(pattern.match(whole) for pattern in patterns):
            report.skipped_rows += 1
            continue
        line = rows.line_num
        if len(cells) != len(header):
            report.add(entry.file, line, f"{len(cells)} cells under {len(header)} headings")
            continue
        report.rows += 1
        try:
            shown = plan.time(cells)
        except ValueError as error:
            report.add(entry.file, line, f"time: {error}")
            continue
        instant = clock.read(shown)
        values = plan.values(cells, report, entry.file, line)
        if instant.at_us is None:
            if any(values.values()):
                text = f"values at {shown}, which did not exist in {entry.time.timezone}"
                report.add(entry.file, line, text)
            else:
                report.nonexistent_rows += 1
            continue
        report.ambiguous_rows += instant.ambiguous
        report.backward_rows += last_us is not None and instant.at_us < last_us
        last_us = instant.at_us
        for device, numbers in values.items():
            if numbers:
                report.samples += 1
                report.values += len(numbers)
                yield device, Sample(instant.at_us, instant.at_us, numbers)


class _Plan:
    """Where in a row time and values stand."""

    def __init__(self, entry: FileEntry, header: list[str]) -> None:
        self._entry = entry
        self._missing = frozenset(entry.missing)
        where = _positions(entry, header)
        self.time = _time_reader(entry.time, where)
        self._columns = [
            (where[one.column], one, _translation(one.table) if one.table else None)
            for one in entry.columns
        ]

    def values(
        self, cells: list[str], report: ReadReport, file: str, line: int
    ) -> Mapping[str, dict[str, float]]:
        """Return device -> key -> number, noting what is missing and what is no number."""
        out: dict[str, dict[str, float]] = {one.device: {} for _, one, _ in self._columns}
        for position, one, translate in self._columns:
            text = cells[position]
            if text in self._missing:
                report.missing += 1
                continue
            try:
                number = _number(text, self._entry.decimal)
                out[one.device][one.key] = translate(number) if translate else number
            except ValueError as error:
                report.add(file, line, f"{one.column}: {error}")
        return out


def _positions(entry: FileEntry, header: list[str]) -> dict[str, int]:
    """Return column name -> position; raise `ReplayError` where mapping and header do not meet."""
    wanted = [*entry.time.columns, *(one.column for one in entry.columns)]
    known = {*wanted, *(one.column for one in entry.left_out)}
    wrong = [
        f"{entry.file}: no column {name!r}{_or(nearest(name, header))}"
        for name in sorted(known - set(header))
    ]
    wrong += [
        f"{entry.file}: the column {name!r} stands twice"
        for name in sorted(known)
        if header.count(name) > 1
    ]
    wrong += [
        f"{entry.file}: the column {name!r} is neither mapped nor left out"
        for name in header
        if name not in known
    ]
    if wrong:
        raise ReplayError("\n".join(wrong))
    return {name: position for position, name in enumerate(header)}


def _time_reader(entry: TimeEntry, where: dict[str, int]) -> Callable[[list[str]], datetime]:
    positions = [where[name] for name in entry.columns]
    first = positions[0]
    if entry.excel is not None:
        return lambda cells: _excel(cells[first], entry.round_to)
    if entry.iso is not None:
        return lambda cells: datetime.fromisoformat(cells[first])
    if entry.strptime is not None:
        pattern = entry.strptime.pattern
        return lambda cells: datetime.strptime(" ".join(cells[p] for p in positions), pattern)
    parts = entry.parts.model_dump(exclude_none=True) if entry.parts is not None else {}
    named = {part: where[column] for part, column in parts.items()}
    return lambda cells: _from_parts({part: int(cells[p]) for part, p in named.items()})


def _from_parts(parts: Mapping[str, int]) -> datetime:
    date = datetime(parts["year"], parts["month"], parts["day"])
    hour, minute, second = (parts.get(part, 0) for part in ("hour", "minute", "second"))
    return date.replace(hour=hour, minute=minute, second=second)


def _excel(text: str, round_to_s: float) -> datetime:
    """Return the wall time of a serial, rounded: 43815.00347 is 00:05:00, not 00:04:59.808."""
    steps = round(float(text) * 86400.0 / round_to_s)
    return _EXCEL_EPOCH + timedelta(seconds=steps * round_to_s)


def _number(text: str, decimal: str) -> float:
    number = float(text.replace(",", ".") if decimal == "," else text)
    if not math.isfinite(number):
        raise ValueError(f"not a finite number: {text!r}")
    return number


def _translation(table: Mapping[str, float]) -> Callable[[float], float]:
    codes = {float(code): value for code, value in table.items()}

    def translate(number: float) -> float:
        nearest_code = min(codes, key=lambda code: abs(code - number))
        if abs(nearest_code - number) > _TABLE_TOLERANCE:
            raise ValueError(f"{number!r} is not a code of its table")
        return codes[nearest_code]

    return translate


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _or(hint: str) -> str:
    return f" (did you mean {hint!r}?)" if hint else ""
