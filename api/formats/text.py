"""Instants and numbers as text, a column at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from api.columns import NO_QUALITY, Column
from devices.quality import level, reasons
from devices.reading import Int64Array


def iso_times(at_us: Int64Array) -> list[str]:
    """Return *at_us* as RFC 3339 in UTC, with milliseconds, or microseconds where one needs them.

    All of a column have the same number of places.
    """
    unit: Literal["us", "ms"] = "us" if (at_us % 1000).any() else "ms"
    text: list[str] = np.datetime_as_string(
        at_us.view("datetime64[us]"), unit=unit, timezone="UTC"
    ).tolist()
    return text


def epoch_milliseconds(at_us: Int64Array) -> list[int]:
    """Return *at_us* as whole milliseconds since 1970 UTC, rounded down."""
    milliseconds: list[int] = (at_us // 1000).tolist()
    return milliseconds


def quality_levels(bits: Column) -> list[str | None]:
    """Return the level that each of *bits* stands for, None in an empty row."""
    return _words(bits, lambda one: level(one).value)


def quality_reasons(bits: Column) -> list[str | None]:
    """Return the names of the reasons in each of *bits*, ``|`` between, None in an empty row."""
    return _words(bits, lambda one: "|".join(reason.name for reason in reasons(one)))


def _words(bits: Column, say: Callable[[int], str]) -> list[str | None]:
    """Say each distinct value once: a month of readings has a handful of them."""
    distinct, at = np.unique(bits, return_inverse=True)
    words = [None if one == NO_QUALITY else say(one) for one in distinct.tolist()]
    return [words[index] for index in at.tolist()]
