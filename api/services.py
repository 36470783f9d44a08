"""What the HTTP room is given: opened by somebody else, and closed by them too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from fastapi import Request

from api.alerts import AlertDesk, PackShelf
from api.calibrations import CalibrationBook
from api.commands import CommandDesk, CommandShelf
from api.health import Health
from api.history import ReadingHistory
from api.onboarding import OnboardingDesk
from api.replays import Turnstile
from api.results import ResultShelf
from api.tokens import Tokens
from devices.gap import Gap
from devices.registry import Registry
from ingest.collector import Inlet
from ingest.counters import Counters
from storage.dead_letters import KeptLetter


class DeadLetterShelf(Protocol):
    """What `storage.dead_letters.DeadLetterStore` answers; may raise `DatabaseUnavailable`."""

    async def list(
        self, limit: int, code: str | None, source: str | None, before: str | None
    ) -> list[KeptLetter]:
        """Return up to *limit* letters, the newest first, after the one with the id *before*."""
        ...


class GapShelf(Protocol):
    """What `storage.gaps.GapStore` answers; may raise `DatabaseUnavailable`."""

    async def list(self, since_us: int, until_us: int) -> list[Gap]:
        """Return the gaps that touch the span, by start."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one request may bring or take.

    *max_points* is how many points a series gets when the step is chosen for the client;
    *max_total_points* bounds a JSON answer, *max_table_rows* a table (CSV, Arrow, Parquet).
    *max_replay_readings* and *max_replay_s* bound a replay of rules.
    """

    max_body_bytes: int = 1_000_000
    body_timeout_s: float = 30.0
    max_points: int = 720
    max_total_points: int = 10_000
    max_table_rows: int = 200_000
    max_series: int = 200
    max_range_s: float = 400 * 86400.0
    max_page: int = 1_000
    max_replay_readings: int = 5_000_000
    max_replay_s: float = 60.0


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """*open_loopback_reads*: reads from this machine need no token; never set behind a proxy that
    runs on this machine and hides itself.  *page* serves the operators' page, *docs* ``/docs``.
    """

    open_loopback_reads: bool = False
    page: bool = True
    docs: bool = False
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that a route may need.

    *registry* returns what is in use now; *archive* the same with retired series after it, whose
    readings can still be asked for by name (the registry itself if None).  *inlet* is None in a
    process that only reads, *commands* in one that polls no bus, *command_shelf* where nobody keeps
    any, *alerts* and *packs* where no rules are judged, *onboarding* where the site file is not at
    hand, *results* where no results of samples are kept, *calibrations* where no book of them is.
    *replays* lets one replay through at a time, *packs_lock* one change of a pack.  *now_us* is the
    clock, microseconds since 1970 UTC.
    """

    registry: Callable[[], Registry]
    history: ReadingHistory
    dead_letters: DeadLetterShelf
    gaps: GapShelf
    health: Callable[[], Awaitable[Health]]
    counters: Counters
    tokens: Tokens
    archive: Callable[[], Registry] | None = None
    inlet: Inlet | None = None
    commands: CommandDesk | None = None
    command_shelf: CommandShelf | None = None
    alerts: AlertDesk | None = None
    packs: PackShelf | None = None
    onboarding: OnboardingDesk | None = None
    results: ResultShelf | None = None
    calibrations: CalibrationBook | None = None
    replays: Turnstile = field(default_factory=Turnstile)
    packs_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    settings: ApiSettings = field(default_factory=ApiSettings)
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000

    def everything(self) -> Registry:
        """Return the registry with whatever was ever registered."""
        return self.registry() if self.archive is None else self.archive()


async def services_in(request: Request) -> Services:
    """Return the services, for a route's signature: async, or each call would cost a thread."""
    return services_of(request)


def services_of(request: Request) -> Services:
    """Return the services of the application that *request* came to."""
    services = request.app.state.services
    assert isinstance(services, Services)
    return services
