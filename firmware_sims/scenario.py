"""Scenarios: a base, its devices and what happens to them, as one YAML file.

`read_scenario` is pure: text in, `Scenario` out, or a `DocumentError` with every mistake and its
place.  Times in the file count from the moment at which the scenario is started live; those before
it (``-6h``) lie in the history that a fleet may send first.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from devices.document import Document, Path, load, nearest, validate
from devices.duration import parse_duration_s
from devices.errors import DocumentError, Mistake
from firmware_sims import climate, faults, instruments, root_zone
from firmware_sims.control import SetPoints
from firmware_sims.faults import Chain, Fault, Window
from firmware_sims.instruments import Instrument, Mounting
from firmware_sims.weather import Climate, WeatherEvent, WeatherEventKind
from firmware_sims.world import Breakdown, EquipmentFailure, HousePlan, IrrigationPlan, Plan


def _duration(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError("a duration with its unit, such as 10s, 5min, 1h or 2d")
    seconds = parse_duration_s(value)
    if seconds <= 0:
        raise ValueError("a duration longer than nothing")
    return seconds


def _moment(value: object) -> float:
    if value == 0 and not isinstance(value, bool):
        return 0.0
    if not isinstance(value, str):
        raise ValueError("a time from the start with its unit, such as 10min or -6h, or 0")
    sign, text = (-1.0, value[1:]) if value.startswith("-") else (1.0, value)
    return sign * parse_duration_s(text)


def _code(value: str) -> str:
    if not value or set(value) & set("+#/. "):
        raise ValueError("a code as in the site file: one level of a topic")
    return value


Code = Annotated[str, AfterValidator(_code)]
Duration = Annotated[float, BeforeValidator(_duration)]
Moment = Annotated[float, BeforeValidator(_moment)]
Share = Annotated[float, Field(gt=0, le=1)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class PlaceEntry(_Entry):
    """Where the base lies and what its years are like."""

    latitude: float = Field(ge=-66, le=66)
    longitude: float = Field(ge=-180, le=180)
    altitude_m: float = Field(default=0.0, ge=-450, le=5000)
    annual_mean_c: float = Field(default=13.3, ge=-20, le=35)
    annual_swing_c: float = Field(default=14.6, ge=0, le=35)


class SetPointEntry(_Entry):
    """What the climate computer of a house aims at; *co2* 0 is no injection."""

    heating_day: float = 18.0
    heating_night: float = 14.0
    ventilation: float = 25.0
    co2: float = Field(default=0.0, ge=0, le=2000)
    humidity: float = Field(default=78.0, ge=40, le=100)


class IrrigationEntry(_Entry):
    """When a house is watered: by sunlight, or when its soil has dried."""

    by: Literal["radiation", "moisture"] = "radiation"
    dose_l_m2: float = Field(default=0.2, gt=0, le=50)
    every_j_cm2: float = Field(default=90.0, gt=0)
    longest_gap: Duration = 3.5 * 3600
    below_share: Share = 0.75
    rate_l_m2_h: float = Field(default=5.0, gt=0, le=50)
    ec: float = Field(default=2.6, ge=0, le=10)
    ph: float = Field(default=5.8, ge=3, le=9)


class HouseEntry(_Entry):
    """One greenhouse; *site* is its code in the site file."""

    site: Code
    type: Literal["multi_span", "solar"]
    area_m2: float | None = Field(default=None, gt=0)
    leaf_area_index: float = Field(default=3.0, ge=0.1, le=8)
    root_zones: int = Field(default=1, ge=1, le=50)
    set_points: SetPointEntry = SetPointEntry()
    irrigation: IrrigationEntry = IrrigationEntry()


class DeviceEntry(_Entry):
    """One device; *house* is its site unless it says otherwise, *zone* its root zone there."""

    code: Code
    site: Code
    kind: str
    interval: Duration
    house: Code | None = None
    zone: int = Field(default=1, ge=1)


class WeatherEntry(_Entry):
    """What a day brings; *day* 0 is the solar day of the start, a frost night ends on its day."""

    event: Annotated[WeatherEventKind, Field(strict=False)]
    day: int = 0
    amount: float | None = None


class BreakdownEntry(_Entry):
    """Equipment of a house, or the pump of the base, that fails for a while."""

    failure: Annotated[EquipmentFailure, Field(strict=False)]
    house: Code | None = None
    at: Moment
    lasts: Duration


FaultKind = Literal[
    "dropout",
    "stuck",
    "spike",
    "drift",
    "noise",
    "sensor_null",
    "wrong_clock",
    "reboot",
    "duplicate",
    "out_of_order",
    "power_cut",
    "link_down",
]


class FaultEntry(_Entry):
    """Something wrong with a device, or with all devices of *site*; without *lasts* it stays."""

    fault: FaultKind
    device: Code | None = None
    site: Code | None = None
    keys: list[str] = []
    at: Moment
    lasts: Duration | None = None
    amount: float | None = None
    probability: Share | None = None
    per_hour: float | None = None
    deviation: float | None = Field(default=None, gt=0)
    offset: Moment | None = None
    drift_s_per_day: float | None = None
    depth: int | None = Field(default=None, ge=1, le=100)
    down: Duration | None = None
    counters: list[str] = []


class ScenarioDocument(_Entry):
    """The whole file, as it is written; *based_on* names a shipped scenario that has the base."""

    version: Literal[1]
    name: str = Field(min_length=1)
    seed: int = Field(ge=0)
    based_on: str | None = None
    place: PlaceEntry | None = None
    houses: list[HouseEntry] = []
    devices: list[DeviceEntry] = []
    weather: list[WeatherEntry] = []
    breakdowns: list[BreakdownEntry] = []
    faults: list[FaultEntry] = []


# Per kind of fault: what it must be given, and what it may be given beside device, site, at, lasts.
_NEEDS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "dropout": (frozenset(), frozenset(("keys", "probability"))),
    "stuck": (frozenset(), frozenset(("keys",))),
    "spike": (frozenset(("amount",)), frozenset(("keys", "probability"))),
    "drift": (frozenset(("keys", "per_hour")), frozenset()),
    "noise": (frozenset(("deviation",)), frozenset(("keys",))),
    "sensor_null": (frozenset(), frozenset(("keys",))),
    "wrong_clock": (frozenset(), frozenset(("offset", "drift_s_per_day"))),
    "reboot": (frozenset(), frozenset(("down", "counters"))),
    "duplicate": (frozenset(), frozenset(("probability",))),
    "out_of_order": (frozenset(), frozenset(("probability", "depth"))),
    "power_cut": (frozenset(("lasts",)), frozenset()),
    "link_down": (frozenset(("lasts",)), frozenset()),
}
_SPECIAL = frozenset().union(*(needs | may for needs, may in _NEEDS.values())) - {"lasts"}
_NEEDS_AMOUNT = frozenset(
    (
        WeatherEventKind.FROST_NIGHT,
        WeatherEventKind.HEAT_DAY,
        WeatherEventKind.RAIN_DAY,
        WeatherEventKind.GALE_DAY,
    )
)
_FOLDER = files("firmware_sims") / "scenarios"
_DEFAULT_RESYNC_S = 120.0
_DEFAULT_DOWN_S = 20.0


@dataclass(frozen=True, slots=True)
class Outage:
    """A stretch in which a device has no power, or power but no network."""

    window: Window
    without_power: bool


@dataclass(frozen=True)
class Scenario:
    """A checked scenario.  What it says in times from the start, it answers for a given start."""

    name: str
    seed: int
    place: PlaceEntry
    houses: tuple[HouseEntry, ...]
    devices: tuple[DeviceEntry, ...]
    weather: tuple[WeatherEntry, ...] = ()
    breakdowns: tuple[BreakdownEntry, ...] = ()
    happenings: tuple[FaultEntry, ...] = ()

    @cached_property
    def published_keys(self) -> dict[str, tuple[str, ...]]:
        """Device code -> the keys of its payload."""
        return {device.code: self.instrument(device).keys for device in self.devices}

    @cached_property
    def _house_codes(self) -> tuple[str, ...]:
        return tuple(house.site for house in self.houses)

    def plan(self, start_us: int) -> Plan:
        """Return what a world of this scenario is made of when it starts at *start_us*."""
        place = self._climate
        today = place.solar_day(start_us)
        return Plan(
            seed=self.seed,
            climate=place,
            houses=tuple(_house_plan(house, place) for house in self.houses),
            weather_events=tuple(
                WeatherEvent(entry.event, today + entry.day, entry.amount or 0.0)
                for entry in self.weather
            ),
            breakdowns=tuple(
                Breakdown(
                    entry.failure,
                    entry.house,
                    start_us + round(entry.at * 1e6),
                    start_us + round((entry.at + entry.lasts) * 1e6),
                )
                for entry in self.breakdowns
            ),
        )

    def instrument(self, device: DeviceEntry) -> Instrument:
        """Return the piece of equipment that *device* is."""
        house = "" if device.kind in instruments.OUTDOOR_KINDS else device.house or device.site
        return Instrument(
            device.code,
            instruments.channels(device.kind, self._house_codes),
            Mounting(house, device.zone),
            self.seed,
        )

    def phase_us(self, device: DeviceEntry) -> int:
        """Return how far into each interval the device measures: it was once switched on."""
        span_ms = round(device.interval * 1000)
        return self._number(device.code, "phase") % span_ms * 1000

    def faults(self, device: DeviceEntry, start_us: int) -> Chain:
        """Return what happens to the device's readings, in the file's order."""
        return Chain(
            [
                fault
                for index, entry in enumerate(self.happenings)
                if _meets(entry, device)
                and (fault := self._fault(entry, start_us, self._number(device.code, str(index))))
            ]
        )

    def outages(self, device: DeviceEntry, start_us: int) -> tuple[Outage, ...]:
        """Return when the device is without power or without network, a reboot's pause included."""
        return tuple(
            Outage(_window(entry, start_us), entry.fault != "link_down")
            for entry in self.happenings
            if _meets(entry, device) and entry.fault in ("power_cut", "link_down", "reboot")
        )

    @property
    def _climate(self) -> Climate:
        place = self.place
        return Climate(
            place.latitude,
            place.longitude,
            place.altitude_m,
            place.annual_mean_c,
            place.annual_swing_c,
        )

    def _number(self, *words: str) -> int:
        return zlib.crc32("/".join((str(self.seed), *words)).encode())

    def _fault(self, entry: FaultEntry, start_us: int, seed: int) -> Fault | None:
        """Return the fault in the stream; None for what happens to power and network."""
        window, keys = _window(entry, start_us), frozenset(entry.keys)
        match entry.fault:
            case "dropout":
                return faults.Dropout(window, keys, entry.probability or 1.0, seed)
            case "stuck":
                return faults.Stuck(window, keys)
            case "spike":
                return faults.Spike(
                    window, keys, entry.amount or 0.0, entry.probability or 0.02, seed
                )
            case "drift":
                return faults.Drift(window, keys, entry.per_hour or 0.0)
            case "noise":
                return faults.Noise(window, keys, entry.deviation or 0.0, seed)
            case "sensor_null":
                return faults.SensorNull(window, keys)
            case "wrong_clock":
                return faults.WrongClock(window, entry.offset or 0.0, entry.drift_s_per_day or 0.0)
            case "reboot":
                lasts = entry.lasts or _DEFAULT_RESYNC_S
                until_us = window.from_us + round(lasts * 1e6)
                down_s = entry.down or _DEFAULT_DOWN_S
                counters = frozenset(entry.counters)
                return faults.Reboot(Window(window.from_us, until_us), down_s, counters)
            case "duplicate":
                return faults.Duplicate(window, entry.probability or 0.1, seed)
            case "out_of_order":
                return faults.OutOfOrder(window, entry.probability or 0.2, entry.depth or 3, seed)
            case "power_cut" | "link_down":
                return None


