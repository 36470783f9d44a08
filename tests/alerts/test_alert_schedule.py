"""When rules hold: days of zones that change their clocks, nights by the sun, stages, layers."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from astral import Observer
from astral.sun import sunrise

from alerts.schedule import (
    Planting,
    Schedule,
    StageBegin,
    Timetable,
    both,
    joined,
    sun_times,
    without,
)
from alerts.segments import NEVER
from alerts.zone import HOUR_US, calendar, day_date, instant_us

ZONES = ["Asia/Shanghai", "Europe/Amsterdam", "Asia/Kolkata", "America/St_Johns"]


def at(zone, *moment):
    return instant_us(datetime(*moment, tzinfo=ZoneInfo(zone)))


def test_instants_are_microseconds_since_1970_in_utc():
    assert at("UTC", 2026, 1, 1) == 1_767_225_600_000_000
    assert at("Asia/Shanghai", 1970, 1, 1, 8, 0, 0, 7) == 7
    assert day_date(0) == date(1970, 1, 1)


@pytest.mark.parametrize("zone", ZONES)
def test_hours_and_days_of_a_year_are_those_of_zoneinfo(zone):
    where, book = ZoneInfo(zone), calendar(zone)
    moments = [datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC")) + timedelta(minutes=37 * k)
               for k in range(0, 365 * 24 * 60 // 37, 5)]  # fmt: skip
    us = np.array([instant_us(moment) for moment in moments])
    local = [moment.astimezone(where) for moment in moments]
    assert [day_date(key) for key in book.day(us).tolist()] == [one.date() for one in local]
    starts = book.hour_start_us(book.hour(us))
    expected = [
        instant_us(m) - (one.minute * 60 + one.second) * 1_000_000
        for m, one in zip(moments, local, strict=True)
    ]
    assert starts.tolist() == expected
    walls = [(one.hour * 60 + one.minute) * 60_000_000 for one in local]
    assert book.clock_us(us).tolist() == walls


def test_the_days_on_which_clocks_change_have_23_and_25_hours():
    book = calendar("Europe/Amsterdam")
    keys = book.day(np.array([at("Europe/Amsterdam", 2026, 3, 29, 12),
                              at("Europe/Amsterdam", 2026, 10, 25, 12)]))  # fmt: skip
    hours = (book.day_start_us(keys + 1) - book.day_start_us(keys)) // HOUR_US
    assert hours.tolist() == [23, 25]


def test_what_lies_outside_of_the_calendar_counts_as_its_first_or_last_day():
    zone = "Asia/Shanghai"
    book = calendar(zone)
    first, last = at(zone, 2000, 1, 1), at(zone, 2070, 1, 1)
    moments = np.array([at(zone, 1990, 5, 5), first, last - 1, last, at(zone, 2080, 5, 5)])
    assert [str(day_date(key)) for key in book.day(moments).tolist()] == [
        "2000-01-01", "2000-01-01", "2069-12-31", "2070-01-01", "2070-01-01",
    ]  # fmt: skip
    keys = book.day(np.array([first, last - 1]))
    assert book.day_start_us(keys + 1).tolist() == [at(zone, 2000, 1, 2), last]
    assert book.day_start_us(np.array([-5, 99_999])).tolist() == [first, last]


def test_a_season_begins_at_local_midnight_of_its_day():
    book = calendar("Asia/Shanghai")
    moments = np.array([at("Asia/Shanghai", 2026, 9, 30, 23, 59),
                        at("Asia/Shanghai", 2026, 10, 1)])  # fmt: skip
    assert book.season(moments, 10, 1).tolist() == [2025, 2026]


def test_day_begins_at_sunrise_of_the_place_not_of_the_clock():
    zhangye = sun_times(38.93, 100.45, "Asia/Shanghai")
    rise = instant_us(
        sunrise(Observer(38.9, 100.5), date(2026, 6, 1), tzinfo=ZoneInfo("Asia/Shanghai"))
    )
    assert zhangye.is_day(np.array([rise - 1, rise])).tolist() == [False, True]
    noon = at("Asia/Shanghai", 2026, 6, 1, 13, 18)
    assert zhangye.is_day(np.array([noon, noon + 12 * HOUR_US])).tolist() == [True, False]


@pytest.mark.parametrize(("month", "up"), [(6, True), (12, False)])
def test_beyond_the_polar_circle_it_is_day_or_night_all_day(month, up):
    longyearbyen = sun_times(78.2, 15.6, "Arctic/Longyearbyen")
    hours = np.array([at("Arctic/Longyearbyen", 2026, month, 21, h) for h in range(0, 24, 6)])
    assert longyearbyen.is_day(hours).tolist() == [up] * 4


# clock windows, local time, whether it lies inside
CLOCKS = [
    ("08:00-18:00", (8, 0), True),
    ("08:00-18:00", (18, 0), False),
    ("22:00-06:00", (23, 0), True),  # over midnight
    ("22:00-06:00", (5, 59), True),
    ("22:00-06:00", (6, 0), False),
    ("00:00-24:00", (23, 59), True),
]


@pytest.mark.parametrize(("window", "moment", "inside"), CLOCKS)
def test_clock_windows_may_run_over_midnight(window, moment, inside):
    begin, end = ((int(t[:2]) * 60 + int(t[3:])) * 60_000_000 for t in window.split("-"))
    table = Timetable(Schedule(clock=((begin, end),)), calendar("Asia/Shanghai"))
    us = np.array([at("Asia/Shanghai", 2026, 6, 1, *moment)])
    assert table.holds(us).tolist() == [inside]


@pytest.mark.parametrize(
    ("day", "inside"),
    [((11, 15), True), ((1, 1), True), ((3, 10), True), ((3, 11), False), ((11, 14), False)],
)
def test_yearly_dates_may_run_over_new_year(day, inside):
    table = Timetable(Schedule(dates=(((11, 15), (3, 10)),)), calendar("Asia/Shanghai"))
    assert table.holds(np.array([at("Asia/Shanghai", 2026, *day, 12)])).tolist() == [inside]


@pytest.mark.parametrize(
    ("day", "inside"),
    [((2, 28), False), ((3, 1), True), ((4, 15), True), ((4, 30), True), ((5, 1), False),
     ((9, 9), False), ((10, 1), True)],
)  # fmt: skip
def test_yearly_dates_count_from_their_first_to_their_last_day(day, inside):
    dates = (((3, 1), (4, 30)), ((10, 1), (10, 1)))
    table = Timetable(Schedule(dates=dates), calendar("Asia/Shanghai"))
    ends = np.array([at("Asia/Shanghai", 2026, *day), at("Asia/Shanghai", 2026, *day, 23, 59)])
    assert table.holds(ends).tolist() == [inside] * 2


def test_all_parts_of_a_schedule_must_hold():
    zone = "Asia/Shanghai"
    sun = sun_times(38.93, 100.45, zone)
    clock = ((21 * HOUR_US, 9 * HOUR_US),)
    night = Schedule(sun="night", clock=clock, dates=(((6, 1), (6, 30)),))
    moments = np.array([
        at(zone, 2026, 6, 1, 23),  # all of them
        at(zone, 2026, 6, 1, 4),
        at(zone, 2026, 6, 1, 8),  # the sun is up since six
        at(zone, 2026, 6, 1, 20, 59),  # before the hours
        at(zone, 2026, 7, 1, 23),  # after the dates
        at(zone, 2026, 6, 1, 13),
    ])  # fmt: skip
    held = Timetable(night, calendar(zone), sun).holds(moments)
    assert held.tolist() == [True, True, False, False, False, False]
    day = Schedule(sun="day", clock=clock)
    held = Timetable(day, calendar(zone), sun).holds(moments)
    assert held.tolist() == [False, False, True, False, False, False]


def test_a_rule_may_be_valid_in_several_spans():
    table = Timetable(Schedule(), calendar("Asia/Shanghai"), None, ((10, 20), (30, 40), (50, 60)))
    moments = np.array([9, 10, 19, 20, 29, 30, 39, 40, 49, 50, 59, 60])
    assert table.holds(moments).tolist() == [False, True, True, False] * 3
    assert not table.is_always
    assert Timetable(Schedule(), calendar("Asia/Shanghai")).is_always
    assert not Timetable(Schedule(sun="day"), calendar("Asia/Shanghai")).is_always


def test_spans_are_joined_cut_and_taken_away():
    assert joined([(5, 9), (1, 3), (3, 4), (8, 10)]) == ((1, 4), (5, 10))
    assert both(((0, 10), (20, 30)), ((5, 25),)) == ((5, 10), (20, 25))
    assert without(((0, 10), (20, 30)), ((5, 25),)) == ((0, 5), (25, 30))
    assert without(((0, 10),), ((0, 10),)) == ()
    assert without(((0, 10),), ((3, 4), (6, 8))) == ((0, 3), (4, 6), (8, 10))
    assert both(((0, 10), (20, 30)), ((2, 4), (8, 22))) == ((2, 4), (8, 10), (20, 22))
    assert both(((0, 10),), ((10, 20),)) == ()


def test_a_stage_lasts_until_the_next_begins():
    planting = Planting(
        "h1", "tomato",
        (StageBegin("seedling", date(2026, 3, 1)), StageBegin("flowering", date(2026, 5, 1)),
         StageBegin("fruiting", date(2026, 6, 1))),
        date(2026, 9, 1),
    )  # fmt: skip
    zone = calendar("Asia/Shanghai")
    midnight = [at("Asia/Shanghai", 2026, m, 1) for m in (3, 5, 6, 9)]
    assert planting.spans(["flowering"], zone) == ((midnight[1], midnight[2]),)
    assert planting.spans(["fruiting"], zone) == ((midnight[2], midnight[3]),)
    assert planting.spans(["seedling", "flowering"], zone) == ((midnight[0], midnight[2]),)
    assert planting.spans(["seedling", "fruiting"], zone) == (
        (midnight[0], midnight[1]), (midnight[2], midnight[3]),
    )  # fmt: skip
    endless = Planting("h1", "tomato", (StageBegin("fruiting", date(2026, 6, 1)),))
    assert endless.spans(["fruiting"], zone) == ((midnight[2], int(NEVER)),)
    by_degrees = Planting("h1", "tomato", (StageBegin("a", None, 0.0), StageBegin("b", None, 500)))
    assert by_degrees.degree_days(["a"]) == ((0.0, 500),)
    assert by_degrees.degree_days(["b"]) == ((500, float("inf")),)
