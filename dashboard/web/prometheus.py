"""`/metrics` for Prometheus: the newest snapshot as gauges and counters. An unknown value has no sample, never a zero.

Every process reports the same counters, whichever one is scraped: the leader publishes them in the snapshot, and those
of alerts are in the store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from flask import Blueprint, Response, g, request
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from ..alerts.counters import AlertCounts
from ..alerts.rules.rule import Severity
from ..auth import local_identity
from ..errors import BackendUnavailable, Forbidden
from ..model import QueueStats, State, uncounted_states, with_shared_entry
from ..sampling.snapshot_reader import CurrentSnapshot
from ..slos.slo_report import BURN_WINDOWS, SloStatus
from .access.security import UnknownToken, identify_token, rights_of, sees_all
from .context import app_context, app_services
from .formatting import printable

bp = Blueprint("metrics", __name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text"
LabelValues = Sequence[str]
Sample = tuple[LabelValues, float | None]
SOURCE_LABELS = ("source",)
QUEUE_LABELS = ("source", "backend", "queue")
SLO_LABELS = ("slo",)


class Figure(NamedTuple):
    """One metric: its name without the prefix, its help text, and the field it is read from. The samples of a counter
    are named `<name>_total`."""

    name: str
    help: str
    field: str


SOURCE_GAUGES = (
    Figure("source_up", "1 while the Redis responds.", "reachable"),
    Figure(
        "source_together_throughput_per_minute",
        "Jobs processed per minute in queues whose separate throughput is unknown; no sample without such queues.",
        "together_per_min",
    ),
)
QUEUE_GAUGES = (
    Figure("queue_depth", "Jobs that can start now.", "depth"),
    Figure("queue_latency_seconds", "Age of the oldest waiting job.", "latency_s"),
    Figure("queue_overdue_seconds", "How late the earliest scheduled job is.", "overdue_s"),
    Figure("queue_active_age_seconds", "How long the oldest active job has been running.", "active_age_s"),
    Figure("queue_stalled", "Active jobs whose lock or worker no longer exists.", "stalled"),
    Figure("queue_workers", "Processes that consume the queue.", "workers"),
    Figure("queue_paused", "1 while the queue is paused.", "paused"),
    Figure(
        "queue_throughput_per_minute",
        "Jobs processed per minute, succeeded and failed, over 5 minutes.",
        "throughput_per_min",
    ),
    Figure("queue_failed_per_minute", "Jobs that failed permanently per minute, over 5 minutes.", "failed_per_min"),
    Figure("queue_error_ratio", "Ratio of failed to processed jobs, over 5 minutes.", "error_ratio"),
    Figure("queue_runtime_p50_seconds", "Median run time.", "runtime_p50_s"),
    Figure("queue_runtime_p95_seconds", "Run time that 95% of jobs stay below.", "runtime_p95_s"),
)
REDIS_GAUGES = (
    Figure("redis_used_memory_bytes", "Memory in use.", "used_memory_bytes"),
    Figure("redis_maxmemory_bytes", "Memory limit; no sample where there is none.", "maxmemory_bytes"),
    Figure("redis_memory_ratio", "Ratio of memory in use to the limit.", "memory_ratio"),
    Figure("redis_clients", "Connected clients.", "clients"),
    Figure("redis_max_clients", "Maximum number of connected clients.", "max_clients"),
    Figure("redis_ops_per_second", "Commands per second.", "ops_per_s"),
    Figure("redis_evicted_keys", "Keys evicted since the server started.", "evicted_keys"),
    Figure("redis_rejected_connections", "Connections refused since the server started.", "rejected_connections"),
    Figure("redis_persistence_ok", "1 while saving to disk works.", "persistence_ok"),
)
SLO_GAUGES = (
    Figure("slo_good_ratio", "Share of good jobs in the window of the objective.", "good_ratio"),
    Figure(
        "slo_budget_left_ratio",
        "Share of the error budget that is left; below 0 once it is used up.",
        "budget_left_ratio",
    ),
)
SOURCE_COUNTERS = (
    Figure(
        "source_together_finished",
        "Jobs processed in queues whose separate number is unknown, as counted by the checkers.",
        "together_total",
    ),
)
QUEUE_COUNTERS = (
    Figure(
        "queue_finished",
        "Jobs processed, succeeded and failed, as counted by the checkers; none while no checker ran.",
        "finished_total",
    ),
    Figure("queue_failed", "Jobs that failed permanently, as counted by the checkers.", "failed_total"),
)
REDIS_COUNTERS = (
    Figure("redis_evictions", "Keys evicted by the server.", "evicted_keys"),
    Figure("redis_refused_connections", "Connections refused by the server.", "rejected_connections"),
)


@bp.get("/metrics")
def metrics() -> Response:
    """The newest snapshot, in OpenMetrics for a scraper that asks for it, otherwise in the text format of Prometheus.

    Requires a token, since a scraper has no session, unless `metrics_public` is set. Cost: only the 5 round trips of
    the alerts, and 1 for objectives.
    """
    settings = app_context().settings
    at_home = settings.auth == "none" and local_identity(request.environ)
    identity = identify_token()
    if identity is not None:
        g.rights = rights_of(identity)  # also where metrics are public: the token says for whom they are
    elif not (settings.metrics_public or at_home):
        raise UnknownToken(
            "An API token is required for metrics.",
            hint="Send Authorization: Bearer TOKEN (see api_tokens), or set metrics_public = true.",
        )
    collector = SnapshotCollector(
        app_services().snapshots.current_or_wait(), _count_firing(), _read_counts(), _read_slos()
    )
    if _is_openmetrics_wanted():
        return Response(render_openmetrics(collector), content_type=openmetrics.CONTENT_TYPE_LATEST)
    return Response(render_metrics(collector), content_type=CONTENT_TYPE)


def _is_openmetrics_wanted() -> bool:
    """Whether OpenMetrics comes before other formats in the Accept header."""
    wanted = [value.partition(";")[0] for value, quality in request.accept_mimetypes if quality > 0]
    return next((kind for kind in wanted if kind in (OPENMETRICS, "text/plain", "text/*", "*/*")), None) == OPENMETRICS


def _count_firing() -> dict[str, int] | None:
    """The number of firing alerts by severity; None while rules are not evaluated, or the store cannot be read."""
    try:
        if not app_services().alert_service.checker.read_health().ok:
            return None
        alert_list = app_services().alert_service.alerts.list_alerts()
    except (BackendUnavailable, Forbidden):
        return None
    counts = {severity.value: 0 for severity in Severity}
    for alert in alert_list.firing:
        counts[alert.state.severity.value] += 1
    return counts


def _read_counts() -> AlertCounts | None:
    """The counters of all alerts; None for a token that may see only some queues, while the store cannot be read, and
    while they are those of another dashboard."""
    if "rights" in g and not sees_all():
        return None
    service = app_services().alert_service
    try:
        return None if service.ownership.conflict is not None else service.counters.read_counts()
    except (BackendUnavailable, Forbidden):
        return None


def _read_slos() -> tuple[SloStatus, ...]:
    """The objectives whose jobs were counted in the last minutes; none while the store cannot be read."""
    services = app_services()
    try:
        now_s = services.store.now_s() if services.slos.slos else 0.0
        return tuple(status for status in services.slos.list_statuses() if status.is_current(now_s))
    except (BackendUnavailable, Forbidden):
        return ()


def render_metrics(collector: SnapshotCollector) -> bytes:
    """The metrics in the text format of Prometheus, as UTF-8."""
    return generate_latest(_registry_of(collector))


def render_openmetrics(collector: SnapshotCollector) -> bytes:
    """The metrics in OpenMetrics, as UTF-8."""
    return bytes(openmetrics.generate_latest(_registry_of(collector)))


def _registry_of(collector: SnapshotCollector) -> CollectorRegistry:
    registry = CollectorRegistry()  # the library's global one also has metrics of the process and of Python
    registry.register(collector)
    return registry


@dataclass(eq=False)  # a registry needs a hash
class SnapshotCollector(Collector):
    """The metrics of one snapshot, for one scrape. A metric without samples is left out."""

    current: CurrentSnapshot
    firing: dict[str, int] | None = None  # the number of firing alerts by severity; None while unknown
    counts: AlertCounts | None = None  # None while unknown
    slos: Sequence[SloStatus] = ()

    def collect(self) -> Iterator[Metric]:
        """The metrics, made one by one: only one metric's samples are in memory."""
        snapshot = self.current.snapshot
        sources = [((_label_value(source.name),), source) for source in snapshot.sources] if snapshot else []
        queues = _label_queues(snapshot.queues) if snapshot else []
        healths = [(values, source.health) for values, source in sources]
        yield from _gauge(
            "snapshot_age_seconds", "Age of the snapshot of these metrics.", (), [((), self.current.age_s)]
        )
        samples = snapshot.samples_total if snapshot else None
        yield from _counter("checker_samples", "Samples that the checkers have taken.", (), [((), samples)])
        yield from _read_gauges(SOURCE_GAUGES, SOURCE_LABELS, sources)
        yield from _read_counters(SOURCE_COUNTERS, SOURCE_LABELS, sources)
        yield from _state_gauges(queues)
        yield from _read_gauges(QUEUE_GAUGES, QUEUE_LABELS, queues)
        yield from _read_counters(QUEUE_COUNTERS, QUEUE_LABELS, queues)
        yield from _read_gauges(REDIS_GAUGES, SOURCE_LABELS, healths)
        yield from _read_counters(REDIS_COUNTERS, SOURCE_LABELS, healths)
        yield from _slo_gauges(self.slos)
        yield from self._collect_alerts()

    def _collect_alerts(self) -> Iterator[Metric]:
        firing = [((severity,), count) for severity, count in (self.firing or {}).items()]
        yield from _gauge("alerting_up", "1 while rules are evaluated.", (), [((), self.firing is not None)])
        yield from _gauge("alerts_firing", "Firing alerts.", ("severity",), firing)
        if self.counts is None:
            return
        for name, text, label, counts in (
            ("alerts_fired", "Alerts that began to fire.", "severity", self.counts.fired),
            ("notifications_sent", "Messages that the channel accepted, tests included.", "channel", self.counts.sent),
            ("notifications_failed", "Messages that were given up.", "channel", self.counts.failed),
            ("notifications_retried", "Failed attempts that were repeated.", "channel", self.counts.retried),
        ):
            yield from _counter(name, text, (label,), [((_label_value(of),), count) for of, count in counts.items()])


