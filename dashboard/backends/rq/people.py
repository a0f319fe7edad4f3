"""RQ's workers and cron schedules, for their pages. Layout: rq 3.0, worker/base.py, cron.py."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from redis.exceptions import ResponseError

from dashboard.backends.base import MAX_SCHEDULES
from dashboard.backends.payload import bounded, printable, text
from dashboard.backends.rq import keys
from dashboard.backends.rq.decode import moment, number
from dashboard.clock import now_s
from dashboard.model import Payload, QueueRef, Schedule, Work, Worker, WorkerState
from dashboard.sources import Command, Reply, Source

MAX_WORKERS = 1000
# While it works, a worker beats at least once in 90 s; an idle one blocks for up to 405 s and says nothing.
BUSY_SILENCE_S, IDLE_SILENCE_S = 90.0, 480.0
FIELDS = (
    *("birth", "last_heartbeat", "queues", "pid", "hostname", "version", "state", "current_job"),
    *("successful_job_count", "failed_job_count", "total_working_time", "shutdown_requested_date", "ip_address"),
)
GONE = "it is listed, but its record has expired: killed, or cut off from Redis"


def read_workers(source: Source, prefixes: Sequence[str], refs: Mapping[str, QueueRef]) -> list[Worker]:
    """The workers of `prefixes`, by name; `refs` by key. Cost: 2 round trips."""
    scans = source.batch([("SSCAN", keys.workers(prefix), 0, "COUNT", MAX_WORKERS) for prefix in prefixes])
    listed = [
        (prefix, key)
        for prefix, reply in zip(prefixes, scans, strict=True)
        for key in (reply[1][:MAX_WORKERS] if isinstance(reply, list) else ())
    ]
    commands: list[Command] = [("HMGET", key, *FIELDS) for _, key in listed]
    commands += [("SSCAN", key + b":executions", 0, "COUNT", 100) for _, key in listed]
    replies = source.batch(commands)
    found = [
        _worker(source.name, prefix, key, record, running, refs)
        for (prefix, key), record, running in zip(listed, replies[: len(listed)], replies[len(listed) :], strict=True)
    ]
    return sorted(found, key=lambda worker: worker.id)


def _worker(
    source: str, prefix: str, key: bytes, record: Reply, running: Reply, refs: Mapping[str, QueueRef]
) -> Worker:
    name = text(key).removeprefix(f"{prefix}:worker:")
    common: dict[str, Any] = {"id": name if prefix == keys.DEFAULT_PREFIX else f"{prefix}:{name}", "source": source}
    if isinstance(record, ResponseError):
        wrong = "its record is of the wrong type"
        return Worker(**common, backend="rq", state=WorkerState.UNKNOWN, problem=wrong)
    fields = {field: text(raw) for field, raw in zip(FIELDS, record, strict=True) if raw is not None}
    if not fields:
        return Worker(**common, backend="rq", state=WorkerState.DEAD, reason=GONE)
    jobs = [member.partition(b":")[0] for member in running[1]] if isinstance(running, list) else []
    if not jobs and fields.get("current_job"):
        jobs = [fields["current_job"].encode("utf-8", "surrogateescape")]
    names = [queue for queue in fields.get("queues", "").split(",") if queue]
    shown = [refs[key_].name if (key_ := f"{prefix}:queue:{queue}") in refs else queue for queue in names]
    only = refs.get(f"{prefix}:queue:{names[0]}") if len(names) == 1 else None
    state, reason = _state(fields, busy=bool(jobs))
    return Worker(
        **common,
        backend="rq",
        state=state,
        reason=reason,
        hostname=_shown(fields.get("hostname")),
        pid=number(fields.get("pid")),
        version=_shown(fields.get("version")),
        queues=tuple(printable(queue, 200) for queue in shown[:100]),
        concurrency=1,
        busy=len(jobs),
        work=tuple(Work(job_id=text(job), queue=only.name if only else None, ref=only) for job in sorted(jobs)[:100]),
        started_at=moment(fields.get("birth")),
        heartbeat_at=moment(fields.get("last_heartbeat")),
        processed=_sum(fields, "successful_job_count", "failed_job_count"),
        failed=number(fields.get("failed_job_count")),
        facts=tuple(_facts(fields)),
    )


def _state(fields: Mapping[str, str], *, busy: bool) -> tuple[WorkerState, str | None]:
    beat = moment(fields.get("last_heartbeat"))
    silence_s = now_s() - beat.timestamp() if beat else None
    word = fields.get("state")
    if silence_s is not None and silence_s > (BUSY_SILENCE_S if busy or word == "busy" else IDLE_SILENCE_S):
        return WorkerState.SUSPECT, f"no heartbeat for {silence_s:.0f} s"
    if fields.get("shutdown_requested_date"):
        return WorkerState.QUIET, "it was asked to shut down and finishes its job"
    if word == "suspended":
        return WorkerState.QUIET, "all workers of this Redis are suspended"
    if busy or word == "busy":
        return WorkerState.BUSY, None
    return (WorkerState.IDLE, None) if word in ("idle", "started") else (WorkerState.UNKNOWN, None)


def _facts(fields: Mapping[str, str]) -> list[tuple[str, str]]:
    try:
        seconds = float(fields.get("total_working_time", ""))
    except ValueError:
        return []
    return [("Time at work", f"{seconds:,.0f} s")] if 0 < seconds < 1e12 else []


def _sum(fields: Mapping[str, str], *names: str) -> int | None:
    counts = [number(fields.get(name)) for name in names]
    return sum(count or 0 for count in counts) if any(count is not None for count in counts) else None


def _shown(value: str | None) -> str | None:
    return printable(value, 200) if value else None


def read_schedules(source: Source, prefixes: Sequence[str], refs: Mapping[str, QueueRef]) -> list[Schedule]:
    """The jobs of RQ's cron schedulers (2.6 and later), soonest first. Cost: 2 round trips."""
    scans = source.batch([("ZREVRANGE", f"{prefix}:cron_schedulers", 0, 99) for prefix in prefixes])
    names = [
        (prefix, name)
        for prefix, reply in zip(prefixes, scans, strict=True)
        for name in (reply if isinstance(reply, list) else ())
    ]
    commands = [
        ("HMGET", f"{prefix}:cron_scheduler:".encode() + name, "cron_jobs", "hostname") for prefix, name in names
    ]
    found: list[Schedule] = []
    for (prefix, name), reply in zip(names, source.batch(commands), strict=True):
        raw = reply[0] if isinstance(reply, list) else None
        if raw is not None:
            found.extend(_schedules(source.name, prefix, text(name), raw, refs))
    far = datetime.max.replace(tzinfo=UTC)
    found.sort(key=lambda entry: (entry.next_run_at or far, entry.id))
    return found[:MAX_SCHEDULES]


