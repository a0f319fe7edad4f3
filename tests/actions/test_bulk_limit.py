"""The limit of a bulk operation: the oldest or newest jobs, never more, on changing lists of every library."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Sequence

import pytest
import redis
from msgspec.structs import replace

from dashboard.actions.bulk.operation import ENDED, BulkOperation, BulkRequest, JobOrder
from dashboard.actions.bulk.selection import MemberJob, select_jobs
from dashboard.backends.actions import Action, JobRef
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import JobQuery, QueueRef, Window
from dashboard.search.list_scan import ReadableList, scan_last_rows, scan_rows
from tests.actions.conftest import Bench
from tests.actions.fake_backend import bury
from tests.bench.bulk import LIBRARIES, QUEUE, Parts
from tests.cases import failures_of

JOBS, LIMIT = 1_200, 700
# The failed jobs of each library, oldest first.
DEAD = {
    "bullmq": f"bull:{QUEUE}:failed",
    "sidekiq": "dead",
    "rq": f"rq:failed:{QUEUE}",
    "celery": "{queuedeck}:celery:main:dead",
}


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    """A separate Redis: the jobs of a library are many."""
    with EmbeddedRedis() as found:
        yield found


@pytest.mark.parametrize("order", list(JobOrder))
@pytest.mark.parametrize("library", LIBRARIES)
def test_only_the_oldest_or_newest_jobs_are_deleted(server: EmbeddedRedis, library: str, order: JobOrder) -> None:
    """Jobs with the same time, as RQ's here, are ordered as in their list."""
    with redis.Redis.from_url(server.url) as client, Parts(server.url, library) as parts:
        client.flushall()
        LIBRARIES[library][0](client, JOBS)
        before = client.zrange(DEAD[library], 0, -1)
        request = replace(parts.request(Action.DELETE), limit=LIMIT, order=order)
        bulk_id = parts.bulk_store.create(request)
        while parts.bulk_store.get(bulk_id).phase not in ENDED:
            parts.runner("here").run_turn()
        operation = parts.bulk_store.get(bulk_id)
        assert (operation.matched, operation.outcomes, operation.truncated) == (LIMIT, {"done": LIMIT}, False)
        left = client.zrange(DEAD[library], 0, -1)
        assert left == (before[LIMIT:] if order is JobOrder.OLDEST else before[: JOBS - LIMIT])


def run(bench: Bench, limit: int, order: JobOrder, **fields: object) -> BulkOperation:
    return bench.run(bench.request(limit=limit, order=order, **fields))


def test_the_jobs_are_processed_in_the_order_of_the_limit(bench: Bench) -> None:
    """The canary is the first of them."""
    ids = bury(bench.client, "mail", 900)
    run(bench, 300, JobOrder.NEWEST)
    assert bench.waiting() == ids[600:]  # the last one was pushed first, to the front
    run(bench, 5, JobOrder.OLDEST)
    assert bench.waiting()[:5] == ids[4::-1]


def test_a_limit_applies_to_the_jobs_that_match(bench: Bench) -> None:
    bury(bench.client, "mail", 700, body="timeout")
    ids = bury(bench.client, "mail", 700, body="refused", start=700)
    assert run(bench, 20, JobOrder.NEWEST, q="refused").outcomes == {"done": 20}
    assert bench.waiting() == ids[-20:]
    assert run(bench, 20, JobOrder.OLDEST, q="refused").outcomes == {"done": 20}
    assert sorted(bench.waiting()[:20]) == ids[:20]


