"""What is believed of a reply: unit, function code and length must be what was asked; pure.

Libraries hand over replies of another function, of fewer or of more registers as success.  Here
they are mismatches, and a mismatch never becomes a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

import msgspec

from ingest.modbus.request import ReadRequest, Request


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The reply is what was asked for; *data* is the registers, empty for a write."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer: *code* is stable (``E-MB-FC``), *text* one sentence.

    *refused* is the Modbus exception code where the slave itself refused, else 0.
    """

    code: str
    text: str
    refused: int = 0


class Reaction(Enum):
    """What an exception of a slave means for the poller."""

    AGAIN = "busy: ask again soon"
    OURS = "the profile or the unit id is wrong: a person must mend it"
    ILL = "the device is in trouble, but it is there"
    DEAD = "the gateway cannot reach the device"


@dataclass(frozen=True, slots=True)
class ModbusException:
    """One exception code of the protocol."""

    code: int
    text: str
    reaction: Reaction


EXCEPTIONS = MappingProxyType(
    {
        entry.code: entry
        for entry in (
            ModbusException(1, "illegal function: it does not know this function", Reaction.OURS),
            ModbusException(2, "illegal address: check the register map", Reaction.OURS),
            ModbusException(3, "illegal value: check count and value", Reaction.OURS),
            ModbusException(4, "device failure", Reaction.ILL),
            ModbusException(5, "accepted, but it takes a while", Reaction.AGAIN),
            ModbusException(6, "busy", Reaction.AGAIN),
            ModbusException(7, "refused to do it", Reaction.ILL),
            ModbusException(8, "its memory is damaged", Reaction.ILL),
            ModbusException(10, "the gateway has no path to it", Reaction.DEAD),
            ModbusException(11, "the gateway got no answer from it", Reaction.DEAD),
        )
    }
)
_UNKNOWN = "an exception that the protocol does not know"


def reaction(code: int) -> Reaction:
    """Return what exception *code* means for the poller; unknown ones are the device's trouble."""
    return EXCEPTIONS[code].reaction if code in EXCEPTIONS else Reaction.ILL


def check_reply(request: Request, unit: int, pdu: bytes) -> Answer | Failure:
    """Judge a reply that carries *unit* and *pdu* (function code and data)."""
    function = pdu[0] if pdu else 0
    if unit != request.unit:
        return Failure("E-MB-UNIT", f"expected unit {request.unit} got {unit}")
    if function == request.function | 0x80:
        return _refusal(request, pdu)
    if function != request.function:
        return Failure("E-MB-FC", f"unit {unit}: expected {request.function} got {function}")
    if isinstance(request, ReadRequest):
        return _registers(request, pdu)
    if pdu != request.echo:
        expected, got = request.echo.hex(" "), pdu[:16].hex(" ")
        return Failure("E-MB-ECHO", f"unit {unit}: expected {expected} got {got}")
    return Answer(b"")


def _registers(request: ReadRequest, pdu: bytes) -> Answer | Failure:
    expected = request.data_bytes
    said = pdu[1] if len(pdu) > 1 else 0
    got = len(pdu) - 2
    if said != expected or got != expected:
        text = f"unit {request.unit}: expected {expected} bytes got {max(got, 0)}"
        if said != got:
            text += f" (it says {said})"
        return Failure("E-MB-LENGTH", text)
    return Answer(pdu[2:])


def _refusal(request: Request, pdu: bytes) -> Failure:
    if len(pdu) != 2:
        text = f"unit {request.unit}: an exception of {len(pdu)} bytes"
        return Failure("E-MB-LENGTH", text)
    code = pdu[1]
    known = EXCEPTIONS.get(code)
    text = f"{request}: {known.text if known else _UNKNOWN}"
    return Failure(f"E-MB-EXC-{code}", text, refused=code)
