from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs.lorawan.milesight import MODELS, MilesightCodec
from devices.codecs.sample import Sample
from devices.errors import DecodeError
from devices.quality import Quality

SENTINEL = int(Quality.SENTINEL)
NAN = struct.pack("<f", float("nan")).hex()


def decode(model, frame):
    return MilesightCodec(model).decode(bytes.fromhex(frame.replace(" ", "")))


# The examples of the maker's README files, and one row for each further field.
@pytest.mark.parametrize(
    ("model", "frame", "expected"),
    [
        (
            "em500-smtc",
            "017564 03671901 046873 057FF000",
            {"battery": 100.0, "temperature": 28.1, "moisture": 57.5, "ec": 240.0},
        ),
        (
            "em500-smtc",
            "017564 03671901 04CA7300 057FF000",
            {"battery": 100.0, "temperature": 28.1, "moisture": 1.15, "ec": 240.0},
        ),
        (
            "em500-co2",
            "01756403671901 046873 057D6704 06736827",
            {
                "battery": 100.0,
                "temperature": 28.1,
                "humidity": 57.5,
                "co2": 1127.0,
                "pressure": 1008.8,
            },
        ),
        ("em500-lgt", "017564 039450000000", {"battery": 100.0, "illumination": 80.0}),
        ("em500-lgt", "0394FFFFFFFF", {"illumination": 4_294_967_295.0}),
        ("em500-pp", "017564 037B0A00", {"battery": 100.0, "pressure": 10.0}),
        ("em500-swl", "017564 03770200", {"battery": 100.0, "depth": 2.0}),
        ("em500-udl", "017564 03821E00", {"battery": 100.0, "distance": 30.0}),
        ("em300-th", "01755C 03673401 046865", {"battery": 92.0, "temperature": 30.8}),
        ("em300-di", "05C801000100", {"pulse": 65_537.0}),
        ("em300-di", "05E1 0A00 0A00 0000C842", {"water": 100.0}),
        ("em300-di", "85E1 0A00 0A00 0000C842 01", {"water": 100.0}),
        ("em300-di", "050001", {"gpio": 1.0}),
        ("em300-di", "85000101", {"gpio": 1.0}),
        # the jump that an alarm tells of is passed over
        ("em500-co2", "83D7 1901 0A00 02", {"temperature": 28.1}),
        ("em500-udl", "83E9 1E00 0A00 02", {}),
    ],
)
def test_a_frame_gives_its_values(model, frame, expected):
    (sample,) = decode(model, frame)
    assert sample.observed_at_us is None
    assert expected.items() <= sample.values.items()
    if model != "em300-th":
        assert sample.values == expected


def test_the_same_channel_is_air_on_one_model_and_soil_on_another():
    assert decode("em300-th", "046865")[0].values == {"humidity": 50.5}
    assert decode("em500-smtc", "046865")[0].values == {"moisture": 50.5}


@pytest.mark.parametrize("code", ["FFFF", "FDFF"])
@pytest.mark.parametrize(
    ("model", "channel", "key"),
    [
        ("em500-smtc", "0367", "temperature"),
        ("em500-smtc", "04CA", "moisture"),
        ("em500-smtc", "057F", "ec"),
        ("em500-co2", "057D", "co2"),
        ("em500-pp", "037B", "pressure"),
        ("em500-swl", "0377", "depth"),
        ("em500-udl", "0382", "distance"),
    ],
)
def test_an_error_code_is_no_value(model, channel, key, code):
    assert decode(model, channel + code) == [Sample(None, {key: None}, quality=SENTINEL)]
    good, bad = decode(model, "017564" + channel + code)
    assert good == Sample(None, {"battery": 100.0})
    assert bad == Sample(None, {key: None}, quality=SENTINEL)


def test_a_tenth_below_zero_is_true_where_the_model_has_no_error_codes():
    assert decode("em300-th", "0367FFFF")[0].values == {"temperature": -0.1}
    assert decode("em300-th", "0367FDFF")[0].values == {"temperature": -0.3}


def test_a_water_total_that_is_no_number_is_no_value():
    assert decode("em300-di", f"05E1 0A00 0A00 {NAN}") == [
        Sample(None, {"water": None}, quality=SENTINEL, ignored=2)
    ]


