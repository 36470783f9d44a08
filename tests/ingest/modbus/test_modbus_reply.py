"""Requests are built to the letter, and a reply is believed only if it is what was asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.pdu import DecodePDU

from ingest.modbus.reply import EXCEPTIONS, Answer, Failure, Reaction, check_reply, reaction
from ingest.modbus.request import ReadRequest, WriteRequest

READ = ReadRequest(unit=3, function=3, address=0x10, count=2)
COILS = ReadRequest(unit=3, function=1, address=0, count=10)


@pytest.mark.parametrize(
    ("request_", "pdu"),
    [
        (READ, "0300100002"),
        (ReadRequest(1, 4, 0xFFFF, 1), "04FFFF0001"),
        (COILS, "010000000A"),
        (WriteRequest(1, 5, 0xAC, (1,)), "0500ACFF00"),
        (WriteRequest(1, 5, 0xAC, (0,)), "0500AC0000"),
        (WriteRequest(1, 6, 1, (3,)), "0600010003"),
        (WriteRequest(1, 15, 0x13, (1, 0, 1, 1, 0, 0, 1, 1, 1, 0)), "0F0013000A02CD01"),
        (WriteRequest(1, 16, 1, (0x000A, 0x0102)), "100001000204000A0102"),
    ],
)
def test_request_is_what_the_protocol_says(request_, pdu):
    # The writes are the examples of the MODBUS Application Protocol 1.1b3.
    assert request_.pdu == bytes.fromhex(pdu)
    decoded = DecodePDU(True).decode(request_.pdu)
    assert decoded.function_code == request_.function
    assert decoded.address == request_.address


@pytest.mark.parametrize(
    "make",
    [
        lambda: ReadRequest(1, 3, 0, 126),
        lambda: ReadRequest(1, 3, 0, 0),
        lambda: ReadRequest(1, 1, 0, 2001),
        lambda: ReadRequest(1, 3, 65535, 2),
        lambda: ReadRequest(256, 3, 0, 1),
        lambda: ReadRequest(1, 6, 0, 1),
        lambda: WriteRequest(0, 6, 0, (1,)),
        lambda: WriteRequest(1, 6, 0, (65536,)),
        lambda: WriteRequest(1, 5, 0, (2,)),
        lambda: WriteRequest(1, 6, 0, (1, 2)),
        lambda: WriteRequest(1, 16, 0, ()),
        lambda: WriteRequest(1, 16, 65535, (1, 2)),
        lambda: WriteRequest(1, 3, 0, (1,)),
    ],
)
def test_impossible_request_cannot_be_made(make):
    with pytest.raises(ValueError):
        make()


def test_answer_brings_exactly_the_registers_asked_for():
    assert check_reply(READ, 3, bytes.fromhex("0304 0164FFDD")) == Answer(b"\x01\x64\xff\xdd")
    assert check_reply(COILS, 3, bytes.fromhex("0102 CD01")) == Answer(b"\xcd\x01")


@pytest.mark.parametrize(
    ("unit", "pdu", "code", "text"),
    [
        (3, "03020164", "E-MB-LENGTH", "expected 4 bytes got 2"),  # fewer
        (3, "03060164FFDD0000", "E-MB-LENGTH", "expected 4 bytes got 6"),  # more
        (3, "0300", "E-MB-LENGTH", "expected 4 bytes got 0"),  # none at all
        (3, "03030164FF", "E-MB-LENGTH", "expected 4 bytes got 3"),  # an odd count
        (3, "03040164", "E-MB-LENGTH", "got 2 (it says 4)"),  # says more than it brings
        (3, "03020164FFDD", "E-MB-LENGTH", "got 4 (it says 2)"),
        (3, "03", "E-MB-LENGTH", "expected 4 bytes got 0"),
        (3, "", "E-MB-FC", "expected 3 got 0"),
        (3, "04040164FFDD", "E-MB-FC", "expected 3 got 4"),
        (3, "6304FFFF", "E-MB-FC", "expected 3 got 99"),
        (3, "8402", "E-MB-FC", "expected 3 got 132"),  # an exception to another function
        (4, "03040164FFDD", "E-MB-UNIT", "expected unit 3 got 4"),
        (3, "83", "E-MB-LENGTH", "an exception of 1 bytes"),
        (3, "830200", "E-MB-LENGTH", "an exception of 3 bytes"),
    ],
)
def test_reply_that_was_not_asked_for_is_a_mismatch(unit, pdu, code, text):
    found = check_reply(READ, unit, bytes.fromhex(pdu))
    assert isinstance(found, Failure)
    assert found.code == code
    assert text in found.text
    assert found.refused == 0


@pytest.mark.parametrize(
    ("code", "means"),
    [
        (1, Reaction.OURS),
        (2, Reaction.OURS),
        (3, Reaction.OURS),
        (4, Reaction.ILL),
        (5, Reaction.AGAIN),
        (6, Reaction.AGAIN),
        (10, Reaction.DEAD),
        (11, Reaction.DEAD),
        (99, Reaction.ILL),
    ],
)
def test_exception_is_named_and_mapped(code, means):
    found = check_reply(READ, 3, bytes((0x83, code)))
    assert isinstance(found, Failure)
    assert (found.code, found.refused) == (f"E-MB-EXC-{code}", code)
    assert "unit 3 function 3 16..17" in found.text
    assert reaction(code) is means


def test_every_exception_has_a_text():
    assert all(entry.text for entry in EXCEPTIONS.values())


def test_write_is_done_only_when_its_echo_says_so():
    write = WriteRequest(3, 6, 1, (3,))
    assert check_reply(write, 3, bytes.fromhex("0600010003")) == Answer(b"")
    other = check_reply(write, 3, bytes.fromhex("0600010004"))
    assert isinstance(other, Failure)
    assert other.code == "E-MB-ECHO"
    several = WriteRequest(3, 16, 1, (1, 2))
    assert check_reply(several, 3, bytes.fromhex("1000010002")) == Answer(b"")


@given(st.integers(0, 255), st.binary(max_size=260))
def test_no_other_bytes_than_the_right_ones_are_believed(unit, pdu):
    found = check_reply(READ, unit, pdu)
    if isinstance(found, Answer):
        assert unit == 3
        assert pdu[:2] == b"\x03\x04"
        assert len(pdu) == 6
