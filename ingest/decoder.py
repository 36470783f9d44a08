"""Arrivals -> readings as columns, and dead letters for what cannot be read.

Pure, but for what it remembers of the latest frames of LoRaWAN devices (`ingest.uplinks`).  The
time of receipt travels in the arrival, so the same arrival gives the same readings now and when it
is replayed.  A decoder belongs to one revision of the registry; a new one is built when
that changes.

The path of a good message is short: look the topic up, let the codec read the payload, look the
tuple of its keys up among the layouts that this device has used before, extend a few lists.  Units,
limits and missing values are then array arithmetic over all messages at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NoReturn

import numpy as np

from devices.codecs.sample import MAX_PAYLOAD_BYTES, Block, BlockCodec, Codec, Columns, Sample
from devices.dead_letter import DeadLetter
from devices.document import nearest
from devices.errors import DecodeError
from devices.ignore import ignored_by
from devices.quality import Quality
from devices.quantity import QUANTITIES
from devices.reading import Batch, Int32Array
from devices.registry import Registry
from devices.series import Device, Transport
from devices.topic import Template, TopicTable, address_of, topics_of
from ingest.collector import Arrival, ArrivalFlag
from ingest.rows import BlockMembers, Rows, SlotArray, block_rows, merged, sample_rows
from ingest.uplinks import Uplinks

_log = logging.getLogger(__name__)

HTTP_CODEC = "json"  # posts are in the project's own payload, whatever a device sends elsewhere
MAX_LAYOUTS = 256  # of a device; one that invents keys must not fill the memory
MAX_TOPICS = 16_384  # remembered of those with a level that is open; beyond, they are found anew

_RETAINED = int(ArrivalFlag.RETAINED)
_OLD = int(Quality.RETAINED)
_UNTIMED = int(Quality.RECEIVE_TIME)
_NO_SERIES = -1


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of a sequence of arrivals.

    *origin* int32 (n,) says from which of the arrivals each row of *batch* came; it never falls.
    An arrival that could be read in part has rows and a letter.  *messages* counts the arrivals
    that gave readings.
    """

    batch: Batch
    origin: Int32Array
    letters: list[DeadLetter]
    messages: int
    unknown_keys: int
    ignored_fields: int


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the values of a message go: one place in the table a key, -1 for one without a series.

    *unwanted* counts those of them that the device is told to ignore, *unknown* the others.
    """

    slots: list[int]
    unknown: int
    unwanted: int
    text: str


@dataclass(slots=True)
class _Plan:
    """A device as the decoder sees it; *behind_us* and *ahead_us* bound its clock.

    One whose topics name the values has a plan for each of them: *key* makes the payload's keys
    into the device's.  *ignores* tells which of the latter nobody wants.
    """

    device: Device
    codec: Codec | None
    slot_by_key: Mapping[str, int]
    ignores: Callable[[str], bool]
    behind_us: int
    ahead_us: int
    layouts: dict[tuple[str, ...], _Layout] = field(default_factory=dict)
    key: Callable[[str], str] | None = None
    blocks: Callable[[bytes], list[Block] | None] | None = None
    block_slots: dict[Columns, tuple[_Layout, SlotArray]] = field(default_factory=dict)


@dataclass(slots=True)
class _Run:
    """What one call of `Decoder.decode` gathers.

    *samples* has a row (observed, received, quality, arrival, number of values) for each sample,
    *slots* and *values* an entry for each value, *troubles* (code, text) by arrival.  *unwanted*
    counts values that came and that the site file says to ignore.
    """

    samples: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    blocks: dict[Columns, BlockMembers] = field(default_factory=dict)
    slots: list[int] = field(default_factory=list)
    values: list[float | None] = field(default_factory=list)
    troubles: dict[int, list[tuple[str, str]]] = field(default_factory=dict)
    unknown_keys: int = 0
    ignored_fields: int = 0
    unwanted: int = 0

    def trouble(self, position: int, code: str, text: str) -> None:
        """Note that something of the arrival at *position* cannot be read."""
        self.troubles.setdefault(position, []).append((code, text))

    def note_unplaced(self, position: int, layout: _Layout) -> None:
        """Note that some keys of the arrival at *position* have no series."""
        self.unwanted += layout.unwanted
        if layout.unknown:
            self.unknown_keys += layout.unknown
            self.trouble(position, "E-KEY", layout.text)


class Decoder:
    """Decodes for one *registry*, every series of which has its number.

    *topics* are the templates of MQTT topics (``gh/{site}/{device}``) for devices that have none of
    their own.  *codecs* maps a device's payload name to its codec; a device of another payload gets
    dead letters.  *uplinks* is what earlier decoders saw of devices that repeat themselves.
    """

    def __init__(
        self,
        registry: Registry,
        topics: str | Sequence[str],
        codecs: Mapping[str, Codec],
        uplinks: Uplinks | None = None,
    ) -> None:
        self._uplinks = uplinks or Uplinks()
        self.revision = registry.revision
        texts = (topics,) if isinstance(topics, str) else topics
        self._templates = tuple(Template.parse(text) for text in texts)
        self._codecs = codecs
        table: list[tuple[int, float, float, float, float]] = []
        plans = [
            self._plan(device, registry, table)
            for device in registry.devices
            if device.transport is not Transport.DERIVED  # nobody sends what is computed here
        ]
        columns = np.array(table, np.float64).reshape(len(table), 5).T
        self._series_id = columns[0].astype(np.int32)
        self._scale, self._offset, self._low, self._high = columns[1:]
        self._by_code = {plan.device.code: plan for plan in plans}
        self._by_address = {address_of(plan.device): plan for plan in reversed(plans)}
        self._by_likeness = {_likeness(name): name for name in (*self._by_address, *self._by_code)}
        self._open_topics: TopicTable[_Plan] = TopicTable()
        self._topics_found = 0
        self._routes: dict[str, dict[str, _Plan]] = {
            "mqtt": self._by_topic(plans),
            "modbus": {
                plan.device.code: plan
                for plan in plans
                if plan.device.transport is Transport.MODBUS
            },
            "http": {},
        }

    def _plan(
        self,
        device: Device,
        registry: Registry,
        table: list[tuple[int, float, float, float, float]],
    ) -> _Plan:
        slots: dict[str, int] = {}
        for series in device.series:
            quantity, line = QUANTITIES[series.quantity], series.conversion
            slots[series.key] = len(table)
            number = registry.series_ids[series.code]
            table.append((number, line.scale, line.offset, quantity.low, quantity.high))
        codec = self._codecs.get(device.payload)
        return _Plan(
            device,
            codec,
            slots,
            ignored_by(_patterns(device)),
            round(device.max_age_s * 1e6),
            round(device.max_ahead_s * 1e6),
            blocks=codec.blocks if isinstance(codec, BlockCodec) else None,
        )

    def _by_topic(self, plans: Sequence[_Plan]) -> dict[str, _Plan]:
        """Return who has which topic; those with an open level go to the table."""
        found: dict[str, _Plan] = {}
        for plan in plans:
            if plan.device.transport is Transport.MQTT:
                for topic in topics_of(plan.device, self._templates):
                    if topic.is_topic:
                        found.setdefault(topic.text, plan)
                    else:
                        self._open_topics.add(topic, plan)
        return found

    def knows(self, source: str, topic: str) -> bool:
        """Whether a message of *source* on *topic* belongs to a device."""
        return self._routed(source, topic) is not None

    def _routed(self, source: str, topic: str) -> _Plan | None:
        """Return the plan for *topic* that no exact route led to, and remember it."""
        routes = self._routes.get(source, {})
        if source != "mqtt" or topic in routes:
            return routes.get(topic)
        found = self._open_topics.find(topic)
        words = found[0].match(topic) if found is not None else None
        if found is None or words is None:
            return None
        template, plan = found
        if template.names_values:
            plan = replace(plan, layouts={}, key=partial(template.key, words))
        if self._topics_found < MAX_TOPICS:
            self._topics_found += 1
            routes[topic] = plan
        return plan

    def decode(self, arrivals: Sequence[Arrival]) -> Decoded:
        """Decode *arrivals*; whatever they hold, it ends in the batch or in a letter, or both.

        An arrival that a codec or this decoder stumbles over, which is a bug, is found by decoding
        them one by one; it is kept like any other bad one, and holds up nobody.
        """
        try:
            return self._decode(arrivals)
        except Exception as error:  # whatever the bug is: it is logged, and counted by its letter
            if len(arrivals) > 1:
                return _joined([self.decode(arrivals[at : at + 1]) for at in range(len(arrivals))])
            _log.exception("a bug: an arrival on %s became a dead letter", _show(arrivals[0].topic))
            text = f"decoder: got {_show(f'{type(error).__name__}: {error}')}, expected no bug"
            letters = [dead_letter(arrivals[0], "E-INTERNAL", text)]
            return Decoded(Batch.empty(), np.empty(0, np.int32), letters, 0, 0, 0)

    def _decode(self, arrivals: Sequence[Arrival]) -> Decoded:
        run = _Run()
        for position, arrival in enumerate(arrivals):
            try:
                self._read(arrival, position, run)
            except DecodeError as error:
                run.trouble(position, error.code, error.text)
        batch, origin = self._build(run)
        return Decoded(
            batch,
            origin,
            _letters(run, arrivals, origin),
            messages=int(np.count_nonzero(np.diff(origin, prepend=-1))),
            unknown_keys=run.unknown_keys,
            ignored_fields=run.ignored_fields + run.unwanted,
        )

    def _read(self, arrival: Arrival, position: int, run: _Run) -> None:
        """Add the samples of *arrival* to *run*."""
        plan = self._routes.get(arrival.source, {}).get(arrival.topic)
        if plan is None:
            plan = self._routed(arrival.source, arrival.topic)
        codec = plan.codec if plan is not None else self._codec_of_unrouted(arrival)
        if codec is None:
            _raise_no_codec(plan)
        payload = arrival.payload
        if len(payload) > MAX_PAYLOAD_BYTES:
            got = f"payload: got {len(payload)} bytes"
            raise DecodeError("E-SIZE", f"{got}, expected at most {MAX_PAYLOAD_BYTES}")
        if plan is not None and plan.blocks is not None and not arrival.flags & _RETAINED:
            blocks = plan.blocks(payload)
            if blocks is not None:
                self._take_blocks(blocks, plan, arrival, position, run)
                return
        samples = codec.decode(payload)
        if samples[0].ignored:
            run.ignored_fields += samples[0].ignored
        if len(samples) == 1:
            self._take(samples[0], plan, arrival, position, run)
            return
        for index, sample in enumerate(samples):
            try:
                self._take(sample, plan, arrival, position, run)
            except DecodeError as error:
                run.trouble(position, error.code, f"[{index}].{error.text}")

    def _take(
        self, sample: Sample, plan: _Plan | None, arrival: Arrival, position: int, run: _Run
    ) -> None:
        """Add *sample* to *run*, or raise `DecodeError` if none of it can be used."""
        if plan is None or sample.device is not None:
            plan = self._owner(sample, plan)
        received_at_us = arrival.received_at_us
        at, quality = sample.observed_at_us, sample.quality
        if at is None:
            if arrival.flags & _RETAINED:
                text = "t: got nothing in a retained message, expected the time of the value"
                raise DecodeError("E-RETAINED", text)
            at, quality = received_at_us + sample.after_receipt_us, quality | _UNTIMED
        if not -plan.behind_us <= at - received_at_us <= plan.ahead_us:
            raise DecodeError("E-TIME", _untimely(at, received_at_us, plan))
        if arrival.flags & _RETAINED:
            quality |= _OLD
        if sample.uplink is not None:
            at = self._uplinks.first_us(plan.device.code, sample.uplink, at)
        keys = tuple(sample.values)
        layout = plan.layouts.get(keys) or _lay_out(plan, keys)
        if layout.unknown or layout.unwanted:
            run.note_unplaced(position, layout)
        run.samples.append((at, received_at_us, quality, position, len(keys)))
        run.slots += layout.slots
        run.values += sample.values.values()

    def _take_blocks(
        self, blocks: Sequence[Block], plan: _Plan, arrival: Arrival, position: int, run: _Run
    ) -> None:
        """Add *blocks* to *run*; one with an impossible time is trouble, the others are kept."""
        received_at_us = arrival.received_at_us
        for index, block in enumerate(blocks):
            at = block.observed_at_us
            if not -plan.behind_us <= at - received_at_us <= plan.ahead_us:
                where = f"[{index}]." if len(blocks) > 1 else ""
                run.trouble(position, "E-TIME", where + _untimely(at, received_at_us, plan))
                continue
            columns = block.columns
            layout, slots = plan.block_slots.get(columns) or _lay_out_block(plan, columns)
            if layout.unknown or layout.unwanted:
                run.note_unplaced(position, layout)
            members = run.blocks.get(columns)
            if members is None:
                members = run.blocks[columns] = BlockMembers()
            members.stamps.append((at, received_at_us, position))
            members.slots.append(slots)
            members.data.append(block.data)

    def _owner(self, sample: Sample, plan: _Plan | None) -> _Plan:
        """Return the plan of the device that *sample* is of; *plan* is what its topic says."""
        code = sample.device
        if code is None:
            raise DecodeError("E-FIELD", "device: got nothing, expected the code of a device")
        if plan is None:
            return self._by_code.get(code) or self._raise_unknown("device", code)
        if code not in (plan.device.code, address_of(plan.device)):
            text = f"device: got {_show(code)}, expected {plan.device.code} as the topic says"
            raise DecodeError("E-MISMATCH", text)
        return plan

    def _codec_of_unrouted(self, arrival: Arrival) -> Codec | None:
        """Return the codec of a post, which names its device itself; raise for anything else."""
        source, topic = arrival.source, arrival.topic
        if source == "http":
            return self._codecs.get(HTTP_CODEC)
        if source == "mqtt":
            raise self._misdirected(topic)
        if source == "modbus":
            self._raise_unknown("device", topic)
        known = ", ".join(sorted(self._routes))
        raise DecodeError("E-SOURCE", f"source: got {_show(source)}, expected one of {known}")

    def _misdirected(self, topic: str) -> DecodeError:
        """Say why no device is known under the MQTT *topic*."""
        for template in self._templates:
            words = template.match(topic)
            if words is not None and "device" in words:
                return self._mistaken(words, template)
            if words is not None:
                got = f"got {_show(topic)}, which is no device's"
                return DecodeError("E-DEVICE", f"topic: {got}, expected one of the registry")
        if len(self._templates) != 1:
            known = _shorten(", ".join(template.text for template in self._templates))
            expected = f"one of the templates {known}"
            return DecodeError("E-TOPIC", f"topic: got {_show(topic)}, expected {expected}")
        return _unlike(topic, self._templates[0])

    def _mistaken(self, words: Mapping[str, str], template: Template) -> DecodeError:
        """Say why *words* of a topic, which is like *template*, name no device that sends there."""
        plan = self._by_address.get(words["device"])
        if plan is None:
            self._raise_unknown("topic", words["device"])
        device = plan.device
        if device.transport is not Transport.MQTT:
            got = f"got {device.code}, which is described with transport {device.transport}"
            return DecodeError("E-MISMATCH", f"topic: {got}, expected a device of transport mqtt")
        if "topic" in device.settings:
            expected = _show(str(device.settings["topic"]))
            text = f"topic: got {device.code} as in {template.text}, expected its own {expected}"
            return DecodeError("E-MISMATCH", text)
        got = f"got site {_show(words.get('site', ''))}"
        return DecodeError("E-MISMATCH", f"topic: {got}, expected {device.site} for {device.code}")

    def _raise_unknown(self, where: str, code: str) -> NoReturn:
        """Raise for the device *code*; a hint costs one look-up, so that a flood costs no more."""
        like = self._by_likeness.get(_likeness(code))
        hint = f" (did you mean {like!r}?)" if like else ""
        text = f"{where}: got device {_show(code)}, expected one of the registry{hint}"
        raise DecodeError("E-DEVICE", text)

    def _build(self, run: _Run) -> tuple[Batch, Int32Array]:
        """Turn what *run* gathered into columns, in the units and limits of the quantities."""
        parts = [block_rows(columns, members) for columns, members in run.blocks.items()]
        if run.samples:
            parts.append(sample_rows(run.samples, run.slots, run.values))
        if not parts:
            return Batch.empty(), np.empty(0, np.int32)
        rows = merged(parts)
        if run.unknown_keys or run.unwanted:
            rows = rows.take(rows.slot != _NO_SERIES)
        with np.errstate(over="ignore"):
            converted = rows.value * self._scale[rows.slot] + self._offset[rows.slot]
        if (infinite := np.isinf(converted)).any():
            self._note_infinite(run, rows.take(infinite))
            rows, converted = rows.take(~infinite), converted[~infinite]
        slots, quality = rows.slot, rows.quality
        quality[np.isnan(converted)] |= int(Quality.MISSING)
        beyond = (converted < self._low[slots]) | (converted > self._high[slots])
        quality[beyond] |= int(Quality.PHYSICAL_RANGE)
        batch = Batch(
            self._series_id[slots], rows.observed_at_us, rows.received_at_us, converted, quality
        )
        return batch, rows.position

    def _note_infinite(self, run: _Run, rows: Rows) -> None:
        for position, slot, value in zip(rows.position, rows.slot, rows.value, strict=True):
            text = f"series {self._series_id[slot]}: got {value:g}, beyond any number in its unit"
            run.trouble(int(position), "E-NUM", text)


def _unlike(topic: str, template: Template) -> DecodeError:
    """Say where *topic* is another than the one *template* wants."""
    levels, wanted, like = topic.split("/"), template.levels, f"the template {template.text}"
    if len(levels) != len(wanted):
        got = f"got {len(levels)} levels in {_show(topic)}"
        return DecodeError("E-TOPIC", f"topic: {got}, expected {len(wanted)} as {like}")
    for number, (level, name) in enumerate(zip(levels, wanted, strict=True), 1):
        if not level and name != "+":
            got = f"got an empty level {number} in {_show(topic)}"
            return DecodeError("E-TOPIC", f"topic: {got}, expected {name} as {like}")
        if name[:1] not in ("{", "+", "#") and level != name:
            got = f"got {_show(level)} at level {number}"
            return DecodeError("E-TOPIC", f"topic: {got}, expected {name} as {like}")
    return DecodeError("E-TOPIC", f"topic: got {_show(topic)}, expected one as {like}")


def _patterns(device: Device) -> tuple[str, ...]:
    given = device.settings.get("ignore")
    return tuple(map(str, given)) if isinstance(given, list | tuple) else ()


def _lay_out(plan: _Plan, keys: tuple[str, ...]) -> _Layout:
    """Return the layout of *keys*, and remember it if there is room."""
    remembered = keys
    if plan.key is not None:
        keys = tuple(plan.key(key) for key in keys)
    slots = [plan.slot_by_key.get(key, _NO_SERIES) for key in keys]
    without_series = [key for key in keys if key not in plan.slot_by_key]
    unknown = [key for key in without_series if not plan.ignores(key)]
    remember = len(plan.layouts) < MAX_LAYOUTS
    text = _describe_unknown(plan, unknown, hints=remember) if unknown else ""
    layout = _Layout(slots, len(unknown), len(without_series) - len(unknown), text)
    if remember:
        plan.layouts[remembered] = layout
    return layout


def _lay_out_block(plan: _Plan, columns: Columns) -> tuple[_Layout, SlotArray]:
    """Return the layout of a block's columns and their places, and remember them."""
    layout = plan.layouts.get(columns.keys) or _lay_out(plan, columns.keys)
    if len(plan.block_slots) >= MAX_LAYOUTS:
        plan.block_slots.clear()
    found = plan.block_slots[columns] = layout, np.array(layout.slots, np.intp)
    return found


