"""Sidekiq's processes and their running jobs, as of their last heartbeat."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
from redis.exceptions import ResponseError

from ...model import QueueRef, Work, Worker, WorkerState
from ...sources.source import Reply, Source, text
from ...units import format_duration
from ..lua_reads import Scripts
from ..payloads.decoding import count_or_none, finite, loads_dict, printable, text_or_none
from ..unreadable_data import worker_row
from . import keys, without_lua
from .job_decoding import decode_payload, job_name, parse_time
from .processes import NamespaceProcesses, read_all

# A process beats every 5 s (6.x) or 10 s (7 and 8), and its hash lives for 60 s.
SUSPECT_AFTER_S = 30.0
MAX_WORK = 100
NO_RECORD = "its record is not a JSON object"


class WorkEntry(NamedTuple):
    """One running job: its queue, its raw payload, when it started, and its process."""

    queue: str
    payload: bytes
    run_at: float | None
    process: str


def list_workers(
    source: Source, scripts: Scripts, namespaces: Sequence[str], refs: Mapping[str, QueueRef]
) -> list[Worker]:
    """The processes of `namespaces`, sorted by identity. `refs`: the known queues by key.

    Cost: 1 round trip, and 1 for each further portion of processes; without scripts 3 to 12 each.
    """
    found: list[Worker] = []
    for namespace, processes in zip(namespaces, read_processes(source, scripts, namespaces), strict=True):
        for row in processes.rows:
            decode = partial(_build_worker, source, namespace, row, refs)
            found.append(worker_row(decode, f"{namespace}{text(row[0])}", source.name, "sidekiq"))
        if not processes.whole:
            found.append(
                _unknown_worker(source, namespace, processes.why or "there are more processes than could be read")
            )
    return sorted(found, key=lambda worker: worker.id)


def read_processes(source: Source, scripts: Scripts, namespaces: Sequence[str]) -> list[NamespaceProcesses]:
    """The processes of each namespace, as `work.lua` returns them. Cost: as `list_workers`."""
    answered = scripts.run(keys.load_script("work"), [(namespace,) for namespace in namespaces])
    found: list[Reply] = (
        answered[0] if answered is not None else [without_lua.work_reply(source, namespace) for namespace in namespaces]
    )
    return [read_all(scripts, "work", namespace, reply) for namespace, reply in zip(namespaces, found, strict=True)]


def _unknown_worker(source: Source, namespace: str, why: str) -> Worker:
    """A row that stands for processes about which nothing is known."""
    return Worker(
        id=f"{namespace}processes",
        source=source.name,
        backend="sidekiq",
        state=WorkerState.UNKNOWN,
        reason=why,
        problem=why,
    )


def list_running(rows: Iterable[Sequence[Any]]) -> list[WorkEntry]:
    """All running jobs of the processes of one namespace, longest running first."""
    found = []
    for identity, _, work in rows:
        for raw in (work or ())[1::2]:
            known = loads_dict(raw)
            # Early 6.0 writes the payload as an object, later releases as a JSON string.
            payload = known.get("payload")
            data = payload.encode("utf-8", "replace") if isinstance(payload, str) else _encode_json(payload)
            at = known.get("run_at")
            queue = known.get("queue")
            found.append(
                WorkEntry(
                    queue if isinstance(queue, str) else "",
                    data,
                    finite(at),
                    text(identity),
                )
            )
    return sorted(found, key=lambda job: job.run_at or 0.0)


def _encode_json(payload: Any) -> bytes:
    return json.dumps(payload).encode() if isinstance(payload, dict) else b""


def _killed_worker(source: Source, namespace: str, name: str) -> Worker:
    return Worker(
        id=f"{namespace}{name}",
        source=source.name,
        backend="sidekiq",
        state=WorkerState.DEAD,
        reason="listed, but its heartbeat expired: the process was killed and its running jobs are lost",
        hostname=name.rsplit(":", 2)[0] or None,
    )


def _find_state(age_s: float | None, *, is_quiet: bool, is_busy: bool) -> tuple[WorkerState, str | None]:
    """(the state of a process whose heartbeat is `age_s` old, why it is suspect)."""
    if age_s is not None and age_s > SUSPECT_AFTER_S:
        return WorkerState.SUSPECT, f"no heartbeat for {format_duration(age_s)}"
    if is_quiet:
        return WorkerState.QUIET, None
    return WorkerState.BUSY if is_busy else WorkerState.IDLE, None


def _build_worker(source: Source, namespace: str, row: Sequence[Any], refs: Mapping[str, QueueRef]) -> Worker:
    identity, fields, running_jobs = row
    jobs = list_running([row])
    work = tuple(_build_work(namespace, job, refs) for job in jobs[:MAX_WORK])
    name = text(identity)
    space = ((keys.NAMESPACE, namespace),) if namespace else ()
    if isinstance(fields, ResponseError):
        why = "its record has the wrong type" if "WRONGTYPE" in str(fields) else "its record cannot be read"
        return msgspec.structs.replace(
            _unknown_worker(source, namespace, why), id=f"{namespace}{name}", facts=space, work=work
        )
    if not isinstance(fields, list):
        return msgspec.structs.replace(_killed_worker(source, namespace, name), facts=space, work=work)
    info = loads_dict(fields[0])
    _, concurrency, busy, beat, quiet, rss, rtt_us = fields
    heartbeat = _parse_number(beat)
    age_s = source.now_s() - heartbeat if heartbeat is not None else None
    state, reason = _find_state(age_s, is_quiet=quiet == b"true", is_busy=bool(jobs or _parse_number(busy)))
    queues = info.get("queues")
    memory = _parse_number(rss)
    threads = _parse_integer(concurrency if concurrency is not None else info.get("concurrency"))
    return Worker(
        id=f"{namespace}{name}",
        source=source.name,
        backend="sidekiq",
        state=state,
        reason=reason,
        hostname=text_or_none(info.get("hostname"), 200),
        pid=_parse_integer(info.get("pid")),
        version=text_or_none(info.get("version"), 40),
        queues=tuple(_queue_names(namespace, queues, refs)) if isinstance(queues, list) else (),
        concurrency=threads,
        busy=_parse_integer(busy),
        work=work,
        started_at=parse_time(info.get("started_at")),
        heartbeat_at=parse_time(heartbeat),
        rss_bytes=int(memory * 1024) if memory is not None else None,
        facts=(*space, *_list_facts(info, rtt_us)),
        problem=None if info and running_jobs is not None else "its running jobs cannot be read" if info else NO_RECORD,
    )


def _queue_names(namespace: str, queues: Iterable[Any], refs: Mapping[str, QueueRef]) -> Iterable[str]:
    for queue in dict.fromkeys(name for name in queues if isinstance(name, str)):
        ref = refs.get(keys.NamespaceLocation(namespace, queue).key)
        yield ref.name if ref else queue


def _build_work(namespace: str, job: WorkEntry, refs: Mapping[str, QueueRef]) -> Work:
    payload = decode_payload(job.payload) or {}
    ref = refs.get(keys.NamespaceLocation(namespace, job.queue).key)
    return Work(
        job_id=text_or_none(payload.get("jid"), 200) or "?",
        job_name=job_name(payload),
        queue=ref.name if ref else job.queue or None,
        ref=ref,
        started_at=parse_time(job.run_at),
    )


def _list_facts(info: Mapping[str, Any], rtt_us: Reply) -> Iterable[tuple[str, str]]:
    for label, name in (("Tag", "tag"), ("Labels", "labels")):
        value = info.get(name)
        shown = ", ".join(str(part)[:50] for part in value[:20]) if isinstance(value, list) else value
        if isinstance(shown, str) and shown:
            yield label, printable(shown.encode("utf-8", "replace"), 200)
    rtt = _parse_number(rtt_us)
    if rtt is not None:
        yield "Round trip to Redis", f"{rtt / 1000:.1f} ms"
    if info.get("embedded") is True:
        yield "Embedded", "runs inside another process and ignores signals"


def _parse_number(raw: Any) -> float | None:
    try:
        return finite(float(raw) if isinstance(raw, bytes) else raw)
    except ValueError:
        return None


def _parse_integer(raw: Any) -> int | None:
    value = _parse_number(raw)
    return count_or_none(value)
