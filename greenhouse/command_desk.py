"""Where commands to devices come in: finds the bus, lets nothing through that is not allowed.

HTTP ─▶ CommandDesk ─▶ Commands ─▶ Bus
                          └─▶ CommandStore, before anything is sent and when it has ended
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from api.commands import CommandDeskClosed, CommandEndNotKept, CommandNotKept
from devices.bus import Bus
from devices.site_file import SiteFile, Slave
from ingest.modbus.command import (
    Asker,
    CommandLedger,
    CommandRecord,
    Commands,
    Outcome,
    WriteCommand,
    WriteRefused,
)
from ingest.retry import Backoff
from storage.errors import StorageError

_log = logging.getLogger(__name__)

_RETRY_S = (0.2, 2.0)
_KEEP_WITHIN_S = 15.0


class NotAModbusDevice(WriteRefused):
    """No bus of this process leads to the device."""

    kind = "not-a-modbus-device"


class CommandUnderWay(WriteRefused):
    """The device has not ended another command yet; two at once would read back each other's."""

    kind = "command-under-way"


class CommandDesk:
    """Carries out commands for the devices of *site_file*, one at a time for each device.

    *line* returns what leads to the bus of a code.  `close` before the buses stop.
    """

    def __init__(
        self, site_file: SiteFile, line: Callable[[str], Asker], ledger: CommandLedger
    ) -> None:
        buses = {bus.code: bus for bus in site_file.buses}
        self._ways: dict[str, tuple[Bus, Slave]] = {
            slave.device.code: (buses[code], slave)
            for code, slaves in site_file.slaves.items()
            for slave in slaves
        }
        self._line = line
        self._ledger = PatientLedger(ledger)
        self._commands = Commands(self._ledger)
        self._busy: set[str] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_closed = False

    async def write(self, command: WriteCommand) -> CommandRecord:
        """Carry out *command* to its end and return its last record.

        Raises `WriteRefused` (its subclasses say why), `CommandNotKept` and `CommandDeskClosed`,
        after all of which nothing was sent, and `CommandEndNotKept`.
        """
        if self._is_closed:
            raise CommandDeskClosed
        try:
            return await self._write(command)
        except WriteRefused as error:
            _log.warning("command of %r refused: %s", command.actor, error)
            raise

    async def close(self, within_s: float) -> None:
        """Take no more commands and wait for those under way, *within_s* at most."""
        self._is_closed = True
        self._ledger.hurry()
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
                await self._commands.close()
        except TimeoutError:
            # Their beginnings stay on record without an end: nobody knows.
            _log.error("commands to %s had not ended in time", ", ".join(sorted(self._busy)))

    async def _write(self, command: WriteCommand) -> CommandRecord:
        try:
            bus, slave = self._ways[command.device]
        except KeyError:
            text = f"{command.device}: not a Modbus device on a bus of this process"
            raise NotAModbusDevice(text) from None
        if command.device in self._busy:
            text = f"{command.device}: another command is under way; look at what becomes of it"
            raise CommandUnderWay(text)
        self._busy.add(command.device)
        self._idle.clear()
        try:
            record = await self._commands.write(
                self._line(bus.code), slave.profile, slave.unit, command, allowed=bus.writes
            )
        finally:
            self._busy.discard(command.device)
            if not self._busy:
                self._idle.set()
        _log.info("%s", _told(record))
        return record


class PatientLedger:
    """A ledger in the database that tells a beginning that was not kept from an end that was not.

    An end is offered again for *keep_within_s*, for the device has been written to by then; after
    that it is told to the log, whole.
    """

    def __init__(self, ledger: CommandLedger, keep_within_s: float = _KEEP_WITHIN_S) -> None:
        self._ledger = ledger
        self._keep_within_s = keep_within_s
        self._is_hurried = False

    def hurry(self) -> None:
        """Offer no end more than once from now on: the service stops."""
        self._is_hurried = True

    async def record(self, record: CommandRecord) -> None:
        """Keep *record*; raise `CommandNotKept` for a beginning, `CommandEndNotKept` for an end."""
        if record.outcome is not Outcome.BEGUN:
            await self._record_end(record)
            return
        try:
            await self._ledger.record(record)
        except StorageError as error:
            _log.error("command %s not sent, it cannot be kept: %s", record.id, error)
            raise CommandNotKept(str(error)) from error

    async def _record_end(self, record: CommandRecord) -> None:
        loop = asyncio.get_running_loop()
        give_up_at_s = loop.time() + self._keep_within_s
        backoff = Backoff(*_RETRY_S, random.random)
        while True:
            try:
                await self._ledger.record(record)
                return
            except StorageError as error:
                if self._is_hurried or error.kind == "refused" or loop.time() >= give_up_at_s:
                    _log.error("not kept (%s): %s", error, _told(record))
                    raise CommandEndNotKept(record) from error
            await asyncio.sleep(backoff.failed(loop.time()))


def _told(record: CommandRecord) -> str:
    return (
        f"command {record.id} of {record.actor!r}: {record.device} {record.key} {record.old} -> "
        f"{record.new} {record.quantity_unit}: {record.outcome}, read back {record.read_back}"
        f" {record.text}".rstrip()
    )
