"""What a poll of a register device brought, as bytes, and how a profile makes samples of it.

A poll travels like any other payload: the raw registers with the requests that brought them, each
with the time of its reply, or with the reason why there is none.  Decoding happens later and can
be done again after the profile is mended, because nothing of the profile is in the bytes.

Values come out in the quantity's own unit.  A whole read is decoded at once: the bytes of all
points of one type are gathered into one array, viewed as numbers, scaled and judged together.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from devices.codecs.sample import Block, Sample
from devices.errors import DecodeError
from devices.profile import COILS, DISCRETE_INPUTS, Order, Point, Profile, RegisterType, Spoil
from devices.quality import Quality

ByteArray = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]

FORMAT = "modbus/1"
_BIT_FUNCTIONS = (COILS, DISCRETE_INPUTS)
_MAX_DECODERS = 256


class Read(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One request and what came of it.

    *at_us* is when the reply was complete (or when waiting for it ended), microseconds since 1970
    UTC.  *data* holds *count* registers as they came, high byte first, or coils packed eight to a
    byte from the lowest bit; it is empty when *error* (a stable code, ``E-MB-TIMEOUT``) is not, and
    then *text* says in one sentence what happened.
    """

    function: int
    address: int
    count: int
    at_us: int
    data: bytes = b""
    error: str = ""
    text: str = ""


class Poll(msgspec.Struct, frozen=True, gc=False):
    """All that one turn at one device brought; *unit* is the id it was asked under.

    *keys* names the points that the device has series for, where those are not all that the profile
    has; a read across others brings them too, and they are not to become readings.
    """

    bus: str
    unit: int
    reads: tuple[Read, ...]
    keys: tuple[str, ...] = ()
    format: str = FORMAT


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Poll).decode


def encode_poll(poll: Poll) -> bytes:
    """Return *poll* as bytes (MessagePack), for the spool."""
    return _encode(poll)


def decode_poll(payload: bytes) -> Poll:
    """Return what `encode_poll` wrote; raise `DecodeError` if *payload* is something else."""
    try:
        poll = _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError("E-MB-PAYLOAD", f"not a poll: {error}") from error
    if poll.format != FORMAT:
        raise DecodeError("E-MB-PAYLOAD", f"poll format: got {poll.format!r}, expected {FORMAT!r}")
    for read in poll.reads:
        if not read.error and len(read.data) != data_bytes(read.function, read.count):
            expected = data_bytes(read.function, read.count)
            raise DecodeError(
                "E-MB-PAYLOAD",
                f"{read.count} from {read.address} by function {read.function}: "
                f"got {len(read.data)} bytes, expected {expected}",
            )
    return poll


def data_bytes(function: int, count: int) -> int:
    """Return how many bytes *count* registers (bits, for functions 1 and 2) take in a reply."""
    return (count + 7) // 8 if function in _BIT_FUNCTIONS else 2 * count


# ---- one read -> columns --------------------------------------------------------------------

_DTYPES = {
    RegisterType.UINT8_HIGH: ">u1",
    RegisterType.UINT8_LOW: ">u1",
    RegisterType.INT8_HIGH: ">i1",
    RegisterType.INT8_LOW: ">i1",
    RegisterType.UINT16: ">u2",
    RegisterType.INT16: ">i2",
    RegisterType.UINT32: ">u4",
    RegisterType.INT32: ">i4",
    RegisterType.UINT64: ">u8",
    RegisterType.INT64: ">i8",
    RegisterType.FLOAT16: ">f2",
    RegisterType.FLOAT32: ">f4",
    RegisterType.FLOAT64: ">f8",
    RegisterType.BCD16: ">u2",
    RegisterType.BCD32: ">u4",
    RegisterType.BIT: ">u2",
}


