"""Decentlab, protocol version 2: version, device, flags, then the words of the flagged sensors.

Words are 16 bits, highest byte first.  The flags say which of the model's sensors follow, but not
which model speaks, so the model is named when the codec is made.  Formulas and keys are those of
the maker's decentlab-decoders; volumetric water content is a fraction (m³/m³).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from devices.codecs.lorawan.frame import Cursor, refuse
from devices.codecs.sample import Sample

_VERSION = 2
_MIDDLE = 32_768  # of a word: where the maker puts zero for what may be negative

_Words = Sequence[int]
_Values = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class _Sensor:
    """What one flag stands for: *words* words and how to read them."""

    words: int
    read: Callable[[_Words], _Values]


_BATTERY = _Sensor(1, lambda words: {"battery_voltage": words[0] / 1000})  # V

_ATM41 = (
    ("solar_radiation", 1),  # W/m²
    ("precipitation", 1000),  # mm
    ("lightning_strike_count", 1),
    ("lightning_average_distance", 1),  # km
    ("wind_speed", 100),  # m/s
    ("wind_direction", 10),  # degrees
    ("maximum_wind_speed", 100),  # m/s
    ("air_temperature", 10),  # °C
    ("vapor_pressure", 100),  # kPa
    ("atmospheric_pressure", 100),  # kPa
    ("relative_humidity", 10),  # %
    ("sensor_temperature_internal", 10),  # °C
    ("x_orientation_angle", 10),  # degrees
    ("y_orientation_angle", 10),  # degrees
    ("compass_heading", 1),  # degrees
    ("north_wind_speed", 100),  # m/s
    ("east_wind_speed", 100),  # m/s
)


def _atm41(words: _Words) -> _Values:
    return {
        key: (word - _MIDDLE) / per_unit
        for (key, per_unit), word in zip(_ATM41, words, strict=True)
    }


def _par(words: _Words) -> _Values:
    return {"photosynthetically_active_radiation": 3 * (words[0] / _MIDDLE - 1) * 1000 * 5}


def _smtp(words: _Words) -> _Values:
    """Read eight levels of moisture and temperature; a level of two zeros has no sensor.

    The maker's decoder calls such a level -5 and -327.68 °C.
    """
    out: _Values = {}
    for level in range(8):
        moisture, temperature = words[2 * level : 2 * level + 2]
        there = moisture or temperature
        out[f"soil_moisture_at_depth_{level}"] = (moisture - 2500) / 500 if there else None
        out[f"soil_temperature_at_depth_{level}"] = (temperature - _MIDDLE) / 100 if there else None
    return out


def _trs12(words: _Words) -> _Values:
    count = words[0] / 10
    root = 0.000000002887 * count**3 - 0.0000208 * count**2 + 0.05276 * count - 43.39
    return {
        "dielectric_permittivity": root**2,
        "volumetric_water_content": count * 0.0003879 - 0.6956,
        "soil_temperature": (words[1] - _MIDDLE) / 10,  # °C
        "electrical_conductivity": float(words[2]),  # µS/cm
    }


MODELS: Mapping[str, tuple[_Sensor, ...]] = {
    "dl-atm41": (_Sensor(17, _atm41), _BATTERY),
    "dl-par": (_Sensor(1, _par), _BATTERY),
    "dl-smtp": (_Sensor(16, _smtp), _BATTERY),
    "dl-trs12": (_Sensor(3, _trs12), _BATTERY),
}


class DecentlabCodec:
    """Decodes frames of one *model* (a key of `MODELS`); a `DeviceFrame`."""

    def __init__(self, model: str) -> None:
        self._sensors = MODELS[model]
        self._name = model.upper()

    def decode(self, payload: bytes, port: int | None = None) -> list[Sample]:
        """Return one sample without a time; the device's serial number is not used."""
        cursor = Cursor(payload)
        version = cursor.big(1, "protocol version")
        if version != _VERSION:
            refuse(0, f"protocol version {version}", str(_VERSION))
        cursor.take(2, "serial number")
        flags = cursor.big(2, "sensor flags")
        if flags >> len(self._sensors):
            most = 2 ** len(self._sensors) - 1
            refuse(3, f"sensor flags 0x{flags:04x}", f"at most 0x{most:04x} of {self._name}")
        values: _Values = {}
        for place, sensor in enumerate(self._sensors):
            if flags >> place & 1:
                name = f"sensor {place + 1}"
                values |= sensor.read([cursor.big(2, name) for _ in range(sensor.words)])
        if cursor.left:
            refuse(cursor.at, f"{cursor.left} bytes more", "the end of the frame")
        return [Sample(None, values)]
