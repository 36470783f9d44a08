"""The ledger of alerts: the book, what was put away lately, and what makes both durable.

    transitions ──▶ book ──▶ journal (the disk) ──▶ unsaved ──▶ database
    people      ──▶  ▲
                     └── put away lately: news of it finds its way back

What people do is in the journal before they are answered, or it did not happen.  What readings did
happens also when the disk is full: then it is in memory, the trouble is told, and the journal is
written anew as soon as that works.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from alerts import state
from alerts.book import Book, Group, Outcome, Silence
from alerts.episode import Change, Transition
from alerts.errors import IllegalAction
from alerts.places import Places
from alerts.rule import Rule
from alerts.state import Action, Alert
from devices.registry import Registry
from greenhouse.alerting.journal import FORMAT, Journal, Line, Standing
from greenhouse.alerting.unsaved import Unsaved
from storage.alerts import (
    AlertChanges,
    StoredAlert,
    StoredBook,
    StoredGroup,
    StoredPackChange,
    StoredSilence,
)

_log = logging.getLogger(__name__)

MOST_PUT_AWAY = 2_000


_Deed = Callable[[], Outcome]


class NotDurable(Exception):
    """The journal could not be written, so what was asked has not happened."""


class Ledger:
    """Holds the alerts of one process.  One caller at a time: whoever changes it holds a lock.

    *put_away* are the alerts that the book let go of lately, at most `MOST_PUT_AWAY`.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.book = Book({}, Places(Registry()))
        self.put_away: OrderedDict[str, StoredAlert] = OrderedDict()
        self._rested: OrderedDict[str, Group] = OrderedDict()
        self._group_of: dict[str, str] = {}
        self._silences: dict[str, StoredSilence] = {}
        self.unsaved = Unsaved()
        self.waiting = asyncio.Event()
        self.since_us = 0
        self.problem = ""
        self.entries_by_kind: dict[str, int] = {}
        self.notices_by_told: dict[str, int] = {}

    # -- beginning

    def take_up(self, lines: Sequence[Line], now_us: int) -> bool:
        """Take up what an earlier run wrote; return whether there was anything."""
        alerts: dict[str, StoredAlert] = {}
        awake: dict[str, Group] = {}
        rested: dict[str, Group] = {}
        found = False
        for line in lines:
            if line.standing is not None and line.standing.format == FORMAT:
                found = True
                standing = line.standing
                self.since_us = standing.since_us
                alerts |= {one.alert.id: one for one in standing.alerts}
                awake |= {group.id: group for group in standing.groups}
                rested |= {group.id: group for group in standing.rested}
                self._silences |= {one.silence.id: one for one in standing.silences}
            if line.changes is not None:
                self._wait(line.changes)
                alerts |= {one.alert.id: one for one in line.changes.alerts}
                self._silences |= {one.silence.id: one for one in line.changes.silences}
                for one in line.changes.groups:
                    there, gone = (rested, awake) if one.at_rest else (awake, rested)
                    there[one.group.id] = one.group
                    gone.pop(one.group.id, None)
        self._rested.update(rested)
        self._settle_in(alerts.values(), awake.values(), now_us)
        return found

    def take_up_stored(self, stored: StoredBook, now_us: int) -> None:
        """Take up what the database has and this ledger does not know."""
        self._silences |= {
            one.silence.id: one for one in stored.silences if one.silence.id not in self._silences
        }
        mine = {alert.id: self._stored(alert) for alert in self.book.alerts()}
        alerts = {one.alert.id: one for one in stored.alerts} | dict(self.put_away) | mine
        groups = {group.id: group for group in stored.groups}
        groups |= {group.id: group for group in self.book.groups()}
        self._settle_in(alerts.values(), groups.values(), now_us)

    def _settle_in(
        self, alerts: Iterable[StoredAlert], groups: Iterable[Group], now_us: int
    ) -> None:
        groups = list(groups)
        members = {member for group in groups for member in group.members}
        held = []
        for one in alerts:
            self._group_of[one.alert.id] = one.group
            if one.alert.is_open or one.alert.id in members:
                held.append(one)
                self.put_away.pop(one.alert.id, None)
            else:
                self._put_away(one)
        self.book.restore(
            [one.alert for one in held],
            groups,
            [one.silence for one in self._silences.values() if now_us < one.silence.until_us],
            [one.alert.id for one in held if one.is_pageable],
        )

    def adopt(self, rules: Mapping[str, Rule], registry: Registry) -> None:
        """Judge by other rules and places from now on; the alerts stay."""
        self.book.rules = rules
        self.book.places = Places(registry)

    async def write_anew(self, late_us: Mapping[int, int]) -> None:
        """Write the journal anew from what counts; raise OSError where that cannot be."""
        lines = [Line(standing=self._standing()), Line(changes=self.unsaved.all())]
        if late_us:
            lines.append(Line(late_us=dict(late_us)))
        await asyncio.to_thread(self._journal.rewrite, lines)
        self.problem = ""

    @property
    def has_grown(self) -> bool:
        """Whether the journal would become shorter by being written anew."""
        return self._journal.has_grown or bool(self.problem)

    def _standing(self) -> Standing:
        alerts = [self._stored(alert) for alert in self.book.alerts()]
        return Standing(
            format=FORMAT,
            since_us=self.since_us,
            alerts=[*self.put_away.values(), *alerts],
            groups=list(self.book.groups()),
            rested=list(self._rested.values()),
            silences=list(self._silences.values()),
        )

    # -- what readings do

    async def take(self, news: Sequence[Transition], now_us: int) -> Outcome:
        """Take *news* in, and what time alone brings.

        Durable on return, unless the disk fails: then *problem* says so.
        """
        for transition in news:
            self._bring_back(transition.episode.id)
        # When it was noticed is said by the clock, not by how far judging has come.
        news = [replace(one, noticed_at_us=now_us) for one in news if not self._is_told(one)]
        before = self._before()
        outcome = self.book.take(news, now_us)
        changes = self._changes(outcome, before)
        self._forget_silences(now_us)
        if changes is not None:
            self._count(changes)
            self._wait(changes)
            await self._append_if_possible(changes)
        return outcome

    def remember(self, stored: Iterable[StoredAlert], groups: Iterable[Group]) -> None:
        """Learn of alerts that were put away before this ledger began, for news of them."""
        awake = {group.id for group in self.book.groups()}
        for group in groups:
            if group.id not in awake:
                self._rested.setdefault(group.id, group)
        for one in stored:
            if not self.is_held(one.alert.id):
                self._group_of[one.alert.id] = one.group
                self._put_away(one)

    def is_held(self, alert_id: str) -> bool:
        """Whether the book or the memory of what was put away has this alert."""
        return alert_id in self.put_away or self.book.alert(alert_id) is not None

    def _is_told(self, news: Transition) -> bool:
        """Tell whether *news* says again, after a restart, that something old still stands."""
        return news.change is Change.STANDS and self.book.is_pageable(news.episode.id)

    def _bring_back(self, alert_id: str) -> None:
        stored = self.put_away.pop(alert_id, None)
        if stored is not None:
            group = self._rested.pop(stored.group, None)
            self.book.recall(stored.alert, group, stored.is_pageable)

    # -- what people do

    async def act(
        self, action: Action, alert: StoredAlert, now_us: int, how: Mapping[str, object]
    ) -> StoredAlert:
        """Do *action* to *alert*, which the book holds or which was put away.

        Raises `IllegalAction` and `NotDurable`; after both nothing has changed.
        """
        check_text(*(value for value in how.values() if isinstance(value, str)))
        alert_id = alert.alert.id
        if self.book.alert(alert_id) is not None:
            await self._do(lambda: self.book.act(action, alert_id, now_us, **how))
            return self.find(alert_id) or alert
        changed, entries = state.ACTIONS[action](alert.alert, now_us=now_us, **how)
        stored = replace(alert, alert=changed)
        changes = AlertChanges([stored], entries=entries)
        await self._append(changes)
        self._count(changes)
        self._wait(changes)
        self._put_away(stored)
        return stored

    async def silence(self, silence: Silence, now_us: int) -> None:
        """Begin *silence*; raises as `act` does."""
        check_text(silence.by, silence.reason, *silence.rules, *silence.sites, *silence.subjects)
        stored = StoredSilence(silence)
        await self._do(lambda: self.book.silence(silence, now_us), stored)

    async def end_silence(self, silence_id: str, by: str, note: str, now_us: int) -> StoredSilence:
        """End a silence now; raises as `act` does."""
        check_text(by, note)
        stored = self._silences.get(silence_id)
        if stored is None or stored.silence.until_us <= now_us:
            raise IllegalAction(f"silence {silence_id} is over or unknown")
        ended = StoredSilence(replace(stored.silence, until_us=now_us), by, note)
        await self._do(lambda: self.book.unsilence(silence_id, now_us), ended)
        return ended

    async def record(self, change: StoredPackChange) -> None:
        """Keep who changes a pack; raises `NotDurable`."""
        check_text(change.by, change.reason, change.before or "", change.after or "")
        changes = AlertChanges(pack_changes=[change])
        await self._append(changes)
        self._wait(changes)

    async def _do(self, deed: _Deed, silence: StoredSilence | None = None) -> None:
        """Do *deed* in the book and make it durable, or let it not have happened."""
        book = self.book
        saved = (book.alerts(), book.groups(), book.silences(-1), book.pageable())
        before = self._before()
        kept = (dict(self._group_of), self.put_away.copy(), self._rested.copy())
        outcome = deed()
        changes = self._changes(outcome, before) or AlertChanges()
        if silence is not None:
            changes = replace(changes, silences=[silence])
        try:
            await self._append(changes)
        except NotDurable:
            book.restore(*saved)
            self._group_of, self.put_away, self._rested = kept
            raise
        if silence is not None:
            self._silences[silence.silence.id] = silence
        self._count(changes)
        self._wait(changes)

    # -- looking

    def find(self, alert_id: str) -> StoredAlert | None:
        """Return an alert that the book holds or that was put away lately."""
        alert = self.book.alert(alert_id)
        return self._stored(alert) if alert else self.put_away.get(alert_id)

    def all(self) -> list[StoredAlert]:
        """Return every alert in memory."""
        return [*self.put_away.values(), *(self._stored(a) for a in self.book.alerts())]

    def groups(self) -> list[Group]:
        """Return every group in memory."""
        return [*self._rested.values(), *self.book.groups()]

    def silences(self) -> list[StoredSilence]:
        """Return every silence in memory."""
        return list(self._silences.values())

    def stored(self, changes: AlertChanges) -> None:
        """Let go of what the database has."""
        self.unsaved.saved(changes)
        if not len(self.unsaved):
            self.waiting.clear()

    def _wait(self, changes: AlertChanges) -> None:
        """Let *changes* wait for the database."""
        self.unsaved.add(changes)
        self.waiting.set()

    # -- book-keeping

    def _before(self) -> tuple[dict[str, Alert], dict[str, Group]]:
        return (
            {alert.id: alert for alert in self.book.alerts()},
            {group.id: group for group in self.book.groups()},
        )

    def _changes(
        self, outcome: Outcome, before: tuple[dict[str, Alert], dict[str, Group]]
    ) -> AlertChanges | None:
        """Return what *outcome* is for the database, and put away what the book let go of."""
        alerts_before, groups_before = before
        self.book.let_go()
        groups_now = {group.id: group for group in self.book.groups()}
        for group in groups_now.values():
            if group is not groups_before.get(group.id):
                for member in group.members:
                    self._group_of[member] = group.id
        changed = [self._stored(alert) for alert in outcome.alerts]
        held = {alert.id for alert in self.book.alerts()}
        newest = {one.alert.id: one for one in changed}
        for alert in {**alerts_before, **{one.alert.id: one.alert for one in changed}}.values():
            if alert.id not in held:
                self._put_away(newest.get(alert.id) or self._stored(alert))
        groups = {group.id: StoredGroup(group) for group in outcome.groups}
        for group in groups_now.values():
            old = groups_before.get(group.id)
            if old is None or old.members != group.members:
                groups[group.id] = StoredGroup(group)
        for key, group in groups_before.items():
            if key not in groups_now:
                groups[key] = StoredGroup(group, at_rest=True)
                self._rest(group)
        if not (changed or groups or outcome.entries or outcome.notices):
            return None
        return AlertChanges(
            changed, list(groups.values()), list(outcome.entries), list(outcome.notices)
        )

    def _stored(self, alert: Alert) -> StoredAlert:
        group = self._group_of.get(alert.id, "")
        return StoredAlert(alert, group, self.book.is_pageable(alert.id))

    def _put_away(self, stored: StoredAlert) -> None:
        self.put_away[stored.alert.id] = stored
        self.put_away.move_to_end(stored.alert.id)
        while len(self.put_away) > MOST_PUT_AWAY:
            gone, _ = self.put_away.popitem(last=False)
            self._group_of.pop(gone, None)

    def _rest(self, group: Group) -> None:
        self._rested[group.id] = group
        while len(self._rested) > MOST_PUT_AWAY:
            self._rested.popitem(last=False)

    def _forget_silences(self, now_us: int) -> None:
        if any(one.silence.until_us <= now_us for one in self._silences.values()):
            self._silences = {
                key: one for key, one in self._silences.items() if now_us < one.silence.until_us
            }

    def _count(self, changes: AlertChanges) -> None:
        for entry in changes.entries:
            self.entries_by_kind[entry.kind] = self.entries_by_kind.get(entry.kind, 0) + 1
        for notice in changes.notices:
            told = notice.told.value
            self.notices_by_told[told] = self.notices_by_told.get(told, 0) + 1

    # -- the disk

    async def _append(self, changes: AlertChanges) -> None:
        try:
            await asyncio.to_thread(self._journal.append, Line(changes=changes))
        except OSError as error:
            self._note(error)
            raise NotDurable(str(error)) from error

    async def _append_if_possible(self, changes: AlertChanges) -> None:
        try:
            await asyncio.to_thread(self._journal.append, Line(changes=changes))
        except OSError as error:
            self._note(error)

    async def note_late(self, late_us: Mapping[int, int]) -> None:
        """Note for the next start which series came late; that need not survive a power cut."""
        try:
            await asyncio.to_thread(
                self._journal.append, Line(late_us=dict(late_us)), durably=False
            )
        except OSError as error:
            self._note(error)

    def _note(self, error: OSError) -> None:
        if not self.problem:
            _log.error("the journal of alerts cannot be written: %s", error)
        self.problem = f"the journal of alerts cannot be written: {error}"


def check_text(*texts: str) -> None:
    """Raise `IllegalAction` for text that no database keeps."""
    for text in texts:
        if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            raise IllegalAction("text must not hold a null character or half a surrogate pair")
