"""Results of samples, from a laboratory or from a hand-held meter: a table in, results out.

    采样时间,地点,介质,项目,结果,单位,检出限,方法,检测机构,审核人,报告编号
    2026-03-01 09:30,field-3,土壤,镉,<0.01,mg/kg,0.01,GB/T 17141-1997,…,李四,NJ-2026-0311

Pure.  Every mistake is named, with row, column, what was got and what was expected, and one mistake
is enough for nothing to be taken.  A result below the detection limit keeps the limit; as a reading
it is half of it, marked, which is how such results enter statistics (after HJ/T 166).

A result is named by its series and the moment of sampling: whatever is told of the same sample
later is a new version of it.
"""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TypeVar
from zoneinfo import ZoneInfo

from devices.document import nearest
from devices.quality import Quality
from devices.quantity import QUANTITIES, Quantity
from devices.registry import Registry
from devices.series import Series
from devices.site import Medium, Placement
from devices.units import Conversion, UnitError, conversion

T = TypeVar("T")

PAYLOAD = "laboratory"
TAG = "method:laboratory"
INTERVAL_S = 180 * 86400.0  # between samples, where nothing else is said
MAX_ROWS = 5_000

_TIME = "a time such as 2026-03-01 09:30, 2026年3月1日 or one with a zone"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_AHEAD_US = 300_000_000

COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "sampled_at": ("采样时间", "采样日期", "sample time"),
        "site": ("地点", "站点", "采样地点", "采样点", "place"),
        "placement": ("位置", "布设位置", "采样位置"),
        "medium": ("介质", "样品类型", "样品类别", "sample type"),
        "item": ("项目", "检测项目", "分析项目", "指标", "quantity", "parameter"),
        "value": ("结果", "检测结果", "测定值", "数值", "result"),
        "unit": ("单位",),
        "detection_limit": ("检出限", "方法检出限", "lod", "mdl"),
        "method": ("方法", "检测方法", "分析方法", "检测依据", "standard"),
        "laboratory": ("实验室", "检测机构", "检测单位", "lab"),
        "sampler": ("采样人", "采样员"),
        "reviewer": ("审核人", "复核人", "reviewed by"),
        "report": ("报告编号", "报告号", "report number"),
        "series": ("序列",),
        "note": ("备注", "remark"),
    }
)
"""Column -> what else its heading may say; case, spaces and underscores do not matter."""

_PLACEMENTS = {
    "室内": Placement.INSIDE,
    "棚内": Placement.INSIDE,
    "室外": Placement.OUTDOOR,
    "边界": Placement.PERIMETER,
    "周边": Placement.PERIMETER,
    "水源": Placement.INTAKE_WATER,
    "进水": Placement.INTAKE_WATER,
    "排水": Placement.DRAIN_WATER,
    "回水": Placement.DRAIN_WATER,
    "根区": Placement.ROOT_ZONE,
    "耕层": Placement.ROOT_ZONE,
}
_MEDIA = {
    "土壤": Medium.SOIL,
    "基质": Medium.SOIL,
    "水": Medium.WATER,
    "水质": Medium.WATER,
    "灌溉水": Medium.WATER,
    "空气": Medium.AIR,
    "营养液": Medium.FERTIGATION,
}
# What reports call an item, beside the quantity's own names; one word may mean several quantities.
_ITEMS: Mapping[str, tuple[str, ...]] = {
    "soil_cadmium": ("cd", "镉", "总镉", "cadmium"),
    "soil_mercury": ("hg", "汞", "总汞", "mercury"),
    "soil_arsenic": ("as", "砷", "总砷", "arsenic"),
    "soil_lead": ("pb", "铅", "总铅", "lead"),
    "soil_chromium": ("cr", "铬", "总铬", "chromium"),
    "soil_copper": ("cu", "铜", "总铜", "copper"),
    "soil_nickel": ("ni", "镍", "总镍", "nickel"),
    "soil_zinc": ("zn", "锌", "总锌", "zinc"),
    "soil_ph": ("ph", "ph值"),
    "water_ph": ("ph", "ph值"),
    "water_lead": ("pb", "铅", "总铅", "lead"),
    "water_cadmium": ("cd", "镉", "总镉", "cadmium"),
    "water_chromium_vi": ("cr6+", "cr(vi)", "六价铬", "铬(六价)", "chromium(vi)"),
    "water_mercury": ("hg", "汞", "总汞", "mercury"),
    "water_arsenic": ("as", "砷", "总砷", "arsenic"),
    "suspended_solids": ("ss",),
    "bod5": ("五日生化需氧量(bod5)", "生化需氧量"),
    "cod": ("codcr", "cod", "化学需氧量(codcr)"),
    "anionic_surfactant": ("las",),
    "chloride": ("cl-", "氯化物(以cl-计)", "氯离子"),
    "sulfide": ("s2-", "硫化物(以s2-计)", "sulphide"),
    "total_salts": ("全盐量",),
    "faecal_coliform": ("粪大肠菌群数", "fecal coliforms", "fecal coliform"),
    "ascaris_eggs": ("蛔虫卵",),
}
_UNITS = {
    "无量纲": "pH",
    "ph单位": "pH",
    "个/L": "1/L",
    "个/l": "1/L",
    "mg/l": "mg/L",
    "µg/l": "µg/L",
}
_NOT_FOUND = ("nd", "n.d.", "未检出", "<lod", "<mdl")


