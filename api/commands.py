"""Commands to devices as HTTP sees them: who carries them out, where they are kept, what fails."""

from __future__ import annotations

from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from api.instants import format_instant
from ingest.modbus.command import CommandRecord, Outcome, WriteCommand
from storage.commands import CommandStage, KeptCommand


class CommandNotKept(Exception):
    """The record could not be kept when the command began; nothing was sent."""


class CommandDeskClosed(Exception):
    """The service is stopping and takes no more commands; nothing was sent."""


class CommandEndNotKept(Exception):
    """The command was carried out, and how it ended could not be kept; *record* says it."""

    def __init__(self, record: CommandRecord) -> None:
        super().__init__(f"the end of command {record.id} could not be kept")
        self.record = record


class CommandDesk(Protocol):
    """What carries a command to its device."""

    async def write(self, command: WriteCommand) -> CommandRecord:
        """Carry out *command* to its end and return its last record.

        Raises `ingest.modbus.command.WriteRefused`, `CommandNotKept` and `CommandDeskClosed`, after
        all of which nothing was sent, and `CommandEndNotKept`.
        """
        ...


class CommandShelf(Protocol):
    """What `storage.commands.CommandStore` answers; may raise `DatabaseUnavailable`."""

    async def list(self, device: str | None, limit: int, before: str | None) -> list[KeptCommand]:
        """Return up to *limit* commands, the newest first, after the one with the id *before*."""
        ...


class CommandShape(BaseModel):
    """A command and what became of it; *new*, *old* and *read_back* are in *quantity_unit*."""

    model_config = ConfigDict(extra="forbid")

    id: str
    device: str
    unit: int = Field(description="unit id of the device on its bus")
    key: str
    quantity_unit: str
    actor: str
    reason: str
    asked_at: str
    ended_at: str | None
    outcome: Outcome
    new: float = Field(description="what was to be written, after rounding to the registers")
    old: float | None = Field(description="what the device held before; null: not known")
    read_back: float | None = Field(description="what it held afterwards; null: not known")
    text: str


def command_shape(stage: CommandStage) -> CommandShape:
    """Return *stage* as the API tells it."""
    return CommandShape(
        id=stage.id,
        device=stage.device,
        unit=stage.unit,
        key=stage.key,
        quantity_unit=stage.quantity_unit,
        actor=stage.actor,
        reason=stage.reason,
        asked_at=format_instant(stage.asked_at_us),
        ended_at=None if stage.ended_at_us is None else format_instant(stage.ended_at_us),
        outcome=Outcome(stage.outcome),
        new=stage.new,
        old=stage.old,
        read_back=stage.read_back,
        text=stage.text,
    )
