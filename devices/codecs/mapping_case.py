"""Cases of a mapping: a payload as it came and the readings it must become."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from devices.codecs.mapped import MappingCodec
from devices.codecs.sample import Sample
from devices.errors import DecodeError
from devices.mapping import CaseSample, MappingCase, PayloadMapping

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check_case(mapping: PayloadMapping, case: MappingCase) -> list[str]:
    """Return what *mapping* makes of the case otherwise than it says; empty when all is well."""
    try:
        samples = MappingCodec(mapping).decode(case.payload.encode())
    except DecodeError as error:
        if case.error is None:
            return [str(error)]
        return [] if error.code == case.error else [f"{error}, not {case.error}"]
    if case.error is not None:
        return [f"it is read, not refused as {case.error}"]
    got = _joined(samples)
    if len(got) != len(case.samples):
        return [f"{len(got)} samples, not {len(case.samples)}"]
    wrong: list[str] = []
    for index, (sample, expected) in enumerate(zip(got, case.samples, strict=True)):
        where = f"[{index}]." if len(got) > 1 else ""
        wrong += [where + text for text in _differences(sample, expected)]
    return wrong


def _joined(samples: Sequence[Sample]) -> list[Sample]:
    """Put what sensors without a value said back beside the values of the same moment."""
    out: list[Sample] = []
    for sample in samples:
        if sample.quality and out and out[-1].observed_at_us == sample.observed_at_us:
            values = {**out[-1].values, **sample.values}
            out[-1] = Sample(sample.observed_at_us, values, sample.device)
        else:
            out.append(sample)
    return out


def _differences(sample: Sample, expected: CaseSample) -> list[str]:
    values = sample.values
    wrong = [f"{key}: nothing says it" for key in expected.readings.keys() - values.keys()]
    wrong += [f"{key}: the case forgets it" for key in values.keys() - expected.readings.keys()]
    wrong += [
        f"{key}: got {values[key]}, expected {value}"
        for key, value in expected.readings.items()
        if key in values and not _same(values, key, value)
    ]
    if expected.at is not None and sample.observed_at_us != _us(expected.at):
        wrong.append(f"at: got {_instant(sample.observed_at_us)}, expected {expected.at}")
    if expected.device is not None and sample.device != expected.device:
        wrong.append(f"device: got {sample.device}, expected {expected.device}")
    return sorted(wrong)


def _same(values: Mapping[str, float | None], key: str, expected: float | None) -> bool:
    got = values[key]
    if got is None or expected is None:
        return got is expected
    return math.isclose(got, expected, rel_tol=1e-9, abs_tol=1e-9)


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _instant(at_us: int | None) -> str:
    return "no time" if at_us is None else str(_EPOCH + timedelta(microseconds=at_us))
