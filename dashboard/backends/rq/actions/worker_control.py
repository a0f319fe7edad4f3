"""Actions on RQ queues and workers."""

from __future__ import annotations

import json
from collections.abc import Sequence

from redis.exceptions import ResponseError

from ....sources.source import Command, Source
from ...actions import Action, ActionResult, Outcome
from .. import keys
from ..keys import QueueKeys
from . import scripts

JOBS_PER_STEP = 1000


def on_queue(source: Source, queue: QueueKeys, name: str, action: Action) -> ActionResult:
    """Run PAUSE, RESUME or one step of OBLITERATE, which removes JOBS_PER_STEP jobs. Cost: 1 round trip.

    Raises BackendUnavailable if the server accepts no writes.
    """
    if action is Action.OBLITERATE:
        return _obliterate_queue(source, queue, name)
    flag = keys.suspended_key(queue.prefix)
    # Source: rq 3.0, suspension.py.
    reply = source.run_batch([("SET", flag, 1) if action is Action.PAUSE else ("DEL", flag)])[0]
    source.check_writable(reply)
    return scripts.WRITES.result_from_reply(name, reply if isinstance(reply, ResponseError) else b"done")


def _obliterate_queue(source: Source, queue: QueueKeys, name: str) -> ActionResult:
    calls = JOBS_PER_STEP // scripts.JOBS_PER_SCRIPT
    arguments = (*scripts.common_arguments(source, queue), scripts.JOBS_PER_SCRIPT)
    command = scripts.WRITES.command(source, "obliterate", [queue.queue], arguments)
    replies = source.run_batch([command] * calls)
    source.check_writable(replies)
    if replies[-1] == b"more":
        return ActionResult(id=name, outcome=Outcome.DONE, more=True)
    return scripts.WRITES.result_from_reply(name, next(reply for reply in replies if reply != b"more"))


def stop_worker(source: Source, prefixes: Sequence[str], worker_id: str) -> ActionResult:
    """Ask a worker to stop after its running job. Cost: 1 round trip. Source: rq 3.0, command.py."""
    order = json.dumps({"command": "shutdown"})
    script = keys.load_script("shutdown")
    commands: list[Command] = []
    for prefix, worker in _worker_names(prefixes, worker_id):
        known, key = keys.workers_key(prefix), f"{prefix}:worker:{worker}"
        commands.append(("EVAL", script, 3, known, key, f"{prefix}:pubsub:{worker}", order))
    replies = source.run_batch(commands)
    source.check_writable(replies)
    return scripts.WRITES.result_from_reply(worker_id, next((reply for reply in replies if reply != b"gone"), b"gone"))


def _worker_names(prefixes: Sequence[str], worker_id: str) -> list[tuple[str, str]]:
    """Return (prefix, RQ's own name) of the workers that an id can mean: our ids include a prefix that is not RQ's."""
    names = [
        (prefix, worker_id.removeprefix(f"{prefix}:")) for prefix in prefixes if worker_id.startswith(f"{prefix}:")
    ]
    return [*(pair for pair in names if pair[0] != keys.DEFAULT_PREFIX), (keys.DEFAULT_PREFIX, worker_id)]
