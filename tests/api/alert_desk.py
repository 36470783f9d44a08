"""A desk of alerts in memory: the real engine and the real book, and lists for what is put away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from alerts import state
from alerts.book import Book, Group, Outcome, Silence
from alerts.engine import Engine, Settings
from alerts.errors import IllegalAction
from alerts.places import Places
from alerts.rule import Pack, read_pack
from alerts.state import Alert, Entry
from api.alerts import (
    AlertChanged,
    AlertQuery,
    AlertRecord,
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
from api.replays import Turnstile
from api.services import Services
from devices.reading import Batch
from devices.registry import Registry
from greenhouse.pack_folder import PackFolder
from storage.errors import DatabaseUnavailable
from tests.api.base import MINUTE_US, NOW_US, Base

PACK = """
pack: house
version: 3
layer: base
name: {zh: 温室, en: House}
rules:
  - id: hot
    name: {zh: 高温, en: Too hot}
    levels:
      warning: {when: air_temperature > 33 degC, for: 20s, clear: 31 degC}
      critical: {when: air_temperature > 40 degC, for: 10s, clear: 38 degC}
    where: {placement: inside}
    message: {zh: "{site} 气温 {value} {unit}", en: "{site}: air {value} {unit}"}
    runbook: {zh: 开窗, en: Open the vents}
  - id: damp
    name: {zh: 湿度高, en: Too damp}
    when: relative_humidity > 95 %
    severity: info
  - id: by-sun
    name: {en: By the sun}
    when: air_temperature > 50 degC
    where: {site: house-nl}
    schedule: {sun: day}
