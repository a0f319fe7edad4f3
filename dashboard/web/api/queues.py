"""The JSON API, version 1: the figures of the pages, for scripts. Unknown values are null."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from flask import Blueprint, Response, request

from ...backends.actions import Action
from ...backends.base import MAX_SCHEDULES, Backend
from ...clock import instant, iso
from ...errors import BackendUnavailable, Forbidden
from ...model import (
    ClassStats,
    Job,
    JobLink,
    JobQuery,
    Payload,
    QueueStats,
    RedisHealth,
    Schedule,
    SourceStats,
    State,
    Worker,
)
from ...sampling.live_lists import LiveRows
from ...search.query import parse_query
from ..context import app_context
from ..forms.job_query import job_query
from ..views.offered_actions import job_verbs
from ..views.totals import rounded, totals
from .alerts import json_firing

bp = Blueprint("api", __name__, url_prefix="/api/v1")


_QUEUE = "/queues/<segment:source>/<segment:backend>/<segment:name>"


@bp.get("/overview")
def overview() -> Response:
    """Retrieve sources, totals and all queues from the newest snapshot."""
    current = app_context().current_snapshot()
    snapshot = current.snapshot
    queues = snapshot.queues if snapshot else ()
    whole = app_context().totals_of(snapshot, current.history) if snapshot else None
    return _json_response(
        {
            "sampled_at": iso(instant(snapshot.sampled_at)) if snapshot else None,
            "age_s": rounded(current.age_s),
            "stale": current.stale,
            "other_settings": current.other,
            "sources": [_json_source(source) for source in snapshot.sources] if snapshot else [],
            "totals": whole.totals if whole else totals(()),
            "totals_at_least": [state.value for state in whole.at_least] if whole else [],
            "queues": [_json_queue(queue) for queue in queues],
            "alerts": _json_alerts(),
        }
    )


def _json_alerts() -> list[dict[str, Any]] | None:
    """The firing alerts; None when the store cannot be read, or a dashboard with other settings evaluates alerts."""
    if app_context().alert_service.ownership_conflict is not None:
        return None
    try:
        return json_firing(app_context().alert_service.list_alerts())
    except (BackendUnavailable, Forbidden):
        return None


@bp.get("/queues")
def queues() -> Response:
    """List queues.

    Filter by `source`, `backend` and `q` (part of the name, case-insensitive).
    """
    snapshot = app_context().current_snapshot().snapshot
    source, backend = request.args.get("source"), request.args.get("backend")
    text = request.args.get("q", "").casefold()
    found = [
        _json_queue(queue)
        for queue in (snapshot.queues if snapshot else ())
        if (not source or queue.source == source)
        and (not backend or queue.backend == backend)
        and text in queue.name.casefold()
    ]
    return _json_response({"queues": found, "total": len(found)})


@bp.get(_QUEUE)
def queue(source: str, backend: str, name: str) -> Response:
    """Retrieve a queue.

    Returns 404 if it is not in the newest snapshot.
    """
    return _json_response(_json_queue(app_context().find_queue_stats(source, backend, name)))


@bp.get(f"{_QUEUE}/classes")
def classes(source: str, backend: str, name: str) -> Response:
    """List recent runs, failures and run times by job class of the queue's library.

    `classes` is null if they are unknown.
    """
    board = app_context().class_stats(app_context().find_queue_stats(source, backend, name))
    return _json_response(
        {
            "classes": None if board is None else [_json_class(each) for each in board.classes],
            "total": board.total if board else None,
            "span_s": board.span_s if board else None,
            "scope": board.scope if board else None,
            "truncated": board is not None and (board.cut or board.total > len(board.classes)),
        }
    )


@bp.get("/redis")
def redis() -> Response:
    """List Redis servers with their figures from INFO.

    `memory_history` is the memory used in the last hour, as [time, bytes] points.
    """
    current = app_context().current_snapshot()
    snapshot = current.snapshot
    sources = [
        _json_source(source)
        | {"memory_history": [[iso(instant(at)), used] for at, used in current.history.memory_points(source.name)]}
        for source in (snapshot.sources if snapshot else ())
    ]
    return _json_response({"sources": sources, "total": len(sources)})


def _json_class(each: ClassStats) -> dict[str, Any]:
    times = ("runtime_mean_s", "runtime_p50_below_s", "runtime_p95_below_s")
    return {
        "name": each.name,
        "runs": each.runs,
        "failed": each.failed,
        **{name: rounded(getattr(each, name), 4) for name in times},
    }


@bp.get(f"{_QUEUE}/jobs")
def jobs(source: str, backend: str, name: str) -> Response:
    """List a page of the jobs of a queue, read live.

    `state` is a Queuedeck state or the library's own; `page` and `per_page` select the page.
    """
    context = app_context()
    found, query = context.find_queue_stats(source, backend, name), _parse_query(context.backend(source, backend))
    if request.args.get("q"):
        return _search_response(found, query)
    page = context.list_jobs(found, query)
    return _json_response(
        {
            "jobs": [_json_job(job) for job in page.jobs],
            "page": page.page,
            "per_page": page.per_page,
            "total": page.total,
            "at_least": page.at_least,
            "order": page.order,
            "scanned": page.scanned,
            "truncated": page.truncated,
            "problems": list(page.problems),
        }
    )


def _search_response(queue: QueueStats, query: JobQuery) -> Response:
    """A page of the jobs of one list that match `q`, within the limits of a search."""
    text = f"{request.args['q']} state:{query.native or query.state.value}"
    found = app_context().search_jobs(parse_query(text), [queue], request.args.get("cursor"))
    jobs = [job for _, job in found.jobs][query.offset : query.offset + query.per_page]
    return _json_response(
        {
            "jobs": [_json_job(job) for job in jobs],
            "page": query.page,
            "per_page": query.per_page,
            "total": len(found.jobs),
            "at_least": found.cursor is not None or found.at_least,
            "order": "as searched",
            "scanned": found.searched,
            "truncated": found.cursor is not None,
            "cursor": found.cursor,
            "problems": list(found.problems),
        }
    )


@bp.get("/search")
def search() -> Response:
    """Search the jobs of all queues for `q`, within the limits of a search.

    To continue, send the returned `cursor`.
    """
    snapshot = app_context().current_snapshot().snapshot
    found = app_context().search_jobs(
        parse_query(request.args.get("q", "")), snapshot.queues if snapshot else (), request.args.get("cursor")
    )
    return _json_response(
        {
            "jobs": [_json_job(job) | {"found_in": queue.name} for queue, job in found.jobs],
            "scanned": found.searched,
            "total": found.total,
            "at_least": found.at_least,
            "seconds": round(found.seconds, 3),
            "truncated": found.cursor is not None,
            "cursor": found.cursor,
            "problems": list(found.problems),
        }
    )


@bp.get("/workers")
def workers() -> Response:
    """List worker processes.

    Filter by `source` and `backend`.
    """
    return _live_response(app_context().list_workers(), _json_worker)


@bp.get("/schedules")
def schedules() -> Response:
    """List schedules.

    Filter by `source` and `backend`.
    """
    return _live_response(app_context().list_schedules(), _json_schedule)


def _live_response(live_rows: LiveRows[Any], show: Callable[[Any], dict[str, Any]]) -> Response:
    wanted = {name: value for name in ("source", "backend") if (value := request.args.get(name))}
    rows = [row for row in live_rows.rows if all(getattr(row, name) == value for name, value in wanted.items())]
    key = request.path.rpartition("/")[2]
    problems = [{"source": source, "backend": name, "message": why} for source, name, why in live_rows.problems]
    # No more schedules than this are read for each library.
    counts = Counter((row.source, row.backend) for row in rows if key == "schedules")
    more = any(count >= MAX_SCHEDULES for count in counts.values())
    return _json_response(
        {key: [show(row) for row in rows], "total": len(rows), "at_least": more, "problems": problems}
    )


def _json_worker(worker: Worker) -> dict[str, Any]:
    plain = ("id", "source", "backend", "reason", "hostname", "pid", "version", "concurrency", "busy", "rss_bytes")
    return {
        **{name: getattr(worker, name) for name in (*plain, "processed", "failed", "problem")},
        "state": worker.state.value,
        "queues": list(worker.queues),
        "work": [
            {"job_id": work.job_id, "job_name": work.job_name, "queue": work.queue, "started_at": iso(work.started_at)}
            for work in worker.work
        ],
        "started_at": iso(worker.started_at),
        "heartbeat_at": iso(worker.heartbeat_at),
        "facts": dict(worker.facts),
    }


def _json_schedule(schedule: Schedule) -> dict[str, Any]:
    plain = ("id", "source", "backend", "kind", "name", "queue", "pattern", "timezone", "paused", "runs", "problem")
    return {
        **{name: getattr(schedule, name) for name in plain},
        "next_run_at": iso(schedule.next_run_at),
        "last_run_at": iso(schedule.last_run_at),
        "payload": _json_value(schedule.payload),
        "facts": dict(schedule.facts),
    }


@bp.get(f"{_QUEUE}/jobs/<segment:job_id>")
def job(source: str, backend: str, name: str, job_id: str) -> Response:
    """Retrieve a job with payload, error, logs, links and timeline, read live."""
    context = app_context()
    queue = context.find_queue_stats(source, backend, name)
    found = context.read_job(queue, job_id)
    return _json_response(
        _json_job(found) | _json_details(found, job_verbs(context.backend(source, backend), queue, found))
    )


def _parse_query(backend: Backend) -> JobQuery:
    return job_query(backend, request.args.get("state", State.WAITING.value))


def _json_source(source: SourceStats) -> dict[str, Any]:
    return {
        "name": source.name,
        "address": source.address,
        "reachable": source.reachable,
        "error": source.error,
        "hint": source.hint,
        "unreachable_since": iso(instant(source.unreachable_since)),
        "libraries": list(source.libraries),
        "discovered": source.discovered,
        "search_progress": rounded(source.search_progress, 2),
        "problems": list(source.problems),
        "together_per_min": rounded(source.together_per_min),
        "cost": {
            "commands": source.commands,
            "round_trips": source.round_trips,
            "duration_s": source.cost_s,
        },
        "redis": {name: getattr(source.health, name) for name in RedisHealth.__struct_fields__},
    }


def _json_queue(queue: QueueStats) -> dict[str, Any]:
    backend = app_context().backend(queue.source, queue.backend)
    return {
        "source": queue.source,
        "backend": queue.backend,
        "name": queue.name,
        "prefix": queue.prefix,
        "library_version": queue.library_version,
        "paused": queue.paused,
        "shared": queue.shared,
        "counts": {state.value: queue.counts.of(state) for state in State},
        "native_counts": {entry.native: entry.count for entry in queue.native},
        "at_least": [state.value for state in queue.at_least],
        "depth": queue.depth,
        "latency_s": rounded(queue.latency_s),
        "overdue_s": rounded(queue.overdue_s),
        "throughput_per_min": rounded(queue.throughput_per_min),
        "failed_per_min": rounded(queue.failed_per_min),
        "error_ratio": rounded(queue.error_ratio, 4),
        "runtime_p50_s": rounded(queue.runtime_p50_s, 4),
        "runtime_p95_s": rounded(queue.runtime_p95_s, 4),
        "flow_quality": queue.flow_quality.value,
        "flow_reason": queue.flow_reason,
        "workers": queue.workers,
        "notes": list(queue.notes),
        "capabilities": sorted(capability.value for capability in backend.capabilities),
        "read_only": queue.read_only,
        "error": queue.error,
    }


def _json_job(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "source": job.source,
        "backend": job.backend,
        "queue": job.queue,
        "name": job.name,
        "state": job.state.value if job.state else None,
        "native_state": job.native_state,
        "enqueued_at": iso(job.enqueued_at),
        "scheduled_for": iso(job.scheduled_for),
        "started_at": iso(job.started_at),
        "finished_at": iso(job.finished_at),
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "priority": job.priority,
        "progress": job.progress,
        "worker": job.worker,
        "summary": job.summary,
        "error": {"class": job.error.class_name, "message": job.error.message, "stack": job.error.stack}
        if job.error
        else None,
        "problem": job.problem,
    }


def _json_details(job: Job, verbs: Sequence[Action]) -> dict[str, Any]:
    return {
        "payload": _json_value(job.payload),
        "payload_kind": job.payload.kind if job.payload else None,
        "payload_truncated": bool(job.payload and job.payload.truncated),
        "payload_size_bytes": job.payload.size_bytes if job.payload else None,
        "payload_note": job.payload.note if job.payload else None,
        "options": _json_value(job.options),
        "meta": _json_value(job.meta),
        "result": _json_value(job.result),
        "result_truncated": bool(job.result and job.result.truncated),
        "timeline": [{"at": iso(event.at), "event": event.event, "detail": event.detail} for event in job.timeline],
        "parent": _json_link(job.parent) if job.parent else None,
        "children": [_json_link(child) for child in job.children],
        "children_total": job.children_total,
        "logs": list(job.logs),
        "logs_total": job.logs_total,
        "facts": dict(job.facts),
        "stamp": job.version,
        "capabilities": [action.value for action in verbs],
    }


def _json_link(link: JobLink) -> dict[str, Any]:
    return {
        "id": link.id,
        "queue": link.queue,
        "source": link.ref.source if link.ref else None,
        "backend": link.ref.backend if link.ref else None,
        "state": link.state.value if link.state else None,
        "native_state": link.native_state,
    }


def _json_value(payload: Payload | None) -> Any:
    if payload is None or payload.kind == "missing":
        return None
    return payload.value if payload.kind == "json" else payload.text


def _json_response(answer: dict[str, Any]) -> Response:
    # ASCII only: undecodable bytes of names and ids travel as the escapes that Python and JavaScript read back.
    return Response(json.dumps(answer, separators=(",", ":"), allow_nan=False), mimetype="application/json")
