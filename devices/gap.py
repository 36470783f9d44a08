"""A stretch of time in which something that was sent may not have reached us."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gap:
    """*source* names the collector and its peer (``mqtt:broker``), times are microseconds UTC.

    *reason* is a short stable word (``session_lost``, ``subscription_refused``, ``disconnected``,
    ``spool_full``), *text* one plain sentence.
    """

    source: str
    started_at_us: int
    ended_at_us: int
    reason: str
    text: str
