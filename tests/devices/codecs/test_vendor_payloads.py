"""Uplinks of five network servers with the values that their converters give.

The converters' `ts` and names are their own; what is compared is every measured value.
"""

from __future__ import annotations

import base64
import json
import tarfile
from functools import cache

import pytest

from devices.codecs.chirpstack import ChirpStack3Codec, ChirpStack4Codec
from devices.codecs.lorawan.decentlab import DecentlabCodec
from devices.codecs.lorawan.milesight import MilesightCodec
from devices.codecs.strict_json import instant_us
from devices.codecs.tts import TheThingsStack3Codec
from tests.firmware_sims.measured import data_folder

pytestmark = pytest.mark.realdata

# These servers' envelopes are not read; their frames are, and give the same values.
FRAMES_ONLY = {
    "LORIOT": lambda message: bytes.fromhex(message["data"]),
    "ThingPark": lambda message: bytes.fromhex(message["DevEUI_uplink"]["payload_hex"]),
    "ThingParkEnterprise": lambda message: bytes.fromhex(message["DevEUI_uplink"]["payload_hex"]),
    # ChirpStack 3 as Milesight's gateways post it, with a time that is none ("2020-0327T…").
    "HTTP": lambda message: base64.b64decode(message["data"]),
}
ENVELOPES = ("ChirpStack", "ThingsStackCommunity", "ThingsStackIndustries")
MODELS: dict[str, type[DecentlabCodec] | type[MilesightCodec]] = {
    **{name: DecentlabCodec for name in ("DL-ATM41", "DL-PAR", "DL-SMTP", "DL-TRS12")},
    **{name: MilesightCodec for name in ("EM300-TH", "EM500-CO2", "EM500-LGT", "EM500-SMTC")},
}


@cache
def archive():
    path = data_folder("lorawan-vendor-payloads-dev") / "payloads.tar.gz"
    with tarfile.open(path) as tar:
        files = [member for member in tar.getmembers() if member.name.endswith(".json")]
        return {
            member.name.removeprefix("./"): json.loads(tar.extractfile(member).read())
            for member in files
        }


def fixtures():
    files = archive()
    for name in sorted(files):
        if "/payload" not in name:
            continue
        _, device, server, *_ = name.split("/")
        answer = files[name.replace("/payload", "/result")]
        answer = answer[0] if isinstance(answer, list) else answer
        for message in files[name] if isinstance(files[name], list) else [files[name]]:
            yield name, device, server, message, answer["telemetry"][0]


def measured(telemetry):
    """The converter's values without those of the radio."""
    return {k: v for k, v in telemetry["values"].items() if not k.startswith("lora_")}


def agrees(device, values, expected):
    """Say whether our *values* are the converter's, apart from where it is wrong."""
    wrong = {}
    if device == "EM500-SMTC":
        # 0x73 is 57.5 % by the maker's own example; the converter cuts the half off.
        assert expected["moisture"] == 57
        wrong["moisture"] = 57.5
    if device == "DL-SMTP" and "soil_moisture_at_depth_6" in expected:
        # The probe has six levels.  The words of the other two are 0, which no sensor sends; the
        # converter makes a moisture of -5 and -327.68 °C, below absolute zero, out of them.
        for level in (6, 7):
            assert expected[f"soil_temperature_at_depth_{level}"] == -327.68
            wrong[f"soil_moisture_at_depth_{level}"] = None
            wrong[f"soil_temperature_at_depth_{level}"] = None
    ours = expected | wrong
    missing = {key for key, value in ours.items() if value is None}
    assert {key for key, value in values.items() if value is None} == missing
    assert {k: v for k, v in values.items() if k not in missing} == pytest.approx(
        {k: v for k, v in ours.items() if k not in missing}, rel=1e-9, abs=1e-9
    )


def codec_of(server, device, message):
    frame = MODELS[device](device.lower())
    if server == "ChirpStack":
        is_3 = "deduplicationId" not in message
        return ChirpStack3Codec(frame) if is_3 else ChirpStack4Codec(frame)
    return TheThingsStack3Codec(frame)


def test_every_value_is_the_converters_or_the_difference_is_argued():
    compared = {server: 0 for server in ENVELOPES}
    for name, device, server, message, telemetry in fixtures():
        if server not in ENVELOPES:
            continue
        payload = json.dumps(message).encode()
        (sample,) = codec_of(server, device, message).decode(payload)
        agrees(device, sample.values, measured(telemetry))
        assert sample.observed_at_us == moment(server, message, telemetry), name
        compared[server] += 1
    assert compared == {
        "ChirpStack": 20,
        "ThingsStackCommunity": 12,
        "ThingsStackIndustries": 12,
    }


def moment(server, message, telemetry):
    """The converter's time in microseconds, where it has one, to its own millisecond."""
    at = telemetry.get("ts")
    if at is None:  # ChirpStack 3 gives no time
        return None
    if isinstance(at, str):
        return instant_us(at, "ts")
    if server == "ChirpStack":
        exact = instant_us(message["time"], "time")
    else:
        exact = instant_us(message["uplink_message"]["received_at"], "received_at")
        # Decentlab's converter takes the application server's time, a fifth of a second later.
        later = instant_us(message["received_at"], "received_at")
        assert at in (exact // 1000, later // 1000)
        return exact
    assert at == exact // 1000
    return exact


def test_the_frames_inside_of_other_envelopes_give_the_same_values():
    compared = 0
    for _, device, server, message, telemetry in fixtures():
        if server not in FRAMES_ONLY:
            continue
        frame = FRAMES_ONLY[server](message)
        (sample,) = MODELS[device](device.lower()).decode(frame)
        agrees(device, sample.values, measured(telemetry))
        compared += 1
    assert compared == 37


def test_no_fixture_is_left_out_unnamed():
    servers = {server for _, _, server, _, _ in fixtures()}
    devices = {device for _, device, _, _, _ in fixtures()}
    assert servers == {*ENVELOPES, *FRAMES_ONLY}
    assert devices == set(MODELS)
