"""Buses against simulated slaves, over every transport: what is read is what is true."""

from __future__ import annotations

import asyncio
import contextlib
import math
import ssl
import time
from collections.abc import AsyncIterator

import pytest

from devices.bus import Bus as Described
from devices.bus import BusTlsEntry, BusTransport
from devices.codecs.registers import Poll, RegisterCodec, encode_poll
from devices.profile import Line, Profile
from devices.profile_library import shipped_profile, shipped_profile_names
from firmware_sims.modbus_faults import Fault, FaultKind
from firmware_sims.modbus_node import ModbusBus
from firmware_sims.modbus_slave import slave_of
from ingest.modbus import assembly
from ingest.modbus.assembly import Attached
from ingest.modbus.breaker import SlaveState
from ingest.modbus.bus import Bus, BusStopped, running
from ingest.modbus.bus_core import PollResult
from ingest.modbus.dial_in import DialIn
from ingest.modbus.dtu_name import DtuName
from ingest.modbus.poll_plan import wanted_points
from ingest.modbus.reply import Answer, Failure
from ingest.modbus.request import ReadRequest, WriteRequest
from tests.rig.certificates import Certificates
from tests.rig.waiting import eventually

T = BusTransport


def truth(key: str, at_s: float) -> float:
    """A different, plausible number for every key; fixed, so that it can be compared."""
    if key.startswith(("valve", "pump", "fan", "rain_detected")):
        return float(sum(key.encode()) % 2)
    number = sum(key.encode()) % 37
    return {
        "soil_ph": 4 + number / 10,
        "solution_ph": 4 + number / 10,
        "soil_ec": number / 20,
        "solution_ec": number / 20,
        "air_pressure": 90 + number / 2,
        "illuminance": 100_000 + number,
        "irrigation_volume": 120_000 + 10 * number,
    }.get(key, 3.0 + number)


class Polls:
    """Collects what buses publish."""

    def __init__(self) -> None:
        self.results: list[PollResult] = []

    def __call__(self, bus: str, result: PollResult) -> None:
        self.results.append(result)

    def whole(self, device: str = "") -> list[PollResult]:
        return [r for r in self.results if r.is_whole and device in ("", r.device)]

    def errors(self) -> list[str]:
        return [read.error for r in self.results for read in r.reads if read.error]


def described(transport: BusTransport, port: int | str, **more) -> Described:
    settings = {"timeout_s": 0.5, "pause_s": 0.0, "quiet_s": 0.1, "horizon_s": 2.0, "retries": 1}
    speech = {T.RTU: "rtu", T.ASCII: "ascii", T.RTU_OVER_TCP: "rtu", T.ASCII_OVER_TCP: "ascii"}
    where = {"port": port} if isinstance(port, str) else {"addresses": (("127.0.0.1", port),)}
    if transport.is_port:
        where["line"] = Line(115_200)
    return Described("bus", transport, speech.get(transport, "tcp"), **(settings | where | more))


def attached(profile: Profile, unit: int, interval_s: float = 0.2, device: str = "") -> Attached:
    return Attached(device or profile.name, unit, profile, wanted_points(profile, interval_s))


def build(bus: Described, devices, publish, **more) -> Bus:
    return assembly.make_bus(bus, devices, publish, asyncio.get_running_loop().time(), **more)


def all_profiles() -> tuple[ModbusBus, list[Attached]]:
    profiles = [shipped_profile(name) for name in shipped_profile_names()]
    slaves = [slave_of(profile, truth, unit) for unit, profile in enumerate(profiles, 1)]
    return ModbusBus(slaves), [attached(profile, unit) for unit, profile in enumerate(profiles, 1)]


def check_values(device: Attached, result: PollResult) -> None:
    codec = RegisterCodec(device.profile)
    samples = codec.decode(encode_poll(Poll("bus", result.unit, result.reads)))
    values = {key: value for sample in samples for key, value in sample.values.items()}
    assert values.keys() == {point.key for point in device.profile.series()}
    now_us = time.time() * 1e6
    for sample in samples:
        assert sample.quality == 0, (device.device, sample)
        assert 0 <= now_us - sample.observed_at_us < 30e6
    for point in device.profile.series():
        step = 1e-6 if point.type.is_float else float(abs(point.ratio)) / 2
        expected = truth(point.key, 0.0)
        if point.type.is_float:
            step = max(1e-6, abs(expected) * 1e-6)
        assert math.isclose(values[point.key], expected, abs_tol=step + 1e-9), point.key


