"""Messages that cannot be read, each with the reason under which it is kept."""

from __future__ import annotations

import json

import pytest

from ingest.collector import ArrivalFlag
from tests.ingest.house import RECEIVED_MS, arrival, decoder

CLIMATE = "gh/h1/h1-climate"
GOOD = b'{"t":1767225600000,"v":{"co2":812}}'


def _json(document: object) -> bytes:
    return json.dumps(document).encode()


PAYLOADS = [
    # (payload on the topic of a known device, code, what the text must say)
    (b"", "E-EMPTY", "payload is empty (0 bytes)"),
    (b"   ", "E-EMPTY", "payload is empty (3 bytes)"),
    (b"{", "E-JSON", "syntax at byte 1"),
    (GOOD + b"x", "E-JSON", "trailing data at byte 35"),
    (GOOD + GOOD, "E-JSON", "trailing data at byte 35"),
    (GOOD[:-1], "E-JSON", "syntax at byte 34"),
    (b"t=1767225600000;co2=812", "E-JSON", "syntax at byte 0"),
    (b"{'v':{'co2':812}}", "E-JSON", "syntax at byte 1"),
    (b'{"v":{"co2":812,}}', "E-JSON", "syntax at byte 16"),
    (b'{"v":{"co2":0812}}', "E-JSON", "syntax at byte 13"),
    (b'{"v":{"co2":+812}}', "E-JSON", "syntax at byte 12"),
    (b'{"v":{"co2":812 ppm}}', "E-JSON", "syntax at byte 16"),
    (b'{"v":{"co2":8,12}}', "E-JSON", "syntax at byte 14"),
    (b"<xml/>", "E-JSON", "syntax at byte 0"),
    (GOOD.decode().encode("utf-16"), "E-UTF8", "looks like UTF-16"),
    ('{"v":{"湿度":60}}'.encode("gb18030"), "E-UTF8", "got 0xb6 (invalid start byte)"),
    (b"\x01\x03\x04\x00\xd7\x02\x8a\x3b\xf4", "E-UTF8", "byte 4: got 0xd7"),
    (GOOD + b"\0", "E-NUL", "byte 35: got a NUL byte"),
    (b'{"v":{"co2\\u0000":812}}', "E-NUL", r"the character \u0000"),
    (b"null", "E-SHAPE", "payload: got null"),
    (b"[]", "E-SHAPE", "payload: got an empty array"),
    (b'"21.5"', "E-SHAPE", "payload: got text '21.5'"),
    (b"true", "E-SHAPE", "payload: got true"),
    (b"21.5", "E-SHAPE", "payload: got number 21.5"),
    (b"[1767225600000,812]", "E-SHAPE", "[0]: got number 1767225600000"),
    (_json({"t": RECEIVED_MS}), "E-FIELD", "v: got nothing"),
    (_json({"co2": 812}), "E-FIELD", "v: got nothing"),
    (_json({"t": RECEIVED_MS, "values": {"co2": 1}}), "E-FIELD", "did you mean 'values'"),
    (_json({"t": RECEIVED_MS, "v": {}}), "E-FIELD", "v: got an empty object"),
    (b'{"v":{"co2":812,"co2":813}}', "E-FIELD", "v.co2: got this key a second time"),
    (_json({"v": 21.5}), "E-TYPE", "v: got number 21.5"),
    (_json({"v": [812]}), "E-TYPE", "v: got an array"),
    (_json({"v": {"co2": "812"}}), "E-TYPE", "v.co2: got text '812', expected a number or null"),
    (_json({"v": {"co2": True}}), "E-TYPE", "v.co2: got true"),
    (_json({"v": {"co2": {"value": 812}}}), "E-TYPE", "v.co2: got an object"),
    (_json({"v": {"co2": [812, 813]}}), "E-TYPE", "v.co2: got an array"),
    (_json({"t": [RECEIVED_MS], "v": {"co2": 812}}), "E-TYPE", "t: got an array"),
    (_json({"v": {"co2": 812}, "device": 1}), "E-TYPE", "device: got number 1"),
    (b'{"v":{"co2":NaN}}', "E-NUM", "v.co2: got NaN"),
    (b'{"v":{"co2":-Infinity}}', "E-NUM", "v.co2: got -Infinity"),
    (b'{"v":{"co2":1e999}}', "E-NUM", "v.co2: got 1e999"),
    (b'{"v":{"co2":' + b"9" * 400 + b"}}", "E-NUM", "(400 characters)"),
    (b'{"v":{"light":1e307}}', "E-NUM", "got 1e+307, beyond any number in its unit"),
    (_json({"t": 0, "v": {"co2": 812}}), "E-TIME", "t: got 1970-01-01T00:00:00.000Z"),
    (_json({"t": -1, "v": {"co2": 812}}), "E-TIME", "t: got 1969-12-31T23:59:59.999Z"),
    (_json({"t": 2**63, "v": {"co2": 812}}), "E-TIME", "t: got 9223372036854775808"),
    (_json({"t": 1e300, "v": {"co2": 812}}), "E-TIME", "t: got 1e+300"),
    (_json({"t": RECEIVED_MS // 1000, "v": {"co2": 812}}), "E-TIME", "are these seconds?"),
    (_json({"t": RECEIVED_MS + 3_600_000, "v": {"co2": 812}}), "E-TIME", "T01:00:00.000Z"),
    (_json({"t": RECEIVED_MS - 40 * 86_400_000, "v": {"co2": 812}}), "E-TIME", "2025-11-22T"),
    (_json({"t": "2026-01-01T08:00:00", "v": {"co2": 812}}), "E-TIME", "names no time zone"),
    (_json({"t": "01/01/2026 08:00", "v": {"co2": 812}}), "E-TIME", "not a date and a time"),
    (_json({"t": "2026-02-30T08:00:00Z", "v": {"co2": 812}}), "E-TIME", "day is out of range"),
    (_json({"t": "2026-01-01T24:00:01Z", "v": {"co2": 812}}), "E-TIME", "hour must be in 0..23"),
    (_json({"v": {"CO2": 812}}), "E-KEY", "got key 'CO2'"),
    (_json({"v": {"air_temprature": 21}}), "E-KEY", "did you mean 'air_temperature'?"),
    (_json({"v": {"": 21}}), "E-KEY", "got key ''"),
    (_json({"v": {"co2": 812}, "device": "h1-soil"}), "E-MISMATCH", "got 'h1-soil', expected h1-c"),
    (b'{"v":{"co2":812},"x":' + b"[" * 9 + b"]" * 9 + b"}", "E-DEPTH", "at most 8"),
    (b'{"a":' * 10_000, "E-DEPTH", "at most 8"),
    (_json([{"v": {"co2": 812}}] * 1001), "E-COUNT", "got 1001 samples, expected at most 1000"),
    (_json({"v": {f"k{n}": 1 for n in range(1001)}}), "E-COUNT", "got 1001 readings"),
    (b'{"v":{"co2":812}}' + b" " * 65_520, "E-SIZE", "got 65537 bytes, expected at most 65536"),
    (b"\0" * 10_485_760, "E-SIZE", "got 10485760 bytes"),
]

TOPICS = [
    # (topic of a good payload, code, what the text must say)
    ("", "E-TOPIC", "got 1 levels in ''"),
    ("gh/h1", "E-TOPIC", "got 2 levels in 'gh/h1', expected 3 as the template gh/{site}/{device}"),
    ("gh/h1/h1-climate/co2", "E-TOPIC", "got 4 levels"),
    ("/gh/h1/h1-climate", "E-TOPIC", "got 4 levels"),
    ("gh//h1-climate", "E-TOPIC", "got an empty level 2 in 'gh//h1-climate', expected {site}"),
    ("gh/h1/", "E-TOPIC", "got an empty level 3"),
    ("greenhouse/h1/h1-climate", "E-TOPIC", "got 'greenhouse' at level 1, expected gh"),
    ("gh/h1/h1-climat", "E-DEVICE", "got device 'h1-climat', expected one of the registry"),
    ("gh/h1/H1_Climate", "E-DEVICE", "did you mean 'h1-climate'?"),
    ("gh/h1/温室 1 🍅", "E-DEVICE", "got device '温室 1 🍅'"),
    ("gh/h1/h1-climate\0", "E-DEVICE", r"got device 'h1-climate\x00'"),
    ("gh/h1/" + "x" * 65_000, "E-DEVICE", "(65002 characters)"),
    ("gh/h2/h1-climate", "E-MISMATCH", "got site 'h2', expected h1 for h1-climate"),
    ("gh/h2/h2-post", "E-MISMATCH", "which is described with transport http"),
]

OTHERS = [
    # (source, topic, payload, flags, code, what the text must say)
    ("http", "/api/v1/readings", GOOD, 0, "E-FIELD", "device: got nothing"),
    ("http", "/api/v1/readings", _json({"v": {"co2": 1}, "device": "x"}), 0, "E-DEVICE", "'x'"),
    ("modbus", "h9-meter", GOOD, 0, "E-DEVICE", "got device 'h9-meter'"),
    ("modbus", "h1-climate", GOOD, 0, "E-DEVICE", "got device 'h1-climate'"),
    ("carrier-pigeon", CLIMATE, GOOD, 0, "E-SOURCE", "expected one of http, modbus, mqtt"),
    ("mqtt", CLIMATE, _json({"v": {"co2": 1}}), ArrivalFlag.RETAINED, "E-RETAINED", "t: got noth"),
]

CASES = [
    *(("mqtt", CLIMATE, payload, 0, code, text) for payload, code, text in PAYLOADS),
    *(("mqtt", topic, GOOD, 0, code, text) for topic, code, text in TOPICS),
    *OTHERS,
]


@pytest.mark.parametrize(
    ("source", "topic", "payload", "flags", "code", "text"),
    CASES,
    ids=[f"{n}-{case[4]}" for n, case in enumerate(CASES)],
)
def test_what_cannot_be_read_is_kept_whole_with_its_reason(
    source, topic, payload, flags, code, text
):
    before, bad, after = arrival(GOOD), arrival(payload, topic, source, flags), arrival(GOOD)
    decoded = decoder().decode([before, bad, after])
    (letter,) = decoded.letters
    assert letter.code == code
    assert text in letter.text
    assert letter.payload == payload
    assert (letter.source, letter.received_at_us, letter.flags) == (
        source,
        bad.received_at_us,
        flags,
    )
    assert len(letter.text) < 600
    assert not set(letter.text) & set("\0\r\n\t"), "the reason is one line that any log can hold"
    assert decoded.origin.tolist() == [0, 2], "the messages around it are stored"


def test_there_are_at_least_forty_of_them_and_every_code_is_among_them():
    assert len(CASES) >= 40
    assert {case[4] for case in CASES} >= {
        *("E-EMPTY", "E-JSON", "E-UTF8", "E-NUL", "E-SHAPE", "E-FIELD", "E-TYPE", "E-NUM"),
        *("E-TIME", "E-KEY", "E-MISMATCH", "E-DEPTH", "E-COUNT", "E-SIZE", "E-TOPIC"),
        *("E-DEVICE", "E-SOURCE", "E-RETAINED"),
    }


def test_all_of_them_at_once_leave_one_letter_each():
    arrivals = [
        arrival(payload, topic, source, flags) for source, topic, payload, flags, *_ in CASES
    ]
    letters = decoder().decode(arrivals).letters
    assert [letter.code for letter in letters] == [case[4] for case in CASES]
