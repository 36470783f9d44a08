"""Whether the topics of a site file mean what they should: of the broker and of the devices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from devices.document import Document, Path
from devices.errors import Mistake
from devices.series import Device, Transport
from devices.topic import Template, TopicError, TopicTable, overlap, topics_of


def check_templates(
    document: Document, given: Iterable[str], templates: Sequence[str], mistakes: list[Mistake]
) -> None:
    """Add to *mistakes* what is wrong with the *templates* of the broker section.

    *given* are the keys of that section that somebody wrote.
    """
    if {"topic", "topics"} <= set(given):
        expected = "topic or topics, not both"
        mistakes.append(document.mistake(("broker", "topics"), list(templates), expected))
    sound: list[Template] = []
    for index, text in enumerate(templates):
        path: Path = ("broker", "topics", index) if "topics" in given else ("broker", "topic")
        try:
            template = Template.parse(text)
        except TopicError as error:
            mistakes.append(document.mistake(path, text, str(error)))
            continue
        if "topics" not in given and "device" not in template.names:
            expected = "one level {device}; topics, a list, may have some that only listen"
            mistakes.append(document.mistake(path, text, expected))
        mistakes += [
            document.mistake(path, text, found)
            for other in sound
            if (found := _ambiguity(template, other)) is not None
        ]
        sound.append(template)


def _ambiguity(one: Template, other: Template) -> str | None:
    """Return what was expected of *one*, where a topic can be read after it and after *other*."""
    if one.text == other.text:
        return "each template once"
    if "device" not in one.names or "device" not in other.names:
        return None  # who only listens reads nothing
    if one.names == other.names or not overlap(one, other):
        return None
    return f"no topic that {other.text} reads in another way"


def check_device_topics(
    document: Document,
    templates: Sequence[str],
    devices: Sequence[Device],
    mistakes: list[Mistake],
) -> None:
    """Add to *mistakes* what is wrong with the topics of *devices*, two on one topic included."""
    try:
        known = [Template.parse(text) for text in templates]
    except TopicError:
        return  # told where the templates stand
    places = _places(document)
    table: TopicTable[Device] = TopicTable()
    for device in devices:
        path = places.get(device.code, ("devices",))
        if device.transport is not Transport.MQTT:
            mistakes += [
                document.mistake((*path, name), given, "transport: mqtt beside it")
                for name, given in device.settings.items()
                if name in ("topic", "address")
            ]
            continue
        key = next((name for name in ("topic", "address") if name in device.settings), "code")
        try:
            topics = topics_of(device, known)
        except TopicError as error:
            mistakes.append(document.mistake((*path, key), _told(device, key), str(error)))
            continue
        if not topics and known:
            expected = "a topic of its own: no template of the broker names a device"
            mistakes.append(document.mistake((*path, "topic"), "nothing", expected))
        for topic in topics:
            other = next((one for _, one in table.meeting(topic) if one.code != device.code), None)
            if other is not None:
                expected = f"a topic that device {other.code} does not have ({topic.text})"
                mistakes.append(document.mistake((*path, key), _told(device, key), expected))
                break
        for topic in topics:
            table.add(topic, device)


def _told(device: Device, key: str) -> object:
    return device.settings.get(key, device.code)


def _places(document: Document) -> dict[str, Path]:
    """Return where each device stands, by its code; of two with one code the last."""
    entries = document.data.get("devices") or ()
    return {
        str(entry.get("code")): ("devices", index)
        for index, entry in enumerate(entries)
        if isinstance(entry, dict)
    }
