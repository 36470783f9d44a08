"""What a collector needs to know about its broker."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from ingest.collector import IngestError


class SettingsError(IngestError):
    """Settings that no broker could take; the message has one line for each mistake."""


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """How to reach a broker, and how much of what it sends may wait in memory.

    *client_id* is fixed and ours alone: the broker keeps our session, and with it what we have not
    acknowledged, under this name for *session_expiry_s* (MQTT 5; 0xFFFFFFFF is for ever; an MQTT
    3.1.1 broker has its own limit).  *receive_maximum* is how many unacknowledged messages the
    broker may send (MQTT 5).  Silence of *keepalive_s* ends a connection.

    Whatever the broker does, reading stops when *max_inflight_messages* or *max_inflight_bytes*
    are received and not yet accepted.  A packet over *max_packet_bytes* is never received: an MQTT
    5 broker is told and drops it, an MQTT 3.1.1 broker must have the limit in its own settings.

    Pauses between tries grow to *retry_cap_s*, and are around *slow_retry_s* where a person must
    mend something.
    """

    host: str
    port: int
    client_id: str
    topic_filters: tuple[str, ...]
    keepalive_s: float = 15.0
    session_expiry_s: int = 7 * 86400
    receive_maximum: int = 65_535
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    max_inflight_messages: int = 65_535
    max_inflight_bytes: int = 32 * 1024 * 1024
    max_packet_bytes: int = 16 * 1024 * 1024
    connect_timeout_s: float = 5.0
    retry_cap_s: float = 30.0
    slow_retry_s: float = 30.0

    def __post_init__(self) -> None:
        mistakes = list(self._mistakes())
        if mistakes:
            raise SettingsError("\n".join(mistakes))

    @property
    def broker(self) -> str:
        """The broker's address, ``host:port``."""
        return f"{self.host}:{self.port}"

    @property
    def where(self) -> str:
        """The broker's address for messages: ``host:port``, with ``(TLS)`` where that is so."""
        return f"{self.broker}{' (TLS)' if self.tls is not None else ''}"

    def _mistakes(self) -> list[str]:
        whole = {
            "port": (self.port, 1, 65_535),
            "keepalive_s": (self.keepalive_s, 1, 65_535),
            "session_expiry_s": (self.session_expiry_s, 0, 0xFFFF_FFFF),
            "receive_maximum": (self.receive_maximum, 1, 65_535),
            "max_inflight_messages": (self.max_inflight_messages, 1, 10_000_000),
            "max_inflight_bytes": (self.max_inflight_bytes, 1, 2**40),
            "max_packet_bytes": (self.max_packet_bytes, 1024, 256 * 1024 * 1024 + 4),
        }
        found = [
            f"{name}: got {value}, expected {low} to {high}"
            for name, (value, low, high) in whole.items()
            if not low <= value <= high
        ]
        if not self.client_id:
            found.append("client_id: got nothing, expected a fixed name that no other client has")
        if self.password is not None and self.username is None:
            found.append("password: got one without a username, expected both")
        if not self.topic_filters:
            found.append("topic_filters: got none, expected at least one")
        found += [
            f"topic_filters: got {topic_filter!r}, expected {why}"
            for topic_filter in self.topic_filters
            if (why := filter_mistake(topic_filter))
        ]
        return found


def filter_mistake(topic_filter: str) -> str | None:
    """Return what *topic_filter* should have been; None where nothing is wrong with it.

    Shared subscriptions are refused: a member that dies keeps its share from the others, or loses
    it (both measured with mosquitto).
    """
    if not topic_filter:
        return "a topic filter that is not empty"
    if "\0" in topic_filter or len(topic_filter.encode("utf-8", "replace")) > 65_535:
        return "at most 65535 bytes and no NUL"
    levels = topic_filter.split("/")
    if levels[0] == "$share":
        return "no shared subscription: messages of a member that dies would be lost"
    if any("+" in level and level != "+" for level in levels):
        return "+ to stand alone in its level"
    if any("#" in level for level in levels[:-1]) or ("#" in levels[-1] and levels[-1] != "#"):
        return "# to stand alone in the last level"
    return None
