"""Which form an answer takes: what ``format=`` says, else what the Accept header prefers."""

from __future__ import annotations

from enum import StrEnum

from api.formats import arrow, csv_rows, json_columns
from api.problems import Problem


class Format(StrEnum):
    """Forms of an answer about readings."""

    JSON = "json"
    CSV = "csv"
    ARROW = "arrow"
    PARQUET = "parquet"

    @property
    def is_table(self) -> bool:
        """Whether it is a file to keep, which may be longer than what a screen draws."""
        return self is not Format.JSON


MEDIA_TYPES = {
    Format.JSON: json_columns.MEDIA_TYPE,
    Format.CSV: csv_rows.MEDIA_TYPE,
    Format.ARROW: arrow.STREAM_MEDIA_TYPE,
    Format.PARQUET: arrow.PARQUET_MEDIA_TYPE,
}
_PLAIN = {kind: text.partition(";")[0] for kind, text in MEDIA_TYPES.items()}


def chosen_format(asked: Format | None, accept: str) -> Format:
    """Return the form to answer in; raise 406 when *accept* allows none of them."""
    if asked is not None:
        return asked
    if not accept.strip():
        return Format.JSON
    ranges = [_media_range(part) for part in accept.split(",")]
    best, weight = Format.JSON, 0.0
    for kind in Format:  # JSON first: it wins a tie
        found = _weight(_PLAIN[kind], ranges)
        if found > weight:
            best, weight = kind, found
    if weight == 0.0:
        expected = ", ".join(_PLAIN.values())
        raise Problem(406, "not-acceptable", f"readings can be had as {expected}")
    return best


def _media_range(text: str) -> tuple[str, float]:
    """Return one part of an Accept header as (range, weight); a broken weight counts as 0."""
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    weight = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                weight = 0.0
    return name, weight if 0.0 <= weight <= 1.0 else 0.0


def _weight(media_type: str, ranges: list[tuple[str, float]]) -> float:
    """Return the weight of the most specific range that covers *media_type*, RFC 9110 12.5.1."""
    for wanted in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        for name, weight in ranges:
            if name == wanted:
                return weight
    return 0.0
