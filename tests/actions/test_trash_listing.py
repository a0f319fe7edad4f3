"""The list of the trash: its order, its pages, and its cost with thousands of batches."""

from __future__ import annotations

import time

import pytest
from msgspec.structs import replace

from dashboard.actions.trash import BIN, MAX_BATCHES, SIZES, DeletedBatch, batch_key
from dashboard.actions.trash_listing import TrashedBatch, TrashFilter, TrashListing
from dashboard.errors import Unsupported
from dashboard.model import State
from dashboard.sources.metering import measure_cost
from dashboard.sources.source import Source
from dashboard.store.packing import pack
from dashboard.store.redis_store import Store
from tests.actions.conftest import Bench

ALL = TrashFilter()


def fill(bench: Bench, count: int) -> list[str]:
    """`count` batches of one job each, two per second, in two queues; their names, newest first."""
    until = int(time.time()) + 1_000
    about = DeletedBatch(ref=bench.ref(), state=State.DEAD, who="anna", at=0.0)
    with bench.client.pipeline(transaction=False) as pipe:
        for n in range(count):
            name = f"batch{n:05d}"
            own = replace(about, ref=bench.ref("mail" if n % 2 else "news"), at=1_000.0 + n)
            pipe.hset(batch_key(name), mapping={"": pack(own), "job": b"x" * 100})
            pipe.zadd(BIN, {name: until + n // 2})
            pipe.hset(SIZES, name, 200)
        pipe.execute()
    return [f"batch{n:05d}" for n in reversed(range(count))]


def test_the_list_costs_two_round_trips_however_many_batches(bench: Bench, source: Source) -> None:
    names = fill(bench, MAX_BATCHES)
    listing = TrashListing(Store(source), 1 << 20)
    with measure_cost() as first:
        page = listing.list_page(ALL, cursor=None, limit=50)
    assert first.round_trips == 2
    assert [batch.name for batch in page.batches] == names[:50]
    assert (page.total, page.total_jobs, page.used_bytes) == (MAX_BATCHES, MAX_BATCHES, 200 * MAX_BATCHES)
    with measure_cost() as again:
        page = listing.list_page(TrashFilter(queue="mail"), cursor=None, limit=50)
    assert (again.round_trips, again.commands) == (2, MAX_BATCHES + 2)  # what never changes is not read again
    assert (page.matching, {batch.about.ref.name for batch in page.batches}) == (MAX_BATCHES // 2, {"mail"})


def test_each_batch_is_on_one_page_also_when_others_go_and_come(bench: Bench, source: Source) -> None:
    names = fill(bench, 11)
    listing = TrashListing(Store(source), 1 << 20)
    page = listing.list_page(ALL, cursor=None, limit=4)
    seen = [batch.name for batch in page.batches]
    bench.client.delete(batch_key(seen[-1]))  # restored; the cursor is its place
    bench.client.zrem(BIN, seen[-1])
    bench.client.zadd(BIN, {"latest": time.time() + 80_000})
    bench.client.hset(batch_key("latest"), mapping={"": bench.client.hget(batch_key(names[0]), "") or b"", "job": "x"})
    while page.next_cursor is not None:
        page = listing.list_page(ALL, cursor=page.next_cursor, limit=4)
        seen += [batch.name for batch in page.batches]
    assert seen == names


@pytest.mark.parametrize("cursor", ["x", "1", "1-2", "1-2-", "1-2-a b", "-1-2-a", "1" * 5_000 + "-1-a", "²-1-a"])
def test_an_invalid_cursor_is_refused(bench: Bench, source: Source, cursor: str) -> None:
    with pytest.raises(Unsupported, match="cursor"):
        TrashListing(Store(source), 1 << 20).list_page(ALL, cursor=cursor, limit=4)


def test_a_batch_that_grew_is_read_again(bench: Bench, source: Source) -> None:
    (name,) = fill(bench, 1)
    listing = TrashListing(Store(source), 1 << 20)

    def only() -> TrashedBatch:
        (batch,) = listing.list_page(ALL, cursor=None, limit=4).batches
        return batch

    before = only()
    bench.client.hset(batch_key(name), mapping={"": pack(replace(before.about, at=5_000.0)), "other": b"x"})
    bench.client.zadd(BIN, {name: before.until + 10})
    assert (only().about.at, only().left, before.about.at) == (5_000.0, 2, 1_000.0)


def test_the_jobs_of_a_batch_are_paged_without_their_payloads(bench: Bench, source: Source) -> None:
    (name,) = fill(bench, 1)
    bench.client.hset(batch_key(name), mapping={f"job-{n}": b"x" * 5_000 for n in range(300)})
    listing = TrashListing(Store(source), 1 << 20)
    seen, cursor, pages = list[str](), -1, 0
    while cursor:
        with measure_cost() as cost:
            jobs, cursor = listing.list_jobs(name, max(cursor, 0))
        assert (cost.round_trips, len(jobs) <= 100) == (1, True)
        seen += [job.id for job in jobs]
        pages += 1
    assert sorted(seen) == sorted({"job", *(f"job-{n}" for n in range(300))})
    assert pages >= 3
