"""Result records deleted, and put back from the bin."""

from __future__ import annotations

from collections.abc import Sequence

from redis.exceptions import ResponseError

from dashboard.backends.acting import MAX_KEPT_BYTES, Acted, Kept, Outcome, Pick
from dashboard.backends.celery import keys
from dashboard.backends.celery.asking import acted, ask, portions, reason, refused
from dashboard.backends.celery.bin import KeptRecord, packed, unpacked
from dashboard.backends.celery.index import index_key
from dashboard.backends.celery.message import when
from dashboard.backends.celery.record import Read, as_read, decoded, read, unlist
from dashboard.model import State
from dashboard.sources import Source

# What one script may be given, so that it takes about a millisecond.
JOBS_PER_SCRIPT, BYTES_PER_SCRIPT = 100, 300_000
LEAST_LEFT_MS = 3_600_000


class Records:
    """Deletes and restores the records of one source."""

    def __init__(self, results: Source, own: Source | None, name: str) -> None:
        self._results = results
        self._own = own
        self._name = name

    def take(self, prefix: str, state: State, picks: Sequence[Pick]) -> list[Kept | Acted]:
        """Records to be kept. Cost: 2 round trips."""
        found = read(self._results, prefix, state, picks)
        return [self._kept(one) if isinstance(one, Read) else one for one in found]

    def _kept(self, one: Read) -> Kept:
        pick, record = one.pick, one.record
        until_ms = int(self._results.now_s() * 1000) + one.ttl_ms if one.ttl_ms > 0 else None
        return Kept(
            id=pick.id,
            stamp=pick.stamp,
            blob=None if one.raw is None else packed(KeptRecord(key=one.key, raw=one.raw, until_ms=until_ms)),
            size_bytes=one.size,
            name=record.name if record is not None and isinstance(record.name, str) else None,
        )

    def delete(self, prefix: str, state: State, kept: Sequence[Kept]) -> list[Acted]:
        """Delete records that are as they were. Cost: 1 round trip for each JOBS_PER_SCRIPT, and 1.

        One more where some were too large to be kept and may lie under several keys.
        """
        begins = f'{{"status": "{keys.NATIVE[state]}"'
        answers: list[Acted] = []
        gone: list[bytes] = []
        names = self._names(prefix, kept)
        jobs = zip(kept, names, strict=True)
        for portion in portions(
            ((job, job[0].size_bytes) for job in jobs), most=JOBS_PER_SCRIPT, cost=BYTES_PER_SCRIPT
        ):
            arguments: list[bytes | str | int] = []
            for job, _ in portion:
                found = _record(prefix, job)
                arguments += as_read(found.raw) if found is not None else (job.size_bytes, begins, 0, "")
            replies = ask(self._results, "drop_records", [name for _, name in portion], arguments, len(portion))
            for (job, name), reply in zip(portion, replies, strict=True):
                answers.append(acted(job.id, reply))
                if answers[-1].outcome is not Outcome.REFUSED:
                    gone.append(name)
        unlist(self._own, self._name, prefix, state, gone)
        return answers

    def _names(self, prefix: str, kept: Sequence[Kept]) -> list[bytes]:
        """The key of each record; of those that were not kept, the one under which as much lies as was seen."""
        found = {n: one.key for n, job in enumerate(kept) if (one := _record(prefix, job)) is not None}
        asked = [(n, key) for n, job in enumerate(kept) if n not in found for key in keys.record_keys(prefix, job.id)]
        sizes = self._results.batch([("STRLEN", key) for _, key in asked]) if prefix else [None] * len(asked)
        first: dict[int, bytes] = {}
        for (n, key), size in zip(asked, sizes, strict=True):
            first.setdefault(n, key)
            if size == kept[n].size_bytes:
                found.setdefault(n, key)
        return [found.get(n) or first[n] for n in range(len(kept))]

    def restore(self, prefix: str, state: State, kept: Sequence[Kept]) -> list[Acted]:
        """Put records back, to live as long as was left, but for an hour at least. Cost: at most 3 round trips."""
        found = {n: one for n, job in enumerate(kept) if (one := _record(prefix, job)) is not None}
        now = self._results.now_s()
        commands = []
        for one in found.values():
            left = () if one.until_ms is None else ("PX", max(LEAST_LEFT_MS, one.until_ms - int(now * 1000)))
            commands.append(("SET", one.key, one.raw, *left, "NX"))
        replies = dict(zip(found, self._results.batch(commands), strict=True))
        self._results.check_writable(list(replies.values()))
        taken = [n for n, reply in replies.items() if reply is None]
        there = self._results.batch([("GETRANGE", found[n].key, 0, MAX_KEPT_BYTES) for n in taken])
        same = {n for n, raw in zip(taken, there, strict=True) if raw == found[n].raw}
        answers = []
        listed: dict[bytes, float] = {}
        for n, job in enumerate(kept):
            reply = replies.get(n)
            if n not in found:
                answers.append(refused(job.id, "it was too large to be kept"))
            elif isinstance(reply, ResponseError):
                answers.append(refused(job.id, reason(reply)))
            elif reply is None and n not in same:
                answers.append(Acted(id=job.id, outcome=Outcome.CHANGED, detail="a record of this id is there again"))
            else:
                answers.append(Acted(id=job.id, outcome=Outcome.DONE))
                listed[keys.member_of(found[n].key)] = _score(found[n].raw, now)
        if listed and self._own is not None:
            pairs = [part for member, score in listed.items() for part in (repr(score), member)]
            self._own.batch([("ZADD", index_key(self._name, state, prefix), *pairs)])
        return answers


def _record(prefix: str, job: Kept) -> KeptRecord | None:
    """The record in a Kept; None where there is none, or one that is no record of this job."""
    found = unpacked(job.blob)
    fits = isinstance(found, KeptRecord) and found.key in keys.record_keys(prefix, job.id)
    return found if isinstance(found, KeptRecord) and fits else None


def _score(raw: bytes, now: float) -> float:
    record = decoded(raw)
    done = when(record.date_done) if record else None
    return done.timestamp() if done else now
