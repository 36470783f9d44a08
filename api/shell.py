"""What stands around every request: its id, its log line, its limits, the headers of its answer.

Plain ASGI, outermost, so that it also covers what the framework itself refuses.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics import HttpMetrics
from api.operations import Operation
from api.problems import Problem, problem_response

log = logging.getLogger(__name__)

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "manifest-src 'self'"
)
_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Shell:
    """Wraps the application; every answer leaves with a request id and the security headers.

    An exception that nobody answered is logged with its request id and becomes a 500 that says
    nothing but that id.  No CORS header is ever sent: other origins are refused by the browser.
    """

    def __init__(
        self, app: ASGIApp, metrics: HttpMetrics, operations: Mapping[str, Operation]
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._operations = operations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send, secrets.token_hex(8))
        scope["request_id"] = answer.request_id
        started_s = time.perf_counter()
        try:
            await self._serve(scope, receive, answer)
        finally:
            elapsed_s = time.perf_counter() - started_s
            self._metrics.observe(scope["method"], self._route(scope), answer.status, elapsed_s)

    async def _serve(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        try:
            if "\x00" in scope["path"]:
                refusal = Problem(400, "invalid-path", "the path holds a NUL character")
                await problem_response(refusal, answer.request_id)(scope, receive, answer.send)
            else:
                await self._app(scope, receive, answer.send)
        except ClientDisconnect:
            log.info("request %s: the client went away", answer.request_id)
        except Exception:  # whatever a request ran into: it is logged, and counted as a 500
            log.exception("request %s failed: %s %r", answer.request_id, scope["method"],
                          scope["path"])  # fmt: skip
            if answer.status:
                raise
            sorry = Problem(500, "internal-error", "something went wrong on our side; it is logged")
            await problem_response(sorry, answer.request_id)(scope, receive, answer.send)

    def _route(self, scope: Scope) -> str:
        """Return the template of the path: a path itself would make a metric of every series."""
        route: Any = scope.get("route")
        if route is None:
            return "/static" if scope["path"].startswith("/static/") else "unmatched"
        operation = self._operations.get(route.name)
        return operation.path if operation is not None else str(route.path)


class _Answer:
    """One response on its way out; *status* is 0 until it has begun."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], *self._added(message["headers"])]
        await self._send(message)

    def _added(self, present: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        names = {name.lower() for name, _ in present}
        wanted = {**_HEADERS, "x-request-id": self.request_id, "cache-control": "no-store"}
        return [
            (name.encode(), value.encode())
            for name, value in wanted.items()
            if name.encode() not in names
        ]
