"""What can be done to RQ's jobs, without RQ's own code: it unpickles what it loads. Layout: rq 1.16 to 3.0.

Own scripts do what `Registry.requeue`, `Job.cancel`, `Job.delete` and `suspension` of rq 3.0 do, each job in one step,
and leave `data` and `meta`, which are pickled, as they are.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from redis.exceptions import NoPermissionError, ResponseError

from dashboard.backends.acting import MAX_KEPT_BYTES, Acted, Action, Kept, Outcome, Pick, Wishes
from dashboard.backends.rq import keys
from dashboard.backends.rq.keys import QueueKeys
from dashboard.clock import now_s
from dashboard.errors import Unsupported
from dashboard.model import JobQuery, State
from dashboard.sources import Argument, Reply, Source

JOB_ACTIONS = {
    State.WAITING: (Action.MOVE, Action.DUPLICATE, Action.CANCEL, Action.DELETE),
    State.ACTIVE: (Action.STOP,),
    State.SCHEDULED: (Action.PROMOTE, Action.CANCEL, Action.DELETE),
    State.BLOCKED: (Action.PROMOTE, Action.CANCEL, Action.DELETE),
    State.DEAD: (Action.RETRY, Action.DUPLICATE, Action.DELETE),
    State.COMPLETED: (Action.DUPLICATE, Action.DELETE),
    State.CANCELED: (Action.RETRY, Action.DELETE),
}
QUEUE_ACTIONS = (Action.PAUSE, Action.RESUME, Action.OBLITERATE)
WORKER_ACTIONS = (Action.STOP_WORKER,)
EXPLAINED = {
    Action.RETRY: "RQ puts the job at the end of its queue. The retries it has left stay as they are.",
    Action.PROMOTE: "RQ puts the job at the end of its queue now, whatever it was waiting for.",
    Action.CANCEL: "The job is kept as canceled and does not run. Jobs that wait for it go on waiting.",
    Action.DELETE: "The job goes with its results. Jobs that depend on it stay deferred for ever: see to them first.",
    Action.STOP: "RQ's worker is told to end the job, which is then kept among the failed ones.",
    Action.MOVE: "The job goes to the end of the other queue.",
    Action.DUPLICATE: "A new job of the same function and arguments is put at the end of the queue.",
    Action.PAUSE: "RQ knows no pause of one queue: ALL workers of this Redis stop taking jobs. One that already waits "
    "for a job may take one more.",
    Action.RESUME: "All workers of this Redis take jobs again.",
    Action.OBLITERATE: "The queue, all its jobs and its results are removed. It comes back when the app adds a job.",
    Action.STOP_WORKER: "The worker ends when its present job has ended.",
}
WITHHELD = {
    Action.EDIT: "The arguments of RQ's jobs are pickled: only the app can write them.",
    Action.KILL: "RQ has no way to fail a job that does not run: cancel it.",
    Action.QUIET: "RQ cannot tell one worker to take nothing new: stop it, or pause all of them.",
    Action.TRIGGER: "RQ's cron schedules are run by their own process, which takes no orders.",
    Action.PAUSE_SCHEDULE: "RQ's cron schedules are run by their own process, which takes no orders.",
    Action.REMOVE_SCHEDULE: "RQ's cron schedules are set up by the app.",
}
_STATUSES = {
    State.WAITING: "queued",
    State.SCHEDULED: "scheduled",
    State.BLOCKED: "deferred",
    State.DEAD: "failed stopped",
    State.CANCELED: "canceled",
}
# A waiting job is looked for among so many of those next to run.
SEARCHED = 200_000
OBLITERATE_STEP = 200


class _Blob(msgspec.Struct, array_like=True, frozen=True):
    """All of a deleted job, as take.lua told it."""

    score: bytes
    before: bytes
    place: int
    signature: bytes
    ttl_ms: int
    dumps: tuple[bytes, ...]
    parents: tuple[bytes, ...]


def picks(source: Source, queue: QueueKeys, query: JobQuery) -> list[Pick]:
    """Ids of a page, and of those that ended when. Cost: 1 round trip, 2 for states that end."""
    first, last = query.offset, query.offset + query.per_page - 1
    key = queue.of(query.state)
    command = {State.WAITING: "LRANGE"}.get(query.state, "ZRANGE")
    if query.state in (State.DEAD, State.COMPLETED, State.CANCELED):
        command = "ZREVRANGE"
    reply = source.batch([(command, key, first, last)])[0]
    ids = [keys.job_id_of(_text(raw), query.state) for raw in reply] if isinstance(reply, list) else []
    if query.state not in (State.DEAD, State.COMPLETED):
        return [Pick(id=job_id) for job_id in ids]
    ended = source.batch([("HGET", _raw(queue.job(job_id)), "ended_at") for job_id in ids])
    return [
        Pick(id=job_id, stamp=_text(at) or None if isinstance(at, bytes) else None)
        for job_id, at in zip(ids, ended, strict=True)
    ]


def act(
    source: Source, queue: QueueKeys, action: Action, state: State, picked: Sequence[Pick], wishes: Wishes
) -> list[Acted]:
    """As the contract says. Cost: 1 round trip, 2 to stop what runs."""
    if action is Action.DUPLICATE:
        return _copy(source, queue, picked)
    if action is Action.STOP:
        return _stop(source, queue, picked)
    if action is Action.MOVE and not wishes.target:
        raise Unsupported("To which queue? Name one.")
    script_keys: list[Argument] = [queue.of(state), *(_raw(queue.job(pick.id)) for pick in picked)]
    now = datetime.now(UTC)
    arguments: list[Argument] = [action.value, queue.prefix, _raw(queue.name)]
    arguments += [now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), int(now_s()), _STATUSES[state]]
    arguments.append(_raw(_plain_name(queue, wishes.target)) if wishes.target else "")
    for pick in picked:
        arguments += [_raw(pick.id), pick.stamp or ""]
    return _outcomes([pick.id for pick in picked], _run(source, "act", script_keys, arguments))


def _plain_name(queue: QueueKeys, target: str) -> str:
    """RQ's own name of the other queue, which bears its prefix here where that is not the default."""
    return target if queue.prefix == keys.DEFAULT_PREFIX else target.removeprefix(f"{queue.prefix}:")


