from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from devices.codecs.lorawan.dragino import DraginoLht65nCodec, DraginoLse01Codec
from devices.codecs.sample import Sample
from devices.errors import DecodeError
from devices.quality import Quality

lse01 = DraginoLse01Codec().decode
lht65n = DraginoLht65nCodec().decode
SENTINEL = int(Quality.SENTINEL)


def test_a_soil_frame_gives_its_values():
    frame = bytes.fromhex("0ce4 00f0 0dd6 0b22 03e8 00".replace(" ", ""))
    assert lse01(frame, 2) == [
        Sample(
            None,
            {
                "BatV": 3.3,
                "temp_DS18B20": 24.0,
                "water_SOIL": 35.42,
                "temp_SOIL": 28.5,
                "conduct_SOIL": 1000.0,
            },
        )
    ]


@given(st.integers(-4000, 8500))
@example(-1)
def test_a_soil_below_zero_is_not_a_hundredth_too_warm(hundredths):
    frame = bytes(6) + hundredths.to_bytes(2, "big", signed=True) + bytes(3)
    assert lse01(frame)[0].values["temp_SOIL"] == hundredths / 100


def test_raw_counts_of_the_soil_have_keys_of_their_own():
    frame = bytes.fromhex("0ce4ffce012c0456007b80")
    assert lse01(frame)[0].values == {
        "BatV": 3.3,
        "temp_DS18B20": -5.0,
        "Soil_dielectric_constant": 30.0,
        "Raw_water_SOIL": 1110.0,
        "Raw_conduct_SOIL": 123.0,
    }


def test_a_missing_soil_probe_is_no_3276_degrees():
    samples = lse01(bytes.fromhex("0ce47fff0dd60b2203e800"))
    assert "temp_DS18B20" not in samples[0].values
    assert samples[1] == Sample(None, {"temp_DS18B20": None}, quality=SENTINEL)


AIR = {"BatV": 3.06, "TempC_SHT": 24.41, "Hum_SHT": 53.1}


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ("00 00000000", {}),
        ("01 0945ffff", {"TempC_DS": 23.73}),
        ("02 fb2effff", {"TempC_TMP117": -12.34}),
        ("04 0100ffff", {"Exti_pin_level": 1.0, "Exti_status": 0.0}),
        ("05 0320ffff", {"ILL_lx": 800.0}),
        ("06 0ce4ffff", {"ADC_V": 3.3}),
        ("07 0102ffff", {"Exit_count": 258.0}),
        ("08 00010002", {"Exit_count": 65_538.0}),
        ("0b 09450213", {"Ext_TempC_SHT": 23.73, "Ext_Hum_SHT": 53.1}),
    ],
)
def test_an_air_frame_gives_its_own_and_the_external_values(tail, expected):
    frame = bytes.fromhex("cbf4 0989 0213".replace(" ", "") + tail.replace(" ", ""))
    assert lht65n(frame, 2) == [Sample(None, AIR | expected)]


@pytest.mark.parametrize("tail", ["017fffffff", "810945ffff", "8109450000"])
def test_a_missing_external_probe_has_no_value_and_says_so(tail):
    samples = lht65n(bytes.fromhex("cbf409890213" + tail))
    assert samples == [Sample(None, AIR), Sample(None, {"TempC_DS": None}, quality=SENTINEL)]


def test_a_live_frame_with_a_time_has_the_probe_in_place_of_the_battery():
    at_s = 1_700_000_000
    frame = bytes.fromhex("094509890213" + "09") + at_s.to_bytes(4, "big")
    values = {"TempC_SHT": 24.41, "Hum_SHT": 53.1, "TempC_DS": 23.73}
    assert lht65n(frame) == [Sample(at_s * 1_000_000, values)]
    assert lht65n(frame[:7] + bytes(4)) == [Sample(None, values)]


@pytest.mark.parametrize("status", [0x41, 0x81])
def test_records_that_were_kept_have_their_own_times(status):
    head = bytes.fromhex("094509890213")
    frame = b"".join(
        head + bytes([status]) + (1_700_000_000 + 1200 * index).to_bytes(4, "big")
        for index in range(3)
    )
    values = {"TempC_SHT": 24.41, "Hum_SHT": 53.1, "TempC_DS": 23.73}
    assert lht65n(frame, 2) == [
        Sample((1_700_000_000 + 1200 * index) * 1_000_000, values) for index in range(3)
    ]


def test_a_frame_of_the_probes_number_gives_the_battery_only():
    assert lht65n(bytes.fromhex("cbf428ff00000f00000000")) == [
        Sample(None, {"BatV": 3.06}, ignored=1)
    ]


@pytest.mark.parametrize("decode", [lse01, lht65n])
def test_the_devices_status_is_no_reading(decode):
    assert decode(bytes.fromhex("0b010001ff0ce4"), 5) == [Sample(None, {}, ignored=1)]


@pytest.mark.parametrize(
    ("decode", "frame", "port", "text"),
    [
        (lse01, "0ce400f00dd60b2203e8", 2, "a frame of 10 bytes"),
        (lse01, "0ce400f00dd60b2203e80000", 2, "a frame of 12 bytes"),
        (lht65n, "cbf4098902130c00000000", 2, "an external sensor of kind 12"),
        # the serial number of an SHT31 in the place of the air's values
        (lht65n, "cbf4098902131000000000", 2, "an external sensor of kind 16"),
        (lht65n, "cbf40989021300000000", 2, "a frame of 10 bytes"),
        (lht65n, "cbf4098902130000000000" * 2, 2, "byte 11: got a second record"),
        (lht65n, "cbf401098909890989", 3, "a frame on port 3"),
    ],
)
def test_what_is_not_a_frame_is_refused(decode, frame, port, text):
    with pytest.raises(DecodeError, match=text) as caught:
        decode(bytes.fromhex(frame), port)
    assert caught.value.code == "E-FRAME"


_ANY = st.binary(max_size=40) | st.binary(min_size=11, max_size=11)


@pytest.mark.parametrize("decode", [lse01, lht65n])
@given(frame=_ANY, port=st.none() | st.integers(0, 255))
def test_any_bytes_give_samples_or_a_decode_error(decode, frame, port):
    with contextlib.suppress(DecodeError):
        assert decode(frame, port)
