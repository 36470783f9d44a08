"""Errors as RFC 9457 problem details: what is wrong, where, what was got, what was expected."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from storage.errors import DatabaseMisconfigured, DatabaseUnavailable

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong in a request.

    *where* names the parameter (``query.start``) or the place in the body (``[2].values.co2``).
    """

    where: str
    got: str
    expected: str
    hint: str = ""


class Problem(Exception):
    """Ends a request with a problem document.

    *slug* is stable and names the kind of problem; *detail* is one plain sentence for this case.
    """

    def __init__(
        self,
        status: int,
        slug: str,
        detail: str,
        *,
        findings: Sequence[Finding] = (),
        code: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.detail = detail
        self.findings = tuple(findings)
        self.code = code
        self.headers = dict(headers or {})


class FindingBody(BaseModel):
    """One thing that is wrong in a request."""

    where: str
    got: str
    expected: str
    hint: str = ""


class ProblemBody(BaseModel):
    """A problem detail after RFC 9457."""

    type: str = Field(examples=["urn:greenhouse:problem:invalid-query"])
    title: str
    status: int
    detail: str
    request_id: str
    code: str = Field(default="", description="reason code of a payload that cannot be read")
    errors: list[FindingBody] = []


def invalid_query(*findings: Finding) -> Problem:
    """Return the problem of a query that cannot be meant; the detail repeats the first finding."""
    first = findings[0]
    hint = f" (did you mean {first.hint}?)" if first.hint else ""
    detail = f"{first.where}: got {first.got}, expected {first.expected}{hint}"
    return Problem(422, "invalid-query", detail, findings=findings)


def shown(value: object) -> str:
    """Return *value* quoted for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def problem_response(problem: Problem, request_id: str) -> Response:
    """Return *problem* as a response."""
    body: dict[str, Any] = {
        "type": f"urn:greenhouse:problem:{problem.slug}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "request_id": request_id,
    }
    if problem.code:
        body["code"] = problem.code
    if problem.findings:
        body["errors"] = [
            {"where": one.where, "got": one.got, "expected": one.expected, "hint": one.hint}
            for one in problem.findings
        ]
    return Response(
        msgspec.json.encode(body), problem.status, problem.headers, media_type=MEDIA_TYPE
    )


def install(app: FastAPI) -> None:
    """Answer every error of *app* as a problem document."""

    async def on_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return problem_response(error, request_id_of(request))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem_response(_of_http(error), request_id_of(request))

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        findings = [_finding(one) for one in error.errors()]
        return problem_response(invalid_query(*findings), request_id_of(request))

    async def on_no_database(request: Request, error: Exception) -> Response:
        log.warning("request %s: %s: %s", request_id_of(request), type(error).__name__, error)
        return problem_response(database_away(), request_id_of(request))

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(DatabaseUnavailable, on_no_database)
    app.add_exception_handler(DatabaseMisconfigured, on_no_database)


def database_away() -> Problem:
    """Return the problem of a database that does not answer; the reason stays in the log."""
    return Problem(
        503,
        "database-unavailable",
        "the database does not answer; readings are still accepted and none is lost",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


def request_id_of(request: Request) -> str:
    """Return the id that the shell gave this request."""
    return str(request.scope.get("request_id", ""))


_SLUGS = {404: "not-found", 405: "method-not-allowed"}


def _of_http(error: HTTPException) -> Problem:
    slug = _SLUGS.get(error.status_code, "http-error")
    return Problem(error.status_code, slug, str(error.detail), headers=error.headers)


_EXPECTED = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a whole number of a sensible size",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "missing": "this parameter",
}
_INPUT_SHOULD_BE = re.compile(r"^Input should be (a valid )?")


def _finding(error: Mapping[str, Any]) -> Finding:
    """Turn one of pydantic's findings into ours."""
    where = ".".join(str(part) for part in error["loc"])
    got = "nothing" if error["type"] == "missing" else shown(error["input"])
    if error["type"] == "value_error":
        return Finding(where, got, str(error["ctx"]["error"]))
    expected = _EXPECTED.get(error["type"], _INPUT_SHOULD_BE.sub("", error["msg"]))
    return Finding(where, got, expected)
