"""What a bus knows of itself and of its slaves, for health pages and metrics."""

from __future__ import annotations

from dataclasses import dataclass, field

from ingest.modbus.breaker import SlaveState


@dataclass(slots=True)
class BusCounters:
    """Everything that happened on a bus since the start; only rises."""

    requests: int = 0
    replies: int = 0
    timeouts: int = 0
    late_replies: int = 0
    garbled: int = 0
    mismatches: int = 0
    refusals: int = 0
    busy: int = 0
    strays: int = 0
    zero_transactions: int = 0
    connects: int = 0
    connect_failures: int = 0
    losses: int = 0
    missed_turns: int = 0
    probes: int = 0
    syncs: int = 0
    bugs: int = 0


@dataclass(frozen=True, slots=True)
class SlaveStatus:
    """One device: *since_s* is when it came into *state*, on the clock the bus is fed.

    *error* is the last reason for a poll without values, empty when the last poll was whole.
    *refused* names reads that the device refuses: a person must mend the profile.
    """

    device: str
    unit: int
    state: SlaveState
    since_s: float
    last_reply_at_us: int | None
    error: str
    refused: tuple[str, ...]
    response_s: float | None


@dataclass(frozen=True, slots=True)
class BusStatus:
    """One bus: *endpoint* is the index of the one in use."""

    bus: str
    connected: bool
    endpoint: int
    error: str
    counters: BusCounters
    slaves: tuple[SlaveStatus, ...] = field(default_factory=tuple)
