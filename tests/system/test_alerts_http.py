"""Alerts from a post to the answer of a person, through the whole service and its end."""

from __future__ import annotations

import csv
import io
import json
import time
from typing import Any

import httpx
import pytest

from tests.rig.service import TOKEN, ServiceProcess
from tests.rig.waiting import eventually

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

SITE = """
version: 1
packs: [tomato]
sites:
  - code: b
    kind: base
    latitude: 38.9
    longitude: 100.4
    sites: [{code: h1, kind: greenhouse, crop: tomato}]
devices:
  - {code: c, site: h1, transport: http, interval: 10s, series: [{quantity: air_temperature}]}
"""
PACK = """
pack: house
version: 1
name: {zh: 温室, en: House}
rules:
  - id: hot
    name: {zh: 高温, en: Too hot}
    levels:
      warning: {when: air_temperature > 33 degC, for: 30s, clear: 31 degC}
      critical: {when: air_temperature > 40 degC, for: 20s, clear: 38 degC}
    message: {zh: "{site} 气温 {value} {unit}", en: "{site}: air {value} {unit}"}
"""
TRIALS = """
tests:
  - name: forty is too hot
    rules: [hot]
    start: 2026-06-01T12:00:00+08:00
    interval: 10s
    series: {air_temperature: '20x2 35x5 20x3'}
    expect: [{rule: hot, severity: warning}]
"""


class Client:
    """Somebody with the token and a name."""

    def __init__(self, service: ServiceProcess, name: str) -> None:
        self._headers = {"Authorization": f"Bearer {TOKEN}", "X-Actor": name.encode()}
        self._url = f"{service.url}/api/v1"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        named = self._headers | {name.replace("_", "-"): one for name, one in headers.items()}
        return httpx.request(method, self._url + path, json=body, headers=named, timeout=30)

    def get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def say(self, at_s: int, values: list[float]) -> None:
        """Post a reading every ten seconds from *at_s* on."""
        messages = [
            {"device": "c", "t": (at_s + 10 * n) * 1000, "v": {"air_temperature": value}}
            for n, value in enumerate(values)
        ]
        assert self.ask("POST", "/readings", messages).status_code == 202

    def until(self, path: str, holds: Any, timeout_s: float = 30.0) -> Any:
        """Return the answer for *path* as soon as *holds* says so."""

        def answer() -> tuple[Any]:
            found = self.get(path)
            assert holds(found), json.dumps(found, indent=1)[:3000]
            return (found,)

        return eventually(answer, timeout_s, interval_s=0.05)[0]


