"""Keys that a device is told to ignore are counted, stored nowhere, and no dead letter."""

from __future__ import annotations

import pytest

from devices.codecs.json import JsonCodec
from devices.site_file import read_site_file
from ingest.decoder import Decoder
from tests.ingest.house import RECEIVED_MS, TOPIC, arrival

SITE = """
version: 1
sites: [{code: h1, kind: greenhouse}]
broker: {host: localhost}
devices:
  - code: node
    site: h1
    ignore: [rssi, "debug_*"]
    series: [{quantity: air_temperature, key: t}]
"""


def _decode(values):
    registry = read_site_file(SITE, "site.yaml").registry
    numbered = type(registry)(registry.sites, registry.devices, {"node.air_temperature": 7})
    one = Decoder(numbered, TOPIC, {"json": JsonCodec()})
    return one.decode([arrival({"t": RECEIVED_MS, "v": values}, "gh/h1/node")] * 2)


@pytest.mark.parametrize(
    ("values", "rows", "unknown", "ignored"),
    [
        ({"t": 20, "rssi": -80, "debug_heap": 1, "debug_": 2}, 2, 0, 6),
        ({"rssi": -80}, 0, 0, 2),
        ({"t": 20, "rssi": -80, "snr": 7}, 2, 2, 2),  # snr is not named: a letter
        ({"t": 20}, 2, 0, 0),
    ],
)
def test_ignored_keys_are_counted_and_the_others_are_told(values, rows, unknown, ignored):
    decoded = _decode(values)
    assert decoded.batch.series_id.tolist() == [7] * rows
    assert decoded.batch.value.tolist() == [20.0] * rows
    assert (decoded.unknown_keys, decoded.ignored_fields) == (unknown, ignored)
    assert [letter.code for letter in decoded.letters] == ["E-KEY"] * unknown
    assert all("'snr'" in letter.text for letter in decoded.letters)
