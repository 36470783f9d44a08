"""How the service is: what each part reports, and what that means for who depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

SLOW_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class DatabaseHealth:
    """*edition* is a `storage.editions.Edition`, empty while the database never answered."""

    reachable: bool
    edition: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SpoolHealth:
    """*lag_s* is the age of the oldest arrival that is not yet in the database, 0 when none is.

    *accepting* is false while the spool refuses more (full, or its disk fails).
    """

    accepting: bool
    lag_s: float
    size_bytes: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BrokerHealth:
    """One broker that devices publish to."""

    name: str
    connected: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BusDeviceHealth:
    """One device on a bus: *state* is ``unknown``, ``up``, ``suspect`` or ``down``."""

    device: str
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BusHealth:
    """One Modbus bus; *counts* are totals since the start, by their names."""

    name: str
    connected: bool
    reason: str = ""
    devices: tuple[BusDeviceHealth, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EdgeHealth:
    """A Sparkplug edge node (``group/node``) or a device on it (``group/node/device``).

    *since_us* (microseconds UTC) is when *online* last changed.
    """

    address: str
    online: bool
    since_us: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class AlertHealth:
    """How alerts are judged and kept; *open* counts them by severity.

    *warming_up*: after a start nothing is called silent until the collectors have caught up.
    *failed_rules* are out of use, with the reason; *packs_left_out* mistakes keep own packs out of
    force.  *waiting* readings of more than five minutes ago are about to be judged together,
    *overdue* subjects wait for history to be judged again, *unsaved* rows for the database.
    *lag_s* is how long the newest reading took from its receipt to its judgement.  *revised*,
    *dropped*, *transitions* (by kind) and *notices* (by what they say) are totals since the start.
    """

    judging: bool
    warming_up: bool = False
    reason: str = ""
    bindings: int = 0
    open: Mapping[str, int] = field(default_factory=dict)
    failed_rules: Mapping[str, str] = field(default_factory=dict)
    packs_left_out: int = 0
    waiting: int = 0
    overdue: int = 0
    revised: int = 0
    unsaved: int = 0
    dropped: int = 0
    lag_s: float = 0.0
    transitions: Mapping[str, int] = field(default_factory=dict)
    notices: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CalibrationHealth:
    """How the calibration book stands.

    *overdue* series should have been calibrated again: for information.  *pending* entries are not
    carried out on stored readings yet; *reason* says why the book cannot be read.
    """

    entries: int = 0
    overdue: tuple[str, ...] = ()
    pending: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DerivationHealth:
    """How derived series follow their inputs; *series* is how many do, *lost* who cannot.

    *lag_s* is how long changes of inputs have been waiting, 0 when all are followed.  *waiting*
    changes are not followed yet, *redo* spans are still to be made anew, for which *lag_s* does not
    wait.  *ran_us* (microseconds UTC) is when a pass last ended well, None before the first.
    *made* readings and *failures* of a pass are totals since the start; *reason* is the last one's
    while it lasts.
    """

    series: int = 0
    lost: tuple[str, ...] = ()
    reason: str = ""
    lag_s: float = 0.0
    waiting: int = 0
    redo: int = 0
    ran_us: int | None = None
    made: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Health:
    """What every part of the service says of itself.

    *spool* and *derivations* are None where nothing is ingested, *alerts* where nothing is judged.
    """

    version: str
    database: DatabaseHealth
    spool: SpoolHealth | None = None
    brokers: tuple[BrokerHealth, ...] = ()
    buses: tuple[BusHealth, ...] = ()
    edges: tuple[EdgeHealth, ...] = ()
    alerts: AlertHealth | None = None
    calibrations: CalibrationHealth | None = None
    derivations: DerivationHealth | None = None


class Condition(StrEnum):
    """``ok``; ``degraded``: works, but look at it; ``unavailable``: cannot do what it is for."""

    OK = "ok"
    DEGRADED = "degraded"
    UNAVAILABLE = "unavailable"


def condition(health: Health) -> Condition:
    """Return the worst that any part of *health* stands for.

    Without the database nothing can be read, without room in the spool nothing can be accepted:
    that is unavailable.  A broker, a bus, a device on one or on an edge node that is away, a spool
    that falls behind, a rule that is out of use, alerts that cannot be kept, and derived series
    that do not follow their inputs or cannot are degraded.
    """
    spool = health.spool
    if not health.database.reachable or (spool and not spool.accepting):
        return Condition.UNAVAILABLE
    away = [broker for broker in health.brokers if not broker.connected]
    if away or not all(bus.connected for bus in health.buses):
        return Condition.DEGRADED
    if not all(edge.online for edge in health.edges):
        return Condition.DEGRADED
    if any(one.state == "down" for bus in health.buses for one in bus.devices):
        return Condition.DEGRADED
    if spool and spool.lag_s > SLOW_AFTER_S:
        return Condition.DEGRADED
    alerts = health.alerts
    if alerts and (alerts.failed_rules or alerts.packs_left_out or alerts.reason):
        return Condition.DEGRADED
    derived = health.derivations
    if derived and (derived.reason or derived.lost or derived.lag_s > SLOW_AFTER_S):
        return Condition.DEGRADED
    return Condition.OK
