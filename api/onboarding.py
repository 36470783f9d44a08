"""Unknown devices as HTTP sees them: who tells of them, tries what they send, lets them in.

unclaimed ──▶ try (nothing is saved) ──▶ claim: files are written, the registry has the device,
                                         what it sent before is read again
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from devices.errors import Mistake
from devices.guess import Guess
from devices.guess_quantity import GuessedValue
from devices.unclaimed import HeardMessage, Unclaimed


class UnknownUnclaimed(Exception):
    """No unclaimed device has this id (any more)."""


class OnboardingRefused(Exception):
    """What was given cannot be used; *mistakes* name all that is wrong.  Nothing was written."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes = tuple(mistakes)


class ClaimNotWritten(Exception):
    """The files of a claim could not be written; the message says why.  Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Found:
    """An unclaimed device and what it may be saying."""

    unclaimed: Unclaimed
    guess: Guess


@dataclass(frozen=True, slots=True)
class Proposal:
    """A device as it would be: *entry* as in a site file, *mapping* a text if it needs a new one.

    Where *entry* is None only the payload is tried: that of *mapping*, or *payload*; or *profile*,
    the text of a register profile, on *reads*: answers of a device, as cases of profiles have them.
    """

    entry: Mapping[str, Any] | None = None
    mapping: str = ""
    payload: str = ""
    profile: str = ""
    reads: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class TriedReading:
    """A reading that a sample would give; times are microseconds since 1970 UTC.

    *value* is None where the device has no reading.
    """

    series: str
    quantity: str
    channel: str
    key: str
    value: float | None
    unit: str
    observed_at_us: int
    received_at_us: int
    quality_bits: int


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A sample that would become a dead letter, at least in part."""

    topic: str
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Tried:
    """What samples would give: *readings* of a device, or *values* where no device was given.

    *files* are the texts that a claim would write, by name.
    """

    readings: tuple[TriedReading, ...] = ()
    values: tuple[GuessedValue, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    ignored_fields: int = 0
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A device that was unclaimed: in the registry of *revision*, described by *files*.

    *waiting* letters that it sent before are being read again.
    """

    device: str
    series: tuple[str, ...]
    files: Mapping[str, str]
    revision: int
    actor: str
    waiting: int


class OnboardingDesk(Protocol):
    """What tells of unknown devices and makes devices of them; may raise `StorageError`."""

    async def list(self, limit: int, offset: int) -> tuple[Sequence[Found], int]:
        """Return unclaimed devices, those heard last first, and how many there are in all."""
        ...

    async def get(self, unclaimed_id: str) -> Found:
        """Return one, or raise `UnknownUnclaimed`."""
        ...

    def proposed(
        self, found: Found, given: Mapping[str, Any], mapping: str, *, guessed: bool
    ) -> Proposal:
        """Return *given* with where *found* is heard and, if *guessed*, all that was guessed."""
        ...

    async def attempt(self, proposal: Proposal, samples: Sequence[HeardMessage]) -> Tried:
        """Return what *samples* would give; raise `OnboardingRefused` for a wrong proposal."""
        ...

    async def claim(self, found: Found, proposal: Proposal, actor: str) -> Claimed:
        """Make a device of *found*: write its files, have the registry take them up.

        Raises `OnboardingRefused` and `ClaimNotWritten`, after which nothing has changed.
        """
        ...
