from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.collector import Arrival
from ingest.spool_format import (
    MAX_BLOCK_RECORDS,
    MAX_BODY_BYTES,
    Damage,
    encode_bodies,
    head,
    read_head,
    scan,
)

SALT = 0x5EED5EED

arrivals = st.builds(
    Arrival,
    st.sampled_from(["mqtt", "http", "modbus"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.binary(max_size=60),
    st.integers(-(2**62), 2**62),
    st.integers(0, 255),
)
writes = st.lists(st.lists(arrivals, min_size=1, max_size=4), min_size=1, max_size=5)


def _file(groups, salt=SALT):
    """The bytes of a segment with a block for each group, and where each block begins."""
    data, starts, number = b"", [], 0
    for group in groups:
        (body,) = encode_bodies(group)
        starts.append(len(data))
        data += head(body, number, salt) + body.data
        number += len(group)
    return data, starts


def _read(data, salt=SALT, window=None):
    """All blocks and damage of a whole file, read in windows of *window* bytes."""
    blocks, damage, start, size = [], [], 0, window or len(data)
    while start < len(data):
        view = data[start : start + size]
        found = scan(view, start, salt, last=start + len(view) == len(data))
        blocks += found.blocks
        for piece in found.damage:  # a damaged stretch may reach over windows
            if damage and damage[-1].end == piece.start:
                piece = Damage(damage.pop().start, piece.end)
            damage.append(piece)
        if found.torn:
            return blocks, damage, found.end
        size = window or len(data)
        if found.end == start:  # nothing settled: the window was too small
            size = max(size, found.need) + len(view)
        start = found.end
    return blocks, damage, start


@given(writes, st.integers(1, 200))
def test_what_was_written_is_read_in_windows_of_any_size(groups, window):
    data, starts = _file(groups)
    blocks, damage, end = _read(data, window=window)
    assert [block.arrivals for block in blocks] == groups
    assert [block.start for block in blocks] == starts
    numbers = [sum(map(len, groups[:at])) for at in range(len(groups))]
    assert [block.number for block in blocks] == numbers
    assert (damage, end) == ([], len(data))


@given(writes, st.data())
def test_a_torn_tail_loses_only_the_block_that_was_being_written(groups, data):
    whole, starts = _file(groups)
    length = data.draw(st.integers(0, len(whole)))
    complete = sum(end <= length for end in [*starts[1:], len(whole)])
    blocks, damage, end = _read(whole[:length])
    assert [block.arrivals for block in blocks] == groups[:complete]
    assert damage == [], "a torn tail was never acknowledged and is no damage"
    assert end == [*starts, len(whole)][complete]


@given(writes, st.integers(1, 5000))
def test_a_tail_that_was_never_written_is_torn_and_not_damaged(groups, zeros):
    whole, _ = _file(groups)
    blocks, damage, _ = _read(whole + bytes(zeros))
    assert [block.arrivals for block in blocks] == groups
    assert damage == []


@given(writes, st.data(), st.none() | st.integers(30, 200))
@settings(max_examples=300)
def test_a_flipped_byte_loses_its_own_block_and_nothing_else(groups, data, window):
    whole, starts = _file(groups)
    at = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[at] ^= data.draw(st.integers(1, 255))
    hit = sum(start <= at for start in starts) - 1
    blocks, damage, _ = _read(bytes(flipped), window=window)
    assert [block.arrivals for block in blocks] == groups[:hit] + groups[hit + 1 :]
    assert damage == [Damage(starts[hit], [*starts, len(whole)][hit + 1])]


@given(writes, writes, st.binary(max_size=100))
def test_bytes_of_another_kind_between_blocks_are_passed_over(before, after, garbage):
    first, _ = _file(before)
    second, _ = _file(after)
    blocks, damage, _ = _read(first + b"x" + garbage + second)
    assert [block.arrivals for block in blocks] == before + after
    assert damage == [Damage(len(first), len(first) + 1 + len(garbage))]


def test_a_payload_cannot_pass_for_a_block():
    """A device may send the bytes of a block; they are sealed with another salt."""
    forged, _ = _file([[Arrival("mqtt", "gh/h1/victim", b"forged", 1)]], salt=1)
    data, starts = _file([[Arrival("mqtt", "gh/h1/sender", forged * 3, 1)]])
    damaged = bytearray(data)
    damaged[starts[0] + 8] ^= 1  # the reader must look for the next block
    blocks, damage, _ = _read(bytes(damaged))
    assert blocks == []
    assert damage == [Damage(0, len(data))]


@given(st.binary(max_size=300))
def test_any_bytes_are_either_torn_or_damaged(data):
    blocks, damage, end = _read(data)
    assert blocks == []
    assert sum(piece.end - piece.start for piece in damage) == end


def test_a_block_is_bounded_in_records_and_bytes():
    small = [Arrival("mqtt", "t", b"", n) for n in range(2 * MAX_BLOCK_RECORDS + 1)]
    assert [len(body.arrivals) for body in encode_bodies(small)] == [1000, 1000, 1]
    large = [Arrival("mqtt", "t", bytes(MAX_BODY_BYTES // 4), n) for n in range(9)]
    bodies = encode_bodies(large)
    assert [arrival for body in bodies for arrival in body.arrivals] == large
    assert all(len(body.data) <= MAX_BODY_BYTES for body in bodies)
    huge = [Arrival("mqtt", "t", bytes(3 * MAX_BODY_BYTES), 0), *small[:2]]
    assert next(len(body.arrivals) for body in encode_bodies(huge)) == 1


def test_a_topic_that_utf8_cannot_hold_is_kept_with_escapes():
    (body,) = encode_bodies([Arrival("mqtt", "gh/\udcff/x", b"p", 1), Arrival("mqtt", "b", b"", 2)])
    assert [arrival.topic for arrival in body.arrivals] == [r"gh/\udcff/x", "b"]


def test_the_head_says_how_far_to_the_next_and_since_when():
    (body,) = encode_bodies([Arrival("mqtt", "t", b"payload", 77), Arrival("mqtt", "t", b"", 78)])
    found = read_head(head(body, 41, SALT), 0, SALT)
    assert found is not None
    assert (found.length, found.count, found.number) == (len(body.data), 2, 41)
    assert found.received_at_us == 77
    assert read_head(head(body, 41, SALT), 0, SALT + 1) is None


def test_the_format_on_the_disk_stays():
    """Segments outlive the program that wrote them; these bytes must be readable for ever."""
    stored = bytes.fromhex(
        "47484231931aadd7b70069c22300000001000000090000000000000000402046484706009195a46d717474"
        "a767682f68312f64c4087b2276223a7b7d7dcf000647484620400002"
    )
    arrival = Arrival("mqtt", "gh/h1/d", b'{"v":{}}', 1_767_225_600_000_000, 2)
    (block,) = scan(stored, 0, SALT, last=True).blocks
    assert (block.number, block.arrivals) == (9, [arrival])
    (body,) = encode_bodies([arrival])
    assert head(body, 9, SALT) + body.data == stored