def test_a_limit_of_an_error_group_is_by_time_of_death(bench: Bench) -> None:
    """Its jobs come list by list; those without a time are the last ones in either order."""
    ids = bury(bench.client, "mail", 6)
    at = [30.0, 10.0, None, 50.0, 20.0, 40.0]
    members = [MemberJob(bench.place(), JobRef(id=job_id), died) for job_id, died in zip(ids, at, strict=True)]
    for order, expected in ((JobOrder.OLDEST, [1, 4]), (JobOrder.NEWEST, [3, 5])):
        bulk_id = bench.bulk_store.create(bench.request(job_lists=(), fingerprint="0" * 16, limit=2, order=order))
        runner = bench.make_runner(str(order))
        runner._collector._members_of = lambda _fingerprint, _lists, most: members[:most]
        while bench.bulk_store.get(bulk_id).phase not in ENDED:
            runner.run_turn()
        assert [job_ref.id for _, job_ref in bench.bulk_store.jobs.list_job_refs(bulk_id, 0, 10)] == [
            ids[number] for number in expected
        ]


class MovingList:
    """A list from whose front jobs are taken, and at whose front jobs are added, between two reads."""

    def __init__(
        self, rows: int, taken: Sequence[int] = (), added: Sequence[int] = (), unreadable: Collection[int] = ()
    ) -> None:
        self.rows = [str(number) for number in range(rows)]
        self.untouched = set(self.rows)
        self.reads = 0
        self._changes = list(zip(taken, added, strict=True))
        self._unreadable = {str(number) for number in unreadable}

    def readable(self, page_size: Callable[[], int]) -> ReadableList[str]:
        return ReadableList(self.read, str, page_size, self.count)

    def count(self) -> int:
        self.reads += 1
        return len(self.rows)

    def read(self, start: int, count: int) -> list[str]:
        self.reads += 1
        rows = [row for row in self.rows[start : start + count] if row not in self._unreadable]
        if self._changes:
            taken, added = self._changes.pop()
            self.untouched -= set(self.rows[:taken])
            self.rows = [f"new-{len(self._changes)}-{n}" for n in range(added)] + self.rows[taken:]
        return rows


