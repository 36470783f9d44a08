"""Water and salt where the roots are: slabs of rock wool or a bed of soil.

Salt is counted as EC times litres (mS/cm·L per m² of floor): it mixes, drains and is taken up as
mass does, and at the concentrations of a nutrient solution EC is as good as proportional to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_DRAINS_IN_S = 900.0


@dataclass(frozen=True, slots=True)
class RootMedium:
    """*volume_l_m2* is litres of substrate or of rooted soil per m² of floor, shares are of it.

    Above *capacity* it drains; the crop slows down below *easy* and wilts at *wilting*.
    *short_cut* of each irrigation runs along the wall of the slab straight into the gutter.
    *uptake_ec* is the EC that a crop drinks at, *warms_in_s* how slowly it follows its
    surroundings, *ph_rise* what a litre taken up adds to the pH of ten litres of water: nitrate
    leaves hydroxide behind, which soil takes up and rock wool does not.
    """

    volume_l_m2: float
    capacity: float
    easy: float
    wilting: float
    short_cut: float
    uptake_ec: float
    warms_in_s: float
    ph_rise: float
    is_soil: bool


SLAB = RootMedium(
    volume_l_m2=12.0,
    capacity=0.70,
    easy=0.45,
    wilting=0.12,
    short_cut=0.12,
    uptake_ec=1.9,
    warms_in_s=12_000.0,
    ph_rise=0.10,
    is_soil=False,
)
SOIL_BED = RootMedium(
    volume_l_m2=300.0,
    capacity=0.30,
    easy=0.19,
    wilting=0.10,
    short_cut=0.0,
    uptake_ec=1.2,
    warms_in_s=30_000.0,
    ph_rise=0.0,
    is_soil=True,
)


@dataclass(frozen=True, slots=True)
class RootZone:
    """One place with a probe.  *salt* is mS/cm·L per m²; totals are litres per m² since the start.

    *drain_ec* and *drain_ph* belong to the last water that drained.
    """

    water_l_m2: float
    salt: float
    ph: float
    temperature_c: float
    drain_ec: float
    drain_ph: float
    irrigated_l_m2: float = 0.0
    drained_l_m2: float = 0.0
    taken_l_m2: float = 0.0
    salt_in: float = 0.0
    salt_drained: float = 0.0
    salt_taken: float = 0.0

    @property
    def ec(self) -> float:
        """Of the pore water, mS/cm at 25 °C."""
        return self.salt / self.water_l_m2


def filled(medium: RootMedium, ec: float, ph: float, temperature_c: float) -> RootZone:
    """Return a root zone a little below its capacity."""
    water = medium.volume_l_m2 * (medium.capacity - 0.03)
    return RootZone(water, water * ec, ph, temperature_c, drain_ec=ec, drain_ph=ph)


def water_content(medium: RootMedium, zone: RootZone) -> float:
    """Return m³ of water per m³ of substrate."""
    return zone.water_l_m2 / medium.volume_l_m2


def water_stress(medium: RootMedium, zone: RootZone) -> float:
    """Return 0 where the crop drinks freely to 1 where it wilts."""
    share = (water_content(medium, zone) - medium.wilting) / (medium.easy - medium.wilting)
    return max(0.0, min(1.0, 1.0 - share))


def bulk_ec(medium: RootMedium, zone: RootZone) -> float:
    """Return the EC that a probe sees in water and solids together (Hilhorst 2000), mS/cm.

    The permittivity belongs to the water content by the inverse of Topp's curve (1980).
    """
    theta = water_content(medium, zone)
    permittivity = 3.03 + 9.3 * theta + 146.0 * theta**2 - 76.7 * theta**3
    water = 80.3 - 0.37 * (zone.temperature_c - 20.0)
    return max(0.0, zone.ec * (permittivity - 4.1) / water)


def step(
    medium: RootMedium,
    zone: RootZone,
    dt_s: float,
    *,
    irrigation_l_m2: float,
    irrigation_ec: float,
    irrigation_ph: float,
    demand_l_m2: float,
    around_c: float,
) -> RootZone:
    """Return the zone after *dt_s* with that much irrigation, demand of the crop and warmth around.

    The crop gets what it asks for down to the wilting point; evaporation counts as demand.
    """
    short = irrigation_l_m2 * medium.short_cut
    soaked = irrigation_l_m2 - short
    water = zone.water_l_m2 + soaked
    salt = zone.salt + soaked * irrigation_ec
    ph = zone.ph + (irrigation_ph - zone.ph) * soaked / water
    excess = max(0.0, water - medium.capacity * medium.volume_l_m2)
    seeping = excess * (1.0 - math.exp(-dt_s / _DRAINS_IN_S))
    seeping_salt = seeping * salt / water
    water -= seeping
    salt -= seeping_salt
    taken = max(0.0, min(demand_l_m2, water - medium.wilting * medium.volume_l_m2))
    salt_taken = min(taken * medium.uptake_ec, 0.5 * salt)
    drained = seeping + short
    drained_salt = seeping_salt + short * irrigation_ec
    follow = 1.0 - math.exp(-dt_s / medium.warms_in_s)
    drain_ph = (seeping * ph + short * irrigation_ph) / drained if drained > 0.0 else zone.drain_ph
    return RootZone(
        water_l_m2=water - taken,
        salt=salt - salt_taken,
        ph=ph + medium.ph_rise * taken * 10.0 / water,
        temperature_c=zone.temperature_c + (around_c - zone.temperature_c) * follow,
        drain_ec=drained_salt / drained if drained > 0.0 else zone.drain_ec,
        drain_ph=drain_ph,
        irrigated_l_m2=zone.irrigated_l_m2 + irrigation_l_m2,
        drained_l_m2=zone.drained_l_m2 + drained,
        taken_l_m2=zone.taken_l_m2 + taken,
        salt_in=zone.salt_in + irrigation_l_m2 * irrigation_ec,
        salt_drained=zone.salt_drained + drained_salt,
        salt_taken=zone.salt_taken + salt_taken,
    )
