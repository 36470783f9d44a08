"""Frames of LoRaWAN devices that come more than once are one measurement."""

from __future__ import annotations

import base64

import pytest

from devices.codecs.library import CODECS
from devices.codecs.sample import Uplink
from devices.registry import Registry
from devices.site_file import read_site_file
from ingest.decoder import Decoder
from ingest.uplinks import LATEST, Uplinks
from tests.ingest.house import RECEIVED_US, arrival

MINUTE_US = 60_000_000
DAY_US = 86_400_000_000


def _first(*frames):
    """The times that frames of one device get: (counter, session, bytes, time)."""
    uplinks = Uplinks()
    return [uplinks.first_us("node", Uplink(c, s, b), at) for c, s, b, at in frames]


@pytest.mark.parametrize(
    ("frames", "times"),
    [
        # Sent again by the device, and sold by a third hotspot.
        ([(7, "a", b"x", 0), (7, "a", b"x", 7), (7, "a", b"x", 99)], [0, 0, 0]),
        # Held by a hotspot and delivered 48 days later.
        ([(7, "a", b"x", 0), (7, "a", b"x", 48 * DAY_US)], [0, 0]),
        # One that was overtaken.
        ([(7, "a", b"x", 0), (8, "a", b"y", 50), (7, "a", b"x", 60)], [0, 50, 0]),
        # Another counter, other bytes, another session: each its own.
        ([(7, "a", b"x", 0), (8, "a", b"x", 9)], [0, 9]),
        ([(7, "a", b"x", 0), (7, "a", b"y", 9)], [0, 9]),
        ([(7, "a", b"x", 0), (7, "b", b"x", 9)], [0, 9]),
        # The counter starts anew: it meets what it said long ago.
        (
            [(0, "a", b"x", 0), (1, "a", b"x", 600), (2, "a", b"x", 1200), (0, "a", b"x", DAY_US)],
            [0, 600, 1200, DAY_US],
        ),
        # A device that joins anew each time it wakes.
        (
            [(0, "", b"x", n * 10 * MINUTE_US) for n in range(4)],
            [n * 600_000_000 for n in range(4)],
        ),
        # Its frame sent again at once.
        (
            [(0, "", b"x", 0), (0, "", b"x", MINUTE_US), (0, "", b"x", 10 * MINUTE_US)],
            [0, 0, 10 * MINUTE_US],
        ),
    ],
)
def test_a_repeat_keeps_the_time_that_it_came_with_first(frames, times):
    assert _first(*frames) == times


def test_devices_do_not_repeat_each_other():
    uplinks, same = Uplinks(), Uplink(7, "", b"x")
    assert [uplinks.first_us(name, same, at) for at, name in enumerate("abc")] == [0, 1, 2]


def test_only_the_latest_frames_are_remembered():
    frames = [(counter, "", b"x", counter) for counter in range(10, 11 + LATEST)]
    assert _first(*frames, (10, "", b"x", 99), (10 + LATEST, "", b"x", 100))[-2:] == [
        99,
        10 + LATEST,
    ]


SITE = """
version: 1
sites: [{code: h1, kind: greenhouse}]
broker: {host: localhost, topics: ["helium/{device}/rx"]}
devices:
  - code: node
    site: h1
    payload: helium/elsys
    series: [{quantity: air_temperature, key: temperature}]
"""


def _message(counter, tenths, seconds):
    frame = b"\x01" + tenths.to_bytes(2, "big", signed=True)
    message = {
        "payload": base64.b64encode(frame).decode(),
        "port": 5,
        "fcnt": counter,
        "devaddr": "07000048",
        "reported_at": RECEIVED_US // 1000 + seconds * 1000,
    }
    return arrival(message, "helium/node/rx")


def test_repeats_fall_on_one_key_over_a_change_of_the_registry():
    site_file = read_site_file(SITE, "site.yaml")
    registry = site_file.registry
    uplinks = Uplinks()
    numbered = Registry(registry.sites, registry.devices, {"node.air_temperature": 1})
    before, after = (
        Decoder(numbered, site_file.broker.templates, CODECS, uplinks) for _ in range(2)
    )
    first = before.decode([_message(7, 215, -100), _message(7, 215, -93)]).batch
    again = after.decode([_message(7, 215, -40), _message(8, 215, -30)]).batch
    seconds = [
        (at - RECEIVED_US) // 1_000_000
        for batch in (first, again)
        for at in batch.observed_at_us.tolist()
    ]
    assert seconds == [-100, -100, -100, -30]
    assert set(first.value.tolist() + again.value.tolist()) == {21.5}
