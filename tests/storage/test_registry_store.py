"""The registry in the database is the one that was applied; what goes comes back as it was."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices.registry import Registry
from devices.series import Device, Transport
from devices.site import Medium, Placement, Site, SiteKind
from devices.site_file import read_site_file
from devices.units import Conversion
from storage.errors import DataRefused
from storage.history import History
from storage.pool import Connection, Pool
from storage.readings import ReadingWriter
from storage.registry import RegistryStore, Stored, compare
from tests.storage.samples import SECOND_US, batch, registry, series, us

SITE_FILE = """
version: 1
sites:
  - code: base-1
    kind: base
    name: {zh: 示范基地, en: Demonstration base}
    latitude: 36.88
    longitude: 118.7
    altitude_m: 25.5
    sites:
      - {code: h1, kind: greenhouse, name: {zh: 一号温室}, area_m2: 1234.5, crop: 番茄}
      - {code: h2, kind: greenhouse, timezone: Europe/Amsterdam}
broker: {host: localhost}
retention: {default: 90d, soil_moisture: 1h}
devices:
  - code: h1-climate
    site: h1
    max_age: 2d
    max_ahead: 10s
    series:
      - {quantity: air_temperature, unit: °F, key: temp, name: {zh: 气温, en: Air}}
      - {quantity: relative_humidity, channel: b}
  - code: soil
    site: h2
    placement: root_zone
    interval: 10min
    series:
      - {quantity: soil_ec, unit: uS/cm, site: h1}
