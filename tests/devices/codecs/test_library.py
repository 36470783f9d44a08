from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.codecs.library import CODECS
from devices.errors import DecodeError
from devices.payload import PAYLOADS

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "payloads.md"
ROOM = Path(__file__).parents[3] / "devices" / "codecs"


def test_a_frame_reads_the_same_bare_and_behind_every_server():
    frame = bytes.fromhex("01756403671901046873057FF000")
    data = base64.b64encode(frame).decode()
    uplink = {"fPort": 85, "data": data}
    bare = CODECS["milesight-em500-smtc"].decode(frame)
    for server, event in {
        "chirpstack4": uplink,
        "chirpstack3": uplink,
        "chirpstack3-hex": {"fPort": 85, "data": frame.hex()},
        "helium": {"port": 85, "payload": data},
        "tts3": {"uplink_message": {"f_port": 85, "frm_payload": data}},
    }.items():
        (sample,) = CODECS[f"{server}/milesight-em500-smtc"].decode(json.dumps(event).encode())
        assert sample.uplink.frame == frame
        assert [msgspec.structs.replace(sample, uplink=None)] == bare
    assert bare[0].values["moisture"] == 57.5


def test_every_name_has_a_codec_and_every_codec_a_name():
    assert tuple(CODECS) == PAYLOADS


def test_every_payload_is_in_the_reference():
    text = PAGE.read_text("utf-8")
    for name in CODECS:
        assert f"`{name.split('/')[-1] if name.split('/')[0] != 'tasmota' else name}`" in text, name
        if name.startswith(("chirpstack", "tts", "helium")):
            assert f"`{name.split('/')[0]}/" in text, name


def test_every_reason_of_a_codec_is_in_the_reference():
    codes = {
        code
        for file in ROOM.rglob("*.py")
        if file.name != "registers.py"
        for code in re.findall(r'"(E-[A-Z-]+)"', file.read_text("utf-8"))
    }
    assert {"E-FRAME", "E-EVENT", "E-CBOR"} <= codes
    text = PAGE.read_text("utf-8") + (PAGE.parent / "payload.md").read_text("utf-8")
    for code in codes:
        assert f"`{code}`" in text, code


@settings(max_examples=600)
@given(name=st.sampled_from(sorted(CODECS)), payload=st.binary(max_size=60))
def test_any_bytes_give_samples_or_a_decode_error(name, payload):
    try:
        assert CODECS[name].decode(payload)
    except DecodeError:
        return