def _state_gauges(queues: Sequence[tuple[LabelValues, QueueStats]]) -> Iterator[Metric]:
    together = with_shared_entry(queue for _, queue in queues)
    yield from _gauge(
        "queue_jobs",
        "Jobs by state; no sample where the library does not report it.",
        (*QUEUE_LABELS, "state"),
        (((*values, state.value), queue.counts.of(state)) for values, queue in queues for state in State),
    )
    yield from _gauge(
        "queue_jobs_at_least",
        "1 where a state may have more jobs than queue_jobs reports, or has no sample of it because of an error.",
        (*QUEUE_LABELS, "state"),
        (
            ((*values, state.value), 1)
            for values, queue in queues
            for state in dict.fromkeys((*queue.at_least, *uncounted_states(queue, together)))
        ),
    )


def _slo_gauges(slos: Sequence[SloStatus]) -> Iterator[Metric]:
    for name, text, field in SLO_GAUGES:
        yield from _gauge(name, text, SLO_LABELS, (((each.slo.id,), getattr(each, field)) for each in slos))
    targets = (((each.slo.id,), each.slo.target) for each in slos)
    yield from _gauge("slo_target_ratio", "Share of jobs that has to be good.", SLO_LABELS, targets)
    yield from _gauge(
        "slo_burn_rate",
        "How many times faster than allowed the error budget is used; 1 uses it up exactly by the end of the window.",
        (*SLO_LABELS, "window"),
        (((each.slo.id, window), each.burn_rate(window)) for each in slos for window in BURN_WINDOWS),
    )


