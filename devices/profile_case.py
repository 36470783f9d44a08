"""Cases of a profile: raw registers and the readings they must become, as one YAML file.

A profile without a case is a guess.  A case is a frame from a maker's manual, an answer captured in
the field, or registers worked out by hand, with what they mean in the quantity's own unit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from devices.codecs.registers import Poll, Read, RegisterCodec, data_bytes, encode_poll
from devices.codecs.sample import Sample
from devices.document import Document, Path, load, validate_part
from devices.errors import DocumentError, Mistake
from devices.profile import COILS, DISCRETE_INPUTS, Address, Entry, Evidence, Int, Profile, Word
from devices.quality import REASONS, Quality


@dataclass(frozen=True, slots=True)
class ProfileCase:
    """One case: *reads* as they came, *readings* and *quality* bits by key as they must be.

    *frames* are (request, reply) as whole RTU frames where the case was written with them.
    """

    name: str
    evidence: str
    line: int
    reads: tuple[Read, ...]
    readings: Mapping[str, float | None]
    quality: Mapping[str, int]
    frames: tuple[tuple[bytes, bytes], ...] = ()


def _hex(value: str) -> str:
    try:
        frame = bytes.fromhex(value)
    except ValueError:
        frame = b""
    if len(frame) < 4:
        raise ValueError("a whole RTU frame in hexadecimal, such as 01 03 00 00 00 02 C4 0B")
    return value


Frame = Annotated[str, AfterValidator(_hex)]


class FrameEntry(Entry):
    """Request and reply as whole RTU frames, CRC included."""

    request: Frame
    reply: Frame


class RegistersEntry(Entry):
    """What a device holds from *address* on; 0 and 1 for coils."""

    function: Literal[1, 2, 3, 4]
    address: Address
    words: list[Annotated[Int, Field(ge=0, le=65_535)]] = Field(min_length=1, max_length=2000)


class CaseEntry(Entry):
    """One case."""

    name: str = Field(min_length=1)
    evidence: Evidence
    frames: list[Any] = Field(default_factory=list)
    registers: list[Any] = Field(default_factory=list)
    readings: dict[str, float | None] = Field(min_length=1)
    quality: dict[str, str | list[str]] = Field(default_factory=dict)


class CaseDocument(Entry):
    """The whole file."""

    profile: Word
    cases: list[Any] = Field(min_length=1)


_BITS = {reason.name: int(reason.bit) for reason in REASONS}


def read_cases(text: str, file: str) -> tuple[str, tuple[ProfileCase, ...]]:
    """Return (name of the profile, its cases); raise `DocumentError` with every mistake."""
    document = load(text, file)
    mistakes: list[Mistake] = []
    entry = validate_part(document, (), CaseDocument, mistakes)
    if entry is None:
        raise DocumentError(mistakes)
    found = [_case(document, ("cases", index), mistakes) for index in range(len(entry.cases))]
    if mistakes:
        raise DocumentError(mistakes)
    return entry.profile, tuple(case for case in found if case)


def _case(document: Document, path: Path, mistakes: list[Mistake]) -> ProfileCase | None:
    entry = validate_part(document, path, CaseEntry, mistakes)
    if entry is None:
        return None
    reads: list[Read] = []
    frames: list[tuple[bytes, bytes]] = []
    for index in range(len(entry.frames)):
        place: Path = (*path, "frames", index)
        if frame := validate_part(document, place, FrameEntry, mistakes):
            request, reply = bytes.fromhex(frame.request), bytes.fromhex(frame.reply)
            frames.append((request, reply))
            if read := _read_of(request, reply):
                reads.append(read)
            else:
                expected = "a reply to this request: same unit and function, all registers asked"
                mistakes.append(document.mistake((*place, "reply"), frame.reply, expected))
    for index in range(len(entry.registers)):
        place = (*path, "registers", index)
        if held := validate_part(document, place, RegistersEntry, mistakes):
            data = _packed(held.function, held.words)
            reads.append(Read(held.function, held.address, len(held.words), 0, data))
    if not reads:
        mistakes.append(document.mistake(path, "nothing", "frames or registers"))
    quality: dict[str, int] = {}
    for key, names in entry.quality.items():
        words = [names] if isinstance(names, str) else names
        if wrong := [word for word in words if word not in _BITS]:
            expected = "one of " + ", ".join(_BITS)
            mistakes.append(document.mistake((*path, "quality", key), wrong[0], expected))
        quality[key] = sum(_BITS.get(word, 0) for word in words)
    line = document.place(path).line
    return ProfileCase(
        entry.name, entry.evidence, line, tuple(reads), entry.readings, quality, tuple(frames)
    )


def given_reads(data: Sequence[Any], where: str) -> tuple[Read, ...]:
    """Return what a device answered, each as `FrameEntry` or `RegistersEntry` has it.

    Raises `DocumentError` with every mistake; *where* is what the list is called in them.
    """
    document = Document(where, list(data), {})
    mistakes: list[Mistake] = []
    reads: list[Read] = []
    for index, one in enumerate(data):
        if isinstance(one, dict) and "request" in one:
            frame = validate_part(document, (index,), FrameEntry, mistakes)
            read = frame and _read_of(bytes.fromhex(frame.request), bytes.fromhex(frame.reply))
            if read:
                reads.append(read)
            elif frame:
                expected = "a reply to this request: same unit and function, all registers asked"
                mistakes.append(document.mistake((index, "reply"), frame.reply, expected))
        elif held := validate_part(document, (index,), RegistersEntry, mistakes):
            data_held = _packed(held.function, held.words)
            reads.append(Read(held.function, held.address, len(held.words), 0, data_held))
    if mistakes:
        raise DocumentError(mistakes)
    return tuple(reads)


def _read_of(request: bytes, reply: bytes) -> Read | None:
    """Take a request and its reply apart; None if they do not belong together."""
    if len(request) != 8 or request[:2] != reply[:2]:
        return None
    function, address = request[1], int.from_bytes(request[2:4], "big")
    count = int.from_bytes(request[4:6], "big")
    data = reply[3:-2]
    if reply[2] != len(data) or len(data) != data_bytes(function, count):
        return None
    return Read(function, address, count, 0, data)


def _packed(function: int, words: list[int]) -> bytes:
    if function in (COILS, DISCRETE_INPUTS):
        number = sum(1 << place for place, word in enumerate(words) if word)
        return number.to_bytes((len(words) + 7) // 8, "little")
    return b"".join(word.to_bytes(2, "big") for word in words)


def read_by(profile: Profile, reads: tuple[Read, ...]) -> list[Sample]:
    """Return what *profile* makes of *reads*, in the units of the quantities."""
    return RegisterCodec(profile).decode(encode_poll(Poll("case", profile.unit, reads)))


def check_case(profile: Profile, case: ProfileCase) -> list[str]:
    """Return what *profile* makes of the case otherwise than it says; empty when all is well."""
    samples = read_by(profile, case.reads)
    values = {key: value for sample in samples for key, value in sample.values.items()}
    bits = {key: sample.quality for sample in samples for key in sample.values}
    wrong = [f"{key}: nothing says it" for key in case.readings.keys() - values.keys()]
    wrong += [f"{key}: the case forgets it" for key in values.keys() - case.readings.keys()]
    for key, expected in case.readings.items():
        got = values.get(key)
        if key not in values:
            continue
        if (got is None) != (expected is None) or (
            got is not None
            and expected is not None
            and not math.isclose(got, expected, rel_tol=1e-9, abs_tol=1e-9)
        ):
            wrong.append(f"{key}: got {got}, expected {expected}")
        if bits[key] != case.quality.get(key, 0):
            said, meant = Quality(bits[key]), Quality(case.quality.get(key, 0))
            wrong.append(f"{key}: quality {said!r}, expected {meant!r}")
    return sorted(wrong)
