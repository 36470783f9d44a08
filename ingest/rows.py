"""Readings on their way from messages into a batch: columns of equal length; pure.

Samples bring a few values each, gathered in lists and made into columns at once.  Blocks of the
same columns are decoded together, which is what makes a device with a hundred registers cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from devices.codecs.sample import Columns
from devices.reading import FloatArray, Int32Array, Int64Array

SlotArray = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Rows:
    """One row a value: when it was observed and received (µs), its quality bits, which arrival
    brought it, its place in the decoder's table, and the value in the device's unit.
    """

    observed_at_us: Int64Array
    received_at_us: Int64Array
    quality: Int32Array
    position: Int32Array
    slot: SlotArray
    value: FloatArray

    def take(self, index: npt.NDArray[Any]) -> Rows:
        """Return the rows that *index* (positions or mask) selects."""
        return Rows(*(getattr(self, one.name)[index] for one in fields(self)))


@dataclass(slots=True, eq=False)
class BlockMembers:
    """Blocks of the same columns: *stamps* has (observed, received, arrival) for each of them."""

    stamps: list[tuple[int, int, int]] = field(default_factory=list)
    slots: list[SlotArray] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)


def sample_rows(
    samples: Sequence[tuple[int, int, int, int, int]],
    slots: Sequence[int],
    values: Sequence[float | None],
) -> Rows:
    """Return the rows of *samples*: (observed, received, quality, arrival, number of values)."""
    at_us, received_at_us, quality, position, count = np.array(samples, np.int64).T
    return Rows(
        np.repeat(at_us, count),
        np.repeat(received_at_us, count),
        np.repeat(quality.astype(np.int32), count),
        np.repeat(position.astype(np.int32), count),
        np.array(slots, np.intp),
        np.array(values, np.float64),
    )


def block_rows(columns: Columns, members: BlockMembers) -> Rows:
    """Decode all blocks of *columns* and return their rows, block by block."""
    value, quality = columns.rows(members.data)
    at_us, received_at_us, position = np.array(members.stamps, np.int64).T
    width = len(columns.keys)
    return Rows(
        np.repeat(at_us, width),
        np.repeat(received_at_us, width),
        quality.reshape(-1),
        np.repeat(position.astype(np.int32), width),
        np.concatenate(members.slots),
        value.reshape(-1),
    )


def merged(parts: Sequence[Rows]) -> Rows:
    """Return the rows of all *parts* in the order of their arrivals."""
    if len(parts) == 1:
        return parts[0]
    joined = Rows(*(np.concatenate([getattr(p, one.name) for p in parts]) for one in fields(Rows)))
    return joined.take(np.argsort(joined.position, kind="stable"))
