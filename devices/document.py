"""Files that people write: YAML with the place of every key, checked whole before use.

YAML is read by the rules of YAML 1.2: ``yes`` and ``on`` are words, ``08`` is a word, ``1:30`` is a
word, and a key that stands twice is a mistake.  The shape is checked by pydantic; this module gives
each of its findings a line, a column and the nearest word that would have been right.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from devices.errors import DocumentError, Mistake

MOST_DEPTH = 40  # nested lists and mappings; libyaml's composer has no guard and ends the process
MOST_PARTS = 500_000  # what a few aliases can multiply

Model = TypeVar("Model", bound=BaseModel)
Path = tuple[str | int, ...]

_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key or a value stands, counted from 1."""

    line: int
    column: int


class Document:
    """A YAML text as plain data, with the place of each of its parts.

    *data* holds dicts, lists and scalars; `place` answers for a path of keys and positions, and for
    the nearest part above it where the path itself is not in the text.
    """

    def __init__(self, file: str, data: Any, places: dict[Path, Place]) -> None:
        self.file = file
        self.data = data
        self._places = places
        self._parts: dict[Path, Document] = {}

    def append(self, key: str, part: Document) -> None:
        """Add what *part* describes to the list *key*; mistakes in it are told in its own file.

        Nothing is added where *key* is no list, which is a mistake that its reader will name.
        """
        entries = self.data.setdefault(key, []) if isinstance(self.data, dict) else None
        if isinstance(entries, list):
            self._parts[key, len(entries)] = part
            entries.append(part.data)

    def file_of(self, path: Path) -> str:
        """Return the name of the file in which *path* stands."""
        part = self._parts.get(path[:2])
        return self.file if part is None else part.file

    def place(self, path: Path) -> Place:
        """Return where *path* stands in its file, or the closest enclosing part that does."""
        if (part := self._parts.get(path[:2])) is not None:
            return part.place(path[2:])
        while path and path not in self._places:
            path = path[:-1]
        return self._places.get(path, Place(1, 1))

    def at(self, path: Path) -> Any:
        """Return the data at *path*, which must exist."""
        value = self.data
        for part in path:
            value = value[part]
        return value

    def mistake(self, path: Path, got: object, expected: str, hint: str = "") -> Mistake:
        """Describe something wrong at *path*."""
        if (part := self._parts.get(path[:2])) is not None:
            return part.mistake(path[2:], got, expected, hint)
        place = self.place(path)
        shown = got if isinstance(got, str) and got in ("nothing", "an empty file") else _show(got)
        return Mistake(self.file, place.line, place.column, dotted(path), shown, expected, hint)


def load(text: str, file: str) -> Document:
    """Read *text*; raise `DocumentError` for bad syntax, a tab, a second key of the same name.

    Safe for a text that a stranger wrote: what nests or repeats itself without end is a mistake.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_depth(text, file, loader)
        node = yaml.compose(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = error.problem or "unreadable"
        tab = "\t" in (text.splitlines() or [""])[min(line, len(text.splitlines())) - 1]
        expected = "valid YAML, indented with spaces, not tabs" if tab else "valid YAML"
        raise DocumentError([Mistake(file, line, column, "", problem, expected)]) from error
    except yaml.YAMLError as error:
        raise DocumentError([Mistake(file, 1, 1, "", str(error), "a text file")]) from error
    if node is None:
        raise DocumentError([Mistake(file, 1, 1, "", "an empty file", "a mapping of keys")])
    mistakes: list[Mistake] = []
    places: dict[Path, Place] = {}
    data = _construct(node, (), places, mistakes, file)
    if mistakes:
        raise DocumentError(mistakes)
    return Document(file, data, places)


def _check_depth(text: str, file: str, loader: Any) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MOST_DEPTH:
                mark = event.start_mark
                line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
                expected = f"at most {MOST_DEPTH} levels"
                raise DocumentError([Mistake(file, line, column, "", "a deeper level", expected)])
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def validate(document: Document, model: type[Model]) -> Model:
    """Return the document as *model*; raise `DocumentError` with every finding at its place."""
    mistakes: list[Mistake] = []
    value = validate_part(document, (), model, mistakes)
    if value is None or mistakes:
        raise DocumentError(mistakes)
    return value


def validate_part(
    document: Document, path: Path, model: type[Model], mistakes: list[Mistake]
) -> Model | None:
    """Return the part at *path* as *model*, adding every finding about it to *mistakes*.

    Keys that are wrong are left out for a second try, so that a caller can go on to check what the
    sound ones say; None where a required key is among them.  Parts that hold lists of parts are
    declared ``list[Any]`` in *model* and validated entry by entry, each at its own path.
    """
    data = document.at(path)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        findings = error.errors()
    mistakes += [_translate(document, path, model, finding) for finding in findings]
    if not isinstance(data, dict):
        return None
    wrong = {location[0] for finding in findings if (location := _path(finding))}
    try:
        return model.model_validate({key: data[key] for key in data if key not in wrong})
    except ValidationError:
        return None


def dotted(path: Path) -> str:
    """Write a path as people do: ``devices[2].series[0].unit``."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else str(part)
    return out


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the entry of *known* most like *word*, or an empty string."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else ""


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _construct(
    node: yaml.Node, path: Path, places: dict[Path, Place], mistakes: list[Mistake], file: str
) -> Any:
    place = places.setdefault(path, Place(node.start_mark.line + 1, node.start_mark.column + 1))
    if len(places) > MOST_PARTS or len(path) > MOST_DEPTH:
        expected = f"at most {MOST_PARTS} parts, {MOST_DEPTH} levels deep"
        raise DocumentError([Mistake(file, place.line, place.column, "", "more", expected)])
    if isinstance(node, yaml.SequenceNode):
        return [
            _construct(item, (*path, index), places, mistakes, file)
            for index, item in enumerate(node.value)
        ]
    if isinstance(node, yaml.MappingNode):
        return _construct_mapping(node, path, places, mistakes, file)
    return _scalar(node)


