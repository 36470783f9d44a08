from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs.lorawan.decentlab import MODELS, DecentlabCodec
from devices.errors import DecodeError


def decode(model, frame):
    (sample,) = DecentlabCodec(model).decode(bytes.fromhex(frame))
    assert sample.observed_at_us is None
    return sample.values


# The frames of the maker's decoders.
@pytest.mark.parametrize(
    ("model", "frame", "expected"),
    [
        (
            "dl-trs12",
            "0210d3000346be813d00000c80",
            {
                "dielectric_permittivity": 1.1831249,
                "volumetric_water_content": 0.0068869,
                "soil_temperature": 31.7,
                "electrical_conductivity": 0.0,
                "battery_voltage": 3.2,
            },
        ),
        ("dl-trs12", "0210d300020c80", {"battery_voltage": 3.2}),
        (
            "dl-par",
            "020291000380690c60",
            {"photosynthetically_active_radiation": 48.0651855, "battery_voltage": 3.168},
        ),
        (
            "dl-atm41",
            "02035a0003800a8000800080008009812b8014810880b4a57c820c810980027fe88056800880040bf5",
            {
                "solar_radiation": 10.0,
                "precipitation": 0.0,
                "lightning_strike_count": 0.0,
                "lightning_average_distance": 0.0,
                "wind_speed": 0.09,
                "wind_direction": 29.9,
                "maximum_wind_speed": 0.2,
                "air_temperature": 26.4,
                "vapor_pressure": 1.8,
                "atmospheric_pressure": 95.96,
                "relative_humidity": 52.4,
                "sensor_temperature_internal": 26.5,
                "x_orientation_angle": 0.2,
                "y_orientation_angle": -2.4,
                "compass_heading": 86.0,
                "north_wind_speed": 0.08,
                "east_wind_speed": 0.04,
                "battery_voltage": 3.061,
            },
        ),
    ],
)
def test_a_frame_gives_its_values(model, frame, expected):
    assert decode(model, frame) == pytest.approx(expected)


def test_a_level_without_a_sensor_has_no_value():
    values = decode(
        "dl-smtp",
        "020b50000309018a8c09438a9809278a920b3c8aa50c9c8a8c11e08aa500000000000000000b3b",
    )
    assert values["soil_moisture_at_depth_5"] == pytest.approx(4.152)
    assert values["soil_temperature_at_depth_5"] == pytest.approx(27.25)
    for level in (6, 7):
        assert values[f"soil_moisture_at_depth_{level}"] is None
        assert values[f"soil_temperature_at_depth_{level}"] is None


@pytest.mark.parametrize(
    ("model", "frame", "text"),
    [
        ("dl-par", "010291000380690c60", "byte 0: got protocol version 1, expected 2"),
        (
            "dl-par",
            "020291000780690c60",
            "byte 3: got sensor flags 0x0007, expected at most 0x0003",
        ),
        ("dl-par", "02029100038069", "byte 7: got 0 bytes to the end"),
        # the frame of a soil probe under the name of a light sensor
        ("dl-par", "0210d3000346be813d00000c80", "byte 9: got 4 bytes more"),
    ],
)
def test_what_is_not_a_frame_of_the_model_is_refused(model, frame, text):
    with pytest.raises(DecodeError) as caught:
        decode(model, frame)
    assert caught.value.code == "E-FRAME"
    assert text in caught.value.text


@pytest.mark.parametrize("model", MODELS)
@given(
    frame=st.binary(max_size=300)
    | st.binary(max_size=60).map(lambda tail: b"\x02\x10\xd3\x00\x03" + tail)
)
def test_any_bytes_give_samples_or_a_decode_error(model, frame):
    with contextlib.suppress(DecodeError):
        assert DecentlabCodec(model).decode(frame)
