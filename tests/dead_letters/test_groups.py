"""Dead letters of the real libraries, grouped by what killed them, within bounds."""

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

KINDS = (RQ, BullMQ, Celery, Sidekiq)
NO_DLQ = ("*dlq*",)
NOTHING_READ = GroupedDeadLetters(groups=(), scanned=0, total=0, read_at=0.0)
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


@pytest.fixture
def backends(source: Source, source_settings: SourceSettings) -> Iterator[dict[str, Backend]]:
    """One backend of each library on the empty Redis."""
    made: dict[str, Backend] = {kind.name: kind(source, source_settings) for kind in KINDS}
    for backend in made.values():
        backend.own_source = source
    yield made
    for backend in made.values():
        backend.close()


@pytest.fixture(scope="module")
def long_list(server: EmbeddedRedis) -> KeySpace:
    """A queue `long` of BullMQ with 1200 jobs that failed for good."""
    library = BullMQLibrary()
    with redis.Redis.from_url(server.url) as client:
        reset_server(client)
        library.drive("many", server.url, "long", count=1200, dead=True)
        return KeySpace.dump(client, library, Filled())


def queues_of(backends: dict[str, Backend]) -> list[QueueStats]:
    """The figures of all queues there are."""
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


def service_of(source: Source, backends: dict[str, Backend], keep_s: float) -> DeadLetterService:
    """The service of a process that knows all queues there are now."""
    queues = queues_of(backends)
    book = AnnotationStore(Store(source))
    return DeadLetterService(lambda _source, name: backends[name], NO_DLQ, book, lambda: queues, keep_s)


def rows_of(backends: dict[str, Backend], dlq: Sequence[str] = NO_DLQ) -> DeadLetterIndex:
    return DeadLetterIndex(lambda _source, name: backends[name], dlq)


def read(backends: dict[str, Backend], dlq: Sequence[str] = NO_DLQ) -> GroupedDeadLetters:
    """What a process knows after one look."""
    return groups.group_dead_letters(*rows_of(backends, dlq).read_lists(queues_of(backends)), now_s())


def fail_rq(server: EmbeddedRedis, queue: str, *calls: tuple[object, ...]) -> list[str]:
    """Ids of jobs of the real RQ that failed for good, in order."""
    with open_client(server.url) as client:
        target = Queue(queue, connection=client)
        ids = [target.enqueue(*call).id for call in calls]
        run_waiting_jobs(target)
    return ids


def test_no_dead_letters_cost_nothing(backends: dict[str, Backend]) -> None:
    with measure_cost() as meter:
        grouped = groups.group_dead_letters(*rows_of(backends).read_lists([]), now_s())
    assert (grouped.groups, grouped.scanned, grouped.total, grouped.truncated) == ((), 0, 0, False)
    assert meter.commands == 0


def test_jobs_with_the_same_error_are_one_group(server: EmbeddedRedis, backends: dict[str, Backend]) -> None:
    ids = fail_rq(server, "mail", *((failing_jobs.mail, f"user{n}@example.com", n) for n in range(7)))
    fail_rq(server, "cash", *((failing_jobs.charge, n) for n in range(3)))
    grouped = read(backends)
    mail, cash = grouped.groups
    assert (mail.count, cash.count, grouped.scanned, grouped.total) == (7, 3, 10, 10)
    assert mail.kind.error_class == "ConnectionError"
    assert mail.kind.message == cash.kind.message == "cannot send order <n> to <email>: timed out after <n> s"
    assert mail.kind.frames == ("failing_jobs.py:mail",)
    assert cash.kind.frames == ("failing_jobs.py:_charge", "failing_jobs.py:charge")
    assert [(spot.queue, spot.state, spot.count) for spot in mail.spots] == [("mail", State.DEAD, 7)]
    assert {job.row.id for job in mail.jobs} == set(ids)
    assert mail.recent == 7
    assert mail.trend[-1] + mail.trend[-2] == 7
    assert mail.whole
    assert mail.first_at is not None
    assert mail.last_at is not None
    assert now_s() - 60 < mail.first_at <= mail.last_at <= now_s() + 1


