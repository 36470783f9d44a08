"""Units at the edge: what a device sends is brought to the quantity's own unit by array arithmetic.

Pint knows the units and their dimensions; it is asked once, when a site file or a profile is
loaded, for the straight line between two units.  At run time that line is two numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pint import UnitRegistry


class UnitError(ValueError):
    """A unit that is unknown, or that measures something else than the quantity does."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """``value * scale + offset`` brings a device's number to the quantity's unit."""

    scale: float = 1.0
    offset: float = 0.0

    @property
    def is_identity(self) -> bool:
        """Whether nothing changes, not even the last bit."""
        return self.scale == 1.0 and self.offset == 0.0


# How the field writes units -> how pint reads them.  Names after the UCUM and UN/ECE codes.
_SPELLINGS = {
    "°C": "degC",
    "℃": "degC",
    "Cel": "degC",
    "C": "degC",
    "°F": "degF",
    "[degF]": "degF",
    "F": "degF",
    "K": "kelvin",
    "%": "percent",
    "%RH": "percent",
    "1": "dimensionless",
    "": "dimensionless",
    "pH": "dimensionless",
    "[pH]": "dimensionless",
    "ppm": "ppm",
    "[ppm]": "ppm",
    "umol/mol": "ppm",
    "µmol/mol": "ppm",
    "lux": "lux",
    "lx": "lux",
    "klx": "kilolux",
    "deg": "degree",
    "°": "degree",
    "NTU": "NTU",
    "µmol/m²/s": "umol/m**2/s",
    "umol/m2/s": "umol/m**2/s",
    "umol.m-2.s-1": "umol/m**2/s",
    "mol/m²/d": "mol/m**2/day",
    "mol.m-2.d-1": "mol/m**2/day",
    "W/m²": "W/m**2",
    "W/m2": "W/m**2",
    "W.m-2": "W/m**2",
    "J/cm²": "J/cm**2",
    "J/cm2": "J/cm**2",
    "MJ/m²": "MJ/m**2",
    "m³/m³": "m**3/m**3",
    "m3/m3": "m**3/m**3",
    "m3.m-3": "m**3/m**3",
    "mS/cm": "mS/cm",
    "mS.cm-1": "mS/cm",
    "µS/cm": "uS/cm",
    "uS/cm": "uS/cm",
    "uS.cm-1": "uS/cm",
    "dS/m": "dS/m",
    "dS.m-1": "dS/m",
    "S/m": "S/m",
    "µg/m³": "ug/m**3",
    "ug/m3": "ug/m**3",
    "ug.m-3": "ug/m**3",
    "mg/m³": "mg/m**3",
    "mg/m3": "mg/m**3",
    "g/m³": "g/m**3",
    "g/m3": "g/m**3",
    "g.m-3": "g/m**3",
    "m³": "m**3",
    "m3": "m**3",
    "m³/h": "m**3/hour",
    "m3/h": "m**3/hour",
    "L/h": "L/hour",
    "L/min": "L/minute",
    "L.min-1": "L/minute",
    "L/s": "L/s",
    "L/m²": "L/m**2",
    "L/m2": "L/m**2",
    "MPN/L": "1/L",
    "m³/mu": "m**3/chinese_mu",
    "kg/mu": "kg/chinese_mu",
    "mb": "mbar",
}
_EXPRESSION = re.compile(r"[\w°µμ%²³·./*^ \[\]-]{1,60}")
# What pint's expression parser lets through from Python's tokenizer and arithmetic.
_PARSER_ERRORS = (
    ValueError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    TypeError,
    TokenError,
)
_REGISTRY: list[UnitRegistry[Any]] = []


def _registry() -> UnitRegistry[Any]:
    """Build pint's registry at the first question; importing pint costs a quarter of a second."""
    if not _REGISTRY:
        from pint import UnitRegistry

        registry: UnitRegistry[Any] = UnitRegistry(autoconvert_offset_to_baseunit=True)
        registry.define("NTU = [turbidity]")
        registry.define("ppb = 1e-9")
        registry.define("chinese_mu = 2000 / 3 * meter ** 2")
        _REGISTRY.append(registry)
    return _REGISTRY[0]


@lru_cache(maxsize=1024)
def conversion(unit: str, target: str) -> Conversion:
    """Return the line that brings *unit* to *target*.

    Both are written as the field writes them (``°C``, ``uS/cm``, ``hPa``, ``lx``).  Raises
    `UnitError` naming the unknown unit or the two dimensions that do not agree.
    """
    if unit == target:
        return Conversion()
    source, goal = _parse(unit), _parse(target)
    registry = _registry()
    quantity = registry.Quantity
    if source.dimensionality != goal.dimensionality:
        raise UnitError(
            f"{unit} measures {source.dimensionality}, not {goal.dimensionality} like {target}"
        )
    at = [float(quantity(x, source).to(goal).magnitude) for x in (0.0, 100.0)]
    return Conversion(_clean((at[1] - at[0]) / 100.0), _clean(at[0]))


def _parse(unit: str) -> Any:
    from pint.errors import PintError

    text = _SPELLINGS.get(unit, unit)
    try:
        if not _EXPRESSION.fullmatch(text):
            raise ValueError("not a unit expression")
        return _registry().Unit(text)
    except (PintError, *_PARSER_ERRORS) as error:
        raise UnitError(f"unknown unit {unit!r}") from error


def _clean(number: float) -> float:
    """Round the noise off pint's float arithmetic so that 0.001 stays 0.001."""
    return float(f"{number:.15g}")