@contextlib.asynccontextmanager
async def reached(sim: ModbusBus, transport: BusTransport) -> AsyncIterator[Described]:
    """Make *sim* reachable over *transport*; yields how."""
    bare = described(transport, 0)
    sim.speech = bare.speech
    if transport.is_port:
        async with sim.on_a_pty() as path:
            yield described(transport, path)
    else:
        async with sim.listening() as port:
            yield described(transport, port)


@pytest.mark.parametrize(
    "transport", [T.TCP, T.RTU_OVER_TCP, T.ASCII_OVER_TCP, T.RTU, T.ASCII], ids=str
)
async def test_every_shipped_profile_is_read_as_the_simulator_means_it(transport):
    sim, devices = all_profiles()
    polls = Polls()
    async with reached(sim, transport) as bus, running(build(bus, devices, polls)):
        await eventually(lambda: all(polls.whole(one.device) for one in devices))
    for device in devices:
        check_values(device, polls.whole(device.device)[0])
    assert polls.errors() == []


async def test_dtu_that_dials_in_is_read_like_a_gateway():
    sim, devices = all_profiles()
    polls = Polls()
    names = [DtuName("bus", b"DTU-07", b"\xfe\xfe"), DtuName("other", b"DTU-08")]
    async with DialIn("127.0.0.1", 0, names) as listener:
        bus = Described("bus", T.DIAL_IN, "rtu", 0.5, 0.0, 0.1, 2.0, 1, registration=b"DTU-07")
        async with running(build(bus, devices, polls, dial_in=listener)):
            call = await sim.dial("127.0.0.1", listener.port, b"DTU-07", b"\xfe\xfe")
            await eventually(lambda: all(polls.whole(one.device) for one in devices))
            call.beat()
            call.beat()
            seen = len(polls.results)
            await eventually(lambda: len(polls.whole()) > seen + 30)
            assert polls.errors() == []
            # the mobile network dropped the call and only the DTU knows: it calls again
            again = await sim.dial("127.0.0.1", listener.port, b"DTU-07", b"\xfe\xfe")
            await eventually(lambda: not call.is_open)
            seen = len(polls.whole())
            await eventually(lambda: len(polls.whole()) > seen + 30)
            assert again.is_open
            again.close()
    for device in devices:
        check_values(device, polls.whole(device.device)[0])


@pytest.mark.parametrize("speech", ["tcp", "rtu", "ascii"])
async def test_dtu_is_spoken_to_as_its_maker_built_it(speech):
    sim, devices = all_profiles()
    sim.speech = speech
    polls = Polls()
    async with DialIn("127.0.0.1", 0, [DtuName("bus", b"DTU-07\r\n", b"\xfe\xfe")]) as listener:
        bus = Described("bus", T.DIAL_IN, speech, 0.5, 0.0, 0.1, 2.0, 1, registration=b"DTU-07\r\n")
        async with running(build(bus, devices, polls, dial_in=listener)):
            # it beats before it says its name, and the name comes in two pieces
            call = await sim.dial("127.0.0.1", listener.port, b"\xfe\xfeDTU", b"-07\r\n")
            call.beat()
            await eventually(lambda: all(polls.whole(one.device) for one in devices))
            call.close()
    for device in devices:
        check_values(device, polls.whole(device.device)[0])
    assert polls.errors() == []


async def test_dtu_whose_name_begins_like_another_is_not_taken_for_it(soil):
    names = [DtuName("one", b"DTU-1"), DtuName("ten", b"DTU-10")]
    one, ten = Polls(), Polls()
    async with DialIn("127.0.0.1", 0, names) as listener, contextlib.AsyncExitStack() as stack:
        for name, polls in zip(names, (one, ten), strict=True):
            bus = Described(name.code, T.DIAL_IN, "rtu", 0.5, 0.0, 0.1, 2.0, 1)
            made = build(bus, [attached(soil, 1, 0.05)], polls, dial_in=listener)
            await stack.enter_async_context(running(made))
        sim = ModbusBus([slave_of(soil, truth, 1)], "rtu")
        call = await sim.dial("127.0.0.1", listener.port, b"DTU-1", b"0")
        call.beat()  # the last digit of its name, in a segment of its own
        await eventually(lambda: len(ten.whole()) >= 3)
        assert one.whole() == []
        other = ModbusBus([slave_of(soil, truth, 1)], "rtu")
        short = await other.dial("127.0.0.1", listener.port, b"DTU-1")
        await eventually(lambda: len(one.whole()) >= 3)
        seen = len(ten.whole())
        await eventually(lambda: len(ten.whole()) > seen)
        call.close()
        short.close()