def read_scenario(text: str, file: str) -> Scenario:
    """Check *text*; *file* is only used to name places.  Raises `DocumentError`.

    Reads nothing but a shipped scenario that the text is based on.
    """
    document = load(text, file)
    entry = validate(document, ScenarioDocument)
    mistakes: list[Mistake] = []
    base = _base_of(document, entry, mistakes)
    if base is None:
        raise DocumentError(mistakes)
    scenario = replace(
        base,
        name=entry.name,
        seed=entry.seed,
        weather=tuple(entry.weather),
        breakdowns=tuple(entry.breakdowns),
        happenings=tuple(entry.faults),
    )
    mistakes += _Check(document, entry, scenario).mistakes()
    if mistakes:
        raise DocumentError(mistakes)
    return scenario


def shipped_names() -> list[str]:
    """Return the names of the scenarios of this package."""
    names = (one.name for one in _FOLDER.iterdir())
    return sorted(
        name.removesuffix(".yaml")
        for name in names
        if name.endswith(".yaml") and not name.endswith(".site.yaml")
    )


def shipped(name: str) -> Scenario:
    """Return the scenario *name* of this package (``small-base``)."""
    return read_scenario(_shipped_text(f"{name}.yaml"), f"{name}.yaml")


def shipped_site_file(name: str) -> str:
    """Return the text of the site file that belongs to the base *name* (``small-base``)."""
    return _shipped_text(f"{name}.site.yaml")


