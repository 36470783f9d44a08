"""One greenhouse as physics: heat, vapour and carbon dioxide per square metre of floor.

    sun ──▶ cover ──▶ canopy ──transpiration──▶ air ──vents, leaks──▶ outdoors
                  ├─▶ soil, wall (store heat) ◀──▶ air ◀── pipes
                  └─▶ cover ◀── condensation ── air

`exchange` says what flows at a moment, `step` lets it flow for a while; both are pure.  The cover
has no mass: what reaches its inside, latent heat of the water that condenses on it included, leaves
it outside in the same moment, and that balance gives its temperature.  The canopy has none either;
its balance is Penman's and Monteith's combination with the stomata of Stanghellini (1987), so the
heat that light brings is split between water and warm air without a remainder.  A screen stands
inside the cover and a quilt (保温被) of a solar greenhouse lies on it: two resistances in a row.

Coefficients are the round numbers of the greenhouse literature (Bot 1983, De Zwart 1996); the
houses they give are plausible, not a copy of one that stands somewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from firmware_sims import humid_air
from firmware_sims.humid_air import AIR_HEAT_J_M3_K, LATENT_HEAT_J_G
from firmware_sims.sun import Sun, beam_gain, sun_at
from firmware_sims.weather import Climate, Weather

_LONGEST_STEP_S = 15.0  # air with open vents turns over in about a minute
_PPFD_PER_W = 2.1  # µmol of photosynthetic light per J of sunlight
_LUX_PER_PPFD = 54.0  # sunlight only (Thimijan and Heins 1983)
_COMPENSATION_PPM = 55.0  # where a leaf takes no more than it gives
_CO2_MG_PER_PPM_M3 = 1.83  # at 20 °C and sea level
_BOUNDARY_S_M = 140.0  # resistance of the still air at a leaf


@dataclass(frozen=True, slots=True)
class House:
    """How a greenhouse is built.  Areas are per m² of floor, conductances W/m²K, heats J/m²K.

    *beam_tilt_deg* of the glazed roof is None where roofs face both ways and level ground is a good
    stand-in.  *screen_inside* tells a thermal screen from a quilt outside.  *wall_area* is 0
    without a storing north wall.
    """

    climate: Climate
    floor_area_m2: float = 2880.0
    height_m: float = 4.5
    cover_area: float = 1.25
    transmission: float = 0.66
    beam_tilt_deg: float | None = None
    inner_conductance: float = 9.0
    screen_resistance: float = 0.15
    screen_shade: float = 0.3
    screen_inside: bool = True
    vent_area: float = 0.16
    leak_per_h: float = 0.6
    heat_capacity: float = 12_000.0
    pipe_conductance: float = 2.6
    pipe_heat_capacity: float = 9_000.0
    heating_max_w_m2: float = 200.0
    soil_conductance: float = 4.0
    soil_light_share: float = 0.25
    soil_is_open: bool = False
    soil_respiration_mg_m2_s: float = 0.02
    wall_area: float = 0.0
    leaf_area_index: float = 3.0

    @property
    def air_heat_capacity(self) -> float:
        """Air, crop and thin structure, J per m² of floor and K."""
        return AIR_HEAT_J_M3_K * self.height_m + self.heat_capacity


def multi_span(climate: Climate) -> House:
    """Return a smart multi-span house: film, screen, pipes, substrate on covered soil."""
    return House(climate)


def solar_greenhouse(climate: Climate) -> House:
    """Return a 日光温室: one roof to the south, a storing north wall, a quilt, crop in soil."""
    return House(
        climate,
        floor_area_m2=720.0,
        height_m=3.0,
        cover_area=1.15,
        transmission=0.62,
        beam_tilt_deg=28.0,
        screen_resistance=0.75,
        screen_shade=1.0,
        screen_inside=False,
        vent_area=0.07,
        leak_per_h=0.35,
        heating_max_w_m2=0.0,
        soil_conductance=6.0,
        soil_is_open=True,
        soil_respiration_mg_m2_s=0.1,
        wall_area=0.45,
    )


def resized(house: House, floor_area_m2: float, leaf_area_index: float) -> House:
    """Return *house* with another floor and another crop in it."""
    return replace(house, floor_area_m2=floor_area_m2, leaf_area_index=leaf_area_index)


@dataclass(frozen=True, slots=True)
class Controls:
    """What the house is told to do; positions are 0 to 1."""

    vent_position: float = 0.0
    screen_position: float = 0.0
    heating_w_m2: float = 0.0
    co2_mg_m2_s: float = 0.0
    fans_on: bool = False


# Depths and stuffs of the stores: centres of the soil layers at 3, 16 and 51 cm; wall after them.
SOIL_HEAT_J_M2_K = (132_000.0, 440_000.0, 1_100_000.0)
SOIL_BETWEEN_W_M2_K = (8.5, 3.1, 1.5)  # the last one to the soil below
WALL_HEAT_J_M2_K = (168_000.0, 700_000.0)  # per m² of wall: its inner skin and its body
_WALL_W_M2_K = (8.0, 2.7, 0.5)  # air to skin, skin to body, body to outdoors


@dataclass(frozen=True, slots=True)
class State:
    """A house at one moment.

    *soil_c* runs from the surface down, *wall_c* from inside out.  *water_stress* is 0 for a crop
    with water enough to 1 for a wilted one.  *transpired_g_m2*, *condensed_g_m2* (on
    cover and leaves) and *evaporated_g_m2* are running totals.
    """

    air_c: float
    vapour_g_m3: float
    co2_ppm: float
    soil_c: tuple[float, float, float]
    wall_c: tuple[float, float]
    pipe_c: float
    leaf_c: float
    cover_c: float
    ppfd: float = 0.0
    water_stress: float = 0.0
    transpired_g_m2: float = 0.0
    condensed_g_m2: float = 0.0
    evaporated_g_m2: float = 0.0

    @property
    def relative_humidity(self) -> float:
        """Percent of saturation at the air's temperature."""
        return humid_air.relative_humidity(self.air_c, self.vapour_g_m3)

    @property
    def vapour_pressure_deficit_kpa(self) -> float:
        """Of the air, kPa."""
        return humid_air.vapour_pressure_deficit_kpa(self.air_c, self.relative_humidity)

    @property
    def illuminance_lx(self) -> float:
        """Inside, from the same light as *ppfd*."""
        return self.ppfd * _LUX_PER_PPFD


