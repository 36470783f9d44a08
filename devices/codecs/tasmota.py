"""Tasmota telemetry (``tele/…/SENSOR``): sensors by name, each with its values.

    {"Time":"2020-01-01T00:00:00","AHT1X-0x38":{"Temperature":24.7,"Humidity":61.9},"TempUnit":"C"}

A reading's key is its path (``AHT1X-0x38.Temperature``); null is a sensor without a reading.  The
units of temperature, pressure and speed are settings of the device (``TempUnit``) that nothing here
looks at: the site file names them.

``Time`` is the device's local time, and its zone is nowhere in the message.  So it is used only
where the zone is given to the codec; otherwise, in the hour that a zone has twice or not at all,
and before the device has set its clock (it then counts from 1970), the time of receipt stands in.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import msgspec

from devices.codecs.sample import Sample
from devices.codecs.strict_json import instant_us, leaves, read, shorten
from devices.errors import DecodeError

_LEVELS = 4
_FIRST_YEAR = 2015  # Tasmota is younger: an earlier time is a clock that was never set
_STATES = (b"Online", b"Offline")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_read = msgspec.json.Decoder(dict[str, Any]).decode


class TasmotaCodec:
    """Decodes Tasmota telemetry; a `Codec`.  *zone* is the time zone of the devices."""

    def __init__(self, zone: tzinfo | None = None) -> None:
        self._zone = zone

    def decode(self, payload: bytes) -> list[Sample]:
        """Return one sample; `DecodeError` E-EVENT for the device's last will."""
        if payload in _STATES:
            got = payload.decode("ascii")
            raise DecodeError("E-EVENT", f"payload: got the state {got}, expected telemetry")
        message = read(_read, payload)
        at_us = self._time_us(message.pop("Time", None))
        values, ignored = leaves(message, _LEVELS)
        return [Sample(at_us, values, ignored=ignored)]

    def _time_us(self, text: Any) -> int | None:
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except (TypeError, ValueError) as error:
            got = shorten(str(text))
            text = f"Time: got {got}, expected a date and a time such as 2020-01-01T00:00:00"
            raise DecodeError("E-TIME", text) from error
        if moment.year < _FIRST_YEAR:
            return None
        if moment.tzinfo is not None:
            return instant_us(text, "Time")
        if self._zone is None:
            return None
        local = moment.replace(tzinfo=self._zone)
        if local.utcoffset() != local.replace(fold=1).utcoffset():
            return None
        return (local - _EPOCH) // _MICROSECOND
