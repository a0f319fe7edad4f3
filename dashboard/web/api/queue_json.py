"""Sources and queues as the API returns them."""

from __future__ import annotations

import msgspec
from msgspec.structs import asdict

from ...actions.pauses import PauseRecord
from ...alerts.management.alert_owners import AlertOwners
from ...backends.base import Backend
from ...clock import instant, iso
from ...forecasts.queue_forecaster import NO_COUNT, UNREADABLE
from ...model import (
    Capability,
    ClassBoard,
    ClassStats,
    ClusterNode,
    Counts,
    ForecastState,
    Quality,
    QueueForecast,
    QueueStats,
    RedisHealth,
    SourceStats,
    State,
)
from ...settings.queue_directory import QueueInfo
from ..views.overview.overview_data import rounded
from ..views.queues.context import QueueContext
from ..views.queues.error_groups import QueueErrorGroup
from ..views.queues.watching_rules import WatchingRule
from .alerts import AlertJson, FiringAlertJson, SilenceJson, json_alert, json_silence
from .responses import JsonObject, Time


class CountsJson(Counts, frozen=True, kw_only=True, array_like=False):
    """Number of jobs per state."""


class ForecastJson(QueueForecast, frozen=True, kw_only=True, array_like=False):
    """When a queue will be empty, at the rates of the last `window_s`. `state`: empty, draining (`empty_in_s`), growing
    (`growing_per_min`), steady, never (it does not get empty at this rate) or unknown (`reason`). Scheduled jobs that
    come due later are not included. `per_worker_per_min`: jobs that one worker finishes."""


class ScalingJson(JsonObject, frozen=True, kw_only=True):
    """How many workers a queue needs, as flat numbers that autoscalers read. `backlog`: waiting jobs. `wanted_workers`:
    the workers that empty it within `target_s` while jobs keep arriving, within `min` and `max`."""

    backlog: int
    active: int | None
    workers: int | None
    wanted_workers: int
    target_s: int
    empty_in_s: float | None
    arriving_per_min: float | None
    finishing_per_min: float | None
    per_worker_per_min: float | None


class QueueJson(JsonObject, frozen=True, kw_only=True):
    """The figures of a queue in the newest snapshot. `paused_by`, `paused_at`: who paused it in Queuedeck, and when.
    They are null when it is not paused, was paused elsewhere, or that is unknown. `owner`, `runbook_url` and `note` are
    those of `[[queues]]` in the settings."""

    source: str
    backend: str
    name: str
    prefix: str | None
    library_version: str | None
    paused: bool | None
    paused_by: str | None
    paused_at: Time | None
    shared: bool
    counts: CountsJson
    native_counts: dict[str, int | None]
    at_least: tuple[State, ...]
    depth: int | None
    latency_s: float | None
    overdue_s: float | None
    throughput_per_min: float | None
    failed_per_min: float | None
    error_ratio: float | None
    runtime_p50_s: float | None
    runtime_p95_s: float | None
    flow_quality: Quality
    flow_reason: str | None
    workers: int | None
    forecast: ForecastJson
    notes: tuple[str, ...]
    capabilities: list[Capability]
    read_only: str | None
    error: str | None
    owner: str | None
    runbook_url: str | None
    note: str | None


class WatchingRuleJson(JsonObject, frozen=True, kw_only=True):
    """An enabled rule that watches a queue. `value`: the figure of the queue now; null if it is unknown, not
    applicable, or only known to the checker. `state`: firing, pending, recovering, breaching (not evaluated yet), OK,
    or not firing (unknown). `alert`: the fingerprint of its worst alert."""

    id: str
    name: str
    metric: str
    op: str
    warning: float | None
    critical: float | None
    value: float | None
    state: str
    severity: str | None
    alert: str | None


class CoveringSilenceJson(SilenceJson, frozen=True, kw_only=True):
    """A silence that covers alerts of a queue. `ends_at`: when it ends, or the current window of a weekly one."""

    active: bool
    ends_at: Time | None


class QueueErrorGroupJson(JsonObject, frozen=True, kw_only=True):
    """An error group with `count` dead letters of a queue, a lower bound with `at_least`. `error`: of the newest."""

    fingerprint: str
    error: str
    count: int
    at_least: bool


