"""Who is calling: names that begin alike, heartbeats that everybody sends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.modbus.dial_in import DialIn
from ingest.modbus.dtu_name import DtuName, Recognition, name_mistakes, recognise

BEAT = b"\xfe\xfe"
NAMES = [
    DtuName("one", b"DTU-1", BEAT),
    DtuName("ten", b"DTU-10", BEAT),
    DtuName("mute", heartbeat=b"\x7b\x01"),
]


@pytest.mark.parametrize(
    ("heard", "code", "used", "undecided"),
    [
        (b"", None, 0, True),
        (b"DTU", None, 0, True),
        (b"DTU-1", "one", 5, True),  # it may be the beginning of ten
        (b"DTU-10", "ten", 6, False),
        (b"DTU-1\x01\x03", "one", 5, False),  # what follows is no longer name
        (b"DTU-2", None, 0, False),
        (b"\x7b\x01", "mute", 2, False),
        (b"\x7b\x01\x7b\x01", "mute", 2, False),
        (BEAT, None, 2, True),  # everybody sends it: it says nothing
        (BEAT + BEAT[:1], None, 2, True),
        (BEAT * 3 + b"DTU-10", "ten", 12, False),
        (BEAT + b"GET /", None, 2, False),
        (b"GET / HTTP/1.1\r\n", None, 0, False),
    ],
)
def test_first_bytes_say_who_is_calling(heard, code, used, undecided):
    assert recognise(NAMES, heard) == Recognition(code, used, undecided)


@given(heard=st.binary(max_size=20), cut=st.integers(0, 20))
def test_what_is_decided_stays_decided_when_more_comes(heard, cut):
    early = recognise(NAMES, heard[:cut])
    if not early.undecided:
        late = recognise(NAMES, heard)
        assert (late.code, late.undecided) == (early.code, False)


@pytest.mark.parametrize(
    ("names", "wrong"),
    [
        (NAMES, []),
        ([DtuName("a", b"X"), DtuName("b", b"X")], ["b"]),
        ([DtuName("a", heartbeat=BEAT), DtuName("b", heartbeat=BEAT)], ["b"]),
        ([DtuName("a", heartbeat=BEAT), DtuName("b", b"X", BEAT)], ["a"]),
        ([DtuName("a", b"X", BEAT), DtuName("b", b"Y", BEAT)], []),
    ],
)
def test_dtus_that_could_be_taken_for_each_other_are_a_mistake(names, wrong):
    assert [code for code, _ in name_mistakes(names)] == wrong
    if wrong:
        with pytest.raises(ValueError, match=f"DTU {wrong[0]} is known by"):
            DialIn("127.0.0.1", 0, names)


def test_dtu_needs_something_to_be_known_by():
    with pytest.raises(ValueError, match="a registration packet or a heartbeat"):
        DtuName("bus")
