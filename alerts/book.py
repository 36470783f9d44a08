"""The book of alerts: what stands, what people did about it, and what ought to be told.

    news = engine.feed(batch, now_us)
    outcome = book.take(news, now_us)      # also without news, every few seconds
    store(outcome.entries, outcome.alerts); deliver(outcome.notices)

Alerts of one cause are told as one **group**: those of one rule, or of rules with the same `group`
word, in one house.  For each group the book compares what people were last told with what they
ought to know now, and says the difference.  Because it compares states and not events, a repeat
says nothing, a restart says nothing twice, and what was held back is said when the reason is gone.

Held back is: what lies within the subject of a standing alert whose rule hides it (a house without
power hides its sensors); what a silence covers; what is shelved or acknowledged; and what flaps,
where two notices in ten minutes are enough unless it becomes worse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase

from alerts import state
from alerts.episode import Change, Transition
from alerts.errors import IllegalAction
from alerts.places import Places
from alerts.rule import Rule
from alerts.state import Action, Alert, Entry, Phase


@dataclass(frozen=True, slots=True)
class Silence:
    """Nobody is told of what it matches, from *from_us* until *until_us*; alerts go on meanwhile.

    *rules* are codes with ``*`` for any letters, *sites* stand for all below them, *subjects* are
    subject keys; what is empty does not restrict, but not all may be.  *worst* is the highest
    severity that it covers.
    """

    id: str
    by: str
    reason: str
    from_us: int
    until_us: int
    rules: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    worst: int = 3

    def check(self) -> None:
        """Raise `IllegalAction` where it has no author, reason, end or matcher."""
        if not self.by.strip() or not self.reason.strip():
            raise IllegalAction("a silence needs the name of its author and a reason")
        if self.until_us <= self.from_us:
            raise IllegalAction("a silence needs an end after its beginning")
        if not (self.rules or self.sites or self.subjects):
            raise IllegalAction("a silence needs a rule, a site or a subject that it is about")

    def covers(self, alert: Alert, places: Places, now_us: int) -> bool:
        """Tell whether *alert* is silenced at *now_us*."""
        episode = alert.episode
        return (
            self.from_us <= now_us < self.until_us
            and episode.severity <= self.worst
            and (not self.rules or any(fnmatchcase(episode.rule, r) for r in self.rules))
            and (not self.subjects or episode.subject in self.subjects)
            and (not self.sites or any(places.is_within(episode.site, s) for s in self.sites))
        )


class Because(StrEnum):
    """Why an open alert is not told of."""

    HIDDEN = "hidden"
    SILENCED = "silenced"
    SHELVED = "shelved"
    ACKNOWLEDGED = "acknowledged"
    FOUND_LATE = "found_late"


class Told(StrEnum):
    """What a notice says of a group."""

    FIRING = "firing"
    WORSE = "worse"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to be told now, of a group; *severity* is the worst of what is told.

    *alerts* are the ids that it is about, worst first; *count* how many are open in the group, told
    or held back.  *number* counts the notices of the group from 1: group and number together name a
    notice for ever.
    """

    group: str
    number: int
    told: Told
    severity: int
    at_us: int
    alerts: tuple[str, ...]
    count: int
    tell: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Alerts of one cause: *label* (a rule or a group word) at *place* (a house, else a site).

    *members* are the alerts since it opened; *told_severity* is what people were last told, 0 for
    nothing or all over; *told_us* when and with which severity, for as long as manners count.
    """

    id: str
    label: str
    place: str
    opened_at_us: int
    members: tuple[str, ...]
    told_severity: int = 0
    notices: int = 0
    told_us: tuple[tuple[int, int], ...] = ()
    is_flapping: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call changed: *alerts* and *groups* as they are now, new history, and notices."""

    alerts: tuple[Alert, ...] = ()
    groups: tuple[Group, ...] = ()
    entries: tuple[Entry, ...] = ()
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Manners:
    """How many notices of one group in how many seconds are enough."""

    notices: int = 2
    per_s: float = 600.0


