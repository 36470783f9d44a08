"""Times that a device counts from now are added to the time of receipt, and replay the same."""

from __future__ import annotations

import json

import pytest

from devices.codecs.senml import SenmlCodec
from devices.quality import Quality
from devices.site_file import read_site_file
from ingest.collector import ArrivalFlag
from ingest.decoder import Decoder
from tests.ingest.house import RECEIVED_US, TOPIC, arrival

SITE = """
version: 1
sites: [{code: h1, kind: greenhouse}]
broker: {host: localhost}
devices:
  - code: node
    site: h1
    payload: senml
    series: [{quantity: air_temperature, key: "urn:n1:t[Cel]"}]
"""


def _decode(*seconds, flags=0):
    registry = read_site_file(SITE, "site.yaml").registry
    numbered = type(registry)(registry.sites, registry.devices, {"node.air_temperature": 1})
    records = [{"bn": "urn:n1:", "n": "t", "u": "Cel", "v": 20, "t": t} for t in seconds]
    message = arrival(json.dumps(records).encode(), "gh/h1/node", flags=flags)
    return Decoder(numbered, TOPIC, {"senml": SenmlCodec()}).decode([message])


def test_a_relative_time_is_added_to_that_of_receipt():
    decoded = _decode(-60, -0.5, 0, 10)
    seconds = [(at - RECEIVED_US) / 1e6 for at in decoded.batch.observed_at_us.tolist()]
    assert seconds == [-60, -0.5, 0, 10]
    assert set(decoded.batch.quality.tolist()) == {int(Quality.RECEIVE_TIME)}


@pytest.mark.parametrize("seconds", [-40 * 86_400, 600])
def test_a_relative_time_beyond_what_the_device_may_say_is_a_letter(seconds):
    (letter,) = _decode(seconds).letters
    assert letter.code == "E-TIME"


def test_a_retained_message_of_relative_times_is_of_no_known_time():
    (letter,) = _decode(-60, flags=int(ArrivalFlag.RETAINED)).letters
    assert letter.code == "E-RETAINED"
