"""Alerts: read by who may read, acted on with a token and a name, one page after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from alerts.errors import IllegalAction
from alerts.rule import Severity
from alerts.state import Action, Phase
from api.actor import ActorHeader, actor_of, check_plain, decoded, refused
from api.alert_shapes import (
    AlertRecordShape,
    AlertShape,
    AlertWriter,
    GroupShape,
    SeverityWord,
)
from api.alerts import (
    AlertChanged,
    AlertDesk,
    AlertQuery,
    AlertsElsewhere,
    AlertsNotKept,
    Cursor,
    Deed,
    GroupQuery,
    UnknownAlert,
)
from api.auth import require_token
from api.body import BODY_PROBLEMS, json_body
from api.catalogue import sites_below, unknown
from api.instants import Instant, parse_instant_us
from api.parameters import PageSizeIn, ServicesIn, listed
from api.problems import RETRY_AFTER_S, Finding, Problem, ProblemBody, invalid_query, shown
from api.services import Services

router = APIRouter(tags=["alerts"])

MOST_BODY_BYTES = 16_384
MOST_NOTE = 2_000
_DEFAULT_PAGE = 100
_BAD_DEED = "invalid-action"

ID = "^[0-9a-f]{32}$"
AlertPath = Annotated[str, Path(pattern=ID, description="id of the alert")]
IfMatch = Annotated[
    str | None, Header(description='version that was looked at, such as "7"; 412 if it moved on')
]
After = Annotated[
    str | None,
    Query(
        pattern="^[0-9]{1,17}-[0-9a-f]{32}$",
        description="where the page before ended; take it from the Link header",
    ),
]
ACTION_PROBLEMS: dict[int | str, dict[str, Any]] = BODY_PROBLEMS | {
    409: {"model": ProblemBody, "description": "It does not fit; nothing has changed"}
}


def desk_of(services: Services) -> AlertDesk:
    """Return what holds the alerts, or raise the 503 that says that nothing here does."""
    if services.alerts is None:
        raise Problem(503, "not-alerting", "this process judges no rules and holds no alerts")
    return services.alerts


def not_kept(error: AlertsNotKept) -> Problem:
    """Return the 503 of a change that could not be made durable, or not here."""
    if isinstance(error, AlertsElsewhere):
        detail = "nothing has changed: this process only reads alerts; ask the one that judges"
        return Problem(503, "not-alerting", detail)
    return Problem(
        503,
        "alerts-not-kept",
        "nothing has changed: it cannot be put on record now; try again soon",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


def writer_of(services: Services) -> AlertWriter:
    """Return what makes JSON of alerts at this moment."""
    rules = desk_of(services).rules().rules()
    return AlertWriter(rules, services.everything(), services.now_us())


# -- reading


@router.get("/alerts", summary="Alerts, the newest first")
async def alerts(
    services: ServicesIn,
    request: Request,
    response: Response,
    phase: Annotated[list[Phase] | None, Query(description="phase; may be repeated")] = None,
    severity: Annotated[
        list[SeverityWord] | None, Query(description="severity now; may be repeated")
    ] = None,
    rule: Annotated[
        list[str] | None,
        Query(max_length=20, description="code of a rule, * for any letters; may be repeated"),
    ] = None,
    site: Annotated[str | None, Query(description="site code; includes everything below")] = None,
    subject: Annotated[
        list[str] | None,
        Query(max_length=50, description="such as series:h1.air_temperature; may be repeated"),
    ] = None,
    group: Annotated[str | None, Query(pattern=ID, description="id of a group")] = None,
    since: Annotated[Instant | None, Query(description="over at this moment or later")] = None,
    until: Annotated[Instant | None, Query(description="began before this moment")] = None,
    is_open: Annotated[bool | None, Query(alias="open", description="fires or is held")] = None,
    attention: Annotated[
        bool | None, Query(description="open, or over and nobody has seen it")
    ] = None,
    limit: PageSizeIn = None,
    after: After = None,
) -> list[AlertShape]:
    """Return the alerts that all filters agree on, by the measured start, the newest first.

    A page that begins behind another stays the same whatever comes in meanwhile: starts never move.
    """
    desk = desk_of(services)
    if since is not None and until is not None and until <= since:
        finding = Finding("query.until", "an end at or before since", "an end after since")
        raise invalid_query(finding)
    most = min(limit or _DEFAULT_PAGE, services.settings.limits.max_page)
    query = AlertQuery(
        limit=most,
        phases=tuple(phase or ()),
        severities=tuple(Severity[word.upper()] for word in severity or ()),
        rules=tuple(_plain_words("rule", rule)),
        sites=_sites(services, site),
        subjects=tuple(_plain_words("subject", subject)),
        group=group or "",
        since_us=since,
        until_us=until,
        is_open=is_open,
        needs_attention=attention,
        after=_cursor(after),
    )
    found = await desk.alerts(query)
    if len(found) == most:
        last = found[-1].alert
        _link(request, response, most, last.episode.started_at_us, last.id)
    writer = writer_of(services)
    return [writer.alert(one) for one in found]


@router.get("/alerts/{alert}", summary="One alert with its history")
async def alert_record(
    services: ServicesIn, response: Response, alert: AlertPath
) -> AlertRecordShape:
    """Return an alert with every line of its history, the first one first.

    Lines are only ever added; the ETag is their number, for `If-Match` of an action.
    """
    try:
        record = await desk_of(services).alert(alert)
    except UnknownAlert as error:
        raise _no_alert(alert) from error
    response.headers["ETag"] = f'"{record.kept.version}"'
    return writer_of(services).record(record)


@router.get("/alert-groups", summary="Alerts of one cause, told as one")
async def alert_groups(
    services: ServicesIn,
    request: Request,
    response: Response,
    site: Annotated[str | None, Query(description="site code; includes everything below")] = None,
    is_open: Annotated[
        bool | None, Query(alias="open", description="whether any alert in it is open")
    ] = None,
    limit: PageSizeIn = None,
    after: After = None,
) -> list[GroupShape]:
    """Return groups by the start of their first alert, the newest first."""
    most = min(limit or _DEFAULT_PAGE, services.settings.limits.max_page)
    query = GroupQuery(most, is_open, _sites(services, site), _cursor(after))
    found = await desk_of(services).groups(query)
    if len(found) == most:
        last = found[-1].group
        _link(request, response, most, last.opened_at_us, last.id)
    writer = writer_of(services)
    return [writer.group(one) for one in found]


# -- acting


class _DeedBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of an action; which of these it takes depends on the action."""

    actor: str = ""
    note: Annotated[str, msgspec.Meta(max_length=MOST_NOTE)] = ""
    to: Annotated[str, msgspec.Meta(max_length=120)] | None = None
    until: str | None = None


