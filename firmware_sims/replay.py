"""Publish measured CSV files over MQTT, as the devices of a mapping file, under their own times.

Run ``python -m firmware_sims.replay --help`` for the command.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import aiomqtt
import click

from devices.errors import DocumentError
from devices.registry import Registry
from devices.site_file import read_site_file
from firmware_sims.csv_replay import (
    ReadReport,
    ReplayDocument,
    ReplayError,
    disagreements,
    open_file,
    read_file,
    read_mapping,
)
from firmware_sims.mqtt_node import Backoff, BrokerAddress, until_lost
from firmware_sims.payload import encode, packed
from firmware_sims.sample import Sample

log = logging.getLogger(__name__)
IN_FLIGHT = 200


@dataclass
class ReplayReport:
    """What was read, by file, and what the broker has acknowledged."""

    read: dict[str, ReadReport] = field(default_factory=dict)
    messages: int = 0
    samples: int = 0
    values: int = 0

    @property
    def problem_count(self) -> int:
        """Problems in all files."""
        return sum(report.problem_count for report in self.read.values())


@dataclass(frozen=True, slots=True)
class _Message:
    topic: str
    payload: bytes
    samples: int
    values: int


def replayed(
    mapping: ReplayDocument, folder: Path, report: ReplayReport
) -> Iterator[tuple[str, Sample]]:
    """Yield (device, sample) of all files of *mapping*, oldest first across files.

    *folder* holds the data; *report* is filled on the way.  Raises `ReplayError` and OSError.
    """
    with ExitStack() as stack:
        streams = []
        for entry in mapping.files:
            lines = stack.enter_context(open_file(entry, folder))
            read = report.read[entry.file] = ReadReport()
            streams.append(read_file(entry, lines, read))
        yield from heapq.merge(*streams, key=lambda row: row[1].at_us)


async def run_replay(
    mapping: ReplayDocument,
    folder: Path,
    registry: Registry,
    broker: BrokerAddress,
    *,
    speed: float | None = None,
    samples_per_message: int = 100,
    in_flight: int = IN_FLIGHT,
) -> ReplayReport:
    """Publish all readings of *mapping* with QoS 1; return when the broker has acknowledged them.

    *registry* is that of the site file, for the devices' sites.  Without *speed* the broker sets
    the pace, with at most *in_flight* messages unacknowledged and up to *samples_per_message* in
    one; with it every sample goes alone, when its time has come, *speed* times as fast as it was
    measured.  A lost broker is waited for, and what it had not acknowledged is sent again.  Raises
    `ReplayError` when mapping, data and site file do not fit each other.
    """
    if wrong := disagreements(mapping, registry):
        raise ReplayError("\n".join(wrong))
    report = ReplayReport()
    topics = {device.code: broker.topic_of(device.site, device.code) for device in registry.devices}
    rows = replayed(mapping, folder, report)
    if speed is None:
        chunks = _as_fast_as_possible(rows, topics, samples_per_message, in_flight)
    else:
        chunks = _in_time(rows, topics, speed)
    publisher = _Publisher(broker, f"replay-{mapping.name}", in_flight)
    await publisher.publish_all(chunks, report)
    return report


async def _as_fast_as_possible(
    rows: Iterator[tuple[str, Sample]],
    topics: dict[str, str],
    samples_per_message: int,
    in_flight: int,
) -> AsyncIterator[list[_Message]]:
    messages = _messages(rows, topics, samples_per_message)
    while chunk := list(islice(messages, in_flight)):
        yield chunk


def _messages(
    rows: Iterator[tuple[str, Sample]], topics: dict[str, str], samples_per_message: int
) -> Iterator[_Message]:
    """Gather a message's worth of each device; a device's samples keep their order."""
    waiting: dict[str, list[Sample]] = {}
    for device, sample in rows:
        mine = waiting.setdefault(device, [])
        mine.append(sample)
        if len(mine) >= samples_per_message:
            for pack in packed(waiting.pop(device), samples_per_message):
                yield _message(topics[device], pack)
    for device, samples in waiting.items():
        for pack in packed(samples, samples_per_message):
            yield _message(topics[device], pack)


async def _in_time(
    rows: Iterator[tuple[str, Sample]], topics: dict[str, str], speed: float
) -> AsyncIterator[list[_Message]]:
    loop = asyncio.get_running_loop()
    began, first_us = loop.time(), None
    for device, sample in rows:
        first_us = sample.at_us if first_us is None else first_us
        due = began + (sample.at_us - first_us) / 1e6 / speed
        if (wait_s := due - loop.time()) > 0:
            await asyncio.sleep(wait_s)
        yield [_message(topics[device], [sample])]


def _message(topic: str, samples: list[Sample]) -> _Message:
    values = sum(len(sample.values) for sample in samples)
    return _Message(topic, encode(samples), len(samples), values)


class _Publisher:
    """One connection that sends chunks of messages, each chunk whole before the next."""

    def __init__(self, broker: BrokerAddress, client_id: str, in_flight: int) -> None:
        self._broker = broker
        self._client_id = client_id
        self._in_flight = in_flight

    async def publish_all(
        self, chunks: AsyncIterator[list[_Message]], report: ReplayReport
    ) -> None:
        backoff = Backoff(seed=0)
        unsent: list[_Message] = []
        while True:
            try:
                async with self._client() as client:
                    client.pending_calls_threshold = self._in_flight + 1
                    await self._publish(client, unsent, report)
                    async for chunk in chunks:
                        unsent = list(chunk)
                        await self._publish(client, unsent, report)
                        backoff.reset()
                    return
            except* aiomqtt.MqttError as errors:
                log.info("the broker is lost: %s", errors.exceptions[0])
            await asyncio.sleep(backoff.next_s())

    async def _publish(
        self, client: aiomqtt.Client, messages: list[_Message], report: ReplayReport
    ) -> None:
        """Send *messages* at once, taking from the list what the broker has acknowledged."""
        if not messages:
            return
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(until_lost(client), name="watch the connection")
            sends = [
                group.create_task(self._send(client, message, messages, report))
                for message in list(messages)
            ]
            await asyncio.wait(sends)
            watch.cancel()

    async def _send(
        self,
        client: aiomqtt.Client,
        message: _Message,
        messages: list[_Message],
        report: ReplayReport,
    ) -> None:
        await client.publish(message.topic, message.payload, qos=1)
        messages.remove(message)
        report.messages += 1
        report.samples += message.samples
        report.values += message.values

    def _client(self) -> aiomqtt.Client:
        return aiomqtt.Client(
            self._broker.host,
            self._broker.port,
            identifier=self._client_id,
            username=self._broker.username,
            password=self._broker.password,
            tls_context=self._broker.tls,
            clean_session=True,
            max_inflight_messages=self._in_flight,
            timeout=10.0,
        )


@click.command()
@click.argument("mapping", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=1883, show_default=True)
@click.option("--username")
@click.option("--password-file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--speed", type=float, help="times as fast as measured; default: no waiting")
@click.option("--samples-per-message", default=100, show_default=True)
def main(
    mapping: Path,
    folder: Path,
    host: str,
    port: int,
    username: str | None,
    password_file: Path | None,
    speed: float | None,
    samples_per_message: int,
) -> None:
    """Publish the CSV files in FOLDER as the devices that MAPPING makes of them."""
    try:
        document = read_mapping(mapping.read_text(encoding="utf-8"), str(mapping))
        site_file = mapping.parent / document.site_file
        site = read_site_file(site_file.read_text(encoding="utf-8"), str(site_file))
        password = password_file.read_text(encoding="utf-8").strip() if password_file else None
        topic = site.broker.topic if site.broker else BrokerAddress.topic
        broker = BrokerAddress(host, port, username, password, topic=topic)
        run = run_replay(
            document,
            folder,
            site.registry,
            broker,
            speed=speed,
            samples_per_message=samples_per_message,
        )
        report = asyncio.run(run)
    except (DocumentError, ReplayError, OSError) as error:
        raise click.ClickException(str(error)) from error
    for name, read in report.read.items():
        click.echo(
            f"{name}: {read.rows} rows, {read.values} values, {read.missing} missing, "
            f"{read.nonexistent_rows} rows of an hour that did not exist, "
            f"{read.problem_count} problems"
        )
        for problem in read.problems:
            click.echo(f"  {problem}", err=True)
    click.echo(f"{report.messages} messages with {report.values} values acknowledged")


if __name__ == "__main__":
    main()
