"""Stopping running jobs: only iterable jobs (Sidekiq 7.3 and later) check whether they should continue."""

from __future__ import annotations

from collections.abc import Sequence

from ....model import QueueRef
from ....sources.source import Source
from ...actions import ActionResult, JobRef, Outcome
from ...bounded_reads import stamp_of
from ...lua_reads import Scripts
from ...lua_writes import JobCall
from .. import keys, workers
from ..job_decoding import jid_of, job_id
from .scripts import result_from_reply, run_for_each


def stop_jobs(source: Source, scripts: Scripts, ref: QueueRef, job_refs: Sequence[JobRef]) -> list[ActionResult]:
    """Ask running jobs to stop. DONE means the request was sent; a job stops within 5 s. Cost: 2 round trips.

    Source: sidekiq `lib/sidekiq/job/iterable.rb` (cancel!).
    """
    place = keys.location_of(ref)
    ((rows, _, _),) = workers.read_processes(source, scripts, [place.namespace])
    stamps = {}
    for job in workers.list_running(rows):
        if place.queue == job.queue:
            version = stamp_of(job.payload)
            stamps[job_id(jid_of(job.payload), version, None)] = version
    results = {
        n: ActionResult(id=job_ref.id, outcome=Outcome.GONE)
        for n, job_ref in enumerate(job_refs)
        if job_ref.id not in stamps
    }
    for n, job_ref in enumerate(job_refs):
        if n not in results and job_ref.version not in (None, stamps[job_ref.id]):
            results[n] = ActionResult(id=job_ref.id, outcome=Outcome.CHANGED)
    asked = [n for n in range(len(job_refs)) if n not in results]
    calls = [JobCall((f"{place.namespace}it-{job_refs[n].id}",)) for n in asked]
    replies = run_for_each(source, "stop", (), (int(source.now_s()),), calls)
    results |= {n: result_from_reply(job_refs[n].id, reply) for n, reply in zip(asked, replies, strict=True)}
    return [results[n] for n in range(len(job_refs))]
