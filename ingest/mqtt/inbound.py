"""What came in on one connection and is not acknowledged yet.

    bytes --decoder--> add --> [chunk, chunk] --> take --> inlet --> settle --> acknowledgements

An `Inbound` belongs to one connection and dies with it.  That is the whole guard against the
quietest loss there is: packet ids are numbers from 1 up, the same on every connection, and to
acknowledge an old id on a new connection deletes somebody else's message at the broker.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ingest.collector import Arrival

# An acknowledgement is a packet of four bytes, kept as one number: type, length 2, packet id.
PUBACK = 0x4002_0000
PUBREC = 0x5002_0000
PUBCOMP = 0x7002_0000


@dataclass(slots=True)
class Chunk:
    """Messages that came together, in receive order.

    *acks* are their acknowledgements in the same order, one word each (`PUBACK` | packet id); a
    QoS 0 message has none.  *size* counts bytes as they came over the wire.
    """

    arrivals: list[Arrival]
    acks: list[int]
    size: int


class Delivery(Chunk):
    """What `Inbound.take` hands out: to be accepted, then settled with the same `Inbound`."""

    __slots__ = ("_owner",)

    def __init__(self, owner: Inbound, first: Chunk) -> None:
        super().__init__(first.arrivals, first.acks, first.size)
        self._owner = owner

    def is_of(self, owner: Inbound) -> bool:
        """Tell whether *owner* handed this out."""
        return self._owner is owner

    @property
    def qos0_messages(self) -> int:
        """How many of the arrivals the broker has forgotten already."""
        return len(self.arrivals) - len(self.acks)


class Inbound:
    """A bounded line of received messages, in receive order.

    It never refuses: *is_full* asks the connection to stop reading, and *has_room* (half of both
    limits) to read on, so what is held exceeds the limits by one chunk at most.  A delivery is at
    most *delivery_messages* and *delivery_bytes* large, or one chunk where that is larger: a spool
    that is nearly full should not be asked for everything at once.
    """

    def __init__(
        self,
        max_messages: int,
        max_bytes: int,
        *,
        delivery_messages: int = 8192,
        delivery_bytes: int = 1024 * 1024,
    ) -> None:
        self._max = (max_messages, max_bytes)
        self._delivery_max = (delivery_messages, delivery_bytes)
        self._waiting: deque[Chunk] = deque()
        self._out: Delivery | None = None
        self.messages = 0
        self.bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether reading must stop."""
        return self.messages >= self._max[0] or self.bytes >= self._max[1]

    @property
    def has_room(self) -> bool:
        """Whether reading may go on after it was stopped."""
        return self.messages <= self._max[0] // 2 and self.bytes <= self._max[1] // 2

    @property
    def is_empty(self) -> bool:
        """Whether `take` has nothing to hand out."""
        return not self._waiting

    @property
    def oldest_received_at_us(self) -> int | None:
        """When the oldest message that is not settled came, microseconds UTC; None without one."""
        if self._out is not None:
            return self._out.arrivals[0].received_at_us
        return self._waiting[0].arrivals[0].received_at_us if self._waiting else None

    @property
    def qos0_messages(self) -> int:
        """How many unsettled messages exist nowhere but here."""
        held = sum(len(chunk.arrivals) - len(chunk.acks) for chunk in self._waiting)
        return held + (self._out.qos0_messages if self._out is not None else 0)

    def add(self, chunk: Chunk) -> None:
        """Append *chunk*, which must hold at least one arrival."""
        self._waiting.append(chunk)
        self.messages += len(chunk.arrivals)
        self.bytes += chunk.size

    def take(self) -> Delivery | None:
        """Return the oldest messages, None when there are none.

        Only one delivery may be out: acknowledgements go out in receive order.
        """
        if self._out is not None:
            raise RuntimeError("a delivery is out and not settled yet")
        if not self._waiting:
            return None
        delivery = Delivery(self, self._waiting.popleft())
        while self._waiting and self._fits(delivery, self._waiting[0]):
            chunk = self._waiting.popleft()
            delivery.arrivals += chunk.arrivals
            delivery.acks += chunk.acks
            delivery.size += chunk.size
        self._out = delivery
        return delivery

    def settle(self, delivery: Delivery) -> list[int]:
        """Forget *delivery* and return its acknowledgements, to be sent in this order.

        Raises ValueError for one that another `Inbound` handed out or that is settled already.
        """
        if not delivery.is_of(self) or delivery is not self._out:
            raise ValueError("this delivery did not come from this connection, or is settled")
        self._out = None
        self.messages -= len(delivery.arrivals)
        self.bytes -= delivery.size
        return delivery.acks

    def _fits(self, delivery: Delivery, chunk: Chunk) -> bool:
        messages, size = self._delivery_max
        return (
            len(delivery.arrivals) + len(chunk.arrivals) <= messages
            and delivery.size + chunk.size <= size
        )
