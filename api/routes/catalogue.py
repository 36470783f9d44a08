"""What there is: sites, devices, series, quantities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from api.catalogue import (
    SeriesFilter,
    find_series,
    select_devices,
    select_series,
    sites_below,
    unknown,
    zone_of,
)
from api.parameters import PageIn, ServicesIn, cut
from api.schemas import DerivedShape, DeviceShape, NameShape, QuantityShape, SeriesShape, SiteShape
from devices.derivation import derivations
from devices.names import series_name, site_name
from devices.quantity import QUANTITIES
from devices.registry import Registry
from devices.series import Device, Series
from devices.site import Medium, Placement, Site

router = APIRouter(tags=["catalogue"])

SiteQuery = Annotated[str | None, Query(description="site code; includes everything below it")]
DeviceQuery = Annotated[str | None, Query(description="device code")]
QuantityQuery = Annotated[str | None, Query(description="quantity of the vocabulary")]
PlacementQuery = Annotated[Placement | None, Query(description="where the sensor stands")]
MediumQuery = Annotated[Medium | None, Query(description="what is looked at")]
SeriesPath = Annotated[
    str, Path(description="series code: device.quantity or device.quantity.channel")
]


@router.get("/sites", summary="Sites, flat or as a tree")
async def sites(
    services: ServicesIn,
    request: Request,
    response: Response,
    page: PageIn,
    site: SiteQuery = None,
    tree: Annotated[bool, Query(description="nest each site in the one above it")] = False,
) -> list[SiteShape]:
    """Return the sites in the order of the site file; pages count the outermost ones of a tree."""
    registry = services.registry()
    if site is not None and site not in registry.site:
        raise unknown("site", site, registry.site, where="query.site")
    inside = sites_below(registry, site) if site is not None else set(registry.site)
    chosen = [one for one in registry.sites if one.code in inside]
    if not tree:
        return [_site(one) for one in cut(chosen, page, request, response)]
    roots = [one for one in chosen if one.parent not in inside]
    return [_nested(one, chosen) for one in cut(roots, page, request, response)]


@router.get("/devices", summary="Devices with the codes of their series")
async def devices(
    services: ServicesIn,
    request: Request,
    response: Response,
    page: PageIn,
    site: SiteQuery = None,
) -> list[DeviceShape]:
    """Return the devices in the order of the site file."""
    chosen = select_devices(services.registry(), site)
    return [_device(one) for one in cut(chosen, page, request, response)]


@router.get("/series", summary="Series, filtered")
async def series_list(
    services: ServicesIn,
    request: Request,
    response: Response,
    page: PageIn,
    site: SiteQuery = None,
    device: DeviceQuery = None,
    quantity: QuantityQuery = None,
    placement: PlacementQuery = None,
    medium: MediumQuery = None,
) -> list[SeriesShape]:
    """Return the series that all the filters given agree on."""
    registry = services.registry()
    wanted = SeriesFilter(site, device, quantity, placement, medium)
    chosen = select_series(registry, wanted)
    return [_series(registry, one) for one in cut(chosen, page, request, response)]


@router.get("/series/{series}", summary="One series")
async def series_one(services: ServicesIn, series: SeriesPath) -> SeriesShape:
    """Return what is known of one series, also of one that is retired."""
    registry = services.everything()
    return _series(registry, find_series(registry, series))


@router.get("/quantities", summary="The vocabulary of quantities")
async def quantities(medium: MediumQuery = None) -> list[QuantityShape]:
    """Return every quantity with its unit, its names and what is physically possible."""
    return [
        QuantityShape(
            quantity=one.name,
            name=NameShape(zh=one.zh, en=one.en),
            medium=one.medium,
            unit=one.unit,
            ucum=one.ucum,
            low=one.low,
            high=one.high,
            interval_s=one.interval_s,
            decimals=one.decimals,
            hj212=one.hj212,
            counter=one.counter,
        )
        for one in QUANTITIES.values()
        if medium in (None, one.medium)
    ]


def _site(site: Site) -> SiteShape:
    zh, en = site_name(site)
    return SiteShape(
        code=site.code,
        kind=site.kind,
        name=NameShape(zh=zh, en=en),
        parent=site.parent,
        timezone=site.timezone,
        latitude=site.latitude,
        longitude=site.longitude,
        altitude_m=site.altitude_m,
        area_m2=site.area_m2,
        crop=site.crop,
    )


def _nested(site: Site, chosen: Sequence[Site]) -> SiteShape:
    shape = _site(site)
    shape.sites = [_nested(one, chosen) for one in chosen if one.parent == site.code]
    return shape


def _device(device: Device) -> DeviceShape:
    return DeviceShape(
        device=device.code,
        name=NameShape(
            zh=device.name_zh or device.name_en or device.code,
            en=device.name_en or device.name_zh or device.code,
        ),
        site=device.site,
        transport=device.transport,
        payload=device.payload,
        series=[one.code for one in device.series],
    )


def _derived(registry: Registry, series: Series) -> DerivedShape | None:
    how = derivations(registry.device[series.device]).get(series.key)
    return None if how is None else DerivedShape.model_validate(how.as_setting())


def _series(registry: Registry, series: Series) -> SeriesShape:
    zh, en = series_name(series)
    return SeriesShape(
        series=series.code,
        device=series.device,
        quantity=series.quantity,
        channel=series.channel,
        name=NameShape(zh=zh, en=en),
        site=series.site,
        placement=series.placement,
        medium=series.medium,
        unit=QUANTITIES[series.quantity].unit,
        device_unit=series.unit,
        key=series.key,
        interval_s=series.interval_s,
        timezone=zone_of(registry, series),
        derived=_derived(registry, series),
    )
