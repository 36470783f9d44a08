"""Mappings beside the site file and in it: found, checked with their cases, used by the decoder."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from devices.codecs.library import CODECS
from devices.errors import DocumentError
from greenhouse.site_files import Codecs, read_site_files, warnings
from ingest.collector import Arrival
from ingest.decoder import Decoder

SITE = """
version: 1
sites: [{code: h1, kind: greenhouse}]
broker: {host: localhost}
devices:
  - code: probe
    site: h1
    payload: mapping/acme
    series:
      - {quantity: soil_temperature, key: temp}
      - {quantity: soil_moisture, key: vwc, unit: "%"}
"""
MAPPING = """
mapping: acme
time: {path: ts, format: s}
values:
  - {path: soil.temp, unit: °F}
  - {path: soil.vwc}
cases:
  - name: the first message
    payload: {ts: 1772352000, soil: {temp: 68, vwc: 31}}
    at: "2026-03-01T08:00:00Z"
    readings: {temp: 68, vwc: 31}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "site.d" / "mappings").mkdir(parents=True)
    (tmp_path / "site.d" / "mappings" / "acme.yaml").write_text(MAPPING)
    (tmp_path / "site.yaml").write_text(SITE)
    return tmp_path


def _mistakes(folder):
    with pytest.raises(DocumentError) as error:
        read_site_files(folder / "site.yaml")
    return [str(mistake) for mistake in error.value.mistakes]


def _change(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def _decode(site_file, payload):
    numbers = {code: number for number, code in enumerate(site_file.registry.series, 1)}
    registry = replace(site_file.registry, series_ids=numbers)
    decoder = Decoder(registry, site_file.broker.templates, Codecs(CODECS, site_file))
    arrival = Arrival("mqtt", "gh/h1/probe", json.dumps(payload).encode(), 1_772_352_001_000_000)
    return decoder.decode([arrival])


def test_a_device_with_a_mapping_is_read_by_it_in_the_units_that_it_says(folder):
    site_file = read_site_files(folder / "site.yaml")
    decoded = _decode(site_file, {"ts": 1_772_352_000, "soil": {"temp": 68, "vwc": 31}})
    assert decoded.letters == []
    assert decoded.batch.value.tolist() == pytest.approx([20, 31])
    assert decoded.batch.observed_at_us.tolist() == [1_772_352_000_000_000] * 2
    assert warnings(site_file) == []


def test_a_mapping_may_stand_in_the_site_file(folder):
    (folder / "site.d" / "mappings" / "acme.yaml").unlink()
    lines = ["mappings:", *(f"    {line}" for line in MAPPING.strip().splitlines())]
    lines[1] = lines[1].replace("    mapping", "  - mapping")
    (folder / "site.yaml").write_text(f"{SITE}\n" + "\n".join(lines))
    site_file = read_site_files(folder / "site.yaml")
    assert set(site_file.mappings) == {"mapping/acme"}


def test_a_case_that_the_mapping_does_not_meet_is_a_mistake_at_its_line(folder):
    _change(folder / "site.d" / "mappings" / "acme.yaml", "vwc: 31}\n", "vwc: 32}\n")
    (said,) = _mistakes(folder)
    assert "site.d/mappings/acme.yaml:8:1 case 'the first message': got vwc: got 31" in said


def test_a_mapping_without_a_case_is_used_with_a_warning(folder):
    file = folder / "site.d" / "mappings" / "acme.yaml"
    file.write_text(MAPPING.partition("cases:")[0])
    (said,) = warnings(read_site_files(folder / "site.yaml"))
    assert said.endswith("mapping acme has no case (a payload as it came, its readings)")


def test_a_mistake_in_a_mapping_is_told_in_its_own_file_and_blames_no_device(folder):
    _change(folder / "site.d" / "mappings" / "acme.yaml", "path: soil.vwc", "path: soil-vwc")
    (said,) = _mistakes(folder)
    assert "site.d/mappings/acme.yaml:6:6 values[1].path: got 'soil-vwc'" in said


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("mapping/acme", "mapping/acne", "(did you mean 'mapping/acme'?)"),
        ("key: temp", "key: tmp", "expected a key of mapping acme: temp, vwc (did you mean 'temp'"),
        ("key: temp", "key: temp, unit: °C", "expected °F as mapping acme says, or nothing"),
    ],
)
def test_a_device_that_does_not_fit_its_mapping_is_told(folder, old, new, said):
    _change(folder / "site.yaml", old, new)
    (one,) = _mistakes(folder)
    assert "site.yaml:" in one
    assert said in one


def test_a_mapping_lies_in_a_file_of_its_name(folder):
    file = folder / "site.d" / "mappings" / "acme.yaml"
    file.rename(file.with_name("other.yaml"))
    (said,) = _mistakes(folder)
    assert "mapping: got 'acme', expected other, as the file is called" in said


def test_two_mappings_of_one_name_are_a_mistake(folder):
    (folder / "site.yaml").write_text(f"{SITE}\nmappings:\n  - {{mapping: acme, fields: '@'}}")
    (said,) = _mistakes(folder)
    assert "expected a name that no other mapping has" in said
