"""Who sends to topics that belong to no device: gathered within bounds, from dead letters.

The letters themselves are kept whole elsewhere; here is only what a person needs in order to see
that somebody new is there and what they may be saying.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from devices.dead_letter import DeadLetter
from devices.topic import Stranger, Strangers

CODES = frozenset({"E-DEVICE", "E-TOPIC"})  # of letters whose topic belongs to no device
MAX_DEVICES = 1_000
MAX_TOPICS = 32  # samples of a device, one a topic
MAX_SAMPLE_BYTES = 16_384
MAX_DEVICE_BYTES = 65_536
MAX_BYTES = 4 * 1024 * 1024
MAX_TOPIC = 1_024  # characters; nobody calls a device by more
_TELLING_S = 10.0


@dataclass(frozen=True, slots=True)
class HeardMessage:
    """A message of an unclaimed device; *payload* is its beginning where *size* is more."""

    topic: str
    payload: bytes
    size: int
    received_at_us: int

    @property
    def is_whole(self) -> bool:
        """Whether *payload* is all of it."""
        return len(self.payload) == self.size


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """An unclaimed device: *messages* of *bytes* between two times, and the newest by topic.

    *pattern*, *site* and *device* are what `Stranger` says.
    """

    id: str
    pattern: str
    site: str
    device: str
    first_at_us: int
    last_at_us: int
    messages: int
    bytes: int
    samples: tuple[HeardMessage, ...]

    @property
    def interval_s(self) -> float | None:
        """Seconds between two messages of one topic; None while too few came to tell.

        What was kept back comes in a burst, which says nothing of the interval.
        """
        rounds = self.messages / max(1, len(self.samples)) - 1
        lasted_s = (self.last_at_us - self.first_at_us) / 1e6
        if rounds < 1 or lasted_s < _TELLING_S:
            return None
        return lasted_s / rounds


def unclaimed_id(pattern: str) -> str:
    """Return 16 hex digits by which the device behind *pattern* is found again."""
    return hashlib.blake2b(pattern.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


@dataclass(slots=True)
class _Gathered:
    stranger: Stranger
    first_at_us: int
    last_at_us: int
    messages: int = 0
    bytes: int = 0
    sample_bytes: int = 0
    samples: dict[str, HeardMessage] = field(default_factory=dict)


class Gathering:
    """What was heard of unclaimed devices since `take` was last called.

    Bounded by the limits above: devices and topics beyond them are not noted, samples beyond them
    not kept; *dropped* counts the messages that this leaves without a trace here.
    """

    def __init__(self, strangers: Strangers) -> None:
        self.strangers = strangers
        self._found: dict[str, _Gathered] = {}
        self._bytes = 0
        self.dropped = 0

    def note(self, letter: DeadLetter) -> bool:
        """Note *letter* if it is of an unclaimed device; return whether it is noted."""
        if letter.source != "mqtt" or letter.code not in CODES:
            return False
        if len(letter.topic) > MAX_TOPIC:
            self.dropped += 1
            return False
        stranger = self.strangers.of(letter.topic)
        one = self._found.get(stranger.pattern)
        if one is None:
            if len(self._found) >= MAX_DEVICES:
                self.dropped += 1
                return False
            at_us = letter.received_at_us
            one = self._found[stranger.pattern] = _Gathered(stranger, at_us, at_us)
        one.first_at_us = min(one.first_at_us, letter.received_at_us)
        one.last_at_us = max(one.last_at_us, letter.received_at_us)
        one.messages += 1
        one.bytes += len(letter.payload)
        self._sample(one, letter)
        return True

    def _sample(self, one: _Gathered, letter: DeadLetter) -> None:
        payload = letter.payload[:MAX_SAMPLE_BYTES]
        old = one.samples.get(letter.topic)
        if old is None and len(one.samples) >= MAX_TOPICS:
            return
        if old is not None and old.received_at_us > letter.received_at_us:
            return
        more = len(payload) + (0 if old is None else -len(old.payload))
        if self._bytes + more > MAX_BYTES or one.sample_bytes + more > MAX_DEVICE_BYTES:
            return
        one.sample_bytes += more
        self._bytes += more
        one.samples[letter.topic] = HeardMessage(
            letter.topic, payload, len(letter.payload), letter.received_at_us
        )

    def take(self) -> list[Unclaimed]:
        """Return what was gathered and begin anew."""
        found = [
            Unclaimed(
                unclaimed_id(one.stranger.pattern),
                one.stranger.pattern,
                one.stranger.site,
                one.stranger.device,
                one.first_at_us,
                one.last_at_us,
                one.messages,
                one.bytes,
                tuple(one.samples.values()),
            )
            for one in self._found.values()
        ]
        self._found = {}
        self._bytes = 0
        return found
