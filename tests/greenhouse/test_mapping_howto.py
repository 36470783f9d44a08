"""The mapping of docs/howto/map-a-json-payload.md does what the page says."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from devices.codecs.mapped import MappingCodec
from devices.codecs.mapping_case import check_case
from devices.document import load
from devices.mapping import read_mapping
from devices.site_file import read_site_file

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "map-a-json-payload.md"


def _blocks():
    text = PAGE.read_text("utf-8")
    found = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(body) for _, body in found]


def test_the_page_shows_a_message_its_mapping_and_its_device():
    caught, mapping_text, device_text, checked = _blocks()
    mapping = read_mapping(mapping_text, "acme-soil.yaml")
    (case,) = mapping.cases
    assert check_case(mapping, case) == []
    topic, _, payload = caught.splitlines()[-1].partition(" ")
    assert payload == case.payload
    samples = MappingCodec(mapping).decode(payload.encode())
    assert [sample.device for sample in samples] == ["9c65f9", "9c65f9"]
    site = "version: 1\nsites: [{code: h1, kind: greenhouse}]\n" + device_text
    site_file = read_site_file(site, "site.yaml", mapping_files=[load(mapping_text, "m.yaml")])
    assert site_file.registry.series["soil-3.soil_ec"].unit == "µS/cm"
    assert topic == f"vendor/{site_file.registry.devices[0].settings['address']}/up"
    changed = read_mapping(mapping_text.replace("t: 18.4,", "t: 18.5,"), "acme-soil.yaml")
    (wrong,) = check_case(changed, changed.cases[0])
    assert f":{case.line}:1 case {case.name!r}: got {wrong}, expected" in checked
