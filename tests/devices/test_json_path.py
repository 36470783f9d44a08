"""Paths: the plain ones walk as JMESPath itself does, the others go through it."""

from __future__ import annotations

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.json_path import ABSENT, PathError, parse_path

DOCUMENT = {
    "env": {"temp": 21.5, "none": None, "odd.name": 3},
    "data": [{"v": 1}, {"v": 2}],
    "sensors": [{"n": "temp", "v": 20}, {"n": "hum", "v": 60}],
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("env.temp", 21.5),
        ("env.none", None),  # null stands there
        ("env.other", ABSENT),
        ("env.temp.deeper", ABSENT),  # a number has no names
        ("data[0].v", 1),
        ("data[-1].v", 2),
        ("data[2].v", ABSENT),
        ("data[-3]", ABSENT),
        ("data.v", ABSENT),  # a list has no names
        ("env[0]", ABSENT),  # an object has no positions
        ('env."odd.name"', 3),
        ("@", DOCUMENT),
        ("sensors[?n == 'temp'].v | [0]", 20),
        ("max(data[*].v)", 2),
        ("sensors[?n == 'co2'].v | [0]", ABSENT),
    ],
)
def test_a_path_finds_what_stands_there(path, found):
    got = parse_path(path).find(DOCUMENT)
    assert got is found if found is ABSENT or found is None else got == found


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "a path such as env.temp"),
        ("a-b", "names with other characters"),
        ("a.", "a JMESPath"),
        ("nosuch(a)", ""),
        ("[a, b]", "not a list or an object made anew"),
        ("{x: a}", "not a list or an object made anew"),
        ("to_string(@)", "a path without to_string()"),
        ("a" * 301, "at most 300 characters"),
        (".".join("a" * 61), "at most 60 parts"),
        ("(" * 200 + "a" + ")" * 200, ""),
    ],
)
def test_a_path_that_cannot_be_used_is_refused(path, said):
    if path in ("nosuch(a)",) or path.startswith("(("):
        # Only a payload shows that a function is unknown; many brackets are no danger.
        try:
            parse_path(path).find({"a": 1})
        except PathError:
            return
    with pytest.raises(PathError, match=said.replace("(", r"\(").replace(")", r"\)")):
        parse_path(path).find({"a": 1})


def test_a_payload_that_a_function_does_not_fit_is_told():
    with pytest.raises(PathError, match="max"):
        parse_path("max(env)").find(DOCUMENT)


_names = st.sampled_from(["a", "b", "c"])
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=12,
)
_paths = st.lists(_names | st.integers(-2, 2), min_size=1, max_size=4).map(
    lambda steps: "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps).lstrip(".")
)


@given(document=_json, path=_paths)
def test_a_plain_path_finds_what_the_language_says(document, path):
    parsed = parse_path(path)
    assert parsed.steps is not None
    got = parsed.find(document)
    assert (None if got is ABSENT else got) == jmespath.search(path, document)


@given(document=_json, path=st.text(alphabet="abc.[]*?&|@'`=<!()0 ", max_size=15))
def test_any_text_is_a_path_or_refused(document, path):
    try:
        parse_path(path).find(document)
    except PathError:
        return
