"""Jobs as the API returns them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ...backends.actions import Action
from ...clock import iso
from ...model import Job, JobError, JobLink, Payload, State
from ...search.matches import FoundJob
from .responses import JsonObject, Time

NativeState = Annotated[
    str | None,
    Meta(
        description="The library's own name of the state. For Celery also `queued, revoked` (workers will discard the "
        "job) and `reserved or running` (a worker has the job; Celery does not record whether it has started)."
    ),
]
Problems = Annotated[
    tuple[str, ...],
    Meta(description="What could not be read, and why. Its jobs are neither listed nor counted in `total`."),
]


MatchedIn = Annotated[
    tuple[str, ...],
    Meta(description="The fields that contain a word of the search: `id`, `name`, `error`, `payload`."),
]
Snippet = Annotated[
    str | None,
    Meta(description="The payload around the match, if it is not in `summary`. Secrets are masked."),
]


class JobErrorJson(JsonObject, frozen=True, kw_only=True):
    """The last failure of a job."""

    class_: str | None = msgspec.field(name="class")
    message: str | None
    stack: str | None


class JobJson(JsonObject, frozen=True, kw_only=True):
    """A job as in a list."""

    id: str
    source: str
    backend: str
    queue: str
    name: str | None
    state: State | None
    native_state: NativeState
    enqueued_at: Time | None
    scheduled_for: Time | None
    started_at: Time | None
    finished_at: Time | None
    attempts: int | None
    max_attempts: int | None
    priority: int | None
    progress: Any
    worker: str | None
    summary: str | None
    error: JobErrorJson | None
    problem: str | None


class TimelineEventJson(JsonObject, frozen=True, kw_only=True):
    """One event in the life of a job."""

    at: Time
    event: str
    detail: str | None


class JobLinkJson(JsonObject, frozen=True, kw_only=True):
    """A parent or child of a job. `source` and `backend` are null if its queue is not watched."""

    id: str
    queue: str
    source: str | None
    backend: str | None
    state: State | None
    native_state: str | None


class JobDetailJson(JobJson, frozen=True, kw_only=True):
    """A job in full."""

    payload: Any
    payload_kind: str | None
    payload_truncated: bool
    payload_size_bytes: int | None
    payload_note: str | None
    options: Any
    meta: Any
    result: Any
    result_truncated: bool
    timeline: list[TimelineEventJson]
    parent: JobLinkJson | None
    children: list[JobLinkJson]
    children_total: int | None
    logs: tuple[str, ...]
    logs_total: int | None
    facts: dict[str, str]
    stamp: str | None
    capabilities: list[Action]


class FoundJobJson(JobJson, frozen=True, kw_only=True):
    """A job that a search found. `found_in` is the queue in whose list it is."""

    found_in: str
    matched_in: MatchedIn
    snippet: Snippet


class JobsJson(JsonObject, frozen=True, kw_only=True):
    """A page of jobs. `cursor`, of a search only, continues it; null if all jobs were searched."""

    jobs: list[JobJson]
    page: int
    per_page: int
    total: int | None
    at_least: bool
    order: str
    scanned: int | None
    truncated: bool
    cursor: str | UnsetType | None = UNSET
    problems: Problems


class JobSearchJson(JsonObject, frozen=True, kw_only=True):
    """The jobs that a search found. `cursor` continues it; null if all jobs were searched.

    `found_total`, `scanned_total`, `unread_total`: jobs found, jobs scanned and problems, with those of the requests
    that led to the cursor of this one.
    """

    jobs: list[FoundJobJson]
    scanned: int
    found_total: int
    scanned_total: int
    unread_total: int
    total: int | None
    at_least: bool
    seconds: float
    truncated: bool
    cursor: str | None
    problems: Problems


def json_job(job: Job) -> JobJson:
    """A job of a list as the API returns it."""
    return JobJson(
        id=job.id,
        source=job.source,
        backend=job.backend,
        queue=job.queue,
        name=job.name,
        state=job.state,
        native_state=job.native_state,
        enqueued_at=iso(job.enqueued_at),
        scheduled_for=iso(job.scheduled_for),
        started_at=iso(job.started_at),
        finished_at=iso(job.finished_at),
        attempts=job.attempts,
        max_attempts=job.max_attempts,
        priority=job.priority,
        progress=job.progress,
        worker=job.worker,
        summary=job.summary,
        error=_json_error(job.error) if job.error else None,
        problem=job.problem,
    )


def json_found_job(found: FoundJob) -> FoundJobJson:
    """A job that a search found as the API returns it."""
    return FoundJobJson(
        **msgspec.structs.asdict(json_job(found.job)),
        found_in=found.queue.name,
        matched_in=found.matched_in,
        snippet=found.snippet,
    )


def json_job_detail(job: Job, verbs: Sequence[Action]) -> JobDetailJson:
    """A job in full as the API returns it; `verbs` are the actions that it offers."""
    return JobDetailJson(
        **msgspec.structs.asdict(json_job(job)),
        payload=json_payload(job.payload),
        payload_kind=job.payload.kind if job.payload else None,
        payload_truncated=bool(job.payload and job.payload.truncated),
        payload_size_bytes=job.payload.size_bytes if job.payload else None,
        payload_note=job.payload.note if job.payload else None,
        options=json_payload(job.options),
        meta=json_payload(job.meta),
        result=json_payload(job.result),
        result_truncated=bool(job.result and job.result.truncated),
        timeline=[
            TimelineEventJson(at=iso(event.at), event=event.event, detail=event.detail) for event in job.timeline
        ],
        parent=_json_link(job.parent) if job.parent else None,
        children=[_json_link(child) for child in job.children],
        children_total=job.children_total,
        logs=job.logs,
        logs_total=job.logs_total,
        facts=dict(job.facts),
        stamp=job.version,
        capabilities=list(verbs),
    )


def json_payload(payload: Payload | None) -> Any:
    """A stored value as the API returns it: decoded JSON, else a text; None if it is missing."""
    if payload is None or payload.kind == "missing":
        return None
    return payload.value if payload.kind == "json" else payload.text


def _json_error(error: JobError) -> JobErrorJson:
    return JobErrorJson(class_=error.class_name, message=error.message, stack=error.stack)


def _json_link(link: JobLink) -> JobLinkJson:
    return JobLinkJson(
        id=link.id,
        queue=link.queue,
        source=link.ref.source if link.ref else None,
        backend=link.ref.backend if link.ref else None,
        state=link.state,
        native_state=link.native_state,
    )