def _shipped_text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _base_of(
    document: Document, entry: ScenarioDocument, mistakes: list[Mistake]
) -> Scenario | None:
    """Return a scenario with the base of *entry* and nothing happening at it."""
    own = entry.model_fields_set & {"place", "houses", "devices"}
    if entry.based_on is None:
        missing = sorted({"place", "houses", "devices"} - own)
        mistakes += [document.mistake((key,), "nothing", f"{key}, or based_on") for key in missing]
        if entry.place is None:
            return None
        return Scenario("", 0, entry.place, tuple(entry.houses), tuple(entry.devices))
    expected = "nothing here: based_on brings them"
    mistakes += [document.mistake((key,), key, expected) for key in sorted(own)]
    known = shipped_names()
    if entry.based_on not in known:
        hint = nearest(entry.based_on, known)
        expected = "one of " + ", ".join(known)
        mistakes.append(document.mistake(("based_on",), entry.based_on, expected, hint))
        return None
    return shipped(entry.based_on)


class _Check:
    """What the parts of a scenario say about each other; a base it stands on is sound already."""

    def __init__(self, document: Document, entry: ScenarioDocument, scenario: Scenario) -> None:
        self._document = document
        self._entry = entry
        self._scenario = scenario
        self._found: list[Mistake] = []

    def mistakes(self) -> list[Mistake]:
        self._check_codes()
        for index, device in enumerate(self._entry.devices):
            self._check_device(device, ("devices", index))
        for index, weather in enumerate(self._entry.weather):
            if weather.event in _NEEDS_AMOUNT and weather.amount is None:
                self._wrong(("weather", index, "amount"), "nothing", f"amount of {weather.event}")
        for index, breakdown in enumerate(self._entry.breakdowns):
            self._check_breakdown(breakdown, ("breakdowns", index))
        for index, fault in enumerate(self._entry.faults):
            self._check_fault(fault, ("faults", index))
        return self._found

    def _wrong(self, path: Path, got: object, expected: str, hint: str = "") -> None:
        self._found.append(self._document.mistake(path, got, expected, hint))

    def _check_codes(self) -> None:
        for section, key in (("houses", "site"), ("devices", "code")):
            seen: set[str] = set()
            for index, entry in enumerate(getattr(self._entry, section)):
                code = getattr(entry, key)
                if code in seen:
                    self._wrong((section, index, key), code, "a code that stands once")
                seen.add(code)

    def _check_device(self, device: DeviceEntry, path: Path) -> None:
        if device.kind not in instruments.KINDS:
            kinds = sorted(instruments.KINDS)
            hint = nearest(device.kind, kinds)
            self._wrong((*path, "kind"), device.kind, "one of " + ", ".join(kinds), hint)
            return
        if device.kind in instruments.OUTDOOR_KINDS:
            return
        houses = {house.site: house for house in self._entry.houses}
        code = device.house or device.site
        if code not in houses:
            key = "house" if device.house else "site"
            self._wrong((*path, key), code, "a house above", nearest(code, houses))
        elif device.zone > houses[code].root_zones:
            most = houses[code].root_zones
            self._wrong((*path, "zone"), device.zone, f"a root zone of {code}: 1 to {most}")

    def _check_breakdown(self, entry: BreakdownEntry, path: Path) -> None:
        houses = [house.site for house in self._scenario.houses]
        if entry.failure is EquipmentFailure.PUMP:
            if entry.house is not None:
                self._wrong((*path, "house"), entry.house, "no house: the pump serves them all")
        elif entry.house not in houses:
            hint = nearest(entry.house or "", houses)
            self._wrong((*path, "house"), entry.house or "nothing", "a house above", hint)

    def _check_fault(self, entry: FaultEntry, path: Path) -> None:
        needs, may = _NEEDS[entry.fault]
        given = entry.model_fields_set
        for key in sorted(needs - given):
            self._wrong((*path, key), "nothing", f"{key}, which {entry.fault} needs")
        for key in sorted((given & _SPECIAL) - needs - may):
            known = ", ".join(sorted(needs | may)) or "nothing more"
            self._wrong((*path, key), key, f"what {entry.fault} takes: {known}")
        if (entry.device is None) == (entry.site is None):
            self._wrong(path, "both or neither", "either device or site")
            return
        hit = [device for device in self._scenario.devices if _meets(entry, device)]
        if not hit:
            key = "device" if entry.device else "site"
            names = [getattr(d, "code" if entry.device else "site") for d in self._scenario.devices]
            got = entry.device or entry.site or ""
            self._wrong((*path, key), got, f"the {key} of a device", nearest(got, names))
        elif entry.device and hit[0].kind in instruments.KINDS:
            self._check_keys(entry, hit[0], path)

    def _check_keys(self, entry: FaultEntry, device: DeviceEntry, path: Path) -> None:
        houses = [house.site for house in self._scenario.houses]
        known = [channel.key for channel in instruments.channels(device.kind, houses)]
        for name in ("keys", "counters"):
            for index, key in enumerate(getattr(entry, name)):
                if key not in known:
                    expected = f"a key of {device.code}: " + ", ".join(known)
                    self._wrong((*path, name, index), key, expected, nearest(key, known))