"""
HOT = "house.hot"


@dataclass
class MemoryDesk:
    """`api.alerts.AlertDesk` over a real engine and a real book; the flags make it fail."""

    registry: Registry
    folder: PackFolder
    packs: tuple[Pack, ...] = field(default_factory=lambda: (read_pack(PACK, "house.yaml"),))
    now_us: int = NOW_US
    away: bool = False
    keeps_nothing: bool = False

    def __post_init__(self) -> None:
        self.shipped = self.packs
        self.kept: dict[str, Alert] = {}
        self.history: dict[str, list[Entry]] = {}
        self.groups_: dict[str, Group] = {}
        self.silences_: dict[str, KeptSilence] = {}
        self.changes: list[PackChange] = []
        self._build()
        self.book = Book(self.rules().rules(), Places(self.registry))

    def _build(self) -> None:
        rules = [rule for pack in self.packs for rule in pack.rules]
        self.engine = Engine(rules, self.registry, Settings())

    # -- what a test does

    def read(self, *stretches: tuple[str, int, Sequence[float]]) -> None:
        """Let readings of series come in, in the order of time: from when on, a value a minute.

        Each value is read twice: neighbours must not lie further apart than three intervals.
        """
        moments: dict[int, list[tuple[int, float]]] = {}
        for code, start_us, values in stretches:
            number = self.registry.series_ids[code]
            for position, value in enumerate(value for value in values for _ in range(2)):
                at_us = start_us + position * MINUTE_US // 2
                moments.setdefault(at_us, []).append((number, value))
        for at_us, rows in sorted(moments.items()):
            numbers, read = zip(*rows, strict=True)
            times = [at_us] * len(rows)
            batch = Batch.of(numbers, times, times, read, [0] * len(rows))
            self._take(self.book.take(self.engine.feed(batch, at_us), at_us))

    def _take(self, outcome: Outcome) -> None:
        self.kept |= {alert.id: alert for alert in outcome.alerts}
        for entry in outcome.entries:
            self.history.setdefault(entry.alert, []).append(entry)
        self.groups_ |= {group.id: group for group in (*self.book.groups(), *outcome.groups)}

    # -- what the routes ask

    def _heard(self) -> None:
        if self.away:
            raise DatabaseUnavailable("connection refused: a detail for the log")

    def rules(self) -> RulesInForce:
        engine = self.engine
        return RulesInForce(
            self.packs, engine.bindings, tuple(engine.unbound), dict(engine.failures)
        )

    def _of(self, alert: Alert) -> KeptAlert:
        group = next((g.id for g in self.groups_.values() if alert.id in g.members), "")
        because = self.book.held_back(alert, self.now_us) if alert.is_open else None
        return KeptAlert(alert, group, because)

    async def alerts(self, query: AlertQuery) -> list[KeptAlert]:
        self._heard()
        found = [one for one in map(self._of, self.kept.values()) if _fits(one, query)]
        found.sort(key=lambda one: _key(one.alert), reverse=True)
        return found[: query.limit]

    async def alert(self, alert_id: str) -> AlertRecord:
        self._heard()
        if alert_id not in self.kept:
            raise UnknownAlert
        return AlertRecord(self._of(self.kept[alert_id]), tuple(self.history[alert_id]))

    async def groups(self, query: GroupQuery) -> list[KeptGroup]:
        self._heard()
        found = []
        for group in self.groups_.values():
            members = [self.kept[one] for one in group.members]
            count = sum(one.is_open for one in members)
            behind = query.after is None or (group.opened_at_us, group.id) < (
                query.after.started_at_us,
                query.after.id,
            )
            is_wanted = query.is_open in (None, count > 0)
            if behind and is_wanted and (query.places is None or group.place in query.places):
                found.append(KeptGroup(group, count))
        found.sort(key=lambda one: (one.group.opened_at_us, one.group.id), reverse=True)
        return found[: query.limit]

    async def act(self, alert_id: str, deed: Deed, version: int | None) -> KeptAlert:
        alert = self.kept.get(alert_id)
        if alert is None:
            raise UnknownAlert
        if version not in (None, alert.entries):
            raise AlertChanged(alert.entries)
        if alert_id in {one.id for one in self.book.alerts()}:
            self._keeps()
            outcome = self.book.act(deed.action, alert_id, self.now_us, **deed.arguments())
        else:
            action = state.ACTIONS[deed.action]
            changed, entries = action(alert, now_us=self.now_us, **deed.arguments())
            outcome = Outcome(alerts=(changed,), entries=tuple(entries))
        self._take(outcome)
        return self._of(self.kept[alert_id])

    def _keeps(self) -> None:
        if self.keeps_nothing:
            raise AlertsNotKept("a detail for the log")

    async def silences(self, with_past: bool, limit: int) -> list[KeptSilence]:
        self._heard()
        found = [
            one
            for one in self.silences_.values()
            if with_past or one.silence.until_us > self.now_us
        ]
        found.sort(key=lambda one: (one.silence.from_us, one.silence.id), reverse=True)
        return found[:limit]

    async def silence(self, silence: Silence) -> None:
        self._keeps()
        self._take(self.book.silence(silence, self.now_us))
        self.silences_[silence.id] = KeptSilence(silence)

    async def end_silence(self, silence_id: str, by: str, note: str) -> KeptSilence:
        kept = self.silences_.get(silence_id)
        if kept is None:
            raise UnknownSilence
        self._keeps()
        if kept.silence.until_us <= self.now_us:
            raise IllegalAction(f"silence {silence_id} is over")
        self._take(self.book.unsilence(silence_id, self.now_us))
        ended = KeptSilence(replace(kept.silence, until_us=self.now_us), by, note)
        self.silences_[silence_id] = ended
        return ended

    async def record(self, change: PackChange) -> None:
        self._keeps()
        self.changes.append(change)

    async def pack_changes(self, pack: str, limit: int) -> list[PackChange]:
        self._heard()
        return [one for one in reversed(self.changes) if one.pack == pack][:limit]

    async def reload(self) -> RulesInForce:
        self.packs = (*self.shipped, *self.folder.packs([]))
        self._build()
        return self.rules()


def _key(alert: Alert) -> tuple[int, str]:
    return (alert.episode.started_at_us, alert.id)


def _fits(one: KeptAlert, query: AlertQuery) -> bool:
    alert, episode = one.alert, one.alert.episode
    end_us = episode.resolved_at_us
    after = query.after and (query.after.started_at_us, query.after.id)
    return (
        (not query.phases or alert.phase in query.phases)
        and (not query.severities or episode.severity in query.severities)
        and (not query.rules or any(fnmatchcase(episode.rule, one) for one in query.rules))
        and (query.sites is None or episode.site in query.sites)
        and (not query.subjects or episode.subject in query.subjects)
        and query.group in ("", one.group)
        and (query.since_us is None or end_us is None or end_us >= query.since_us)
        and (query.until_us is None or episode.started_at_us < query.until_us)
        and query.is_open in (None, alert.is_open)
        and query.needs_attention in (None, alert.needs_attention)
        and (after is None or _key(alert) < after)
    )


@dataclass
class AlertBase(Base):
    """The small base with a desk of alerts and a folder of packs."""

    desk: MemoryDesk | None = None
    folder: PackFolder | None = None
    replays: Turnstile = field(default_factory=Turnstile)
    packs_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def services(self) -> Services:
        return replace(
            super().services(),
            alerts=self.desk,
            packs=self.folder,
            replays=self.replays,
            packs_lock=self.packs_lock,
        )
