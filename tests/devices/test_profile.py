"""A profile is checked whole: every mistake at its line, with the nearest right word."""

from __future__ import annotations

from fractions import Fraction

import pytest

from devices.errors import DocumentError
from devices.profile import Line, Order, Parity, RegisterType, profile_schema, read_profile
from devices.quality import Quality

HEAD = """\
profile: probe
protocol: modbus
maker: nobody
model: probe-1
name: {zh: 探头, en: probe}
sources: [{text: written for this test, evidence: V2+C}]
"""


def profile(rest: str):
    return read_profile(HEAD + rest, "probe.yaml")


def mistakes(rest: str, head: str = HEAD) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        read_profile(head + rest, "probe.yaml")
    return [str(mistake) for mistake in caught.value.mistakes]


def one_point(point: str, function: int = 3, more: str = "") -> str:
    return f"blocks:\n  - function: {function}\n    points:\n      - {point}\n{more}"


FULL = """\
line: {baud: 19200, parity: even, stop_bits: 1, unit: 240}
address_base: 1
word_order: low_first
limits:
  max_registers: 32
  gap: 4
  pause: 20ms
  timeout: 1s
  response: 80ms
  illegal:
    - {function: 3, first: 101, last: 110}
caveats:
  - {zh: 先读说明书, en: read the manual first}
blocks:
  - function: 3
    every: 10s
    points:
      - address: 1
        type: float32
        quantity: air_temperature
        unit: °F
        range: [-40, 176]
        sentinels: {-9999: off}
      - {address: 3, type: int16, key: rh, quantity: relative_humidity, channel: 2, scale: 0.1}
      - {address: 4, type: uint16, scale: 0.1, quantity: air_pressure, unit: hPa}
  - function: 3
    every: 5min
    read: [0x0200, 0x0202]
    points:
      - address: 0x0201
        type: uint16
        key: status
        texts: {0: {zh: 正常, en: fine}, 1: faulty}
        spoils: [{points: [rh], bits: [0]}]
  - function: 1
    points:
      - {address: 5, key: valve, write: {function: 5, low: 0, high: 1, kind: relay}}
"""


def test_whole_profile_becomes_what_it_says():
    found = profile(FULL)
    assert found.line == Line(19200, 8, Parity.EVEN, 1)
    assert str(found.line) == "19200 8E1"
    assert found.line.bits_per_byte == 11
    assert found.unit == 240
    assert found.caveats == (("先读说明书", "read the manual first"),)
    limits = found.limits
    assert (limits.max_registers, limits.gap, limits.pause_s) == (32, 4, 0.02)
    assert (limits.timeout_s, limits.response_s) == (1.0, 0.08)
    assert limits.illegal == {3: ((100, 109),)}
    assert [block.interval_s for block in found.blocks] == [10.0, 300.0, None]
    assert found.blocks[1].span == (0x01FF, 0x0201)
    assert [point.key for point in found.series()] == ["air_temperature", "rh", "air_pressure"]


def test_addresses_counted_from_one_are_shifted_once():
    found = profile(FULL)
    assert found.point("air_temperature").address == 0
    assert found.point("status").address == 0x0200
    assert found.point("valve").address == 4


def test_units_are_resolved_at_load_time():
    temperature = profile(FULL).point("air_temperature")
    assert temperature.type is RegisterType.FLOAT32
    assert temperature.word_order is Order.LOW_FIRST
    assert temperature.reading(212.0) == pytest.approx(100.0)
    assert temperature.raw(100.0) == pytest.approx(212.0)
    assert (temperature.low, temperature.high) == (pytest.approx(-40), pytest.approx(80))
    pressure = profile(FULL).point("air_pressure")
    assert pressure.reading(10132) == 101.32
    assert (pressure.ratio, pressure.reading_unit) == (Fraction(1, 100), "kPa")
    assert profile(FULL).point("rh").ratio == Fraction(1, 10)


def test_status_texts_and_guards_are_known():
    found = profile(FULL)
    status = found.point("status")
    assert status.texts == {0: ("正常", "fine"), 1: ("faulty", "faulty")}
    assert status.spoils[0].quality is Quality.DEVICE_FAULT
    assert found.guards("rh") == (status,)
    assert found.guards("air_temperature") == ()
    with pytest.raises(KeyError):
        found.point("nothing")


