"""Raw registers to values: golden vectors for every type and order, and the rules of judgement."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs.registers import (
    Poll,
    Read,
    ReadDecoder,
    RegisterCodec,
    decode_poll,
    encode_poll,
    read_text,
)
from devices.errors import DecodeError
from devices.profile import Order, Point, RegisterType, read_profile
from devices.quality import Quality
from firmware_sims.modbus_registers import RegisterMemory, as_bits

HIGH, LOW = Order.HIGH_FIRST, Order.LOW_FIRST
T = RegisterType


def point(kind: RegisterType, count: int = 1, **more) -> Point:
    return Point(key="x", function=3, address=100, count=count, type=kind, line=1, **more)


def words(*values: int) -> bytes:
    return b"".join(value.to_bytes(2, "big") for value in values)


def decode_one(p: Point, data: bytes) -> tuple[float, int]:
    count = p.count if p.function in (3, 4) else 8 * len(data)
    _, value, quality = ReadDecoder([p], p.address, count).decode(data)
    return value[0], quality[0]


GOLDEN = [
    # type, registers, word order, byte order, what they mean
    (T.UINT8_HIGH, (0x12FE,), HIGH, HIGH, 0x12),
    (T.UINT8_LOW, (0x12FE,), HIGH, HIGH, 0xFE),
    (T.INT8_HIGH, (0xFE12,), HIGH, HIGH, -2),
    (T.INT8_LOW, (0x12FE,), HIGH, HIGH, -2),
    (T.UINT8_LOW, (0xFE12,), HIGH, LOW, 0xFE),
    (T.UINT16, (0xFFDD,), HIGH, HIGH, 65501),
    (T.INT16, (0xFFDD,), HIGH, HIGH, -35),
    (T.INT16, (0xDDFF,), HIGH, LOW, -35),
    (T.UINT32, (0x0001, 0x86A0), HIGH, HIGH, 100_000),
    (T.UINT32, (0x86A0, 0x0001), LOW, HIGH, 100_000),
    (T.UINT32, (0x0100, 0xA086), HIGH, LOW, 100_000),
    (T.UINT32, (0xA086, 0x0100), LOW, LOW, 100_000),
    (T.INT32, (0xFFFE, 0x7960), HIGH, HIGH, -100_000),
    (T.INT32, (0x7960, 0xFFFE), LOW, HIGH, -100_000),
    (T.UINT64, (0, 1, 0, 0), HIGH, HIGH, 2**32),
    (T.UINT64, (0, 0, 1, 0), LOW, HIGH, 2**32),
    (T.INT64, (0xFFFF, 0xFFFF, 0xFFFF, 0xFFFE), HIGH, HIGH, -2),
    (T.FLOAT16, (0x4D40,), HIGH, HIGH, 21.0),
    # Vaisala GMP252's own example: low word first
    (T.FLOAT32, (0xD47A, 0x43E8), LOW, HIGH, 465.65997314453125),
    (T.FLOAT32, (0x41F4, 0x7AE1), HIGH, HIGH, 30.559999465942383),
    (T.FLOAT32, (0xF441, 0xE17A), HIGH, LOW, 30.559999465942383),
    (T.FLOAT32, (0xE17A, 0xF441), LOW, LOW, 30.559999465942383),
    (T.FLOAT64, (0x4009, 0x21FB, 0x5444, 0x2D18), HIGH, HIGH, math.pi),
    (T.FLOAT64, (0x2D18, 0x5444, 0x21FB, 0x4009), LOW, HIGH, math.pi),
    (T.BCD16, (0x1234,), HIGH, HIGH, 1234),
    (T.BCD32, (0x0012, 0x3456), HIGH, HIGH, 123_456),
    (T.BCD32, (0x3456, 0x0012), LOW, HIGH, 123_456),
]


@pytest.mark.parametrize(("kind", "registers", "word_order", "byte_order", "meant"), GOLDEN)
def test_registers_mean_what_the_manual_says(kind, registers, word_order, byte_order, meant):
    p = point(kind, len(registers), word_order=word_order, byte_order=byte_order)
    assert decode_one(p, words(*registers)) == (meant, Quality.GOOD)


@pytest.mark.parametrize("kind", [kind for kind in T if kind not in (T.BIT, T.STRING)])
def test_every_type_has_a_golden_vector(kind):
    assert any(row[0] is kind for row in GOLDEN)


def test_bit_in_a_register_is_counted_from_the_lowest():
    for bit in range(16):
        p = point(T.BIT, bit=bit)
        assert decode_one(p, words(1 << bit)) == (1.0, 0)
        assert decode_one(p, words(0xFFFF ^ 1 << bit)) == (0.0, 0)


def test_coils_are_packed_from_the_lowest_bit_of_the_first_byte():
    # MODBUS Application Protocol 1.1b3 6.1: CD 6B 05 is coils 20-38 of the example
    data = bytes.fromhex("CD6B05")
    points = [
        Point(key=f"c{n}", function=1, address=n, count=1, type=T.BIT, line=1)
        for n in range(19, 38)
    ]
    _, value, _ = ReadDecoder(points, 19, 19).decode(data)
    assert value.tolist() == [1, 0, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 0, 1, 1, 0, 1, 0, 1]


def test_text_is_read_up_to_its_end_in_either_byte_order():
    p = point(T.STRING, 4)
    assert read_text(p, b"SN-42\0\0\0", 100) == "SN-42"
    swapped = point(T.STRING, 4, byte_order=LOW)
    assert read_text(swapped, b"NS4-\x002\0\0", 100) == "SN-42"
    assert read_text(p, b"\xff\x01AB\0\0\0\0", 100) == "??AB"


def test_a_tenth_stays_a_tenth():
    from fractions import Fraction

    p = point(T.INT16, ratio=Fraction(1, 10))
    for raw in range(-400, 1000):
        value, _ = decode_one(p, words(raw & 0xFFFF))
        assert value == raw / 10


def test_wrong_decimal_digit_is_no_reading():
    value, quality = decode_one(point(T.BCD16), words(0x12A4))
    assert math.isnan(value)
    assert quality == Quality.MISSING


def test_not_a_number_is_missing_and_infinity_an_error_code():
    nan, inf = 0x7FC00000, 0x7F800000
    p = point(T.FLOAT32, 2)
    assert decode_one(p, nan.to_bytes(4, "big"))[1] == Quality.MISSING
    value, quality = decode_one(p, inf.to_bytes(4, "big"))
    assert math.isnan(value)
    assert quality == Quality.SENTINEL


def test_signalling_not_a_number_is_missing_like_any_other():
    for kind, bits in ((T.FLOAT16, 0x7C01), (T.FLOAT32, 0x7FA00001), (T.FLOAT64, 0x7FF4 << 48)):
        size = kind.bits // 8
        value, quality = decode_one(point(kind, size // 2), bits.to_bytes(size, "big"))
        assert math.isnan(value)
        assert quality == Quality.MISSING


def test_sentinel_is_marked_and_never_a_value():
    p = point(T.INT16, sentinels={32767.0: "overflow", -32768.0: "not available"})
    for raw in (0x7FFF, 0x8000):
        value, quality = decode_one(p, words(raw))
        assert math.isnan(value)
        assert quality == Quality.SENTINEL
    assert decode_one(p, words(0x7FFE)) == (32766, 0)


def test_sentinel_of_a_float_is_compared_as_the_register_holds_it():
    p = point(T.FLOAT32, 2, sentinels={-999.9: "sensor off"})
    memory = RegisterMemory()
    memory.put(p, -999.9)
    assert decode_one(p, words(*memory.read(3, 100, 2)))[1] == Quality.SENTINEL


def test_value_outside_of_the_sensor_s_range_is_kept_and_marked():
    p = point(T.INT16, low=-40.0, high=80.0)
    assert decode_one(p, words(81)) == (81, Quality.SENSOR_RANGE)
    assert decode_one(p, words(80)) == (80, 0)


def test_noise_below_zero_is_zero_and_more_than_noise_is_kept():
    p = point(T.INT16, noise_below_zero=3.0)
    assert decode_one(p, words(0xFFFE)) == (0, 0)
    assert decode_one(p, words(0xFFFC)) == (-4, 0)


@given(
    kind=st.sampled_from([kind for kind in T if kind.bits in (16, 32, 64) and not kind.is_float]),
    word_order=st.sampled_from(list(Order)),
    byte_order=st.sampled_from(list(Order)),
    data=st.data(),
)
def test_whole_numbers_come_back_from_an_independent_encoder(kind, word_order, byte_order, data):
    p = point(kind, max(1, kind.bits // 16), word_order=word_order, byte_order=byte_order)
    if kind.is_bcd:
        low, high = 0, 10 ** (kind.bits // 4) - 1
    elif kind.is_signed:
        low, high = -(2 ** (kind.bits - 1)), 2 ** (kind.bits - 1) - 1
    else:
        low, high = 0, 2**kind.bits - 1
    raw = data.draw(st.integers(low, high))
    memory = RegisterMemory()
    memory.put(p, raw if abs(raw) > 2**53 else float(raw))
    value, quality = decode_one(p, words(*memory.read(3, 100, p.count)))
    assert value == float(raw)
    assert quality == 0


@given(
    kind=st.sampled_from([T.FLOAT16, T.FLOAT32, T.FLOAT64]),
    word_order=st.sampled_from(list(Order)),
    byte_order=st.sampled_from(list(Order)),
    data=st.data(),
)
def test_floats_come_back_from_an_independent_encoder(kind, word_order, byte_order, data):
    p = point(kind, max(1, kind.bits // 16), word_order=word_order, byte_order=byte_order)
    raw = data.draw(st.floats(allow_nan=False, allow_infinity=False, width=kind.bits))
    memory = RegisterMemory()
    memory.put(p, raw)
    value, quality = decode_one(p, words(*memory.read(3, 100, p.count)))
    assert value == raw
    assert quality == 0


@given(raw=st.integers(-128, 127), other=st.integers(0, 255), byte_order=st.sampled_from(Order))
def test_halves_of_a_register_do_not_disturb_each_other(raw, other, byte_order):
    high, low = point(T.INT8_HIGH, byte_order=byte_order), point(T.UINT8_LOW, byte_order=byte_order)
    memory = RegisterMemory()
    memory.put(high, raw)
    memory.put(low, other)
    data = words(*memory.read(3, 100, 1))
    assert decode_one(high, data)[0] == raw
    assert decode_one(low, data)[0] == other


def test_many_reads_are_decoded_as_one_array():
    points = [
        Point(key="t", function=3, address=0, count=1, type=T.INT16, line=1),
        Point(key="f", function=3, address=2, count=2, type=T.FLOAT32, line=1),
    ]
    decoder = ReadDecoder(points, 0, 4)
    rows = []
    for row in range(50):
        memory = RegisterMemory()
        memory.fill(3, 0, 3)
        memory.put(points[0], row - 25)
        memory.put(points[1], row * 0.5)
        rows.append(words(*memory.read(3, 0, 4)))
    value, quality = decoder.judge(decoder.raw(np.array([list(row) for row in rows], np.uint8)))
    assert value.shape == (50, 2)
    assert value[:, 0].tolist() == list(range(-25, 25))
    assert value[:, 1].tolist() == [row * 0.5 for row in range(50)]
    assert not quality.any()


def test_encoder_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="does not fit"):
        as_bits(point(T.INT16), 40_000)
    with pytest.raises(ValueError, match="does not fit"):
        as_bits(point(T.BCD16), 12_345)


PROFILE = read_profile(
    """
