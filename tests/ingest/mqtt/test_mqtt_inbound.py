"""What waits for the inlet, and the acknowledgements it leaves behind."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ingest.collector import Arrival
from ingest.mqtt.inbound import PUBACK, Chunk, Delivery, Inbound

MAX_MESSAGES, MAX_BYTES = 40, 4000


def chunk(first: int, count: int, size: int = 100) -> Chunk:
    """Messages whose payload is their number; every third is of QoS 0."""
    numbers = range(first, first + count)
    arrivals = [Arrival("mqtt", "t", b"%d" % number, number) for number in numbers]
    acks = [PUBACK | number for number in numbers if number % 3]
    return Chunk(arrivals, acks, size)


class InboundMachine(RuleBasedStateMachine):
    """Whatever comes and goes: order is kept, nothing vanishes, the sums are right."""

    def __init__(self) -> None:
        super().__init__()
        self.inbound = Inbound(MAX_MESSAGES, MAX_BYTES, delivery_messages=15, delivery_bytes=900)
        self.added = 1
        self.settled: list[int] = []
        self.acknowledged: list[int] = []
        self.sizes: list[int] = []
        self.out: Delivery | None = None

    # Reading stops when it is full.
    @precondition(lambda self: not self.inbound.is_full)
    @rule(count=st.integers(1, 30), size=st.integers(1, 1500))
    def add(self, count: int, size: int) -> None:
        self.inbound.add(chunk(self.added, count, size))
        self.added += count

    @precondition(lambda self: self.out is None)
    @rule()
    def take(self) -> None:
        was_empty = self.inbound.is_empty
        self.out = self.inbound.take()
        assert (self.out is None) == was_empty

    @precondition(lambda self: self.out is not None)
    @rule()
    def a_second_delivery_is_refused(self) -> None:
        with pytest.raises(RuntimeError):
            self.inbound.take()

    @precondition(lambda self: self.out is not None)
    @rule()
    def settle(self) -> None:
        assert self.out is not None
        self.acknowledged += self.inbound.settle(self.out)
        self.settled += [arrival.received_at_us for arrival in self.out.arrivals]
        with pytest.raises(ValueError):
            self.inbound.settle(self.out)
        self.out = None

    @invariant()
    def what_is_settled_is_a_prefix_in_order(self) -> None:
        assert self.settled == list(range(1, len(self.settled) + 1))
        assert self.acknowledged == [PUBACK | n for n in self.settled if n % 3]

    @invariant()
    def the_sums_are_right(self) -> None:
        unsettled = range(len(self.settled) + 1, self.added)
        assert self.inbound.messages == len(unsettled)
        assert self.inbound.qos0_messages == sum(1 for n in unsettled if n % 3 == 0)
        assert self.inbound.oldest_received_at_us == (unsettled[0] if unsettled else None)
        assert (self.inbound.bytes == 0) == (not unsettled)

    @invariant()
    def memory_is_bounded(self) -> None:
        # The limits plus the one chunk that reached them.
        assert self.inbound.messages < MAX_MESSAGES + 30
        assert self.inbound.bytes < MAX_BYTES + 1500


TestInboundMachine = InboundMachine.TestCase
TestInboundMachine.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)


def test_a_delivery_of_another_connection_is_refused():
    old, new = Inbound(10, 1000), Inbound(10, 1000)
    old.add(chunk(1, 2))
    new.add(chunk(1, 2))
    stale, fresh = old.take(), new.take()
    assert stale is not None and fresh is not None
    with pytest.raises(ValueError, match="did not come from this connection"):
        new.settle(stale)
    assert new.settle(fresh) == [PUBACK | 1, PUBACK | 2]


def test_a_delivery_ends_before_it_is_too_large_but_takes_one_chunk_whole():
    inbound = Inbound(1000, 10**9, delivery_messages=10, delivery_bytes=1000)
    for first, count, size in ((1, 6, 100), (7, 4, 100), (11, 1, 100), (12, 50, 5000), (62, 1, 1)):
        inbound.add(chunk(first, count, size))
    sizes = []
    while (delivery := inbound.take()) is not None:
        sizes.append((len(delivery.arrivals), delivery.size))
        inbound.settle(delivery)
    assert sizes == [(10, 200), (1, 100), (50, 5000), (1, 1)]


def test_reading_goes_on_only_when_half_of_both_limits_is_free():
    inbound = Inbound(4, 1000)
    inbound.add(chunk(1, 2, 900))
    inbound.add(chunk(3, 2, 10))
    assert inbound.is_full and not inbound.has_room
    inbound.settle(inbound.take())
    assert not inbound.is_full and inbound.has_room