def test_node_stack_traces_give_error_class_and_frame(server: EmbeddedRedis, backends: dict[str, Backend]) -> None:
    BullMQLibrary().run_jobs(server.url, "mails", good=1, bad=4)
    (group,) = read(backends).groups
    assert (group.count, group.kind.error_class, group.kind.message) == (4, "TypeError", "cannot send to nobody")
    assert group.kind.frames[0].startswith("drive.mjs")


@pytest.mark.parametrize("library", [SidekiqLibrary(), CeleryLibrary()], ids=repr)
def test_lists_for_all_queues_are_read_with_the_queue_of_each_job(
    server: EmbeddedRedis, redis_client: redis.Redis, backends: dict[str, Backend], library: Library
) -> None:
    library.run_jobs(server.url, "alpha", good=1, bad=3)
    backend = backends[library.backend.name]
    library.prepare(backend, redis_client)
    library.settle(backend, redis_client)
    found = [group for group in read(backends).groups if group.count == 3]
    (group,) = found
    assert group.kind.error_class is not None
    assert group.kind.frames, "the library keeps the stack"
    assert {spot.queue for spot in group.spots} == {"alpha"}
    assert all(spot.ref.shared for spot in group.spots)


@pytest.mark.parametrize("text", [HOSTILE, "x" * 100_000, "\0", "\x1b[31m", "{{ 7*7 }}", "", "a\n" * 5000, "‮turned"])
def test_hostile_messages_form_a_group(server: EmbeddedRedis, backends: dict[str, Backend], text: str) -> None:
    fail_rq(server, "odd", (failing_jobs.say, text), (failing_jobs.say, text))
    (group,) = read(backends).groups
    assert group.count == 2
    assert len(group.kind.message) <= 501
    assert all(len(job.row.text or "") <= index.KEPT_TEXT for job in group.jobs)


