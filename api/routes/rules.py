"""Rules and packs: what is judged and where, packs of one's own, and rules tried on history."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from alerts.binding import bind
from alerts.pack_library import (
    read_own_pack,
    shipped_pack,
    shipped_pack_names,
    shipped_pack_text,
    shipped_trials,
)
from alerts.rule import Pack, Rule
from api.actor import ActorHeader, actor_of, check_plain, decoded, refused
from api.alert_shapes import (
    BindingShape,
    CheckShape,
    PackChangeShape,
    PackShape,
    PackTextShape,
    RuleShape,
    TrialFailureShape,
    binding_shape,
    mistake_shapes,
    pack_change_shape,
    pack_facts,
    rule_shapes,
)
from api.alerts import AlertsNotKept, OwnPack, PackChange, PackShelf, RulesInForce
from api.auth import require_token
from api.body import json_body
from api.catalogue import sites_below, unknown
from api.instants import parse_instant_us
from api.packs import MOST_TEXT, Checked, checked, refusal
from api.parameters import PageIn, PageSizeIn, ServicesIn, cut
from api.problems import RETRY_AFTER_S, Finding, Problem, ProblemBody, shown
from api.replay_shapes import ReplayShape, replay_shape
from api.replays import (
    Bounds,
    LimitRefused,
    Question,
    ReplayBusy,
    ReplayTooLarge,
    find_rule,
    replay_stored,
    with_limits,
)
from api.routes.alerts import desk_of, not_kept
from api.services import Services
from devices.document import nearest
from devices.duration import parse_duration_s
from devices.errors import DocumentError

log = logging.getLogger(__name__)
router = APIRouter(tags=["rules"])

_MOST_BODY_BYTES = 4 * MOST_TEXT
_BODY_PROBLEMS: dict[int | str, dict[str, Any]] = {
    408: {"model": ProblemBody, "description": "The body did not come in time"},
    413: {"model": ProblemBody, "description": "The body is too large"},
    415: {"model": ProblemBody, "description": "The body is not JSON"},
}
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
_AGO = re.compile(r"\d{1,6}(\.\d+)? ?(min|[shd])|P.{1,20}")
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_TEXT)]


# -- rules


@router.get("/rules", summary="Rules in force, and where each is judged")
async def rules(
    services: ServicesIn,
    request: Request,
    response: Response,
    page: PageIn,
    pack: Annotated[str | None, Query(max_length=63, description="only those of one pack")] = None,
    failed: Annotated[
        bool | None, Query(description="whether the rule raised an error and is out of use")
    ] = None,
) -> list[RuleShape]:
    """Return the rules of all packs in force, in the order of the packs."""
    force = desk_of(services).rules()
    if pack is not None and pack not in (known := [one.code for one in force.packs]):
        raise unknown("pack", pack, known, where="query.pack")
    wanted = [
        rule
        for one in force.packs
        if pack in (None, one.code)
        for rule in one.rules
        if failed in (None, rule.code in force.failures)
    ]
    shown_rules = cut(wanted, page, request, response)
    return rule_shapes(shown_rules, force.bindings, force.unbound, force.failures)


@router.get("/rules/{rule}/bindings", summary="Where one rule is judged")
async def rule_bindings(
    services: ServicesIn,
    request: Request,
    response: Response,
    page: PageIn,
    rule: Annotated[str, Path(max_length=130, description="code of the rule: pack.rule")],
    site: Annotated[str | None, Query(description="site code; includes everything below")] = None,
) -> list[BindingShape]:
    """Return the subjects that a rule is judged on, with the rules it stands in for there."""
    force = desk_of(services).rules()
    known = force.rules()
    if rule not in known:
        raise unknown("rule", rule, known)
    below = _below(services, site)
    found = [
        one
        for one in force.bindings
        if one.rule.code == rule and (below is None or one.subject.site in below)
    ]
    return [binding_shape(one) for one in cut(found, page, request, response)]


class _CheckBody(msgspec.Struct, forbid_unknown_fields=True):
    """A text to be looked at."""

    text: _Text
    trials: _Text | None = None


_check_bodies = msgspec.json.Decoder(_CheckBody)
_TEXTS = {
    "text": {"type": "string", "maxLength": MOST_TEXT, "description": "the pack, as YAML"},
    "trials": {"type": ["string", "null"], "maxLength": MOST_TEXT, "description": "its trials"},
}


def _described(required: Sequence[str], properties: Mapping[str, Any]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": list(required),
        "additionalProperties": False,
        "properties": dict(properties),
    }
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.post(
    "/rules/check",
    summary="Check the text of a pack without saving it",
    openapi_extra=_described(["text"], _TEXTS),
    responses=_BODY_PROBLEMS,
)
async def check_rules(services: ServicesIn, request: Request) -> CheckShape:
    """Return every mistake with its line, what its trials say, and where its rules would be judged.

    200 also where something is wrong with it: that is the answer.
    """
    body = decoded(await _read(services, request), _check_bodies, "invalid-request")
    found = await asyncio.to_thread(checked, body.text, body.trials, None)
    return await asyncio.to_thread(_check_shape, services, found)


def _check_shape(services: Services, found: Checked) -> CheckShape:
    return CheckShape(
        valid=found.is_valid,
        mistakes=mistake_shapes(found.mistakes),
        trial_mistakes=mistake_shapes(found.trial_mistakes),
        failures=[
            TrialFailureShape(line=one.line, test=one.test, text=one.text) for one in found.failures
        ],
        rules=_would_bind(services, found.pack),
    )


def _would_bind(services: Services, pack: Pack | None) -> list[RuleShape]:
    """Return the rules of a pack that is not in force, with where they would be judged alone."""
    if pack is None:
        return []
    bindings, unbound = bind(pack.rules, services.registry(), _force(services).surroundings)
    return rule_shapes(pack.rules, bindings, unbound, {})


def _force(services: Services) -> RulesInForce:
    return RulesInForce() if services.alerts is None else services.alerts.rules()


# -- packs


@router.get("/packs", summary="Packs of rules: those shipped, and those of one's own")
async def packs(services: ServicesIn) -> list[PackShape]:
    """Return all packs by name; `in_force` says whether their rules are judged."""
    force = {one.code: one for one in _force(services).packs}
    found = [
        PackShape(**pack_facts(name, shipped_pack(name), True, name in force))
        for name in shipped_pack_names()
    ]
    shelf = services.packs
    for name in [] if shelf is None else await asyncio.to_thread(shelf.names):
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

    text: _Text
    trials: _Text | None = None
    actor: str = ""
    reason: Annotated[str, msgspec.Meta(max_length=1_000)] = ""


_pack_bodies = msgspec.json.Decoder(_PackBody)
_PACK_BODY = _described(
    ["text"],
    _TEXTS
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
    responses=_BODY_PROBLEMS
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
    body = decoded(await _read(services, request), _pack_bodies, "invalid-request")
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
        old = await asyncio.to_thread(shelf.get, pack)
        _check_tag(pack, old, if_match, needed=True)
        before = None if old is None else old.text
        change = PackChange(pack, by, body.reason, services.now_us(), before, body.text)
        await _record(services, change)
        try:
            kept = await asyncio.to_thread(shelf.put, pack, body.text, body.trials)
        except OSError as error:
            raise _not_written(pack, error) from error
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
    findings: list[Finding] = []
    by = actor_of(x_actor, "", findings)
    check_plain("query.reason", reason, findings)
    if findings:
        raise refused("invalid-request", *findings)
    desk, shelf = desk_of(services), _shelf(services, pack)
    async with services.packs_lock:
        old = await _own(services, pack)
        _check_tag(pack, old, if_match, needed=False)
        await _record(services, PackChange(pack, by, reason, services.now_us(), old.text, None))
        try:
            await asyncio.to_thread(shelf.remove, pack)
        except OSError as error:
            raise _not_written(pack, error) from error
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
    found = None if shelf is None else await asyncio.to_thread(shelf.get, pack)
    if found is None:
        own = [] if shelf is None else await asyncio.to_thread(shelf.names)
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


def _not_written(pack: str, error: OSError) -> Problem:
    log.error("pack %s could not be written: %s", pack, error)
    return Problem(
        503,
        "pack-not-written",
        f"the pack {pack} could not be written to the disk; what was in force is in force",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


def _pack_shape(services: Services, kept: OwnPack) -> PackTextShape:
    """Return a pack with its rules: as they are judged where it is in force, else as they read."""
    force = _force(services)
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
        else _would_bind(services, pack)
    )
    return PackTextShape(
        **pack_facts(kept.name, pack, shipped, in_force is not None),
        text=kept.text, trials=kept.trials, rules=shapes, mistakes=[],
    )  # fmt: skip


async def _read(services: Services, request: Request) -> bytes:
    limits = services.settings.limits
    return await json_body(request, _MOST_BODY_BYTES, limits.body_timeout_s)


# -- replay


class _Rules(msgspec.Struct, forbid_unknown_fields=True):
    """Rules of a text, or of packs by name; *rules* chooses some of them."""

    text: _Text | None = None
    packs: Annotated[list[str], msgspec.Meta(max_length=50)] = []


class _ReplayBody(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be replayed."""

    since: str
    until: str | None = None
    text: _Text | None = None
    packs: Annotated[list[str], msgspec.Meta(max_length=50)] = []
    rules: Annotated[list[str], msgspec.Meta(max_length=500)] = []
    sites: Annotated[list[str], msgspec.Meta(max_length=100)] = []
    limits: Annotated[dict[str, str], msgspec.Meta(max_length=50)] = {}
    compare: _Rules | None = None
    per_subject: bool = False
    episodes: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 100