def _copy(source: Source, queue: QueueKeys, picked: Sequence[Pick]) -> list[Acted]:
    new = [str(uuid.uuid4()) for _ in picked]
    script_keys: list[Argument] = []
    for pick, new_id in zip(picked, new, strict=True):
        script_keys += [_raw(queue.job(pick.id)), _raw(queue.job(new_id))]
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    acted = _outcomes([pick.id for pick in picked], _run(source, "copy", script_keys, [queue.prefix, now, *new]))
    return [
        msgspec.structs.replace(each, new_id=new_id) if each.outcome is Outcome.DONE else each
        for each, new_id in zip(acted, new, strict=True)
    ]


def _stop(source: Source, queue: QueueKeys, picked: Sequence[Pick]) -> list[Acted]:
    """Told to the workers that run the jobs; done = a worker heard it."""
    replies = source.batch([("HMGET", _raw(queue.job(pick.id)), "status", "worker_name") for pick in picked])
    commands: list[tuple[Argument, ...]] = []
    answers: dict[str, Acted] = {}
    asked: list[str] = []
    for pick, reply in zip(picked, replies, strict=True):
        if not isinstance(reply, list) or reply[0] is None:
            answers[pick.id] = Acted(id=pick.id, outcome=Outcome.GONE)
        elif reply[0] != b"started" or not reply[1]:
            answers[pick.id] = Acted(id=pick.id, outcome=Outcome.CHANGED)
        else:
            order = json.dumps({"command": "stop-job", "job_id": pick.id})
            commands.append(("PUBLISH", f"{queue.prefix}:pubsub:".encode() + reply[1], order))
            asked.append(pick.id)
    for job_id, heard in zip(asked, source.batch(commands), strict=True):
        answers[job_id] = _heard(job_id, heard)
    return [answers[pick.id] for pick in picked]


def stop_worker(source: Source, prefixes: Sequence[str], name: str) -> Acted:
    """Tell a worker to end when its job has ended. Cost: 1 round trip."""
    order = json.dumps({"command": "shutdown"})
    replies = source.batch([("PUBLISH", _raw(f"{prefix}:pubsub:{name}"), order) for prefix in prefixes])
    heard = [reply for reply in replies if isinstance(reply, int) and reply > 0]
    return _heard(name, heard[0] if heard else replies[0])


def _heard(thing: str, reply: Reply) -> Acted:
    if isinstance(reply, int):
        if reply > 0:
            return Acted(id=thing, outcome=Outcome.DONE)
        return Acted(id=thing, outcome=Outcome.REFUSED, detail="its worker does not listen: it is gone, or cut off")
    return _outcomes([thing], reply if isinstance(reply, ResponseError) else [reply])[0]


def take(source: Source, queue: QueueKeys, state: State, picked: Sequence[Pick]) -> list[Kept | Acted]:
    """As the contract says. Cost: 1 round trip."""
    script_keys: list[Argument] = [queue.of(state), *(_raw(queue.job(pick.id)) for pick in picked)]
    arguments: list[Argument] = [queue.prefix, MAX_KEPT_BYTES, SEARCHED]
    for pick in picked:
        arguments += [_raw(pick.id), pick.stamp or ""]
    replies = _run(source, "take", script_keys, arguments)
    if isinstance(replies, ResponseError):
        return list(_outcomes([pick.id for pick in picked], replies))
    return [_kept(pick, reply) for pick, reply in zip(picked, replies, strict=True)]