@dataclass(slots=True)
class Book:
    """Holds the open alerts and those of open groups; the rest lies in storage.

    What people do about an alert that was put away goes through the same functions of
    `alerts.state`, on the alert as it was stored.

    *rules* by code say what hides what and what is grouped; alerts of rules that are gone are kept.
    """

    rules: Mapping[str, Rule]
    places: Places
    manners: Manners = field(default_factory=Manners)
    _alerts: dict[str, Alert] = field(default_factory=dict)
    _groups: dict[tuple[str, str], Group] = field(default_factory=dict)
    _silences: dict[str, Silence] = field(default_factory=dict)
    _pageable: set[str] = field(default_factory=set)

    # -- what is in it

    def alerts(self) -> tuple[Alert, ...]:
        """Return the alerts that the book holds."""
        return tuple(self._alerts.values())

    def alert(self, alert_id: str) -> Alert | None:
        """Return one alert, None where the book does not hold it."""
        return self._alerts.get(alert_id)

    def groups(self) -> tuple[Group, ...]:
        """Return the groups that are open or were told of in the last minutes."""
        return tuple(self._groups.values())

    def silences(self, now_us: int) -> tuple[Silence, ...]:
        """Return the silences that are not over."""
        return tuple(s for s in self._silences.values() if now_us < s.until_us)

    def restore(
        self,
        alerts: Iterable[Alert],
        groups: Iterable[Group],
        silences: Iterable[Silence],
        pageable: Iterable[str],
    ) -> None:
        """Take up what was stored: *pageable* are the ids of alerts that may be told of."""
        self._alerts = {alert.id: alert for alert in alerts}
        self._groups = {(group.label, group.place): group for group in groups}
        self._silences = {silence.id: silence for silence in silences}
        self._pageable = set(pageable)

    def pageable(self) -> frozenset[str]:
        """Return the ids of open alerts that people may be told of, for `restore`."""
        return frozenset(self._pageable)

    def recall(self, alert: Alert, group: Group | None, is_pageable: bool = False) -> None:
        """Take an alert back in that was put away, with the group it was told in.

        For news of it: the group goes on counting its notices, and the alert keeps what people did.
        """
        self._alerts.setdefault(alert.id, alert)
        if group is not None:
            self._groups.setdefault((group.label, group.place), group)
        if is_pageable:
            self._pageable.add(alert.id)

    def let_go(self) -> tuple[Alert, ...]:
        """Put away and return the alerts that are over and in no group any more."""
        kept = {member for group in self._groups.values() for member in group.members}
        gone = tuple(a for a in self._alerts.values() if not a.is_open and a.id not in kept)
        for alert in gone:
            del self._alerts[alert.id]
            self._pageable.discard(alert.id)
        return gone

    def is_pageable(self, alert_id: str) -> bool:
        """Tell whether people may be told of an alert."""
        return alert_id in self._pageable

    # -- what happens

    def take(self, news: Sequence[Transition], now_us: int) -> Outcome:
        """Take *news* in, and what the time alone brings; say what changed and what to tell."""
        entries: list[Entry] = []
        changed: dict[str, Alert] = {}
        for transition in news:
            for alert, more in self._taken(transition, now_us):
                self._alerts[alert.id] = changed[alert.id] = alert
                entries += more
            self._join_group(transition)
        return self._settled(changed, entries, now_us)

    def act(self, action: Action, alert_id: str, now_us: int, **how: object) -> Outcome:
        """Do *action* to an alert that the book holds, with the arguments of its function.

        Raises `IllegalAction`, and changes nothing, where it does not fit.
        """
        alert = self._alerts.get(alert_id)
        if alert is None:
            raise IllegalAction(f"alert {alert_id} is not in the book")
        alert, entries = state.ACTIONS[action](alert, now_us=now_us, **how)
        self._alerts[alert.id] = alert
        return self._settled({alert.id: alert}, entries, now_us)

    def silence(self, silence: Silence, now_us: int) -> Outcome:
        """Begin a silence, or change the one with its id."""
        silence.check()
        self._silences[silence.id] = silence
        return self._settled({}, [], now_us)

    def unsilence(self, silence_id: str, now_us: int) -> Outcome:
        """End a silence now; what it held back is told if it still stands."""
        silence = self._silences.get(silence_id)
        if silence is None or silence.until_us <= now_us:
            raise IllegalAction(f"silence {silence_id} is over or unknown")
        self._silences[silence_id] = replace(silence, until_us=now_us)
        return self._settled({}, [], now_us)

    def held_back(self, alert: Alert, now_us: int) -> Because | None:
        """Return why people are not told of an open alert, None where they are."""
        return self._held_back(alert, now_us, self._hiders())

    def _held_back(
        self, alert: Alert, now_us: int, hiders: Mapping[str, list[Alert]]
    ) -> Because | None:
        if alert.id not in self._pageable:
            return Because.FOUND_LATE
        if alert.is_shelved(now_us):
            return Because.SHELVED
        if any(s.covers(alert, self.places, now_us) for s in self._silences.values()):
            return Because.SILENCED
        if self._is_hidden(alert, hiders):
            return Because.HIDDEN
        return Because.ACKNOWLEDGED if alert.acknowledged else None

    # -- news into alerts

    def _taken(self, news: Transition, now_us: int) -> Iterable[tuple[Alert, list[Entry]]]:
        alert = self._alerts.get(news.episode.id)
        if alert is None:
            if news.change in (Change.RETRACTED, Change.WITHDRAWN):
                return  # of an alert that was put away before; storage has it
            alert, entries = state.begin(news)
        else:
            alert, entries = state.take(alert, news)
        old = self._alerts.get(news.replaces)
        if old is not None and old.phase is Phase.RETRACTED:
            alert, more = state.inherit(alert, old, now_us)
            entries = entries + more
        if news.page:
            self._pageable.add(alert.id)
        yield alert, entries

    def _join_group(self, news: Transition) -> None:
        """Put an alert that fires into the open group of its cause, or open one."""
        alert = self._alerts.get(news.episode.id)
        if alert is None or not alert.is_open:
            return
        rule = self.rules.get(alert.episode.rule)
        label = rule.group if rule and rule.group else alert.episode.rule
        key = (label, self.places.house(alert.episode.site))
        group = self._groups.get(key)
        if group is None:
            text = "\0".join((*key, str(alert.episode.started_at_us)))
            code = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
            group = Group(code, *key, alert.episode.started_at_us, ())
        if alert.id not in group.members:
            self._groups[key] = replace(group, members=(*group.members, alert.id))

    def _is_hidden(self, alert: Alert, hiders: Mapping[str, list[Alert]]) -> bool:
        """Tell whether an open alert around the subject of *alert* hides alerts of its rule."""
        episode = alert.episode
        for subject in self.places.around(episode.subject, episode.site):
            for other in hiders.get(subject, ()):
                rule = self.rules[other.episode.rule]
                pack = rule.code.rpartition(".")[0]
                names = (episode.rule, episode.rule.removeprefix(f"{pack}."))
                hides = any(fnmatchcase(name, word) for name in names for word in rule.hides)
                if hides and other.id != alert.id:
                    return True
        return False

    def _hiders(self) -> dict[str, list[Alert]]:
        """Return the open alerts whose rules hide others, by their subjects."""
        out: dict[str, list[Alert]] = {}
        for alert in self._alerts.values():
            rule = self.rules.get(alert.episode.rule)
            if rule is not None and rule.hides and alert.is_open:
                out.setdefault(alert.episode.subject, []).append(alert)
        return out

    # -- what ought to be told

    def _settled(self, changed: dict[str, Alert], entries: list[Entry], now_us: int) -> Outcome:
        notices: list[Notice] = []
        groups: list[Group] = []
        hiders = self._hiders()
        for key, group in list(self._groups.items()):
            after, notice = self._compared(group, now_us, hiders)
            if notice:
                notices.append(notice)
            if after is None:
                del self._groups[key]
                self._put_away(group)
                continue
            if after != group:
                groups.append(after)
            self._groups[key] = after
        self._silences = {i: s for i, s in self._silences.items() if now_us < s.until_us}
        return Outcome(tuple(changed.values()), tuple(groups), tuple(entries), tuple(notices))

    def _compared(
        self, group: Group, now_us: int, hiders: Mapping[str, list[Alert]]
    ) -> tuple[Group | None, Notice | None]:
        """Return the group after telling what differs, and the notice; None for a group at rest."""
        members = [self._alerts[m] for m in group.members if m in self._alerts]
        standing = [alert for alert in members if alert.is_open]
        telling = [a for a in standing if self._held_back(a, now_us, hiders) is None]
        wanted = max((alert.episode.severity for alert in telling), default=0)
        window_us = round(self.manners.per_s * 1e6)
        recent = tuple(t for t in group.told_us if t[0] > now_us - window_us)
        group = replace(group, told_us=recent, is_flapping=len(recent) >= self.manners.notices)
        told = self._difference(group, wanted, standing)
        if told is None:
            at_rest = not standing and not group.told_severity and not recent
            return (None if at_rest else group), None
        worst_told = max((severity for _, severity in recent), default=0)
        if group.is_flapping and wanted <= worst_told:
            return group, None  # enough was said; what stands then is said when the time is over
        # Becoming worse is not flapping: it counts as part of the notice before it.
        counted = recent[:-1] if told is Told.WORSE else recent
        at_us = recent[-1][0] if told is Told.WORSE and recent else now_us
        group = replace(
            group,
            told_severity=wanted,
            notices=group.notices + 1,
            told_us=(*counted, (at_us, wanted)),
        )
        about = telling or members
        about.sort(key=lambda alert: (-alert.episode.severity, alert.episode.started_at_us))
        notice = Notice(
            group.id, group.notices, told, wanted, now_us,
            tuple(alert.id for alert in about), len(standing), self._receivers(about),
        )  # fmt: skip
        return group, notice

    def _difference(self, group: Group, wanted: int, standing: Sequence[Alert]) -> Told | None:
        """Return what differs between what people were told and what they ought to know.

        A group that is acknowledged, silenced or hidden is not over: while anything stands, only
        more is said, never less.
        """
        if wanted > group.told_severity:
            return Told.WORSE if group.told_severity else Told.FIRING
        if group.told_severity and not standing:
            return Told.OVER
        return None

    def _receivers(self, alerts: Sequence[Alert]) -> tuple[str, ...]:
        rules = [self.rules[a.episode.rule] for a in alerts if a.episode.rule in self.rules]
        return tuple(dict.fromkeys(name for rule in rules for name in rule.tell))

    def _put_away(self, group: Group) -> None:
        """Let go of the members of a group at rest; storage has them."""
        for member in group.members:
            alert = self._alerts.get(member)
            if alert is not None and not alert.is_open:
                del self._alerts[member]
                self._pageable.discard(member)
