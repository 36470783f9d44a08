"""The locks fit what they were made from, and give no address away."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "requirements"
LOCKS = sorted(FOLDER.glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def wanted(path):
    """The requirements of an .in file."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


def pinned(path):
    """Name → (version, number of hashes) of a lock."""
    text = path.read_text().replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        line = line.partition("#")[0].strip()
        if not line:
            continue
        requirement, *hashes = line.split("--hash=")
        parsed = Requirement(requirement.strip())
        (specifier,) = parsed.specifier
        assert specifier.operator == "==", line
        found.setdefault(canonicalize_name(parsed.name), []).append(
            (specifier.version, [each.strip() for each in hashes])
        )
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_pin_has_hashes_and_no_address(lock):
    pins = pinned(lock)
    assert pins
    for name, entries in pins.items():
        for _, hashes in entries:
            assert hashes, f"{name} has no hash"
            assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), name
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links", lock.read_text())


@pytest.mark.parametrize("name", ["run", "dev"])
def test_lock_is_in_step_with_what_is_wanted(name):
    pins = pinned(FOLDER / f"{name}.txt")
    for requirement in wanted(FOLDER / f"{name}.in"):
        entries = pins.get(canonicalize_name(requirement.name))
        assert entries, f"{requirement.name} is not locked; run scripts/lock"
        for version, _ in entries:
            assert requirement.specifier.contains(version, prereleases=True), requirement


def test_tools_and_service_are_locked_at_the_same_versions():
    run, dev = (pinned(FOLDER / f"{name}.txt") for name in ("run", "dev"))
    differing = [
        name
        for name in run.keys() & dev.keys()
        if {version for version, _ in run[name]} != {version for version, _ in dev[name]}
    ]
    assert differing == []


def test_project_and_lock_want_the_same():
    project = PROJECT["project"]
    declared = [
        Requirement(line)
        for line in [
            *project["dependencies"],
            *project["optional-dependencies"]["demo"],
            *PROJECT["build-system"]["requires"],
        ]
    ]
    locked = {canonicalize_name(each.name): each for each in wanted(FOLDER / "run.in")}
    assert {canonicalize_name(each.name) for each in declared} == locked.keys()
    for each in declared:
        # The build back end's range is the lock's business only.
        if each.specifier:
            ours = locked[canonicalize_name(each.name)]
            assert (each.specifier, each.extras) == (ours.specifier, ours.extras)


def test_every_dependency_has_its_reason():
    reasons = (ROOT / "docs/decisions/0002-dependencies.md").read_text().lower()
    named = [Requirement(line).name for line in PROJECT["project"]["dependencies"]]
    assert [name for name in named if name.lower() not in reasons] == []
