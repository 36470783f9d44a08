"""What could not be read, kept whole with the reason."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One thing received that could not become readings.

    *source* is the collector (mqtt, http, modbus), *topic* where it came from in that collector's
    own words, *payload* the bytes as received, *code* and *text* the reason (`DecodeError`),
    *received_at_us* microseconds since 1970 UTC.  *flags* are the collector's own marks, kept so
    that a replay is the same arrival again.
    """

    source: str
    topic: str
    payload: bytes
    received_at_us: int
    code: str
    text: str
    flags: int = 0

    @property
    def id(self) -> str:
        """32 hex digits from what was received: the same arrival read twice is one dead letter."""
        digest = hashlib.blake2b(digest_size=16)
        head = f"{self.source}\0{self.topic}\0{self.received_at_us}\0{self.code}\0"
        digest.update(head.encode("utf-8", "surrogateescape"))
        digest.update(self.payload)
        return digest.hexdigest()
