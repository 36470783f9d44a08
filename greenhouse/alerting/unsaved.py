"""What was decided and is not in the database yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from alerts.book import Notice
from alerts.state import Entry
from storage.alerts import (
    AlertChanges,
    StoredAlert,
    StoredGroup,
    StoredPackChange,
    StoredSilence,
)

_BATCH = 500


class Unsaved:
    """Waits for the database, without limit for what stands and with one for lists.

    Of alerts, groups and silences only the newest state waits.  Of history, notices and changes of
    packs at most *most* lines each: beyond that the oldest are dropped, and counted in *dropped*.
    """

    def __init__(self, most: int = 200_000) -> None:
        self._most = most
        self.dropped = 0
        self._alerts: dict[str, StoredAlert] = {}
        self._groups: dict[str, StoredGroup] = {}
        self._silences: dict[str, StoredSilence] = {}
        self._entries: deque[Entry] = deque()
        self._notices: deque[Notice] = deque()
        self._pack_changes: deque[StoredPackChange] = deque()

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts())

    def _parts(self) -> tuple[Any, ...]:
        return (
            self._alerts, self._groups, self._silences, self._entries, self._notices,
            self._pack_changes,
        )  # fmt: skip

    def add(self, changes: AlertChanges) -> None:
        """Let *changes* wait; newer states take the place of those that wait already."""
        self._alerts |= {one.alert.id: one for one in changes.alerts}
        self._groups |= {one.group.id: one for one in changes.groups}
        self._silences |= {one.silence.id: one for one in changes.silences}
        self._extend(self._entries, changes.entries)
        self._extend(self._notices, changes.notices)
        self._extend(self._pack_changes, changes.pack_changes)

    def _extend(self, queue: deque[Any], more: Sequence[Any]) -> None:
        queue.extend(more)
        while len(queue) > self._most:
            queue.popleft()
            self.dropped += 1

    def all(self) -> AlertChanges:
        """Return everything that waits."""
        return AlertChanges(
            [*self._alerts.values()],
            [*self._groups.values()],
            [*self._entries],
            [*self._notices],
            [*self._silences.values()],
            [*self._pack_changes],
        )

    def batch(self) -> AlertChanges:
        """Return what goes to the database next: of each kind the oldest."""
        everything = self.all()
        return AlertChanges(
            everything.alerts[:_BATCH],
            everything.groups[:_BATCH],
            everything.entries[:_BATCH],
            everything.notices[:_BATCH],
            everything.silences[:_BATCH],
            everything.pack_changes[:_BATCH],
        )

    def saved(self, changes: AlertChanges) -> None:
        """Let go of *changes*, but not of what has become newer meanwhile."""
        for alert in changes.alerts:
            if self._alerts.get(alert.alert.id) is alert:
                del self._alerts[alert.alert.id]
        for group in changes.groups:
            if self._groups.get(group.group.id) is group:
                del self._groups[group.group.id]
        for silence in changes.silences:
            if self._silences.get(silence.silence.id) is silence:
                del self._silences[silence.silence.id]
        _drop(self._entries, changes.entries)
        _drop(self._notices, changes.notices)
        _drop(self._pack_changes, changes.pack_changes)

    def alerts(self) -> dict[str, StoredAlert]:
        """Return the alerts that wait, by id."""
        return dict(self._alerts)

    def groups(self) -> dict[str, StoredGroup]:
        """Return the groups that wait, by id."""
        return dict(self._groups)

    def silences(self) -> dict[str, StoredSilence]:
        """Return the silences that wait, by id."""
        return dict(self._silences)

    def entries(self, alert_id: str) -> list[Entry]:
        """Return the lines of one alert's history that wait."""
        return [entry for entry in self._entries if entry.alert == alert_id]

    def pack_changes(self, pack: str) -> list[StoredPackChange]:
        """Return the changes of one pack that wait."""
        return [change for change in self._pack_changes if change.pack == pack]


def singles(changes: AlertChanges) -> Iterable[AlertChanges]:
    """Yield each part of *changes* alone, to find the one that the database refuses."""
    yield from (AlertChanges(groups=[one]) for one in changes.groups)
    yield from (AlertChanges(alerts=[one]) for one in changes.alerts)
    yield from (AlertChanges(entries=[one]) for one in changes.entries)
    yield from (AlertChanges(notices=[one]) for one in changes.notices)
    yield from (AlertChanges(silences=[one]) for one in changes.silences)
    yield from (AlertChanges(pack_changes=[one]) for one in changes.pack_changes)


def _drop(queue: deque[Any], done: Sequence[Any]) -> None:
    """Take *done*, which were the first of *queue*, off it; some may have been dropped before."""
    for one in done:
        if queue and queue[0] is one:
            queue.popleft()
