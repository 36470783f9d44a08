import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs.value import ValueCodec
from devices.errors import DecodeError

codec = ValueCodec()


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b"21.5", 21.5),
        (b' "-3e2" ', -300.0),
        (b".5\r\n", 0.5),
        (b"ON", 1.0),
        (b"closed", 0.0),
        (b"false", 0.0),
        (b"null", None),
        (b"unavailable", None),
    ],
)
def test_a_bare_value_is_read(payload, value):
    (sample,) = codec.decode(payload)
    assert (sample.observed_at_us, sample.values) == (None, {"value": value})


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", "E-EMPTY"),
        (b" \n", "E-EMPTY"),
        (b"21,5", "E-TYPE"),
        (b"21.5 C", "E-TYPE"),
        (b"0x10", "E-TYPE"),
        (b"inf", "E-TYPE"),
        (b"1e999", "E-NUM"),
        (b'{"value": 1}', "E-TYPE"),
        (b"1" * 65, "E-TYPE"),
        (b"\xff", "E-TYPE"),
    ],
)
def test_what_is_no_value_is_refused(payload, code):
    with pytest.raises(DecodeError) as error:
        codec.decode(payload)
    assert error.value.code == code


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_comes_back(value):
    assert codec.decode(repr(value).encode())[0].values == {"value": value}


@given(st.binary(max_size=80))
def test_no_bytes_are_a_surprise(payload):
    try:
        codec.decode(payload)
    except DecodeError as error:
        assert error.text
