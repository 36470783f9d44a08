"""Readings as an Arrow IPC stream or a Parquet file: one long table, instants typed as UTC.

pyarrow is imported at the first question that asks for it: it costs a tenth of a second and
tens of megabytes that a service which only draws charts need not pay.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from api.columns import NO_QUALITY, QUALITY_BITS, Column
from api.formats.answer import Answer
from api.formats.text import quality_levels
from devices.quantity import QUANTITIES

if TYPE_CHECKING:
    import pyarrow as pa

STREAM_MEDIA_TYPE = "application/vnd.apache.arrow.stream"
PARQUET_MEDIA_TYPE = "application/vnd.apache.parquet"


def encode_stream(answer: Answer) -> bytes:
    """Return *answer* as an Arrow IPC stream."""
    import pyarrow as pa

    table = _table(answer)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def encode_parquet(answer: Answer) -> bytes:
    """Return *answer* as a Parquet file, compressed with zstd."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(_table(answer), sink, compression="zstd")
    return bytes(sink.getvalue())


def _table(answer: Answer) -> pa.Table:
    """Return columns ``series, unit, observed_at, ...``; the units also stand in the metadata."""
    import pyarrow as pa

    units = {part.series.code: QUANTITIES[part.series.quantity].unit for part in answer.parts}
    counts = [len(part) for part in answer.parts]
    arrays: dict[str, Any] = {
        "series": _words(list(units), counts),
        "unit": _words(list(units.values()), counts),
        "observed_at": pa.array(
            _joined([part.observed_at_us for part in answer.parts], np.dtype(np.int64)),
            pa.timestamp("us", tz="UTC"),
        ),
    }
    names = list(answer.parts[0].columns) if answer.parts else []
    for name in names:
        column = _joined([part.columns[name] for part in answer.parts], np.dtype(np.float64))
        empty = np.isnan(column) if column.dtype.kind == "f" else column == NO_QUALITY
        arrays[name] = pa.array(column, mask=empty)
        if name == QUALITY_BITS:
            arrays["quality"] = pa.array(quality_levels(column), pa.string()).dictionary_encode()
    metadata = {"step": answer.step.value, "units": json.dumps(units, ensure_ascii=False)}
    return pa.table(arrays).replace_schema_metadata(metadata)


def _joined(columns: list[Column], when_empty: np.dtype[Any]) -> Column:
    return np.concatenate(columns) if columns else np.empty(0, when_empty)


def _words(words: list[str], counts: list[int]) -> pa.DictionaryArray:
    """Return each of *words* repeated, as a dictionary column that costs four bytes a row."""
    import pyarrow as pa

    index = np.repeat(np.arange(len(words), dtype=np.int32), counts)
    return pa.DictionaryArray.from_arrays(index, pa.array(words, pa.string()))
