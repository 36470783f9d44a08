"""Request bodies, bounded in size and in time before anything looks inside."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Request

from api.problems import Problem, ProblemBody

# What a route answers whose JSON body cannot be read, for its description.
BODY_PROBLEMS: dict[int | str, dict[str, Any]] = {
    408: {"model": ProblemBody, "description": "The body did not come in time"},
    413: {"model": ProblemBody, "description": "The body is too large"},
    415: {"model": ProblemBody, "description": "The body is not JSON"},
}


async def json_body(request: Request, most_bytes: int, timeout_s: float) -> bytes:
    """Return the body of *request* as it came.

    Raises a `Problem`: 415 unless it is said to be plain JSON, 413 as soon as it is known to be
    larger than *most_bytes* (of a body that announces its size, before one byte is read), 408 when
    it is not here after *timeout_s*.
    """
    _check_type(request)
    return await read_body(request, most_bytes, timeout_s)


async def read_body(request: Request, most_bytes: int, timeout_s: float) -> bytes:
    """Return the body of *request* as it came, whatever it says that it is.

    Raises a `Problem` as `json_body` does, but for the type.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        detail = "the body must not be compressed"
        raise Problem(415, "compressed-body", detail, headers={"Accept-Encoding": "identity"})
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced[:20]) > most_bytes:
        raise _too_large(most_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for piece in request.stream():
                body += piece
                if len(body) > most_bytes:
                    raise _too_large(most_bytes)
    except TimeoutError as error:
        detail = f"the body was not complete after {timeout_s:g} s"
        raise Problem(408, "slow-body", detail, headers={"Connection": "close"}) from error
    return bytes(body)


def _check_type(request: Request) -> None:
    kind, _, parameters = request.headers.get("content-type", "").lower().partition(";")
    charset = parameters.replace(" ", "").replace('"', "")
    if kind.strip() != "application/json" or charset not in ("", "charset=utf-8"):
        detail = "the body must be application/json in UTF-8"
        raise Problem(415, "not-json", detail, headers={"Accept-Post": "application/json"})


def _too_large(most_bytes: int) -> Problem:
    detail = f"the body is larger than {most_bytes} bytes; post it in parts"
    # The rest of the body is still on its way: whoever sends it should not go on.
    return Problem(413, "body-too-large", detail, headers={"Connection": "close"})
