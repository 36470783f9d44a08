"""ESPHome: one value a topic, named by the topic alone."""

from __future__ import annotations

import numpy as np
import pytest

from devices.codecs.library import CODECS
from devices.quality import Quality
from devices.site_file import read_site_file
from ingest.collector import ArrivalFlag
from ingest.decoder import Decoder
from tests.ingest.house import RECEIVED_US, arrival

SITE = """
version: 1
sites: [{code: h1, kind: greenhouse}]
broker:
  host: localhost
  topics: ["{device}/sensor/{key}/state", "{device}/binary_sensor/{key}/state"]
devices:
  - code: node
    site: h1
    address: greenhouse-esp32
    payload: esphome
    series:
      - {quantity: air_temperature, key: bme280_temperature}
      - {quantity: soil_ec, key: probe_conductivity, unit: µS/cm}
      - {quantity: valve_state, key: main_valve}
"""


def _decode(topic, payload, flags=0):
    site_file = read_site_file(SITE, "site.yaml")
    registry = site_file.registry
    numbered = type(registry)(
        registry.sites,
        registry.devices,
        {code: number for number, code in enumerate(registry.series)},
    )
    one = Decoder(numbered, site_file.broker.templates, CODECS)
    decoded = one.decode([arrival(payload, topic, flags=flags)])
    rows = zip(decoded.batch.series_id.tolist(), decoded.batch.value.tolist(), strict=True)
    return [(list(registry.series)[number], value) for number, value in rows], decoded


@pytest.mark.parametrize(
    ("topic", "payload", "series", "value"),
    [
        ("greenhouse-esp32/sensor/bme280_temperature/state", b"21.53", "air_temperature", 21.53),
        ("greenhouse-esp32/sensor/probe_conductivity/state", b"850", "soil_ec", 0.85),
        ("greenhouse-esp32/binary_sensor/main_valve/state", b"ON", "valve_state", 1),
        ("greenhouse-esp32/binary_sensor/main_valve/state", b"OFF", "valve_state", 0),
    ],
)
def test_a_state_is_a_reading_of_the_series_that_its_topic_names(topic, payload, series, value):
    (row,), decoded = _decode(topic, payload)
    assert row == (f"node.{series}", pytest.approx(value))
    assert decoded.batch.observed_at_us.tolist() == [RECEIVED_US]
    assert decoded.batch.quality.tolist() == [int(Quality.RECEIVE_TIME)]
    assert decoded.letters == []


def test_a_sensor_that_has_failed_sends_nan_which_is_a_missing_value():
    (row,), decoded = _decode("greenhouse-esp32/sensor/bme280_temperature/state", b"nan")
    assert np.isnan(row[1])
    assert decoded.batch.quality.tolist() == [int(Quality.RECEIVE_TIME | Quality.MISSING)]


@pytest.mark.parametrize(
    ("topic", "payload", "flags", "code"),
    [
        ("greenhouse-esp32/sensor/wifi_signal/state", b"-61", 0, "E-KEY"),
        ("greenhouse-esp32/sensor/bme280_temperature/state", b"warm", 0, "E-TYPE"),
        ("other-esp32/sensor/bme280_temperature/state", b"21", 0, "E-DEVICE"),
        # Its time is unknown, so it must not look alive.
        ("greenhouse-esp32/sensor/bme280_temperature/state", b"21", 1, "E-RETAINED"),
    ],
)
def test_what_is_no_reading_is_a_letter(topic, payload, flags, code):
    assert int(ArrivalFlag.RETAINED) == 1
    rows, decoded = _decode(topic, payload, flags)
    assert rows == []
    assert [letter.code for letter in decoded.letters] == [code]
