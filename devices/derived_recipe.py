"""What can be derived: each formula with its version, source, inputs and parameters, in one table.

A recipe says which quantities go in and which comes out; with the place and the intervals of real
series it becomes a `Follower`.  A recipe whose numbers would come out otherwise gets a new version,
and history is made anew with it (``greenhouse derive``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from devices import derived
from devices.derived import FORMULAS
from devices.derived_series import (
    ENOUGH,
    HOLD_INTERVALS,
    Cumulative,
    Follower,
    Increase,
    Instant,
    Irrigations,
    Part,
    Period,
    Reducer,
    Span,
)
from devices.natural_day import PeriodLength, Periods, midnight_us, sun_up
from devices.quantity import QUANTITIES
from devices.running_total import CounterRule

Value = float | str
INCREASE_OF: Mapping[str, str] = MappingProxyType({
    "irrigation_volume": "irrigation_increase",
    "drain_volume": "drain_increase",
    "rainfall": "rainfall_increase",
    "pulse_count": "pulse_increase",
    "energy_consumption": "energy_increase",
})  # fmt: skip
_DAY_S = 86400.0
_HOUR_S = 3600.0
_M2_PER_MU = 2000.0 / 3.0


@dataclass(frozen=True, slots=True)
class Slot:
    """One input: the argument's name and the quantities that fit it."""

    name: str
    quantities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number between *low* and *high*, one of *words*, or a date; needed when *default* is None.

    *of_site* names the field of the site that it is taken from where the file does not give it.
    """

    default: Value | None = None
    low: float = -math.inf
    high: float = math.inf
    words: tuple[str, ...] = ()
    is_date: bool = False
    of_site: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a recipe is used: per input its quantity and expected interval, what comes out, and
    the time zone and place of the site.
    """

    quantities: tuple[str, ...]
    intervals_s: tuple[float, ...]
    quantity: str
    parameters: Mapping[str, Value]
    zone: str
    latitude: float | None = None
    longitude: float | None = None

    @property
    def hold_us(self) -> tuple[int, ...]:
        """How long a reading of each input stands."""
        return tuple(round(HOLD_INTERVALS * one * 1e6) for one in self.intervals_s)

    @property
    def limits(self) -> tuple[float, float]:
        """What is physically possible of the result."""
        quantity = QUANTITIES[self.quantity]
        return quantity.low, quantity.high

    def number(self, name: str) -> float:
        """Return the parameter *name* as a number."""
        return float(self.parameters[name])


@dataclass(frozen=True, slots=True)
class Recipe:
    """One formula.  *outputs* are the quantities that come out, by that of the first input where
    there are several.  *interval_s* is how often a value comes; 0 is as often as the slowest input.
    """

    name: str
    version: int
    source: str
    inputs: tuple[Slot, ...]
    outputs: Mapping[str, str]
    build: Callable[[Setting], Follower]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    interval_s: float = 0.0
    needs_place: bool = False

    def quantity(self, first_input: str) -> str:
        """Return what comes out when the first input is of quantity *first_input*."""
        return self.outputs.get(first_input) or self.outputs["*"]


def _slots(*names: str) -> tuple[Slot, ...]:
    return tuple(Slot(name, (name,)) for name in names)


def _out(quantity: str) -> Mapping[str, str]:
    return {"*": quantity}


# -- instants


def _instant(compute: Callable[..., Any], setting: Setting) -> Instant:
    pace = int(np.argmax(setting.intervals_s))
    return Instant(compute, pace, setting.hold_us, *setting.limits)


def _with(compute: Callable[..., Any], *names: str) -> Callable[[Setting], Instant]:
    """Return a builder for *compute*, which takes the parameters *names* after its inputs."""

    def build(setting: Setting) -> Instant:
        values = [setting.parameters[name] for name in names]
        return _instant(lambda *inputs: compute(*inputs, *values), setting)

    return build


def _co2_at_altitude(co2: Any, temperature: Any, altitude_m: float) -> Any:
    pressure = derived.pressure_at_altitude(altitude_m)
    return derived.co2_mass_concentration(co2, temperature, pressure)


def _pore_ec_by_moisture(soil_ec: Any, soil_moisture: Any, soil_temperature: Any) -> Any:
    permittivity = derived.permittivity_from_moisture(soil_moisture)
    return derived.pore_water_ec(soil_ec, permittivity, soil_temperature)


