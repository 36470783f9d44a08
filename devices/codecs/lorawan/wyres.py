"""Wyres base board: a head of two bytes, then type, length and value; lowest byte first.

There is no published description of the frames.  What stands here was found in the log of a board
on Mont Saint-Eynard (CampusIoT, 2023) by laying its 9,418 frames beside the values that were logged
with them: they agree in every one.  Types of unknown meaning have a length and are passed over.
"""

from __future__ import annotations

from devices.codecs.lorawan.frame import Cursor, refuse
from devices.codecs.sample import Sample

# type: key, size, raw steps to one unit, signed
_TYPES = {
    0x03: ("temperature", 2, 100, True),  # °C
    0x04: ("pressure", 4, 100, False),  # hPa
    0x06: ("light", 1, 1, False),  # of 255
    0x07: ("battery", 2, 1000, False),  # V
}


class WyresCodec:
    """Decodes frames of Wyres base boards; a `DeviceFrame`."""

    def decode(self, payload: bytes, port: int | None = None) -> list[Sample]:
        """Return one sample without a time, an empty one where nothing was measured."""
        cursor = Cursor(payload)
        cursor.take(1, "version")
        length = cursor.big(1, "length")
        if length != cursor.left:
            refuse(1, f"a length of {length}", f"{cursor.left}, as many as follow")
        values: dict[str, float | None] = {}
        ignored = 0
        while cursor.left:
            start = cursor.at
            kind, size = cursor.take(2, "type and length")
            if kind not in _TYPES:
                cursor.take(size, f"type 0x{kind:02x}")
                ignored += 1
                continue
            key, expected, per_unit, signed = _TYPES[kind]
            if size != expected:
                refuse(start + 1, f"{size} bytes of {key}", str(expected))
            if key in values:
                refuse(start, f"{key} a second time", "each type once")
            values[key] = cursor.little(size, key, signed=signed) / per_unit
        return [Sample(None, values, ignored=ignored)]
