"""Bulk work at full pace: 10,000 failed jobs retried, and deleted into the trash, by the real runner. In `make bench`.

Run alone as `python -m tests.bench.bulk [library ...]`. What each costs others is told in two ways: the longest command
or script as the server's slow log has it, and the longest wait of a PING that another process sends all the while. Of
that wait the machine has its share, and of the longest command too: beside each stands what PING waited in the same
seconds at another Redis that has nothing to do, and above all what it waits when nothing but a busy process is there.
Where the library's own way to do the same is installed, it does the same to the same jobs.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

import redis
from msgspec.structs import replace
from rq import Queue
from rq.job import Job
from rq.registry import FailedJobRegistry

from dashboard.actions.audit_log import Actor, AuditLog
from dashboard.actions.bulk.operation import ENDED, BulkPhase, BulkRequest, JobListRef
from dashboard.actions.bulk.runner import BulkRunner
from dashboard.actions.bulk.store import BulkStore
from dashboard.actions.service import ActionService
from dashboard.actions.trash import Trash
from dashboard.backends import registry
from dashboard.backends.actions import Action
from dashboard.backends.base import Backend
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import JobQuery, State
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from dashboard.store.redis_store import Store
from tests.bench.ping import pinged
from tests.search import search

JOBS = 10_000
# Of a line of so many waiting jobs so many are deleted, from its beginning to its end.
LINE, PICKED = 20_000, 1_000
SECONDS = 3.0
RUNS = 3
QUEUE = "mail"
WORKLOADS = Path(__file__).parent.parent / "workloads"
TRACE = "Traceback (most recent call last):\n" + "".join(
    f'  File "/srv/app/shop/mail/step_{n}.py", line {n * 17}, in deliver\n    return self.next.deliver(message)\n'
    for n in range(1, 7)
)


class Row(NamedTuple):
    """What one run over JOBS jobs came to."""

    per_s: float
    slowest_ms: float
    slowest: str
    ping: dict[str, float]
    idle: dict[str, float]  # the same at a Redis that has nothing to do


def fill_bullmq(client: redis.Redis, jobs: int = JOBS) -> None:
    """Failed jobs as BullMQ 6 leaves them."""
    base, now = f"bull:{QUEUE}:", int(time.time() * 1000)
    client.hset(base + "meta", mapping={"opts.maxLenEvents": 10000, "version": "bullmq:6.7.0"})
    client.set(base + "id", jobs)

    def one(pipe: Any, n: int) -> None:
        fields = {
            "name": "send",
            "data": json.dumps({"to": f"user{n}@example.com", "template": "welcome", "n": n}),
            "opts": '{"attempts":1,"removeOnFail":false}',
            "timestamp": now - 60_000,
            "delay": 0,
            "priority": 0,
            "processedOn": now - 50_000,
            "finishedOn": now - 49_000 + n,
            "failedReason": f"550 no such user: user{n}@example.com",
            "stacktrace": json.dumps([TRACE]),
            "ats": 1,
            "atm": 1,
        }
        pipe.hset(f"{base}{n}", mapping=fields)
        pipe.zadd(base + "failed", {str(n): now - 49_000 + n})

    _each(client, one, jobs)


def fill_sidekiq(client: redis.Redis, jobs: int = JOBS) -> None:
    """Dead jobs as Sidekiq 6 and later leave them."""
    now = time.time()
    client.sadd("queues", QUEUE)
    client.set("stat:processed", jobs)

    def one(pipe: Any, n: int) -> None:
        job = {
            "retry": True,
            "queue": QUEUE,
            "class": "Mail",
            "args": [{"to": f"user{n}@example.com", "template": "welcome"}],
            "jid": f"{n:024x}",
            "created_at": now - 60,
            "enqueued_at": now - 50,
            "error_message": f"550 no such user: user{n}@example.com",
            "error_class": "Net::SMTPFatalError",
            "failed_at": now - 49,
            "retry_count": 25,
        }
        pipe.zadd("dead", {json.dumps(job, separators=(",", ":")): now - 49 + n / 1000})

    _each(client, one, jobs)


def fill_rq(client: redis.Redis, jobs: int = JOBS) -> None:
    """Failed jobs: one that RQ itself made and failed, in as many copies."""
    queue = Queue(QUEUE, connection=client)
    job = queue.enqueue("shop.mail.send", {"to": "user@example.com", "template": "welcome"})
    client.delete(queue.key)
    FailedJobRegistry(queue=queue).add(job, ttl=31_536_000, exc_string=TRACE)
    job.set_status("failed")
    client.hset(job.key, "ended_at", "2026-01-01T00:00:00.000000Z")
    whole, until = client.dump(job.key), int(time.time()) + 31_536_000
    client.delete(job.key, f"rq:failed:{QUEUE}")

    def one(pipe: Any, n: int) -> None:
        name = str(uuid.uuid4())
        pipe.restore(f"rq:job:{name}", 0, whole)
        pipe.zadd(f"rq:failed:{QUEUE}", {name: until})

    _each(client, one, jobs)


def fill_celery(client: redis.Redis, jobs: int = JOBS) -> None:
    """Records of failures as Celery writes them with `result_extended`, and the index that a sampler keeps of them."""
    client.sadd(f"_kombu.binding.{QUEUE}", f"{QUEUE}\x06\x16\x06\x16{QUEUE}")
    now = time.time()

    def one(pipe: Any, n: int) -> None:
        name, done = str(uuid.uuid4()), datetime.fromtimestamp(now - 60 + n / 1000, UTC)
        record = {
            "status": "FAILURE",
            "result": {"exc_type": "SMTPError", "exc_message": [f"550 no such user{n}"], "exc_module": "smtplib"},
            "traceback": TRACE,
            "children": [],
            "date_done": done.isoformat(),
            "name": "shop.mail.send",
            "args": [{"to": f"user{n}@example.com", "template": "welcome"}],
            "kwargs": {},
            "worker": "one@shop",
            "retries": 0,
            "queue": QUEUE,
            "task_id": name,
        }
        pipe.set(f"celery-task-meta-{name}", json.dumps(record), ex=86_400)
        pipe.zadd("{queuedeck}:celery:main:dead", {name: done.timestamp()})

    _each(client, one, jobs)
    client.set("{queuedeck}:celery:main:filled", 1)


def wait_bullmq(client: redis.Redis, jobs: int) -> None:
    """The failed jobs, waiting."""
    fill_bullmq(client, jobs)
    for start in range(1, jobs + 1, 1000):
        client.lpush(f"bull:{QUEUE}:wait", *range(start, min(start + 1000, jobs + 1)))
    client.delete(f"bull:{QUEUE}:failed")


def wait_sidekiq(client: redis.Redis, jobs: int) -> None:
    """The dead jobs, enqueued."""
    fill_sidekiq(client, jobs)
    for start in range(0, jobs, 1000):
        client.lpush(f"queue:{QUEUE}", *client.zrange("dead", start, start + 999))
    client.delete("dead")


def wait_rq(client: redis.Redis, jobs: int) -> None:
    """The failed jobs, queued."""
    fill_rq(client, jobs)
    failed = client.zrange(f"rq:failed:{QUEUE}", 0, -1)
    pipe = client.pipeline(transaction=False)
    for name in failed:
        pipe.hset(b"rq:job:" + name, mapping={"status": "queued", "enqueued_at": "2026-01-01T00:00:00.000000Z"})
        pipe.rpush(f"rq:queue:{QUEUE}", name)
    pipe.sadd("rq:queues", f"rq:queue:{QUEUE}")
    pipe.delete(f"rq:failed:{QUEUE}")
    pipe.execute()


def wait_celery(client: redis.Redis, jobs: int) -> None:
    """Messages as kombu writes them."""
    client.sadd(f"_kombu.binding.{QUEUE}", f"{QUEUE}\x06\x16\x06\x16{QUEUE}")
    call = [[{"to": "user@example.com", "template": "welcome"}], {}, {"callbacks": None, "errbacks": None}]
    body = base64.b64encode(json.dumps(call).encode()).decode()

    def one(pipe: Any, n: int) -> None:
        headers = {"task": "shop.mail.send", "id": str(uuid.uuid4()), "eta": None, "retries": 0, "origin": "gen1@shop"}
        told = {"delivery_mode": 2, "delivery_tag": str(uuid.uuid4()), "priority": 0, "body_encoding": "base64"}
        whole = {"body": body, "content-type": "application/json", "headers": headers, "properties": told}
        pipe.lpush(QUEUE, json.dumps(whole))

    _each(client, one, jobs)


def _each(client: redis.Redis, one: Callable[[Any, int], None], jobs: int) -> None:
    pipe = client.pipeline(transaction=False)
    for n in range(1, jobs + 1):
        one(pipe, n)
        if n % 1000 == 0:
            pipe.execute()
    pipe.execute()


def rq_dashboard(url: str, client: redis.Redis, action: Action) -> float:
    """What rq-dashboard does for "requeue all" and "delete all": each job by RQ's own calls."""
    found = FailedJobRegistry(QUEUE, connection=client)
    started = time.perf_counter()
    for name in found.get_job_ids():
        if action is Action.RETRY:
            found.requeue(name)
        else:
            Job.fetch(name, connection=client).delete()
    return time.perf_counter() - started


