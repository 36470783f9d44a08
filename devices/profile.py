"""How a kind of register device speaks: one YAML file, checked whole, with every register's line.

`read_profile` is pure: text in, `Profile` out, or a `DocumentError` naming every mistake at once.
Addresses are zero-based everywhere behind this file; a profile written from a manual that counts
from one says ``address_base: 1`` and is shifted here, once.

    block  = registers of one function code that share a poll interval
    point  = one value in a block: where it stands, how it is written, what it means
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from devices.document import Document, Path, load, nearest, validate_part
from devices.duration import parse_duration_s
from devices.errors import DocumentError, Mistake
from devices.quality import Quality
from devices.quantity import QUANTITIES
from devices.units import UnitError, conversion

MAX_REGISTERS = 125
MAX_BITS = 2000
ADDRESSES = 65_536
COILS, DISCRETE_INPUTS, HOLDING, INPUT = 1, 2, 3, 4


class RegisterType(StrEnum):
    """How a value is written into registers; the number is its width in bits."""

    BIT = "bit"
    UINT8_HIGH = "uint8_high"
    UINT8_LOW = "uint8_low"
    INT8_HIGH = "int8_high"
    INT8_LOW = "int8_low"
    UINT16 = "uint16"
    INT16 = "int16"
    UINT32 = "uint32"
    INT32 = "int32"
    UINT64 = "uint64"
    INT64 = "int64"
    FLOAT16 = "float16"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    BCD16 = "bcd16"
    BCD32 = "bcd32"
    STRING = "string"

    @property
    def bits(self) -> int:
        """Width in bits; 0 for text, whose length the point says."""
        match = re.search(r"\d+", self.value)
        return int(match[0]) if match else int(self is RegisterType.BIT)

    @property
    def is_float(self) -> bool:
        """Whether it is an IEEE 754 number."""
        return self.value.startswith("float")

    @property
    def is_signed(self) -> bool:
        """Whether the top bit is a sign."""
        return self.value.startswith("int")

    @property
    def is_bcd(self) -> bool:
        """Whether each four bits are a decimal digit."""
        return self.value.startswith("bcd")


class Order(StrEnum):
    """Which part stands first: of words in a wide value, or of bytes in a register."""

    HIGH_FIRST = "high_first"
    LOW_FIRST = "low_first"


class Parity(StrEnum):
    """Parity bit of a serial line."""

    NONE = "none"
    EVEN = "even"
    ODD = "odd"


@dataclass(frozen=True, slots=True)
class Line:
    """Settings of a serial line; every device on one bus must share them."""

    baud: int = 9600
    data_bits: int = 8
    parity: Parity = Parity.NONE
    stop_bits: int = 1

    @property
    def bits_per_byte(self) -> int:
        """Bits on the wire for one byte, start bit included."""
        return 1 + self.data_bits + (self.parity is not Parity.NONE) + self.stop_bits

    def __str__(self) -> str:
        parity = self.parity.value[0].upper()
        return f"{self.baud} {self.data_bits}{parity}{self.stop_bits}"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a device puts up with.

    *gap* is how many unused registers a read may run across to save a request.  *illegal* maps a
    function code to address ranges (first, last) that must never be read.  *pause_s* is the silence
    it needs before the next request, *timeout_s* how long an answer may take (None: as the bus
    says), *response_s* how long it usually takes at most, for the arithmetic of a bus.
    """

    max_registers: int = MAX_REGISTERS
    max_bits: int = MAX_BITS
    gap: int = 0
    illegal: Mapping[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    pause_s: float = 0.0
    timeout_s: float | None = None
    response_s: float = 0.1

    def most(self, function: int) -> int:
        """Return the longest read of *function*, in registers or bits."""
        return self.max_bits if function in (COILS, DISCRETE_INPUTS) else self.max_registers


@dataclass(frozen=True, slots=True)
class Spoil:
    """When a status register says that other points cannot be believed.

    The raw value spoils if one of *bits* is set in it, or it is one of *values*, or it is none of
    *except_values*; exactly one of the three is given.  *points* are the keys that it spoils;
    *quality* is the bit that they get.
    """

    points: tuple[str, ...]
    quality: Quality
    bits: tuple[int, ...] = ()
    values: tuple[int, ...] = ()
    except_values: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Counter:
    """A running total: *wraps_at* is the count after which it starts from 0 again, in raw counts.

    ``None`` never wraps.  *most_per_s* bounds what is believable, in the quantity's unit a second.
    """

    wraps_at: int | None
    most_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """A point that may be written: by which function code, between which values."""

    function: int
    low: float
    high: float
    kind: str


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a device.

    *address* is zero-based; *count* is how many registers (bits, for coils) it takes.  The device
    says ``raw * scale + offset`` in *unit*; *ratio* and *shift* bring the same raw number straight
    to the quantity's own unit (*ratio* as a fraction, so that a tenth stays a tenth), and all other
    numbers here (*low*, *high*: the sensor's range; *noise_below_zero*; *write*) are in that unit.
    *sentinels* are raw values that are error codes.  *line* is where the profile says all this.  A
    point without *quantity* feeds no series (status, set-points, names): *unit* holds.
    """

    key: str
    function: int
    address: int
    count: int
    type: RegisterType
    line: int
    quantity: str | None = None
    channel: str = ""
    bit: int = 0
    word_order: Order = Order.HIGH_FIRST
    byte_order: Order = Order.HIGH_FIRST
    scale: float = 1.0
    offset: float = 0.0
    unit: str = "1"
    ratio: Fraction = Fraction(1)
    shift: float = 0.0
    low: float = -math.inf
    high: float = math.inf
    noise_below_zero: float = 0.0
    sentinels: Mapping[float, str] = field(default_factory=dict)
    texts: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    spoils: tuple[Spoil, ...] = ()
    counter: Counter | None = None
    write: Write | None = None
    name_zh: str = ""
    name_en: str = ""
    evidence: str = ""

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.address + self.count

    @property
    def is_numeric(self) -> bool:
        """Whether it has a number; text has none."""
        return self.type is not RegisterType.STRING

    @property
    def reading_unit(self) -> str:
        """The unit of what is read: the quantity's own, or the device's where there is none."""
        return QUANTITIES[self.quantity].unit if self.quantity else self.unit

    def reading(self, raw: float) -> float:
        """Return the raw number in the reading's unit."""
        return raw * self.ratio.numerator / self.ratio.denominator + self.shift

    def raw(self, reading: float) -> float:
        """Return the raw number, not yet rounded, that stands for *reading*."""
        return (reading - self.shift) * self.ratio.denominator / self.ratio.numerator


@dataclass(frozen=True, slots=True)
class Block:
    """Points of one function code with one poll interval.

    *interval_s* is None where the site file decides.  *span* (first, last) is a range that must be
    read as one request and no other way.  Without *polled* it is read only when a person asks:
    settings, identity, set-points.
    """

    function: int
    points: tuple[Point, ...]
    interval_s: float | None = None
    span: tuple[int, int] | None = None
    polled: bool = True


@dataclass(frozen=True, slots=True)
class Source:
    """Where the facts come from: *evidence* is V, V2, C or M, or several joined by ``+``."""

    text: str
    evidence: str
    url: str = ""


@dataclass(frozen=True)
class Profile:
    """A kind of device, checked.

    *unit* is the unit id it leaves the factory with.  *caveats* are (zh, en) sentences a person
    must read before trusting it.
    """

    name: str
    file: str
    maker: str
    model: str
    name_zh: str
    name_en: str
    blocks: tuple[Block, ...]
    limits: Limits
    sources: tuple[Source, ...]
    line: Line | None = None
    unit: int = 1
    caveats: tuple[tuple[str, str], ...] = ()

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """All points, in the order of the file."""
        return tuple(point for block in self.blocks for point in block.points)

    def point(self, key: str) -> Point:
        """Return the point named *key*; raise KeyError if there is none."""
        for point in self.points:
            if point.key == key:
                return point
        raise KeyError(key)

    def series(self) -> Iterator[Point]:
        """Yield the points that feed a series."""
        return (
            point
            for block in self.blocks
            for point in block.points
            if block.polled and point.quantity is not None
        )

    def guards(self, key: str) -> tuple[Point, ...]:
        """Return the status points whose state decides whether *key* can be believed."""
        return tuple(
            point
            for point in self._status_points
            if any(key in spoil.points for spoil in point.spoils)
        )

    @cached_property
    def _status_points(self) -> tuple[Point, ...]:
        return tuple(point for point in self.points if point.spoils)


def read_profile(text: str, file: str) -> Profile:
    """Check *text* and return the profile; raise `DocumentError` with every mistake in it."""
    return _Reader(load(text, file)).read()


# ---- the shape of the file ------------------------------------------------------------------


def _number(value: object) -> object:
    """Take ``0x07D0`` for the number it is; YAML 1.2 as we read it keeps it a word."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?0[xX][0-9a-fA-F]+", value):
        return int(value, 16)
    return value


def _raw(text: object) -> float:
    """Read the key of a mapping of raw values: decimal, hexadecimal, or a float."""
    if isinstance(text, str) and re.fullmatch(r"[-+]?0[xX][0-9a-fA-F]+", text):
        return float(int(text, 16))
    try:
        value = float(str(text))
    except ValueError:
        raise ValueError("raw register values such as 32767 or 0x7FFF as keys") from None
    if not math.isfinite(value):
        raise ValueError("finite raw values; NaN is always taken as no reading")
    return value


def _raw_keys(value: object) -> object:
    return {_raw(key): text for key, text in value.items()} if isinstance(value, dict) else value


def _duration(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError("a duration with its unit, such as 50ms, 10s, 5min")
    seconds = parse_duration_s(value)
    if seconds <= 0:
        raise ValueError("a duration longer than nothing")
    return seconds


def _word(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,62}", value):
        raise ValueError("lower-case letters, digits, - _ and ., at most 63")
    return value


def _channel(value: object) -> object:
    """Let a channel be written as a number; a point would end the series' code."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str) and not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", text):
        raise ValueError("lower-case letters, digits, - and _, at most 63")
    return text


def _evidence(value: str) -> str:
    if not re.fullmatch(r"(V2?|C|M)(\+(V2?|C|M))*", value):
        raise ValueError("V (official text), V2 (third party), C (computed), M (memory), or V2+C")
    return value


Int = Annotated[int, BeforeValidator(_number)]
Address = Annotated[int, BeforeValidator(_number), Field(ge=0, le=ADDRESSES)]
Duration = Annotated[float, BeforeValidator(_duration)]
Word = Annotated[str, AfterValidator(_word)]
Channel = Annotated[str, BeforeValidator(_channel)]
Evidence = Annotated[str, AfterValidator(_evidence)]
RawTexts = Annotated[dict[float, str], BeforeValidator(_raw_keys)]


class Entry(BaseModel):
    """Base of all parts of the file: unknown keys are mistakes, words are not numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Names(Entry):
    """A text in both languages of the screen."""

    zh: str = ""
    en: str = ""


class SourceEntry(Entry):
    """Where the facts were read."""

    text: str = Field(min_length=1)
    evidence: Evidence
    url: str = ""


class LineEntry(Entry):
    """Serial settings and unit id as the device leaves the factory."""

    baud: int = Field(ge=300, le=1_000_000)
    data_bits: Literal[7, 8] = 8
    parity: Annotated[Parity, Field(strict=False)] = Parity.NONE
    stop_bits: Literal[1, 2] = 1
    unit: Int = Field(default=1, ge=1, le=254)


class IllegalEntry(Entry):
    """Addresses that must never be read with one function code."""

    function: Literal[1, 2, 3, 4]
    first: Address
    last: Address


class LimitsEntry(Entry):
    """What the device puts up with."""

    max_registers: int = Field(default=MAX_REGISTERS, ge=1, le=MAX_REGISTERS)
    max_bits: int = Field(default=MAX_BITS, ge=1, le=MAX_BITS)
    gap: int = Field(default=0, ge=0, le=MAX_BITS)
    illegal: list[Any] = []
    pause: Duration | None = None
    timeout: Duration | None = None
    response: Duration = 0.1


class SpoilEntry(Entry):
    """One way in which a status register spoils other points."""

    points: list[str] = Field(min_length=1)
    quality: Literal["device_fault", "missing", "calibration", "maintenance", "sensor_range"] = (
        "device_fault"
    )
    bits: list[Annotated[int, Field(ge=0, le=63)]] | None = None
    values: list[Int] | None = None
    except_values: list[Int] | None = None


class CounterEntry(Entry):
    """How a running total wraps; without *wraps_at* as its type does."""

    wraps_at: Int | None = Field(default=None, ge=2)
    never_wraps: bool = False
    most_per_second: float | None = Field(default=None, gt=0)


class WriteEntry(Entry):
    """How a point may be written."""

    function: Literal[5, 6, 15, 16]
    low: float
    high: float
    kind: Literal["set_point", "calibration", "relay", "setting"]


class PointEntry(Entry):
    """One value."""

    address: Address
    type: Annotated[RegisterType, Field(strict=False)] | None = None
    key: Word | None = None
    quantity: str | None = None
    channel: Channel | None = None
    bit: int | None = Field(default=None, ge=0, le=15)
    length: int | None = Field(default=None, ge=1, le=MAX_REGISTERS)
    word_order: Annotated[Order, Field(strict=False)] | None = None
    byte_order: Annotated[Order, Field(strict=False)] | None = None
    scale: float = 1.0
    offset: float = 0.0
    unit: str | None = None
    range: list[float] | None = Field(default=None, min_length=2, max_length=2)
    noise_below_zero: float = Field(default=0.0, ge=0)
    sentinels: RawTexts = {}
    texts: Annotated[dict[float, Any], BeforeValidator(_raw_keys)] = {}
    spoils: list[Any] = []
    counter: CounterEntry | None = None
    write: WriteEntry | None = None
    name: Names = Names()
    evidence: Evidence | None = None


class BlockEntry(Entry):
    """Registers of one function code with one poll interval."""

    function: Literal[1, 2, 3, 4]
    every: Duration | None = None
    read: list[Address] | None = Field(default=None, min_length=2, max_length=2)
    poll: bool = True
    points: list[Any] = Field(min_length=1)


class ProfileDocument(Entry):
    """The whole file; its parts are validated each at its own place."""

    profile: Word
    protocol: Literal["modbus"]
    maker: str = Field(min_length=1)
    model: str = Field(min_length=1)
    name: Names
    sources: list[Any] = Field(min_length=1)
    blocks: list[Any] = Field(min_length=1)
    address_base: Literal[0, 1] = 0
    word_order: Annotated[Order, Field(strict=False)] = Order.HIGH_FIRST
    byte_order: Annotated[Order, Field(strict=False)] = Order.HIGH_FIRST
    line: LineEntry | None = None
    limits: Any = None
    caveats: list[Any] = []


# ---- what the parts say about each other ----------------------------------------------------

Part = TypeVar("Part", bound=BaseModel)
_SPOILED_BY = {
    "device_fault": Quality.DEVICE_FAULT,
    "missing": Quality.MISSING,
    "calibration": Quality.CALIBRATION,
    "maintenance": Quality.MAINTENANCE,
    "sensor_range": Quality.SENSOR_RANGE,
}
_WRITES = {COILS: (5, 15), HOLDING: (6, 16)}
_BIT_FUNCTIONS = (COILS, DISCRETE_INPUTS)


@dataclass(frozen=True, slots=True)
class _Unit:
    """A device's unit with the line that leads to the quantity's own."""

    name: str
    factor: Fraction = Fraction(1)
    offset: float = 0.0

    def reading(self, value: float) -> float:
        return float(Fraction(repr(float(value))) * self.factor) + self.offset


class _Reader:
    """Turns the document into a `Profile`, collecting every mistake on the way."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._mistakes: list[Mistake] = []
        self._located: list[tuple[Path, Point]] = []

    def read(self) -> Profile:
        entry = self._part((), ProfileDocument)
        if entry is None:
            raise DocumentError(self._mistakes)
        self._base = entry.address_base
        self._orders = (entry.word_order, entry.byte_order)
        limits = self._limits(entry)
        sources = tuple(
            Source(found.text, found.evidence, found.url)
            for index in range(len(entry.sources))
            if (found := self._part(("sources", index), SourceEntry))
        )
        caveats = tuple(
            (caveat.zh, caveat.en)
            for index in range(len(entry.caveats))
            if (caveat := self._part(("caveats", index), Names))
        )
        blocks = tuple(
            block
            for index in range(len(entry.blocks))
            if (block := self._block(("blocks", index), limits))
        )
        self._check_keys()
        self._check_overlaps()
        if self._mistakes:
            raise DocumentError(self._mistakes)
        line = entry.line
        return Profile(
            name=entry.profile,
            file=self._document.file,
            maker=entry.maker,
            model=entry.model,
            name_zh=entry.name.zh,
            name_en=entry.name.en,
            blocks=blocks,
            limits=limits,
            sources=sources,
            line=Line(line.baud, line.data_bits, line.parity, line.stop_bits) if line else None,
            unit=line.unit if line else 1,
            caveats=caveats,
        )

    def _part(self, path: Path, model: type[Part]) -> Part | None:
        return validate_part(self._document, path, model, self._mistakes)

    def _wrong(self, path: Path, got: object, expected: str, hint: str = "") -> None:
        self._mistakes.append(self._document.mistake(path, got, expected, hint))

    def _limits(self, document: ProfileDocument) -> Limits:
        entry = self._part(("limits",), LimitsEntry) if document.limits is not None else None
        if entry is None:
            return Limits()
        illegal: dict[int, tuple[tuple[int, int], ...]] = {}
        for index in range(len(entry.illegal)):
            path: Path = ("limits", "illegal", index)
            found = self._part(path, IllegalEntry)
            if found is None:
                continue
            if found.last < found.first:
                self._wrong((*path, "last"), found.last, f"at least {found.first}")
                continue
            first, last = found.first - self._base, found.last - self._base
            illegal[found.function] = (*illegal.get(found.function, ()), (first, last))
        return Limits(
            max_registers=entry.max_registers,
            max_bits=entry.max_bits,
            gap=entry.gap,
            illegal={function: tuple(sorted(ranges)) for function, ranges in illegal.items()},
            pause_s=entry.pause or 0.0,
            timeout_s=entry.timeout,
            response_s=entry.response,
        )

    def _block(self, path: Path, limits: Limits) -> Block | None:
        entry = self._part(path, BlockEntry)
        if entry is None:
            return None
        points = tuple(
            found
            for index in range(len(entry.points))
            if (found := self._point((*path, "points", index), entry.function, limits))
        )
        span = self._span(entry, path, points, limits)
        if not entry.poll:
            for place, point in self._located:
                if point.spoils and point in points:
                    expected = "a block that is polled: what guards must be read"
                    self._wrong((*place, "spoils"), point.key, expected)
        return Block(entry.function, points, entry.every, span, entry.poll)

    def _span(
        self, entry: BlockEntry, path: Path, points: tuple[Point, ...], limits: Limits
    ) -> tuple[int, int] | None:
        if entry.read is None:
            return None
        path = (*path, "read")
        first, last = (address - self._base for address in entry.read)
        if not 0 <= last - first < limits.most(entry.function):
            most = limits.most(entry.function)
            self._wrong(path, entry.read, f"first and last address of at most {most} registers")
            return None
        for point in points:
            if point.address < first or point.end > last + 1:
                self._wrong(path, entry.read, f"a range that holds {point.key} (line {point.line})")
        if _meets(limits, entry.function, first, last + 1):
            self._wrong(path, entry.read, "a range without illegal addresses")
        return first, last

    def _point(self, path: Path, function: int, limits: Limits) -> Point | None:
        entry = self._part(path, PointEntry)
        if entry is None:
            return None
        kind = self._type(entry, path, function)
        if kind is None:
            return None
        key = entry.key or _default_key(entry)
        if not key:
            self._wrong((*path, "key"), "nothing", "a key, or the quantity that is measured")
            return None
        count = _count(kind, entry)
        address = entry.address - self._base
        self._check_place(path, entry, function, count, limits)
        if entry.scale == 0:
            self._wrong((*path, "scale"), entry.scale, "a scale other than 0")
            return None
        unit = self._unit(path, entry)
        low, high = self._range(path, entry, unit)
        words, octets = entry.word_order or self._orders[0], entry.byte_order or self._orders[1]
        point = Point(
            key=key,
            function=function,
            address=address,
            count=count,
            type=kind,
            line=self._document.place(path).line,
            quantity=entry.quantity if entry.quantity in QUANTITIES else None,
            channel=entry.channel or "",
            bit=entry.bit or 0,
            word_order=words,
            byte_order=octets,
            scale=entry.scale,
            offset=entry.offset,
            unit=unit.name,
            ratio=Fraction(repr(entry.scale)) * unit.factor,
            shift=unit.reading(entry.offset),
            low=low,
            high=high,
            noise_below_zero=float(Fraction(repr(entry.noise_below_zero)) * unit.factor),
            sentinels=self._sentinels(path, entry, kind),
            texts=self._texts(path, entry),
            spoils=self._spoils(path, entry, kind),
            counter=self._counter(path, entry, kind),
            write=self._write(path, entry, function, unit),
            name_zh=entry.name.zh,
            name_en=entry.name.en,
            evidence=entry.evidence or "",
        )
        self._located.append((path, point))
        return point

    def _type(self, entry: PointEntry, path: Path, function: int) -> RegisterType | None:
        if function in _BIT_FUNCTIONS:
            if entry.type not in (None, RegisterType.BIT) or entry.bit is not None:
                self._wrong((*path, "type"), str(entry.type), "no type: coils and inputs are bits")
                return None
            return RegisterType.BIT
        if entry.type is None:
            self._wrong((*path, "type"), "nothing", "one of " + ", ".join(RegisterType))
            return None
        if (entry.type is RegisterType.BIT) != (entry.bit is not None):
            self._wrong((*path, "bit"), entry.bit, "bit: 0..15 together with type: bit")
        if (entry.type is RegisterType.STRING) != (entry.length is not None):
            self._wrong((*path, "length"), entry.length, "length in registers with type: string")
            return None
        return entry.type

    def _check_place(
        self, path: Path, entry: PointEntry, function: int, count: int, limits: Limits
    ) -> None:
        path = (*path, "address")
        address = entry.address - self._base
        last = ADDRESSES - 1 + self._base
        if address < 0 or address + count > ADDRESSES:
            expected = f"{self._base}..{last}, with all {count} register(s) of the value inside"
            self._wrong(path, entry.address, expected)
        if count > limits.most(function):
            self._wrong(path, count, f"at most {limits.most(function)} registers in one read")
        if _meets(limits, function, address, address + count):
            self._wrong(path, entry.address, "an address outside of limits.illegal")

    def _unit(self, path: Path, entry: PointEntry) -> _Unit:
        """Return the device's unit and the line from it to the quantity's own."""
        if entry.quantity is None:
            return _Unit(entry.unit or "1")
        if entry.quantity not in QUANTITIES:
            expected = "a quantity of the vocabulary (greenhouse quantities lists them)"
            hint = nearest(entry.quantity, QUANTITIES)
            self._wrong((*path, "quantity"), entry.quantity, expected, hint)
            return _Unit(entry.unit or "1")
        target = QUANTITIES[entry.quantity].unit
        unit = entry.unit or target
        try:
            line = conversion(unit, target)
        except UnitError as error:
            self._wrong((*path, "unit"), unit, f"a unit like {target}: {error}")
            return _Unit(unit)
        return _Unit(unit, Fraction(repr(line.scale)).limit_denominator(10**12), line.offset)

    def _range(self, path: Path, entry: PointEntry, unit: _Unit) -> tuple[float, float]:
        if entry.range is None:
            return -math.inf, math.inf
        low, high = entry.range
        if low >= high:
            self._wrong((*path, "range"), entry.range, "the lower end first")
        return unit.reading(low), unit.reading(high)

    def _sentinels(self, path: Path, entry: PointEntry, kind: RegisterType) -> dict[float, str]:
        """Return the sentinels as the decoder meets them: signed types as signed numbers."""
        out: dict[float, str] = {}
        for raw, text in entry.sentinels.items():
            value = raw
            if not kind.is_float:
                if kind.is_signed and 2 ** (kind.bits - 1) <= raw < 2**kind.bits:
                    value = raw - 2.0**kind.bits
                low = -(2.0 ** (kind.bits - 1)) if kind.is_signed else 0.0
                high = 2.0 ** (kind.bits - kind.is_signed)
                if not low <= value < high or value != int(value):
                    self._wrong((*path, "sentinels"), raw, f"raw values that {kind} can hold")
                    continue
            out[value] = text
        return out

    def _texts(self, path: Path, entry: PointEntry) -> dict[int, tuple[str, str]]:
        out: dict[int, tuple[str, str]] = {}
        for raw, text in entry.texts.items():
            if raw != int(raw):
                self._wrong((*path, "texts"), raw, "whole numbers as keys")
            elif isinstance(text, str):
                out[int(raw)] = (text, text)
            elif (
                isinstance(text, dict)
                and set(text) <= {"zh", "en"}
                and all(isinstance(part, str) for part in text.values())
            ):
                zh, en = text.get("zh", ""), text.get("en", "")
                out[int(raw)] = (zh or en, en or zh)
            else:
                self._wrong((*path, "texts"), text, "a text, or {zh: ..., en: ...}")
        return out

    def _spoils(self, path: Path, entry: PointEntry, kind: RegisterType) -> tuple[Spoil, ...]:
        found: list[Spoil] = []
        for index in range(len(entry.spoils)):
            place = (*path, "spoils", index)
            part = self._part(place, SpoilEntry)
            if part is None:
                continue
            given = [part.bits, part.values, part.except_values]
            if sum(bool(one) for one in given) != 1:
                self._wrong(place, "none or several", "one of bits, values, except_values")
                continue
            if kind.is_float or kind is RegisterType.STRING:
                self._wrong(place, kind.value, "a status of a whole-number type or bit")
            found.append(
                Spoil(
                    tuple(part.points),
                    _SPOILED_BY[part.quality],
                    tuple(part.bits or ()),
                    tuple(part.values or ()),
                    tuple(part.except_values or ()),
                )
            )
        return tuple(found)

    def _counter(self, path: Path, entry: PointEntry, kind: RegisterType) -> Counter | None:
        quantity = QUANTITIES.get(entry.quantity or "")
        if entry.counter is None:
            if quantity is not None and quantity.counter:
                expected = f"a counter section, because {quantity.name} is a running total"
                self._wrong((*path, "counter"), "nothing", expected)
            return None
        if quantity is not None and not quantity.counter:
            self._wrong((*path, "counter"), quantity.name, "a quantity that is a running total")
        wraps_at = entry.counter.wraps_at
        if entry.counter.never_wraps:
            if wraps_at is not None:
                self._wrong((*path, "counter"), wraps_at, "wraps_at or never_wraps, not both")
            return Counter(None, entry.counter.most_per_second)
        if wraps_at is None:
            if kind.is_float:
                self._wrong((*path, "counter"), "nothing", "wraps_at or never_wraps: true")
                return None
            digits = kind.bits // 4
            wraps_at = 10**digits if kind.is_bcd else 2 ** (kind.bits - kind.is_signed)
        return Counter(wraps_at, entry.counter.most_per_second)

    def _write(self, path: Path, entry: PointEntry, function: int, unit: _Unit) -> Write | None:
        write = entry.write
        if write is None:
            return None
        place = (*path, "write")
        if write.function not in _WRITES.get(function, ()):
            may = _WRITES.get(function)
            expected = f"one of {may[0]}, {may[1]}" if may else "a block of function 1 or 3"
            self._wrong((*place, "function"), write.function, expected)
        if write.low >= write.high:
            self._wrong((*place, "low"), write.low, f"less than high ({write.high:g})")
        if entry.type in (RegisterType.STRING, RegisterType.BIT) and function == HOLDING:
            self._wrong(place, str(entry.type), "a number that fills its registers")
        if str(entry.type).endswith(("_high", "_low")):
            self._wrong(place, str(entry.type), "a number that fills its registers")
        low, high = unit.reading(write.low), unit.reading(write.high)
        return Write(write.function, low, high, write.kind)

    def _check_keys(self) -> None:
        seen: dict[str, Point] = {}
        for path, point in self._located:
            if point.key in seen:
                first = seen[point.key].line
                self._wrong((*path, "key"), point.key, f"a key of its own (line {first} has it)")
            seen.setdefault(point.key, point)
        for path, point in self._located:
            for index, spoil in enumerate(point.spoils):
                for key in spoil.points:
                    if key not in seen or key == point.key:
                        hint = nearest(key, seen)
                        place = (*path, "spoils", index, "points")
                        self._wrong(place, key, "keys of other points", hint)

    def _check_overlaps(self) -> None:
        """Two values on one register are a slip of the pen, unless they are parts of it."""
        taken: dict[tuple[int, int, int], Point] = {}
        for path, point in self._located:
            for cell in _cells(point):
                other = taken.setdefault(cell, point)
                if other is not point:
                    expected = f"registers that {other.key} (line {other.line}) does not use"
                    self._wrong((*path, "address"), point.key, expected)
                    break


def _default_key(entry: PointEntry) -> str:
    if entry.quantity is None:
        return ""
    return f"{entry.quantity}.{entry.channel}" if entry.channel else entry.quantity


def _count(kind: RegisterType, entry: PointEntry) -> int:
    if kind is RegisterType.STRING:
        return entry.length or 1
    return max(1, kind.bits // 16)


def _meets(limits: Limits, function: int, start: int, end: int) -> bool:
    return any(first < end and start <= last for first, last in limits.illegal.get(function, ()))


def _cells(point: Point) -> Iterator[tuple[int, int, int]]:
    """Yield (function, address, bit) for every bit of a register that the point reads."""
    if point.function in _BIT_FUNCTIONS:
        yield point.function, point.address, 0
        return
    if point.type is RegisterType.BIT:
        bits = range(point.bit, point.bit + 1)
    elif point.type in (RegisterType.UINT8_HIGH, RegisterType.INT8_HIGH):
        bits = range(8, 16)
    elif point.type in (RegisterType.UINT8_LOW, RegisterType.INT8_LOW):
        bits = range(8)
    else:
        bits = range(16)
    for address in range(point.address, point.end):
        for bit in bits:
            yield point.function, address, bit


def profile_schema() -> dict[str, Any]:
    """Return the JSON schema of the file's outer shape, for editors."""
    return ProfileDocument.model_json_schema()