def test_each_point_knows_its_line():
    found = profile(FULL)
    lines = (HEAD + FULL).splitlines()
    assert "quantity: relative_humidity" in lines[found.point("rh").line - 1]
    assert lines[found.point("air_temperature").line - 1].strip() == "- address: 1"


def test_sentinel_of_a_signed_register_is_kept_as_the_decoder_meets_it():
    found = profile(
        one_point("{address: 0, type: int16, key: a, sentinels: {0x8000: none, 32767: high}}")
    )
    assert found.point("a").sentinels == {-32768.0: "none", 32767.0: "high"}


def test_counter_wraps_as_its_type_does_unless_it_says_otherwise():
    def wraps(point: str):
        return profile(one_point(point)).points[0].counter.wraps_at

    volume = "address: 0, quantity: irrigation_volume"
    assert wraps(f"{{{volume}, type: uint32, counter: {{}}}}") == 2**32
    assert wraps(f"{{{volume}, type: int32, counter: {{}}}}") == 2**31
    assert wraps(f"{{{volume}, type: bcd32, counter: {{}}}}") == 10**8
    assert wraps(f"{{{volume}, type: uint32, counter: {{wraps_at: 1000000}}}}") == 1_000_000
    assert wraps(f"{{{volume}, type: float32, counter: {{never_wraps: true}}}}") is None


MISTAKES = [
    # what is wrong in the point, and what must be said about it
    ("{address: 0, type: uint61, key: a}", "expected one of", "did you mean 'uint64'"),
    ("{address: 0, type: int16, quantity: air_temprature}", "did you mean 'air_temperature'"),
    ("{address: 0, type: int16, quantity: air_temperature, unit: hPa}", "a unit like °C"),
    ("{address: 0, type: int16, quantity: air_temperature, unt: K}", "did you mean 'unit'"),
    ("{address: 70000, type: int16, key: a}", "address: got 70000"),
    ("{address: 65535, type: uint32, key: a}", "0..65535, with all 2 register(s)"),
    ("{address: -1, type: int16, key: a}", "address: got -1"),
    ("{address: 0, key: a}", "type: got nothing, expected one of bit, uint8_high"),
    ("{address: 0, type: int16}", "a key, or the quantity that is measured"),
    ("{address: 0, type: bit, key: a}", "bit: 0..15 together with type: bit"),
    ("{address: 0, type: int16, bit: 3, key: a}", "bit: 0..15 together with type: bit"),
    ("{address: 0, type: bit, bit: 16, key: a}", "bit: got 16"),
    ("{address: 0, type: string, key: a}", "length in registers with type: string"),
    ("{address: 0, type: string, length: 126, key: a}", "length: got 126"),
    ("{address: 0, type: int16, key: a, scale: 0}", "a scale other than 0"),
    ("{address: 0, type: int16, key: a, range: [5, 5]}", "the lower end first"),
    ("{address: 0, type: int16, key: a, sentinels: {70000: x}}", "raw values that int16 can hold"),
    ("{address: 0, type: int16, key: a, sentinels: {off: x}}", "raw register values such as"),
    ("{address: 0, type: int16, key: a, texts: {0: [1]}}", "a text, or {zh: ..., en: ...}"),
    ("{address: 0, type: int16, key: a, spoils: [{points: [b]}]}", "one of bits, values, except"),
    ("{address: 0, type: int16, key: a, spoils: [{points: [b], bits: [0]}]}", "keys of other"),
    ("{address: 0, type: int16, key: a, spoils: [{points: [a], bits: [0]}]}", "keys of other"),
    ("{address: 0, type: float32, key: a, spoils: [{points: [a], bits: [0]}]}", "whole-number"),
    ("{address: 0, type: uint32, quantity: rainfall}", "a counter section, because rainfall"),
    ("{address: 0, type: int16, quantity: co2, counter: {}}", "a quantity that is a running total"),
    ("{address: 0, type: float32, quantity: rainfall, counter: {}}", "wraps_at or never_wraps"),
    (
        "{address: 0, type: uint16, key: a, write: {function: 5, low: 0, high: 1, kind: relay}}",
        "one of 6, 16",
    ),
    (
        "{address: 0, type: uint16, key: a, write: {function: 6, low: 1, high: 1, kind: relay}}",
        "less than high (1)",
    ),
    (
        "{address: 0, type: uint8_low, key: a, write: {function: 6, low: 0, high: 1, kind: relay}}",
        "a number that fills its registers",
    ),
    ("{address: 0, type: int16, key: a, evidence: sure}", "V (official text), V2 (third party)"),
    ("{address: 0, type: int16, key: A b}", "lower-case letters, digits"),
]


