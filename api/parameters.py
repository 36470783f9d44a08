"""Parameters that several routes share, and the rule that an unknown or repeated one is an error.

A misspelt filter that is quietly ignored answers another question than the one that was asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Query, Request, Response

from api.instants import Instant
from api.operations import operation_of
from api.problems import RETRY_AFTER_S, Finding, Problem, invalid_query
from api.services import Limits, Services, services_in
from devices.document import nearest
from devices.duration import format_duration

Item = TypeVar("Item")
ServicesIn = Annotated[Services, Depends(services_in)]

DEFAULT_RANGE_US = 86_400_000_000


async def known_parameters_only(request: Request) -> None:
    """Refuse a query parameter that the route does not have, or a single one that stands twice."""
    known = operation_of(request).parameters
    findings = []
    for name, times in Counter(key for key, _ in request.query_params.multi_items()).items():
        if name not in known:
            expected = "one of " + ", ".join(known) if known else "no parameters"
            findings.append(
                Finding(f"query.{name}"[:80], "this parameter", expected, nearest(name, known))
            )
        elif times > 1 and not known[name]:
            findings.append(Finding(f"query.{name}", f"it {times} times", "it once"))
    if findings:
        raise invalid_query(*findings[:20])


async def registry_known(services: ServicesIn) -> None:
    """Answer 503 while nobody could tell us yet what there is: every code would seem unknown."""
    if await is_registry_unknown(services):
        raise Problem(
            503,
            "registry-unknown",
            "sites and devices are not known yet: the database has not answered since the start",
            headers={"Retry-After": str(RETRY_AFTER_S)},
        )


async def is_registry_unknown(services: Services) -> bool:
    """Tell whether the registry is empty for want of a database, and not because it is empty."""
    return not services.registry().sites and not (await services.health()).database.reachable


@dataclass(frozen=True, slots=True)
class Range:
    """A checked stretch of time, [start, end), microseconds since 1970 UTC."""

    start_us: int
    end_us: int


async def time_range(
    services: ServicesIn,
    start: Annotated[
        Instant | None,
        Query(
            description="first moment, RFC 3339 with its zone; 24 hours before `end` if left out"
        ),
    ] = None,
    end: Annotated[
        Instant | None,
        Query(description="moment after the last, RFC 3339 with its zone; now if left out"),
    ] = None,
) -> Range:
    """Return the range of a query, or raise the 422 that says why there is none."""
    end_us = services.now_us() if end is None else end
    start_us = end_us - DEFAULT_RANGE_US if start is None else start
    _check_range(start_us, end_us, services.settings.limits)
    return Range(start_us, end_us)


def _check_range(start_us: int, end_us: int, limits: Limits) -> None:
    if end_us <= start_us:
        finding = Finding("query.end", "an end at or before the start", "an end after the start")
        raise invalid_query(finding)
    span_s = (end_us - start_us) / 1e6
    if span_s > limits.max_range_s:
        expected = f"at most {format_duration(limits.max_range_s)} between start and end"
        raise invalid_query(Finding("query.end", f"{span_s / 86400:.0f} days", expected))


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted."""

    offset: int
    limit: int


PageSizeIn = Annotated[int | None, Query(ge=1, le=1000, description="most entries")]


async def page(
    services: ServicesIn,
    limit: PageSizeIn = None,
    offset: Annotated[int, Query(ge=0, le=10_000_000, description="entries to skip")] = 0,
) -> Page:
    """Return the part of a list that a query wants."""
    most = services.settings.limits.max_page
    return Page(offset, most if limit is None else min(limit, most))


def cut(items: Sequence[Item], wanted: Page, request: Request, response: Response) -> list[Item]:
    """Return the wanted part of *items*; tell the total, and where the next part is, in headers.

    ``X-Total-Count``, and ``Link: <...>; rel="next"`` after RFC 8288 while there is more.
    """
    response.headers["X-Total-Count"] = str(len(items))
    after = wanted.offset + wanted.limit
    if after < len(items):
        query = request.url.include_query_params(offset=after, limit=wanted.limit).query
        response.headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
    return list(items[wanted.offset : after])


RangeIn = Annotated[Range, Depends(time_range)]
PageIn = Annotated[Page, Depends(page)]


def listed(given: Sequence[str] | None) -> list[str]:
    """Return the words of a parameter that may be repeated, and may hold several with commas."""
    return [word for one in given or () for word in one.split(",") if word]
