"""The newest reading of each series."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request, Response

from api.catalogue import SeriesFilter, named_series, select_series
from api.instants import format_instant
from api.newest import Newest, newest_of
from api.parameters import PageIn, ServicesIn, cut, listed
from api.routes.catalogue import SiteQuery
from api.schemas import LatestShape
from devices.names import series_name, site_name
from devices.quantity import QUANTITIES
from devices.registry import Registry

router = APIRouter(tags=["readings"])


@router.get(
    "/latest", summary="The newest reading of each series", response_model=list[LatestShape]
)
async def latest(
    services: ServicesIn,
    request: Request,
    response: Response,
    page: PageIn,
    site: SiteQuery = None,
    series: Annotated[
        list[str] | None, Query(description="series code; repeat it for several")
    ] = None,
    unseen: Annotated[
        bool, Query(description="also list series that never had a reading, with nulls")
    ] = False,
) -> Response:
    """Return the newest reading of each series with its age, its quality and whether it is stale.

    A series is stale after three of its expected intervals.
    """
    registry, limits = services.registry(), services.settings.limits
    wanted = select_series(registry, SeriesFilter(site=site))
    if series:
        named = set(named_series(registry, listed(series), limits.max_series))
        wanted = [one for one in wanted if one in named]
    everything = site is None and not series
    ids = None if everything else [registry.series_ids[one.code] for one in wanted]
    batch = await services.history.latest(ids)
    found = newest_of(registry, wanted, batch, services.now_us())
    shown = cut([one for one in found if one.seen or unseen], page, request, response)
    content = msgspec.json.encode([_row(registry, one) for one in shown])
    return Response(content, headers=dict(response.headers), media_type="application/json")


def _row(registry: Registry, newest: Newest) -> dict[str, Any]:
    series = newest.series
    name_zh, name_en = series_name(series)
    site_zh, site_en = site_name(registry.site[series.site])
    return {
        "series": series.code,
        "name": {"zh": name_zh, "en": name_en},
        "device": series.device,
        "quantity": series.quantity,
        "channel": series.channel,
        "site": series.site,
        "site_name": {"zh": site_zh, "en": site_en},
        "placement": series.placement,
        "medium": series.medium,
        "observed_at": _instant(newest.observed_at_us),
        "received_at": _instant(newest.received_at_us),
        "age_s": None if newest.age_s is None else round(newest.age_s, 3),
        "value": newest.value,
        "unit": QUANTITIES[series.quantity].unit,
        "quality": newest.level,
        "quality_bits": newest.quality_bits if newest.seen else None,
        "quality_reasons": [reason.name for reason in newest.reasons],
        "stale": newest.stale,
        "interval_s": series.interval_s,
    }


def _instant(at_us: int | None) -> str | None:
    return None if at_us is None else format_instant(at_us)