_replay_bodies = msgspec.json.Decoder(_ReplayBody)
_BAD_REPLAY = "invalid-replay"
_CODES = {"type": "array", "items": {"type": "string"}}
_RULES_OF = {"text": _TEXTS["text"], "packs": _CODES | {"description": "names of packs"}}
_REPLAY_BODY = _described(
    ["since"],
    _RULES_OF
    | {
        "since": {"type": "string", "description": "an instant, or how long ago: 90d"},
        "until": {"type": "string", "description": "an instant; now if left out"},
        "rules": _CODES | {"description": "only these of them"},
        "sites": _CODES | {"description": "only subjects at these sites and below"},
        "limits": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": 'other limits by rule or rule:severity, such as {"hot": "34 degC"}',
        },
        "compare": {
            "type": "object",
            "additionalProperties": False,
            "properties": _RULES_OF,
            "description": "another version of the rules",
        },
        "per_subject": {"type": "boolean"},
        "episodes": {
            "type": "integer",
            "minimum": 0,
            "maximum": 1000,
            "description": "how many alerts to list, the newest first",
        },
    },
)


@router.post(
    "/alerts/replay",
    summary="Try rules on stored readings",
    openapi_extra=_REPLAY_BODY,
    responses=_BODY_PROBLEMS
    | {429: {"model": ProblemBody, "description": "Another replay is under way"}},
)
async def replay_rules(services: ServicesIn, request: Request) -> ReplayShape:
    """Run the live engine over history: how often, when, day or night, how long.

    With `limits` or `compare` also what another version of the rules would have done on the same
    readings.  One replay at a time; bounded in readings and in time.
    """
    body = decoded(await _read(services, request), _replay_bodies, _BAD_REPLAY)
    question = await asyncio.to_thread(_question, services, body)
    limits = services.settings.limits
    bounds = Bounds(limits.max_replay_readings, limits.max_replay_s)
    registry = services.registry()
    surroundings = _force(services).surroundings
    try:
        with services.replays.entered():
            answer = await replay_stored(question, registry, surroundings, services.history, bounds)
            return await asyncio.to_thread(
                replay_shape, answer, registry, body.per_subject, body.episodes
            )
    except ReplayBusy as error:
        detail = "another replay is under way; one at a time"
        raise Problem(
            429, "replay-busy", detail, headers={"Retry-After": str(RETRY_AFTER_S)}
        ) from error
    except ReplayTooLarge as error:
        raise Problem(422, "replay-too-large", str(error)) from error


