"""Why a connection to a broker ended or never came about, and how soon another may be tried.

Reason codes are those of MQTT 5.0, section 2.4; the five of MQTT 3.1.1 are brought to them.
"""

from __future__ import annotations

from typing import ClassVar

from ingest.collector import IngestError


class MqttError(IngestError):
    """A connection that ended or never came about; another may be tried soon."""

    word: ClassVar[str] = "mqtt"
    needs_a_person: ClassVar[bool] = False


class LinkLost(MqttError):
    """The network, the broker or its host went away, or the broker asked us to come back later."""

    word = "link_lost"


class BrokerViolation(MqttError):
    """The broker, or something on the way, sent what MQTT does not allow."""

    word = "violation"


class Refused(MqttError):
    """The broker will not have us until a person changes something, here or there."""

    word = "refused"
    needs_a_person = True


class TakenOver(MqttError):
    """Another client came with our client id, so the broker put us out."""

    word = "taken_over"
    needs_a_person = True


# Reason code -> (what the broker says, what to look at).  Only those that a person must mend.
_REFUSALS: dict[int, tuple[str, str]] = {
    0x84: (
        "it does not speak this version of MQTT",
        "set broker.protocol to the version that it speaks (5 or 3.1.1)",
    ),
    0x85: ("client id not valid", "broker.client_id, or the broker's rules for client ids"),
    0x86: ("bad user name or password", "broker.username and broker.password_file"),
    0x87: (
        "not authorized",
        "broker.username, broker.password_file and the broker's access list",
    ),
    0x8A: ("client is banned", "the broker's list of banned clients"),
    0x8C: ("bad authentication method", "the broker must take user name and password"),
    0x90: ("topic name invalid", "the broker's configuration"),
    0x95: ("packet too large", "the broker's limit on packet size"),
    0x97: ("quota exceeded", "the broker's quota for this client"),
    0x98: ("put out by an administrator", "whoever runs the broker"),
    0x9A: ("retained messages not supported", "the broker's configuration"),
    0x9B: ("this QoS is not supported", "the broker must deliver QoS 1"),
    0x9C: ("use another server", "broker.host and broker.port"),
    0x9D: ("server moved", "broker.host and broker.port"),
    0xA0: ("maximum connect time reached", "the broker's limit on connect time"),
}

_PASSING: dict[int, str] = {
    0x80: "unspecified error",
    0x81: "malformed packet",
    0x82: "protocol error",
    0x83: "implementation specific error",
    0x88: "server unavailable",
    0x89: "server busy",
    0x8B: "server shutting down",
    0x8D: "keep alive timeout",
    0x93: "receive maximum exceeded",
    0x96: "message rate too high",
    0x9F: "connection rate exceeded",
}

_SUBSCRIPTION_REFUSALS: dict[int, str] = {
    0x80: "refused without a reason; the broker's access list is the usual one",
    0x83: "refused by a rule of this broker",
    0x87: "not authorized: the broker's access list does not let this user read it",
    0x8F: "the broker does not take this topic filter",
    0x91: "packet id in use",
    0x97: "the broker's quota for this client is exceeded",
    0x9E: "the broker has no shared subscriptions",
    0xA1: "the broker has no subscription identifiers",
    0xA2: "the broker has no wildcard subscriptions",
}


def refusal(code: int, where: str, client_id: str, detail: str = "") -> MqttError:
    """Return the error for a CONNACK that is not success; *detail* is the broker's own words."""
    told = f" ({detail})" if detail else ""
    if code in _REFUSALS:
        says, look_at = _REFUSALS[code]
        return Refused(
            f"the broker at {where} refused client {client_id!r}: {says} (0x{code:02X}){told}; "
            f"look at {look_at}"
        )
    says = _PASSING.get(code, "reason unknown to us")
    return LinkLost(f"the broker at {where} refused for now: {says} (0x{code:02X}){told}")


def dismissal(code: int, where: str, client_id: str, detail: str = "") -> MqttError:
    """Return the error for a DISCONNECT that the broker sent."""
    told = f" ({detail})" if detail else ""
    if code == 0x8E:
        return TakenOver(
            f"another client connected to {where} as {client_id!r} and took our session{told}; "
            "client ids must be unique: is a second collector running?"
        )
    if code in _REFUSALS:
        says, look_at = _REFUSALS[code]
        return Refused(
            f"the broker at {where} put client {client_id!r} out: {says} (0x{code:02X}){told}; "
            f"look at {look_at}"
        )
    says = "normal end" if code == 0 else _PASSING.get(code, "reason unknown to us")
    return LinkLost(f"the broker at {where} ended the connection: {says} (0x{code:02X}){told}")


def subscription_refusal(topic_filter: str, code: int, where: str) -> str:
    """Return one sentence for a SUBACK code of 0x80 or more."""
    says = _SUBSCRIPTION_REFUSALS.get(code, "reason unknown to us")
    return f"the broker at {where} refused the subscription {topic_filter!r}: {says} (0x{code:02X})"
