"""The registry in the database: what a site file describes, with the numbers readings carry.

What changes is decided by `compare`, which is pure; the store writes it in one transaction.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from devices.registry import Registry
from devices.series import Device, Series, Transport
from devices.site import Medium, Placement, Site, SiteKind
from devices.units import Conversion
from storage.pool import Connection, Pool
from storage.statements import statements


@dataclass(frozen=True, slots=True)
class Changes:
    """Codes of one kind of thing, each list in the order of the file.

    *returned* were retired and are in use again; *changed* leaves them out.
    """

    created: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    returned: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.created or self.changed or self.returned or self.retired)

    def __str__(self) -> str:
        named = ("created", "changed", "returned", "retired")
        return ", ".join(f"{len(found)} {name}" for name in named if (found := getattr(self, name)))


@dataclass(frozen=True, slots=True)
class RegistryChanges:
    """What applying a registry did; false when it did nothing.

    *moved* tells that the order in the file changed, *retention* that a time to keep readings did.
    *revision* is the registry's after it.
    """

    sites: Changes = field(default_factory=Changes)
    devices: Changes = field(default_factory=Changes)
    series: Changes = field(default_factory=Changes)
    moved: bool = False
    retention: bool = False
    revision: int = 0

    def __bool__(self) -> bool:
        return bool(self.sites or self.devices or self.series or self.moved or self.retention)

    def __str__(self) -> str:
        parts = [
            f"{name}: {changes}"
            for name in ("sites", "devices", "series")
            if (changes := getattr(self, name))
        ]
        parts += ["new order"] if self.moved else []
        parts += ["new retention"] if self.retention else []
        return "; ".join([*parts, f"revision {self.revision}"])


@dataclass(frozen=True, slots=True)
class Stored:
    """What the database holds: the registry in use, and the codes of what is retired."""

    registry: Registry = field(default_factory=Registry)
    retired_sites: Collection[str] = ()
    retired_devices: Collection[str] = ()
    retired_series: Collection[str] = ()
    retention_s: Mapping[str, float] = field(default_factory=dict)


def compare(stored: Stored, wanted: Registry, retention_s: Mapping[str, float]) -> RegistryChanges:
    """Return what must change for *stored* to become *wanted*; *revision* is the stored one's."""
    before = stored.registry
    return RegistryChanges(
        sites=_changes(before.site, wanted.site, stored.retired_sites),
        devices=_changes(_bare(before.device), _bare(wanted.device), stored.retired_devices),
        series=_changes(before.series, wanted.series, stored.retired_series),
        moved=_order(before, wanted) != _order(wanted, before),
        retention=dict(stored.retention_s) != dict(retention_s),
        revision=before.revision,
    )


T = TypeVar("T")


def _changes(before: Mapping[str, T], wanted: Mapping[str, T], retired: Collection[str]) -> Changes:
    known = [code for code in wanted if code in before]
    return Changes(
        created=tuple(code for code in wanted if code not in before and code not in retired),
        changed=tuple(code for code in known if wanted[code] != before[code]),
        returned=tuple(code for code in wanted if code in retired),
        retired=tuple(code for code in before if code not in wanted),
        unchanged=tuple(code for code in known if wanted[code] == before[code]),
    )


def _bare(devices: Mapping[str, Device]) -> dict[str, Device]:
    """Return *devices* without their series, which are compared on their own."""
    return {
        code: replace(device, series=(), settings=_as_json(device.settings))
        for code, device in devices.items()
    }


def _as_json(settings: Mapping[str, object]) -> dict[str, object]:
    """Return *settings* as they come back from the database: JSON has lists, no tuples."""
    made: dict[str, object] = json.loads(json.dumps(dict(settings), allow_nan=False))
    return made


def _order(registry: Registry, other: Registry) -> tuple[list[str], list[str], list[str]]:
    """Return the codes of *registry* that *other* has too, in the order of *registry*."""
    return (
        [code for code in registry.site if code in other.site],
        [code for code in registry.device if code in other.device],
        [code for code in registry.series if code in other.series],
    )


