"""Readings and lists as CSV after RFC 4180, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

from api.columns import NO_QUALITY, QUALITY_BITS, Column, Columns
from api.formats.answer import Answer, TimeForm
from api.formats.text import epoch_milliseconds, iso_times, quality_levels, quality_reasons
from devices.quantity import QUANTITIES

MEDIA_TYPE = "text/csv; charset=utf-8; header=present"
BOM = "\ufeff"

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\x00", "＝", "＋", "－", "＠")


def encode(answer: Answer, time: TimeForm, bom: bool) -> bytes:
    """Return *answer* as rows ``series, site, quantity, unit, observed_at, ...``, one a reading.

    With *bom* the text begins with a byte order mark, which is how Excel knows UTF-8.
    """
    out = io.StringIO(newline="")
    out.write(BOM if bom else "")
    writer = csv.writer(out, lineterminator="\r\n")
    columns = list(answer.parts[0].columns) if answer.parts else []
    words = ["quality", "quality_reasons"] if QUALITY_BITS in columns else []
    writer.writerow(["series", "site", "quantity", "unit", "observed_at", *columns, *words])
    for part in answer.parts:
        writer.writerows(_rows(part, time))
    return out.getvalue().encode("utf-8", "replace")


def safe_text(text: str) -> str:
    """Return *text* so that no spreadsheet takes it for a formula.

    Names come from devices and people; a leading apostrophe is what spreadsheets show as text.
    Numbers are never passed through here: ``-3.2`` stays a number.
    """
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _rows(part: Columns, time: TimeForm) -> Iterable[Sequence[Any]]:
    series, at_us = part.series, part.observed_at_us
    texts = (series.code, series.site, series.quantity, QUANTITIES[series.quantity].unit)
    fixed = [repeat(safe_text(text)) for text in texts]
    times = iso_times(at_us) if time is TimeForm.ISO else epoch_milliseconds(at_us)
    columns: list[Iterable[Any]] = [_numbers(column) for column in part.columns.values()]
    if (bits := part.columns.get(QUALITY_BITS)) is not None:
        columns += [quality_levels(bits), quality_reasons(bits)]
    return zip(*fixed, times, *columns, strict=False)


def _numbers(column: Column) -> list[Any]:
    """Return *column* as numbers; an empty field stands where there is none."""
    if column.dtype.kind == "f":
        return [value if math.isfinite(value) else None for value in column.tolist()]
    return [None if value == NO_QUALITY else value for value in column.tolist()]
