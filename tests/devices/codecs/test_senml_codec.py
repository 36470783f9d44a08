from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs.sample import Sample
from devices.codecs.senml import SenmlCborCodec, SenmlCodec
from devices.errors import DecodeError

decode = SenmlCodec().decode
decode_cbor = SenmlCborCodec().decode
OW = "urn:dev:ow:10e2073a01080063"
T4 = 1_320_067_464
T6 = 1_320_078_429


def pack(*records):
    return json.dumps(list(records)).encode()


# The examples of RFC 8428 (sections 5 and 6) with their published resolutions: records as
# (name, unit, time, value), in the resolved order.  The names of the vectors are those of the
# working group's repository.  The resolutions of records without a time were made at a moment of
# its own, NOW.
NOW = 1_498_780_179
H8 = 1_276_020_076
BN3 = "urn:dev:ow:10e2073a0108006:"
TIMES4 = (0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 91, 92)
VALUES4 = (21.2, 21.3, 21.4, 21.4, 21.5, 21.5, 21.5, 21.6, 21.7, 21.5, 21.5, 21.5)

EXAMPLES: dict[str, tuple[Any, Any]] = {
    "ex1, one value": (
        [{"n": OW, "u": "Cel", "v": 23.1}],
        [(OW, "Cel", NOW, 23.1)],
    ),
    "ex2, several values share a name": (
        [
            {"bn": f"{OW}:", "n": "voltage", "u": "V", "v": 120.1},
            {"n": "current", "u": "A", "v": 1.2},
        ],
        [(f"{OW}:voltage", "V", NOW, 120.1), (f"{OW}:current", "A", NOW, 1.2)],
    ),
    "ex3, times count from the base": (
        [
            {
                "bn": BN3,
                "bt": 1.276020076001e09,
                "bu": "A",
                "bver": 5,
                "n": "voltage",
                "u": "V",
                "v": 120.1,
            },
            *({"n": "current", "t": t, "v": round(1.7 + t / 10, 1)} for t in range(-5, 0)),
            {"n": "current", "v": 1.7},
        ],
        [
            *((f"{BN3}current", "A", H8 + 0.001 + t, round(1.7 + t / 10, 1)) for t in range(-5, 0)),
            (f"{BN3}voltage", "V", H8 + 0.001, 120.1),
            (f"{BN3}current", "A", H8 + 0.001, 1.7),
        ],
    ),
    "ex4, twelve records of humidity": (
        [
            {"bn": OW, "bt": 1.320067464e09, "bu": "%RH", "v": VALUES4[0]},
            *({"t": t, "v": v} for t, v in zip(TIMES4[1:], VALUES4[1:], strict=True)),
        ],
        [(OW, "%RH", T4 + t, v) for t, v in zip(TIMES4, VALUES4, strict=True)],
    ),
    "ex5, one name has several units": (
        [
            {"bn": OW, "bt": 1.320067464e09, "bu": "%RH", "v": 20},
            {"u": "lon", "v": 24.30621},
            {"u": "lat", "v": 60.07965},
            {"t": 60, "v": 20.3},
            {"u": "lon", "t": 60, "v": 24.30622},
            {"u": "lat", "t": 60, "v": 60.07965},
            {"t": 120, "v": 20.7},
            {"u": "lon", "t": 120, "v": 24.30623},
            {"u": "lat", "t": 120, "v": 60.07966},
            {"u": "%EL", "t": 150, "v": 98},
            {"t": 180, "v": 21.2},
            {"u": "lon", "t": 180, "v": 24.30628},
            {"u": "lat", "t": 180, "v": 60.07967},
        ],
        [
            (OW, "%RH", T4, 20),
            (OW, "lon", T4, 24.30621),
            (OW, "lat", T4, 60.07965),
            (OW, "%RH", T4 + 60, 20.3),
            (OW, "lon", T4 + 60, 24.30622),
            (OW, "lat", T4 + 60, 60.07965),
            (OW, "%RH", T4 + 120, 20.7),
            (OW, "lon", T4 + 120, 24.30623),
            (OW, "lat", T4 + 120, 60.07966),
            (OW, "%EL", T4 + 150, 98),
            (OW, "%RH", T4 + 180, 21.2),
            (OW, "lon", T4 + 180, 24.30628),
            (OW, "lat", T4 + 180, 60.07967),
        ],
    ),
    "ex6, a new base name holds from there": (
        [
            {"bn": "2001:db8::2/", "bt": T6, "n": "temperature", "u": "Cel", "v": 25.2},
            {"n": "humidity", "u": "%RH", "v": 30},
            {"bn": "2001:db8::1/", "n": "temperature", "u": "Cel", "v": 12.3},
            {"n": "humidity", "u": "%RH", "v": 67},
        ],
        [
            ("2001:db8::2/temperature", "Cel", T6, 25.2),
            ("2001:db8::2/humidity", "%RH", T6, 30),
            ("2001:db8::1/temperature", "Cel", T6, 12.3),
            ("2001:db8::1/humidity", "%RH", T6, 67),
        ],
    ),
    # Its label and its data resolve to no number.
    "ex7, text, truth and data": (
        [
            {"bn": f"{OW}:", "n": "temp", "u": "Cel", "v": 23.1},
            {"n": "label", "vs": "Machine Room"},
            {"n": "open", "vb": False},
            {"n": "nfv-reader", "vd": "aGkgCg"},
        ],
        [(f"{OW}:temp", "Cel", NOW, 23.1), (f"{OW}:open", "", NOW, 0)],
    ),
    "ex8, a field that RFC 8428 does not have": (
        [
            {"bn": f"{OW}:", "bt": T6, "l": "[]", "n": "temperature", "u": "Cel", "v": 27.2},
            {"n": "humidity", "u": "%RH", "v": 80},
        ],
        [(f"{OW}:temperature", "Cel", T6, 27.2), (f"{OW}:humidity", "%RH", T6, 80)],
    ),
    "ex9, a record of base values alone": (
        [
            {"bn": f"{OW}:"},
            {"n": "temp", "u": "Cel", "v": 23.1},
            {"n": "heat", "u": "/", "v": 1},
            {"n": "fan", "u": "/", "v": 0},
        ],
        [
            (f"{OW}:temp", "Cel", NOW, 23.1),
            (f"{OW}:heat", "/", NOW, 1),
            (f"{OW}:fan", "/", NOW, 0),
        ],
    ),
    "ex10, records that are resolved already": (
        [
            {"n": OW, "u": "Cel", "t": 1.276020076e09, "v": 23.5},
            {"n": OW, "u": "Cel", "t": 1.276020091e09, "v": 23.6},
        ],
        [(OW, "Cel", H8, 23.5), (OW, "Cel", H8 + 15, 23.6)],
    ),
    "ex11, the base name alone is the name": (
        [
            {"bn": OW, "u": "Cel", "t": 1.276020076e09, "v": 23.5},
            {"u": "Cel", "t": 1.276020091e09, "v": 23.6},
        ],
        [(OW, "Cel", H8, 23.5), (OW, "Cel", H8 + 15, 23.6)],
    ),
    "ex12, the base unit holds for all": (
        [{"bt": T6, "bu": "/", "n": "2001:db8::3", "v": 1}, {"n": "2001:db8::4", "v": 1}],
        [("2001:db8::3", "/", T6, 1), ("2001:db8::4", "/", T6, 1)],
    ),
    "ex13, actuators at two moments": (
        [
            {"bt": T6, "bu": "/", "n": "2001:db8::3", "v": 0.5},
            {"n": "2001:db8::4", "v": 0.5},
            {"n": "2001:db8::3", "t": 0.1, "v": 0},
            {"n": "2001:db8::4", "t": 0.1, "v": 0},
        ],
        [
            ("2001:db8::3", "/", T6, 0.5),
            ("2001:db8::4", "/", T6, 0.5),
            ("2001:db8::3", "/", T6 + 0.1, 0),
            ("2001:db8::4", "/", T6 + 0.1, 0),
        ],
    ),
}
LABELS = {"bver": -1, "bn": -2, "bt": -3, "bu": -4, "bv": -5, "bs": -6}
LABELS |= {"n": 0, "u": 1, "v": 2, "vs": 3, "vb": 4, "s": 5, "t": 6, "ut": 7, "vd": 8}


