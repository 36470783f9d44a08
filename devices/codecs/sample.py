"""What every codec returns: values under the device's own keys, at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from devices.reading import FloatArray, Int32Array

MAX_PAYLOAD_BYTES = 65_536
MAX_SAMPLES = 1_000
MAX_READINGS = 1_000


class Uplink(msgspec.Struct, frozen=True, gc=False):
    """What tells one frame of a LoRaWAN device from another: two that are equal are one frame.

    *counter* is the device's frame counter, *session* whatever names the join that it counts from
    (empty where the network server does not say), *frame* the bytes.
    """

    counter: int
    session: str
    frame: bytes


class Sample(msgspec.Struct, frozen=True, gc=False):
    """Values that were measured at one moment.

    *observed_at_us* is microseconds since 1970 UTC, None where the device gives no time.  Then
    *after_receipt_us* says how long after the message came (before it, where negative) they were
    measured, for devices that tell times from now.  *values*
    maps the device's own key to a number in the device's own unit; None says that the sensor had no
    reading.  *device* is the sender's own name of itself where the payload carries one.  *quality*
    holds bits (`devices.quality.Quality`) that the codec knows of.  *ignored* is how many fields of
    the payload nobody reads; the first sample of a payload carries the number for all of it.
    *uplink* is the frame whose time the network server told, for it may bring one twice with two
    times.
    """

    observed_at_us: int | None
    values: Mapping[str, float | None]
    device: str | None = None
    quality: int = 0
    ignored: int = 0
    after_receipt_us: int = 0
    uplink: Uplink | None = None


class Codec(Protocol):
    """Turns one payload into samples; raises `devices.errors.DecodeError` and nothing else."""

    def decode(self, payload: bytes) -> list[Sample]:
        """Return the samples in *payload*, in its order; at least one."""
        ...


class Columns(Protocol):
    """How the bytes of one kind of block become values, many blocks at once."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The device's keys, one a column."""
        ...

    def rows(self, data: Sequence[bytes]) -> tuple[FloatArray, Int32Array]:
        """Return values in the device's unit and quality bits, each (len(data), len(keys)).

        NaN stands for a value that the device says it does not have.
        """
        ...


class Block(msgspec.Struct, frozen=True, gc=False):
    """Values that were measured at one moment, still as bytes."""

    columns: Columns
    observed_at_us: int
    data: bytes


@runtime_checkable
class BlockCodec(Codec, Protocol):
    """A codec some of whose payloads can be decoded together with others of their kind."""

    def blocks(self, payload: bytes) -> list[Block] | None:
        """Return what *payload* is made of, None if it must be read by `decode`.

        Blocks give the same readings as `decode` does.  Raises `DecodeError` as that does.
        """
        ...
