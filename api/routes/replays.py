"""Rules tried on stored readings: one replay at a time, bounded, and beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import msgspec
from fastapi import APIRouter, Request

from alerts.pack_library import shipped_pack, shipped_pack_names
from alerts.rule import Rule
from api.actor import decoded, refused
from api.body import BODY_PROBLEMS
from api.catalogue import sites_below
from api.instants import moment_us
from api.packs import checked
from api.parameters import ServicesIn
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
from api.routes.packs import on_disk
from api.routes.rules import TEXTS, Text, described, force_of, read_body
from api.services import Services
from devices.document import nearest

router = APIRouter(tags=["rules"])


class _Rules(msgspec.Struct, forbid_unknown_fields=True):
    """Rules of a text, or of packs by name; *rules* chooses some of them."""

    text: Text | None = None
    packs: Annotated[list[str], msgspec.Meta(max_length=50)] = []


class _ReplayBody(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be replayed."""

    since: str
    until: str | None = None
    text: Text | None = None
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
_RULES_OF = {"text": TEXTS["text"], "packs": _CODES | {"description": "names of packs"}}
_REPLAY_BODY = described(
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
    responses=BODY_PROBLEMS
    | {429: {"model": ProblemBody, "description": "Another replay is under way"}},
)
async def replay_rules(services: ServicesIn, request: Request) -> ReplayShape:
    """Run the live engine over history: how often, when, day or night, how long.

    With `limits` or `compare` also what another version of the rules would have done on the same
    readings.  One replay at a time; bounded in readings and in time.
    """
    body = decoded(await read_body(services, request), _replay_bodies, _BAD_REPLAY)
    question = await on_disk(_question, services, body)
    limits = services.settings.limits
    bounds = Bounds(limits.max_replay_readings, limits.max_replay_s)
    registry = services.registry()
    surroundings = force_of(services).surroundings
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
        return moment_us(text, now_us)
    except ValueError as error:
        findings.append(Finding(f"body.{name}", shown(text), str(error)))
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
