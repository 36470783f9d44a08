"""What an unknown device may be saying: format, time, values with quantities and units.

Pure: what was heard goes in, a guess comes out, whatever the bytes are.  A format is believed only
when its codec reads the message; a quantity is guessed from names and values
(`devices.guess_quantity`).  From the guess comes a device entry, and for JSON that no codec knows
a mapping, both as a person would write them, to be looked at and claimed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import yaml

from devices.codecs.sample import Codec, Sample
from devices.errors import DecodeError
from devices.guess_quantity import POSSIBLE, GuessedValue, guess_value, with_channels
from devices.json_path import MAX_LENGTH
from devices.payload import FRAMES
from devices.quantity import QUANTITIES
from devices.topic import Template, TopicError
from devices.unclaimed import HeardMessage, Unclaimed

MAPPED = "mapping/"
_MAX_LEAVES = 200
_MAX_DEPTH = 12
_MAX_FORMATS = 5
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"\s*([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d{1,2})?)\s*([^\d\s]{0,8})\s*")
_TIMES = frozenset(
    {"t", "ts", "time", "timestamp", "date", "datetime", "at", "epoch", "when", "sampled", "utc"}
    | {"measured", "sj", "shijian", "时间"}
)
_EPOCHS = (("s", 1), ("ms", 1_000), ("us", 1_000_000), ("ns", 1_000_000_000))
_LIKE_A_NUMBER = re.compile(r"[-+.:0-9eEoOxX_]+")
_NAMES = ("n", "name", "key", "id", "type", "k", "sensor", "param", "code")
_VALUES = ("v", "value", "val", "reading", "data")
_ADDRESSES = (
    ("deviceInfo", "devEui"),
    ("devEUI",),
    ("end_device_ids", "device_id"),
    ("dev_eui",),
)


@dataclass(frozen=True, slots=True)
class GuessedFormat:
    """A payload of the site file that reads the message; ``mapping/`` where one must be written."""

    payload: str
    confidence: float
    why: str


@dataclass(frozen=True, slots=True)
class GuessedTime:
    """Where the time stands in JSON, and how it is written, in the words of a mapping."""

    path: str
    format: str
    why: str


@dataclass(frozen=True, slots=True)
class Guess:
    """What an unclaimed device may be saying, the likeliest format first.

    *mapping* is the text of a mapping where the likeliest format needs one; *address* what the
    payload calls the device, where it does.
    """

    formats: tuple[GuessedFormat, ...]
    values: tuple[GuessedValue, ...]
    time: GuessedTime | None = None
    address: str = ""
    mapping: str = ""

    def entry(self, one: Unclaimed, code: str, site: str) -> dict[str, Any]:
        """Return a device entry for *one*, as in a site file, with everything that is likely."""
        payload = self.formats[0].payload if self.formats else "json"
        entry: dict[str, Any] = {"code": code, "site": site}
        entry["payload"] = f"{MAPPED}{code}" if payload == MAPPED else payload
        entry |= where_of(one, code)
        if one.interval_s is not None:
            entry["interval"] = f"{max(1, round(one.interval_s))}s"
        entry["series"] = [
            _series_entry(value, is_mapped=payload == MAPPED)
            for value in self.values
            if value.quantity and value.confidence >= POSSIBLE
        ]
        return entry


def where_of(one: Unclaimed, code: str) -> dict[str, str]:
    """Return what a device entry must say for the topics of *one* to be its own."""
    if one.device:
        return {"address": one.device} if one.device != code else {}
    return {"topic": one.pattern}


def guess(one: Unclaimed, codecs: Mapping[str, Codec], name: str = "") -> Guess:
    """Return what *one* may be saying, tried with *codecs*; never raises for what it sent.

    *name* is what a mapping is called, if it needs one.
    """
    whole = [sample for sample in one.samples if sample.is_whole]
    if not whole:
        return Guess((), ())
    first = whole[0]
    document = _document(first.payload)
    formats = _formats(first, document, codecs)
    best = formats[0].payload if formats else ""
    context = [first.topic, one.device]
    if best in codecs:
        keyed = _template(one.pattern)
        values = _decoded(whole, codecs[best], keyed, context)
        return Guess(formats, values, address=_address(document))
    if best != MAPPED:
        return Guess(formats, (), address=_address(document))
    leaves = list(_leaves(document))
    time = _time(leaves, first.received_at_us)
    found = [
        (path, guess_value(_key(path), value, [path, *context]), suffix)
        for path, leaf in leaves
        if (time is None or path != time.path) and (numeric := _numeric(leaf)) is not None
        for value, suffix in (numeric,)
    ]
    values = tuple(with_channels(value for _, value, _ in found))
    paths = [(path, suffix) for path, _, suffix in found]
    text = _mapping(name or one.device or "device", paths, values, time)
    return Guess(formats, values, time, _address(document), text)


def _formats(
    sample: HeardMessage, document: Any, codecs: Mapping[str, Codec]
) -> tuple[GuessedFormat, ...]:
    """Return the formats that read *sample*, the likeliest first."""
    found = list(_likely(sample.topic, document))
    kept = [
        one for one in found if one.payload == MAPPED or _reads(codecs.get(one.payload), sample)
    ]
    if not kept and not isinstance(document, dict | list):
        kept = _frames("", sample, codecs, 0.3, "these bytes can be a frame of it")
    for server, most in _servers(document):
        why = f"an uplink of {server}; the frame fits, the label tells the model"
        kept = _frames(f"{server}/", sample, codecs, most, why) + kept
    ranked = sorted(kept, key=lambda one: -one.confidence)
    return tuple({one.payload: one for one in reversed(ranked[:_MAX_FORMATS])}.values())[::-1]


def _likely(topic: str, document: Any) -> Iterator[GuessedFormat]:
    """Yield the formats that topic and shape speak for."""
    levels = topic.split("/")
    if levels[0] in ("spBv1.0", "spAv1.0"):
        yield GuessedFormat("sparkplug", 0.9, "the topic begins as Sparkplug's do")
    if isinstance(document, dict):
        if isinstance(document.get("v"), dict):
            yield GuessedFormat("json", 0.95, "values under 'v', as the project's own payload")
        if levels[-1] == "SENSOR" or _is_tasmota(document):
            yield GuessedFormat("tasmota", 0.9, "a Tasmota SENSOR message")
        if levels[0] == "zigbee2mqtt" or "linkquality" in document:
            yield GuessedFormat("zigbee2mqtt", 0.9, "a device of Zigbee2MQTT")
        likely = 0.05 if _servers(document) else 0.5
        yield GuessedFormat(MAPPED, likely, "JSON of its own making: a mapping says what is where")
    elif isinstance(document, list) and document:
        if all(isinstance(one, dict) and {"n", "bn", "v", "u"} & one.keys() for one in document):
            yield GuessedFormat("senml", 0.9, "a list of records with names, as in SenML")
        if isinstance(document[0], dict) and isinstance(document[0].get("v"), dict):
            yield GuessedFormat("json", 0.95, "values under 'v', as the project's own payload")
        yield GuessedFormat(MAPPED, 0.4, "JSON of its own making: a mapping says what is where")
    else:
        if levels[-1] == "state" and levels[-3:-2] in (["sensor"], ["binary_sensor"]):
            yield GuessedFormat("esphome", 0.9, "a sensor's state, as ESPHome's topics end")
        yield GuessedFormat("value", 0.8, "one bare value; its topic says what it is")
        yield GuessedFormat("senml-cbor", 0.8, "records with names, as in SenML")


def _is_tasmota(document: Mapping[str, Any]) -> bool:
    return isinstance(document.get("Time"), str) and any(
        isinstance(one, dict) for one in document.values()
    )


def _servers(document: Any) -> tuple[tuple[str, float], ...]:
    """Return which LoRaWAN network servers write like *document*, and how sure that makes."""
    if not isinstance(document, dict):
        return ()
    if isinstance(document.get("deviceInfo"), dict) and {"data", "rxInfo"} & document.keys():
        return (("chirpstack4", 0.6),)
    if "devEUI" in document and {"data", "fPort"} & document.keys():
        return (("chirpstack3", 0.6), ("chirpstack3-hex", 0.55))
    if isinstance(document.get("end_device_ids"), dict) and "uplink_message" in document:
        return (("tts3", 0.6),)
    if "hotspots" in document and "payload" in document:
        return (("helium", 0.6),)
    return ()


def _frames(
    before: str, sample: HeardMessage, codecs: Mapping[str, Codec], most: float, why: str
) -> list[GuessedFormat]:
    """Return the device frames that read *sample*, by how much of what they read is possible."""
    found = []
    for frame in FRAMES:
        samples = _decode(codecs.get(before + frame), sample)
        if samples:
            share = _possible(samples)
            found.append(GuessedFormat(before + frame, round(most * share, 2), why))
    return found


def _possible(samples: Sequence[Sample]) -> float:
    """Return which share of the values in *samples* is known by name and physically possible."""
    good = total = 0
    for sample in samples:
        for key, value in sample.values.items():
            total += 1
            one = guess_value(key, value)
            if one.quantity and value is not None:
                good += one.confidence >= POSSIBLE or value == 0
    return good / total if total else 0.0


def _decode(codec: Codec | None, sample: HeardMessage) -> list[Sample]:
    if codec is None:
        return []
    try:
        return codec.decode(sample.payload)
    except DecodeError:
        return []


def _reads(codec: Codec | None, sample: HeardMessage) -> bool:
    return any(one.values for one in _decode(codec, sample))


def _decoded(
    samples: Sequence[HeardMessage],
    codec: Codec,
    template: Template | None,
    context: Sequence[str],
) -> tuple[GuessedValue, ...]:
    """Return the values that *codec* reads, under the keys that they get on their topics."""
    values: dict[str, float | None] = {}
    for message in samples:
        words = template.match(message.topic) if template is not None else None
        for sample in _decode(codec, message):
            for key, value in sample.values.items():
                named = template.key(words, key) if template is not None and words else key
                values.setdefault(named, value)
    found = [guess_value(key, value, context) for key, value in list(values.items())[:_MAX_LEAVES]]
    return tuple(with_channels(found))


def _template(pattern: str) -> Template | None:
    try:
        return Template.parse(pattern)
    except TopicError:
        return None


def _document(payload: bytes) -> Any:
    """Return *payload* as JSON, or None where it is none."""
    try:
        return msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _address(document: Any) -> str:
    for path in _ADDRESSES:
        node = document
        for name in path:
            node = node.get(name) if isinstance(node, dict) else None
        if isinstance(node, str):
            return node
    return ""


def _leaves(node: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield what stands in *node*, by its JMESPath; a list of named values by their names."""
    budget = _MAX_LEAVES
    stack: list[tuple[Any, str, int]] = [(node, path, depth)]
    while stack and budget:
        node, path, depth = stack.pop()
        if depth > _MAX_DEPTH:
            continue
        if isinstance(node, dict):
            dot = "." if path else ""
            inner = [(child, f"{path}{dot}{_quoted(name)}") for name, child in node.items()]
        elif isinstance(node, list):
            inner = list(_of_list(node, path))
        else:
            budget -= 1
            yield path, node
            continue
        stack += [(child, place, depth + 1) for child, place in reversed(inner[:_MAX_LEAVES])]


