"""The canary of a bulk operation: which jobs it has, and what became of jobs that were copied or skipped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace

from dashboard.actions.bulk import runner as bulk_runner
from dashboard.actions.bulk.canary import CanaryCounts, count_canary, list_canary_failures
from dashboard.actions.bulk.operation import BulkOperation, BulkPhase, JobOrder
from dashboard.actions.bulk.runner import BulkRunner
from dashboard.actions.bulk.selection import MemberJob
from dashboard.backends.actions import Action, ActionOptions, ActionResult, JobRef, Outcome
from dashboard.backends.base import NO_OPTIONS
from dashboard.errors import BackendUnavailable
from dashboard.model import QueueRef, State
from tests.actions.conftest import Bench, expire_lease, run_turns_until
from tests.actions.fake_backend import bury


def copy_retried_jobs(bench: Bench, monkeypatch: pytest.MonkeyPatch, skipped: Iterable[str] = ()) -> None:
    """From now on a retry sends a copy, as those of Celery do; the `skipped` jobs have changed."""
    retry = bench.backend.act_on_jobs

    def act(
        ref: QueueRef, action: Action, state: State, job_refs: Sequence[JobRef], options: ActionOptions = NO_OPTIONS
    ) -> list[ActionResult]:
        results = []
        for job_ref in job_refs:
            if job_ref.id in skipped:
                bench.client.zadd(f"{ref.key}:dead", {job_ref.id: 9_999})
            (result,) = retry(ref, action, state, [job_ref], options)
            if result.outcome is Outcome.DONE:
                bench.client.lrem(f"{ref.key}:list", 0, job_ref.id)
                bench.client.lpush(f"{ref.key}:list", f"copy-of-{job_ref.id}")
                result = replace(result, new_id=f"copy-of-{job_ref.id}")
            results.append(result)
        return results

    monkeypatch.setattr(bench.backend, "act_on_jobs", act)


@pytest.mark.parametrize("dies", [False, True])
def test_copies_that_failed_again_are_the_failed_jobs_of_the_canary(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, dies: bool
) -> None:
    """Also where the process that copied them has died. A job that was skipped has no result."""
    ids = bury(bench.client, "mail", 50)
    copy_retried_jobs(bench, monkeypatch, skipped=ids[:1])
    bulk_id = bench.bulk_store.create(bench.request(canary=10))
    runner = bench.make_runner("here")
    run_turns_until(runner, lambda: bench.bulk_store.get(bulk_id).phase is BulkPhase.WATCHING, what="the watch")
    assert bench.client.ttl(f"{{queuedeck}}:bulk:{bulk_id}:canary") > 86_400
    bench.client.zadd("shelf:mail:dead", {"copy-of-job-3": 2_000, "copy-of-job-5": 6})  # the latter as job-5 was
    bench.client.delete("shelf:mail:list")
    if dies:
        expire_lease(bench.client, bulk_id)
        runner = bench.make_runner("there")
    run_turns_until(runner, lambda: bench.bulk_store.get(bulk_id).phase is BulkPhase.PAUSED, what="the end")
    operation = bench.bulk_store.get(bulk_id)
    assert (operation.canary_failed, operation.outcomes) == (2, {"done": 9, "changed": 1})
    backend_of = lambda _source, _name: bench.backend  # noqa: E731
    failed = list_canary_failures(operation, bench.bulk_store.jobs, backend_of, lambda _s, _n: (), 10)
    assert {ref for ref, _ in failed} == {bench.request().job_lists[0].ref}
    assert [job.id for _, job in failed] == ["copy-of-job-3", "copy-of-job-5"]


def fail_again(bench: Bench, *ids: str) -> None:
    """These jobs failed again after their retry; all others succeeded."""
    bench.client.delete("shelf:mail:list")
    bench.client.zadd("shelf:mail:dead", dict.fromkeys(ids, 5_000))


def run_until_paused(bench: Bench, runner: BulkRunner, bulk_id: str) -> BulkOperation:
    run_turns_until(runner, lambda: bench.bulk_store.get(bulk_id).phase is not BulkPhase.WATCHING, what="the verdict")
    operation = bench.bulk_store.get(bulk_id)
    assert operation.phase is BulkPhase.PAUSED
    return operation


def test_a_process_that_takes_over_judges_the_whole_canary(bench: Bench) -> None:
    bury(bench.client, "mail", 50)
    bulk_id = bench.bulk_store.create(bench.request(canary=10, pace_per_s=20))  # batches of 5
    runner = bench.make_runner("here")
    run_turns_until(runner, lambda: bench.bulk_store.get(bulk_id).processed == 5, what="half of the canary")
    expire_lease(bench.client, bulk_id)
    runner = bench.make_runner("there")
    run_turns_until(runner, lambda: bench.bulk_store.get(bulk_id).phase is BulkPhase.WATCHING, what="the watch")
    fail_again(bench, "job-1", "job-3")
    operation = run_until_paused(bench, runner, bulk_id)
    assert operation.note == "Stopped: 2 of the first 10 failed again. The other jobs were not changed."
    assert count_canary(operation) == CanaryCounts(failed=2, succeeded=8, open=0, skipped=0)


@pytest.mark.parametrize("dies", [False, True])
def test_jobs_of_a_canary_whose_record_was_lost_are_judged_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, dies: bool
) -> None:
    """Its batch runs again, and then finds them gone: it has retried them itself."""
    monkeypatch.setattr(bulk_runner, "WAIT_FOR_REDIS_S", 0.0)
    bury(bench.client, "mail", 50)
    bulk_id = bench.bulk_store.create(bench.request(canary=10, canary_max_ratio=0.1))
    write, lost = bench.bulk_store.write_progress, []

    def write_or_fail(*arguments: Any, **fields: Any) -> BulkPhase | None:
        if "processed" in fields and not lost:
            lost.append(fields["processed"])
            raise BackendUnavailable("The store does not respond.", source="store", reason="timeout")
        return write(*arguments, **fields)

    monkeypatch.setattr(bench.bulk_store, "write_progress", write_or_fail)
    runner = bench.make_runner("here")
    run_turns_until(runner, lambda: lost, what="the lost record")
    assert (lost, len(bench.waiting())) == ([10], 10)
    if dies:
        expire_lease(bench.client, bulk_id)
        runner = bench.make_runner("there")
    run_turns_until(runner, lambda: bench.bulk_store.get(bulk_id).phase is BulkPhase.WATCHING, what="the watch")
    fail_again(bench, "job-1", "job-3")
    operation = run_until_paused(bench, runner, bulk_id)
    assert operation.note == "Stopped: 2 of the first 10 failed again. The other jobs were not changed."
    assert operation.outcomes == {"gone": 10}
    assert count_canary(operation) == CanaryCounts(failed=2, succeeded=0, open=0, skipped=8)


def test_the_canary_of_an_error_group_has_the_first_jobs_of_all_lists(bench: Bench) -> None:
    places = [bench.place("mail"), bench.place("sms")]
    members = [MemberJob(places[n % 2], JobRef(id=f"job-{n}"), died_at=float(n)) for n in range(2_500)]
    request = bench.request(job_lists=(), fingerprint="0" * 16, canary=5, order=JobOrder.OLDEST)
    bulk_id = bench.bulk_store.create(request)
    runner = bench.make_runner("here")
    runner._collector._members_of = lambda _fingerprint, _lists, most: sorted(members, key=lambda each: str(each))[
        :most
    ]
    run_turns_until(runner, lambda: bench.bulk_store.get(bulk_id).phase is BulkPhase.WATCHING, what="the watch")
    listed = bench.bulk_store.jobs.list_job_refs(bulk_id, 0, 2_500)
    assert [job_ref.id for _, job_ref in listed[:5]] == ["job-0", "job-2", "job-4", "job-1", "job-3"]
    assert sorted(job_ref.id for _, job_ref in listed) == sorted(member.job_ref.id for member in members)
    changes = sum(before[0] != after[0] for before, after in pairwise(listed))
    assert changes <= 2 * 4  # the batches stay large: a batch is of one list
