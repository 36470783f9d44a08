"""Packs of rules: those shipped, and those of one's own, which people write here."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from alerts.pack_library import (
    read_own_pack,
    shipped_pack,
    shipped_pack_names,
    shipped_pack_text,
    shipped_trials,
)
from api.actor import ActorHeader, actor_of, author_of, check_plain, decoded, refused
from api.alert_shapes import (
    PackChangeShape,
    PackShape,
    PackTextShape,
    mistake_shapes,
    pack_change_shape,
    pack_facts,
    rule_shapes,
)
from api.alerts import AlertsNotKept, OwnPack, PackChange, PackShelf
from api.auth import require_token
from api.body import BODY_PROBLEMS
from api.catalogue import unknown
from api.packs import checked, refusal
from api.parameters import PageSizeIn, ServicesIn
from api.problems import RETRY_AFTER_S, Finding, Problem, ProblemBody
from api.routes.alerts import desk_of, not_kept
from api.routes.rules import TEXTS, Text, described, force_of, read_body, would_bind
from api.services import Services
from devices.errors import DocumentError

Found = TypeVar("Found")
log = logging.getLogger(__name__)
router = APIRouter(tags=["rules"])

_CHANGE_PROBLEMS: dict[int | str, dict[str, Any]] = {
    409: {"model": ProblemBody, "description": "A pack of this name cannot be written like this"},
    412: {"model": ProblemBody, "description": "It is not the text that was looked at"},
}
PackPath = Annotated[
    str, Path(pattern="^[a-z0-9][a-z0-9_-]{0,62}$", description="name of the pack")
]
IfMatch = Annotated[
    str | None, Header(description="ETag of the text that was looked at; 412 if it moved on")
]


@router.get("/packs", summary="Packs of rules: those shipped, and those of one's own")
async def packs(services: ServicesIn) -> list[PackShape]:
    """Return all packs by name; `in_force` says whether their rules are judged."""
    force = {one.code: one for one in force_of(services).packs}
    found = [
        PackShape(**pack_facts(name, shipped_pack(name), True, name in force))
        for name in shipped_pack_names()
    ]
    shelf = services.packs
    for name in [] if shelf is None else await on_disk(shelf.names):
        if name in shipped_pack_names():
            continue  # not in force, and told of by `greenhouse check`
        found.append(PackShape(**pack_facts(name, force.get(name), False, name in force)))
    return sorted(found, key=lambda one: one.pack)


@router.get("/packs/{pack}", summary="One pack: its text, its trials and what it says")
async def pack_text(services: ServicesIn, response: Response, pack: PackPath) -> PackTextShape:
    """Return a pack as it was written, and its rules; the ETag is for `If-Match` of a change."""
    if pack in shipped_pack_names():
        text, trials = shipped_pack_text(pack), shipped_trials(pack)
        tag = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
        kept = OwnPack(pack, text, trials, tag)
    else:
        kept = await _own(services, pack)
    response.headers["ETag"] = f'"{kept.tag}"'
    return await asyncio.to_thread(_pack_shape, services, kept)


class _PackBody(msgspec.Struct, forbid_unknown_fields=True):
    """A pack to be kept."""

    text: Text
    trials: Text | None = None
    actor: str = ""
    reason: Annotated[str, msgspec.Meta(max_length=1_000)] = ""


_pack_bodies = msgspec.json.Decoder(_PackBody)
_PACK_BODY = described(
    ["text"],
    TEXTS
    | {
        "actor": {"type": "string", "maxLength": 120},
        "reason": {"type": "string", "maxLength": 1_000},
    },
)


@router.put(
    "/packs/{pack}",
    summary="Write a pack of one's own",
    dependencies=[Depends(require_token)],
    openapi_extra=_PACK_BODY,
    responses=BODY_PROBLEMS
    | _CHANGE_PROBLEMS
    | {201: {"model": PackTextShape, "description": "It is new"}},
)
async def put_pack(
    services: ServicesIn,
    request: Request,
    response: Response,
    pack: PackPath,
    x_actor: ActorHeader = None,
    if_match: IfMatch = None,
) -> PackTextShape:
    """Check a pack, run its trials, put it on record and on the disk, and judge by it at once.

    422 names every mistake with its line, or every test that did not come out; nothing is saved
    then.  A pack that is there already is only written over with the ETag of its text.
    """
    body = decoded(await read_body(services, request), _pack_bodies, "invalid-request")
    findings: list[Finding] = []
    by = actor_of(x_actor, body.actor, findings)
    check_plain("body.reason", body.reason, findings)
    if findings:
        raise refused("invalid-request", *findings)
    desk, shelf = desk_of(services), _shelf(services, pack)
    found = await asyncio.to_thread(checked, body.text, body.trials, pack)
    if not found.is_valid:
        raise refusal(found)
    async with services.packs_lock:
        old = await on_disk(shelf.get, pack)
        _check_tag(pack, old, if_match, needed=True)
        before = None if old is None else old.text
        change = PackChange(pack, by, body.reason, services.now_us(), before, body.text)
        await _record(services, change)
        kept = await on_disk(shelf.put, pack, body.text, body.trials)
        await desk.reload()
    response.status_code = 201 if old is None else 200
    response.headers["ETag"] = f'"{kept.tag}"'
    return await asyncio.to_thread(_pack_shape, services, kept)


@router.delete(
    "/packs/{pack}",
    summary="Delete a pack of one's own",
    status_code=204,
    dependencies=[Depends(require_token)],
    responses=_CHANGE_PROBLEMS,
)
async def delete_pack(
    services: ServicesIn,
    pack: PackPath,
    x_actor: ActorHeader = None,
    if_match: IfMatch = None,
    reason: Annotated[str, Query(max_length=500, description="why")] = "",
) -> None:
    """Delete a pack; its open alerts are withdrawn, and its text stays on record."""
    by = author_of(x_actor, "reason", reason, "invalid-request")
    desk, shelf = desk_of(services), _shelf(services, pack)
    async with services.packs_lock:
        old = await _own(services, pack)
        _check_tag(pack, old, if_match, needed=False)
        await _record(services, PackChange(pack, by, reason, services.now_us(), old.text, None))
        await on_disk(shelf.remove, pack)
        await desk.reload()


@router.get("/packs/{pack}/changes", summary="Who changed a pack of one's own")
async def pack_changes(
    services: ServicesIn, pack: PackPath, limit: PageSizeIn = None
) -> list[PackChangeShape]:
    """Return what was recorded of a pack, the newest first, with the text before and after."""
    most = min(limit or 20, services.settings.limits.max_page)
    return [pack_change_shape(one) for one in await desk_of(services).pack_changes(pack, most)]


def _shelf(services: Services, pack: str) -> PackShelf:
    if pack in shipped_pack_names():
        detail = f"{pack} is shipped with the service; copy it under a name of your own"
        raise Problem(409, "shipped-pack", detail)
    if services.packs is None:
        raise Problem(503, "not-alerting", "this process keeps no packs")
    return services.packs


async def _own(services: Services, pack: str) -> OwnPack:
    shelf = services.packs
    found = None if shelf is None else await on_disk(shelf.get, pack)
    if found is None:
        own = [] if shelf is None else await on_disk(shelf.names)
        raise unknown("pack", pack, [*shipped_pack_names(), *own])
    return found


def _check_tag(pack: str, old: OwnPack | None, if_match: str | None, needed: bool) -> None:
    """Raise the problem of a change to another text than the one that was looked at."""
    if if_match is None:
        if needed and old is not None:
            detail = f"there is a pack {pack} already; send the ETag of its text as If-Match"
            raise Problem(409, "pack-exists", detail, headers={"ETag": f'"{old.tag}"'})
        return
    wanted = [word.strip().removeprefix("W/").strip('"') for word in if_match.split(",")]
    if old is None or not {"*", old.tag}.intersection(wanted):
        headers = {} if old is None else {"ETag": f'"{old.tag}"'}
        detail = f"the pack {pack} is not the one that was looked at; nothing was saved"
        raise Problem(412, "pack-changed", detail, headers=headers)


async def _record(services: Services, change: PackChange) -> None:
    try:
        await desk_of(services).record(change)
    except AlertsNotKept as error:
        raise not_kept(error) from error


async def on_disk(work: Callable[..., Found], *args: object) -> Found:
    """Do what waits for the disk in a thread; raise the 503 of a folder that is no use."""
    try:
        return await asyncio.to_thread(work, *args)
    except OSError as error:
        log.error("own packs: %s", error)
        raise Problem(
            503,
            "packs-unusable",
            "the folder of packs cannot be read or written; what was in force is in force",
            headers={"Retry-After": str(RETRY_AFTER_S)},
        ) from error


def _pack_shape(services: Services, kept: OwnPack) -> PackTextShape:
    """Return a pack with its rules: as they are judged where it is in force, else as they read."""
    force = force_of(services)
    in_force = next((one for one in force.packs if one.code == kept.name), None)
    shipped = kept.name in shipped_pack_names()
    try:
        pack = shipped_pack(kept.name) if shipped else read_own_pack(kept.text, "text", kept.name)
    except DocumentError as error:
        facts = pack_facts(kept.name, None, False, in_force is not None)
        mistakes = mistake_shapes(error.mistakes)
        return PackTextShape(
            **facts, text=kept.text, trials=kept.trials, rules=[], mistakes=mistakes
        )
    shapes = (
        rule_shapes(pack.rules, force.bindings, force.unbound, force.failures)
        if in_force is not None
        else would_bind(services, pack)
    )
    return PackTextShape(
        **pack_facts(kept.name, pack, shipped, in_force is not None),
        text=kept.text, trials=kept.trials, rules=shapes, mistakes=[],
    )  # fmt: skip
