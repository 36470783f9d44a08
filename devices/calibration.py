"""Calibrations and quality windows, and what they come to for a reading: one line a moment.

A calibration of a series holds from a moment until the next one: ``value = raw * gain + shift``,
both in the quantity's unit, *raw* being what the device sent after the conversion of units.  A
window is a span in which a series, a device or everything at a site was being calibrated,
maintained or out of use; its readings carry the bit that says so.

`Timeline` lays both out as stretches of each series, so that a batch of readings finds its lines by
one binary search.  Since the line of every moment is known, the raw value is too: `Timeline.raw`
recovers it within 2**-50 * (|raw| + |shift / gain|).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from devices.quality import Quality
from devices.reading import FloatArray, Int32Array, Int64Array
from devices.registry import Registry

FIRST_US = -(1 << 62)  # before every reading; what a stretch without a beginning starts at
LAST_US = 1 << 62
MOST_GAIN = 1000.0


class CalibrationError(ValueError):
    """A calibration or window that makes no sense; the text says what was expected."""


class WindowKind(StrEnum):
    """What was going on in a window."""

    CALIBRATION = "calibration"
    MAINTENANCE = "maintenance"
    STOPPED = "stopped"


class Scope(StrEnum):
    """What a window is over."""

    SERIES = "series"
    DEVICE = "device"
    SITE = "site"


_BITS = {
    WindowKind.CALIBRATION: int(Quality.CALIBRATION),
    WindowKind.MAINTENANCE: int(Quality.MAINTENANCE),
    WindowKind.STOPPED: int(Quality.STOPPED),
}
_DUE = int(Quality.CALIBRATION_DUE)
_MANUAL = np.int32(Quality.MANUAL)


@dataclass(frozen=True, slots=True)
class Line:
    """``value = raw * gain + shift`` with *bits* of quality."""

    gain: float = 1.0
    shift: float = 0.0
    bits: int = 0


PLAIN = Line()


@dataclass(frozen=True, slots=True)
class Calibration:
    """One entry of the calibration book: *series* (code) is on this line from *from_us* on.

    Instants are microseconds UTC.  *points* are the (raw, true) pairs it was computed from, if any;
    *due_us* is when the next one is due, None where nobody said.  Of two entries of one series and
    moment the one of the later *revision* counts; *withdrawn* says that then none does.
    """

    series: str
    from_us: int
    gain: float
    shift: float
    actor: str
    method: str = ""
    reference: str = ""
    note: str = ""
    due_us: int | None = None
    points: tuple[tuple[float, float], ...] = ()
    withdrawn: bool = False
    id: int = 0
    revision: int = 0
    entered_us: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """A span [*start_us*, *end_us*) in which what *scope* and *code* name was not measuring.

    *replaces* is the id of an earlier window that counts no more; *withdrawn* says that this one
    stands for nothing itself.
    """

    scope: Scope
    code: str
    kind: WindowKind
    start_us: int
    end_us: int
    actor: str
    reason: str = ""
    replaces: int | None = None
    withdrawn: bool = False
    id: int = 0
    revision: int = 0
    entered_us: int = 0


@dataclass(frozen=True, slots=True)
class Ledger:
    """All entries up to *revision*; readings in the database follow it up to *applied*."""

    calibrations: tuple[Calibration, ...] = ()
    windows: tuple[Window, ...] = ()
    revision: int = 0
    applied: int = 0

    def until(self, revision: int) -> Ledger:
        """Return the ledger as it was at *revision*."""
        return replace(
            self,
            calibrations=tuple(one for one in self.calibrations if one.revision <= revision),
            windows=tuple(one for one in self.windows if one.revision <= revision),
            revision=min(revision, self.revision),
        )

    def in_force(self) -> dict[str, list[Calibration]]:
        """Return the calibrations that count, by series, the oldest first."""
        newest: dict[tuple[str, int], Calibration] = {}
        for one in sorted(self.calibrations, key=lambda one: one.revision):
            newest[one.series, one.from_us] = one
        found: dict[str, list[Calibration]] = {}
        for (series, _), one in sorted(newest.items()):
            if not one.withdrawn:
                found.setdefault(series, []).append(one)
        return found

    def windows_in_force(self) -> list[Window]:
        """Return the windows that count, the oldest entry first."""
        replaced = {one.replaces for one in self.windows}
        return [one for one in self.windows if not one.withdrawn and one.id not in replaced]

    def current(self, series: str, at_us: int) -> Calibration | None:
        """Return the calibration that *series* is on at *at_us*, None before the first."""
        before = [one for one in self.in_force().get(series, ()) if one.from_us <= at_us]
        return before[-1] if before else None


def line_through(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return (gain, shift) of the line through (raw, true) pairs, the best one for three or more.

    One pair moves the line and leaves its slope.  Raises `CalibrationError` for pairs that no line
    that rises goes through.
    """
    if not points:
        raise CalibrationError("got no points, expected at least one pair raw=true")
    raw = [float(one) for one, _ in points]
    true = [float(one) for _, one in points]
    if not all(map(math.isfinite, (*raw, *true))):
        raise CalibrationError("got a point that is not finite")
    if len(points) == 1:
        return 1.0, true[0] - raw[0]
    middle_raw, middle_true = sum(raw) / len(raw), sum(true) / len(true)
    spread = sum((one - middle_raw) ** 2 for one in raw)
    if spread <= 0:
        raise CalibrationError("got points with the same raw value, expected different ones")
    both = zip(raw, true, strict=True)
    gain = sum((one - middle_raw) * (other - middle_true) for one, other in both) / spread
    shift = middle_true - gain * middle_raw
    check_line(gain, shift)
    return gain, shift


