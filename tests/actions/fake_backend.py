"""A minimal library on a real Redis: waiting jobs are a list, dead jobs a sorted set, bodies a hash.

Tests of bulk operations, trash and audit log can force every outcome with it; the real libraries have other tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import redis

from dashboard.backends.actions import MAX_KEPT_BYTES, Action, ActionOptions, ActionResult, JobBackup, JobRef, Outcome
from dashboard.backends.base import NO_OPTIONS, Backend, Budget, Discovery
from dashboard.errors import NotFound
from dashboard.model import (
    Capability,
    Counts,
    FlowDelta,
    Job,
    JobError,
    JobPage,
    JobQuery,
    NativeCount,
    QueueRef,
    QueueStats,
    Searched,
    State,
    Window,
)

_MOVE = """
local answers = {}
for n = 1, #ARGV, 2 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[n])
  if not score then answers[#answers + 1] = 'gone'
  elseif ARGV[n + 1] ~= '' and score ~= ARGV[n + 1] then answers[#answers + 1] = 'changed'
  else
    redis.call('ZREM', KEYS[1], ARGV[n])
    redis.call('LPUSH', KEYS[2], ARGV[n])
    answers[#answers + 1] = 'done'
  end
end
return answers
"""
_DELETE = """
local answers = {}
for n = 1, #ARGV, 2 do
  if redis.call('ZSCORE', KEYS[1], ARGV[n]) ~= ARGV[n + 1] then answers[#answers + 1] = 'changed'
  else
    redis.call('ZREM', KEYS[1], ARGV[n])
    redis.call('HDEL', KEYS[2], ARGV[n])
    answers[#answers + 1] = 'done'
  end
end
return answers
"""
_RESTORE = """
if redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[3]) == 0 then return 'changed' end
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
return 'done'
"""


class Shelf(Backend):
    """Queues `shelf:<name>:…`."""

    name = "shelf"
    title = "Shelf"
    states: ClassVar[Mapping[State, tuple[str, ...]]] = {State.WAITING: ("list",), State.DEAD: ("dead",)}
    capabilities = frozenset({Capability.SEARCH})
    job_actions: ClassVar[Mapping[State, tuple[Action, ...]]] = {State.DEAD: (Action.RETRY, Action.DELETE)}
    queue_actions = (Action.OBLITERATE,)
    action_help: ClassVar[Mapping[Action, str]] = {Action.RETRY: "Shelf puts it back into the list."}
    unsupported_reasons: ClassVar[Mapping[Action, str]] = {Action.PAUSE: "Shelf never rests."}

    def discover_queues(self, cursor: Any, budget: Budget) -> Discovery:
        del cursor, budget
        names = sorted(raw.decode() for raw in self.source.execute("SMEMBERS", "shelf:names"))
        refs = [QueueRef(source=self.source.name, backend=self.name, name=name, key=f"shelf:{name}") for name in names]
        return Discovery(tuple(refs), complete=True, cursor=None)

    def read_stats(self, refs: Sequence[QueueRef]) -> list[QueueStats]:
        replies = self.source.run_batch(
            [command for ref in refs for command in (("LLEN", f"{ref.key}:list"), ("ZCARD", f"{ref.key}:dead"))]
        )
        return [
            QueueStats(
                source=ref.source,
                backend=ref.backend,
                name=ref.name,
                key=ref.key,
                counts=Counts(waiting=replies[2 * n], dead=replies[2 * n + 1]),
                native=(
                    NativeCount(native="list", state=State.WAITING, count=replies[2 * n]),
                    NativeCount(native="dead", state=State.DEAD, count=replies[2 * n + 1]),
                ),
                depth=replies[2 * n],
            )
            for n, ref in enumerate(refs)
        ]

    def read_flow(self, refs: Sequence[QueueRef], cursor: Any) -> tuple[FlowDelta, Any]:
        del refs, cursor
        return FlowDelta(queues=()), None

    def list_jobs(self, ref: QueueRef, query: JobQuery) -> JobPage:
        rows = self.search_page(ref, query)
        return JobPage(
            jobs=tuple(row.job for row in rows.rows),
            page=query.page,
            per_page=query.per_page,
            total=rows.total,
            order="oldest first",
        )

    def search_page(self, ref: QueueRef, query: JobQuery) -> Window:
        first, last = query.offset, query.offset + query.per_page - 1
        if query.state is State.DEAD:
            flat = self.source.execute("ZRANGE", f"{ref.key}:dead", first, last, "WITHSCORES")
            found = list(zip(flat[::2], flat[1::2], strict=True))
            total = self.source.execute("ZCARD", f"{ref.key}:dead")
        else:
            found = [(raw, None) for raw in self.source.execute("LRANGE", f"{ref.key}:list", first, last)]
            total = self.source.execute("LLEN", f"{ref.key}:list")
        bodies = self.source.run_batch([("HGET", f"{ref.key}:bodies", raw) for raw, _ in found])
        rows = tuple(
            Searched(job=_job(ref, raw, score, body), text=(body or b"").decode())
            for (raw, score), body in zip(found, bodies, strict=True)
        )
        return Window(rows=rows, total=total, order="oldest first")

    def read_job(self, ref: QueueRef, job_id: str) -> Job:
        score, position, body = self.source.run_batch(
            [
                ("ZSCORE", f"{ref.key}:dead", job_id),
                ("LPOS", f"{ref.key}:list", job_id),
                ("HGET", f"{ref.key}:bodies", job_id),
            ]
        )
        if score is None and position is None:
            raise NotFound("There is no such job.")
        return _job(ref, job_id.encode(), score, body)

    def act_on_jobs(
        self,
        ref: QueueRef,
        action: Action,
        state: State,
        job_refs: Sequence[JobRef],
        options: ActionOptions = NO_OPTIONS,
    ) -> list[ActionResult]:
        if action is not Action.RETRY:
            return super().act_on_jobs(ref, action, state, job_refs, options)
        arguments = [part for job_ref in job_refs for part in (job_ref.id, job_ref.version or "")]
        return _results_of(
            job_refs, self.source.execute("EVAL", _MOVE, 2, f"{ref.key}:dead", f"{ref.key}:list", *arguments)
        )

    def backup_jobs(self, ref: QueueRef, state: State, job_refs: Sequence[JobRef]) -> list[JobBackup | ActionResult]:
        replies = self.source.run_batch(
            [
                command
                for job_ref in job_refs
                for command in (("ZSCORE", f"{ref.key}:dead", job_ref.id), ("HGET", f"{ref.key}:bodies", job_ref.id))
            ]
        )
        results: list[JobBackup | ActionResult] = []
        for n, job_ref in enumerate(job_refs):
            score, body = replies[2 * n], replies[2 * n + 1]
            if score is None:
                results.append(ActionResult(id=job_ref.id, outcome=Outcome.GONE))
            elif job_ref.version is not None and job_ref.version != score.decode():
                results.append(ActionResult(id=job_ref.id, outcome=Outcome.CHANGED))
            else:
                blob = body if len(body) <= MAX_KEPT_BYTES else None
                results.append(JobBackup(id=job_ref.id, version=score.decode(), blob=blob, size_bytes=len(body)))
        return results

    def delete_jobs(self, ref: QueueRef, state: State, backups: Sequence[JobBackup]) -> list[ActionResult]:
        arguments = [part for job in backups for part in (job.id, job.version or "")]
        return _results_of(
            backups, self.source.execute("EVAL", _DELETE, 2, f"{ref.key}:dead", f"{ref.key}:bodies", *arguments)
        )

    def restore_jobs(self, ref: QueueRef, state: State, backups: Sequence[JobBackup]) -> list[ActionResult]:
        replies = [
            self.source.execute(
                "EVAL", _RESTORE, 2, f"{ref.key}:dead", f"{ref.key}:bodies", job.id, job.version, job.blob
            )
            for job in backups
        ]
        return _results_of(backups, replies)

    def act_on_queue(self, ref: QueueRef, action: Action) -> ActionResult:
        left = self.source.execute(
            "EVAL", "redis.call('ZPOPMIN', KEYS[1], 10) return redis.call('ZCARD', KEYS[1])", 1, f"{ref.key}:dead"
        )
        return ActionResult(id=ref.name, outcome=Outcome.DONE, more=left > 0)


def _results_of(items: Sequence[Any], replies: Sequence[bytes]) -> list[ActionResult]:
    return [
        ActionResult(id=item.id, outcome=Outcome(reply.decode())) for item, reply in zip(items, replies, strict=True)
    ]


def _job(ref: QueueRef, raw: bytes, score: bytes | None, body: bytes | None) -> Job:
    return Job(
        id=raw.decode(),
        source=ref.source,
        backend=ref.backend,
        queue=ref.name,
        version=score.decode() if score else None,
        state=State.DEAD if score else State.WAITING,
        name="work",
        error=JobError(class_name="Broken", message=(body or b"").decode()[:200]) if score else None,
    )


def bury(client: redis.Redis, queue: str, count: int, *, body: str = "body", start: int = 0) -> list[str]:
    """`count` dead jobs in a queue; their ids, oldest first."""
    ids = [f"job-{n}" for n in range(start, start + count)]
    client.sadd("shelf:names", queue)
    if ids:
        client.zadd(f"shelf:{queue}:dead", {job_id: n + 1 for n, job_id in enumerate(ids)})
        client.hset(f"shelf:{queue}:bodies", mapping={job_id: f"{body} of {job_id}" for job_id in ids})
    return ids
