"""Where HTTP meets the alerts: the database for what was, memory for what is newer.

`LiveDesk` stands over the keeper of this process.  While the database is away it answers from
memory, which holds what is open and what ended lately.  `StoredDesk` is for a process that only
reads: it sees what the judging process has stored, and changes nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields

from alerts.binding import Binding, Unbound, bind
from alerts.book import Because, Book, Silence
from alerts.errors import IllegalAction
from alerts.places import Places
from alerts.state import Alert, Entry, Phase
from api.alerts import (
    AlertChanged,
    AlertQuery,
    AlertRecord,
    AlertsElsewhere,
    AlertsNotKept,
    Deed,
    GroupQuery,
    KeptAlert,
    KeptGroup,
    KeptSilence,
    PackChange,
    RulesInForce,
    UnknownAlert,
    UnknownSilence,
)
from devices.registry import Registry
from greenhouse.alerting.keeper import AlertKeeper
from greenhouse.alerting.ledger import NotDurable
from greenhouse.alerting.rules import LoadedRules, RuleSource
from storage.alerts import (
    AlertStore,
    StoredAlert,
    StoredGroup,
    StoredPackChange,
    StoredSilence,
    Wanted,
)
from storage.errors import DatabaseUnavailable

_READS_ONLY = "this process only reads alerts: ask the one that judges (greenhouse run)"


class LiveDesk:
    """An `api.alerts.AlertDesk` over *keeper*, whose caller closes it."""

    def __init__(self, keeper: AlertKeeper) -> None:
        self._keeper = keeper
        self._ledger = keeper.ledger
        self._store = keeper.store

    def rules(self) -> RulesInForce:
        """Return what is judged now."""
        keeper = self._keeper
        built = keeper.built
        return RulesInForce(
            packs=keeper.loaded.packs,
            bindings=built.engine.bindings if built else (),
            unbound=tuple(built.engine.unbound) if built else (),
            failures=keeper.failures(),
            surroundings=keeper.surroundings,
        )

    # -- looking

    async def alerts(self, query: AlertQuery) -> list[KeptAlert]:
        """Return up to *query.limit* alerts, by (started_at_us, id) falling."""
        newer = {
            key: self._ledger.find(key) or one for key, one in self._ledger.unsaved.alerts().items()
        }
        try:
            found = await self._store.list(_wanted(query, query.limit + len(newer)))
        except DatabaseUnavailable:
            found = [one for one in self._ledger.all() if _fits(query, one)]
        rows = [one for one in found if one.alert.id not in newer]
        rows += [one for one in newer.values() if _fits(query, one)]
        rows.sort(key=lambda one: _place(one.alert), reverse=True)
        return [self._kept(one) for one in rows[: query.limit]]

    async def alert(self, alert_id: str) -> AlertRecord:
        """Return one alert with its history; raise `UnknownAlert`."""
        stored = await self._found(alert_id)
        entries = {entry.number: entry for entry in self._ledger.unsaved.entries(alert_id)}
        if len(entries) < stored.alert.entries:
            kept = await self._store.entries(alert_id)
            entries = {entry.number: entry for entry in kept} | entries
        return AlertRecord(self._kept(stored), _in_order(entries.values()))

    async def _found(self, alert_id: str) -> StoredAlert:
        found = self._ledger.find(alert_id) or self._ledger.unsaved.alerts().get(alert_id)
        if found is None:
            found = next(iter(await self._store.some([alert_id])), None)
        if found is None:
            raise UnknownAlert(alert_id)
        return found

    def _kept(self, stored: StoredAlert) -> KeptAlert:
        book = self._ledger.book
        because = None
        if stored.alert.is_open and book.alert(stored.alert.id) is not None:
            because = book.held_back(stored.alert, self._keeper.now_us())
        return KeptAlert(stored.alert, stored.group, because)

    async def groups(self, query: GroupQuery) -> list[KeptGroup]:
        """Return up to *query.limit* groups, by (opened_at_us, id) falling."""
        newer = self._ledger.unsaved.groups()
        newer |= {group.id: StoredGroup(group) for group in self._ledger.book.groups()}
        limit = query.limit + len(newer)
        try:
            found = await self._store.groups(limit, query.is_open, query.places, _behind(query))
        except DatabaseUnavailable:
            found = [StoredGroup(group) for group in self._ledger.groups()]
            newer = {one.group.id: one for one in found}
        rows = [KeptGroup(one.group, one.open) for one in found if one.group.id not in newer]
        for one in newer.values():
            members = [self._ledger.book.alert(member) for member in one.group.members]
            count = sum(alert is not None and alert.is_open for alert in members)
            group = KeptGroup(one.group, count)
            if _group_fits(query, group):
                rows.append(group)
        rows.sort(key=lambda one: (one.group.opened_at_us, one.group.id), reverse=True)
        return rows[: query.limit]

    async def silences(self, with_past: bool, limit: int) -> list[KeptSilence]:
        """Return silences that are not over, or also past ones, the latest beginning first."""
        now_us = self._keeper.now_us()
        newer = {one.silence.id: one for one in self._ledger.silences()}
        newer |= self._ledger.unsaved.silences()
        try:
            found = await self._store.silences(now_us, with_past, limit + len(newer))
        except DatabaseUnavailable:
            found = []
        rows = [one for one in found if one.silence.id not in newer]
        rows += [one for one in newer.values() if with_past or now_us < one.silence.until_us]
        rows.sort(key=lambda one: (one.silence.from_us, one.silence.id), reverse=True)
        return [_kept_silence(one) for one in rows[:limit]]

    async def pack_changes(self, pack: str, limit: int) -> list[PackChange]:
        """Return what was recorded of *pack*, the newest first."""
        found = {one.id: one for one in await self._store.pack_changes(pack, limit)}
        found |= {one.id: one for one in self._ledger.unsaved.pack_changes(pack)}
        rows = sorted(found.values(), key=lambda one: (one.at_us, one.id), reverse=True)
        return [_pack_change(one) for one in rows[:limit]]

    # -- doing

    async def act(self, alert_id: str, deed: Deed, version: int | None) -> KeptAlert:
        """Do *deed*, and return the alert after it; durable when it returns."""
        self._must_be_ready()
        stored = await self._found(alert_id)
        async with self._keeper.lock:
            stored = self._ledger.find(alert_id) or stored
            if version is not None and version != stored.alert.entries:
                raise AlertChanged(stored.alert.entries)
            now_us = self._keeper.now_us()
            try:
                after = await self._ledger.act(deed.action, stored, now_us, deed.arguments())
            except NotDurable as error:
                raise AlertsNotKept(str(error)) from error
        return self._kept(after)

    async def silence(self, silence: Silence) -> None:
        """Begin *silence*; its id is new."""
        self._must_be_ready()
        async with self._keeper.lock:
            try:
                await self._ledger.silence(silence, self._keeper.now_us())
            except NotDurable as error:
                raise AlertsNotKept(str(error)) from error

    async def end_silence(self, silence_id: str, by: str, note: str) -> KeptSilence:
        """End a silence now."""
        self._must_be_ready()
        if silence_id not in {one.silence.id for one in self._ledger.silences()}:
            if await self._store.silence(silence_id) is None:
                raise UnknownSilence(silence_id)
            raise IllegalAction(f"silence {silence_id} is over")
        async with self._keeper.lock:
            now_us = self._keeper.now_us()
            try:
                ended = await self._ledger.end_silence(silence_id, by, note, now_us)
            except NotDurable as error:
                raise AlertsNotKept(str(error)) from error
        return _kept_silence(ended)

    async def record(self, change: PackChange) -> None:
        """Keep who changes what, before it is changed."""
        self._must_be_ready()
        async with self._keeper.lock:
            try:
                await self._ledger.record(
                    StoredPackChange(
                        change.pack,
                        change.by,
                        change.reason,
                        change.at_us,
                        change.before,
                        change.after,
                    )
                )
            except NotDurable as error:
                raise AlertsNotKept(str(error)) from error

    async def reload(self) -> RulesInForce:
        """Take up the packs as they now lie on the disk."""
        self._must_be_ready()
        await self._keeper.reload()
        return self.rules()

    def _must_be_ready(self) -> None:
        if self._keeper.built is None:
            raise AlertsNotKept("the alerts of the last run are being taken up; try again soon")


class StoredDesk:
    """An `api.alerts.AlertDesk` on what another process stored; `run` follows rules and registry.

    Every wish to change something raises `AlertsElsewhere`.
    """

    def __init__(
        self,
        store: AlertStore,
        source: RuleSource,
        registry: Callable[[], Registry],
        now_us: Callable[[], int],
    ) -> None:
        self._store = store
        self._source = source
        self._registry = registry
        self._now_us = now_us
        self._loaded = LoadedRules()
        self._bindings: tuple[Binding, ...] = ()
        self._unbound: tuple[Unbound, ...] = ()
        self._judged_by: tuple[LoadedRules, int] | None = None

    async def run(self, every_s: float) -> None:
        """Follow the packs on the disk and the registry; runs until cancelled."""
        while True:
            self._loaded = await asyncio.to_thread(self._source.load)
            registry = self._registry()
            judged_by = (self._loaded, registry.revision)
            if judged_by != self._judged_by and registry.series_ids:
                rules = list(self._loaded.rules().values())
                bindings, unbound = await asyncio.to_thread(
                    bind, rules, registry, self._source.surroundings
                )
                self._bindings, self._unbound = tuple(bindings), tuple(unbound)
                self._judged_by = judged_by
            await asyncio.sleep(every_s)

    def rules(self) -> RulesInForce:
        """Return the rules in force; which of them fail, only the judging process knows."""
        return RulesInForce(
            packs=self._loaded.packs,
            bindings=self._bindings,
            unbound=self._unbound,
            surroundings=self._source.surroundings,
        )

    async def alerts(self, query: AlertQuery) -> list[KeptAlert]:
        """Return up to *query.limit* alerts, by (started_at_us, id) falling."""
        found = await self._store.list(_wanted(query, query.limit))
        return await self._kept(found)

    async def alert(self, alert_id: str) -> AlertRecord:
        """Return one alert with its history; raise `UnknownAlert`."""
        found = await self._store.some([alert_id])
        if not found:
            raise UnknownAlert(alert_id)
        (kept,) = await self._kept(found)
        return AlertRecord(kept, _in_order(await self._store.entries(alert_id)))

    async def _kept(self, found: Sequence[StoredAlert]) -> list[KeptAlert]:
        """Return alerts with the reason why people are not told of those that are open."""
        now_us = self._now_us()
        book = None
        if any(one.alert.is_open for one in found):
            stored = await self._store.awake(now_us, now_us)
            book = Book(self._loaded.rules(), Places(self._registry()))
            book.restore(
                [one.alert for one in stored.alerts],
                stored.groups,
                [one.silence for one in stored.silences],
                [one.alert.id for one in stored.alerts if one.is_pageable],
            )

        def because(alert: Alert) -> Because | None:
            return book.held_back(alert, now_us) if book and alert.is_open else None

        return [KeptAlert(one.alert, one.group, because(one.alert)) for one in found]

    async def groups(self, query: GroupQuery) -> list[KeptGroup]:
        """Return up to *query.limit* groups, by (opened_at_us, id) falling."""
        found = await self._store.groups(query.limit, query.is_open, query.places, _behind(query))
        return [KeptGroup(one.group, one.open) for one in found]

    async def silences(self, with_past: bool, limit: int) -> list[KeptSilence]:
        """Return silences that are not over, or also past ones, the latest beginning first."""
        found = await self._store.silences(self._now_us(), with_past, limit)
        return [_kept_silence(one) for one in found]

    async def pack_changes(self, pack: str, limit: int) -> list[PackChange]:
        """Return what was recorded of *pack*, the newest first."""
        return [_pack_change(one) for one in await self._store.pack_changes(pack, limit)]

    async def act(self, alert_id: str, deed: Deed, version: int | None) -> KeptAlert:
        """Refuse: another process holds the alerts."""
        raise AlertsElsewhere(_READS_ONLY)

    async def silence(self, silence: Silence) -> None:
        """Refuse: another process holds the alerts."""
        raise AlertsElsewhere(_READS_ONLY)

    async def end_silence(self, silence_id: str, by: str, note: str) -> KeptSilence:
        """Refuse: another process holds the alerts."""
        raise AlertsElsewhere(_READS_ONLY)

    async def record(self, change: PackChange) -> None:
        """Refuse: another process judges by the packs."""
        raise AlertsElsewhere(_READS_ONLY)

    async def reload(self) -> RulesInForce:
        """Refuse: another process judges by the packs."""
        raise AlertsElsewhere(_READS_ONLY)


# -- the same question for the database and for memory


def _wanted(query: AlertQuery, limit: int) -> Wanted:
    given = {
        field.name: getattr(query, field.name)
        for field in fields(query)
        if field.name not in ("limit", "after")
    }
    return Wanted(limit=limit, after=_behind(query), **given)


def _behind(query: AlertQuery | GroupQuery) -> tuple[int, str] | None:
    return (query.after.started_at_us, query.after.id) if query.after else None


def _fits(query: AlertQuery, stored: StoredAlert) -> bool:
    """Tell whether the database would list *stored* for *query*."""
    alert, episode = stored.alert, stored.alert.episode
    behind = _behind(query)
    return (
        (not query.phases or alert.phase in query.phases)
        and (not query.severities or episode.severity in query.severities)
        and (not query.rules or any(_is_like(episode.rule, rule) for rule in query.rules))
        and (query.sites is None or episode.site in query.sites)
        and (not query.subjects or episode.subject in query.subjects)
        and (not query.group or stored.group == query.group)
        and (query.until_us is None or episode.started_at_us < query.until_us)
        and (query.since_us is None or alert.is_open or episode.steps[-1].at_us >= query.since_us)
        and (query.is_open is None or alert.is_open == query.is_open)
        and (query.needs_attention is None or _needs_attention(alert) == query.needs_attention)
        and (behind is None or _place(alert) < behind)
    )


def _needs_attention(alert: Alert) -> bool:
    return alert.is_open or (alert.phase is Phase.RESOLVED and alert.acknowledged is None)


def _is_like(rule: str, pattern: str) -> bool:
    parts = (re.escape(part) for part in pattern.split("*"))
    return re.fullmatch(".*".join(parts), rule) is not None


def _group_fits(query: GroupQuery, kept: KeptGroup) -> bool:
    group, behind = kept.group, _behind(query)
    return (
        (query.is_open is None or (kept.open > 0) == query.is_open)
        and (query.places is None or group.place in query.places)
        and (behind is None or (group.opened_at_us, group.id) < behind)
    )


def _place(alert: Alert) -> tuple[int, str]:
    return alert.episode.started_at_us, alert.id


def _in_order(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda entry: entry.number))


def _kept_silence(stored: StoredSilence) -> KeptSilence:
    return KeptSilence(stored.silence, stored.ended_by, stored.ended_note)


def _pack_change(stored: StoredPackChange) -> PackChange:
    return PackChange(
        stored.pack, stored.by, stored.reason, stored.at_us, stored.before, stored.after
    )
