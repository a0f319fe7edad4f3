"""Finds selected jobs and their exact bytes, which are needed to remove an entry from a set or list.

A set is read at the scores given in the ids, whatever its size. A queue has no index: it is scanned from the end that
workers fetch from and from its newest end, at most LOOK_AT entries each, in steps that block Redis for 1 to 2 ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from redis.exceptions import ResponseError

from ....model import State
from ....sources.source import Argument, Reply, text
from ...actions import ActionResult, JobRef, Outcome, refused_result
from ...bounded_reads import stamp_of
from ...lua_reads import Scripts
from .. import keys
from ..job_decoding import jid_of, job_id
from ..jobs import SCORED
from .scripts import WRITES

# How many entries are scanned from each end of a queue, and among jobs that are due at the very same time.
LOOK_AT = 20_000
SAME_SCORE = 20_000
STEP = 500
# Short calls: the server runs all commands that it reads at a time, about 16 KiB, before it serves other clients.
REFS_PER_CALL = 100
# How many bytes one call returns; what does not fit is requested again.
ROOM_BYTES = 2 * 1024 * 1024
# How many bytes of entries one call reads, and how many calls one queue gets; after that the scan stops.
READ_BYTES, READ_CALLS = 4 * 1024 * 1024, 100


class LocatedEntry(NamedTuple):
    """An entry as stored in Redis; `raw` is None when it exceeds the requested length. `at`: its score or position."""

    raw: bytes | None
    size_bytes: int
    version: str
    at: bytes | int


# Where a job was found, or the result to report instead; None: the reply was full, ask again.
Located = LocatedEntry | ActionResult | None


def locate_entries(
    scripts: Scripts, place: keys.NamespaceLocation, state: State, job_refs: Sequence[JobRef], longest_bytes: int
) -> list[Located]:
    """Locate each of `job_refs`, in order.

    Cost: usually 1 round trip. In a queue where some jobs are not among the next jobs to run, 1 more for each 500
    entries scanned: Redis runs commands that are sent together before it serves another client.
    """
    if place.queue is not None:
        return _in_list(scripts, f"{place.namespace}{keys.QUEUE}{place.queue}", job_refs, longest_bytes)
    return _in_set(scripts, f"{place.namespace}{keys.SETS[state]}", job_refs, longest_bytes)


def no_room(job_ref: JobRef) -> ActionResult:
    """The result for a job that never fits into the reply because of long entries, any of which might be it."""
    detail = "could not be located: too many large or unreadable entries around it"
    return refused_result(job_ref.id, detail)


def _in_set(scripts: Scripts, key: str, job_refs: Sequence[JobRef], longest_bytes: int) -> list[Located]:
    wanted: dict[str, dict[str, list[int]]] = {}  # score -> jid -> which references
    for n, job_ref in enumerate(job_refs):
        if match := SCORED.match(job_ref.id):
            wanted.setdefault(match[1], {}).setdefault(match[2], []).append(n)
    scores = list(wanted)
    parts = [scores[n : n + REFS_PER_CALL] for n in range(0, len(scores), REFS_PER_CALL)]
    answer = _LookupProgress(job_refs)
    crowded = _ask_set(scripts, key, longest_bytes, [(0, part) for part in parts], wanted, answer)
    open_scores = [score for score in scores if any(answer.is_open(n) for ns in wanted[score].values() for n in ns)]
    if crowded >= 0 and open_scores:
        calls = [(start, [score]) for score in open_scores[:10] for start in range(STEP, SAME_SCORE, STEP)]
        if _ask_set(scripts, key, longest_bytes, calls, wanted, answer) == calls[-1][0]:
            answer.unsearched = f"not found among the first {SAME_SCORE} jobs that are due at the same time"
    return answer.located_entries()


def _ask_set(
    scripts: Scripts,
    key: str,
    longest_bytes: int,
    calls: Sequence[tuple[int, Sequence[str]]],
    wanted: Mapping[str, Mapping[str, Sequence[int]]],
    answer: _LookupProgress,
) -> int:
    """Add the entries that the calls find. Returns the deepest start after which a score had more entries, or -1."""
    arguments: list[list[Argument]] = [
        [
            key,
            longest_bytes,
            ROOM_BYTES,
            start,
            STEP,
            READ_BYTES,
            len(scores),
            *scores,
            *(jid for s in scores for jid in wanted[s]),
        ]
        for start, scores in calls
    ]
    crowded = -1
    for n, reply in _run_calls(scripts, "locate_in_set", arguments, answer):
        if reply.pop():
            crowded = max(crowded, calls[n][0])
        for score, raw, size, cut in zip(*[iter(reply)] * 4, strict=True):
            answer.add_entry(wanted[text(score)], raw, size, cut, score)
    return crowded


def _in_list(scripts: Scripts, key: str, job_refs: Sequence[JobRef], longest_bytes: int) -> list[Located]:
    wanted: dict[str, list[int]] = {}
    for n, job_ref in enumerate(job_refs):
        wanted.setdefault(job_ref.id, []).append(n)
    answer = _LookupProgress(job_refs)
    length = _ask_list(scripts, key, longest_bytes, [STEP, 0], wanted, answer)
    if length > 2 * STEP and any(answer.is_open(n) for n in range(len(job_refs))):
        # Deepest first: in the meantime entries move towards the end that workers fetch from, so none is missed between
        # two steps.
        newest = max(LOOK_AT, length - LOOK_AT)
        starts = [*range(0, min(length, LOOK_AT), STEP), *range(newest, length, STEP)][::-1]
        for start in starts:
            if not any(answer.is_open(each) for each in range(len(job_refs))):
                break
            _ask_list(scripts, key, longest_bytes, [start], wanted, answer)
        if length > 2 * LOOK_AT:
            answer.unsearched = f"not among the first or last {LOOK_AT} jobs of the queue; no others are searched"
    return answer.located_entries()


def _ask_list(
    scripts: Scripts,
    key: str,
    longest_bytes: int,
    starts: Sequence[int],
    wanted: Mapping[str, Sequence[int]],
    answer: _LookupProgress,
) -> int:
    """Add what is found in the ranges that begin at `starts`. Returns the length of the queue."""
    length = 0
    left = [(start, start + STEP) for start in starts]
    for _ in range(READ_CALLS):
        open_ids = [name for name, ns in wanted.items() if any(answer.is_open(n) for n in ns)]
        calls: list[list[Argument]] = [
            [key, longest_bytes, ROOM_BYTES, at, end - at, READ_BYTES, *open_ids] for at, end in left
        ]
        further = []
        for n, reply in _run_calls(scripts, "locate_in_queue", calls, answer):
            length = max(length, reply.pop())
            reached, end = reply.pop(), left[n][1]
            if left[n][0] < reached < min(end, length):
                further.append((reached, end))
            for at, raw, size, cut in zip(*[iter(reply)] * 4, strict=True):
                answer.add_entry(wanted, raw, size, cut, at)
        left = further
        if not left or not any(answer.is_open(n) for ns in wanted.values() for n in ns):
            break
    return length


def _run_calls(
    scripts: Scripts, name: str, calls: Sequence[Sequence[Argument]], answer: _LookupProgress
) -> Iterable[tuple[int, list[Reply]]]:
    """The index of each successful call with its reply; a failure is recorded in `answer.refused`."""
    replies = scripts.run(keys.load_script(name), calls)
    if replies is None:
        answer.refused = "the Redis user is not permitted to run scripts (EVAL)"
        return
    for n, reply in enumerate(replies[0]):
        if isinstance(reply, ResponseError):
            answer.refused = WRITES.explain_refusal(reply)
        else:
            yield n, reply


class _LookupProgress:
    """What is known so far of each job reference."""

    def __init__(self, job_refs: Sequence[JobRef]) -> None:
        self._job_refs = job_refs
        self._entries: dict[int, LocatedEntry] = {}
        self._changed: set[int] = set()
        self._full: set[int] = set()
        self.refused: str | None = None
        self.unsearched: str | None = None

    def is_open(self, n: int) -> bool:
        """Whether a job still has to be found."""
        return n not in self._entries and n not in self._full

    def add_entry(
        self, wanted: Mapping[str, Sequence[int]], raw: Reply, size: int, cut: Reply, at: bytes | int
    ) -> None:
        """Record an entry that may be among `wanted`, the references by jid."""
        if size < 0 and not cut:
            # None of it was read for lack of room: it may be any of them.
            version, names = "", list(wanted)
        elif isinstance(raw, bytes):
            version = text(cut) if cut else stamp_of(raw)
            names = self._matching_refs(wanted, raw, version)
        else:
            version = text(cut) if cut else ""
            # Only its digest is known here; without a stamp to compare, its position has to do.
            names = [name for name, ns in wanted.items() if len(wanted) == 1 or self._is_expected(ns, version)]
        for name in names:
            for n in wanted[name]:
                expected = self._job_refs[n].version
                if expected is not None and version and expected != version:
                    self._changed.add(n)
                elif size < 0:
                    self._full.add(n)
                elif n not in self._entries:
                    self._entries[n] = LocatedEntry(raw if isinstance(raw, bytes) else None, size, version, at)

    def _matching_refs(self, wanted: Mapping[str, Sequence[int]], raw: bytes, version: str) -> list[str]:
        """Which of `wanted` this entry is; without a matching name, by its bytes: parsers read odd JSON differently."""
        named = [name for name in {job_id(jid_of(raw), version, None), f"raw{version}"} if name in wanted]
        return named or [name for name, ns in wanted.items() if any(self._job_refs[n].version == version for n in ns)]

    def _is_expected(self, ns: Sequence[int], version: str) -> bool:
        return any(self._job_refs[n].version in (None, version) for n in ns)

    def located_entries(self) -> list[Located]:
        """The result for each job reference, in order."""
        return [self._located_entry(n) for n in range(len(self._job_refs))]

    def _located_entry(self, n: int) -> Located:
        if n in self._entries:
            return self._entries[n]
        if n in self._full:
            return None
        job_ref = self._job_refs[n]
        if self.refused:
            return refused_result(job_ref.id, self.refused)
        if n in self._changed:
            return ActionResult(id=job_ref.id, outcome=Outcome.CHANGED, detail="the job changed since you saw it")
        if self.unsearched:
            return refused_result(job_ref.id, self.unsearched)
        return ActionResult(id=job_ref.id, outcome=Outcome.GONE)
