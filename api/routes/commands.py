"""Commands to devices: given with a token and a name, read back, and on record."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from api.actor import MOST_ACTOR, actor_of, check_plain, decoded, refused
from api.auth import require_token
from api.body import BODY_PROBLEMS, json_body
from api.catalogue import unknown
from api.commands import (
    CommandDeskClosed,
    CommandEndNotKept,
    CommandNotKept,
    CommandShape,
    command_shape,
)
from api.parameters import PageSizeIn, ServicesIn
from api.problems import RETRY_AFTER_S, Finding, Problem, ProblemBody
from api.services import Services
from ingest.modbus.command import CommandRecord, Outcome, WriteCommand, WriteRefused

router = APIRouter(tags=["commands"])

_MOST_BODY_BYTES = 16_384
_MOST_REASON = 1_000
_BAD_COMMAND = "invalid-command"

_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["key", "value"],
                "additionalProperties": False,
                "properties": {
                    "key": {"type": "string", "description": "point of the device's profile"},
                    "value": {"type": "number", "description": "in the unit of the point"},
                    "actor": {"type": "string", "maxLength": MOST_ACTOR},
                    "reason": {"type": "string", "maxLength": _MOST_REASON},
                },
            }
        }
    },
}


class _Order(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a command."""

    key: Annotated[str, msgspec.Meta(min_length=1, max_length=120)]
    value: float
    actor: str = ""
    reason: Annotated[str, msgspec.Meta(max_length=_MOST_REASON)] = ""


_orders = msgspec.json.Decoder(_Order)


@router.post(
    "/devices/{device}/commands",
    summary="Write a value into a device",
    dependencies=[Depends(require_token)],
    openapi_extra={"requestBody": _BODY},
    responses=BODY_PROBLEMS
    | {
        409: {"model": ProblemBody, "description": "It is not allowed; nothing was sent"},
        502: {"model": ProblemBody, "description": "The device refused, or nobody knows"},
        503: {"model": ProblemBody, "description": "It cannot be sent, or its end not be kept"},
    },
)
async def post_command(
    services: ServicesIn,
    request: Request,
    device: Annotated[str, Path(description="device code")],
    x_actor: Annotated[
        str | None, Header(description="who gives the command, in UTF-8; or `actor` in the body")
    ] = None,
) -> CommandShape:
    """Write one value into a device, read it back, and return the record of it.

    Allowed only where the bus of the device has `writes: true`, for points that its profile calls
    writable, between the limits there.  What it held before, what was written and what it held
    afterwards are kept with the name of who commanded.  200 means that it was read back as written.
    """
    body = await json_body(request, _MOST_BODY_BYTES, services.settings.limits.body_timeout_s)
    wanted = _wanted(device, body, x_actor)
    known = services.registry().device
    if device not in known:
        raise unknown("device", device, known)
    return _answer(await _carry_out(services, wanted))


@router.get("/commands", summary="Commands that were given, and what became of them")
async def commands(
    services: ServicesIn,
    request: Request,
    response: Response,
    device: Annotated[str | None, Query(description="device code")] = None,
    limit: PageSizeIn = None,
    before: Annotated[
        str | None,
        Query(pattern="^[0-9a-f]{32}$", description="id of the last entry of the page before"),
    ] = None,
) -> list[CommandShape]:
    """Return commands, the newest first.

    One that is `begun` is under way, or the service was ended before it was.
    """
    if services.command_shelf is None:
        raise Problem(503, "not-commanding", "this process keeps no commands")
    most = min(limit or 100, services.settings.limits.max_page)
    found = await services.command_shelf.list(device, most, before)
    known = services.everything().device
    if not found and device is not None and device not in known:
        raise unknown("device", device, known, where="query.device")
    if len(found) == most:
        query = request.url.include_query_params(before=found[-1].id, limit=most).query
        response.headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
    return [command_shape(one) for one in found]


async def _carry_out(services: Services, wanted: WriteCommand) -> CommandRecord:
    if services.commands is None:
        raise Problem(503, "not-commanding", "this process polls no bus; nothing was sent")
    try:
        return await services.commands.write(wanted)
    except WriteRefused as error:
        raise Problem(409, error.kind, f"{error}; nothing was sent") from error
    except CommandNotKept as error:
        raise Problem(
            503,
            "command-not-kept",
            "nothing was sent: the command cannot be put on record, the database does not answer",
            headers={"Retry-After": str(RETRY_AFTER_S)},
        ) from error
    except CommandDeskClosed as error:
        raise Problem(503, "not-commanding", "the service is stopping; nothing was sent") from error
    except CommandEndNotKept as error:
        # No Retry-After: whoever comes back without looking commands twice.
        record = error.record
        detail = f"command {record.id} was {_became(record)}, but that could not be put on record"
        raise Problem(503, "command-end-not-kept", detail) from error


def _answer(record: CommandRecord) -> CommandShape:
    if record.outcome is Outcome.DONE:
        return command_shape(record)
    detail = f"command {record.id} {_became(record)}"
    if record.outcome is Outcome.FAILED:
        raise Problem(502, "command-failed", detail)
    raise Problem(502, "command-unsure", f"{detail}; look at the device")


def _became(record: CommandRecord) -> str:
    return f"{record.outcome}: {record.text}" if record.text else str(record.outcome)


def _wanted(device: str, body: bytes, x_actor: str | None) -> WriteCommand:
    """Return the command in *body*; raise a 422 `Problem` naming what is wrong."""
    try:
        order = decoded(body, _orders, _BAD_COMMAND)
        findings: list[Finding] = []
        actor = actor_of(x_actor, order.actor, findings)
        check_plain("body.reason", order.reason, findings)
        if findings:
            raise refused(_BAD_COMMAND, *findings)
    except Problem as problem:
        detail = f"{problem.detail}; nothing was sent"
        raise Problem(422, _BAD_COMMAND, detail, findings=problem.findings) from problem
    return WriteCommand(device, order.key, order.value, actor, order.reason)
