"""Topics of Sparkplug B: ``spBv1.0/group/type/node[/device]``."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

NAMESPACE = "spBv1.0"


class Kind(StrEnum):
    """The types of messages; STATE is the host applications' own."""

    NBIRTH = "NBIRTH"
    NDEATH = "NDEATH"
    NDATA = "NDATA"
    NCMD = "NCMD"
    DBIRTH = "DBIRTH"
    DDEATH = "DDEATH"
    DDATA = "DDATA"
    DCMD = "DCMD"

    @property
    def is_device(self) -> bool:
        """Whether its topic names a device."""
        return self.value.startswith("D")

    @property
    def is_command(self) -> bool:
        """Whether a host sends it."""
        return self.value.endswith("CMD")


class Node(NamedTuple):
    """An edge node: the one that has the connection, a session and a sequence."""

    group: str
    node: str

    def __str__(self) -> str:
        return f"{self.group}/{self.node}"


class Subject(NamedTuple):
    """Whom a message is about; *device* is empty where it is about the node itself."""

    kind: Kind
    node: Node
    device: str = ""

    @property
    def address(self) -> str:
        """The address by which a site file knows the device."""
        return f"{self.node}/{self.device}" if self.device else str(self.node)


def is_sparkplug(topic: str) -> bool:
    """Whether *topic* lies in the namespace; cheap, for it is asked of every message."""
    return topic.startswith("spBv1.0/")


def read_topic(topic: str) -> Subject | None:
    """Return what *topic* says; None where it is none of Sparkplug's, or a host's STATE."""
    levels = topic.split("/")
    if not 4 <= len(levels) <= 5 or levels[0] != NAMESPACE or "" in levels:
        return None
    try:
        kind = Kind(levels[2])
    except ValueError:
        return None
    if kind.is_device != (len(levels) == 5):
        return None
    return Subject(kind, Node(levels[1], levels[3]), levels[4] if kind.is_device else "")


def write_topic(subject: Subject) -> str:
    """Return the topic of messages about *subject*."""
    head = f"{NAMESPACE}/{subject.node.group}/{subject.kind}/{subject.node.node}"
    return f"{head}/{subject.device}" if subject.device else head


def state_topic(host_id: str) -> str:
    """Return where the host application *host_id* says whether it is there."""
    return f"{NAMESPACE}/STATE/{host_id}"


def group_filters(groups: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a host subscribes to for *groups*."""
    return tuple(f"{NAMESPACE}/{group}/#" for group in groups)
