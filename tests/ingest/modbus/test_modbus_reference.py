"""The reference page names every key, type, reason and setting that the code knows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from devices import bus, profile, profile_case
from firmware_sims.modbus_frames import crc

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference/modbus.md").read_text("utf-8")

MODELS = [
    profile.ProfileDocument,
    profile.LineEntry,
    profile.LimitsEntry,
    profile.IllegalEntry,
    profile.BlockEntry,
    profile.PointEntry,
    profile.SpoilEntry,
    profile.CounterEntry,
    profile.WriteEntry,
    profile.SourceEntry,
    profile_case.CaseDocument,
    profile_case.CaseEntry,
    profile_case.FrameEntry,
    profile_case.RegistersEntry,
    bus.BusEntry,
    bus.DtuEntry,
    bus.BusTlsEntry,
    bus.BusLineEntry,
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_key_is_in_the_reference(model):
    def said(name: str) -> bool:
        return re.search(rf"[`{{ ]{name}[`:]", PAGE) is not None

    assert [name for name in model.model_fields if not said(name)] == []


def test_every_type_and_transport_is_in_the_reference():
    words = [*profile.RegisterType, *bus.BusTransport]
    assert [word for word in words if f"`{word}`" not in PAGE] == []


def test_every_reason_is_in_the_reference():
    files = [*(ROOT / "ingest/modbus").glob("*.py"), ROOT / "devices/codecs/registers.py"]
    codes = {code for file in files for code in re.findall(r"E-MB-[A-Z]+", file.read_text())}
    assert {code for code in codes if code not in PAGE} == set()


def test_frames_of_the_howto_are_sound():
    text = (ROOT / "docs/howto/add-a-modbus-device.md").read_text("utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    plain = [re.sub(r"^   ", "", block, flags=re.MULTILINE) for block in blocks]
    found = profile.read_profile(plain[0], "my-probe.yaml")
    name, cases = profile_case.read_cases(plain[1], "cases/my-probe.yaml")
    assert name == found.name
    assert [profile_case.check_case(found, case) for case in cases] == [[]]
    for frame in (frame for case in cases for pair in case.frames for frame in pair):
        assert crc(frame[:-2]) == frame[-2:]
