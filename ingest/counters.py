"""What has happened since the start, as plain numbers.

One object a process; whoever does a thing adds to its number, on the event loop.  Nothing is ever
reset.  `Counters.snapshot` names them for whoever exports them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

Labels = tuple[tuple[str, str], ...]


def _labelled() -> defaultdict[str, int]:
    return defaultdict(int)


@dataclass(slots=True)
class Counters:
    """Totals since the start; the words for each are in `HELP`."""

    arrivals_received: defaultdict[str, int] = field(default_factory=_labelled)
    arrivals_accepted: defaultdict[str, int] = field(default_factory=_labelled)
    arrivals_refused: defaultdict[str, int] = field(default_factory=_labelled)
    bytes_accepted: int = 0
    qos0_received: int = 0
    retained_received: int = 0
    replayed_received: int = 0
    spool_commits: int = 0
    spool_full: int = 0
    spool_errors: int = 0
    spool_torn_bytes: int = 0
    spool_corrupt_bytes: int = 0
    spool_lost_records: int = 0
    spool_put_back: int = 0
    messages_decoded: int = 0
    readings_decoded: int = 0
    unknown_keys: int = 0
    ignored_fields: int = 0
    readings_marked: defaultdict[str, int] = field(default_factory=_labelled)
    marks_forgotten: int = 0
    dead_letters: defaultdict[str, int] = field(default_factory=_labelled)
    dead_letters_unkept: int = 0
    unclaimed_messages: int = 0
    unclaimed_dropped: int = 0
    unclaimed_forgotten: int = 0
    readings_written: int = 0
    readings_duplicate: int = 0
    readings_conflicting: int = 0
    readings_refused: int = 0
    batches_written: int = 0
    sink_retries: defaultdict[str, int] = field(default_factory=_labelled)
    readings_dropped: defaultdict[str, int] = field(default_factory=_labelled)
    mqtt_connections: int = 0
    mqtt_failures: defaultdict[str, int] = field(default_factory=_labelled)
    mqtt_acknowledged: int = 0
    mqtt_dropped: int = 0
    mqtt_subscriptions_refused: int = 0
    sessions_lost: int = 0
    gaps: defaultdict[str, int] = field(default_factory=_labelled)
    sparkplug: defaultdict[str, int] = field(default_factory=_labelled)

    def snapshot(self) -> Mapping[tuple[str, Labels], int]:
        """Return every number under its name and labels, as `HELP` describes them."""
        numbers: dict[tuple[str, Labels], int] = {}
        for name, (label, _) in HELP.items():
            value = getattr(self, name)
            if label:
                for word, number in sorted(value.items()):
                    numbers[name, ((label, word),)] = number
            else:
                numbers[name, ()] = value
        return numbers


def add_all(numbers: dict[str, int], more: Mapping[str, int]) -> None:
    """Add *more* to *numbers*, word by word."""
    for word, number in more.items():
        numbers[word] += number


# name -> (label, what it counts); an empty label means one number.
HELP: Mapping[str, tuple[str, str]] = {
    "arrivals_received": ("source", "Messages, posts and polls handed over by collectors"),
    "arrivals_accepted": ("source", "Arrivals that are durable in the spool"),
    "arrivals_refused": ("source", "Arrivals that the spool had no room for; nothing was kept"),
    "bytes_accepted": ("", "Payload bytes of the accepted arrivals"),
    "qos0_received": ("", "Arrivals sent without a promise of delivery (MQTT QoS 0)"),
    "retained_received": ("", "Old messages that a broker had kept"),
    "replayed_received": ("", "Dead letters that were sent in again"),
    "spool_commits": ("", "Writes to the spool, each with one sync of the disk"),
    "spool_full": ("", "Writes refused for want of room"),
    "spool_errors": ("", "Errors of the disk under the spool"),
    "spool_torn_bytes": ("", "Bytes of unfinished writes found after a crash; never acknowledged"),
    "spool_corrupt_bytes": ("", "Bytes of the spool that the disk gave back damaged"),
    "spool_lost_records": ("", "Accepted arrivals that were in damaged bytes"),
    "spool_put_back": ("", "Arrivals taken from memory to be read again from the spool"),
    "messages_decoded": ("", "Arrivals that gave at least one reading"),
    "readings_decoded": ("", "Readings decoded, each counted the first time"),
    "unknown_keys": ("", "Values under a key that no series of the device has"),
    "ignored_fields": ("", "Fields of payloads that nobody reads"),
    "readings_marked": ("reason", "Readings that were bad or suspect, by the reason"),
    "marks_forgotten": ("", "Readings stored with fewer marks than they were heard with"),
    "dead_letters": ("code", "Arrivals kept as dead letters"),
    "dead_letters_unkept": ("", "Dead letters that their sink refused; they are in the log"),
    "unclaimed_messages": ("", "Dead letters from topics that belong to no device"),
    "unclaimed_dropped": ("", "Those of them that are shown nowhere among the unclaimed devices"),
    "unclaimed_forgotten": ("", "Unclaimed devices pushed out by others, or silent for a month"),
    "readings_written": ("", "Readings that were new to the database"),
    "readings_duplicate": ("", "Readings that the database had already"),
    "readings_conflicting": ("", "Duplicates that held another value; the first one stays"),
    "readings_refused": ("", "Readings that the database can never take; kept as dead letters"),
    "batches_written": ("", "Batches that the database took"),
    "sink_retries": ("outcome", "Batches that had to be offered again"),
    "readings_dropped": ("place", "Readings dropped from a full queue of a listener"),
    "mqtt_connections": ("", "Connections that the broker took"),
    "mqtt_failures": ("kind", "Connections that ended or never came about"),
    "mqtt_acknowledged": ("", "Messages that the broker was told are ours"),
    "mqtt_dropped": ("", "Messages of QoS 0 that were received and could not be kept"),
    "mqtt_subscriptions_refused": ("", "Answers of the broker that refuse a subscription"),
    "sessions_lost": ("", "Sessions that the broker did not know any more"),
    "gaps": ("reason", "Stretches of time in which something may not have arrived"),
    "sparkplug": ("event", "What the sessions of Sparkplug edge nodes went through"),
}
