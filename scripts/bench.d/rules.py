"""Rules: a batch of 10,000 readings over 100,000 bindings, and a year of 10-second data replayed.

Beside it, the same rules (a limit, a clear level, five minutes) by pandas and row by row in plain
Python.  The batches are judged in the order of time and out of it; the row-by-row year is measured
on a tenth of the year and scaled.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import pandas as pd

from alerts.engine import Engine, Settings
from alerts.replay import Replay
from alerts.rule import Rule, read_pack
from devices.reading import Batch
from devices.registry import Registry
from devices.series import Device, Series, Transport
from devices.site import Medium, Placement, Site, SiteKind
from devices.units import Conversion

Result = TypeVar("Result")

SECOND = 1_000_000
START = 1_767_225_600 * SECOND
FOR_S, LIMIT, CLEAR = 300, 35.0, 33.0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def place(houses: int, sensors: int) -> Registry:
    sites = [Site("base", SiteKind.BASE, "base", "base", None)]
    devices = []
    for house in range(houses):
        code, site = f"d{house}", f"h{house}"
        sites.append(Site(site, SiteKind.GREENHOUSE, site, site, "base"))
        series = tuple(
            Series(code, "air_temperature", f"c{k}", f"t{k}", site, Placement.INSIDE, Medium.AIR,
                   "°C", Conversion(), 10.0)
            for k in range(sensors)
        )  # fmt: skip
        devices.append(Device(code, site, Transport.MQTT, series=series))
    codes = [series.code for device in devices for series in device.series]
    return Registry(tuple(sites), tuple(devices), {c: n for n, c in enumerate(codes, start=1)})


def rules(count: int) -> tuple[Rule, ...]:
    lines = ["pack: bench", "version: 1", "rules:"]
    lines += [
        f"  - {{id: r{n}, when: air_temperature > {LIMIT + n} degC, "
        f"clear: {CLEAR + n} degC, for: {FOR_S}s}}"
        for n in range(count)
    ]
    return read_pack("\n".join(lines), "bench.yaml").rules


# -- a batch over many bindings


def batches(series: int, rows: int, count: int, seed: int = 1) -> Iterator[Batch]:
    """Yield batches of *rows* readings, each series every ten seconds, one in fifty too hot."""
    rng = np.random.default_rng(seed)
    values = rng.normal(22.0, 3.0, series)
    values[rng.random(series) < 0.02] += 15.0
    every = series // rows
    for number in range(count):
        of = np.arange(number % every, series, every)[:rows]
        values[of] += rng.normal(0.0, 0.2, len(of))
        now = START + (number + 1) * 10 * SECOND // every
        at_us = now - rng.integers(0, SECOND, len(of))
        yield Batch(
            (of + 1).astype(np.int32), at_us, np.full(len(of), now), values[of].copy(),
            np.zeros(len(of), np.int32),
        )  # fmt: skip


def shuffled(plain: Iterator[Batch]) -> Iterator[Batch]:
    """Yield the same readings with one in a hundred a batch late."""
    rng = np.random.default_rng(7)
    waiting = Batch.empty()
    for batch in plain:
        late = rng.random(len(batch)) < 0.01
        yield Batch.concatenate([batch.take(~late), waiting])
        waiting = batch.take(late)


def timed(engine: Engine, stream: Iterator[Batch], warm: int) -> list[float]:
    took = []
    for number, batch in enumerate(stream):
        now_us = int(batch.observed_at_us.max())
        begin = time.perf_counter()
        engine.feed(batch, now_us)
        if number >= warm:
            took.append((time.perf_counter() - begin) * 1e3)
    return took


class ByPandas:
    """The same rules with a DataFrame a batch: states as columns, joined by series."""

    def __init__(self, series: int, count: int) -> None:
        self.state = pd.DataFrame({
            "series": np.tile(np.arange(1, series + 1), count),
            "limit": np.repeat(LIMIT + np.arange(count), series),
            "clear": np.repeat(CLEAR + np.arange(count), series),
        })  # fmt: skip
        self.state["since"] = np.nan
        self.state["firing"] = False

    def feed(self, batch: Batch) -> None:
        rows = pd.DataFrame({
            "series": batch.series_id, "at": batch.observed_at_us / 1e6, "value": batch.value,
        })  # fmt: skip
        joined = self.state.reset_index().merge(rows, on="series").set_index("index")
        above = joined["value"] > joined["limit"]
        since = joined["since"].where(above & joined["since"].notna(), joined["at"]).where(above)
        fires = above & (joined["at"] - since >= FOR_S)
        firing = (joined["firing"] | fires) & ~(joined["value"] <= joined["clear"])
        self.state.loc[joined.index, "since"] = since
        self.state.loc[joined.index, "firing"] = firing


class ByRow:
    """The same rules with a dict a binding and a loop."""

    def __init__(self, count: int) -> None:
        self.limits = [(LIMIT + n, CLEAR + n) for n in range(count)]
        self.since: dict[tuple[int, int], int] = {}
        self.firing: set[tuple[int, int]] = set()
        self.fired = 0

    def feed(self, batch: Batch) -> None:
        columns = (batch.series_id.tolist(), batch.observed_at_us.tolist(), batch.value.tolist())
        for series, at, value in zip(*columns, strict=True):
            for rule, (limit, clear) in enumerate(self.limits):
                key = (series, rule)
                if value > limit:
                    begin = self.since.setdefault(key, at)
                    if at - begin >= FOR_S * SECOND and key not in self.firing:
                        self.firing.add(key)
                        self.fired += 1
                else:
                    self.since.pop(key, None)
                    if value <= clear:
                        self.firing.discard(key)


def per_batch(feed: Callable[[Batch], object], series: int, rows: int, count: int) -> float:
    took = []
    for batch in batches(series, rows, count):
        begin = time.perf_counter()
        feed(batch)
        took.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(took)


# -- a year of one series


def year() -> Batch:
    count = 365 * 8640
    rng = np.random.default_rng(3)
    day = np.arange(count) / 8640.0
    value = 25.0 + 10.0 * np.sin(2 * np.pi * (day - 0.3)) + rng.normal(0.0, 0.3, count)
    value += np.interp(day, np.arange(366), rng.normal(0.0, 2.0, 366))
    at_us = START + np.arange(count) * 10 * SECOND
    return Batch(np.ones(count, np.int32), at_us, at_us, value, np.zeros(count, np.int32))


def year_by_pandas(batch: Batch) -> int:
    """Return how often it fires: runs above the limit, latched until the clear level."""
    frame = pd.DataFrame({"at": batch.observed_at_us / 1e6, "value": batch.value})
    above = frame["value"] > LIMIT
    run = (above != above.shift()).cumsum()
    lasted = frame["at"] - frame.groupby(run)["at"].transform("first") + 10
    mark = pd.Series(np.nan, frame.index)
    mark[frame["value"] <= CLEAR] = 0.0
    mark[above & (lasted >= FOR_S)] = 1.0
    firing = mark.ffill().fillna(0.0)
    return int(((firing == 1.0) & (firing.shift(fill_value=0.0) == 0.0)).sum())


def best(action: Callable[[], int], times: int = 3) -> tuple[float, int]:
    took, result = [], 0
    for _ in range(times):
        begin = time.perf_counter()
        result = action()
        took.append(time.perf_counter() - begin)
    return min(took), result


def once(action: Callable[[], Result]) -> tuple[float, Result]:
    """Return how long *action* took, and its result."""
    begin = time.perf_counter()
    result = action()
    return time.perf_counter() - begin, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--series", type=int, default=20_000)
    parser.add_argument("--rules", type=int, default=5)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--batches", type=int, default=120)
    args = parser.parse_args()
    out: dict[str, float | int] = {}

    registry, packs = place(args.series // 10, 10), rules(args.rules)
    begin = time.perf_counter()
    engine = Engine(packs, registry, Settings())
    out["bindings"], out["batch_rows"] = len(engine.bindings), args.rows
    out["build_s"] = time.perf_counter() - begin
    say(f"{len(engine.bindings):,} bindings built in {out['build_s']:.1f} s")
    took = timed(engine, batches(args.series, args.rows, args.batches), warm=10)
    out["batch_ms"], out["batch_p95_ms"] = statistics.median(took), float(np.percentile(took, 95))
    out["batch_mean_ms"] = statistics.mean(took)
    out["evaluations_per_batch"] = args.rows * args.rules
    out["bytes_per_binding"] = engine.bytes_per_binding()
    out["snapshot_s"], saved = once(engine.snapshot)
    out["snapshot_mb"] = len(saved) / 1e6
    fresh = Engine(packs, registry, Settings())
    out["restore_s"], _ = once(lambda: fresh.restore(saved))
    late = timed(Engine(packs, registry, Settings()),
                 shuffled(batches(args.series, args.rows, args.batches // 2)), warm=10)  # fmt: skip
    out["batch_with_late_ms"] = statistics.median(late)
    frame, rows = ByPandas(args.series, args.rules), ByRow(args.rules)
    out["batch_pandas_ms"] = per_batch(frame.feed, args.series, args.rows, 6)
    out["batch_per_row_ms"] = per_batch(rows.feed, args.series, args.rows, 6)

    history = year()
    single, one = place(1, 1), rules(1)

    def replayed() -> int:
        run = Replay(one, single)
        run.feed(history)
        return len(run.finish(int(history.observed_at_us[-1])))

    out["replay_readings"] = len(history)
    out["replay_year_s"], out["replay_episodes"] = best(replayed)
    out["replay_year_pandas_s"], by_pandas = best(lambda: year_by_pandas(history))
    tenth = history.take(slice(0, len(history) // 10))
    took_tenth, _ = best(lambda: ByRow(1).feed(tenth) or 0, 1)
    out["replay_year_per_row_s"] = took_tenth * 10
    if by_pandas != out["replay_episodes"]:
        sys.exit(f"pandas finds {by_pandas} episodes, the engine {out['replay_episodes']}")
    if args.json:
        print(json.dumps({key: round(value, 4) for key, value in out.items()}))
        return
    width = max(len(key) for key in out)
    for key, value in out.items():
        print(
            f"{key:<{width}}  {value:,.3f}"
            if isinstance(value, float)
            else f"{key:<{width}}  {value:,}"
        )


if __name__ == "__main__":
    main()
