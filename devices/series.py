"""Devices and the series they feed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from devices.site import Medium, Placement
from devices.units import Conversion


class Transport(StrEnum):
    """How a device reaches us; a device has one.  What is derived is computed here."""

    MQTT = "mqtt"
    HTTP = "http"
    MODBUS = "modbus"
    DERIVED = "derived"


@dataclass(frozen=True, slots=True)
class Series:
    """One stream of readings: device x quantity x channel, at a site, with a placement.

    *code* is ``device.quantity`` or ``device.quantity.channel`` and is the series' name everywhere.
    *key* is the name that the device's payload uses, *unit* the unit the device sends, *conversion*
    brings it to the quantity's own unit.  *interval_s* is the expected time between readings; a
    series is stale after three of them.
    """

    device: str
    quantity: str
    channel: str
    key: str
    site: str
    placement: Placement
    medium: Medium
    unit: str
    conversion: Conversion
    interval_s: float
    name_zh: str = ""
    name_en: str = ""

    @property
    def code(self) -> str:
        """The series' name in URLs, files and on the screen."""
        base = f"{self.device}.{self.quantity}"
        return f"{base}.{self.channel}" if self.channel else base


STALE_AFTER_INTERVALS = 3


@dataclass(frozen=True, slots=True)
class Device:
    """One physical thing with one transport.

    *payload* names the codec of its messages.  *max_age_s* and *max_ahead_s* bound how far a
    reading's own time may lie behind and before the time of receipt; beyond them the message is a
    dead letter, because its time cannot be believed.  *settings* are the codec's or the
    transport's own.
    """

    code: str
    site: str
    transport: Transport
    payload: str = "json"
    name_zh: str = ""
    name_en: str = ""
    max_age_s: float = 30 * 86400.0
    max_ahead_s: float = 300.0
    series: tuple[Series, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
