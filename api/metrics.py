"""Prometheus metrics: the service's counters and state, its process, and HTTP itself.

A registry of its own, not the library's global one: two services in one process (tests, the demo)
do not count into each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from api.health import AlertHealth, DerivationHealth, Health
from ingest.counters import HELP, Counters

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4

# When a counter began is in the process' own start time; a line each for that doubles the answer.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves it untyped

_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class HttpMetrics:
    """Counts requests and their time by route template, so that a metric is not made per series."""

    def __init__(self, counters: Counters) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "greenhouse_http_requests",
            "HTTP requests answered",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "greenhouse_http_request_seconds",
            "Time to answer an HTTP request",
            ("method", "route"),
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(_ServiceCounters(counters))

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request; *status* 0 is a client that went away before the answer began."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, str(status) if status else "none").inc()
        self._seconds.labels(method, route).observe(seconds)

    def exposition(self, health: Health) -> bytes:
        """Return everything in Prometheus' text form, the state in *health* as gauges."""
        return generate_latest(_Together(self._registry, health))


class _ServiceCounters:
    """What ingest counted, under the names and with the words that it gives."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        families = {
            name: CounterMetricFamily(f"greenhouse_{name}", text, labels=[label] if label else [])
            for name, (label, text) in HELP.items()
        }
        for (name, labels), number in self._counters.snapshot().items():
            families[name].add_metric([word for _, word in labels], number)
        yield from families.values()


class _Together:
    def __init__(self, registry: CollectorRegistry, health: Health) -> None:
        self._registry = registry
        self._health = health

    def collect(self) -> Iterable[Metric]:
        yield from self._registry.collect()
        yield from _gauges(self._health)


def _gauges(health: Health) -> Iterator[Metric]:
    reachable = health.database.reachable
    yield _gauge("greenhouse_database_up", "Whether the database answers", reachable)
    if health.spool is not None:
        spool = health.spool
        for name, text, value in (
            (
                "lag_seconds",
                "Age of the oldest arrival that is not yet in the database",
                spool.lag_s,
            ),
            ("size_bytes", "Size of the spool on its disk", float(spool.size_bytes)),
            ("accepting", "Whether the spool takes more", float(spool.accepting)),
        ):
            yield _gauge(f"greenhouse_spool_{name}", text, value)
    brokers = GaugeMetricFamily(
        "greenhouse_broker_connected", "Whether a broker is connected", labels=["broker"]
    )
    for broker in health.brokers:
        brokers.add_metric([broker.name], float(broker.connected))
    yield brokers
    edges = GaugeMetricFamily(
        "greenhouse_edge_online", "Whether a Sparkplug node or device is online", labels=["address"]
    )
    for edge in health.edges:
        edges.add_metric([edge.address], float(edge.online))
    yield edges
    yield from _bus_metrics(health)
    if health.alerts is not None:
        yield from _alert_metrics(health.alerts)
    if health.derivations is not None:
        yield from _derivation_metrics(health.derivations)


def _alert_metrics(alerts: AlertHealth) -> Iterator[Metric]:
    for name, text, value in (
        ("judging", "Whether readings are judged by the rules", alerts.judging),
        ("bindings", "Rules on subjects that are judged", alerts.bindings),
        ("failed_rules", "Rules that raised an error and are out of use", len(alerts.failed_rules)),
        ("mistakes", "Mistakes that keep own packs out of force", alerts.packs_left_out),
        ("waiting", "Readings of long ago that are about to be judged together", alerts.waiting),
        ("overdue", "Subjects whose history waits to be judged again", alerts.overdue),
        ("unsaved", "Rows of alerts that wait for the database", alerts.unsaved),
        ("lag_seconds", "From the receipt of the newest reading to its judgement", alerts.lag_s),
    ):
        yield _gauge(f"greenhouse_alerts_{name}", text, value)
    standing = GaugeMetricFamily("greenhouse_alerts_open", "Open alerts", labels=["severity"])
    for severity, number in alerts.open.items():
        standing.add_metric([severity], number)
    yield standing
    for name, text, value in (
        ("revisions", "Subjects whose history was judged again", alerts.revised),
        ("dropped", "Rows of alerts that never came to the database", alerts.dropped),
    ):
        yield _counter(f"greenhouse_alerts_{name}", text, value)
    for name, text, label, numbers in (
        ("transitions", "Lines of alerts' histories", "kind", alerts.transitions),
        ("notices", "Notices", "told", alerts.notices),
    ):
        counter = CounterMetricFamily(f"greenhouse_alerts_{name}", text, labels=[label])
        for word, number in numbers.items():
            counter.add_metric([word], number)
        yield counter


def _derivation_metrics(derived: DerivationHealth) -> Iterator[Metric]:
    for name, text, value in (
        ("series", "Derived series that follow their inputs", derived.series),
        ("lost", "Derived series that cannot be made", len(derived.lost)),
        ("lag_seconds", "How long changes of inputs have been waiting", derived.lag_s),
        ("waiting", "Changes of inputs that are not followed yet", derived.waiting),
        ("redo", "Spans of derived series that are to be made anew", derived.redo),
    ):
        yield _gauge(f"greenhouse_derivations_{name}", text, value)
    for name, text, value in (
        ("readings", "Derived readings that were new or other", derived.made),
        ("failures", "Passes over the changes that failed", derived.failures),
    ):
        yield _counter(f"greenhouse_derivations_{name}", text, value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _bus_metrics(health: Health) -> Iterator[Metric]:
    connected = GaugeMetricFamily(
        "greenhouse_bus_connected", "Whether a Modbus bus is connected", labels=["bus"]
    )
    device_up = GaugeMetricFamily(
        "greenhouse_bus_device_up", "Whether a device on a bus answers", labels=["bus", "device"]
    )
    events = CounterMetricFamily(
        "greenhouse_bus_events", "What happened on a Modbus bus", labels=["bus", "event"]
    )
    for bus in health.buses:
        connected.add_metric([bus.name], float(bus.connected))
        for one in bus.devices:
            device_up.add_metric([bus.name, one.device], float(one.state in ("up", "suspect")))
        for event, number in bus.counts.items():
            events.add_metric([bus.name, event], number)
    yield from (connected, device_up, events)
