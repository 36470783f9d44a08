"""Scripts are sound as far as can be seen without running them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
SCRIPTS = sorted(
    path
    for folder in ("scripts", "deploy", ".ci")
    for path in (ROOT / folder).iterdir()
    if path.is_file() and path.read_bytes().startswith(b"#!")
)
BASH = [path for path in SCRIPTS if "bash" in path.read_text().splitlines()[0]]


def name_of(path):
    return str(path.relative_to(ROOT))


def test_the_scripts_that_people_are_told_of_are_there():
    named = {"scripts/demo", "scripts/test", "scripts/check", "scripts/services", "scripts/bench"}
    assert {name_of(path) for path in SCRIPTS} >= named | {".ci/run", "scripts/bootstrap"}


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_script_can_be_run(script):
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("script", BASH, ids=name_of)
def test_bash_can_read_it_and_is_strict(script):
    subprocess.run(["bash", "-n", script], check=True)
    assert "\nset -euo pipefail\n" in script.read_text()


@pytest.mark.parametrize("script", BASH, ids=name_of)
def test_script_says_what_it_is_for(script):
    assert script.read_text().splitlines()[1].startswith("# ")


@pytest.mark.parametrize("script", BASH, ids=name_of)
def test_script_does_not_depend_on_the_working_directory(script):
    text = script.read_text()
    # scripts/python is looked up by others and touches no file of the repository.
    assert "BASH_SOURCE" in text or 'cd "$(dirname "$0")' in text or script.name == "python"


def test_bench_lists_what_can_be_measured_and_refuses_the_rest():
    listed = subprocess.run([ROOT / "scripts/bench"], capture_output=True, text=True, check=True)
    programs = sorted(path.stem for path in (ROOT / "scripts/bench.d").glob("[!_]*.py"))
    named = [line.split()[0] for line in listed.stdout.splitlines()[1:]]
    assert sorted(named) == programs
    # Each says in a few words what it measures.
    assert all(len(line.split()) > 2 for line in listed.stdout.splitlines()[1:])
    for wrong in ("nothing-such", "../services", "ingest.py"):
        refused = subprocess.run(
            [ROOT / "scripts/bench", wrong], capture_output=True, text=True, check=False
        )
        assert refused.returncode == 2
        assert f"nothing is called '{wrong}'" in refused.stderr


@pytest.mark.parametrize(
    "python",
    [
        # There is none of that name.
        "/nowhere/python3",
        # A shim with nothing behind it, or a Python that is too old.
        "/bin/false",
    ],
)
def test_missing_or_old_python_is_told_plainly(python):
    refused = subprocess.run(
        [ROOT / "scripts/python", "-c", "print('ran')"],
        env={"PATH": "/usr/bin:/bin", "BOOTSTRAP_PYTHON": python},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("Python 3.11 or newer is needed; found: ")


def test_commit_hooks_fetch_nothing_and_are_what_check_runs():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    check = (ROOT / "scripts/check").read_text()
    for hook in config["repos"][0]["hooks"]:
        assert hook["language"] == "system"
        program, *words = hook["entry"].split()
        assert program.startswith(".venv/bin/")
        tool = program.removeprefix(".venv/bin/")
        assert f'" {tool} {words[0]}' in check if words else f'" {tool}' in check


def test_ci_requires_services_and_runs_check_and_test():
    text = (ROOT / ".ci/run").read_text()
    assert "export GREENHOUSE_REQUIRE_SERVICES=1\n" in text
    assert text.index("scripts/check ||") < text.index("scripts/test ||")
    minutes = [int(word[:-1]) for word in text.split() if word[:-1].isdecimal() and word[-1] == "m"]
    assert sum(minutes) < 90
