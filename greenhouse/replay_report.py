"""What a replay found, for a terminal and as CSV, in Chinese or English; pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from alerts.message import unit_of
from alerts.replay import duration_s
from alerts.rule import Severity
from api.instants import format_instant
from api.replays import Answer, Difference, Row, Version, differences, rows
from devices.registry import Registry
from greenhouse.console import table

_HEADS = {
    "en": ("rule", "on", "alerts", "severity", "day", "night", "median", "longest", "total",
           "first", "last", "open"),
    "zh": ("规则", "对象数", "报警", "级别", "白天", "夜间", "中位时长", "最长", "合计", "首次",
           "末次", "未恢复"),
}  # fmt: skip
_SEVERITIES = {
    "en": {1: "info", 2: "warning", 3: "critical"},
    "zh": {1: "提示", 2: "警告", 3: "严重"},
}
_TEXTS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "span": "{since} to {until} ({days:.1f} days): {readings:,} readings of {series:,} series,"
        " {bindings:,} bindings, in {took:.1f} s",
        "other": "the other version, on the same readings:",
        "difference": "{rule}: {kept} stay, {lost} go, {gained} come; {longer} in all",
        "longer": "{time} longer",
        "shorter": "{time} shorter",
        "same": "as long",
        "unbound": "cannot be judged: {rule} on {subject}: {reason}",
        "more": "... and {count} more",
        "failed": "raised an error: {rule}: {reason}",
        "nothing": "no rule is judged on anything here",
    },
    "zh": {
        "span": "{since} 至 {until}（{days:.1f} 天）：{series:,} 个序列的 {readings:,} 条读数，"
        "{bindings:,} 个绑定，用时 {took:.1f} 秒",
        "other": "另一版本，同样的读数：",
        "difference": "{rule}：保留 {kept}，消失 {lost}，新增 {gained}；总时长{longer}",
        "longer": "增加 {time}",
        "shorter": "减少 {time}",
        "same": "不变",
        "unbound": "无法判断：{rule}，{subject}：{reason}",
        "more": "……另有 {count} 项",
        "failed": "规则出错：{rule}：{reason}",
        "nothing": "这里没有任何对象适用这些规则",
    },
}
_MOST_UNBOUND = 10
_CSV = (
    "version", "rule", "rule_version", "subject", "site", "severity", "started_at", "fired_at",
    "resolved_at", "duration_s", "value", "peak", "unit", "coverage",
)  # fmt: skip


class Report:
    """Tells *answer*; times of the tables are those of the first site's zone."""

    def __init__(self, answer: Answer, registry: Registry, language: str) -> None:
        self._answer = answer
        self._registry = registry
        self._texts = _TEXTS[language]
        self._language = language
        self._zone = ZoneInfo(registry.sites[0].timezone if registry.sites else "UTC")

    def texts(self, per_subject: bool) -> Iterator[str]:
        """Yield the parts of the report: the span, a table for each version, what differs."""
        answer = self._answer
        yield self._said(
            "span",
            since=self._moment(answer.since_us), until=self._moment(answer.until_us),
            days=(answer.until_us - answer.since_us) / 86_400e6,
            readings=answer.readings, series=answer.series,
            bindings=len(answer.first.bindings), took=answer.took_s,
        )  # fmt: skip
        yield from self._version(answer.first, per_subject)
        if answer.other is None:
            return
        yield "\n" + self._said("other")
        yield from self._version(answer.other, per_subject)
        yield ""
        for one in differences(answer.first, answer.other, answer.until_us):
            yield self._difference(one)

    def csv(self) -> str:
        """Return every alert as a row, in UTC, by version, rule, subject and start."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(_CSV)
        for name, version in (("first", self._answer.first), ("other", self._answer.other)):
            if version is not None:
                writer.writerows(self._csv_rows(name, version))
        return out.getvalue()

    def _csv_rows(self, name: str, version: Version) -> Iterator[tuple[object, ...]]:
        units = {rule.code: unit_of(rule) for rule in version.rules}
        until_us = self._answer.until_us
        for one in version.episodes:
            end_us = one.resolved_at_us
            yield (
                name, one.rule, one.rule_version, one.subject, one.site, Severity(one.worst).word,
                format_instant(one.started_at_us), format_instant(one.fired_at_us),
                "" if end_us is None else format_instant(end_us), duration_s(one, until_us),
                one.value, one.peak, units[one.rule], round(one.coverage(until_us), 6),
            )  # fmt: skip

    # -- one version

    def _version(self, version: Version, per_subject: bool) -> Iterator[str]:
        found = rows(version, self._registry, self._answer.until_us, per_subject)
        yield table(_HEADS[self._language], [self._row(row) for row in found], (1, 2, 4, 5, 11))
        if not version.bindings:
            yield self._said("nothing")
        for one in version.unbound[:_MOST_UNBOUND]:
            yield self._said("unbound", rule=one.rule, subject=one.subject, reason=one.reason)
        if len(version.unbound) > _MOST_UNBOUND:
            yield self._said("more", count=len(version.unbound) - _MOST_UNBOUND)
        for failure in version.failures.values():
            yield self._said("failed", rule=failure.rule, reason=failure.reason)

    def _row(self, row: Row) -> tuple[str, ...]:
        one = row.summary
        if one is None:
            return (row.rule.code, str(row.bound), "0", *[""] * 9)
        worst = sorted(one.by_severity.items(), reverse=True)
        words = _SEVERITIES[self._language]
        name = f"{row.rule.code} {row.subject}".rstrip()
        return (
            name, str(row.bound), str(one.episodes),
            ", ".join(f"{words[severity]} {count}" for severity, count in worst),
            "–" if one.day is None else str(one.day),
            "–" if one.night is None else str(one.night),
            time_text(one.median_s), time_text(one.longest_s), time_text(one.total_s),
            self._moment(one.first_at_us), self._moment(one.last_at_us),
            str(one.open) if one.open else "",
        )  # fmt: skip

    def _difference(self, one: Difference) -> str:
        found = one.comparison
        key = "longer" if found.longer_s > 0 else "shorter" if found.longer_s < 0 else "same"
        rule = one.rule if one.rule == one.other else f"{one.rule or '–'} → {one.other or '–'}"
        return self._said(
            "difference", rule=rule, kept=len({old.id for old, _ in found.kept}),
            lost=len(found.lost), gained=len(found.gained),
            longer=self._said(key, time=time_text(abs(found.longer_s))),
        )  # fmt: skip

    def _said(self, key: str, **fields: object) -> str:
        return self._texts[key].format(**fields)

    def _moment(self, at_us: int) -> str:
        moment = datetime.fromtimestamp(at_us / 1e6, UTC).astimezone(self._zone)
        return moment.strftime("%Y-%m-%d %H:%M")


def time_text(seconds: float) -> str:
    """Return a length of time in the largest unit that it fills, to three places: ``4.62 h``."""
    for unit, size in (("d", 172_800.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / (86_400.0 if unit == 'd' else size):.3g} {unit}"
    return f"{seconds:.3g} s"
