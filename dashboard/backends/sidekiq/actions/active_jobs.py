"""Stopping running jobs: only iterable jobs (Sidekiq 7.3 and later) check whether they should continue."""

from __future__ import annotations

from collections.abc import Sequence

from redis.exceptions import ResponseError

from ....model import QueueRef
from ....sources.source import Command, Source
from ...actions import ActionResult, JobRef, Outcome
from ...bounded_reads import stamp_of
from ...lua_reads import Scripts
from .. import keys, workers
from ..job_decoding import jid_of, job_id
from .scripts import explain_error

NOT_ITERABLE = "the job is not iterable or started less than 5 s ago; only its process can end it"


def stop_jobs(source: Source, scripts: Scripts, ref: QueueRef, picks: Sequence[JobRef]) -> list[ActionResult]:
    """Ask running jobs to stop. DONE means the request was sent; a job stops within 5 s. Cost: 2 round trips.

    Source: sidekiq `lib/sidekiq/job/iterable.rb` (cancel!).
    """
    place = keys.location_of(ref)
    ((rows, _, _),) = workers.read_processes(source, scripts, [place.namespace])
    stamps = {}
    for job in workers.list_running(rows):
        if place.queue == job.queue:
            stamp = stamp_of(job.payload)
            stamps[job_id(jid_of(job.payload), stamp, None)] = stamp
    told = {n: ActionResult(id=pick.id, outcome=Outcome.GONE) for n, pick in enumerate(picks) if pick.id not in stamps}
    for n, pick in enumerate(picks):
        if n not in told and pick.stamp not in (None, stamps[pick.id]):
            told[n] = ActionResult(id=pick.id, outcome=Outcome.CHANGED)
    asked = [n for n in range(len(picks)) if n not in told]
    names = [f"{place.namespace}it-{picks[n].id}" for n in asked]
    command: Command = ("EVAL", keys.load_script("stop", "writing"), len(names), *names, int(source.now_s()))
    reply = source.run_batch([command])[0] if asked else []
    for i, n in enumerate(asked):
        if isinstance(reply, ResponseError):
            told[n] = ActionResult(id=picks[n].id, outcome=Outcome.REFUSED, detail=explain_error(str(reply)))
        elif reply[i] == 1:
            told[n] = ActionResult(id=picks[n].id, outcome=Outcome.DONE, detail="asked to stop; stops within 5 s")
        else:
            told[n] = ActionResult(id=picks[n].id, outcome=Outcome.REFUSED, detail=NOT_ITERABLE)
    return [told[n] for n in range(len(picks))]
