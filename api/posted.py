"""Readings posted over HTTP: judged whole before anything is kept, then arrivals like any other.

Whoever posts is still there to be told, so more is an error here than on a topic: a key that no
series has, or a time that cannot be believed, refuses the post instead of filling dead letters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from api.problems import Finding, Problem, shown
from devices.codecs.json import JsonCodec
from devices.codecs.sample import MAX_PAYLOAD_BYTES, Sample
from devices.document import nearest
from devices.duration import format_duration
from devices.errors import DecodeError
from devices.quantity import QUANTITIES
from devices.registry import Registry
from devices.sample_result import PAYLOAD as LABORATORY
from devices.series import Device, Transport
from ingest.collector import Arrival

SOURCE = "http"
_MAX_FINDINGS = 20
_BOM = b"\xef\xbb\xbf"
_pieces = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Posted:
    """A post that is good: its *arrivals*, usually one, hold it as it was sent."""

    arrivals: Sequence[Arrival]
    messages: int
    readings: int
    ignored: int


def judge(body: bytes, registry: Registry, now_us: int) -> Posted:
    """Return what *body* brings; raise a 422 `Problem` with everything that is wrong in it.

    *now_us* is the time of receipt, microseconds UTC; a message without a time gets it.
    """
    try:
        samples = JsonCodec().decode(body)
    except DecodeError as error:
        raise _unreadable(error.code, error.text) from error
    is_list = body.removeprefix(_BOM).lstrip()[:1] == b"["
    findings: list[Finding] = []
    for index, sample in enumerate(samples):
        path = f"[{index}]." if is_list else ""
        findings.extend(_wrong(sample, path, registry, now_us))
        if len(findings) >= _MAX_FINDINGS:
            break
    if findings:
        raise _refused(findings[:_MAX_FINDINGS])
    devices = {sample.device for sample in samples}
    topic = devices.pop() or "" if len(devices) == 1 else ""
    return Posted(
        arrivals=[Arrival(SOURCE, topic, part, now_us) for part in _parts(body, is_list)],
        messages=len(samples),
        readings=sum(len(sample.values) for sample in samples),
        ignored=sum(sample.ignored for sample in samples),
    )


def _unreadable(code: str, text: str) -> Problem:
    where, _, rest = text.partition(": got ")
    got, _, expected = rest.partition(", expected ")
    findings = [Finding(f"body.{where}", got, expected)] if expected else []
    return Problem(422, "unreadable-payload", f"{code} {text}", code=code, findings=findings)


def _refused(findings: Sequence[Finding]) -> Problem:
    first = findings[0]
    hint = f" (did you mean {first.hint}?)" if first.hint else ""
    detail = f"{first.where}: got {first.got}, expected {first.expected}{hint}; nothing was kept"
    return Problem(422, "refused-readings", detail, findings=findings)


def _wrong(sample: Sample, path: str, registry: Registry, now_us: int) -> Iterator[Finding]:
    where = f"body.{path}"
    if sample.device is None:
        yield Finding(f"{where}device", "nothing", "the code of the device that measured")
        return
    device = registry.device.get(sample.device)
    if device is not None and device.transport is Transport.DERIVED:
        yield Finding(f"{where}device", shown(sample.device), "a device that measures")
        return
    if device is None:
        hint = nearest(sample.device[:200], registry.device)
        yield Finding(f"{where}device", shown(sample.device), "a known device", hint)
        return
    if device.payload == LABORATORY:
        expected = "a device that measures; results of samples go to /api/v1/results"
        yield Finding(f"{where}device", shown(sample.device), expected)
        return
    series = {one.key: one for one in device.series}
    for key, value in sample.values.items():
        if key not in series:
            expected = f"a key of {device.code}: {', '.join(list(series)[:12])}"
            yield Finding(f"{where}v", shown(key), expected, nearest(key[:200], series))
        elif value is not None and math.isinf(series[key].conversion.scale * value):
            expected = f"a number that {QUANTITIES[series[key].quantity].unit} can hold"
            yield Finding(f"{where}v.{key}", shown(value), expected)
    if sample.observed_at_us is not None:
        yield from _wrong_time(sample.observed_at_us, where, device, now_us)


def _wrong_time(at_us: int, where: str, device: Device, now_us: int) -> Iterator[Finding]:
    age_s = (now_us - at_us) / 1e6
    if age_s > device.max_age_s:
        expected = f"at most {format_duration(device.max_age_s)} ago"
        yield Finding(f"{where}t", f"a time {format_duration(round(age_s))} ago", expected)
    elif -age_s > device.max_ahead_s:
        expected = f"at most {format_duration(device.max_ahead_s)} ahead of our clock"
        yield Finding(f"{where}t", f"a time {format_duration(round(-age_s))} ahead", expected)


def _parts(body: bytes, is_list: bool) -> Iterator[bytes]:
    """Yield *body* as payloads of the size that any collector may bring.

    One of ordinary size stays byte for byte what it was; a larger list is cut between its messages,
    which themselves stay as they were.
    """
    if len(body) <= MAX_PAYLOAD_BYTES:
        yield body
        return
    pieces = [bytes(one) for one in _pieces.decode(body.removeprefix(_BOM))] if is_list else [body]
    part: list[bytes] = []
    size = 1
    for piece in pieces:
        if len(piece) + 2 > MAX_PAYLOAD_BYTES:
            expected = f"at most {MAX_PAYLOAD_BYTES - 2} bytes in one message"
            raise _unreadable("E-SIZE", f"payload: got {len(piece)} bytes, expected {expected}")
        if size + len(piece) + 1 > MAX_PAYLOAD_BYTES:
            yield b"[" + b",".join(part) + b"]"
            part, size = [], 1
        part.append(piece)
        size += len(piece) + 1
    yield b"[" + b",".join(part) + b"]"
