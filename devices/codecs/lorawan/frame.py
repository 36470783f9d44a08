"""What all device frames share: a cursor over the bytes, and how values become samples.

A frame has no checksum of its own and no length of its fields, so one wrong byte makes nonsense of
all that follows.  Every decoder here is therefore strict: a frame is understood to its last byte or
refused whole, as `DecodeError` with the code ``E-FRAME`` and the byte at which it stops to make
sense.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NoReturn, Protocol

from devices.codecs.sample import Sample
from devices.errors import DecodeError
from devices.quality import Quality

MAX_FRAME_BYTES = 255  # no region's LoRaWAN carries more


class DeviceFrame(Protocol):
    """A codec for the bytes of one kind of device; a `devices.codecs.sample.Codec` without a port.

    *port* is the LoRaWAN port (FPort) on which the frame came, None where that is not known.  The
    samples have no time, except for records that the device kept and sends with their own.
    """

    def decode(self, payload: bytes, port: int | None = None) -> list[Sample]:
        """Return the samples in the frame, at least one; raise `DecodeError`."""
        ...


class Cursor:
    """Walks over the bytes of one frame; refuses to read what is not there."""

    __slots__ = ("_data", "_size", "at")

    def __init__(self, data: bytes) -> None:
        if not data:
            raise DecodeError("E-EMPTY", "frame is empty (0 bytes)")
        if len(data) > MAX_FRAME_BYTES:
            text = f"frame: got {len(data)} bytes, expected at most {MAX_FRAME_BYTES}"
            raise DecodeError("E-SIZE", text)
        self._data = data
        self._size = len(data)
        self.at = 0

    @property
    def left(self) -> int:
        """How many bytes are still to be read."""
        return self._size - self.at

    def take(self, count: int, what: str) -> bytes:
        """Return the next *count* bytes, which are *what*."""
        at = self.at
        end = at + count
        if end > self._size:
            refuse(at, f"{self.left} bytes to the end", f"{count} bytes of {what}")
        self.at = end
        return self._data[at:end]

    def little(self, count: int, what: str, *, signed: bool = False) -> int:
        """Return the next *count* bytes as an integer, lowest byte first."""
        return int.from_bytes(self.take(count, what), "little", signed=signed)

    def big(self, count: int, what: str, *, signed: bool = False) -> int:
        """Return the next *count* bytes as an integer, highest byte first."""
        return int.from_bytes(self.take(count, what), "big", signed=signed)


def refuse(at: int, got: str, expected: str) -> NoReturn:
    """Raise `DecodeError` for what stands at byte *at* of a frame."""
    raise DecodeError("E-FRAME", f"byte {at}: got {got}, expected {expected}")


def samples_of(
    values: Mapping[str, float | None],
    error_codes: Iterable[str] = (),
    *,
    at_us: int | None = None,
    ignored: int = 0,
) -> list[Sample]:
    """Return *values* as one sample, and the keys in *error_codes* as one more.

    The latter are those for which the device sent an error code: no value, and the quality that
    says so.  A frame without any value gives a sample without any.
    """
    out = [Sample(at_us, dict(values), ignored=ignored)] if values else []
    if missing := dict.fromkeys(error_codes):
        quality = int(Quality.SENTINEL)
        out.append(Sample(at_us, missing, quality=quality, ignored=0 if out else ignored))
    return out or [Sample(at_us, {}, ignored=ignored)]
