"""Readings as JSON columns: one array a column, null where there is nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from api.columns import NO_QUALITY, QUALITY_BITS, Column, Columns
from api.formats.answer import Answer, TimeForm
from api.formats.text import epoch_milliseconds, iso_times, quality_levels
from api.instants import format_instant
from devices.quantity import QUANTITIES

MEDIA_TYPE = "application/json"


def encode(answer: Answer, time: TimeForm) -> bytes:
    """Return *answer* as UTF-8 JSON."""
    return msgspec.json.encode(
        {
            "start": format_instant(answer.start_us),
            "end": format_instant(answer.end_us),
            "step": answer.step.value,
            "series": [_part(part, time) for part in answer.parts],
        }
    )


def _part(part: Columns, time: TimeForm) -> dict[str, Any]:
    series, at_us = part.series, part.observed_at_us
    return {
        "series": series.code,
        "quantity": series.quantity,
        "unit": QUANTITIES[series.quantity].unit,
        "site": series.site,
        "interval_s": series.interval_s,
        "points": len(part),
        "observed_at": iso_times(at_us) if time is TimeForm.ISO else epoch_milliseconds(at_us),
        **_columns(part),
    }


def _columns(part: Columns) -> dict[str, list[Any]]:
    columns = {name: _values(column) for name, column in part.columns.items()}
    if QUALITY_BITS in columns:
        columns["quality"] = quality_levels(part.columns[QUALITY_BITS])
    return columns


def _values(column: Column) -> list[Any]:
    """Return *column* as plain numbers; what JSON has no number for becomes None."""
    if column.dtype.kind == "f":
        plain = column.tolist()
        for index in np.flatnonzero(~np.isfinite(column)).tolist():
            plain[index] = None
        return list(plain)
    if (column == NO_QUALITY).any():
        return [None if value == NO_QUALITY else value for value in column.tolist()]
    return list(column.tolist())