profile: probe
protocol: modbus
maker: nobody
model: probe
name: {zh: 探头, en: probe}
sources: [{text: written for this test, evidence: C}]
blocks:
  - function: 3
    points:
      - {address: 0, type: int16, scale: 0.1, quantity: air_temperature, sentinels: {0x7FFF: off}}
      - {address: 1, type: uint16, scale: 0.1, quantity: relative_humidity, range: [0, 100]}
      - {address: 2, type: uint16, quantity: co2}
  - function: 4
    points:
      - address: 0
        type: uint16
        key: status
        spoils:
          - {points: [co2], bits: [0, 1]}
          - {points: [co2], values: [256], quality: missing}
""",
    "probe.yaml",
)


def poll(*reads: Read) -> bytes:
    return encode_poll(Poll("bus-1", 1, reads))


def samples(*reads: Read):
    return RegisterCodec(PROFILE).decode(poll(*reads))


def good(*values: int, status: int = 0) -> tuple[Read, Read]:
    return Read(3, 0, 3, 1000, words(*values)), Read(4, 0, 1, 2000, words(status))


def test_poll_becomes_one_sample_at_the_time_of_its_reply():
    (sample,) = samples(*good(215, 655, 450))
    assert sample.observed_at_us == 1000
    assert sample.values == {"air_temperature": 21.5, "relative_humidity": 65.5, "co2": 450}
    assert sample.quality == 0


def test_values_of_different_quality_come_as_different_samples():
    found = {s.quality: s.values for s in samples(*good(0x7FFF, 1011, 450))}
    assert found == {
        Quality.SENTINEL: {"air_temperature": None},
        Quality.SENSOR_RANGE: {"relative_humidity": 101.1},
        0: {"co2": 450},
    }


@pytest.mark.parametrize(
    ("status", "value", "quality"),
    [
        (0, 450, 0),
        (1, 450, Quality.DEVICE_FAULT),
        (2, 450, Quality.DEVICE_FAULT),
        (4, 450, 0),  # a bit that nobody named
        (256, None, Quality.MISSING),
    ],
)
def test_status_register_spoils_what_it_guards(status, value, quality):
    (sample,) = [s for s in samples(*good(215, 655, 450, status=status)) if "co2" in s.values]
    assert sample.values["co2"] == value
    assert sample.quality == quality


def test_value_whose_status_could_not_be_read_is_not_believed():
    first, _ = good(215, 655, 450)
    lost = Read(4, 0, 1, 2000, error="E-MB-TIMEOUT", text="unit 1 after 0.30 s")
    (sample,) = [s for s in samples(first, lost) if "co2" in s.values]
    assert sample.quality == Quality.COMMUNICATION


def test_failed_read_gives_reasons_and_no_value():
    (sample,) = samples(Read(3, 0, 3, 5000, error="E-MB-TIMEOUT", text="unit 1 after 0.30 s"))
    assert sample.observed_at_us == 5000
    assert sample.values == {"air_temperature": None, "relative_humidity": None, "co2": None}
    assert sample.quality == Quality.COMMUNICATION


def test_points_without_series_are_read_across_and_not_given():
    payload = encode_poll(Poll("bus-1", 1, good(0x7FFF, 655, 450), keys=("relative_humidity",)))
    (sample,) = RegisterCodec(PROFILE).decode(payload)
    assert sample.values == {"relative_humidity": 65.5}
    lost = Read(3, 0, 3, 1000, error="E-MB-TIMEOUT", text="unit 1")
    (sample,) = RegisterCodec(PROFILE).decode(encode_poll(Poll("b", 1, (lost,), keys=("co2",))))
    assert sample.values == {"co2": None}


def test_read_of_status_alone_is_a_sample_without_values():
    (sample,) = samples(Read(4, 0, 1, 2000, words(0)))
    assert sample.values == {}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "not a poll"),
        (b'{"t": 1}', "not a poll"),
        (encode_poll(Poll("b", 1, (), format="modbus/9")), "poll format"),
        (poll(Read(3, 0, 3, 1000, b"\0\1")), "got 2 bytes, expected 6"),
        (poll(Read(3, 500, 3, 1000, b"\0" * 6)), "no point of profile probe"),
        (poll(), "no point of profile probe"),
    ],
)
def test_unreadable_poll_is_refused_with_its_reason(payload, reason):
    with pytest.raises(DecodeError, match=reason):
        RegisterCodec(PROFILE).decode(payload)


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_raise_a_decode_error(payload):
    with contextlib.suppress(DecodeError):
        RegisterCodec(PROFILE).decode(payload)


@given(
    reads=st.lists(
        st.builds(
            lambda f, a, w, t: Read(f, a, len(w), t, words(*w)),
            st.sampled_from([3, 4]),
            st.integers(0, 65_000),
            st.lists(st.integers(0, 65_535), min_size=1, max_size=125),
            st.integers(0, 2**62),
        )
    )
)
def test_poll_survives_the_spool(reads):
    before = Poll("bus", 7, tuple(reads))
    assert decode_poll(encode_poll(before)) == before