def test_an_alert_from_its_rule_to_its_end_with_a_kill_between(timescale_dsn, tmp_path):
    with ServiceProcess(tmp_path / "service", timescale_dsn, SITE) as service:
        service.start_ready()
        li, wang = Client(service, "李伟"), Client(service, "王芳")
        li.until("/rules?pack=tomato", lambda rules: any(one["bound"] for one in rules))

        # A pack of one's own is tried, written, and judged by at once.
        bad = li.ask("PUT", "/packs/house", {"text": PACK.replace("degC", "ppm")})
        assert (bad.status_code, bad.json()["errors"][0]["where"].split()[0]) == (
            422,
            "text:9:17",
        )
        written = li.ask("PUT", "/packs/house", {"text": PACK, "trials": TRIALS, "reason": "夏天"})
        assert written.status_code == 201, written.text
        assert (service.folder / "site.d" / "packs" / "house.yaml").read_text("utf-8") == PACK
        assert written.json()["rules"][0]["bound"] == 1

        # Two people see the alert; one acknowledges, the other is told that it moved on.
        now_s = int(time.time()) // 10 * 10
        li.say(now_s - 120, [30.0, 35.5, 36.0, 36.5, 37.0])
        (alert,) = li.until("/alerts?open=true&rule=house.*", lambda found: found)
        assert alert["message"]["zh"] == "h1 气温 36.5 °C"
        seen = {"If_Match": f'"{alert["version"]}"'}
        path = f"/alerts/{alert['id']}"
        done = wang.ask("POST", f"{path}/acknowledge", {"note": "去开窗"}, **seen)
        assert done.status_code == 200, done.text
        late = li.ask("POST", f"{path}/assign", {"to": "张强"}, **seen)
        assert late.status_code == 412

        # What was answered is there after a kill, whether it had reached the database or not.
        service.kill()
        service.start_ready()
        again = li.until("/alerts?open=true&rule=house.*", lambda found: found)[0]
        assert again["id"] == alert["id"]
        assert again["acknowledged"]["by"] == "王芳"
        assert again["acknowledged"]["note"] == "去开窗"
        assert li.until("/packs/house", lambda pack: pack["in_force"])["text"] == PACK

        # It ends, is closed, and its history tells all of it.
        li.until("/rules?pack=house", lambda rules: rules[0]["bound"])
        li.say(now_s - 60, [36.0, 30.0, 30.0])
        over = li.until(f"{path}", lambda one: one["phase"] == "resolved")
        assert over["peak"] == 37.0
        assert li.ask("POST", f"{path}/close", {"note": "窗已修好"}).status_code == 200
        twice = li.ask("POST", f"{path}/close", {"note": "again"})
        assert (twice.status_code, twice.json()["type"].rpartition(":")[2]) == (
            409,
            "action-does-not-fit",
        )
        record = li.get(path)
        kinds = [line["kind"] for line in record["history"]]
        assert [kinds[0], kinds[1], kinds[-1]] == ["pending", "fired", "close"]
        assert {"acknowledge", "resolved"} <= set(kinds)
        assert [line["number"] for line in record["history"]] == list(range(1, len(kinds) + 1))

        # A replay of what is stored finds the same alert, over HTTP and on the command line.
        stored = li.until(
            f"/series/c.air_temperature/readings?step=raw&gaps=false&start={_iso(now_s - 300)}",
            lambda found: found["series"][0]["points"] == 8,
        )
        assert stored["step"] == "raw"
        body = {"packs": ["house"], "since": "10min", "limits": {"hot:warning": "36.2 degC"}}
        replayed = li.ask("POST", "/alerts/replay", body).json()
        (episode,) = replayed["episodes"]
        for key in ("id", "rule", "subject", "started_at", "fired_at", "resolved_at", "peak"):
            assert episode[key] == record[key], key
        assert replayed["differences"][0]["lost"] == 1  # 36.2 was passed for 20 s only
        told = service.command(
            "alerts", "replay", str(service.folder / "site.d/packs/house.yaml"), "--since", "10min",
            "--csv", "--site-file", str(service.site_file),
        )  # fmt: skip
        (row,) = csv.DictReader(io.StringIO(told))
        assert (row["started_at"], row["severity"]) == (record["started_at"], "warning")

        # Silences and the pack's end are durable as well.
        silence = {"rules": ["house.*"], "until": _iso(now_s + 3600), "reason": "换棚膜"}
        began = li.ask("POST", "/silences", silence)
        assert began.status_code == 201, began.text
        service.kill()
        service.start_ready()
        assert li.until("/silences", lambda found: found)[0]["by"] == "李伟"
        gone = li.ask("DELETE", f"/silences/{began.json()['id']}?note=done")
        assert (gone.status_code, gone.json()["ended_by"]) == (200, "李伟")
        li.until("/rules?pack=house", lambda rules: rules)
        assert li.ask("DELETE", "/packs/house?reason=秋天").status_code == 204
        changes = li.until("/packs/house/changes", lambda found: len(found) == 2)
        assert [(one["by"], one["reason"]) for one in changes] == [
            ("李伟", "秋天"),
            ("李伟", "夏天"),
        ]
        assert li.get("/rules?pack=tomato")
        assert service.stop() == 0


def _iso(at_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))
