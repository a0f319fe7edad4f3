"""Shows the queues of listq in Queuedeck. Layout: listq.py."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, ClassVar

import msgspec

from dashboard import model
from dashboard.backends.actions import MAX_KEPT_BYTES, Action, ActionOptions, ActionResult, JobBackup, JobRef, Outcome
from dashboard.backends.base import FLOW_WINDOW_S, NO_OPTIONS, Backend, Budget, Discovery
from dashboard.backends.bounded_reads import shared_script
from dashboard.backends.lua_reads import Scripts
from dashboard.backends.payloads import search_text
from dashboard.backends.payloads.decoding import json_payload, printable
from dashboard.clock import monotonic_s
from dashboard.errors import Forbidden, NotFound, Unsupported
from dashboard.model import Job, JobPage, JobQuery, QueueRef, QueueStats, Searched, State, Window
from dashboard.settings import SourceSettings
from dashboard.sources.source import Argument, Reply, Source, text

LISTS = {State.WAITING: "wait", State.ACTIVE: "busy", State.DEAD: "dead", State.COMPLETED: "done"}
# No read may grow with the queue: bytes of a page, and ids that are compared to find one job.
PAGE_BYTES, COMPARED_IDS = 4 * 1024 * 1024, 10_000
# The id of a job, and what else the script needs to know of it.
_Call = tuple[str, *tuple[Argument, ...]]
LUA = {entry.name: entry.read_text("utf-8") for entry in files(__package__).joinpath("lua").iterdir()}


class ListQ(Backend):
    """Queues of listq."""

    name = "listq"
    title = "ListQ"
    key_scans = 0
    states: ClassVar[Mapping[State, tuple[str, ...]]] = {state: (native,) for state, native in LISTS.items()}
    capabilities = frozenset({model.Capability.SEARCH})
    job_actions: ClassVar[Mapping[State, tuple[Action, ...]]] = {State.DEAD: (Action.RETRY, Action.DELETE)}
    action_help: ClassVar[Mapping[Action, str]] = {Action.RETRY: "The job runs after those that are waiting now."}

    def __init__(self, source: Source, settings: SourceSettings) -> None:
        super().__init__(source, settings)
        self._scripts = Scripts(source)

    def discover_queues(self, cursor: Any, budget: Budget) -> Discovery:
        names = {text(raw) for raw in self.source.execute("SMEMBERS", "listq:queues")} | set(self.named_queues())
        refs = [
            QueueRef(source=self.source.name, backend=self.name, name=name, key=f"listq:{name}")
            for name in sorted(names)
            if self.includes_queue(name)
        ]
        return Discovery(tuple(refs), complete=True, cursor=None)

    def read_stats(self, refs: Sequence[QueueRef]) -> list[QueueStats]:
        replies = self._read("stats", *((ref.key,) for ref in refs))
        return [self._stats(ref, reply) for ref, reply in zip(refs, replies, strict=True)]

    def read_flow(self, refs: Sequence[QueueRef], cursor: Any) -> tuple[model.FlowDelta, Any]:
        first = (repr(self.source.now_s() - FLOW_WINDOW_S), monotonic_s() - FLOW_WINDOW_S)
        seen = {ref.key: (cursor or {}).get(ref.key, first) for ref in refs}
        flows, now = [], monotonic_s()
        for ref, reply in zip(refs, self._read("flow", *((ref.key, seen[ref.key][0]) for ref in refs)), strict=True):
            if not isinstance(reply, list):
                continue  # its rates are then unknown
            done, dead, last, times = reply
            flows.append(
                model.QueueFlow(
                    key=ref.key,
                    completed=done,
                    dead=dead,
                    span_s=max(0.001, now - seen[ref.key][1]),
                    quality=model.Quality.EXACT,
                    runtimes_s=tuple(
                        max(0.0, end - start)
                        for start, end in zip(map(_number, times[::2]), map(_number, times[1::2]), strict=True)
                        if start is not None and end is not None
                    ),
                )
            )
            seen[ref.key] = (text(last), now)
        return model.FlowDelta(queues=tuple(flows)), seen

    def list_jobs(self, ref: QueueRef, query: JobQuery) -> JobPage:
        found = self.search_page(ref, query)
        # A list has no payloads: they are large, and may hold what not everyone should see.
        jobs = tuple(msgspec.structs.replace(row.job, payload=None, result=None) for row in found.rows)
        return JobPage(jobs=jobs, page=query.page, per_page=query.per_page, total=found.total, order=found.order)

    def search_page(self, ref: QueueRef, query: JobQuery) -> Window:
        if query.state not in LISTS:
            raise Unsupported(f"listq has no {query.state} jobs.")
        if not self.source.execute("SISMEMBER", "listq:queues", ref.name):
            raise NotFound(f"There is no listq queue {ref.name!r}.")
        rows = (query.offset, query.offset + query.per_page)
        total, found = self._read_one("page", ref.key, LISTS[query.state], *rows, PAGE_BYTES)
        order = "next to run first" if query.state is State.WAITING else "newest first"
        return Window(rows=tuple(_row(ref, query.state, row) for row in found), total=total, order=order)

    def read_job(self, ref: QueueRef, job_id: str) -> Job:
        found = self._read_one("job", ref.key, job_id, COMPARED_IDS)
        if not found:
            raise NotFound(f"The listq queue {ref.name!r} has no job {job_id!r}.")
        state = next(state for state, native in LISTS.items() if native == text(found[0]))
        return _row(ref, state, found[1]).job

    def act_on_jobs(
        self,
        ref: QueueRef,
        action: Action,
        state: State,
        job_refs: Sequence[JobRef],
        options: ActionOptions = NO_OPTIONS,
    ) -> list[ActionResult]:
        if action is not Action.RETRY or state is not State.DEAD:
            return super().act_on_jobs(ref, action, state, job_refs, options)
        return self._write("retry", ref, [(job_ref.id, job_ref.version or "") for job_ref in job_refs])

    def backup_jobs(self, ref: QueueRef, state: State, job_refs: Sequence[JobRef]) -> list[JobBackup | ActionResult]:
        commands = [
            command
            for job_ref in job_refs
            for command in (("ZSCORE", f"{ref.key}:dead", job_ref.id), ("DUMP", f"{ref.key}:job:{job_ref.id}"))
        ]
        replies = self.source.run_batch(commands)
        return [_backup(job_ref, *pair) for job_ref, *pair in zip(job_refs, replies[::2], replies[1::2], strict=True)]

    def delete_jobs(self, ref: QueueRef, state: State, backups: Sequence[JobBackup]) -> list[ActionResult]:
        return self._write("delete", ref, [(job.id, job.version or "") for job in backups])

    def restore_jobs(self, ref: QueueRef, state: State, backups: Sequence[JobBackup]) -> list[ActionResult]:
        return self._write("restore", ref, [(job.id, job.version or "", job.blob or b"") for job in backups])

    def changed_keys(self, refs: Sequence[QueueRef]) -> tuple[str, ...]:
        return ("listq:*",)

    def _stats(self, ref: QueueRef, reply: Reply) -> QueueStats:
        if not isinstance(reply, list):
            return QueueStats(
                source=ref.source, backend=self.name, name=ref.name, key=ref.key, error=printable(str(reply), 200)
            )
        counts, since = dict(zip(LISTS, reply, strict=False)), _number(reply[4])
        age = None if since is None else max(0.0, self.source.now_s() - since)
        return QueueStats(
            source=ref.source,
            backend=self.name,
            name=ref.name,
            key=ref.key,
            counts=model.Counts(**{state.value: count for state, count in counts.items()}),
            native=tuple(model.NativeCount(native=LISTS[state], state=state, count=n) for state, n in counts.items()),
            depth=counts[State.WAITING],
            latency_s=age if counts[State.WAITING] else 0.0,
            overdue_s=0.0,
        )

    def _read(self, script: str, *calls: Sequence[Argument]) -> list[Reply]:
        found = self._scripts.run(shared_script() + LUA["row.lua"] + LUA[f"{script}.lua"], calls)
        if found is None:
            raise Forbidden("The Redis user may not run scripts, which listq needs.")
        return found[0]

    def _read_one(self, script: str, *arguments: Argument) -> Any:
        reply = self._read(script, arguments)[0]
        self.source.check_reply(reply)
        return reply

    def _write(self, script: str, ref: QueueRef, jobs: Sequence[_Call]) -> list[ActionResult]:
        lua, dead, wait = LUA[f"{script}.lua"], f"{ref.key}:dead", f"{ref.key}:wait"
        commands = [("EVAL", lua, 3, dead, f"{ref.key}:job:{job_id}", wait, job_id, *rest) for job_id, *rest in jobs]
        replies = self.source.run_batch(commands)
        return [self._result(job[0], reply) for job, reply in zip(jobs, replies, strict=True)]

    def _result(self, job_id: str, reply: Reply) -> ActionResult:
        self.source.check_writable(reply)
        if isinstance(reply, bytes):
            return ActionResult(id=job_id, outcome=Outcome(text(reply)))
        return ActionResult(id=job_id, outcome=Outcome.REFUSED, detail=printable(str(reply), 200))


def _backup(job_ref: JobRef, score: Reply, dump: Reply) -> JobBackup | ActionResult:
    if not isinstance(score, bytes) or not isinstance(dump, bytes):
        return ActionResult(id=job_ref.id, outcome=Outcome.GONE)
    if job_ref.version is not None and job_ref.version != text(score):
        return ActionResult(id=job_ref.id, outcome=Outcome.CHANGED)
    blob = dump if len(dump) <= MAX_KEPT_BYTES else None
    return JobBackup(id=job_ref.id, version=text(score), blob=blob, size_bytes=len(dump))


def _row(ref: QueueRef, state: State, row: Sequence[Any]) -> Searched:
    """A row of row.lua. Every value may be missing, too long, or of any bytes."""
    job_id, score, size, name, enqueued_at, started_at, finished_at, error, stack, result, args = row
    class_name, _, message = printable(error or b"").partition(": ")
    moments = [("enqueued", _moment(enqueued_at)), ("started", _moment(started_at)), ("finished", _moment(finished_at))]
    job = Job(
        id=text(job_id),
        source=ref.source,
        backend=ref.backend,
        queue=ref.name,
        version=text(score) if score else None,
        name=printable(name, 200) if name else None,
        state=state,
        native_state=LISTS[state],
        enqueued_at=moments[0][1],
        started_at=moments[1][1],
        finished_at=moments[2][1],
        error=model.JobError(class_name=class_name, message=message, stack=printable(stack or b"")) if error else None,
        payload=json_payload(args or (b"" if size else None), size or None),
        result=json_payload(result) if result else None,
        timeline=tuple(
            sorted((model.TimelineEvent(at=at, event=event) for event, at in moments if at), key=lambda each: each.at)
        ),
        problem=None if name else "the name of this job is missing or too long",
    )
    searched = search_text.joined(search_text.of_json(args or None), printable(error) if error else None)
    return Searched(job=job, text=searched, stack=search_text.ends(printable(stack) if stack else None))


def _number(raw: Any) -> float | None:
    try:
        number = float(raw)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _moment(raw: Any) -> datetime | None:
    number = _number(raw)
    try:
        return None if number is None else datetime.fromtimestamp(number, UTC)
    except (OverflowError, OSError, ValueError):
        return None
