"""Sparkplug B in a site file: the section that says how we behave as a host, and addresses.

    sparkplug: {rebirth: true, host_id: greenhouse, reorder_timeout: 2s}
    devices:
      - {code: house-1-climate, payload: sparkplug, address: base-a/gateway-1/climate, …}
      - {code: gateway-1, payload: sparkplug, address: base-a/gateway-1, …}

An address is group/node/device, or group/node for what an edge node measures itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from devices.document import Document, Path, validate_part
from devices.duration import parse_duration_s
from devices.errors import Mistake
from devices.series import Device
from devices.topic import is_word

PAYLOAD = "sparkplug"
NAMESPACE = "spBv1.0"
ADDRESS = "group/node/device or group/node, as in the topics of its gateway"


def _reorder(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError("a duration with its unit, such as 500ms or 2s")
    seconds = parse_duration_s(value)
    if not 0.1 <= seconds <= 60:
        raise ValueError("100ms to 60s")
    return seconds


def _word(value: object) -> object:
    if isinstance(value, str) and not is_word(value):
        raise ValueError("a name that can be a level of a topic")
    return value


class SparkplugEntry(BaseModel):
    """How we behave as a host application.

    *rebirth* permits us to ask a node to be born again.  *host_id* is the name under which we say
    that we are there (``spBv1.0/STATE/…``); without it nobody is told.  *reorder_timeout* is how
    long a message that was overtaken is waited for before it counts as lost.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    rebirth: bool = False
    host_id: Annotated[str, BeforeValidator(_word)] | None = Field(default=None, max_length=100)
    reorder_timeout: Annotated[float, BeforeValidator(_reorder)] = 2.0


@dataclass(frozen=True, slots=True)
class Address:
    """An address, taken apart; *device* is empty for the node itself."""

    group: str
    node: str
    device: str = ""

    @property
    def topic(self) -> str:
        """The template of everything that is sent about it; its type is left open."""
        head = f"{NAMESPACE}/{self.group}/+/{self.node}"
        return f"{head}/{self.device}" if self.device else head


def read_sparkplug(
    document: Document, path: Path, mistakes: list[Mistake]
) -> SparkplugEntry | None:
    """Return the section at *path*, adding what is wrong with it to *mistakes*."""
    return validate_part(document, path, SparkplugEntry, mistakes)


def read_address(text: str) -> Address | None:
    """Return *text* taken apart; None where it is no address."""
    levels = text.split("/")
    if len(levels) not in (2, 3) or not all(map(is_word, levels)):
        return None
    return Address(*levels)


def check_address(
    document: Document, path: Path, given: Mapping[str, object], mistakes: list[Mistake]
) -> None:
    """Add to *mistakes* what is wrong with *given*, the settings of a Sparkplug device."""
    address = given.get("address")
    if read_address(str(address or "")) is None:
        mistakes.append(document.mistake((*path, "address"), address or "nothing", ADDRESS))
    if "topic" in given:
        expected = "no topic: the address says it"
        mistakes.append(document.mistake((*path, "topic"), given["topic"], expected))


def completed(payload: str, given: dict[str, object]) -> dict[str, object]:
    """Return the settings *given* for a device, and what follows from its address in Sparkplug.

    Its topic is one of its own, with the type of message left open.  A birth names everything that
    a device has, of which a site file takes what it wants: the rest is no mistake, unless *given*
    says what is to be ignored.
    """
    address = read_address(str(given.get("address", ""))) if payload == PAYLOAD else None
    if address is None:
        return given
    return {"ignore": ["*"], **given, "topic": address.topic}


def addresses(devices: Iterable[Device]) -> frozenset[str]:
    """Return the addresses of those of *devices* that speak Sparkplug."""
    return frozenset(
        str(device.settings["address"])
        for device in devices
        if device.payload == PAYLOAD and "address" in device.settings
    )


def node_filters(devices: Iterable[Device]) -> tuple[str, ...]:
    """Return what to subscribe to for the births and deaths of the nodes behind *devices*."""
    found = (read_address(address) for address in sorted(addresses(devices)))
    return tuple(dict.fromkeys(Address(one.group, one.node).topic for one in found if one))
