"""Alerts of the HTTP API as lines of a terminal, in Chinese or English; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from greenhouse.console import table
from greenhouse.replay_report import time_text

_HEADS = {
    "en": ("severity", "phase", "started (UTC)", "for", "site", "what", "seen by", "id"),
    "zh": ("级别", "状态", "开始（UTC）", "持续", "地点", "内容", "已确认", "编号"),
}
_WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {},
    "zh": {
        "info": "提示", "warning": "警告", "critical": "严重",
        "pending": "待定", "firing": "报警中", "held": "无数据", "resolved": "已恢复",
        "retracted": "已撤回", "withdrawn": "已取消", "fired": "触发", "severity": "级别变化",
        "returned": "数据恢复", "revised": "修订", "stands": "仍在", "replaces": "代替",
        "acknowledge": "确认", "unacknowledge": "取消确认", "assign": "指派", "shelve": "搁置",
        "unshelve": "取消搁置", "comment": "备注", "close": "关闭",
    },
}  # fmt: skip


def alert_table(found: Sequence[Mapping[str, Any]], language: str) -> str:
    """Return a table of *found*, entries of ``GET /alerts``."""
    words = _WORDS[language]
    rows = [
        (
            words.get(one["severity"], one["severity"]),
            words.get(one["phase"], one["phase"]),
            _moment(one["started_at"]),
            time_text(one["duration_s"]),
            one["site_name"][language],
            one["message"][language],
            one["acknowledged"]["by"] if one["acknowledged"] else "",
            one["id"],
        )
        for one in found
    ]
    return table(_HEADS[language], rows, (3,))


def alert_lines(record: Mapping[str, Any], language: str) -> Iterator[str]:
    """Yield what there is to say of *record*, an answer of ``GET /alerts/{alert}``."""
    yield alert_table([record], language)
    if record["runbook"][language]:
        yield record["runbook"][language]
    yield ""
    words = _WORDS[language]
    for line in record["history"]:
        value = "" if line["value"] is None else f"{line['value']:g} {record['unit']}"
        said = " ".join(part for part in (line["actor"], line["note"]) if part)
        kind = words.get(line["kind"], line["kind"])
        yield f"{line['number']:>3}  {_moment(line['at'])}  {kind}  {value}  {said}".rstrip()


def _moment(text: str) -> str:
    return text[:19].replace("T", " ")
