"""Frames: what real devices and gateways send is taken, what cannot be a frame is refused."""

from __future__ import annotations

import re
import struct
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.bit_message import ReadCoilsResponse

from devices.profile_case import read_cases
from devices.profile_library import shipped_cases, shipped_profile_names
from firmware_sims import modbus_frames
from ingest.modbus.framing import Frame, FrameError, Framing, Speech
from ingest.modbus.reply import Answer, check_reply
from ingest.modbus.request import ReadRequest, WriteRequest

SHARED = Path(__file__).parents[4] / "shared"
CAPTURE = SHARED / "data/modbus-pcap-dev/modbus_example.pcap"
SENSORS = SHARED / "domain/sensors.md"

TCP, RTU, ASCII = Framing(Speech.TCP), Framing(Speech.RTU), Framing(Speech.ASCII)
ALL = [TCP, RTU, ASCII]
REPLY = bytes.fromhex("03040164FFDD")


def own(framing: Framing, unit: int, pdu: bytes, transaction: int = 0) -> bytes:
    """The frame as the simulators' own code writes it."""
    return modbus_frames.encode(framing.speech.value, unit, pdu, transaction)


@pytest.mark.parametrize("framing", ALL, ids=lambda framing: framing.speech)
def test_frame_is_what_an_independent_encoder_writes(framing):
    pdu = ReadRequest(1, 3, 0, 2).pdu
    transaction = 7 if framing.has_transactions else 0
    assert framing.encode(1, pdu, transaction) == own(framing, 1, pdu, transaction)


