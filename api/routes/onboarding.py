"""Unknown devices: seen, tried, and let in."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request, Response

from api.actor import ActorHeader, actor_of, decoded, refused
from api.auth import require_token
from api.body import BODY_PROBLEMS, json_body
from api.onboarding import (
    ClaimNotWritten,
    Found,
    OnboardingDesk,
    OnboardingRefused,
    Proposal,
    UnknownUnclaimed,
)
from api.onboarding_shapes import (
    ClaimedShape,
    TriedShape,
    UnclaimedDetailShape,
    UnclaimedShape,
    claimed_shape,
    tried_shape,
    unclaimed_detail_shape,
    unclaimed_shape,
)
from api.parameters import ServicesIn
from api.problems import Finding, Problem, ProblemBody, shown
from api.services import Services
from devices.errors import Mistake
from devices.unclaimed import HeardMessage

# All of it needs a token: it holds foreign bytes, and what a claim writes is configuration.
router = APIRouter(tags=["onboarding"], dependencies=[Depends(require_token)])

_MOST_BODY_BYTES = 512_000
_MOST_TEXT = 256_000
_MOST_FINDINGS = 50
_MOST_LEVELS = 12
_UNCLAIMED_ID = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="id of the list")]
Text = Annotated[str, msgspec.Meta(max_length=_MOST_TEXT)]
_DEVICE = {
    "type": "object",
    "description": "a device entry as in the site file: code, site, payload, series, …",
}
_MAPPING = {"type": "string", "description": "a new mapping as YAML, if the payload needs one"}
_GUESSED = {"type": "boolean", "description": "take what was guessed where `device` says nothing"}


class _SampleBody(msgspec.Struct, forbid_unknown_fields=True):
    """A message to try: its payload as text or as base64."""

    topic: Annotated[str, msgspec.Meta(min_length=1, max_length=65_535)]
    text: Text | None = None
    payload: Text | None = None


class _TryBody(msgspec.Struct, forbid_unknown_fields=True):
    """What to try, on the samples of an unclaimed device or on others."""

    unclaimed: str = ""
    samples: Annotated[list[_SampleBody], msgspec.Meta(max_length=100)] = msgspec.field(
        default_factory=list
    )
    device: dict[str, Any] | None = None
    mapping: Text = ""
    payload: str = ""
    profile: Text = ""
    reads: Annotated[list[dict[str, Any]], msgspec.Meta(max_length=100)] = msgspec.field(
        default_factory=list
    )
    guessed: bool = False


class _ClaimBody(msgspec.Struct, forbid_unknown_fields=True):
    """How to describe an unclaimed device, and who says so."""

    device: dict[str, Any]
    mapping: Text = ""
    guessed: bool = False
    actor: str = ""


_try_bodies = msgspec.json.Decoder(_TryBody)
_claim_bodies = msgspec.json.Decoder(_ClaimBody)


def _described(required: Sequence[str], properties: dict[str, Any]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": list(required),
        "additionalProperties": False,
        "properties": properties,
    }
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.get("/unclaimed", summary="Devices that nobody has described yet")
async def unclaimed(
    services: ServicesIn,
    request: Request,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=200, description="most entries")] = 50,
    offset: Annotated[int, Query(ge=0, le=100_000, description="how many to skip")] = 0,
) -> list[UnclaimedShape]:
    """Return who sends to topics that belong to no device, those heard last first.

    Each with its newest message, and with what format, quantities and units it may be sending:
    guesses, with their confidence and the reason.
    """
    found, total = await _desk(services).list(limit, offset)
    response.headers["X-Total-Count"] = str(total)
    if offset + len(found) < total and found:
        query = request.url.include_query_params(limit=limit, offset=offset + limit).query
        response.headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
    return [unclaimed_shape(one) for one in found]


@router.get("/unclaimed/{id}", summary="One device that nobody has described yet")
async def one_unclaimed(services: ServicesIn, id: _UNCLAIMED_ID) -> UnclaimedDetailShape:
    """Return it with its newest message of each topic, and a description to start from."""
    return unclaimed_detail_shape(await _found(services, id))


@router.post(
    "/unclaimed/{id}/claim",
    status_code=201,
    summary="Make a device of it",
    openapi_extra=_described(
        ["device"],
        {
            "device": _DEVICE,
            "mapping": _MAPPING,
            "guessed": _GUESSED,
            "actor": {"type": "string", "maxLength": 120},
        },
    ),
    responses={
        **BODY_PROBLEMS,
        507: {"model": ProblemBody, "description": "The files cannot be written"},
    },
)
async def claim(
    services: ServicesIn, request: Request, id: _UNCLAIMED_ID, x_actor: ActorHeader = None
) -> ClaimedShape:
    """Describe it: write its files beside the site file, take it into the registry.

    The description is read with the whole site file first, and every mistake is named.  What it
    sent before is read again with its times, and stands in its series within seconds.
    """
    desk = _desk(services)
    body = decoded(await _body(services, request), _claim_bodies, "invalid-claim")
    _check_depth(body.device)
    findings: list[Finding] = []
    actor = actor_of(x_actor, body.actor, findings)
    if findings:
        raise refused("invalid-claim", *findings)
    found = await _found(services, id)
    proposal = desk.proposed(found, body.device, body.mapping, guessed=body.guessed)
    try:
        return claimed_shape(await desk.claim(found, proposal, actor))
    except OnboardingRefused as error:
        raise _refusal("claim-refused", error.mistakes, "nothing was written") from error
    except ClaimNotWritten as error:
        detail = f"nothing was changed: {error}"
        raise Problem(507, "claim-not-written", detail) from error


@router.post(
    "/profiles/try",
    summary="See what readings a description would give",
    openapi_extra=_described(
        [],
        {
            "unclaimed": {"type": "string", "description": "id of an unclaimed device"},
            "samples": {
                "type": "array",
                "maxItems": 100,
                "description": "messages: topic, and text or payload (base64)",
                "items": {
                    "type": "object",
                    "required": ["topic"],
                    "properties": {
                        "topic": {"type": "string"},
                        "text": {"type": "string"},
                        "payload": {"type": "string"},
                    },
                },
            },
            "device": _DEVICE,
            "mapping": _MAPPING,
            "payload": {"type": "string", "description": "a payload alone, without a device"},
            "profile": {"type": "string", "description": "a register profile as YAML"},
            "reads": {
                "type": "array",
                "maxItems": 100,
                "description": "answers: request and reply, or function, address, words",
                "items": {"type": "object"},
            },
            "guessed": _GUESSED,
        },
    ),
    responses=BODY_PROBLEMS,
)
async def try_profile(services: ServicesIn, request: Request) -> TriedShape:
    """Read samples by a description that is saved nowhere, and return the readings it gives.

    The samples are those of an unclaimed device, or given here.  With `device` the readings of its
    series come back as the pipeline would make them; with `mapping` or `payload` alone the values
    under the payload's own keys; with `profile` what a register profile makes of `reads`.
    """
    desk = _desk(services)
    body = decoded(await _body(services, request), _try_bodies, "invalid-try")
    _check_depth([body.device, body.reads])
    found = await _found(services, body.unclaimed) if body.unclaimed else None
    samples = _samples(body.samples, services.now_us())
    if found is not None:
        samples = [*found.unclaimed.samples, *samples]
    if not samples and not (body.profile and body.reads):
        where = "reads" if body.profile else "samples"
        expected = "an answer" if body.profile else "a message, or the id of an unclaimed device"
        finding = Finding(f"body.{where}", "nothing", expected)
        raise refused("invalid-try", finding)
    try:
        return tried_shape(await desk.attempt(_proposal(desk, found, body), samples))
    except OnboardingRefused as error:
        raise _refusal("try-refused", error.mistakes, "nothing was tried") from error


def _proposal(desk: OnboardingDesk, found: Found | None, body: _TryBody) -> Proposal:
    if found is not None and (body.device is not None or body.guessed):
        return desk.proposed(found, body.device or {}, body.mapping, guessed=body.guessed)
    return Proposal(body.device, body.mapping, body.payload, body.profile, tuple(body.reads))


def _samples(given: Sequence[_SampleBody], now_us: int) -> list[HeardMessage]:
    samples: list[HeardMessage] = []
    findings: list[Finding] = []
    for index, one in enumerate(given):
        where = f"body.samples[{index}]"
        if (one.text is None) == (one.payload is None):
            findings.append(Finding(where, "both or none", "either text or payload"))
            continue
        try:
            payload = (one.text or "").encode()
            if one.payload is not None:
                payload = base64.b64decode(one.payload, validate=True)
        except (binascii.Error, ValueError) as error:
            findings.append(Finding(f"{where}.payload", str(error), "base64, or text in UTF-8"))
            continue
        samples.append(HeardMessage(one.topic, payload, len(payload), now_us))
    if findings:
        raise refused("invalid-try", *findings)
    return samples


def _check_depth(entry: object) -> None:
    """Raise the 422 of an entry that is nested deeper than any device's."""
    level = [entry]
    for _ in range(_MOST_LEVELS):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    if level:
        finding = Finding("body.device", "a deep nest", f"at most {_MOST_LEVELS} levels")
        raise refused("invalid-device", finding)


async def _body(services: Services, request: Request) -> bytes:
    return await json_body(request, _MOST_BODY_BYTES, services.settings.limits.body_timeout_s)


async def _found(services: Services, unclaimed_id: str) -> Found:
    try:
        return await _desk(services).get(unclaimed_id)
    except UnknownUnclaimed as error:
        detail = f"no unclaimed device {shown(unclaimed_id)}: described meanwhile, or forgotten"
        raise Problem(404, "unknown-unclaimed", detail) from error


def _desk(services: Services) -> OnboardingDesk:
    if services.onboarding is None:
        raise Problem(503, "not-onboarding", "this process does not know its site file")
    return services.onboarding


def _refusal(slug: str, mistakes: Sequence[Mistake], end: str) -> Problem:
    """Return the 422 that names every one of *mistakes* with its file and line."""
    findings = [
        Finding(
            f"{one.file}:{one.line}:{one.column} {one.key}".rstrip(),
            one.got,
            one.expected,
            one.hint,
        )
        for one in mistakes[:_MOST_FINDINGS]
    ]
    first = findings[0]
    detail = f"{first.where}: got {first.got}, expected {first.expected}; {end}"
    return Problem(422, slug, detail, findings=findings)
