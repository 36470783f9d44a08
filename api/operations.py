"""The operations of the API as its own description tells them: paths and parameters by name.

What is documented is what is accepted: the check of query parameters and the labels of the metrics
are both read off the OpenAPI description.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute


@dataclass(frozen=True, slots=True)
class Operation:
    """One route: its full path, and its query parameters, True for those that may be repeated."""

    path: str
    parameters: Mapping[str, bool]


def operation_id(route: APIRoute) -> str:
    """Return the name of the function that answers; no two routes share one."""
    return route.name


def describe(app: FastAPI) -> dict[str, Operation]:
    """Return the documented operations of *app* by the names of their functions."""
    return {
        operation["operationId"]: Operation(path, _query_parameters(operation))
        for path, methods in app.openapi()["paths"].items()
        for operation in methods.values()
    }


def operation_of(request: Request) -> Operation:
    """Return the operation that *request* came to; it must be a documented one."""
    operations: Mapping[str, Operation] = request.app.state.operations
    return operations[request.scope["route"].name]


def _query_parameters(operation: Mapping[str, Any]) -> dict[str, bool]:
    return {
        one["name"]: _is_list(one["schema"])
        for one in operation.get("parameters", [])
        if one["in"] == "query"
    }


def _is_list(schema: Mapping[str, Any]) -> bool:
    choices = schema.get("anyOf", [schema])
    return any(choice.get("type") == "array" for choice in choices)
