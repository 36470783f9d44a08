"""What readings are held against: the shipped figures, and what a site file makes of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devices.checks import Checks, limits_of, shipped_checks
from devices.errors import DocumentError
from devices.quantity import QUANTITIES
from devices.site_file import read_site_file

SITE = """
version: 1
sites:
  - code: base-1
    kind: base
    sites:
      - {code: h1, kind: greenhouse, sites: [{code: h1-east, kind: zone}]}
      - {code: h2, kind: greenhouse}
broker: {host: 127.0.0.1}
devices:
  - {code: a, site: h1-east, series: [{quantity: air_temperature}, {quantity: co2}]}
  - {code: b, site: h2, series: [{quantity: air_temperature}]}
"""


def limits(checks: str):
    site_file = read_site_file(SITE + checks, "site.yaml")
    found = limits_of(site_file.registry, site_file.checks)
    return {series.code: one for series, one in found}


def test_without_checks_every_quantity_has_the_shipped_figures():
    found = limits("")
    assert found["a.air_temperature"] == shipped_checks().limits["air_temperature"]
    assert read_site_file(SITE, "site.yaml").checks == Checks()


def test_every_shipped_figure_has_its_source_and_lies_in_the_physical_limits():
    shipped = shipped_checks()
    assert set(shipped.sources) <= set(QUANTITIES)
    for name, source in shipped.sources.items():
        one, quantity = shipped.limits[name], QUANTITIES[name]
        assert source
        assert one.sensor_low < quantity.high and one.sensor_high > quantity.low
        assert one.step > 0 and one.flat_s >= 3600
        assert one.rest_low < one.rest_high


CHECKS = """
checks:
  - {quantity: air_temperature, step: 1, per_minute: 60}
  - {series: a.air_temperature, step: 9}
  - {device: a, step: 8, sensor: [-20, 60]}
  - {site: h1-east, quantity: air_temperature, flat_after: 2h, step: 7}
  - {site: h1, flat_after: 3h, step: 6}
  - {site: base-1, ahead: 10s, step: off}
"""


def test_the_narrowest_entry_wins_whatever_the_order():
    found = limits(CHECKS)
    one = found["a.air_temperature"]
    assert (one.step, one.rate_per_s, one.flat_s) == (9, 1.0, 2 * 3600)
    assert (one.sensor_low, one.sensor_high, one.ahead_s) == (-20, 60, 10)
    assert (found["a.co2"].step, found["a.co2"].flat_s) == (8, 3 * 3600)
    assert found["b.air_temperature"].step == float("inf")
    assert found["b.air_temperature"].rate_per_s == 1.0


def test_of_two_equally_narrow_entries_the_later_wins():
    found = limits("checks: [{quantity: co2, step: 5}, {quantity: co2, step: 6}]")
    assert found["a.co2"].step == 6


def test_equal_limits_are_one_object():
    site_file = read_site_file(SITE, "site.yaml")
    found = [one for series, one in limits_of(site_file.registry, site_file.checks)]
    assert found[0] is found[2]
    assert replace(found[0]) == found[0]


def test_who_lets_a_device_bring_old_readings_does_not_doubt_its_clock_for_it():
    text = SITE.replace("code: b, site: h2", "code: b, site: h2, max_age: 3650d")
    site_file = read_site_file(text, "site.yaml")
    found = {one.code: held for one, held in limits_of(site_file.registry, site_file.checks)}
    assert found["b.air_temperature"].behind_s == 3650 * 86400
    assert found["a.air_temperature"].behind_s == 7 * 86400
    text += "checks: [{device: b, behind: 1d}]"
    site_file = read_site_file(text, "site.yaml")
    found = {one.code: held for one, held in limits_of(site_file.registry, site_file.checks)}
    assert found["b.air_temperature"].behind_s == 86400


def test_twins_are_read():
    twin = "checks: [{series: a.air_temperature, twin: b.air_temperature, within: 1.5}]"
    (one,) = read_site_file(SITE + twin, "site.yaml").checks.twins
    assert (one.first, one.second, one.within) == ("a.air_temperature", "b.air_temperature", 1.5)


@pytest.mark.parametrize(
    ("entry", "key", "expected"),
    [
        ("{quantity: air_temprature, step: 1}", "checks[0].quantity", "air_temperature"),
        ("{site: h3, step: 1}", "checks[0].site", "known site"),
        ("{device: c, step: 1}", "checks[0].device", "known device"),
        ("{series: a.co3, step: 1}", "checks[0].series", "a.co2"),
        ("{quantity: co2}", "checks[0]", "at least one of"),
        ("{quantity: co2, stepp: 1}", "checks[0].stepp", "step"),
        ("{quantity: co2, step: -1}", "checks[0].step", "larger than nothing"),
        ("{quantity: co2, step: [1]}", "checks[0].step", "number"),
        ("{quantity: co2, sensor: [5, 5]}", "checks[0].sensor", "low below high"),
        ("{quantity: co2, sensor: [5]}", "checks[0].sensor", "low below high"),
        ("{quantity: co2, rest: [9, 5]}", "checks[0].rest", "low below high"),
        ("{quantity: co2, rest: [9]}", "checks[0].rest", "low below high"),
        ("{quantity: co2, flat_after: 3}", "checks[0].flat_after", "duration"),
        ("{quantity: co2, per_minute: -3}", "checks[0].per_minute", "greater than"),
        ("{series: a.co2, twin: a.co2, within: 1}", "checks[0].twin", "another series of co2"),
        ("{series: a.co2, twin: b.air_temperature, within: 1}", "checks[0].twin", "another series"),
        ("{series: a.co2, within: 1}", "checks[0].twin", "together"),
        ("{series: a.air_temperature, twin: x.y, within: 1}", "checks[0].twin", "known series"),
        ("{series: a.co2, pairs: maybe}", "checks[0].pairs", "on, off"),
        ("7", "checks[0]", "a mapping of keys"),
    ],
)
def test_a_mistake_is_told_at_its_place(entry, key, expected):
    with pytest.raises(DocumentError) as caught:
        read_site_file(f"{SITE}checks: [{entry}]", "site.yaml")
    found = [one for one in caught.value.mistakes if one.key.startswith(key)]
    assert found, caught.value
    assert any(expected in f"{one.expected} {one.hint}" for one in found), found


def test_names_are_not_blamed_where_what_they_name_is_wrong_itself():
    broken = SITE.replace("code: b, site: h2", "code: b, site: h9")
    with pytest.raises(DocumentError) as caught:
        read_site_file(f"{broken}checks: [{{device: b, step: -1}}]", "site.yaml")
    assert [one.key for one in caught.value.mistakes] == ["devices[1].site", "checks[0].step"]
