"""The memory of a simulated register device: what it measures, written as its maker's manual says.

It shares the register map with the decoder and nothing else: numbers become registers by integer
arithmetic, one digit and one byte after the other, so that a wrong decoder cannot agree with it.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Callable, Mapping

from devices.profile import COILS, DISCRETE_INPUTS, Order, Point, Profile, RegisterType
from devices.quantity import QUANTITIES
from devices.units import conversion

Truth = Callable[[str, float], float]
"""(key of a point, seconds) -> the true value in the quantity's own unit; NaN: no reading."""

_BITS = (COILS, DISCRETE_INPUTS)


def raw_number(point: Point, reading: float) -> float:
    """Return what the device would write for *reading*: an integer unless its type is a float."""
    value = reading
    if point.quantity is not None:
        line = conversion(point.unit, QUANTITIES[point.quantity].unit)
        value = (reading - line.offset) / line.scale
    raw = (value - point.offset) / point.scale
    return raw if point.type.is_float else float(round(raw))


def as_bits(point: Point, raw: float) -> int:
    """Return *raw* as the unsigned integer that the point's registers hold, highest word first."""
    kind = point.type
    if kind.is_float:
        code = {16: ">e", 32: ">f", 64: ">d"}[kind.bits]
        return int.from_bytes(struct.pack(code, raw), "big")
    number = int(raw)
    if kind.is_bcd:
        digits = f"{number:0{kind.bits // 4}d}"
        if len(digits) > kind.bits // 4 or number < 0:
            raise ValueError(f"{point.key}: {number} does not fit into {kind}")
        return int(digits, 16)
    low = -(1 << (kind.bits - 1)) if kind.is_signed else 0
    if not low <= number < low + (1 << kind.bits):
        raise ValueError(f"{point.key}: {number} does not fit into {kind}")
    return number + (1 << kind.bits) if number < 0 else number


class RegisterMemory:
    """Registers and coils by function code and zero-based address; what is absent is illegal."""

    def __init__(self) -> None:
        self._cells: dict[int, dict[int, int]] = {}

    def put(self, point: Point, raw: float | str) -> None:
        """Write the raw number (or the text of a string point) where the point stands."""
        cells = self._cells.setdefault(point.function, {})
        if point.function in _BITS:
            cells[point.address] = int(raw) & 1
            return
        if isinstance(raw, str):
            padded = raw.encode("ascii").ljust(2 * point.count, b"\0")
            words = [padded[at] * 256 + padded[at + 1] for at in range(0, 2 * point.count, 2)]
        else:
            words = self._words(point, raw, cells)
        for offset, word in enumerate(words):
            cells[point.address + offset] = word

    def _words(self, point: Point, raw: float, cells: Mapping[int, int]) -> list[int]:
        held = _in_order(point, [cells.get(point.address, 0)])[0]
        kind = point.type
        if kind is RegisterType.BIT:
            word = held & ~(1 << point.bit) | (int(raw) & 1) << point.bit
            return _in_order(point, [word])
        bits = as_bits(point, raw)
        if kind in (RegisterType.UINT8_HIGH, RegisterType.INT8_HIGH):
            return _in_order(point, [held & 0x00FF | bits << 8])
        if kind in (RegisterType.UINT8_LOW, RegisterType.INT8_LOW):
            return _in_order(point, [held & 0xFF00 | bits])
        words: list[int] = []
        for _ in range(point.count):
            words.insert(0, bits & 0xFFFF)
            bits >>= 16
        return _in_order(point, words)

    def fill(self, function: int, first: int, last: int) -> None:
        """Make the addresses from *first* to *last* readable; those not written yet hold 0."""
        cells = self._cells.setdefault(function, {})
        for address in range(first, last + 1):
            cells.setdefault(address, 0)

    def set(self, function: int, address: int, value: int) -> None:
        """Write one register or coil as it is."""
        self._cells.setdefault(function, {})[address] = value

    def holds(self, function: int, address: int) -> bool:
        """Whether the address exists."""
        return address in self._cells.get(function, {})

    def read(self, function: int, address: int, count: int) -> list[int] | None:
        """Return *count* cells, or None if one of them does not exist."""
        cells = self._cells.get(function, {})
        if any(at not in cells for at in range(address, address + count)):
            return None
        return [cells[at] for at in range(address, address + count)]


def _in_order(point: Point, words: list[int]) -> list[int]:
    if point.byte_order is Order.LOW_FIRST:
        words = [(word & 0xFF) << 8 | word >> 8 for word in words]
    return words[::-1] if point.word_order is Order.LOW_FIRST else words


def remember(memory: RegisterMemory, profile: Profile, truth: Truth, at_s: float) -> None:
    """Write what *truth* says at *at_s* into *memory*, for every point of *profile*.

    A status point is written in a state that spoils nothing, a NaN as the device's own error code.
    Unused registers that the profile reads across exist and hold 0.
    """
    for point in profile.points:
        if not point.is_numeric:
            memory.put(point, "SIMULATED"[: 2 * point.count])
        elif point.quantity is None:
            memory.put(point, _healthy(point))
        else:
            reading = truth(point.key, at_s)
            raw = _no_reading(point) if math.isnan(reading) else raw_number(point, reading)
            memory.put(point, raw)
    for block in profile.blocks:
        if block.span is not None:
            memory.fill(block.function, *block.span)
        points = sorted(block.points, key=lambda point: point.address)
        for before, after in itertools.pairwise(points):
            if after.address - before.end <= profile.limits.gap:
                memory.fill(block.function, before.end, after.address - 1)


def _healthy(point: Point) -> float:
    for spoil in point.spoils:
        if spoil.except_values:
            return float(spoil.except_values[0])
    bad = {value for spoil in point.spoils for value in spoil.values}
    return float(next(value for value in range(65536) if value not in bad))


def _no_reading(point: Point) -> float:
    if point.type.is_float:
        return math.nan
    if not point.sentinels:
        raise ValueError(f"{point.key} has no code for a missing reading")
    return next(iter(point.sentinels))
