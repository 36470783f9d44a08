"""Unknown devices in the words of the API."""

from __future__ import annotations

import base64
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from api.instants import format_instant
from api.onboarding import Claimed, Found, Tried, TriedReading
from devices.guess import write_yaml
from devices.guess_quantity import GuessedValue
from devices.quality import Quality, QualityLevel, level, reasons
from devices.unclaimed import HeardMessage


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class HeardShape(_Shape):
    """A message of an unclaimed device; *payload* is base64, *text* the same where it is UTF-8."""

    topic: str
    received_at: str
    size_bytes: int
    payload: str
    text: str | None
    payload_is_whole: bool


class GuessedFormatShape(_Shape):
    """A payload of the site file that reads the message; `mapping/`: a mapping must be written."""

    payload: str
    confidence: float = Field(ge=0, le=1)
    why: str


class GuessedValueShape(_Shape):
    """A value of the device and what it may be; quantity and unit are empty where unknown."""

    key: str
    value: float | None
    quantity: str
    unit: str
    channel: str
    scale: float
    confidence: float = Field(ge=0, le=1)
    why: str


class GuessedTimeShape(_Shape):
    """Where the time stands in the payload, in the words of a mapping."""

    path: str
    format: str
    why: str


class UnclaimedShape(_Shape):
    """A device that nobody has described yet, and what it may be saying."""

    id: str
    pattern: str = Field(description="template of all its topics")
    site: str = Field(description="what its topics say of the site, may be empty")
    device: str = Field(description="what its topics call it, may be empty")
    first_at: str
    last_at: str
    messages: int
    size_bytes: int = Field(description="of all its messages together")
    interval_s: float | None
    sample: HeardShape | None
    formats: list[GuessedFormatShape]
    values: list[GuessedValueShape]
    time: GuessedTimeShape | None
    address: str = Field(description="what its payload calls it, may be empty")


class UnclaimedDetailShape(UnclaimedShape):
    """The same with all samples, and what a claim with `guessed` would write."""

    samples: list[HeardShape]
    entry: str = Field(description="a device entry as YAML, but for code and site")
    mapping: str = Field(description="a mapping as YAML, where the payload needs one")


class TriedReadingShape(_Shape):
    """A reading that a sample would give."""

    series: str
    quantity: str
    channel: str
    key: str
    value: float | None
    unit: str
    observed_at: str
    received_at: str
    quality: QualityLevel
    quality_bits: int
    quality_reasons: list[str]


class UnreadableShape(_Shape):
    """A sample that would become a dead letter, at least in part."""

    topic: str
    code: str
    text: str


class TriedShape(_Shape):
    """What samples would give; nothing was saved."""

    readings: list[TriedReadingShape]
    values: list[GuessedValueShape] = Field(description="by key, where no device was given")
    unreadable: list[UnreadableShape]
    ignored_fields: int
    files: dict[str, str] = Field(description="what a claim would write, by name")


class ClaimedShape(_Shape):
    """A device that was unclaimed; its letters are being read again."""

    device: str
    series: list[str]
    files: dict[str, str]
    revision: int
    actor: str
    messages: int = Field(description="how many it had sent by then")


def unclaimed_fields(found: Found) -> dict[str, Any]:
    """Return the fields that the list and the detail have in common."""
    one, guess = found.unclaimed, found.guess
    time = guess.time
    return {
        "id": one.id,
        "pattern": one.pattern,
        "site": one.site,
        "device": one.device,
        "first_at": format_instant(one.first_at_us),
        "last_at": format_instant(one.last_at_us),
        "messages": one.messages,
        "size_bytes": one.bytes,
        "interval_s": one.interval_s,
        "sample": heard_shape(one.samples[0]) if one.samples else None,
        "formats": [
            GuessedFormatShape(payload=f.payload, confidence=f.confidence, why=f.why)
            for f in guess.formats
        ],
        "values": [value_shape(value) for value in guess.values],
        "time": time and GuessedTimeShape(path=time.path, format=time.format, why=time.why),
        "address": guess.address,
    }


def unclaimed_shape(found: Found) -> UnclaimedShape:
    """Return *found* as the list tells it."""
    return UnclaimedShape(**unclaimed_fields(found))


def unclaimed_detail_shape(found: Found) -> UnclaimedDetailShape:
    """Return *found* with everything there is to see."""
    one = found.unclaimed
    return UnclaimedDetailShape(
        **unclaimed_fields(found),
        samples=[heard_shape(sample) for sample in one.samples],
        entry=write_yaml(found.guess.entry(one, one.device or "CODE", one.site or "SITE")),
        mapping=found.guess.mapping,
    )


def heard_shape(message: HeardMessage) -> HeardShape:
    """Return *message* with its bytes."""
    try:
        text: str | None = message.payload.decode("utf-8")
    except UnicodeDecodeError:
        text = None
    return HeardShape(
        topic=message.topic,
        received_at=format_instant(message.received_at_us),
        size_bytes=message.size,
        payload=base64.b64encode(message.payload).decode(),
        text=text,
        payload_is_whole=message.is_whole,
    )


def value_shape(value: GuessedValue) -> GuessedValueShape:
    """Return *value* with its reason."""
    return GuessedValueShape(
        key=value.key,
        value=value.value,
        quantity=value.quantity,
        unit=value.unit,
        channel=value.channel,
        scale=value.scale,
        confidence=value.confidence,
        why=value.why,
    )


def tried_shape(tried: Tried) -> TriedShape:
    """Return *tried* as the API tells it."""
    return TriedShape(
        readings=[_reading_shape(reading) for reading in tried.readings],
        values=[value_shape(value) for value in tried.values],
        unreadable=[
            UnreadableShape(topic=one.topic, code=one.code, text=one.text)
            for one in tried.unreadable
        ],
        ignored_fields=tried.ignored_fields,
        files=dict(tried.files),
    )


def _reading_shape(reading: TriedReading) -> TriedReadingShape:
    bits = Quality(reading.quality_bits)
    return TriedReadingShape(
        series=reading.series,
        quantity=reading.quantity,
        channel=reading.channel,
        key=reading.key,
        value=reading.value,
        unit=reading.unit,
        observed_at=format_instant(reading.observed_at_us),
        received_at=format_instant(reading.received_at_us),
        quality=level(bits),
        quality_bits=reading.quality_bits,
        quality_reasons=[reason.name for reason in reasons(bits)],
    )


def claimed_shape(claimed: Claimed) -> ClaimedShape:
    """Return *claimed* as the API tells it."""
    return ClaimedShape(
        device=claimed.device,
        series=list(claimed.series),
        files=dict(claimed.files),
        revision=claimed.revision,
        actor=claimed.actor,
        messages=claimed.waiting,
    )
