"""What a host application knows of one edge node, and how each message changes it.

Pure: a state and a message give the next state and what is to be done.  Nothing of a state is ever
changed in place, so a step that could not be kept (the spool was full) is simply forgotten and
taken again.

    NBIRTH ─▶ online, sequence begins, devices await their births ─▶ DBIRTH, DATA …
    NDEATH of the same bdSeq ─▶ offline, and all devices with it
    a number missing beyond the timeout, a device or an alias nobody was told of ─▶ wants a rebirth

The certificates we hold are **in doubt** while a number is missing, for a birth with other aliases
may be what was lost.  After a restart of ours, or a connection that was lost, they are until a
number follows on the last one heard; where a number lies behind or was lost for good (*astray*),
until a birth.  A death cannot be missed: the will is sent at QoS 1 and the broker keeps it for us.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import msgspec

from devices.codecs.sparkplug_wire import Payload
from ingest.sparkplug.sequence import Place, Sequence
from ingest.sparkplug.topic import Kind, Node, Subject

BD_SEQ = "bdSeq"
_replace = msgspec.structs.replace
_FIRST_PAUSE_US = 10_000_000  # between two requests for the same node; doubles
_LAST_PAUSE_US = 600_000_000  # and calm for as long forgets how often we asked
_MAX_OVERTAKERS = 64
_MOST_MEANINGS = 4  # aliases remembered for each that is in use


@dataclass(frozen=True, slots=True)
class Rules:
    """How a host behaves: *reorder_us* is how long it waits for what was overtaken.

    *rebirth* is whether it may ask a node to be born again.
    """

    reorder_us: int = 2_000_000
    rebirth: bool = False


class Told(msgspec.Struct, frozen=True):
    """What a birth said of a metric; *unit* is its property ``engUnit``."""

    alias: int | None = None
    datatype: int = 0
    unit: str = ""


class Certificate(msgspec.Struct, frozen=True, dict=True):
    """A birth that came at *at_us*: its metrics by name; *sent_ms* is when its node sent it."""

    at_us: int
    metrics: dict[str, Told]
    sent_ms: int | None = None

    def is_after(self, sent_ms: int | None) -> bool:
        """Whether the node sent it after what it sent at *sent_ms*, as far as its clock tells."""
        return _is_before(sent_ms, self.sent_ms)

    @cached_property
    def names(self) -> dict[int, str]:
        """The metrics by alias."""
        return {told.alias: name for name, told in self.metrics.items() if told.alias is not None}


class Run(msgspec.Struct, frozen=True):
    """Births in a row none of which takes back what an alias means.

    *names* is what they said of all aliases, *since_us* and *sent_ms* when the first of them came
    and was sent, *died_us* when a death was last heard before it.  *is_first* is whether nothing
    else was ever meant.
    """

    since_us: int
    sent_ms: int | None
    names: dict[int, str]
    died_us: int
    is_first: bool

    def is_after(self, sent_ms: int | None) -> bool:
        """Whether the node sent the first of them after what it sent at *sent_ms*."""
        return _is_before(sent_ms, self.sent_ms)


class Party(msgspec.Struct, frozen=True):
    """A node by itself, or a device: something that is born and dies.

    *birth* is its newest certificate, the last of *run*.  *valid* is whether *birth* is of the
    node's session as it is now.
    """

    online: bool
    since_us: int
    birth: Certificate | None = None
    run: Run | None = None
    valid: bool = False


class NodeState(msgspec.Struct, frozen=True):
    """What is known of one edge node.

    *died_us* is when a death of it was last heard.  *link* numbers our own connection by which it
    was last heard.  *in_doubt* and *astray* are why its certificates may be of another session than
    it is in.  *wanted_since_us* is since when a rebirth is wanted, *asked* how often it was asked
    for, the last time *asked_at_us*.
    """

    group: str
    node: str
    itself: Party
    devices: dict[str, Party] = {}
    bd_seq: int | None = None
    died_us: int = 0
    sequence: Sequence = Sequence()
    in_doubt: bool = False
    astray: bool = False
    link: int = 0
    wanted_since_us: int | None = None
    asked_at_us: int | None = None
    asked: int = 0

    @property
    def name(self) -> Node:
        """Which node it is."""
        return Node(self.group, self.node)

    def party(self, device: str) -> Party | None:
        """Return the device, or the node itself where *device* is empty."""
        return self.devices.get(device) if device else self.itself


@dataclass(frozen=True, slots=True)
class Step:
    """What a message did.

    *died* are devices that went offline, *back* those that came back, each with the time at which
    it had gone; an empty name is the node itself.  *counts* are words for the counters.
    *settled* is whether the certificates can be trusted that could not be before.
    """

    state: NodeState
    died: tuple[str, ...] = ()
    back: tuple[tuple[str, int], ...] = ()
    counts: tuple[str, ...] = ()
    settled: bool = False


def receive(
    state: NodeState | None, subject: Subject, payload: Payload, at_us: int, link: int = 0
) -> Step:
    """Return what a birth, a death or data did; *at_us* is the time of receipt."""
    if state is None:
        unknown = Party(online=False, since_us=at_us)
        state = NodeState(subject.node.group, subject.node.node, unknown, link=link)
    if state.link != link:
        state = _replace(state, link=link, in_doubt=state.itself.online)
    match subject.kind:
        case Kind.NBIRTH:
            return _node_born(state, payload, at_us)
        case Kind.NDEATH:
            return _node_died(state, payload, at_us)
    heard, counts = _hear(state, payload, at_us)
    match subject.kind:
        case Kind.DBIRTH:
            step = _device_born(heard, subject.device, payload, at_us)
        case Kind.DDEATH:
            step = _device_died(heard, subject.device, at_us)
        case _:
            step = Step(heard)
    settled = _is_doubtful(state) and not _is_doubtful(heard)
    after = _replace(step.state, wanted_since_us=None) if settled else step.state
    return Step(after, step.died, step.back, (*step.counts, *counts), settled)


def recalled(state: NodeState) -> NodeState:
    """Return *state* as an earlier process left it: to be believed only when it is confirmed."""
    return _replace(
        state,
        in_doubt=state.itself.online,
        sequence=Sequence(),
        astray=False,
        link=-1,
        wanted_since_us=None,
        asked_at_us=None,
        asked=0,
    )


def is_trusted(state: NodeState, device: str, rules: Rules) -> bool:
    """Whether aliases of *device* may be read by its certificate.

    A host that may not ask for a rebirth has no better certificate to hope for than the one in
    doubt.
    """
    party = state.party(device)
    if party is None or not party.valid or not party.online or not state.itself.online:
        return False
    return not (_is_doubtful(state) and rules.rebirth)


def _is_doubtful(state: NodeState) -> bool:
    return state.in_doubt or state.astray or state.sequence.since_us is not None


def want_rebirth(state: NodeState, at_us: int) -> NodeState:
    """Return *state* with the wish to have the node born again."""
    if state.wanted_since_us is not None:
        return state
    return _replace(state, wanted_since_us=at_us)


def due_at_us(state: NodeState, rules: Rules) -> int | None:
    """Return when `tick` will have something to do; None while nothing waits."""
    times = []
    if state.sequence.since_us is not None:
        times.append(state.sequence.since_us + rules.reorder_us)
    if rules.rebirth and state.wanted_since_us is not None:
        times.append(_ask_at_us(state, rules))
    return min(times, default=None)


@dataclass(frozen=True, slots=True)
class Tick:
    """What time did: *lost* messages since *since_us*, and whether to *ask* for a rebirth now."""

    state: NodeState
    lost: int = 0
    since_us: int = 0
    ask: bool = False


def tick(state: NodeState, now_us: int, rules: Rules) -> Tick:
    """Return what is due at *now_us*."""
    lost, missing_us = 0, state.sequence.since_us
    if missing_us is not None and missing_us + rules.reorder_us <= now_us:
        sequence, lost = state.sequence.give_up()
        state = want_rebirth(_replace(state, sequence=sequence, astray=True), missing_us)
    ask = rules.rebirth and state.wanted_since_us is not None and _ask_at_us(state, rules) <= now_us
    if ask:
        calm = state.asked_at_us is None or now_us - state.asked_at_us > _LAST_PAUSE_US
        state = _replace(state, asked_at_us=now_us, asked=1 if calm else state.asked + 1)
    return Tick(state, lost, missing_us or now_us, ask)


def _ask_at_us(state: NodeState, rules: Rules) -> int:
    assert state.wanted_since_us is not None
    first_us = state.wanted_since_us + rules.reorder_us
    if state.asked_at_us is None:
        return first_us
    pause_us = min(_FIRST_PAUSE_US << min(state.asked - 1, 16), _LAST_PAUSE_US)
    return max(first_us, state.asked_at_us + pause_us)


def _node_born(state: NodeState, payload: Payload, at_us: int) -> Step:
    was_online, gone_us = state.itself.online, state.itself.since_us
    devices = {
        name: device
        if not was_online and device.birth is not None and device.birth.at_us >= gone_us
        else _replace(device, valid=False)
        for name, device in state.devices.items()
    }
    overtakers = () if was_online else state.sequence.heard
    born = NodeState(
        state.group,
        state.node,
        _born(state.itself, payload, at_us, state.died_us),
        devices,
        _bd_seq(payload),
        state.died_us,
        _begun(payload, overtakers, at_us),
        link=state.link,
        asked_at_us=state.asked_at_us,
        asked=state.asked,
    )
    known = state.itself.birth is not None
    back = () if was_online or not known else (("", gone_us),)
    return Step(born, back=back, counts=("births",))


def _begun(
    payload: Payload, overtakers: tuple[tuple[int, int | None], ...], at_us: int
) -> Sequence:
    """Return the sequence that begins with a birth.

    *overtakers* came while the node was away; those that it sent after the birth belong to it.
    """
    if payload.seq is None:
        return Sequence()
    sent_ms = payload.at_ms
    later = [
        (number, stamp)
        for number, stamp in overtakers
        if stamp is not None and sent_ms is not None and stamp >= sent_ms
    ]
    early = frozenset(number for number, _ in later)
    return Sequence(payload.seq, early, at_us, tuple(later)).hear(payload.seq, at_us, sent_ms)[0]


def _node_died(state: NodeState, payload: Payload, at_us: int) -> Step:
    """A will names the session it was made for; one of an earlier session says nothing of now."""
    bd_seq = _bd_seq(payload)
    if state.itself.online and None not in (bd_seq, state.bd_seq) and bd_seq != state.bd_seq:
        return Step(state, counts=("stale_deaths",))
    if not state.itself.online:
        again = _replace(state, bd_seq=bd_seq, died_us=at_us)
        return Step(again, counts=("repeated_deaths",))
    died = tuple(name for name, device in state.devices.items() if device.online)
    devices = {
        name: _gone(device, at_us) if device.online else device
        for name, device in state.devices.items()
    }
    dead = _replace(
        state,
        itself=_gone(state.itself, at_us),
        devices=devices,
        died_us=at_us,
        sequence=Sequence(),
        in_doubt=False,
        astray=False,
        wanted_since_us=None,
    )
    return Step(dead, ("", *died), counts=("deaths",))


def _device_born(state: NodeState, device: str, payload: Payload, at_us: int) -> Step:
    old = state.devices.get(device)
    new = _born(old or Party(online=False, since_us=at_us), payload, at_us, state.died_us)
    gone = old is not None and not old.online
    with_node = state.died_us
    back = ((device, old.since_us),) if old and gone and old.since_us != with_node else ()
    born = _replace(state, devices={**state.devices, device: new})
    if not state.itself.online:
        born = want_rebirth(born, at_us)  # its node's birth is on its way, or was lost
    return Step(born, back=back, counts=("births",))


def _device_died(state: NodeState, device: str, at_us: int) -> Step:
    old = state.devices.get(device)
    if old is None or not old.online:
        return Step(state, counts=("repeated_deaths",))
    dead = _replace(state, devices={**state.devices, device: _gone(old, at_us)})
    return Step(dead, (device,), counts=("deaths",))


def _hear(state: NodeState, payload: Payload, at_us: int) -> tuple[NodeState, tuple[str, ...]]:
    seq = payload.seq
    if seq is None:
        return state, ("unnumbered_messages",)
    if not state.itself.online:
        heard = (*state.sequence.heard, (seq % 256, payload.at_ms))[-_MAX_OVERTAKERS:]
        return _replace(state, sequence=Sequence(heard=heard)), ()
    follows = state.sequence.expected is not None
    sequence, place = state.sequence.hear(seq, at_us, payload.at_ms)
    if place is Place.ASTRAY:
        return _replace(want_rebirth(state, at_us), astray=True), ("astray_messages",)
    if place is Place.REPEATED:
        return state, ("repeated_messages",)
    in_doubt = state.in_doubt and not (follows and place is Place.NEXT)
    return _replace(state, sequence=sequence, in_doubt=in_doubt), ()


def _born(party: Party, payload: Payload, at_us: int, died_us: int) -> Party:
    certificate = Certificate(
        at_us,
        {
            metric.name: Told(metric.alias, metric.datatype or 0, metric.unit or "")
            for metric in payload.metrics
            if metric.name is not None
        },
        payload.at_ms,
    )
    run = _continued(party.run, certificate.names)
    if run is None:
        is_first = party.birth is None
        run = Run(at_us, payload.at_ms, certificate.names, died_us, is_first)
    since_us = party.since_us if party.online else at_us
    return Party(True, since_us, certificate, run, valid=True)


def _continued(run: Run | None, names: dict[int, str]) -> Run | None:
    """Return *run* with one more birth; None where that takes back what was said before."""
    if run is None or any(run.names.get(alias, name) != name for alias, name in names.items()):
        return None
    union = {**run.names, **names}
    if len(union) > _MOST_MEANINGS * max(len(names), 16):
        return None
    return _replace(run, names=union)


def _is_before(sent_ms: int | None, other_ms: int | None) -> bool:
    return sent_ms is not None and other_ms is not None and sent_ms < other_ms


def _gone(party: Party, at_us: int) -> Party:
    return _replace(party, online=False, since_us=at_us, valid=False)


def _bd_seq(payload: Payload) -> int | None:
    for metric in payload.metrics:
        if metric.name == BD_SEQ and isinstance(metric.value, int):
            return int(metric.value)
    return None
