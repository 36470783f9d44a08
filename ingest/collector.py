"""The contracts between collectors, the spool and the sinks.

    collector --arrivals--> Inlet (the spool: durable, then return) --> pipeline --batches--> Sink

A collector may acknowledge to its sender only after `Inlet.accept` has returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntFlag
from typing import Literal, Protocol

import msgspec

from devices.dead_letter import DeadLetter
from devices.gap import Gap
from devices.reading import Batch


class IngestError(Exception):
    """Root of this package's errors."""


class SpoolFull(IngestError):
    """Nothing was kept: no room.  The collector must not acknowledge and may try again later."""


class ArrivalFlag(IntFlag):
    """What a collector knows about an arrival beyond its bytes."""

    NONE = 0
    RETAINED = 1
    QOS0 = 2
    REPLAYED = 4


class Arrival(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One thing received, exactly as received.

    *source* is ``mqtt``, ``http`` or ``modbus``; *topic* says where it came from in that
    collector's words (MQTT topic, device code); *received_at_us* is microseconds since 1970 UTC.

    A struct because one is made for every message and written to the spool as it stands: fields
    are only ever added, at the end, with a default.
    """

    source: str
    topic: str
    payload: bytes
    received_at_us: int
    flags: int = 0


class Inlet(Protocol):
    """Where collectors put what they receive."""

    async def accept(self, arrivals: Sequence[Arrival]) -> None:
        """Return when all of *arrivals* are durable; raise `SpoolFull` when none of them are.

        Calls may overlap; those that come together share one sync of the disk.
        """
        ...


class GapLedger(Protocol):
    """Where a collector records that something may not have reached it."""

    async def record(self, gap: Gap) -> None:
        """Keep *gap*; never raises, and never waits for the database."""
        ...


class WriteOutcome(Protocol):
    """What became of a batch that was offered to a sink.

    ``written``: it is durable there, *inserted* rows were new, *duplicates* were there already and
    *conflicts* of those held another value.  ``unavailable``: nothing is wrong with the rows, offer
    the same batch again.  ``refused``: some row can never be taken; halve and offer the halves.
    ``misconfigured``: no batch can be taken until a person mends something; keep and shout.
    """

    @property
    def kind(self) -> Literal["written", "unavailable", "refused", "misconfigured"]:
        """Which of the four it is."""
        ...

    @property
    def inserted(self) -> int:
        """Rows that were new."""
        ...

    @property
    def duplicates(self) -> int:
        """Rows that were there already."""
        ...

    @property
    def conflicts(self) -> int:
        """Duplicates that held another value."""
        ...

    @property
    def reason(self) -> str:
        """One sentence for the log, empty when written."""
        ...


class Sink(Protocol):
    """Takes batches for good; the spool forgets what a sink has written."""

    async def write(self, batch: Batch) -> WriteOutcome:
        """Write *batch* whole or not at all."""
        ...


class DeadLetterSink(Protocol):
    """Keeps what could not be read."""

    async def put(self, letters: Sequence[DeadLetter]) -> WriteOutcome:
        """Keep *letters* whole; one that is kept already is harmless."""
        ...
