from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs.lorawan.elsys import ElsysCodec
from devices.codecs.sample import Sample
from devices.errors import DecodeError

decode = ElsysCodec().decode


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        # the maker's example of an ERS
        (
            "0100e202290400270506060308070d62",
            {
                "temperature": 22.6,
                "humidity": 41.0,
                "light": 39.0,
                "motion": 6.0,
                "co2": 776.0,
                "vdd": 3426.0,
            },
        ),
        # an EMS on a tower of Grenoble
        (
            "0100460253033b0ffd070e200b000000000d000f001200",
            {
                "temperature": 7.0,
                "humidity": 83.0,
                "x": 59.0,
                "y": 15.0,
                "z": -3.0,
                "vdd": 3616.0,
                "pulseAbs": 0.0,
                "digital": 0.0,
                "accMotion": 0.0,
                "waterleak": 0.0,
            },
        ),
        ("01ffff", {"temperature": -0.1}),
        ("0801020a01020bffffffff", {"analog1": 258.0, "pulse1": 258.0, "pulseAbs": 4294967295.0}),
        ("0cff9c0e0102", {"externalTemperature": -10.0, "distance": 258.0}),
        ("1000c8ff38", {"irInternalTemperature": 20.0, "irExternalTemperature": -20.0}),
        ("110214000f7648153c28", {"occupancy": 2.0, "pressure": 1013.32}),
        ("1600011700000002180003", {"pulse2": 1.0, "pulseAbs2": 2.0, "analog2": 3.0}),
        ("1a011bffffffff1c0010", {"digital2": 1.0, "analogUv": -1.0, "tvoc": 16.0}),
        # a chain of three probes
        (
            "1900641900c819012c",
            {
                "externalTemperature2": 10.0,
                "externalTemperature2.2": 20.0,
                "externalTemperature2.3": 30.0,
            },
        ),
    ],
)
def test_a_frame_gives_its_values(frame, expected):
    (sample,) = decode(bytes.fromhex(frame), 5)
    assert sample.observed_at_us is None
    assert expected.items() <= sample.values.items()
    assert set(sample.values) - set(expected) <= {"soundPeak", "soundAvg"}


def test_what_nobody_reads_is_counted():
    assert decode(bytes.fromhex("3d01000002" + "010046")) == [
        Sample(None, {"temperature": 7.0}, ignored=1)
    ]


@pytest.mark.parametrize("port", [None, 6])
def test_settings_are_no_reading(port):
    assert decode(bytes.fromhex("3e4b0701080509010a"), port) == [Sample(None, {}, ignored=1)]


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        ("0100", "byte 1: got 1 bytes to the end, expected 2 bytes of temperature"),
        ("010046ee", "byte 3: got type 0xee"),
        ("010046010046", "byte 3: got temperature a second time"),
    ],
)
def test_what_is_not_a_frame_is_refused(frame, text):
    with pytest.raises(DecodeError) as caught:
        decode(bytes.fromhex(frame))
    assert caught.value.code == "E-FRAME"
    assert text in caught.value.text


@given(st.binary(max_size=300), st.none() | st.integers(0, 255))
def test_any_bytes_give_samples_or_a_decode_error(frame, port):
    with contextlib.suppress(DecodeError):
        assert decode(frame, port)