def test_jobs_whose_data_is_gone_and_lists_of_the_wrong_type_cost_one_row(
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
    grouped = groups.group_dead_letters(*rows_of(backends).read_lists(queues), now_s())
    assert sorted(group.count for group in grouped.groups) == [1, 1, 1]
    assert any("no longer exists" in group.kind.message for group in grouped.groups)
    ((source, library, queue, why),) = grouped.problems
    assert (source, library, queue) == ("main", "rq", "other")
    assert "wrong type" in why
    assert grouped.total == 4


def test_waiting_jobs_of_a_dead_letter_queue_are_grouped(
    server: EmbeddedRedis, redis_client: redis.Redis, backends: dict[str, Backend]
) -> None:
    for queue in ("mail-dlq", "mail"):
        for n in range(4):
            Queue(queue, connection=redis_client).enqueue("shop.send", n)
    (group,) = read(backends).groups
    assert (group.count, group.is_dlq, group.kind.message) == (4, True, "No error is kept with these jobs: shop.send")
    assert [(spot.queue, spot.state) for spot in group.spots] == [("mail-dlq", State.WAITING)]
    assert read(backends, ()).groups == ()


def test_a_long_list_is_read_from_its_newest_end_and_the_window_is_stated(
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
        grouped = read(backends)
    assert (grouped.scanned, grouped.total, grouped.truncated) == (501, 1201, True)
    assert [group.count for group in grouped.groups] == [500, 1]
    assert not grouped.groups[0].whole
    assert len(grouped.groups[0].jobs) == 500
    assert meter.round_trips < 60
    monkeypatch.setattr(index, "SECONDS", -1.0)
    hurried = read(backends)
    assert (hurried.scanned, hurried.total, hurried.truncated) == (0, 1201, True)


def test_known_jobs_are_not_read_again_and_removed_ones_are_dropped(
    server: EmbeddedRedis,
    redis_client: redis.Redis,
    backends: dict[str, Backend],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = fail_rq(server, "mail", *[(failing_jobs.moody,)] * 6)
    known = rows_of(backends)
    known.read_lists(queues_of(backends))
    redis_client.zrem("rq:failed:mail", ids[0], ids[3])
    queues = queues_of(backends)
    with measure_cost() as meter:
        lists, _ = known.read_lists(queues)
    assert meter.round_trips <= 2
    assert {row.id for listed in lists for row in listed.rows.values()} == {ids[n] for n in (1, 2, 4, 5)}
    # A job that fails again with another error is read again.
    monkeypatch.setattr(failing_jobs, "mood", ["second"])
    with open_client(server.url) as client:
        Job.fetch(ids[1], connection=client).requeue()
        run_waiting_jobs(Queue("mail", connection=client))
    many, one = groups.group_dead_letters(*known.read_lists(queues_of(backends)), now_s()).groups
    assert (many.count, one.count, one.kind.message) == (3, 1, "the second word")
    assert one.jobs[0].row.id == ids[1]


def test_a_read_that_ran_out_of_time_continues_with_the_next(
    server: EmbeddedRedis,
    redis_client: redis.Redis,
    backends: dict[str, Backend],
    long_list: KeySpace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long_list.restore(redis_client)
    fail_rq(server, "short", (failing_jobs.charge, 1))
    queues, known = queues_of(backends), rows_of(backends)
    clock = iter(range(10_000))
    monkeypatch.setattr(index, "monotonic_s", lambda: next(clock))
    monkeypatch.setattr(index, "SECONDS", 6.0)
    looks = [sum(len(listed.rows) for listed in known.read_lists(queues)[0]) for _ in range(6)]
    assert looks == sorted(looks)
    assert 0 < looks[0] < 1201
    assert looks[-1] == 1201
    monkeypatch.setattr(index, "MAX_ROWS", 600)
    fresh = rows_of(backends)
    assert sum(len(listed.rows) for _ in range(4) for listed in fresh.read_lists(queues)[0]) / 4 < 1100


def test_errors_that_all_differ_are_bounded(
    server: EmbeddedRedis, backends: dict[str, Backend], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "MAX_GROUPS", 5)
    fail_rq(server, "odd", *((failing_jobs.say, letter * 3) for letter in "abcdefgh"))
    grouped = read(backends)
    assert (len(grouped.groups), grouped.beyond, grouped.scanned, grouped.truncated) == (5, 3, 8, True)


def test_the_members_of_a_group_with_their_stamps(server: EmbeddedRedis, backends: dict[str, Backend]) -> None:
    ids = fail_rq(server, "mail", *((failing_jobs.mail, "a@example.com", n) for n in range(5)))
    fail_rq(server, "cash", (failing_jobs.charge, 1))
    BullMQLibrary().run_jobs(server.url, "mails", good=0, bad=2)
    queues = queues_of(backends)
    by_class = {group.kind.error_class: group for group in read(backends).groups if group.count > 1}

    def found(
        error_class: str, most: int = 100, grouped: GroupedDeadLetters = NOTHING_READ
    ) -> list[tuple[str, str, State, bool]]:
        lists = find_lists(queues, lambda _s, name: backends[name], NO_DLQ)
        kind = by_class[error_class].kind.id
        jobs = list_group_jobs(lists, lambda _s, name: backends[name], grouped, kind, most, rows=10_000)
        return [(each.place.queue.name, each.mark[0], each.place.state, each.mark[1] is not None) for each in jobs]

    assert sorted(found("ConnectionError")) == sorted(("mail", job_id, State.DEAD, True) for job_id in ids)
    assert len(found("ConnectionError", most=2)) == 2
    assert [row[0] for row in found("TypeError")] == ["mails", "mails"]
    # What is known is not read again; what came since is found all the same.
    known = read(backends)
    with measure_cost() as meter:
        again = found("ConnectionError", grouped=known)
    assert sorted(again) == sorted(("mail", job_id, State.DEAD, True) for job_id in ids)
    assert meter.round_trips == 3  # the marks of each list
    more = fail_rq(server, "mail", (failing_jobs.mail, "b@example.com", 9))
    assert sorted(row[1] for row in found("ConnectionError", grouped=known)) == sorted([*ids, *more])


def test_jobs_removed_by_an_action_leave_the_groups_immediately(
    server: EmbeddedRedis, backends: dict[str, Backend]
) -> None:
    ids = fail_rq(server, "mail", *((failing_jobs.mail, "a@example.com", n) for n in range(5)))
    other = fail_rq(server, "cash", *((failing_jobs.charge, n) for n in range(2)))
    grouped = read(backends)
    ref = grouped.groups[0].spots[0].ref
    left = groups.without_jobs(grouped, {(ref, State.DEAD): {*ids[:4], *other}})
    assert [(group.count, group.kind.frames[0]) for group in left.groups] == [
        (2, "failing_jobs.py:_charge"),
        (1, "failing_jobs.py:mail"),
    ]
    assert (left.scanned, left.total) == (3, 3)
    assert [member.row.id for member in left.groups[1].jobs] == [ids[4]]
    assert groups.without_jobs(grouped, {(ref, State.WAITING): set(ids)}) is grouped
    assert [group.count for group in groups.without_jobs(left, {(ref, State.DEAD): set(ids)}).groups] == [2]


def test_a_read_in_progress_does_not_bring_back_removed_jobs(
    server: EmbeddedRedis, source: Source, backends: dict[str, Backend], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = fail_rq(server, "mail", *((failing_jobs.mail, "a@example.com", n) for n in range(5)))
    triage = service_of(source, backends, keep_s=0)
    first = triage.current_groups()
    ref = first.grouped.groups[0].spots[0].ref
    triage._next_look = float("inf")
    triage.remove_jobs(ref, State.DEAD, ids[:2])
    assert triage.current_groups().grouped.groups[0].count == 3
    look = triage._rows.read_lists

    def acted_on_meanwhile(queues: list[QueueStats]) -> Any:
        found = look(queues)
        triage.remove_jobs(ref, State.DEAD, ids[2:4])
        return found

    monkeypatch.setattr(triage._rows, "read_lists", acted_on_meanwhile)
    triage._next_look = 0.0
    # The first two are in the list still, in truth: only what left during the look is held back.
    assert triage.current_groups().grouped.groups[0].count == 3
    monkeypatch.setattr(service, "MAX_LEFT", 3)
    triage._next_look = float("inf")
    triage.remove_jobs(ref, State.DEAD, ids[:4])
    triage.remove_jobs(ref, State.DEAD, ids[4:])
    monkeypatch.setattr(triage._rows, "read_lists", look)
    assert triage.current_groups().grouped.groups[0].count == 5


def test_all_viewers_share_one_reading(server: EmbeddedRedis, source: Source, backends: dict[str, Backend]) -> None:
    fail_rq(server, "mail", (failing_jobs.mail, "a@example.com", 1))
    triage = service_of(source, backends, keep_s=60)
    first = triage.current_groups()
    assert first.annotations.problem is None
    assert first.cost.commands > 0
    with measure_cost() as meter:
        assert all(triage.current_groups() is first for _ in range(50))
    assert meter.commands == 0
    fingerprint = first.grouped.groups[0].kind.id
    assert triage.update_annotation(fingerprint, {"owner": "anna"})
    assert triage.current_groups().annotations.of(fingerprint).owner == "anna"
    assert triage.current_groups().grouped is first.grouped
    triage.invalidate()
    assert triage.current_groups().grouped is not first.grouped


def test_a_shown_group_can_be_annotated_after_the_store_lost_it(
    redis_client: redis.Redis, server: EmbeddedRedis, source: Source, backends: dict[str, Backend]
) -> None:
    fail_rq(server, "mail", (failing_jobs.mail, "a@example.com", 1))
    triage = service_of(source, backends, keep_s=60)
    fingerprint = triage.current_groups().grouped.groups[0].kind.id
    redis_client.delete(GROUPS, SEEN)
    assert triage.update_annotation(fingerprint, {"owner": "anna"})
    assert triage.book.read_annotation(fingerprint).owner == "anna"
    assert triage.current_groups().annotations.of(fingerprint).owner == "anna"
    assert not triage.update_annotation("0" * len(fingerprint), {"owner": "anna"})
