"""Frames as a device's own firmware writes and reads them: checksum bit by bit, no library."""

from __future__ import annotations


def crc(data: bytes) -> bytes:
    """Return the CRC-16 of Modbus RTU, low byte first, as it goes over the wire."""
    value = 0xFFFF
    for octet in data:
        value ^= octet
        for _ in range(8):
            value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
    return bytes((value & 0xFF, value >> 8))


def lrc(data: bytes) -> int:
    """Return the checksum of Modbus ASCII: what makes the sum of all bytes 0."""
    return -sum(data) & 0xFF


def encode(speech: str, unit: int, pdu: bytes, transaction: int = 0) -> bytes:
    """Return the frame for *pdu* in *speech*: ``tcp``, ``rtu`` or ``ascii``."""
    body = bytes((unit,)) + pdu
    if speech == "rtu":
        return body + crc(body)
    if speech == "ascii":
        return b":" + (body + bytes((lrc(body),))).hex().upper().encode() + b"\r\n"
    return transaction.to_bytes(2, "big") + b"\0\0" + len(body).to_bytes(2, "big") + body


def take_request(speech: str, buffer: bytes) -> tuple[int, int, bytes, int] | None:
    """Return (bytes used, unit, PDU, transaction) of the first request, None while incomplete.

    A request whose checksum is wrong is taken with an empty PDU: a device stays silent then.
    """
    if speech == "tcp":
        if len(buffer) < 8:
            return None
        end = 6 + int.from_bytes(buffer[4:6], "big")
        if len(buffer) < end:
            return None
        return end, buffer[6], buffer[7:end], int.from_bytes(buffer[:2], "big")
    if speech == "ascii":
        end = buffer.find(b"\r\n") + 2
        if end < 2:
            return None
        try:
            body = bytes.fromhex(buffer[buffer.find(b":") + 1 : end - 2].decode("ascii"))
        except ValueError:
            return end, 0, b"", 0
        good = len(body) >= 3 and sum(body) & 0xFF == 0
        return end, body[0] if body else 0, body[1:-1] if good else b"", 0
    if len(buffer) < 8:
        return None
    end = 9 + buffer[6] if buffer[1] in (15, 16) else 8
    if len(buffer) < end:
        return None
    good = crc(buffer[: end - 2]) == buffer[end - 2 : end]
    return end, buffer[0], buffer[1 : end - 2] if good else b"", 0