@dataclass(frozen=True, slots=True)
class ResultMistake:
    """Something wrong in a table; *row* counts from 1, the heading included, 0 for all of it."""

    row: int
    column: str
    got: str
    expected: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f" (did you mean {self.hint!r}?)" if self.hint else ""
        where = f"row {self.row}, {self.column}" if self.row else self.column
        return f"{where}: got {self.got}, expected {self.expected}{hint}"


class ResultsRefused(ValueError):
    """A table cannot be used; carries every mistake in it, by row.  Nothing of it is taken."""

    def __init__(self, mistakes: Sequence[ResultMistake]) -> None:
        self.mistakes = tuple(sorted(mistakes, key=lambda one: one.row))
        super().__init__("\n".join(map(str, self.mistakes)))


@dataclass(frozen=True, slots=True)
class SampleResult:
    """What was found in one sample, for one series.

    *value* and *detection_limit* are in the quantity's unit; *value* is None where it is below the
    limit.  *given* is the value as it was written, with its unit.  Without a *reviewer* it is not
    yet evidence.
    """

    series: str
    sampled_at_us: int
    value: float | None
    detection_limit: float | None
    given: str
    method: str = ""
    laboratory: str = ""
    sampler: str = ""
    reviewer: str = ""
    report: str = ""
    note: str = ""

    @property
    def reading(self) -> float:
        """The value of its reading: half the detection limit where it is below."""
        if self.value is not None:
            return self.value
        assert self.detection_limit is not None
        return self.detection_limit / 2

    @property
    def quality(self) -> Quality:
        """The quality of its reading."""
        below = Quality.BELOW_DETECTION if self.value is None else Quality.GOOD
        return Quality.MANUAL | below


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: its number there, and its cells by column."""

    number: int
    cells: Mapping[str, str]


def read_csv(content: bytes) -> list[Row]:
    """Return the rows of *content*; raise `ResultsRefused` for what is no table of results.

    UTF-8 with or without a mark, or GB18030, as the spreadsheets of the country write it; commas,
    semicolons or tabs; headings in Chinese or English.
    """
    text = _text(content)
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise _refused("file", str(error), "a table of comma-separated values") from error
    if not lines or not any(map(str.strip, lines[0])):
        raise _refused("file", "an empty file", "a line of headings, then a row a result")
    columns = _columns(lines[0])
    rows: list[Row] = []
    mistakes: list[ResultMistake] = []
    for number, line in enumerate(lines[1:], 2):
        if not any(map(str.strip, line)):
            continue
        if len(line) > len(columns) and any(map(str.strip, line[len(columns) :])):
            expected = f"{len(columns)} cells as in the headings"
            mistakes.append(ResultMistake(number, "row", f"{len(line)} cells", expected))
        cells = {
            column: cell.strip()
            for column, cell in zip(columns, line, strict=False)
            if column and cell.strip()
        }
        rows.append(Row(number, cells))
    if mistakes:
        raise ResultsRefused(mistakes)
    return rows


def read_objects(objects: Sequence[Mapping[str, object]]) -> list[Row]:
    """Return *objects*, with the English names of the columns as keys, as rows counted from 1."""
    rows: list[Row] = []
    mistakes: list[ResultMistake] = []
    for number, one in enumerate(objects, 1):
        cells: dict[str, str] = {}
        for key, value in one.items():
            if key not in COLUMNS:
                hint = nearest(key, COLUMNS)
                expected = "one of " + ", ".join(COLUMNS)
                mistakes.append(ResultMistake(number, key[:80], "this key", expected, hint))
            elif isinstance(value, bool) or not isinstance(value, str | int | float | None):
                got = type(value).__name__
                mistakes.append(ResultMistake(number, key, got, "text or a number"))
            elif value is not None and str(value).strip():
                cells[key] = str(value).strip()
        rows.append(Row(number, cells))
    if mistakes:
        raise ResultsRefused(mistakes)
    return rows


def read_results(rows: Sequence[Row], registry: Registry, now_us: int) -> list[SampleResult]:
    """Return the results in *rows*; raise `ResultsRefused` with every mistake in them.

    Series are those of devices with the payload ``laboratory``.  A time without a zone is the
    site's own; a day alone is its first moment.
    """
    if not rows:
        raise _refused("file", "no row", "at least one result")
    if len(rows) > MAX_ROWS:
        raise _refused("file", f"{len(rows)} rows", f"at most {MAX_ROWS}; give it in parts")
    reader = _Reader(registry, now_us)
    results = [found for row in rows if (found := reader.read(row)) is not None]
    if reader.mistakes:
        raise ResultsRefused(reader.mistakes)
    return results


class _Wrong(Exception):
    """A cell that cannot be meant."""

    def __init__(self, column: str, got: str, expected: str, hint: str = "") -> None:
        super().__init__(column)
        self.column, self.got, self.expected, self.hint = column, got, expected, hint


class _Reader:
    """Reads rows for one registry, collecting every mistake."""

    def __init__(self, registry: Registry, now_us: int) -> None:
        self.mistakes: list[ResultMistake] = []
        self._registry = registry
        self._now_us = now_us
        self._series = [
            series
            for device in registry.devices
            if device.payload == PAYLOAD
            for series in device.series
        ]
        self._seen: dict[tuple[str, int], int] = {}

    def read(self, row: Row) -> SampleResult | None:
        """Return the result in *row*, or None after noting what is wrong with it."""
        before = len(self.mistakes)
        series = self._try(row, lambda: self._series_of(row.cells))
        if series is None:
            self._try(row, lambda: _check_time(row.cells))
            self._try(row, lambda: _check_number(row.cells))
            return None
        at_us = self._try(row, lambda: self._time(row.cells, series))
        measured = self._try(row, lambda: _measured(row.cells, series))
        if len(self.mistakes) > before or at_us is None or measured is None:
            return None
        earlier = self._seen.setdefault((series.code, at_us), row.number)
        if earlier != row.number:
            got = f"{series.code} of the sample in row {earlier}"
            self._note(row, _Wrong("row", got, "each item of a sample once"))
            return None
        value, limit, given = measured
        words = {
            name: row.cells.get(name, "")
            for name in ("method", "laboratory", "sampler", "reviewer", "report", "note")
        }
        return SampleResult(series.code, at_us, value, limit, given, **words)

    def _try(self, row: Row, part: Callable[[], T]) -> T | None:
        try:
            return part()
        except _Wrong as wrong:
            self._note(row, wrong)
            return None

    def _note(self, row: Row, wrong: _Wrong) -> None:
        self.mistakes.append(
            ResultMistake(row.number, wrong.column, wrong.got, wrong.expected, wrong.hint)
        )

    def _series_of(self, cells: Mapping[str, str]) -> Series:
        if code := cells.get("series"):
            by_code = {series.code: series for series in self._series}
            if code not in by_code:
                expected = "a series of a laboratory device"
                raise _Wrong("series", _shown(code), expected, nearest(code, by_code))
            return by_code[code]
        found = self._at_site(cells)
        found = _narrowed(found, cells, "medium", _MEDIA, Medium)
        found = _narrowed(found, cells, "placement", _PLACEMENTS, Placement)
        item = cells.get("item", "")
        meant = _quantities(item)
        chosen = [series for series in found if series.quantity in meant]
        if len(chosen) == 1:
            return chosen[0]
        if not chosen:
            words = {
                _folded(QUANTITIES[one.quantity].zh): QUANTITIES[one.quantity] for one in found
            }
            known = ", ".join(sorted(f"{q.name} ({q.zh})" for q in words.values())[:12])
            hint = nearest(item, [one.quantity for one in found])
            raise _Wrong("item", _shown(item), f"what is sampled there: {known}", hint)
        codes = ", ".join(series.code for series in chosen)
        raise _Wrong("item", _shown(item), f"one series; say in a column series which: {codes}")

    def _at_site(self, cells: Mapping[str, str]) -> list[Series]:
        place = cells.get("site", "")
        sites = self._registry.site
        codes = {
            site.code
            for site in sites.values()
            if place and place in (site.code, site.name_zh, site.name_en)
        }
        found = [series for series in self._series if series.site in codes]
        if found:
            return found
        known = sorted({series.site for series in self._series})
        expected = "a site with a laboratory device: " + (", ".join(known[:12]) or "there is none")
        raise _Wrong("site", _shown(place), expected, nearest(place, known))

    def _time(self, cells: Mapping[str, str], series: Series) -> int:
        text = cells.get("sampled_at", "")
        zone = self._registry.site[series.site].timezone
        at_us = _instant_us(text, zone)
        if at_us is None:
            raise _Wrong("sampled_at", _shown(text), _TIME)
        if not 0 <= at_us <= self._now_us + _AHEAD_US:
            raise _Wrong("sampled_at", _shown(text), "a time between 1970 and now")
        return at_us


def _narrowed(
    found: list[Series],
    cells: Mapping[str, str],
    column: str,
    words: Mapping[str, Placement | Medium],
    kind: type[Placement] | type[Medium],
) -> list[Series]:
    text = cells.get(column)
    if not text:
        return found
    known = {one.value: one for one in kind} | dict(words)
    wanted = known.get(text.lower())
    if wanted is None:
        raise _Wrong(column, _shown(text), "one of " + ", ".join(known), nearest(text, known))
    return [series for series in found if getattr(series, column) is wanted]


def _quantities(item: str) -> set[str]:
    """Return the names of the quantities that *item* may mean."""
    word = _folded(item)
    named = {q.name for q in QUANTITIES.values() if word in map(_folded, (q.name, q.zh, q.en))}
    return named | {name for name, words in _ITEMS.items() if word in map(_folded, words)}


def _check_time(cells: Mapping[str, str]) -> None:
    """Look at the time of a row whose series is not known, so that all its mistakes are told."""
    text = cells.get("sampled_at", "")
    if _instant_us(text, "UTC") is None:
        raise _Wrong("sampled_at", _shown(text), _TIME)


def _check_number(cells: Mapping[str, str]) -> None:
    """Look at the value of a row whose series is not known, so that both mistakes are told."""
    text = _plain(cells.get("value", ""))
    if text.lower() not in _NOT_FOUND and _number(text.removeprefix("<")) is None:
        raise _Wrong("value", _shown(text), "a number, or < and the detection limit")


def _measured(cells: Mapping[str, str], series: Series) -> tuple[float | None, float | None, str]:
    """Return value and detection limit in the quantity's unit, and the value as it was written."""
    quantity = QUANTITIES[series.quantity]
    text, unit = _plain(cells.get("value", "")), cells.get("unit", "")
    limit = _limit(cells)
    below = text.lower() in _NOT_FOUND or text.startswith("<")
    number = None if text.lower() in _NOT_FOUND else _number(text.removeprefix("<").strip())
    if number is None and text.lower() not in _NOT_FOUND:
        raise _Wrong("value", _shown(text), "a number, or < and the detection limit")
    if below:
        limit = _below(number, limit, text)
    elif limit is not None and number is not None and number < limit:
        raise _Wrong("value", _shown(text), f"<{limit:g}, for it is below its detection limit")
    line = _line(unit, quantity)
    converted = None if below or number is None else number * line.scale + line.offset
    floor = None if limit is None else limit * line.scale + line.offset
    for one in (converted, floor):
        if one is not None and not quantity.low <= one <= quantity.high:
            span = f"{quantity.low:g} to {quantity.high:g} {quantity.unit}"
            raise _Wrong("value", f"{one:g} {quantity.unit}", f"{quantity.name} of {span}")
    return converted, floor, f"{text} {unit}".strip()