def _question(services: Services, body: _ReplayBody) -> Question:
    findings: list[Finding] = []
    now_us = services.now_us()
    until_us = now_us if body.until is None else _moment("until", body.until, now_us, findings)
    since_us = _moment("since", body.since, until_us, findings)
    until_us = min(until_us, now_us)
    if not findings and since_us >= until_us:
        findings.append(Finding("body.since", shown(body.since), "a moment before until and now"))
    longest_s = services.settings.limits.max_range_s
    if not findings and (until_us - since_us) / 1e6 > longest_s:
        expected = f"at most {longest_s / 86400:.0f} days between since and until"
        findings.append(Finding("body.since", shown(body.since), expected))
    sites = _replay_sites(services, body.sites, findings)
    chosen = _rules(services, "body", body.text, body.packs, findings)
    if body.compare is not None and body.limits:
        findings.append(Finding("body.compare", "limits too", "limits or compare, not both"))
    other: tuple[Rule, ...] | None = None
    if body.compare is not None:
        compared = body.compare
        other = _rules(services, "body.compare", compared.text, compared.packs, findings)
    if findings:
        raise refused(_BAD_REPLAY, *findings[:100])
    try:
        if body.rules:
            chosen = tuple(find_rule(chosen, word) for word in dict.fromkeys(body.rules))
        if body.limits:
            other = with_limits(chosen, body.limits)
    except LimitRefused as error:
        where = "body.limits" if body.limits else "body.rules"
        raise Problem(422, _BAD_REPLAY, f"{where}: {error}") from error
    return Question(chosen, since_us, until_us, sites, other)