AT = 1_665_561_758 * 1_000_000


@pytest.mark.parametrize(
    ("model", "frame", "expected"),
    [
        ("em300-th", "20CE9E74466310015D00", {"temperature": 27.2, "humidity": 46.5}),
        (
            "em300-di",
            "20CE9E74466310015D020000010000",
            {"temperature": 27.2, "humidity": 46.5, "pulse": 256.0},
        ),
        (
            "em300-di",
            "20CE9E74466310015D010100010000",
            {"temperature": 27.2, "humidity": 46.5, "gpio": 1.0},
        ),
        (
            "em300-di",
            "21CE9E74466310015D0002000A000A000000C842",
            {"temperature": 27.2, "humidity": 46.5, "water": 100.0},
        ),
        (
            "em500-smtc",
            "20CE9E744663F00019017300",
            {"ec": 240.0, "temperature": 28.1, "moisture": 1.15},
        ),
        (
            "em500-co2",
            "20CE9E74466367046827190173",
            {"co2": 1127.0, "pressure": 1008.8, "temperature": 28.1, "humidity": 57.5},
        ),
        ("em500-lgt", "20CE9E74466350000000", {"illumination": 80.0}),
        ("em500-swl", "20CE9E7446630200", {"depth": 2.0}),
        ("em500-udl", "20CE9E7446631E00", {"distance": 30.0}),
    ],
)
def test_a_kept_record_has_its_own_time(model, frame, expected):
    (sample,) = decode(model, frame)
    assert sample.observed_at_us == AT
    assert sample.values == expected


def test_kept_records_follow_what_is_measured_now():
    samples = decode("em300-th", "01755C 20CE9E74466310015D00 20CEF674466311015D00")
    assert [sample.observed_at_us for sample in samples] == [None, AT, AT + 88_000_000]
    assert [sample.values.get("temperature") for sample in samples] == [None, 27.2, 27.3]


def test_an_error_code_in_a_kept_record_keeps_the_others():
    good, bad = decode("em500-smtc", "20CE9E744663F000FFFF7300")
    assert good == Sample(AT, {"ec": 240.0, "moisture": 1.15})
    assert bad == Sample(AT, {"temperature": None}, quality=SENTINEL)


def test_what_the_device_says_about_itself_is_counted():
    frame = "FF0BFF FF0101 FF166136C40091605408 FF090300 FF0A0101 FF0F00 017564"
    assert decode("em300-th", frame) == [Sample(None, {"battery": 100.0}, ignored=6)]


@pytest.mark.parametrize(
    ("model", "frame", "text"),
    [
        ("em300-th", "03", "byte 0: got 1 bytes to the end"),
        ("em300-th", "036719", "byte 2: got 1 bytes to the end, expected 2 bytes of temperature"),
        # a channel of another model
        (
            "em300-th",
            "017564 057F0000",
            "byte 3: got 05 7f, expected a channel and type of EM300-TH",
        ),
        ("em300-th", "017564 017563", "byte 3: got 01 75 a second time"),
        ("em300-di", "20CE9E74466310015D030000010000", "a record of the input type 3"),
        # the record of the README, not of the decoder
        ("em500-smtc", "20CE9E744663" + "F00019017300" * 3, "byte 12: got f0 00"),
    ],
)
def test_what_is_not_a_frame_of_the_model_is_refused(model, frame, text):
    with pytest.raises(DecodeError) as caught:
        decode(model, frame)
    assert caught.value.code == "E-FRAME"
    assert text in caught.value.text


_CHANNELS = sorted(
    {name for model in MODELS.values() for name in (*model.channels, *model.records)}
)
_PLAUSIBLE = st.lists(
    st.tuples(st.sampled_from(_CHANNELS), st.binary(max_size=12)).map(
        lambda field: bytes(field[0]) + field[1]
    ),
    max_size=5,
).map(b"".join)


@pytest.mark.parametrize("model", MODELS)
@given(frame=st.binary(max_size=300) | _PLAUSIBLE)
def test_any_bytes_give_samples_or_a_decode_error(model, frame):
    with contextlib.suppress(DecodeError):
        assert MilesightCodec(model).decode(frame)
