"""The reference is complete: whatever a person can write or meet stands in it."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from devices import site_file
from greenhouse.cli import main
from greenhouse.settings import setting_names

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"


def _text(name):
    return (REFERENCE / name).read_text("utf-8")


def test_every_setting_is_in_the_reference_and_in_the_example():
    scripts_only = {"GREENHOUSE_DATA_DIR", "GREENHOUSE_SERVICES_DIR", "GREENHOUSE_SERVICES_ROOT"}
    example = (ROOT / ".env.example").read_text("utf-8")
    for name in sorted(setting_names() - scripts_only):
        assert f"`{name}`" in _text("settings.md"), name
        assert name in example, name


def _entries():
    return [
        model
        for model in vars(site_file).values()
        if isinstance(model, type) and issubclass(model, BaseModel) and model is not BaseModel
    ]


@pytest.mark.parametrize("model", _entries(), ids=lambda model: model.__name__)
def test_every_key_of_the_site_file_is_in_the_reference(model):
    text = _text("site-file.md")
    for key in model.model_fields:
        assert re.search(rf"[`{{ ]{key}[`:]", text), key


def _reasons():
    rooms = ("devices/codecs", "ingest")
    files = [file for room in rooms for file in (ROOT / room).glob("*.py")]
    return sorted(
        {code for file in files for code in re.findall(r'"(E-[A-Z]+)"', file.read_text())}
    )


@pytest.mark.parametrize("code", _reasons())
def test_every_reason_of_a_dead_letter_is_in_the_reference(code):
    texts = [file.read_text("utf-8") for file in REFERENCE.glob("*.md")]
    assert any(f"`{code}`" in text for text in texts)


def test_every_command_is_in_the_readme():
    readme = (ROOT / "README.md").read_text("utf-8")
    for name in main.commands:
        assert f"greenhouse {name}" in readme, name


@pytest.mark.parametrize(
    "page", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")), ids=lambda p: p.name
)
def test_no_link_between_the_pages_is_broken(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target
