"""What every codec returns: values under the device's own keys, at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

MAX_PAYLOAD_BYTES = 65_536
MAX_SAMPLES = 1_000
MAX_READINGS = 1_000


class Sample(msgspec.Struct, frozen=True, gc=False):
    """Values that were measured at one moment.

    *observed_at_us* is microseconds since 1970 UTC, None where the device gives no time.  Then
    *after_receipt_us* says how long after the message came (before it, where negative) they were
    measured, for devices that tell times from now.  *values*
    maps the device's own key to a number in the device's own unit; None says that the sensor had no
    reading.  *device* is the sender's own name of itself where the payload carries one.  *quality*
    holds bits (`devices.quality.Quality`) that the codec knows of.  *ignored* is how many fields of
    the payload nobody reads; the first sample of a payload carries the number for all of it.
    """

    observed_at_us: int | None
    values: Mapping[str, float | None]
    device: str | None = None
    quality: int = 0
    ignored: int = 0
    after_receipt_us: int = 0


class Codec(Protocol):
    """Turns one payload into samples; raises `devices.errors.DecodeError` and nothing else."""

    def decode(self, payload: bytes) -> list[Sample]:
        """Return the samples in *payload*, in its order; at least one."""
        ...
