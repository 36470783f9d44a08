"""Frames on the wire: RTU, ASCII and TCP, by pymodbus' framers, with their leniency taken back.

pymodbus writes all frames and finds checksum and borders of RTU and ASCII; what it lets pass is
refused here (measured on 3.16.1): its RTU framer hunts for a frame behind noise and drops what
follows the first one.  The head of a TCP frame is read here, because pymodbus' framer stops for
ever at a wrong protocol id and stretches some frames by a byte, and its TLS framer takes whatever
has arrived for one frame.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec
from pymodbus.framer import FramerAscii, FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU

from ingest.modbus.request import READS, WRITES

_FUNCTIONS = frozenset((*READS, *WRITES))
_MBAP = 7  # transaction, protocol, length, unit
_MAX_PDU = 253


class Speech(StrEnum):
    """How frames look on a connection."""

    TCP = "tcp"
    RTU = "rtu"
    ASCII = "ascii"


class FrameError(Exception):
    """Bytes that can never become a frame; *code* is stable (``E-MB-CRC``)."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code = code
        self.text = text


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One frame; *transaction* is 0 where the framing has none."""

    unit: int
    pdu: bytes
    transaction: int = 0


class Framing:
    """Puts requests into frames and takes frames out of a buffer; keeps nothing itself.

    *max_bytes* is more than any sound answer takes: a buffer that grows beyond it holds garbage.
    """

    def __init__(self, speech: Speech) -> None:
        decoder = DecodePDU(False)
        self.speech = speech
        self.has_transactions = speech is Speech.TCP
        self.max_bytes = 1100 if speech is Speech.ASCII else 600
        self._rtu, self._ascii = FramerRTU(decoder), FramerAscii(decoder)
        self._encode = {
            Speech.TCP: FramerSocket(decoder).encode,
            Speech.RTU: self._rtu.encode,
            Speech.ASCII: self._ascii.encode,
        }[speech]
        self._take = {
            Speech.TCP: self._take_tcp,
            Speech.RTU: self._take_rtu,
            Speech.ASCII: self._take_ascii,
        }[speech]

    def encode(self, unit: int, pdu: bytes, transaction: int = 0) -> bytes:
        """Return the frame that carries *pdu* to *unit*."""
        return self._encode(pdu, unit, transaction)

    def take(self, buffer: bytes) -> tuple[int, Frame | None]:
        """Return (bytes used, frame), or (0, None) while the frame is not whole.

        Raises `FrameError` as soon as no sound frame can begin at the first byte.
        """
        return self._take(buffer) if buffer else (0, None)

    def _take_tcp(self, buffer: bytes) -> tuple[int, Frame | None]:
        if len(buffer) < _MBAP + 1:
            if len(buffer) >= 4 and buffer[2:4] != b"\0\0":
                raise _protocol(buffer)
            return 0, None
        if buffer[2:4] != b"\0\0":
            raise _protocol(buffer)
        length = int.from_bytes(buffer[4:6], "big")
        if not 2 <= length <= 1 + _MAX_PDU:
            raise FrameError("E-MB-FRAME", f"length {length}, expected 2..{1 + _MAX_PDU}")
        if len(buffer) < 6 + length:
            return 0, None
        end = 6 + length
        return end, Frame(buffer[6], buffer[_MBAP:end], int.from_bytes(buffer[:2], "big"))

    def _take_rtu(self, buffer: bytes) -> tuple[int, Frame | None]:
        if len(buffer) >= 2 and buffer[1] & 0x7F not in _FUNCTIONS:
            raise FrameError("E-MB-FRAME", f"function {buffer[1]} was never asked")
        if len(buffer) < self._rtu.MIN_SIZE:
            return 0, None
        used, unit, _, pdu = self._rtu.decode(buffer)
        if pdu:
            if unit != buffer[0] or pdu != buffer[1 : 1 + len(pdu)]:
                raise FrameError("E-MB-FRAME", "noise before the frame")
            return len(pdu) + 3, Frame(unit, pdu)
        if used:
            raise FrameError("E-MB-CRC", "wrong checksum")
        return 0, None

    def _take_ascii(self, buffer: bytes) -> tuple[int, Frame | None]:
        if buffer[:1] != b":":
            raise FrameError("E-MB-FRAME", "noise before the frame")
        try:
            used, unit, _, pdu = self._ascii.decode(buffer)
        except ValueError as error:
            raise FrameError("E-MB-FRAME", "not hexadecimal") from error
        if pdu:
            end = buffer.index(b"\r\n") + 2
            if used != end:
                raise FrameError("E-MB-CRC", "wrong checksum")
            return used, Frame(unit, pdu)
        if used:
            raise FrameError("E-MB-CRC", "wrong checksum")
        return 0, None


def _protocol(buffer: bytes) -> FrameError:
    protocol = int.from_bytes(buffer[2:4], "big")
    return FrameError("E-MB-PROTOCOL", f"expected protocol 0 got {protocol}")
