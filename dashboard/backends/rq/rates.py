"""The jobs that finished in each queue between two samples, from what RQ records by default.

RQ has no counter per queue. A registry stores each job with the time of its expiry as the score, so counting the
members above a fixed time twice gives the number that was added in between, minus those that were removed. Several such
bounds are read; none of them counts more than were really added, so the largest result is the best:

- high: jobs that finished since shortly before the anchor with RQ's default time to live. It is not affected when old
  jobs are retried or deleted by the thousand.
- low: jobs with a time to live above half a minute, minus those that were removed.
- brief: jobs with any time to live, minus those that were removed or expired.
- never: failed jobs without expiry, which RQ stores with the score -1.

Workers count the jobs that they ran, including those that leave no record (`result_ttl` 0), but for all queues of a
worker together. For each set of queues that share workers, the workers' counts are therefore compared with the records.
If the set is a single queue, the difference belongs to it; otherwise the rates of its queues are unknown, but not their
sum.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from typing import NamedTuple

import msgspec

from ...model import FlowDelta, Quality, QueueFlow, QueueRef, State
from ...sources.source import Command, Reply, Source
from ..base import FLOW_WINDOW_S
from ..completion_balance import BALANCED, CompletionBalance
from ..lua_reads import Scripts
from ..payloads.decoding import text
from . import keys as names
from .consumers import FIELDS, MAX_WORKERS, LiveWorker, worker_of, workers_call, workers_of
from .job_hashes import FieldSelection, JobHashReader
from .keys import QueueKeys, load_script
from .serialization import parse_time

# RQ's defaults. Source: rq 3.0, defaults.py.
TTLS_S: Mapping[State, int] = {State.COMPLETED: 500, State.DEAD: 31_536_000}
# Field values that mean these defaults: the fields are often omitted.
DEFAULT_TTLS = frozenset(product(*((None, str(ttl_s)) for ttl_s in TTLS_S.values())))
TTL_FIELDS: Mapping[State, str] = {State.COMPLETED: "result_ttl", State.DEAD: "failure_ttl"}
# The maximum clock difference of a worker.
SKEW_S = 30
# An anchor is used for this long, so that most samples need one count per bound; `low` must stay ahead of the clock.
ANCHOR_S = 20.0
LOW_S = 30.0
# Run times are read for at most this many jobs per sample, for all queues together, and per queue and state.
SAMPLE_TOTAL = 200
SAMPLE_QUEUE = 20
TIMES = FieldSelection(small=("started_at", "ended_at", "retries_left", *TTL_FIELDS.values()), limit_bytes=64)
QUEUES_PER_SCRIPT = 50
# At most this many queues that are not shown are read as well, because their workers can serve shown queues too.
MAX_OTHERS = 50
REASON = "Counted from RQ's registries, which do not show jobs that were deleted or retried between two samples."
BY_WORKERS = "Counted by the workers, because successful jobs leave no record here (result_ttl is 0)."
HIDDEN = {
    (State.COMPLETED,): (
        "Successful jobs leave no record here (result_ttl is 0). The workers count them for several queues together."
    ),
    (State.DEAD,): "Failed jobs leave no record here (failure_ttl is short).",
    (State.COMPLETED, State.DEAD): "Finished jobs leave no record here (result_ttl and failure_ttl are short).",
}
BRIEF = "Finished jobs are removed within seconds here (result_ttl or failure_ttl is short)."
TOGETHER = "Counted by the workers, for several queues together."
FIRST_REASON = "First sample: looks back over the last five minutes and assumes RQ's default times to live."
NO_LOOK_BACK = "Finished jobs here do not have RQ's default times to live. Rates start with the second sample."
NOTHING_SEEN = "No successful job of the last minutes is listed. Rates start with the second sample."
NO_PROOF = (
    "No worker here has been running for five minutes, so the records may not go back that far. "
    "Rates start with the second sample."
)
UNREADABLE = "This queue's registries cannot be read."


class NextJob(NamedTuple):
    """The settings of the next job of a queue."""

    id: str
    retries: bool  # it can be retried
    ttls: tuple[str | None, ...]  # its `result_ttl` and its `failure_ttl`, as stored

    @property
    def leaves_nothing(self) -> bool:
        """Whether it leaves no record when it succeeds."""
        return self.ttls[0] == "0"


class QueueMemory(msgspec.Struct, frozen=True, gc=False):
    """The state of a queue between samples: counts above the bounds of an anchor, and facts about its newest jobs."""

    anchor: float
    counts: AnchorCounts
    busy: bool  # jobs finished in the last sample, so the next one reads their ids
    newest: float  # when the newest sampled job finished, by the clock of its worker
    completed: CompletionBalance = BALANCED  # of the set of queues that share its workers
    failed: CompletionBalance = BALANCED
    brief: Mapping[State, float] = {}  # when jobs that are removed within seconds last finished
    retried_at: float = 0.0  # when a job that can be, or was, retried was last seen
    next_job: NextJob | None = None
    untold_at: float = 0.0  # when a job without a record was last picked up without a live worker to count it


@dataclass(frozen=True, slots=True)
class FlowCursor:
    """What `read_flow` keeps between two samples."""

    at: float
    anchor: float
    queues: Mapping[str, QueueMemory]  # by QueueRef.key
    workers: Mapping[str, LiveWorker]  # by key, including those that stopped within the last minute
    keys: tuple[str, ...] = ()  # of workers, to read their hashes if scripts are not permitted


class AnchorCounts(msgspec.Struct, frozen=True, gc=False):
    """The numbers of members above the bounds of one anchor."""

    numbers: Sequence[int]  # all counts, as read
    high: Mapping[State, int]
    low: Mapping[State, int]
    brief: Mapping[State, int]
    never: int

    def since(self, before: AnchorCounts, *, low_holds: bool) -> tuple[dict[State, int], dict[State, int]]:
        """Return how many jobs were added since `before`, by the best of the bounds, which must be those of the same
        anchor, and how many of them are removed within seconds.
        """
        came = {
            state: max(
                0, self.high[state] - before.high[state], self.low[state] - before.low[state] if low_holds else 0
            )
            for state in TTLS_S
        }
        brief = {state: max(0, self.brief[state] - before.brief[state] - came[state]) for state in TTLS_S}
        for state in TTLS_S:
            came[state] += brief[state]
        came[State.DEAD] += max(0, self.never - before.never)
        return came, brief if low_holds else dict.fromkeys(TTLS_S, 0)

    def disturbed_states(self, before: AnchorCounts) -> set[State]:
        """Return the states whose new records were removed since `before`: by a user, as they are far from expiry."""
        return {state for state in TTLS_S if self.high[state] < before.high[state]}


class _FlowFindings(msgspec.Struct):
    """What one sample found about a queue."""

    queue: QueueKeys
    came: dict[State, int]
    span_s: float
    reason: str
    counts: AnchorCounts
    ids: list[str]  # the newest jobs of both registries, at most as many as were added
    newest: float
    brief: Mapping[State, int]
    disturbed: set[State]
    runtimes: list[float] = []
    retries: bool = False  # a job that can be, or was, retried was seen
    next_job: NextJob | None = None
    first: bool = False  # this is the first sample of the queue
    other_ttls: bool = False  # a job without RQ's default times to live was seen
    traceless: bool = False  # a job that leaves no record when it succeeds was seen

    def note_ttls(self, ttls: Mapping[State, str | None]) -> None:
        """Record the times to live of a job; None for a field that is not set."""
        if any(ttl is not None and ttl != str(TTLS_S[state]) for state, ttl in ttls.items()):
            self.other_ttls = True
        self.traceless = self.traceless or ttls[State.COMPLETED] == "0"


def read_flow(
    source: Source, scripts: Scripts, refs: Sequence[tuple[QueueRef, QueueKeys]], before: FlowCursor | None
) -> tuple[FlowDelta, FlowCursor]:
    """Return what finished in `refs` since `before`, and the next cursor. Cost: 2 round trips, 1 if nothing did."""
    now = source.now_s()
    if before is None or not 0 <= now - before.at <= FLOW_WINDOW_S:
        before = FlowCursor(now, now, {}, {})
    anchor = before.anchor if now - before.anchor < ANCHOR_S else now
    asked = _FlowCommands(before, anchor, now, len(refs))
    queues = [queue for _, queue in refs]
    others = _other_queues(queues, before)
    there: list[Command] = [("SISMEMBER", names.directory_key(queue.prefix), queue.queue) for queue in others]
    orders = _NextJobSettings(refs, before, now)
    prefixes = sorted({queue.prefix for _, queue in refs})
    heads = [workers_call(prefix, _workers_of_prefix(prefix, before.workers)) for prefix in prefixes]
    groups = asked.queue_groups([*queues, *others])
    answered = scripts.run(
        load_script("queues"),
        [*heads, *(asked.script_call(prefix, some) for prefix, some in groups), *orders.script_calls()],
        there,
    )
    found: dict[str, _FlowFindings] = {}
    if answered is None:
        per_queue = [asked.commands_for(queue) for queue in (*queues, *others)]
        commands = [*there, *(command for several in per_queue for command in several)]
        workers, keys, replies = _read_without_lua(source, prefixes, commands, before)
        known, left = replies[: len(there)], iter(replies[len(there) :])
        rows: list[tuple[QueueKeys, Reply]] = [
            (queue, list(islice(left, len(several))))
            for queue, several in zip((*queues, *others), per_queue, strict=True)
        ]
    else:
        scripted, counted = answered[0][: len(prefixes)], answered[0][len(prefixes) :]
        known = answered[1]
        workers = {worker.key: worker for reply in scripted for worker in workers_of(reply) or ()}
        keys = tuple(workers)
        rows = [
            (queue, row)
            for (_, some), reply in zip(groups, counted, strict=False)
            for queue, row in zip(some, reply if isinstance(reply, list) else [None] * len(some), strict=True)
        ]
    workers = _remember_workers(workers, before)
    gone = {queue.queue for queue, reply in zip(others, known, strict=True) if reply != 1}
    for queue, row in rows:
        answer = asked.parse_replies(queue, row) if isinstance(row, list) else None
        if answer is not None and queue.queue not in gone:
            found[queue.queue] = answer
    if answered is not None:
        orders.take_replies(found, counted[len(groups) :])
    _sample_run_times(JobHashReader(source, scripts), list(found.values()), now)
    seen, flows, together = _balance_flows(found, workers, before, anchor, now)
    unread = [_unread_flow(ref) for ref, queue in refs if queue.queue not in flows]
    flow = [flows[queue.queue] for _, queue in refs if queue.queue in flows]
    return FlowDelta(queues=(*flow, *unread), together=together), FlowCursor(now, anchor, seen, workers, keys)


def _other_queues(queues: Sequence[QueueKeys], before: FlowCursor) -> list[QueueKeys]:
    """Return queues that are not shown but whose jobs the workers of `queues` also count; at most MAX_OTHERS."""
    shown = {queue.queue for queue in queues}
    named = {
        other.queue: other
        for worker in before.workers.values()
        for name in worker.queues.split(",")
        if (other := QueueKeys(worker.key.partition(":worker:")[0], name)).queue not in shown
    }
    return list(islice(named.values(), MAX_OTHERS))


def _remember_workers(workers: Mapping[str, LiveWorker], before: FlowCursor) -> dict[str, LiveWorker]:
    """Return `workers`, those without queues completed with their queues from `before`; unknown ones are omitted."""
    found = {}
    for key, worker in workers.items():
        known = before.workers.get(key)
        if worker.queues:
            found[key] = worker
        elif known is not None:
            found[key] = replace(worker, queues=known.queues)
    return found


def _workers_of_prefix(prefix: str, workers: Mapping[str, LiveWorker]) -> list[str]:
    return [key for key in workers if key.startswith(f"{prefix}:worker:")][:MAX_WORKERS]


def _read_without_lua(
    source: Source, prefixes: Sequence[str], commands: Sequence[Command], before: FlowCursor
) -> tuple[dict[str, LiveWorker], tuple[str, ...], list[Reply]]:
    """Read with plain commands: the workers, the keys of all, the replies. Cost: 1 round trip, 2 with new workers."""
    sets: list[Command] = [("SSCAN", names.workers_key(prefix), 0, "COUNT", MAX_WORKERS) for prefix in prefixes]
    hashes: list[Command] = [("HMGET", key, *FIELDS) for key in before.keys]
    replies = source.run_batch([*commands, *sets, *hashes])
    found, rest = replies[: len(commands)], replies[len(commands) :]
    keys = [text(key) for reply in rest[: len(sets)] if isinstance(reply, list) for key in reply[1]]
    new = [key for key in dict.fromkeys(keys) if key not in before.keys][:MAX_WORKERS]
    of_new = source.run_batch([("HMGET", key, *FIELDS) for key in new]) if new else []
    workers = {
        key: worker_of(key, *values)
        for key, values in zip([*before.keys, *new], [*rest[len(sets) :], *of_new], strict=True)
        if isinstance(values, list) and any(isinstance(value, bytes) for value in values)
    }
    return workers, tuple(dict.fromkeys([*keys, *workers]))[:MAX_WORKERS], found


class _NextJobSettings:
    """Reads the times to live of the next jobs, and whether they can be retried."""

    def __init__(self, refs: Sequence[tuple[QueueRef, QueueKeys]], before: FlowCursor, now: float) -> None:
        self._lists: dict[str, list[tuple[QueueKeys, str, NextJob | None]]] = {}  # by prefix, with the former next job
        for _, queue in refs:
            lists = self._lists.setdefault(queue.prefix, [])
            seen = before.queues.get(queue.queue)
            lists.append((queue, f"l{queue.queue}", seen.next_job if seen else None))
            if seen is not None and seen.failed.hides_jobs(now):
                lists += [(queue, f"z{queue.list_of(state)}", None) for state in (State.SCHEDULED, State.ACTIVE)]

    def script_calls(self) -> list[list[str]]:
        """Return the calls of the script."""
        return [
            [
                *("orders", f"{prefix}:job:"),
                *(part for _, key, job in lists[at : at + QUEUES_PER_SCRIPT] for part in (key, job.id if job else "")),
            ]
            for prefix, lists in self._lists.items()
            for at in range(0, len(lists), QUEUES_PER_SCRIPT)
        ]

    def take_replies(self, found: Mapping[str, _FlowFindings], replies: Sequence[Reply]) -> None:
        """Add the replies to `script_calls` to `found`."""
        chunks = [
            lists[at : at + QUEUES_PER_SCRIPT]
            for lists in self._lists.values()
            for at in range(0, len(lists), QUEUES_PER_SCRIPT)
        ]
        for chunk, reply in zip(chunks, replies, strict=True):
            for (queue, key, before), row in zip(chunk, reply if isinstance(reply, list) else (), strict=False):
                answer = found.get(queue.queue)
                if answer is None or row is None:
                    continue
                job = before if isinstance(row, bytes) else _next_job(row)
                if job is not None:
                    answer.retries = answer.retries or job.retries
                    answer.other_ttls = answer.other_ttls or job.ttls not in DEFAULT_TTLS
                    answer.traceless = answer.traceless or job.leaves_nothing
                    answer.next_job = job if key.startswith("l") else answer.next_job


def _next_job(row: Reply) -> NextJob | None:
    if not isinstance(row, list):
        return None
    job_id, *ttls, retries_left = row
    kept_s = tuple(text(raw) if isinstance(raw, bytes) else None for raw in ttls)
    return NextJob(text(job_id), retries_left is not None, kept_s)


class _FlowCommands:
    """The commands of one sample, and how to parse their replies, queue by queue."""

    def __init__(self, before: FlowCursor, anchor: float, now: float, queues: int) -> None:
        self._before = before
        self._anchor = anchor
        self._now = now
        busy = sum(seen.busy for seen in before.queues.values())
        self._all = queues <= SAMPLE_TOTAL // (2 * SAMPLE_QUEUE)
        self._each = min(SAMPLE_QUEUE, max(1, SAMPLE_TOTAL // (2 * max(1, queues if self._all else busy))))

    def queue_groups(self, wanted: Sequence[QueueKeys]) -> list[tuple[str, list[QueueKeys]]]:
        """Return the queues by prefix, in chunks that one call of the script reads."""
        spaces: dict[str, list[QueueKeys]] = {}
        for queue in wanted:
            spaces.setdefault(queue.prefix, []).append(queue)
        return [
            (prefix, queues[at : at + QUEUES_PER_SCRIPT])
            for prefix, queues in spaces.items()
            for at in range(0, len(queues), QUEUES_PER_SCRIPT)
        ]

    def script_call(self, prefix: str, queues: Sequence[QueueKeys]) -> list[str]:
        """Return the call of the script that reads the same as `commands_for` each queue."""
        former = self._before.anchor
        windows = [bound for state in TTLS_S for bound in _window_bounds(state, self._now)]
        newest = " ".join(str(self._now + ttl_s + SKEW_S) for ttl_s in TTLS_S.values())
        call = ["ended", prefix, *_anchor_bounds(self._anchor)]
        call += _anchor_bounds(former) if former != self._anchor else [""] * 6
        call += [*windows, newest, f"({self._now}", str(self._each)]
        for queue in queues:
            seen = self._before.queues.get(queue.queue)
            newest_too = self._all or (seen is not None and seen.busy)
            call += (queue.name, ("w" if seen is None else "") + ("n" if newest_too else ""))
        return call

    def commands_for(self, queue: QueueKeys) -> list[Command]:
        """Return the commands for one queue."""
        seen = self._before.queues.get(queue.queue)
        commands = _bound_commands(queue, self._anchor)
        if seen is None:
            commands += [_window_command(queue, state, self._now) for state in TTLS_S]
        elif seen.anchor != self._anchor:
            commands += _bound_commands(queue, seen.anchor)
        if self._all or (seen is not None and seen.busy):
            commands += [_newest_command(queue, state, self._now, self._each) for state in TTLS_S]
        return commands

    def parse_replies(self, queue: QueueKeys, replies: list[Reply]) -> _FlowFindings | None:
        """Parse the replies; None if a registry cannot be read."""
        seen = self._before.queues.get(queue.queue)
        if seen is not None and replies == seen.counts.numbers:
            # Nothing was added or removed, as in most queues in most samples.
            span_s = self._now - self._before.at
            nothing = dict.fromkeys(TTLS_S, 0)
            return _FlowFindings(queue, nothing, span_s, REASON, seen.counts, [], seen.newest, {}, set())
        numbers = [reply for reply in replies if isinstance(reply, int)]
        lists = [reply for reply in replies if isinstance(reply, list)]
        if len(numbers) + len(lists) < len(replies):
            return None
        first, rest = numbers[:BOUNDS], numbers[BOUNDS:]
        counts = _parse_counts(first)
        brief: dict[State, int] = {}
        disturbed: set[State] = set()
        if seen is None:
            came, span_s, reason, newest = dict(zip(TTLS_S, rest, strict=True)), FLOW_WINDOW_S, FIRST_REASON, 0.0
        else:
            again = _parse_counts(rest) if rest else counts
            came, brief = again.since(seen.counts, low_holds=self._now < seen.anchor + LOW_S)
            disturbed = again.disturbed_states(seen.counts)
            span_s, reason, newest = self._now - self._before.at, REASON, seen.newest
        ids = [text(job_id) for state, ids in zip(TTLS_S, lists, strict=False) for job_id in ids[: came[state]]]
        found = _FlowFindings(queue, came, span_s, reason, counts, ids, newest, brief, disturbed)
        found.first = seen is None
        return found


BOUNDS = 3 * len(TTLS_S) + 1


def _anchor_bounds(anchor: float) -> list[str]:
    """Return the bounds of an anchor, for each state from the highest to the lowest."""
    bounds = []
    for ttl_s in TTLS_S.values():
        # Scores are whole seconds.
        bounds += [f"({anchor - SKEW_S + ttl_s}", f"({anchor + LOW_S}", str(int(anchor))]
    return bounds


def _bound_commands(queue: QueueKeys, anchor: float) -> list[Command]:
    states = [state for state in TTLS_S for _ in range(3)]
    commands: list[Command] = [
        ("ZCOUNT", queue.list_of(state), bound, "+inf")
        for state, bound in zip(states, _anchor_bounds(anchor), strict=True)
    ]
    return [*commands, ("ZCOUNT", queue.list_of(State.DEAD), "-inf", "(0")]


def _parse_counts(numbers: Sequence[int]) -> AnchorCounts:
    high_done, low_done, brief_done, high_dead, low_dead, brief_dead, never = numbers
    done, dead = State.COMPLETED, State.DEAD
    return AnchorCounts(
        numbers,
        {done: high_done, dead: high_dead},
        {done: low_done, dead: low_dead},
        {done: brief_done, dead: brief_dead},
        never,
    )


def _window_command(queue: QueueKeys, state: State, now: float) -> Command:
    """Return the command that counts jobs that finished in the last FLOW_WINDOW_S, given the default time to live."""
    return ("ZCOUNT", queue.list_of(state), *_window_bounds(state, now))


def _window_bounds(state: State, now: float) -> tuple[str, str]:
    end = now + TTLS_S[state]
    return f"({end - FLOW_WINDOW_S}", str(end + SKEW_S)


def _newest_command(queue: QueueKeys, state: State, now: float, count: int) -> Command:
    """Return the command for the ids of the newest jobs, without those that never expire, which have no order."""
    return ("ZREVRANGEBYSCORE", queue.list_of(state), now + TTLS_S[state] + SKEW_S, f"({now}", "LIMIT", 0, count)


def _finished_since(worker: LiveWorker, before: FlowCursor) -> tuple[int, int]:
    """Return how many jobs `worker` completed since `before`, and how many attempts failed."""
    known = before.workers.get(worker.key)
    if known is not None and known.birth == worker.birth:
        # Fewer than before: Redis was emptied again, and the worker started counting from zero.
        completed = worker.completed - (known.completed if worker.completed >= known.completed else 0)
        return completed, worker.failed - (known.failed if worker.failed >= known.failed else 0)
    if (known is not None and worker.birth is None) or (before.queues and worker.born_after(before.at)):
        return worker.completed, worker.failed
    return 0, 0


@dataclass(slots=True)
class _SharedWorkers:
    """Queues that share workers, and what these workers did since the last sample."""

    queues: list[_FlowFindings]
    completed: int = 0
    failed: int = 0
    workers: int = 0
    long_running: int = 0  # of the workers, those that have been running for as long as the first sample reaches back


def _find_shared_workers(
    found: Mapping[str, _FlowFindings], workers: Mapping[str, LiveWorker], before: FlowCursor, now: float
) -> list[_SharedWorkers]:
    crews = {key: _SharedWorkers([answer]) for key, answer in found.items()}
    for worker in workers.values():
        prefix = worker.key.partition(":worker:")[0]
        shared = {
            id(crew): crew
            for name in {*worker.queues.split(","), worker.queues}  # a name can contain commas
            if (crew := crews.get(f"{prefix}:queue:{name}"))
        }
        if not shared:
            continue
        first, *others = shared.values()
        for other in others:
            first.queues += other.queues
            first.completed += other.completed
            first.failed += other.failed
            first.workers += other.workers
            first.long_running += other.long_running
            crews.update((answer.queue.queue, first) for answer in other.queues)
        completed, failed = _finished_since(worker, before)
        first.completed += completed
        first.failed += failed
        first.workers += 1
        first.long_running += worker.born_before(now - FLOW_WINDOW_S)
    return list({id(crew): crew for crew in crews.values()}.values())


def _balance_flows(
    found: Mapping[str, _FlowFindings], workers: Mapping[str, LiveWorker], before: FlowCursor, anchor: float, now: float
) -> tuple[dict[str, QueueMemory], dict[str, QueueFlow], QueueFlow | None]:
    """Return the memory and the flow of each queue, and the flow of those that can only be counted together."""
    seen: dict[str, QueueMemory] = {}
    flows: dict[str, QueueFlow] = {}
    together: list[int] = []
    for crew in _find_shared_workers(found, workers, before, now):
        several = len(crew.queues) > 1
        records = {state: sum([answer.came[state] for answer in crew.queues]) for state in TTLS_S}
        disturbed = {state for answer in crew.queues for state in answer.disturbed}
        # Records that a user removed do not count as jobs without a record.
        completed = min(crew.completed, records[State.COMPLETED]) if State.COMPLETED in disturbed else crew.completed
        failed = min(crew.failed, records[State.DEAD]) if State.DEAD in disturbed else crew.failed
        last = [before.queues.get(answer.queue.queue) for answer in crew.queues]
        retried_at = max([each.retried_at for each in last if each], default=0.0)
        if any(answer.retries for answer in crew.queues):
            retried_at = now
        lost: tuple[State, ...] = ()
        quiet = not (completed or failed or disturbed or any(records.values()))
        # The first sample finds records of jobs for which there are no workers' counts to compare.
        first = any(answer.first for answer in crew.queues)
        for answer, known in zip(crew.queues, last, strict=True):
            if known is not None and quiet and _as_before(answer, known, anchor, retried_at):
                seen[answer.queue.queue] = known
                flows[answer.queue.queue] = QueueFlow(
                    key=answer.queue.queue,
                    completed=0,
                    dead=0,
                    span_s=answer.span_s,
                    quality=Quality.ESTIMATED,
                    reason=answer.reason,
                )
                continue
            old = known or QueueMemory(anchor, answer.counts, busy=False, newest=0.0)
            each = QueueMemory(
                anchor=anchor,
                counts=answer.counts,
                busy=any(answer.came.values()),
                newest=answer.newest,
                completed=old.completed if first else old.completed.add(now, completed, records[State.COMPLETED]),
                failed=old.failed if first else old.failed.add(now, failed, records[State.DEAD]),
                brief={**old.brief, **{state: now for state, count in answer.brief.items() if count}},
                retried_at=retried_at,
                next_job=answer.next_job,
                untold_at=now if _has_untraced_job(answer, old, crew) else old.untold_at,
            )
            seen[answer.queue.queue] = each
            if not several:
                # A worker cut off before it updated its counters counts nothing: the larger of both numbers is right.
                answer.came[State.COMPLETED] += each.completed.growth_since(old.completed)
            # A queue that appears after the first sample of all is new: all of its records are more recent.
            proven = crew.long_running > 0 or before.at < now
            served = crew.workers > 0
            flows[answer.queue.queue] = _build_flow(answer, each, now, several=several, served=served, proven=proven)
            lost = max(lost, flows[answer.queue.queue].hidden, key=len)
        if several and State.COMPLETED in lost:
            dead = crew.failed if State.DEAD in lost else records[State.DEAD]
            together.append(max(completed, records[State.COMPLETED]) + dead)
    if not together:
        return seen, flows, None
    return (
        seen,
        flows,
        QueueFlow(
            key="",
            completed=sum(together),
            dead=0,
            span_s=max(now - before.at, 0.001),
            quality=Quality.ESTIMATED,
            reason=TOGETHER,
        ),
    )


def _as_before(answer: _FlowFindings, known: QueueMemory, anchor: float, retried_at: float) -> bool:
    """Whether `_balance_flows` would return the known memory unchanged for a queue in which nothing finished."""
    return (
        answer.counts is known.counts
        and answer.next_job == known.next_job
        and (known.anchor, known.retried_at, known.newest) == (anchor, retried_at, answer.newest)
        and known.completed is BALANCED
        and known.failed is BALANCED
        and not (known.busy or known.brief or known.untold_at or answer.brief)
    )


def _has_untraced_job(answer: _FlowFindings, before: QueueMemory, crew: _SharedWorkers) -> bool:
    """Whether a job that leaves no record was picked up without a live worker to count it: the worker started and
    stopped since, or Redis no longer knows it."""
    if not crew.workers and not answer.first and answer.traceless and any(answer.came.values()):
        return True
    if before.next_job is None or crew.workers or any(answer.came.values()):
        return False
    same = answer.next_job is not None and answer.next_job.id == before.next_job.id
    return before.next_job.leaves_nothing and not same


def _sample_run_times(reader: JobHashReader, found: Sequence[_FlowFindings], now: float) -> None:
    """Read run times of the newest jobs into `found`. Cost: 1 round trip, none if no job finished."""
    wanted = [(answer, job_id) for answer in found for job_id in answer.ids]
    if not wanted:
        return
    if len(wanted) > SAMPLE_TOTAL:  # start at a random position, so that every queue is sampled over time
        start = random.randrange(len(wanted))  # noqa: S311 - not used for security
        wanted = [*wanted[start:], *wanted[:start]][:SAMPLE_TOTAL]
    records, _ = reader.read_hashes([(answer.queue, job_id) for answer, job_id in wanted], TIMES)
    newest: dict[str, float] = {}
    for (answer, _), record in zip(wanted, records, strict=True):
        answer.retries = answer.retries or record.text("retries_left") is not None
        answer.note_ttls({state: record.text(name) for state, name in TTL_FIELDS.items()})
        started, ended = parse_time(record.text("started_at")), parse_time(record.text("ended_at"))
        if started is None or ended is None or ended < started:
            continue
        at = ended.timestamp()
        if at > max(answer.newest, now - FLOW_WINDOW_S - SKEW_S):
            answer.runtimes.append((ended - started).total_seconds())
            key = answer.queue.queue
            newest[key] = max(at, newest.get(key, 0.0))
    for answer in found:
        answer.newest = newest.get(answer.queue.queue, answer.newest)


def _unread_flow(ref: QueueRef) -> QueueFlow:
    return QueueFlow(key=ref.key, completed=0, dead=0, span_s=0.0, quality=Quality.UNKNOWN, reason=UNREADABLE)


def _build_flow(
    found: _FlowFindings, seen: QueueMemory, now: float, *, several: bool, served: bool, proven: bool
) -> QueueFlow:
    """`served`: a worker serves the queue; `proven`: its records are known to reach back as far as the first sample."""
    nothing_good = not found.came[State.COMPLETED] and (served or found.came[State.DEAD] > 0)
    # A FLUSHALL removes both the records and the workers' own entries.
    no_proof = not proven and any(found.came.values())
    if found.first and (found.other_ttls or nothing_good or no_proof):
        return QueueFlow(
            key=found.queue.queue,
            completed=0,
            dead=0,
            span_s=0.0,
            quality=Quality.UNKNOWN,
            reason=NO_LOOK_BACK if found.other_ttls else NOTHING_SEEN if nothing_good else NO_PROOF,
        )
    unrecorded = seen.completed.hides_jobs(now)
    # A failed attempt that is retried leaves no record either.
    lost = seen.failed.hides_jobs(now) and now - seen.retried_at >= FLOW_WINDOW_S
    untold = now - seen.untold_at < FLOW_WINDOW_S
    hidden: tuple[State, ...] = ()
    unlisted: tuple[State, ...] = ()
    reason = found.reason
    if unrecorded or lost or untold or seen.brief:
        brief = {state for state, at in seen.brief.items() if now - at < FLOW_WINDOW_S}
        hides = ((State.COMPLETED, (several and unrecorded) or untold), (State.DEAD, lost))
        drops = ((State.COMPLETED, unrecorded or untold), (State.DEAD, lost))
        hidden = tuple(state for state, is_hidden in hides if is_hidden)
        unlisted = tuple(state for state, dropped in drops if dropped or state in brief)
        reason = HIDDEN.get(hidden) or (BY_WORKERS if unrecorded else BRIEF if unlisted else found.reason)
    return QueueFlow(
        key=found.queue.queue,
        completed=found.came[State.COMPLETED],
        dead=found.came[State.DEAD],
        span_s=found.span_s,
        quality=Quality.ESTIMATED,
        reason=reason,
        runtimes_s=tuple(found.runtimes[:200]),
        hidden=hidden,
        unlisted=unlisted,
        unlisted_reason=reason if unlisted else None,
        wrong_look_back=found.other_ttls or bool(unlisted),
    )
