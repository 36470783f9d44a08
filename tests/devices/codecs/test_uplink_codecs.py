from __future__ import annotations

import base64
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs.chirpstack import ChirpStack3Codec, ChirpStack4Codec
from devices.codecs.helium import HeliumCodec
from devices.codecs.lorawan.dragino import DraginoLse01Codec
from devices.codecs.lorawan.elsys import ElsysCodec
from devices.codecs.lorawan.milesight import MilesightCodec
from devices.codecs.sample import Sample, Uplink
from devices.codecs.tts import TheThingsStack3Codec
from devices.codecs.uplink import Encoding
from devices.errors import DecodeError
from devices.quality import Quality

FRAME = bytes.fromhex("01755C03673401046865")
VALUES = {"battery": 92.0, "temperature": 30.8, "humidity": 50.5}
AT = "2023-05-22T07:47:05.404859123+00:00"
AT_US = 1_684_741_625_404_859
SIMULATED = int(Quality.SIMULATED)

chirpstack4 = ChirpStack4Codec(MilesightCodec("em300-th")).decode
chirpstack3 = ChirpStack3Codec(MilesightCodec("em300-th")).decode
helium = HeliumCodec(MilesightCodec("em300-th")).decode
tts3 = TheThingsStack3Codec(MilesightCodec("em300-th")).decode


def heard(samples):
    """What was measured, without saying in which frame."""
    return [msgspec.structs.replace(sample, uplink=None) for sample in samples]


def b64(frame):
    return base64.b64encode(frame).decode()


def up4(**fields):
    gateway = {"gatewayId": "6a7e111a10000000", "time": "2001-01-01T00:00:00Z", "rssi": -35}
    event = {"time": AT, "fPort": 85, "data": b64(FRAME), "rxInfo": [gateway, gateway]} | fields
    return json.dumps({k: v for k, v in event.items() if v is not ...}).encode()


def up3(**fields):
    event = {"devEUI": "AgICAgICAgI=", "fPort": 85, "data": b64(FRAME), "rxInfo": []} | fields
    return json.dumps({k: v for k, v in event.items() if v is not ...}).encode()


def up_tts(top=None, **fields):
    uplink = {
        "f_port": 85,
        "frm_payload": b64(FRAME),
        "decoded_payload": {"temperature": -99},
        "received_at": "2023-05-22T07:47:05.404859123Z",
    } | fields
    uplink = {k: v for k, v in uplink.items() if v is not ...}
    return json.dumps({"uplink_message": uplink} | (top or {})).encode()


def up_helium(**fields):
    message = {
        "devaddr": "07000048",
        "fcnt": 7,
        "port": 85,
        "payload": b64(FRAME),
        "decoded": {"payload": {"temperature": -99}},
        "reported_at": AT_US // 1000,
        "hotspots": [{"rssi": -111}],
    } | fields
    return json.dumps({k: v for k, v in message.items() if v is not ...}).encode()


@pytest.mark.parametrize(
    ("decode", "payload", "expected"),
    [
        (chirpstack4, up4(), Sample(AT_US, VALUES)),
        # the server's own decoding is not believed
        (chirpstack4, up4(object={"temperature": -0.1}), Sample(AT_US, VALUES)),
        # no gateway had a clock
        (chirpstack4, up4(time=...), Sample(None, VALUES)),
        (chirpstack4, up4(time=None), Sample(None, VALUES)),
        # zero: port, count
        (chirpstack4, up4(fPort=..., fCnt=...), Sample(AT_US, VALUES)),
        # an answer to the network, without a frame
        (chirpstack4, up4(data=..., fPort=...), Sample(AT_US, {})),
        (chirpstack4, up4(data=""), Sample(AT_US, {})),
        # Beijing time
        (chirpstack4, up4(time="2023-05-22T15:47:05.404859+08:00"), Sample(AT_US, VALUES)),
        (chirpstack3, up3(), Sample(None, VALUES)),
        (chirpstack3, up3(publishedAt=AT), Sample(AT_US, VALUES)),
        (chirpstack3, up3(data=..., fPort=85), Sample(None, {})),
        (tts3, up_tts(), Sample(AT_US, VALUES)),
        # whoever is nearer to the sensor
        (tts3, up_tts({"received_at": "2024-01-01T00:00:00Z"}), Sample(AT_US, VALUES)),
        (tts3, up_tts({"received_at": AT}, received_at=...), Sample(AT_US, VALUES)),
        (tts3, up_tts(received_at=...), Sample(None, VALUES)),
        (tts3, up_tts(frm_payload=..., f_port=...), Sample(AT_US, {})),
        (tts3, up_tts({"simulated": True}), Sample(AT_US, VALUES, quality=SIMULATED)),
        (tts3, up_tts({"simulated": False}), Sample(AT_US, VALUES)),
    ],
)
def test_an_uplink_gives_the_values_of_its_frame_at_its_time(decode, payload, expected):
    assert heard(decode(payload)) == [expected]


