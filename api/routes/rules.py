"""Rules in force: what is judged and where; and texts of rules, checked without saving them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response

from alerts.binding import bind
from alerts.rule import Pack
from api.actor import decoded
from api.alert_shapes import (
    BindingShape,
    CheckShape,
    RuleShape,
    TrialFailureShape,
    binding_shape,
    mistake_shapes,
    rule_shapes,
)
from api.alerts import RulesInForce
from api.body import BODY_PROBLEMS, json_body
from api.catalogue import sites_below, unknown
from api.packs import MOST_TEXT, Checked, checked
from api.parameters import PageIn, ServicesIn, cut
from api.routes.alerts import desk_of
from api.services import Services

router = APIRouter(tags=["rules"])

_MOST_BODY_BYTES = 4 * MOST_TEXT
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_TEXT)]


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

    text: Text
    trials: Text | None = None


_check_bodies = msgspec.json.Decoder(_CheckBody)
TEXTS = {
    "text": {"type": "string", "maxLength": MOST_TEXT, "description": "the pack, as YAML"},
    "trials": {"type": ["string", "null"], "maxLength": MOST_TEXT, "description": "its trials"},
}


def described(required: Sequence[str], properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of a JSON body that the route reads by itself."""
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
    openapi_extra=described(["text"], TEXTS),
    responses=BODY_PROBLEMS,
)
async def check_rules(services: ServicesIn, request: Request) -> CheckShape:
    """Return every mistake with its line, what its trials say, and where its rules would be judged.

    200 also where something is wrong with it: that is the answer.
    """
    body = decoded(await read_body(services, request), _check_bodies, "invalid-request")
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
        rules=would_bind(services, found.pack),
    )


def would_bind(services: Services, pack: Pack | None) -> list[RuleShape]:
    """Return the rules of a pack that is not in force, with where they would be judged alone."""
    if pack is None:
        return []
    bindings, unbound = bind(pack.rules, services.registry(), force_of(services).surroundings)
    return rule_shapes(pack.rules, bindings, unbound, {})


def force_of(services: Services) -> RulesInForce:
    """Return what is judged now; nothing where no rules are judged here."""
    return RulesInForce() if services.alerts is None else services.alerts.rules()


async def read_body(services: Services, request: Request) -> bytes:
    """Return a body that is large enough for the text of a pack with its trials."""
    limits = services.settings.limits
    return await json_body(request, _MOST_BODY_BYTES, limits.body_timeout_s)


def _below(services: Services, site: str | None) -> set[str] | None:
    if site is None:
        return None
    registry = services.registry()
    if site not in registry.site:
        raise unknown("site", site, registry.site, where="query.site")
    return sites_below(registry, site)
