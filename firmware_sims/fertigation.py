"""The fertigation unit of a base: one pump, a dosing channel, one valve a house.

Houses ask for irrigation; the unit serves them one after the other.  Stock tanks A, B and acid
empty with use and are filled up by hand in the morning when they are low.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

_SHUT_OFF_KPA = 380.0  # the pump against a closed valve
_STANDING_KPA = 22.0  # the water column in the pipes
_DOSES_IN_S = 45.0  # how fast EC and pH follow the dosing once water flows
_STOCK_SHARE = 1.0 / 100.0  # of stock A, and the same of B, in the solution at its usual EC
_USUAL_EC = 2.5
_ACID_SHARE = 1.0 / 1500.0
_FILL_BELOW = 0.25
_FILL_HOUR = 8.0


@dataclass(frozen=True, slots=True)
class Valve:
    """One house on the unit: *rate_l_m2_h* is what its drippers give, EC in mS/cm."""

    house: str
    area_m2: float
    rate_l_m2_h: float
    ec: float
    ph: float

    @property
    def flow_l_min(self) -> float:
        """Flow with the valve open and the pump running."""
        return self.area_m2 * self.rate_l_m2_h / 60.0


@dataclass(frozen=True, slots=True)
class Unit:
    """How the unit is built: its valves, its tanks in litres, the water it draws."""

    valves: tuple[Valve, ...]
    stock_l: float = 1000.0
    acid_l: float = 200.0
    water_ec: float = 0.55
    water_ph: float = 7.6
    water_c: float = 15.5


@dataclass(frozen=True, slots=True)
class Job:
    """Water that a house waits for, litres per m²."""

    valve: int
    left_l_m2: float


@dataclass(frozen=True, slots=True)
class UnitState:
    """*jobs* are served in order, the first is running; tanks are shares of full.

    *total_l* is the meter of the unit, *valve_total_l* those of its valves: running totals.
    """

    jobs: tuple[Job, ...]
    ec: float
    ph: float
    temperature_c: float
    pressure_kpa: float
    flow_l_min: float
    pump_runs: bool
    tank_a: float
    tank_b: float
    tank_acid: float
    total_l: float
    valve_total_l: tuple[float, ...]

    @property
    def open_valve(self) -> int | None:
        """The valve that is open; None when nobody waits for water."""
        return self.jobs[0].valve if self.jobs else None


def at_rest(unit: Unit, total_l: float = 0.0) -> UnitState:
    """Return the unit with full tanks and nothing to do; *total_l* stands on its meter."""
    first = unit.valves[0]
    area = sum(valve.area_m2 for valve in unit.valves)
    return UnitState(
        jobs=(),
        ec=first.ec,
        ph=first.ph,
        temperature_c=unit.water_c + 3.0,
        pressure_kpa=_STANDING_KPA,
        flow_l_min=0.0,
        pump_runs=False,
        tank_a=0.9,
        tank_b=0.9,
        tank_acid=0.8,
        total_l=total_l,
        valve_total_l=tuple(total_l * valve.area_m2 / area for valve in unit.valves),
    )


def ask(unit: Unit, state: UnitState, valve: int, litres_m2: float) -> UnitState:
    """Add a job, unless that house is waiting for water already."""
    if any(job.valve == valve for job in state.jobs):
        return state
    return replace(state, jobs=(*state.jobs, Job(valve, litres_m2)))


def step(
    unit: Unit,
    state: UnitState,
    dt_s: float,
    *,
    solar_hour: float,
    around_c: float,
    pump_fails: bool = False,
) -> tuple[UnitState, tuple[float, ...]]:
    """Return the unit *dt_s* later and what each valve let through meanwhile, litres per m².

    A pump that fails leaves its valve open: no flow, no pressure, and the house goes on waiting.
    """
    delivered = [0.0] * len(unit.valves)
    jobs = state.jobs
    valve = unit.valves[jobs[0].valve] if jobs else None
    runs = valve is not None and not pump_fails
    flow = 0.0
    if valve is not None and runs:
        depth = min(jobs[0].left_l_m2, valve.rate_l_m2_h * dt_s / 3600.0)
        delivered[jobs[0].valve] = depth
        flow = valve.flow_l_min
        left = jobs[0].left_l_m2 - depth
        jobs = jobs[1:] if left <= 1e-9 else (Job(jobs[0].valve, left), *jobs[1:])
    litres = delivered[state.jobs[0].valve] * valve.area_m2 if valve and runs else 0.0
    tank_a, tank_b, tank_acid = _tanks(unit, state, valve, litres, solar_hour, dt_s)
    ec, ph = _solution(unit, state, valve if runs else None, dt_s)
    rest_c = 0.5 * (unit.water_c + around_c)
    goal_c = 0.75 * unit.water_c + 0.25 * around_c if runs else rest_c
    drift = 1.0 - math.exp(-dt_s / (120.0 if runs else 5400.0))
    pressure = _SHUT_OFF_KPA - 0.0022 * flow**2 if runs else 0.0 if pump_fails else _STANDING_KPA
    return UnitState(
        jobs=jobs,
        ec=ec,
        ph=ph,
        temperature_c=state.temperature_c + (goal_c - state.temperature_c) * drift,
        pressure_kpa=state.pressure_kpa
        + (max(0.0, pressure) - state.pressure_kpa) * (1.0 - math.exp(-dt_s / 6.0)),
        flow_l_min=flow,
        pump_runs=runs,
        tank_a=tank_a,
        tank_b=tank_b,
        tank_acid=tank_acid,
        total_l=state.total_l + litres,
        valve_total_l=tuple(
            total + depth * one.area_m2
            for total, depth, one in zip(state.valve_total_l, delivered, unit.valves, strict=True)
        ),
    ), tuple(delivered)


def _solution(
    unit: Unit, state: UnitState, valve: Valve | None, dt_s: float
) -> tuple[float, float]:
    """Let EC and pH of the channel run to what is dosed; without flow they stay."""
    if valve is None:
        return state.ec, state.ph
    follow = 1.0 - math.exp(-dt_s / _DOSES_IN_S)
    stock = min(1.0, 50.0 * min(state.tank_a, state.tank_b))
    acid = min(1.0, 50.0 * state.tank_acid)
    goal_ec = unit.water_ec + (valve.ec - unit.water_ec) * stock
    goal_ph = unit.water_ph + (valve.ph - unit.water_ph) * acid
    return state.ec + (goal_ec - state.ec) * follow, state.ph + (goal_ph - state.ph) * follow


def _tanks(
    unit: Unit,
    state: UnitState,
    valve: Valve | None,
    litres: float,
    solar_hour: float,
    dt_s: float,
) -> tuple[float, float, float]:
    tank_a, tank_b, acid = state.tank_a, state.tank_b, state.tank_acid
    if valve is not None and litres > 0.0:
        strength = max(0.0, valve.ec - unit.water_ec) / (_USUAL_EC - unit.water_ec)
        stock = litres * _STOCK_SHARE * strength / unit.stock_l
        tank_a, tank_b = max(0.0, tank_a - stock), max(0.0, tank_b - 0.97 * stock)
        acid = max(0.0, acid - litres * _ACID_SHARE / unit.acid_l)
    if _FILL_HOUR <= solar_hour < _FILL_HOUR + dt_s / 3600.0:  # once a morning, by hand
        tank_a = 0.95 if tank_a < _FILL_BELOW else tank_a
        tank_b = 0.95 if tank_b < _FILL_BELOW else tank_b
        acid = 0.9 if acid < _FILL_BELOW else acid
    return tank_a, tank_b, acid
