"""Random worlds for the property tests: rules, readings, the order in which they come, restarts.

Everything follows from one seed.  A world is run step by step; after some of the steps, and at the
end, the engine's alerts are held against those of the slow reference on what has arrived so far.
"""

from __future__ import annotations

import random

from alerts.binding import Surroundings
from alerts.engine import Engine, Settings
from alerts.replay import replay
from alerts.rule import read_pack
from devices.quality import Quality
from devices.site import Placement, SiteKind
from tests.alerts import places, reference
from tests.alerts.places import SECOND
from tests.alerts.told import Told

START = 1_767_196_800 * SECOND  # 2026-01-01T00:00 in China
LATENESS_S = 120

PLAIN = (
    "when: air_temperature > 30 degC",
    "when: air_temperature > 30 degC, for: 3min, clear: 28 degC",
    "when: air_temperature > 30 degC, for: 2min, hysteresis: 1 K, keep_firing: 2min",
    "when: air_temperature < 20 degC, for: 90s",
    "levels: {warning: {when: air_temperature > 28 degC, for: 4min},"
    " critical: {when: air_temperature > 31 degC, clear: 29 degC}}",
    "levels: {info: {when: air_temperature > 28 degC, for: 4min},"
    " warning: {when: air_temperature > 30 degC, for: 2min},"
    " critical: {when: air_temperature > 31 degC, clear: 29 degC, keep_firing: 3min}}",
    "when: air_temperature outside 20..30 degC margin 1 K, for: 1min",
    "when: relative_humidity inside 80..90 %",
    "when: relative_humidity inside 80..85 % margin 5 %, for: 3min",
    "when: air_temperature == 31 degC",
    "when: relative_humidity != 85 %, for: 4min",
    "when: 'air_temperature > 28 degC', schedule: {sun: day}",
    "when: 'air_temperature > 28 degC', schedule: {clock: ['00:05-00:20']}, for: 1min",
    "when: 'air_temperature > 28 degC', valid: {from: 2026-01-02}",
)
SILENT = (
    "when: no data for 3 intervals, where: {quantity: [air_temperature, relative_humidity]}",
    "when: no valid data for 4 intervals, where: {quantity: air_temperature}, for: 2min",
    "when: no data for 2 intervals, per: device",
    "when: no data for 150s, per: house, for: 1min",
    "when: no data from solution_ec for 2 intervals and valve_state == 1, for: 1min",
)
STREAMS = (
    "when: air_temperature flat for 5min",
    "when: flat for 2min, where: {quantity: relative_humidity}",
    "when: air_temperature flat for 10min within 1 K",
    "when: air_temperature mean over 10min > 29 degC, clear: 28 degC",
    "when: air_temperature mean over 10min needing 75 % > 28 degC",
    "when: air_temperature max over 5min >= 31 degC, for: 2min",
    "when: air_temperature min over 7min < 20 degC",
    "when: air_temperature range over 6min > 10 degC",
    "when: air_temperature count over 5min < 4",
    "when: air_temperature median over 90min needing 10min > 28.5 degC",
    "when: air_temperature p90 over 2h needing 10min > 30 degC",
    "when: air_temperature rate over 5min > 1 degC/min",
    "when: irrigation_volume increase over 5min > 6 L, clear: 3 L",
    "when: hours with air_temperature > 28 degC over 20min > 0.1 h",
    "when: excess of air_temperature above 28 degC over 15min > 0.3 degC.h",
    "when: excess of air_temperature below 20 degC over today > 0.02 degC.h",
    "when: air_temperature mean over today needing 75 % > 26 degC",
    "when: air_temperature min over today < 19 degC",
    "when: irrigation_volume increase over today > 8 L",
    "when: air_temperature sum over 10min > 200 degC",
    "when: air_temperature p10 over 10min <= 20 degC",
    "when: hours with air_temperature inside 27..30 degC over 15min > 0.1 h",
    "when: hours with air_temperature outside 20..30 degC over 15min > 0.1 h",
)
TOGETHER = (
    "when: irrigation_volume increase over 5min < 6 L and valve_state == 1, for: 1min",
    "when: air_temperature - temperature_setpoint > 5 K, for: 1min",
    "when: abs(air_temperature - twins(air_temperature)) > 5 K, for: 2min",
    "when: twins(air_temperature) > 29 degC, for: 1min",
    "when: air_temperature mean over 4min - twins(air_temperature) > 4 K",
    "when: air_temperature.a - air_temperature.b > 5 K",
    "when: at least 2 of air_temperature > 29 degC clear 28 degC, per: house",
    "when: any of air_temperature > 31 degC, per: site, for: 1min",
    "when: all of air_temperature > 27 degC, per: house, for: 3min",
    "when: spread(air_temperature) > 8 K, per: house",
    "when: highest(air_temperature) - lowest(air_temperature) > 8 K and relative_humidity > 85 %",
    "when: air_temperature > 29 degC and relative_humidity > 84 %, for: 1min",
    "when: air_temperature > 29 degC or relative_humidity > 90 %, keep_firing: 2min,"
    " where: {placement: inside}",
    "when: air_temperature > 29 degC clear 28 degC and not (relative_humidity > 84 % clear 80 %)",
    "when: vapour_pressure_deficit > 1.2 kPa, for: 2min, where: {placement: inside}",
    "when: air_temperature - air_temperature@outdoor > 5 K, where: {placement: inside}, for: 1min",
    "levels: {warning: {when: air_temperature > 28 degC and relative_humidity > 80 %, for: 2min},"
    " critical: {when: air_temperature > 31 degC}}, per: site",
)
CALENDAR = (
    "when: so2 mean over each hour needing 45min > 400 ug/m3",
    "when: so2 mean over each day > 350 ug/m3",
    "when: so2 mean of hours over each day needing 18 hours of 45min > 350 ug/m3",
    "when: so2 max of hours over each day needing 3 hours > 400 ug/m3",
    "when: o3 max of 8h means over each day needing 6 hours of 30min > 350 ug/m3",
    "when: o3 mean of hours over 8h needing 6 hours of 45min > 350 ug/m3, for: 2h",
    "when: so2 - so2 usual over 2d > 200 ug/m3",
    "when: so2 mean over 6h > 400 ug/m3",
    "when: hours with so2 > 400 ug/m3 over today > 3 h",
    "when: hours with so2 > 400 ug/m3 since 01-02 > 9 h",
    "when: so2 mean over each hour > 400 ug/m3 and o3 max over each hour > 400 ug/m3",
    "when: so2 mean over each hour > 400 ug/m3 and no data from o3 for 2 intervals",
    "when: so2 > 450 ug/m3, schedule: {sun: night}, for: 30min",
    "when: so2 max over each hour > 400 ug/m3, for: 2h",
    "when: so2 min over each hour > 120 ug/m3",
    "when: so2 range over each hour >= 400 ug/m3",
    "when: so2 count over each hour < 4",
    "when: so2 increase over each hour > 500 ug/m3",
    "when: so2 mean over each day needing 80 % > 300 ug/m3",
    "when: so2 min of hours over each day needing 3 hours > 110 ug/m3",
)


