"""The JSON API, version 1: the same figures as the pages, for scripts. Unknown values are null."""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, Response, request

from dashboard.backends.base import Backend
from dashboard.clock import instant, iso
from dashboard.collect.history import known_sum
from dashboard.errors import Unsupported
from dashboard.model import (
    Job,
    JobLink,
    JobQuery,
    Payload,
    QueueStats,
    RedisHealth,
    SourceStats,
    State,
)
from dashboard.web.deck import deck
from dashboard.web.jobquery import job_query

bp = Blueprint("api", __name__, url_prefix="/api/v1")

_QUEUE = "/queues/<segment:source>/<segment:backend>/<segment:name>"


@bp.get("/overview")
def overview() -> Response:
    """Sources, totals and all queues as of the newest snapshot."""
    reading = deck().reading()
    snapshot = reading.snapshot
    queues = snapshot.queues if snapshot else ()
    return _json(
        {
            "sampled_at": iso(instant(snapshot.sampled_at)) if snapshot else None,
            "age_s": _rounded(reading.age_s),
            "stale": reading.stale,
            "sources": [_source(source) for source in snapshot.sources] if snapshot else [],
            "totals": totals(queues),
            "queues": [_queue(queue) for queue in queues],
            "alerts": [],
        }
    )


@bp.get("/queues")
def queues() -> Response:
    """The queues that match `source`, `backend` and `q` (part of the name, case ignored)."""
    snapshot = deck().reading().snapshot
    source, backend = request.args.get("source"), request.args.get("backend")
    text = request.args.get("q", "").casefold()
    found = [
        _queue(queue)
        for queue in (snapshot.queues if snapshot else ())
        if (not source or queue.source == source)
        and (not backend or queue.backend == backend)
        and text in queue.name.casefold()
    ]
    return _json({"queues": found, "total": len(found)})


@bp.get(_QUEUE)
def queue(source: str, backend: str, name: str) -> Response:
    """One queue. 404 when it is not in the newest snapshot."""
    return _json(_queue(deck().queue(source, backend, name)))


@bp.get(f"{_QUEUE}/jobs")
def jobs(source: str, backend: str, name: str) -> Response:
    """One page of jobs, read live: `state` (ours or the library's word), `page`, `per_page`."""
    here = deck()
    ref = here.queue(source, backend, name).ref
    if request.args.get("q"):
        raise Unsupported(
            "Searching jobs is not part of this version.", hint="Leave q out, or ask for a job by its id."
        )
    page = here.backend(source, backend).jobs(ref, _query(here.backend(source, backend)))
    return _json(
        {
            "jobs": [_job(job, detailed=False) for job in page.jobs],
            "page": page.page,
            "per_page": page.per_page,
            "total": page.total,
            "order": page.order,
            "scanned": page.scanned,
            "truncated": page.truncated,
        }
    )


@bp.get(f"{_QUEUE}/jobs/<segment:job_id>")
def job(source: str, backend: str, name: str, job_id: str) -> Response:
    """One job with payload, error, logs, links and timeline, read live."""
    here = deck()
    return _json(_job(here.job(here.queue(source, backend, name), job_id), detailed=True))


def _query(backend: Backend) -> JobQuery:
    return job_query(backend, request.args.get("state", State.WAITING.value))


def totals(queues: tuple[QueueStats, ...]) -> dict[str, Any]:
    """Sums over all queues; a sum is null when none of its parts is known. Shared entries are counted once."""
    throughput = known_sum(queue.throughput_per_min for queue in queues)
    failed = known_sum(queue.failed_per_min for queue in queues if queue.throughput_per_min is not None)
    return {
        "depth": known_sum(queue.depth for queue in queues),
        **{
            state.value: known_sum(queue.counts.of(state) for queue in queues)
            for state in (State.ACTIVE, State.SCHEDULED, State.RETRYING, State.BLOCKED, State.DEAD)
        },
        "throughput_per_min": _rounded(throughput),
        "failed_per_min": _rounded(failed),
        "error_ratio": _rounded(failed / throughput, 4) if throughput and failed is not None else None,
    }


def _source(source: SourceStats) -> dict[str, Any]:
    return {
        "name": source.name,
        "address": source.address,
        "reachable": source.reachable,
        "error": source.error,
        "hint": source.hint,
        "unreachable_since": iso(instant(source.unreachable_since)),
        "libraries": list(source.libraries),
        "discovered": source.discovered,
        "problems": list(source.problems),
        "cost": {
            "commands": source.commands,
            "round_trips": source.round_trips,
            "duration_s": source.cost_s,
        },
        "redis": {name: getattr(source.health, name) for name in RedisHealth.__struct_fields__},
    }


def _queue(queue: QueueStats) -> dict[str, Any]:
    backend = deck().backend(queue.source, queue.backend)
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
        "depth": queue.depth,
        "latency_s": _rounded(queue.latency_s),
        "overdue_s": _rounded(queue.overdue_s),
        "throughput_per_min": _rounded(queue.throughput_per_min),
        "failed_per_min": _rounded(queue.failed_per_min),
        "error_ratio": _rounded(queue.error_ratio, 4),
        "runtime_p50_s": _rounded(queue.runtime_p50_s, 4),
        "runtime_p95_s": _rounded(queue.runtime_p95_s, 4),
        "flow_quality": queue.flow_quality.value,
        "flow_reason": queue.flow_reason,
        "workers": queue.workers,
        "notes": list(queue.notes),
        "capabilities": sorted(capability.value for capability in backend.capabilities),
        "error": queue.error,
    }


def _job(job: Job, *, detailed: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {
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
    if detailed:
        answer |= _details(job)
    return answer


def _details(job: Job) -> dict[str, Any]:
    return {
        "payload": _value(job.payload),
        "payload_kind": job.payload.kind if job.payload else None,
        "payload_truncated": bool(job.payload and job.payload.truncated),
        "payload_size_bytes": job.payload.size_bytes if job.payload else None,
        "payload_note": job.payload.note if job.payload else None,
        "options": _value(job.options),
        "meta": _value(job.meta),
        "result": _value(job.result),
        "timeline": [{"at": iso(event.at), "event": event.event, "detail": event.detail} for event in job.timeline],
        "parent": _link(job.parent) if job.parent else None,
        "children": [_link(child) for child in job.children],
        "children_total": job.children_total,
        "logs": list(job.logs),
        "logs_total": job.logs_total,
        "facts": dict(job.facts),
        "capabilities": [],
    }


def _link(link: JobLink) -> dict[str, Any]:
    return {
        "id": link.id,
        "queue": link.queue,
        "source": link.ref.source if link.ref else None,
        "backend": link.ref.backend if link.ref else None,
        "state": link.state.value if link.state else None,
        "native_state": link.native_state,
    }


def _value(payload: Payload | None) -> Any:
    if payload is None or payload.kind == "missing":
        return None
    return payload.value if payload.kind == "json" else payload.text


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)


def _json(answer: dict[str, Any]) -> Response:
    # ASCII only: undecodable bytes of names and ids travel as the escapes that Python and JavaScript read back.
    return Response(json.dumps(answer, separators=(",", ":"), allow_nan=False), mimetype="application/json")
