"""Many simulated devices in one process: a scenario in (simulated) real time over MQTT.

    World ──advance──▶ Instrument ──▶ faults ──▶ MqttNode ──▶ broker
      ▲ one clock for all; devices measure at times of their own

One connection a device, up to *most_connections*; beyond, devices share connections as those behind
a gateway do.
"""

from __future__ import annotations

import asyncio
import heapq
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from firmware_sims.faults import Chain
from firmware_sims.instruments import Instrument
from firmware_sims.mqtt_node import BrokerAddress, MqttNode, OutageBuffer, Outbox
from firmware_sims.sample import Sample
from firmware_sims.scenario import DeviceEntry, Outage, Scenario
from firmware_sims.world import World

MOST_CONNECTIONS = 400
_HISTORY_PACE_S = 1800.0  # simulated time between two waits for the broker
_BUFFER_SAMPLES = 20_000
_LEAST_WAIT_S = 0.02  # many devices that measure one after the other are served together


@dataclass
class FleetReport:
    """What a fleet has done: *sent* were acknowledged, the others never reached the broker."""

    devices: int = 0
    messages_sent: int = 0
    samples_sent: int = 0
    samples_dropped: int = 0
    samples_lost: int = 0
    samples_unsent: int = 0


@dataclass
class SimulatedDevice:
    """A device of a scenario as a stream: what it measured, after all that went wrong with it.

    Pure: `due_us` says when it measures next, `measure` returns what it would send then.
    """

    entry: DeviceEntry
    instrument: Instrument
    faults: Chain
    outages: Sequence[Outage]
    phase_us: int
    due_us: int = 0
    _interval_us: int = field(init=False)

    def __post_init__(self) -> None:
        self._interval_us = round(self.entry.interval * 1e6)

    def start(self, from_us: int) -> None:
        """Measure for the first time at or after *from_us*."""
        since = (from_us - self.phase_us) % self._interval_us
        self.due_us = from_us + (self._interval_us - since) % self._interval_us

    def measure(self, world: World) -> list[Sample]:
        """Return what the device sends of the moment it was due; an interval later it is again."""
        at_us = self.due_us
        self.due_us += self._interval_us
        if self.is_dark(at_us):
            return []
        return self.faults.push(self.instrument.measure(world, at_us))

    def is_dark(self, at_us: int) -> bool:
        """Tell whether the device has no power."""
        return any(outage.without_power and at_us in outage.window for outage in self.outages)

    def is_cut_off(self, at_us: int) -> bool:
        """Tell whether the device has no network."""
        return any(not outage.without_power and at_us in outage.window for outage in self.outages)


def simulated_devices(scenario: Scenario, start_us: int) -> list[SimulatedDevice]:
    """Return the devices of *scenario* for a live start at *start_us*."""
    return [
        SimulatedDevice(
            entry,
            scenario.instrument(entry),
            scenario.faults(entry, start_us),
            scenario.outages(entry, start_us),
            scenario.phase_us(entry),
        )
        for entry in scenario.devices
    ]


class Fleet:
    """The devices of a scenario over one world, without any I/O: `until` yields what they send."""

    def __init__(self, scenario: Scenario, start_us: int, from_us: int | None = None) -> None:
        """Stand at *from_us*, by default the live start; the world runs itself in before that."""
        self.start_us = start_us
        self.now_us = start_us if from_us is None else from_us
        self.devices = simulated_devices(scenario, start_us)
        self.world = World.begin(scenario.plan(start_us), self.now_us)
        for device in self.devices:
            device.start(self.now_us)
        self._queue = [(device.due_us, index) for index, device in enumerate(self.devices)]
        heapq.heapify(self._queue)

    @property
    def due_us(self) -> int:
        """When the next device measures."""
        return self._queue[0][0]

    def until(self, to_us: int) -> Iterator[tuple[SimulatedDevice, Sample]]:
        """Yield what devices send of all that they measure before *to_us*, in order of time."""
        while self.due_us < to_us:
            due_us, index = heapq.heappop(self._queue)
            device = self.devices[index]
            self.world.advance(due_us)
            for sample in device.measure(self.world):
                yield device, sample
            heapq.heappush(self._queue, (device.due_us, index))
        self.now_us = max(self.now_us, to_us)

    def rest(self) -> Iterator[tuple[SimulatedDevice, Sample]]:
        """Yield what faults of the devices still hold back."""
        for device in self.devices:
            for sample in device.faults.rest():
                yield device, sample