def _meets(entry: FaultEntry, device: DeviceEntry) -> bool:
    return entry.device == device.code if entry.device else entry.site == device.site


def _window(entry: FaultEntry, start_us: int) -> Window:
    from_us = start_us + round(entry.at * 1e6)
    lasts = entry.lasts
    if entry.fault == "reboot":
        lasts = entry.down or _DEFAULT_DOWN_S
    return Window(from_us, None if lasts is None else from_us + round(lasts * 1e6))


def _house_plan(entry: HouseEntry, place: Climate) -> HousePlan:
    solar = entry.type == "solar"
    house = climate.solar_greenhouse(place) if solar else climate.multi_span(place)
    house = climate.resized(house, entry.area_m2 or house.floor_area_m2, entry.leaf_area_index)
    goals, water = entry.set_points, entry.irrigation
    return HousePlan(
        code=entry.site,
        house=house,
        set_points=SetPoints(
            goals.heating_day, goals.heating_night, goals.ventilation, goals.co2, goals.humidity
        ),
        medium=root_zone.SOIL_BED if solar else root_zone.SLAB,
        irrigation=IrrigationPlan(
            by_radiation=water.by == "radiation",
            dose_l_m2=water.dose_l_m2,
            every_j_cm2=water.every_j_cm2,
            longest_gap_h=water.longest_gap / 3600.0,
            below_share=water.below_share,
            rate_l_m2_h=water.rate_l_m2_h,
            ec=water.ec,
            ph=water.ph,
        ),
        zones=entry.root_zones,
    )