def _describe_unknown(plan: _Plan, unknown: Sequence[str], hints: bool) -> str:
    key = unknown[0]
    like = nearest(key, plan.slot_by_key) if hints else ""
    hint = f" (did you mean {like!r}?)" if like else ""
    others = f", and so for {len(unknown) - 1} more keys" if len(unknown) > 1 else ""
    known = _shorten(", ".join(plan.slot_by_key))
    got = f"v: got key {_show(key)}{hint}{others}"
    return f"{got}, expected one of device {plan.device.code}: {known}"


def _untimely(at: int, received_at_us: int, plan: _Plan) -> str:
    in_seconds = -plan.behind_us <= at * 1000 - received_at_us <= plan.ahead_us
    hint = " (are these seconds? milliseconds are expected)" if in_seconds else ""
    first, last = received_at_us - plan.behind_us, received_at_us + plan.ahead_us
    return f"t: got {_instant(at)}{hint}, expected {_instant(first)} to {_instant(last)}"


def _letters(run: _Run, arrivals: Sequence[Arrival], origin: Int32Array) -> list[DeadLetter]:
    """Return one letter for each arrival in trouble, under the code of its first trouble."""
    letters = []
    for position, troubles in sorted(run.troubles.items()):
        code, text = troubles[0]
        if len(troubles) > 1:
            text += f"; {len(troubles) - 1} more like this"
        first, beyond = np.searchsorted(origin, (position, position + 1))
        if stored := int(beyond - first):
            text += f"; {stored} other readings of it are stored"
        letters.append(dead_letter(arrivals[position], code, text))
    return letters


