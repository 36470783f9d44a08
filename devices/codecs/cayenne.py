"""Cayenne Low Power Payload: channel, type and value, again and again; highest byte first.

Keys are the type's name and the channel (``temperature.3``); a type with several values adds theirs
(``gps.1.latitude``).  Types, sizes and steps are those of the ElectronicCats library (e3defd7).
A type carries no length, so an unknown one makes the rest unreadable and the frame is refused; so
is a polyline, which is a track and no reading.  A ``unix_time`` is a value like the others: the
format does not say whether it is the moment of the measurement.
"""

from __future__ import annotations

from dataclasses import dataclass

from devices.codecs.lorawan.frame import Cursor, refuse
from devices.codecs.sample import Sample


@dataclass(frozen=True, slots=True)
class _Part:
    """One number of a type: *per_unit* raw steps make one unit."""

    name: str
    size: int
    per_unit: int = 1
    signed: bool = False


@dataclass(frozen=True, slots=True)
class _Type:
    name: str
    parts: tuple[_Part, ...]


def _one(name: str, size: int, per_unit: int = 1, *, signed: bool = False) -> _Type:
    return _Type(name, (_Part("", size, per_unit, signed),))


def _axes(name: str, per_unit: int) -> _Type:
    return _Type(name, tuple(_Part(axis, 2, per_unit, True) for axis in "xyz"))


_TYPES = {
    0x00: _one("digital_input", 1),
    0x01: _one("digital_output", 1),
    0x02: _one("analog_input", 2, 100, signed=True),
    0x03: _one("analog_output", 2, 100, signed=True),
    0x64: _one("generic", 4),
    0x65: _one("illuminance", 2),  # lx
    0x66: _one("presence", 1),
    0x67: _one("temperature", 2, 10, signed=True),  # °C
    0x68: _one("relative_humidity", 1, 2),  # %
    0x71: _axes("acceleration", 1000),  # g
    0x73: _one("pressure", 2, 10),  # hPa
    0x74: _one("voltage", 2, 100),  # V
    0x75: _one("current", 2, 1000),  # A
    0x76: _one("frequency", 4),  # Hz
    0x78: _one("percentage", 1),  # %
    0x79: _one("altitude", 2, signed=True),  # m
    0x7D: _one("concentration", 2),  # ppm
    0x80: _one("power", 2),  # W
    0x82: _one("distance", 4, 1000),  # m
    0x83: _one("energy", 4, 1000),  # kWh
    0x84: _one("direction", 2),  # degrees
    0x85: _one("unix_time", 4),  # s
    0x86: _axes("gyrometer", 100),  # degrees/s
    0x87: _Type("colour", tuple(_Part(name, 1) for name in ("red", "green", "blue"))),
    0x88: _Type(
        "gps",
        (
            _Part("latitude", 3, 10_000, True),
            _Part("longitude", 3, 10_000, True),
            _Part("altitude", 3, 100, True),
        ),
    ),
    0x8E: _one("switch", 1),
}


class CayenneCodec:
    """Decodes Cayenne LPP; implements `devices.codecs.lorawan.frame.DeviceFrame`."""

    def decode(self, payload: bytes, port: int | None = None) -> list[Sample]:
        """Return one sample without a time; the same channel and type twice is a mistake."""
        cursor = Cursor(payload)
        values: dict[str, float | None] = {}
        while cursor.left:
            start = cursor.at
            channel, number = cursor.take(2, "channel and type")
            kind = _TYPES.get(number)
            if kind is None:
                refuse(start + 1, f"type 0x{number:02x}", "a type of Cayenne LPP")
            name = f"{kind.name}.{channel}"
            for part in kind.parts:
                key = f"{name}.{part.name}" if part.name else name
                if key in values:
                    refuse(start, f"{key} a second time", "each channel and type once")
                values[key] = cursor.big(part.size, key, signed=part.signed) / part.per_unit
        return [Sample(None, values)]
