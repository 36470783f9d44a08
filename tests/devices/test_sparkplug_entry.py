"""Sparkplug in a site file: addresses become topics, mistakes are named."""

from __future__ import annotations

import pytest

from devices.errors import DocumentError
from devices.site_file import read_site_file
from devices.sparkplug import addresses, node_filters, read_address
from greenhouse.site_files import site_file_filters

SITE = """
version: 1
sites: [{code: base, kind: base}]
broker: {host: 127.0.0.1}
sparkplug: {rebirth: true, host_id: greenhouse, reorder_timeout: 500ms}
devices:
  - code: climate
    site: base
    payload: sparkplug
    address: g/gw/climate
    series: [{quantity: air_temperature, key: Air/Temperature}]
  - code: gateway
    site: base
    payload: sparkplug
    address: g/gw
    ignore: [Uptime]
    series: [{quantity: battery_voltage}]
"""


def mistakes(text: str) -> list[str]:
    with pytest.raises(DocumentError) as error:
        read_site_file(text, "site.yaml")
    return [str(mistake) for mistake in error.value.mistakes]


def test_an_address_is_a_topic_with_the_type_left_open():
    site_file = read_site_file(SITE, "site.yaml")
    climate, gateway = site_file.registry.devices
    assert climate.settings == {
        "address": "g/gw/climate",
        "topic": "spBv1.0/g/+/gw/climate",
        "ignore": ["*"],
    }
    assert gateway.settings["topic"] == "spBv1.0/g/+/gw"
    assert gateway.settings["ignore"] == ["Uptime"], "what a person says stands"
    assert addresses(site_file.registry.devices) == {"g/gw/climate", "g/gw"}


def test_the_node_is_listened_to_for_its_devices():
    site_file = read_site_file(SITE, "site.yaml")
    only = [one for one in site_file.registry.devices if one.code == "climate"]
    assert node_filters(only) == ("spBv1.0/g/+/gw",)
    assert set(site_file_filters(site_file)) == {
        "gh/+/+",
        "spBv1.0/g/+/gw",
        "spBv1.0/g/+/gw/climate",
    }


def test_the_section_says_how_we_behave_as_a_host():
    entry = read_site_file(SITE, "site.yaml").sparkplug
    assert entry is not None
    assert (entry.rebirth, entry.host_id, entry.reorder_timeout) == (True, "greenhouse", 0.5)
    silent = read_site_file(SITE.replace(SITE.splitlines()[4] + "\n", ""), "site.yaml")
    assert silent.sparkplug is None


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("address: g/gw/climate", "address: gw", "got 'gw', expected group/node/device"),
        ("address: g/gw/climate", "address: g/+/climate", "expected group/node/device"),
        ("address: g/gw/climate", "address: g/gw/a/b", "expected group/node/device"),
        ("    address: g/gw/climate\n", "", "address: got nothing, expected group/node/device"),
        ("address: g/gw/climate", "address: g/gw", "a topic that device"),
        (
            "address: g/gw/climate",
            "address: g/gw/climate\n    topic: a/b",
            "expected no topic: the address says it",
        ),
        ("host_id: greenhouse", "host_id: a/b", "sparkplug.host_id: got 'a/b', expected a name"),
        ("reorder_timeout: 500ms", "reorder_timeout: 1h", "expected 100ms to 60s"),
        ("rebirth: true", "rebirht: true", "did you mean 'rebirth'"),
    ],
)
def test_a_mistake_is_named(old, new, text):
    assert old in SITE
    assert any(text in one for one in mistakes(SITE.replace(old, new))), mistakes(
        SITE.replace(old, new)
    )


@pytest.mark.parametrize("text", ["", "g", "g/", "/n", "g/n/", "g//d", "g/n/d/e", "g/n/#", "$g/n"])
def test_what_is_no_address(text):
    assert read_address(text) is None
