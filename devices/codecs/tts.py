"""Uplinks of The Things Stack version 3 (``v3/…/devices/…/up``), all editions.

The stack leaves out what is empty, 0 or false: no ``f_cnt`` is the count 0, no ``frm_payload`` an
empty frame.  The reading's time is when the network server received it; where that is missing, when
the application server did, and after that the time of receipt.  The gateways (``rx_metadata``) are
not read.

A message that was simulated in the console is marked `Quality.SIMULATED`: it must never raise an
alert.  A message that comes twice has the same times, so its readings fall on the same key; a frame
that comes twice has the same counter and bytes (`Sample.uplink`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from devices.codecs.lorawan.frame import DeviceFrame
from devices.codecs.sample import Sample, Uplink
from devices.codecs.strict_json import instant_us, read
from devices.codecs.uplink import device_samples, frame_bytes
from devices.errors import DecodeError
from devices.quality import Quality

_WHERE = "uplink_message.frm_payload"
_EVENTS = (
    "join_accept",
    "downlink_ack",
    "downlink_nack",
    "downlink_sent",
    "downlink_failed",
    "downlink_queued",
    "downlink_queue_invalidated",
    "location_solved",
    "service_data",
)


class _Uplink(msgspec.Struct, gc=False):
    frm_payload: str = ""
    f_port: int = 0
    f_cnt: int = 0
    session_key_id: str = ""
    received_at: str | None = None


class _Message(msgspec.Struct, gc=False):
    uplink_message: _Uplink | None = None
    received_at: str | None = None
    simulated: bool = False


_read = msgspec.json.Decoder(_Message).decode
_read_any = msgspec.json.Decoder(dict[str, Any]).decode


class TheThingsStack3Codec:
    """Decodes uplinks from devices whose frames are *frame*'s; a `Codec`."""

    def __init__(self, frame: DeviceFrame) -> None:
        self._frame = frame

    def decode(self, payload: bytes) -> list[Sample]:
        """Return the samples of an uplink; `DecodeError` E-EVENT for any other message."""
        message = read(_read, payload)
        uplink = message.uplink_message
        if uplink is None:
            fields = read(_read_any, payload)
            kind = next((event for event in _EVENTS if event in fields), "unknown")
            text = f"payload: got a message of the kind {kind}, expected an uplink"
            raise DecodeError("E-EVENT", text)
        at_us = None
        if uplink.received_at is not None:
            at_us = instant_us(uplink.received_at, "uplink_message.received_at")
        elif message.received_at is not None:
            at_us = instant_us(message.received_at, "received_at")
        quality = int(Quality.SIMULATED) if message.simulated else 0
        data = frame_bytes(uplink.frm_payload, _WHERE)
        frame = Uplink(uplink.f_cnt, uplink.session_key_id, data)
        return device_samples(
            self._frame, data, uplink.f_port, _WHERE, at_us=at_us, quality=quality, uplink=frame
        )