def test_the_frame_may_stand_in_hexadecimal():
    decode = ChirpStack3Codec(MilesightCodec("em300-th"), Encoding.HEX).decode
    assert heard(decode(up3(data=FRAME.hex()))) == [Sample(None, VALUES)]


def test_a_kept_record_keeps_its_time_and_the_rest_gets_that_of_the_uplink():
    frame = bytes.fromhex("01755C20CE9E74466310015D00")
    samples = tts3(up_tts({"simulated": True}, frm_payload=b64(frame)))
    assert heard(samples) == [
        Sample(AT_US, {"battery": 92.0}, quality=SIMULATED),
        Sample(1_665_561_758_000_000, {"temperature": 27.2, "humidity": 46.5}, quality=SIMULATED),
    ]


@pytest.mark.parametrize(
    ("decode", "payload", "uplink"),
    [
        (chirpstack4, up4(fCnt=7, devAddr="00bd8834"), Uplink(7, "00bd8834", FRAME)),
        (chirpstack4, up4(), Uplink(0, "", FRAME)),  # what is zero is left out
        (chirpstack3, up3(fCnt=7), Uplink(7, "", FRAME)),
        (tts3, up_tts(f_cnt=7, session_key_id="AYg=="), Uplink(7, "AYg==", FRAME)),
        (helium, up_helium(), Uplink(7, "07000048", FRAME)),
    ],
)
def test_an_uplink_says_which_frame_it_is(decode, payload, uplink):
    assert [sample.uplink for sample in decode(payload)] == [uplink]


def test_a_kept_record_is_known_by_its_own_time():
    frame = bytes.fromhex("01755C20CE9E74466310015D00")
    now, kept = tts3(up_tts(frm_payload=b64(frame)))
    assert now.uplink == Uplink(0, "", frame)
    assert kept.uplink is None