@dataclass(frozen=True, slots=True)
class Fluxes:
    """What flows at a moment, per m² of floor: heat in W, water in g/s, carbon dioxide in mg/s.

    Signs: *light_* and *heating_w* are gains of the house, *cover_w*, *vent_w*, *vent_vapour*,
    *deep_soil_w*, *wall_out_w* and *vent_co2* losses; *soil_w*, *wall_w* and *pipe_w* flow from
    those into the air, *canopy_w* too.  *dew* falls on leaves (out of fog too),
    *condensation* on the cover.
    """

    light_canopy_w: float
    light_soil_w: float
    light_wall_w: float
    light_air_w: float
    heating_w: float
    canopy_w: float
    soil_w: float
    wall_w: float
    pipe_w: float
    inner_cover_w: float
    cover_w: float
    vent_w: float
    deep_soil_w: float
    wall_out_w: float
    soil_between_w: tuple[float, float]
    wall_between_w: float
    transpiration: float
    evaporation: float
    condensation: float
    dew: float
    vent_vapour: float
    assimilation: float
    respiration: float
    injection: float
    vent_co2: float
    leaf_c: float
    cover_c: float
    ppfd: float


def stored_heat_j_m2(house: House, state: State) -> float:
    """Return the heat above 0 °C that the house holds, latent heat of its vapour included."""
    heat = house.air_heat_capacity * state.air_c + house.pipe_heat_capacity * state.pipe_c
    heat += LATENT_HEAT_J_G * state.vapour_g_m3 * house.height_m
    heat += sum(c * t for c, t in zip(SOIL_HEAT_J_M2_K, state.soil_c, strict=True))
    wall = sum(c * t for c, t in zip(WALL_HEAT_J_M2_K, state.wall_c, strict=True))
    return heat + house.wall_area * wall