def cbor(*records):
    def value(name, given):
        return base64.urlsafe_b64decode(given + "==") if name == "vd" else given

    return cbor2.dumps([{LABELS.get(k, k): value(k, v) for k, v in one.items()} for one in records])


def resolved(samples):
    """The samples as (name, unit, seconds, value), relative to the moment NOW."""
    found = []
    for sample in samples:
        at_us = sample.observed_at_us
        if at_us is None:
            at_us = NOW * 1_000_000 + sample.after_receipt_us
        for key, value in sample.values.items():
            name, _, unit = key.partition("[")
            found.append((name, unit.rstrip("]"), at_us / 1e6, value))
    return found


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize(("read", "write"), [(decode, pack), (decode_cbor, cbor)])
def test_an_example_of_the_rfc_resolves_as_published(name, read, write):
    records, resolution = EXAMPLES[name]
    assert resolved(read(write(*records))) == resolution
    # What is resolved resolves to itself.
    again = [{"n": n, "t": t, "v": v} | ({"u": u} if u else {}) for n, u, t, v in resolution]
    assert resolved(read(write(*again))) == resolution


def test_text_data_and_fields_of_others_are_counted():
    for name, ignored in {"ex7, text, truth and data": 2, "ex8, a field that RFC 8428": 1}.items():
        (records,) = (one for key, (one, _) in EXAMPLES.items() if key.startswith(name))
        assert [sample.ignored for sample in decode(pack(*records))] == [ignored]
        assert [sample.ignored for sample in decode_cbor(cbor(*records))] == [ignored]