def check_line(gain: float, shift: float) -> None:
    """Raise `CalibrationError` unless *gain* and *shift* can be those of a sensor."""
    if not (math.isfinite(gain) and 1 / MOST_GAIN <= gain <= MOST_GAIN):
        expected = f"a gain from {1 / MOST_GAIN:g} to {MOST_GAIN:g}"
        raise CalibrationError(f"got gain {gain:g}, expected {expected}")
    if not (math.isfinite(shift) and abs(shift) <= 1e9):
        raise CalibrationError(f"got offset {shift:g}, expected one up to a thousand million")


@dataclass(frozen=True, slots=True)
class Stretch:
    """*line* holds for a series in [*start_us*, *end_us*)."""

    start_us: int
    end_us: int
    line: Line


@dataclass(frozen=True, slots=True)
class Change:
    """Readings of *series_id* in [*start_us*, *end_us*) were on *old* and belong on *new*."""

    series_id: int
    start_us: int
    end_us: int
    old: Line
    new: Line


@dataclass(frozen=True, slots=True)
class Timeline:
    """The lines of all series that have any, as columns; see `Timeline.build`.

    *first* and *count* (by series number) say where the stretches of a series lie in the others;
    the first of them begins at `FIRST_US`.
    """

    revision: int
    stretches: Mapping[int, tuple[Stretch, ...]]
    first: Int64Array
    count: Int64Array
    start_us: Int64Array
    gain: FloatArray
    shift: FloatArray
    bits: Int32Array
    steps: int = field(default=0)

    @staticmethod
    def build(ledger: Ledger, registry: Registry) -> Timeline:
        """Lay *ledger* out for the series of *registry*; what that does not know is left out."""
        calibrations, over = ledger.in_force(), _windows_by_series(ledger, registry)
        found: dict[int, tuple[Stretch, ...]] = {}
        for code in sorted({*calibrations, *over}):
            number = registry.series_ids.get(code)
            if number is not None:
                found[number] = tuple(_stretches(calibrations.get(code, ()), over.get(code, ())))
        return Timeline._laid_out(ledger.revision, found)

    @staticmethod
    def _laid_out(revision: int, found: Mapping[int, tuple[Stretch, ...]]) -> Timeline:
        size = max(found, default=-1) + 1
        first, count = np.zeros(size, np.int64), np.zeros(size, np.int64)
        flat: list[Stretch] = []
        for number, stretches in found.items():
            first[number], count[number] = len(flat), len(stretches)
            flat += stretches
        longest = int(count.max(initial=0))
        return Timeline(
            revision,
            found,
            first,
            count,
            np.array([one.start_us for one in flat], np.int64),
            np.array([one.line.gain for one in flat], np.float64),
            np.array([one.line.shift for one in flat], np.float64),
            np.array([one.line.bits for one in flat], np.int32),
            max(0, longest - 1).bit_length(),
        )

    def __bool__(self) -> bool:
        return bool(self.stretches)

    def rows(self, series_id: Int32Array, at_us: Int64Array) -> tuple[npt.NDArray[np.intp], ...]:
        """Return (rows that have a line, position of the line of each of these)."""
        if not self.stretches:
            none = np.empty(0, np.intp)
            return none, none
        known = series_id < len(self.count)
        has = np.zeros(len(series_id), bool)
        has[known] = self.count[series_id[known]] > 0
        rows = np.flatnonzero(has)
        if not len(rows):
            return rows, rows
        series, at = series_id[rows], at_us[rows]
        low, high = self.first[series], self.first[series] + self.count[series] - 1
        for _ in range(self.steps):
            middle = (low + high + 1) >> 1
            before = self.start_us[middle] <= at
            low, high = np.where(before, middle, low), np.where(before, high, middle - 1)
        return rows, low

    def raw(
        self, series_id: int, at_us: Int64Array, value: FloatArray, quality: Int32Array
    ) -> FloatArray:
        """Return what the device sent, in the quantity's unit, for stored readings of a series.

        What a person entered was never on a line and is returned as it is.
        """
        rows, at = self.rows(np.full(len(at_us), series_id, np.int32), at_us)
        recovered = value.copy()
        turned = (self.gain[at] != 1.0) | (self.shift[at] != 0.0)
        turned &= (quality[rows] & _MANUAL) == 0
        rows, at = rows[turned], at[turned]
        recovered[rows] = (value[rows] - self.shift[at]) / self.gain[at]
        return recovered


