"""`/metrics` for Prometheus: the newest snapshot as gauges. An unknown value has no sample, never a zero."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from flask import Blueprint, Response, request

from ..alerts.rules.rule import Severity
from ..auth import local_identity, token_identity
from ..errors import BackendUnavailable, Forbidden
from ..model import QueueStats, SourceStats, State, uncounted_states, with_shared_entry
from ..sampling.snapshot_reader import CurrentSnapshot
from .access.security import UnknownToken
from .context import app_context, app_services
from .formatting import printable

bp = Blueprint("metrics", __name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = tuple[tuple[str, str], ...]
Value = float | int | None


class Gauge(NamedTuple):
    """One metric: its name without the prefix, its help text, and the field it is read from."""

    name: str
    help: str
    field: str


QUEUE_GAUGES = (
    Gauge("queue_depth", "Jobs that may start now.", "depth"),
    Gauge("queue_latency_seconds", "Age of the oldest waiting job.", "latency_s"),
    Gauge("queue_overdue_seconds", "How late the earliest scheduled job is.", "overdue_s"),
    Gauge("queue_active_age_seconds", "How long the oldest active job has been running.", "active_age_s"),
    Gauge("queue_stalled", "Active jobs whose lock or worker no longer exists.", "stalled"),
    Gauge("queue_workers", "Processes that consume the queue.", "workers"),
    Gauge("queue_paused", "1 while the queue is paused.", "paused"),
    Gauge("queue_throughput_per_minute", "Jobs finished per minute, over 5 minutes.", "throughput_per_min"),
    Gauge("queue_failed_per_minute", "Jobs that failed permanently per minute, over 5 minutes.", "failed_per_min"),
    Gauge("queue_error_ratio", "Ratio of failed to finished jobs, over 5 minutes.", "error_ratio"),
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
    return Response(
        "".join(_metric_lines(app_services().snapshots.current(), _count_firing())), content_type=CONTENT_TYPE
    )


def _count_firing() -> dict[str, int] | None:
    """The number of firing alerts by severity; None while rules are not evaluated, or the store cannot be read."""
    try:
        if not app_services().alert_service.checker_health().ok:
            return None
        alert_list = app_services().alert_service.list_alerts()
    except (BackendUnavailable, Forbidden):
        return None
    counts = {severity.value: 0 for severity in Severity}
    for alert in alert_list.firing:
        counts[alert.state.severity.value] += 1
    return counts


def _metric_lines(current: CurrentSnapshot, firing: dict[str, int] | None) -> Iterator[str]:
    snapshot = current.snapshot
    queues = snapshot.queues if snapshot else ()
    sources = snapshot.sources if snapshot else ()
    together = with_shared_entry(queues)
    yield from _format_metric("snapshot_age_seconds", "Age of the snapshot of these metrics.", [((), current.age_s)])
    yield from _format_metric(
        "source_up",
        "1 while the Redis responds.",
        [((("source", source.name),), source.reachable) for source in sources],
    )
    yield from _format_metric(
        "source_together_throughput_per_minute",
        "Jobs finished per minute in queues whose separate throughput is unknown; no sample without such queues.",
        [((("source", source.name),), source.together_per_min) for source in sources],
    )
    yield from _format_metric(
        "queue_jobs",
        "Jobs by state; no sample where the library does not report it.",
        [
            ((*_queue_labels(queue), ("state", state.value)), queue.counts.of(state))
            for queue in queues
            for state in State
        ],
    )
    yield from _format_metric(
        "queue_jobs_at_least",
        "1 where a state may have more jobs than queue_jobs reports, or has no sample of it because of an error.",
        [
            ((*_queue_labels(queue), ("state", state.value)), 1)
            for queue in queues
            for state in dict.fromkeys((*queue.at_least, *uncounted_states(queue, together)))
        ],
    )
    for gauge in QUEUE_GAUGES:
        yield from _format_metric(
            gauge.name, gauge.help, [(_queue_labels(queue), getattr(queue, gauge.field)) for queue in queues]
        )
    for gauge in REDIS_GAUGES:
        yield from _format_metric(gauge.name, gauge.help, [_health_sample(source, gauge.field) for source in sources])
    yield from _format_metric("alerting_up", "1 while rules are evaluated.", [((), firing is not None)])
    if firing is not None:
        yield from _format_metric(
            "alerts_firing", "Firing alerts.", [((("severity", word),), count) for word, count in firing.items()]
        )


def _queue_labels(queue: QueueStats) -> Labels:
    return (("source", queue.source), ("backend", queue.backend), ("queue", queue.name))


def _health_sample(source: SourceStats, field: str) -> tuple[Labels, Value]:
    return (("source", source.name),), getattr(source.health, field)


def _format_metric(name: str, text: str, samples: Iterable[tuple[Labels, Value]]) -> Iterator[str]:
    known = [(labels, value) for labels, value in samples if value is not None]
    if known:
        yield f"# HELP queuedeck_{name} {text}\n# TYPE queuedeck_{name} gauge\n"
        for labels, value in known:
            inner = ",".join(f'{label}="{_escape_label(said)}"' for label, said in labels)
            yield f"queuedeck_{name}{{{inner}}} {float(value):.17g}\n"


def _escape_label(text: str) -> str:
    return printable(text, 500).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