def initial_state(house: House, weather: Weather, deep_soil_c: float) -> State:
    """Return a state to start from; a day or two of steps make it the house's own."""
    air = max(weather.temperature_c + 4.0, 12.0)
    soil = max(deep_soil_c + 3.0, 13.0)
    return State(
        air_c=air,
        vapour_g_m3=humid_air.vapour_density_g_m3(air, 80.0),
        co2_ppm=weather.co2_ppm,
        soil_c=(soil, soil, soil),
        wall_c=(soil, 0.5 * (soil + weather.temperature_c)),
        pipe_c=air,
        leaf_c=air,
        cover_c=0.5 * (air + weather.temperature_c),
    )


def step(
    house: House, state: State, now_us: int, dt_s: float, weather: Weather, controls: Controls
) -> State:
    """Return the house *dt_s* seconds after *now_us*, weather and controls held meanwhile."""
    count = max(1, math.ceil(dt_s / _LONGEST_STEP_S))
    sun = sun_at(now_us, house.climate.latitude, house.climate.longitude)
    for _ in range(count):
        state = _after(
            house, state, exchange(house, state, now_us, sun, weather, controls), dt_s / count
        )
    return state


def exchange(
    house: House, state: State, now_us: int, sun: Sun, weather: Weather, controls: Controls
) -> Fluxes:
    """Return what flows between the parts of the house and over its borders at a moment."""
    canopy, soil_light, wall_light, air_light, ppfd = _light(house, sun, weather, controls)
    air, vapour = state.air_c, state.vapour_g_m3
    condensation, cover_c, inner_cover_w, leaf_loss = _cover(house, state, weather, controls)
    leaf_water, leaf_c, canopy_w = _canopy(house, state, canopy - leaf_loss)
    fog = _fog(house, state)
    evaporation = 0.0
    if house.soil_is_open:
        lack = humid_air.saturation_density_g_m3(state.soil_c[0]) - vapour
        evaporation = max(0.0, 0.0011 * lack) * (1.0 - 0.7 * state.water_stress)
    flow = ventilation_m_s(house, state, weather, controls)
    wall_w = wall_between = wall_out = 0.0
    if house.wall_area:
        to_air, between, outwards = _WALL_W_M2_K
        wall_w = house.wall_area * to_air * (state.wall_c[0] - air)
        wall_between = house.wall_area * between * (state.wall_c[0] - state.wall_c[1])
        wall_out = house.wall_area * outwards * (state.wall_c[1] - weather.temperature_c)
    soil = state.soil_c
    deep_c = house.climate.deep_soil_c(house.climate.solar_day(now_us)) + 2.0
    assimilation, respiration = _carbon(house, state, ppfd)
    return Fluxes(
        light_canopy_w=canopy,
        light_soil_w=soil_light,
        light_wall_w=wall_light,
        light_air_w=air_light,
        heating_w=controls.heating_w_m2,
        canopy_w=canopy_w + LATENT_HEAT_J_G * fog,
        soil_w=house.soil_conductance * (soil[0] - air),
        wall_w=wall_w,
        pipe_w=house.pipe_conductance * (state.pipe_c - air),
        inner_cover_w=inner_cover_w,
        cover_w=inner_cover_w + leaf_loss + LATENT_HEAT_J_G * condensation,
        vent_w=AIR_HEAT_J_M3_K * flow * (air - weather.temperature_c),
        deep_soil_w=SOIL_BETWEEN_W_M2_K[2] * (soil[2] - deep_c),
        wall_out_w=wall_out,
        soil_between_w=(
            SOIL_BETWEEN_W_M2_K[0] * (soil[0] - soil[1]),
            SOIL_BETWEEN_W_M2_K[1] * (soil[1] - soil[2]),
        ),
        wall_between_w=wall_between,
        transpiration=max(0.0, leaf_water),
        evaporation=evaporation,
        condensation=condensation,
        dew=max(0.0, -leaf_water) + fog,
        vent_vapour=flow * (vapour - weather.vapour_g_m3),
        assimilation=assimilation,
        respiration=respiration,
        injection=controls.co2_mg_m2_s,
        vent_co2=_CO2_MG_PER_PPM_M3 * flow * (state.co2_ppm - weather.co2_ppm),
        leaf_c=leaf_c,
        cover_c=cover_c,
        ppfd=ppfd,
    )


