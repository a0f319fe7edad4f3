"""Workers and schedules as the API returns them."""

from __future__ import annotations

from typing import Any

from ...clock import iso
from ...model import Schedule, Work, Worker, WorkerState
from ...sampling.live_lists import LiveRows
from ...schedules.lateness import late_s
from .job_json import json_payload
from .responses import JsonObject, Time


class WorkJson(JsonObject, frozen=True, kw_only=True):
    """A job that a worker is running."""

    job_id: str
    job_name: str | None
    queue: str | None
    started_at: Time | None


class WorkerJson(JsonObject, frozen=True, kw_only=True):
    """A worker process, or one of its connections if the library reports no more."""

    id: str
    source: str
    backend: str
    state: WorkerState
    reason: str | None
    hostname: str | None
    pid: int | None
    version: str | None
    queues: tuple[str, ...]
    concurrency: int | None
    busy: int | None
    work: list[WorkJson]
    started_at: Time | None
    heartbeat_at: Time | None
    rss_bytes: int | None
    processed: int | None
    failed: int | None
    facts: dict[str, str]
    problem: str | None


class ScheduleJson(JsonObject, frozen=True, kw_only=True):
    """A schedule that creates jobs at set times. `late_s`: for how long a run that was due has not happened; 0 if none
    is due, and while it is paused, null if unknown."""

    id: str
    source: str
    backend: str
    kind: str
    name: str | None
    queue: str | None
    pattern: str | None
    timezone: str | None
    next_run_at: Time | None
    last_run_at: Time | None
    late_s: float | None
    paused: bool | None
    runs: int | None
    payload: Any
    facts: dict[str, str]
    problem: str | None


class LiveProblemJson(JsonObject, frozen=True, kw_only=True):
    """A library on a source that could not be read, and why."""

    source: str
    backend: str
    message: str


class WorkersJson(JsonObject, frozen=True, kw_only=True):
    """Workers. `at_least`: there may be more."""

    workers: list[WorkerJson]
    total: int
    at_least: bool
    problems: list[LiveProblemJson]


class SchedulesJson(JsonObject, frozen=True, kw_only=True):
    """Schedules. `at_least`: there may be more."""

    schedules: list[ScheduleJson]
    total: int
    at_least: bool
    problems: list[LiveProblemJson]


def json_worker(worker: Worker) -> WorkerJson:
    """A worker as the API returns it."""
    return WorkerJson(
        id=worker.id,
        source=worker.source,
        backend=worker.backend,
        state=worker.state,
        reason=worker.reason,
        hostname=worker.hostname,
        pid=worker.pid,
        version=worker.version,
        queues=worker.queues,
        concurrency=worker.concurrency,
        busy=worker.busy,
        work=[_json_work(work) for work in worker.work],
        started_at=iso(worker.started_at),
        heartbeat_at=iso(worker.heartbeat_at),
        rss_bytes=worker.rss_bytes,
        processed=worker.processed,
        failed=worker.failed,
        facts=dict(worker.facts),
        problem=worker.problem,
    )


def json_schedule(schedule: Schedule, now: float) -> ScheduleJson:
    """A schedule as the API returns it. `now`: seconds since 1970 by the clock of its source."""
    return ScheduleJson(
        id=schedule.id,
        source=schedule.source,
        backend=schedule.backend,
        kind=schedule.kind,
        name=schedule.name,
        queue=schedule.queue,
        pattern=schedule.pattern,
        timezone=schedule.timezone,
        next_run_at=iso(schedule.next_run_at),
        last_run_at=iso(schedule.last_run_at),
        late_s=late_s(schedule, now),
        paused=schedule.paused,
        runs=schedule.runs,
        payload=json_payload(schedule.payload),
        facts=dict(schedule.facts),
        problem=schedule.problem,
    )


def json_live_problems(live_rows: LiveRows[Any]) -> list[LiveProblemJson]:
    """The libraries that could not be read as the API returns them."""
    return [
        LiveProblemJson(source=source, backend=name, message=message) for source, name, message in live_rows.problems
    ]


def _json_work(work: Work) -> WorkJson:
    return WorkJson(job_id=work.job_id, job_name=work.job_name, queue=work.queue, started_at=iso(work.started_at))
