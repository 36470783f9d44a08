"""What can be wrong with a payload (the field is wrong) or with a file (we are wrong)."""

from __future__ import annotations

from dataclasses import dataclass


class DevicesError(Exception):
    """Root of this package's errors."""


class DecodeError(DevicesError):
    """A payload or register that makes no sense; it is counted and kept as a dead letter.

    *code* is stable and short (``E-JSON``), *text* says what, where, what was got and what was
    expected, in one line.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code = code
        self.text = text


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake in a file that a person wrote; *line* and *column* count from 1."""

    file: str
    line: int
    column: int
    key: str
    got: str
    expected: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f" (did you mean {self.hint!r}?)" if self.hint else ""
        where = f"{self.file}:{self.line}:{self.column}"
        return f"{where} {self.key or 'document'}: got {self.got}, expected {self.expected}{hint}"


class DocumentError(DevicesError):
    """A file cannot be used; carries every mistake found in it, in the order of its lines."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes = tuple(sorted(mistakes, key=lambda m: (m.file, m.line, m.column)))
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))
