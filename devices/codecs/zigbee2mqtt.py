"""Zigbee2MQTT (``zigbee2mqtt/<friendly name>``): one flat object of a device's values.

    {"temperature":21.4,"soil_moisture":38,"battery":97,"linkquality":120,"last_seen":1767225600000}

Keys are the bridge's; true and false are 1 and 0, null is a sensor without a reading.  Objects
inside (``update``, ``color``) and text are counted as ignored.

A message has a time only where the bridge's ``last_seen`` is on (``epoch`` or ``ISO_8601``), and it
should be: at every start the bridge sends again what it last heard, and only with this time do
those fall on the readings that are stored already.
"""

from __future__ import annotations

from typing import Any

import msgspec

from devices.codecs.sample import Sample
from devices.codecs.strict_json import instant_us, leaves, read, shorten
from devices.errors import DecodeError

_LAST_MS = 253_402_300_799_999  # the end of the year 9999

_read = msgspec.json.Decoder(dict[str, Any]).decode


class Zigbee2MqttCodec:
    """Decodes a device's state as Zigbee2MQTT publishes it; a `Codec`."""

    def decode(self, payload: bytes) -> list[Sample]:
        """Return one sample."""
        message = read(_read, payload)
        at_us = _time_us(message.pop("last_seen", None))
        values, ignored = leaves(message, 1)
        return [Sample(at_us, values, ignored=ignored)]


def _time_us(seen: Any) -> int | None:
    if seen is None:
        return None
    if isinstance(seen, str):
        return instant_us(seen, "last_seen")
    if isinstance(seen, bool) or not isinstance(seen, int) or not 0 <= seen <= _LAST_MS:
        got = shorten(str(seen))
        text = f"last_seen: got {got}, expected milliseconds since 1970, or text with a zone"
        raise DecodeError("E-TIME", text)
    return seen * 1000
