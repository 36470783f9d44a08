from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs.sample import Sample
from devices.codecs.senml import SenmlCodec
from devices.errors import DecodeError

decode = SenmlCodec().decode
OW = "urn:dev:ow:10e2073a01080063"
T4 = 1_320_067_464
T6 = 1_320_078_429


def pack(*records):
    return json.dumps(list(records)).encode()


# The examples of RFC 8428 (section 5 and 7) and of the working group's repository with their
# published resolutions; the names of the vectors are the repository's.
def test_ex1_a_single_value_is_of_now():
    payload = pack({"n": OW, "u": "Cel", "v": 23.1})
    assert decode(payload) == [Sample(None, {f"{OW}[Cel]": 23.1})]


def test_ex2_several_values_share_a_name():
    payload = pack(
        {"bn": f"{OW}:", "n": "voltage", "u": "V", "v": 120.1},
        {"n": "current", "u": "A", "v": 1.2},
    )
    assert decode(payload) == [Sample(None, {f"{OW}:voltage[V]": 120.1, f"{OW}:current[A]": 1.2})]


def test_ex3_times_count_from_the_base_and_come_in_order():
    bn = "urn:dev:ow:10e2073a0108006:"
    base = {"bn": bn, "bt": 1.276020076001e09, "bu": "A", "bver": 5}
    payload = pack(
        base | {"n": "voltage", "u": "V", "v": 120.1},
        *({"n": "current", "t": t, "v": round(1.7 + t / 10, 1)} for t in range(-5, 0)),
        {"n": "current", "v": 1.7},
    )
    at_us = 1_276_020_076_001_000
    current, voltage = f"{bn}current[A]", f"{bn}voltage[V]"
    assert decode(payload) == [
        *(Sample(at_us + t * 1_000_000, {current: round(1.7 + t / 10, 1)}) for t in range(-5, 0)),
        Sample(at_us, {voltage: 120.1, current: 1.7}),
    ]


def test_ex4_twelve_records_of_humidity():
    times = (0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 91, 92)
    values = (21.2, 21.3, 21.4, 21.4, 21.5, 21.5, 21.5, 21.6, 21.7, 21.5, 21.5, 21.5)
    first, *others = zip(times, values, strict=True)
    payload = pack(
        {"bn": OW, "bt": 1.320067464e09, "bu": "%RH", "v": first[1]},
        *({"t": t, "v": v} for t, v in others),
    )
    assert decode(payload) == [
        Sample((T4 + t) * 1_000_000, {f"{OW}[%RH]": v}) for t, v in zip(times, values, strict=True)
    ]


def test_ex5_one_name_has_several_units():
    payload = pack(
        {"bn": OW, "bt": 1.320067464e09, "bu": "%RH", "v": 20},
        {"u": "lon", "v": 24.30621},
        {"u": "lat", "v": 60.07965},
        {"u": "%EL", "t": 150, "v": 98},
    )
    assert decode(payload) == [
        Sample(
            T4 * 1_000_000, {f"{OW}[%RH]": 20.0, f"{OW}[lon]": 24.30621, f"{OW}[lat]": 60.07965}
        ),
        Sample((T4 + 150) * 1_000_000, {f"{OW}[%EL]": 98.0}),
    ]


def test_ex6_a_new_base_name_holds_from_there():
    payload = pack(
        {"bn": "2001:db8::2/", "bt": 1.320078429e09, "n": "temperature", "u": "Cel", "v": 25.2},
        {"n": "humidity", "u": "%RH", "v": 30},
        {"bn": "2001:db8::1/", "n": "temperature", "u": "Cel", "v": 12.3},
        {"n": "humidity", "u": "%RH", "v": 67},
    )
    assert decode(payload) == [
        Sample(
            T6 * 1_000_000,
            {
                "2001:db8::2/temperature[Cel]": 25.2,
                "2001:db8::2/humidity[%RH]": 30.0,
                "2001:db8::1/temperature[Cel]": 12.3,
                "2001:db8::1/humidity[%RH]": 67.0,
            },
        )
    ]


def test_ex7_truth_is_a_number_and_text_and_data_are_none():
    payload = pack(
        {"bn": f"{OW}:", "n": "temp", "u": "Cel", "v": 23.1},
        {"n": "label", "vs": "Machine Room"},
        {"n": "open", "vb": False},
        {"n": "nfv-reader", "vd": "aGkgCg"},
    )
    assert decode(payload) == [
        Sample(None, {f"{OW}:temp[Cel]": 23.1, f"{OW}:open": 0.0}, ignored=2)
    ]


def test_ex8_an_unknown_field_is_passed_over():
    payload = pack({"bn": f"{OW}:", "bt": T6, "l": "[]", "n": "temperature", "u": "Cel", "v": 27.2})
    assert decode(payload) == [Sample(T6 * 1_000_000, {f"{OW}:temperature[Cel]": 27.2}, ignored=1)]


def test_ex9_a_record_of_base_values_alone_says_nothing():
    payload = pack(
        {"bn": f"{OW}:"}, {"n": "heat", "u": "/", "v": 1}, {"n": "fan", "u": "/", "v": 0}
    )
    assert decode(payload) == [Sample(None, {f"{OW}:heat[/]": 1.0, f"{OW}:fan[/]": 0.0})]


