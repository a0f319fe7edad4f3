"""Guards of Sidekiq's backend that no other test covers."""

from __future__ import annotations

import pytest
import redis

from dashboard.backends.actions import JobBackup, Outcome
from dashboard.backends.sidekiq.backend import Sidekiq
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import JobQuery, QueueRef, State
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.contract.sidekiq_worker import failed_payload, payload
from tests.contract.test_bullmq import READER


def test_a_page_without_scripts_reads_only_its_rows(server: EmbeddedRedis, redis_client: redis.Redis) -> None:
    redis_client.sadd("queues", "work")
    redis_client.lpush("queue:work", *(payload(f"job {n}", args=["x" * 1_000]) for n in range(2_000)))
    redis_client.execute_command("ACL", "SETUSER", "reader", *READER.split())
    url = f"redis://reader:secret@127.0.0.1:{server.port}/0"
    source = Source("main", url)
    reader = Sidekiq(source, SourceSettings(name="main", url=url))
    ref = QueueRef(source="main", backend="sidekiq", name="work", key="queue:work")
    sent = redis_client.info("stats")["total_net_output_bytes"]
    page = reader.list_jobs(ref, JobQuery(state=State.WAITING, page=2, per_page=10))
    assert (len(page.jobs), page.total) == (10, 2_000)
    assert redis_client.info("stats")["total_net_output_bytes"] - sent < 100_000
    source.close()
    redis_client.execute_command("ACL", "DELUSER", "reader")


@pytest.mark.parametrize(
    ("state", "name"), [(State.SCHEDULED, "schedule"), (State.RETRYING, "retry"), (State.DEAD, "dead")]
)
def test_a_restored_job_that_left_its_set_is_not_restored_again(
    server: EmbeddedRedis, redis_client: redis.Redis, state: State, name: str
) -> None:
    source = Source("main", server.url)
    backend = Sidekiq(source, SourceSettings(name="main", url=server.url))
    ref = QueueRef(source="main", backend="sidekiq", name="*", key="*", shared=True)
    redis_client.zadd(name, {failed_payload(): 4e9})
    backups = [
        one
        for one in backend.backup_jobs(ref, state, backend.list_job_refs(ref, JobQuery(state=state)))
        if isinstance(one, JobBackup)
    ]
    assert [one.outcome for one in backend.delete_jobs(ref, state, backups)] == [Outcome.DONE]
    assert [one.outcome for one in backend.restore_jobs(ref, state, backups)] == [Outcome.DONE]
    redis_client.delete(name)
    (again,) = backend.restore_jobs(ref, state, backups)
    assert (again.outcome, again.again) == (Outcome.CHANGED, True)
    assert not redis_client.exists(name)
    source.close()
