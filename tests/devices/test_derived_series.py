"""Followers: what is touched, how inputs stand, and that no value is better than its inputs."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.derived import vapour_pressure_deficit
from devices.derived_recipe import RECIPES, Setting
from devices.derived_series import FOR_EVER_US, Instant, Span, Track
from devices.natural_day import PeriodLength, Periods, sun_up
from devices.quality import BAD_MASK, Quality, QualityLevel, level

S = 1_000_000
HOUR, DAY = 3600 * S, 86_400 * S
LONG_AGO = -FOR_EVER_US
VPD = Instant(vapour_pressure_deficit, 0, (120 * S, 20 * S), 0.0, 32.0)
MIDNIGHT = int(datetime(2025, 6, 1, tzinfo=UTC).timestamp()) * S


NOW = MIDNIGHT + 400 * DAY
ALL = Span(MIDNIGHT - DAY, NOW)


def made(follower, tracks, span=ALL):
    return follower.made(tracks, span, NOW, LONG_AGO).track


def at_seconds(follower, tracks):
    return made(follower, tracks, Span(0, HOUR))


@pytest.mark.parametrize(
    ("what", "humidity_at_s", "expected_s"),
    [
        ("at the same moment", [100], [100]),
        ("twenty seconds before: two of its intervals", [80], [100]),
        ("longer ago than that: it does not stand any more", [79], []),
        ("only after it", [101], []),
        ("the newest one is taken", [70, 99], [100]),
        ("never", [], []),
    ],
)
def test_an_input_stands_for_two_of_its_own_intervals(what, humidity_at_s, expected_s):
    temperature = Track.of([100 * S], [20.0])
    humidity = Track.of([at * S for at in humidity_at_s], [60.0] * len(humidity_at_s))
    assert at_seconds(VPD, [temperature, humidity]).at_us.tolist() == [at * S for at in expected_s]


def test_a_change_touches_as_far_as_the_reading_stands():
    assert VPD.touched(0, 5 * S, 9 * S) == Span(5 * S, 9 * S + 1)
    assert VPD.touched(1, 5 * S, 9 * S) == Span(5 * S, 29 * S + 1)


bits = st.sampled_from([0, *(int(bit) for bit in Quality if bit)])
values = st.floats(-20, 45) | st.just(math.nan)


@given(
    st.lists(st.tuples(st.integers(0, 300), values, bits), max_size=20, unique_by=lambda r: r[0]),
    st.lists(st.tuples(st.integers(0, 300), values, bits), max_size=20, unique_by=lambda r: r[0]),
)
def test_no_derived_value_is_better_than_its_inputs(first, second):
    first, second = sorted(first), sorted(second)
    tracks = [
        Track.of([at * S for at, _, _ in rows], [v for _, v, _ in rows], [q for _, _, q in rows])
        for rows in (first, second)
    ]
    out = at_seconds(VPD, tracks)
    ranks = [QualityLevel.GOOD, QualityLevel.SUSPECT, QualityLevel.BAD]
    for at, value, quality in zip(out.at_us, out.value, out.quality, strict=True):
        used = [rows for rows in ([r for r in one if r[0] * S <= at] for one in (first, second))]
        inputs = [rows[-1] for rows in used]
        assert at - inputs[1][0] * S <= 20 * S
        worst = max(ranks.index(level(q)) for _, _, q in inputs)
        assert ranks.index(level(int(quality))) >= worst
        if any(math.isnan(v) or q & BAD_MASK for _, v, q in inputs):
            assert math.isnan(value)
            assert quality & Quality.MISSING
    moments = {at * S for at, _, _ in first}
    assert set(out.at_us.tolist()) <= moments


@given(st.data())
def test_a_span_made_alone_is_what_it_is_in_the_whole(data):
    """For every formula: the touched span, made from what it needs, equals that part of all."""
    recipe = RECIPES[data.draw(st.sampled_from(sorted(RECIPES)))]
    setting = _setting(recipe, data.draw(st.booleans()))
    follower = recipe.build(setting)
    tracks = []
    for number, _ in enumerate(recipe.inputs):
        step = DAY if recipe.name == "growing_degree_days" else 600 * S
        count = data.draw(st.integers(0, 400))
        seed = data.draw(st.integers(0, 10_000))
        tracks.append(_random_track(seed + number, step, count))
    whole = made(follower, tracks)
    which = data.draw(st.integers(0, len(tracks) - 1))
    first = MIDNIGHT + data.draw(st.integers(0, 4 * DAY))
    span = follower.touched(which, first, first + data.draw(st.integers(0, DAY)))
    read = [_read(track, need) for track, need in zip(tracks, follower.needs(span), strict=True)]
    part = follower.made(read, span, NOW, LONG_AGO)
    inside = (whole.at_us >= part.span.start_us) & (whole.at_us < part.span.end_us)
    np.testing.assert_array_equal(part.track.at_us, whole.at_us[inside])
    np.testing.assert_allclose(part.track.value, whole.value[inside], rtol=1e-12)
    np.testing.assert_array_equal(part.track.quality, whole.quality[inside])


def _setting(recipe, other_period=False):
    quantities = tuple(slot.quantities[0] for slot in recipe.inputs)
    given = {"field_capacity": 30.0, "altitude_m": 1500.0, "area_m2": 500.0, "since": "2025-05-20"}
    parameters = {
        name: given.get(name, one.default)
        for name, one in recipe.parameters.items()
        if not one.optional
    }
    if other_period and "period" in parameters:
        parameters["period"] = recipe.parameters["period"].words[-1]
    return Setting(
        quantities,
        tuple(900.0 for _ in quantities),
        recipe.quantity(quantities[0]),
        parameters,
        "Asia/Shanghai",
        36.9,
        118.7,
    )


def _random_track(seed, step, count):
    rng = np.random.default_rng(seed)
    at = MIDNIGHT + np.arange(count) * step + rng.integers(0, step // 2, count)
    value = np.where(rng.random(count) < 0.1, np.nan, rng.uniform(0, 40, count))
    reasons = [0] * 6 + [int(Quality.STEP), int(Quality.SENTINEL), int(Quality.MANUAL)]
    return Track(at, value, rng.choice(np.asarray(reasons, np.int32), count))


def _read(track, need):
    inside = (track.at_us >= need.start_us) & (track.at_us < need.end_us)
    if need.before:
        before = np.flatnonzero(track.valid & (track.at_us < need.start_us))
        inside[before[-1:]] = True
    if need.after:
        after = np.flatnonzero(track.valid & (track.at_us >= need.end_us))
        inside[after[:1]] = True
    return track.take(inside)


# -- periods


def _built(name, parameters=None, interval_s=3600.0, zone="UTC", quantities=None):
    recipe = RECIPES[name]
    inputs = quantities or tuple(slot.quantities[0] for slot in recipe.inputs)
    quantity = recipe.quantity(inputs[0])
    return recipe.build(
        Setting(
            inputs, (interval_s,) * len(inputs), quantity, parameters or {}, zone, 36.88, 118.74
        )
    )


def hourly(values, start_us=MIDNIGHT, quality=0):
    at = [start_us + n * HOUR for n in range(len(values))]
    return Track.of(at, values, quality)


def test_twelve_hours_of_500_umol_are_21_6_mol_a_day():
    light = made(_built("daily_light_integral"), [hourly([0.0] * 6 + [500.0] * 12 + [0.0] * 6)])
    assert (light.at_us.tolist(), light.quality.tolist()) == ([MIDNIGHT], [0])
    assert light.value[0] == pytest.approx(21.6)


def test_degree_days_are_cut_at_base_and_upper():
    built = _built("degree_days", {"base": 10.0, "upper": 30.0})
    for low, high, expected in [(12, 26, 9.0), (4, 20, 5.0), (15, 40, 12.5), (-5, 5, 0.0)]:
        day = hourly([float(low), float(high)] * 12)
        assert made(built, [day]).value.tolist() == [expected]


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "UTC"])  # in UTC it sets before it rises
def test_the_day_is_warmer_than_the_night_by_the_sun(zone):
    start = Periods(PeriodLength.DAY, zone).end_of(MIDNIGHT)
    rise, down = sun_up(start, zone, 36.88, 118.74)
    at = [start + n * HOUR // 4 for n in range(96)]
    is_day = [rise <= one < down if rise < down else one < down or one >= rise for one in at]
    assert 56 <= sum(is_day) <= 60  # between 14 and 15 hours
    day = Track.of(at, [24.0 if up else 16.0 for up in is_day])
    built = _built("day_night_difference", interval_s=900.0, zone=zone)
    assert made(built, [day]).value[0] == pytest.approx(8.0)
    mean = made(_built("average_daily_temperature", interval_s=900.0, zone=zone), [day]).value[0]
    assert mean == pytest.approx(np.mean(day.value))


def test_litres_become_millimetres_and_cubic_metres_a_mu():
    added = hourly([10.0] * 24)
    depth = made(_built("irrigation_depth", {"area_m2": 120.0, "period": "day"}), [added])
    assert depth.value.tolist() == pytest.approx([2.0])
    per_mu = made(_built("irrigation_per_mu", {"area_m2": 120.0, "period": "day"}), [added])
    assert per_mu.value.tolist() == pytest.approx([2.0 * 666.667 / 1000], rel=1e-5)


def test_a_dose_takes_each_water_with_its_concentration():
    added, solution = hourly([100.0] * 24), hourly([150.0] * 12 + [50.0] * 12)
    area = {"area_m2": 24.0, "period": "day"}
    grams = made(_built("fertiliser_dose", area), [added, solution]).value[0]
    assert grams == pytest.approx(100 * 12 * (150 + 50) / 1000 / 24)
    kilograms = made(_built("fertiliser_dose_per_mu", area), [added, solution]).value[0]
    assert kilograms == pytest.approx(grams * 0.6666667)


def test_a_quarter_of_what_was_given_drained():
    drained = made(_built("drain_fraction"), [hourly([1.0] * 24), hourly([4.0] * 24)])
    assert drained.value.tolist() == [25.0]


def test_degree_days_add_up_and_a_missing_day_shows():
    built = _built("growing_degree_days", {"since": "2025-06-01"})
    days = Track.of([MIDNIGHT + n * DAY for n in (0, 1, 3)], [5.0, 6.0, 7.0])
    total = made(built, [days])
    assert total.value.tolist() == [5.0, 11.0, 18.0]
    assert total.quality.tolist() == [0, 0, int(Quality.INCOMPLETE)]


@pytest.mark.parametrize(
    ("pollutant", "period", "value", "part"),
    [
        ("pm2_5", "day", 75, 114), ("pm2_5", "day", 59, 98), ("pm2_5", "day", 115, 150),
        ("pm10", "day", 150, 112), ("co", "day", 14, 150), ("o3", "day", 1200, 300),
        ("so2", "hour", 3000, 200), ("so2", "day", 150, 100), ("pm2_5", "hour", 75, 114),
        ("no2", "hour", 100, 50), ("so2", "day", 0, 0), ("no2", "day", 940, 500),
    ],
)  # fmt: skip
def test_parts_of_the_air_quality_index_have_the_values_of_the_standard(
    pollutant, period, value, part
):
    built = _built("air_quality_index_part", {"period": period}, quantities=(pollutant,))
    found = made(built, [hourly([float(value)] * 24)])
    assert set(found.value.tolist()) == {float(part)}
    assert len(found) == (24 if period == "hour" else 1)


def test_ozone_of_a_day_is_the_highest_of_eight_hours_six_of_them_measured():
    built = _built("air_quality_index_part", {"period": "day"}, quantities=("o3",))
    day = [40.0] * 8 + [160.0] * 8 + [40.0] * 8
    assert made(built, [hourly(day)]).value.tolist() == [100.0]
    few = Track.of([MIDNIGHT + n * HOUR for n in (0, 5, 10)], [100.0] * 3)
    assert np.isnan(made(built, [few]).value[0])


@pytest.mark.parametrize(("hours", "is_enough"), [(19, False), (20, True)])
def test_a_day_of_air_quality_needs_twenty_hours(hours, is_enough):
    built = _built("air_quality_index_part", {"period": "day"}, 1800.0, quantities=("so2",))
    bits = made(built, [hourly([50.0] * hours)]).quality[0]
    assert bool(bits & Quality.INCOMPLETE) is not is_enough


def test_natural_days_follow_the_clock():
    days = Periods(PeriodLength.DAY, "Europe/Amsterdam")
    spring = int(datetime(2025, 3, 29, 23, tzinfo=UTC).timestamp()) * S
    assert days.starts(spring, spring + 3 * DAY) == [
        spring, spring + 23 * HOUR, spring + 47 * HOUR, spring + 71 * HOUR
    ]  # fmt: skip
    assert days.end_of(spring) == spring + 23 * HOUR


def test_the_sun_stays_up_or_down_beyond_the_circle():
    june = sun_up(MIDNIGHT, "UTC", 80.0, 0.0)
    december = sun_up(int(datetime(2025, 12, 21, tzinfo=UTC).timestamp()) * S, "UTC", 80.0, 0.0)
    assert (june, december) == ((MIDNIGHT, MIDNIGHT + DAY), (0, 0))


def test_each_irrigation_is_told_by_itself_and_ends_with_a_pause_or_the_day():
    minutes = [0, 10, 20, 30, 40, 90, 100, 110, 1_430, 1_450]
    litres = [0.0, 5.0, 5.0, 0.0, 2.0, 0.0, 7.0, math.nan, 3.0, 4.0]
    added = Track.of([MIDNIGHT + n * 60 * S for n in minutes], litres)
    built = _built(
        "irrigation_depth", {"area_m2": 10.0, "period": "irrigation", "pause_min": 30.0}, 600.0
    )
    found = made(built, [added])
    starts = [(at - MIDNIGHT) // (60 * S) for at in found.at_us.tolist()]
    assert dict(zip(starts, found.value.tolist(), strict=True)) == pytest.approx(
        {10: 1.2, 100: 0.7, 1_430: 0.3, 1_450: 0.4}
    )
    assert not found.quality.any()


def test_an_irrigation_that_may_go_on_is_provisional():
    added = Track.of([MIDNIGHT + n * 600 * S for n in range(6)], [5.0] * 6)
    built = _built(
        "irrigation_depth", {"area_m2": 10.0, "period": "irrigation", "pause_min": 30.0}, 600.0
    )
    span = Span(MIDNIGHT, MIDNIGHT + DAY)
    for now_min, bits in ((60, int(Quality.PROVISIONAL)), (80, 0)):
        now_us = MIDNIGHT + now_min * 60 * S
        assert built.made([added], span, now_us, LONG_AGO).track.quality.tolist() == [bits]


def test_part_of_a_day_replaces_no_irrigation():
    added = Track.of([MIDNIGHT + n * 600 * S for n in range(6)], [5.0] * 6)
    parameters = {"area_m2": 10.0, "period": "irrigation", "pause_min": 30.0}
    built = _built("irrigation_depth", parameters, 600.0)
    part = built.made([added], Span(MIDNIGHT + 1, MIDNIGHT + HOUR), NOW, LONG_AGO)
    assert part.span.start_us == part.span.end_us
