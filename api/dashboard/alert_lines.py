"""The open alerts above the values: what is wrong, where, since when, and who has taken it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from alerts.book import Because
from alerts.message import describe
from alerts.rule import Severity
from api.alerts import AlertQuery, KeptAlert, RulesInForce
from api.dashboard.texts import Language, age_text
from api.services import Services
from devices.names import site_name
from devices.registry import Registry
from storage.errors import StorageError

MOST_READ = 500
MOST_SHOWN = 8
# What is hidden behind a larger cause, silenced or shelved is counted, not shown.
_SHOWN = (None, Because.ACKNOWLEDGED, Because.FOUND_LATE)


@dataclass(frozen=True, slots=True)
class AlertLine:
    """One alert in words; *severity* is info, warning or critical, *who* has acknowledged it."""

    id: str
    severity: str
    word: str
    where: str
    name: str
    message: str
    since: str
    age: str
    who: str


@dataclass(frozen=True, slots=True)
class AlertLines:
    """The first lines, worst first; *more* did not fit, *held* are hidden, silenced or shelved.

    *seen* changes when any of them does: the script compares it.  *known* is false where this
    process holds no alerts or cannot ask for them now.
    """

    known: bool = False
    lines: Sequence[AlertLine] = ()
    more: int = 0
    held: int = 0
    seen: str = ""


async def alert_lines(
    services: Services,
    registry: Registry,
    sites: Sequence[str] | None,
    language: Language,
    words: Mapping[str, str],
) -> AlertLines:
    """Return the open alerts at *sites*, None for everywhere."""
    desk = services.alerts
    if desk is None:
        return AlertLines()
    places = None if sites is None else tuple(sites)
    try:
        kept = await desk.alerts(AlertQuery(MOST_READ, sites=places, is_open=True))
    except StorageError:
        return AlertLines()
    shown = [one for one in kept if one.held_back in _SHOWN]
    shown.sort(key=lambda one: (one.alert.acknowledged is not None, -one.alert.episode.severity))
    rules, now_us = desk.rules(), services.now_us()
    return AlertLines(
        True,
        [_line(one, rules, registry, now_us, language, words) for one in shown[:MOST_SHOWN]],
        max(0, len(shown) - MOST_SHOWN),
        len(kept) - len(shown),
        " ".join(sorted(f"{one.alert.id}-{one.version}" for one in kept)),
    )


def _line(
    kept: KeptAlert,
    rules: RulesInForce,
    registry: Registry,
    now_us: int,
    language: Language,
    words: Mapping[str, str],
) -> AlertLine:
    alert = kept.alert
    episode, site = alert.episode, registry.site.get(alert.episode.site)
    rule = rules.rules().get(episode.rule)
    severity = Severity(episode.severity).name.lower()
    zone = ZoneInfo(site.timezone if site else "Asia/Shanghai")
    since = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=episode.started_at_us)
    return AlertLine(
        id=alert.id,
        severity=severity,
        word=words[severity],
        where=site_name(site)[0 if language == "zh" else 1] if site else episode.site,
        name=getattr(rule.name, language) or rule.code if rule else episode.rule,
        message=describe(rule, episode, registry, language, now_us) if rule else episode.subject,
        since=since.astimezone(zone).strftime("%m-%d %H:%M"),
        age=age_text(max(0.0, (now_us - episode.started_at_us) / 1e6), words),
        who=alert.acknowledged.by if alert.acknowledged else "",
    )
