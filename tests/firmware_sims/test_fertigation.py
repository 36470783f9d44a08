"""The fertigation unit: litres, tanks, and a pump that may fail."""

from __future__ import annotations

import pytest

from firmware_sims import fertigation
from firmware_sims.fertigation import Unit, UnitState, Valve

UNIT = Unit(
    (
        Valve("h1", area_m2=2880, rate_l_m2_h=5.0, ec=2.8, ph=5.8),
        Valve("h3", area_m2=720, rate_l_m2_h=5.0, ec=1.6, ph=6.4),
    )
)


def _run(
    state: UnitState, seconds: int, *, pump_fails: bool = False, solar_hour: float = 12.0
) -> tuple[UnitState, list[float]]:
    total = [0.0] * len(UNIT.valves)
    for _ in range(seconds // 10):
        state, delivered = fertigation.step(
            UNIT, state, 10.0, solar_hour=solar_hour, around_c=20.0, pump_fails=pump_fails
        )
        total = [a + b for a, b in zip(total, delivered, strict=True)]
    return state, total


def test_a_house_gets_what_it_asked_for_and_the_meters_count_it():
    state = fertigation.ask(UNIT, fertigation.at_rest(UNIT, total_l=1000.0), 0, 0.35)
    state, delivered = _run(state, 600)
    assert delivered == pytest.approx([0.35, 0.0])
    assert state.total_l == pytest.approx(1000.0 + 0.35 * 2880)
    assert sum(state.valve_total_l) == pytest.approx(state.total_l)
    assert state.open_valve is None and not state.pump_runs and state.flow_l_min == 0.0


def test_houses_are_served_one_after_the_other():
    state = fertigation.ask(UNIT, fertigation.at_rest(UNIT), 0, 0.25)
    state = fertigation.ask(UNIT, state, 1, 0.25)
    state = fertigation.ask(UNIT, state, 1, 0.25)  # it waits already: asked once
    state, delivered = _run(state, 60)
    assert state.open_valve == 0 and delivered[1] == 0.0
    assert state.flow_l_min == pytest.approx(240.0)
    state, delivered = _run(state, 180)
    assert state.open_valve == 1 and state.flow_l_min == pytest.approx(60.0)
    _, delivered = _run(state, 600)
    assert delivered[1] <= 0.25


def test_solution_runs_to_the_recipe_of_the_open_valve():
    state = fertigation.ask(UNIT, fertigation.at_rest(UNIT), 1, 2.0)
    assert state.ec == 2.8
    state, _ = _run(state, 600)
    assert state.ec == pytest.approx(1.6, abs=0.01)
    assert state.ph == pytest.approx(6.4, abs=0.01)


def test_pressure_and_flow_belong_together():
    resting, _ = _run(fertigation.at_rest(UNIT), 60)
    running, _ = _run(fertigation.ask(UNIT, resting, 0, 1.0), 60)
    assert resting.pressure_kpa == pytest.approx(22.0)
    assert 200 < running.pressure_kpa < 300
    assert running.pump_runs


def test_a_failed_pump_leaves_its_valve_open_without_flow_or_pressure_and_the_job_waits():
    state = fertigation.ask(UNIT, fertigation.at_rest(UNIT), 0, 0.35)
    state, delivered = _run(state, 1200, pump_fails=True)
    assert delivered == [0.0, 0.0]
    assert state.open_valve == 0 and not state.pump_runs
    assert state.flow_l_min == 0.0 and state.pressure_kpa < 1.0
    state, delivered = _run(state, 600)
    assert delivered[0] == pytest.approx(0.35)


def test_tanks_empty_with_use_until_only_water_comes_and_are_filled_in_the_morning():
    state = fertigation.at_rest(UNIT)
    for _ in range(60):
        state, _ = _run(fertigation.ask(UNIT, state, 0, 1.0), 720)
        if state.tank_b == 0.0:
            break
    assert state.tank_a == 0.0 and state.tank_b < 0.05
    state, _ = _run(fertigation.ask(UNIT, state, 0, 1.0), 720)
    assert state.ec == pytest.approx(UNIT.water_ec, abs=0.02)
    state, _ = fertigation.step(UNIT, state, 10.0, solar_hour=8.001, around_c=20.0)
    assert state.tank_a == state.tank_b == 0.95
