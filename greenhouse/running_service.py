"""The service that runs, asked over HTTP with the token of its own settings."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from greenhouse.settings import Settings

_TIMEOUT_S = 30.0


class NotAnswered(Exception):
    """The service did not answer, or refused; says in one line why."""


class RunningService:
    """Asks the service at *url*; where that is None, the one that *settings* describe."""

    def __init__(self, settings: Settings, url: str | None = None) -> None:
        host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "") else settings.host
        host = f"[{host}]" if ":" in host else host
        self._url = (url or f"http://{host}:{settings.port}").rstrip("/")
        self._token = settings.tokens[0] if settings.tokens else ""

    def ask(self, path: str, body: object = None, actor: str = "") -> Any:
        """Return the JSON answer for *path*, posting *body* if there is one.

        Raises `NotAnswered`.
        """
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if actor:
            # As Latin-1, which is how a header is sent; the service reads it as UTF-8.
            headers["X-Actor"] = actor.encode().decode("latin-1")
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}/api/v1{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise NotAnswered(_detail(error)) from error
        except (OSError, ValueError) as error:
            raise NotAnswered(f"{self._url} does not answer: {error}") from error


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        return f"{error.code} {json.load(error)['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"{error.code} {error.reason}"
