import pytest

from devices.units import Conversion, UnitError, conversion


def test_the_same_unit_changes_nothing_to_the_last_bit():
    assert conversion("°C", "°C").is_identity
    assert conversion("dS/m", "mS/cm").is_identity


@pytest.mark.parametrize(
    ("unit", "target", "words"),
    [
        ("bananas", "kPa", "unknown unit 'bananas'"),
        ("kPa", "°C", "kPa measures"),  # another dimension
        ("°C/min", "°C", "measures"),
        ("m m", "m", "measures"),
        ("(", "m", "unknown unit"),  # not even an expression
        ("1/0", "m", "unknown unit"),
    ],
)
def test_a_unit_that_cannot_be_is_named(unit, target, words):
    with pytest.raises(UnitError, match=words.replace("(", r"\(")):
        conversion(unit, target)


def test_scales_carry_no_noise_of_float_arithmetic():
    assert conversion("µS/cm", "mS/cm") == Conversion(0.001, 0.0)
    assert conversion("K", "°C") == Conversion(1.0, -273.15)
