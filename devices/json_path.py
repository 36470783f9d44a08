"""Paths into JSON that somebody else made up: JMESPath (https://jmespath.org).

    env.temp          data[0].value          "odd.name".value          [-1]
    sensors[?n == 'temp'].v | [0]            max(probes[*].vwc)

Nearly all paths are names and positions only; those are walked directly, and tell what is absent
from what is null.  The rest goes through the interpreter, to which both are null.  A path comes
from a file, but the file may have come over the API, so what can grow without bound is refused:
lists and objects made anew (``[a, b]``, ``{a: b}``) and ``to_string``, each of which doubles its
input when nested.  What is left visits a part of the payload at most once for each of its nodes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import jmespath
from jmespath.exceptions import JMESPathError

MAX_LENGTH = 300
MAX_NODES = 60

_NODES = frozenset(
    (
        "and_expression",
        "comparator",
        "current",
        "expref",
        "field",
        "filter_projection",
        "flatten",
        "function_expression",
        "identity",
        "index",
        "index_expression",
        "literal",
        "not_expression",
        "or_expression",
        "pipe",
        "projection",
        "slice",
        "subexpression",
        "value_projection",
    )
)
_GROWING = ("to_string", "map")
# What the interpreter lets through where the payload is of another shape than the path expects.
_ERRORS = (JMESPathError, TypeError, LookupError, ArithmeticError, AttributeError, ValueError)


class Absent(Enum):
    """What a path gives where nothing stands, not even null."""

    ABSENT = "nothing"

    def __repr__(self) -> str:
        return "nothing"


ABSENT: Final = Absent.ABSENT


class PathError(ValueError):
    """A path that cannot be read, or that a payload does not fit; the message says what it is."""


@dataclass(frozen=True, slots=True)
class JsonPath:
    """One path; make it with `parse_path`.

    *find* returns what stands there in a decoded JSON value, `ABSENT` where nothing does; it raises
    `PathError` where the payload does not fit.  *steps* are the names and positions of a plain
    path, None for any other.  *names* are all names in it.
    """

    text: str
    find: Callable[[Any], Any]
    steps: tuple[str | int, ...] | None
    names: frozenset[str]

    @property
    def last_name(self) -> str:
        """The last name of a plain path, empty where it has none."""
        last = self.steps[-1] if self.steps else ""
        return last if isinstance(last, str) else ""


def parse_path(text: str) -> JsonPath:
    """Read *text*; raise `PathError` saying what is wrong with it."""
    if not text.strip():
        raise PathError("a path such as env.temp")
    if len(text) > MAX_LENGTH:
        raise PathError(f"a path of at most {MAX_LENGTH} characters")
    try:
        with warnings.catch_warnings():
            # A literal that is no JSON was once text; the library only warns of it.
            warnings.simplefilter("error", PendingDeprecationWarning)
            compiled = jmespath.compile(text)
    except PendingDeprecationWarning as error:
        raise PathError("a JMESPath: text stands in '...', other literals in `...`") from error
    except RecursionError as error:
        raise PathError("a path that is nested less deep") from error
    except _ERRORS as error:
        reason = str(error).partition(", for expression")[0].splitlines()[0]
        hint = ' (names with other characters than a-z, 0-9, _ stand in quotes: "soil-temp".v)'
        raise PathError(f"a JMESPath: {reason[:1].lower() + reason[1:]}{hint}") from error
    nodes = list(_nodes(compiled.parsed))
    _check(nodes)
    names = frozenset(str(node["value"]) for node in nodes if node["type"] == "field")
    steps = _steps(compiled.parsed)
    find = _interpreted(text, compiled.search) if steps is None else _walk(steps)
    return JsonPath(text, find, steps, names)


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict) and "type" in node:
        yield node
        for child in node.get("children", ()):
            yield from _nodes(child)


def _check(nodes: list[dict[str, Any]]) -> None:
    if len(nodes) > MAX_NODES:
        raise PathError(f"a path of at most {MAX_NODES} parts")
    for node in nodes:
        kind = node["type"]
        if kind not in _NODES:
            raise PathError("a path to values that are there, not a list or an object made anew")
        if kind == "function_expression" and node["value"] in _GROWING:
            raise PathError(f"a path without {node['value']}()")


def _steps(node: dict[str, Any]) -> tuple[str | int, ...] | None:
    """Return the names and positions that *node* is made of, None if it is made of more."""
    kind = node["type"]
    if kind in ("current", "identity"):
        return ()
    if kind in ("field", "index"):
        value: str | int = node["value"]
        return (value,)
    if kind not in ("subexpression", "index_expression"):
        return None
    parts = [_steps(child) for child in node["children"]]
    found: tuple[str | int, ...] = ()
    for part in parts:
        if part is None:
            return None
        found += part
    return found


def _walk(steps: tuple[str | int, ...]) -> Callable[[Any], Any]:
    """Return what finds *steps*; a name of what is no object, and a position beyond, is absent."""
    if len(steps) == 1 and isinstance(steps[0], str):
        name = steps[0]

        def find_one(node: Any) -> Any:
            return node.get(name, ABSENT) if type(node) is dict else ABSENT

        return find_one

    def find(node: Any) -> Any:
        for step in steps:
            if isinstance(step, str):
                if type(node) is not dict:
                    return ABSENT
                node = node.get(step, ABSENT)
            else:
                if type(node) is not list or not -len(node) <= step < len(node):
                    return ABSENT
                node = node[step]
        return node

    return find


def _interpreted(text: str, search: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def find(node: Any) -> Any:
        try:
            found = search(node)
        except (*_ERRORS, RecursionError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise PathError(f"{text}: {reason[:160]}") from error
        return ABSENT if found is None else found

    return find
