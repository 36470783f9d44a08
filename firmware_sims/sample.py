"""What a simulated device has measured: values under its own keys, at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Sample:
    """*at_us* is when it really was, *stamp_us* what the device's clock said then.

    Both are microseconds since 1970 UTC; only the stamp is sent.  A value is None where the sensor
    had no reading.
    """

    at_us: int
    stamp_us: int
    values: Mapping[str, float | None]

    def with_values(self, values: Mapping[str, float | None]) -> Sample:
        """Return the same moment with other values."""
        return replace(self, values=values)

    def stamped(self, stamp_us: int) -> Sample:
        """Return the same values under another clock."""
        return replace(self, stamp_us=stamp_us)