async def test_other_endpoint_is_read_while_the_preferred_one_is_away(soil):
    preferred = ModbusBus([slave_of(soil, truth, 1)], "rtu")
    other = ModbusBus([slave_of(soil, truth, 1)], "rtu")
    polls = Polls()
    async with other.listening() as other_port:
        async with preferred.listening() as port:
            addresses = (("127.0.0.1", port), ("127.0.0.1", other_port))
            bus = described(T.RTU_OVER_TCP, port, addresses=addresses)
            made = build(bus, [attached(soil, 1, 0.05)], polls)
            task = asyncio.create_task(made.run())
            await eventually(lambda: len(polls.whole()) >= 3)
            assert (made.status().endpoint, other.requests) == (0, 0)
        # the gateway is gone, and nobody listens at its address any more
        await eventually(lambda: other.requests >= 3)
        assert made.status().endpoint == 1
        seen = len(polls.whole())
        await eventually(lambda: len(polls.whole()) >= seen + 3)
        task.cancel()
        await asyncio.wait([task])
    for result in polls.whole():
        check_values(attached(soil, 1), result)


async def test_gateway_with_tls_is_read_if_its_certificate_is_right(tmp_path, soil):
    papers = Certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(papers.server.certificate, papers.server.key)
    sim = ModbusBus([slave_of(soil, truth, 1)], "tcp")
    device = attached(soil, 1)
    async with sim.listening(tls=context) as port:
        polls = Polls()
        trusted = described(T.TLS, port, tls=BusTlsEntry(ca_file=str(papers.authority)))
        async with running(build(trusted, [device], polls)):
            await eventually(lambda: len(polls.whole()) >= 2)
        check_values(device, polls.whole()[0])
        stranger = described(T.TLS, port, tls=BusTlsEntry())
        async with running(build(stranger, [device], Polls())) as run:
            await eventually(lambda: run.status().counters.connect_failures)
            assert "certificate" in run.status().error.lower()


@pytest.fixture
def soil() -> Profile:
    return shipped_profile("sn-3001-tr-ecthnpkph-n01")


async def test_time_of_a_reading_is_the_time_of_its_reply(soil):
    sim = ModbusBus([slave_of(soil, truth, 1)], "tcp", turnaround_s=0.15)
    polls = Polls()
    async with sim.listening() as port:
        before = time.time()
        async with running(build(described(T.TCP, port), [attached(soil, 1, 60.0)], polls)):
            await eventually(lambda: polls.whole())
        after = time.time()
    at_s = polls.whole()[0].reads[0].at_us / 1e6
    assert before + 0.15 <= at_s <= after


