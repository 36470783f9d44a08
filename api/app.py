"""The HTTP application, put together from the routes and what stands around them."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.middleware.gzip import GZipMiddleware

from api import problems
from api.auth import require_read
from api.dashboard import page
from api.formats import arrow
from api.metrics import HttpMetrics
from api.operations import describe, operation_id
from api.parameters import known_parameters_only, registry_known
from api.problems import MEDIA_TYPE as PROBLEM_MEDIA_TYPE
from api.problems import ProblemBody
from api.routes import (
    alerts,
    calibrations,
    catalogue,
    commands,
    evidence,
    latest,
    onboarding,
    packs,
    readings,
    reference,
    replays,
    results,
    rules,
    service,
    silences,
)
from api.services import Services
from api.shell import Shell

PREFIX = "/api/v1"

_DESCRIPTION = (
    "Readings of greenhouses. Times are RFC 3339; errors are problem details after RFC 9457 with a "
    "request id; lists carry X-Total-Count and, while there is more, a Link to the next part."
)
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": ProblemBody, "description": "The request cannot be read"},
    401: {"model": ProblemBody, "description": "A bearer token is needed"},
    404: {"model": ProblemBody, "description": "No such thing"},
    406: {"model": ProblemBody, "description": "None of the accepted forms can be had"},
    422: {"model": ProblemBody, "description": "The request cannot be meant"},
    503: {"model": ProblemBody, "description": "The database does not answer; Retry-After"},
}
_PROBLEM_REF = {"$ref": f"#/components/schemas/{ProblemBody.__name__}"}
# Already compressed, or compressed better by what it is.
_NOT_GZIPPED = (arrow.STREAM_MEDIA_TYPE, arrow.PARQUET_MEDIA_TYPE, "image/png")


class _Application(FastAPI):
    """Describes what the framework does not know: the media type of problems, and the tokens."""

    def openapi(self) -> dict[str, Any]:
        """Return the description, completed once."""
        if self.openapi_schema is None:
            self.openapi_schema = _completed(super().openapi())
        return self.openapi_schema


def _completed(schema: dict[str, Any]) -> dict[str, Any]:
    for methods in schema["paths"].values():
        for operation in methods.values():
            for response in operation["responses"].values():
                content = response.get("content", {})
                if content.get("application/json", {}).get("schema") == _PROBLEM_REF:
                    content[PROBLEM_MEDIA_TYPE] = content.pop("application/json")
    schema["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    # An empty alternative: health is open to all, and reads may be to this machine.
    schema["security"] = [{"token": []}, {}]
    return schema


def create_app(services: Services) -> FastAPI:
    """Return the application; it opens nothing and closes nothing.

    Serve it without trust in proxies' headers (uvicorn: ``proxy_headers=False``): the address of
    the peer decides whether reads are open.
    """
    app = _Application(
        title="Greenhouse monitor",
        version=version("greenhouse-monitor"),
        description=_DESCRIPTION,
        openapi_url=None,  # served below, behind the same door as what it describes
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
    )
    metrics = HttpMetrics(services.counters)
    app.state.services = services
    app.state.metrics = metrics
    problems.install(app)
    app.include_router(_versioned())
    app.include_router(service.router)
    if services.settings.docs:
        app.include_router(reference.router)
    if services.settings.page:
        page.install(app)
    app.add_middleware(
        GZipMiddleware, minimum_size=1000, compresslevel=5, exclude_content_types=_NOT_GZIPPED
    )
    app.state.operations = describe(app)
    app.add_middleware(Shell, metrics=metrics, operations=app.state.operations)
    return app


def _versioned() -> APIRouter:
    """Return the routes under /api/v1; who may not read hears nothing more than that."""
    router = APIRouter(prefix=PREFIX, responses=_PROBLEMS)
    checks = [Depends(require_read), Depends(known_parameters_only), Depends(registry_known)]
    for room in (
        catalogue,
        latest,
        evidence,
        commands,
        alerts,
        silences,
        rules,
        packs,
        replays,
        onboarding,
        results,
        calibrations,
    ):
        router.include_router(room.router, dependencies=checks)
    router.include_router(readings.router, dependencies=checks)

    @router.get("/openapi.json", include_in_schema=False, dependencies=[Depends(require_read)])
    async def openapi(request: Request) -> JSONResponse:
        return JSONResponse(request.app.openapi())

    return router
