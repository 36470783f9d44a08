"""Measured series through the whole service: file, MQTT, database, API, against pandas."""

from __future__ import annotations

from urllib.parse import quote

import numpy as np
import pandas as pd
import psycopg
import pytest

from devices.quality import BAD_MASK
from devices.quantity import QUANTITIES
from devices.site_file import read_site_file
from firmware_sims.csv_replay import shipped_mapping, shipped_mapping_site_file
from firmware_sims.mqtt_node import BrokerAddress
from firmware_sims.replay import run_replay
from tests.firmware_sims.measured import data_folder, pandas_reading
from tests.rig.service import ServiceProcess

pytestmark = [
    pytest.mark.system,
    pytest.mark.realdata,
    pytest.mark.timeout(400),
]


def _site_text(name: str, port: int) -> str:
    text = shipped_mapping_site_file(name)
    line = "  host: 127.0.0.1\n"
    assert text.count(line) == 1
    return text.replace(line, f"{line}  port: {port}\n")


def _rows(dsn: str) -> dict[str, dict[int, tuple[float, int]]]:
    """Everything in the database: series code -> UTC microseconds -> (value, quality)."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT d.code, s.quantity, s.channel,"
            " (extract(epoch FROM r.observed_at) * 1000000)::bigint, r.value, r.quality"
            " FROM readings r JOIN series s ON s.id = r.series_id"
            " JOIN devices d ON d.id = s.device_id"
        ).fetchall()
    found: dict[str, dict[int, tuple[float, int]]] = {}
    for device, quantity, channel, at_us, value, quality in rows:
        code = f"{device}.{quantity}.{channel}" if channel else f"{device}.{quantity}"
        found.setdefault(code, {})[at_us] = (value, quality)
    return found


def _hourly_means(values: dict[int, float], low: float, high: float) -> pd.Series:
    """Hourly means of what can be a measurement, by pandas; hours without any are absent."""
    series = pd.Series(values)
    series.index = pd.to_datetime(series.index, unit="us", utc=True)
    series = series[(series >= low) & (series <= high)]
    return series.resample("1h").mean().dropna()


def _api_means(service: ServiceProcess, code: str, first: pd.Timestamp, last: pd.Timestamp):
    """The API's hourly means between two hours, in spans that stay under its point limit."""
    found: dict[pd.Timestamp, float] = {}
    nulls = 0
    start = first
    while start <= last:
        end = min(start + pd.Timedelta(days=90), last + pd.Timedelta(hours=1))
        path = (
            f"/api/v1/series/{code}/readings?step=1h&agg=mean"
            f"&start={quote(start.isoformat())}&end={quote(end.isoformat())}"
        )
        answer = service.get(path)["series"][0]
        for at, mean in zip(answer["observed_at"], answer["mean"], strict=True):
            if mean is None:
                nulls += 1
            else:
                found[pd.Timestamp(at)] = mean
        start = end
    return found, nulls


@pytest.mark.parametrize(
    ("name", "folder"),
    [("agc2-tomato", "agc2-tomato-dev"), ("glasshouse-30mhz", "glasshouse-30mhz-dev")],
)
async def test_every_finite_value_is_stored_at_its_moment_and_hourly_means_are_those_of_pandas(
    name, folder, tmp_path, timescale_dsn, broker, eventually
):
    path = data_folder(folder)
    expected = pandas_reading(name, path)
    values = sum(len(series) for series in expected.values())
    server = broker("max_inflight_messages 1000", "max_queued_messages 100000")
    text = _site_text(name, server.port)
    registry = read_site_file(text, name).registry
    by_key = {
        (device.code, series.key): series for device in registry.devices for series in device.series
    }
    with ServiceProcess(tmp_path / "service", timescale_dsn, text) as service:
        service.start_ready()
        address = BrokerAddress(server.host, server.port)
        report = await run_replay(shipped_mapping(name), path, registry, address)
        assert report.values == values
        await eventually(
            lambda: sum(map(len, _rows(timescale_dsn).values())) == values,
            timeout_s=60,
            interval_s=1.0,
        )
        stored = _rows(timescale_dsn)
        hours = 0
        for (device, key), series in expected.items():
            entry = by_key[device, key]
            quantity, line = QUANTITIES[entry.quantity], entry.conversion
            brought = {at: value * line.scale + line.offset for at, value in series.items()}
            rows = stored[entry.code]
            assert rows.keys() == brought.keys(), entry.code
            ours = np.array([rows[at][0] for at in brought])
            np.testing.assert_array_equal(ours, np.array(list(brought.values())))
            impossible = {at for at, v in brought.items() if not quantity.low <= v <= quantity.high}
            marked = {at for at in brought if rows[at][1]}
            assert impossible <= marked, entry.code
            # The judge marks an export of noughts, and hardly anything else.
            noughts = {at for at in marked - impossible if brought[at] == 0.0}
            assert len(noughts) <= 12, entry.code
            assert len(marked - impossible - noughts) < 0.001 * len(brought), entry.code
            bad = {at for at in marked if rows[at][1] & BAD_MASK}

            good = {at: value for at, value in brought.items() if at not in bad}
            means = _hourly_means(good, quantity.low, quantity.high)
            found, nulls = _api_means(service, entry.code, means.index[0], means.index[-1])
            assert found.keys() == set(means.index), entry.code
            ours = np.array([found[at] for at in means.index])
            np.testing.assert_allclose(ours, means.to_numpy(), rtol=1e-9, atol=1e-9)
            span = int((means.index[-1] - means.index[0]) / pd.Timedelta(hours=1)) + 1
            assert nulls == span - len(means), "an hour without a value is not a gap"
            hours += len(means)
        assert "Traceback" not in service.log()
        letters = service.command("dead-letters", "list")
    assert letters.strip() == "waiting: none"
    assert hours > 10_000
