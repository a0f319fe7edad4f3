"""A delete whose reply is lost can be undone in all libraries: the audit log names its batch."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from dashboard.actions.audit_log import Actor, AuditLog
from dashboard.actions.service import ActionService
from dashboard.actions.trash import DeletedBatch, Trash
from dashboard.backends import registry
from dashboard.backends.actions import Action, JobBackup, Outcome
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import OutcomeUnknown
from dashboard.model import JobQuery, QueueRef, State
from dashboard.settings import SourceSettings
from dashboard.sources.connection import Connections
from dashboard.sources.source import Source
from dashboard.store.redis_store import Store
from tests.actions.test_own_prefix import FILL, JOBS, find_queue


@pytest.mark.parametrize("library", FILL)
def test_the_audit_log_names_the_batch_of_a_delete_without_a_reply(
    library: str, server: EmbeddedRedis, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    FILL[library](redis_client, JOBS)
    own, source = Source("main", server.url), Source("main", server.url)
    (kind,) = registry.load_backends((library,))
    backend: Any = kind(source, SourceSettings(name="main", url=server.url))
    backend.own = own
    actions = ActionService(lambda *_: backend, Trash(Store(own), 2**20), AuditLog(own))
    actor = Actor(name="anna", role="admin")
    delete, read = backend.delete_jobs, Connections._read_replies
    try:
        ref = find_queue(backend)
        before = redis_client.dbsize()
        job_refs = backend.list_job_refs(ref, JobQuery(state=State.WAITING))
        assert len(job_refs) == JOBS

        def delete_without_reply(*arguments: Any) -> Any:
            """The commands arrive and no reply is received."""

            def drop_replies(self: Connections, connection: Any, replies: list[Any]) -> None:
                read(self, connection, replies)
                raise ConnectionResetError("connection reset by peer")

            with monkeypatch.context() as patched:
                patched.setattr(Connections, "_read_replies", drop_replies)
                return delete(*arguments)

        monkeypatch.setattr(backend, "delete_jobs", delete_without_reply)
        with pytest.raises(OutcomeUnknown) as raised:
            actions.on_jobs(actor, ref, State.WAITING, Action.DELETE, job_refs)
        monkeypatch.setattr(backend, "delete_jobs", delete)
        assert backend.read_stats([ref])[0].depth == 0
        (event, *_) = actions.audit_log.list_page(count=5).events
        assert (event.batch, event.outcomes) == (raised.value.undo_batch, {"unknown": JOBS})
        ((undo_batch, about, left, _),) = actions.trash.list_batches(5)
        assert (undo_batch, about.who, about.ref.name, left) == (event.batch, "anna", ref.name, JOBS)
        assert actions.restore_batch(actor, undo_batch).count(Outcome.DONE) == JOBS
        assert backend.read_stats([ref])[0].depth == JOBS
        assert redis_client.dbsize() >= before
    finally:
        backend.close()
        source.close()
        own.close()


def test_deletes_of_the_same_second_are_listed_newest_first(
    source: Source, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.actions.trash.now_s", lambda: 1_000_000.5)
    kept = Trash(Store(source), 2**20)
    ref = QueueRef(source="main", backend="rq", name="mail", key="rq:queue:mail")
    for number, undo_batch in enumerate(("b", "c", "a")):
        about = DeletedBatch(ref=ref, state=State.DEAD, who="anna", at=1_000_000 + number / 10)
        assert kept.store_batch(undo_batch, about, [JobBackup(id="1", version=None, blob=b"x", size_bytes=1)])
    assert [undo_batch for undo_batch, *_ in kept.list_batches(5)] == ["a", "c", "b"]
