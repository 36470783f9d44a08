"""A fertigation unit on a Modbus line: its solution follows the set-points written into it.

Every quarter of an hour it waters the beds of a house for two minutes.  As it mixes, EC and pH
come nearer to what is set, as when fresh solution displaces the old one in the tank; a new value
is therefore not reached at once, which is what a real unit shows too.
"""

from __future__ import annotations

import math

from devices.profile import HOLDING, Profile
from devices.profile_library import shipped_profile
from firmware_sims.modbus_slave import SimulatedSlave, slave_of

PROFILE = "generic-fertigation-unit"
_EC, _PH, _DOSE_HIGH = 100, 101, 102  # registers of the set-points
_MIXING_S = 60.0
_CYCLE_S, _WATERING_S = 900.0, 120.0
_FLOW_L_S = 1.0
_COUNTED_L = 12_000.0
_DRAWN_BY_L = {"tank_level.a": 0.004, "tank_level.b": 0.004}  # % of a stock tank a litre takes
_FULL_AT = {"tank_level.a": 92.0, "tank_level.b": 88.0}
_REFILLED_AT = 20.0


class Mixer:
    """One unit from *begin_s* (seconds since 1970 UTC) on; the truth about it, by the key."""

    def __init__(self, begin_s: float, ec: float = 2.6, ph: float = 5.8) -> None:
        self._begin_s = self._at_s = begin_s
        self._ec = self._wanted_ec = ec
        self._ph = self._wanted_ph = ph

    def set(self, ec: float, ph: float) -> None:
        """Take what the set-points say now, mS/cm and pH."""
        self._wanted_ec, self._wanted_ph = ec, ph

    def __call__(self, key: str, at_s: float) -> float:
        """Return what *key* is at *at_s*, in the unit of its quantity."""
        if at_s > self._at_s:
            rest = math.exp((self._at_s - at_s) / _MIXING_S)
            self._ec = self._wanted_ec + (self._ec - self._wanted_ec) * rest
            self._ph = self._wanted_ph + (self._ph - self._wanted_ph) * rest
            self._at_s = at_s
        litres = self._litres(at_s)
        if key in _FULL_AT:
            usable = _FULL_AT[key] - _REFILLED_AT
            return _FULL_AT[key] - _DRAWN_BY_L[key] * litres % usable
        is_watering = at_s % _CYCLE_S < _WATERING_S
        return {
            "solution_ec": self._ec,
            "solution_ph": self._ph,
            "solution_temperature": 19.5 + 1.5 * math.sin(2 * math.pi * at_s / 86_400),
            "flow_rate": 60 * _FLOW_L_S * is_watering,
            "irrigation_volume": _COUNTED_L + litres,
            "line_pressure": 280.0 if is_watering else 310.0,
            "pump_state": float(is_watering),
            "valve_state.1": float(is_watering),
            "valve_state.2": 0.0,
        }[key]

    def _litres(self, at_s: float) -> float:
        """Return what was watered since the beginning."""
        return _FLOW_L_S * (_watered_s(at_s) - _watered_s(min(self._begin_s, at_s)))


def _watered_s(at_s: float) -> float:
    cycles, into_s = divmod(at_s, _CYCLE_S)
    return cycles * _WATERING_S + min(into_s, _WATERING_S)


def mixer_slave(unit: int, begin_s: float, refresh_s: float = 1.0) -> SimulatedSlave:
    """Return the unit as a device on a line; what is written into its set-points it obeys."""
    profile: Profile = shipped_profile(PROFILE)
    mixer = Mixer(begin_s)
    slave = slave_of(profile, mixer, unit, refresh_s=refresh_s)
    memory = slave.memory
    memory.set(HOLDING, _EC, 260)
    memory.set(HOLDING, _PH, 580)
    memory.set(HOLDING, _DOSE_HIGH, 0x42F0)  # 120 L as a float, high word first
    memory.set(HOLDING, _DOSE_HIGH + 1, 0)

    def obey(function: int, address: int, values: list[int]) -> None:
        (ec,), (ph,) = (memory.read(HOLDING, at, 1) or [0] for at in (_EC, _PH))
        mixer.set(ec / 100, ph / 100)

    slave.written = obey
    return slave
