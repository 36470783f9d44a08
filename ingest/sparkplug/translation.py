"""Arrivals as the collector brings them -> arrivals that a decoder can read by themselves.

Pure: the states of the nodes and the arrivals give new states and new arrivals.  What is not
Sparkplug passes unchanged, and so does what cannot be read or completed: it becomes a dead letter
like any other and is replayed when the birth comes.

A death has no values; it becomes a message in which everything that the device was born with has
none, with stale quality, at the time of receipt.  A node's death becomes one for each device that
was online.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import msgspec

from devices.codecs.sparkplug_wire import Payload, read_payload
from devices.errors import DecodeError
from devices.gap import Gap
from ingest.collector import Arrival, ArrivalFlag
from ingest.sparkplug.completion import complete, farewell, meaning_of
from ingest.sparkplug.session import NodeState, Rules, Step, receive, want_rebirth
from ingest.sparkplug.topic import Kind, Node, Subject, is_sparkplug, read_topic, write_topic

_DATA = (Kind.NDATA, Kind.DDATA)
_BIRTHS = (Kind.NBIRTH, Kind.DBIRTH)
_DEATHS = (Kind.NDEATH, Kind.DDEATH)


@dataclass(slots=True)
class Translation:
    """What became of some arrivals.

    *states* are those that changed, *certified* the nodes among them with a birth or a death.
    *gaps* are times in which something was offline.
    """

    arrivals: list[Arrival] = field(default_factory=list)
    states: dict[Node, NodeState] = field(default_factory=dict)
    certified: set[Node] = field(default_factory=set)
    reborn: dict[Node, int] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def translate(
    states: Mapping[Node, NodeState],
    arrivals: Sequence[Arrival],
    rules: Rules,
    addresses: AbstractSet[str],
    link: int = 0,
) -> Translation:
    """Return what *arrivals* become, and the nodes' states after them; *states* stay as they are.

    *addresses* are those of the devices we know.  A node's own births and data go on only if it is
    one of them.
    """
    done = Translation()
    for arrival in arrivals:
        if arrival.source != "mqtt" or not is_sparkplug(arrival.topic):
            done.arrivals.append(arrival)
            continue
        subject = read_topic(arrival.topic)
        if subject is None or subject.kind.is_command:
            # A host's STATE, or a command of ours or another's: nobody measured anything.
            done.counts["commands_and_states"] += 1
            continue
        try:
            payload = read_payload(arrival.payload)
        except DecodeError:
            done.counts["unreadable"] += 1
            done.arrivals.append(arrival)
            continue
        _take(done, states, arrival, subject, payload, rules, addresses, link)
    return done


def _take(
    done: Translation,
    states: Mapping[Node, NodeState],
    arrival: Arrival,
    subject: Subject,
    payload: Payload,
    rules: Rules,
    addresses: AbstractSet[str],
    link: int,
) -> None:
    before = done.states.get(subject.node) or states.get(subject.node)
    is_old = bool(arrival.flags & (ArrivalFlag.REPLAYED | ArrivalFlag.RETAINED))
    if is_old:
        done.counts["old_messages"] += 1
        _complete_old(done, before, arrival, subject, payload, rules)
        return
    step = receive(before, subject, payload, arrival.received_at_us, link)
    done.counts.update(step.counts)
    done.states[subject.node] = step.state
    done.gaps += _gaps(subject, step, arrival.received_at_us)
    if subject.kind in (*_BIRTHS, *_DEATHS):
        done.certified.add(subject.node)
    if subject.kind in _BIRTHS or step.settled:
        done.reborn[subject.node] = arrival.received_at_us
    if subject.kind in _DEATHS:
        _bury(done, arrival, subject, step, addresses)
        return
    is_wanted = bool(subject.device) or subject.address in addresses
    parts = complete(payload, meaning_of(step.state, subject.device, rules, payload.at_ms))
    if parts is None:
        done.counts["unknown_aliases"] += 1
    party = step.state.party(subject.device)
    is_unborn = subject.kind in _DATA and (party is None or not party.valid)
    # What a number that is missing makes doubtful may be settled by that number.
    waits = step.state.sequence.since_us is not None
    if is_unborn or (parts is None and not waits):
        done.states[subject.node] = want_rebirth(step.state, arrival.received_at_us)
    if is_wanted:
        done.arrivals += _written(arrival, parts)


def _complete_old(
    done: Translation,
    state: NodeState | None,
    arrival: Arrival,
    subject: Subject,
    payload: Payload,
    rules: Rules,
) -> None:
    """What is not news changes nothing, and is completed as far as is known."""
    parts: list[bytes] | None = None
    if state is not None and subject.kind in _DATA:
        received_at_us = arrival.received_at_us
        meaning = meaning_of(state, subject.device, rules, payload.at_ms, received_at_us)
        parts = complete(payload, meaning)
    done.arrivals += _written(arrival, parts)


def _written(arrival: Arrival, parts: Sequence[bytes] | None) -> list[Arrival]:
    if parts is None:
        return [arrival]
    return [msgspec.structs.replace(arrival, payload=part) for part in parts]


def _bury(
    done: Translation,
    arrival: Arrival,
    subject: Subject,
    step: Step,
    addresses: AbstractSet[str],
) -> None:
    """Add what says that those who died have no value any more; their births said what they had."""
    for device in step.died:
        party = step.state.party(device)
        kind = Kind.DDEATH if device else Kind.NDEATH
        dead = Subject(kind, subject.node, device)
        if party is None or dead.address not in addresses:
            continue
        done.arrivals += [
            msgspec.structs.replace(arrival, topic=write_topic(dead), payload=part)
            for part in farewell(party)
        ]


def _gaps(subject: Subject, step: Step, at_us: int) -> list[Gap]:
    """Return the times of those who came back, and the beginning of those who went."""
    gaps = [
        Gap(source(subject.node, device), gone_us, at_us, "device_offline", _text(device))
        for device, gone_us in step.back
    ]
    # A node's death says it of its devices too: one line for all of them.
    dead = step.died[:1]
    gaps += [
        Gap(source(subject.node, device), at_us, at_us, "device_offline", _text(device))
        for device in dead
    ]
    return gaps


def source(node: Node, device: str = "") -> str:
    """Return the name of *node*, or of a device on it, among the sources of gaps."""
    return f"sparkplug:{node}/{device}" if device else f"sparkplug:{node}"


def _text(device: str) -> str:
    return "the device said it was offline" if device else "the edge node was offline"
