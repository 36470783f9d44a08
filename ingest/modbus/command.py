"""Writing into devices: set-points, calibration, relays.  Guarded, read back, and on record.

Off unless the bus says ``writes: true``, and then only for points that the profile calls writable,
between the limits that it names.  A person commands; nothing here decides to write.

    check -> record "begun" -> read the old value -> write -> read back -> record what became of it

`plan_write` and `judge` are pure; `Commands` is the shell.
"""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar, Protocol

from devices.codecs.registers import ReadDecoder, encode_value
from devices.profile import Point, Profile
from ingest.collector import IngestError
from ingest.modbus.reply import Answer, Failure
from ingest.modbus.request import NotAsked, ReadRequest, Request, WriteRequest


class WriteRefused(IngestError):
    """The command was not sent; the text says what is not allowed.

    *kind* is stable and names why.
    """

    kind: ClassVar[str] = "command-refused"


class WritesOff(WriteRefused):
    """Writing is not switched on for the bus."""

    kind = "writes-off"


class PointNotWritable(WriteRefused):
    """The profile has no such point, or says nothing of writing it."""

    kind = "not-writable"


class ValueOutOfRange(WriteRefused):
    """The value is not between the limits of the profile, or its registers cannot hold it."""

    kind = "out-of-range"


class Asker(Protocol):
    """Where requests go: a `Bus`."""

    async def ask(
        self, requests: Sequence[Request], timeout_s: float | None = None, goes_on: bool = False
    ) -> list[Answer | Failure]:
        """Ask *requests* in order and return what came of each; raise `NotAsked` if refused."""
        ...


class Outcome(StrEnum):
    """What became of a command."""

    BEGUN = "begun"
    DONE = "done"
    FAILED = "failed"  # the device refused or was never asked; the old value stands
    UNSURE = "unsure"  # it was asked and nobody knows


@dataclass(frozen=True, slots=True)
class WriteCommand:
    """Somebody wants *key* of *device* to be *value*, in the reading's unit."""

    device: str
    key: str
    value: float
    actor: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CommandRecord:
    """What is kept of a command; the later record of the same *id* replaces the earlier one.

    *old* is what the device held before, *new* what was written after rounding to its registers,
    *read_back* what it held afterwards; None where it is not known.  Times are microseconds UTC.
    """

    id: str
    device: str
    unit: int
    key: str
    quantity_unit: str
    actor: str
    reason: str
    asked_at_us: int
    outcome: Outcome
    new: float
    old: float | None = None
    read_back: float | None = None
    ended_at_us: int | None = None
    text: str = ""


class CommandLedger(Protocol):
    """Where commands are recorded, whatever becomes of them."""

    async def record(self, record: CommandRecord) -> None:
        """Keep *record* durably; raise if that is not possible, and nothing will be sent."""
        ...


@dataclass(frozen=True, slots=True)
class WritePlan:
    """The two requests of a command, and what the registers will say."""

    point: Point
    read: ReadRequest
    write: WriteRequest
    new: float


def plan_write(profile: Profile, unit: int, command: WriteCommand, allowed: bool) -> WritePlan:
    """Return the requests of *command*; raise `WriteRefused` if it may not be sent."""
    if not allowed:
        raise WritesOff(f"{command.device}: writing is switched off for its bus")
    if not command.actor.strip():
        raise WriteRefused(f"{command.device}: a command needs the name of who gives it")
    try:
        point = profile.point(command.key)
    except KeyError:
        writable = ", ".join(point.key for point in profile.points if point.write) or "none"
        text = f"{command.device}: no point {command.key!r}; writable: {writable}"
        raise PointNotWritable(text) from None
    write = point.write
    if write is None:
        raise PointNotWritable(f"{command.device}: {point.key} is not writable")
    if not (math.isfinite(command.value) and write.low <= command.value <= write.high):
        raise ValueOutOfRange(
            f"{command.device}: {point.key} = {command.value:g} is not between "
            f"{write.low:g} and {write.high:g} {point.reading_unit}"
        )
    try:
        values = encode_value(point, command.value)
    except ValueError as error:
        raise ValueOutOfRange(f"{command.device}: {error}") from error
    try:
        request = WriteRequest(unit, write.function, point.address, values)
    except ValueError as error:
        raise WriteRefused(f"{command.device}: {error}") from error
    read = ReadRequest(unit, point.function, point.address, point.count)
    data = b"".join(value.to_bytes(2, "big") for value in values)
    new = _value(point, bytes(values) if point.function == 1 else data)
    assert new is not None, "what was just encoded can be decoded"
    return WritePlan(point, read, request, new)


