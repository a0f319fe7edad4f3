"""One job with everything Celery stores about it: from its message in a queue or with a worker, or from its record."""

from __future__ import annotations

from typing import Any

import msgspec

from ...clock import monotonic_s
from ...errors import NotFound
from ...model import Job, QueueRef, State
from ..job_facts import position_fact
from . import keys
from .job_decoding import (
    BoundedMessage,
    as_revoked,
    decode_envelope,
    decode_unacked,
    headers_of,
    in_full,
    job_id,
    message_row,
)
from .job_servers import JobServers
from .messages.unacked import UnackedReader
from .messages.waiting_search import WaitingJobSearch
from .results.decoding import outline_record
from .results.display_reads import read_for_display, read_statuses
from .results.record import ResultsLocation, find_results_location
from .results.record_jobs import STATES, record_in_full

# If this many have the same id, the first one of the queue is still found.
MOST_NAMED = 10
# For how long a queue's lists are searched for one job.
LOOK_SECONDS = 1.0
REVOKED = "workers that remember the revocation will discard it; if all of them restart, it will run"
MAY_RUN = "it may be running; to be sure, start workers with -E or set task_track_started = True"
STILL_HELD = "a worker still holds it and will discard it when it is due"


class JobFinder:
    """Finds one job of a source, wherever it is."""

    def __init__(self, servers: JobServers) -> None:
        self._servers = servers
        self._unacked = UnackedReader(servers)

    def read_job(self, ref: QueueRef, wanted: str) -> Job:
        """Return one job, wherever it is; a message takes precedence over a record. Raises NotFound.

        Cost: at most 4 round trips; 1 more per further SCAN_BYTES of messages that are searched.
        """
        place = keys.location_of(ref)
        search = WaitingJobSearch(self._servers.broker, self._servers.scripts, place, wanted)
        job = self._find_in_lists(ref, search) or self._find_unacked_job(ref, place, wanted)
        started = monotonic_s()
        while job is None and search.has_more and monotonic_s() - started < LOOK_SECONDS:
            job = self._find_in_lists(ref, search)
        if job is not None:
            return job
        far = f" Only the next {search.reached:,} messages of the queue were searched." if search.has_more else ""
        raise NotFound(
            f"There is no job {wanted[:200]!r} in {'any queue' if ref.shared else repr(ref.name)}.",
            hint="Celery lists running jobs only with acks_late, and keeps results only for result_expires." + far,
        )

    def _find_in_lists(self, ref: QueueRef, search: WaitingJobSearch) -> Job | None:
        """Return the job if it is among the next messages of the search."""
        for cut, position in search.search_next():
            message = decode_envelope(cut.raw) if cut.is_whole else None
            if job_id(cut.mark, headers_of(message)) == search.wanted:
                place = keys.location_of(ref)
                results_location = find_results_location(self._servers.own, self._servers.name, place.prefix)
                statuses = read_statuses(self._servers.results, results_location.record_keys(search.wanted))
                job = _build_job(ref, ref.name, State.WAITING, cut, message, position)
                if "REVOKED" in statuses:
                    return as_revoked(msgspec.structs.replace(job, facts=(*job.facts, ("Revoked", REVOKED))))
                return job
        return None

    def _find_unacked_job(self, ref: QueueRef, place: keys.QueueLocation, wanted: str) -> Job | None:
        """Return the job from the messages held by workers, or from its result record."""
        cuts, _, known = self._unacked.read_newest(place)
        named = [
            cut
            for cut in cuts
            if job_id(cut.mark, headers_of(decode_unacked(cut.raw)[0] if cut.is_whole else None)) == wanted
        ]
        held_here = [
            held
            for held in self._unacked.held_messages(place.prefix, named[:MOST_NAMED], known)
            if place.queue in (None, held.queue)
        ]
        for held in held_here[:1]:
            if held.state is State.CANCELED:
                record = self._find_recorded_job(ref, wanted, known.results_location)
                if record is not None:
                    return msgspec.structs.replace(record, facts=(*record.facts, ("Message", STILL_HELD)))
            job = _build_job(ref, held.queue or ref.name, held.state, held.cut, held.message, None)
            if held.maybe:
                facts = (("With a worker", MAY_RUN), *job.facts)
                return msgspec.structs.replace(job, native_state=keys.MAYBE_RUNNING, facts=facts)
            return job
        return self._find_recorded_job(ref, wanted, known.results_location)

    def _find_recorded_job(self, ref: QueueRef, wanted: str, results_location: ResultsLocation) -> Job | None:
        """Return the job from its result record."""
        place = keys.location_of(ref)
        for record in read_for_display(self._servers.results, results_location.record_keys(wanted)):
            if record is None:
                continue
            decoded = outline_record(record)
            if place.queue is None or decoded.fields.get("queue") == place.queue:
                return record_in_full(ref, wanted, STATES.get(decoded.status or ""), record)
        return None


def _build_job(
    ref: QueueRef, queue: str, state: State, cut: BoundedMessage, message: dict[str, Any] | None, position: int | None
) -> Job:
    native = keys.native_of(keys.location_of(ref), state) if position is None else keys.NATIVE[state]
    job = message_row(ref, queue, state, cut, message, native=native)
    if message is None:
        return job
    more = in_full(job, message)
    if position is not None:
        more["facts"] = (position_fact(position), *more["facts"])
    return msgspec.structs.replace(job, **more, jobs_ahead=position, summary=None)
