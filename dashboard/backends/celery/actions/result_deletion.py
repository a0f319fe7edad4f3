"""Deletes result records, and restores them from the trash."""

from __future__ import annotations

from collections.abc import Sequence

from redis.exceptions import ResponseError

from ....model import State
from ....sources.source import Source
from ...actions import MAX_KEPT_BYTES, ActionResult, JobBackup, JobRef, Outcome, refused_result
from ...lua_writes import JobCall, split_by_cost
from .. import keys
from ..job_decoding import parse_time
from ..results.decoding import as_raw_record, outline_record
from ..results.record import (
    BEGINNING,
    ReadRecord,
    ResultsLocation,
    as_read,
    find_results_location,
    read_records,
    remove_from_index,
)
from .backups import RecordBackup, pack_backup, unpack_backup
from .scripts import WRITES

# Limits of one script call, so that it takes about a millisecond.
JOBS_PER_SCRIPT, BYTES_PER_SCRIPT = 100, 300_000
LEAST_LEFT_MS = 3_600_000


class ResultDeletion:
    """Deletes and restores the records of one source."""

    def __init__(self, results: Source, own: Source | None, name: str) -> None:
        self._results = results
        self._own = own
        self._name = name

    def _location_of(self, prefix: str) -> ResultsLocation:
        return find_results_location(self._own, self._name, prefix)

    def backup_records(self, prefix: str, state: State, job_refs: Sequence[JobRef]) -> list[JobBackup | ActionResult]:
        """Return backups of records. Cost: 3 round trips."""
        found = read_records(self._results, self._location_of(prefix), state, job_refs)
        return [self._backup_of(one) if isinstance(one, ReadRecord) else one for one in found]

    def _backup_of(self, one: ReadRecord) -> JobBackup:
        job_ref = one.job_ref
        until_ms = int(self._results.now_s() * 1000) + one.ttl_ms if one.ttl_ms > 0 else None
        return JobBackup(
            id=job_ref.id,
            version=job_ref.version,
            blob=None if one.raw is None else pack_backup(RecordBackup(key=one.key, raw=one.raw, until_ms=until_ms)),
            size_bytes=one.size,
            name=one.name,
        )

    def delete_records(self, prefix: str, state: State, backups: Sequence[JobBackup]) -> list[ActionResult]:
        """Delete records that have not changed. Cost: 1 round trip for each JOBS_PER_SCRIPT, and 2.

        The cost of `read_records` is added if some were too large to back up.
        """
        location = self._location_of(prefix)
        found = {n: one for n, job in enumerate(backups) if (one := _unpack_record(location, job)) is not None}
        large = [n for n in range(len(backups)) if n not in found]
        job_refs = [JobRef(id=backups[n].id, version=backups[n].version) for n in large]
        again = dict(
            zip(large, read_records(self._results, location, state, job_refs) if job_refs else [], strict=True)
        )
        answers: dict[int, ActionResult] = {n: one for n, one in again.items() if isinstance(one, ActionResult)}
        work: list[tuple[tuple[int, bytes, Sequence[bytes | str | int]], int]] = []
        for n, job in enumerate(backups):
            if n in found:
                work.append(((n, found[n].key, as_read(found[n].raw)), job.size_bytes))
            elif isinstance(large_one := again[n], ReadRecord):
                begins = self._results.run_batch([("GETRANGE", large_one.key, 0, BEGINNING - 1)])[0]
                seen = (job.size_bytes, begins if isinstance(begins, bytes) else b"", 0, "")
                work.append(((n, large_one.key, seen), job.size_bytes))
        gone: list[bytes] = []
        for portion in split_by_cost(work, most=JOBS_PER_SCRIPT, cost=BYTES_PER_SCRIPT):
            calls = [JobCall((key,), tuple(seen)) for _, key, seen in portion]
            replies = WRITES.run_for_each(self._results, "drop_records", calls)
            for (n, key, _), reply in zip(portion, replies, strict=True):
                answers[n] = WRITES.result_from_reply(backups[n].id, reply)
                if answers[n].outcome is not Outcome.REFUSED:
                    gone.append(key)
        gone += [
            key
            for n, one in answers.items()
            if one.outcome is Outcome.GONE
            for key in location.record_keys(backups[n].id)
        ]
        remove_from_index(self._own, self._name, prefix, state, gone)
        return [answers[n] for n in range(len(backups))]

    def restore_records(self, prefix: str, state: State, backups: Sequence[JobBackup]) -> list[ActionResult]:
        """Restore records with their remaining time to live, but at least one hour. Cost: at most 4 round trips."""
        location = self._location_of(prefix)
        found = {n: one for n, job in enumerate(backups) if (one := _unpack_record(location, job)) is not None}
        now = self._results.now_s()
        commands = []
        for one in found.values():
            left = () if one.until_ms is None else ("PX", max(LEAST_LEFT_MS, one.until_ms - int(now * 1000)))
            commands.append(("SET", one.key, one.raw, *left, "NX"))
        replies = dict(zip(found, self._results.run_batch(commands), strict=True))
        self._results.check_writable(list(replies.values()))
        taken = [n for n, reply in replies.items() if reply is None]
        there = self._results.run_batch([("GETRANGE", found[n].key, 0, MAX_KEPT_BYTES) for n in taken])
        same = {n for n, raw in zip(taken, there, strict=True) if raw == found[n].raw}
        answers = []
        listed: dict[bytes, float] = {}
        for n, job in enumerate(backups):
            reply = replies.get(n)
            if n not in found:
                answers.append(refused_result(job.id, "it was too large to back up"))
            elif isinstance(reply, ResponseError):
                answers.append(WRITES.result_from_reply(job.id, reply))
            elif reply is None and n not in same:
                answers.append(
                    ActionResult(id=job.id, outcome=Outcome.CHANGED, detail="another record with this id exists now")
                )
            else:
                answers.append(ActionResult(id=job.id, outcome=Outcome.DONE))
                listed[keys.member_of(found[n].key)] = _index_score(found[n].raw, now)
        if listed and self._own is not None:
            pairs = [part for member, score in listed.items() for part in (repr(score), member)]
            self._own.run_batch([("ZADD", keys.index_key(self._name, state, prefix), *pairs)])
        return answers


def _unpack_record(location: ResultsLocation, job: JobBackup) -> RecordBackup | None:
    """Return the record in a JobBackup; None if it has none, or one that does not belong to this job."""
    found = unpack_backup(job.blob)
    fits = isinstance(found, RecordBackup) and found.key in location.record_keys(job.id)
    return found if isinstance(found, RecordBackup) and fits else None


def _index_score(raw: bytes, now: float) -> float:
    done = parse_time(outline_record(as_raw_record(raw)).fields.get("date_done"))
    return done.timestamp() if done else now