def changes(old: Timeline, new: Timeline) -> Iterator[Change]:
    """Yield the stretches on which *old* and *new* differ, by series and time."""
    everywhere = (Stretch(FIRST_US, LAST_US, PLAIN),)
    for number in sorted({*old.stretches, *new.stretches}):
        before = old.stretches.get(number, everywhere)
        after = new.stretches.get(number, everywhere)
        cuts = sorted({one.start_us for one in (*before, *after)})
        open_change: Change | None = None
        for start, end in zip(cuts, [*cuts[1:], LAST_US], strict=True):
            was, will = _line_at(before, start), _line_at(after, start)
            if was == will:
                continue
            if open_change and (open_change.end_us, open_change.old, open_change.new) == (
                start,
                was,
                will,
            ):
                open_change = replace(open_change, end_us=end)
                continue
            if open_change:
                yield open_change
            open_change = Change(number, start, end, was, will)
        if open_change:
            yield open_change


def _line_at(stretches: Sequence[Stretch], at_us: int) -> Line:
    return next(one.line for one in reversed(stretches) if one.start_us <= at_us)


def _windows_by_series(ledger: Ledger, registry: Registry) -> dict[str, list[Window]]:
    """Return the windows over each series: its own, its device's and those of the sites above."""
    named: dict[tuple[Scope, str], list[Window]] = {}
    for one in ledger.windows_in_force():
        named.setdefault((one.scope, one.code), []).append(one)
    if not named:
        return {}
    above = {
        site.code: [one.code for one in registry.ancestors(site.code)] for site in registry.sites
    }
    found: dict[str, list[Window]] = {}
    for series in registry.series.values():
        keys = [(Scope.SERIES, series.code), (Scope.DEVICE, series.device)]
        keys += [(Scope.SITE, code) for code in above.get(series.site, ())]
        if over := [one for key in keys for one in named.get(key, ())]:
            found[series.code] = over
    return found


def _stretches(calibrations: Iterable[Calibration], windows: Iterable[Window]) -> Iterator[Stretch]:
    calibrations, windows = list(calibrations), list(windows)
    cuts = {FIRST_US, *(one.from_us for one in calibrations)}
    cuts |= {at for one in windows for at in (one.start_us, one.end_us)}
    cuts |= {one.due_us for one in calibrations if one.due_us is not None}
    starts = sorted(cuts)
    for start, end in zip(starts, [*starts[1:], LAST_US], strict=True):
        current = next((one for one in reversed(calibrations) if one.from_us <= start), None)
        bits = 0
        for one in windows:
            if one.start_us <= start < one.end_us:
                bits |= _BITS[one.kind]
        if current is None:
            yield Stretch(start, end, Line(bits=bits))
            continue
        if current.due_us is not None and current.due_us <= start:
            bits |= _DUE
        yield Stretch(start, end, Line(current.gain, current.shift, bits))
