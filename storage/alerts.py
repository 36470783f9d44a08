"""Alerts, groups, history, silences and notices: written from memory, and read.

Who judges holds the newest state; this is where it is kept.  Everything has a name that a second
writing finds again, and an older state never takes the place of a newer one.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from alerts.book import Group, Notice, Silence, Told
from alerts.episode import Episode, Step
from alerts.state import Alert, Entry, Mark, Phase, Shelf
from storage.errors import DataRefused
from storage.instant import fits, instant, microseconds
from storage.pool import Connection, Pool
from storage.statements import statements

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredAlert:
    """An alert with the id of its group (empty for none); *is_pageable* as `Book.pageable`."""

    alert: Alert
    group: str = ""
    is_pageable: bool = False


@dataclass(frozen=True, slots=True)
class StoredGroup:
    """A group; *at_rest* when nothing stands in it any more and all is told.

    *open* is how many of its alerts are open, as `AlertStore.groups` counts them.
    """

    group: Group
    at_rest: bool = False
    open: int = 0


@dataclass(frozen=True, slots=True)
class StoredSilence:
    """A silence; *ended_by* is who ended it before its time, empty where nobody did."""

    silence: Silence
    ended_by: str = ""
    ended_note: str = ""


@dataclass(frozen=True, slots=True)
class StoredPackChange:
    """Who changed the pack *pack*, and its whole text *before* and *after* (None: no pack)."""

    pack: str
    by: str
    reason: str
    at_us: int
    before: str | None
    after: str | None

    @property
    def id(self) -> str:
        """32 hex digits made of all of it, so that twice is once."""
        text = msgspec.json.encode(self)
        return hashlib.blake2b(text, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class AlertChanges:
    """What is to be kept, all of it or none."""

    alerts: Sequence[StoredAlert] = ()
    groups: Sequence[StoredGroup] = ()
    entries: Sequence[Entry] = ()
    notices: Sequence[Notice] = ()
    silences: Sequence[StoredSilence] = ()
    pack_changes: Sequence[StoredPackChange] = ()


@dataclass(frozen=True, slots=True)
class StoredBook:
    """What a start takes up: open alerts and those of groups that are awake, and lately ended."""

    alerts: tuple[StoredAlert, ...] = ()
    groups: tuple[Group, ...] = ()
    silences: tuple[StoredSilence, ...] = ()


@dataclass(frozen=True, slots=True)
class PlacedNotice:
    """A notice with its place in the order of all."""

    position: int
    notice: Notice


Behind = tuple[int, str]  # where a page begins: the start and the id of the last one before it


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which alerts are wanted; what is empty or None does not restrict.

    *rules* are codes with ``*`` for any letters.  *sites* may be an empty tuple: then none.
    *severities* are those of now.  *since_us* and *until_us*: what touches [since, until).
    """

    limit: int
    phases: tuple[Phase, ...] = ()
    severities: tuple[int, ...] = ()
    rules: tuple[str, ...] = ()
    sites: tuple[str, ...] | None = None
    subjects: tuple[str, ...] = ()
    group: str = ""
    since_us: int | None = None
    until_us: int | None = None
    is_open: bool | None = None
    needs_attention: bool | None = None
    after: Behind | None = None


