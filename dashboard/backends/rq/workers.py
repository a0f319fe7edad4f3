"""RQ workers and cron schedules, for their pages. Layout: rq 3.0, worker/base.py, cron.py."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from redis.exceptions import ResponseError

from ...clock import instant
from ...model import Payload, QueueRef, Schedule, State, Work, Worker, WorkerState
from ...sources.source import Command, Reply, Source, text
from ...units import format_duration
from ..base import MAX_SCHEDULES
from ..bounded_reads import short_fields
from ..lua_reads import Scripts
from ..payloads.decoding import count_or_none, finite, loads, printable
from ..payloads.masking import mask_payload
from ..unreadable_data import schedule_row, worker_row
from . import keys
from .job_hashes import FieldSelection, JobHash, JobHashReader
from .serialization import call_parts, number_of, parse_integer, parse_time

MAX_WORKERS = 1000
# While running a job, a worker sends a heartbeat at least every 90 s; an idle one blocks for up to 405 s without one.
BUSY_SILENCE_S, IDLE_SILENCE_S = 90.0, 480.0
FIELDS = (
    *("birth", "last_heartbeat", "queues", "pid", "hostname", "version", "state", "current_job"),
    *("successful_job_count", "failed_job_count", "total_working_time", "shutdown_requested_date", "ip_address"),
)
# Limits for running jobs: the number of queues, the jobs read per queue, and the length of a description.
MAX_QUEUES, RUNNING_OF_A_QUEUE = 1000, 100
RUNNING = FieldSelection(small=("origin", "started_at"), wide=("description",), limit_bytes=4 * 1024)
MAX_RUNNING = 1000
# Longer fields of a worker, or lists of a cron scheduler, are not read; one call reads up to FIELDS_PER_SCRIPT fields.
FIELD_BYTES, CRON_BYTES, FIELDS_PER_SCRIPT = 64 * 1024, 1024 * 1024, 1300
# A cron scheduler sends a heartbeat at least every 60 s, and its jobs expire 120 s after it. One that died more than a
# day ago is not reported: nothing removes its name.
CRON_BEAT_S, CRON_TTL_S, CRON_LOST_S = 60.0, 120.0, 86_400.0
GONE = "listed, but its record expired: it was killed or lost its connection to Redis"


def read_workers(
    source: Source, reader: JobHashReader, prefixes: Sequence[str], refs: Mapping[str, QueueRef]
) -> list[Worker]:
    """Return the workers of `prefixes`, sorted by name; `refs` by key. Cost: 2 round trips, 5 without scripts.

    Their running jobs are read at the same time, from the lists of running jobs of the known queues.
    """
    queues = [queue for key in refs if (queue := keys.queue_keys(key, prefixes)) is not None][:MAX_QUEUES]
    first: list[Command] = [("SSCAN", keys.workers_key(prefix), 0, "COUNT", MAX_WORKERS) for prefix in prefixes]
    first += [("ZREVRANGE", f"{queue.prefix}:wip:{queue.name}", 0, RUNNING_OF_A_QUEUE - 1) for queue in queues]
    replies = source.run_batch(first)
    listed = [
        (prefix, key)
        for prefix, reply in zip(prefixes, replies, strict=False)
        for key in (reply[1][:MAX_WORKERS] if isinstance(reply, list) else ())
    ]
    started = {
        (queue.prefix, keys.job_id_of(text(member), State.ACTIVE)): queue
        for queue, reply in zip(queues, replies[len(prefixes) :], strict=True)
        for member in (reply if isinstance(reply, list) else ())
    }
    wanted = list(started)[:MAX_RUNNING]
    commands: list[Command] = [("SSCAN", key + b":executions", 0, "COUNT", 100) for _, key in listed]
    commands += [("HSTRLEN", key, FIELDS[0]) for _, key in listed]  # an error if it is not a hash
    fields = [(key, name) for _, key in listed for name in FIELDS]
    starts = range(0, 0 if reader.without_scripts else len(fields), FIELDS_PER_SCRIPT)
    groups = [fields[at : at + FIELDS_PER_SCRIPT] for at in starts]
    commands += [reader.fields_command(group, FIELD_BYTES) for group in groups]
    records, replies = reader.read_hashes([(started[job], job[1]) for job in wanted], RUNNING, commands)
    answers = replies[2 * len(listed) :]
    if answers and all(isinstance(answer, list) for answer in answers):
        values: list[Reply] = [value for answer in answers for value in answer]
    else:
        values = short_fields(source, fields, FIELD_BYTES)
    jobs = dict(zip(wanted, records, strict=True))
    found = []
    width = len(FIELDS)
    for n, ((prefix, key), executions) in enumerate(zip(listed, replies, strict=False)):
        record: Reply = values[n * width : (n + 1) * width]
        if isinstance(replies[len(listed) + n], ResponseError):
            record = replies[len(listed) + n]
        decode = partial(_build_worker, source, prefix, key, record, executions, jobs, refs)
        found.append(worker_row(decode, _worker_id(prefix, key), source.name, "rq"))
    return sorted(found, key=lambda worker: worker.id)


def _running_ids(record: Reply, executions: Reply) -> list[str]:
    """Return the ids of a worker's running jobs, sorted: since 3.0 each run is listed; before, there is only one."""
    if isinstance(executions, list) and executions[1]:
        return sorted({keys.job_id_of(text(member), State.ACTIVE) for member in executions[1]})[:100]
    current = record[FIELDS.index("current_job")] if isinstance(record, list) else None
    return [text(current)] if current else []


