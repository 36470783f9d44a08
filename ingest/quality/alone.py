"""What can be told from a reading alone: its line, ranges, error codes, its clock.

The same whenever it is asked: nothing is remembered.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from devices.calibration import Timeline
from devices.quality import Quality
from devices.reading import Batch, FloatArray, Int32Array, Int64Array
from ingest.quality.columns import Columns

IntpArray = npt.NDArray[np.intp]

_PHYSICAL, _SENSOR = np.int32(Quality.PHYSICAL_RANGE), np.int32(Quality.SENSOR_RANGE)
_SENTINEL, _SATURATED = np.int32(Quality.SENTINEL), np.int32(Quality.SATURATED)
_CLOCK, _MANUAL = np.int32(Quality.CLOCK), np.int32(Quality.MANUAL)


@dataclass(frozen=True, slots=True)
class Seen:
    """A batch so far; *raw* is before calibration, *value* after it.

    *series* and *kind* are intp, which NumPy indexes with at once.
    """

    series: IntpArray
    kind: IntpArray
    raw: FloatArray
    value: FloatArray
    quality: Int32Array
    lateness_us: Int64Array


def look(batch: Batch, columns: Columns, timeline: Timeline) -> Seen:
    """Return *batch* on its lines, with the bits that each reading has of itself."""
    series = batch.series_id.astype(np.intp)
    kind = kinds_of(series, columns)
    quality = batch.quality.copy()
    raw, kinds = batch.value, columns.kinds
    wrong = (raw < kinds.sensor_low.take(kind)) | (raw > kinds.sensor_high.take(kind))
    past = raw > kinds.saturates_at.take(kind)
    late_us = batch.received_at_us - batch.observed_at_us
    doubt = (late_us < -kinds.ahead_us.take(kind)) | (late_us > kinds.behind_us.take(kind))
    if (manual := (quality & _MANUAL) != 0).any():  # a sample of last week is not a wrong clock
        wrong, past, doubt = wrong & ~manual, past & ~manual, doubt & ~manual
    for rows, bit in ((wrong, _SENSOR), (past, _SATURATED), (doubt, _CLOCK)):
        if rows.any():
            quality[rows] |= bit
    _mark_codes(series, kind, raw, quality, columns)
    value = _on_line(batch, kind, quality, columns, timeline)
    return Seen(series, kind, raw, value, quality, late_us)


def kinds_of(series: IntpArray, columns: Columns) -> IntpArray:
    """Return the kind of each row's series, 0 where it is not known."""
    if int(series.max(initial=-1)) < columns.size:
        return columns.kind[series]
    known = series < columns.size
    kind = np.zeros(len(series), np.intp)
    kind[known] = columns.kind[series[known]]
    return kind


def _mark_codes(
    series: IntpArray, kind: IntpArray, raw: FloatArray, quality: Int32Array, columns: Columns
) -> None:
    """Mark error codes: those of the kind anywhere, those of any register where it is no value."""
    for number, kinds in columns.kinds.sentinels:
        hit = np.flatnonzero(raw == number)
        if len(hit):
            quality[hit[kinds[kind[hit]]]] |= _SENTINEL
    beyond = np.flatnonzero((quality & (_PHYSICAL | _SENSOR)) != 0)
    if not len(beyond):
        return
    beyond = beyond[kind[beyond] > 0]
    sent = (raw[beyond] - columns.offset[series[beyond]]) / columns.scale[series[beyond]]
    with np.errstate(over="ignore"):  # what overflows is no code
        sent = np.round(sent, 6)  # the way through units may have moved the last digits
    coded = np.isin(sent, columns.codes) | np.isin(raw[beyond], columns.codes)
    quality[beyond[coded]] |= _SENTINEL


def _on_line(
    batch: Batch, kind: IntpArray, quality: Int32Array, columns: Columns, timeline: Timeline
) -> FloatArray:
    """Return the values on their lines; what that makes possible or impossible is marked anew."""
    rows, line = timeline.rows(batch.series_id, batch.observed_at_us)
    if not len(rows):
        return batch.value
    measured = (quality[rows] & _MANUAL) == 0
    rows, line = rows[measured], line[measured]
    quality[rows] |= timeline.bits[line]
    turned = (timeline.gain[line] != 1.0) | (timeline.shift[line] != 0.0)
    rows, line = rows[turned], line[turned]
    if not len(rows):
        return batch.value
    value = batch.value.copy()
    with np.errstate(over="ignore", invalid="ignore"):
        calibrated = batch.value[rows] * timeline.gain[line] + timeline.shift[line]
    calibrated = np.where(np.isinf(calibrated), batch.value[rows], calibrated)
    value[rows] = calibrated
    known = kind[rows] > 0
    rows, calibrated = rows[known], calibrated[known]
    low, high = columns.kinds.low[kind[rows]], columns.kinds.high[kind[rows]]
    beyond = (calibrated < low) | (calibrated > high)
    quality[rows] = np.where(beyond, quality[rows] | _PHYSICAL, quality[rows] & ~_PHYSICAL)
    return value