def _of_list(node: Sequence[Any], path: str) -> Iterator[tuple[Any, str]]:
    columns = _named_columns(node)
    for index, child in enumerate(node):
        if columns is None:
            yield child, f"{path}[{index}]"
        else:
            name, value = columns
            word = child[name].replace("\\", "\\\\").replace("'", "\\'")
            yield child[value], f"{path}[?{_quoted(name)} == '{word}'].{_quoted(value)} | [0]"


def _named_columns(node: Sequence[Any]) -> tuple[str, str] | None:
    """Return under which keys the elements of *node* have a name, each another, and a value."""
    if len(node) < 2 or not all(isinstance(one, dict) for one in node):
        return None
    for name in _NAMES:
        names = [one.get(name) for one in node]
        if all(isinstance(one, str) and one for one in names) and len({*names}) == len(names):
            for value in _VALUES:
                if value != name and all(_numeric(one.get(value)) for one in node):
                    return name, value
    return None


def _quoted(name: str) -> str:
    if _PLAIN_NAME.fullmatch(name):
        return name
    return msgspec.json.encode(name).decode()


def _key(path: str) -> str:
    """Return the last name in *path*, with the position behind it, as a key."""
    if "== '" in path:
        return path.rpartition("== '")[2].partition("']")[0]
    shown = path.replace('"', "")
    tail = shown.rpartition(".")[2] if not shown.endswith("]") else shown.split(".")[-1]
    return tail.replace("[", ".").replace("]", "").strip(".") or shown