class QueueContextJson(JsonObject, frozen=True, kw_only=True):
    """What surrounds a queue. `evaluated`: whether rules are being evaluated. `error_groups`: those with the most dead
    letters, of `error_groups_total`; null while no dead letters have been read, see `GET /dead`."""

    owner: str | None
    runbook_url: str | None
    note: str | None
    evaluated: bool
    rules: list[WatchingRuleJson]
    alerts: list[AlertJson]
    silences: list[CoveringSilenceJson]
    error_groups: list[QueueErrorGroupJson] | None
    error_groups_total: int | None


class QueuesJson(JsonObject, frozen=True, kw_only=True):
    """Queues by source, library and name."""

    queues: list[QueueJson]
    total: int


class RedisJson(RedisHealth, frozen=True, kw_only=True):
    """The figures that INFO reports for one Redis."""


class NodeJson(ClusterNode, frozen=True, kw_only=True):
    """One primary of a Redis Cluster."""


class CostJson(JsonObject, frozen=True, kw_only=True):
    """The cost of the last sample of a source."""

    commands: int
    round_trips: int
    duration_s: float


class SourceJson(JsonObject, frozen=True, kw_only=True):
    """One Redis server that Queuedeck watches."""

    name: str
    address: str
    primary: str | None
    reachable: bool
    error: str | None
    hint: str | None
    unreachable_since: Time | None
    libraries: tuple[str, ...]
    discovered: bool
    search_progress: float | None
    problems: tuple[str, ...]
    sentinel_problem: str | None
    together_per_min: float | None
    memory_full_in_s: float | None
    cost: CostJson
    redis: RedisJson
    nodes: tuple[NodeJson, ...]


class ServerJson(SourceJson, frozen=True, kw_only=True):
    """A source with the memory used in the last hour, as [time, bytes] points."""

    memory_history: list[tuple[Time | None, float | None]]


class ServersJson(JsonObject, frozen=True, kw_only=True):
    """All Redis servers."""

    sources: list[ServerJson]
    total: int


class OverviewJson(JsonObject, frozen=True, kw_only=True):
    """Sources, totals and queues. `alerts` are the firing ones; null if they are unknown."""

    sampled_at: Time | None
    age_s: float | None
    stale: bool
    other_settings: str | None
    sources: list[SourceJson]
    totals: dict[str, float | None]
    totals_at_least: tuple[State, ...]
    queues: list[QueueJson]
    alerts: list[FiringAlertJson] | None


class JobClassJson(JsonObject, frozen=True, kw_only=True):
    """The attempts of one job class; run times are of successful ones."""

    name: str
    runs: int
    failed: int
    runtime_mean_s: float | None
    runtime_p50_below_s: float | None
    runtime_p95_below_s: float | None


class JobClassesJson(JsonObject, frozen=True, kw_only=True):
    """The job classes of a library. `classes` is null if they are unknown."""

    classes: list[JobClassJson] | None
    total: int | None
    span_s: float | None
    scope: str | None
    truncated: bool


def json_queue(queue: QueueStats, backend: Backend, pause: PauseRecord | None, info: QueueInfo) -> QueueJson:
    """A queue of `backend` as the API returns it; `pause` as recorded in Queuedeck, `info` as in the settings."""
    return QueueJson(
        source=queue.source,
        backend=queue.backend,
        name=queue.name,
        prefix=queue.prefix,
        library_version=queue.library_version,
        paused=queue.paused,
        paused_by=pause.who if pause else None,
        paused_at=iso(instant(pause.at)) if pause else None,
        shared=queue.shared,
        counts=CountsJson(**msgspec.structs.asdict(queue.counts)),
        native_counts={entry.native: entry.count for entry in queue.native},
        at_least=queue.at_least,
        depth=queue.depth,
        latency_s=rounded(queue.latency_s),
        overdue_s=rounded(queue.overdue_s),
        throughput_per_min=rounded(queue.throughput_per_min),
        failed_per_min=rounded(queue.failed_per_min),
        error_ratio=rounded(queue.error_ratio, 4),
        runtime_p50_s=rounded(queue.runtime_p50_s, 4),
        runtime_p95_s=rounded(queue.runtime_p95_s, 4),
        flow_quality=queue.flow_quality,
        flow_reason=queue.flow_reason,
        workers=queue.workers,
        forecast=json_forecast(queue),
        notes=queue.notes,
        capabilities=sorted(backend.capabilities),
        read_only=queue.read_only,
        error=queue.error,
        owner=info.owner,
        runbook_url=info.runbook_url,
        note=info.note,
    )