def bull_board(url: str, client: redis.Redis, action: Action) -> float | None:
    """What Bull Board does: pages of 100 jobs, `job.retry()` of each; and `queue.clean()`."""
    return _bullmq(url, "board" if action is Action.RETRY else "clean")


def retry_jobs(url: str, client: redis.Redis, action: Action) -> float | None:
    """BullMQ's own bulk retry, which asks nothing of any job."""
    return _bullmq(url, "retryJobs")


def _bullmq(url: str, verb: str) -> float | None:
    if not (WORKLOADS / "bullmq" / "node_modules").is_dir():
        return None
    return _seconds("node", WORKLOADS / "bullmq" / "all.mjs", "bullmq", url, QUEUE, verb)


def sidekiq_web(url: str, client: redis.Redis, action: Action) -> float | None:
    """What Sidekiq Web does: `retry_all` and `clear` of the dead set."""
    return _seconds("ruby", WORKLOADS / "sidekiq" / "all.rb", url, action.value)


def _seconds(binary: str, script: Path, *arguments: str) -> float | None:
    """What the script says it took; None where it cannot run."""
    program = shutil.which(binary)
    if program is None:
        return None
    done = subprocess.run([program, str(script), *arguments], capture_output=True, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else None


Own = Callable[[str, redis.Redis, Action], float | None]
# Of each library: how its jobs are made, and what else does the same.
LIBRARIES: dict[str, tuple[Callable[[redis.Redis, int], None], dict[Action, dict[str, Own]]]] = {
    "bullmq": (
        fill_bullmq,
        {
            Action.RETRY: {"Bull Board: job.retry()": bull_board, "queue.retryJobs()": retry_jobs},
            Action.DELETE: {"Bull Board: clean, no trash": bull_board},
        },
    ),
    "sidekiq": (
        fill_sidekiq,
        {Action.RETRY: {"Web: retry_all": sidekiq_web}, Action.DELETE: {"Web: clear, no trash": sidekiq_web}},
    ),
    "rq": (
        fill_rq,
        {
            Action.RETRY: {"rq-dashboard: requeue()": rq_dashboard},
            Action.DELETE: {"rq-dashboard: delete()": rq_dashboard},
        },
    ),
    "celery": (fill_celery, {}),
}


class Parts:
    """What one process needs to do bulk work on the dead jobs of one library; a context manager."""

    def __init__(self, url: str, name: str) -> None:
        self._source = Source("main", url)
        self.backend: Backend = registry.load_backend(name)(self._source, SourceSettings(name="main", url=url))
        self.backend.own_source = self._source
        store = Store(self._source)
        self.actions = ActionService(lambda _s, _n: self.backend, Trash(store, 1 << 30), AuditLog(self._source))
        self.bulk_store = BulkStore(store)
        self._runners: dict[str, BulkRunner] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.backend.close()
        self._source.close()

    def request(self, action: Action, pace_per_s: float = 0) -> BulkRequest:
        """Work on all that is dead."""
        refs = {ref.name: ref for ref in search(self.backend)}
        place = JobListRef(ref=refs.get("*") or refs[QUEUE], state=State.DEAD)
        actor = Actor(name="bench", role="operator", address="127.0.0.1")
        return BulkRequest(action=action, actor=actor, job_lists=(place,), pace_per_s=pace_per_s)

    def runner(self, holder: str) -> BulkRunner:
        """The runner of that name."""
        if holder not in self._runners:
            self._runners[holder] = BulkRunner(
                self.bulk_store,
                self.actions,
                lambda _s, _n: self.backend,
                lambda _f, _m: (),
                lambda _s, _n: (),
                holder,
                100_000,
            )
        return self._runners[holder]


WAITING = {"bullmq": wait_bullmq, "sidekiq": wait_sidekiq, "rq": wait_rq, "celery": wait_celery}


def scattered(client: redis.Redis, url: str, name: str) -> float:
    """Seconds until each LINE / PICKED-th job of a long line of waiting ones is deleted."""
    with Parts(url, name) as parts:
        ref = next(ref for ref in search(parts.backend) if ref.name == QUEUE)
        pages = range(1, LINE // 1000 + 1)
        queries = [JobQuery(state=State.WAITING, page=page, per_page=1000) for page in pages]
        job_refs = [job_ref for query in queries for job_ref in parts.backend.list_job_refs(ref, query)][
            :: LINE // PICKED
        ]
        request = replace(
            parts.request(Action.DELETE),
            job_lists=(JobListRef(ref=ref, state=State.WAITING),),
            job_refs=tuple(job_refs),
        )
        return _run(parts, request, PICKED)


def bulk(client: redis.Redis, url: str, name: str, action: Action) -> float:
    """Seconds from the asking until the work is done: listing its jobs, acting on them and recording it."""
    with Parts(url, name) as parts:
        return _run(parts, parts.request(action), JOBS)


def _run(parts: Parts, request: BulkRequest, jobs: int) -> float:
    runner = parts.runner("bench")
    started = time.perf_counter()
    bulk_id = parts.bulk_store.create(request)
    while parts.bulk_store.get(bulk_id).phase not in ENDED:
        runner.run_turn()
    seconds = time.perf_counter() - started
    operation = parts.bulk_store.get(bulk_id)
    assert (operation.phase, operation.outcomes) == (BulkPhase.DONE, {"done": jobs}), (
        operation.phase,
        operation.outcomes,
        operation.note,
    )
    return seconds


Fill = Callable[[redis.Redis, int], None]
Work = Callable[[redis.Redis, str], float | None]


def measured(fill: Fill, work: Work, filled: int, jobs: int) -> Row | None:
    """One run of work on `jobs` of `filled` jobs, on a Redis of its own; None where `work` cannot be done here."""
    logged = ("--slowlog-log-slower-than", "300", "--slowlog-max-len", "5000")
    with EmbeddedRedis(options=logged) as server, EmbeddedRedis() as other:
        client = redis.Redis.from_url(server.url)
        fill(client, filled)
        client.slowlog_reset()
        with pinged(server.port) as ping, pinged(other.port) as idle:
            seconds = work(client, server.url)
        log = client.slowlog_get(5000)
        client.close()
    if seconds is None:
        return None
    slowest = max(log, key=lambda entry: entry["duration"], default={"duration": 0, "command": b"-"})
    return Row(jobs / seconds, slowest["duration"] / 1000, slowest["command"].split(b" ")[0].decode(), ping, idle)


def best(fill: Fill, work: Work, filled: int = JOBS, jobs: int = JOBS) -> Row | None:
    """Of RUNS runs the median in speed."""
    rows = [row for row in (measured(fill, work, filled, jobs) for _ in range(RUNS)) if row is not None]
    return sorted(rows, key=lambda row: row.per_s)[len(rows) // 2] if rows else None


def floor() -> dict[str, float]:
    """What PING waits at a Redis that nobody else asks anything, while this process keeps a processor busy."""
    with EmbeddedRedis() as server, pinged(server.port) as ping:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            pass
    return ping


def _line(library: str, what: str, by: str, row: Row | None) -> str:
    head = f"{library:>8} {what:<7} {by:<26}"
    if row is None:
        return f"{head} not installed here"
    ping = row.ping
    return (
        f"{head} {row.per_s:>8.0f} {row.slowest_ms:>7.2f} ms {row.slowest[:10]:<10}"
        f"{ping['p99_ms']:>7.2f} ms {ping['max_ms']:>7.2f} ms {ping['over_5ms']:>4.0f}"
        f"{row.idle['max_ms']:>8.2f} ms {row.idle['over_5ms']:>4.0f}"
    )


def main(names: Sequence[str] = ()) -> None:
    """Print the table."""
    noise = floor()
    print(
        f"\nPING with a busy process beside an idle Redis: p99 {noise['p99_ms']:.2f} ms, "
        f"longest {noise['max_ms']:.2f} ms, {noise['over_5ms']:.0f} of {noise['count']:.0f} over 5 ms"
    )
    heads = f"{'jobs/s':>8} {'longest':>10} {'command':<10}{'PING p99':>10} {'longest':>10} {'> 5':>4}"
    print(f"{'':>8} {'':<7} {f'{JOBS:,} jobs in one bulk':<26} {heads}{'idle Redis':>11} {'> 5':>4}")
    for name in names or LIBRARIES:
        fill, others = LIBRARIES[name]
        for action in (Action.RETRY, Action.DELETE):
            row = best(fill, lambda client, url, n=name, a=action: bulk(client, url, n, a))
            print(_line(name, action.value, "Queuedeck", row), flush=True)
            for by, own in others.get(action, {}).items():
                row = best(fill, lambda client, url, o=own, a=action: o(url, client, a))
                print(_line(name, action.value, by, row), flush=True)
    print(f"\n{'':>8} {'':<7} {f'{PICKED:,} all over {LINE:,} waiting':<26} {heads}{'idle Redis':>11} {'> 5':>4}")
    for name in names or WAITING:
        row = best(WAITING[name], lambda client, url, n=name: scattered(client, url, n), LINE, PICKED)
        print(_line(name, "delete", "Queuedeck", row), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
