"""The page about scenarios names all that there is."""

from __future__ import annotations

import typing
from importlib.resources import files

import pytest

from firmware_sims.scenario import FaultKind, read_scenario, shipped_names
from firmware_sims.weather import WeatherEventKind
from firmware_sims.world import EquipmentFailure

PAGE = (files("firmware_sims") / "scenarios" / "README.md").read_text("utf-8")
WORDS = [
    *shipped_names(),
    *typing.get_args(FaultKind),
    *(kind.value for kind in WeatherEventKind),
    *(failure.value for failure in EquipmentFailure),
]


@pytest.mark.parametrize("word", WORDS)
def test_the_page_names(word: str):
    assert f"`{word}`" in PAGE


def test_the_example_of_the_page_is_a_sound_scenario():
    example = PAGE.partition("```yaml\n")[2].partition("```")[0]
    assert read_scenario(example, "README.md").happenings[0].fault == "drift"