def air_station(*timezones):
    """One outdoor station a time zone, whose days are quick to compute."""
    outdoor = Placement.OUTDOOR
    sites = [
        places.site(f"base{number}", SiteKind.BASE, None, timezone=timezone)
        for number, timezone in enumerate(timezones)
    ]
    return places.registry(
        sites,
        [
            places.device(
                f"w{number}", site.code,
                places.series(f"w{number}", "so2", site.code, 900, placement=outdoor),
                places.series(f"w{number}", "o3", site.code, 1800, placement=outdoor),
            )
            for number, site in enumerate(sites)
        ],
    )  # fmt: skip


def pack_of(chosen):
    """A pack of rules written as above."""
    lines = ["pack: t", "version: 1", "rules:"]
    lines += [f"  - {{id: r{number}, {rule}}}" for number, rule in enumerate(chosen)]
    return read_pack("\n".join(lines), "t.yaml")


_TEMPERATURES = (18.0, 20.0, 22.5, 27.0, 28.5, 29.0, 29.5, 30.0, 30.5, 31.0, 31.5, 35.0)


class World:
    """One seed: a place, rules, readings with gaps, bad marks and delays."""

    def __init__(self, seed, rules, registry, minutes, delays=True, start=START):
        self.rng = random.Random(seed)
        self.registry = registry
        self.start = start
        self.settings = Settings(
            lateness_s=LATENESS_S,
            grace_s=self.rng.choice([0, 10, 30]),
            since_us=start if self.rng.random() < 0.3 else None,
            surroundings=Surroundings(),
        )
        self.rules = pack_of(self.rng.sample(rules, min(len(rules), 3))).rules
        self.rows = self._readings(minutes)
        self.mode = self.rng.choice(["on time", "late", "shuffled"]) if delays else "on time"
        self.code_of = {number: code for code, number in registry.series_ids.items()}
        self.arrived = {}
        self.told = Told()
        self.engine = self._engine()

    def _engine(self):
        return Engine(self.rules, self.registry, self.settings)

    # -- readings

    def _readings(self, minutes):
        rows = {}
        for code, number in self.registry.series_ids.items():
            series = self.registry.series[code]
            for at_us, value, quality in self._of_series(series, minutes):
                rows.setdefault((number, at_us), (number, at_us, value, quality))
        return list(rows.values())

    def _of_series(self, series, minutes):
        rng, interval = self.rng, round(series.interval_s * SECOND)
        jitter = rng.choice([0, interval // 10, interval // 2])
        t, end = self.start + rng.randrange(interval), self.start + minutes * 60 * SECOND
        value, total = 25.0, 0.0
        while t < end:
            if rng.random() < 0.03:
                t += interval * rng.randrange(2, 9)
                continue
            if series.quantity == "irrigation_volume":
                total = total + rng.choice([0, 0, 1, 5]) if rng.random() > 0.02 else 0.0
                value = total
            else:
                value = self._value(series.quantity, value)
            quality = rng.choices([0, int(Quality.CALIBRATION), int(Quality.STEP)], [93, 5, 2])[0]
            at_us = t + (rng.randrange(-jitter // 2, jitter // 2 + 1) if jitter else 0)
            yield at_us - at_us % 1000, float("nan") if rng.random() < 0.02 else value, quality
            t += interval

    def _value(self, quantity, last):
        rng = self.rng
        if quantity in ("air_temperature", "temperature_setpoint"):
            return rng.choice(_TEMPERATURES) if rng.random() < 0.5 else last
        if quantity == "valve_state":
            return float(rng.random() < 0.5)
        choices = {
            "relative_humidity": [60.0, 79.0, 80.0, 85.0, 90.0, 91.0, 95.0],
            "solution_ec": [1.5, 2.0, 2.5, 3.0],
        }
        return rng.choice(choices.get(quantity, [100.0, 400.0, 500.0, 500.1, 600.0, 160.0]))

    def _delay_us(self):
        if self.mode == "on time":
            return 0
        if self.mode == "late":
            return self.rng.choice([0, 0, 0, 1, 5, 30, 119]) * SECOND
        if self.mode == "very late":
            late = self.rng.random() < 0.1
            return self.rng.choice([1, 30, 300, 1200]) * SECOND if late else 0
        return self.rng.randrange(0, LATENESS_S) * SECOND

    # -- running

    def run(self, steps_s, checks=3):
        """Let everything arrive, restart now and then; compare *checks* times and at the end."""
        rng = self.rng
        arrivals = sorted((row[1] + self._delay_us(), i) for i, row in enumerate(self.rows))
        arrivals += rng.sample(arrivals, len(arrivals) // 20)  # some arrive twice
        arrivals.sort()
        step_us = rng.choice(steps_s) * SECOND
        now, position = self.start, 0
        check_at = sorted(rng.randrange(len(arrivals)) for _ in range(checks))
        while position < len(arrivals):
            now += step_us * rng.randrange(1, 3)
            part = []
            while position < len(arrivals) and arrivals[position][0] <= now:
                part.append(self.rows[arrivals[position][1]])
                position += 1
            rng.shuffle(part)
            self._step(part, now)
            while check_at and check_at[0] < position:
                check_at.pop(0)
                self.check()
        self._step([], now + rng.choice([0, 200, 4000, 100_000]) * SECOND)
        self.check()
        return self

    def _step(self, part, now):
        for number, at_us, value, quality in part:
            of_series = self.arrived.setdefault(self.code_of[number], {})
            of_series.setdefault(at_us, (value, quality))
        news = self.engine.feed(places.batch(part), now) if part else self.engine.advance(now)
        self.told.take(news)
        if self.rng.random() < 0.05:
            self._restart()
        if self.mode == "very late":
            self._revise()
        assert not self.engine.failures
        assert not self.engine.overdue()
        self.now = now

    def _restart(self):
        saved = self.engine.snapshot()
        self.engine = self._engine()
        assert self.engine.restore(saved) == []
        assert self.engine.snapshot() == saved

    def _revise(self):
        overdue = self.engine.overdue()
        if not overdue:
            return
        told = list(self.told.episodes.values())
        since_us = min(one.since_us(told) for one in overdue)
        history = [
            (number, at_us, *facts)
            for code, number in self.registry.series_ids.items()
            for at_us, facts in self.arrived.get(code, {}).items()
            if at_us >= since_us
        ]
        late_us = min(one.late_us for one in overdue)
        known = [e for e in told if e.is_open or e.resolved_at_us >= late_us]
        self.told.take(self.engine.revise(overdue, places.batch(history), known))

    # -- comparing

    def expected(self):
        """What the reference says of all that has arrived."""
        grace_us = round(self.settings.grace_s * 1e6)
        out = {}
        for binding in self.engine.bindings:
            found = reference.episodes(
                binding, self.registry, self.arrived, self.now, grace_us, self.settings.since_us
            )
            if found:
                out[binding.rule.code, binding.subject.key] = found
        return out

    def check(self):
        """Hold what was told against the reference."""
        assert self.told.as_tuples() == self.expected()

    def replayed(self):
        """The same readings by a replay, in the form of the reference."""
        rows = [
            (number, at_us, *facts)
            for code, number in self.registry.series_ids.items()
            for at_us, facts in self.arrived.get(code, {}).items()
        ]
        told = Told()
        grace_us = round(self.settings.grace_s * 1e6)
        found = replay(
            self.rules, self.registry, places.batch(rows), self.now - grace_us, self.settings
        )
        told.episodes = {episode.id: episode for episode in found}
        return told.as_tuples()
