"""A bus in the site file: every transport, its defaults, and each mistake at its place."""

from __future__ import annotations

import pytest

from devices.bus import Bus, read_bus
from devices.document import load
from devices.profile import Line, Parity


def read(text: str) -> tuple[Bus | None, list[str]]:
    document = load("buses:\n  - " + text.strip().replace("\n", "\n    ") + "\n", "site.yaml")
    mistakes: list = []
    return read_bus(document, ("buses", 0), mistakes), [str(mistake) for mistake in mistakes]


def good(text: str) -> Bus:
    bus, mistakes = read(text)
    assert mistakes == []
    assert bus is not None
    return bus


def test_gateway_with_a_spare_one():
    bus = good(
        """code: h1
transport: tcp
addresses: [10.0.0.5, "10.0.0.6:1502", "[fd00::7]:502"]
timeout: 800ms
pause: 20ms"""
    )
    assert bus.addresses == (("10.0.0.5", 502), ("10.0.0.6", 1502), ("fd00::7", 502))
    assert (bus.speech, bus.timeout_s, bus.pause_s, bus.quiet_s) == ("tcp", 0.8, 0.02, 0.8)
    assert bus.has_transactions
    assert not bus.writes


def test_gateway_with_numbers_of_its_own_is_a_line_without_numbers():
    bus = good("code: h1\ntransport: tcp\naddresses: [gw]\ntransaction_numbers: false")
    assert not bus.has_transactions


def test_serial_port():
    bus = good(
        """code: h1
transport: rtu
port: /dev/ttyUSB0
line: {baud: 19200, parity: even}
local_echo: true
writes: true"""
    )
    assert (bus.port, bus.line) == ("/dev/ttyUSB0", Line(19_200, 8, Parity.EVEN, 1))
    assert (bus.timeout_s, bus.pause_s, bus.horizon_s) == (0.5, 0.02, 2.0)
    assert bus.echoes
    assert bus.writes


@pytest.mark.parametrize(
    ("transport", "speech"),
    [("rtu_over_tcp", "rtu"), ("ascii_over_tcp", "ascii"), ("tls", "tcp")],
)
def test_speech_follows_from_the_transport(transport, speech):
    bus = good(f"code: h1\ntransport: {transport}\naddresses: [gw]")
    assert bus.speech == speech
    assert bus.addresses[0][1] == (802 if transport == "tls" else 502)


def test_dtu_that_dials_in():
    bus = good(
        """code: dtu-7
transport: dial_in
dtu: {registration: {text: DTU-07}, heartbeat: {hex: 7B 01 00}, speaks: rtu}"""
    )
    assert (bus.registration, bus.heartbeat) == (b"DTU-07", b"\x7b\x01\x00")
    assert (bus.speech, bus.timeout_s, bus.horizon_s) == ("rtu", 3.0, 15.0)


def test_latest_reply_is_never_less_than_three_timeouts():
    bus = good("code: h1\ntransport: rtu_over_tcp\naddresses: [gw]\ntimeout: 4s")
    assert bus.horizon_s == 12.0


MISTAKES = [
    ("code: h1\ntransport: rut\naddresses: [gw]", "did you mean 'rtu'"),
    ("code: h1\ntransport: tcp", "addresses: got nothing, expected host:port"),
    ("code: h1\ntransport: tcp\naddresses: [gw:70000]", "port from 1 to 65535"),
    ("code: h1\ntransport: tcp\naddresses: ['gw:']", "port from 1 to 65535"),
    ("code: h1\ntransport: tcp\naddresses: [gw]\nport: /dev/ttyS0", "no serial port with"),
    ("code: h1\ntransport: rtu\nline: {}", "the path of a serial port"),
    ("code: h1\ntransport: rtu\nport: /dev/ttyS0", "line: {baud, parity, stop_bits}"),
    ("code: h1\ntransport: rtu\nport: x\nline: {}\naddresses: [gw]", "no addresses with transport"),
    ("code: h1\ntransport: tcp\naddresses: [gw]\nlocal_echo: true", "only its adapter can echo"),
    ("code: h1\ntransport: tcp\naddresses: [gw]\ntls: {}", "transport: tls together with"),
    ("code: h1\ntransport: tls\naddresses: [gw]\ntls: {cert_file: a}", "cert_file and key_file"),
    ("code: h1\ntransport: dial_in", "to know it by"),
    ("code: h1\ntransport: dial_in\ndtu: {registration: {}}", "text: ... or hex: ..."),
    ("code: h1\ntransport: dial_in\ndtu: {heartbeat: {hex: xyz}}", "bytes in hexadecimal"),
    ("code: h1\ntransport: tcp\naddresses: [gw]\ndtu: {}", "transport: dial_in together with"),
    ("code: h1\ntransport: tcp\naddresses: [gw]\ntimeout: 1", "a duration with its unit"),
    ("code: h1\ntransport: tcp\naddresses: [gw]\nretries: 9", "retries: got 9"),
    ("code: h1\ntransport: tcp\naddreses: [gw]", "did you mean 'addresses'"),
]


@pytest.mark.parametrize(("text", "said"), MISTAKES, ids=[row[1] for row in MISTAKES])
def test_mistake_is_named_at_its_place(text, said):
    _, mistakes = read(text)
    assert any(said in mistake for mistake in mistakes), mistakes
    assert all(mistake.startswith("site.yaml:") for mistake in mistakes)
