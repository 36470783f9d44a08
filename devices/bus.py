"""A Modbus bus as the site file describes it: how it is reached and how it behaves.

`read_bus` checks one entry of a ``buses`` list at its place in the document; what the devices on it
mean for it (units twice, line settings that do not agree, too little time) is checked where the
polls are planned.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from devices.document import Document, Path, validate_part
from devices.errors import Mistake
from devices.profile import Duration, Entry, Line, Parity, Word


class BusTransport(StrEnum):
    """How a bus is reached, and how frames look on the way."""

    TCP = "tcp"
    TLS = "tls"
    RTU = "rtu"
    ASCII = "ascii"
    RTU_OVER_TCP = "rtu_over_tcp"
    ASCII_OVER_TCP = "ascii_over_tcp"
    DIAL_IN = "dial_in"

    @property
    def is_port(self) -> bool:
        """Whether it is a serial port of this machine."""
        return self in (BusTransport.RTU, BusTransport.ASCII)


class BytesEntry(Entry):
    """Bytes as text (``text: DTU-07``) or in hexadecimal (``hex: 7B 01``)."""

    text: str | None = Field(default=None, min_length=1, max_length=256)
    hex: str | None = None


class DtuEntry(Entry):
    """How a DTU that dials in makes itself known, and what it speaks then."""

    registration: BytesEntry | None = None
    heartbeat: BytesEntry | None = None
    speaks: Literal["rtu", "ascii", "tcp"] = "rtu"


class BusTlsEntry(Entry):
    """Whom to believe, and our own certificate, if the gateway wants one."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


class BusLineEntry(Entry):
    """Settings of a serial line."""

    baud: int = Field(default=9600, ge=300, le=1_000_000)
    data_bits: Literal[7, 8] = 8
    parity: Annotated[Parity, Field(strict=False)] = Parity.NONE
    stop_bits: Literal[1, 2] = 1


class BusEntry(Entry):
    """One physical bus.

    *addresses* are ``host:port``, the preferred one first; *port* is the serial device.  *line* is
    needed for a serial port, and tells the wire's speed behind a gateway.  *latest_reply* is how
    long after it was missed a reply is still thought possible, on lines whose frames carry no
    transaction number.  *writes* allows commands to the devices on it.
    """

    code: Word
    transport: Annotated[BusTransport, Field(strict=False)]
    addresses: list[str] = Field(default_factory=list)
    port: str | None = None
    line: BusLineEntry | None = None
    local_echo: bool = False
    tls: BusTlsEntry | None = None
    dtu: DtuEntry | None = None
    timeout: Duration | None = None
    pause: Duration | None = None
    quiet: Duration | None = None
    latest_reply: Duration | None = None
    retries: int = Field(default=1, ge=0, le=5)
    transaction_numbers: bool = True
    writes: bool = False


@dataclass(frozen=True, slots=True)
class Bus:
    """A checked bus; times in seconds, defaults filled in.

    *speech* is how frames look: ``tcp``, ``rtu`` or ``ascii``.  *registration* and *heartbeat* are
    empty unless it dials in.
    """

    code: str
    transport: BusTransport
    speech: str
    timeout_s: float
    pause_s: float
    quiet_s: float
    horizon_s: float
    retries: int
    addresses: tuple[tuple[str, int], ...] = ()
    port: str = ""
    line: Line | None = None
    echoes: bool = False
    tls: BusTlsEntry | None = None
    registration: bytes = b""
    heartbeat: bytes = b""
    trusts_transactions: bool = True
    writes: bool = False

    @property
    def has_transactions(self) -> bool:
        """Whether replies say which request they answer."""
        return self.speech == "tcp" and self.trusts_transactions


_SPEECH = {
    BusTransport.TCP: "tcp",
    BusTransport.TLS: "tcp",
    BusTransport.RTU: "rtu",
    BusTransport.ASCII: "ascii",
    BusTransport.RTU_OVER_TCP: "rtu",
    BusTransport.ASCII_OVER_TCP: "ascii",
}
_TIMEOUT_S = {BusTransport.RTU: 0.5, BusTransport.ASCII: 1.0, BusTransport.DIAL_IN: 3.0}
_HORIZON_S = {BusTransport.RTU: 2.0, BusTransport.ASCII: 3.0, BusTransport.DIAL_IN: 15.0}
_PORT_PAUSE_S = 0.02  # adapters need a moment to turn the line around
_DEFAULT_PORT = {BusTransport.TLS: 802}


