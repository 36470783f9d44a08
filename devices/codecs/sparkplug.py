"""Sparkplug B payloads (Eclipse Sparkplug 3.0): metrics with a name, a datatype and a time.

What arrives here stands on its own: each metric has its name, and a datatype where its number needs
one.  Messages that speak in aliases are completed on their way in, from the birth certificate that
was in force when they came (`ingest.sparkplug`); so reading one twice, or much later, says the
same.  A metric without a name is a mistake here: nobody knew what it stood for.

Values are numbers and booleans.  Text, data sets, templates, files and arrays are counted as
ignored, and so are what a node says of itself (``bdSeq``, ``Node Control/…``) and metrics marked
as transient, which are not to be kept.
"""

from __future__ import annotations

import math

from devices.codecs.sample import MAX_READINGS, MAX_SAMPLES, Sample
from devices.codecs.sparkplug_wire import (
    GOOD,
    STALE,
    Datatype,
    Metric,
    ValueField,
    read_payload,
)
from devices.errors import DecodeError
from devices.quality import Quality

NAME = "sparkplug"
_ABOUT_ITSELF = ("Node Control/", "Device Control/", "Node Info/")
_BITS = {
    Datatype.INT8: (8, True),
    Datatype.INT16: (16, True),
    Datatype.INT32: (32, True),
    Datatype.INT64: (64, True),
    Datatype.UINT8: (8, False),
    Datatype.UINT16: (16, False),
    Datatype.UINT32: (32, False),
    Datatype.UINT64: (64, False),
    Datatype.DATE_TIME: (64, False),
}
_INTEGER_FIELDS = (ValueField.INT, ValueField.LONG)
_REAL_FIELDS = (ValueField.FLOAT, ValueField.DOUBLE)
_FAULT = int(Quality.DEVICE_FAULT)
_AWAY = int(Quality.COMMUNICATION)


class SparkplugCodec:
    """Decodes messages that stand on their own; implements `devices.codecs.sample.Codec`."""

    def decode(self, payload: bytes) -> list[Sample]:
        """Return one sample for each moment and quality among the metrics, in their order."""
        message = read_payload(payload)
        if len(message.metrics) > MAX_READINGS:
            got = f"metrics: got {len(message.metrics)}"
            raise DecodeError("E-COUNT", f"{got}, expected at most {MAX_READINGS}")
        moments: dict[tuple[int | None, int], list[dict[str, float | None]]] = {}
        ignored = 0
        for index, metric in enumerate(message.metrics):
            if not is_measured(metric):
                ignored += 1
                continue
            name = _name(metric, index)
            value, quality = _reading(metric, index)
            at_ms = message.at_ms if metric.at_ms is None else metric.at_ms
            columns = moments.setdefault((at_ms, quality), [{}])
            if name in columns[-1]:
                columns.append({})
            columns[-1][name] = value
        samples = [
            Sample(None if at_ms is None else at_ms * 1000, values, quality=quality)
            for (at_ms, quality), columns in moments.items()
            for values in columns
        ]
        if len(samples) > MAX_SAMPLES:
            got = f"metrics: got {len(samples)} moments"
            raise DecodeError("E-COUNT", f"{got}, expected at most {MAX_SAMPLES}")
        if not samples:
            at_us = None if message.at_ms is None else message.at_ms * 1000
            return [Sample(at_us, {}, ignored=ignored)]
        first = samples[0]
        samples[0] = Sample(first.observed_at_us, first.values, None, first.quality, ignored)
        return samples


def is_measured(metric: Metric) -> bool:
    """Whether *metric* is a number that somebody may keep, or says that it has none."""
    if metric.is_transient or (metric.name and is_about_itself(metric.name)):
        return False
    if metric.datatype:
        return metric.datatype in _BITS or metric.datatype in _UNAMBIGUOUS
    return metric.is_null or metric.field in (*_INTEGER_FIELDS, *_REAL_FIELDS, ValueField.BOOLEAN)


_UNAMBIGUOUS = {
    Datatype.FLOAT: _REAL_FIELDS,
    Datatype.DOUBLE: _REAL_FIELDS,
    Datatype.BOOLEAN: (ValueField.BOOLEAN,),
}


def is_about_itself(name: str) -> bool:
    """Whether the metric *name* is one that the specification keeps for node and device."""
    return name == "bdSeq" or name.startswith(_ABOUT_ITSELF)


def needs_datatype(metric: Metric) -> bool:
    """Whether the number of *metric* cannot be read without the datatype of its birth."""
    return not metric.datatype and metric.field in _INTEGER_FIELDS


def _name(metric: Metric, index: int) -> str:
    if metric.name is not None:
        return metric.name
    got = "neither name nor alias" if metric.alias is None else f"alias {metric.alias}"
    expected = "a birth certificate that names it"
    raise DecodeError("E-ALIAS", f"metrics[{index}]: got {got}, expected {expected}")


def _reading(metric: Metric, index: int) -> tuple[float | None, int]:
    """Return the value of *metric* and its quality; a value unlike its datatype is a fault."""
    if needs_datatype(metric):
        got = f"{metric.value} without a datatype"
        expected = "a birth certificate that tells it"
        raise DecodeError("E-ALIAS", f"metrics[{index}]: got {got}, expected {expected}")
    quality = _quality(metric.quality)
    if metric.is_null or metric.field == ValueField.NONE:
        return None, quality
    value = number(metric)
    if value is None:
        return None, quality | _FAULT
    return (None if math.isnan(value) else value), quality


def _quality(told: int | None) -> int:
    if told is None or told == GOOD:
        return 0
    return _AWAY if told == STALE else _FAULT


def number(metric: Metric) -> float | None:
    """Return the value of *metric* as its datatype says; None where it cannot be one.

    Integers are taken from either integer field, since the older libraries put 32 bits without sign
    into the long one.  A negative one may come cut to its own width or extended to 32 or 64 bits.
    """
    value, field = metric.value, metric.field
    if not isinstance(value, int | float):
        return None
    wanted = _BITS.get(Datatype(metric.datatype)) if metric.datatype else None
    if wanted is not None:
        if field not in _INTEGER_FIELDS or not isinstance(value, int):
            return None
        return _integer(value, *wanted)
    if metric.datatype:
        fields = _UNAMBIGUOUS[Datatype(metric.datatype)]
        return float(value) if field in fields else None
    return float(value) if field not in _INTEGER_FIELDS else None


def _integer(value: int, bits: int, signed: bool) -> float | None:
    if not signed:
        return float(value) if value < 1 << bits else None
    for width in (bits, 32, 64):
        if value < 1 << width:
            found = value - (1 << width) if value >> (width - 1) else value
            return float(found) if -(1 << (bits - 1)) <= found < 1 << (bits - 1) else None
    return None