# Section 6 of RFC 8428, to the byte: the third example in CBOR.
PUBLISHED_CBOR = bytes.fromhex(
    "87a721781b75726e3a6465763a6f773a313065323037336130313038303036"
    "3a22fb41d303a15b00106223614120050067766f6c74616765016156"
    "02fb405e066666666666a3006763757272656e74062402fb3ff3333333333333"
    "a3006763757272656e74062302fb3ff4cccccccccccd"
    "a3006763757272656e74062202fb3ff6666666666666"
    "a3006763757272656e74062102f93e00"
    "a3006763757272656e74062002fb3ff999999999999a"
    "a3006763757272656e74060002fb3ffb333333333333"
)


def test_the_published_bytes_say_what_the_example_says():
    assert len(PUBLISHED_CBOR) == 0xC3
    records, resolution = EXAMPLES["ex3, times count from the base"]
    assert resolved(decode_cbor(PUBLISHED_CBOR)) == resolution
    assert decode_cbor(PUBLISHED_CBOR) == decode(pack(*records))
    assert decode_cbor(b"\xd9\xd9\xf7" + PUBLISHED_CBOR) == decode(pack(*records))


@pytest.mark.parametrize("t", [-5, -0.25, 0, 10, 2**28 - 1, -(2**28) + 1])
def test_a_time_below_two_to_the_28_counts_from_the_receipt(t):
    (sample,) = decode(pack({"n": "a", "v": 1, "t": t}))
    assert sample == Sample(None, {"a": 1.0}, after_receipt_us=round(t * 1_000_000))


def test_relative_times_come_in_order_after_those_that_are_known():
    payload = pack({"n": "a", "v": 1}, {"n": "a", "v": 2, "t": -60}, {"n": "a", "v": 3, "t": H8})
    at = [(sample.observed_at_us, sample.after_receipt_us) for sample in decode(payload)]
    assert at == [(H8 * 1_000_000, 0), (None, -60_000_000), (None, 0)]


def test_the_feature_of_secondary_units_is_known_and_no_other():
    payload = pack({"n": "a", "u": "kWh", "v": 1, "bver": 26})
    assert decode(payload) == [Sample(None, {"a[kWh]": 1.0})]