def _numeric(leaf: Any) -> tuple[float | None, str] | None:
    """Return the number in *leaf* and what stands behind it; None where there is none."""
    if leaf is None:
        return None
    if isinstance(leaf, bool):
        return float(leaf), ""
    if isinstance(leaf, int | float):
        return (float(leaf), "") if abs(leaf) < 1e300 else None
    if isinstance(leaf, str) and (match := _NUMBER.fullmatch(leaf[:60])) is not None:
        return float(match[1]), match[2]
    return None


def _time(leaves: Sequence[tuple[str, Any]], received_at_us: int) -> GuessedTime | None:
    """Return the leaf that is a time near that of receipt, one that is called so first."""
    found = []
    for path, leaf in leaves:
        form = _time_format(leaf, received_at_us)
        if form:
            called = bool(_TIMES & set(re.findall(r"[a-z]+|[^\W\d_a-z]+", _key(path).lower())))
            found.append((not called, path, form))
    if not found:
        return None
    uncalled, path, form = min(found, key=lambda one: one[0])
    why = "near the time of receipt" + ("" if uncalled else ", and called so")
    return GuessedTime(path, form, why)


def _time_format(leaf: Any, received_at_us: int) -> str:
    number = _numeric(leaf)
    if number is not None and number[0] is not None and not isinstance(leaf, bool):
        for form, per_second in _EPOCHS:
            if abs(number[0] / per_second - received_at_us / 1e6) < 400 * 86_400:
                return form
        return ""
    if isinstance(leaf, str) and 10 < len(leaf) < 40:
        try:
            moment = datetime.fromisoformat(leaf)
        except ValueError:
            return ""
        return "local" if moment.tzinfo is None else "iso"
    return ""


