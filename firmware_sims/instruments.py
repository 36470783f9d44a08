"""What each kind of field device measures in a simulated base, and how well.

A kind is a list of channels: the payload's key, what it reads from the world, the step that the
maker's data sheet gives as resolution, and the scatter of single readings.  On top of that each
piece has an offset of its own, within the accuracy that its kind is sold with.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from firmware_sims import root_zone
from firmware_sims.sample import Sample
from firmware_sims.world import HouseNow, World


@dataclass(frozen=True, slots=True)
class Mounting:
    """Where a device hangs: *house* is empty outdoors, *zone* counts root zones from 1."""

    house: str = ""
    zone: int = 1


Read = Callable[[World, Mounting], float]


@dataclass(frozen=True, slots=True)
class Channel:
    """One value of a device.

    *key* is ``quantity`` or ``quantity.channel``.  *scatter* is the standard deviation of one
    reading, *offset* the spread of the pieces' own errors; *relative* turns both into shares of the
    reading.  Values are cut at *low* and *high*, as the device's own software does.
    """

    key: str
    read: Read
    resolution: float
    scatter: float = 0.0
    offset: float = 0.0
    relative: bool = False
    low: float = -math.inf
    high: float = math.inf

    @property
    def quantity(self) -> str:
        """The quantity that the key names."""
        return self.key.partition(".")[0]


@dataclass
class Instrument:
    """One piece of equipment; the same seed and code make the same piece with the same scatter."""

    code: str
    channels: tuple[Channel, ...]
    mounting: Mounting
    seed: int
    _random: random.Random = field(init=False, repr=False)
    _offsets: Mapping[str, float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(f"{self.seed}/{self.code}")
        self._offsets = {
            channel.key: channel.offset * self._random.uniform(-1.0, 1.0)
            for channel in self.channels
        }

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys it publishes."""
        return tuple(channel.key for channel in self.channels)

    def measure(self, world: World, at_us: int) -> Sample:
        """Return what it reads of *world*, stamped *at_us*."""
        values = {channel.key: self._reading(channel, world) for channel in self.channels}
        return Sample(at_us, at_us, values)

    def _reading(self, channel: Channel, world: World) -> float:
        true = channel.read(world, self.mounting)
        error = self._offsets[channel.key]
        if channel.scatter:
            error += self._random.gauss(0.0, channel.scatter)
        value = true * (1.0 + error) if channel.relative else true + error
        steps = round(max(channel.low, min(channel.high, value)) / channel.resolution)
        return round(steps * channel.resolution, 6)


def _house(world: World, mounting: Mounting) -> HouseNow:
    return world.houses[mounting.house]


def _zone(world: World, mounting: Mounting) -> root_zone.RootZone:
    return _house(world, mounting).zones[mounting.zone - 1]


def _moisture(world: World, mounting: Mounting) -> float:
    medium = _house(world, mounting).plan.medium
    return 100.0 * root_zone.water_content(medium, _zone(world, mounting))


def _bulk_ec(world: World, mounting: Mounting) -> float:
    return root_zone.bulk_ec(_house(world, mounting).plan.medium, _zone(world, mounting))


def _valve(house: int) -> Read:
    return lambda world, _: float(world.unit_state.open_valve == house)


_AIR = (
    Channel("air_temperature", lambda w, m: _house(w, m).state.air_c, 0.1, 0.04, 0.25),
    Channel(
        "relative_humidity",
        lambda w, m: _house(w, m).state.relative_humidity,
        0.1,
        0.25,
        1.5,
        low=0.0,
        high=100.0,
    ),
)
_CO2 = Channel("co2", lambda w, m: _house(w, m).state.co2_ppm, 1.0, 4.0, 25.0, low=0.0)
_PPFD = Channel("ppfd", lambda w, m: _house(w, m).state.ppfd, 1.0, 0.6, 0.0, low=0.0)
_LEAF = Channel("leaf_temperature", lambda w, m: _house(w, m).state.leaf_c, 0.1, 0.06, 0.3)
_LUX = Channel(
    "illuminance",
    lambda w, m: _house(w, m).state.illuminance_lx,
    10.0,
    0.01,
    0.04,
    relative=True,
    low=0.0,
)
_PROBE = (
    Channel("soil_moisture", _moisture, 0.1, 0.08, 1.2, low=0.0, high=100.0),
    Channel("soil_temperature", lambda w, m: _zone(w, m).temperature_c, 0.1, 0.03, 0.3),
    Channel("soil_ec", _bulk_ec, 0.001, 0.006, 0.03, relative=True, low=0.0),
)
_ACTUATORS = (
    Channel("vent_position", lambda w, m: 100.0 * _house(w, m).controls.vent_position, 1.0),
    Channel("screen_position", lambda w, m: 100.0 * _house(w, m).controls.screen_position, 1.0),
)
_DRAIN = (
    Channel("drain_ec", lambda w, m: _house(w, m).drain_ec, 0.01, 0.01, 0.03, low=0.0),
    Channel("drain_ph", lambda w, m: _house(w, m).drain_ph, 0.01, 0.01, 0.06),
    Channel("drain_volume", lambda w, m: _house(w, m).drain_total_l, 1.0),
)

