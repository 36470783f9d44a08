"""Elsys (EMS, ERS, ELT and their kin): type and value, again and again; highest byte first.

Keys are those of the maker's own decoder (``temperature``, ``vdd``, ``pulseAbs``), whose types are
all here except the 64 pixels of a Grid-EYE camera.  Totals of pulses and pressures have no sign
here; the maker's script gives them one above 2^31.  Port 6 carries the device's settings, not
readings.
"""

from __future__ import annotations

from dataclasses import dataclass

from devices.codecs.lorawan.frame import Cursor, refuse
from devices.codecs.sample import Sample

_SETTINGS_PORT = 6
_SETTINGS_TYPE = 0x3E


@dataclass(frozen=True, slots=True)
class _Part:
    """One number of a type; without a *key* it is passed over."""

    key: str
    size: int
    per_unit: int = 1
    signed: bool = False


_TYPES: dict[int, tuple[_Part, ...]] = {
    0x01: (_Part("temperature", 2, 10, True),),  # °C
    0x02: (_Part("humidity", 1),),  # %
    0x03: tuple(_Part(axis, 1, 1, True) for axis in "xyz"),  # 63 is 1 g
    0x04: (_Part("light", 2),),  # lx
    0x05: (_Part("motion", 1),),
    0x06: (_Part("co2", 2),),  # ppm
    0x07: (_Part("vdd", 2),),  # mV
    0x08: (_Part("analog1", 2),),  # mV
    0x09: (_Part("", 6),),  # position, in a form that the maker does not describe
    0x0A: (_Part("pulse1", 2),),
    0x0B: (_Part("pulseAbs", 4),),
    0x0C: (_Part("externalTemperature", 2, 10, True),),  # °C
    0x0D: (_Part("digital", 1),),
    0x0E: (_Part("distance", 2),),  # mm
    0x0F: (_Part("accMotion", 1),),
    0x10: (
        _Part("irInternalTemperature", 2, 10, True),
        _Part("irExternalTemperature", 2, 10, True),
    ),
    0x11: (_Part("occupancy", 1),),
    0x12: (_Part("waterleak", 1),),
    0x13: (_Part("", 65),),
    0x14: (_Part("pressure", 4, 1000),),  # hPa
    0x15: (_Part("soundPeak", 1), _Part("soundAvg", 1)),
    0x16: (_Part("pulse2", 2),),
    0x17: (_Part("pulseAbs2", 4),),
    0x18: (_Part("analog2", 2),),  # mV
    0x19: (_Part("externalTemperature2", 2, 10, True),),  # °C
    0x1A: (_Part("digital2", 1),),
    0x1B: (_Part("analogUv", 4, 1, True),),  # µV
    0x1C: (_Part("tvoc", 2),),  # ppb
    0x3D: (_Part("", 4),),  # for the maker
}
_REPEATED = 0x19  # a chain of probes gives this type once a probe


class ElsysCodec:
    """Decodes frames of Elsys devices; a `DeviceFrame`.

    The second and further probes of a chain get a number: ``externalTemperature2.2``.
    """

    def decode(self, payload: bytes, port: int | None = None) -> list[Sample]:
        """Return one sample without a time, an empty one for settings."""
        cursor = Cursor(payload)
        if port == _SETTINGS_PORT or payload[0] == _SETTINGS_TYPE:
            return [Sample(None, {}, ignored=1)]
        values: dict[str, float | None] = {}
        ignored = probes = 0
        while cursor.left:
            start = cursor.at
            kind = cursor.big(1, "type")
            if kind not in _TYPES:
                refuse(start, f"type 0x{kind:02x}", "a type of Elsys")
            probes += kind == _REPEATED
            for part in _TYPES[kind]:
                number = cursor.big(part.size, part.key or "unread", signed=part.signed)
                if not part.key:
                    ignored += 1
                    continue
                key = f"{part.key}.{probes}" if kind == _REPEATED and probes > 1 else part.key
                if key in values:
                    refuse(start, f"{key} a second time", "each type once")
                values[key] = number / part.per_unit
        return [Sample(None, values, ignored=ignored)]