@pytest.mark.parametrize("row", MISTAKES, ids=[row[0][:60] for row in MISTAKES])
def test_mistake_in_a_point_is_named_at_its_line(row):
    point, *said = row
    found = mistakes(one_point(point))
    assert found, "no mistake was found"
    for text in said:
        assert any(text in mistake and "probe.yaml:10:" in mistake for mistake in found), found


def test_mistakes_of_shape_and_of_meaning_come_together():
    found = mistakes(
        """\
adress_base: 1
limits: {max_registers: 126, gap: -1}
caveats: [read it]
blocks:
  - function: 7
    points: [{address: 0, type: int16, key: a}]
  - function: 3
    every: 10
    points:
      - {address: 0, type: int16, key: a}
      - {address: 0, type: uint16, key: b}
      - {address: 1, type: uint16, key: a}
  - function: 3
    read: [0, 1]
    points: [{address: 9, type: int16, key: c}]
"""
    )
    for text in (
        "adress_base",
        "limits.max_registers: got 126",
        "limits.gap: got -1",
        "caveats[0]",
        "blocks[0].function: got 7",
        "blocks[1].every: got 10",
        "registers that a (line 16) does not use",
        "a key of its own (line 16 has it)",
        "a range that holds c (line 21)",
    ):
        assert any(text in mistake for mistake in found), (text, found)


def test_point_on_an_illegal_address_is_a_mistake():
    limits = "limits: {illegal: [{function: 3, first: 10, last: 20}]}\n"
    found = mistakes(limits + one_point("{address: 9, type: uint32, key: a}"))
    assert "an address outside of limits.illegal" in found[0]
    profile(limits + one_point("{address: 8, type: uint32, key: a}"))
    profile(limits + one_point("{address: 15, type: uint16, key: a}", function=4))


def test_illegal_range_is_written_lower_end_first():
    limits = "limits: {illegal: [{function: 3, first: 20, last: 10}]}\n"
    found = mistakes(limits + one_point("{address: 0, type: uint16, key: a}"))
    assert "limits.illegal[0].last: got 10, expected at least 20" in found[0]


def test_whole_read_must_be_legal_and_short_enough():
    tail = one_point("{address: 0, type: int16, key: a}", more="    read: [0, 125]\n")
    assert "at most 125 registers" in mistakes(tail)[0]
    illegal = "limits: {illegal: [{function: 3, first: 5, last: 5}]}\n"
    tail = tail.replace("125]", "9]")
    assert "a range without illegal addresses" in mistakes(illegal + tail)[0]


def test_parts_of_one_register_may_be_shared():
    profile(
        """\
blocks:
  - function: 3
    points:
      - {address: 0, type: uint8_high, key: a}
      - {address: 0, type: bit, bit: 0, key: b}
      - {address: 0, type: bit, bit: 1, key: c}
"""
    )


def test_wide_value_on_another_s_register_is_a_mistake():
    found = mistakes(
        """\
blocks:
  - function: 3
    points:
      - {address: 0, type: float32, key: a}
      - {address: 1, type: uint16, key: b}
"""
    )
    assert "registers that a (line 10) does not use" in found[0]


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (HEAD.replace("modbus", "mudbus"), "expected one of modbus"),
        (HEAD.replace("maker: nobody\n", ""), "the key 'maker'"),
        (HEAD.replace("V2+C", "V3"), "V (official text)"),
        ("", "the key 'profile'"),
    ],
)
def test_mistake_in_the_head_is_named(head, said):
    found = mistakes(one_point("{address: 0, type: int16, key: a}"), head)
    assert any(said in mistake for mistake in found), found


def test_broken_yaml_is_named_by_its_line():
    found = mistakes("blocks:\n\t- function: 3\n")
    assert "probe.yaml:8" in found[0]
    assert "not tabs" in found[0]


def test_schema_names_the_keys_of_the_file():
    assert {"profile", "blocks", "limits", "line"} <= set(profile_schema()["properties"])