class RegistryStore:
    """The registry behind *pool*; every method may raise the errors of `Pool.run`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def apply(self, registry: Registry, retention_s: Mapping[str, float]) -> RegistryChanges:
        """Bring the database to *registry* and return what that changed.

        What *registry* no longer names is retired: its readings stay, under their name and number.
        What returns is in use again with the number it had.  *retention_s* maps a quantity, or
        ``default``, to how long its raw readings are kept.  Twice is harmless, and so are two at
        once.
        """

        async def apply(connection: Connection) -> RegistryChanges:
            async with connection.transaction():
                await connection.execute(_SQL["be_patient"])
                await connection.execute(_SQL["lock"])
                changes = compare(await _stored(connection), registry, retention_s)
                if not changes:
                    return changes
                return await _write(connection, registry, retention_s, changes)

        return await self._pool.run(apply, within_s=180.0)

    async def load(self, include_retired: bool = False) -> Registry:
        """Return the registry with the numbers of its series, as it was applied.

        Retired sites, devices and series come after those in use, when they are asked for.
        """

        async def load(connection: Connection) -> Registry:
            async with connection.transaction():
                await connection.execute(_SQL["one_moment"])
                return await _load(connection, include_retired)

        return await self._pool.run(load)

    async def revision(self) -> int:
        """Return the number that rises with every change; cheap enough to poll."""
        return await self._pool.run(_revision)

    async def retention_s(self) -> dict[str, float]:
        """Return how long raw readings are kept, in seconds, by quantity or ``default``."""
        return await self._pool.run(_retention_s)


_SQL = statements("registry")


async def _write(
    connection: Connection,
    registry: Registry,
    retention_s: Mapping[str, float],
    changes: RegistryChanges,
) -> RegistryChanges:
    for kind, rows in _rows(registry).items():
        await connection.execute(_SQL[f"put_{kind}"], {"rows": Jsonb(rows)})
        codes = [row["code"] for row in rows]
        await connection.execute(_SQL[f"retire_{kind}"], {"codes": codes})
    # A site may come before the one above it only in a registry that no file made; so the tree is
    # joined when all of it is there.
    parents = [{"code": site.code, "parent": site.parent} for site in registry.sites]
    await connection.execute(_SQL["join_sites"], {"rows": Jsonb(parents)})
    kept = [{"quantity": name, "keep_s": keep_s} for name, keep_s in retention_s.items()]
    await connection.execute(_SQL["put_retention"], {"rows": Jsonb(kept)})
    await connection.execute(_SQL["drop_retention"], {"quantities": list(retention_s)})
    await connection.execute(_SQL["raise_revision"])
    return replace(changes, revision=await _revision(connection))


def _rows(registry: Registry) -> dict[str, list[dict[str, Any]]]:
    sites = [
        {
            "code": site.code,
            "kind": site.kind.value,
            "name_zh": site.name_zh,
            "name_en": site.name_en,
            "timezone": site.timezone,
            "latitude": site.latitude,
            "longitude": site.longitude,
            "altitude_m": site.altitude_m,
            "area_m2": site.area_m2,
            "crop": site.crop,
            "position": position,
        }
        for position, site in enumerate(registry.sites)
    ]
    devices = [
        {
            "code": device.code,
            "site": device.site,
            "transport": device.transport.value,
            "payload": device.payload,
            "name_zh": device.name_zh,
            "name_en": device.name_en,
            "max_age_s": device.max_age_s,
            "max_ahead_s": device.max_ahead_s,
            "settings": dict(device.settings),
            "position": position,
        }
        for position, device in enumerate(registry.devices)
    ]
    series = [
        {
            "code": one.code,
            "device": one.device,
            "quantity": one.quantity,
            "channel": one.channel,
            "key": one.key,
            "site": one.site,
            "placement": one.placement.value,
            "medium": one.medium.value,
            "unit": one.unit,
            "scale": one.conversion.scale,
            "shift": one.conversion.offset,
            "interval_s": one.interval_s,
            "name_zh": one.name_zh,
            "name_en": one.name_en,
            "position": position,
        }
        for position, one in enumerate(registry.series.values())
    ]
    return {"sites": sites, "devices": devices, "series": series}


async def _stored(connection: Connection) -> Stored:
    retired: dict[str, set[str]] = {"sites": set(), "devices": set(), "series": set()}
    async for kind, code in await connection.execute(_SQL["retired"]):
        retired[kind].add(code)
    return Stored(
        await _load(connection, include_retired=False),
        retired["sites"],
        retired["devices"],
        retired["series"],
        await _retention_s(connection),
    )


async def _load(connection: Connection, include_retired: bool) -> Registry:
    argument = {"include_retired": include_retired}
    cursor = connection.cursor(row_factory=dict_row)
    sites = [_site(row) async for row in await cursor.execute(_SQL["sites"], argument)]
    series_ids: dict[str, int] = {}
    series: dict[str, list[Series]] = {}
    async for row in await cursor.execute(_SQL["series"], argument):
        one = _series(row)
        series_ids[one.code] = row["id"]
        series.setdefault(one.device, []).append(one)
    devices = [
        _device(row, tuple(series.get(row["code"], ())))
        async for row in await cursor.execute(_SQL["devices"], argument)
    ]
    return Registry(tuple(sites), tuple(devices), series_ids, await _revision(connection))


def _site(row: Mapping[str, Any]) -> Site:
    return Site(**{**row, "kind": SiteKind(row["kind"])})


def _device(row: Mapping[str, Any], series: tuple[Series, ...]) -> Device:
    return Device(**{**row, "transport": Transport(row["transport"]), "series": series})


def _series(row: Mapping[str, Any]) -> Series:
    return Series(
        device=row["device"],
        quantity=row["quantity"],
        channel=row["channel"],
        key=row["key"],
        site=row["site"],
        placement=Placement(row["placement"]),
        medium=Medium(row["medium"]),
        unit=row["unit"],
        conversion=Conversion(row["scale"], row["shift"]),
        interval_s=row["interval_s"],
        name_zh=row["name_zh"],
        name_en=row["name_en"],
    )


async def _revision(connection: Connection) -> int:
    row = await (await connection.execute(_SQL["revision"])).fetchone()
    return int(row[0]) if row else 0


async def _retention_s(connection: Connection) -> dict[str, float]:
    return {name: keep_s async for name, keep_s in await connection.execute(_SQL["retention"])}