class AlertStore:
    """The alerts behind *pool*; every method may raise the errors of `Pool.run`.

    Lists come newest first, by (start, id) falling, at most *limit* of them.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def write(self, changes: AlertChanges) -> None:
        """Keep *changes* durably, all or none; the same again is harmless.

        Raises `DataRefused` where a row can never be kept.
        """
        rows = {
            "groups": [_group_row(one) for one in changes.groups],
            "alerts": [_alert_row(one) for one in changes.alerts],
            "entries": [_entry_row(one) for one in changes.entries],
            "notices": [_notice_row(one) for one in changes.notices],
            "silences": [_silence_row(one) for one in changes.silences],
            "pack_changes": [_pack_change_row(one) for one in changes.pack_changes],
        }

        async def write(connection: Connection) -> None:
            async with connection.transaction():
                for kind, some in rows.items():
                    if some:
                        await connection.execute(_SQL[f"put_{kind}"], {"rows": Jsonb(some)})

        await self._pool.run(write)

    # -- for whoever judges

    async def awake(self, since_us: int, now_us: int) -> StoredBook:
        """Return what a start takes up, with alerts to which something happened after *since_us*.

        Of the silences those that are not over at *now_us*.
        """

        async def read(connection: Connection) -> StoredBook:
            async with connection.transaction():
                await connection.execute(_SQL_REGISTRY["one_moment"])
                alerts = await _all(connection, "awake", {"since": instant(since_us)}, _alert)
                groups = await _all(connection, "awake_groups", {}, _group)
                now = {"with_past": False, "now": instant(now_us), "limit": _MOST}
                silences = await _all(connection, "silences", now, _silence)
            return StoredBook(tuple(alerts), tuple(groups), tuple(silences))

        return await self._pool.run(read)

    async def known(self, wanted: Iterable[tuple[str, str, int]]) -> list[StoredAlert]:
        """Return for each (rule, subject, moment) the alerts that were not over by then.

        Those that were taken back, or whose rule is gone, are left out.
        """
        rows = list(wanted)
        arguments = {
            "rules": [rule for rule, _, _ in rows],
            "subjects": [subject for _, subject, _ in rows],
            "lates": [instant(late_us) for _, _, late_us in rows],
        }
        return await self._read("known", arguments, _alert)

    async def some(self, ids: Iterable[str]) -> list[StoredAlert]:
        """Return the alerts of *ids* that there are."""
        return await self._read("some", {"ids": list(ids)}, _alert)

    async def some_groups(self, ids: Iterable[str]) -> list[Group]:
        """Return the groups of *ids* that there are."""
        return await self._read("some_groups", {"ids": list(ids)}, _group)

    # -- for people

    async def list(self, wanted: Wanted) -> list[StoredAlert]:
        """Return a page of alerts."""
        after = wanted.after
        arguments = {
            "limit": wanted.limit,
            "phases": [str(phase) for phase in wanted.phases] or None,
            "severities": list(wanted.severities) or None,
            "rules": [_pattern(rule) for rule in wanted.rules] or None,
            "sites": None if wanted.sites is None else list(wanted.sites),
            "subjects": list(wanted.subjects) or None,
            "group": wanted.group or None,
            "since": None if wanted.since_us is None else instant(wanted.since_us),
            "until": None if wanted.until_us is None else instant(wanted.until_us),
            "is_open": wanted.is_open,
            "needs_attention": wanted.needs_attention,
            "after_at": instant(after[0]) if after else None,
            "after_id": after[1] if after else None,
        }
        return await self._read("list", arguments, _alert)

    async def entries(self, alert_id: str) -> _Entries:
        """Return the history of one alert, the first line first; empty for an unknown one."""
        return await self._read("entries", {"id": alert_id}, _entry)

    async def groups(
        self,
        limit: int,
        is_open: bool | None = None,
        places: Sequence[str] | None = None,
        after: Behind | None = None,
    ) -> _Groups:
        """Return a page of groups, with how many of their alerts are open."""
        arguments = {
            "limit": limit,
            "is_open": is_open,
            "places": None if places is None else [*places],
            "after_at": instant(after[0]) if after else None,
            "after_id": after[1] if after else None,
        }
        return await self._read("groups", arguments, _counted_group)

    async def silences(self, now_us: int, with_past: bool, limit: int) -> _Silences:
        """Return silences that are not over at *now_us*, or also past ones."""
        arguments = {"now": instant(now_us), "with_past": with_past, "limit": limit}
        return await self._read("silences", arguments, _silence)

    async def silence(self, silence_id: str) -> StoredSilence | None:
        """Return one silence, None where there is none."""
        found = await self._read("silence", {"id": silence_id}, _silence)
        return found[0] if found else None

    async def notices(self, after: int, limit: int) -> _Notices:
        """Return up to *limit* notices behind the position *after*, in their order."""
        return await self._read("notices", {"after": after, "limit": limit}, _placed_notice)

    async def pack_changes(self, pack: str, limit: int) -> _PackChanges:
        """Return what was recorded of *pack*, the newest first."""
        return await self._read("pack_changes", {"pack": pack, "limit": limit}, _pack_change)

    async def _read(
        self, name: str, arguments: Mapping[str, Any], made: Callable[[dict[str, Any]], T]
    ) -> _List[T]:
        async def read(connection: Connection) -> _List[T]:
            return await _all(connection, name, arguments, made)

        return await self._pool.run(read)


_MOST = 10_000
_SQL = statements("alerts")
_SQL_REGISTRY = statements("registry")

# Under other names where `list` is a method.
_List = list
_Entries = list[Entry]
_Groups = list[StoredGroup]
_Silences = list[StoredSilence]
_Notices = list[PlacedNotice]
_PackChanges = list[StoredPackChange]


async def _all(
    connection: Connection,
    name: str,
    arguments: Mapping[str, Any],
    made: Callable[[dict[str, Any]], T],
) -> list[T]:
    cursor = connection.cursor(row_factory=dict_row)
    return [made(row) async for row in await cursor.execute(_SQL[name], arguments)]


def _pattern(rule: str) -> str:
    """Return *rule*, where ``*`` stands for any letters, as a pattern of LIKE."""
    return re.sub(r"([\\%_])", r"\\\1", rule).replace("*", "%")


# -- into rows


def _at(us: int | None) -> str | None:
    if us is None:
        return None
    if not fits(us):
        raise DataRefused(f"{us} µs: a time outside the years 1 to 9999")
    return instant(us).isoformat()


def _number(value: float | None) -> float | None:
    """Return *value* where it can be written; what is infinite is not known."""
    return value if value is not None and math.isfinite(value) else None


def _alert_row(stored: StoredAlert) -> dict[str, Any]:
    alert, episode = stored.alert, stored.alert.episode
    steps = [{**msgspec.to_builtins(step), **_finite(step)} for step in episode.steps]
    return {
        "id": alert.id,
        "rule": episode.rule,
        "rule_version": episode.rule_version,
        "subject": episode.subject,
        "site": episode.site,
        "phase": alert.phase.value,
        "severity": episode.severity,
        "worst": episode.worst,
        "started_at": _at(episode.started_at_us),
        "fired_at": _at(episode.fired_at_us),
        "resolved_at": _at(episode.resolved_at_us),
        "last_at": _at(episode.steps[-1].at_us),
        "value": _number(episode.value),
        "peak": _number(episode.peak),
        "unobserved_us": episode.unobserved_us,
        "steps": steps,
        **_mark_row("acknowledged", alert.acknowledged),
        "assigned_to": alert.assigned_to,
        **_shelf_row(alert.shelf),
        **_mark_row("closed", alert.closed),
        "comments": msgspec.to_builtins(alert.comments),
        "replaces": alert.replaces,
        "group_id": stored.group,
        "is_pageable": stored.is_pageable,
        "entries": alert.entries,
    }


def _finite(step: Step) -> dict[str, float | None]:
    return {"value": _number(step.value), "peak": _number(step.peak)}


def _mark_row(name: str, mark: Mark | None) -> dict[str, str | None]:
    return {
        f"{name}_by": mark.by if mark else None,
        f"{name}_at": _at(mark.at_us) if mark else None,
        f"{name}_note": mark.note if mark else None,
    }


def _shelf_row(shelf: Shelf | None) -> dict[str, Any]:
    return {
        "shelved_by": shelf.by if shelf else None,
        "shelved_until": _at(shelf.until_us) if shelf else None,
        "shelved_reason": shelf.reason if shelf else None,
        "shelved_severity": shelf.severity if shelf else None,
    }


def _group_row(stored: StoredGroup) -> dict[str, Any]:
    group = stored.group
    return {
        "id": group.id,
        "label": group.label,
        "place": group.place,
        "opened_at": _at(group.opened_at_us),
        "members": list(group.members),
        "told_severity": group.told_severity,
        "notices": group.notices,
        "told_at": [_at(at_us) for at_us, _ in group.told_us],
        "told_severities": [severity for _, severity in group.told_us],
        "is_flapping": group.is_flapping,
        "at_rest": stored.at_rest,
    }


def _entry_row(entry: Entry) -> dict[str, Any]:
    return {
        "alert_id": entry.alert,
        "number": entry.number,
        "kind": entry.kind,
        "at": _at(entry.at_us),
        "recorded_at": _at(entry.recorded_at_us),
        "actor": entry.actor,
        "note": entry.note,
        "severity": entry.severity,
        "value": _number(entry.value),
        "peak": _number(entry.peak),
        "duration_us": entry.duration_us,
        "coverage": entry.coverage,
        "revised": entry.revised,
    }


def _notice_row(notice: Notice) -> dict[str, Any]:
    return {
        "group_id": notice.group,
        "number": notice.number,
        "told": notice.told.value,
        "severity": notice.severity,
        "at": _at(notice.at_us),
        "alerts": list(notice.alerts),
        "open_count": notice.count,
        "tell": list(notice.tell),
    }


def _silence_row(stored: StoredSilence) -> dict[str, Any]:
    silence = stored.silence
    return {
        "id": silence.id,
        "author": silence.by,
        "reason": silence.reason,
        "from_at": _at(silence.from_us),
        "until_at": _at(silence.until_us),
        "rules": list(silence.rules),
        "sites": list(silence.sites),
        "subjects": list(silence.subjects),
        "worst": silence.worst,
        "ended_by": stored.ended_by,
        "ended_note": stored.ended_note,
    }


def _pack_change_row(change: StoredPackChange) -> dict[str, Any]:
    return {
        "id": change.id,
        "pack": change.pack,
        "actor": change.by,
        "reason": change.reason,
        "changed_at": _at(change.at_us),
        "before": change.before,
        "after": change.after,
    }


# -- out of rows


def _alert(row: dict[str, Any]) -> StoredAlert:
    episode = Episode(
        id=row["id"],
        rule=row["rule"],
        rule_version=row["rule_version"],
        subject=row["subject"],
        site=row["site"],
        started_at_us=microseconds(row["started_at"]),
        steps=msgspec.convert(row["steps"], tuple[Step, ...]),
    )
    alert = Alert(
        episode=episode,
        phase=Phase(row["phase"]),
        acknowledged=_mark(row, "acknowledged"),
        assigned_to=row["assigned_to"],
        shelf=_shelf(row),
        closed=_mark(row, "closed"),
        comments=msgspec.convert(row["comments"], tuple[Mark, ...]),
        replaces=row["replaces"],
        entries=row["entries"],
    )
    return StoredAlert(alert, row["group_id"], row["is_pageable"])


def _mark(row: dict[str, Any], name: str) -> Mark | None:
    by = row[f"{name}_by"]
    return None if by is None else Mark(by, microseconds(row[f"{name}_at"]), row[f"{name}_note"])


def _shelf(row: dict[str, Any]) -> Shelf | None:
    if row["shelved_by"] is None:
        return None
    until_us = microseconds(row["shelved_until"])
    return Shelf(row["shelved_by"], until_us, row["shelved_reason"], row["shelved_severity"])


def _group(row: dict[str, Any]) -> Group:
    told = zip(row["told_at"], row["told_severities"], strict=True)
    return Group(
        id=row["id"],
        label=row["label"],
        place=row["place"],
        opened_at_us=microseconds(row["opened_at"]),
        members=tuple(row["members"]),
        told_severity=row["told_severity"],
        notices=row["notices"],
        told_us=tuple((microseconds(at), severity) for at, severity in told),
        is_flapping=row["is_flapping"],
    )


def _counted_group(row: dict[str, Any]) -> StoredGroup:
    return StoredGroup(_group(row), open=row["open"])


def _entry(row: dict[str, Any]) -> Entry:
    alert, at, recorded_at = row.pop("alert_id"), row.pop("at"), row.pop("recorded_at")
    return Entry(
        alert=alert, at_us=microseconds(at), recorded_at_us=microseconds(recorded_at), **row
    )


def _placed_notice(row: dict[str, Any]) -> PlacedNotice:
    notice = Notice(
        group=row["group_id"],
        number=row["number"],
        told=Told(row["told"]),
        severity=row["severity"],
        at_us=microseconds(row["at"]),
        alerts=tuple(row["alerts"]),
        count=row["open_count"],
        tell=tuple(row["tell"]),
    )
    return PlacedNotice(row["position"], notice)


def _silence(row: dict[str, Any]) -> StoredSilence:
    silence = Silence(
        id=row["id"],
        by=row["author"],
        reason=row["reason"],
        from_us=microseconds(row["from_at"]),
        until_us=microseconds(row["until_at"]),
        rules=tuple(row["rules"]),
        sites=tuple(row["sites"]),
        subjects=tuple(row["subjects"]),
        worst=row["worst"],
    )
    return StoredSilence(silence, row["ended_by"], row["ended_note"])


def _pack_change(row: dict[str, Any]) -> StoredPackChange:
    return StoredPackChange(
        row["pack"],
        row["actor"],
        row["reason"],
        microseconds(row["changed_at"]),
        row["before"],
        row["after"],
    )
