"""How the service is, for orchestrators and for Prometheus."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from api.auth import may_read, require_read
from api.health import Condition, Health, condition
from api.metrics import MEDIA_TYPE, HttpMetrics
from api.parameters import ServicesIn, known_parameters_only
from api.schemas import HealthShape

router = APIRouter(tags=["service"], dependencies=[Depends(known_parameters_only)])


async def metrics_of(request: Request) -> HttpMetrics:
    """Return the metrics of the application that *request* came to."""
    metrics = request.app.state.metrics
    assert isinstance(metrics, HttpMetrics)
    return metrics


@router.get(
    "/healthz",
    summary="How the service is",
    response_model=HealthShape,
    response_model_exclude_none=True,
    responses={503: {"model": HealthShape, "description": "unavailable"}},
)
async def healthz(services: ServicesIn, request: Request) -> Response:
    """Return `ok` or `degraded` with 200, `unavailable` with 503; open to everyone.

    Who may read also sees the parts: edition of the database, lag of the spool, the brokers.
    """
    health = await services.health()
    state = condition(health)
    body = _details(health) if may_read(request) else {}
    return JSONResponse({"status": state.value} | body, _status(state))


@router.get("/healthz/live", summary="Whether the process answers")
async def live() -> dict[str, str]:
    """Return 200 as long as the process answers at all; restart it when it does not."""
    return {"status": Condition.OK.value}


@router.get(
    "/healthz/ready",
    summary="Whether the service can do its work",
    responses={503: {"description": "unavailable"}},
)
async def ready(services: ServicesIn, response: Response) -> dict[str, str]:
    """Return 200 when readings can be accepted and read, otherwise 503; send no traffic then."""
    state = condition(await services.health())
    response.status_code = _status(state)
    return {"status": state.value}


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    dependencies=[Depends(require_read)],
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text form"}},
)
async def metrics(
    services: ServicesIn, metrics: Annotated[HttpMetrics, Depends(metrics_of)]
) -> Response:
    """Return counters of ingest, state of the parts, HTTP requests and the process."""
    content = metrics.exposition(await services.health())
    return Response(content, media_type=MEDIA_TYPE)


def _status(state: Condition) -> int:
    return 503 if state is Condition.UNAVAILABLE else 200


def _details(health: Health) -> dict[str, Any]:
    return asdict(health)