def make_moves(choices: random.Random, page: int) -> list[tuple[int, int]]:
    """How many rows are taken and added before each of the next reads; at most half a page is added."""
    return [(choices.randint(0, 90), choices.randint(0, page // 2)) for _ in range(choices.randint(0, 12))]


SEEDS = [(seed,) for seed in range(300)]


def test_no_job_that_stays_in_a_list_is_missed_or_seen_twice() -> None:
    assert failures_of(check_that_jobs_that_stay_are_seen_once, SEEDS) == {}


def check_that_jobs_that_stay_are_seen_once(seed: int) -> None:
    choices = random.Random(seed)
    rows, page = choices.randint(0, 400), choices.randint(16, 64)
    moves = make_moves(choices, page)
    moving = MovingList(rows, [each[0] for each in moves], [each[1] for each in moves])
    found = [row for page_rows in scan_rows(moving.readable(lambda: page)) for row in page_rows]
    assert len(found) == len(set(found))
    old = [row for row in found if not row.startswith("new")]
    assert old == sorted(old, key=int)
    assert moving.untouched <= set(old)


def test_the_last_jobs_are_the_last_ones_and_never_more() -> None:
    assert failures_of(check_the_last_jobs, SEEDS) == {}


def check_the_last_jobs(seed: int) -> None:
    choices = random.Random(seed)
    rows, page = choices.randint(1, 400), choices.randint(16, 64)
    moves = make_moves(choices, page)
    count = choices.randint(1, rows)
    moving = MovingList(rows, [0 for _ in moves], [each[1] for each in moves])
    *_, last = scan_last_rows(moving.readable(lambda: page), count)
    assert last == [str(number) for number in range(rows)][::-1][:count]


def hide_rows(choices: random.Random, rows: int) -> set[int]:
    """Rows that cannot be read: runs of them, and single ones between."""
    hidden: set[int] = set()
    for _ in range(choices.randint(1, 4)):
        first = choices.randint(0, rows)
        hidden |= set(range(first, min(rows, first + choices.randint(1, rows))))
    return {number for number in hidden if choices.random() > 0.02}


def test_rows_that_cannot_be_read_hide_no_others() -> None:
    assert failures_of(check_rows_beside_unreadable_ones, SEEDS) == {}


def check_rows_beside_unreadable_ones(seed: int) -> None:
    choices = random.Random(seed)
    rows, page = choices.randint(1, 2_000), choices.choice((16, 64, 128))
    sizes = (page, page, page, 2 * page)
    hidden = hide_rows(choices, rows)
    readable = [str(number) for number in range(rows) if number not in hidden]
    still = MovingList(rows, unreadable=hidden)
    found = [row for page_rows in scan_rows(still.readable(lambda: choices.choice(sizes))) for row in page_rows]
    assert found == readable
    assert still.reads <= 4 * (rows / (page - 8) + len(readable)) + 4
    count = choices.randint(1, rows)
    *_, last = scan_last_rows(still.readable(lambda: choices.choice(sizes)), count)
    assert last == readable[::-1][:count]


def test_a_purge_costs_a_search_from_the_end_few_reads() -> None:
    """The list is purged after it was counted."""
    purged = MovingList(5)
    counts = iter((1_000_000,))
    source = ReadableList(purged.read, str, lambda: 128, lambda: next(counts, None) or purged.count())
    *_, last = scan_last_rows(source, 3)
    assert last == ["4", "3", "2"]
    assert purged.reads < 10


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("change", ["arrivals", "purge"])
def test_the_oldest_that_match_are_found_while_a_long_list_changes(
    server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch, library: str, change: str
) -> None:
    """The list has more jobs than an operation scans; they are listed newest first, so new ones move its end."""
    with redis.Redis.from_url(server.url) as client, Parts(server.url, library) as parts:
        client.flushall()
        LIBRARIES[library][0](client, 1_200)
        request = replace(parts.request(Action.DELETE), q="state:dead", limit=4, order=JobOrder.OLDEST)
        members = client.zrange(DEAD[library], 0, -1, withscores=True)
        expected = list_selected(parts, request, 600)
        changes = ["not yet"]
        search_page = parts.backend.search_page

        def change_before(ref: QueueRef, query: JobQuery) -> Window:
            if changes:
                changes.clear()
                if change == "purge":
                    client.zremrangebyrank(DEAD[library], 100, -1)
                else:
                    client.zadd(DEAD[library], make_newer_members(library, members, 300))
            return search_page(ref, query)

        monkeypatch.setattr(parts.backend, "search_page", change_before)
        assert list_selected(parts, request, 600) == expected


def make_newer_members(library: str, members: list[tuple[bytes, float]], count: int) -> dict[bytes, float]:
    """Members of a list of dead jobs whose jobs died after all others."""
    newest = members[-1][1]
    return {
        (b"{" + b" " * n + member[1:] if library == "sidekiq" else b"%s-%d" % (member, n)): newest + n
        for n, (member, _) in enumerate(members[:count], 1)
    }


def list_selected(parts: Parts, request: BulkRequest, most: int) -> list[str]:
    selected = select_jobs(request, lambda _source, _name: parts.backend, lambda _f, _lists, _m: (), most)
    return [found.job_ref.id for found in selected if found.job_ref]


def test_the_oldest_behind_jobs_whose_ids_are_too_long_to_read_are_found(server: EmbeddedRedis) -> None:
    with redis.Redis.from_url(server.url) as client, Parts(server.url, "bullmq") as parts:
        client.flushall()
        LIBRARIES["bullmq"][0](client, 500)
        between = client.zscore(DEAD["bullmq"], "2")
        client.zadd(DEAD["bullmq"], {f"{n:0{17_000}}": between + n / 1_000 for n in range(1, 200)})
        request = replace(parts.request(Action.DELETE), limit=5, order=JobOrder.OLDEST)
        assert list_selected(parts, request, 1_000) == ["1", "2", "3", "4", "5"]