def _kept(pick: Pick, reply: Reply) -> Kept | Acted:
    if not isinstance(reply, list):
        return _outcomes([pick.id], [reply])[0]
    score, before, place, size, signature, ttl_ms, *rest = reply
    blob = msgspec.msgpack.encode(_Blob(score, before, place, signature, ttl_ms, tuple(rest[:4]), tuple(rest[4:])))
    fits = bool(rest) and len(blob) <= MAX_KEPT_BYTES
    return Kept(id=pick.id, stamp=pick.stamp, blob=blob if fits else None, size_bytes=int(size))


def delete(source: Source, queue: QueueKeys, state: State, kept: Sequence[Kept]) -> list[Acted]:
    """As the contract says. Cost: 1 round trip."""
    script_keys: list[Argument] = [queue.of(state), *(_raw(queue.job(job.id)) for job in kept)]
    arguments: list[Argument] = [queue.prefix]
    for job in kept:
        blob = _blob(job)
        arguments += [_raw(job.id), blob.signature if blob else b""]
    return _outcomes([job.id for job in kept], _run(source, "remove", script_keys, arguments))


def restore(source: Source, queue: QueueKeys, state: State, kept: Sequence[Kept]) -> list[Acted]:
    """As the contract says: those that were next to run first, so that each finds the one before it. 1 round trip."""
    blobs = [(job, blob) for job in kept if (blob := _blob(job)) is not None and len(blob.dumps) == 4]
    blobs.sort(key=lambda pair: pair[1].place)
    script_keys: list[Argument] = [queue.of(state), *(_raw(queue.job(job.id)) for job, _ in blobs)]
    arguments: list[Argument] = [queue.prefix, _raw(queue.name), "list" if state is State.WAITING else "zset"]
    for job, blob in blobs:
        arguments += [_raw(job.id), blob.score, blob.before, blob.ttl_ms, *blob.dumps, len(blob.parents), *blob.parents]
    acted = _outcomes([job.id for job, _ in blobs], _run(source, "restore", script_keys, arguments)) if blobs else []
    done = {each.id: each for each in acted}
    lost = "what the bin holds of it cannot be read"
    return [done.get(job.id) or Acted(id=job.id, outcome=Outcome.REFUSED, detail=lost) for job in kept]


def _blob(job: Kept) -> _Blob | None:
    if job.blob is None:
        return None
    try:
        return msgspec.msgpack.decode(job.blob, type=_Blob)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def on_queue(source: Source, queue: QueueKeys, shown_name: str, action: Action) -> Acted:
    """As the contract says. Cost: 1 round trip a step."""
    if action is Action.OBLITERATE:
        reply = _run(source, "obliterate", [_raw(queue.queue)], [queue.prefix, _raw(queue.name), OBLITERATE_STEP])
        if reply == b"more":
            return Acted(id=shown_name, outcome=Outcome.DONE, more=True)
        return _outcomes([shown_name], reply if isinstance(reply, ResponseError) else [reply])[0]
    flag = keys.suspended(queue.prefix)
    reply = source.batch([("SET", flag, 1) if action is Action.PAUSE else ("DEL", flag)])[0]
    if isinstance(reply, ResponseError):
        return _outcomes([shown_name], reply)[0]
    return Acted(id=shown_name, outcome=Outcome.DONE)


def _run(source: Source, name: str, script_keys: Sequence[Argument], arguments: Sequence[Argument]) -> Reply:
    """The reply to a script, or the error that the server answers in its place."""
    return source.batch([("EVAL", keys.script(name), len(script_keys), *script_keys, *arguments)])[0]


def _outcomes(ids: Sequence[str], replies: Reply) -> list[Acted]:
    """One Acted per id from the words of a script; an error of the server speaks for all."""
    if isinstance(replies, NoPermissionError):
        why = "Queuedeck's Redis user is not permitted to do this; the README has a line for one that is."
        return [Acted(id=each, outcome=Outcome.REFUSED, detail=why) for each in ids]
    if isinstance(replies, ResponseError):
        return [Acted(id=each, outcome=Outcome.REFUSED, detail=f"Redis refused: {str(replies)[:200]}") for each in ids]
    answers = []
    for each, reply in zip(ids, replies, strict=True):
        word = _text(reply)
        if word in ("done", "gone", "changed"):
            answers.append(Acted(id=each, outcome=Outcome(word)))
        else:
            answers.append(Acted(id=each, outcome=Outcome.REFUSED, detail=word))
    return answers


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(raw: Any) -> str:
    return raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else str(raw)
