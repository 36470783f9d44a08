"""A whole base over days: repeatable, and as a grower would expect it."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from firmware_sims import root_zone
from firmware_sims.scenario import shipped
from firmware_sims.weather import WeatherEvent, WeatherEventKind
from firmware_sims.world import Breakdown, EquipmentFailure, Plan, World

HOUR_US = 3_600_000_000
START_US = round(dt.datetime(2026, 11, 19, 16, tzinfo=dt.UTC).timestamp() * 1e6)  # local midnight
PLAN = shipped("small-base").plan(START_US)
TOMATO = replace(PLAN, houses=PLAN.houses[:1])  # one house is quicker than three


def _rows(plan: Plan, hours: int, every_min: int = 10) -> list[dict[str, tuple[float, ...]]]:
    world, rows = World.begin(plan, START_US), []
    for step in range(1, hours * 60 // every_min + 1):
        world.advance(START_US + step * every_min * 60_000_000)
        rows.append(
            {
                code: (
                    now.state.air_c,
                    now.state.relative_humidity,
                    now.state.co2_ppm,
                    now.controls.vent_position,
                    now.controls.heating_w_m2,
                    root_zone.water_content(now.plan.medium, now.zones[0]),
                    now.zones[0].ec,
                )
                for code, now in world.houses.items()
            }
        )
    return rows


def test_the_same_plan_gives_the_same_days_however_it_is_stepped():
    once, often = World.begin(PLAN, START_US), World.begin(PLAN, START_US)
    once.advance(START_US + 2 * HOUR_US)
    for second in range(0, 2 * 3600 + 1, 7):
        often.advance(START_US + second * 1_000_000)
    often.advance(START_US + 2 * HOUR_US)
    assert once.now_us == often.now_us
    for code in once.houses:
        assert once.houses[code].state == often.houses[code].state
        assert once.houses[code].zones == often.houses[code].zones
    assert once.unit_state == often.unit_state
    other = World.begin(replace(PLAN, seed=1), START_US)
    other.advance(START_US + 2 * HOUR_US)
    assert other.houses["h1"].state != once.houses["h1"].state


@pytest.fixture(scope="module")
def day() -> list[dict[str, tuple[float, ...]]]:
    return _rows(PLAN, 24)


def test_a_november_day_looks_like_november(day):
    for row in day:
        for air_c, humidity, co2, vents, heating, moisture, ec in row.values():
            assert 4 < air_c < 36 and 30 < humidity < 106 and 150 < co2 < 1500
            assert 0 <= vents <= 1 and 0 <= heating <= 200
            assert 0.15 < moisture < 0.8 and 0.5 < ec < 8
    for code, night_low in (("h1", 12.0), ("h2", 14.0)):
        assert min(row[code][0] for row in day) > night_low  # heated
    nights = [row["h3"][0] for row in day[12:36]]  # 02:00 to 06:00
    assert nights[-1] < nights[0]  # unheated: it cools until the morning
    for code in ("h1", "h2", "h3"):
        noon, night = day[13 * 6][code][0], day[5 * 6][code][0]
        assert noon > night + 1.5


def test_irrigation_is_a_third_more_than_the_crop_drinks_and_the_rest_drains():
    world = World.begin(TOMATO, START_US)
    before = world.houses["h1"].zones[0]
    meter_before, drain_before = world.unit_state.valve_total_l[0], world.houses["h1"].drain_total_l
    world.advance(START_US + 24 * HOUR_US)
    after, now = world.houses["h1"].zones[0], world.houses["h1"]
    irrigated = after.irrigated_l_m2 - before.irrigated_l_m2
    drained = after.drained_l_m2 - before.drained_l_m2
    taken = after.taken_l_m2 - before.taken_l_m2
    assert 1.0 < irrigated < 6.0  # L/m² a day
    assert 0.05 < drained / irrigated < 0.6
    stored = after.water_l_m2 - before.water_l_m2
    assert stored == pytest.approx(irrigated - drained - taken, abs=1e-6)
    metered = (world.unit_state.valve_total_l[0] - meter_before) / 2880
    assert metered == pytest.approx(irrigated, rel=0.06)  # a dripper is not the mean of all
    assert now.drain_total_l > drain_before


def test_a_frost_night_with_a_failed_heater_endangers_the_house_and_only_that():
    day = PLAN.climate.solar_day(START_US + 8 * HOUR_US)
    frost = [WeatherEvent(WeatherEventKind.FROST_NIGHT, day, -12.0)]
    cold = replace(PLAN, houses=PLAN.houses[:2], weather_events=tuple(frost))
    broken = replace(
        cold,
        breakdowns=(Breakdown(EquipmentFailure.HEATER, "h2", START_US, START_US + 8 * HOUR_US),),
    )
    healthy, sick = _rows(cold, 8), _rows(broken, 8)
    assert min(row["h2"][0] for row in sick) < 5.0 < min(row["h2"][0] for row in healthy)
    assert sick[-1]["h1"] == healthy[-1]["h1"]


def test_a_failed_pump_dries_the_slabs():
    summer_us = round(dt.datetime(2026, 6, 20, 16, tzinfo=dt.UTC).timestamp() * 1e6)
    failure = Breakdown(EquipmentFailure.PUMP, None, summer_us, summer_us + 40 * HOUR_US)
    world = World.begin(replace(TOMATO, breakdowns=(failure,)), summer_us)
    full = root_zone.water_content(world.houses["h1"].plan.medium, world.houses["h1"].zones[0])
    world.advance(summer_us + 39 * HOUR_US)
    now = world.houses["h1"]
    dry = root_zone.water_content(now.plan.medium, now.zones[0])
    assert dry < full - 0.2
    assert now.state.water_stress > 0.0
    assert not world.unit_state.pump_runs and world.unit_state.open_valve is not None


@pytest.mark.parametrize(
    ("failure", "read"),
    [
        (EquipmentFailure.VENT_STUCK, lambda now: now.controls.vent_position),
        (EquipmentFailure.SCREEN_STUCK, lambda now: now.controls.screen_position),
    ],
)
def test_what_is_stuck_does_not_move(failure, read):
    dawn_us = START_US + 6 * HOUR_US
    plan = replace(TOMATO, breakdowns=(Breakdown(failure, "h1", dawn_us, dawn_us + 8 * HOUR_US),))
    world, other = World.begin(plan, dawn_us), World.begin(TOMATO, dawn_us)
    seen, sound = set(), set()
    for hour in range(1, 7):
        world.advance(dawn_us + hour * HOUR_US)
        other.advance(dawn_us + hour * HOUR_US)
        seen.add(read(world.houses["h1"]))
        sound.add(read(other.houses["h1"]))
    assert len(seen) == 1
    assert len(sound) > 1


def test_meters_only_rise_and_rain_fills_the_gauge():
    day = PLAN.climate.solar_day(START_US + 8 * HOUR_US)
    rain = replace(TOMATO, weather_events=(WeatherEvent(WeatherEventKind.RAIN_DAY, day, 3.0),))
    world = World.begin(rain, START_US)
    last = (world.rain_total_mm, world.unit_state.total_l, world.houses["h1"].drain_total_l)
    begin = last
    for hour in range(1, 25):
        world.advance(START_US + hour * HOUR_US)
        now = (world.rain_total_mm, world.unit_state.total_l, world.houses["h1"].drain_total_l)
        assert all(new >= old for new, old in zip(now, last, strict=True))
        last = now
    assert last[0] - begin[0] > 10.0
    assert last[1] > begin[1] > 100_000
