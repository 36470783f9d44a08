"""Topics: which of them a template means, and what their levels say.

    gh/{site}/{device}                    one message brings many values, its payload has the keys
    farm/{site}/{device}/{quantity}       one value a topic: the level is the key
    v3/{app}/devices/{device}/up          a level that nobody reads, named for whoever reads this
    tele/+/SENSOR, farm/#                 no device: listened to, and kept for whoever claims it

A placeholder fills one level.  ``{site}`` and ``{device}`` say whose a message is; ``{key}``, or
``{quantity}`` and ``{channel}``, name its values.  ``+`` and the words of `UNREAD` stand for a
level that nobody reads, ``#`` for any number of levels at the end.  As in MQTT, a placeholder at
the beginning does not mean the broker's own topics, which begin with ``$``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Generic, TypeVar

from devices.document import nearest
from devices.series import Device

Owner = TypeVar("Owner")

READ = ("site", "device", "quantity", "channel", "key")
UNREAD = ("app", "application", "tenant", "gateway", "any")
MAX_LEVELS = 64
VALUE = "value"  # what a payload of one bare value calls it
_MAX_BYTES = 65_535


class TopicError(ValueError):
    """A template that means nothing; the message says what was expected."""


@dataclass(frozen=True)
class Template:
    """One template; make it with `parse`."""

    text: str
    levels: tuple[str, ...]

    @staticmethod
    def parse(text: str) -> Template:
        """Read *text*; raise `TopicError` naming the first thing that is wrong."""
        levels = tuple(text.split("/"))
        if not text or len(text.encode("utf-8", "replace")) > _MAX_BYTES:
            raise TopicError("a template that is not empty")
        if len(levels) > MAX_LEVELS:
            raise TopicError(f"at most {MAX_LEVELS} levels")
        if levels[0] == "$share":
            raise TopicError("no shared subscription: messages of a member that dies would be lost")
        for at, level in enumerate(levels):
            _check_level(level, is_last=at == len(levels) - 1)
        named = [level for level in levels if level[:1] == "{"]
        for name in READ:
            if named.count(f"{{{name}}}") > 1:
                raise TopicError(f"{{{name}}} at most once")
        if "{key}" in named and ("{quantity}" in named or "{channel}" in named):
            raise TopicError("{key} alone, or {quantity} and {channel}")
        return Template(text, levels)

    @cached_property
    def names(self) -> dict[str, int]:
        """The placeholders that are read, with the number of their level, counted from 0."""
        return {
            level[1:-1]: at
            for at, level in enumerate(self.levels)
            if level[:1] == "{" and level[1:-1] in READ
        }

    @cached_property
    def filter(self) -> str:
        """What to subscribe to."""
        return "/".join("+" if level[:1] == "{" else level for level in self.levels)

    @property
    def is_topic(self) -> bool:
        """Whether it means one topic and no other."""
        return not any(_is_open(level) for level in self.levels)

    def match(self, topic: str) -> dict[str, str] | None:
        """Return what the placeholders stand for in *topic*; None where it is another's topic."""
        words = topic.split("/", MAX_LEVELS)
        has_tail = self.levels[-1] == "#"
        wanted = self.levels[:-1] if has_tail else self.levels
        if len(words) < len(wanted) or (len(words) > len(wanted) and not has_tail):
            return None
        if topic[:1] == "$" and _is_open(self.levels[0]):
            return None
        for level, word in zip(wanted, words, strict=False):
            if not (word == level or level == "+" or (level[:1] == "{" and word)):
                return None
        return {name: words[at] for name, at in self.names.items()}

    def format(self, values: Mapping[str, str]) -> Template:
        """Return the template with *values* for some of its placeholders.

        Raises `TopicError` for a value that cannot be a level of a topic.
        """
        for name, value in values.items():
            if name in self.names and not is_word(value):
                raise TopicError(f"a {name} that can be a level of a topic")
        levels = tuple(
            values.get(level[1:-1], level) if level[:1] == "{" else level for level in self.levels
        )
        return Template("/".join(levels), levels)

    def key(self, words: Mapping[str, str], inner: str = "") -> str:
        """Return the key of a value: what the topic calls it, joined with the payload's *inner*.

        A payload that calls it ``value``, or nothing, leaves the name to the topic.
        """
        head = words.get("key") or words.get("quantity", "")
        if head and inner == VALUE:
            inner = ""
        return ".".join(part for part in (head, inner, words.get("channel", "")) if part)

    @property
    def names_values(self) -> bool:
        """Whether its topics say what a value is."""
        return not self.names.keys().isdisjoint(("key", "quantity", "channel"))


def is_word(text: str) -> bool:
    """Whether *text* can be a level of a topic that a device publishes to."""
    return bool(text) and not set(text) & set("/+#{}\0") and not text.startswith("$")


def overlap(one: Template, other: Template) -> bool:
    """Whether some topic is meant by both."""
    for left, right in zip(one.levels, other.levels, strict=False):
        if "#" in (left, right):
            return True
        if left != right and not _is_open(left) and not _is_open(right):
            return False
    longer, shorter = sorted((one.levels, other.levels), key=len, reverse=True)
    return len(longer) == len(shorter) or longer[len(shorter) :] == ("#",)


def covers(wide: str, narrow: str) -> bool:
    """Whether who subscribed to the filter *wide* hears everything of *narrow*."""
    wanted, given = wide.split("/"), narrow.split("/")
    if given[0][:1] == "$" and wanted[0] in ("+", "#"):
        return False
    for at, level in enumerate(wanted):
        if level == "#":
            return True
        if at >= len(given) or given[at] == "#" or (level != "+" and level != given[at]):
            return False
    return len(wanted) == len(given)