def judge(plan: WritePlan, written: Answer | Failure, after: float | None) -> tuple[Outcome, str]:
    """Return what became of a write, from the device's answer and what it holds now."""
    if after is not None and after == plan.new:
        return Outcome.DONE, ""
    if isinstance(written, Failure) and written.refused:
        return Outcome.FAILED, f"{written.code} {written.text}"
    said = f"{written.code} {written.text}" if isinstance(written, Failure) else "it said done"
    if after is None:
        return Outcome.UNSURE, f"{said}, and it could not be read back"
    text = f"{said}, but {plan.point.key} is {after:g} {plan.point.reading_unit}"
    return (Outcome.UNSURE if isinstance(written, Failure) else Outcome.FAILED), text


class Commands:
    """Carries out commands, each to its record.

    Once begun, a command goes on to its end even if the caller is cancelled; `close` waits for
    those under way.
    """

    def __init__(self, ledger: CommandLedger) -> None:
        self._ledger = ledger
        self._under_way: set[asyncio.Task[CommandRecord]] = set()

    async def write(
        self,
        asker: Asker,
        profile: Profile,
        unit: int,
        command: WriteCommand,
        allowed: bool,
        settle_s: float = 0.0,
    ) -> CommandRecord:
        """Carry out *command* over *asker* and return its last record.

        Raises `WriteRefused` before anything is sent or recorded, and whatever the ledger raises
        when it cannot keep the beginning; then nothing is sent either.  *settle_s* is how long the
        device needs before it shows what was written.
        """
        plan = plan_write(profile, unit, command, allowed)
        record = CommandRecord(
            id=uuid.uuid4().hex,
            device=command.device,
            unit=unit,
            key=plan.point.key,
            quantity_unit=plan.point.reading_unit,
            actor=command.actor,
            reason=command.reason,
            asked_at_us=_now_us(),
            outcome=Outcome.BEGUN,
            new=plan.new,
        )
        await self._ledger.record(record)
        task = asyncio.get_running_loop().create_task(
            _carry_out(asker, plan, record, self._ledger, settle_s),
            name=f"modbus-command-{record.id}",
        )
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Wait until no command is under way."""
        await asyncio.gather(*self._under_way, return_exceptions=True)


async def _carry_out(
    asker: Asker,
    plan: WritePlan,
    record: CommandRecord,
    ledger: CommandLedger,
    settle_s: float,
) -> CommandRecord:
    before = await _ask(asker, plan.read)
    if isinstance(before, Failure):
        text = f"not written, because it could not be read first: {before.code} {before.text}"
        record = replace(record, outcome=Outcome.FAILED, text=text)
    else:
        record = replace(record, old=_value(plan.point, before.data))
        written = await _ask(asker, plan.write)
        await asyncio.sleep(settle_s)
        after = await _ask(asker, plan.read)
        value = None if isinstance(after, Failure) else _value(plan.point, after.data)
        outcome, text = judge(plan, written, value)
        record = replace(record, outcome=outcome, read_back=value, text=text)
    record = replace(record, ended_at_us=_now_us())
    await ledger.record(record)
    return record


async def _ask(asker: Asker, request: Request) -> Answer | Failure:
    """Return what came of *request*; what is begun must come to its end on a busy bus too."""
    try:
        return (await asker.ask([request]))[0]
    except NotAsked as error:
        return Failure(error.code, str(error))


def _value(point: Point, data: bytes) -> float | None:
    decoder = ReadDecoder([point], point.address, point.count)
    value = float(decoder.decode(data)[1][0])
    return None if math.isnan(value) else value


def _now_us() -> int:
    return time.time_ns() // 1000
