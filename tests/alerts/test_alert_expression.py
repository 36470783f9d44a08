"""Conditions as text: what is understood, and what is said about what is not."""

from __future__ import annotations

import pytest

from alerts.conditions import compile_levels
from alerts.errors import ConditionError
from alerts.expression import Both, Compare, CountOf, Measure, Not, Number, parse
from alerts.program import Arithmetic, Column, Param
from devices.site import Placement


def test_and_binds_closer_than_or_and_brackets_closer_than_both():
    tree = parse("co2 > 1 ppm or co2 < 2 ppm and not (co2 > 3 ppm or co2 < 4 ppm)")
    assert isinstance(tree, Both)
    assert tree.word == "or"
    second = tree.parts[1]
    assert isinstance(second, Both)
    assert second.word == "and"
    assert isinstance(second.parts[1], Not)
    assert isinstance(second.parts[1].part, Both)


def test_a_measure_may_name_channel_and_placement():
    tree = parse("air_temperature.top@outdoor < -2.5 degC")
    assert isinstance(tree, Compare)
    assert tree.left == Measure("air_temperature", "top", Placement.OUTDOOR)
    assert tree.limit == Number(-2.5, "degC")


def test_a_bracket_may_open_a_sum_as_well_as_a_condition():
    assert isinstance(parse("(air_temperature.a + air_temperature.b) / 2 > 30 degC"), Compare)
    assert isinstance(parse("(air_temperature > 30 degC) and (co2 > 900 ppm)"), Both)


def test_all_any_and_at_least_count_series():
    assert [parse(f"{words} of co2 > 900 ppm").least for words in ("all", "any", "at least 3")] == [
        0, 1, 3,
    ]  # fmt: skip
    assert isinstance(parse("any of co2 > 900 ppm clear 800 ppm"), CountOf)


# text, the limits in the quantity's own unit
LIMITS = [
    ("air_temperature > 95 degF", (35.0,)),  # a point on another scale
    ("air_temperature > 308.15 K", (35.0,)),  # the same from absolute zero
    ("air_temperature - temperature_setpoint > 2 K", (2.0,)),  # a difference has no zero
    ("air_temperature - temperature_setpoint > 3.6 degF", (2.0,)),
    ("(air_temperature.a + air_temperature.b) / 2 > 308.15 K", (2.0, 35.0)),  # a mean is a point
    ("soil_moisture < 0.18 m3/m3", (18.0,)),
    ("so2 mean over PT1H > 0.5 mg/m3", (500.0,)),
    ("soil_ec > 6 dS/m clear 5500 uS/cm", (6.0, 5.5)),
    ("air_temperature rate over 10min > 30 degC/h", (0.5,)),  # a minute
    ("excess of air_temperature above 303.15 K over today > 1 K.d", (24.0,)),  # in hours
    ("hours with air_temperature > 30 degC over 24h > 90 min", (1.5,)),
    ("growing_degree_days > 600 degC.d", (600.0,)),
    ("dew_point_margin < 1 K clear 1.5 K", (1.0, 1.5)),  # a difference by its nature
    ("solution_ph outside 5.5..6.5 margin 0.1", (5.5, 6.5, 5.6, 6.4)),  # pH needs no unit
    ("air_temperature inside 15..20 degC margin 1 K", (15.0, 20.0, 14.0, 21.0)),
    ("air_temperature - 5 K > 20 degC", (5.0, 20.0)),
    ("valve_state == 1", (1.0,)),
    ("86 degF - air_temperature > 9 degF", (30.0, 5.0)),  # a point less a point
    ("9 degF + air_temperature > 95 degF", (5.0, 35.0)),  # a difference and a point
    ("2 * air_temperature.a - air_temperature.b > 95 degF", (2.0, 35.0)),
    ("air_temperature.a / 2 + air_temperature.b / 2 > 95 degF", (2.0, 2.0, 35.0)),
    ("air_temperature - twins(air_temperature) > 3.6 degF", (2.0,)),
    ("abs(air_temperature) > 95 degF", (35.0,)),
    ("average(air_temperature) > 95 degF", (35.0,)),
    ("spread(air_temperature) > 3.6 degF", (2.0,)),
    ("dew_point(air_temperature, relative_humidity) < 50 degF", (10.0,)),
    ("air_temperature range over 1h > 3.6 degF", (2.0,)),
    ("air_temperature usual over 7d > 95 degF", (35.0,)),
    ("air_temperature.a rate over 5min + air_temperature.b rate over 5min > 60 degC/h", (1.0,)),
    ("air_temperature flat for 10min within 3.6 degF", (2.0,)),
    ("irrigation_volume increase over 1h > 1 m3", (1000.0,)),
]