"""


def _bare(found: Registry) -> Registry:
    return replace(found, series_ids={}, revision=0)


async def test_a_site_file_comes_back_as_it_was_applied(pool: Pool):
    file = read_site_file(SITE_FILE, "site.yaml")
    store = RegistryStore(pool)
    changes = await store.apply(file.registry, file.retention_s)
    found = await store.load()
    assert _bare(found) == file.registry
    assert set(found.series_ids) == set(file.registry.series)
    assert found.revision == changes.revision == await store.revision() == 1
    assert await store.retention_s() == file.retention_s
    assert changes.sites.created == ("base-1", "h1", "h2")
    assert changes.devices.created == ("h1-climate", "soil")
    assert changes.series.created == tuple(file.registry.series)


_names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
_numbers = st.floats(-1e9, 1e9)
_settings = st.dictionaries(
    _names,
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**60), 2**60) | _numbers | _names,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
)


@st.composite
def _registries(draw: st.DrawFn) -> Registry:
    codes = draw(st.lists(st.sampled_from("abcdef"), unique=True, min_size=1, max_size=4))
    sites: list[Site] = []
    for code in codes:
        parent = draw(st.none() | st.sampled_from(sites)) if sites else None
        sites.append(
            Site(
                code=f"site-{code}",
                kind=draw(st.sampled_from(SiteKind)),
                name_zh=draw(_names),
                name_en=draw(_names),
                parent=parent.code if parent else None,
                timezone=draw(st.sampled_from(["Asia/Shanghai", "Europe/Amsterdam", "UTC"])),
                latitude=draw(st.none() | st.floats(-90, 90)),
                longitude=draw(st.none() | st.floats(-180, 180)),
                altitude_m=draw(st.none() | _numbers),
                area_m2=draw(st.none() | _numbers),
                crop=draw(st.none() | _names),
            )
        )
    devices = []
    for code in draw(st.lists(st.sampled_from("uvwxyz"), unique=True, max_size=4)):
        device = f"device-{code}"
        quantities = draw(
            st.lists(st.sampled_from(["co2", "soil_ec", "ppfd"]), unique=True, max_size=3)
        )
        devices.append(
            Device(
                code=device,
                site=draw(st.sampled_from(sites)).code,
                transport=draw(st.sampled_from(Transport)),
                payload=draw(_names),
                name_zh=draw(_names),
                name_en=draw(_names),
                max_age_s=draw(_numbers),
                max_ahead_s=draw(_numbers),
                series=tuple(
                    series(
                        device,
                        quantity,
                        draw(st.sampled_from(sites)).code,
                        channel=draw(st.sampled_from(["", "1", "2"])),
                        key=draw(_names),
                        placement=draw(st.sampled_from(Placement)),
                        medium=draw(st.sampled_from(Medium)),
                        unit=draw(_names),
                        conversion=Conversion(draw(_numbers), draw(_numbers)),
                        interval_s=draw(_numbers),
                        name_zh=draw(_names),
                        name_en=draw(_names),
                    )
                    for quantity in quantities
                ),
                settings=draw(_settings),
            )
        )
    return Registry(tuple(sites), tuple(devices))


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(_registries(), min_size=1, max_size=3))
async def test_any_registry_after_any_other_is_loaded_as_it_was_applied(
    pool: Pool, steps: list[Registry]
):
    """Also: the report is true, the numbers stay, and applying again does nothing."""
    store = RegistryStore(pool)
    numbers: dict[str, int] = {}
    for wanted in steps:
        before = await store.load()
        ever = await store.load(include_retired=True)
        changes = await store.apply(wanted, {})
        found = await store.load()
        assert _bare(found) == wanted
        assert bool(changes) == (_bare(before) != wanted)
        assert found.revision == before.revision + bool(changes)
        known = set(before.series)
        gone = set(ever.series) - known
        assert set(changes.series.created) == set(wanted.series) - known - gone
        assert set(changes.series.returned) == set(wanted.series) & gone
        assert set(changes.series.retired) == known - set(wanted.series)
        numbers = {**found.series_ids, **numbers}
        assert {code: numbers[code] for code in found.series_ids} == dict(found.series_ids)
        assert not await store.apply(wanted, {})
        assert await store.revision() == found.revision


async def test_a_removed_device_is_retired_and_its_readings_stay(dsn: str, pool: Pool):
    store = RegistryStore(pool)
    both = registry("Asia/Shanghai", "Europe/Amsterdam")
    one = Registry(both.sites[:1], both.devices[:1])
    await store.apply(both, {})
    numbers = dict((await store.load()).series_ids)
    gone = numbers["probe-1.air_temperature"]
    at = us(2025, 1, 1)
    async with ReadingWriter(dsn) as writer:
        await writer.write(batch(gone, [at], [21.5]))

    changes = await store.apply(one, {})
    assert changes.sites.retired == ("base-1",)
    assert changes.devices.retired == ("probe-1",)
    assert changes.series.retired == ("probe-1.air_temperature",)
    assert _bare(await store.load()) == one
    ever = await store.load(include_retired=True)
    assert _bare(ever) == both
    assert ever.series_ids == numbers
    raw = await History(pool).raw([gone], at, at + SECOND_US, 10)
    assert raw[gone].value.tolist() == [21.5]
    assert (await History(pool).latest([gone])).value.tolist() == [21.5]

    changes = await store.apply(both, {})
    assert changes.series.returned == ("probe-1.air_temperature",)
    assert changes.series.created == ()
    assert (await store.load()).series_ids == numbers


async def test_a_change_of_order_is_kept_and_told(pool: Pool):
    store = RegistryStore(pool)
    wanted = registry("Asia/Shanghai", "Europe/Amsterdam", quantities=("co2", "ppfd"))
    await store.apply(wanted, {})
    turned = Registry(wanted.sites[::-1], wanted.devices[::-1])
    changes = await store.apply(turned, {})
    assert changes.moved and changes and not changes.devices
    assert _bare(await store.load()) == turned


async def test_a_change_of_retention_alone_is_a_change(pool: Pool):
    store = RegistryStore(pool)
    wanted = registry("Asia/Shanghai")
    await store.apply(wanted, {"default": 86400.0, "co2": 1.5})
    changes = await store.apply(wanted, {"default": 3600.0})
    assert changes.retention and changes and changes.revision == 2
    assert await store.retention_s() == {"default": 3600.0}
    assert not await store.apply(wanted, {"default": 3600.0})


async def test_two_that_apply_at_once_end_with_one_of_the_two(pool: Pool):
    store = RegistryStore(pool)
    a = registry("Asia/Shanghai", quantities=("co2",))
    b = registry("Europe/Amsterdam", "UTC", quantities=("ppfd", "co2"))
    for _ in range(5):
        await asyncio.gather(*(store.apply(one, {}) for one in (a, b, a, b)))
        assert _bare(await store.load()) in (a, b)


async def test_settings_with_tuples_do_not_change_at_every_apply(pool: Pool):
    store = RegistryStore(pool)
    wanted = registry("Asia/Shanghai")
    device = replace(wanted.devices[0], settings={"words": (1, 2)})
    wanted = replace(wanted, devices=(device,))
    assert await store.apply(wanted, {})
    assert not await store.apply(wanted, {})


async def test_a_name_that_the_database_cannot_hold_is_refused_whole(pool: Pool):
    store = RegistryStore(pool)
    wanted = registry("Asia/Shanghai")
    broken = replace(wanted, sites=(replace(wanted.sites[0], name_zh="a\0b"),))
    with pytest.raises(DataRefused):
        await store.apply(broken, {})
    assert (await store.load()).sites == ()


async def test_a_site_may_move_to_another_parent(pool: Pool, connection: Connection):
    store = RegistryStore(pool)
    a, b = (Site(code, SiteKind.BASE, code, code, None) for code in ("a", "b"))
    house = Site("h", SiteKind.GREENHOUSE, "h", "h", "a")
    await store.apply(Registry((a, house, b)), {})
    moved = Registry((a, replace(house, parent="b"), b))
    changes = await store.apply(moved, {})
    assert changes.sites.changed == ("h",)
    assert _bare(await store.load()) == moved


def test_comparing_an_empty_database_with_an_empty_registry_changes_nothing():
    assert not compare(Stored(), Registry(), {})
