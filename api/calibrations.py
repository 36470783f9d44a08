"""The calibration book as HTTP sees it: who keeps it, and how its entries are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from api.history import ReadingHistory
from api.instants import format_instant
from devices.calibration import Calibration, Ledger, Scope, Timeline, Window, WindowKind
from storage.calibrations import KeptCorrection
from storage.history import Points


class CalibrationBook(Protocol):
    """What `greenhouse.quality_room.QualityRoom` answers; may raise `DatabaseUnavailable`."""

    @property
    def ledger(self) -> Ledger:
        """The book as it is known now; may be a few seconds old."""
        ...

    async def add_calibration(self, entry: Calibration) -> Calibration:
        """Enter *entry* for good and return it with its number."""
        ...

    async def add_window(self, entry: Window) -> Window:
        """Enter *entry* for good and return it with its number."""
        ...

    async def corrections(self, series: str | None, limit: int) -> list[KeptCorrection]:
        """Return up to *limit* corrections of stored readings, the newest first."""
        ...


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class CalibrationShape(_Shape):
    """``value = raw * gain + offset``, in the series' unit, from *from* until the next one."""

    id: int
    series: str
    from_: str = Field(alias="from")
    gain: float
    offset: float
    points: list[tuple[float, float]] = Field(description="pairs [raw, true] it comes from")
    method: str
    reference: str
    note: str
    actor: str
    entered_at: str
    due: str | None = Field(description="when the next one is due")
    in_force: bool = Field(description="whether it is what readings of now are on")
    overdue: bool = Field(description="in force, and the next one should have been")
    withdrawn: bool = Field(description="it counts no more")
    applied: bool = Field(description="whether stored readings follow it already")


class WindowShape(_Shape):
    """A span in which a series, a device or a site was not measuring."""

    id: int
    scope: Scope
    code: str
    kind: WindowKind
    from_: str = Field(alias="from")
    to: str
    reason: str
    actor: str
    entered_at: str
    applied: bool = Field(description="whether stored readings follow it already")


class CorrectionShape(_Shape):
    """What an entry about the past did to stored readings; *finished_at* null: not done yet."""

    id: int
    series: str
    from_: str | None = Field(alias="from", description="null: from the first reading on")
    to: str | None = Field(description="null: to the last reading")
    readings: int
    finished_at: str | None


def calibration_shapes(ledger: Ledger, now_us: int) -> list[CalibrationShape]:
    """Return every calibration that was entered, the newest entry first."""
    in_force = {
        one.id
        for series in {one.series for one in ledger.calibrations}
        if (one := ledger.current(series, now_us)) is not None
    }
    counting = {one.id for entries in ledger.in_force().values() for one in entries}
    return [
        calibration_shape(one, ledger, now_us, one.id in in_force, one.id in counting)
        for one in reversed(ledger.calibrations)
        if not one.withdrawn
    ]


def calibration_shape(
    one: Calibration, ledger: Ledger, now_us: int, in_force: bool, counts: bool = True
) -> CalibrationShape:
    """Return *one* as the API tells it."""
    return CalibrationShape(
        id=one.id,
        series=one.series,
        from_=format_instant(one.from_us),
        gain=one.gain,
        offset=one.shift,
        points=list(one.points),
        method=one.method,
        reference=one.reference,
        note=one.note,
        actor=one.actor,
        entered_at=format_instant(one.entered_us),
        due=None if one.due_us is None else format_instant(one.due_us),
        in_force=in_force,
        overdue=in_force and one.due_us is not None and one.due_us <= now_us,
        withdrawn=not counts,
        applied=one.revision <= ledger.applied,
    )


def window_shape(one: Window, ledger: Ledger) -> WindowShape:
    """Return *one* as the API tells it."""
    return WindowShape(
        id=one.id,
        scope=one.scope,
        code=one.code,
        kind=one.kind,
        from_=format_instant(one.start_us),
        to=format_instant(one.end_us),
        reason=one.reason,
        actor=one.actor,
        entered_at=format_instant(one.entered_us),
        applied=one.revision <= ledger.applied,
    )


_YEAR_1970_US, _YEAR_2200_US = 0, 7_258_118_400_000_000


def correction_shape(one: KeptCorrection) -> CorrectionShape:
    """Return *one* as the API tells it; what has no end on a side is null there."""
    return CorrectionShape(
        id=one.id,
        series=one.series,
        from_=format_instant(one.start_us) if one.start_us > _YEAR_1970_US else None,
        to=format_instant(one.end_us) if one.end_us < _YEAR_2200_US else None,
        readings=one.readings,
        finished_at=None if one.finished_us is None else format_instant(one.finished_us),
    )


def overdue(ledger: Ledger, now_us: int) -> list[Calibration]:
    """Return the calibrations in force whose successors are due, the longest first."""
    current = (ledger.current(series, now_us) for series in ledger.in_force())
    late = [one for one in current if one is not None and one.due_us is not None]
    return sorted(
        (one for one in late if (one.due_us or 0) <= now_us), key=lambda one: one.due_us or 0
    )


class Uncalibrated:
    """*history* as the devices sent it: readings off the lines of *timeline* again."""

    def __init__(self, history: ReadingHistory, timeline: Timeline) -> None:
        self._history = history
        self._timeline = timeline
        self.rolled = history.rolled
        self.count = history.count
        self.latest = history.latest

    async def raw(
        self, series_ids: Sequence[int], start_us: int, end_us: int, limit: int
    ) -> dict[int, Points]:
        """Return the readings of each series in [start, end), the oldest *limit* of each."""
        found = await self._history.raw(series_ids, start_us, end_us, limit)
        return {
            number: replace(
                points,
                value=self._timeline.raw(number, points.at_us, points.value, points.quality),
            )
            for number, points in found.items()
        }