def ventilation_m_s(house: House, state: State, weather: Weather, controls: Controls) -> float:
    """Return the air exchanged, m³ per m² of floor and second: leaks, wind, and warm air rising."""
    leak = house.leak_per_h * house.height_m / 3600.0 * (0.6 + 0.15 * weather.wind_speed_m_s)
    if not house.screen_inside:
        leak *= 1.0 - 0.5 * controls.screen_position
    if controls.vent_position <= 0.0:
        return leak
    warm = max(0.0, state.air_c - weather.temperature_c) / (state.air_c + 273.15)
    drive = 0.09 * weather.wind_speed_m_s**2 + 9.81 * 0.5 * warm
    return leak + 0.3 * house.vent_area * controls.vent_position * math.sqrt(drive)


def _light(
    house: House, sun: Sun, weather: Weather, controls: Controls
) -> tuple[float, float, float, float, float]:
    """Split the light that comes in: canopy, soil, wall, air in W/m², and PPFD above the crop."""
    gain = 1.0
    if house.beam_tilt_deg is not None:
        facing = 180.0 if house.climate.latitude >= 0.0 else 0.0
        beam = beam_gain(sun, house.beam_tilt_deg, facing)
        gain = weather.diffuse_share + (1.0 - weather.diffuse_share) * beam
    shade = 1.0 - house.screen_shade * controls.screen_position
    inside = weather.global_radiation_w_m2 * house.transmission * gain * shade
    caught = 0.88 * (1.0 - math.exp(-0.7 * house.leaf_area_index))
    rest = 1.0 - caught
    wall_share = 0.5 * rest if house.wall_area else 0.0
    soil_share = house.soil_light_share * rest if not house.soil_is_open else rest - wall_share
    air_share = 0.06
    canopy = inside * (caught - air_share)
    return (
        canopy,
        inside * soil_share,
        inside * wall_share,
        inside * air_share,
        _PPFD_PER_W * inside,
    )


def _cover(
    house: House, state: State, weather: Weather, controls: Controls
) -> tuple[float, float, float, float]:
    """Balance the cover: condensation on it, its temperature, heat from the air and from leaves."""
    resistance = house.screen_resistance * controls.screen_position
    inner = house.inner_conductance
    outer = 2.8 + 1.2 * weather.wind_speed_m_s
    sky = 4.6
    outside_c = (outer * weather.temperature_c + sky * weather.sky_temperature_c) / (outer + sky)
    outer += sky
    if house.screen_inside:
        inner = 1.0 / (1.0 / inner + resistance)
    else:
        outer = 1.0 / (1.0 / outer + resistance)
    leaf_view = 1.6 * (1.0 - (0.8 * controls.screen_position if house.screen_inside else 0.0))
    inner_all = inner * house.cover_area + leaf_view
    outer_all = outer * house.cover_area
    dry_c = (inner_all * state.air_c + outer_all * outside_c) / (inner_all + outer_all)
    # The vapour reaches a cover behind a closed screen as slowly as the heat does.
    transfer = 2.6e-3 * house.cover_area * inner / house.inner_conductance
    excess = state.vapour_g_m3 - humid_air.saturation_density_g_m3(dry_c)
    if excess > 0.0:
        # The cover warms by the heat of what condenses, and holds back some of it: one line each.
        warming = LATENT_HEAT_J_G * transfer * humid_air.saturation_slope_g_m3_k(dry_c)
        condensation = transfer * excess / (1.0 + warming / (inner_all + outer_all))
    else:
        condensation = 0.0
    cover_c = dry_c + LATENT_HEAT_J_G * condensation / (inner_all + outer_all)
    drop = state.air_c - cover_c
    return condensation, cover_c, inner * house.cover_area * drop, leaf_view * drop


def _canopy(house: House, state: State, net_w: float) -> tuple[float, float, float]:
    """Return water that leaves give (below 0: dew), their temperature, their heat to the air."""
    area = house.leaf_area_index
    light = max(0.0, net_w) / area
    resistance = 65.0 * (light + 4.3) / (light + 0.54)
    resistance *= 1.0 + 0.023 * (state.air_c - 24.5) ** 2
    resistance *= 1.0 + 12.0 * state.water_stress**2
    dry = 2.0 * area * AIR_HEAT_J_M3_K / _BOUNDARY_S_M
    lack = humid_air.saturation_density_g_m3(state.air_c) - state.vapour_g_m3
    slope = humid_air.saturation_slope_g_m3_k(state.air_c)
    drive = lack + slope * net_w / dry
    if drive < 0.0:
        resistance = 0.0  # dew does not pass the stomata
    wet = area / (_BOUNDARY_S_M + min(resistance, 20_000.0))
    water = wet * drive / (1.0 + LATENT_HEAT_J_G * wet * slope / dry)
    warm = net_w - LATENT_HEAT_J_G * water
    return water, state.air_c + warm / dry, warm


