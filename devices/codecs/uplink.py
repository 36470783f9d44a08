"""What the uplinks of all network servers share: a device frame as text inside of JSON.

The frame is read by our own codec of the device, never taken from the server's decoding: that is
the maker's script, with its faults (`devices.codecs.lorawan`).
"""

from __future__ import annotations

import base64
import binascii
from enum import StrEnum

from devices.codecs.lorawan.frame import DeviceFrame
from devices.codecs.sample import Sample, Uplink
from devices.codecs.strict_json import shorten
from devices.errors import DecodeError


class Encoding(StrEnum):
    """How the frame stands in the JSON; a hexadecimal text may look like base64."""

    BASE64 = "base64"
    HEX = "hex"


def frame_bytes(text: str, where: str, encoding: Encoding = Encoding.BASE64) -> bytes:
    """Return the bytes of the frame that stands as *text* in the field *where*."""
    try:
        if encoding is Encoding.HEX:
            return binascii.unhexlify(text)
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        got = f"{where}: got {shorten(text)}"
        raise DecodeError("E-FRAME", f"{got}, expected {encoding.value}") from error


def device_samples(
    frame: DeviceFrame,
    data: bytes,
    port: int,
    where: str,
    *,
    at_us: int | None,
    quality: int = 0,
    uplink: Uplink | None = None,
) -> list[Sample]:
    """Return what *frame* reads in *data*; samples without a time of their own get *at_us*.

    *uplink* goes with that time.  One without data, which a device sends to answer its network,
    gives an empty sample.
    """
    if not data:
        return [Sample(at_us, {}, quality=quality)]
    try:
        samples = frame.decode(data, port)
    except DecodeError as error:
        raise DecodeError(error.code, f"{where}: {error.text}") from error
    return [
        Sample(
            at_us if sample.observed_at_us is None else sample.observed_at_us,
            sample.values,
            sample.device,
            sample.quality | quality,
            sample.ignored,
            uplink=uplink if sample.observed_at_us is None else None,
        )
        for sample in samples
    ]
