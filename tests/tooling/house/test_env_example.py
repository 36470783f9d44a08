""".env.example and the settings say the same."""

from __future__ import annotations

import re
from pathlib import Path

from greenhouse.settings import SETTINGS, read_settings

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / ".env.example").read_text()
GIVEN = dict(re.findall(r"^#?(GREENHOUSE_\w+)=(.*)$", TEXT, re.MULTILINE))
# Read by docker compose, not by the service.
COMPOSE_ONLY = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))


def test_every_setting_is_shown_with_its_default():
    shown = {name: value for name, value in GIVEN.items() if name not in COMPOSE_ONLY}
    expected = {setting.variable: setting.default for setting in SETTINGS}
    assert shown == expected | {"GREENHOUSE_DSN_FILE": ""}


def test_every_variable_of_the_compose_file_is_shown_with_its_default():
    compose = (ROOT / "docker-compose.yml").read_text()
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", compose))
    assert {name: GIVEN.get(name) for name in COMPOSE_ONLY} == defaults


def test_nothing_is_switched_on_by_copying_it():
    assert not re.search(r"^[A-Z]", TEXT, re.MULTILINE)
    assert read_settings({}) == read_settings(
        {name: value for name, value in GIVEN.items() if value and name not in COMPOSE_ONLY}
    )