def least(filters: Iterable[str]) -> tuple[str, ...]:
    """Return *filters*, each once, without those that another one covers: no message comes twice.

    Filters that overlap in part stay; a broker may deliver a message once for each.
    """
    known = list(dict.fromkeys(filters))
    return tuple(
        one for one in known if not any(other != one and covers(other, one) for other in known)
    )


def address_of(device: Device) -> str:
    """Return what stands for *device* in topics: its ``address`` (a MAC, an EUI) or its code."""
    return str(device.settings.get("address") or device.code)


def topics_of(device: Device, templates: Sequence[Template]) -> list[Template]:
    """Return the topics of *device*: its own, or those that *templates* give it.

    Raises `TopicError` for an own topic or an address that cannot be meant; a registry that was
    checked has none.
    """
    values = {"site": device.site, "device": address_of(device)}
    own = device.settings.get("topic")
    if own is not None:
        return [Template.parse(str(own)).format(values)]
    return [one.format(values) for one in templates if "device" in one.names]


def filters_of(devices: Iterable[Device], templates: Sequence[Template]) -> tuple[str, ...]:
    """Return what to subscribe to for *templates* and for *devices* with a topic of their own."""
    own = [topics_of(one, ())[0].filter for one in devices if "topic" in one.settings]
    return least([*(one.filter for one in templates), *own])


@dataclass(slots=True)
class _Node:
    """A level in the table: *named* by its word, *open* for any word, *tail* for all below it."""

    named: dict[str, _Node] = field(default_factory=dict)
    open: _Node | None = None
    here: int | None = None
    tail: int | None = None


class TopicTable(Generic[Owner]):
    """Templates with whom each belongs to; the most specific one answers for a topic.

    More specific is who names the first level that another leaves open.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[Template, Owner]] = []
        self._root = _Node()
        self._depth = 1

    def add(self, template: Template, owner: Owner) -> None:
        """Add *template*; of two that mean the same topics the first one stays."""
        node = self._root
        number = len(self._entries)
        self._entries.append((template, owner))
        self._depth = max(self._depth, len(template.levels))
        for level in template.levels:
            if level == "#":
                node.tail = number if node.tail is None else node.tail
                return
            if _is_open(level):
                node.open = node.open or _Node()
                node = node.open
            else:
                node = node.named.setdefault(level, _Node())
        node.here = number if node.here is None else node.here

    def find(self, topic: str) -> tuple[Template, Owner] | None:
        """Return the most specific entry that means *topic*."""
        words = topic.split("/", self._depth)
        number = _find(self._root, words, 0)
        return None if number is None else self._entries[number]

    def meeting(self, template: Template) -> Iterator[tuple[Template, Owner]]:
        """Yield the entries that share a topic with *template*."""
        for number in _meeting(self._root, template.levels, 0):
            yield self._entries[number]


def _find(node: _Node, words: Sequence[str], at: int) -> int | None:
    if at == len(words):
        return node.tail if node.here is None else node.here
    word = words[at]
    child = node.named.get(word)
    if child is not None and (found := _find(child, words, at + 1)) is not None:
        return found
    if at == 0 and word[:1] == "$":
        return None
    if node.open is not None and (found := _find(node.open, words, at + 1)) is not None:
        return found
    return node.tail


def _meeting(node: _Node, levels: Sequence[str], at: int) -> Iterator[int]:
    if node.tail is not None:
        yield node.tail
    if at == len(levels):
        if node.here is not None:
            yield node.here
        return
    level = levels[at]
    if level == "#":
        yield from _below(node)
        return
    named = list(node.named.values()) if _is_open(level) else [node.named.get(level)]
    for child in (*named, node.open):
        if child is not None:
            yield from _meeting(child, levels, at + 1)


def _below(node: _Node) -> Iterator[int]:
    if node.here is not None:
        yield node.here
    for child in (*node.named.values(), node.open):
        if child is not None:
            if child.tail is not None:
                yield child.tail
            yield from _below(child)


def _is_open(level: str) -> bool:
    return level == "+" or level == "#" or level[:1] == "{"


def _check_level(level: str, *, is_last: bool) -> None:
    if level == "+" or (level == "#" and is_last):
        return
    if level == "#":
        raise TopicError("# in the last level only")
    if not level:
        raise TopicError("no empty level")
    if level[0] == "{" and level[-1] == "}":
        name = level[1:-1]
        if name not in (*READ, *UNREAD):
            like = nearest(name, (*READ, *UNREAD))
            hint = f", perhaps {{{like}}}" if like else ""
            known = ", ".join(f"{{{one}}}" for one in READ)
            raise TopicError(f"one of {known}, or + for a level that nobody reads{hint}")
        return
    if set(level) & set("{}+#\0"):
        raise TopicError("a placeholder, + or # that fills its level")


@dataclass(frozen=True, slots=True)
class Stranger:
    """What the topic of an unknown device says of it.

    *pattern* is the template of all its topics; *site* and *device* are what stood in the topic,
    empty where it does not say.
    """

    pattern: str
    site: str = ""
    device: str = ""


class Strangers:
    """Tells which messages that belong to nobody come from the same device, by its topics."""

    def __init__(self, templates: Iterable[Template]) -> None:
        self._table: TopicTable[None] = TopicTable()
        for template in templates:
            self._table.add(template, None)

    def of(self, topic: str) -> Stranger:
        """Return who sent to *topic*, as far as topics can tell."""
        found = self._table.find(topic)
        words = found[0].match(topic) if found is not None else None
        if found is None or words is None or "device" not in words:
            return Stranger(topic)
        if not all(is_word(words[name]) for name in ("site", "device") if name in words):
            return Stranger(topic)
        told = {name: word for name, word in words.items() if name in ("site", "device")}
        return Stranger(found[0].format(told).text, told.get("site", ""), told["device"])