_ALPHA = Parameter(0.020, 0.0, 0.05)
_ALTITUDE = Parameter(of_site="altitude_m", low=-450.0, high=9000.0)
_AREA = Parameter(of_site="area_m2", low=1e-6)
_EC = ("soil_ec", "water_ec", "solution_ec", "drain_ec")
_TEMPERATURES = ("soil_temperature", "water_temperature", "solution_temperature", "air_temperature")

_INSTANTS = (
    *(
        Recipe(f.quantity, f.version, f.source, _slots(*f.inputs), _out(f.quantity),
               partial(_instant, f.compute))
        for f in FORMULAS.values()
    ),
    Recipe("ppfd_from_radiation", 1, "Thimijan & Heins 1983, 2.02 µmol/J",
           _slots("global_radiation"), _out("ppfd"),
           _with(derived.ppfd_from_radiation, "transmission"),
           {"transmission": Parameter(1.0, 0.01, 1.0)}),
    Recipe("ppfd_from_illuminance", 1, "Thimijan & Heins 1983; sunlight and HPS, never LED",
           _slots("illuminance"), _out("ppfd"),
           _with(derived.ppfd_from_illuminance, "light"),
           {"light": Parameter("sunlight", words=("sunlight", "hps"))}),
    Recipe("ec_at_25", 1, "linear compensation, 2.0 %/K unless set (ISO 7888 for the term)",
           (Slot("ec", _EC), Slot("temperature", _TEMPERATURES)), {one: one for one in _EC},
           _with(derived.ec_at_25, "alpha"), {"alpha": _ALPHA}),
    Recipe("relative_soil_moisture", 1, "share of field capacity (田间持水量)",
           _slots("soil_moisture"), _out("relative_soil_moisture"),
           _with(derived.relative_soil_moisture, "field_capacity"),
           {"field_capacity": Parameter(low=1.0, high=100.0)}),
    Recipe("pore_water_ec", 1, "Hilhorst 2000",
           _slots("soil_ec", "soil_permittivity", "soil_temperature"), _out("pore_water_ec"),
           partial(_instant, derived.pore_water_ec)),
    Recipe("pore_water_ec_from_moisture", 1, "Hilhorst 2000 with permittivity after Topp 1980",
           _slots("soil_ec", "soil_moisture", "soil_temperature"), _out("pore_water_ec"),
           partial(_instant, _pore_ec_by_moisture)),
    Recipe("co2_mass_concentration", 1, "ideal gas; pressure by altitude, FAO-56 eq. 7",
           _slots("co2", "air_temperature"), _out("co2_mass_concentration"),
           _with(_co2_at_altitude, "altitude_m"), {"altitude_m": _ALTITUDE}),
)  # fmt: skip


# -- running totals


def _increase(setting: Setting) -> Increase:
    wraps_at = setting.parameters.get("wraps_at")
    most_per_s = setting.parameters.get("most_per_s")
    rule = CounterRule(
        None if wraps_at is None else float(wraps_at),
        None if most_per_s is None else float(most_per_s),
    )
    return Increase(rule, *setting.limits)


_INCREASE = Recipe(
    "increase", 1, "difference of a running total, across wraps and restarts",
    (Slot("total", tuple(INCREASE_OF)),), INCREASE_OF, _increase,
    {
        "wraps_at": Parameter(low=1e-9, optional=True),
        "most_per_s": Parameter(low=1e-9, optional=True),
    },
)  # fmt: skip


# -- periods


def _mean(part: Part) -> float:
    """Return the mean over time; the plain mean where no reading weighs anything."""
    if part.covered_s > 0:
        return float(np.average(part.value, weights=part.weight_s))
    return float(part.value.mean()) if len(part.value) else math.nan


def _light_integral(parts: Sequence[Part], whole: Span) -> float:
    return float((np.maximum(parts[0].value, 0.0) * parts[0].weight_s).sum()) / 1e6


def _mean_of_period(parts: Sequence[Part], whole: Span) -> float:
    return _mean(parts[0])