def json_forecast(queue: QueueStats) -> ForecastJson:
    """The forecast of a queue as the API returns it."""
    if queue.forecast is not None:
        return ForecastJson(**asdict(queue.forecast))
    if queue.depth == 0:
        return ForecastJson(state=ForecastState.EMPTY)
    return ForecastJson(reason=UNREADABLE if queue.error is not None else NO_COUNT)


def json_context(context: QueueContext, owners: AlertOwners) -> QueueContextJson:
    """The context of a queue as the API returns it."""
    groups = context.error_groups
    return QueueContextJson(
        owner=context.info.owner,
        runbook_url=context.info.runbook_url,
        note=context.info.note,
        evaluated=context.evaluated,
        rules=[_json_rule(watching) for watching in context.rules],
        alerts=[json_alert(alert, owners) for alert in context.alerts],
        silences=[
            CoveringSilenceJson(
                **asdict(json_silence(covering.silence)), active=covering.active, ends_at=iso(instant(covering.ends_at))
            )
            for covering in context.silences
        ],
        error_groups=None if groups is None else [_json_group(group) for group in groups.groups],
        error_groups_total=None if groups is None else groups.total,
    )


def _json_rule(watching: WatchingRule) -> WatchingRuleJson:
    rule = watching.rule
    return WatchingRuleJson(
        id=rule.id,
        name=rule.title,
        metric=rule.metric,
        op=rule.op,
        warning=rule.warning,
        critical=rule.critical,
        value=rounded(watching.value, 4),
        state=watching.state,
        severity=watching.level,
        alert=watching.alert.state.fingerprint if watching.alert else None,
    )


def _json_group(group: QueueErrorGroup) -> QueueErrorGroupJson:
    return QueueErrorGroupJson(
        fingerprint=group.fingerprint, error=group.title, count=group.count, at_least=not group.final
    )


def json_source(source: SourceStats) -> SourceJson:
    """A source as the API returns it."""
    return SourceJson(
        name=source.name,
        address=source.address,
        primary=source.primary,
        reachable=source.reachable,
        error=source.error,
        hint=source.hint,
        unreachable_since=iso(instant(source.unreachable_since)),
        libraries=source.libraries,
        discovered=source.discovered,
        search_progress=rounded(source.search_progress, 2),
        problems=source.problems,
        sentinel_problem=source.sentinel_problem,
        together_per_min=rounded(source.together_per_min),
        memory_full_in_s=source.memory_full_in_s,
        cost=CostJson(commands=source.commands, round_trips=source.round_trips, duration_s=source.cost_s),
        redis=RedisJson(**msgspec.structs.asdict(source.health)),
        nodes=tuple(NodeJson(**msgspec.structs.asdict(node)) for node in source.nodes),
    )


def json_classes(job_classes: ClassBoard | None) -> JobClassesJson:
    """Job classes as the API returns them; None: unknown."""
    return JobClassesJson(
        classes=None if job_classes is None else [_json_class(each) for each in job_classes.classes],
        total=job_classes.total if job_classes else None,
        span_s=job_classes.span_s if job_classes else None,
        scope=job_classes.scope if job_classes else None,
        truncated=job_classes is not None and (job_classes.cut or job_classes.total > len(job_classes.classes)),
    )


def _json_class(stats: ClassStats) -> JobClassJson:
    return JobClassJson(
        name=stats.name,
        runs=stats.runs,
        failed=stats.failed,
        runtime_mean_s=rounded(stats.runtime_mean_s, 4),
        runtime_p50_below_s=rounded(stats.runtime_p50_below_s, 4),
        runtime_p95_below_s=rounded(stats.runtime_p95_below_s, 4),
    )
