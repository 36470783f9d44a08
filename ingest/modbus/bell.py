"""A bell that wakes one waiter, or a deadline does."""

from __future__ import annotations

import asyncio


class Bell:
    """Rung by callbacks, heard by one coroutine.

    A ring that nobody waits for is kept for the next wait; several are one.  A deadline is set for
    every request and hardly ever passes, so one timer serves many of them: it is kept while it goes
    off no later than the deadline of now, and is set anew if it goes off too early.  `close` ends
    it.
    """

    def __init__(self) -> None:
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None
        self._until_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def ring(self) -> None:
        """Wake whoever waits."""
        self._rung = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, until_s: float) -> bool:
        """Return True when rung, False when the loop's clock has reached *until_s*."""
        if not self._rung:
            loop = asyncio.get_running_loop()
            self._waiter, self._until_s = loop.create_future(), until_s
            if self._timer is None or self._timer.when() > until_s:
                self._set_timer(loop)
            try:
                await self._waiter
            finally:
                self._waiter = None
        rung, self._rung = self._rung, False
        return rung

    def close(self) -> None:
        """End the timer; whoever waits is woken by a ring only."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(self._until_s, self._expire, loop, self._until_s)

    def _expire(self, loop: asyncio.AbstractEventLoop, set_for_s: float) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if set_for_s < self._until_s:
            self._set_timer(loop)
        else:
            self._waiter.set_result(None)