def _limit(cells: Mapping[str, str]) -> float | None:
    text = _plain(cells.get("detection_limit", ""))
    if not text:
        return None
    limit = _number(text)
    if limit is None or limit <= 0:
        raise _Wrong("detection_limit", _shown(text), "a number above 0, in the unit of the value")
    return limit


def _below(number: float | None, limit: float | None, text: str) -> float:
    if number is None and limit is None:
        raise _Wrong("detection_limit", "nothing", f"the detection limit beside {_shown(text)}")
    if number is not None and number <= 0:
        raise _Wrong("value", _shown(text), "< and a detection limit above 0")
    if number is not None and limit is not None and number != limit:
        raise _Wrong("detection_limit", f"{limit:g}", f"{number:g} as in the value {_shown(text)}")
    return number if number is not None else limit or 0.0


def _line(unit: str, quantity: Quantity) -> Conversion:
    unit = _UNITS.get(unit, _UNITS.get(unit.lower(), unit))
    if not unit and quantity.unit == "pH":
        unit = "pH"
    if not unit:
        raise _Wrong("unit", "nothing", f"the unit of the value, such as {quantity.unit}")
    try:
        return conversion(unit, quantity.unit)
    except UnitError as error:
        raise _Wrong("unit", _shown(unit), f"a unit like {quantity.unit}: {error}") from error