async def run_fleet(
    scenario: Scenario,
    broker: BrokerAddress,
    stop: asyncio.Event,
    speed: float = 1.0,
    *,
    start_us: int | None = None,
    history_s: float = 0.0,
    not_before_us: int = 0,
    most_connections: int = MOST_CONNECTIONS,
    on_history: Callable[[float], None] | None = None,
) -> FleetReport:
    """Run *scenario* against *broker* until *stop* is set; return what was sent.

    *start_us* is the simulated time of the start, by default the present; from there simulated time
    runs *speed* times as fast as real time, so a start in the past keeps a fast run out of the
    future.  *history_s* seconds before the start, but nothing before *not_before_us*, are sent
    first, as fast as the broker takes them, like the buffer of devices that come back from an
    outage; *on_history* hears the share that is done, 0 to 1.
    """
    start_us = time.time_ns() // 1000 if start_us is None else start_us
    from_us = min(start_us, max(start_us - round(history_s * 1e6), not_before_us))
    fleet = await asyncio.to_thread(Fleet, scenario, start_us, from_us)
    nodes = _nodes(fleet.devices, broker, most_connections)
    by_device = {code: node for node, codes in nodes for code in codes}
    async with asyncio.TaskGroup() as group:
        for node, codes in nodes:
            group.create_task(node.run(), name=f"node {codes[0]}")
        live_from = asyncio.get_running_loop().time()
        await _send_history(fleet, by_device, stop, on_history)
        await _send_live(fleet, by_device, stop, speed, live_from)
        for device, sample in fleet.rest():
            by_device[device.entry.code].offer(device.entry.code, sample)
        for node, _ in nodes:
            node.stop()
    return FleetReport(
        devices=len(fleet.devices),
        messages_sent=sum(node.messages_sent for node, _ in nodes),
        samples_sent=sum(node.samples_sent for node, _ in nodes),
        samples_dropped=sum(node.dropped for node, _ in nodes),
        samples_lost=sum(node.lost for node, _ in nodes),
        samples_unsent=sum(node.backlog for node, _ in nodes),
    )


def _nodes(
    devices: Sequence[SimulatedDevice], broker: BrokerAddress, most_connections: int
) -> list[tuple[MqttNode, list[str]]]:
    """Spread the devices over at most *most_connections* nodes, in turn."""
    count = min(len(devices), max(1, most_connections))
    nodes: list[tuple[MqttNode, list[str]]] = []
    for first in range(count):
        mine = [device.entry for device in devices[first::count]]
        outboxes = [Outbox(one.code, one.site, OutageBuffer(_BUFFER_SAMPLES)) for one in mine]
        seed = zlib.crc32(mine[0].code.encode())
        nodes.append((MqttNode(broker, outboxes, seed=seed), [one.code for one in mine]))
    return nodes


async def _send_history(
    fleet: Fleet,
    nodes: dict[str, MqttNode],
    stop: asyncio.Event,
    on_history: Callable[[float], None] | None,
) -> None:
    """Send what lies before the live start, a stretch at a time, each when the last has arrived."""
    from_us = fleet.now_us
    while fleet.now_us < fleet.start_us and not stop.is_set():
        until_us = min(fleet.start_us, fleet.now_us + round(_HISTORY_PACE_S * 1e6))
        for device, sample in fleet.until(until_us):
            nodes[device.entry.code].offer(device.entry.code, sample)
        if on_history is not None:
            on_history((fleet.now_us - from_us) / (fleet.start_us - from_us))
        await _all_drained(nodes, stop)


async def _all_drained(nodes: dict[str, MqttNode], stop: asyncio.Event) -> None:
    """Wait until the nodes have sent all they hold, or for the stop."""
    stopped = asyncio.create_task(stop.wait(), name="history stop")
    drained = asyncio.gather(*(node.drained() for node in set(nodes.values())))
    try:
        await asyncio.wait((stopped, drained), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiting in (stopped, drained):
            waiting.cancel()
        await asyncio.gather(stopped, drained, return_exceptions=True)


async def _send_live(
    fleet: Fleet, nodes: dict[str, MqttNode], stop: asyncio.Event, speed: float, live_from: float
) -> None:
    """Follow real time, *speed* times as fast, from what passed while history was sent on."""
    loop = asyncio.get_running_loop()
    troubled = [device for device in fleet.devices if device.outages]
    while not stop.is_set():
        now_us = fleet.start_us + round((loop.time() - live_from) * speed * 1e6)
        for device in troubled:
            _switch(nodes[device.entry.code], device, now_us)
        for device, sample in fleet.until(now_us):
            nodes[device.entry.code].offer(device.entry.code, sample)
        wait_s = (fleet.due_us - fleet.start_us) / 1e6 / speed - (loop.time() - live_from)
        try:
            async with asyncio.timeout(max(_LEAST_WAIT_S, wait_s)):
                await stop.wait()
        except TimeoutError:
            continue


def _switch(node: MqttNode, device: SimulatedDevice, now_us: int) -> None:
    """Bring power and network of a node to what the scenario says of its device."""
    dark, cut_off = device.is_dark(now_us), device.is_cut_off(now_us)
    if dark == node.powered:
        node.cut_power() if dark else node.restore_power()
    if cut_off == node.linked:
        node.cut_link() if cut_off else node.restore_link()
