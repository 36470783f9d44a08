"""How arrivals lie on the disk: blocks, each with its own proof that it is whole.

A segment file is blocks one after the other and nothing else:

    magic "GHB1" | head crc | body crc | body length | count | number of first record | received_at
       4 bytes   |   u32    |   u32    |     u32     |  u32  |          u64           |   i64 µs

followed by the body: the arrivals as one MessagePack array.  A crc covers a block because one a
record costs more than the record.  Both are seeded with the segment's salt, which stands in the
name of its file: bytes that a device sends can therefore never pass for a block, even where a
damaged stretch makes the reader look for the next one.

All of it is pure: bytes in, values out.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import msgspec

from ingest.collector import Arrival

MAX_BLOCK_RECORDS = 1000
MAX_BODY_BYTES = 1 << 20

_MAGIC = b"GHB1"
_HEAD = struct.Struct("<4sIIIIQq")
_AFTER_CRC = struct.Struct("<IIIQq")
HEAD_BYTES = _HEAD.size

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Arrival]).decode


@dataclass(frozen=True, slots=True)
class Body:
    """Arrivals that share a block, and the same as bytes."""

    arrivals: Sequence[Arrival]
    data: bytes


def encode_bodies(arrivals: Sequence[Arrival]) -> list[Body]:
    """Pack *arrivals*, in order, into bodies of at most 1000 records and about 1 MiB.

    A single arrival larger than that has a body of its own.  A topic that UTF-8 cannot hold (half
    a surrogate pair) is kept with backslash escapes in its place.
    """
    if len(arrivals) > MAX_BLOCK_RECORDS:
        return [
            body
            for start in range(0, len(arrivals), MAX_BLOCK_RECORDS)
            for body in encode_bodies(arrivals[start : start + MAX_BLOCK_RECORDS])
        ]
    try:
        data = _encode(arrivals)
    except UnicodeEncodeError:
        arrivals = [_escaped(arrival) for arrival in arrivals]
        data = _encode(arrivals)
    if len(data) <= MAX_BODY_BYTES or len(arrivals) == 1:
        return [Body(arrivals, data)]
    half = len(arrivals) // 2
    return encode_bodies(arrivals[:half]) + encode_bodies(arrivals[half:])


def _escaped(arrival: Arrival) -> Arrival:
    topic = arrival.topic.encode("utf-8", "backslashreplace").decode()
    return msgspec.structs.replace(arrival, topic=topic)


def head(body: Body, number: int, salt: int) -> bytes:
    """Return what stands before *body*, whose first record is the spool's *number*-th."""
    rest = _AFTER_CRC.pack(
        crc32(body.data, salt),
        len(body.data),
        len(body.arrivals),
        number,
        body.arrivals[0].received_at_us,
    )
    return _MAGIC + struct.pack("<I", crc32(rest, salt)) + rest


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a block that has proved to be whole; *length* is that of the body, in bytes."""

    body_crc: int
    length: int
    count: int
    number: int
    received_at_us: int


def read_head(data: bytes, at: int, salt: int) -> Head | None:
    """Return the head that starts at byte *at* of *data*, or None where there is none."""
    if len(data) - at < HEAD_BYTES or data[at : at + 4] != _MAGIC:
        return None
    _, head_crc, *fields = _HEAD.unpack_from(data, at)
    if crc32(data[at + 8 : at + HEAD_BYTES], salt) != head_crc:
        return None
    return Head(*fields)


@dataclass(frozen=True, slots=True)
class Block:
    """A whole block between the bytes *start* and *end*; *number* is that of its first record."""

    start: int
    end: int
    number: int
    arrivals: list[Arrival]


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes *start* to *end* that are no block."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Scan:
    """What a window of a segment holds.

    *end* is the first byte that was not judged, because the window ends within a block; *need* is
    how many bytes from there would settle it (0 where everything is judged).  *torn* says that what
    is left at *end* is the beginning of a block, as a crash leaves it.
    """

    blocks: list[Block]
    damage: list[Damage]
    end: int
    need: int = 0
    torn: bool = False


def scan(data: bytes, start: int, salt: int, last: bool) -> Scan:
    """Read the blocks in *data*, which begins at byte *start* of its segment.

    *last* says that nothing follows *data*.  Bytes that are no block are passed over to the next
    head that proves whole; whatever comes back was written exactly so.
    """
    blocks: list[Block] = []
    damage: list[Damage] = []
    at = 0
    while at < len(data):
        found = read_head(data, at, salt)
        if found is None:
            if _may_begin_block(data, at) and not last:
                return Scan(blocks, damage, start + at, HEAD_BYTES)
            if last and _is_torn(data, at):
                return Scan(blocks, damage, start + at, 0, torn=True)
            beyond = _next_head(data, at + 1, salt, last)
            damage.append(Damage(start + at, start + beyond))
            at = beyond
            continue
        end = at + HEAD_BYTES + found.length
        if end > len(data):
            return Scan(blocks, damage, start + at, 0 if last else end - at, torn=last)
        arrivals = _read_body(data[at + HEAD_BYTES : end], found, salt)
        if arrivals is None:
            damage.append(Damage(start + at, start + end))
        else:
            blocks.append(Block(start + at, start + end, found.number, arrivals))
        at = end
    return Scan(blocks, _joined(damage), start + at)


def _read_body(body: bytes, found: Head, salt: int) -> list[Arrival] | None:
    if crc32(body, salt) != found.body_crc:
        return None
    try:
        arrivals = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None  # whole, but of a program that writes another way
    return arrivals if len(arrivals) == found.count else None


def _may_begin_block(data: bytes, at: int) -> bool:
    """Whether the bytes from *at* are too few to be a head, and begin like one."""
    rest = data[at : at + 4]
    return len(data) - at < HEAD_BYTES and _MAGIC.startswith(rest)


def _is_torn(data: bytes, at: int) -> bool:
    """Whether a crash explains the bytes from *at*: too few for a head, or never written."""
    return _may_begin_block(data, at) or not data[at:].strip(b"\0")


def _next_head(data: bytes, at: int, salt: int, last: bool) -> int:
    """Return where the next whole head starts, or from where it takes more bytes to say."""
    while (at := data.find(_MAGIC, at)) >= 0:
        if read_head(data, at, salt) or (len(data) - at < HEAD_BYTES and not last):
            return at
        at += 1
    if last:
        return len(data)
    for tail in range(len(_MAGIC) - 1, 0, -1):
        if data.endswith(_MAGIC[:tail]):
            return len(data) - tail
    return len(data)


def _joined(damage: list[Damage]) -> list[Damage]:
    joined: list[Damage] = []
    for piece in damage:
        if joined and joined[-1].end == piece.start:
            joined[-1] = Damage(joined[-1].start, piece.end)
        else:
            joined.append(piece)
    return joined
