"""Small lines without axes, as SVG paths made on the server: a shape, and gaps as gaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from devices.reading import FloatArray, Int64Array
from devices.series import STALE_AFTER_INTERVALS

Numbers = npt.NDArray[np.floating[Any]]

WIDTH, HEIGHT = 96, 24
_MARGIN = 2.0


@dataclass(frozen=True, slots=True)
class Sparkline:
    """An SVG path in a box of `WIDTH` x `HEIGHT`, with the lowest and highest value drawn."""

    path: str
    low: float
    high: float


def sparkline(
    at_us: Int64Array,
    value: FloatArray,
    start_us: int,
    end_us: int,
    *,
    interval_us: int,
    least_span: float,
    columns: int = 60,
) -> Sparkline | None:
    """Return the line of *value* over [start, end), None where nothing is in it.

    *at_us* and *value* are (n,), NaN where there is nothing.  Each of *columns* is the mean of what
    falls into it.  Columns further apart than three of *interval_us* are not joined.  The height
    stands for at least *least_span*, so that the noise of the last digit does not look like events.
    """
    good = np.isfinite(value) & (at_us >= start_us) & (at_us < end_us)
    if not good.any():
        return None
    column = (at_us[good] - start_us) * columns // (end_us - start_us)
    number = np.bincount(column, minlength=columns)
    total = np.bincount(column, weights=value[good], minlength=columns)
    filled = np.flatnonzero(number)
    mean = total[filled] / number[filled]
    x = (filled + 0.5) * (WIDTH / columns)
    joined = max(1.0, STALE_AFTER_INTERVALS * interval_us * columns / (end_us - start_us))
    starts = np.concatenate(([True], np.diff(filled) > joined))
    path = _path(x, _heights(mean, least_span), starts)
    return Sparkline(path, float(value[good].min()), float(value[good].max()))


def _heights(mean: Numbers, least_span: float) -> Numbers:
    low, high = float(mean.min()), float(mean.max())
    span = max(high - low, least_span)
    share: Numbers = 0.5 + (mean - (low + high) / 2) / span
    return HEIGHT - _MARGIN - share * (HEIGHT - 2 * _MARGIN)


def _path(x: Numbers, y: Numbers, starts: npt.NDArray[np.bool_]) -> str:
    parts = []
    ends = np.concatenate((starts[1:], [True]))
    for at_x, at_y, first, last in zip(x, y, starts, ends, strict=True):
        parts.append(f"{'M' if first else 'L'}{at_x:.1f} {at_y:.1f}")
        if first and last:
            parts.append("h.1")  # a point alone: round line caps make it a dot
    return "".join(parts)
