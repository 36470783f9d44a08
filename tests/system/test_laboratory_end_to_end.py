"""A laboratory's table through the whole service: kept, a reading, an alert, corrected."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from tests.rig.service import ServiceProcess

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

SITE = """
version: 1
packs: [gb15618-2018]
sites:
  - code: base
    kind: base
    sites: [{code: field-3, kind: greenhouse, name: {zh: 三号棚, en: House 3}}]
devices:
  - code: soil-3
    site: field-3
    transport: http
    payload: laboratory
    placement: root_zone
    series: [{quantity: soil_ph}, {quantity: soil_cadmium}, {quantity: soil_lead}]
"""
HEAD = "采样时间,地点,介质,项目,结果,单位,检出限,方法,检测机构,审核人,报告编号"
CADMIUM, LEAD = "soil-3.soil_cadmium", "soil-3.soil_lead"


def table(cadmium: str, reviewer: str = "李四") -> str:
    day = f"{datetime.now(UTC) - timedelta(days=12):%Y-%m-%d} 09:30"
    rows = [
        ("pH", "6.8", "无量纲", ""),
        ("镉", cadmium, "mg/kg", "0.01"),
        ("铅", "<0.1", "mg/kg", ""),
    ]
    lines = [
        f"{day},三号棚,土壤,{item},{value},{unit},{limit},GB/T 17141-1997,所,{reviewer},ZY-1"
        for item, value, unit, limit in rows
    ]
    return "\n".join([HEAD, *lines]) + "\n"


def newest(service: ServiceProcess, series: str) -> dict | None:
    rows = service.get(f"/api/v1/latest?series={series}")
    return rows[0] if rows else None


def alerts(service: ServiceProcess) -> list[dict]:
    return service.get("/api/v1/alerts")


async def test_a_table_becomes_readings_and_an_alert_and_is_corrected(
    tmp_path, timescale_dsn, eventually
):
    file = tmp_path / "march.csv"
    with ServiceProcess(tmp_path / "service", timescale_dsn, SITE) as service:
        service.start_ready()
        file.write_text(table("0.45", reviewer=""), "gb18030")
        told = service.command("results", "import", str(file), "--by", "li.si")
        assert told.endswith("3 new, 0 corrected, 0 known already; 0 reviewed, readings now\n")
        assert newest(service, CADMIUM) is None, "nobody answers for it yet"

        file.write_text(table("0.45"), "utf-8-sig")
        assert "would be 0 new, 3 corrected" in service.command(
            "results", "import", str(file), "--dry-run"
        )
        service.command("results", "import", str(file), "--by", "li.si")
        row = newest(service, CADMIUM)
        assert row is not None
        assert (row["value"], row["quality_reasons"], row["stale"]) == (0.45, ["manual"], False)
        lead = newest(service, LEAD)
        assert lead is not None
        assert (lead["value"], lead["quality_reasons"]) == (0.05, ["manual", "below_detection"])

        # The rules of GB 15618 hear of it: above 0.3 mg/kg at pH 6.8.
        await eventually(lambda: alerts(service), timeout_s=40)
        assert {alert["rule"] for alert in alerts(service)} == {"gb15618-2018.cadmium-screening"}

        # A correction is a version of its own, and the reading from then on.
        file.write_text(table("0.21"), "utf-8")
        service.command("results", "import", str(file), "--by", "wang.wu")
        row = newest(service, CADMIUM)
        assert row is not None and row["value"] == 0.21
        versions = service.get(f"/api/v1/results?series={CADMIUM}&versions=true")
        assert [(one["version"], one["value"], one["reviewer"]) for one in versions] == [
            (3, 0.21, "李四"),
            (2, 0.45, "李四"),
            (1, 0.45, ""),
        ]
        assert [one["recorded_by"] for one in versions] == ["wang.wu", "li.si", "li.si"]

        # A table with mistakes is refused whole, each mistake with its row and column.
        file.write_text(table("0.21").replace("铅", "铅铅").replace("镉,0.21", "镉,x"), "utf-8")
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "greenhouse", "results", "import", str(file)],
            env=service.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2
        assert f"{file}: row 3, value: got 'x', expected a number" in done.stderr
        assert f"{file}: row 4, item: got '铅铅'" in done.stderr
        assert done.stderr.endswith("2 mistakes; nothing was kept\n")
        listed = service.command("results", "list", "--series", CADMIUM, "--versions")
        assert len(listed.splitlines()) == 4 and "(nobody yet)" in listed
