"""Silences: nobody is told of what they match until they end; alerts go on meanwhile."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request

from alerts.book import Silence
from alerts.errors import IllegalAction
from alerts.rule import Severity
from api.actor import ActorHeader, actor_of, author_of, check_plain, decoded, refused
from api.alert_shapes import SeverityWord, SilenceShape, silence_shape
from api.alerts import AlertsNotKept, KeptSilence, UnknownSilence
from api.auth import require_token
from api.body import json_body
from api.parameters import PageSizeIn, ServicesIn
from api.problems import Finding, Problem, shown
from api.routes.alerts import (
    ACTION_PROBLEMS,
    MOST_BODY_BYTES,
    MOST_NOTE,
    desk_of,
    instant_of,
    not_kept,
)
from api.services import Services
from devices.document import nearest

router = APIRouter(tags=["alerts"])

_BAD = "invalid-silence"
_LONGEST_US = 400 * 86_400_000_000
_Words = Annotated[
    list[Annotated[str, msgspec.Meta(min_length=1, max_length=200)]], msgspec.Meta(max_length=100)
]


class _SilenceBody(msgspec.Struct, forbid_unknown_fields=True, rename={"from_": "from"}):
    """The body of a silence."""

    until: str
    reason: Annotated[str, msgspec.Meta(max_length=MOST_NOTE)]
    actor: str = ""
    from_: str | None = None
    rules: _Words = []
    sites: _Words = []
    subjects: _Words = []
    worst: SeverityWord = "critical"


_bodies = msgspec.json.Decoder(_SilenceBody)
_WORDS = {"type": "array", "items": {"type": "string"}, "maxItems": 100}
_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["until", "reason"],
                "additionalProperties": False,
                "properties": {
                    "actor": {"type": "string", "maxLength": 120},
                    "reason": {"type": "string", "maxLength": MOST_NOTE},
                    "from": {"type": "string", "format": "date-time"},
                    "until": {"type": "string", "format": "date-time"},
                    "rules": _WORDS,
                    "sites": _WORDS,
                    "subjects": _WORDS,
                    "worst": {"enum": ["info", "warning", "critical"]},
                },
            }
        }
    },
}


@router.get("/silences", summary="Silences, the latest beginning first")
async def silences(
    services: ServicesIn,
    past: Annotated[bool, Query(description="also those that are over")] = False,
    limit: PageSizeIn = None,
) -> list[SilenceShape]:
    """Return silences that hold now or will, or with `past` also those that are over."""
    most = min(limit or 100, services.settings.limits.max_page)
    found = await desk_of(services).silences(past, most)
    return [silence_shape(one, services.now_us()) for one in found]


@router.post(
    "/silences",
    summary="Begin a silence",
    status_code=201,
    dependencies=[Depends(require_token)],
    openapi_extra={"requestBody": _BODY},
    responses=ACTION_PROBLEMS,
)
async def post_silence(
    services: ServicesIn, request: Request, x_actor: ActorHeader = None
) -> SilenceShape:
    """Begin a silence, now or at `from`; it needs an author, a reason, an end and a matcher.

    It is durable when it is answered.
    """
    body = await json_body(request, MOST_BODY_BYTES, services.settings.limits.body_timeout_s)
    silence = _silence(services, decoded(body, _bodies, _BAD), x_actor)
    try:
        await desk_of(services).silence(silence)
    except IllegalAction as error:
        raise Problem(409, "action-does-not-fit", f"{error}; nothing has changed") from error
    except AlertsNotKept as error:
        raise not_kept(error) from error
    return silence_shape(KeptSilence(silence), services.now_us())


@router.delete(
    "/silences/{silence}",
    summary="End a silence",
    dependencies=[Depends(require_token)],
    responses={409: ACTION_PROBLEMS[409]},
)
async def delete_silence(
    services: ServicesIn,
    silence: Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="id of the silence")],
    x_actor: ActorHeader = None,
    note: Annotated[str, Query(max_length=500, description="why it is ended")] = "",
) -> SilenceShape:
    """End a silence now; it stays on record, and what it held back is told if it still stands."""
    by = author_of(x_actor, "note", note, _BAD)
    try:
        ended = await desk_of(services).end_silence(silence, by, note)
    except UnknownSilence as error:
        raise Problem(404, "unknown-silence", f"no silence {silence}") from error
    except IllegalAction as error:
        raise Problem(409, "action-does-not-fit", f"{error}; nothing has changed") from error
    except AlertsNotKept as error:
        raise not_kept(error) from error
    return silence_shape(ended, services.now_us())


def _silence(services: Services, body: _SilenceBody, x_actor: str | None) -> Silence:
    """Return the silence that is meant; raise the 422 that names everything wrong with it."""
    findings: list[Finding] = []
    by = actor_of(x_actor, body.actor, findings)
    check_plain("body.reason", body.reason, findings)
    if not body.reason.strip():
        findings.append(Finding("body.reason", "nothing", "why nobody is to be told"))
    now_us = services.now_us()
    from_us = now_us if body.from_ is None else _instant("from", body.from_, findings)
    until_us = _instant("until", body.until, findings)
    if not findings and until_us <= max(now_us, from_us):
        expected = "a moment after now and after from"
        findings.append(Finding("body.until", shown(body.until), expected))
    if not findings and until_us - max(now_us, from_us) > _LONGEST_US:
        findings.append(Finding("body.until", shown(body.until), "an end within 400 days"))
    if not (body.rules or body.sites or body.subjects):
        findings.append(Finding("body", "no matcher", "rules, sites or subjects that it is about"))
    registry = services.everything()
    for position, site in enumerate(body.sites):
        if site not in registry.site:
            hint = nearest(site, registry.site)
            findings.append(Finding(f"body.sites[{position}]", shown(site), "a known site", hint))
    for name, words in (("rules", body.rules), ("subjects", body.subjects)):
        for position, word in enumerate(words):
            check_plain(f"body.{name}[{position}]", word, findings)
    if findings:
        raise refused(_BAD, *findings[:20])
    return Silence(
        id=secrets.token_hex(16),
        by=by,
        reason=body.reason.strip(),
        from_us=from_us,
        until_us=until_us,
        rules=tuple(body.rules),
        sites=tuple(body.sites),
        subjects=tuple(body.subjects),
        worst=Severity[body.worst.upper()],
    )


def _instant(name: str, text: str, findings: list[Finding]) -> int:
    try:
        return instant_of(text)
    except ValueError as error:
        findings.append(Finding(f"body.{name}", shown(text), str(error)))
        return 0
