"""``/docs``: the description of the API as one plain page, without anything from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from api.auth import require_read

router = APIRouter(include_in_schema=False)

_environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
)


@router.get("/docs", dependencies=[Depends(require_read)])
async def docs(request: Request) -> HTMLResponse:
    """Return every route with its parameters, from the OpenAPI description."""
    openapi = request.app.openapi()
    routes = [
        _route(path, method, operation)
        for path, operations in openapi["paths"].items()
        for method, operation in operations.items()
    ]
    page = _environment.get_template("reference.html")
    return HTMLResponse(page.render(info=openapi["info"], routes=routes))


def _route(path: str, method: str, operation: dict[str, Any]) -> dict[str, Any]:
    return {
        "path": path,
        "method": method.upper(),
        "summary": operation["summary"],
        "description": operation.get("description", ""),
        "parameters": operation.get("parameters", []),
    }