def _schedules(source: str, prefix: str, scheduler: str, raw: bytes, refs: Mapping[str, QueueRef]) -> list[Schedule]:
    try:
        jobs = json.loads(raw[: 1024 * 1024])
    except (ValueError, RecursionError):
        jobs = None
    if not isinstance(jobs, list):
        wrong = "its list of jobs cannot be read"
        return [Schedule(id=scheduler, source=source, backend="rq", kind="cron", problem=wrong)]
    found = []
    for n, job in enumerate(jobs[:MAX_SCHEDULES]):
        job = job if isinstance(job, dict) else {}
        queue = job.get("queue_name")
        ref = refs.get(f"{prefix}:queue:{queue}") if isinstance(queue, str) else None
        every, cron = job.get("interval"), job.get("cron")
        value, _ = bounded({"args": job.get("args"), "kwargs": job.get("kwargs")})
        found.append(
            Schedule(
                id=f"{scheduler}#{n}",
                source=source,
                backend="rq",
                kind="cron",
                name=_word(job.get("func_name")) or _word(job.get("name")),
                queue=ref.name if ref else _word(queue),
                ref=ref,
                pattern=_word(cron) or (f"every {every:g} s" if isinstance(every, int | float) else None),
                next_run_at=moment(job["next_enqueue_time"]) if isinstance(job.get("next_enqueue_time"), str) else None,
                last_run_at=moment(job["latest_enqueue_time"])
                if isinstance(job.get("latest_enqueue_time"), str)
                else None,
                payload=Payload(kind="json", value=value, text=json.dumps(value, ensure_ascii=False, indent=2)),
                facts=(("Scheduler", scheduler),),
                problem=None if job else "its entry is no JSON object",
            )
        )
    return found


def _word(value: Any) -> str | None:
    return printable(value.encode("utf-8", "replace"), 200) if isinstance(value, str) and value else None