def _read_gauges(
    gauges: Iterable[Figure], label_names: Sequence[str], subjects: Sequence[tuple[LabelValues, object]]
) -> Iterator[Metric]:
    for name, text, field in gauges:
        yield from _gauge(name, text, label_names, ((values, getattr(subject, field)) for values, subject in subjects))


def _read_counters(
    counters: Iterable[Figure], label_names: Sequence[str], subjects: Sequence[tuple[LabelValues, object]]
) -> Iterator[Metric]:
    for name, text, field in counters:
        samples = ((values, getattr(subject, field)) for values, subject in subjects)
        yield from _counter(name, text, label_names, samples)


def _gauge(name: str, text: str, label_names: Sequence[str], samples: Iterable[Sample]) -> Iterator[Metric]:
    yield from _add_samples(GaugeMetricFamily(f"queuedeck_{name}", text, labels=label_names), samples)


def _counter(name: str, text: str, label_names: Sequence[str], samples: Iterable[Sample]) -> Iterator[Metric]:
    yield from _add_samples(CounterMetricFamily(f"queuedeck_{name}", text, labels=label_names), samples)


def _add_samples(family: GaugeMetricFamily | CounterMetricFamily, samples: Iterable[Sample]) -> Iterator[Metric]:
    for values, figure in samples:
        if figure is not None and _fits_float(figure):
            family.add_metric(values, figure)
    if family.samples:
        yield family


def _fits_float(figure: float) -> bool:
    try:
        float(figure)
    except OverflowError:
        return False  # a larger integer would make the whole answer fail
    return True


def _label_queues(queues: Sequence[QueueStats]) -> list[tuple[LabelValues, QueueStats]]:
    """Each queue with the values of QUEUE_LABELS, which are different for each: otherwise Prometheus would see a series
    that jumps back and forth."""
    labels = [(_label_value(queue.source), queue.backend, _label_value(queue.name)) for queue in queues]
    shown = Counter(labels)
    return [
        (values if shown[values] == 1 else (*values[:2], f"{values[2]} #{_digest(queue.name)}"), queue)
        for values, queue in zip(labels, queues, strict=True)
    ]


def _digest(name: str) -> str:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


def _label_value(text: str) -> str:
    return printable(text, 500)  # a byte that is not UTF-8 would make the whole answer fail
