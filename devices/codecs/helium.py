"""Uplinks of the Helium console's MQTT integration, one message a hotspot that sold the frame.

The time is ``reported_at``, milliseconds since 1970 of the hotspot.  A frame that several hotspots
sold, or that one held and sold later, comes again with another time; counter and bytes tell that it
is the same (`Sample.uplink`).
"""

from __future__ import annotations

import msgspec

from devices.codecs.lorawan.frame import DeviceFrame
from devices.codecs.sample import Sample, Uplink
from devices.codecs.strict_json import read
from devices.codecs.uplink import device_samples, frame_bytes
from devices.errors import DecodeError

_LAST_MS = 253_402_300_799_999  # the end of the year 9999


class _Message(msgspec.Struct, gc=False):
    payload: str | None = None
    port: int = 0
    fcnt: int = 0
    devaddr: str = ""
    reported_at: int | None = None
    type: str = "uplink"


_read = msgspec.json.Decoder(_Message).decode


class HeliumCodec:
    """Decodes uplinks from devices whose frames are *frame*'s; a `Codec`."""

    def __init__(self, frame: DeviceFrame) -> None:
        self._frame = frame

    def decode(self, payload: bytes) -> list[Sample]:
        """Return the samples of an uplink; `DecodeError` E-EVENT for any other message."""
        message = read(_read, payload)
        if message.payload is None or message.type != "uplink":
            kind = message.type if message.type != "uplink" else "unknown"
            text = f"payload: got a message of the kind {kind}, expected an uplink"
            raise DecodeError("E-EVENT", text)
        at_us = None
        if message.reported_at is not None:
            if not 0 <= message.reported_at <= _LAST_MS:
                text = f"reported_at: got {message.reported_at}, expected milliseconds since 1970"
                raise DecodeError("E-TIME", text)
            at_us = message.reported_at * 1000
        data = frame_bytes(message.payload, "payload")
        uplink = Uplink(message.fcnt, message.devaddr, data)
        return device_samples(
            self._frame, data, message.port, "payload", at_us=at_us, uplink=uplink
        )