def _joined(parts: Sequence[Decoded]) -> Decoded:
    """Return what became of arrivals that were decoded one by one."""
    return Decoded(
        Batch.concatenate([part.batch for part in parts]),
        np.repeat(np.arange(len(parts), dtype=np.int32), [len(part.batch) for part in parts]),
        [letter for part in parts for letter in part.letters],
        sum(part.messages for part in parts),
        sum(part.unknown_keys for part in parts),
        sum(part.ignored_fields for part in parts),
    )


def dead_letter(arrival: Arrival, code: str, text: str) -> DeadLetter:
    """Return *arrival* as a dead letter, its topic in characters that a database can hold."""
    topic = arrival.topic.encode("utf-8", "backslashreplace").decode().replace("\0", r"\x00")
    return DeadLetter(
        arrival.source,
        topic,
        arrival.payload,
        arrival.received_at_us,
        code,
        text,
        arrival.flags,
    )


def _raise_no_codec(plan: _Plan | None) -> NoReturn:
    payload = plan.device.payload if plan is not None else HTTP_CODEC
    raise DecodeError("E-CODEC", f"payload: got {payload!r}, which this program cannot decode")


def _likeness(code: str) -> str:
    """Return what is the same for codes that differ in case, dashes and underscores only."""
    return code.lower().replace("_", "").replace("-", "").replace(" ", "")


def _instant(us: int) -> str:
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
    except OverflowError:
        return f"{us} µs since 1970"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _show(text: str) -> str:
    return _shorten(repr(text))


def _shorten(text: str) -> str:
    return text if len(text) <= 200 else text[:180] + f"… ({len(text)} characters)"