@pytest.mark.parametrize(("text", "params"), LIMITS)
def test_limits_are_brought_to_the_quantity_s_unit(text, params):
    assert compile_levels([(parse(text), 0)]).params == pytest.approx(params, abs=1e-12)


def test_the_limits_of_hours_and_of_an_excess_are_brought_to_the_quantity_s_unit():
    for text, limits in (
        ("hours with air_temperature inside 86..95 degF over 24h > 90 min", (30.0, 35.0)),
        ("excess of air_temperature above 303.15 K over today > 1 K.d", (30.0,)),
    ):
        (leaf,) = compile_levels([(parse(text), 0)]).leaves
        assert leaf.spec.aggregate.limits == pytest.approx(limits, abs=1e-9)


# text, what an alert of it shows, its unit, which way is worse, the param of the band's lower limit
SHOWN = [
    ("air_temperature > 30 degC", Column(0), "°C", 1, 0),
    ("air_temperature <= 5 degC", Column(0), "°C", -1, 0),
    ("valve_state == 1", Column(0), "1", 0, 0),  # neither way
    ("air_temperature / air_temperature.b >= 1.2",
     Arithmetic("/", Column(0), Column(1)), "1", 1, 0),
    ("air_temperature outside 15..25 degC", Column(0), "°C", 2, 0),  # away from the band
    ("air_temperature - 5 K outside 15..25 degC", Arithmetic("-", Column(0), Param(0)), "°C", 2, 1),
    ("air_temperature inside 15..20 degC", Column(0), "°C", 0, 0),
    ("co2 > 900 ppm and air_temperature < 3 degC", Column(0), "ppm", 1, 0),  # the first of them
    ("(solution_ph outside 5.5..6.5 and co2 > 3 ppm) or co2 < 1 ppm", Column(0), "pH", 2, 0),
    ("at least 2 of co2 > 900 ppm", Column(0, "highest"), "ppm", 1, 0),  # of those that count
    ("all of co2 < 300 ppm", Column(0, "lowest"), "ppm", -1, 0),
    ("any of air_temperature >= 30 degC", Column(0, "highest"), "°C", 1, 0),
    ("not (air_temperature > 30 degC)", Column(0), "°C", -1, 0),  # turned round
    ("not (not (air_temperature > 30 degC))", Column(0), "°C", 1, 0),
    ("not (air_temperature inside 15..20 degC)", Column(0), "°C", 2, 0),
    ("not (any of co2 > 900 ppm)", Column(0, "lowest"), "ppm", -1, 0),
    ("no data for 3 intervals", None, "", 0, 0),
    ("co2 flat for 5min", None, "", 0, 0),
    ("co2 flat for 10min within 3 ppm", None, "", 0, 0),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value", "unit", "sense", "band"), SHOWN)
def test_an_alert_shows_what_its_condition_looks_at_first(text, value, unit, sense, band):
    program = compile_levels([(parse(text), 0)])
    assert (program.value, program.unit) == (value, unit)
    assert (program.sense, program.band) == (sense, band)


# text, position of the mistake, what it says, the nearest right word
WRONG = [
    ("air_temprature > 30 degC", 0, "quantity of the vocabulary", "air_temperature"),
    ("air_temperature > degC", 18, "a number with its unit", ""),
    ("air_temperature maen over 1h > 3 degC", 16, "a comparison", "mean"),
    ("air_temperature mean ovr 1h > 3 degC", 21, "over and a span", "over"),
    ("air_temperature mean over each week > 3 degC", 31, "hour or day", ""),
    ("air_temperature mean over 3 weeks > 3 degC", 26, "a duration", ""),
    ("air_temperature > 30", 18, "a unit like °C", "°C"),
    ("air_temperature > 30 kPa", 18, "a unit like °C", ""),
    ("air_temperature > 30 degC and", 29, "quantity of the vocabulary", ""),
    ("air_temperature > 30 degC nad co2 > 1 ppm", 26, "and, or, or the end", "and"),
    ("(air_temperature > 30 degC", 26, "a closing bracket", ""),
    ("air_temperature > 30 degC clear 31 degC", 32, "at or below the limit", ""),
    ("air_temperature < 10 degC clear 9 degC", 32, "at or above the limit", ""),
    ("valve_state == 1 clear 0", 23, "none, beside ==", ""),
    ("air_temperature outside 25..15 degC", 24, "the lower limit first", ""),
    ("air_temperature outside 15..25 degC margin 6 K", 0, "room between", ""),
    ("air_temperature@insde > 3 degC", 16, "a placement", "inside"),
    ("air_temperature + co2 > 3 degC", 16, "two of the same unit", ""),
    ("air_temperature * co2 > 3 degC", 16, "a plain number on one side", ""),
    ("vapor_pressure_deficit(air_temperature) > 1 kPa", 0, "a function", "vapour_pressure_deficit"),
    ("dew_point(air_temperature) < 3 degC", 0, "2 for dew_point", ""),
    ("dew_point(co2, relative_humidity) < 3 degC", 10, "air_temperature in °C", ""),
    ("twins(air_temperature - 3 K) > 3 degC", 22, "a quantity, such as", ""),
    ("so2 usual over 36h > 3 ug/m3", 4, "in whole days", ""),
    ("so2 rate over each hour > 3 ug/m3/h", 4, "rate over a duration", ""),
    ("so2 sum of hours over each day > 3 ug/m3", 11, "mean, min or max of hours", ""),
    ("so2 min of 8h means over each day > 3 ug/m3", 11, "max of 8h means", "max"),
    ("so2 max of hours over 8h > 3 ug/m3", 11, "mean of hours over 8h", ""),
    ("so2 mean over 1h needing 120 % > 3 ug/m3", 25, "at most 100 %", ""),
    ("hours with co2 > 900 ppm since 02-30 > 3 h", 31, "MM-DD", ""),
    ("no data for a while", 12, "N intervals", ""),
    ("flat for 6h within 0.1 K", 19, "after a named quantity", ""),
    ("at least 0 of co2 > 3 ppm", 9, "how many", ""),
    ("air_temperature > 0 s", 18, "a unit like °C", ""),
    ("air_temperature.a + air_temperature.b > 60 degC", 40, "their mean", ""),
    ("2 * air_temperature > 60 degC", 22, "their mean", ""),
    ("co2 / air_temperature > 1", 4, "a plain number on one side", ""),
    ("2 / co2 > 1 ppm", 2, "a plain number on one side", ""),
    ("co2 + 5 > 3 ppm", 4, "two of the same unit", ""),
    ("5 ppm > 3 ppm", 0, "a quantity beside it", ""),
    ("air_temperature p5 over each day > 3 degC", 16, "p5 over a duration", ""),
    ("air_temperature median over today > 3 degC", 16, "median over a duration", ""),
    ("air_temperature mean over 0 min > 3 degC", 26, "longer than nothing", ""),
    ("hours with co2 over 1h > 3 h", 15, "a test such as", ""),
    ("so2 mean of days over 8h > 3 ug/m3", 12, "hours, or 8h means", ""),
    ("so2 mean of hours over 7h > 3 ug/m3", 12, "mean of hours over 8h", ""),
    ("so2 usual over 29d > 3 ug/m3", 4, "in whole days", ""),
    ("", 0, "quantity of the vocabulary", ""),
    ("(" * 20_000 + "co2 > 3 ppm" + ")" * 20_000, 60, "at most 60 brackets", ""),
    ("not " * 20_000 + "co2 > 3 ppm", 240, "at most 60 brackets", ""),
    ("co2" + " + co2" * 500 + " > 3 ppm", 364, "at most 60 brackets", ""),
]


@pytest.mark.parametrize(("text", "at", "expected", "hint"), WRONG)
def test_a_mistake_is_named_with_its_place_and_the_nearest_word(text, at, expected, hint):
    with pytest.raises(ConditionError) as caught:
        compile_levels([(parse(text), 0)])
    assert expected in caught.value.expected
    assert (caught.value.at, caught.value.hint) == (at, hint)


def test_what_stands_at_the_place_of_a_mistake_is_said():
    for text, got in (
        ("co2 > 3 ppm and", "the end"),
        ("co3 > 3 ppm", "'co3'"),
        ("% > 3", "'% > 3'"),
    ):
        with pytest.raises(ConditionError) as caught:
            parse(text)
        assert caught.value.got == got


def test_spans_of_hours_need_what_is_written_or_the_standard_s_six():
    for text, kind, hours, minutes in (
        ("o3 max of 8h means over each day > 3 ug/m3", "eights_day", 6, 0),
        (
            "o3 max of 8h means over each day needing 7 hours of 45min > 3 ug/m3",
            "eights_day",
            7,
            45,
        ),
        ("o3 mean of hours over 8h > 3 ug/m3", "hours_8", 1, 0),
        ("o3 mean of hours over each day needing 20 hours > 3 ug/m3", "hours_day", 20, 0),
        ("o3 min of hours over each day > 3 ug/m3", "hours_day", 1, 0),
    ):
        span = parse(text).left.span
        assert (span.kind, span.need.hours, span.need.time_us) == (
            kind,
            hours,
            minutes * 60_000_000,
        )


def test_equal_shapes_share_a_program_shape_whatever_their_limits():
    one = compile_levels([(parse("air_temperature > 30 degC"), 0)])
    other = compile_levels([(parse("co2 > 900 ppm"), 60_000_000)])
    third = compile_levels([(parse("co2 < 900 ppm"), 0)])
    assert one.shape == other.shape != third.shape