_TIP_MM = 0.2  # of the rain gauge's bucket

# Each kind of device -> its channels.  Keys are those of the base's site file.
_KINDS: Mapping[str, tuple[Channel, ...]] = {
    "air_sensor": _AIR,
    "climate_node": (*_AIR, _CO2, _PPFD, _LEAF),
    "climate_node_lux": (*_AIR, _CO2, _LUX),
    "substrate_probe": (
        *_PROBE,
        Channel("pore_water_ec", lambda w, m: _zone(w, m).ec, 0.01, 0.015, 0.06, low=0.0),
    ),
    "soil_probe": (
        *_PROBE,
        Channel("soil_ph", lambda w, m: _zone(w, m).ph, 0.1, 0.02, 0.15),
    ),
    "house_computer": (
        *_ACTUATORS,
        Channel("pipe_temperature", lambda w, m: _house(w, m).state.pipe_c, 0.1, 0.05, 0.3),
        Channel("temperature_setpoint", lambda w, m: _house(w, m).heating_set_point_c, 0.1),
        Channel("fan_state", lambda w, m: float(_house(w, m).controls.fans_on), 1.0),
    ),
    "quilt_controller": _ACTUATORS,
    "drain_meter": _DRAIN,
    "weather_station": (
        Channel("air_temperature", lambda w, m: w.weather.temperature_c, 0.1, 0.05, 0.2),
        Channel(
            "relative_humidity",
            lambda w, m: w.weather.relative_humidity,
            0.1,
            0.3,
            1.5,
            low=0.0,
            high=100.0,
        ),
        Channel(
            "global_radiation", lambda w, m: w.weather.global_radiation_w_m2, 1.0, 0.8, low=0.0
        ),
        Channel("wind_speed", lambda w, m: w.weather.wind_speed_m_s, 0.1, 0.12, low=0.0),
        Channel("wind_direction", lambda w, m: w.weather.wind_direction_deg, 1.0, high=359.0),
        Channel("rainfall", lambda w, m: _TIP_MM * math.floor(w.rain_total_mm / _TIP_MM), _TIP_MM),
        Channel("rain_detected", lambda w, m: float(w.weather.rain_mm_h > 0.0), 1.0),
        Channel("air_pressure", lambda w, m: w.weather.pressure_kpa, 0.01, 0.004, 0.03),
    ),
    "well_probe": (
        Channel("water_temperature", lambda w, m: w.unit.water_c, 0.1, 0.04, 0.3),
        Channel("water_ph", lambda w, m: w.unit.water_ph, 0.01, 0.01, 0.05),
        Channel("water_ec", lambda w, m: w.unit.water_ec, 0.001, 0.004, 0.02, low=0.0),
    ),
    "dust_monitor": (
        Channel("pm2_5", lambda w, m: w.weather.pm2_5_ug_m3, 1.0, 0.03, 0.06, relative=True),
        Channel("pm10", lambda w, m: w.weather.pm10_ug_m3, 1.0, 0.03, 0.06, relative=True),
    ),
}
_UNIT = (
    Channel("solution_ec", lambda w, m: w.unit_state.ec, 0.01, 0.012, 0.02, low=0.0),
    Channel("solution_ph", lambda w, m: w.unit_state.ph, 0.01, 0.012, 0.03),
    Channel("solution_temperature", lambda w, m: w.unit_state.temperature_c, 0.1, 0.03, 0.2),
    Channel("flow_rate", lambda w, m: w.unit_state.flow_l_min, 0.1, 0.004, relative=True),
    Channel("line_pressure", lambda w, m: w.unit_state.pressure_kpa, 1.0, 1.2, low=0.0),
    Channel("irrigation_volume", lambda w, m: w.unit_state.total_l, 1.0),
    Channel("pump_state", lambda w, m: float(w.unit_state.pump_runs), 1.0),
    Channel("tank_level.a", lambda w, m: 100.0 * w.unit_state.tank_a, 0.1, 0.05),
    Channel("tank_level.b", lambda w, m: 100.0 * w.unit_state.tank_b, 0.1, 0.05),
    Channel("tank_level.acid", lambda w, m: 100.0 * w.unit_state.tank_acid, 0.1, 0.05),
)
_FERTIGATION_UNIT = "fertigation_unit"
KINDS = frozenset((*_KINDS, _FERTIGATION_UNIT))
OUTDOOR_KINDS = frozenset(("weather_station", "dust_monitor", "well_probe", _FERTIGATION_UNIT))


def channels(kind: str, houses: Sequence[str]) -> tuple[Channel, ...]:
    """Return what a device of *kind* measures at a base with these *houses*, in valve order."""
    if kind != _FERTIGATION_UNIT:
        return _KINDS[kind]
    valves = (Channel(f"valve_state.{house}", _valve(i), 1.0) for i, house in enumerate(houses))
    return (*_UNIT, *valves)