def _construct_mapping(
    node: yaml.MappingNode,
    path: Path,
    places: dict[Path, Place],
    mistakes: list[Mistake],
    file: str,
) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key_node, value_node in node.value:
        place = Place(key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        if not isinstance(key_node, yaml.ScalarNode):
            mistakes.append(
                Mistake(file, place.line, place.column, dotted(path), "a nested key", "a plain key")
            )
            continue
        key = key_node.value
        if key in out:
            mistakes.append(
                Mistake(
                    file,
                    place.line,
                    place.column,
                    dotted((*path, key)),
                    "the same key a second time",
                    "each key once",
                )
            )
            continue
        places[(*path, key)] = place
        out[key] = _construct(value_node, (*path, key), places, mistakes, file)
    return out


def _scalar(node: yaml.Node) -> Any:
    """Read a scalar by the core schema of YAML 1.2; whatever was quoted is text."""
    text: str = node.value
    if not isinstance(node, yaml.ScalarNode) or node.style:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


_EXPECTED = {
    "missing": "this key",
    "extra_forbidden": "a known key",
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping of keys",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "finite_number": "a finite number",
    "too_short": "at least one entry",
    "string_too_short": "text that is not empty",
}


def _translate(document: Document, base: Path, model: type[BaseModel], finding: Any) -> Mistake:
    """Turn one pydantic finding into a mistake with its place and the nearest right word."""
    inner = _path(finding)
    path = (*base, *inner)
    kind, got, context = finding["type"], finding["input"], finding.get("ctx", {})
    if kind == "missing":
        return document.mistake(path, "nothing", f"the key {path[-1]!r}")
    if kind == "extra_forbidden":
        known = _keys_at(model, inner[:-1])
        hint = nearest(str(path[-1]), known)
        return document.mistake(path, path[-1], "one of " + ", ".join(known), hint)
    if kind in ("literal_error", "enum"):
        expected = "one of " + context["expected"].replace("'", "").replace(" or ", ", ")
        words = [word.strip() for word in expected.removeprefix("one of ").split(",")]
        return document.mistake(path, got, expected, nearest(str(got), words))
    if kind == "value_error":
        return document.mistake(path, got, str(context.get("error", finding["msg"])))
    expected = _EXPECTED.get(kind, finding["msg"].replace("Input should be ", ""))
    return document.mistake(path, got, expected)


def _path(finding: Any) -> Path:
    return tuple(part for part in finding["loc"] if not _is_tag(part))


def _is_tag(part: object) -> bool:
    """Tell pydantic's names for members of a union from keys of ours (``function-after[...]``)."""
    return isinstance(part, str) and ("[" in part or ("-" in part and part.endswith("]")))


def _keys_at(model: type[BaseModel], path: Path) -> list[str]:
    """Return the keys that *model* knows at *path*, following nested models and lists of them."""
    current: Any = model
    for part in path:
        if isinstance(part, int):
            continue
        field = current.model_fields.get(part) or next(
            (f for f in current.model_fields.values() if f.alias == part), None
        )
        found = _model_in(field.annotation) if field else None
        if found is None:
            return []
        current = found
    return [field.alias or name for name, field in current.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if found := _model_in(argument):
            return found
    return None
