"""With another `store_prefix` no action of any library writes an own key under the default prefix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

import dashboard
from dashboard.backends import registry
from dashboard.backends.actions import Action, ActionOptions, JobBackup, JobRef, Outcome
from dashboard.backends.base import Budget
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.doctor import acl
from dashboard.model import JobQuery, QueueRef, State
from dashboard.settings import DEFAULT_STORE_PREFIX, SourceSettings
from dashboard.sources.source import Source
from tests.bench import bulk

PREFIX = "{team}"
JOBS = 4
FILL: dict[str, Callable[[redis.Redis, int], None]] = {
    "bullmq": bulk.wait_bullmq,
    "celery": bulk.wait_celery,
    "rq": bulk.wait_rq,
    "sidekiq": bulk.wait_sidekiq,
}
# Own keys that must exist after a delete and its undo, where a library forgets finished jobs.
KEPT = {"bullmq": {b"back"}, "celery": set(), "rq": {b"back"}, "sidekiq": set()}


@pytest.mark.parametrize("library", FILL)
def test_actions_write_own_keys_only_under_the_prefix(
    library: str, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    FILL[library](redis_client, JOBS)
    source = Source("main", server.url, PREFIX)
    (kind,) = registry.load_backends((library,))
    backend: Any = kind(source, SourceSettings(name="main", url=server.url))
    backend.own = source
    try:
        ref = find_queue(backend)
        job_refs = [
            JobRef(id=job.id, version=job.version) for job in backend.list_jobs(ref, JobQuery(state=State.WAITING)).jobs
        ]
        assert len(job_refs) == JOBS
        backups = [one for one in backend.backup_jobs(ref, State.WAITING, job_refs) if isinstance(one, JobBackup)]
        assert {one.outcome for one in backend.delete_jobs(ref, State.WAITING, backups)} == {Outcome.DONE}
        assert own_keys(redis_client, DEFAULT_STORE_PREFIX) == set()
        written = own_keys(redis_client, PREFIX)
        assert bool(written) == (library not in ("bullmq",)), written
        assert {one.outcome for one in backend.restore_jobs(ref, State.WAITING, backups)} == {Outcome.DONE}
        assert KEPT[library] <= own_keys(redis_client, PREFIX)
        # This dashboard knows which jobs it restored: a second undo restores none of them again.
        again = backend.restore_jobs(ref, State.WAITING, backups)
        assert Outcome.DONE not in {one.outcome for one in again}
        for action in backend.offered_actions(State.WAITING):
            backend.act_on_jobs(ref, action, State.WAITING, job_refs[:1], ActionOptions())
        backend.act_on_queue(ref, Action.PAUSE)
        backend.act_on_queue(ref, Action.OBLITERATE)
        assert own_keys(redis_client, DEFAULT_STORE_PREFIX) == set()
        assert f"~{PREFIX}:*" in acl.acting_line(backend, [ref]).split()
    finally:
        backend.close()
        source.close()


def own_keys(client: redis.Redis, prefix: str) -> set[bytes]:
    """The own keys under `prefix`, without it."""
    return {key.removeprefix(f"{prefix}:".encode()) for key in client.scan_iter(f"{prefix}:*", count=1000)}


def find_queue(backend: Any) -> QueueRef:
    """The only queue."""

    cursor, found = None, {}
    while True:
        step = backend.discover_queues(cursor, Budget(100, 5.0))
        found |= {ref.key: ref for ref in step.found if ref.name == bulk.QUEUE}
        if step.complete:
            (ref,) = found.values()
            return ref
        cursor = step.cursor


def test_no_script_but_one_names_an_own_key() -> None:
    """Keys in scripts are not renamed: scripts get them as KEYS or ARGV, those of RQ through `calls.text_of`."""
    root = Path(dashboard.__file__).parent
    named = {path.relative_to(root).as_posix() for path in root.rglob("*.lua") if "{queuedeck}" in path.read_text()}
    assert named == {"backends/rq/lua/writing.lua"}