_DAY = re.compile(
    r"(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})日?"
    r"(?:[T\s]*(\d{1,2})[::时](\d{1,2})(?:[::分](\d{1,2})(?:\.\d+)?秒?|分)?)?"
    r"\s*(Z|[+-]\d{2}:?\d{2})?"
)


def _instant_us(text: str, zone: str) -> int | None:
    """Return *text* in microseconds since 1970 UTC; None where it is no time.

    A local time that its zone has twice is taken for the first of the two.
    """
    found = _DAY.fullmatch(_plain(text))
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    try:
        local = datetime(year, month, day, hour, minute, second)
        if offset := found[7]:
            moment = datetime.strptime(f"{local:%Y-%m-%dT%H:%M:%S}{offset}", "%Y-%m-%dT%H:%M:%S%z")
        else:
            moment = local.replace(tzinfo=ZoneInfo(zone))
        return (moment - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        return None


def _columns(headings: Sequence[str]) -> list[str]:
    """Return the column that each of *headings* stands for, empty for an empty heading."""
    known = {_folded(word): name for name, words in COLUMNS.items() for word in (name, *words)}
    mistakes: list[ResultMistake] = []
    columns: list[str] = []
    for heading in headings:
        name = known.get(_folded(heading), "")
        if heading.strip() and not name:
            hint = nearest(_folded(heading), known)
            expected = "one of " + ", ".join(COLUMNS)
            mistakes.append(ResultMistake(1, heading.strip()[:80], "this heading", expected, hint))
        elif name and name in columns:
            mistakes.append(ResultMistake(1, heading.strip(), f"{name} twice", "each column once"))
        columns.append(name)
    mistakes += [
        ResultMistake(1, name, "no such column", f"a column {name} ({COLUMNS[name][0]})")
        for name in _missing(columns)
    ]
    if mistakes:
        raise ResultsRefused(mistakes)
    return columns


def _missing(columns: Iterable[str]) -> Iterator[str]:
    given = set(columns)
    yield from (name for name in ("sampled_at", "value") if name not in given)
    if "series" not in given:
        yield from (name for name in ("site", "item") if name not in given)


def _text(content: bytes) -> str:
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            break
        return text
    raise _refused("file", "what is neither UTF-8 nor GB18030", "a text file, saved as CSV")


def _refused(column: str, got: str, expected: str) -> ResultsRefused:
    return ResultsRefused([ResultMistake(0, column, got, expected)])


def _plain(text: str) -> str:
    """Return *text* with full-width digits and signs as plain ones."""
    return unicodedata.normalize("NFKC", text).strip()


def _folded(text: str) -> str:
    return re.sub(r"[\s_]+", "", _plain(text).casefold())


def _number(text: str) -> float | None:
    if not re.fullmatch(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,3})?", text):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...") if text else "nothing"