def _day_minus_night(
    zone: str, latitude: float, longitude: float, parts: Sequence[Part], whole: Span
) -> float:
    """Return the mean while the sun is up minus that of the rest of the natural day."""
    rise_us, set_us = sun_up(whole.start_us, zone, latitude, longitude)
    part = parts[0]
    risen, not_set = part.from_us >= rise_us, part.from_us < set_us
    # Where the zone is far from the sun's own time, it sets before it rises in the natural day.
    is_day = risen & not_set if rise_us <= set_us else risen | not_set
    return _mean(part.take(is_day)) - _mean(part.take(~is_day))


def _degree_days(base: float, upper: float, parts: Sequence[Part], whole: Span) -> float:
    value = parts[0].measured
    return derived.degree_days_of_extremes(float(value.min()), float(value.max()), base, upper)


def _sum_ratio(parts: Sequence[Part], whole: Span) -> float:
    drained, given = (np.asarray([part.measured.sum()]) for part in parts)
    return float(derived.drain_fraction(drained, given)[0])


def _per_area(scale: float, parts: Sequence[Part], whole: Span) -> float:
    return float(parts[0].measured.sum()) * scale


def _dose(scale: float, parts: Sequence[Part], whole: Span) -> float:
    """Return grams per area: each amount of water with the concentration that held then, mg/L."""
    water, concentration = parts
    at_us = water.from_us[water.own]
    row = np.searchsorted(concentration.from_us, at_us, side="right") - 1
    grams = water.measured * concentration.value[np.maximum(row, 0)] / 1000.0
    return float(grams.sum()) * scale


def _air_quality(pollutant: str, length: PeriodLength, parts: Sequence[Part], whole: Span) -> float:
    if length is PeriodLength.HOUR:
        steps, value = derived.AIR_QUALITY_OF_AN_HOUR[pollutant], _mean(parts[0])
    else:
        steps = derived.AIR_QUALITY_OF_A_DAY[pollutant]
        value = _highest_of_eight_hours(parts[0], whole) if pollutant == "o3" else _mean(parts[0])
    if math.isnan(value):
        return math.nan
    return float(derived.air_quality_part(np.asarray([value]), steps)[0])


