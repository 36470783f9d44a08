"""Results of samples: posted whole or not at all, corrected by new versions, never overwritten."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response

from api.actor import ActorHeader, actor_of, decoded, refused
from api.auth import require_token
from api.body import BODY_PROBLEMS, json_body, read_body
from api.catalogue import SeriesFilter, named_series, select_series
from api.instants import Instant
from api.parameters import PageSizeIn, ServicesIn, listed
from api.problems import Finding, Problem, ProblemBody
from api.results import ResultsAddedShape, ResultShape, ResultShelf, result_shape
from api.routes.catalogue import SiteQuery
from api.services import Services
from devices.sample_result import (
    COLUMNS,
    ResultsRefused,
    Row,
    SampleResult,
    read_csv,
    read_objects,
    read_results,
)

router = APIRouter(tags=["results"])

_MOST_FINDINGS = 200
_LAST_US = 7_226_582_400_000_000  # 2199
_rows = msgspec.json.Decoder(list[dict[str, str | float | int | None]])
_CELLS = {name: {"type": ["string", "number", "null"]} for name in COLUMNS}
_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "text/csv": {"schema": {"type": "string", "description": "a heading, then a row a result"}},
        "application/json": {
            "schema": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["sampled_at", "value"],
                    "additionalProperties": False,
                    "properties": _CELLS,
                },
            }
        },
    },
}


@router.post(
    "/results",
    summary="Add results of samples",
    dependencies=[Depends(require_token)],
    openapi_extra={"requestBody": _BODY},
    responses=BODY_PROBLEMS
    | {415: {"model": ProblemBody, "description": "The body is neither CSV nor JSON"}},
)
async def post_results(
    services: ServicesIn,
    request: Request,
    x_actor: ActorHeader = None,
    dry_run: Annotated[bool, Query(description="say what would happen, and keep nothing")] = False,
) -> ResultsAddedShape:
    """Keep laboratory and manual results: all of them, or none with every mistake named.

    What is known already is left alone, anything else about the same sample is a new version.
    Reviewed results are readings of their series from then on.
    """
    shelf = _shelf(services)
    findings: list[Finding] = []
    by = actor_of(x_actor, "", findings)
    if findings:
        raise refused("refused-results", *findings)
    rows = await _rows_of(request, services)
    registry = services.registry()
    results = _judged(rows, services)
    now = datetime.fromtimestamp(services.now_us() / 1e6, UTC)
    added = await shelf.add(results, registry.series_ids, by, now, dry_run=dry_run)
    return ResultsAddedShape(
        new=added.new,
        corrected=added.corrected,
        unchanged=added.unchanged,
        reviewed=added.reviewed,
        dry_run=dry_run,
    )


@router.get("/results", summary="Results of samples")
async def results(
    services: ServicesIn,
    request: Request,
    response: Response,
    site: SiteQuery = None,
    series: Annotated[
        list[str] | None, Query(description="series code; repeat it for several")
    ] = None,
    start: Annotated[
        Instant | None, Query(description="sampled at or after; all if left out")
    ] = None,
    end: Annotated[Instant | None, Query(description="sampled before; all if left out")] = None,
    versions: Annotated[
        bool, Query(description="every version, not only the newest of each result")
    ] = False,
    limit: PageSizeIn = None,
    before: Annotated[
        int | None, Query(ge=1, le=2**62, description="id of the last entry of the page before")
    ] = None,
) -> list[ResultShape]:
    """Return results with method, detection limit and reviewer, the newest sample first."""
    shelf = _shelf(services)
    registry = services.everything()
    wanted = select_series(registry, SeriesFilter(site=site))
    if series:
        most = services.settings.limits.max_series
        named = set(named_series(registry, listed(series), most))
        wanted = [one for one in wanted if one in named]
    everything = site is None and not series
    ids = None if everything else [registry.series_ids[one.code] for one in wanted]
    most = min(limit or 100, services.settings.limits.max_page)
    since_us, until_us = start or 0, _LAST_US if end is None else end
    found = await shelf.list(since_us, until_us, most, ids, before, versions=versions)
    if len(found) == most:
        query = request.url.include_query_params(before=found[-1].id, limit=most).query
        response.headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
    return [result_shape(one, registry) for one in found]


def _shelf(services: Services) -> ResultShelf:
    if services.results is None:
        raise Problem(503, "no-results", "this process keeps no results of samples")
    return services.results


async def _rows_of(request: Request, services: Services) -> list[Row]:
    limits = services.settings.limits
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "text/csv":
            body = await read_body(request, limits.max_body_bytes, limits.body_timeout_s)
            return read_csv(body)
        body = await json_body(request, limits.max_body_bytes, limits.body_timeout_s)
        objects = decoded(body, _rows, "refused-results")
        return read_objects([dict[str, object](one) for one in objects])
    except ResultsRefused as refusal:
        raise _problem(refusal) from refusal


def _judged(rows: list[Row], services: Services) -> list[SampleResult]:
    try:
        return read_results(rows, services.registry(), services.now_us())
    except ResultsRefused as refusal:
        raise _problem(refusal) from refusal


def _problem(refusal: ResultsRefused) -> Problem:
    mistakes = refusal.mistakes
    findings = [
        Finding(
            f"row {one.row}.{one.column}" if one.row else one.column,
            one.got,
            one.expected,
            one.hint,
        )
        for one in mistakes[:_MOST_FINDINGS]
    ]
    more = f"; {len(mistakes) - 1} more" if len(mistakes) > 1 else ""
    detail = f"{mistakes[0]}{more}; nothing was kept"
    return Problem(422, "refused-results", detail, findings=findings)