def byte_order(point: Point, start: int) -> list[int]:
    """Return which bytes of a read that began at address *start* are the point's, highest first."""
    words = list(range(point.count))
    if point.word_order is Order.LOW_FIRST:
        words.reverse()
    offset = 2 * (point.address - start)
    pair = (0, 1) if point.byte_order is Order.HIGH_FIRST else (1, 0)
    order = [offset + 2 * word + octet for word in words for octet in pair]
    if point.type in (RegisterType.UINT8_HIGH, RegisterType.INT8_HIGH):
        return order[:1]
    if point.type in (RegisterType.UINT8_LOW, RegisterType.INT8_LOW):
        return order[1:]
    return order


@dataclass(frozen=True, slots=True)
class _Group:
    """Points of one type: where they go, and which bytes they are made of."""

    columns: npt.NDArray[np.intp]
    gather: npt.NDArray[np.intp]
    dtype: str
    digits: int
    bit: npt.NDArray[np.uint16] | None


class ReadDecoder:
    """Decodes every read of one range under one set of points.

    *points* must lie wholly inside ``address .. address + count - 1`` and be numeric.  The columns
    of what it returns are *points*, in order.
    """

    def __init__(self, points: Sequence[Point], address: int, count: int) -> None:
        self.points = tuple(points)
        self.keys = tuple(point.key for point in points)
        self._address, self._count = address, count
        self._bits = bool(points) and points[0].function in _BIT_FUNCTIONS
        self._groups = list(self._grouped())
        self._whole = _plain_run(self._groups)
        ratios = [point.ratio for point in points]
        # What does nothing for any point is left out: most devices need one division.
        self._times = _unless(1.0, [float(ratio.numerator) for ratio in ratios])
        self._over = _unless(1.0, [float(ratio.denominator) for ratio in ratios])
        self._shift = _unless(0.0, [point.shift for point in points])
        self._low = _unless(-math.inf, [point.low for point in points])
        self._high = _unless(math.inf, [point.high for point in points])
        self._noise = _unless(0.0, [-point.noise_below_zero for point in points])
        self._has_floats = any(point.type.is_float for point in points)
        self._may_be_no_number = self._has_floats or any(point.type.is_bcd for point in points)
        self._sentinels = [
            (column, _as_type(sorted(point.sentinels), point.type))
            for column, point in enumerate(points)
            if point.sentinels
        ]

    def raw(self, data: ByteArray) -> FloatArray:
        """Return the raw numbers, float64 (n, points), of *data*, uint8 (n, bytes).

        NaN stands for a decimal digit above nine and for a float that is not a number.
        """
        if self._whole is not None:
            start, end, dtype = self._whole
            return np.ascontiguousarray(data[:, start:end]).view(dtype).astype(np.float64)
        out = np.empty((len(data), len(self.points)))
        if self._bits:
            bits = np.unpackbits(data, axis=1, bitorder="little")
            out[:] = bits[:, [point.address - self._address for point in self.points]]
            return out
        for group in self._groups:
            taken = np.ascontiguousarray(data[:, group.gather]).view(group.dtype)
            if group.bit is not None:
                out[:, group.columns] = (taken >> group.bit) & 1
            elif group.digits:
                out[:, group.columns] = _decimal(taken, group.digits)
            else:
                out[:, group.columns] = taken
        return out

    def judge(self, raw: FloatArray) -> tuple[FloatArray, IntArray]:
        """Return values in the reading's unit, float64, and quality bits, int32, both like *raw*.

        A sentinel, a number that is none and a wrong decimal digit become NaN; a value outside of
        the sensor's range is kept and marked.
        """
        value = raw if self._times is None else raw * self._times
        if self._over is not None:
            value = value / self._over
        if self._shift is not None:
            value = value + self._shift
        value = value.copy() if value is raw else value
        quality = np.zeros(raw.shape, np.int32)
        if self._noise is not None:
            value[(value < 0) & (value >= self._noise)] = 0.0
        if self._low is not None:
            quality[value < self._low] = Quality.SENSOR_RANGE
        if self._high is not None:
            quality[value > self._high] = Quality.SENSOR_RANGE
        if self._may_be_no_number and not (finite := np.isfinite(raw)).all():
            quality[np.isnan(raw)] = Quality.MISSING
            quality[np.isinf(raw)] = Quality.SENTINEL
            value[~finite] = np.nan
        for column, codes in self._sentinels:
            hit = np.isin(raw[:, column], codes)
            if hit.any():
                quality[hit, column] = Quality.SENTINEL
                value[hit, column] = np.nan
        return value, quality

    def decode(self, data: bytes) -> tuple[FloatArray, FloatArray, IntArray]:
        """Return (raw, value, quality) of one read, each (points,)."""
        raw, value, quality = self._decode(np.frombuffer(data, np.uint8)[np.newaxis])
        return raw[0], value[0], quality[0]

    def rows(self, data: Sequence[bytes]) -> tuple[FloatArray, IntArray]:
        """Return (value, quality) of many reads of the range, each (len(data), points)."""
        octets = np.frombuffer(b"".join(data), np.uint8)
        _, value, quality = self._decode(octets.reshape(len(data), -1))
        return value, quality

    def _decode(self, data: ByteArray) -> tuple[FloatArray, FloatArray, IntArray]:
        if not self._has_floats:
            raw = self.raw(data)
            return raw, *self.judge(raw)
        # A device may send any bits: a signalling NaN, or a number that its unit cannot hold.
        with np.errstate(invalid="ignore", over="ignore"):
            raw = self.raw(data)
            return raw, *self.judge(raw)

    def _grouped(self) -> Iterable[_Group]:
        columns: dict[tuple[str, int, bool], list[int]] = defaultdict(list)
        if self._bits:
            return
        for column, point in enumerate(self.points):
            digits = point.type.bits // 4 if point.type.is_bcd else 0
            is_bit = point.type is RegisterType.BIT
            columns[_DTYPES[point.type], digits, is_bit].append(column)
        for (dtype, digits, is_bit), chosen in columns.items():
            points = [self.points[column] for column in chosen]
            gather = [octet for point in points for octet in byte_order(point, self._address)]
            yield _Group(
                np.array(chosen, np.intp),
                np.array(gather, np.intp),
                dtype,
                digits,
                np.array([point.bit for point in points], np.uint16) if is_bit else None,
            )