_deeds = msgspec.json.Decoder(_DeedBody)
_DEED_BODY: dict[str, Any] = {
    "required": False,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "actor": {"type": "string", "maxLength": 120},
                    "note": {
                        "type": "string",
                        "maxLength": MOST_NOTE,
                        "description": "note, comment, closing note or reason to shelve",
                    },
                    "to": {
                        "type": "string",
                        "maxLength": 120,
                        "description": "assign: to whom; empty for nobody",
                    },
                    "until": {
                        "type": "string",
                        "format": "date-time",
                        "description": "shelve: until when",
                    },
                },
            }
        }
    },
}


@router.post(
    "/alerts/{alert}/{action}",
    summary="Do something about an alert",
    dependencies=[Depends(require_token)],
    openapi_extra={"requestBody": _DEED_BODY},
    responses=ACTION_PROBLEMS
    | {412: {"model": ProblemBody, "description": "It is not the version that was looked at"}},
)
async def act_on_alert(
    services: ServicesIn,
    request: Request,
    response: Response,
    alert: AlertPath,
    action: Annotated[Action, Path(description="what to do")],
    x_actor: ActorHeader = None,
    if_match: IfMatch = None,
) -> AlertShape:
    """Do one of the actions, record who did it, and return the alert after it.

    It is durable when it is answered.  409 says why an action does not fit, 412 that the alert has
    moved on since the version in `If-Match`; nothing has changed then.
    """
    body = b"{}"
    if _has_body(request):
        body = await json_body(request, MOST_BODY_BYTES, services.settings.limits.body_timeout_s)
    deed = _deed(action, decoded(body or b"{}", _deeds, _BAD_DEED), x_actor)
    version = _version(if_match)
    desk = desk_of(services)
    try:
        kept = await desk.act(alert, deed, version)
    except UnknownAlert as error:
        raise _no_alert(alert) from error
    except AlertChanged as error:
        detail = f"the alert is at version {error.version} by now; nothing has changed"
        etag = {"ETag": f'"{error.version}"'}
        raise Problem(412, "alert-changed", detail, headers=etag) from error
    except IllegalAction as error:
        raise Problem(409, "action-does-not-fit", f"{error}; nothing has changed") from error
    except AlertsNotKept as error:
        raise not_kept(error) from error
    response.headers["ETag"] = f'"{kept.version}"'
    return writer_of(services).alert(kept)


