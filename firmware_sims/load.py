"""A load of simulated devices from one process: as fast as the broker takes it, or at a rate.

It speaks MQTT 5 at QoS 1 with as many messages in flight as the broker allows, and writes down what
the broker answered, so that somebody else can count what arrived (`Ledger`).  Every reading of a
load has its own moment and a value that follows from it (`reading_value`).

A message costs about 4 µs of one core, so that the broker sets the pace.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TextIO

import click
import mqtt5

QUANTITIES = ("air_temperature", "relative_humidity", "co2", "ppfd")
_BASE_VALUE = {"air_temperature": 10, "relative_humidity": 40, "co2": 400, "ppfd": 200}
SITE = "load"
_CHUNK_BYTES = 65_536
_WELCOME = mqtt5.ConnAckReasonCode.SUCCESS
_TAKEN = mqtt5.PubAckReasonCode.SUCCESS
_PREPARED = 256  # messages encoded at a time


@dataclass(frozen=True, slots=True)
class Load:
    """*messages* in all, spread over *devices* in turn, *readings* (1 to 4) in each.

    *rate* is messages a second, 0 for as fast as possible.  The first moment is *start_ms*
    (milliseconds since 1970 UTC), each further message of a device *step_ms* later; with *live* the
    moment is the time of sending instead, and later than the device's before.  *window* bounds the
    messages in flight.
    """

    host: str
    port: int
    messages: int
    devices: int = 100
    readings: int = 4
    rate: float = 0.0
    start_ms: int = 0
    step_ms: int = 10
    live: bool = False
    window: int = 20_000
    client_id: str = "load"
    give_up_s: float = 60.0


@dataclass(slots=True)
class LoadReport:
    """What became of a load; *refused* counts acknowledgements that were no promise of delivery."""

    sent: int = 0
    acknowledged: int = 0
    refused: int = 0
    reconnects: int = 0
    seconds: float = 0.0


def device_code(index: int) -> str:
    """Return the code of the load's device *index*."""
    return f"load-{index:04d}"