def _unless(neutral: float, numbers: Sequence[float]) -> FloatArray | None:
    """Return *numbers* as an array, None if all are *neutral*."""
    return None if all(number == neutral for number in numbers) else np.array(numbers)


def _plain_run(groups: Sequence[_Group]) -> tuple[int, int, str] | None:
    """Return (first byte, end, type) if the points are one run of neighbours of one type."""
    if len(groups) != 1:
        return None
    group = groups[0]
    start = int(group.gather[0])
    in_order = np.array_equal(group.gather, np.arange(start, start + len(group.gather)))
    if not in_order or group.digits or group.bit is not None:
        return None
    return start, start + len(group.gather), group.dtype


def _as_type(codes: Sequence[float], kind: RegisterType) -> FloatArray:
    """Return error codes as they look after a trip through the register: -999.9 in 32 bits."""
    if kind.is_float:
        return np.array(codes).astype(_DTYPES[kind]).astype(np.float64)
    return np.array(codes)


def _decimal(words: npt.NDArray[Any], digits: int) -> FloatArray:
    """Read binary-coded decimals; a digit above nine makes the number NaN."""
    value = np.zeros(words.shape)
    wrong = np.zeros(words.shape, bool)
    for place in range(digits):
        digit = (words >> np.array(4 * place, words.dtype)) & np.array(15, words.dtype)
        wrong |= digit > 9
        value += digit * 10.0**place
    value[wrong] = np.nan
    return value


def read_text(point: Point, data: bytes, start: int) -> str:
    """Return the text of a string point in a read that began at *start*; unknown bytes as ``?``."""
    taken = bytes(data[index] for index in byte_order(point, start))
    text = taken.split(b"\0")[0].decode("ascii", "replace")
    return "".join(c if c.isprintable() and c != "\ufffd" else "?" for c in text).strip()


