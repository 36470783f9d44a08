"""The description of the API: nothing changes unseen, and everything in it is written down."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from api.problems import ProblemBody
from tests.api.base import make_base

SNAPSHOT = Path(__file__).parent / "api_surface.txt"
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "api.md"


@pytest.fixture(scope="module")
def openapi() -> dict:
    return make_base().shared_app().openapi()


def operations(openapi: dict):
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def surface(openapi: dict) -> str:
    """Return one line for each route, parameter and status of the description."""
    lines = []
    for name, operation in sorted(operations(openapi)):
        lines.append(name)
        for one in sorted(operation.get("parameters", []), key=lambda one: one["name"]):
            required = " required" if one["required"] else ""
            default = one["schema"].get("default")
            shown = "" if default is None else f" default={default}"
            lines.append(f"  {one['in']} {one['name']}{required}{shown}")
        lines.append("  answers " + " ".join(sorted(operation["responses"])))
    for name, shape in sorted(openapi["components"]["schemas"].items()):
        lines.append(f"{name}: " + " ".join(sorted(shape.get("properties", shape.get("enum")))))
    return "\n".join(lines) + "\n"


def test_the_surface_is_the_one_that_was_agreed_on(openapi):
    """A change that is meant: write surface(openapi) to api_surface.txt in the same commit."""
    assert surface(openapi) == SNAPSHOT.read_text()


def test_every_route_parameter_and_field_is_in_the_reference(openapi):
    text = REFERENCE.read_text()
    sections = {
        heading: body
        for heading, body in re.findall(r"^### `([^`]+)`\n(.*?)(?=^##|\Z)", text, re.M | re.S)
    }
    assert sections.keys() == {name for name, _ in operations(openapi)}
    shared = text[text.index("## Shared parameters") : text.index("## Routes")]
    for name, operation in operations(openapi):
        for one in operation.get("parameters", []):
            assert f"`{one['name']}`" in sections[name] + shared, (name, one["name"])
    for name, shape in openapi["components"]["schemas"].items():
        for field in shape.get("properties", ()):
            assert f"`{field}`" in text, (name, field)


def test_the_reference_names_every_kind_of_problem():
    text = REFERENCE.read_text()
    sources = "".join(
        path.read_text() for path in (Path(__file__).parents[2] / "api").rglob("*.py")
    )
    slugs = set(re.findall(r'Problem\(\s*\d{3},\s*"([a-z-]+)"', sources))
    assert {"unauthorized", "spool-full", "database-unavailable"} <= slugs
    assert [slug for slug in slugs if f"`{slug}`" not in text] == []


def test_every_operation_tells_what_it_is_for_and_how_it_fails(openapi):
    for name, operation in operations(openapi):
        assert operation["summary"], name
        assert operation["description"], name
        if "/api/v1/" in name:
            assert {"401", "422", "503"} <= operation["responses"].keys(), name
            problem = operation["responses"]["422"]["content"]["application/problem+json"]["schema"]
            assert problem["$ref"].endswith(ProblemBody.__name__), name


def test_every_parameter_is_described(openapi):
    for name, operation in operations(openapi):
        for one in operation.get("parameters", []):
            assert one.get("description"), (name, one["name"])


async def test_the_description_is_served_to_who_may_read(base):
    async with base.client() as client:
        served = (await client.get("/api/v1/openapi.json")).json()
    assert served["openapi"].startswith("3.1")
    assert served["paths"].keys() == base.shared_app().openapi()["paths"].keys()
