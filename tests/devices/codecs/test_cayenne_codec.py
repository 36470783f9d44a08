from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs.cayenne import CayenneCodec
from devices.codecs.sample import Sample
from devices.errors import DecodeError

decode = CayenneCodec().decode


# Vectors of the library's own tests and README, and one row for every other type.
@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ("03670110", {"temperature.3": 27.2}),
        ("03670110056700ff", {"temperature.3": 27.2, "temperature.5": 25.5}),
        ("0567ffd1", {"temperature.5": -4.7}),
        ("02686c", {"relative_humidity.2": 54.0}),
        ("037457b8", {"voltage.3": 224.56}),
        (
            "018806765ef2960a0003e8",
            {"gps.1.latitude": 42.3518, "gps.1.longitude": -87.9094, "gps.1.altitude": 10.0},
        ),
        (
            "067104d2fb2e0000",
            {"acceleration.6.x": 1.234, "acceleration.6.y": -1.234, "acceleration.6.z": 0.0},
        ),
        ("010001", {"digital_input.1": 1.0}),
        ("010100", {"digital_output.1": 0.0}),
        ("0102ff38", {"analog_input.1": -2.0}),
        ("01037fff", {"analog_output.1": 327.67}),
        ("0164ffffffff", {"generic.1": 4_294_967_295.0}),
        ("0165ffff", {"illuminance.1": 65_535.0}),
        ("016601", {"presence.1": 1.0}),
        ("01732765", {"pressure.1": 1008.5}),
        ("01752710", {"current.1": 10.0}),
        ("017600000032", {"frequency.1": 50.0}),
        ("017864", {"percentage.1": 100.0}),
        ("0179fff6", {"altitude.1": -10.0}),
        ("017d0467", {"concentration.1": 1127.0}),
        ("01800064", {"power.1": 100.0}),
        ("0182000003e9", {"distance.1": 1.001}),
        ("018300000001", {"energy.1": 0.001}),
        ("01840168", {"direction.1": 360.0}),
        ("01855f000000", {"unix_time.1": 1_593_835_520.0}),
        ("0186ff9c00640001", {"gyrometer.1.x": -1.0, "gyrometer.1.y": 1.0, "gyrometer.1.z": 0.01}),
        ("0187ff8000", {"colour.1.red": 255.0, "colour.1.green": 128.0, "colour.1.blue": 0.0}),
        ("ff8e01", {"switch.255": 1.0}),
    ],
)
def test_a_frame_gives_its_values(frame, expected):
    assert decode(bytes.fromhex(frame)) == [Sample(None, expected)]


@pytest.mark.parametrize(
    ("frame", "code", "text"),
    [
        ("", "E-EMPTY", "frame is empty"),
        # cut short
        ("036701", "E-FRAME", "byte 2: got 1 bytes to the end, expected 2 bytes of temperature.3"),
        ("03", "E-FRAME", "byte 0: got 1 bytes to the end"),
        # nobody knows where the next field would begin
        ("0367011001ee00", "E-FRAME", "byte 5: got type 0xee"),
        # a track
        ("01f0050000", "E-FRAME", "type 0xf0"),
        # which of the two would it be?
        ("0367011003670111", "E-FRAME", "byte 4: got temperature.3 a second time"),
        ("00" * 256, "E-SIZE", "got 256 bytes"),
    ],
)
def test_what_is_not_cayenne_is_refused_with_its_place(frame, code, text):
    with pytest.raises(DecodeError) as caught:
        decode(bytes.fromhex(frame))
    assert caught.value.code == code
    assert text in caught.value.text


@given(st.binary(max_size=300))
def test_any_bytes_give_samples_or_a_decode_error(frame):
    try:
        samples = decode(frame)
    except DecodeError:
        return
    assert len(samples) == 1
    assert all(type(value) is float for value in samples[0].values.values())


@given(st.dictionaries(st.integers(0, 255), st.integers(-32_768, 32_767), min_size=1, max_size=60))
def test_temperatures_survive_the_trip(tenths_by_channel):
    frame = b"".join(
        bytes((channel, 0x67)) + tenths.to_bytes(2, "big", signed=True)
        for channel, tenths in tenths_by_channel.items()
    )
    expected = {f"temperature.{channel}": t / 10 for channel, t in tenths_by_channel.items()}
    assert decode(frame) == [Sample(None, expected)]