FAULTS = [
    # kind, over which speech, the reason that must be on record
    (FaultKind.SHORT, "tcp", "E-MB-LENGTH"),
    (FaultKind.LONG, "tcp", "E-MB-LENGTH"),
    (FaultKind.EMPTY, "tcp", "E-MB-LENGTH"),
    (FaultKind.ODD, "tcp", "E-MB-LENGTH"),
    (FaultKind.OVERSTATED, "tcp", "E-MB-LENGTH"),
    (FaultKind.WRONG_FUNCTION, "tcp", "E-MB-FC"),
    (FaultKind.WRONG_UNIT, "tcp", "E-MB-UNIT"),
    (FaultKind.WRONG_TRANSACTION, "tcp", "E-MB-TID"),
    (FaultKind.WRONG_PROTOCOL, "tcp", "E-MB-PROTOCOL"),
    (FaultKind.WRONG_LENGTH, "tcp", "E-MB-TIMEOUT"),
    (FaultKind.SILENCE, "tcp", "E-MB-TIMEOUT"),
    (FaultKind.TRUNCATED, "tcp", "E-MB-TIMEOUT"),
    (FaultKind.GARBAGE, "tcp", "E-MB-PROTOCOL"),
    (FaultKind.CLOSE, "tcp", "E-MB-LINK"),
    (FaultKind.SHORT, "rtu", "E-MB-LENGTH"),
    (FaultKind.LONG, "rtu", "E-MB-LENGTH"),
    (FaultKind.EMPTY, "rtu", "E-MB-LENGTH"),
    (FaultKind.ODD, "rtu", "E-MB-LENGTH"),
    (FaultKind.OVERSTATED, "rtu", "E-MB-TIMEOUT"),
    (FaultKind.WRONG_FUNCTION, "rtu", "E-MB-FC"),
    (FaultKind.WRONG_UNIT, "rtu", "E-MB-UNIT"),
    (FaultKind.BAD_CHECKSUM, "rtu", "E-MB-CRC"),
    (FaultKind.BAD_CHECKSUM, "ascii", "E-MB-CRC"),
    (FaultKind.NOISE_BEFORE, "rtu", "E-MB-FRAME"),
    (FaultKind.NOISE_BEFORE, "ascii", "E-MB-FRAME"),
    (FaultKind.TRUNCATED, "rtu", "E-MB-TIMEOUT"),
    (FaultKind.SILENCE, "rtu", "E-MB-TIMEOUT"),
    (FaultKind.SILENCE, "ascii", "E-MB-TIMEOUT"),
    (FaultKind.CLOSE, "rtu", "E-MB-LINK"),
]
OVER_TCP = {"tcp": T.TCP, "rtu": T.RTU_OVER_TCP, "ascii": T.ASCII_OVER_TCP}


@pytest.mark.parametrize(("kind", "speech", "reason"), FAULTS, ids=str)
async def test_spoilt_reply_is_a_reason_and_never_a_value(soil, kind, speech, reason):
    slave = slave_of(soil, truth, 1)
    slave.faults.skip(2)
    slave.faults.add(kind, 2)
    sim = ModbusBus([slave], speech)
    polls = Polls()
    device = attached(soil, 1, 0.05)
    async with sim.listening() as port:
        bus = described(OVER_TCP[speech], port, timeout_s=0.15, quiet_s=0.05, retries=0)
        async with running(build(bus, [device], polls)) as run:
            await eventually(lambda: polls.errors() and polls.results[-1].is_whole)
            assert run.status().slaves[0].state is SlaveState.UP
    assert polls.errors()[0] == reason
    for result in polls.whole():
        check_values(device, result)


@pytest.mark.parametrize("kind", [FaultKind.NOISE_AFTER, FaultKind.GLUED, FaultKind.SLOW], ids=str)
@pytest.mark.parametrize("speech", ["tcp", "rtu", "ascii"])
async def test_right_reply_with_something_odd_around_it_is_read_or_refused_never_wrong(
    soil, kind, speech
):
    slave = slave_of(soil, truth, 1)
    slave.faults.add(kind, 3, seconds=0.002)
    sim = ModbusBus([slave], speech)
    polls = Polls()
    device = attached(soil, 1, 0.05)
    async with sim.listening() as port:
        bus = described(OVER_TCP[speech], port, timeout_s=0.3, quiet_s=0.05)
        async with running(build(bus, [device], polls)):
            await eventually(lambda: len(polls.whole()) >= 4)
    for result in polls.whole():
        check_values(device, result)


@pytest.mark.parametrize("code", [1, 2, 3, 4, 6, 10, 11])
async def test_exception_is_on_record_under_its_code(soil, code):
    slave = slave_of(soil, truth, 1)
    slave.faults.add(FaultKind.EXCEPTION, 5, code=code)
    sim = ModbusBus([slave], "tcp")
    polls = Polls()
    async with sim.listening() as port:
        device = attached(soil, 1, 0.05)
        async with running(build(described(T.TCP, port), [device], polls)):
            await eventually(lambda: polls.errors())
    assert polls.errors()[0] == f"E-MB-EXC-{code}"


async def test_local_echo_of_an_adapter_is_taken_off(soil):
    slave = slave_of(soil, truth, 1)
    slave.faults.always = Fault(FaultKind.ECHO)
    sim = ModbusBus([slave], "rtu")
    polls = Polls()
    device = attached(soil, 1, 0.05)
    async with sim.on_a_pty() as path:
        bus = described(T.RTU, path, echoes=True)
        async with running(build(bus, [device], polls)):
            await eventually(lambda: len(polls.whole()) >= 5)
    assert polls.errors() == []


