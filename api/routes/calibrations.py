"""The calibration book: dated lines of series, windows without measurement, what they corrected."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request, Response

from api.actor import ActorHeader, actor_of, author_of, check_plain, decoded, refused
from api.auth import require_token
from api.body import BODY_PROBLEMS, json_body
from api.calibrations import (
    CalibrationBook,
    CalibrationShape,
    CorrectionShape,
    WindowShape,
    calibration_shape,
    calibration_shapes,
    correction_shape,
    window_shape,
)
from api.catalogue import find_series, unknown
from api.instants import parse_instant_us
from api.parameters import PageSizeIn, ServicesIn
from api.problems import Finding, Problem, shown
from api.routes.catalogue import SeriesPath
from api.services import Services
from devices.calibration import (
    Calibration,
    CalibrationError,
    Scope,
    Window,
    WindowKind,
    check_line,
    line_through,
)
from devices.document import nearest

router = APIRouter(tags=["calibrations"])

_BAD_LINE, _BAD_WINDOW = "invalid-calibration", "invalid-window"
_MOST_BODY_BYTES = 16_384
_MOST_TEXT = 500
_LONGEST_US = 400 * 86_400_000_000
_Text = Annotated[str, msgspec.Meta(max_length=_MOST_TEXT)]
_Pair = tuple[float, float]


class _LineBody(msgspec.Struct, forbid_unknown_fields=True, rename={"from_": "from"}):
    """The body of a calibration."""

    from_: str
    gain: float | None = None
    offset: float | None = None
    points: Annotated[list[_Pair], msgspec.Meta(max_length=20)] = []
    due: str | None = None
    method: _Text = ""
    reference: _Text = ""
    note: _Text = ""
    actor: str = ""


class _WindowBody(msgspec.Struct, forbid_unknown_fields=True, rename={"from_": "from"}):
    """The body of a window."""

    scope: str
    code: str
    kind: str
    from_: str
    to: str
    reason: _Text = ""
    actor: str = ""


_lines = msgspec.json.Decoder(_LineBody)
_windows = msgspec.json.Decoder(_WindowBody)
_TIME = {"type": "string", "format": "date-time"}
_SHORT = {"type": "string", "maxLength": _MOST_TEXT}
_ACTOR = {"type": "string", "maxLength": 120}


def _body(required: list[str], properties: dict[str, Any]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": required,
        "additionalProperties": False,
        "properties": properties,
    }
    return {"required": True, "content": {"application/json": {"schema": schema}}}


_LINE_BODY = _body(
    ["from"],
    {
        "from": _TIME,
        "gain": {"type": "number", "description": "1 if left out"},
        "offset": {"type": "number", "description": "0 if left out"},
        "points": {
            "description": "pairs [raw, true] instead of gain and offset, raw as "
            "`uncalibrated=true` shows it; one moves the line, two fix it, more are fitted",
            "type": "array",
            "maxItems": 20,
            "items": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
        },
        "due": _TIME,
        "method": _SHORT,
        "reference": _SHORT,
        "note": _SHORT,
        "actor": _ACTOR,
    },
)
_WINDOW_BODY = _body(
    ["scope", "code", "kind", "from", "to"],
    {
        "scope": {"enum": [one.value for one in Scope]},
        "code": {"type": "string", "description": "of the series, device or site"},
        "kind": {"enum": [one.value for one in WindowKind]},
        "from": _TIME,
        "to": _TIME,
        "reason": _SHORT,
        "actor": _ACTOR,
    },
)


@router.get("/calibrations", summary="Calibrations, the newest entry first")
async def calibrations(
    services: ServicesIn,
    response: Response,
    series: Annotated[str | None, Query(description="series code")] = None,
    current: Annotated[bool, Query(description="only those that are in force now")] = False,
    overdue: Annotated[bool, Query(description="only those whose successor is due")] = False,
    limit: PageSizeIn = None,
) -> list[CalibrationShape]:
    """Return the entries of the calibration book that are about lines of series."""
    if series is not None and series not in services.everything().series:
        raise unknown("series", series, services.everything().series, where="query.series")
    found = [
        one
        for one in calibration_shapes(_book(services).ledger, services.now_us())
        if series in (None, one.series)
        and (one.in_force or not current)
        and (one.overdue or not overdue)
    ]
    response.headers["X-Total-Count"] = str(len(found))
    return found[: min(limit or 100, services.settings.limits.max_page)]


@router.post(
    "/series/{series}/calibrations",
    summary="Calibrate a series",
    status_code=201,
    dependencies=[Depends(require_token)],
    openapi_extra={"requestBody": _LINE_BODY},
    responses=BODY_PROBLEMS,
)
async def post_calibration(
    services: ServicesIn, request: Request, series: SeriesPath, x_actor: ActorHeader = None
) -> CalibrationShape:
    """Enter the line of a series from a moment on, by gain and offset or by pairs [raw, true].

    It holds until the next one.  Where the moment has passed, stored readings are corrected from
    then on, and with them roll-ups and derived series; `applied` tells when that is done.
    """
    known = find_series(services.registry(), series)
    body = await json_body(request, _MOST_BODY_BYTES, services.settings.limits.body_timeout_s)
    entry = _line(known.code, decoded(body, _lines, _BAD_LINE), x_actor)
    book = _book(services)
    entered = await book.add_calibration(entry)
    current = entered.from_us <= services.now_us()
    return calibration_shape(entered, book.ledger, services.now_us(), current)


@router.delete(
    "/calibrations/{calibration}",
    summary="Withdraw a calibration",
    dependencies=[Depends(require_token)],
)
async def delete_calibration(
    services: ServicesIn,
    calibration: Annotated[int, Path(ge=1, description="id of the calibration")],
    x_actor: ActorHeader = None,
    note: Annotated[str, Query(max_length=_MOST_TEXT, description="why")] = "",
) -> CalibrationShape:
    """Withdraw an entry, which stays on record; the line before goes on, stored readings too."""
    book = _book(services)
    by = author_of(x_actor, "note", note, _BAD_LINE)
    ledger = book.ledger
    counting = {one.id: one for lines in ledger.in_force().values() for one in lines}
    if calibration not in counting:
        detail = f"no calibration {calibration} that counts"
        raise Problem(404, "unknown-calibration", detail)
    old = counting[calibration]
    await book.add_calibration(
        Calibration(old.series, old.from_us, 1.0, 0.0, by, note=note, withdrawn=True)
    )
    return calibration_shape(old, book.ledger, services.now_us(), False, False)


@router.get("/quality-windows", summary="Windows without measurement, the newest entry first")
async def quality_windows(
    services: ServicesIn,
    response: Response,
    code: Annotated[str | None, Query(description="of a series, device or site")] = None,
    limit: PageSizeIn = None,
) -> list[WindowShape]:
    """Return spans of calibration, maintenance and standstill that count."""
    ledger = _book(services).ledger
    found = [one for one in reversed(ledger.windows_in_force()) if code in (None, one.code)]
    response.headers["X-Total-Count"] = str(len(found))
    most = min(limit or 100, services.settings.limits.max_page)
    return [window_shape(one, ledger) for one in found[:most]]


@router.post(
    "/quality-windows",
    summary="Enter a window without measurement",
    status_code=201,
    dependencies=[Depends(require_token)],
    openapi_extra={"requestBody": _WINDOW_BODY},
    responses=BODY_PROBLEMS,
)
async def post_window(
    services: ServicesIn, request: Request, x_actor: ActorHeader = None
) -> WindowShape:
    """Say that a series, a device or all at a site was, or will be, calibrated or out of use.

    Readings in it carry the mark, those that are stored already too.
    """
    body = await json_body(request, _MOST_BODY_BYTES, services.settings.limits.body_timeout_s)
    entry = _window(services, decoded(body, _windows, _BAD_WINDOW), x_actor)
    book = _book(services)
    return window_shape(await book.add_window(entry), book.ledger)


@router.delete(
    "/quality-windows/{window}",
    summary="Withdraw a window",
    dependencies=[Depends(require_token)],
)
async def delete_window(
    services: ServicesIn,
    window: Annotated[int, Path(ge=1, description="id of the window")],
    x_actor: ActorHeader = None,
    note: Annotated[str, Query(max_length=_MOST_TEXT, description="why")] = "",
) -> WindowShape:
    """Withdraw a window: its readings lose the mark; it stays on record."""
    book = _book(services)
    by = author_of(x_actor, "note", note, _BAD_WINDOW)
    known = {one.id: one for one in book.ledger.windows_in_force()}
    if window not in known:
        raise Problem(404, "unknown-window", f"no window {window} that counts")
    old = known[window]
    ended = replace(
        old, actor=by, reason=note, replaces=old.id, withdrawn=True, id=0, revision=0, entered_us=0
    )
    await book.add_window(ended)
    return window_shape(old, book.ledger)


@router.get("/corrections", summary="Corrections of stored readings, the newest first")
async def corrections(
    services: ServicesIn,
    series: Annotated[str | None, Query(description="series code")] = None,
    limit: PageSizeIn = None,
) -> list[CorrectionShape]:
    """Return what entries about the past did to stored readings."""
    if series is not None and series not in services.everything().series:
        raise unknown("series", series, services.everything().series, where="query.series")
    most = min(limit or 100, services.settings.limits.max_page)
    return [correction_shape(one) for one in await _book(services).corrections(series, most)]


def _book(services: Services) -> CalibrationBook:
    if services.calibrations is None:
        raise Problem(503, "not-calibrating", "this process keeps no calibration book")
    return services.calibrations


def _line(series: str, body: _LineBody, x_actor: str | None) -> Calibration:
    """Return the calibration that is meant; raise the 422 that names everything wrong with it."""
    findings: list[Finding] = []
    by = actor_of(x_actor, body.actor, findings)
    for name in ("method", "reference", "note"):
        check_plain(f"body.{name}", getattr(body, name), findings)
    from_us = _instant("from", body.from_, findings)
    due_us = None if body.due is None else _instant("due", body.due, findings)
    if due_us is not None and not findings and due_us <= from_us:
        findings.append(Finding("body.due", shown(body.due), "a moment after from"))
    gain, shift = 1.0, 0.0
    if body.points and (body.gain is not None or body.offset is not None):
        findings.append(Finding("body.points", "points and gain or offset", "one of the two"))
    elif not body.points and body.gain is None and body.offset is None:
        findings.append(Finding("body", "no line", "gain, offset or points"))
    else:
        try:
            if body.points:
                gain, shift = line_through(body.points)
            else:
                gain = 1.0 if body.gain is None else body.gain
                shift = body.offset or 0.0
            check_line(gain, shift)
        except CalibrationError as error:
            got, _, expected = str(error).removeprefix("got ").partition(", expected ")
            findings.append(Finding("body", got, expected or "a line that rises"))
    if findings:
        raise refused(_BAD_LINE, *findings)
    return Calibration(
        series,
        from_us,
        gain,
        shift,
        by,
        method=body.method,
        reference=body.reference,
        note=body.note,
        due_us=due_us,
        points=tuple(body.points),
    )


def _window(services: Services, body: _WindowBody, x_actor: str | None) -> Window:
    findings: list[Finding] = []
    by = actor_of(x_actor, body.actor, findings)
    check_plain("body.reason", body.reason, findings)
    for name, words in (("scope", list(Scope)), ("kind", list(WindowKind))):
        if (got := getattr(body, name)) not in words:
            expected = "one of " + ", ".join(words)
            findings.append(
                Finding(f"body.{name}", shown(got), expected, nearest(got[:200], words))
            )
    registry = services.registry()
    known = {"series": registry.series, "device": registry.device, "site": registry.site}
    codes = known.get(body.scope, {})
    if body.scope in known and body.code not in codes:
        hint = nearest(body.code[:200], codes)
        findings.append(Finding("body.code", shown(body.code), f"a known {body.scope}", hint))
    start_us = _instant("from", body.from_, findings)
    end_us = _instant("to", body.to, findings)
    if not findings and not start_us < end_us <= start_us + _LONGEST_US:
        findings.append(Finding("body.to", shown(body.to), "a moment within 400 days after from"))
    if findings:
        raise refused(_BAD_WINDOW, *findings)
    return Window(
        Scope(body.scope), body.code, WindowKind(body.kind), start_us, end_us, by, body.reason
    )


def _instant(name: str, text: str, findings: list[Finding]) -> int:
    try:
        return parse_instant_us(text)
    except ValueError as error:
        findings.append(Finding(f"body.{name}", shown(text), str(error)))
        return 0
