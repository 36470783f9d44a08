"""Frames of LoRaWAN devices that come more than once, each time with another time.

A frame is sent again when a device waits for an acknowledgement in vain, sold by several hotspots,
or held by one and delivered after an outage, weeks later.  It is still one measurement, and the
first time that it came with is the best that is known of it.  So a repeat gets that time: its
readings fall on the same key, and nothing is stored, counted or judged twice.

A repeat has counter, session and bytes of one of the device's latest frames.  A counter that starts
anew brings other bytes or another session; but a device that joins again each time it wakes sends
nothing but its first counters, and in still air the same bytes; and what passes messages on may
leave the counter out.  So counters 0 and 1 make a repeat for a minute only.
"""

from __future__ import annotations

from collections import deque

import msgspec

from devices.codecs.sample import Uplink

LATEST = 16  # frames of a device
_FIRST_COUNTERS = 1  # 0, and 1 of devices that count their join
_AGAIN_WITHIN_US = 60_000_000


class Uplinks:
    """Remembers the latest frames of each device; as many devices as there are in the registry.

    Where a backlog is drained beside what is fresh, frames come in another order; a repeat that is
    met first keeps its own, later time.  *seen* counts frames that were new.
    """

    def __init__(self) -> None:
        self._latest: dict[str, deque[tuple[Uplink, int]]] = {}
        self.seen = 0

    def first_us(self, device: str, uplink: Uplink, at_us: int) -> int:
        """Return when *uplink* of *device*, which has come with the time *at_us*, came first."""
        latest = self._latest.setdefault(device, deque(maxlen=LATEST))
        for known, first_us in latest:
            if known == uplink and (
                uplink.counter > _FIRST_COUNTERS or abs(at_us - first_us) <= _AGAIN_WITHIN_US
            ):
                return first_us
        latest.appendleft((uplink, at_us))
        self.seen += 1
        return at_us

    def snapshot(self) -> bytes:
        """Return what is remembered, for `recall`."""
        return msgspec.json.encode({name: list(frames) for name, frames in self._latest.items()})

    def recall(self, snapshot: bytes) -> None:
        """Remember what *snapshot* says; raises `msgspec.DecodeError` where it says nothing."""
        found = msgspec.json.decode(snapshot, type=dict[str, list[tuple[Uplink, int]]])
        self._latest = {name: deque(frames, maxlen=LATEST) for name, frames in found.items()}
