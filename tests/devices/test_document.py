from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from devices.document import dotted, load, validate
from devices.errors import DocumentError


def _mistakes(text):
    with pytest.raises(DocumentError) as error:
        load(text, "f.yaml")
    return [str(mistake) for mistake in error.value.mistakes]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: yes", "yes"),  # the traps of YAML 1.1 are words or numbers as they look
        ("a: on", "on"),
        ("a: 08", "08"),
        ("a: 1:30", "1:30"),
        ("a: 0o17", "0o17"),
        ("a: 12", 12),
        ("a: -0.5", -0.5),
        ("a: 1e3", 1000.0),
        ("a: .5", 0.5),
        ("a: '12'", "12"),  # quoted is text
        ("a: true", True),
        ("a: ~", None),
        ("a:", None),
        ("a: 2026-11-01", "2026-11-01"),
    ],
)
def test_scalars_are_what_they_look_like(text, value):
    got = load(text, "f.yaml").data["a"]
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "f.yaml:1:1 document: got an empty file"),
        ("a: [1", "expected valid YAML"),
        ("a:\n\tb: 1", "indented with spaces, not tabs"),
        ("a: 1\nb: 2\na: 3", "f.yaml:3:1 a: got the same key a second time"),
        ("? [1]\n: 2", "a plain key"),
        ("a: \x00", "f.yaml:1:1"),
    ],
)
def test_bad_syntax_is_told_with_its_place(text, words):
    assert any(words in mistake for mistake in _mistakes(text))


class _Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    interval: int
    kind: str = "x"


class _Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    parts: list[_Inner] = []


def test_every_mistake_of_shape_is_reported_with_line_key_and_nearest_word():
    document = load("nam: a\nparts:\n  - intervall: 3\n  - interval: soon\n", "f.yaml")
    with pytest.raises(DocumentError) as error:
        validate(document, _Outer)
    assert [str(mistake) for mistake in error.value.mistakes] == [
        "f.yaml:1:1 name: got nothing, expected the key 'name'",
        "f.yaml:1:1 nam: got 'nam', expected one of name, parts (did you mean 'name'?)",
        "f.yaml:3:5 parts[0].interval: got nothing, expected the key 'interval'",
        "f.yaml:3:5 parts[0].intervall: got 'intervall', expected one of interval, kind"
        " (did you mean 'interval'?)",
        "f.yaml:4:5 parts[1].interval: got 'soon', expected a whole number",
    ]


@given(st.text())
def test_no_text_whatever_does_more_than_name_its_mistakes(text):
    try:
        load(text, "f.yaml")
    except DocumentError as error:
        assert error.mistakes


def test_paths_read_as_people_write_them():
    assert dotted(("devices", 2, "series", 0, "unit")) == "devices[2].series[0].unit"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,  # libyaml's composer would go down as deep, and take the process with it
        "{a: " * 50_000,
        "- " * 20_000,
        "".join(" " * depth + "a:\n" for depth in range(200)),
        "a: &a [*a]",
        "a: &a [1,1,1,1,1,1,1,1,1]\n"
        + "".join(
            f"{two}: &{two} [{','.join([f'*{one}'] * 9)}]\n" for one, two in pairwise("abcdefgh")
        ),
    ],
)
def test_a_text_without_end_is_a_mistake_and_not_the_end(text):
    with pytest.raises(DocumentError) as error:
        load(text, "f.yaml")
    assert "at most" in str(error.value)
