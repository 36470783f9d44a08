"""Milesight EM300 and EM500: channel, type and value, again and again; lowest byte first.

The same channel and type means different things on different models (``04 68`` is the air's
humidity on EM300-TH and the soil's moisture on EM500-SMTC), and a kept record (``20 CE``) has
another length on each; so the model is named when the codec is made.  Source: the maker's
SensorDecoders, ``em-series/``.  What was not taken over:

- The raw words 0xFFFF and 0xFFFD are error codes (no answer; out of range).  On EM500-SMTC the
  maker's decoder looks for them after the sign is applied, never finds them and returns -0.1 or
  -0.3 °C.  Here they are looked for in the raw word, wherever no true reading can look the same:
  -0.1 °C is a true temperature of the models that have no such codes.
- EM500-SMTC names conductivity ``electricity`` in the decoder and ``ec`` in its README: ``ec``,
  in µS/cm.  Its README has kept records of 22 bytes, its decoder of 10; 10 it is, and a record of
  22 is refused.
- An alarm of EM500-UDL repeats the distance in another unit than the reading: it is passed over.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from devices.codecs.lorawan.frame import Cursor, refuse, samples_of
from devices.codecs.sample import Sample

_ERROR_CODES = (0xFFFF, 0xFFFD)


@dataclass(frozen=True, slots=True)
class _Field:
    """One number: *per_unit* raw steps make one unit; without a *key* it is passed over.

    *coded* says that the word may hold an error code.  In a kept record of EM300-DI a field with
    *mode* counts only where the record is of that mode.
    """

    key: str
    size: int
    per_unit: int = 1
    signed: bool = False
    coded: bool = False
    real: bool = False
    mode: int = 0


_Fields = tuple[_Field, ...]


def _skip(size: int) -> _Field:
    return _Field("", size)


_MODE = "gpio_type"
_GPIO_MODES = (1, 2)  # a level, a counter

_BATTERY = _Field("battery", 1)  # %
_TEMPERATURE = _Field("temperature", 2, 10, signed=True)  # °C
_PROBE_TEMPERATURE = _Field("temperature", 2, 10, signed=True, coded=True)
_HUMIDITY = _Field("humidity", 1, 2)  # %
_MOISTURE = _Field("moisture", 2, 100, coded=True)  # %
_EC = _Field("ec", 2, coded=True)  # µS/cm
_CO2 = _Field("co2", 2, coded=True)  # ppm
_PRESSURE = _Field("pressure", 2, 10, coded=True)  # hPa
_ILLUMINATION = _Field("illumination", 4)  # lx
_DEPTH = _Field("depth", 2, coded=True)  # cm
_DISTANCE = _Field("distance", 2, coded=True)  # mm
_GPIO = _Field("gpio", 1)
_PULSE = _Field("pulse", 4)
_WATER = (_skip(2), _skip(2), _Field("water", 4, real=True))  # litres a pulse are settings

_KEPT = (0x20, 0xCE)
_KEPT_WATER = (0x21, 0xCE)


@dataclass(frozen=True, slots=True)
class _Model:
    channels: Mapping[tuple[int, int], _Fields]
    records: Mapping[tuple[int, int], _Fields] = field(default_factory=dict)


MODELS: Mapping[str, _Model] = {
    "em300-th": _Model(
        {(0x03, 0x67): (_TEMPERATURE,), (0x04, 0x68): (_HUMIDITY,)},
        {_KEPT: (_TEMPERATURE, _HUMIDITY, _skip(1))},
    ),
    "em300-di": _Model(
        {
            (0x03, 0x67): (_TEMPERATURE,),
            (0x04, 0x68): (_HUMIDITY,),
            (0x05, 0x00): (_GPIO,),
            (0x05, 0xC8): (_PULSE,),
            (0x05, 0xE1): _WATER,
            (0x85, 0x00): (_GPIO, _skip(1)),
            (0x85, 0xE1): (*_WATER, _skip(1)),
        },
        {
            _KEPT: (
                _TEMPERATURE,
                _HUMIDITY,
                _Field(_MODE, 1),
                _Field("gpio", 1, mode=1),
                _Field("pulse", 4, mode=2),
            ),
            _KEPT_WATER: (
                _TEMPERATURE,
                _HUMIDITY,
                _skip(1),
                _Field(_MODE, 1),
                _Field("gpio", 1, mode=1),
                _skip(2),
                _skip(2),
                _Field("water", 4, real=True, mode=2),
            ),
        },
    ),
    "em500-smtc": _Model(
        {
            (0x03, 0x67): (_PROBE_TEMPERATURE,),
            (0x04, 0x68): (_Field("moisture", 1, 2),),
            (0x04, 0xCA): (_MOISTURE,),
            (0x05, 0x7F): (_EC,),
            (0x83, 0xD7): (_PROBE_TEMPERATURE, _skip(2), _skip(1)),
        },
        {_KEPT: (_EC, _PROBE_TEMPERATURE, _MOISTURE)},
    ),
    "em500-co2": _Model(
        {
            (0x03, 0x67): (_TEMPERATURE,),
            (0x04, 0x68): (_HUMIDITY,),
            (0x05, 0x7D): (_CO2,),
            (0x06, 0x73): (_PRESSURE,),
            (0x83, 0xD7): (_TEMPERATURE, _skip(2), _skip(1)),
        },
        {_KEPT: (_CO2, _PRESSURE, _TEMPERATURE, _HUMIDITY)},
    ),
    "em500-lgt": _Model({(0x03, 0x94): (_ILLUMINATION,)}, {_KEPT: (_ILLUMINATION,)}),
    "em500-pp": _Model({(0x03, 0x7B): (_Field("pressure", 2, coded=True),)}),  # kPa
    "em500-swl": _Model({(0x03, 0x77): (_DEPTH,)}, {_KEPT: (_DEPTH,)}),
    "em500-udl": _Model(
        {(0x03, 0x82): (_DISTANCE,), (0x83, 0xE9): (_skip(2), _skip(2), _skip(1))},
        {_KEPT: (_DISTANCE,)},
    ),
}

# What a device says about itself (FF) or answers to a command (FE, FF): the type and its bytes.
_SETTINGS = {
    0x01: 1,
    0x02: 2,
    0x03: 2,
    0x06: 9,
    0x09: 2,
    0x0A: 2,
    0x0B: 1,
    0x0F: 1,
    0x10: 1,
    0x11: 4,
    0x16: 8,
    0x17: 2,
    0x18: 2,
    0x1C: 2,
    0x27: 1,
    0x28: 1,
    0x35: 8,
    0x3B: 1,
    0x4A: 1,
    0x68: 1,
    0x69: 1,
    0x6A: 3,
    0x84: 1,
    0x96: 8,
    0xF2: 2,
    0xF5: 1,
    0xFE: 1,
    0xFF: 2,
}


@dataclass(slots=True)
class _Taken:
    """What one record, or the frame itself, holds."""

    values: dict[str, float | None] = field(default_factory=dict)
    error_codes: list[str] = field(default_factory=list)
    ignored: int = 0


class MilesightCodec:
    """Decodes frames of one *model* (a key of `MODELS`); a `DeviceFrame`.

    Records that the device had kept while it was out of reach come with their own times, in the
    order of the frame, after what it measures now.
    """

    def __init__(self, model: str) -> None:
        self._model = MODELS[model]
        self._name = model.upper()

    def decode(self, payload: bytes, port: int | None = None) -> list[Sample]:
        """Return the samples of a frame; settings and answers to commands are only counted."""
        cursor = Cursor(payload)
        now = _Taken()
        records: list[Sample] = []
        seen: set[tuple[int, int]] = set()
        while cursor.left:
            start = cursor.at
            channel, kind = cursor.take(2, "channel and type")
            name = (channel, kind)
            if fields := self._model.records.get(name):
                records += _record(cursor, fields)
            elif channel in (0xFE, 0xFF) and kind in _SETTINGS:
                cursor.take(_SETTINGS[kind], f"setting 0x{kind:02x}")
                now.ignored += 1
            elif name in seen:
                refuse(start, f"{channel:02x} {kind:02x} a second time", "each channel once")
            elif name == (0x01, 0x75):
                seen.add(name)
                _take(cursor, _BATTERY, now)
            elif name in self._model.channels:
                seen.add(name)
                for part in self._model.channels[name]:
                    _take(cursor, part, now)
            else:
                refuse(start, f"{channel:02x} {kind:02x}", f"a channel and type of {self._name}")
        if records and not now.values and not now.error_codes:
            return records
        return samples_of(now.values, now.error_codes, ignored=now.ignored) + records


def _record(cursor: Cursor, fields: _Fields) -> list[Sample]:
    at_s = cursor.little(4, "the time of a record")
    taken = _Taken()
    start = cursor.at
    for part in fields:
        if not part.mode or part.mode == taken.values[_MODE]:
            _take(cursor, part, taken)
        else:
            cursor.take(part.size, part.key)
    if (mode := taken.values.pop(_MODE, 1)) not in _GPIO_MODES:
        refuse(start, f"a record of the input type {mode}", "1 (level) or 2 (counter)")
    return samples_of(taken.values, taken.error_codes, at_us=at_s * 1_000_000)


def _take(cursor: Cursor, part: _Field, into: _Taken) -> None:
    raw = cursor.take(part.size, part.key or "a field that is not read")
    if not part.key:
        into.ignored += 1
        return
    if part.real:
        value = float(struct.unpack("<f", raw)[0])
        if not math.isfinite(value):
            into.error_codes.append(part.key)
            return
    elif part.coded and int.from_bytes(raw, "little") in _ERROR_CODES:
        into.error_codes.append(part.key)
        return
    else:
        value = int.from_bytes(raw, "little", signed=part.signed) / part.per_unit
    into.values[part.key] = value