def _build_work(prefix: str, job_id: str, record: JobHash | None, refs: Mapping[str, QueueRef]) -> Work:
    queue = record.text("origin") if record else None
    if record is None or queue is None:
        return Work(job_id=job_id)
    ref = refs.get(f"{prefix}:queue:{queue}")
    return Work(
        job_id=job_id,
        job_name=_printable_or_none(call_parts(record.text("description"))[0]),
        queue=ref.name if ref else printable(queue, 200),
        ref=ref,
        started_at=parse_time(record.text("started_at")),
    )


def _build_worker(
    source: Source,
    prefix: str,
    key: bytes,
    record: Reply,
    executions: Reply,
    jobs: Mapping[tuple[str, str], JobHash | None],
    refs: Mapping[str, QueueRef],
) -> Worker:
    work = [_build_work(prefix, job, jobs.get((prefix, job)), refs) for job in _running_ids(record, executions)]
    common: dict[str, Any] = {"id": _worker_id(prefix, key), "source": source.name}
    if isinstance(record, ResponseError):
        wrong = "its record has the wrong type"
        return Worker(**common, backend="rq", state=WorkerState.UNKNOWN, problem=wrong)
    fields = {field: text(raw) for field, raw in zip(FIELDS, record, strict=True) if raw is not None}
    if not fields:
        return Worker(**common, backend="rq", state=WorkerState.DEAD, reason=GONE)
    names = [queue for queue in fields.get("queues", "").split(",") if queue]
    shown = [refs[key_].name if (key_ := f"{prefix}:queue:{queue}") in refs else queue for queue in names]
    state, reason = _worker_state(fields, source.now_s(), busy=bool(work))
    # RQ creates each counter with the first such job, so a missing counter means 0.
    completed, failed = (
        count_or_none(parse_integer(fields.get(f"{how}_job_count", "0"))) for how in ("successful", "failed")
    )
    return Worker(
        **common,
        backend="rq",
        state=state,
        reason=reason,
        hostname=_printable_or_none(fields.get("hostname")),
        pid=count_or_none(parse_integer(fields.get("pid"))),
        version=_printable_or_none(fields.get("version")),
        queues=tuple(printable(queue, 200) for queue in shown[:100]),
        concurrency=1,
        busy=len(work),
        work=tuple(work),
        started_at=parse_time(fields.get("birth")),
        heartbeat_at=parse_time(fields.get("last_heartbeat")),
        processed=None if completed is None or failed is None else completed + failed,
        failed=failed,
        facts=tuple(_list_facts(fields)),
    )


def _worker_id(prefix: str, key: bytes) -> str:
    name = text(key).removeprefix(f"{prefix}:worker:")
    return name if prefix == keys.DEFAULT_PREFIX else f"{prefix}:{name}"


def _worker_state(fields: Mapping[str, str], now: float, *, busy: bool) -> tuple[WorkerState, str | None]:
    beat = parse_time(fields.get("last_heartbeat"))
    silence_s = now - beat.timestamp() if beat else None
    word = fields.get("state")
    if silence_s is not None and silence_s > (BUSY_SILENCE_S if busy or word == "busy" else IDLE_SILENCE_S):
        return WorkerState.SUSPECT, f"no heartbeat for {format_duration(silence_s)}"
    if fields.get("shutdown_requested_date"):
        return WorkerState.QUIET, "asked to stop; finishing its running job"
    if word == "suspended":
        return WorkerState.QUIET, "all workers of this Redis are suspended"
    if busy or word == "busy":
        return WorkerState.BUSY, None
    return (WorkerState.IDLE, None) if word in ("idle", "started") else (WorkerState.UNKNOWN, None)


def _list_facts(fields: Mapping[str, str]) -> list[tuple[str, str]]:
    try:
        seconds = float(fields.get("total_working_time", ""))
    except ValueError:
        return []
    return [("Total working time", format_duration(seconds))] if 0 < seconds < 1e12 else []


def _printable_or_none(value: str | None) -> str | None:
    return printable(value, 200) if value else None


