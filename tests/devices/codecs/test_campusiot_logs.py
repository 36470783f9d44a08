"""Every message of two logs of real uplinks, against the decoding that was logged with it."""

from __future__ import annotations

import base64
import gzip
import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs.chirpstack import ChirpStack3Codec
from devices.codecs.lorawan.elsys import ElsysCodec
from devices.codecs.lorawan.wyres import WyresCodec
from devices.codecs.uplink import Encoding
from devices.errors import DecodeError
from tests.firmware_sims.measured import data_folder


def lines(name):
    with gzip.open(data_folder("lorawan-campusiot-dev") / name) as file:
        yield from file


@pytest.mark.realdata
def test_every_frame_of_the_tower_gives_the_logged_values():
    decode = ElsysCodec().decode
    seen = Counter()
    for line in lines("tourperret_ems_helium_2023.ndjson.gz"):
        message = json.loads(line)
        frame, port = base64.b64decode(message["payload"]), message["port"]
        (sample,) = decode(frame, port)
        assert sample.values == message["decoded"]["payload"]
        seen[port] += 1
    assert seen == {5: 12_613, 6: 1}


@pytest.mark.realdata
def test_every_uplink_of_the_mountain_gives_the_logged_values():
    # The log has the frames in hexadecimal, where ChirpStack itself writes base64.
    decode = ChirpStack3Codec(WyresCodec(), Encoding.HEX).decode
    seen = Counter()
    for line in lines("sainteynard_32_chirpstack_v3.ndjson.gz"):
        message = json.loads(line)
        if message["_topic"] != "application/rx":
            with pytest.raises(DecodeError, match="of the kind status"):
                decode(line)
            seen["status"] += 1
            continue
        (sample,) = decode(line)
        logged = message["object"]
        expected = {k: v for k, v in logged.items() if k not in ("payloadVersion", "willListen")}
        if sample.values.get("light") == 0:
            expected.setdefault("light", 0)  # the log leaves out what is zero
        assert sample.values == expected
        seen["uplink"] += 1
    assert seen == {"uplink": 9_418, "status": 368}


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        ("50", "byte 1: got 0 bytes to the end, expected 1 bytes of length"),
        ("50050302d709", "byte 1: got a length of 5, expected 4, as many as follow"),
        ("50030301d7", "byte 3: got 1 bytes of temperature, expected 2"),
        ("50080302d7090302d709", "byte 6: got temperature a second time"),
        ("5003f00400", "byte 4: got 1 bytes to the end, expected 4 bytes of type 0xf0"),
    ],
)
def test_what_is_not_a_frame_of_the_board_is_refused(frame, text):
    with pytest.raises(DecodeError) as caught:
        WyresCodec().decode(bytes.fromhex(frame))
    assert caught.value.code == "E-FRAME"
    assert text in caught.value.text


_BODY = st.binary(max_size=253).map(lambda body: bytes((0x50, len(body))) + body)


@given(st.binary(max_size=300) | _BODY)
def test_any_bytes_give_samples_or_a_decode_error(frame):
    try:
        samples = WyresCodec().decode(frame)
    except DecodeError:
        return
    assert len(samples) == 1
