"""A whole base in simulated time: weather, houses, their root zones, the fertigation unit.

No clock and no I/O: whoever owns it says how far to go.  It moves in steps that lie on a fixed grid
of time, so a world of the same plan comes by the same states wherever its owner pauses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from firmware_sims import climate, fertigation, root_zone
from firmware_sims.climate import Controls, House, State
from firmware_sims.control import SetPoints, control, heating_set_point_c
from firmware_sims.fertigation import Unit, UnitState, Valve
from firmware_sims.noise import lattice
from firmware_sims.root_zone import RootMedium, RootZone
from firmware_sims.sun import Sun, day_length_h
from firmware_sims.weather import Climate, Weather, WeatherEvent, WeatherGenerator

TICK_S = 10.0
_SPIN_UP_S = 86400.0
_SPIN_UP_TICK_S = 60.0
_METERS_SET_ON_DAY = 20_089  # 2025-01-01, when the meters of the base were put in


class EquipmentFailure(StrEnum):
    """What may break in a house or at the fertigation unit."""

    PUMP = "pump_failure"
    HEATER = "heater_failure"
    VENT_STUCK = "vent_stuck"
    SCREEN_STUCK = "screen_stuck"


@dataclass(frozen=True, slots=True)
class Breakdown:
    """*house* is the code of the house, None for the fertigation unit; the end is exclusive."""

    failure: EquipmentFailure
    house: str | None
    from_us: int
    until_us: int


@dataclass(frozen=True, slots=True)
class IrrigationPlan:
    """When a house asks for water, and how much: *dose_l_m2* each time.

    By radiation: after *every_j_cm2* of sunlight, first two hours after sunrise, at the latest
    *longest_gap_h* after the last time, never in the evening.  By moisture: when the driest root
    zone falls below *below_share* of its capacity.
    """

    by_radiation: bool = True
    dose_l_m2: float = 0.2
    every_j_cm2: float = 90.0
    longest_gap_h: float = 3.5
    below_share: float = 0.75
    rate_l_m2_h: float = 5.0
    ec: float = 2.6
    ph: float = 5.8


@dataclass(frozen=True, slots=True)
class HousePlan:
    """One house of the base with what grows and waters in it; *zones* counts its root probes."""

    code: str
    house: House
    set_points: SetPoints
    medium: RootMedium
    irrigation: IrrigationPlan
    zones: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a world is made of."""

    seed: int
    climate: Climate
    houses: tuple[HousePlan, ...]
    weather_events: tuple[WeatherEvent, ...] = ()
    breakdowns: tuple[Breakdown, ...] = ()


@dataclass
class HouseNow:
    """A house at the moment the world stands at.

    *differences* are the shares of water that each zone's dripper gives and its plants take.
    *sunlight_j_cm2* has come since the last irrigation, *lost_l_m2* is what leaves and soil have
    given to the air so far.
    """

    plan: HousePlan
    state: State
    controls: Controls
    zones: list[RootZone]
    differences: list[tuple[float, float]]
    valve: int
    heating_set_point_c: float = 0.0
    sunlight_j_cm2: float = 0.0
    irrigated_at_us: int = 0
    drain_total_l: float = 0.0
    lost_l_m2: float = 0.0

    @property
    def drain_ec(self) -> float:
        """EC of the water in the gutter, from all zones."""
        return sum(zone.drain_ec for zone in self.zones) / len(self.zones)

    @property
    def drain_ph(self) -> float:
        """PH of the water in the gutter, from all zones."""
        return sum(zone.drain_ph for zone in self.zones) / len(self.zones)