@pytest.mark.parametrize(
    ("payload", "code", "text"),
    [
        (b"", "E-EMPTY", "empty"),
        (b"\x80", "E-SHAPE", "an empty array"),
        (b"\xa0", "E-TYPE", "got dict, expected an array of records"),
        (b"\x81\x00", "E-TYPE", "[0]: got '0', expected a map"),
        (b"\x81", "E-CBOR", "premature end"),
        (cbor2.dumps([{0: "a", 2: 1}]) + b"\0", "E-CBOR", "1 bytes behind the pack"),
        (b"\x81" * 20 + b"\0", "E-CBOR", "nesting depth"),
        (cbor2.dumps([{"n": "a", "v": 1}]), "E-FIELD", "[0].'n': got a label in words"),
        (cbor2.dumps([{0: "a", 2: 1, "x_": 1}]), "E-FIELD", "a field that must be understood"),
        (cbor2.dumps([{0: "a", 2: "1"}]), "E-TYPE", "[0].v: got '1', expected a number"),
        (cbor2.dumps([{0: "a", 2: float("nan")}]), "E-NUM", "[0]: got nan"),
        (cbor2.dumps([{0: "a", 2: float("inf")}]), "E-NUM", "[0]: got inf"),
        (cbor2.dumps([{0: "a", 2: 10**400}]), "E-NUM", "[0].v: got one too large"),
        (cbor2.dumps([{0: "a", 6: float("nan"), 2: 1}]), "E-TIME", "[0].t: got nan"),
        (cbor2.dumps([{0: "a", 2: None}]), "E-TYPE", "[0].v: got NoneType, expected a number"),
        (bytes.fromhex("81a200616102c11a5f000000"), "E-CBOR", "a tag that has no place"),
        (bytes.fromhex("81d81c81d81d00"), "E-CBOR", "a tag that has no place"),
        (bytes.fromhex("d9ffff80"), "E-CBOR", "a tag that has no place"),
    ],
)
def test_what_is_not_senml_in_cbor_is_refused(payload, code, text):
    with pytest.raises(DecodeError) as caught:
        decode_cbor(payload)
    assert caught.value.code == code
    assert text in caught.value.text


def test_numbers_of_cbor_may_be_decimal_fractions():
    payload = bytes.fromhex("81a2006161") + b"\x02" + cbor2.dumps(Decimal("23.1"))
    assert decode_cbor(payload) == [Sample(None, {"a": 23.1})]


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
        (
            pack({"n": "a", "v": 1, "bver": 11}),
            "E-FIELD",
            "[0].bver: got '11', expected at most 10",
        ),
        (
            pack({"n": "a", "v": 1, "bver": 5}, {"n": "b", "v": 1, "bver": 6}),
            "E-FIELD",
            "[1].bver: got 6, expected 5 as before",
        ),
        (pack({"n": "a", "v": 1, "bver": 0}), "E-TYPE", "a whole number above zero"),
        (pack({"n": "a", "v": 1}, {"n": "a", "v": 2}), "E-FIELD", "a second time at one time"),
        (pack({"n": "a", "v": 1, "t": -(2**28)}), "E-TIME", "seconds since 1970, or from now"),
        (pack({"n": "a", "v": 1, "bver": 27}), "E-FIELD", "got '27', expected at most 10, or 26"),
        (pack({"n": "a", "v": None}), "E-TYPE", "[0].v: got NoneType, expected a number"),
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


_LABELS = st.integers(-7, 9) | st.sampled_from(["x", "x_", "n", True])
_CBOR = st.lists(st.dictionaries(_LABELS, _SCALARS | st.decimals(), max_size=5), max_size=4)


@given(st.binary(max_size=100) | _CBOR.map(cbor2.dumps))
def test_any_cbor_gives_samples_or_a_decode_error(payload):
    try:
        assert decode_cbor(payload)
    except DecodeError:
        return


@given(_RECORDS)
def test_the_quick_and_the_slow_reading_agree(payload):
    # A field that is not RFC 8428's makes the reading slow and is only counted.
    slowly = json.dumps([record | {"other": 1} for record in json.loads(payload)]).encode()
    try:
        quick = decode(payload)
    except DecodeError as error:
        with pytest.raises(DecodeError) as caught:
            decode(slowly)
        assert caught.value.code == error.code
        return
    slow = decode(slowly)
    assert [s.values for s in slow] == [s.values for s in quick]
    assert [s.observed_at_us for s in slow] == [s.observed_at_us for s in quick]


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
