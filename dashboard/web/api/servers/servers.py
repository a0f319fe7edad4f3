"""One Redis server in the JSON API: its figures, what is wrong with it, its slow log and latency events."""

from __future__ import annotations

from flask import Blueprint, request

from ....clock import instant, iso
from ....doctor.findings import DoctorFinding
from ....leftovers.leftover_report import Leftovers
from ....memory_usage.estimates import Estimate
from ....memory_usage.memory_report import LargeJob, QueueMemory
from ....model import State
from ....redact import mask_text
from ....sources.server_logs import LatencyEvent, SlowCommand
from ...context import app_context, app_services
from ...formatting import one_line
from ...pages.servers.servers import check_source, find_stats
from ..queue_json import CostJson, SourceJson, json_source
from ..responses import ErrorDetailJson, JsonObject, Time, json_error, json_response

bp = Blueprint("api_redis", __name__, url_prefix="/api/v1")


class FindingJson(JsonObject, frozen=True, kw_only=True):
    """A finding of `queuedeck doctor`. `level` is ok, note, warning or problem; `command` fixes it, in redis-cli."""

    level: str
    text: str
    why: str | None
    advice: str | None
    command: str | None


class SlowCommandJson(JsonObject, frozen=True, kw_only=True):
    """A command of the slow log: its name, its key if it has one, and how many arguments it had."""

    at: Time | None
    duration_s: float
    name: str
    key: str | None
    arguments: int


class SlowLogJson(JsonObject, frozen=True, kw_only=True):
    """The slow log. `commands` is null where it cannot be read, and `error` says why; `total`: how many it holds."""

    commands: list[SlowCommandJson] | None
    total: int | None
    recorded_from_s: float | None
    error: str | None


class LatencyEventJson(JsonObject, frozen=True, kw_only=True):
    """What made Redis slow: when last, how long then, and the longest time so far."""

    name: str
    at: Time | None
    latest_s: float
    worst_s: float


class LatencyJson(JsonObject, frozen=True, kw_only=True):
    """The latency events. `events` is null where they cannot be read, and `error` says why."""

    events: list[LatencyEventJson] | None
    recorded_from_s: float | None
    error: str | None


class ServerReportJson(JsonObject, frozen=True, kw_only=True):
    """A Redis server: its figures in the newest snapshot, null before the first one, and a report on it.

    The report is at most a minute old; `error` says why it is incomplete.
    """

    name: str
    figures: SourceJson | None
    examined_at: Time | None
    error: ErrorDetailJson | None
    findings: list[FindingJson]
    slow_log: SlowLogJson
    latency: LatencyJson


class EstimateJson(JsonObject, frozen=True, kw_only=True):
    """Memory estimated from a sample: in 95 of 100 cases, it differs by at most `error_bytes`."""

    total_bytes: int
    error_bytes: int


class QueueMemoryJson(JsonObject, frozen=True, kw_only=True):
    """The memory of a queue. `sampled` of its `jobs` were measured; if not `complete`, the total is too low."""

    backend: str
    queue: str
    memory: EstimateJson
    jobs: int
    sampled: int
    complete: bool


class ScatteredMemoryJson(JsonObject, frozen=True, kw_only=True):
    """The memory of keys of a library that belong to no queue, or Queuedeck's own where `backend` is null."""

    backend: str | None
    memory: EstimateJson
    keys: int


class LargeJobJson(JsonObject, frozen=True, kw_only=True):
    """One of the largest jobs of the sample."""

    backend: str
    queue: str
    state: State
    id: str | None
    memory_bytes: int


class MemoryJson(JsonObject, frozen=True, kw_only=True):
    """The memory of the queues of a Redis server, largest first. `rest_bytes`: other keys, and Redis itself.

    `unmeasured`: for how many queues the limit of one measurement did not suffice.
    """

    name: str
    measured_at: Time | None
    used_memory_bytes: int | None
    explained: EstimateJson
    rest_bytes: int | None
    queues: list[QueueMemoryJson]
    other_keys: list[ScatteredMemoryJson]
    largest_jobs: list[LargeJobJson]
    unmeasured: int
    cost: CostJson


@bp.get("/redis/<segment:source>/memory")
@json_response
def memory(source: str) -> MemoryJson:
    """Retrieve the memory that the queues of a Redis server take, estimated from a sample of their jobs.

    At most every 10 minutes, for all clients of a process, this reads up to 60,000 commands within 4 s, in small steps.
    With `again=1`, a measurement older than 30 s is repeated.
    """
    check_source(source)
    report = app_context().caches.memory_reports.read_report(source, again=request.args.get("again") == "1")
    return MemoryJson(
        name=source,
        measured_at=iso(instant(report.at)),
        used_memory_bytes=report.used_bytes,
        explained=_json_estimate(report.explained),
        rest_bytes=None if report.rest_bytes is None else round(report.rest_bytes),
        queues=[_json_queue_memory(queue) for queue in report.queues],
        other_keys=[
            ScatteredMemoryJson(backend=part.backend, memory=_json_estimate(part.estimate), keys=part.keys)
            for part in report.scattered
        ],
        largest_jobs=[_json_large_job(job) for job in report.largest],
        unmeasured=report.unmeasured,
        cost=CostJson(commands=report.commands, round_trips=report.round_trips, duration_s=report.seconds),
    )