def read_schedules(
    source: Source, scripts: Scripts, prefixes: Sequence[str], refs: Mapping[str, QueueRef]
) -> list[Schedule]:
    """Return the jobs of cron schedulers (RQ 2.6 and later), soonest first. Cost: 2 round trips, 3 without scripts.

    The jobs of a scheduler expire with it: if it died and no other one runs, it is returned itself, as one schedule.
    """
    scans = source.run_batch([("ZREVRANGE", f"{prefix}:cron_schedulers", 0, 99, "WITHSCORES") for prefix in prefixes])
    listed = [
        (prefix, name, number_of(score))
        for prefix, reply in zip(prefixes, scans, strict=True)
        if isinstance(reply, list)
        for name, score in zip(reply[::2], reply[1::2], strict=True)
    ]
    wanted = [(f"{prefix}:cron_scheduler:".encode() + name, "cron_jobs") for prefix, name, _ in listed]
    found: list[Schedule] = []
    running: dict[str, bool] = {}  # by prefix
    lost: dict[str, Schedule] = {}
    replies = short_fields(source, wanted, CRON_BYTES, scripts=scripts)
    for (prefix, name, beat), raw in zip(listed, replies, strict=True):
        if isinstance(raw, bytes):
            found.extend(_schedules_of(source.name, prefix, text(name), raw, refs))
        silence_s = None if beat is None else source.now_s() - beat
        if isinstance(raw, bytes) or (silence_s is not None and silence_s <= CRON_TTL_S):
            running[prefix] = True
        elif beat is not None and silence_s is not None and silence_s < CRON_LOST_S:
            lost.setdefault(prefix, _lost_scheduler(source.name, text(name), beat, silence_s))
    found += [schedule for prefix, schedule in lost.items() if prefix not in running]
    far = datetime.max.replace(tzinfo=UTC)
    found.sort(key=lambda entry: (entry.next_run_at or far, entry.id))
    return found[:MAX_SCHEDULES]


def _lost_scheduler(source: str, scheduler: str, beat: float, silence_s: float) -> Schedule:
    """Return a scheduler that died as a schedule, which is due when its next heartbeat was."""
    silence = format_duration(silence_s)
    return Schedule(
        id=scheduler,
        source=source,
        backend="rq",
        kind="cron",
        name=f"cron scheduler {printable(scheduler, 100)}",
        next_run_at=instant(beat + CRON_BEAT_S),
        problem=f"its scheduler died: no heartbeat for {silence}",
    )


def _schedules_of(source: str, prefix: str, scheduler: str, raw: bytes, refs: Mapping[str, QueueRef]) -> list[Schedule]:
    try:
        jobs = loads(raw, limit=len(raw))
    except ValueError:
        jobs = None
    if not isinstance(jobs, list):
        wrong = "its list of jobs cannot be read"
        return [Schedule(id=scheduler, source=source, backend="rq", kind="cron", problem=wrong)]
    return [
        schedule_row(
            partial(_build_schedule, source, prefix, scheduler, n, job, refs), f"{scheduler}#{n}", source, "rq", "cron"
        )
        for n, job in enumerate(jobs[:MAX_SCHEDULES])
    ]


def _build_schedule(
    source: str, prefix: str, scheduler: str, n: int, job: Any, refs: Mapping[str, QueueRef]
) -> Schedule:
    """Return one entry of a scheduler's list as a Schedule."""
    job = job if isinstance(job, dict) else {}
    queue = job.get("queue_name")
    ref = refs.get(f"{prefix}:queue:{queue}") if isinstance(queue, str) else None
    every, cron = finite(job.get("interval")), job.get("cron")
    value, _ = mask_payload({name: _decode_arguments(job.get(name)) for name in ("args", "kwargs")})
    return Schedule(
        id=f"{scheduler}#{n}",
        source=source,
        backend="rq",
        kind="cron",
        name=_word_or_none(job.get("func_name")) or _word_or_none(job.get("name")),
        queue=ref.name if ref else _word_or_none(queue),
        ref=ref,
        pattern=_word_or_none(cron) or (None if every is None else f"every {every:.15g} s"),
        next_run_at=_parse_time(job.get("next_enqueue_time")),
        last_run_at=_parse_time(job.get("latest_enqueue_time")),
        payload=Payload(kind="json", value=value, text=json.dumps(value, ensure_ascii=False, indent=2)),
        facts=(("Scheduler", scheduler),),
        problem=None if job else "its entry is not a JSON object",
    )


def _parse_time(value: Any) -> datetime | None:
    return parse_time(value) if isinstance(value, str) else None


def _decode_arguments(value: Any) -> Any:
    """Return decoded arguments: where possible, RQ writes them as a JSON text within the JSON."""
    try:
        return loads(value.encode("utf-8", "replace")) if isinstance(value, str) else value
    except ValueError:
        return value


def _word_or_none(value: Any) -> str | None:
    return printable(value.encode("utf-8", "replace"), 200) if isinstance(value, str) and value else None
