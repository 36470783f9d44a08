"""Wait for a condition, with a deadline, instead of for a time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any


def eventually(
    condition: Callable[[], Any], timeout_s: float = 10, interval_s: float = 0.02
) -> Any:
    """Return what *condition* returns as soon as that is true; fail when *timeout_s* is over.

    A condition that is false or raises AssertionError is asked again; any other error is raised.
    Call it plainly in a plain test.  Where an event loop runs, await it (the loop goes on
    meanwhile); there the condition may be a coroutine function.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _eventually(condition, timeout_s, interval_s)
    return _eventually_async(condition, timeout_s, interval_s)


def _eventually(condition: Callable[[], Any], timeout_s: float, interval_s: float) -> Any:
    deadline = time.monotonic() + timeout_s
    while True:
        error: AssertionError | None = None
        try:
            if answer := condition():
                return answer
        except AssertionError as failed:
            error = failed
        if time.monotonic() >= deadline:
            raise _too_late(condition, timeout_s) from error
        time.sleep(interval_s)


async def _eventually_async(
    condition: Callable[[], Any | Awaitable[Any]], timeout_s: float, interval_s: float
) -> Any:
    deadline = time.monotonic() + timeout_s
    while True:
        error: AssertionError | None = None
        try:
            answer = condition()
            if inspect.isawaitable(answer):
                answer = await answer
            if answer:
                return answer
        except AssertionError as failed:
            error = failed
        if time.monotonic() >= deadline:
            raise _too_late(condition, timeout_s) from error
        await asyncio.sleep(interval_s)


def _too_late(condition: Callable[[], Any], timeout_s: float) -> AssertionError:
    try:
        what = inspect.getsource(condition).strip()
    except (OSError, TypeError):
        what = repr(condition)
    return AssertionError(f"not within {timeout_s} s: {what}")