def _json_estimate(estimate: Estimate) -> EstimateJson:
    return EstimateJson(total_bytes=round(estimate.total_bytes), error_bytes=round(estimate.error_bytes))


def _json_queue_memory(queue: QueueMemory) -> QueueMemoryJson:
    return QueueMemoryJson(
        backend=queue.ref.backend,
        queue=queue.ref.name,
        memory=_json_estimate(queue.estimate),
        jobs=queue.jobs,
        sampled=queue.sampled,
        complete=queue.is_complete,
    )


def _json_large_job(job: LargeJob) -> LargeJobJson:
    return LargeJobJson(
        backend=job.ref.backend,
        queue=job.ref.name,
        state=job.state,
        id=job.job_id or None,
        memory_bytes=job.size_bytes,
    )


class LeftoverExampleJson(JsonObject, frozen=True, kw_only=True):
    """A leftover; `state` is that of the list which names it, null if none does."""

    backend: str | None
    queue: str | None
    id: str | None
    state: State | None
    detail: str


class LeftoversJson(JsonObject, frozen=True, kw_only=True):
    """Leftovers of one kind: `found` of `checked` ones. If not all were checked, `population` is about how many there
    are to check, and `estimate` about how many leftovers there are; otherwise both are null."""

    kind: str
    found: int
    checked: int
    population: int | None
    estimate: int | None
    examples: list[LeftoverExampleJson]


class LeftoverReportJson(JsonObject, frozen=True, kw_only=True):
    """The leftovers on a Redis server, from a sample. `complete`: whether the limit of one scan sufficed."""

    name: str
    scanned_at: Time | None
    leftovers: list[LeftoversJson]
    scanned_keys: int
    all_keys: int
    complete: bool
    cost: CostJson


@bp.get("/redis/<segment:source>/leftovers")
@json_response
def leftovers(source: str) -> LeftoverReportJson:
    """Look for jobs that no list names, ids without a job, and jobs of workers that are gone.

    At most every 10 minutes, for all clients of a process, this reads up to 60,000 commands within 6 s, in small steps.
    With `again=1`, a scan older than 30 s is repeated.
    """
    check_source(source)
    report = app_context().caches.leftover_reports.read_report(source, again=request.args.get("again") == "1")
    return LeftoverReportJson(
        name=source,
        scanned_at=iso(instant(report.at)),
        leftovers=[_json_leftovers(each) for each in report.kinds],
        scanned_keys=report.scanned_keys,
        all_keys=report.all_keys,
        complete=report.is_complete,
        cost=CostJson(commands=report.commands, round_trips=report.round_trips, duration_s=report.seconds),
    )


def _json_leftovers(each: Leftovers) -> LeftoversJson:
    return LeftoversJson(
        kind=each.kind.name.lower(),
        found=each.found,
        checked=each.checked,
        population=each.population,
        estimate=each.estimate,
        examples=[
            LeftoverExampleJson(
                backend=example.ref.backend if example.ref else None,
                queue=example.ref.name if example.ref else None,
                id=example.job_id or None,
                state=example.state,
                detail=_shown(example.detail),
            )
            for example in each.examples
        ],
    )


@bp.get("/redis/<segment:source>")
@json_response
def server(source: str) -> ServerReportJson:
    """Retrieve a Redis server with the findings of `queuedeck doctor`, its slow log and its latency events.

    At most once a minute, for all clients of a process, this reads about 50 commands in 10 round trips.
    """
    check_source(source)
    snapshot = app_services().snapshots.current().snapshot
    stats = find_stats(snapshot, source) if snapshot else None
    report = app_context().caches.server_reports.read_report(source)
    logs = report.logs
    return ServerReportJson(
        name=source,
        figures=json_source(stats) if stats else None,
        examined_at=iso(instant(report.at)),
        error=json_error(report.problem) if report.problem else None,
        findings=[_json_finding(finding) for finding in (*report.findings, *report.passed)],
        slow_log=SlowLogJson(
            commands=None if logs.slow is None else [_json_command(command) for command in logs.slow],
            total=logs.slow_total,
            recorded_from_s=logs.slow_from_s,
            error=logs.slow_problem,
        ),
        latency=LatencyJson(
            events=None if logs.latency is None else [_json_event(event) for event in logs.latency],
            recorded_from_s=logs.latency_from_s,
            error=logs.latency_problem,
        ),
    )


def _json_finding(finding: DoctorFinding) -> FindingJson:
    return FindingJson(
        level=finding.level.name.lower(),
        text=_shown(finding.text),
        why=_shown(finding.why) or None,
        advice=_shown(finding.advice) or None,
        command=_shown(finding.command) or None,
    )


def _json_command(command: SlowCommand) -> SlowCommandJson:
    return SlowCommandJson(
        at=iso(instant(command.at)),
        duration_s=command.duration_s,
        name=command.name,
        key=one_line(command.key, 200) or None,
        arguments=command.arguments,
    )


def _json_event(event: LatencyEvent) -> LatencyEventJson:
    return LatencyEventJson(
        name=one_line(event.name, 60), at=iso(instant(event.at)), latest_s=event.latest_s, worst_s=event.worst_s
    )


def _shown(text: str) -> str:
    return one_line(mask_text(text), 2000)
