"""Dead letters -> the arrivals that they were, to be read again after a file was mended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from devices.dead_letter import DeadLetter
from ingest.collector import Arrival, ArrivalFlag


def replayed(letters: Iterable[DeadLetter]) -> Iterator[Arrival]:
    """Yield each letter as the arrival that it was, marked as sent in again.

    It keeps its first time of receipt, so readings without a time of their own, and those of the
    message that were stored at once, come out the same and are duplicates.
    """
    for letter in letters:
        yield Arrival(
            letter.source,
            letter.topic,
            letter.payload,
            letter.received_at_us,
            letter.flags | ArrivalFlag.REPLAYED,
        )
