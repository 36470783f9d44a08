"""Named statements: the SQL of this package lives in files, one a subject.

A file in ``sql/queries`` holds statements that each start with ``-- name: x`` and one line that
says what it is for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def statements(subject: str) -> Mapping[str, bytes]:
    """Return the statements of ``sql/queries/<subject>.sql`` by name, ready for a cursor."""
    text = (files("storage") / "sql" / "queries" / f"{subject}.sql").read_text("utf-8")
    parts = _NAME.split(text)
    found = {
        name: body.strip().encode() for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }
    if len(found) != len(parts) // 2:
        raise ValueError(f"{subject}.sql has a statement name twice")
    return MappingProxyType(found)
