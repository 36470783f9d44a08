"""Readings: history of one series or several, and readings posted over HTTP."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from api.auth import require_token
from api.body import BODY_PROBLEMS, json_body
from api.calibrations import Uncalibrated
from api.catalogue import find_series, named_series
from api.formats import arrow, csv_rows, json_columns
from api.formats.answer import Answer, TimeForm
from api.instants import format_instant
from api.negotiation import MEDIA_TYPES, Format, chosen_format
from api.parameters import Range, RangeIn, ServicesIn, listed
from api.posted import judge
from api.problems import RETRY_AFTER_S, Finding, Problem, ProblemBody, invalid_query, shown
from api.questions import DEFAULT_AGGREGATES, Aggregate, Question, answer
from api.routes.catalogue import SeriesPath
from api.schemas import AcceptedShape, ReadingsShape
from api.services import Limits, Services
from api.steps import Step
from devices.calibration import Timeline
from devices.document import nearest
from devices.series import Series
from ingest.collector import SpoolFull

router = APIRouter(tags=["readings"])

StepQuery = Annotated[
    str,
    Query(
        description="raw, 1m, 15m, 1h, 1d (a natural day at the site), or auto: the finest of "
        "these that stays under max_points",
        pattern="^(auto|raw|1m|15m|1h|1d)$",
    ),
]
AggregateQuery = Annotated[
    list[str] | None,
    Query(
        description="columns of a rolled-up answer: mean, min, max, first, last, sum, count, "
        "valid_count; repeat it or put commas between; mean, min and max if left out"
    ),
]
MaxPointsQuery = Annotated[
    int | None,
    Query(ge=1, description="points of each series while step is auto; 720 if left out"),
]
FormatQuery = Annotated[
    Format | None,
    Query(alias="format", description="form of the answer; else the Accept header decides"),
]
TimeQuery = Annotated[
    TimeForm, Query(description="how JSON and CSV write instants: RFC 3339 in UTC, or milliseconds")
]
GapsQuery = Annotated[
    bool, Query(description="put empty rows where readings are missing, so that gaps are drawn")
]
BomQuery = Annotated[
    bool, Query(description="begin a CSV with a byte order mark, by which Excel knows UTF-8")
]

UncalibratedQuery = Annotated[
    bool,
    Query(description="values as the devices sent them, before calibration; raw readings only"),
]


@dataclass(frozen=True, slots=True)
class Asked:
    """What may be said of an answer, whatever series it is about."""

    step: StepQuery = "auto"
    agg: AggregateQuery = None
    max_points: MaxPointsQuery = None
    form: FormatQuery = None
    time: TimeQuery = TimeForm.ISO
    gaps: GapsQuery = True
    bom: BomQuery = False
    uncalibrated: UncalibratedQuery = False


AskedIn = Annotated[Asked, Depends()]

_FORMS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ReadingsShape,
        "description": "The readings",
        "content": {MEDIA_TYPES[form].partition(";")[0]: {} for form in Format if form.is_table},
    }
}

_MOMENT = {
    "type": "object",
    "required": ["v", "device"],
    "properties": {
        "t": {
            "description": "milliseconds since 1970 UTC, or RFC 3339 with a zone; receive time "
            "is used if left out",
            "oneOf": [{"type": "integer"}, {"type": "string", "format": "date-time"}],
        },
        "v": {
            "description": "the device's own keys and numbers, in the units that it sends; null "
            "where a sensor has no reading",
            "type": "object",
            "additionalProperties": {"type": ["number", "null"]},
        },
        "device": {"description": "code of the device that measured", "type": "string"},
    },
}
_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"oneOf": [_MOMENT, {"type": "array", "items": _MOMENT, "minItems": 1}]}
        }
    },
}


@router.get("/series/{series}/readings", summary="Readings of one series", responses=_FORMS)
async def series_readings(
    services: ServicesIn,
    request: Request,
    series: SeriesPath,
    span: RangeIn,
    asked: AskedIn,
) -> Response:
    """Return the readings of a series in [start, end), raw or rolled up.

    Buckets are whole: the first may begin before `start`.  A rolled-up answer has every bucket,
    empty ones with nulls; a raw one has a row of nulls wherever readings are missing for more than
    three expected intervals.  Readings of bad quality are in raw answers, with their quality, and
    in no mean, minimum or maximum.
    """
    wanted = [find_series(services.everything(), series)]
    return await _respond(services, request, wanted, span, asked)


@router.get("/readings", summary="Readings of several series", responses=_FORMS)
async def several_readings(
    services: ServicesIn,
    request: Request,
    series: Annotated[list[str], Query(description="series code; repeat it for several")],
    span: RangeIn,
    asked: AskedIn,
) -> Response:
    """Return the readings of several series in one answer, all at the same step."""
    limits = services.settings.limits
    wanted = named_series(services.everything(), listed(series), limits.max_series)
    if not wanted:
        raise invalid_query(Finding("query.series", "nothing", "the code of at least one series"))
    return await _respond(services, request, wanted, span, asked)


def _question(
    series: Sequence[Series], span: Range, asked: Asked, form: Format, limits: Limits
) -> Question:
    step = _raw_step(asked.step) if asked.uncalibrated else asked.step
    max_points = asked.max_points
    cap = limits.max_table_rows if form.is_table else limits.max_total_points
    if max_points is not None and max_points > cap:
        expected = f"a whole number up to {cap}"
        raise invalid_query(Finding("query.max_points", str(max_points), expected))
    return Question(
        series=series,
        start_us=span.start_us,
        end_us=span.end_us,
        step=None if step == "auto" else Step(step),
        aggregates=_aggregates(asked.agg),
        max_points=max_points or limits.max_points,
        cap=cap,
        fill=asked.gaps,
    )


def _aggregates(given: Sequence[str] | None) -> Sequence[Aggregate]:
    words = list(dict.fromkeys(listed(given)))
    if not words:
        return DEFAULT_AGGREGATES
    known = [one.value for one in Aggregate]
    findings = [
        Finding("query.agg", shown(word), "some of " + ", ".join(known), nearest(word, known))
        for word in words
        if word not in known
    ]
    if findings:
        raise invalid_query(*findings[:20])
    return [Aggregate(word) for word in words]


def _raw_step(step: str) -> str:
    """Return the step of an uncalibrated answer; raise the 422 for one that is rolled up."""
    if step not in ("auto", "raw"):
        expected = "step=raw with uncalibrated=true: roll-ups are of calibrated values"
        raise invalid_query(Finding("query.step", step, expected, "raw"))
    return "raw"


async def _respond(
    services: Services, request: Request, wanted: Sequence[Series], span: Range, asked: Asked
) -> Response:
    form = chosen_format(asked.form, request.headers.get("accept", ""))
    question = _question(wanted, span, asked, form, services.settings.limits)
    registry, history = services.everything(), services.history
    if asked.uncalibrated and services.calibrations is not None:
        book = services.calibrations.ledger
        history = Uncalibrated(history, Timeline.build(book.until(book.applied), registry))
    found = await answer(question, registry, history)
    # A month of raw readings takes a few tenths of a second to write: not on the event loop.
    content = await asyncio.to_thread(_encode, found, form, asked.time, asked.bom)
    headers = {"Vary": "Accept"}
    if form.is_table:
        headers["Content-Disposition"] = f'attachment; filename="{_file_name(found, form)}"'
    return Response(content, media_type=MEDIA_TYPES[form], headers=headers)


def _encode(found: Answer, form: Format, time: TimeForm, bom: bool) -> bytes:
    match form:
        case Format.JSON:
            return json_columns.encode(found, time)
        case Format.CSV:
            return csv_rows.encode(found, time, bom)
        case Format.ARROW:
            return arrow.encode_stream(found)
        case Format.PARQUET:
            return arrow.encode_parquet(found)


def _file_name(found: Answer, form: Format) -> str:
    """Return a name that sorts, says what is inside, and means nothing to any shell."""
    what = found.parts[0].series.code if len(found.parts) == 1 else f"{len(found.parts)}-series"
    day = format_instant(found.start_us)[:10]
    return re.sub(r"[^a-zA-Z0-9._-]", "_", f"{what}_{day}_{found.step}.{form}")


@router.post(
    "/readings",
    status_code=202,
    summary="Post readings",
    dependencies=[Depends(require_token)],
    openapi_extra={"requestBody": _BODY},
    responses=BODY_PROBLEMS
    | {
        503: {"model": ProblemBody, "description": "No room: post it again later"},
    },
)
async def post_readings(services: ServicesIn, request: Request) -> AcceptedShape:
    """Accept readings: one moment of one device, or a list of them.

    The answer 202 means that they are durable; they reach the database a moment later.  A post is
    accepted whole or not at all, and posting it again is harmless.
    """
    if services.inlet is None:
        raise Problem(503, "not-ingesting", "this process only answers questions")
    limits = services.settings.limits
    body = await json_body(request, limits.max_body_bytes, limits.body_timeout_s)
    posted = judge(body, services.registry(), services.now_us())
    try:
        await services.inlet.accept(posted.arrivals)
    except SpoolFull as error:
        raise Problem(
            503,
            "spool-full",
            "there is no room to keep readings; nothing of this post was kept, post it again later",
            headers={"Retry-After": str(RETRY_AFTER_S)},
        ) from error
    return AcceptedShape(accepted=posted.readings, messages=posted.messages, ignored=posted.ignored)
