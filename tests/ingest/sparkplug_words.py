"""Sparkplug messages for tests, written by protobuf's own library."""

from __future__ import annotations

from collections.abc import Mapping

from ingest.collector import Arrival
from tests.devices.codecs.sparkplug_oracle import oracle

T0_US = 1_767_225_600_000_000
SECOND = 1_000_000
FLOAT, UINT64, BOOLEAN, TEXT = 9, 8, 11, 12


def payload(metrics=(), seq: int | None = None, at_us: int | None = T0_US) -> bytes:
    head: dict[str, object] = {} if at_us is None else {"timestamp": at_us // 1000}
    if seq is not None:
        head["seq"] = seq
    built = [oracle("Metric")(**one) for one in metrics]
    return oracle()(**head, metrics=built).SerializeToString()


def read(data: bytes):
    return oracle().FromString(data)


def arrival(topic: str, data: bytes, at_us: int = T0_US, flags: int = 0) -> Arrival:
    return Arrival("mqtt", f"spBv1.0/{topic}", data, at_us, flags)


def nbirth(seq=0, bd_seq: int | None = 0, at_us=T0_US, node="gw", metrics=()) -> Arrival:
    own = [] if bd_seq is None else [{"name": "bdSeq", "datatype": UINT64, "long_value": bd_seq}]
    own.append({"name": "Node Control/Rebirth", "datatype": BOOLEAN, "boolean_value": False})
    return arrival(f"g/NBIRTH/{node}", payload([*own, *metrics], seq, at_us), at_us)


def ndeath(bd_seq: int | None = 0, at_us=T0_US, node="gw") -> Arrival:
    own = [] if bd_seq is None else [{"name": "bdSeq", "datatype": UINT64, "long_value": bd_seq}]
    return arrival(f"g/NDEATH/{node}", payload(own, None, None), at_us)


def dbirth(
    seq: int, aliases: Mapping[str, int | None], at_us=T0_US, device="d", node="gw"
) -> Arrival:
    metrics = [
        {"name": name, "datatype": FLOAT, "float_value": 1.0}
        | ({} if alias is None else {"alias": alias})
        for name, alias in aliases.items()
    ]
    return arrival(f"g/DBIRTH/{node}/{device}", payload(metrics, seq, at_us), at_us)


def ddeath(seq: int, at_us=T0_US, device="d", node="gw") -> Arrival:
    return arrival(f"g/DDEATH/{node}/{device}", payload((), seq, at_us), at_us)


def ddata(
    seq: int, values: Mapping[int | str, float], at_us=T0_US, device="d", node="gw", flags=0
) -> Arrival:
    metrics = [
        ({"alias": key} if isinstance(key, int) else {"name": key}) | {"float_value": value}
        for key, value in values.items()
    ]
    return arrival(f"g/DDATA/{node}/{device}", payload(metrics, seq, at_us), at_us, flags)
