"""The newest reading of each series with its age: what is stale is decided here, once for all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from devices.quality import Quality, QualityLevel, QualityReason, level, reasons
from devices.reading import Batch
from devices.registry import Registry
from devices.series import STALE_AFTER_INTERVALS, Series


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest reading of *series* as of *now_us*; *observed_at_us* is None if there is none.

    *value* is None where the device said that it has none.  A reading that is ahead of our clock
    has the age 0.
    """

    series: Series
    now_us: int
    observed_at_us: int | None = None
    received_at_us: int | None = None
    value: float | None = None
    quality_bits: int = 0

    @property
    def seen(self) -> bool:
        """Whether the series ever had a reading."""
        return self.observed_at_us is not None

    @property
    def age_s(self) -> float | None:
        """Seconds since it was measured."""
        if self.observed_at_us is None:
            return None
        return max(0.0, (self.now_us - self.observed_at_us) / 1e6)

    @property
    def stale(self) -> bool:
        """Whether it is older than three expected intervals, was never seen, or its device is away.

        A device that said that it went away is not waited for.
        """
        age_s = self.age_s
        if self.value is None and self.quality_bits & Quality.COMMUNICATION:
            return True
        return age_s is None or age_s > STALE_AFTER_INTERVALS * self.series.interval_s

    @property
    def level(self) -> QualityLevel | None:
        """Good, suspect or bad; None if there is no reading."""
        return level(self.quality_bits) if self.seen else None

    @property
    def reasons(self) -> list[QualityReason]:
        """Why it is not simply good."""
        return list(reasons(self.quality_bits))


def newest_of(
    registry: Registry, wanted: Sequence[Series], batch: Batch, now_us: int
) -> list[Newest]:
    """Return one entry for each of *wanted*, in its order; *batch* has at most a row a series."""
    rows = {one: row for row, one in enumerate(batch.series_id.tolist())}
    observed, received = batch.observed_at_us.tolist(), batch.received_at_us.tolist()
    values, bits = batch.value.tolist(), batch.quality.tolist()
    found = []
    for series in wanted:
        row = rows.get(registry.series_ids[series.code])
        if row is None:
            found.append(Newest(series, now_us))
            continue
        value = values[row] if math.isfinite(values[row]) else None
        found.append(Newest(series, now_us, observed[row], received[row], value, bits[row]))
    return found
