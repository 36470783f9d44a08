"""Arrays of the server as NumPy arrays, without a Python object for each element.

The binary form of a one-dimensional array without NULLs is a head of 20 bytes (dimensions, NULL
flag, element type, length, lower bound) and then, for each element, its length in four bytes and
its value, big-endian: a fixed stride that NumPy reads in place.  Statements that use these loaders
turn NULL into NaN.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format
from psycopg.rows import TupleRow

from storage.instant import SERVER_EPOCH_US

_HEAD = 20


class _ColumnLoader(Loader):
    format = Format.BINARY
    source: ClassVar[str]
    target: ClassVar[type[np.generic]]

    def load(self, data: Buffer) -> npt.NDArray[Any]:
        raw = bytes(data)
        if len(raw) <= _HEAD:
            return np.empty(0, self.target)
        if raw[7]:
            raise ValueError("a column read as an array must not hold NULL")
        stride = np.dtype([("length", ">i4"), ("item", self.source)])
        return np.frombuffer(raw, stride, offset=_HEAD)["item"].astype(self.target)


class _Int4(_ColumnLoader):
    source, target = ">i4", np.int32


class _Int8(_ColumnLoader):
    source, target = ">i8", np.int64


class _Float8(_ColumnLoader):
    source, target = ">f8", np.float64


class _Instant(_Int8):
    def load(self, data: Buffer) -> npt.NDArray[Any]:
        return super().load(data) + SERVER_EPOCH_US


def column_cursor(
    connection: psycopg.AsyncConnection[TupleRow],
) -> psycopg.AsyncCursor[TupleRow]:
    """Return a cursor whose arrays arrive as NumPy: int4, int8, float8, and timestamptz as int64
    microseconds since 1970 UTC.
    """
    cursor = connection.cursor(binary=True)
    for oid, loader in ((1007, _Int4), (1016, _Int8), (1022, _Float8), (1185, _Instant)):
        cursor.adapters.register_loader(oid, loader)
    return cursor
