"""Messages that speak in aliases, completed so that they stand on their own.

What lies in the spool is decoded once or twice, now or after an outage, in order or behind newer
messages.  So nothing there may depend on what came before it: names and datatypes are written into
a message when it comes, by the certificate in force, and a decoder needs the message alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from devices.codecs.sparkplug import is_about_itself, is_measured, needs_datatype
from devices.codecs.sparkplug_wire import Metric, Payload, gone, told, write_payload
from ingest.sparkplug.session import Certificate, NodeState, Party, Rules, is_trusted

MOST_METRICS = 500
MOST_BYTES = 48_000


def complete(payload: Payload, certificates: Sequence[Certificate]) -> list[bytes] | None:
    """Return *payload* as messages that stand on their own; None where that cannot be.

    Every one of *certificates* that knows an alias must mean the same by it, and one must.  A
    message that needs nothing is returned whole, and a large one in parts of the size that a
    decoder takes.
    """
    metrics: list[bytes] = []
    for metric in payload.metrics:
        if metric.name is not None and not needs_datatype(metric):
            metrics.append(metric.raw)
            continue
        meant = _meant(metric, certificates)
        if meant is None:
            return None
        metrics.append(told(metric, *meant))
    return [write_payload(payload.at_ms, part, payload.seq) for part in _parts(metrics)]


def in_force(
    state: NodeState, device: str, rules: Rules, replayed_us: int | None = None
) -> list[Certificate]:
    """Return the certificates by which a message of *device* is read.

    A message that comes now is read by the newest one, if that can be trusted.  One that is
    replayed and came at *replayed_us* is read by the certificate that was in force then and by the
    one that came next, as far as they are known; where they disagree it stays a dead letter.
    """
    party = state.party(device)
    if party is None or party.birth is None or not is_trusted(state, device, rules):
        return []
    former = party.former
    if replayed_us is None or former is None or replayed_us >= party.former_until_us:
        return [party.birth]
    return [former] if replayed_us < former.at_us else [former, party.birth]


def _meant(metric: Metric, certificates: Sequence[Certificate]) -> tuple[str, int | None] | None:
    """Return the name and the datatype that *metric* was born with; None where nobody knows."""
    found: set[tuple[str, int]] = set()
    for certificate in certificates:
        name = metric.name
        if name is None and metric.alias is not None:
            name = certificate.names.get(metric.alias)
        if name is not None and (born := certificate.metrics.get(name)) is not None:
            found.add((name, born.datatype))
    if len(found) != 1:
        return None
    name, datatype = found.pop()
    if needs_datatype(metric) and not datatype:
        return None
    return name, datatype or None


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
