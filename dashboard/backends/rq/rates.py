"""The jobs that finished in each queue between two samples, from what RQ records by default.

RQ has no counter per queue: its registries are counted (`flow/registry_counts.py`), and compared with the counts of the
workers, which include jobs that left no record (`flow/balance.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from ...model import FlowDelta, QueueFlow, QueueRef
from ...sources.source import Command, Reply, Source, text
from ..base import FLOW_WINDOW_S
from ..lua_reads import Scripts
from . import keys as names
from .consumers import FIELDS, MAX_WORKERS, LiveWorker, worker_of, workers_call, workers_of
from .flow.balance import balance_flows
from .flow.findings import FlowCursor, FlowFindings
from .flow.job_samples import sample_jobs
from .flow.next_jobs import NextJobSettings
from .flow.registry_counts import FlowCommands
from .job_hashes import JobHashReader
from .keys import QueueKeys, load_script

# An anchor is used for this long, so that most samples need one count per bound.
ANCHOR_S = 20.0
# At most this many queues that are not shown are read as well, because their workers can serve shown queues too.
MAX_OTHERS = 50
UNREADABLE = "This queue's registries cannot be read."


class FlowReplies(NamedTuple):
    """What Redis replied about the queues and their workers."""

    rows: Sequence[tuple[QueueKeys, Reply]]
    listed: Sequence[Reply]  # for each queue that is not shown, 1 if it exists
    workers: Mapping[str, LiveWorker]
    keys: tuple[str, ...]  # of the workers
    next_jobs: Sequence[Reply] | None = None  # for NextJobSettings; None without scripts


def read_flow(
    source: Source, scripts: Scripts, refs: Sequence[tuple[QueueRef, QueueKeys]], before: FlowCursor | None
) -> tuple[FlowDelta, FlowCursor]:
    """Return what finished in `refs` since `before`, and the next cursor. Cost: 2 round trips, 1 if nothing did."""
    now = source.now_s()
    if before is None or not 0 <= now - before.at <= FLOW_WINDOW_S:
        before = FlowCursor(now, now, {}, {})
    anchor = before.anchor if now - before.anchor < ANCHOR_S else now
    asked = FlowCommands(before, anchor, now, len(refs))
    queues = [queue for _, queue in refs]
    others = _other_queues(queues, before)
    orders = NextJobSettings(refs, before, now)
    replies = _read_replies(source, scripts, queues, others, asked, orders, before)
    workers = _remember_workers(replies.workers, before)
    gone = {queue.queue for queue, reply in zip(others, replies.listed, strict=True) if reply != 1}
    found: dict[str, FlowFindings] = {}
    for queue, row in replies.rows:
        answer = asked.parse_replies(queue, row) if isinstance(row, list) else None
        if answer is not None and queue.queue not in gone:
            found[queue.queue] = answer
    if replies.next_jobs is not None:
        orders.take_replies(found, replies.next_jobs)
    sample_jobs(JobHashReader(source, scripts), list(found.values()), now)
    seen, flows, together = balance_flows(found, workers, before, anchor, now)
    unread = [QueueFlow.unknown(ref.key, UNREADABLE) for ref, queue in refs if queue.queue not in flows]
    flow = [flows[queue.queue] for _, queue in refs if queue.queue in flows]
    return FlowDelta(queues=(*flow, *unread), together=together), FlowCursor(now, anchor, seen, workers, replies.keys)


def _read_replies(
    source: Source,
    scripts: Scripts,
    queues: Sequence[QueueKeys],
    others: Sequence[QueueKeys],
    asked: FlowCommands,
    orders: NextJobSettings,
    before: FlowCursor,
) -> FlowReplies:
    there: list[Command] = [("SISMEMBER", names.directory_key(queue.prefix), queue.queue) for queue in others]
    prefixes = sorted({queue.prefix for queue in queues})
    heads = [workers_call(prefix, _workers_of_prefix(prefix, before.workers)) for prefix in prefixes]
    groups = asked.queue_groups([*queues, *others])
    answered = scripts.run(
        load_script("queues"),
        [*heads, *(asked.script_call(prefix, some) for prefix, some in groups), *orders.script_calls()],
        there,
    )
    if answered is None:
        per_queue = [(queue, asked.commands_for(queue)) for queue in (*queues, *others)]
        commands = [*there, *(command for _, several in per_queue for command in several)]
        workers, keys, replies = _read_without_lua(source, prefixes, commands, before)
        known, left = replies[: len(there)], iter(replies[len(there) :])
        plain = [(queue, list(islice(left, len(several)))) for queue, several in per_queue]
        return FlowReplies(plain, known, workers, keys)
    scripted, counted = answered[0][: len(prefixes)], answered[0][len(prefixes) :]
    workers = {worker.key: worker for reply in scripted for worker in workers_of(reply) or ()}
    rows = [
        (queue, row)
        for (_, some), reply in zip(groups, counted, strict=False)
        for queue, row in zip(some, reply if isinstance(reply, list) else [None] * len(some), strict=True)
    ]
    return FlowReplies(rows, answered[1], workers, tuple(workers), counted[len(groups) :])


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
