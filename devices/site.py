"""Sites as one tree, and where in it a sensor stands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class SiteKind(StrEnum):
    """Levels of the tree, outermost first; a site stands under one of a level before its own."""

    CITY = "city"
    COUNTY = "county"
    TOWNSHIP = "township"
    VILLAGE = "village"
    BASE = "base"
    GREENHOUSE = "greenhouse"
    ZONE = "zone"


class Placement(StrEnum):
    """Where a sensor stands; limits depend on it (ambient-air limits hold outdoors only)."""

    INSIDE = "inside"
    OUTDOOR = "outdoor"
    PERIMETER = "perimeter"
    INTAKE_WATER = "intake_water"
    DRAIN_WATER = "drain_water"
    ROOT_ZONE = "root_zone"


class Medium(StrEnum):
    """What is looked at; soil stands for substrate too."""

    AIR = "air"
    SOIL = "soil"
    WATER = "water"
    FERTIGATION = "fertigation"
    WEATHER = "weather"


@dataclass(frozen=True, slots=True)
class Site:
    """A node of the tree; *timezone*, *latitude*, *longitude* and *altitude_m* hold for all below.

    *timezone* is an IANA name; natural days of everything at the site follow it.  *parent* is the
    code of the site above, None at the root.  *area_m2* is the growing area, where it is known.
    """

    code: str
    kind: SiteKind
    name_zh: str
    name_en: str
    parent: str | None
    timezone: str = "Asia/Shanghai"
    latitude: float | None = None
    longitude: float | None = None
    altitude_m: float | None = None
    area_m2: float | None = None
    crop: str | None = None
