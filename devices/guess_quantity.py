"""What a value may be, from what its device calls it and how large it is.

A guess saves typing and is never used without a person: it comes with its confidence, 0 to 1, and
the reason.  A name is cut into words (``soilTemp_1`` is soil, temp, 1); some words say what is
measured, some where, some the unit.  The value says whether the unit can be right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from devices.quantity import QUANTITIES
from devices.units import UnitError, conversion

SURE, LIKELY, POSSIBLE, DOUBTFUL = 0.9, 0.7, 0.5, 0.2


@dataclass(frozen=True, slots=True)
class GuessedValue:
    """One value of a device: its *key*, what it was, and what it may be.

    *quantity* and *unit* are empty where nothing is known; *scale* is what the sent number must be
    multiplied with to be in *unit*.
    """

    key: str
    value: float | None
    quantity: str = ""
    unit: str = ""
    channel: str = ""
    scale: float = 1.0
    confidence: float = 0.0
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Usual:
    """A unit that devices send, and between what a value in it usually lies."""

    unit: str
    low: float
    high: float
    scale: float = 1.0


# What is measured -> words for it.  Where several match, the one named first in this table wins.
_CONCEPTS: dict[str, tuple[str, ...]] = {
    "dew_point": ("dewpoint", "dew", "露点"),
    "co2": ("co2", "carbondioxide", "eco2", "二氧化碳"),
    "vapour_pressure_deficit": ("vpd", "水汽压差"),
    "ppfd": ("ppfd", "par", "photosynthetically", "光合"),
    "pm2_5": ("pm25", "pm2_5", "pm2"),
    "pm10": ("pm10",),
    "rssi": ("rssi", "dbm", "signal", "信号"),
    "battery": ("battery", "batt", "bat", "vbat", "batv", "vdd", "电池", "电量"),
    "wind_direction": ("winddirection", "winddir", "wdir", "风向"),
    "wind_speed": ("windspeed", "wspd", "wind", "风速"),
    "rain": ("rain", "rainfall", "precipitation", "precip", "雨量", "降雨"),
    "radiation": ("radiation", "irradiance", "solar", "ghi", "pyranometer", "辐射"),
    "illuminance": ("illuminance", "illumination", "lux", "light", "lx", "guangzhao", "光照"),
    "permittivity": ("permittivity", "dielectric", "介电"),
    "ec": ("ec", "conductivity", "conduct", "cond", "diandao", "电导率", "电导"),
    "ph": ("ph", "酸碱"),
    "dissolved_oxygen": ("do", "dissolvedoxygen", "溶解氧"),
    "turbidity": ("turbidity", "ntu", "浊度"),
    "moisture": ("moisture", "vwc", "swc", "moist", "shangqing", "含水率", "含水", "墒情", "水分"),
    "wetness": ("wetness", "leafwet", "湿润"),
    "pressure": ("pressure", "press", "baro", "barometer", "qiya", "气压", "压力"),
    "level": ("level", "depth", "yewei", "液位", "水位"),
    "flow": ("flow", "flowrate", "liuliang", "流量"),
    "noise": ("noise", "噪声"),
    "nh3": ("nh3", "ammonia", "氨"),
    "temperature": ("temperature", "temp", "tmp", "tempc", "tempf", "ta", "wendu", "wd", "温度"),
    "humidity": ("humidity", "humid", "hum", "rh", "shidu", "sd", "湿度"),
}
_SHORT: dict[str, str] = {"t": "temperature", "h": "humidity", "tc": "temperature"}
_PLACES: dict[str, tuple[str, ...]] = {
    "soil": (
        "soil",
        "substrate",
        "ground",
        "root",
        "slab",
        "earth",
        "turang",
        "土壤",
        "土",
        "基质",
    ),
    "leaf": ("leaf", "canopy", "叶"),
    "pipe": ("pipe", "heating", "加热"),
    "drain": ("drain", "drainage", "回液", "排液"),
    "solution": ("solution", "nutrient", "fertigation", "营养液", "肥"),
    "water": ("water", "pool", "pond", "intake", "水"),
    "line": ("line", "pump", "管路"),
}
_C = (_Usual("°C", -30, 55), _Usual("°F", 56, 130), _Usual("°C", 131, 550, 0.1))
_PERCENT = (_Usual("%", 1, 100), _Usual("m³/m³", 0, 1), _Usual("%", 101, 1000, 0.1))
_EC = (_Usual("mS/cm", 0, 20), _Usual("µS/cm", 20, 20_000))
_PH = (_Usual("pH", 2, 12), _Usual("pH", 12.01, 120, 0.1))
_PRESSURE = (_Usual("hPa", 600, 1100), _Usual("kPa", 60, 110), _Usual("Pa", 60_000, 110_000))
# (what, where) -> quantity and its usual units; where "" is no word for a place, or another one.
_MEANINGS: dict[tuple[str, str], tuple[str, tuple[_Usual, ...]]] = {
    ("dew_point", ""): ("dew_point", _C),
    ("co2", ""): ("co2", (_Usual("ppm", 250, 10_000),)),
    ("vapour_pressure_deficit", ""): (
        "vapour_pressure_deficit",
        (_Usual("kPa", 0, 8), _Usual("hPa", 8, 80)),
    ),
    ("ppfd", ""): ("ppfd", (_Usual("µmol/m²/s", 0, 2500),)),
    ("pm2_5", ""): ("pm2_5", (_Usual("µg/m³", 0, 1000),)),
    ("pm10", ""): ("pm10", (_Usual("µg/m³", 0, 2000),)),
    ("rssi", ""): ("signal_strength", (_Usual("dBm", -140, 0),)),
    ("battery", ""): (
        "battery_level",
        (_Usual("%", 20.01, 100), _Usual("V", 1, 20), _Usual("mV", 1000, 20_000)),
    ),
    ("wind_direction", ""): ("wind_direction", (_Usual("°", 0, 360),)),
    ("wind_speed", ""): ("wind_speed", (_Usual("m/s", 0, 40),)),
    ("rain", ""): ("rainfall", (_Usual("mm", 0, 100_000),)),
    ("radiation", ""): ("global_radiation", (_Usual("W/m²", 0, 1500),)),
    ("illuminance", ""): ("illuminance", (_Usual("lx", 0, 200_000),)),
    ("permittivity", ""): ("soil_permittivity", (_Usual("1", 1, 90),)),
    ("ec", ""): ("soil_ec", _EC),
    ("ec", "water"): ("water_ec", _EC),
    ("ec", "drain"): ("drain_ec", _EC),
    ("ec", "solution"): ("solution_ec", _EC),
    ("ph", ""): ("solution_ph", _PH),
    ("ph", "soil"): ("soil_ph", _PH),
    ("ph", "water"): ("water_ph", _PH),
    ("ph", "drain"): ("drain_ph", _PH),
    ("dissolved_oxygen", ""): ("dissolved_oxygen", (_Usual("mg/L", 0, 25),)),
    ("turbidity", ""): ("turbidity", (_Usual("NTU", 0, 5000),)),
    ("moisture", ""): ("soil_moisture", _PERCENT),
    ("wetness", ""): ("leaf_wetness", (_Usual("%", 0, 100),)),
    ("pressure", ""): ("air_pressure", _PRESSURE),
    ("pressure", "line"): ("line_pressure", (_Usual("kPa", 0, 2000), _Usual("bar", 0, 20))),
    ("pressure", "water"): ("line_pressure", (_Usual("kPa", 0, 2000), _Usual("bar", 0, 20))),
    ("level", ""): ("water_level", (_Usual("m", 0, 20), _Usual("cm", 20, 2000))),
    ("flow", ""): ("flow_rate", (_Usual("L/min", 0, 2000),)),
    ("noise", ""): ("noise", (_Usual("dB", 20, 130),)),
    ("nh3", ""): ("nh3", (_Usual("mg/m³", 0, 100),)),
    ("temperature", ""): ("air_temperature", _C),
    ("temperature", "soil"): ("soil_temperature", _C),
    ("temperature", "water"): ("water_temperature", _C),
    ("temperature", "leaf"): ("leaf_temperature", _C),
    ("temperature", "pipe"): ("pipe_temperature", (_Usual("°C", 0, 120),)),
    ("temperature", "solution"): ("solution_temperature", _C),
    ("humidity", ""): ("relative_humidity", _PERCENT[::2]),
    ("humidity", "soil"): ("soil_moisture", _PERCENT),
}
# Words for units; those of one letter only count behind another word.
_UNITS: dict[str, str] = {
    "cel": "°C", "celsius": "°C", "degc": "°C", "°c": "°C", "℃": "°C", "c": "°C", "tempc": "°C",
    "fahrenheit": "°F", "degf": "°F", "f": "°F", "tempf": "°F",
    "percent": "%", "pct": "%", "%": "%", "rh": "%",
    "ppm": "ppm", "lux": "lx", "lx": "lx", "klux": "klx", "klx": "klx",
    "hpa": "hPa", "mbar": "hPa", "kpa": "kPa", "pa": "Pa", "bar": "bar",
    "uscm": "µS/cm", "mscm": "mS/cm", "dsm": "dS/m", "us": "µS/cm",
    "mv": "mV", "volt": "V", "v": "V", "batv": "V", "vbat": "V", "dbm": "dBm",
    "ms": "m/s", "kmh": "km/h", "mm": "mm", "cm": "cm", "wm2": "W/m²",
}  # fmt: skip
_SPLIT = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+|[%℃°]+[CFcf]?|[^\W\d_a-zA-Z]+")
_WHOLE = re.compile(r"[^a-z0-9%°]")


def guess_value(key: str, value: float | None, context: Sequence[str] = ()) -> GuessedValue:
    """Return what the value *key* may be; *context* are other names beside it, nearest first.

    The context (topic, device) may say where it is measured, never what.
    """
    name, _, channel = key.partition(".")
    if name in QUANTITIES:
        unit = QUANTITIES[name].unit
        return GuessedValue(
            key, value, name, unit, _code(channel), 1.0, SURE, "called after the quantity"
        )
    words = _words(key)
    concept, named, is_short = _concept(key, words)
    if not concept:
        return GuessedValue(key, value, why="no word in its name is known")
    place, from_context = _place([*words, key], context)
    quantity, usual = _MEANINGS.get((concept, place)) or _MEANINGS[concept, ""]
    unit, scale, confidence, why = _unit(value, words, usual)
    if concept == "battery" and unit in ("V", "mV"):
        quantity = "battery_voltage"
    try:
        conversion(unit, QUANTITIES[quantity].unit)
    except UnitError:
        unit = QUANTITIES[quantity].unit
    reasons = [f"called {named!r}"]
    if place:
        reasons.append(f"beside {place!r}{' in the topic or the names around' * from_context}")
    if is_short:
        confidence = min(confidence, POSSIBLE)
        reasons.append("one letter alone says little")
    return GuessedValue(
        key, value, quantity, unit, _channel(words), scale, confidence, ", ".join([*reasons, why])
    )


def with_channels(values: Iterable[GuessedValue]) -> list[GuessedValue]:
    """Return *values* so that no two have both quantity and channel in common."""
    found: list[GuessedValue] = []
    taken: set[tuple[str, str]] = set()
    for one in values:
        channel, number = one.channel, 2
        while one.quantity and (one.quantity, channel) in taken:
            channel, number = str(number), number + 1
        taken.add((one.quantity, channel))
        found.append(replace(one, channel=channel))
    return found


def _words(key: str) -> list[str]:
    return [word.lower() for word in _SPLIT.findall(key[:200])]


def _concept(key: str, words: Sequence[str]) -> tuple[str, str, bool]:
    """Return what is measured, by which word, and whether that is a single letter."""
    joined = [*words, *(a + b for a, b in pairwise(words)), *_joined(key)]
    for concept, known in _CONCEPTS.items():
        for word in joined:
            if word in known or any(not one.isascii() and one in word for one in known):
                return concept, word, False
    for word in reversed(words):
        if word in _SHORT:
            return _SHORT[word], word, True
    return "", "", False


def _joined(key: str) -> list[str]:
    return [_WHOLE.sub("", part.lower()) for part in key[:200].split(".")]


def _place(words: Sequence[str], context: Sequence[str]) -> tuple[str, bool]:
    for is_context, names in ((False, words), (True, [w for c in context for w in _words(c)])):
        for word in names:
            for place, known in _PLACES.items():
                if word in known or any(not one.isascii() and one in word for one in known):
                    return place, is_context
    return "", False


def _unit(
    value: float | None, words: Sequence[str], usual: Sequence[_Usual]
) -> tuple[str, float, float, str]:
    """Return unit, scale, confidence and the reason of them."""
    told = [
        _UNITS[word] for at, word in enumerate(words) if word in _UNITS and (at or len(word) > 2)
    ]
    for unit in reversed(told):
        if any(unit == one.unit or _is_like(unit, one.unit) for one in usual):
            return unit, 1.0, SURE, f"its name says {unit}"
    if value is None:
        return usual[0].unit, 1.0, POSSIBLE, f"no value yet, usually in {usual[0].unit}"
    for one in usual:
        if one.low <= value <= one.high:
            if one.scale != 1.0:
                shown = f"{value * one.scale:g} {one.unit}"
                return one.unit, one.scale, POSSIBLE, f"{value:g} may be tenths: {shown}"
            return one.unit, 1.0, LIKELY, f"{value:g} is usual in {one.unit}"
    return usual[0].unit, 1.0, DOUBTFUL, f"{value:g} is not usual in {usual[0].unit}"


def _is_like(unit: str, other: str) -> bool:
    try:
        conversion(unit, other)
    except UnitError:
        return False
    return True


def _code(text: str) -> str:
    """Return *text* as a channel may be called."""
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:63]


def _channel(words: Sequence[str]) -> str:
    """Return the number at the end of a name, or behind a word; not that of co2 or pm10."""
    if len(words) > 1 and words[-1].isdecimal() and len(words[-1]) <= 3:
        before = "".join(words[-3:-1]) if words[-2].isdecimal() else words[-2]
        if before + words[-1] not in ("co2", "pm25", "pm10", "pm2", "nh3"):
            return words[-1]
    return ""
