"""Conditions over every combination of known and unknown values, beside the slow reference."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest

from alerts.conditions import compile_levels
from alerts.expression import parse
from alerts.program import BAND, CLEAR, RAISE, REDUCE, UNKNOWN, Frame
from tests.alerts.reference import _Binding

NAN = math.nan
VALUES = (NAN, 0.0, 750.0, 800.0, 850.0, 900.0, 950.0)
MEMBERS = [list(three) for three in itertools.product((NAN, 750.0, 850.0, 900.0, 950.0), repeat=3)]

ONE = [
    *(f"co2 {sign} 900 ppm" for sign in (">", ">=", "<", "<=", "==", "!=")),
    "co2 > 900 ppm clear 800 ppm",
    "co2 >= 900 ppm clear 800 ppm",
    "co2 < 800 ppm clear 900 ppm",
    "co2 <= 800 ppm clear 900 ppm",
    "co2 inside 800..900 ppm",
    "co2 outside 800..900 ppm",
    "co2 inside 850..900 ppm margin 50 ppm",
    "co2 outside 750..900 ppm margin 50 ppm",
    "not (co2 > 900 ppm clear 800 ppm)",
]
TWO = [
    "co2.a > 900 ppm clear 800 ppm and co2.b > 800 ppm",
    "co2.a > 900 ppm clear 800 ppm or co2.b > 800 ppm",
    "not (co2.a > 900 ppm clear 800 ppm and co2.b outside 800..900 ppm)",
    "not (co2.a > 900 ppm) or not (co2.b < 800 ppm clear 850 ppm)",
    "co2.a - co2.b > 50 ppm",
    "co2.a * 2 - co2.b > 900 ppm",
    "(co2.a + co2.b) / 2 >= 850 ppm",
    "co2.a / co2.b > 1",
    "abs(co2.a - co2.b) > 50 ppm clear 0 ppm",
]
SEVERAL = [
    "any of co2 > 900 ppm clear 850 ppm",
    "at least 2 of co2 > 850 ppm clear 750 ppm",
    "at least 2 of co2 < 850 ppm clear 900 ppm",
    "all of co2 > 850 ppm clear 750 ppm",
    "not (at least 2 of co2 >= 900 ppm clear 850 ppm)",
    "average(co2) > 850 ppm",
    "highest(co2) > 900 ppm",
    "lowest(co2) < 850 ppm",
    "spread(co2) > 50 ppm",
    "spread(co2) == 0 ppm",
    "twins(co2) > 850 ppm",
]


def slow(program):
    """What the reference says of a row: at the limit and at the clear level."""
    reference = object.__new__(_Binding)
    reference.binding = SimpleNamespace(program=program)

    def code(row):
        tight, loose = reference.truth(program.levels[0], row)
        if tight is True:
            return RAISE
        return CLEAR if loose is False else BAND if tight is False else UNKNOWN

    return code


def check(text, rows, columns):
    program = compile_levels([(parse(text), 0)])
    params = np.array([program.params, [-1.0] * len(program.params)])  # the second is not asked for
    frame = Frame(columns, params, np.zeros(len(rows), np.intp))
    with np.errstate(invalid="ignore"):
        codes = program.levels[0].truth(frame).codes()
        passed = program.levels[0].yes(frame)
    expected = [slow(program)(row) for row in rows]
    assert codes.tolist() == expected
    assert passed.tolist() == [code == RAISE for code in expected]
    assert {RAISE, CLEAR} <= set(expected)


@pytest.mark.parametrize("text", ONE)
def test_one_value_raises_clears_lies_between_or_is_unknown(text):
    check(text, [[value] for value in VALUES], [np.array(VALUES)])


@pytest.mark.parametrize("text", TWO)
def test_two_values_are_joined_whatever_is_known_of_them(text):
    rows = [list(pair) for pair in itertools.product(VALUES, repeat=2)]
    check(text, rows, list(np.array(rows).T))


@pytest.mark.parametrize("text", SEVERAL)
def test_several_members_are_judged_by_those_that_are_known(text):
    check(text, [[members] for members in MEMBERS], [np.array(MEMBERS)])


def test_a_silence_is_known_once_its_series_has_spoken():
    rows = [list(pair) for pair in itertools.product((NAN, 0.0, 1.0), (NAN, 800.0, 950.0))]
    check("no data for 3 intervals or co2 > 900 ppm", rows, list(np.array(rows).T))
    check("not (no data for 3 intervals) and co2 > 900 ppm", rows, list(np.array(rows).T))


def test_one_member_alone_counts_as_all_and_is_not_spread():
    for text in ("any of co2 > 900 ppm", "all of co2 > 900 ppm", "average(co2) > 900 ppm"):
        check(text, [[value] for value in VALUES], [np.array(VALUES)])
    program = compile_levels([(parse("spread(co2) >= 0 ppm"), 0)])
    frame = Frame([np.array(VALUES)], np.array([program.params]), np.zeros(len(VALUES), np.intp))
    assert np.isnan(program.value.values(frame)).all()


@pytest.mark.parametrize("name", list(REDUCE))
def test_members_are_reduced_to_one_value_by_those_that_are_known(name):
    how = object.__new__(_Binding)
    for size in (2, 3, 4):
        rows = [list(some) for some in itertools.product((NAN, 1.0, 2.0, 6.0), repeat=size)]
        found = REDUCE[name](np.array(rows))
        expected = [how.reduced(row, name) for row in rows]
        np.testing.assert_array_equal(found, expected)


def test_how_bad_a_value_is_is_counted_from_the_limit_that_it_is_beyond():
    values = np.array([NAN, 5.0, 15.0, 20.0, 25.0, 32.0])
    for text, expected in (
        ("air_temperature outside 15..25 degC", [NAN, 10.0, 0.0, -5.0, 0.0, 7.0]),
        ("air_temperature > 30 degC", [NAN, 5.0, 15.0, 20.0, 25.0, 32.0]),
        ("air_temperature < 30 degC", [NAN, -5.0, -15.0, -20.0, -25.0, -32.0]),
    ):
        program = compile_levels([(parse(text), 0)])
        frame = Frame([values], np.array([program.params]), np.zeros(len(values), np.intp))
        np.testing.assert_array_equal(program.beyond(frame, values), expected)