@pytest.mark.parametrize("framing", ALL, ids=lambda framing: framing.speech)
@given(
    unit=st.integers(0, 255),
    function=st.sampled_from([1, 2, 3, 4]),
    data=st.binary(min_size=1, max_size=250),
    transaction=st.integers(0, 65_535),
    tail=st.binary(max_size=20),
)
def test_frame_is_taken_whole_and_only_when_whole(framing, unit, function, data, transaction, tail):
    pdu = bytes((function, len(data))) + data
    frame = own(framing, unit, pdu, transaction)
    for cut in {1, 2, 5, len(frame) // 2, len(frame) - 1}:
        assert framing.take(frame[:cut]) == (0, None)
    expected = Frame(unit, pdu, transaction if framing.has_transactions else 0)
    assert framing.take(frame + tail) == (len(frame), expected)


@pytest.mark.parametrize("framing", ALL, ids=lambda framing: framing.speech)
@given(st.binary(max_size=600))
def test_no_bytes_do_more_than_raise_a_frame_error(framing, data):
    try:
        used, frame = framing.take(data)
    except FrameError as error:
        assert error.code.startswith("E-MB-")
    else:
        assert 0 <= used <= len(data)
        assert (used > 0) == (frame is not None)


@pytest.mark.parametrize("framing", ALL, ids=lambda framing: framing.speech)
def test_two_frames_glued_together_are_two_frames(framing):
    first, second = own(framing, 1, REPLY, 1), own(framing, 2, REPLY, 2)
    used, frame = framing.take(first + second)
    assert frame.unit == 1
    assert used == len(first)
    assert framing.take(second)[1].unit == 2


RTU_REPLY = bytes.fromhex("01 03 04 01 64 FF DD 3B B9")


@pytest.mark.parametrize(
    ("framing", "data", "code"),
    [
        (RTU, RTU_REPLY[:-1] + b"\0", "E-MB-CRC"),
        (RTU, b"\x00" + RTU_REPLY, "E-MB-CRC"),  # noise before, here it looks like a function code
        (RTU, b"\xff\xff" + RTU_REPLY, "E-MB-FRAME"),
        (RTU, b"\x01\x63\x02\x00\x00\x00\x00", "E-MB-FRAME"),  # a function nobody knows
        (TCP, bytes.fromhex("0001 0001 0007 03 03040164FFDD"), "E-MB-PROTOCOL"),
        (TCP, bytes.fromhex("0001 0001"), "E-MB-PROTOCOL"),
        (TCP, bytes.fromhex("0001 0000 0000 03 03040164FFDD"), "E-MB-FRAME"),
        (TCP, bytes.fromhex("0001 0000 00FF 03 03040164FFDD"), "E-MB-FRAME"),
        (ASCII, own(ASCII, 1, REPLY)[:-4] + b"00\r\n", "E-MB-CRC"),
        (ASCII, b"x" + own(ASCII, 1, REPLY), "E-MB-FRAME"),
        (ASCII, b":01ZZ0401\r\n", "E-MB-CRC"),
        (ASCII, b":ZZ030401\r\n", "E-MB-FRAME"),
    ],
)
def test_bytes_that_cannot_become_a_frame_are_refused(framing, data, code):
    with pytest.raises(FrameError) as caught:
        framing.take(data)
    assert caught.value.code == code


def test_short_exception_is_not_stretched_by_a_byte():
    # pymodbus takes nine bytes for this frame of eight when a ninth has arrived.
    assert TCP.take(bytes.fromhex("0001 0000 0003 03 8302 00"))[0] == 9
    assert TCP.take(bytes.fromhex("0001 0000 0003 03 8302"))[1] == Frame(3, b"\x83\x02", 1)


def test_coils_are_counted_from_the_lowest_bit():
    # pymodbus changed this order in 3.9, 3.10 and 3.11: pin what the protocol's example says.
    response = ReadCoilsResponse()
    response.decode(bytes.fromhex("03CD6B05"))
    assert response.bits[:8] == [True, False, True, True, False, False, True, True]
    assert DecodePDU(False).decode(bytes.fromhex("0103CD6B05")).bits == response.bits


# ---- frames from makers' manuals ------------------------------------------------------------


SHIPPED_FRAMES = [
    pytest.param(request, reply, id=f"{name}-{request.hex()}")
    for name in shipped_profile_names()
    for case in read_cases(shipped_cases(name) or "", name)[1]
    for request, reply in case.frames
]


def as_asked(frame: bytes) -> ReadRequest:
    """The request that a whole RTU frame carries."""
    address, count = int.from_bytes(frame[2:4], "big"), int.from_bytes(frame[4:6], "big")
    return ReadRequest(frame[0], frame[1], address, count)


@pytest.mark.parametrize(("request_", "reply"), SHIPPED_FRAMES)
def test_frames_of_the_shipped_cases_go_through_the_codec(request_, reply):
    asked = as_asked(request_)
    assert RTU.encode(asked.unit, asked.pdu) == request_
    used, frame = RTU.take(reply)
    assert used == len(reply)
    assert check_reply(asked, frame.unit, frame.pdu) == Answer(reply[3:-2])


@pytest.mark.realdata
@pytest.mark.skipif(not SENSORS.exists(), reason="the domain pages are not beside the repository")
def test_every_frame_that_the_sensors_page_recomputed_is_sent_and_believed():
    rows = [line for line in SENSORS.read_text("utf-8").splitlines() if "\u2714 " in line]
    marked = [line.split("\u2714 ")[1] for line in rows if line.startswith("|")]
    frames = [
        [bytes.fromhex(text) for text in re.findall(r"`((?:[0-9A-F]{2} ){4,}[0-9A-F]{2})`", line)]
        for line in marked
    ]
    assert len([found for found in frames if found]) == 5
    shipped = {one.values[0]: one.values[1] for one in SHIPPED_FRAMES}
    for request, *replies in filter(None, frames):
        asked = as_asked(request)
        assert RTU.encode(asked.unit, asked.pdu) == request
        assert request in shipped
        for reply in replies:
            assert shipped[request] == reply
            _, frame = RTU.take(reply)
            assert check_reply(asked, frame.unit, frame.pdu) == Answer(reply[3:-2])


# ---- a capture of a test bench ---------------------------------------------------------------


def tcp_streams(capture: bytes) -> dict[tuple, list[tuple[int, bytes]]]:
    """Return [(number of the packet, payload)] by (source, destination) of a classic pcap file."""
    order = "<" if capture[:4] == b"\xd4\xc3\xb2\xa1" else ">"
    streams: dict[tuple, list[tuple[int, bytes]]] = defaultdict(list)
    seen = set()
    at, number = 24, 0
    while at < len(capture):
        length = struct.unpack_from(order + "I", capture, at + 8)[0]
        packet = capture[at + 16 : at + 16 + length]
        at, number = at + 16 + length, number + 1
        if packet[12:14] != b"\x08\x00" or packet[23] != 6:
            continue
        head = 14 + (packet[14] & 15) * 4
        total = 14 + int.from_bytes(packet[16:18], "big")
        payload = packet[head + (packet[head + 12] >> 4) * 4 : total]
        source = packet[26:30] + packet[head : head + 2]
        target = packet[30:34] + packet[head + 2 : head + 4]
        sequence = (source, target, packet[head + 4 : head + 8])
        if payload and sequence not in seen:
            seen.add(sequence)
            streams[source, target].append((number, payload))
    return streams


@pytest.mark.realdata
@pytest.mark.skipif(not CAPTURE.exists(), reason="the capture is not kept beside the repository")
def test_capture_of_a_test_bench_is_read_and_its_reads_are_believed():
    streams = tcp_streams(CAPTURE.read_bytes())
    frames = defaultdict(list)
    for (source, target), packets in streams.items():
        for number, payload in packets:
            used = 0
            while used < len(payload):
                taken, frame = TCP.take(payload[used:])
                assert taken, f"packet {number} ends inside a frame"
                frames[source, target].append(frame)
                used += taken
    requests = {
        (pair, frame.transaction): frame
        for pair, found in frames.items()
        if pair[1][4:] == (502).to_bytes(2, "big")
        for frame in found
    }
    assert sum(len(found) for found in frames.values()) >= 40
    believed, refused = [], []
    for (source, target), found in frames.items():
        for reply in found:
            request = requests.get(((target, source), reply.transaction))
            if request is None or request.pdu[0] not in (1, 2, 3, 4, 5, 6, 15, 16):
                continue
            function, address = request.pdu[0], int.from_bytes(request.pdu[1:3], "big")
            word = int.from_bytes(request.pdu[3:5], "big")
            if function in (1, 2, 3, 4):
                asked = ReadRequest(request.unit, function, address, word)
            elif function in (5, 6):
                value = int(word == 0xFF00) if function == 5 else word
                asked = WriteRequest(request.unit or 1, function, address, (value,))
            else:
                asked = WriteRequest(request.unit or 1, function, address, (0,) * word)
            assert asked.pdu[:5] == request.pdu[:5]
            unit = asked.unit if reply.unit == request.unit else reply.unit
            outcome = check_reply(asked, unit, reply.pdu)
            (believed if isinstance(outcome, Answer) else refused).append((function, outcome))
    assert {function for function, _ in believed} == {1, 2, 3, 4, 5, 6, 15, 16}
    assert all(failure.refused for _, failure in refused), refused
