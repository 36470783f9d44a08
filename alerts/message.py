"""An alert in words, in both languages: the rule's own text with its fields filled in."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

from alerts.conditions import compile_levels, measures
from alerts.episode import Episode
from alerts.expression import Between
from alerts.rule import Level, Rule, Severity, comparisons
from devices.names import site_name, subject_name
from devices.quantity import QUANTITIES
from devices.registry import Registry

Language = Literal["zh", "en"]
_SEVERITIES = {
    "zh": {Severity.INFO: "提示", Severity.WARNING: "警告", Severity.CRITICAL: "严重"},
    "en": {Severity.INFO: "info", Severity.WARNING: "warning", Severity.CRITICAL: "critical"},
}
_UNITS_OF_TIME = {"zh": ("天", "小时", "分钟", "秒"), "en": ("d", "h", "min", "s")}


def describe(
    rule: Rule, episode: Episode, registry: Registry, language: Language, now_us: int
) -> str:
    """Return what is said of *episode* at *now_us*; without a text of its own, the rule's name.

    The value is that of the last step, with the quantity's decimals; the limit is that of the
    present severity, as it was written.
    """
    text = getattr(rule.message, language) or getattr(rule.name, language) or rule.code
    site = registry.site.get(episode.site)
    zone = ZoneInfo(site.timezone) if site else ZoneInfo("UTC")
    started = datetime.fromtimestamp(episode.started_at_us / 1e6, UTC).astimezone(zone)
    end_us = now_us if episode.resolved_at_us is None else episode.resolved_at_us
    level = _level(rule, episode)
    at = 0 if language == "zh" else 1
    return str(text).format(
        value=_value(rule, episode.value),
        unit=unit_of(rule),
        limit=_limit(level),
        site=site_name(site)[at] if site else episode.site,
        subject=subject_name(episode.subject, registry)[at],
        rule=getattr(rule.name, language) or rule.code,
        severity=_SEVERITIES[language][Severity(episode.severity)],
        duration=_duration(end_us - episode.started_at_us, language),
        started=started.strftime("%Y-%m-%d %H:%M"),
    )


def _level(rule: Rule, episode: Episode) -> Level:
    """Return the level of the episode's severity."""
    fitting = [level for level in rule.levels if level.severity <= episode.severity]
    return fitting[-1] if fitting else rule.levels[0]


@lru_cache(maxsize=4096)
def unit_of(rule: Rule) -> str:
    """Return the unit of what a rule judges, empty where it has none."""
    unit = compile_levels([(level.tree, level.for_us) for level in rule.levels]).unit
    return "" if unit == "1" else unit


@lru_cache(maxsize=4096)
def _decimals(rule: Rule) -> int:
    """Return the places that people read of the rule's first measure, and one for what it makes."""
    first = next(iter(measures(rule.levels[0].tree)), None)
    known = QUANTITIES.get(first.quantity) if first else None
    return max(known.decimals, 1) if known else 1


def _value(rule: Rule, value: float | None) -> str:
    return "–" if value is None else f"{value:.{_decimals(rule)}f}"


def _limit(level: Level) -> str:
    """Return the first limit of a level, as it was written."""
    for part in comparisons(level.tree):
        return f"{part.limit.value:g} {part.limit.unit}".strip()
    if isinstance(level.tree, Between):
        low, high = level.tree.low, level.tree.high
        return f"{low.value:g}–{high.value:g} {high.unit}".strip()
    return level.text


def _duration(microseconds: int, language: Language) -> str:
    """Return a duration in its two largest units: ``2 h 5 min``."""
    seconds = max(0, microseconds // 1_000_000)
    sizes = (86_400, 3_600, 60, 1)
    parts: list[str] = []
    for size, word in zip(sizes, _UNITS_OF_TIME[language], strict=True):
        amount, seconds = divmod(seconds, size)
        if amount and len(parts) < 2:
            parts.append(f"{amount} {word}")
    return " ".join(parts) or f"0 {_UNITS_OF_TIME[language][-1]}"
