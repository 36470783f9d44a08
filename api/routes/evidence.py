"""What may be missing and what could not be read: gaps and dead letters."""

from __future__ import annotations

import base64
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from api.auth import require_token
from api.instants import format_instant
from api.parameters import PageIn, PageSizeIn, RangeIn, ServicesIn, cut
from api.schemas import DeadLetterShape, GapShape
from devices.gap import Gap
from storage.dead_letters import KeptLetter
from storage.instant import microseconds

router = APIRouter(tags=["evidence"])

_SHOWN_BYTES = 4096


@router.get("/gaps", summary="Stretches of time in which something may not have arrived")
async def gaps(
    services: ServicesIn, request: Request, response: Response, span: RangeIn, page: PageIn
) -> list[GapShape]:
    """Return the gaps that touch the range, by their start.

    A gap says that our side was not listening; a sensor that was silent by itself leaves none.
    """
    found = await services.gaps.list(span.start_us, span.end_us)
    return [_gap(one) for one in cut(found, page, request, response)]


@router.get(
    "/dead-letters",
    summary="What was received and could not be read",
    dependencies=[Depends(require_token)],
)
async def dead_letters(
    services: ServicesIn,
    request: Request,
    response: Response,
    limit: PageSizeIn = None,
    before: Annotated[
        str | None,
        Query(pattern="^[0-9a-f]{32}$", description="id of the last entry of the page before"),
    ] = None,
    code: Annotated[
        str | None, Query(pattern="^[A-Z0-9-]{1,40}$", description="reason code, such as E-JSON")
    ] = None,
    source: Annotated[
        str | None, Query(pattern="^[a-z0-9_-]{1,40}$", description="mqtt, http or modbus")
    ] = None,
) -> list[DeadLetterShape]:
    """Return dead letters, the newest first; always with a token, for they hold foreign bytes."""
    most = min(limit or 100, services.settings.limits.max_page)
    found = await services.dead_letters.list(most, code, source, before)
    if len(found) == most:
        query = request.url.include_query_params(before=found[-1].id, limit=most).query
        response.headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
    return [_dead_letter(one) for one in found]


def _gap(gap: Gap) -> GapShape:
    return GapShape(
        source=gap.source,
        started_at=format_instant(gap.started_at_us),
        ended_at=format_instant(gap.ended_at_us),
        reason=gap.reason,
        text=gap.text,
    )


def _dead_letter(kept: KeptLetter) -> DeadLetterShape:
    letter = kept.letter
    replayed_at = None if kept.replayed_at is None else microseconds(kept.replayed_at)
    return DeadLetterShape(
        id=kept.id,
        source=letter.source,
        topic=letter.topic.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
        received_at=format_instant(letter.received_at_us),
        replayed_at=None if replayed_at is None else format_instant(replayed_at),
        code=letter.code,
        text=letter.text,
        size_bytes=len(letter.payload),
        payload=base64.b64encode(letter.payload[:_SHOWN_BYTES]).decode(),
        payload_is_whole=len(letter.payload) <= _SHOWN_BYTES,
    )
