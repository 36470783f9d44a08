"""The alerts of a set of readings, computed slowly and obviously.

Plain Python on plain lists, one binding at a time, from nothing: no arrays, no state, no memory of
an earlier call.  It is what docs/decisions/0010-measured-time.md says, written a second time.  It
shares with the engine only what a condition *is* (the compiled trees and their limits, which have
tests of their own), never how it is computed.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from alerts import program as p
from alerts.window import Aggregate
from devices.derived import FORMULAS
from devices.quality import BAD_MASK
from devices.quantity import QUANTITIES

SECOND = 1_000_000
HOUR = 3600 * SECOND
NEVER = 2**62


def episodes(binding, registry, readings, horizon_us, grace_us, since_us=None):
    """Return the episodes of *binding* as plain tuples, oldest first.

    *readings* maps a series' code to {observed_at_us: (value, quality)}.
    """
    return _Binding(binding, registry, readings, horizon_us, grace_us, since_us).episodes()


class _Binding:
    def __init__(self, binding, registry, readings, horizon_us, grace_us, since_us):
        self.binding = binding
        self.registry = registry
        self.readings = readings
        self.known_us = horizon_us - grace_us
        self.since_us = since_us
        self.zone = ZoneInfo(binding.timetable.zone.name)
        self.streams = []  # (list of (t, value), holds_us, step_us or None, leaf)
        for leaf, codes in zip(binding.program.leaves, binding.leaves, strict=True):
            groups = [codes] if leaf.members == "merged" else [(code,) for code in codes]
            for group in groups:
                self.streams.append(self.stream(leaf, group))

    # -- readings

    def usable(self, code):
        return [
            (t, v)
            for t, (v, q) in sorted(self.readings.get(code, {}).items())
            if q & BAD_MASK == 0 and math.isfinite(v)
        ]

    def interval_us(self, codes):
        return min(round(self.registry.series[code].interval_s * SECOND) for code in codes)

    def until(self, codes):
        newest = max(max(self.readings.get(c, {}), default=-NEVER) for c in codes)
        return max(newest, self.known_us)

    def scale(self, code):
        quantity = QUANTITIES[self.registry.series[code].quantity]
        largest = max(abs(quantity.low), abs(quantity.high), 1.0)
        power = 0
        while 2**power < largest:
            power += 1
        return 2.0 ** (40 - power)

    # -- streams

    def stream(self, leaf, codes):
        spec, interval = leaf.spec, self.interval_us(codes)
        step = interval
        if spec.kind == "silence":
            return self.silence(spec, codes, interval), NEVER, None, leaf
        points = self.usable(codes[0])
        scale = self.scale(codes[0])
        spoken = []
        for i, (t, _) in enumerate(points):
            spoken.append(interval if i == 0 else min(t - points[i - 1][0], interval))
        if spec.kind == "value":
            values = points
        elif spec.kind == "unchanged":
            values = self.unchanged(points, interval)
        elif spec.kind == "sliding":
            values = self.sliding(spec, points, spoken, scale)
        elif spec.kind == "running":
            values = self.running(spec, points, spoken, scale)
        elif spec.kind == "usual":
            values = self.usual(spec, points, scale)
        elif spec.kind in ("hour", "day"):
            step = HOUR if spec.kind == "hour" else 24 * HOUR
            values = self.each(spec.kind, spec.aggregate, points, spoken, scale, self.until(codes))
        else:
            step = HOUR if spec.kind == "hours_8" else 24 * HOUR
            values = self.of_hours(spec, points, spoken, scale, self.until(codes))
        return values, 3 * step, step, leaf

    def silence(self, spec, codes, interval):
        heard = sorted(
            {
                t
                for code in codes
                for t, (v, q) in self.readings.get(code, {}).items()
                if not spec.valid or (q & BAD_MASK == 0 and math.isfinite(v))
            }
        )
        patience = round(spec.intervals * interval) if spec.intervals else spec.length_us
        values = {t: 0.0 for t in heard}
        starts = ([self.since_us] if self.since_us is not None else []) + heard
        for i, t in enumerate(starts):
            following = starts[i + 1] if i + 1 < len(starts) else None
            for offset in (0, *spec.confirm_us):
                moment = t + patience + offset
                if following is not None and moment < following:
                    values[moment] = 1.0
                if following is None and moment <= self.known_us:
                    values[moment] = 1.0
        return sorted(values.items())

    def unchanged(self, points, interval):
        out, since = [], None
        for i, (t, v) in enumerate(points):
            if i == 0 or points[i - 1][1] != v or t - points[i - 1][0] > 3 * interval:
                since = t
            out.append((t, (t - since) / 1e6))
        return out

    def statistic(self, aggregate, part, scale, length_us):
        """*part*: list of (index into points, t, v, spoken, previous v)."""
        name = aggregate.name
        values = [v for _, v, _, _ in part]
        if name == "mean":
            result = sum(round(v * scale) for v in values) / len(values) / scale
        elif name == "sum":
            result = sum(round(v * scale) for v in values) / scale
        elif name == "count":
            result = float(len(values))
        elif name == "min":
            result = min(values)
        elif name == "max":
            result = max(values)
        elif name == "range":
            result = max(values) - min(values)
        elif name == "increase":
            steps = [0.0 if b is None else (v - b if v >= b else v) for _, v, _, b in part]
            result = sum(round(s * scale) for s in steps) / scale
        elif name == "hours":
            result = sum(s for _, v, s, _ in part if self.passes(v, aggregate)) / HOUR
        elif name == "excess":
            total = 0
            for _, v, s, _ in part:
                limit = aggregate.limits[0]
                beyond = max(limit - v if aggregate.test == "<" else v - limit, 0.0)
                total += round(beyond * (s / 1e6) * 2**20)
            result = total / 2**20 / 3600.0
        else:
            raise AssertionError(name)
        return result if self.is_covered(aggregate, part, length_us) else math.nan

    def is_covered(self, aggregate, part, length_us):
        need = max(aggregate.need_us, round(aggregate.need_share * length_us))
        return sum(s for _, _, s, _ in part) >= need

    def passes(self, v, aggregate):
        low, high = aggregate.limits[0], aggregate.limits[-1]
        return {
            ">": v > low, ">=": v >= low, "<": v < low, "<=": v <= low, "==": v == low,
            "!=": v != low, "inside": low <= v <= high, "outside": v < low or v > high,
        }[aggregate.test]  # fmt: skip

    def parts(self, points, spoken):
        return [
            (t, v, spoken[i], points[i - 1][1] if i else None) for i, (t, v) in enumerate(points)
        ]

    def sliding(self, spec, points, spoken, scale):
        length, step = spec.length_us, max(1, spec.length_us // 60)
        everything = self.parts(points, spoken)
        out, start = [], 0
        for i, (t, v) in enumerate(points):
            while points[start][0] // step <= t // step - 60:
                start += 1
            part = everything[start : i + 1]
            name = spec.aggregate.name
            if name == "rate":
                t0, v0 = part[0][0], part[0][1]
                enough = 2 * (t - t0) >= length
                result = (v - v0) / (t - t0) * 60e6 if enough and t > t0 else math.nan
                if enough and t == t0:
                    result = 0.0
                if not self.is_covered(spec.aggregate, part, length):
                    result = math.nan
            elif name == "median" or name[1:].isdigit():
                percent = 50 if name == "median" else int(name[1:])
                steps = {}
                for pt, pv, _, _ in part:
                    steps.setdefault(pt // step, []).append(round(pv * scale))
                means = sorted(sum(s) / len(s) / scale for s in steps.values())
                result = means[max((percent * len(means) + 99) // 100 - 1, 0)]
                if not self.is_covered(spec.aggregate, part, length):
                    result = math.nan
            else:
                result = self.statistic(spec.aggregate, part, scale, length)
            out.append((t, result))
        return out

    # -- calendar

    def local(self, t):
        return datetime.fromtimestamp(t // SECOND, UTC).astimezone(self.zone)

    def midnight(self, day):
        moment = datetime.combine(day, time(), self.zone).astimezone(UTC)
        return int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * SECOND

    def bounds(self, kind, t):
        """Return begin and end of the hour or day in which *t* lies."""
        local = self.local(t)
        if kind == "day":
            return self.midnight(local.date()), self.midnight(local.date() + timedelta(days=1))
        begin = t - (local.minute * 60 + local.second) * SECOND - t % SECOND
        return begin, begin + HOUR

    def each(self, kind, aggregate, points, spoken, scale, until):
        bins = {}
        for entry in self.parts(points, spoken):
            bins.setdefault(self.bounds(kind, entry[0]), []).append(entry)
        return [
            (end, self.statistic(aggregate, part, scale, end - begin))
            for (begin, end), part in sorted(bins.items())
            if end <= until
        ]

    def running(self, spec, points, spoken, scale):
        bins, out = {}, []
        for entry in self.parts(points, spoken):
            t = entry[0]
            if spec.bins.kind == "day":
                begin = self.bounds("day", t)[0]
            else:
                local = self.local(t).date()
                month, day = spec.bins.month_day
                year = local.year if local >= date(local.year, month, day) else local.year - 1
                begin = self.midnight(date(year, month, day))
            bins.setdefault(begin, []).append(entry)
            elapsed = t - begin if spec.bins.kind == "day" else 0
            out.append((t, self.statistic(spec.aggregate, bins[begin], scale, elapsed)))
        return out

    def hourly_means(self, need_us, points, spoken, scale, until):
        aggregate = Aggregate("mean", need_us=need_us)
        found = self.each("hour", aggregate, points, spoken, scale, until)
        return {end: value for end, value in found if not math.isnan(value)}

    def of_hours(self, spec, points, spoken, scale, until):
        means = self.hourly_means(spec.aggregate.need_us, points, spoken, scale, until)
        if spec.kind == "hours_day":
            return self.days(means, spec.aggregate.name, spec.hours, scale, until)
        eights = {}
        if means:
            end = min(means)
            while end <= min(until, max(means) + 8 * HOUR):
                inside = [means[end - k * HOUR] for k in range(8) if end - k * HOUR in means]
                if len(inside) >= spec.hours:
                    eights[end] = sum(round(v * scale) for v in inside) / len(inside) / scale
                end += HOUR
        if spec.kind == "hours_8":
            return sorted(eights.items())
        within = {
            end: v for end, v in eights.items()
            if self.local(end - 8 * HOUR).date() == self.local(end - SECOND).date()
        }  # fmt: skip
        return self.days(within, "max", 0, scale, until)

    def days(self, values, name, need_hours, scale, until):
        bins = {}
        for end, value in values.items():
            bins.setdefault(self.local(end - SECOND).date(), []).append(value)
        out = []
        for day, inside in sorted(bins.items()):
            end = self.midnight(day + timedelta(days=1))
            if end > until:
                continue
            if name == "mean":
                result = sum(round(v * scale) for v in inside) / len(inside) / scale
            else:
                result = max(inside) if name == "max" else min(inside)
            out.append((end, result if len(inside) >= need_hours else math.nan))
        return out

    def usual(self, spec, points, scale):
        hours = {}
        for t, v in points:
            hours.setdefault(self.bounds("hour", t)[0], []).append(round(v * scale))
        means = {begin: sum(vs) / len(vs) / scale for begin, vs in hours.items()}
        out = []
        for t, _ in points:
            begin = self.bounds("hour", t)[0]
            past = [begin - 24 * HOUR * day for day in range(1, spec.hours + 1)]
            found = [round(means[b] * scale) for b in past if b in means]
            enough = 2 * len(found) >= spec.hours
            out.append((t, sum(found) / len(found) / scale if enough else math.nan))
        return out

    # -- samples

    def samples(self):
        """Return (t, one column a leaf: a value, or a list of members' values)."""
        # A twin says nothing about others by itself; it is looked up when those say something.
        own = [stream for stream in self.streams if stream[3].members != "twins"]
        moments = sorted({t for values, *_ in own or self.streams for t, _ in values})
        columns = []
        for values, holds_us, *_ in self.streams:
            said, told, column = dict(values), sorted(t for t, _ in values), []
            for t in moments:
                before = bisect_right(told, t)
                at = told[before - 1] if before else None
                fresh = at is not None and (len(self.streams) == 1 or t - at <= holds_us)
                column.append(said[at] if fresh else math.nan)
            columns.append(column)
        out = []
        for i, t in enumerate(moments):
            row, number = [], 0
            for leaf, codes in zip(self.binding.program.leaves, self.binding.leaves, strict=True):
                size = 1 if leaf.members == "merged" else len(codes)
                members = [columns[number + k][i] for k in range(size)]
                row.append(members[0] if size == 1 else members)
                number += size
            out.append((t, row))
        return out

    # -- conditions

    def number(self, node, row):
        if isinstance(node, p.Param):
            return self.binding.program.params[node.index]
        if isinstance(node, p.Column):
            return self.reduced(row[node.leaf], node.reduce)
        if isinstance(node, p.Apply):
            values = [self.number(a, row) for a in node.arguments]
            if node.name == "abs":
                return abs(values[0])
            arrays = [np.array([v]) for v in values]
            return float(FORMULAS[node.name].compute(*arrays)[0])
        left, right = self.number(node.left, row), self.number(node.right, row)
        if node.sign == "/":
            return math.nan if right == 0 else left / right
        return {"+": left + right, "-": left - right, "*": left * right}[node.sign]

    def reduced(self, members, how):
        if not isinstance(members, list):
            return math.nan if how == "spread" else members
        known = [v for v in members if not math.isnan(v)]
        if not known or (how == "spread" and len(known) < 2):
            return math.nan
        ordered = sorted(known)
        if how == "average":
            total = 0.0
            for v in known:
                total += v
            return total / len(known)
        if how == "median":
            return (ordered[(len(known) - 1) // 2] + ordered[len(known) // 2]) / 2.0
        return {
            "highest": ordered[-1], "lowest": ordered[0], "spread": ordered[-1] - ordered[0],
        }[how]  # fmt: skip

    def compare(self, value, sign, limit):
        return {
            ">": value > limit, ">=": value >= limit, "<": value < limit,
            "<=": value <= limit, "==": value == limit, "!=": value != limit,
        }[sign]  # fmt: skip

    def truth(self, node, row):
        """Return (at the limit, at the clear level), each True, False or None for unknown."""
        params = self.binding.program.params
        if isinstance(node, p.Above):
            value = self.number(node.left, row)
            if math.isnan(value):
                return None, None
            tight = self.compare(value, node.sign, params[node.limit])
            if node.clear < 0:
                return tight, tight
            return tight, tight or self.compare(value, node.sign, params[node.clear])
        if isinstance(node, p.Within):
            value = self.number(node.left, row)
            if math.isnan(value):
                return None, None
            low, high, low2, high2 = params[node.low : node.low + 4]
            tight, loose = low <= value <= high, low2 <= value <= high2
            return (tight, loose) if node.inside else (not tight, not loose)
        if isinstance(node, p.Is):
            value = row[node.leaf]
            known = None if math.isnan(value) else value == 1.0
            return known, known
        if isinstance(node, p.AtLeast):
            return self.at_least(node, row)
        if isinstance(node, p.Opposite):
            tight, loose = self.truth(node.part, row)
            return (None if loose is None else not loose, None if tight is None else not tight)
        parts = [self.truth(part, row) for part in node.parts]
        return tuple(self.joined(node.word, [part[i] for part in parts]) for i in range(2))

    def joined(self, word, parts):
        if word == "and":
            return False if False in parts else None if None in parts else True
        return True if True in parts else None if None in parts else False

    def at_least(self, node, row):
        members = row[node.leaf]
        members = members if isinstance(members, list) else [members]
        params = self.binding.program.params
        least = node.least or len(members)
        out = []
        for limit in (node.limit, node.clear if node.clear >= 0 else node.limit):
            known = [v for v in members if not math.isnan(v)]
            passing = sum(
                self.compare(v, node.sign, params[limit])
                or self.compare(v, node.sign, params[node.limit])
                for v in known
            )
            failing = len(known) - passing
            out.append(
                True if passing >= least else False if failing > len(members) - least else None
            )
        return tuple(out)

    # -- levels and episodes

    def episodes(self):
        levels = self.binding.rule.levels
        speaking = [(holds, step) for _, holds, step, leaf in self.streams if step is not None]
        gap = max((holds for holds, _ in speaking), default=NEVER)
        cap = min((step for _, step in speaking), default=0)
        lanes = [
            {"seen": None, "code": "clear", "start": None, "since": None, "calm": None, "on": False}
            for _ in levels
        ]
        done, current, seen, active, peak, lost = [], None, None, False, None, 0
        for t, row in self.samples():
            codes = [self.code(tree, row, t) for tree in self.binding.program.levels]
            if all(code == "unknown" for code in codes):
                continue
            passed = None if seen is None else t - seen
            for lane, code, level in zip(lanes, codes, levels, strict=True):
                if code != "unknown":
                    self.step_lane(lane, code, level, t, gap, cap)
            gapped = passed is not None and passed > gap
            value, beyond = self.shown(row)
            raised = any(lane["code"] == "raise" for lane in lanes)
            firing = any(lane["on"] for lane in lanes)
            open_now = firing or (current is not None and raised)
            now_active = open_now or raised
            if now_active and (not active or (gapped and current is None)):
                peak, lost = None, 0
            if current is not None and gapped:
                current["steps"].append((seen + gap, "held", current["severity"], None))
                lost += passed
            counts = now_active or current is not None
            if counts and not math.isnan(beyond) and (peak is None or beyond > peak[0]):
                peak = (beyond, value)
            # The facts of an episode are those of its last step.
            facts = {"peak": None if peak is None else peak[1], "lost": lost}
            shown = None if math.isnan(value) else value
            if current is not None and gapped:
                current["steps"].append((t, "returned", current["severity"], shown))
                current |= facts
            severity = self.severity(lanes, levels)
            if current is None and firing:
                start = min(lane["start"] for lane in lanes if lane["on"])
                current = {
                    "start": start, "fired": t, "resolved": None, "severity": severity,
                    "worst": severity, "steps": [(t, "fired", severity, shown)], **facts,
                }  # fmt: skip
                done.append(current)
            elif current is not None and not open_now:
                current["steps"].append((t, "resolved", 0, shown))
                current |= {"resolved": t, **facts}
                current = None
            elif current is not None and severity != current["severity"]:
                current["steps"].append((t, "severity", severity, shown))
                worst = max(current["worst"], severity)
                current |= {"severity": severity, "worst": worst, **facts}
            seen, active = t, now_active
        if current is not None and seen + gap <= self.known_us:
            current["steps"].append((seen + gap, "held", current["severity"], None))
        return [
            (
                e["start"], e["fired"], e["resolved"], e["severity"], e["worst"],
                tuple(e["steps"]), e["peak"], e["lost"],
            )
            for e in done
        ]  # fmt: skip

    def code(self, tree, row, t):
        # The value of a day stands at the midnight after it, and belongs to that day.
        calendar = ("hour", "day", "hours_8", "hours_day", "eights_day")
        t -= any(leaf.spec.kind in calendar for leaf in self.binding.program.leaves)
        if not bool(self.binding.timetable.holds(np.array([t]))[0]):
            return "clear"
        tight, loose = self.truth(tree, row)
        if tight is True:
            return "raise"
        if loose is False:
            return "clear"
        return "band" if tight is False else "unknown"

    def step_lane(self, lane, code, level, t, gap, cap):
        passed = None if lane["seen"] is None else t - lane["seen"]
        broken = passed is None or passed > gap
        speaks = cap if passed is None else min(passed, cap)
        if code == "raise" and (lane["code"] != "raise" or broken):
            lane["start"], lane["since"] = t, t - speaks
        if code == "clear" and (lane["code"] != "clear" or broken or lane["calm"] is None):
            lane["calm"] = t - speaks
        if code == "raise" and t - lane["since"] >= level.for_us:
            lane["on"] = True
        if code == "clear" and t - lane["calm"] >= level.keep_us:
            lane["on"] = False
        lane["seen"], lane["code"] = t, code

    def severity(self, lanes, levels):
        firing = [
            int(level.severity) for lane, level in zip(lanes, levels, strict=True) if lane["on"]
        ]
        raising = [
            int(level.severity)
            for lane, level in zip(lanes, levels, strict=True)
            if lane["code"] == "raise"
        ]
        return max(firing) if firing else min(raising, default=0)

    def shown(self, row):
        program = self.binding.program
        if program.value is None:
            return math.nan, math.nan
        value = self.number(program.value, row)
        if program.sense == 2:
            low, high = program.params[program.band], program.params[program.band + 1]
            return value, max(value - high, low - value)
        return value, value * program.sense
