"""Dead letters of the real libraries, grouped by error, within bounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import redis
from rq import Queue
from rq.job import Job

from dashboard.backends.base import Backend, Budget
from dashboard.backends.bullmq.backend import BullMQ
from dashboard.backends.celery.backend import Celery
from dashboard.backends.rq.backend import RQ
from dashboard.backends.sidekiq.backend import Sidekiq
from dashboard.clock import now_s
from dashboard.dead_letters import groups, index, service
from dashboard.dead_letters.annotations import GROUPS, SEEN, AnnotationStore
from dashboard.dead_letters.group_jobs import list_group_jobs
from dashboard.dead_letters.groups import GroupedDeadLetters
from dashboard.dead_letters.index import DeadLetterIndex
from dashboard.dead_letters.lists import find_lists
from dashboard.dead_letters.service import DeadLetterService
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import QueueRef, QueueStats, State
from dashboard.settings import SourceSettings
from dashboard.sources.metering import measure_cost
from dashboard.sources.source import Source
from dashboard.store.redis_store import Store
from tests.conftest import reset_server
from tests.contract.bullmq_library import BullMQLibrary
from tests.contract.celery_library import CeleryLibrary
from tests.contract.conftest import KeySpace
from tests.contract.library import Filled, Library
from tests.contract.rq_library import open_client, run_waiting_jobs
from tests.contract.sidekiq_library import SidekiqLibrary
from tests.dead_letters import failing_jobs
from tests.waiting import CEILING_S

BACKENDS = (RQ, BullMQ, Celery, Sidekiq)
DLQ_GLOBS = ("*dlq*",)
NOTHING_READ = GroupedDeadLetters(groups=(), scanned=0, total=0, read_at=0.0)
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


@pytest.fixture
def backends(source: Source, source_settings: SourceSettings) -> Iterator[dict[str, Backend]]:
    """One backend of each library on the empty Redis."""
    made: dict[str, Backend] = {backend.name: backend(source, source_settings) for backend in BACKENDS}
    for backend in made.values():
        backend.own_source = source
    yield made
    for backend in made.values():
        backend.close()


@pytest.fixture(scope="module")
def long_list(server: EmbeddedRedis) -> KeySpace:
    """A queue `long` of BullMQ with 1200 jobs that failed permanently."""
    library = BullMQLibrary()
    with redis.Redis.from_url(server.url) as client:
        reset_server(client)
        library.drive("many", server.url, "long", count=1200, dead=True)
        return KeySpace.dump(client, library, Filled())


def queues_of(backends: dict[str, Backend]) -> list[QueueStats]:
    """The figures of all queues that exist."""
    found: list[QueueStats] = []
    for backend in backends.values():
        refs: dict[str, QueueRef] = {}
        cursor = None
        while True:
            step = backend.discover_queues(cursor, Budget(commands=10_000, seconds=10))
            refs.update({ref.key: ref for ref in step.found})
            if step.complete:
                break
            cursor = step.cursor
        found += backend.read_stats(backend.disambiguate(list(refs.values())))
    return found


def build_service(source: Source, backends: dict[str, Backend], keep_s: float) -> DeadLetterService:
    """The service of a process that knows all queues that exist now."""
    queues = queues_of(backends)
    annotation_store = AnnotationStore(Store(source))
    return DeadLetterService(lambda _source, name: backends[name], DLQ_GLOBS, annotation_store, lambda: queues, keep_s)


def build_index(backends: dict[str, Backend], dlq: Sequence[str] = DLQ_GLOBS) -> DeadLetterIndex:
    return DeadLetterIndex(lambda _source, name: backends[name], dlq)


def read_groups(backends: dict[str, Backend], dlq: Sequence[str] = DLQ_GLOBS) -> GroupedDeadLetters:
    """The groups that a process knows after one read."""
    return groups.group_dead_letters(*build_index(backends, dlq).read_lists(queues_of(backends)), now_s())


def count_known(dead_letter_index: DeadLetterIndex, queues: Sequence[QueueStats]) -> int:
    """The number of dead letters that the index knows after one more read."""
    return sum(len(indexed.dead_letters) for indexed in dead_letter_index.read_lists(queues)[0])


def fail_rq(server: EmbeddedRedis, queue: str, *calls: tuple[object, ...]) -> list[str]:
    """Run jobs with the real RQ that fail permanently. Their ids, in order."""
    with open_client(server.url) as client:
        target = Queue(queue, connection=client)
        ids = [target.enqueue(*call).id for call in calls]
        run_waiting_jobs(target)
    return ids


def test_no_dead_letters_cost_nothing(backends: dict[str, Backend]) -> None:
    with measure_cost() as meter:
        grouped = groups.group_dead_letters(*build_index(backends).read_lists([]), now_s())
    assert (grouped.groups, grouped.scanned, grouped.total, grouped.truncated) == ((), 0, 0, False)
    assert meter.commands == 0


def test_jobs_with_the_same_error_are_one_group(server: EmbeddedRedis, backends: dict[str, Backend]) -> None:
    ids = fail_rq(server, "mail", *((failing_jobs.mail, f"user{n}@example.com", n) for n in range(7)))
    fail_rq(server, "cash", *((failing_jobs.charge, n) for n in range(3)))
    grouped = read_groups(backends)
    mail, cash = grouped.groups
    assert (mail.count, cash.count, grouped.scanned, grouped.total) == (7, 3, 10, 10)
    assert mail.error.error_class == "ConnectionError"
    assert mail.error.message == cash.error.message == "cannot send order <n> to <email>: timed out after <n> s"
    assert mail.newest_message == "cannot send order 6 to user6@example.com: timed out after 6.5 s"
    assert mail.title == f"ConnectionError: {mail.newest_message}"
    assert mail.error.frames == ("failing_jobs.py:mail",)
    assert cash.error.frames == ("failing_jobs.py:_charge", "failing_jobs.py:charge")
    assert [(queue.name, queue.state, queue.count) for queue in mail.queues] == [("mail", State.DEAD, 7)]
    assert {member.dead_letter.id for member in mail.members} == set(ids)
    assert mail.recent == 7
    assert mail.trend[-1] + mail.trend[-2] == 7
    assert mail.whole
    assert mail.first_at is not None
    assert mail.last_at is not None
    assert now_s() - 60 < mail.first_at <= mail.last_at <= now_s() + 1


def test_node_stack_traces_give_error_class_and_frame(server: EmbeddedRedis, backends: dict[str, Backend]) -> None:
    BullMQLibrary().run_jobs(server.url, "mails", good=1, bad=4)
    (group,) = read_groups(backends).groups
    assert (group.count, group.error.error_class, group.error.message) == (4, "TypeError", "cannot send to nobody")
    assert group.error.frames[0].startswith("drive.mjs")


@pytest.mark.parametrize("library", [SidekiqLibrary(), CeleryLibrary()], ids=repr)
def test_lists_for_all_queues_are_read_with_the_queue_of_each_job(
    server: EmbeddedRedis, redis_client: redis.Redis, backends: dict[str, Backend], library: Library
) -> None:
    library.run_jobs(server.url, "alpha", good=1, bad=3)
    backend = backends[library.backend.name]
    library.prepare(backend, redis_client)
    library.settle(backend, redis_client)
    found = [group for group in read_groups(backends).groups if group.count == 3]
    (group,) = found
    assert group.error.error_class is not None
    assert group.error.frames, "the library keeps the stack"
    assert {queue.name for queue in group.queues} == {"alpha"}
    assert all(queue.ref.shared for queue in group.queues)


def test_the_arguments_of_dead_jobs_of_each_library_are_known(
    server: EmbeddedRedis, redis_client: redis.Redis, backends: dict[str, Backend]
) -> None:
    found: dict[str, list[tuple[str, str]]] = {}
    for library in (BullMQLibrary(), SidekiqLibrary(), CeleryLibrary()):
        library.run_jobs(server.url, "alpha", good=0, bad=1)
        library.prepare(backends[library.backend.name], redis_client)
        library.settle(backends[library.backend.name], redis_client)
    fail_rq(server, "mail", (failing_jobs.mail, "a@example.com", 7))
    for group in read_groups(backends).groups:
        for member in group.members:
            arguments = [(each.name, each.text) for each in member.dead_letter.arguments]
            found[member.ref.backend] = arguments
    assert found == {
        "bullmq": [("fail", "true")],
        "celery": [("1", '"anna@example.com"'), ("fail", "true")],
        "rq": [("1", "'a@example.com'"), ("2", "7")],
        "sidekiq": [("to", '"anna@example.com"'), ("fail", "true")],
    }


@pytest.mark.parametrize("text", [HOSTILE, "x" * 100_000, "\0", "\x1b[31m", "{{ 7*7 }}", "", "a\n" * 5000, "‮turned"])
def test_hostile_messages_form_a_group(server: EmbeddedRedis, backends: dict[str, Backend], text: str) -> None:
    fail_rq(server, "odd", (failing_jobs.fail_with, text), (failing_jobs.fail_with, text))
    (group,) = read_groups(backends).groups
    assert group.count == 2
    assert len(group.error.message) <= 501
    assert all(len(member.dead_letter.message or "") <= index.KEPT_MESSAGE for member in group.members)


def test_missing_job_data_is_a_group_and_a_list_of_the_wrong_type_is_reported(
    server: EmbeddedRedis, redis_client: redis.Redis, backends: dict[str, Backend]
) -> None:
    gone, wrong, _ = fail_rq(server, "mail", *((failing_jobs.mail, "a@example.com", n) for n in range(3)))
    redis_client.delete(f"rq:job:{gone}")
    redis_client.delete(f"rq:job:{wrong}")
    redis_client.set(f"rq:job:{wrong}", "x")
    fail_rq(server, "other", (failing_jobs.charge, 1))
    queues = queues_of(backends)
    redis_client.delete("rq:failed:other")
    redis_client.set("rq:failed:other", "x")
    grouped = groups.group_dead_letters(*build_index(backends).read_lists(queues), now_s())
    assert sorted(group.count for group in grouped.groups) == [1, 1, 1]
    assert any("no longer exists" in group.error.message for group in grouped.groups)
    (unread,) = grouped.unread_lists
    assert (unread.ref.source, unread.ref.backend, unread.ref.name) == ("main", "rq", "other")
    assert "wrong type" in unread.why
    assert grouped.total == 4


def test_waiting_jobs_of_a_dead_letter_queue_are_grouped(
    server: EmbeddedRedis, redis_client: redis.Redis, backends: dict[str, Backend]
) -> None:
    for queue in ("mail-dlq", "mail"):
        for n in range(4):
            Queue(queue, connection=redis_client).enqueue("shop.send", n)
    (group,) = read_groups(backends).groups
    assert (group.count, group.is_dlq, group.error.message) == (4, True, "No error is kept with these jobs: shop.send")
    assert (group.newest_message, group.title) == (None, "(no error message)")
    assert [(queue.name, queue.state) for queue in group.queues] == [("mail-dlq", State.WAITING)]
    assert read_groups(backends, ()).groups == ()


def test_of_a_long_list_the_newest_jobs_are_read_and_the_result_says_so(
    server: EmbeddedRedis,
    redis_client: redis.Redis,
    backends: dict[str, Backend],
    long_list: KeySpace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(index, "ROWS_PER_LIST", 500)
    monkeypatch.setattr(index, "SECONDS", CEILING_S)
    long_list.restore(redis_client)
    fail_rq(server, "short", (failing_jobs.charge, 1))
    with measure_cost() as meter:
        grouped = read_groups(backends)
    assert (grouped.scanned, grouped.total, grouped.truncated) == (501, 1201, True)
    assert [group.count for group in grouped.groups] == [500, 1]
    assert not grouped.groups[0].whole
    # What is beyond the limit is never read: the figures are as final as they get, and this group's is a lower bound.
    assert not grouped.reading
    assert [grouped.is_final(group) for group in grouped.groups] == [False, True]
    assert len(grouped.groups[0].members) == 500
    assert meter.round_trips < 60
    monkeypatch.setattr(index, "SECONDS", -1.0)
    nothing_read = read_groups(backends)
    assert (nothing_read.scanned, nothing_read.total, nothing_read.truncated) == (0, 1201, True)
    assert nothing_read.reading


def test_known_jobs_are_not_read_again_and_removed_ones_are_dropped(
    server: EmbeddedRedis,
    redis_client: redis.Redis,
    backends: dict[str, Backend],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = fail_rq(server, "mail", *[(failing_jobs.fail_with_changing_word,)] * 6)
    dead_letter_index = build_index(backends)
    dead_letter_index.read_lists(queues_of(backends))
    redis_client.zrem("rq:failed:mail", ids[0], ids[3])
    queues = queues_of(backends)
    with measure_cost() as meter:
        lists, _ = dead_letter_index.read_lists(queues)
    assert meter.round_trips <= 2
    assert {each.id for indexed in lists for each in indexed.dead_letters.values()} == {ids[n] for n in (1, 2, 4, 5)}
    # A job that fails again with another error is read again.
    monkeypatch.setattr(failing_jobs, "changing_words", ["second"])
    with open_client(server.url) as client:
        Job.fetch(ids[1], connection=client).requeue()
        run_waiting_jobs(Queue("mail", connection=client))
    many, one = groups.group_dead_letters(*dead_letter_index.read_lists(queues_of(backends)), now_s()).groups
    assert (many.count, one.count, one.error.message) == (3, 1, "the second word")
    assert one.members[0].dead_letter.id == ids[1]


def test_a_read_that_ran_out_of_time_continues_with_the_next(
    server: EmbeddedRedis,
    redis_client: redis.Redis,
    backends: dict[str, Backend],
    long_list: KeySpace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long_list.restore(redis_client)
    fail_rq(server, "short", (failing_jobs.charge, 1))
    queues, dead_letter_index = queues_of(backends), build_index(backends)
    clock = iter(range(10_000))
    monkeypatch.setattr(index, "monotonic_s", lambda: next(clock))
    monkeypatch.setattr(index, "SECONDS", 6.0)
    reads = [groups.group_dead_letters(*dead_letter_index.read_lists(queues), now_s()) for _ in range(6)]
    counts = [grouped.scanned for grouped in reads]
    assert [grouped.reading for grouped in reads] == [count < 1201 for count in counts]
    assert [all(map(grouped.is_final, grouped.groups)) for grouped in reads] == [count == 1201 for count in counts]
    assert counts == sorted(counts)
    assert 0 < counts[0] < 1201
    assert counts[-1] == 1201
    monkeypatch.setattr(index, "MAX_ROWS", 600)
    other_index = build_index(backends)
    assert sum(count_known(other_index, queues) for _ in range(4)) / 4 < 1100


def test_errors_that_all_differ_are_bounded(
    server: EmbeddedRedis, backends: dict[str, Backend], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "MAX_GROUPS", 5)
    fail_rq(server, "odd", *((failing_jobs.fail_with, letter * 3) for letter in "abcdefgh"))
    grouped = read_groups(backends)
    assert (len(grouped.groups), grouped.beyond, grouped.scanned, grouped.truncated) == (5, 3, 8, True)


def test_the_current_jobs_of_a_group_have_their_version(server: EmbeddedRedis, backends: dict[str, Backend]) -> None:
    ids = fail_rq(server, "mail", *((failing_jobs.mail, "a@example.com", n) for n in range(5)))
    fail_rq(server, "cash", (failing_jobs.charge, 1))
    BullMQLibrary().run_jobs(server.url, "mails", good=0, bad=2)
    queues = queues_of(backends)
    by_class = {group.error.error_class: group for group in read_groups(backends).groups if group.count > 1}

    def found(
        error_class: str, most: int = 100, grouped: GroupedDeadLetters = NOTHING_READ
    ) -> list[tuple[str, str, State, bool]]:
        lists = find_lists(queues, lambda _s, name: backends[name], DLQ_GLOBS)
        fingerprint = by_class[error_class].error.fingerprint
        jobs = list_group_jobs(lists, lambda _s, name: backends[name], grouped, fingerprint, most, rows=10_000)
        return [
            (each.dead_list.queue.name, each.job_ref.id, each.dead_list.state, each.job_ref.version is not None)
            for each in jobs
        ]

    assert sorted(found("ConnectionError")) == sorted(("mail", job_id, State.DEAD, True) for job_id in ids)
    assert len(found("ConnectionError", most=2)) == 2
    assert [row[0] for row in found("TypeError")] == ["mails", "mails"]
    # Known jobs are not read again; jobs that died since are found as well.
    known = read_groups(backends)
    with measure_cost() as meter:
        again = found("ConnectionError", grouped=known)
    assert sorted(again) == sorted(("mail", job_id, State.DEAD, True) for job_id in ids)
    assert meter.round_trips == 3  # the ids and stamps of each list
    more = fail_rq(server, "mail", (failing_jobs.mail, "b@example.com", 9))
    assert sorted(row[1] for row in found("ConnectionError", grouped=known)) == sorted([*ids, *more])


def test_jobs_removed_by_an_action_leave_the_groups_immediately(
    server: EmbeddedRedis, backends: dict[str, Backend]
) -> None:
    ids = fail_rq(server, "mail", *((failing_jobs.mail, "a@example.com", n) for n in range(5)))
    other = fail_rq(server, "cash", *((failing_jobs.charge, n) for n in range(2)))
    grouped = read_groups(backends)
    ref = grouped.groups[0].queues[0].ref
    left = groups.without_jobs(grouped, {(ref, State.DEAD): {*ids[:4], *other}})
    assert [(group.count, group.error.frames[0]) for group in left.groups] == [
        (2, "failing_jobs.py:_charge"),
        (1, "failing_jobs.py:mail"),
    ]
    assert (left.scanned, left.total) == (3, 3)
    assert [member.dead_letter.id for member in left.groups[1].members] == [ids[4]]
    assert groups.without_jobs(grouped, {(ref, State.WAITING): set(ids)}) is grouped
    assert [group.count for group in groups.without_jobs(left, {(ref, State.DEAD): set(ids)}).groups] == [2]


def test_a_read_in_progress_does_not_bring_back_removed_jobs(
    server: EmbeddedRedis, source: Source, backends: dict[str, Backend], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = fail_rq(server, "mail", *((failing_jobs.mail, "a@example.com", n) for n in range(5)))
    dead_letter_service = build_service(source, backends, keep_s=0)
    first = dead_letter_service.current_groups()
    ref = first.grouped.groups[0].queues[0].ref
    dead_letter_service._next_read = float("inf")
    dead_letter_service.remove_jobs(ref, State.DEAD, ids[:2])
    assert dead_letter_service.current_groups().grouped.groups[0].count == 3
    read_lists = dead_letter_service._index.read_lists

    def read_while_jobs_are_removed(queues: list[QueueStats]) -> Any:
        found = read_lists(queues)
        dead_letter_service.remove_jobs(ref, State.DEAD, ids[2:4])
        return found

    monkeypatch.setattr(dead_letter_service._index, "read_lists", read_while_jobs_are_removed)
    dead_letter_service._next_read = 0.0
    # The first two are still in the list, since no action ran: only jobs removed during the read are hidden.
    assert dead_letter_service.current_groups().grouped.groups[0].count == 3
    monkeypatch.setattr(service, "MAX_REMOVED", 3)
    dead_letter_service._next_read = float("inf")
    dead_letter_service.remove_jobs(ref, State.DEAD, ids[:4])
    dead_letter_service.remove_jobs(ref, State.DEAD, ids[4:])
    monkeypatch.setattr(dead_letter_service._index, "read_lists", read_lists)
    assert dead_letter_service.current_groups().grouped.groups[0].count == 5


def test_all_viewers_share_one_read(server: EmbeddedRedis, source: Source, backends: dict[str, Backend]) -> None:
    fail_rq(server, "mail", (failing_jobs.mail, "a@example.com", 1))
    dead_letter_service = build_service(source, backends, keep_s=60)
    first = dead_letter_service.current_groups()
    assert first.annotations.problem is None
    assert first.cost.commands > 0
    with measure_cost() as meter:
        assert all(dead_letter_service.current_groups() is first for _ in range(50))
    assert meter.commands == 0
    fingerprint = first.grouped.groups[0].error.fingerprint
    assert dead_letter_service.update_annotation(fingerprint, {"owner": "anna"})
    assert dead_letter_service.current_groups().annotations.of(fingerprint).owner == "anna"
    assert dead_letter_service.current_groups().grouped is first.grouped
    dead_letter_service.invalidate()
    assert dead_letter_service.current_groups().grouped is not first.grouped


def test_a_shown_group_can_be_annotated_after_the_store_lost_it(
    redis_client: redis.Redis, server: EmbeddedRedis, source: Source, backends: dict[str, Backend]
) -> None:
    fail_rq(server, "mail", (failing_jobs.mail, "a@example.com", 1))
    dead_letter_service = build_service(source, backends, keep_s=60)
    fingerprint = dead_letter_service.current_groups().grouped.groups[0].error.fingerprint
    redis_client.delete(GROUPS, SEEN)
    assert dead_letter_service.update_annotation(fingerprint, {"owner": "anna"})
    assert dead_letter_service.annotation_store.read_annotation(fingerprint).owner == "anna"
    assert dead_letter_service.current_groups().annotations.of(fingerprint).owner == "anna"
    assert not dead_letter_service.update_annotation("0" * len(fingerprint), {"owner": "anna"})
