"""The audit log lists a cause before its effect, whichever process is slower."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis
from msgspec.structs import replace

from dashboard.actions import audit_log
from dashboard.actions.audit_chain import AUDIT, HEAD, RECORD, AuditChain
from dashboard.actions.audit_log import Actor, AuditEvent, encode_event
from dashboard.actions.bulk import runner as running
from dashboard.actions.bulk.operation import BulkOperation, BulkPhase
from dashboard.actions.bulk.store import BulkStore
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import Conflict
from dashboard.sources.source import Source
from dashboard.store.redis_store import Store
from tests.actions.conftest import ACTOR, Bench, before_exchange
from tests.actions.fake_backend import bury
from tests.conftest import SERVERS, start_server
from tests.waiting import wait_until

JOBS = 60


@pytest.fixture
def other(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[BulkStore]:
    """The bulk store of another process on the same Redis."""
    source = Source("main", server.url)
    yield BulkStore(Store(source))
    source.close()


def make_event(command: str) -> Callable[[BulkOperation], AuditEvent]:
    """The audit event of that command."""
    return lambda operation: audit_log.build_event(ACTOR, f"{command} bulk operation", bulk_id=operation.id)


@pytest.mark.parametrize("command", ["abort", "pause"])
def test_abort_and_pause_are_recorded_before_the_end_at_every_step_of_the_runner(
    bench: Bench, source: Source, other: BulkStore, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "LOOK_EVERY_S", 0.0)
    outcomes: set[tuple[str, ...]] = set()
    number, reached = -1, [0]
    while reached:
        number += 1
        bench.client.flushall()
        bury(bench.client, "mail", JOBS)
        bulk_id = bench.bulk_store.create(bench.request())
        runner = bench.make_runner(f"runner {number}")
        refused: list[bool] = []

        def change_phase(bulk_id: str = bulk_id, refused: list[bool] = refused) -> None:
            try:
                other.change_phase(bulk_id, command, make_event(command))
            except Conflict:
                refused.append(True)

        with monkeypatch.context() as patch:
            reached = before_exchange(source, number, change_phase, patch)
            while other.get(bulk_id).phase not in (BulkPhase.DONE, BulkPhase.ABORTED, BulkPhase.PAUSED):
                runner.run_turn()
            runner.run_turn()
        if command == "pause" and other.get(bulk_id).phase is BulkPhase.PAUSED:
            other.change_phase(bulk_id, "resume", make_event("resume"))
            wait_until(lambda: runner.run_turn() < 0 or other.get(bulk_id).phase is BulkPhase.DONE, what="the end")  # noqa: B023
        recorded = tuple(event.action for event in reversed(bench.actions.audit_log.list_page().events))
        outcomes.add(recorded)
        if refused or not reached:
            assert recorded == ("retry",), number
        elif command == "pause":
            assert recorded == ("pause bulk operation", "resume bulk operation", "retry"), number
        else:  # an operation without a runner has no end to record
            assert recorded == (("abort bulk operation", "retry") if number > 1 else ("abort bulk operation",)), number
        assert len(bench.waiting()) == sum(
            (event.outcomes or {}).get("done", 0) for event in bench.actions.audit_log.list_page().events
        )
    assert number > 5
    assert ("retry",) in outcomes


def test_phase_changes_without_effect_are_not_recorded(bench: Bench) -> None:
    bury(bench.client, "mail", JOBS)
    bulk_id = bench.bulk_store.create(bench.request(pace_per_s=4))
    bench.bulk_store.change_phase(bulk_id, "pause", make_event("pause"))
    bench.bulk_store.change_phase(bulk_id, "pause", make_event("pause"))
    bench.bulk_store.change_phase(bulk_id, "resume", make_event("resume"))
    bench.bulk_store.change_phase(bulk_id, "resume", make_event("resume"))
    bench.bulk_store.change_phase(bulk_id, "abort", make_event("abort"))
    for command in ("pause", "resume"):
        with pytest.raises(Conflict):
            bench.bulk_store.change_phase(bulk_id, command, make_event(command))
    actions = [event.action for event in reversed(bench.actions.audit_log.list_page().events)]
    assert actions == ["pause bulk operation", "resume bulk operation", "abort bulk operation"]


def test_pausing_an_operation_that_was_aborted_since_it_was_read_is_refused(
    bench: Bench, other: BulkStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operation is aborted between the read for the pause and the pause itself."""
    bulk_id = bench.bulk_store.create(bench.request())
    get = bench.bulk_store.get

    def get_then_abort(bulk_id: str) -> BulkOperation:
        found = get(bulk_id)
        other.change_phase(bulk_id, "abort")
        return found

    monkeypatch.setattr(bench.bulk_store, "get", get_then_abort)
    with pytest.raises(Conflict):
        bench.bulk_store.change_phase(bulk_id, "pause", make_event("pause"))
    assert bench.actions.audit_log.list_page().events == ()


