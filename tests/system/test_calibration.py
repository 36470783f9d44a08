"""Quality and calibration through the whole service: posts in, marks and corrections out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.rig.service import ServiceProcess

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

SITE = """
version: 1
sites: [{code: house, kind: greenhouse, crop: tomato}]
devices:
  - code: climate
    site: house
    transport: http
    interval: 1min
    series: [{quantity: air_temperature}, {quantity: relative_humidity}]
checks:
  - {series: climate.air_temperature, step: 3}
"""
T = "climate.air_temperature"


def moment(at: datetime, **values: float) -> dict[str, object]:
    return {"device": "climate", "t": round(at.timestamp() * 1000), "v": values}


def instant(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def test_a_calibration_and_a_window_of_yesterday_change_what_is_stored_and_what_comes(
    tmp_path, timescale_dsn, eventually
):
    now = datetime.now(UTC).replace(microsecond=0)
    begin = now - timedelta(hours=2)
    with ServiceProcess(tmp_path / "service", timescale_dsn, SITE) as service:
        service.start_ready()
        values = [20.0, 20.5, 20.0, 45.0, 20.5, 20.0]
        minutes = [begin + timedelta(minutes=n) for n in range(len(values))]
        for at, value in zip(minutes, values, strict=True):
            body = moment(at, air_temperature=value, relative_humidity=101.0)
            assert service.post("/api/v1/readings", body) == 202

        span = f"start={instant(begin)}&end={instant(now)}&gaps=false"
        path = f"/api/v1/series/{T}/readings?step=raw&{span}"

        def stored(query: str = "", of: str = T) -> dict[str, list]:
            answer = service.get(path.replace(T, of) + query)["series"][0]
            return {name: answer[name] for name in ("value", "quality", "quality_bits")}

        eventually(lambda: len(stored()["value"]) == len(values), timeout_s=30)
        assert stored()["value"] == values
        # The jump of 25 K is marked, and neither what comes before nor after it.
        assert [bool(bits & 1 << 10) for bits in stored()["quality_bits"]] == [
            number == 3 for number in range(len(values))
        ]
        humid = stored(of="climate.relative_humidity")
        assert set(humid["quality"]) == {"suspect"}
        assert all(bits & 1 << 16 for bits in humid["quality_bits"])

        since = instant(minutes[2])
        service.command(
            *("calibrate", "series", T, f"--from={since}", "--gain=1.5", "--offset=-2"),
            *("--by=李伟", "--reference=meter 7", "--wait=30"),
        )
        lined = [20.0, 20.5, 28.0, 65.5, 28.75, 28.0]
        assert stored()["value"] == lined
        assert stored("&uncalibrated=true")["value"] == values
        service.command(
            *("calibrate", "window", "device", "climate", "maintenance"),
            *(f"--from={instant(minutes[4])}", f"--to={instant(begin + timedelta(minutes=6))}"),
            *("--by=Li", "--reason=cleaned", "--wait=30"),
        )
        assert stored()["quality"][4:] == ["bad", "bad"]
        rolled = service.get(
            f"/api/v1/series/{T}/readings?step=1d&agg=count,valid_count,max&{span}"
        )["series"][0]
        assert (sum(rolled["count"]), sum(rolled["valid_count"])) == (6, 4)

        # What comes from now on is on the line, too.
        late = moment(begin + timedelta(minutes=6, seconds=30), air_temperature=20.0)
        assert service.post("/api/v1/readings", late) == 202
        eventually(lambda: len(stored()["value"]) == 7, timeout_s=30)
        assert stored()["value"][-1] == 28.0
        assert service.get("/healthz")["calibrations"] == {
            "entries": 2,
            "overdue": [],
            "pending": 0,
            "reason": "",
        }
        listed = service.get("/api/v1/calibrations")
        assert [(one["actor"], one["reference"], one["applied"]) for one in listed] == [
            ("李伟", "meter 7", True)
        ]
        assert sum(one["readings"] for one in service.get("/api/v1/corrections")) > 0
        assert service.stop() == 0
        # The next process judges by what this one remembered, and its book is the same.
        service.start_ready()
        jump = moment(begin + timedelta(minutes=8), air_temperature=30.0)
        assert service.post("/api/v1/readings", jump) == 202
        eventually(lambda: len(stored()["value"]) == 8, timeout_s=30)
        assert stored()["value"][-1] == 43.0
        assert stored()["quality_bits"][-1] == 1 << 10
