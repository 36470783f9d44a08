"""A house whose sensors speak Modbus: one RS-485 line behind a gateway, measuring a small world.

The line carries a transmitter of air temperature and humidity, one of CO2, a quantum sensor and a
soil probe, as their makers ship them, each encoding the truth by the registers of its profile, and
a fertigation unit whose set-points can be written.
"""

from __future__ import annotations

import math
from dataclasses import replace

from devices.profile_library import shipped_profile
from firmware_sims.modbus_mixer import PROFILE as MIXER
from firmware_sims.modbus_mixer import mixer_slave
from firmware_sims.modbus_node import ModbusBus
from firmware_sims.modbus_registers import Truth
from firmware_sims.modbus_slave import SimulatedSlave, slave_of
from firmware_sims.root_zone import bulk_ec, water_content
from firmware_sims.scenario import shipped
from firmware_sims.world import HouseNow, World

_TURNAROUND_S = 0.02  # what an RS-485 probe takes to answer a short request

# unit on the line -> profile
UNITS = {
    1: "renke-rs-ws-n01",
    2: "aiav-co2",
    3: "apogee-sq-422x",
    4: "zts-3000-tr-ecws-n01",
    5: MIXER,
}


class _Weathered:
    """The truth in one house of a world of its own, moved on when somebody asks."""

    def __init__(self, seed: int, at_s: float) -> None:
        at_us = round(at_s * 1e6)
        plan = replace(shipped("small-base").plan(at_us), seed=seed)
        self._world = World.begin(plan, at_us)

    def __call__(self, key: str, at_s: float) -> float:
        """Return what *key* is at *at_s*; NaN where the house has no such thing."""
        at_us = round(at_s * 1e6)
        if at_us > self._world.now_us:
            self._world.advance(at_us)
        return _true_value(key, next(iter(self._world.houses.values())))


def _true_value(key: str, house: HouseNow) -> float:
    state, zone, medium = house.state, house.zones[0], house.plan.medium
    values = {
        "air_temperature": state.air_c,
        "relative_humidity": state.relative_humidity,
        "co2": state.co2_ppm,
        "ppfd": state.ppfd,
        "soil_moisture": 100.0 * water_content(medium, zone),
        "soil_temperature": zone.temperature_c,
        "soil_ec": bulk_ec(medium, zone),
    }
    return values.get(key, math.nan)


def modbus_house(seed: int, at_s: float) -> ModbusBus:
    """Return the line of the house as a gateway shows it (RTU over TCP), seconds since 1970 UTC."""
    truth: Truth = _Weathered(seed, at_s)
    slaves: list[SimulatedSlave] = [
        mixer_slave(unit, at_s)
        if name == MIXER
        else slave_of(shipped_profile(name), truth, unit, refresh_s=1.0)
        for unit, name in UNITS.items()
    ]
    return ModbusBus(slaves, speech="rtu", turnaround_s=_TURNAROUND_S)
