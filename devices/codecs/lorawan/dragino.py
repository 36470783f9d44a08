"""Dragino LSE01 (soil) and LHT65N (air, with a plug for one more sensor); highest byte first.

Keys are those of the maker's decoders (v1.2.1 and v1.5.6).  Not taken over: those subtract 0xFFFF
from a negative soil temperature where 0x10000 is meant, which is 0.01 °C too warm.

Both frames have eleven bytes and say nowhere whose they are, so each device has its own class.
"""

from __future__ import annotations

from devices.codecs.lorawan.frame import Cursor, refuse, samples_of
from devices.codecs.sample import Sample

_READINGS_PORT = 2
_STATUS_PORT = 5  # model, firmware, band
_FRAME_BYTES = 11
_NO_PROBE = 0x7FFF
_BATTERY_MASK = 0x3FFF  # mV; the two bits above are the maker's own judgement

_Values = dict[str, float | None]


def _is_status(port: int | None) -> bool:
    if port not in (None, _READINGS_PORT, _STATUS_PORT):
        refuse(0, f"a frame on port {port}", f"port {_READINGS_PORT} (or {_STATUS_PORT}, passed)")
    return port == _STATUS_PORT


class DraginoLse01Codec:
    """Decodes frames of LSE01; a `DeviceFrame`.

    In the mode for raw values the soil's water and conductivity come as counts under other keys,
    with the dielectric constant and without a soil temperature.
    """

    def decode(self, payload: bytes, port: int | None = None) -> list[Sample]:
        """Return one sample without a time, an empty one for the device's own status."""
        cursor = Cursor(payload)
        if _is_status(port):
            return [Sample(None, {}, ignored=1)]
        if len(payload) != _FRAME_BYTES:
            refuse(0, f"a frame of {len(payload)} bytes", f"{_FRAME_BYTES}")
        values: _Values = {"BatV": (cursor.big(2, "battery") & _BATTERY_MASK) / 1000}
        no_probe = []
        if (probe := cursor.big(2, "probe", signed=True)) == _NO_PROBE:
            no_probe.append("temp_DS18B20")
        else:
            values["temp_DS18B20"] = probe / 10
        if payload[-1] & 0x80:
            values["Soil_dielectric_constant"] = cursor.big(2, "dielectric constant") / 10
            values["Raw_water_SOIL"] = float(cursor.big(2, "raw water"))
            values["Raw_conduct_SOIL"] = float(cursor.big(2, "raw conductivity"))
        else:
            values["water_SOIL"] = cursor.big(2, "water") / 100  # %
            values["temp_SOIL"] = cursor.big(2, "temperature", signed=True) / 100  # °C
            values["conduct_SOIL"] = float(cursor.big(2, "conductivity"))  # µS/cm
        return samples_of(values, no_probe)


_ID_FRAME = 15
_TIMED = {9: "TempC_DS", 10: "TempC_TMP117"}  # the probe stands where the battery was
_KEPT = 0x40
_NOT_CONNECTED = 0x80
_EXTERNAL = 0x3F
# When a time in a frame can be one: 2018 (LHT65N is younger) to 2037 (0x7FFF is a missing probe).
_FIRST_S = 1_514_764_800
_LAST_S = 2_147_000_000


class DraginoLht65nCodec:
    """Decodes frames of LHT65N; a `DeviceFrame`.

    Records that the device had kept come with their own times.  Bit 7 beside the external sensor's
    number means "not connected" in a live frame, and "sent again, unasked" in a kept record of
    later firmware.  The two agree in everything but the first word and the last two, and only the
    latter has a time there: that tells them apart.
    """

    def decode(self, payload: bytes, port: int | None = None) -> list[Sample]:
        """Return the samples in the frame, an empty one for the device's own status."""
        cursor = Cursor(payload)
        if _is_status(port):
            return [Sample(None, {}, ignored=1)]
        if len(payload) % _FRAME_BYTES:
            refuse(0, f"a frame of {len(payload)} bytes", f"a multiple of {_FRAME_BYTES}")
        frames = [cursor.take(_FRAME_BYTES, "record") for _ in range(len(payload) // _FRAME_BYTES)]
        if _is_kept(frames[0]):
            return [sample for frame in frames for sample in _record(frame)]
        if len(frames) > 1:
            refuse(_FRAME_BYTES, "a second record", "the end of a live frame")
        return _live(frames[0])


def _is_kept(frame: bytes) -> bool:
    if frame[6] & _KEPT:
        return True
    at_s = int.from_bytes(frame[7:], "big")
    # The live frames of kinds 9 and 10 have a time in the same place.
    is_timed = frame[6] & _EXTERNAL in _TIMED
    return bool(frame[6] & _NOT_CONNECTED) and _FIRST_S <= at_s <= _LAST_S and not is_timed


def _air(frame: bytes) -> _Values:
    temperature = int.from_bytes(frame[2:4], "big", signed=True)
    return {
        "TempC_SHT": temperature / 100,
        "Hum_SHT": (int.from_bytes(frame[4:6], "big") & 0xFFF) / 10,
    }


def _external(kind: int, data: bytes) -> tuple[_Values, list[str]]:
    """Return what an external sensor of *kind* says in *data* (2 or 4 bytes), and missing keys."""
    word = int.from_bytes(data[:2], "big")
    signed = int.from_bytes(data[:2], "big", signed=True)
    if kind in (1, 2, 9, 10, 11):
        key = {1: "TempC_DS", 2: "TempC_TMP117", 11: "Ext_TempC_SHT"}.get(kind) or _TIMED[kind]
        if word == _NO_PROBE:
            return {}, [key]
        values: _Values = {key: signed / 100}
        if kind == 11 and len(data) == 4:
            values["Ext_Hum_SHT"] = (int.from_bytes(data[2:], "big") & 0xFFF) / 10
        return values, []
    if kind == 4:
        return {"Exti_pin_level": float(data[0]), "Exti_status": float(data[1])}, []
    if kind == 5:
        return {"ILL_lx": float(word)}, []
    if kind == 6:
        return {"ADC_V": word / 1000}, []
    if kind == 7:
        return {"Exit_count": float(word)}, []
    if kind == 8:
        # A kept record has room for half of the counter only; half a counter is no reading.
        return ({"Exit_count": float(int.from_bytes(data, "big"))} if len(data) == 4 else {}), []
    if kind != 0:
        refuse(6, f"an external sensor of kind {kind}", "a kind from 0 to 11, or 15")
    return {}, []


def _live(frame: bytes) -> list[Sample]:
    kind = frame[6] & _EXTERNAL
    battery: _Values = {"BatV": (int.from_bytes(frame[:2], "big") & _BATTERY_MASK) / 1000}
    if kind == _ID_FRAME:  # the serial number of the probe stands in all other places
        return samples_of(battery, ignored=1)
    if kind in _TIMED:
        external, missing = _external(kind, frame[:2])
        at_s = int.from_bytes(frame[7:], "big")
        # A clock that was never set: the frame is live, so the time of receipt stands in.
        at_us = at_s * 1_000_000 if at_s >= _FIRST_S else None
        return samples_of(_air(frame) | external, missing, at_us=at_us)
    external, missing = _external(kind, frame[7:])
    if frame[6] & _NOT_CONNECTED:
        missing += [key for key in external if key not in missing]
        external = {}
    return samples_of(battery | _air(frame) | external, missing)


def _record(frame: bytes) -> list[Sample]:
    external, missing = _external(frame[6] & 0x0F, frame[:2])
    at_us = int.from_bytes(frame[7:], "big") * 1_000_000
    return samples_of(_air(frame) | external, missing, at_us=at_us)