@dataclass
class World:
    """The base at *now_us*; `begin` makes one that has run itself in, `advance` moves it on."""

    plan: Plan
    now_us: int
    weather: Weather
    sun: Sun
    houses: Mapping[str, HouseNow]
    unit: Unit
    unit_state: UnitState
    rain_total_mm: float
    _generator: WeatherGenerator = field(repr=False)

    @staticmethod
    def begin(plan: Plan, at_us: int) -> World:
        """Return the world of *plan* at *at_us*, after a day of running in before that."""
        start_us = at_us - round(_SPIN_UP_S * 1e6)
        start_us -= start_us % round(_SPIN_UP_TICK_S * 1e6)
        generator = WeatherGenerator(plan.seed, plan.climate, plan.weather_events)
        weather = generator.at(start_us)
        day = plan.climate.solar_day(start_us)
        days = max(0, day - _METERS_SET_ON_DAY)
        unit = Unit(tuple(_valve(house) for house in plan.houses))
        houses = {
            house.code: _house_at_start(plan, house, index, weather, day)
            for index, house in enumerate(plan.houses)
        }
        area = sum(house.house.floor_area_m2 for house in plan.houses)
        for now in houses.values():
            now.drain_total_l = round(0.3 * days * now.plan.house.floor_area_m2)
        world = World(
            plan,
            start_us,
            weather,
            generator.sun(start_us),
            houses,
            unit,
            fertigation.at_rest(unit, total_l=round(1.2 * days * area)),
            rain_total_mm=round(1.6 * days),
            _generator=generator,
        )
        while world.now_us + _SPIN_UP_TICK_S * 1e6 <= at_us:
            world._tick(_SPIN_UP_TICK_S)
        world.advance(at_us)
        return world

    def advance(self, to_us: int) -> None:
        """Move on by whole ticks, to the last one that is not after *to_us*."""
        while self.now_us + round(TICK_S * 1e6) <= to_us:
            self._tick(TICK_S)

    def _tick(self, dt_s: float) -> None:
        for now in self.houses.values():
            self._let_air_flow(now, dt_s)
        self._ask_for_water(dt_s)
        self.unit_state, delivered = fertigation.step(
            self.unit,
            self.unit_state,
            dt_s,
            solar_hour=self.plan.climate.solar_hour(self.now_us),
            around_c=max(8.0, self.weather.temperature_c),
            pump_fails=self._broken(EquipmentFailure.PUMP, None),
        )
        for now in self.houses.values():
            self._let_roots_drink(now, delivered[now.valve], dt_s)
        self.rain_total_mm += self.weather.rain_mm_h * dt_s / 3600.0
        self.now_us += round(dt_s * 1e6)
        self.weather = self._generator.at(self.now_us)
        self.sun = self._generator.sun(self.now_us)

    def _let_air_flow(self, now: HouseNow, dt_s: float) -> None:
        plan, before = now.plan, now.controls
        controls = control(
            plan.house, plan.set_points, now.state, before, self.weather, self.sun, dt_s
        )
        if self._broken(EquipmentFailure.HEATER, plan.code):
            controls = replace(controls, heating_w_m2=0.0)
        if self._broken(EquipmentFailure.VENT_STUCK, plan.code):
            controls = replace(controls, vent_position=before.vent_position)
        if self._broken(EquipmentFailure.SCREEN_STUCK, plan.code):
            controls = replace(controls, screen_position=before.screen_position)
        now.controls = controls
        now.heating_set_point_c = heating_set_point_c(plan.set_points, self.sun)
        now.state = climate.step(plan.house, now.state, self.now_us, dt_s, self.weather, controls)

    def _ask_for_water(self, dt_s: float) -> None:
        for now in self.houses.values():
            now.sunlight_j_cm2 += self.weather.global_radiation_w_m2 * dt_s / 1e4
            if self._is_thirsty(now):
                self.unit_state = fertigation.ask(
                    self.unit, self.unit_state, now.valve, now.plan.irrigation.dose_l_m2
                )
                now.sunlight_j_cm2 = 0.0
                now.irrigated_at_us = self.now_us

    def _is_thirsty(self, now: HouseNow) -> bool:
        irrigation, medium = now.plan.irrigation, now.plan.medium
        place = self.plan.climate
        noon_us = place.day_starts_at_us(place.solar_day(self.now_us)) + 12 * 3_600_000_000
        light_h = 0.5 * day_length_h(noon_us, place.latitude)
        after_noon_h = (self.now_us - noon_us) / 3600e6
        if not 2.0 - light_h <= after_noon_h <= light_h - 2.0:
            return False
        if not irrigation.by_radiation:
            driest = min(root_zone.water_content(medium, zone) for zone in now.zones)
            return driest < irrigation.below_share * medium.capacity
        waited_h = (self.now_us - now.irrigated_at_us) / 3600e6
        return now.sunlight_j_cm2 >= irrigation.every_j_cm2 or waited_h >= irrigation.longest_gap_h

    def _let_roots_drink(self, now: HouseNow, delivered_l_m2: float, dt_s: float) -> None:
        """Water and dry every zone; drippers and plants differ a little from zone to zone."""
        plan, state, medium = now.plan, now.state, now.plan.medium
        lost_l_m2 = (state.transpired_g_m2 + state.evaporated_g_m2) / 1000.0
        demand = lost_l_m2 - now.lost_l_m2
        now.lost_l_m2 = lost_l_m2
        drained = 0.0
        for index, zone in enumerate(now.zones):
            dripper, plant = now.differences[index]
            after = root_zone.step(
                medium,
                zone,
                dt_s,
                irrigation_l_m2=delivered_l_m2 * dripper,
                irrigation_ec=self.unit_state.ec,
                irrigation_ph=self.unit_state.ph,
                demand_l_m2=demand * plant,
                around_c=state.soil_c[1] if medium.is_soil else state.air_c,
            )
            drained += after.drained_l_m2 - zone.drained_l_m2
            now.zones[index] = after
        now.drain_total_l += drained / len(now.zones) * plan.house.floor_area_m2
        stress = sum(root_zone.water_stress(medium, zone) for zone in now.zones) / len(now.zones)
        if stress != state.water_stress:
            now.state = replace(state, water_stress=stress)

    def _broken(self, failure: EquipmentFailure, house: str | None) -> bool:
        return any(
            one.failure is failure
            and one.house == house
            and one.from_us <= self.now_us < one.until_us
            for one in self.plan.breakdowns
        )


def _valve(house: HousePlan) -> Valve:
    plan = house.irrigation
    return Valve(house.code, house.house.floor_area_m2, plan.rate_l_m2_h, plan.ec, plan.ph)


def _house_at_start(
    plan: Plan, house: HousePlan, valve: int, weather: Weather, day: int
) -> HouseNow:
    state = climate.initial_state(house.house, weather, plan.climate.deep_soil_c(day))
    ec, ph = house.irrigation.ec, house.irrigation.ph
    if house.medium.is_soil:
        ec, ph = 1.6, 7.1
    zones = [
        root_zone.filled(house.medium, ec * 1.25, ph + 0.3, state.soil_c[1])
        for _ in range(house.zones)
    ]
    differences = [
        (
            1.0 + 0.05 * lattice(plan.seed, f"{house.code}-dripper", index),
            1.0 + 0.06 * lattice(plan.seed, f"{house.code}-plant", index),
        )
        for index in range(house.zones)
    ]
    return HouseNow(house, state, Controls(), zones, differences, valve)
