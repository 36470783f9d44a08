"""A small base for the tests of this folder, and messages from it."""

from __future__ import annotations

import json
from dataclasses import replace

from devices.codecs.json import JsonCodec
from devices.registry import Registry
from devices.series import Transport
from devices.site_file import read_site_file
from ingest.collector import Arrival
from ingest.decoder import Decoder

TOPIC = "gh/{site}/{device}"
CODECS = {"json": JsonCodec()}
RECEIVED_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
RECEIVED_US = RECEIVED_MS * 1000

SITE = """
version: 1
sites:
  - code: base-1
    kind: base
    sites:
      - {code: h1, kind: greenhouse}
      - {code: h2, kind: greenhouse}
      - {code: h3, kind: greenhouse}
broker: {host: 127.0.0.1}
devices:
  - code: h1-climate
    site: h1
    series:
      - {quantity: air_temperature}
      - {quantity: relative_humidity}
      - {quantity: co2}
      - {quantity: illuminance, key: light, unit: klx}
  - code: h1-soil
    site: h1
    max_age: 40d
    series:
      - {quantity: soil_moisture, channel: 1}
      - {quantity: soil_moisture, channel: 2}
      - {quantity: soil_temperature, key: t, unit: °F}
      - {quantity: soil_ec, key: ec, unit: uS/cm}
  - code: h2-post
    site: h2
    transport: http
    series: [{quantity: wind_speed}]
  - code: h2-meter
    site: h2
    transport: http
    series: [{quantity: flow_rate}]
"""


def house(revision: int = 1) -> Registry:
    """The base, its series numbered in the order of the file, from 1."""
    read = read_site_file(SITE, "house.yaml").registry
    # A bus whose polls are JSON: what matters here is the way in, not the registers.
    meter = replace(read.device["h2-meter"], transport=Transport.MODBUS)
    devices = tuple(meter if one.code == meter.code else one for one in read.devices)
    registry = replace(read, devices=devices)
    return replace(
        registry,
        series_ids={code: number for number, code in enumerate(registry.series, 1)},
        revision=revision,
    )


def decoder() -> Decoder:
    return Decoder(house(), TOPIC, CODECS)


def arrival(
    payload: bytes | dict[str, object] | list[object],
    topic: str = "gh/h1/h1-climate",
    source: str = "mqtt",
    flags: int = 0,
    received_at_us: int = RECEIVED_US,
) -> Arrival:
    """A message received at the turn of the year, unless said otherwise."""
    if not isinstance(payload, bytes):
        payload = json.dumps(payload).encode()
    return Arrival(source, topic, payload, received_at_us, flags)


def readings(number: int, device: str = "h1-climate") -> Arrival:
    """The *number*-th message of a device: one reading, *number* seconds after the turn."""
    at_ms = RECEIVED_MS + 1000 * number
    payload = {"t": at_ms, "v": {"air_temperature": 20 + number % 10}}
    return arrival(payload, f"gh/h1/{device}", received_at_us=1000 * at_ms + 5000)