@pytest.mark.parametrize("name", SERVERS)
def test_an_abort_takes_effect_and_is_recorded_when_redis_is_out_of_memory(name: str) -> None:
    with start_server(name) as server, redis.Redis.from_url(server.url) as client:
        source = Source("main", server.url)
        bulk, record = BulkStore(Store(source)), audit_log.AuditLog(source)
        request = Bench(client, None, None, bulk, None).request()  # type: ignore[arg-type]
        bulk_id = bulk.create(request)
        client.config_set("maxmemory", "1mb")
        assert bulk.change_phase(bulk_id, "abort", make_event("abort")) is BulkPhase.ABORTED
        assert [event.action for event in record.list_page().events] == ["abort bulk operation"]
        source.close()


def test_an_abort_takes_effect_when_the_audit_log_cannot_be_written(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.client.execute_command("ACL", "SETUSER", "default", "-xadd")
    bulk_id = bench.bulk_store.create(
        bench.request(), lambda bulk_id: audit_log.build_event(ACTOR, "start bulk operation", bulk_id=bulk_id)
    )
    assert bench.bulk_store.change_phase(bulk_id, "abort", make_event("abort")) is BulkPhase.ABORTED
    assert caplog.messages.count("an action could not be stored in the audit stream: Redis refused it") == 2


def test_an_audit_key_of_the_wrong_type_is_moved_aside(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.client.set(AUDIT, "no stream")
    bulk_id = bench.bulk_store.create(
        bench.request(), lambda bulk_id: audit_log.build_event(ACTOR, "start bulk operation", bulk_id=bulk_id)
    )
    assert bench.bulk_store.change_phase(bulk_id, "abort", make_event("abort")) is BulkPhase.ABORTED
    assert [event.action for event in bench.actions.audit_log.list_page().events] == [
        "abort bulk operation",
        "start bulk operation",
    ]
    assert caplog.messages == [f"own key {AUDIT} was a string, not a stream: moved to {{queuedeck}}:aside:audit"]


def test_events_of_the_same_millisecond_keep_their_order(bench: Bench) -> None:
    """All events have the same time, and many share a millisecond of Redis."""
    first = audit_log.build_event(Actor(name="anna", role="operator"), "retry")
    events = [AuditChain().pack_event(encode_event(replace(first, detail=str(n)))) for n in range(250)]
    script = f"{RECORD} for n = 1, #ARGV do record(KEYS[1], KEYS[2], ARGV[n]) end"
    bench.bulk_store._store.run_script(script, (AUDIT, HEAD), *events)
    entries = bench.client.xrange(AUDIT)
    assert len({entry_id.partition(b"-")[0] for entry_id, _ in entries}) < len(entries)
    seen: list[str | None] = []
    page = bench.actions.audit_log.list_page(count=100).events
    while page:
        seen += [event.detail for event in page]
        page = bench.actions.audit_log.list_page(count=100, before=page[-1].id).events
    assert seen == [str(n) for n in reversed(range(250))]
