"""From what the site file says to a bus that can run."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from devices import bus as described
from devices.bus import BusTransport
from devices.profile import Profile
from ingest.modbus.budget import Budget, Load, bus_budgets
from ingest.modbus.bus import Bus, Endpoint
from ingest.modbus.bus_core import BusCore, BusSettings, PollResult, SlavePlan
from ingest.modbus.dial_in import DialIn
from ingest.modbus.dtu_name import DtuName, name_mistakes
from ingest.modbus.framing import Speech
from ingest.modbus.poll_plan import plan_polls
from ingest.modbus.transport import SerialEndpoint, TcpEndpoint, tls_context


@dataclass(frozen=True, slots=True)
class Attached:
    """A device on a bus: its code, its unit id, its profile, and key -> interval in seconds."""

    device: str
    unit: int
    profile: Profile
    wanted: Mapping[str, float]


def slave_plan(bus: described.Bus, device: Attached) -> SlavePlan:
    """Return what to ask a device and how long to wait for it."""
    limits = device.profile.limits
    every = {point.key for point in device.profile.series()}
    return SlavePlan(
        device.device,
        device.unit,
        plan_polls(device.profile, device.unit, device.wanted),
        timeout_s=limits.timeout_s or bus.timeout_s,
        pause_s=limits.pause_s,
        keys=() if every <= device.wanted.keys() else tuple(sorted(device.wanted)),
    )


def bus_settings(bus: described.Bus) -> BusSettings:
    """Return the behaviour of a bus."""
    return BusSettings(
        name=bus.code,
        speech=Speech(bus.speech),
        endpoints=max(1, len(bus.addresses)),
        is_port=bus.transport.is_port,
        timeout_s=bus.timeout_s,
        pause_s=bus.pause_s,
        byte_s=bus.line.bits_per_byte / bus.line.baud if bus.line else 0.0,
        quiet_s=bus.quiet_s,
        horizon_s=bus.horizon_s,
        retries=bus.retries,
        trusts_transactions=bus.trusts_transactions,
    )


def endpoints(bus: described.Bus) -> list[Endpoint]:
    """Return where a bus is reached; reads the certificate files of a TLS bus."""
    if bus.transport is BusTransport.DIAL_IN:
        return [bus.code]
    if bus.transport.is_port:
        assert bus.line is not None, "a port without a line was refused when the file was read"
        return [SerialEndpoint(bus.port, bus.line, bus.echoes)]
    context = None
    if bus.transport is BusTransport.TLS:
        files = bus.tls or described.BusTlsEntry()
        context = tls_context(files.ca_file, files.cert_file, files.key_file)
    return [TcpEndpoint(host, port, context) for host, port in bus.addresses]


def make_bus(
    bus: described.Bus,
    devices: Sequence[Attached],
    publish: Callable[[str, PollResult], None],
    now_s: float,
    dial_in: DialIn | None = None,
    phase_s: float = 0.0,
    chance: Callable[[], float] = random.random,
) -> Bus:
    """Return the bus, ready to run; *now_s* is the loop's time.

    *phase_s* shifts its turns, so that many buses do not all ask in the same moment.
    """
    plans = [slave_plan(bus, device) for device in devices]
    core = BusCore(bus_settings(bus), plans, now_s, chance, phase_s)
    return Bus(core, endpoints(bus), publish, dial_in)


def dtu_names(buses: Sequence[described.Bus]) -> list[DtuName]:
    """Return the DTUs that will dial in, for the listener."""
    return [
        DtuName(bus.code, bus.registration, bus.heartbeat)
        for bus in buses
        if bus.transport is BusTransport.DIAL_IN
    ]


def budgets(bus: described.Bus, devices: Sequence[Attached]) -> list[Budget]:
    """Return the arithmetic of a bus, one for each interval on it."""
    loads = [
        Load(
            device.device,
            plan_polls(device.profile, device.unit, device.wanted),
            device.profile.limits.response_s,
            device.profile.limits.pause_s,
        )
        for device in devices
    ]
    probe_s = max((slave_plan(bus, one).timeout_s for one in devices), default=bus.timeout_s)
    if not bus.has_transactions:
        probe_s += bus.quiet_s
    return bus_budgets(bus.code, loads, bus.line, probe_s, bus.pause_s)


def bus_mistakes(bus: described.Bus, devices: Sequence[Attached]) -> list[str]:
    """Return what makes the devices on a bus impossible together, one sentence each."""
    found: list[str] = []
    units: dict[int, str] = {}
    for device in devices:
        other = units.setdefault(device.unit, device.device)
        if other != device.device:
            found.append(
                f"bus {bus.code}: {device.device} and {other} both have unit {device.unit}"
            )
    found += [budget.text for budget in budgets(bus, devices) if not budget.fits]
    return found


def dtu_mistakes(bus: described.Bus, buses: Sequence[described.Bus]) -> list[str]:
    """Return why the DTU of *bus* could be taken for that of another of *buses*."""
    return [
        f"bus {bus.code}: its DTU {text}"
        for code, text in name_mistakes(dtu_names(buses))
        if code == bus.code
    ]


def bus_warnings(bus: described.Bus, devices: Sequence[Attached]) -> list[str]:
    """Return what a person should look at: line settings that do not agree, as the makers ship."""
    if bus.line is None:
        lines = {device.profile.line for device in devices if device.profile.line}
        if len(lines) > 1:
            said = ", ".join(sorted(str(line) for line in lines))
            return [f"bus {bus.code}: its devices are shipped with {said}; a bus has one setting"]
        return []
    return [
        f"bus {bus.code}: {device.device} ({device.profile.name}) is shipped with "
        f"{device.profile.line}, the bus has {bus.line}; set the device to that"
        for device in devices
        if device.profile.line not in (None, bus.line)
    ]
