"""Commands to devices: who asked for what, and what became of it.  Added to, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from storage.errors import DataRefused
from storage.instant import fits, instant, microseconds
from storage.pool import Connection, Pool
from storage.statements import statements


class CommandStage(Protocol):
    """What is recorded of a command at one of its stages.

    Times are microseconds since 1970 UTC.
    """

    @property
    def id(self) -> str:
        """32 hexadecimal digits, the same at every stage."""
        ...

    @property
    def device(self) -> str:
        """The device's code."""
        ...

    @property
    def unit(self) -> int:
        """Its unit id on its bus."""
        ...

    @property
    def key(self) -> str:
        """The point of its profile."""
        ...

    @property
    def quantity_unit(self) -> str:
        """The unit of the three values."""
        ...

    @property
    def actor(self) -> str:
        """Who commands."""
        ...

    @property
    def reason(self) -> str:
        """Why, in their words; may be empty."""
        ...

    @property
    def asked_at_us(self) -> int:
        """When it was begun."""
        ...

    @property
    def outcome(self) -> str:
        """``begun``, ``done``, ``failed`` or ``unsure``."""
        ...

    @property
    def new(self) -> float:
        """What was to be written."""
        ...

    @property
    def old(self) -> float | None:
        """What was held before; None where not known."""
        ...

    @property
    def read_back(self) -> float | None:
        """What was held afterwards; None where not known."""
        ...

    @property
    def ended_at_us(self) -> int | None:
        """When it ended; None while it is only begun."""
        ...

    @property
    def text(self) -> str:
        """What went wrong, if anything."""
        ...


@dataclass(frozen=True, slots=True)
class KeptCommand:
    """A command as it is kept; a `CommandStage`."""

    id: str
    device: str
    unit: int
    key: str
    quantity_unit: str
    actor: str
    reason: str
    asked_at_us: int
    outcome: str
    new: float
    old: float | None
    read_back: float | None
    ended_at_us: int | None
    text: str


_Kept = list[KeptCommand]  # under another name where `list` is a method


class CommandStore:
    """The commands behind *pool*; every method may raise the errors of `Pool.run`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def record(self, record: CommandStage) -> None:
        """Keep one stage durably, or raise; the same stage again is harmless.

        Raises `DataRefused` for a second end of one command, which would contradict the first.
        """
        row = _row(record)

        async def put(connection: Connection) -> None:
            await connection.execute(_SQL["record"], row)

        await self._pool.run(put)

    async def list(
        self, device: str | None = None, limit: int = 100, before: str | None = None
    ) -> list[KeptCommand]:
        """Return up to *limit* commands as they stand now, the newest first.

        One that is ``begun`` is under way, or the process ended before it did.  *before* is the id
        of the last command of the page before this one.
        """
        return await self._read("list", {"device": device, "limit": limit, "before": before})

    async def stages(self, command_id: str) -> _Kept:
        """Return every stage of one command, the first one first."""
        return await self._read("stages", {"id": command_id})

    async def _read(self, name: str, arguments: Mapping[str, object]) -> _Kept:
        return await self._pool.rows(_SQL[name], arguments, _kept)


_SQL = statements("commands")


def _row(stage: CommandStage) -> dict[str, Any]:
    ended_at_us = stage.ended_at_us
    if not fits(stage.asked_at_us) or (ended_at_us is not None and not fits(ended_at_us)):
        raise DataRefused(f"command {stage.id}: a time outside the years 1 to 9999")
    return {
        "id": stage.id,
        "outcome": str(stage.outcome),
        "device": stage.device,
        "unit": stage.unit,
        "key": stage.key,
        "quantity_unit": stage.quantity_unit,
        "actor": stage.actor,
        "reason": stage.reason,
        "asked_at": instant(stage.asked_at_us),
        "ended_at": None if ended_at_us is None else instant(ended_at_us),
        "new": stage.new,
        "old": stage.old,
        "read_back": stage.read_back,
        "text": stage.text,
    }


def _kept(row: dict[str, Any]) -> KeptCommand:
    asked_at, ended_at = row.pop("asked_at"), row.pop("ended_at")
    ended_at_us = None if ended_at is None else microseconds(ended_at)
    return KeptCommand(asked_at_us=microseconds(asked_at), ended_at_us=ended_at_us, **row)