def test_ex12_the_base_unit_holds_for_all():
    payload = pack({"bt": T6, "bu": "/", "n": "2001:db8::3", "v": 1}, {"n": "2001:db8::4", "v": 1})
    values = {"2001:db8::3[/]": 1.0, "2001:db8::4[/]": 1.0}
    assert decode(payload) == [Sample(T6 * 1_000_000, values)]


@pytest.mark.parametrize(
    ("records", "values"),
    [
        ([{"n": "a", "bv": 20, "v": 1.5}, {"n": "b", "v": -1}], {"a": 21.5, "b": 19.0}),
        # what is not given is zero
        ([{"n": "a", "bv": 20}], {"a": 20.0}),
        ([{"n": "a", "bs": 100, "s": 5}, {"n": "b", "v": 1}], {"a.sum": 105.0, "b.sum": 100.0}),
        ([{"n": "a", "u": "kWh", "s": 5}], {"a[kWh].sum": 5.0}),
        ([{"n": "a", "u": "W", "v": 7, "s": 5}], {"a[W]": 7.0, "a[W].sum": 5.0}),
        # the base value changes in the middle
        ([{"n": "a", "bv": 1, "v": 1}, {"n": "b", "bv": 2, "v": 1}], {"a": 2.0, "b": 3.0}),
    ],
)
def test_base_value_and_base_sum_are_added(records, values):
    (sample,) = decode(pack(*records))
    assert values.items() <= sample.values.items()


@pytest.mark.parametrize(
    ("payload", "code", "text"),
    [
        (b"", "E-EMPTY", "empty"),
        (b"[", "E-JSON", "syntax"),
        (b"{}", "E-TYPE", "expected `array`"),
        (b"[]", "E-SHAPE", "an empty array"),
        (b'[{"n":"a","v":NaN}]', "E-JSON", "syntax"),
        (pack({"n": "a"}), "E-FIELD", "[0]: got no value"),
        (pack({"n": "a", "v": 1, "vb": True}), "E-FIELD", "got v and vb, expected one value"),
        (pack({"n": "a", "v": "1"}), "E-TYPE", "[0].v: got '1', expected a number"),
        (pack({"n": "a", "v": True}), "E-TYPE", "expected a number"),
        (pack({"n": "a", "vb": 1}), "E-TYPE", "expected true or false"),
        (pack({"n": 7, "v": 1}), "E-TYPE", "expected text"),
        (pack({"v": 1}), "E-FIELD", "[0].n: got ''"),
        (pack({"n": "_a", "v": 1}), "E-FIELD", "a letter or digit first"),
        (pack({"n": "温度", "v": 1}), "E-FIELD", "letters, digits"),
        (pack({"n": "a", "v": 1, "must_": 1}), "E-FIELD", "a field that must be understood"),
        (pack({"n": "a", "v": 1, "bver": 11}), "E-FIELD", "[0].bver: got 11, expected at most 10"),
        (
            pack({"n": "a", "v": 1, "bver": 5}, {"n": "b", "v": 1, "bver": 6}),
            "E-FIELD",
            "[1].bver: got 6, expected 5 as before",
        ),
        (pack({"n": "a", "v": 1, "bver": 0}), "E-TYPE", "a whole number above zero"),
        (pack({"n": "a", "v": 1}, {"n": "a", "v": 2}), "E-FIELD", "a second time at one time"),
        (pack({"n": "a", "v": 1, "t": -5}), "E-RELATIVE", "[0].t: got -5 s from now"),
        (pack({"n": "a", "v": 1, "t": 2**28 - 1}), "E-RELATIVE", "s from now"),
        (pack({"n": "a", "v": 1, "t": 1e15}), "E-TIME", "seconds since 1970"),
        (pack({"n": "a", "v": 1e308, "bv": 1e308}), "E-NUM", "inf"),
        (pack(*({"n": f"a{i}", "v": 1} for i in range(1001))), "E-COUNT", "more than 1000"),
    ],
)
def test_what_is_not_senml_is_refused_with_its_place(payload, code, text):
    with pytest.raises(DecodeError) as caught:
        decode(payload)
    assert caught.value.code == code
    assert text in caught.value.text


def test_the_first_absolute_time_is_two_to_the_28():
    assert decode(pack({"n": "a", "v": 1, "t": 2**28})) == [Sample(2**28 * 1_000_000, {"a": 1.0})]


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_RECORDS = st.lists(
    st.dictionaries(
        st.sampled_from(
            ["bn", "bt", "bu", "bv", "bs", "bver", "n", "u", "v", "vs", "vb", "vd", "s", "t", "x_"]
        ),
        _SCALARS | st.sampled_from([1e9, 2**28, "a", "urn:b"]),
    ),
    max_size=5,
).map(lambda records: json.dumps(records).encode())


@given(st.binary(max_size=100) | _RECORDS)
def test_any_bytes_give_samples_or_a_decode_error(payload):
    try:
        assert decode(payload)
    except DecodeError:
        return


@given(
    st.floats(3e8, 4e9),
    st.lists(st.tuples(st.integers(-1000, 1000), st.floats(-1e6, 1e6)), min_size=1, max_size=20),
)
def test_a_pack_with_bases_says_what_its_resolution_says(base_s, entries):
    entries = list({t: (t, v) for t, v in entries}.values())
    short = [{"t": t, "v": v} for t, v in entries]
    short[0] |= {"bn": "urn:x:", "bt": base_s, "bu": "Cel", "n": ""}
    long = [{"n": "urn:x:", "u": "Cel", "t": base_s + t, "v": v} for t, v in entries]
    assert decode(pack(*short)) == decode(pack(*long))