def _has_body(request: Request) -> bool:
    """Tell whether a body is announced; one that is empty says nothing, whatever its type."""
    headers = request.headers
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


_NOTE_NEEDED = {
    Action.SHELVE: "the reason for which it is put aside",
    Action.COMMENT: "what there is to say",
    Action.CLOSE: "a closing note",
}


def _deed(action: Action, body: _DeedBody, x_actor: str | None) -> Deed:
    """Return what is to be done; raise the 422 that names everything that is wrong with it."""
    findings: list[Finding] = []
    by = actor_of(x_actor, body.actor, findings)
    check_plain("body.note", body.note, findings)
    if action in _NOTE_NEEDED and not body.note.strip():
        findings.append(Finding("body.note", "nothing", _NOTE_NEEDED[action]))
    if action is Action.ASSIGN and body.to is None:
        findings.append(Finding("body.to", "nothing", "a name, or empty for nobody"))
    if action is not Action.ASSIGN and body.to is not None:
        findings.append(Finding("body.to", shown(body.to), f"no such field in {action.value}"))
    check_plain("body.to", body.to or "", findings)
    until_us = 0
    if action is Action.SHELVE:
        until_us = _until(body.until, findings)
    elif body.until is not None:
        findings.append(
            Finding("body.until", shown(body.until), f"no such field in {action.value}")
        )
    if findings:
        raise refused(_BAD_DEED, *findings)
    return Deed(action, by, body.note.strip(), (body.to or "").strip(), until_us)


def _until(text: str | None, findings: list[Finding]) -> int:
    try:
        return instant_of(text)
    except ValueError as error:
        findings.append(
            Finding("body.until", "nothing" if text is None else shown(text), str(error))
        )
        return 0


def instant_of(text: str | None) -> int:
    """Return an instant in a body; raise ValueError that says what was expected."""
    return parse_instant_us(text or "")


def _version(if_match: str | None) -> int | None:
    if if_match is None or if_match.strip() == "*":
        return None
    text = if_match.strip().removeprefix("W/").strip('"')
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise invalid_query(
            Finding("header.If-Match", shown(if_match), 'the version of the alert, such as "7"')
        )
    return int(text)


def _no_alert(alert: str) -> Problem:
    return Problem(404, "unknown-alert", f"no alert {alert}")


# -- filters and pages


def _sites(services: Services, site: str | None) -> tuple[str, ...] | None:
    """Return *site* and all below it, retired ones too: their alerts are still here."""
    if site is None:
        return None
    registry = services.everything()
    if site not in registry.site:
        raise unknown("site", site, registry.site, where="query.site")
    return tuple(sorted(sites_below(registry, site)))


def _plain_words(name: str, given: Sequence[str] | None) -> list[str]:
    words = listed(given)
    for word in words:
        if not word.isprintable() or len(word) > 300:
            raise invalid_query(Finding(f"query.{name}", shown(word), "a code in plain letters"))
    return words


def _cursor(after: str | None) -> Cursor | None:
    if after is None:
        return None
    at_us, _, last = after.partition("-")
    return Cursor(int(at_us), last)


def _link(request: Request, response: Response, most: int, at_us: int, last: str) -> None:
    query = request.url.include_query_params(after=f"{at_us}-{last}", limit=most).query
    response.headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
