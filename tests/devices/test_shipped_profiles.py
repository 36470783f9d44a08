"""Every shipped profile reads, says where its facts come from, and has cases that hold."""

from __future__ import annotations

import importlib.resources

import pytest
from pymodbus.framer import FramerRTU
from pymodbus.pdu import DecodePDU

from devices.errors import DocumentError
from devices.profile import read_profile
from devices.profile_case import check_case, read_cases
from devices.profile_library import shipped_cases, shipped_profile, shipped_profile_names
from firmware_sims.modbus_registers import RegisterMemory, remember

NAMES = shipped_profile_names()

# Frames and words of domain page "sensors" that were recomputed there: profile, what it must say.
RECOMPUTED = [
    ("zts-3000-tr-ws-n01", "01030000 0002C40B", "010304 0164FFDD 3BB9"),
    ("zts-3000-tr-ph-n01", "01030000 0001840A", "010302 0042 3875"),
    ("jxct-jxbs-3001-tr", "01030012 0001240F", "010302 002D 7859"),
    ("vaisala-gmp252", "F0030000 0002D12A", "F00304 D47A43E8 33AB"),
    ("aiav-co2", "01030005 0001940B", "010302 01C3 F985"),
]


def cases(name: str):
    return read_cases(shipped_cases(name), f"cases/{name}.yaml")[1]


def test_at_least_twenty_profiles_are_shipped():
    assert len([name for name in NAMES if not name.startswith("generic-")]) >= 20
    assert len([name for name in NAMES if name.startswith("generic-")]) >= 4


@pytest.mark.parametrize("name", NAMES)
def test_profile_reads_and_is_named_after_its_file(name):
    profile = shipped_profile(name)
    assert profile.name == name
    assert profile.name_zh
    assert profile.name_en
    assert list(profile.series())


@pytest.mark.parametrize("name", NAMES)
def test_profile_has_cases_and_they_hold(name):
    text = shipped_cases(name)
    assert text is not None, f"profile {name} has no case file"
    said, found = read_cases(text, name)
    assert said == name
    for case in found:
        assert check_case(shipped_profile(name), case) == [], case.name


@pytest.mark.parametrize("name", NAMES)
def test_every_point_that_feeds_a_series_is_in_a_case(name):
    covered = {key for case in cases(name) for key in case.readings}
    assert {point.key for point in shipped_profile(name).series()} == covered


@pytest.mark.parametrize("name", NAMES)
def test_facts_from_memory_are_marked_and_explained(name):
    profile = shipped_profile(name)
    marks = {mark for source in profile.sources for mark in source.evidence.split("+")}
    marks |= {mark for point in profile.points for mark in point.evidence.split("+")}
    if "M" in marks:
        assert profile.caveats or profile.maker == "generic"


def test_no_case_file_is_without_a_profile():
    folder = importlib.resources.files("devices") / "profiles" / "cases"
    orphans = {entry.name.removesuffix(".yaml") for entry in folder.iterdir()} - set(NAMES)
    assert orphans == set()


@pytest.mark.parametrize("name", NAMES)
def test_frames_of_the_cases_pass_the_framer(name):
    framer = FramerRTU(DecodePDU(False))
    for case in cases(name):
        for request, reply in case.frames:
            for frame in (request, reply):
                assert framer.compute_CRC(frame[:-2]).to_bytes(2, "big") == frame[-2:]
            assert framer.decode(reply) == (len(reply), reply[0], 0, reply[1:-2])
            assert framer.encode(request[1:-2], request[0], 0) == request


@pytest.mark.parametrize(("name", "request_hex", "reply_hex"), RECOMPUTED)
def test_recomputed_frames_are_among_the_cases(name, request_hex, reply_hex):
    expected = (bytes.fromhex(request_hex), bytes.fromhex(reply_hex))
    assert expected in [frame for case in cases(name) for frame in case.frames]


@pytest.mark.parametrize("name", NAMES)
def test_simulated_device_can_hold_every_profile(name):
    profile = shipped_profile(name)
    memory = RegisterMemory()
    remember(memory, profile, lambda key, at_s: 1.0, 0.0)
    for point in profile.points:
        assert memory.read(point.function, point.address, point.count) is not None


def test_case_that_does_not_hold_says_how():
    profile = shipped_profile("zts-3000-tr-ph-n01")
    (case,) = read_cases(
        """
profile: zts-3000-tr-ph-n01
cases:
  - name: wrong in every way
    evidence: C
    registers: [{function: 3, address: 0, words: [66]}]
    readings: {soil_ph: 7, soil_ec: 1}
    quality: {soil_ph: sentinel}
""",
        "x.yaml",
    )[1]
    assert check_case(profile, case) == [
        "soil_ec: nothing says it",
        "soil_ph: got 6.6, expected 7.0",
        "soil_ph: quality <Quality.GOOD: 0>, expected <Quality.SENTINEL: 8>",
    ]


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("{name: a, evidence: C, readings: {x: 1}}", "expected frames or registers"),
        ("{name: a, evidence: Z, readings: {x: 1}}", "V (official text)"),
        (
            "{name: a, evidence: C, readings: {x: 1}, frames: [{request: 0103, reply: xyz}]}",
            "a whole RTU frame in hexadecimal",
        ),
        (
            "{name: a, evidence: C, readings: {x: 1}, frames: [{request: 010300000002C40B, "
            "reply: 0103020042 3875}]}",
            "a reply to this request",
        ),
        (
            "{name: a, evidence: C, readings: {x: 1}, quality: {x: bad}, "
            "registers: [{function: 3, address: 0, words: [1]}]}",
            "one of missing, physical_range",
        ),
    ],
)
def test_mistake_in_a_case_is_named(case, said):
    with pytest.raises(DocumentError) as caught:
        read_cases(f"profile: probe\ncases:\n  - {case}\n", "case.yaml")
    assert said in str(caught.value)
    assert "case.yaml:3:" in str(caught.value)


def test_unknown_profile_is_a_key_error():
    with pytest.raises(KeyError):
        shipped_profile("no-such-probe")


def test_shipped_profiles_are_read_by_the_same_rules_as_others():
    folder = importlib.resources.files("devices") / "profiles"
    for name in NAMES:
        read_profile((folder / f"{name}.yaml").read_text("utf-8"), name)


def test_readme_lists_every_profile():
    readme = (importlib.resources.files("devices") / "profiles" / "README.md").read_text("utf-8")
    assert [name for name in NAMES if f"| `{name}` |" not in readme] == []
