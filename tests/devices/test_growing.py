"""What a site file says for the rules: packs, tags, plantings; every mistake at its place."""

from __future__ import annotations

from datetime import date

import pytest

from devices.errors import DocumentError
from devices.growing import Growing, Planted, PlantedStage
from devices.site_file import read_site_file

BASE = """
version: 1
{packs}
sites:
  - code: b
    kind: base
    tags: ["land-use:paddy"]
    sites:
      - {{code: h1, kind: greenhouse{house}}}
broker: {{host: localhost}}
devices:
  - code: c
    site: h1
    tags: [gateway, gateway]
    series:
      - {{quantity: air_temperature, tags: ["method:reference"]}}
      - {{quantity: air_temperature, channel: 2, key: t2, tags: [old]}}
      - {{quantity: relative_humidity{series}}}
"""


def growing(packs="", house="", series="") -> Growing:
    text = BASE.format(packs=packs, house=house, series=series)
    return read_site_file(text, "site.yaml").growing


def mistakes(**parts) -> list[str]:
    with pytest.raises(DocumentError) as error:
        growing(**parts)
    return [str(one) for one in error.value.mistakes]


def test_a_file_that_says_nothing_names_no_packs():
    assert growing().packs is None
    assert growing(packs="packs: []").packs == ()
    assert growing(packs="packs: [climate, tomato]").packs == ("climate", "tomato")


def test_tags_go_by_the_names_that_rules_are_bound_by():
    assert growing().tags == {
        "site:b": {"land-use:paddy"},
        "device:c": {"gateway"},
        "series:c.air_temperature": {"method:reference"},
        "series:c.air_temperature.2": {"old"},
    }


def test_a_planting_says_crop_and_stages():
    house = (
        ", planting: {crop: tomato, variety: 粉, planted_on: 2026-02-20, ends_on: 2026-07-10,"
        " stages: [{name: seedling, on: 2026-02-20}, {name: flowering, on: 2026-04-05}]}"
    )
    expected = (
        PlantedStage("seedling", date(2026, 2, 20)),
        PlantedStage("flowering", date(2026, 4, 5)),
    )
    assert growing(house=house).planted == (
        Planted("h1", "tomato", "粉", date(2026, 2, 20), date(2026, 7, 10), expected),
    )
    house = stages("name: a, degree_days: 0", "name: b, degree_days: 9.5")
    (planted,) = growing(house=house).planted
    assert planted.stages == (PlantedStage("a", None, 0), PlantedStage("b", None, 9.5))


def stages(*entries: str) -> str:
    return f", planting: {{crop: tomato, stages: [{', '.join('{' + e + '}' for e in entries)}]}}"


@pytest.mark.parametrize(
    ("parts", "at", "words"),
    [
        ({"packs": "packs: [a, a]"}, "packs[1]", "each pack once"),
        ({"packs": "packs: climate"}, "packs", "a list"),
        ({"series": ", tags: gateway"}, "devices[0].series[2].tags", "a list of words"),
        ({"series": ", tags: [A b]"}, "devices[0].series[2].tags[0]", "lower-case"),
        ({"house": ", planting: tomato"}, "sites[0].sites[0].planting", "a mapping"),
        ({"house": ", planting: {variety: x}"}, "sites[0].sites[0].planting.crop", "'crop'"),
        ({"house": ", planting: {crop: t, planted_on: 2026-02-30}"}, "planted_on", "a date"),
        ({"house": ", planting: {crop: t, planted: 1}"}, "planted", "planted_on"),
        # A stage that begins by nothing, by both, not at all after the one before it.
        ({"house": stages("name: a")}, "stages[0].name", "either on"),
        ({"house": stages("name: a, on: 2026-01-01, degree_days: 3")}, "stages[0]", "either on"),
        (
            {"house": stages("name: a, on: 2026-01-02", "name: b, on: 2026-01-02")},
            "stages[1].on",
            "after 2026-01-02",
        ),
        (
            {"house": stages("name: a, degree_days: 9", "name: b, degree_days: 9")},
            "stages[1].degree_days",
            "more than 9",
        ),
        (
            {"house": stages("name: a, degree_days: 9", "name: b, on: 2026-01-02")},
            "stages[1].on",
            "degree_days",
        ),
        (
            {"house": stages("name: a, on: 2026-01-02", "name: a, on: 2026-01-03")},
            "stages[1].name",
            "each stage once",
        ),
        (
            {"house": ", planting: {crop: t, planted_on: 2026-03-01, ends_on: 2026-02-01}"},
            "ends_on",
            "after 2026-03-01",
        ),
    ],
)
def test_a_mistake_is_named_at_its_place(parts, at, words):
    (found,) = mistakes(**parts)
    assert at in found
    assert words in found
    assert found.startswith("site.yaml:")
