"""Alerts, silences, rules and packs as HTTP sees them: who answers, what is asked, what fails.

`AlertDesk` holds the alerts and does what people want done with them; `PackShelf` holds the packs
that people wrote themselves.  The routes speak with these two and with nothing behind them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from alerts.binding import Binding, Surroundings, Unbound
from alerts.book import Because, Group, Silence
from alerts.episode import RuleFailure
from alerts.rule import Pack, Rule
from alerts.state import Action, Alert, Entry
from storage.alerts import StoredPackChange, StoredSilence, Wanted

# A silence and a change of a pack are told as they are kept.
KeptSilence = StoredSilence
PackChange = StoredPackChange


class UnknownAlert(Exception):
    """No alert has this id."""


class UnknownSilence(Exception):
    """No silence has this id."""


class AlertChanged(Exception):
    """The alert is not the one that was looked at; *version* is what it has come to."""

    def __init__(self, version: int) -> None:
        super().__init__(f"the alert is at version {version}")
        self.version = version


class AlertsNotKept(Exception):
    """What was asked could not be made durable; nothing has changed."""


class AlertsElsewhere(AlertsNotKept):
    """Another process judges, and takes what people want; the one that was asked only reads."""


class Cursor(NamedTuple):
    """The place of an alert in the list: newest start first, then the largest id.

    A start never moves, so a page that begins behind a cursor is the same whatever is added.
    """

    started_at_us: int
    id: str


@dataclass(frozen=True, slots=True)
class AlertQuery(Wanted):
    """Which alerts are wanted, newest start first.

    *sites* are all the codes that will do (the tree is for whoever asks to walk), *group* is the id
    of a group.  *is_open* is that of `alerts.state.Alert`, *needs_attention* too.  *after* is the
    last alert of the page before.
    """

    after: Cursor | None = None


@dataclass(frozen=True, slots=True)
class KeptAlert:
    """An alert as it stands; *version* rises with every line of its history.

    *group* is the id of the group that it was told with, empty where it never was in one.
    *held_back* is why nobody is told of it while it is open, None where people are.
    """

    alert: Alert
    group: str = ""
    held_back: Because | None = None

    @property
    def version(self) -> int:
        """How many lines its history has."""
        return self.alert.entries


@dataclass(frozen=True, slots=True)
class AlertRecord:
    """An alert with its whole history, the first line first."""

    kept: KeptAlert
    history: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Deed:
    """What somebody does about an alert; what an action does not take stays empty.

    *note* is also the reason of a shelving, the comment and the closing note; *to* is who it is
    assigned to; *until_us* ends a shelving.
    """

    action: Action
    by: str
    note: str = ""
    to: str = ""
    until_us: int = 0

    def arguments(self) -> dict[str, object]:
        """Return what `Book.act` (and `alerts.state.ACTIONS`) wants beside alert and now."""
        if self.action is Action.ASSIGN:
            return {"by": self.by, "to": self.to, "note": self.note}
        if self.action is Action.SHELVE:
            return {"by": self.by, "until_us": self.until_us, "reason": self.note}
        return {"by": self.by, "note": self.note}


@dataclass(frozen=True, slots=True)
class GroupQuery:
    """Which groups are wanted, newest first by (opened, id); *places* as `AlertQuery.sites`.

    *is_open*: whether any member is open still.  *after* is a group's opening and id.
    """

    limit: int
    is_open: bool | None = None
    places: tuple[str, ...] | None = None
    after: Cursor | None = None


@dataclass(frozen=True, slots=True)
class KeptGroup:
    """A group and how many of its members are open."""

    group: Group
    open: int


@dataclass(frozen=True, slots=True)
class RulesInForce:
    """What is judged at this moment, and what cannot be.

    *packs* are those in force, shipped and own; *failures* are rules that raised an error and are
    out of use, by code.
    """

    packs: tuple[Pack, ...] = ()
    bindings: tuple[Binding, ...] = ()
    unbound: tuple[Unbound, ...] = ()
    failures: Mapping[str, RuleFailure] = field(default_factory=dict)
    surroundings: Surroundings = field(default_factory=Surroundings)

    def rules(self) -> dict[str, Rule]:
        """Return every rule of the packs by its code."""
        return {rule.code: rule for pack in self.packs for rule in pack.rules}


class AlertDesk(Protocol):
    """What holds the alerts; every method may raise `storage.errors.DatabaseUnavailable`.

    What changes something is durable when it returns.
    """

    def rules(self) -> RulesInForce:
        """Return what is judged now; asks nobody."""
        ...

    async def alerts(self, query: AlertQuery) -> list[KeptAlert]:
        """Return up to *query.limit* alerts, by (started_at_us, id) falling."""
        ...

    async def alert(self, alert_id: str) -> AlertRecord:
        """Return one alert with its history; raise `UnknownAlert`."""
        ...

    async def groups(self, query: GroupQuery) -> list[KeptGroup]:
        """Return up to *query.limit* groups, by (opened_at_us, id) falling."""
        ...

    async def act(self, alert_id: str, deed: Deed, version: int | None) -> KeptAlert:
        """Do *deed*, and return the alert after it.

        Raises `UnknownAlert`; `AlertChanged` where *version* is given and not the alert's; and
        `alerts.errors.IllegalAction` where the deed does not fit.  `AlertsNotKept` where it could
        not be made durable.  After all of these nothing has changed.
        """
        ...

    async def silences(self, with_past: bool, limit: int) -> list[KeptSilence]:
        """Return silences that are not over, or also past ones, the latest beginning first."""
        ...

    async def silence(self, silence: Silence) -> None:
        """Begin *silence*; its id is new.  Raises `IllegalAction` and `AlertsNotKept`."""
        ...

    async def end_silence(self, silence_id: str, by: str, note: str) -> KeptSilence:
        """End a silence now.

        Raises `UnknownSilence`, `IllegalAction` where it is over already, and `AlertsNotKept`.
        """
        ...

    async def record(self, change: PackChange) -> None:
        """Keep who changes what, before it is changed; raise `AlertsNotKept` where it cannot be."""
        ...

    async def pack_changes(self, pack: str, limit: int) -> list[PackChange]:
        """Return what was recorded of *pack*, the newest first."""
        ...

    async def reload(self) -> RulesInForce:
        """Take up the packs as they now lie on the disk, and return what is judged from now on."""
        ...


@dataclass(frozen=True, slots=True)
class OwnPack:
    """A pack that people wrote, as it lies on the disk; *tag* is a digest of both texts.

    *trials* is the text of its trials, None where it has none.
    """

    name: str
    text: str
    trials: str | None
    tag: str


class PackShelf(Protocol):
    """What holds the packs that people wrote, one file each; may raise `OSError`.

    Methods wait for the disk: call them in a thread.
    """

    def names(self) -> list[str]:
        """Return the names of all own packs, sorted."""
        ...

    def get(self, name: str) -> OwnPack | None:
        """Return the pack *name*, None where there is none."""
        ...

    def put(self, name: str, text: str, trials: str | None) -> OwnPack:
        """Write the pack durably, whole or not at all, in the place of one with its name."""
        ...

    def remove(self, name: str) -> None:
        """Delete the pack with its trials; nothing happens where there is none."""
        ...
