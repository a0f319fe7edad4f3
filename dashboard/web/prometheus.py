"""`/metrics` for Prometheus: the newest snapshot as gauges. An unknown value has no sample, never a zero."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from flask import Blueprint, Response, request
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ..alerts.rules.rule import Severity
from ..auth import local_identity, token_identity
from ..errors import BackendUnavailable, Forbidden
from ..model import QueueStats, State, uncounted_states, with_shared_entry
from ..sampling.snapshot_reader import CurrentSnapshot
from .access.security import UnknownToken
from .context import app_context, app_services
from .formatting import printable

bp = Blueprint("metrics", __name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LabelValues = Sequence[str]
SOURCE_LABELS = ("source",)
QUEUE_LABELS = ("source", "backend", "queue")


class Gauge(NamedTuple):
    """One metric: its name without the prefix, its help text, and the field it is read from."""

    name: str
    help: str
    field: str


SOURCE_GAUGES = (
    Gauge("source_up", "1 while the Redis responds.", "reachable"),
    Gauge(
        "source_together_throughput_per_minute",
        "Jobs processed per minute in queues whose separate throughput is unknown; no sample without such queues.",
        "together_per_min",
    ),
)
QUEUE_GAUGES = (
    Gauge("queue_depth", "Jobs that can start now.", "depth"),
    Gauge("queue_latency_seconds", "Age of the oldest waiting job.", "latency_s"),
    Gauge("queue_overdue_seconds", "How late the earliest scheduled job is.", "overdue_s"),
    Gauge("queue_active_age_seconds", "How long the oldest active job has been running.", "active_age_s"),
    Gauge("queue_stalled", "Active jobs whose lock or worker no longer exists.", "stalled"),
    Gauge("queue_workers", "Processes that consume the queue.", "workers"),
    Gauge("queue_paused", "1 while the queue is paused.", "paused"),
    Gauge(
        "queue_throughput_per_minute",
        "Jobs processed per minute, succeeded and failed, over 5 minutes.",
        "throughput_per_min",
    ),
    Gauge("queue_failed_per_minute", "Jobs that failed permanently per minute, over 5 minutes.", "failed_per_min"),
    Gauge("queue_error_ratio", "Ratio of failed to processed jobs, over 5 minutes.", "error_ratio"),
    Gauge("queue_runtime_p50_seconds", "Median run time.", "runtime_p50_s"),
    Gauge("queue_runtime_p95_seconds", "Run time that 95% of jobs stay below.", "runtime_p95_s"),
)
REDIS_GAUGES = (
    Gauge("redis_used_memory_bytes", "Memory in use.", "used_memory_bytes"),
    Gauge("redis_maxmemory_bytes", "Memory limit; no sample where there is none.", "maxmemory_bytes"),
    Gauge("redis_memory_ratio", "Ratio of memory in use to the limit.", "memory_ratio"),
    Gauge("redis_clients", "Connected clients.", "clients"),
    Gauge("redis_max_clients", "Maximum number of connected clients.", "max_clients"),
    Gauge("redis_ops_per_second", "Commands per second.", "ops_per_s"),
    Gauge("redis_evicted_keys", "Keys evicted since the server started.", "evicted_keys"),
    Gauge("redis_rejected_connections", "Connections refused since the server started.", "rejected_connections"),
    Gauge("redis_persistence_ok", "1 while saving to disk works.", "persistence_ok"),
)


@bp.get("/metrics")
def metrics() -> Response:
    """The newest snapshot in the text format of Prometheus. Requires a token, since a scraper has no session, unless
    `metrics_public` is set. Cost: only the 4 round trips of the alerts."""
    settings = app_context().settings
    at_home = settings.auth == "none" and local_identity(request.environ)
    if not (settings.metrics_public or at_home or token_identity(request.environ, settings.api_tokens)):
        raise UnknownToken(
            "An API token is required for metrics.",
            hint="Send Authorization: Bearer TOKEN (see api_tokens), or set metrics_public = true.",
        )
    snapshot = app_services().snapshots.current()
    return Response(render_metrics(snapshot, _count_firing()), content_type=CONTENT_TYPE)


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


def render_metrics(current: CurrentSnapshot, firing: dict[str, int] | None) -> bytes:
    """The metrics in the text format of Prometheus, as UTF-8; see SnapshotCollector for `firing`."""
    registry = CollectorRegistry()  # the library's global one also has metrics of the process and of Python
    registry.register(SnapshotCollector(current, firing))
    return generate_latest(registry)


@dataclass(eq=False)  # a registry needs a hash
class SnapshotCollector(Collector):
    """The metrics of one snapshot, for one scrape. A metric without samples is left out."""

    current: CurrentSnapshot
    firing: dict[str, int] | None  # the number of firing alerts by severity; None while unknown

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The metrics, made one by one: only one metric's samples are in memory."""
        snapshot = self.current.snapshot
        sources = [((_label_value(source.name),), source) for source in snapshot.sources] if snapshot else []
        queues = [(_queue_values(queue), queue) for queue in snapshot.queues] if snapshot else []
        healths = [(values, source.health) for values, source in sources]
        firing = [((severity,), count) for severity, count in (self.firing or {}).items()]
        yield from _gauge(
            "snapshot_age_seconds", "Age of the snapshot of these metrics.", (), [((), self.current.age_s)]
        )
        yield from _read_gauges(SOURCE_GAUGES, SOURCE_LABELS, sources)
        yield from _state_gauges(queues)
        yield from _read_gauges(QUEUE_GAUGES, QUEUE_LABELS, queues)
        yield from _read_gauges(REDIS_GAUGES, SOURCE_LABELS, healths)
        yield from _gauge("alerting_up", "1 while rules are evaluated.", (), [((), self.firing is not None)])
        yield from _gauge("alerts_firing", "Firing alerts.", ("severity",), firing)


def _state_gauges(queues: Sequence[tuple[LabelValues, QueueStats]]) -> Iterator[GaugeMetricFamily]:
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


def _read_gauges(
    gauges: Iterable[Gauge], label_names: Sequence[str], subjects: Sequence[tuple[LabelValues, object]]
) -> Iterator[GaugeMetricFamily]:
    for name, text, field in gauges:
        yield from _gauge(name, text, label_names, ((values, getattr(subject, field)) for values, subject in subjects))


def _gauge(
    name: str, text: str, label_names: Sequence[str], samples: Iterable[tuple[LabelValues, float | None]]
) -> Iterator[GaugeMetricFamily]:
    family = GaugeMetricFamily(f"queuedeck_{name}", text, labels=label_names)
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


def _queue_values(queue: QueueStats) -> tuple[str, str, str]:
    return (_label_value(queue.source), queue.backend, _label_value(queue.name))


def _label_value(text: str) -> str:
    return printable(text, 500)  # a byte that is not UTF-8 would make the whole answer fail
