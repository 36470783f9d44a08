"""Site files with profiles of their own beside them, and what buses can do."""

import pytest

from devices.errors import DocumentError
from greenhouse.site_files import read_site_files, site_file_filters

SITE = """
version: 1
sites: [{{code: h1, kind: greenhouse}}]
buses:
  - {{code: north, transport: rtu_over_tcp, addresses: ["127.0.0.1:8899"], line: {{baud: 4800}}}}
devices:
  - code: probe
    site: h1
    transport: modbus
    bus: north
    unit: 1
    profile: {profile}
    interval: {interval}
"""
PROFILE = """
profile: my-probe
protocol: modbus
maker: Somebody
model: P1
name: {zh: 探头, en: Probe}
sources: [{text: the maker's leaflet, evidence: V2}]
line: {baud: 4800, parity: none, stop_bits: 1, unit: 1}
blocks:
  - function: 3
    points: [{address: 0, type: int16, scale: 0.1, unit: °C, quantity: soil_temperature}]
"""
CASES = """
profile: my-probe
cases:
  - name: a cold night
    evidence: C
    registers: [{function: 3, address: 0, words: [0xFFDD]}]
    readings: {soil_temperature: -3.5}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "profiles" / "cases").mkdir(parents=True)
    (tmp_path / "profiles" / "my-probe.yaml").write_text(PROFILE)
    (tmp_path / "profiles" / "cases" / "my-probe.yaml").write_text(CASES)
    return tmp_path


def _site(folder, profile="my-probe", interval="10s"):
    file = folder / "site.yaml"
    file.write_text(SITE.format(profile=profile, interval=interval))
    return file


def _mistakes(file):
    with pytest.raises(DocumentError) as error:
        read_site_files(file)
    return str(error.value)


def test_a_profile_beside_the_site_file_is_used(folder):
    site_file = read_site_files(_site(folder))
    assert set(site_file.registry.series) == {"probe.soil_temperature"}


def test_a_case_that_the_profile_does_not_meet_is_a_mistake(folder):
    case = folder / "profiles" / "cases" / "my-probe.yaml"
    case.write_text(CASES.replace("-3.5", "-4.5"))
    said = _mistakes(_site(folder))
    assert "cases/my-probe.yaml:4" in said
    assert "a cold night" in said


def test_a_profile_that_cannot_be_read_is_told_with_the_mistakes_of_the_site_file(folder):
    profile = folder / "profiles" / "my-probe.yaml"
    profile.write_text(PROFILE.replace("int16", "int17"))
    said = _mistakes(_site(folder))
    assert "my-probe.yaml:11" in said
    assert "site.yaml:12" in said


def test_a_bus_that_cannot_keep_up_is_refused_with_the_arithmetic(folder):
    said = _mistakes(_site(folder, interval="50ms"))
    assert "site.yaml:5" in said
    assert "> interval 0.05 s" in said


def test_dtus_that_could_be_taken_for_each_other_are_refused(tmp_path):
    file = tmp_path / "dtus.yaml"
    file.write_text(
        """
version: 1
sites: [{code: h1, kind: greenhouse}]
buses:
  - {code: north, transport: dial_in, dtu: {registration: {text: DTU-07}, speaks: rtu}}
  - {code: south, transport: dial_in, dtu: {registration: {text: DTU-07}, speaks: tcp}}
"""
    )
    said = _mistakes(file)
    assert "dtus.yaml:6:" in said
    assert "bus south: its DTU is known by b'DTU-07', and so is north" in said
    assert said.count("is known by") == 1


BASE = """
version: 1
sites: [{code: h1, kind: greenhouse}]
broker: {host: 127.0.0.1, topics: ["gh/{site}/{device}", "vendor/#"]}
"""


def _base(tmp_path, **devices):
    file = tmp_path / "base.yaml"
    file.write_text(BASE)
    (tmp_path / "base.d" / "devices").mkdir(parents=True)
    for name, text in devices.items():
        (tmp_path / "base.d" / "devices" / f"{name}.yaml").write_text(text)
    return file


def test_device_files_are_read_after_the_devices_of_the_site_file(tmp_path):
    file = _base(
        tmp_path,
        one="{code: one, site: h1, series: [{quantity: co2}]}",
        two="{code: two, site: h1, topic: other/2, series: [{quantity: co2}]}",
    )
    site_file = read_site_files(file)
    assert list(site_file.registry.series) == ["one.co2", "two.co2"]
    assert site_file_filters(site_file) == ("gh/+/+", "vendor/#", "other/2")


def test_mistakes_in_device_files_are_all_told_in_their_files(tmp_path):
    file = _base(
        tmp_path,
        one="code: one\nsite: h9\nseries: [{quantity: co2}]\n",
        two="{code: zwei, site: h1, series: [{quantity: co2}]}",
        three="- a list\n",
        four="{code: four",
    )
    mistakes = _mistakes(file)
    folder = file.parent / "base.d" / "devices"
    assert f"{folder}/one.yaml:2:1 site: got 'h9'" in mistakes
    assert (
        f"{folder}/two.yaml:1:2 code: got 'zwei', expected two, as the file is called" in mistakes
    )
    assert f"{folder}/three.yaml:1:1 document: got ['a list']" in mistakes
    assert f"{folder}/four.yaml:2:1" in mistakes