# ---- a value -> registers -------------------------------------------------------------------


def encode_value(point: Point, reading: float) -> tuple[int, ...]:
    """Return the registers (or the coil, 0 or 1) that hold *reading*, in the reading's unit.

    The number is rounded to what the registers can say.  Raises ValueError if it does not fit, or
    if the point is text or only a part of a register.
    """
    if not math.isfinite(reading):
        raise ValueError(f"{point.key}: {reading} is not a number that can be written")
    raw = point.raw(reading)
    if point.function in _BIT_FUNCTIONS:
        if raw not in (0.0, 1.0):
            raise ValueError(f"{point.key}: {reading:g} is neither 0 nor 1")
        return (int(raw),)
    kind = point.type
    if kind.bits < 16:
        raise ValueError(f"{point.key}: {kind} does not fill its register")
    dtype = np.dtype(_DTYPES[kind])
    if kind.is_float:
        with np.errstate(over="ignore"):
            number = np.array([raw]).astype(dtype)
        if not np.isfinite(number[0]):
            raise ValueError(f"{point.key}: {reading:g} does not fit into {kind}")
    else:
        whole = round(raw)
        if kind.is_bcd:
            most = 10 ** (kind.bits // 4) - 1
            whole = int(str(whole), 16) if 0 <= whole <= most else -1
        limits = np.iinfo(dtype)
        if not limits.min <= whole <= limits.max:
            raise ValueError(f"{point.key}: {reading:g} does not fit into {kind}")
        number = np.array([whole], dtype)
    octets = bytearray(2 * point.count)
    for place, octet in zip(byte_order(point, point.address), number.tobytes(), strict=True):
        octets[place] = octet
    return tuple(octets[at] << 8 | octets[at + 1] for at in range(0, len(octets), 2))


# ---- a poll -> samples ----------------------------------------------------------------------


class RegisterCodec:
    """Decodes polls of devices of one profile; implements `devices.codecs.sample.Codec`.

    Values carry the keys of the profile's points, and only points with a quantity are given.  A
    failed read makes its points None with `Quality.COMMUNICATION`, so that the reason is on record
    and no value is.  A status register that spoils others does so within one poll; where it could
    not be read, what it guards is marked as well: nobody knows whether it can be believed.
    """

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._decoders: dict[tuple[int, int, int], tuple[ReadDecoder, bool]] = {}
        self._columns: dict[tuple[int, int, int, tuple[str, ...]], ReadDecoder] = {}
        self._series = frozenset(point.key for point in profile.series())
        self._spoilers = [point for point in profile.points if point.spoils]

    def decode(self, payload: bytes) -> list[Sample]:
        """Return one sample a reply time and quality; an empty one where nothing feeds a series."""
        poll = decode_poll(payload)
        spoilt = self._spoilt(poll)
        wanted = self._series.intersection(poll.keys) if poll.keys else self._series
        samples: list[Sample] = []
        known = False
        for read in poll.reads:
            decoder, wants_all = self._decoder(read)
            known = known or bool(decoder.points)
            if decoder.points:
                wants_all = wants_all and not poll.keys
                samples += self._samples(read, decoder, wanted, wants_all, spoilt)
        if not known:
            ranges = ", ".join(f"{r.function}:{r.address}+{r.count}" for r in poll.reads) or "none"
            raise DecodeError(
                "E-MB-PROFILE", f"no point of profile {self._profile.name} in reads {ranges}"
            )
        return samples or [Sample(poll.reads[0].at_us, {})]

    def blocks(self, payload: bytes) -> list[Block] | None:
        """Return the reads as blocks, where every one was answered and none spoils another."""
        if self._spoilers:
            return None
        poll = decode_poll(payload)
        blocks = []
        for read in poll.reads:
            if read.error:
                return None
            columns = self._columns_of(read, poll.keys)
            if not columns.keys:
                return None
            blocks.append(Block(columns, read.at_us, read.data))
        return blocks or None

    def _columns_of(self, read: Read, keys: tuple[str, ...]) -> ReadDecoder:
        """Return the decoder of those points in one range that feed series of the device."""
        range_and_keys = (read.function, read.address, read.count, keys)
        if found := self._columns.get(range_and_keys):
            return found
        wanted = self._series.intersection(keys) if keys else self._series
        points = [point for point in self._decoder(read)[0].points if point.key in wanted]
        if len(self._columns) >= _MAX_DECODERS:
            self._columns.clear()
        decoder = ReadDecoder(points, read.address, read.count)
        self._columns[range_and_keys] = decoder
        return decoder

    def _samples(
        self,
        read: Read,
        decoder: ReadDecoder,
        wanted: Set[str],
        wants_all: bool,
        spoilt: Mapping[str, int],
    ) -> Iterable[Sample]:
        if read.error:
            missing = dict.fromkeys(key for key in decoder.keys if key in wanted)
            if missing:
                yield Sample(read.at_us, missing, quality=int(Quality.COMMUNICATION))
            return
        _, value, quality = decoder.decode(read.data)
        if wants_all and not spoilt and not quality.any():
            yield Sample(read.at_us, dict(zip(decoder.keys, value.tolist(), strict=False)))
            return
        grouped: dict[int, dict[str, float | None]] = {}
        for key, number, bits in zip(decoder.keys, value.tolist(), quality.tolist(), strict=True):
            if key not in wanted:
                continue
            if spoilt and key in spoilt:
                bits |= spoilt[key]
                if bits & Quality.MISSING:
                    number = math.nan
            grouped.setdefault(bits, {})[key] = None if math.isnan(number) else number
        for bits, values in grouped.items():
            yield Sample(read.at_us, values, quality=bits)

    def _spoilt(self, poll: Poll) -> dict[str, int]:
        """Return the quality bits that the poll's status registers give to other points."""
        if not self._spoilers:
            return {}
        states: dict[str, float | None] = {}
        for read in poll.reads:
            decoder, _ = self._decoder(read)
            if not any(point.spoils for point in decoder.points):
                continue
            raw = None if read.error else decoder.decode(read.data)[0]
            for column, point in enumerate(decoder.points):
                if point.spoils:
                    states[point.key] = None if raw is None else float(raw[column])
        out: dict[str, int] = {}
        for point in self._spoilers:
            if point.key not in states:
                continue
            state = states[point.key]
            for spoil in point.spoils:
                if bits := _spoils(spoil, state):
                    for key in spoil.points:
                        out[key] = out.get(key, 0) | bits
        return out

    def _decoder(self, read: Read) -> tuple[ReadDecoder, bool]:
        """Return the decoder of one range, and whether all its points feed series.

        A device is asked for the same few ranges for ever.
        """
        key = (read.function, read.address, read.count)
        if found := self._decoders.get(key):
            return found
        points = [
            point
            for point in self._profile.points
            if point.function == read.function
            and point.is_numeric
            and read.address <= point.address
            and point.end <= read.address + read.count
        ]
        if len(self._decoders) >= _MAX_DECODERS:
            self._decoders.clear()
        decoder = ReadDecoder(points, read.address, read.count)
        found = self._decoders[key] = (decoder, self._series.issuperset(decoder.keys))
        return found


def _spoils(spoil: Spoil, state: float | None) -> int:
    """Return the quality bits that *state* (None: not known) gives to what it guards."""
    if state is None or math.isnan(state):
        return int(Quality.COMMUNICATION)
    raw = int(state)
    if spoil.bits:
        hit = any(raw >> bit & 1 for bit in spoil.bits)
    elif spoil.values:
        hit = raw in spoil.values
    else:
        hit = raw not in spoil.except_values
    return int(spoil.quality) if hit else 0