def _highest_of_eight_hours(part: Part, whole: Span) -> float:
    """Return the highest mean of eight hours on end, of which six at least were measured."""
    hour = ((part.from_us - whole.start_us) // 3_600_000_000).astype(np.int64)
    hours = int(hour.max(initial=0)) + 1
    weight = np.bincount(hour, part.weight_s, hours)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.bincount(hour, part.value * part.weight_s, hours) / weight
    mean[weight < ENOUGH * _HOUR_S] = np.nan
    best = math.nan
    for first in range(max(hours - 7, 1)):
        window = mean[first : first + 8]
        if np.count_nonzero(~np.isnan(window)) >= 6:
            best = float(np.nanmax([best, np.nanmean(window)]))
    return best


def _period(
    reduce: Callable[[Setting], Reducer],
    length: PeriodLength | None = PeriodLength.DAY,
    enough: float = ENOUGH,
) -> Callable[[Setting], Period]:
    """Return a builder; without *length* the parameter ``period`` says it."""

    def build(setting: Setting) -> Period:
        over = length or PeriodLength(str(setting.parameters["period"]))
        # The standard wants 45 minutes of an hour and 20 hours of a day.
        share = enough if over is PeriodLength.HOUR or length else 20.0 / 24.0
        zone = setting.zone
        return Period(reduce(setting), Periods(over, zone), setting.hold_us, *setting.limits, share)

    return build


def _plain(reducer: Reducer) -> Callable[[Setting], Reducer]:
    return lambda setting: reducer


def _day_and_night(setting: Setting) -> Reducer:
    assert setting.latitude is not None
    assert setting.longitude is not None
    return partial(_day_minus_night, setting.zone, setting.latitude, setting.longitude)


def _degrees(setting: Setting) -> Reducer:
    return partial(_degree_days, setting.number("base"), setting.number("upper"))


def _dosed(reducer: Callable[..., float], factor: float) -> Callable[[Setting], Period]:
    """Return a builder of what is given to an area in a natural day, or in each irrigation."""

    def build(setting: Setting) -> Period:
        reduce = partial(reducer, factor / setting.number("area_m2"))
        days = Periods(PeriodLength.DAY, setting.zone)
        if setting.parameters["period"] == "day":
            return Period(reduce, days, setting.hold_us, *setting.limits)
        pause_us = round(setting.number("pause_min") * 60e6)
        return Irrigations(reduce, days, setting.hold_us, *setting.limits, pause_us=pause_us)

    return build


def _air(setting: Setting) -> Reducer:
    length = PeriodLength(str(setting.parameters["period"]))
    return partial(_air_quality, setting.quantities[0], length)


def _cumulative(setting: Setting) -> Cumulative:
    since_us = midnight_us(date.fromisoformat(str(setting.parameters["since"])), setting.zone)
    return Cumulative(since_us, Periods(PeriodLength.DAY, setting.zone), *setting.limits)


_NUTRIENTS = ("nitrogen_concentration", "phosphorus_concentration", "potassium_concentration")
_WATER = Slot("irrigation_increase", ("irrigation_increase",))
_NUTRIENT = Slot("concentration", _NUTRIENTS)
_DOSE = {
    "area_m2": _AREA,
    "period": Parameter("day", words=("day", "irrigation")),
    "pause_min": Parameter(30.0, 1.0, 720.0),
}

_PERIODS = (
    Recipe("daily_light_integral", 1, "sum of PPFD over the natural day",
           _slots("ppfd"), _out("dli"), _period(_plain(_light_integral)), interval_s=_DAY_S),
    Recipe("average_daily_temperature", 1, "mean over time of the natural day",
           _slots("air_temperature"), _out("average_daily_temperature"),
           _period(_plain(_mean_of_period)), interval_s=_DAY_S),
    Recipe("day_night_difference", 1, "mean from sunrise to sunset minus mean of the night (DIF)",
           _slots("air_temperature"), _out("day_night_difference"),
           _period(_day_and_night), interval_s=_DAY_S, needs_place=True),
    Recipe("degree_days", 1, "mean of the day's extremes, cut at base and upper, above base",
           _slots("air_temperature"), _out("degree_days"), _period(_degrees),
           {"base": Parameter(10.0, -10.0, 30.0), "upper": Parameter(30.0, 5.0, 50.0)}, _DAY_S),
    Recipe("growing_degree_days", 1, "sum of degree days since a day",
           _slots("degree_days"), _out("growing_degree_days"), _cumulative,
           {"since": Parameter(is_date=True)}, _DAY_S),
    Recipe("drain_fraction", 1, "drained over given in the natural day",
           _slots("drain_increase", "irrigation_increase"), _out("drain_fraction"),
           _period(_plain(_sum_ratio)), interval_s=_DAY_S),
    Recipe("irrigation_depth", 1, "water given in the day or irrigation, over the area",
           (_WATER,), _out("irrigation_depth"), _dosed(_per_area, 1.0), _DOSE, _DAY_S),
    Recipe("irrigation_per_mu", 1, "water given in the day or irrigation, 1 mu = 2000/3 m²",
           (_WATER,), _out("irrigation_per_mu"),
           _dosed(_per_area, _M2_PER_MU / 1000.0), _DOSE, _DAY_S),
    Recipe("fertiliser_dose", 1, "sum of water times concentration, over the area",
           (_WATER, _NUTRIENT), _out("fertiliser_dose"), _dosed(_dose, 1.0), _DOSE, _DAY_S),
    Recipe("fertiliser_dose_per_mu", 1,
           "sum of water times concentration, 1 mu = 2000/3 m²",
           (_WATER, _NUTRIENT), _out("fertiliser_dose_per_mu"),
           _dosed(_dose, _M2_PER_MU / 1000.0), _DOSE, _DAY_S),
    Recipe("air_quality_index_part", 1, "HJ 633-2026, table 1; completeness as GB 3095-2026",
           (Slot("pollutant", tuple(derived.AIR_QUALITY_OF_A_DAY)),),
           _out("air_quality_index_part"), _period(_air, None),
           {"period": Parameter("hour", words=("hour", "day"))}),
)  # fmt: skip

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {recipe.name: recipe for recipe in (*_INSTANTS, _INCREASE, *_PERIODS)}
)


def interval_s(recipe: Recipe, parameters: Mapping[str, Value], inputs_s: Sequence[float]) -> float:
    """Return how often a value is to be expected."""
    if "period" in parameters:
        return _HOUR_S if parameters["period"] == PeriodLength.HOUR else _DAY_S
    return recipe.interval_s or max(inputs_s)