def test_helium_tells_the_time_of_the_hotspot_in_milliseconds():
    assert heard(helium(up_helium())) == [Sample(AT_US // 1000 * 1000, VALUES)]
    assert heard(helium(up_helium(reported_at=...))) == [Sample(None, VALUES)]
    with pytest.raises(DecodeError, match="E-TIME reported_at: got -1"):
        helium(up_helium(reported_at=-1))


def test_the_port_reaches_the_frame():
    elsys = ChirpStack4Codec(ElsysCodec()).decode
    assert heard(elsys(up4(data=b64(b"\x01\x00\x46"), fPort=6))) == [Sample(AT_US, {}, ignored=1)]
    lse01 = ChirpStack4Codec(DraginoLse01Codec()).decode
    with pytest.raises(DecodeError, match="port 3"):
        lse01(up4(data=b64(bytes(11)), fPort=3))


@pytest.mark.parametrize(
    ("decode", "event", "kind"),
    [
        (chirpstack4, {"deduplicationId": "x", "margin": 7, "batteryLevel": 1.5}, "status"),
        (chirpstack4, {"deviceInfo": {}, "devAddr": "00bd8834"}, "join"),
        (chirpstack4, {"queueItemId": "x", "acknowledged": True, "fCntDown": 1}, "ack"),
        (chirpstack4, {"downlinkId": 1, "gatewayId": "x"}, "txack"),
        (chirpstack4, {"level": "ERROR", "code": "UPLINK_CODEC"}, "log"),
        (chirpstack4, {"location": {"latitude": 1}}, "location"),
        (chirpstack4, {"integrationName": "x", "object": {}}, "integration"),
        (chirpstack3, {"margin": -27, "batteryLevelUnavailable": True}, "status"),
        (chirpstack3, {"devAddr": "AFE5Qg==", "rxInfo": [], "txInfo": {}}, "join"),
        (chirpstack3, {"acknowledged": True, "rxInfo": [], "fCnt": 15}, "ack"),
        (chirpstack4, {}, "unknown"),
        (tts3, {"join_accept": {}, "received_at": AT}, "join_accept"),
        (tts3, {"downlink_ack": {}}, "downlink_ack"),
        (tts3, {"end_device_ids": {}}, "unknown"),
        (helium, {"type": "join", "devaddr": "07000048"}, "join"),
        (helium, {"devaddr": "07000048"}, "unknown"),
    ],
)
def test_other_events_are_named(decode, event, kind):
    with pytest.raises(DecodeError) as caught:
        decode(json.dumps(event).encode())
    assert caught.value.code == "E-EVENT"
    assert f"of the kind {kind}, expected an uplink" in caught.value.text


@pytest.mark.parametrize(
    ("decode", "payload", "code", "text"),
    [
        (chirpstack4, b"", "E-EMPTY", "payload is empty"),
        (chirpstack4, b"{", "E-JSON", "syntax"),
        (chirpstack4, b"[]", "E-TYPE", "expected `object`, got `array`"),
        (chirpstack4, b'{"data":7}', "E-TYPE", "$.data"),
        (chirpstack4, b'{"data":"\xff"}', "E-UTF8", "expected UTF-8"),
        (chirpstack4, up4(data="AXV"), "E-FRAME", "data: got 'AXV', expected base64"),
        (chirpstack4, up4(data="!!!!"), "E-FRAME", "expected base64"),
        (chirpstack4, up4(data=b64(b"\x03\x67\x01")), "E-FRAME", "data: byte 2: got 1 bytes"),
        (chirpstack4, up4(time="2023-05-22T07:47:05"), "E-TIME", "time: got '2023-05-22T07:47:05'"),
        (chirpstack4, up4(time="yesterday"), "E-TIME", "expected a date and a time with a zone"),
        (chirpstack4, up4(time="2023-05-22"), "E-TIME", "expected a date and a time with a zone"),
        (tts3, up_tts(received_at="2023"), "E-TIME", "uplink_message.received_at: got '2023'"),
        (tts3, up_tts(frm_payload="é"), "E-FRAME", "uplink_message.frm_payload: got 'é'"),
        (tts3, up_tts({"simulated": "no"}), "E-TYPE", "$.simulated"),
    ],
)
def test_what_is_no_uplink_is_refused_with_its_place(decode, payload, code, text):
    with pytest.raises(DecodeError) as caught:
        decode(payload)
    assert caught.value.code == code
    assert text in caught.value.text


def test_a_message_that_comes_twice_gives_the_same_samples():
    assert chirpstack4(up4()) == chirpstack4(up4())


_FIELDS = st.dictionaries(
    st.sampled_from(
        [
            *("time", "data", "fPort", "rxInfo", "publishedAt", "margin"),
            *("uplink_message", "received_at", "simulated", "frm_payload"),
        ]
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["frm_payload", "f_port", "received_at"]), inner)
        ),
        max_leaves=5,
    ),
)


@pytest.mark.parametrize("decode", [chirpstack4, chirpstack3, tts3])
@given(payload=st.binary(max_size=200) | _FIELDS.map(lambda fields: json.dumps(fields).encode()))
def test_any_bytes_give_samples_or_a_decode_error(decode, payload):
    try:
        samples = decode(payload)
    except DecodeError:
        return
    assert samples


@pytest.mark.parametrize("decode", [chirpstack4, chirpstack3, tts3])
def test_deep_nesting_is_refused_and_not_fatal(decode):
    with pytest.raises(DecodeError):
        decode(b'{"x":' * 20_000 + b"1" + b"}" * 20_000)
