"""Arithmetic on many short runs laid end to end in one array: one *segment* an owner.

An owner's rows are neighbours and in the order of time.  All functions work on whole arrays; none
loops over owners.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IndexArray = npt.NDArray[np.intp]

NEVER = np.int64(2**62)  # later than any instant, and safe to add a duration to
LONG_AGO = np.int64(-(2**62))


def heads(owner: IndexArray) -> BoolArray:
    """Return a mask that is True at the first row of each segment."""
    mask = np.empty(len(owner), bool)
    mask[:1] = True
    np.not_equal(owner[1:], owner[:-1], out=mask[1:])
    return mask


def tails(owner: IndexArray) -> BoolArray:
    """Return a mask that is True at the last row of each segment."""
    mask = np.empty(len(owner), bool)
    mask[-1:] = True
    np.not_equal(owner[1:], owner[:-1], out=mask[:-1])
    return mask


def before(values: npt.NDArray[Any], head: BoolArray, carried: npt.NDArray[Any]) -> Any:
    """Return for each row the value of the row before it; at heads, what *carried* holds there.

    *carried* has one entry a row (gathered by owner); only those at heads are used.
    """
    out = np.empty_like(values)
    out[1:] = values[:-1]
    out[head] = carried[head]
    return out


def latest_mark(mark: BoolArray) -> IndexArray:
    """Return for each row the position of the last True at or before it; 0 where there is none.

    Give it a mask that is True at every head, and no answer reaches into another segment.
    """
    return np.maximum.accumulate(np.where(mark, np.arange(len(mark)), 0))


def held_from(marks: IndexArray, values: npt.NDArray[Any], size: int) -> Any:
    """Return *size* rows that hold each of *values* from its position in *marks* to the next.

    The first position must be 0.
    """
    return np.repeat(values, np.diff(np.append(marks, size)))


def since_start(values: Int64Array, start: IndexArray, position: IndexArray) -> Int64Array:
    """Return sums of *values* over rows *start* to *position*, both included, exactly."""
    total = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, out=total[1:])
    return np.asarray(total[position + 1] - total[start])


def range_max(values: FloatArray, start: IndexArray, position: IndexArray) -> FloatArray:
    """Return the maximum of *values* over rows *start* to *position*, both included.

    A table of maxima over 2^k rows answers any range by two overlapping looks.
    """
    out = values[position].copy()
    length = position - start + 1
    table, width = values, 1
    longest = int(length.max()) if len(length) else 1
    while True:
        mine = (length >= width) & (length < 2 * width)
        if mine.any():
            first, last = start[mine], position[mine] - width + 1
            out[mine] = np.maximum(table[first], table[last])
        if 2 * width > longest:
            return out
        table = np.maximum(table[: len(table) - width], table[width:])
        width *= 2


def interleave(
    first_owner: IndexArray, second_owner: IndexArray
) -> tuple[IndexArray, IndexArray, int]:
    """Return where the rows of two sorted tables go; an owner's first rows precede its second.

    Both owner columns rise.  The two results are positions in a table of the returned length.
    """
    into_second = np.searchsorted(second_owner, first_owner, "left")
    into_first = np.searchsorted(first_owner, second_owner, "right")
    return (
        np.arange(len(first_owner)) + into_second,
        np.arange(len(second_owner)) + into_first,
        len(first_owner) + len(second_owner),
    )


def over_slots(values: npt.NDArray[Any], reduce: np.ufunc) -> Any:
    """Return *values* (m, slots) reduced to (m,); one slot, the usual case, costs nothing."""
    return values[:, 0] if values.shape[1] == 1 else reduce.reduce(values, axis=1)
