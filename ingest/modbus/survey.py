"""Looking at a bus by hand: what registers hold, which units answer, which profile fits.

Polite to the bus: requests go through its one queue, between the polls of a running service, or
over a connection of their own that `opened` makes, one at a time with the bus' pauses.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from devices import bus as described
from devices.codecs.registers import ReadDecoder, read_text
from devices.profile import COILS, DISCRETE_INPUTS, Order, Point, Profile, RegisterType
from devices.quality import Quality
from devices.quantity import QUANTITIES
from ingest.modbus.assembly import dtu_names, make_bus
from ingest.modbus.bus import Bus, running
from ingest.modbus.command import Asker
from ingest.modbus.dial_in import DialIn
from ingest.modbus.poll_plan import plan_reads
from ingest.modbus.reply import Answer, Failure
from ingest.modbus.request import ReadRequest

_HIGH, _LOW = Order.HIGH_FIRST, Order.LOW_FIRST
# How many registers -> (what the bytes on the wire are called, order of words, order of bytes).
_WORD_ORDERS = {
    2: (("ABCD", _HIGH, _HIGH), ("CDAB", _LOW, _HIGH), ("BADC", _HIGH, _LOW), ("DCBA", _LOW, _LOW)),
    4: (
        ("ABCDEFGH", _HIGH, _HIGH),
        ("GHEFCDAB", _LOW, _HIGH),
        ("BADCFEHG", _HIGH, _LOW),
        ("HGFEDCBA", _LOW, _LOW),
    ),
}
_LONG_TYPES = {
    2: (RegisterType.UINT32, RegisterType.INT32, RegisterType.FLOAT32),
    4: (RegisterType.UINT64, RegisterType.INT64, RegisterType.FLOAT64),
}


@dataclass(frozen=True, slots=True)
class PointView:
    """One point of a profile as it was read; *value* is None where there is no reading."""

    point: Point
    raw: float | None
    value: float | None
    quality: Quality
    text: str


@dataclass(frozen=True, slots=True)
class WordView:
    """One register: *meanings* maps a type and order (``float32 CDAB``) to the number it gives."""

    address: int
    word: int
    meanings: dict[str, float]


@dataclass(frozen=True, slots=True)
class ReadView:
    """One request and what it brought: words or bits with their meanings, or a failure."""

    request: ReadRequest
    failure: Failure | None
    words: tuple[WordView, ...] = ()
    points: tuple[PointView, ...] = ()


@dataclass(frozen=True, slots=True)
class Fit:
    """How well a profile fits a unit: of *points* that it reads, *plausible* looked right."""

    profile: str
    plausible: int
    points: int


@dataclass(frozen=True, slots=True)
class UnitFound:
    """A unit that answers; *fits* are the profiles that read it without refusal, best first."""

    unit: int
    fits: tuple[Fit, ...]


@contextlib.asynccontextmanager
async def opened(
    bus: described.Bus, now_s: float, listen: tuple[str, int] = ("127.0.0.1", 0)
) -> AsyncIterator[Bus]:
    """Open *bus* for questions only; *listen* is where a DTU dials in."""
    async with contextlib.AsyncExitStack() as stack:
        dial_in = None
        if names := dtu_names([bus]):
            dial_in = await stack.enter_async_context(DialIn(*listen, names))
        made = make_bus(bus, [], lambda name, result: None, now_s, dial_in)
        yield await stack.enter_async_context(running(made))


# ---- reading by hand ------------------------------------------------------------------------


async def modbus_read(
    asker: Asker,
    requests: Sequence[ReadRequest],
    profile: Profile | None = None,
    every_order: bool = False,
    timeout_s: float | None = None,
) -> list[ReadView]:
    """Ask *requests* and show what the registers mean.

    Under *profile* where one is given; with *every_order* also as 32-bit numbers in the four orders
    of bytes that devices use, to find out which one it is.
    """
    outcomes = await asker.ask(requests, timeout_s, goes_on=True)
    return [
        _view(request, outcome, profile, every_order)
        for request, outcome in zip(requests, outcomes, strict=True)
    ]


async def modbus_read_profile(
    asker: Asker, unit: int, profile: Profile, timeout_s: float | None = None
) -> list[ReadView]:
    """Read everything that *profile* knows, settings included, and show it."""
    reads = plan_reads(profile, unit, {point.key for point in profile.points})
    return await modbus_read(asker, [read.request for read in reads], profile, False, timeout_s)


def lines_of(views: Iterable[ReadView]) -> list[str]:
    """Return the views as lines for a terminal."""
    return list(chain.from_iterable(_lines(view) for view in views))


def _view(
    request: ReadRequest, outcome: Answer | Failure, profile: Profile | None, every_order: bool
) -> ReadView:
    if isinstance(outcome, Failure):
        return ReadView(request, outcome)
    words = _words(request, outcome.data, every_order)
    points = _points(request, outcome.data, profile) if profile else ()
    return ReadView(request, None, words, points)


def _words(request: ReadRequest, data: bytes, every_order: bool) -> tuple[WordView, ...]:
    if request.function in (COILS, DISCRETE_INPUTS):
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[: request.count]
        return tuple(
            WordView(request.address + place, int(bit), {}) for place, bit in enumerate(bits)
        )
    words = np.frombuffer(data, ">u2").tolist()
    out = []
    for place, word in enumerate(words):
        meanings = {"uint16": float(word), "int16": float(word - (word >> 15 << 16))}
        for count in _WORD_ORDERS if every_order else ():
            if place + count <= len(words):
                meanings |= _long_numbers(request, place, count, data)
        out.append(WordView(request.address + place, word, meanings))
    return tuple(out)


def _long_numbers(request: ReadRequest, place: int, count: int, data: bytes) -> dict[str, float]:
    """Return *count* registers as numbers of 32 or 64 bits in every order."""
    found: dict[str, float] = {}
    for name, words, octets in _WORD_ORDERS[count]:
        for kind in _LONG_TYPES[count]:
            point = Point(
                key=name,
                function=request.function,
                address=request.address + place,
                count=count,
                type=kind,
                line=0,
                word_order=words,
                byte_order=octets,
            )
            decoder = ReadDecoder([point], request.address, request.count)
            found[f"{kind} {name}"] = float(decoder.decode(data)[0][0])
    return found


def _points(request: ReadRequest, data: bytes, profile: Profile) -> tuple[PointView, ...]:
    inside = [
        point
        for point in profile.points
        if point.function == request.function
        and request.address <= point.address
        and point.end <= request.last + 1
    ]
    numeric = [point for point in inside if point.is_numeric]
    views: dict[str, PointView] = {}
    if numeric:
        decoder = ReadDecoder(numeric, request.address, request.count)
        for point, raw, value, quality in zip(numeric, *decoder.decode(data), strict=True):
            text = _text(point, float(raw))
            known = _known(float(raw)), _known(float(value))
            views[point.key] = PointView(point, *known, Quality(int(quality)), text)
    for point in inside:
        if not point.is_numeric:
            text = read_text(point, data, request.address)
            views[point.key] = PointView(point, None, None, Quality.GOOD, text)
    return tuple(views[point.key] for point in inside)


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number


def _text(point: Point, raw: float) -> str:
    if math.isnan(raw):
        return ""
    if raw in point.sentinels:
        return point.sentinels[raw]
    return point.texts.get(int(raw), ("", ""))[1] if not math.isinf(raw) else ""


def _lines(view: ReadView) -> Iterable[str]:
    yield str(view.request)
    if view.failure is not None:
        yield f"  {view.failure.code} {view.failure.text}"
    for word in view.words:
        meanings = "  ".join(f"{name} {number:g}" for name, number in word.meanings.items())
        yield f"  {word.address:>5}  0x{word.address:04X}  0x{word.word:04X}  {meanings}".rstrip()
    for found in view.points:
        point = found.point
        value = "no reading" if found.value is None else f"{found.value:g} {point.reading_unit}"
        if not point.is_numeric:
            value = repr(found.text)
        said = f" ({found.text})" if found.text and point.is_numeric else ""
        quality = "" if found.quality == Quality.GOOD else f"  [{found.quality.name}]"
        yield f"  {point.key} = {value}{said}{quality}"


# ---- finding out who is there ---------------------------------------------------------------


async def modbus_scan(
    asker: Asker,
    units: Iterable[int],
    profiles: Sequence[Profile],
    timeout_s: float = 0.3,
    probes: Sequence[tuple[int, int, int]] = ((3, 0, 1), (4, 0, 1)),
) -> AsyncIterator[UnitFound]:
    """Yield the units that answer, with the profiles that fit, as they are found.

    A unit answers if it replies to one of *probes* (function, address, count), be it by a refusal.
    Each unit costs at most one timeout a probe; a whole bus takes minutes, in which polls go on.
    """
    for unit in units:
        if await _answers(asker, unit, timeout_s, probes):
            yield UnitFound(unit, await _fits(asker, unit, profiles, timeout_s))


async def _answers(
    asker: Asker, unit: int, timeout_s: float, probes: Sequence[tuple[int, int, int]]
) -> bool:
    for function, address, count in probes:
        request = ReadRequest(unit, function, address, count)
        (outcome,) = await asker.ask([request], timeout_s)
        if isinstance(outcome, Answer) or (outcome.refused and outcome.refused not in (10, 11)):
            return True
    return False


async def _fits(
    asker: Asker, unit: int, profiles: Sequence[Profile], timeout_s: float
) -> tuple[Fit, ...]:
    known: dict[ReadRequest, Answer | Failure] = {}
    fits = []
    for profile in profiles:
        keys = {point.key for point in profile.series()}
        keys |= {guard.key for key in keys for guard in profile.guards(key)}
        requests = [read.request for read in plan_reads(profile, unit, keys)]
        for request in requests:
            if request not in known:
                (known[request],) = await asker.ask([request], timeout_s)
            if isinstance(known[request], Failure):
                break
        else:
            views = [_view(request, known[request], profile, False) for request in requests]
            points = [view for found in views for view in found.points if view.point.quantity]
            fits.append(Fit(profile.name, sum(map(_plausible, points)), len(points)))
    fits.sort(key=lambda fit: (-fit.plausible / max(1, fit.points), -fit.points, fit.profile))
    return tuple(fits)


def _plausible(view: PointView) -> bool:
    """Whether a value could be what the profile says: within limits, and not a bare zero."""
    quantity = QUANTITIES[view.point.quantity or ""]
    if view.value is None or view.quality != Quality.GOOD:
        return False
    return quantity.low <= view.value <= quantity.high and view.raw != 0