def _fog(house: House, state: State) -> float:
    """Return what leaves air above saturation as droplets, g/m²s; they settle in two minutes."""
    excess = state.vapour_g_m3 - humid_air.saturation_density_g_m3(state.air_c)
    return max(0.0, excess) * house.height_m / 120.0


def _carbon(house: House, state: State, ppfd: float) -> tuple[float, float]:
    """Return what the crop takes and what crop and soil give, mg of CO2 per m² and second."""
    caught = 1.0 - math.exp(-0.7 * house.leaf_area_index)
    warmth = max(0.0, 1.0 - ((state.air_c - 25.0) / 20.0) ** 2)
    carbon = max(0.0, state.co2_ppm - _COMPENSATION_PPM) / (state.co2_ppm + 250.0)
    taken = 1.9 * caught * ppfd / (ppfd + 350.0) * carbon * warmth * (1.0 - state.water_stress)
    given = 0.02 * house.leaf_area_index + house.soil_respiration_mg_m2_s
    # Life slows down again where heat begins to kill it.
    return taken, float(given * 2.0 ** ((min(state.air_c, 42.0) - 20.0) / 10.0))


def _after(house: House, state: State, flux: Fluxes, dt_s: float) -> State:
    """Let *flux* flow for *dt_s* seconds."""
    soil, wall = state.soil_c, state.wall_c
    air_w = flux.light_air_w + flux.canopy_w + flux.soil_w + flux.wall_w + flux.pipe_w
    air_w -= flux.inner_cover_w + flux.vent_w
    evaporation_w = LATENT_HEAT_J_G * flux.evaporation
    soil_w = (
        flux.light_soil_w - flux.soil_w - flux.soil_between_w[0] - evaporation_w,
        flux.soil_between_w[0] - flux.soil_between_w[1],
        flux.soil_between_w[1] - flux.deep_soil_w,
    )
    if house.wall_area:
        skin_w = flux.light_wall_w - flux.wall_w - flux.wall_between_w
        body_w = flux.wall_between_w - flux.wall_out_w
        wall = (
            wall[0] + skin_w * dt_s / (WALL_HEAT_J_M2_K[0] * house.wall_area),
            wall[1] + body_w * dt_s / (WALL_HEAT_J_M2_K[1] * house.wall_area),
        )
    water = flux.transpiration + flux.evaporation
    water -= flux.condensation + flux.dew + flux.vent_vapour
    carbon = flux.respiration + flux.injection - flux.assimilation - flux.vent_co2
    return State(  # not `replace`: this line runs more often than any other
        air_c=state.air_c + air_w * dt_s / house.air_heat_capacity,
        vapour_g_m3=state.vapour_g_m3 + water * dt_s / house.height_m,
        co2_ppm=state.co2_ppm + carbon * dt_s / (_CO2_MG_PER_PPM_M3 * house.height_m),
        soil_c=(
            soil[0] + soil_w[0] * dt_s / SOIL_HEAT_J_M2_K[0],
            soil[1] + soil_w[1] * dt_s / SOIL_HEAT_J_M2_K[1],
            soil[2] + soil_w[2] * dt_s / SOIL_HEAT_J_M2_K[2],
        ),
        wall_c=wall,
        pipe_c=state.pipe_c + (flux.heating_w - flux.pipe_w) * dt_s / house.pipe_heat_capacity,
        leaf_c=flux.leaf_c,
        cover_c=flux.cover_c,
        ppfd=flux.ppfd,
        water_stress=state.water_stress,
        transpired_g_m2=state.transpired_g_m2 + flux.transpiration * dt_s,
        condensed_g_m2=state.condensed_g_m2 + (flux.condensation + flux.dew) * dt_s,
        evaporated_g_m2=state.evaporated_g_m2 + flux.evaporation * dt_s,
    )