async def test_gateway_that_answers_transaction_zero_is_read(soil):
    slave = slave_of(soil, truth, 1)
    slave.faults.always = Fault(FaultKind.ZERO_TRANSACTION)
    sim = ModbusBus([slave], "tcp")
    polls = Polls()
    async with sim.listening() as port:
        device = attached(soil, 1, 0.05)
        async with running(build(described(T.TCP, port), [device], polls)) as run:
            await eventually(lambda: len(polls.whole()) >= 5)
            assert run.status().counters.zero_transactions >= 5


async def test_requests_between_polls_are_answered(soil):
    slave = slave_of(soil, truth, 1)
    sim = ModbusBus([slave], "tcp")
    async with sim.listening() as port:
        device = attached(soil, 1, 0.05)
        async with running(build(described(T.TCP, port), [device], Polls())) as run:
            answers = await run.ask([ReadRequest(1, 3, 0x07D0, 1), ReadRequest(1, 3, 0x0999, 1)])
            assert isinstance(answers[0], Answer)
            assert isinstance(answers[1], Failure)
            assert answers[1].refused == 2
            written = await run.ask([WriteRequest(1, 6, 0x07D0, (9,))])
            assert written == [Answer(b"")]
            assert await run.ask([]) == []
    assert slave.memory.read(3, 0x07D0, 1) == [9]


async def test_those_who_wait_for_answers_are_told_when_the_bus_is_stopped(soil):
    sim = ModbusBus([], "tcp")
    async with sim.listening() as port:
        async with running(build(described(T.TCP, port), [], Polls())) as run:
            asked = asyncio.create_task(run.ask([ReadRequest(9, 3, 0, 1)], timeout_s=30.0))
            await eventually(lambda: sim.requests)
        (answer,) = await asked
    assert answer == Failure("E-MB-LINK", "the bus was stopped")


async def test_bus_that_does_not_run_refuses_to_ask(soil):
    slave = slave_of(soil, truth, 1)
    request = ReadRequest(1, 3, 0x07D0, 1)
    async with ModbusBus([slave], "tcp").listening() as port, asyncio.timeout(5):
        bus = build(described(T.TCP, port), [attached(soil, 1, 60.0)], Polls())
        with pytest.raises(BusStopped, match="bus bus: not running"):
            await bus.ask([request])
        async with running(bus):
            (answer,) = await bus.ask([request])
            assert isinstance(answer, Answer)
        with pytest.raises(BusStopped, match="bus bus: not running"):
            await bus.ask([request])
        bus.recover("it begins again")
        async with running(bus):
            await eventually(lambda: bus.status().connected)
            assert await bus.ask([request]) == [answer]


async def test_unknown_callers_are_turned_away():
    names = [DtuName("bus", b"DTU-07")]
    async with DialIn("127.0.0.1", 0, names, name_within_s=0.2, most_unnamed=2) as listener:
        stranger = await ModbusBus([]).dial("127.0.0.1", listener.port, b"GET / HTTP/1.1")
        await eventually(lambda: not stranger.is_open)
        silent = await ModbusBus([]).dial("127.0.0.1", listener.port)
        await eventually(lambda: not silent.is_open, timeout_s=2)
        crowd = [await ModbusBus([]).dial("127.0.0.1", listener.port, b"DTU") for _ in range(5)]
        await eventually(lambda: sum(call.is_open for call in crowd) <= 2)
        await eventually(lambda: not any(call.is_open for call in crowd), timeout_s=2)
        assert listener.turned_away == 7


async def test_dtu_known_by_its_heartbeat_alone_is_read(soil):
    sim = ModbusBus([slave_of(soil, truth, 1)], "rtu")
    polls = Polls()
    async with DialIn("127.0.0.1", 0, [DtuName("bus", heartbeat=b"\x7b\x01\x00")]) as listener:
        bus = Described("bus", T.DIAL_IN, "rtu", 0.5, 0.0, 0.1, 2.0, 1, heartbeat=b"\x7b\x01\x00")
        async with running(build(bus, [attached(soil, 1)], polls, dial_in=listener)):
            call = await sim.dial("127.0.0.1", listener.port, heartbeat=b"\x7b\x01\x00")
            call.beat()
            await eventually(lambda: len(polls.whole()) >= 2)
            call.close()