def _series_entry(one: GuessedValue, *, is_mapped: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"quantity": one.quantity}
    if one.channel:
        entry["channel"] = one.channel
    key = _mapped_key(one) if is_mapped else one.key
    if key != (f"{one.quantity}.{one.channel}" if one.channel else one.quantity):
        entry["key"] = key
    if not is_mapped and one.unit != QUANTITIES[one.quantity].unit:
        entry["unit"] = one.unit
    return entry


def _mapped_key(one: GuessedValue) -> str:
    return f"{one.quantity}.{one.channel}" if one.channel else one.quantity


def _mapping(
    name: str,
    paths: Sequence[tuple[str, str]],
    values: Sequence[GuessedValue],
    time: GuessedTime | None,
) -> str:
    """Write a mapping for the values that are likely; the others are left to whoever looks."""
    written: list[dict[str, Any]] = []
    for (path, suffix), one in zip(paths, values, strict=True):
        if not one.quantity or one.confidence < POSSIBLE or len(path) > MAX_LENGTH:
            continue
        entry: dict[str, Any] = {"path": path, "key": _mapped_key(one), "unit": one.unit}
        if suffix and suffix != one.unit:
            entry["suffix"] = suffix
        if one.scale != 1.0:
            entry["scale"] = one.scale
        written.append(entry)
    document: dict[str, Any] = {"mapping": name}
    if time is not None:
        document["time"] = {"path": time.path, "format": time.format}
        if time.format == "local":
            document["time"]["zone"] = "Asia/Shanghai"
    document["values"] = written
    return write_yaml(document)


def write_yaml(data: Any) -> str:
    """Return *data* as a person would write it: keys in their order, short mappings on a line."""
    text: str = yaml.dump(
        data,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=110,
    )
    return text


class _Dumper(yaml.SafeDumper):
    """Indents lists below their key, and quotes text that some YAML would read as a number."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def text(self, data: str) -> yaml.ScalarNode:
        style = "'" if _LIKE_A_NUMBER.fullmatch(data) else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)


_Dumper.add_representer(str, _Dumper.text)
