"""Uplinks of ChirpStack, version 4 (``…/event/up``) and 3 (``…/event/up``, ``application/rx``).

Both leave out what is zero: no ``fCnt`` is the count 0, no ``data`` an empty frame.  The reading's
time is ChirpStack's ``time`` (version 3: ``publishedAt``); where there is none, because no gateway
had a clock, the time of receipt stands in and the reading says so.

ChirpStack sends an uplink once, however many gateways heard it; their list is not read.  A message
that comes twice nevertheless (``deduplicationId`` is the same) has the same ``time``, so its
readings fall on the same key and nothing is stored twice.  A frame that the device itself repeats
has the same counter and bytes (`Sample.uplink`).
"""

from __future__ import annotations

from typing import Any, NoReturn

import msgspec

from devices.codecs.lorawan.frame import DeviceFrame
from devices.codecs.sample import Sample, Uplink
from devices.codecs.strict_json import instant_us, read
from devices.codecs.uplink import Encoding, device_samples, frame_bytes
from devices.errors import DecodeError

# A field that only this event has, or must have where there is no data.
_EVENTS = (
    ("acknowledged", "ack"),
    ("margin", "status"),
    ("batteryLevel", "status"),
    ("location", "location"),
    ("integrationName", "integration"),
    ("level", "log"),
    ("type", "error"),
    ("downlinkId", "txack"),
    ("gatewayId", "txack"),
    ("devAddr", "join"),
)


class _Event(msgspec.Struct, gc=False):
    """What both versions have in common; the names are ChirpStack's."""

    data: str | None = None
    fPort: int = 0
    fCnt: int = 0


class _Event4(_Event, gc=False):
    time: str | None = None
    devAddr: str = ""
    rxInfo: msgspec.Raw = msgspec.Raw()


class _Event3(_Event, gc=False):
    publishedAt: str | None = None


_read4 = msgspec.json.Decoder(_Event4).decode
_read3 = msgspec.json.Decoder(_Event3).decode
_read_any = msgspec.json.Decoder(dict[str, Any]).decode


class ChirpStack4Codec:
    """Decodes uplinks of ChirpStack 4 from devices whose frames are *frame*'s; a `Codec`."""

    def __init__(self, frame: DeviceFrame) -> None:
        self._frame = frame

    def decode(self, payload: bytes) -> list[Sample]:
        """Return the samples of an uplink; `DecodeError` E-EVENT for any other event."""
        event = read(_read4, payload)
        # An uplink always names the gateways that heard it, though its frame may be empty.
        if event.data is None and bytes(event.rxInfo) in (b"", b"null"):
            _not_an_uplink(payload)
        at_us = None if event.time is None else instant_us(event.time, "time")
        data = frame_bytes(event.data or "", "data")
        uplink = Uplink(event.fCnt, event.devAddr, data)
        return device_samples(self._frame, data, event.fPort, "data", at_us=at_us, uplink=uplink)


class ChirpStack3Codec:
    """Decodes uplinks of ChirpStack 3 from devices whose frames are *frame*'s; a `Codec`.

    ChirpStack writes the frame as base64; some bridges behind it rewrite it as *encoding*.
    """

    def __init__(self, frame: DeviceFrame, encoding: Encoding = Encoding.BASE64) -> None:
        self._frame = frame
        self._encoding = encoding

    def decode(self, payload: bytes) -> list[Sample]:
        """Return the samples of an uplink; `DecodeError` E-EVENT for any other event."""
        event = read(_read3, payload)
        # Joins and acknowledgements name gateways, too; only an uplink has data, or a port.
        if event.data is None and not event.fPort:
            _not_an_uplink(payload)
        at_us = None if event.publishedAt is None else instant_us(event.publishedAt, "publishedAt")
        data = frame_bytes(event.data or "", "data", self._encoding)
        uplink = Uplink(event.fCnt, "", data)
        return device_samples(self._frame, data, event.fPort, "data", at_us=at_us, uplink=uplink)


def _not_an_uplink(payload: bytes) -> NoReturn:
    fields = read(_read_any, payload)
    kind = next((event for name, event in _EVENTS if name in fields), "unknown")
    raise DecodeError("E-EVENT", f"payload: got an event of the kind {kind}, expected an uplink")