def read_bus(document: Document, path: Path, mistakes: list[Mistake]) -> Bus | None:
    """Return the bus at *path*, adding every mistake to *mistakes*; None if it cannot be used."""
    entry = validate_part(document, path, BusEntry, mistakes)
    if entry is None:
        return None
    found: list[Mistake] = []

    def wrong(key: str, got: object, expected: str) -> None:
        found.append(document.mistake((*path, *key.split(".")), got, expected))

    transport = entry.transport
    addresses = _addresses(entry, wrong)
    if transport.is_port:
        if entry.port is None:
            wrong("port", "nothing", "the path of a serial port, such as /dev/ttyUSB0")
        if entry.line is None:
            wrong("line", "nothing", "line: {baud, parity, stop_bits} for a serial port")
    elif entry.port is not None:
        wrong("port", entry.port, f"no serial port with transport {transport}")
    if entry.local_echo and not transport.is_port:
        wrong("local_echo", True, "a serial port; only its adapter can echo")
    if entry.tls is not None and transport is not BusTransport.TLS:
        wrong("tls", "tls", "transport: tls together with a tls section")
    if entry.tls and (entry.tls.cert_file is None) != (entry.tls.key_file is None):
        wrong("tls", "one of them", "cert_file and key_file together")
    registration, heartbeat = _dtu(entry, wrong)
    mistakes += found
    if found:
        return None
    timeout_s = entry.timeout or _TIMEOUT_S.get(transport, 1.0)
    line = entry.line
    return Bus(
        code=entry.code,
        transport=transport,
        speech=_SPEECH.get(transport) or (entry.dtu.speaks if entry.dtu else "rtu"),
        timeout_s=timeout_s,
        pause_s=entry.pause or (_PORT_PAUSE_S if transport.is_port else 0.0),
        quiet_s=entry.quiet or timeout_s,
        horizon_s=entry.latest_reply or max(_HORIZON_S.get(transport, 5.0), 3 * timeout_s),
        retries=entry.retries,
        addresses=addresses,
        port=entry.port or "",
        line=Line(line.baud, line.data_bits, line.parity, line.stop_bits) if line else None,
        echoes=entry.local_echo,
        tls=entry.tls,
        registration=registration,
        heartbeat=heartbeat,
        trusts_transactions=entry.transaction_numbers,
        writes=entry.writes,
    )


def _addresses(entry: BusEntry, wrong: Any) -> tuple[tuple[str, int], ...]:
    transport = entry.transport
    if transport.is_port or transport is BusTransport.DIAL_IN:
        if entry.addresses:
            wrong("addresses", entry.addresses, f"no addresses with transport {transport}")
        return ()
    if not entry.addresses:
        wrong("addresses", "nothing", "host:port of the gateway, the preferred one first")
    found: list[tuple[str, int]] = []
    for text in entry.addresses:
        host, _, port = text.strip().rpartition(":")
        if not host:
            host, port = port, str(_DEFAULT_PORT.get(transport, 502))
        host = host.removeprefix("[").removesuffix("]")
        if not port.isascii() or not port.isdecimal() or not 1 <= int(port) <= 65_535 or not host:
            wrong("addresses", text, "host:port with a port from 1 to 65535")
            continue
        found.append((host, int(port)))
    return tuple(found)


def _dtu(entry: BusEntry, wrong: Any) -> tuple[bytes, bytes]:
    if entry.transport is not BusTransport.DIAL_IN:
        if entry.dtu is not None:
            wrong("dtu", "dtu", "transport: dial_in together with a dtu section")
        return b"", b""
    dtu = entry.dtu or DtuEntry()
    registration = _bytes("dtu.registration", dtu.registration, wrong)
    heartbeat = _bytes("dtu.heartbeat", dtu.heartbeat, wrong)
    if not registration and not heartbeat:
        wrong("dtu", "nothing", "dtu: {registration: ...} or {heartbeat: ...} to know it by")
    return registration, heartbeat


def _bytes(key: str, entry: BytesEntry | None, wrong: Any) -> bytes:
    if entry is None:
        return b""
    if (entry.text is None) == (entry.hex is None):
        wrong(key, "both or none", "text: ... or hex: ...")
        return b""
    if entry.text is not None:
        return entry.text.encode("utf-8")
    try:
        found = bytes.fromhex(entry.hex or "")
    except ValueError:
        found = b""
    if not 1 <= len(found) <= 256:
        wrong(key, entry.hex, "1 to 256 bytes in hexadecimal, such as 7B 01 00 16")
    return found