def _rules(
    services: Services, where: str, text: str | None, names: Sequence[str], findings: list[Finding]
) -> tuple[Rule, ...]:
    """Return the rules of a text or of packs; what is wrong goes to *findings*."""
    if (text is None) == (not names):
        got = "neither" if text is None else "both"
        findings.append(Finding(where, got, "either text or packs"))
        return ()
    if text is not None:
        found = checked(text, None, None)
        findings += [
            Finding(
                f"{where}.text:{one.line}:{one.column} {one.key}".rstrip(),
                one.got, one.expected, one.hint,
            )
            for one in found.mistakes
        ]  # fmt: skip
        return found.pack.rules if found.pack else ()
    return _pack_rules(services, where, names, findings)


def _pack_rules(
    services: Services, where: str, names: Sequence[str], findings: list[Finding]
) -> tuple[Rule, ...]:
    own = [] if services.packs is None else services.packs.names()
    known = dict.fromkeys([*shipped_pack_names(), *own])
    chosen: list[Rule] = []
    for position, name in enumerate(dict.fromkeys(names)):
        if name in shipped_pack_names():
            chosen += shipped_pack(name).rules
            continue
        kept = services.packs.get(name) if services.packs is not None and name in own else None
        found = None if kept is None else checked(kept.text, None, name)
        if found is None or found.pack is None:
            expected = "a pack without mistakes" if found else "a known pack"
            hint = "" if found else nearest(name[:100], known)
            findings.append(Finding(f"{where}.packs[{position}]", shown(name), expected, hint))
        else:
            chosen += found.pack.rules
    return tuple(chosen)


def _moment(name: str, text: str, now_us: int, findings: list[Finding]) -> int:
    """Return an instant, or the moment that lies a duration before *now_us*."""
    try:
        if _AGO.fullmatch(text):
            return now_us - round(parse_duration_s(text) * 1e6)
        return parse_instant_us(text)
    except ValueError as error:
        expected = f"{error}; or how long ago, such as 90d"
        findings.append(Finding(f"body.{name}", shown(text), expected))
        return now_us


def _replay_sites(
    services: Services, codes: Sequence[str], findings: list[Finding]
) -> frozenset[str] | None:
    if not codes:
        return None
    registry = services.registry()
    below: set[str] = set()
    for position, code in enumerate(codes):
        if code in registry.site:
            below |= sites_below(registry, code)
        else:
            hint = nearest(code[:200], registry.site)
            where = f"body.sites[{position}]"
            findings.append(Finding(where, shown(code), "a known site", hint))
    return frozenset(below)


def _below(services: Services, site: str | None) -> set[str] | None:
    if site is None:
        return None
    registry = services.registry()
    if site not in registry.site:
        raise unknown("site", site, registry.site, where="query.site")
    return sites_below(registry, site)