def reading_value(quantity: str, at_ms: int) -> float:
    """Return the value that *quantity* has at *at_ms* in every load; two decimals."""
    return round(_BASE_VALUE[quantity] + (at_ms // 10 % 1000) / 100, 2)


def site_file_text(load: Load, host: str, port: int, protocol: str = "5") -> str:
    """Return the site file of the base that *load* simulates, with the broker at *host*:*port*."""
    series = ", ".join(f"{{quantity: {name}}}" for name in QUANTITIES[: load.readings])
    devices = "\n".join(
        f"  - {{code: {device_code(index)}, site: {SITE}, interval: 10s, series: [{series}]}}"
        for index in range(load.devices)
    )
    return (
        "version: 1\n"
        f"sites: [{{code: {SITE}, kind: base, name: {{zh: 负载, en: Load}}}}]\n"
        f'broker: {{host: {host}, port: {port}, protocol: "{protocol}"}}\n'
        f"devices:\n{devices}\n"
    )


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """What the broker answered to one message, and what was in it.

    *at_ms* is the moment of its readings, *seq* its number in the load, *value* that of its first
    quantity, *reason_code* the broker's (0 is a promise to deliver), *answered_at_ms* our clock.
    """

    topic: str
    at_ms: int
    seq: int
    value: float
    reason_code: int
    answered_at_ms: int

    @property
    def device(self) -> int:
        """The device's index in the load."""
        return int(self.topic.rpartition("-")[2])


class Ledger:
    """The broker's answers in a file: a line each, written after the answer, synced in groups."""

    def __init__(self, path: Path) -> None:
        self._file: TextIO = path.open("a", encoding="ascii")
        self._unsynced = 0

    def note(self, topic: str, at_ms: int, seq: int, reason_code: int) -> None:
        """Write down one answer."""
        value = reading_value(QUANTITIES[0], at_ms)
        now_ms = time.time_ns() // 1_000_000
        self._file.write(f"{topic} {at_ms} {seq} {value} {reason_code} {now_ms}\n")
        self._unsynced += 1
        if self._unsynced >= 1_000:
            self.sync()

    def sync(self) -> None:
        """Make what was noted durable."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._unsynced = 0

    def close(self) -> None:
        """Sync and close."""
        self.sync()
        self._file.close()


def read_entries(path: Path) -> Iterator[LedgerEntry]:
    """Yield every whole line of the ledger at *path*; a kill may leave half a line at its end."""
    with path.open(encoding="ascii") as file:
        for line in file:
            if line.endswith("\n"):
                topic, at_ms, seq, value, reason_code, now_ms = line.split()
                yield LedgerEntry(
                    topic, int(at_ms), int(seq), float(value), int(reason_code), int(now_ms)
                )


def read_ledger(path: Path) -> Iterator[tuple[int, int]]:
    """Yield (device index, moment in ms) of every message that the broker promised to deliver."""
    for entry in read_entries(path):
        if entry.reason_code == _TAKEN:
            yield entry.device, entry.at_ms


class _Message(NamedTuple):  # a third of the cost of a frozen dataclass, once a message
    topic: str
    at_ms: int
    seq: int
    payload: bytes


@dataclass(slots=True)
class _Flight:
    """Messages between us and the broker's promise."""

    free: list[int]
    sent: dict[int, _Message] = field(default_factory=dict)


def publish(load: Load, ledger: Ledger | None = None) -> LoadReport:
    """Publish *load*; return when the broker has acknowledged all of it.

    A connection that is lost is made again, and what was in flight is sent again.  Raises
    ConnectionError when no broker answers for ``give_up_s``.
    """
    report = LoadReport()
    started = time.perf_counter()
    waiting = _messages(load)
    again: list[_Message] = []
    while report.acknowledged + report.refused < load.messages:
        connection, window = _connect(load)
        flight = _Flight(list(range(min(load.window, window), 0, -1)))
        with connection:
            try:
                _pump(load, connection, flight, waiting, again, report, ledger, started)
            except (ConnectionError, TimeoutError, OSError):
                report.reconnects += 1
                again = [*flight.sent.values(), *again]
    report.seconds = time.perf_counter() - started
    return report


def _messages(load: Load) -> Iterator[_Message]:
    """Yield what is to be sent, in order; with *live* the moment is that of asking for it."""
    topics = [f"gh/{SITE}/{device_code(index)}" for index in range(load.devices)]
    names = QUANTITIES[: load.readings]
    form = '{{"t":{},"v":{{' + ",".join(f'"{name}":{{:.2f}}' for name in names) + "}}}}"
    start_ms = load.start_ms or time.time_ns() // 1_000_000 - 3_600_000
    last_ms = [0] * load.devices
    for number in range(load.messages):
        turn, device = divmod(number, load.devices)
        if load.live:
            # After a stall many are sent at once, and each keeps a moment of its own.
            at_ms = last_ms[device] = max(time.time_ns() // 1_000_000, last_ms[device] + 1)
        else:
            at_ms = start_ms + turn * load.step_ms
        offset = (at_ms // 10 % 1000) / 100
        values = [_BASE_VALUE[name] + offset for name in names]
        yield _Message(topics[device], at_ms, number, form.format(at_ms, *values).encode())


def _pump(
    load: Load,
    connection: socket.socket,
    flight: _Flight,
    waiting: Iterator[_Message],
    again: list[_Message],
    report: LoadReport,
    ledger: Ledger | None,
    started: float,
) -> None:
    """Send and take acknowledgements until nothing is left or the connection breaks."""
    out, received = bytearray(), bytearray()
    exhausted = False
    heard_at = time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while not exhausted or again or flight.sent:
            if not exhausted and len(out) < _CHUNK_BYTES:
                exhausted = _fill(load, out, flight, waiting, again, report, started)
            wants = selectors.EVENT_READ | (selectors.EVENT_WRITE if out else 0)
            selector.modify(connection, wants)
            ready = selector.select(timeout=0.002 if not out else 1.0)
            if any(mask & selectors.EVENT_WRITE for _, mask in ready):
                del out[: connection.send(out)]
            if any(mask & selectors.EVENT_READ for _, mask in ready):
                data = connection.recv(_CHUNK_BYTES)
                if not data:
                    raise ConnectionError("the broker closed the connection")
                received += data
                heard_at = time.monotonic()
                _take_acknowledgements(received, flight, report, ledger)
            elif flight.sent and time.monotonic() - heard_at > load.give_up_s:
                raise TimeoutError("the broker acknowledges nothing")


def _fill(
    load: Load,
    out: bytearray,
    flight: _Flight,
    waiting: Iterator[_Message],
    again: list[_Message],
    report: LoadReport,
    started: float,
) -> bool:
    """Encode what may be sent now into *out*; return whether there is nothing more to encode."""
    due = load.messages
    if load.rate:
        due = int((time.perf_counter() - started) * load.rate) + 1
    for _ in range(_PREPARED):
        if not flight.free or (load.rate and report.sent >= due):
            return False
        message = again.pop() if again else next(waiting, None)
        if message is None:
            return True
        packet_id = flight.free.pop()
        out += mqtt5.PublishPacket(
            message.topic, message.payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id
        ).write()
        flight.sent[packet_id] = message
        report.sent += 1
    return False


def _take_acknowledgements(
    received: bytearray, flight: _Flight, report: LoadReport, ledger: Ledger | None
) -> None:
    at = 0
    view = memoryview(bytes(received))
    while at < len(view):
        try:
            packet, size = mqtt5.read(view[at:])
        except IndexError:
            break  # the rest of a packet is still on its way
        at += size
        if isinstance(packet, mqtt5.DisconnectPacket):
            raise ConnectionError(f"the broker ends the connection: {packet.reason_code.name}")
        if not isinstance(packet, mqtt5.PubAckPacket):
            continue
        message = flight.sent.pop(packet.packet_id)
        flight.free.append(packet.packet_id)
        if packet.reason_code == _TAKEN:
            report.acknowledged += 1
        else:
            report.refused += 1
        if ledger is not None:
            ledger.note(message.topic, message.at_ms, message.seq, int(packet.reason_code))
    del received[:at]


def _connect(load: Load) -> tuple[socket.socket, int]:
    """Return a connection that the broker has welcomed, and how many messages it allows at once."""
    deadline = time.monotonic() + load.give_up_s
    while True:
        try:
            connection = socket.create_connection((load.host, load.port), timeout=5.0)
            try:
                return connection, _greet(connection, load.client_id)
            except BaseException:  # interrupted too: nobody else knows the connection yet
                connection.close()
                raise
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _greet(connection: socket.socket, client_id: str) -> int:
    connection.sendall(mqtt5.ConnectPacket(client_id, clean_start=True).write())
    data = b""
    while True:
        got = connection.recv(4096)
        if not got:
            raise ConnectionError("the broker closed the connection")
        data += got
        try:
            packet, _ = mqtt5.read(memoryview(data))
        except IndexError:
            continue
        if not isinstance(packet, mqtt5.ConnAckPacket) or packet.reason_code != _WELCOME:
            raise ConnectionError(f"the broker does not welcome us: {packet}")
        return packet.receive_max


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=1883, show_default=True)
@click.option("--messages", default=100_000, show_default=True)
@click.option("--devices", default=100, show_default=True)
@click.option("--readings", default=4, show_default=True, type=click.IntRange(1, 4))
@click.option(
    "--rate", default=0.0, help="Messages a second; 0 is as fast as the broker takes them."
)
@click.option("--live", is_flag=True, help="Stamp with the time of sending.")
@click.option("--start-ms", default=0, help="First moment; an hour ago if left out.")
@click.option("--step-ms", default=10, show_default=True, help="Between moments of a device.")
@click.option("--window", default=20_000, show_default=True, help="Most messages in flight.")
@click.option("--client-id", default="load", show_default=True)
@click.option(
    "--ledger",
    "ledger_path",
    type=click.Path(path_type=Path),
    help="File for what the broker answered: topic, moment, number, value, reason code, time.",
)
@click.option("--site-file", is_flag=True, help="Print the site file of the load and end.")
def main(
    host: str,
    port: int,
    messages: int,
    devices: int,
    readings: int,
    rate: float,
    live: bool,
    start_ms: int,
    step_ms: int,
    window: int,
    client_id: str,
    ledger_path: Path | None,
    site_file: bool,
) -> None:
    """Put a load of simulated devices on a broker and say what it acknowledged."""
    load = Load(
        host, port, messages, devices, readings, rate, start_ms, step_ms, live, window, client_id
    )
    if site_file:
        click.echo(site_file_text(load, host, port), nl=False)
        return
    ledger = Ledger(ledger_path) if ledger_path else None
    try:
        report = publish(load, ledger)
    finally:
        if ledger is not None:
            ledger.close()
    click.echo(
        f"{report.acknowledged} acknowledged, {report.refused} refused, {report.sent} sent"
        f" in {report.seconds:.2f} s ({report.acknowledged / report.seconds:.0f}/s),"
        f" {report.reconnects} reconnects"
    )


if __name__ == "__main__":
    main()
