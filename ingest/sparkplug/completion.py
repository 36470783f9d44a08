"""Messages that speak in aliases, completed so that they stand on their own.

What lies in the spool is decoded once or twice, now or after an outage, in order or behind newer
messages.  So nothing there may depend on what came before it: names and datatypes are written into
a message when it comes, by the certificate in force, and a decoder needs the message alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from devices.codecs.sparkplug import is_about_itself, is_measured, needs_datatype
from devices.codecs.sparkplug_wire import Metric, Payload, gone, told, write_payload
from ingest.sparkplug.session import NodeState, Party, Rules, Told, is_trusted

MOST_METRICS = 500
MOST_BYTES = 48_000


@dataclass(frozen=True, slots=True)
class Meaning:
    """What aliases stand for in a message, and what was told of each metric by its name."""

    names: Mapping[int, str]
    metrics: Mapping[str, Told]


def complete(payload: Payload, meaning: Meaning | None) -> list[bytes] | None:
    """Return *payload* as messages that stand on their own; None where that cannot be.

    A message that needs nothing is returned whole, and a large one in parts of the size that a
    decoder takes.
    """
    metrics: list[bytes] = []
    for metric in payload.metrics:
        if metric.name is not None and not needs_datatype(metric):
            metrics.append(metric.raw)
            continue
        meant = None if meaning is None else _meant(metric, meaning)
        if meant is None:
            return None
        metrics.append(told(metric, *meant))
    return [write_payload(payload.at_ms, part, payload.seq) for part in _parts(metrics)]


def meaning_of(
    state: NodeState,
    device: str,
    rules: Rules,
    sent_ms: int | None,
    replayed_us: int | None = None,
) -> Meaning | None:
    """Return what a message of *device* means by its aliases; None where nobody can tell.

    A message that comes now is read by the newest certificate, if that can be trusted.  One that
    came at *replayed_us*, and is replayed, is read if no birth between then and now has taken back
    what another said; and so is one that was sent (*sent_ms*) before a birth and came after it.
    """
    party = state.party(device)
    if party is None or not is_trusted(state, device, rules):
        return None
    birth, run = party.birth, party.run
    if birth is None or run is None:
        return None
    if replayed_us is None and not birth.is_after(sent_ms):
        return Meaning(birth.names, birth.metrics)
    came_us = birth.at_us if replayed_us is None else replayed_us
    if came_us >= run.since_us:
        is_known = run.is_first or not run.is_after(sent_ms)
    else:
        # Before the first birth that we heard of, it can only have been that of its session.
        is_known = run.is_first and came_us >= run.died_us
    return Meaning(run.names, birth.metrics) if is_known else None


def _meant(metric: Metric, meaning: Meaning) -> tuple[str, int | None] | None:
    """Return the name and the datatype that *metric* was born with; None where nobody knows."""
    name = metric.name
    if name is None:
        name = meaning.names.get(metric.alias) if metric.alias is not None else None
    born = meaning.metrics.get(name) if name is not None else None
    if name is None or born is None or (needs_datatype(metric) and not born.datatype):
        return None
    return name, born.datatype or None


def farewell(party: Party) -> list[bytes]:
    """Return messages that say of everything *party* measured that it has no value any more."""
    if party.birth is None:
        return []
    metrics = [
        gone(name, born.datatype)
        for name, born in party.birth.metrics.items()
        if is_measured(Metric(name=name, datatype=born.datatype, is_null=True))
        and not is_about_itself(name)
    ]
    return [write_payload(None, part) for part in _parts(metrics)] if metrics else []


def _parts(metrics: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    start = size = 0
    for at, metric in enumerate(metrics):
        if at > start and (at - start >= MOST_METRICS or size + len(metric) > MOST_BYTES):
            yield metrics[start:at]
            start, size = at, 0
        size += len(metric) + 4
    yield metrics[start:]
