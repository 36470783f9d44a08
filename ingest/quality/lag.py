"""A clock that is steadily behind: readings that arrive at their pace and are all equally old.

Data that was held up arrives faster than it was measured, and gets younger.  A device whose clock
was set back, or that takes its own noon for ours, sends on at its usual pace, every reading as late
as the one before.  The first of them cannot be told from a late one; the second can.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from devices.reading import Int64Array
from ingest.quality.columns import Columns

BoolArray = npt.NDArray[np.bool_]
IntpArray = npt.NDArray[np.intp]

_NEVER_US = -(1 << 62)
_SAME_LEAST_US = 5_000_000


@dataclass(slots=True)
class Lag:
    """The last late reading of each series: when it came, and how late."""

    received_us: Int64Array = field(default_factory=lambda: np.empty(0, np.int64))
    lateness_us: Int64Array = field(default_factory=lambda: np.empty(0, np.int64))

    def grow(self, size: int) -> None:
        """Make room for series up to *size*."""
        more = size - len(self.received_us)
        if more > 0:
            never = np.full(more, _NEVER_US, np.int64)
            self.received_us = np.concatenate([self.received_us, never])
            self.lateness_us = np.concatenate([self.lateness_us, np.zeros(more, np.int64)])

    def judge(
        self,
        series: IntpArray,
        kind: IntpArray,
        received_us: Int64Array,
        lateness_us: Int64Array,
        columns: Columns,
    ) -> BoolArray:
        """Return which rows, in the order of arrival, are of a clock that is steadily behind."""
        kinds = columns.kinds
        steady = np.zeros(len(series), bool)
        late = np.flatnonzero(
            (lateness_us > kinds.lag_us[kind]) & (lateness_us > 4 * kinds.pace_us[kind])
        )
        if not len(late):
            return steady
        late = late[np.argsort(series[late], kind="stable")]
        number, pace = series[late], kinds.pace_us[kind[late]]
        came, lateness = received_us[late], lateness_us[late]
        first = np.empty(len(late), bool)
        first[:1] = True
        first[1:] = number[1:] != number[:-1]
        came_before = np.where(first, self.received_us[number], np.roll(came, 1))
        late_before = np.where(first, self.lateness_us[number], np.roll(lateness, 1))
        since = came - came_before
        at_pace = (2 * since >= pace) & (since <= 4 * pace)
        equally = np.abs(lateness - late_before) <= np.maximum(_SAME_LEAST_US, pace // 4)
        steady[late] = at_pace & equally & (late_before > 0)
        last = np.append(number[1:] != number[:-1], True)
        self.received_us[number[last]] = came[last]
        self.lateness_us[number[last]] = lateness[last]
        return steady
