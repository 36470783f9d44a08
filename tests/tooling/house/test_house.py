"""The house keeps its rules: door signs, no re-exports, nothing of this machine in the files."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ROOMS = ("alerts", "api", "devices", "firmware_sims", "greenhouse", "ingest", "storage")
SIGNS = sorted(path for room in ROOMS for path in (ROOT / room).rglob("__init__.py"))
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def name_of(path):
    return str(path.relative_to(ROOT))


def tracked_files():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git working tree")
    names = [name for name in listed.stdout.decode().split("\0") if name]
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def test_every_room_is_a_package():
    assert {path.parent.name for path in SIGNS} >= set(ROOMS)


@pytest.mark.parametrize("path", SIGNS, ids=name_of)
def test_every_package_has_a_door_sign_and_nothing_else(path):
    module = ast.parse(path.read_text())
    sign = ast.get_docstring(module)
    assert sign and len(sign) > 40, "say what lives here, what flows in and out, what it may import"
    assert len(module.body) == 1, "import from the module that defines the name"


def test_every_folder_with_modules_is_a_package():
    folders = {path.parent for path in MODULES}
    assert folders == {path.parent for path in SIGNS}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_no_module_is_a_grab_bag():
    banned = re.compile(r"(common|utils?|helpers?|misc|manager)$")
    assert [name_of(path) for path in MODULES if banned.search(path.stem)] == []


def test_only_settings_read_the_environment():
    readers = [
        name_of(path)
        for path in MODULES
        if re.search(r"os\.environ|os\.getenv|\bgetenv\(", path.read_text())
    ]
    # The demo hands the environment on to the programs that it starts.
    allowed = {"greenhouse/settings.py"}
    assert {path for path in readers if not path.startswith("greenhouse/demo/")} <= allowed


def test_rooms_that_ship_types_say_so():
    assert [room for room in ROOMS if not (ROOT / room / "py.typed").exists()] == []


def test_nothing_of_this_machine_is_in_the_files():
    # Put together here, so that this file does not name them itself.
    places = re.compile(rb"/(?:home|Users|work)/[a-z]|/root/\.|" + b"py" + rb"pi\.org|\.pyenv")
    guilty = [
        str(path.relative_to(ROOT))
        for path in tracked_files()
        if path != Path(__file__) and places.search(path.read_bytes())
    ]
    assert guilty == []


def test_no_secret_is_kept():
    keys = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
    guilty = [
        str(path.relative_to(ROOT))
        for path in tracked_files()
        if path.suffix in {".secret", ".pem", ".key"} or keys.search(path.read_bytes())
    ]
    assert guilty == []
