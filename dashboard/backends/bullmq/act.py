"""What can be done to jobs of BullMQ 4 to 6 and Bull 4, by own scripts that look at the queue's release as they move.

No published package is safe on both sides of the line between BullMQ 5 and 6: what pauses and fills lists on the one
loses jobs on the other. Layout: bullmq 4.18, 5.81 and 6.7 `src/commands/` (reprocessJob, promote, pause, removeJob,
addStandardJob), bull 4.16 `lib/commands/`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec
from redis.exceptions import NoPermissionError, ResponseError

from dashboard.backends.acting import MAX_KEPT_BYTES, Acted, Action, Kept, Outcome, Pick, Wishes
from dashboard.backends.bullmq import keys
from dashboard.clock import now_s
from dashboard.errors import Unsupported
from dashboard.model import JobQuery, QueueRef, Schedule, State
from dashboard.sources import Argument, Command, Reply, Source

JOB_ACTIONS = {
    State.DEAD: (Action.RETRY, Action.DUPLICATE, Action.EDIT, Action.DELETE),
    State.SCHEDULED: (Action.PROMOTE, Action.DUPLICATE, Action.EDIT, Action.DELETE),
    State.WAITING: (Action.DUPLICATE, Action.EDIT, Action.DELETE),
    State.BLOCKED: (Action.DELETE,),
    State.COMPLETED: (Action.RETRY, Action.DUPLICATE, Action.EDIT, Action.DELETE),
}
QUEUE_ACTIONS = (Action.PAUSE, Action.RESUME, Action.OBLITERATE)
SCHEDULE_ACTIONS = (Action.TRIGGER, Action.REMOVE_SCHEDULE)
EXPLAINED = {
    Action.RETRY: "BullMQ puts the job back into its waiting list; the tries made so far stay counted.",
    Action.PROMOTE: "BullMQ moves the job from its delayed set to where it waits, by its priority.",
    Action.DELETE: "The job goes with its logs. Children of it stay; a parent that waits only for it is set free.",
    Action.DUPLICATE: "A new job of the same name, data and options, without its id, delay, parent and repetition.",
    Action.EDIT: "A new job of the same name and options with the data that you write. This one stays.",
    Action.PAUSE: "Workers take no more jobs of this queue until it is resumed; what runs goes on.",
    Action.RESUME: "Workers take jobs of this queue again.",
    Action.OBLITERATE: "The queue, all its jobs and its schedules are removed. It comes back when the app adds a job.",
    Action.TRIGGER: "One more job of the schedule's template is added; the schedule goes on as it was.",
    Action.REMOVE_SCHEDULE: "The schedule and its next run go. An app that sets it up at its start brings it back.",
}
WITHHELD = {
    Action.KILL: "BullMQ has no way to fail a job that nobody runs.",
    Action.CANCEL: "BullMQ has no canceled jobs: delete it.",
    Action.STOP: "BullMQ has no way to stop a job that a worker runs.",
    Action.MOVE: "A job's id belongs to its queue: edit and run it there, or delete it here and add it there.",
    Action.PAUSE_SCHEDULE: "BullMQ cannot pause a schedule.",
    Action.QUIET: "BullMQ's workers take no orders through Redis.",
    Action.STOP_WORKER: "BullMQ's workers take no orders through Redis.",
}
# A waiting job is looked for among so many of those next to run; one further back is told as changed.
SEARCHED = 200_000
OBLITERATE_STEP = 200
MOVED_AT_ONCE = 1_000
# What a copy of a job must not take along.
_OWN_OPTIONS = frozenset(
    {"jobId", "repeat", "repeatJobKey", "parent", "prevMillis", "timestamp", "delay", "deduplication", "de", "debounce"}
)
_SET_WORDS = {State.DEAD: "failed", State.COMPLETED: "completed", State.SCHEDULED: "delayed"}


class _Blob(msgspec.Struct, array_like=True, frozen=True):
    """All of a deleted job, as take.lua told it."""

    native: bytes
    stamp: bytes
    before: bytes
    place: int
    signature: bytes
    dedup: bytes
    dedup_ms: int
    parent: bytes
    waits: bytes
    dumps: tuple[bytes, ...]


@cache
def _script(name: str) -> str:
    folder = files(__package__).joinpath("lua")
    return "\n".join(folder.joinpath(f"{part}.lua").read_text("utf-8") for part in ("acts", name))


def picks(source: Source, ref: QueueRef, query: JobQuery) -> list[Pick]:
    """Ids and stamps of a page. Cost: 1 round trip for one list of the state, 2 for several."""
    lists = [entry for entry in keys.BY_STATE[query.state] if query.native in (None, entry.native)]
    sizes = [0] * len(lists)
    if len(lists) > 1:
        counts: list[Command] = [
            ("LLEN" if entry.kind == "list" else "ZCARD", f"{ref.key}:{entry.native}") for entry in lists
        ]
        sizes = [reply if isinstance(reply, int) else 0 for reply in source.batch(counts)]
    commands: list[Command] = []
    offset, left = query.offset, query.per_page
    for entry, size in zip(lists, sizes, strict=True):
        if left > 0 and (len(lists) == 1 or offset < size):
            last = offset + left - 1
            commands.append(_range(f"{ref.key}:{entry.native}", entry, offset, last))
            left -= max(0, min(size, last + 1) - offset)
            offset = 0
        else:
            offset = max(0, offset - size)
            commands.append(("EXISTS", f"{ref.key}:meta"))
    found: list[Pick] = []
    for entry, reply in zip(lists, source.batch(commands), strict=True):
        if isinstance(reply, list):
            found += _picks(entry, reply)
    return found[: query.per_page]


def _range(key: str, entry: keys.NativeList, first: int, last: int) -> Command:
    if entry.kind == "zset":
        return ("ZREVRANGE" if entry.from_tail else "ZRANGE", key, first, last, "WITHSCORES")
    return ("LRANGE", key, -last - 1, -first - 1) if entry.from_tail else ("LRANGE", key, first, last)


def _picks(entry: keys.NativeList, reply: list[bytes]) -> Iterable[Pick]:
    if entry.kind == "zset":
        for job_id, score in zip(reply[::2], reply[1::2], strict=True):
            yield Pick(id=_text(job_id), stamp=score.decode("ascii", "replace"))
        return
    for job_id in reversed(reply) if entry.from_tail else reply:
        if not job_id.startswith(keys.MARKER):
            yield Pick(id=_text(job_id))


def act(
    source: Source, ref: QueueRef, action: Action, state: State, picked: Sequence[Pick], wishes: Wishes
) -> list[Acted]:
    """As the contract says. Cost: 1 round trip; 2 for copies."""
    if action in (Action.DUPLICATE, Action.EDIT):
        return _copy(source, ref, picked, wishes)
    word = _SET_WORDS[state]
    base = f"{ref.key}:"
    arguments: list[Argument] = [base, action.value, word, int(now_s() * 1000), "1" if wishes.reset_attempts else "0"]
    for pick in picked:
        arguments += [_raw(pick.id), pick.stamp or ""]
    script_keys: list[Argument] = [f"{base}{word}", *(_raw(base + pick.id) for pick in picked)]
    reply = _run(source, "move", script_keys, arguments)
    return _outcomes([pick.id for pick in picked], reply)


def take(source: Source, ref: QueueRef, state: State, picked: Sequence[Pick]) -> list[Kept | Acted]:
    """As the contract says. Cost: 1 round trip."""
    base = f"{ref.key}:"
    lists = " ".join(entry.native for entry in keys.BY_STATE[state])
    arguments: list[Argument] = [base, MAX_KEPT_BYTES, SEARCHED]
    for pick in picked:
        arguments += [_raw(pick.id), pick.stamp or "", lists]
    replies = _run(source, "take", [_raw(base + pick.id) for pick in picked], arguments)
    if isinstance(replies, ResponseError):
        return list(_outcomes([pick.id for pick in picked], replies))
    return [_kept(pick, reply) for pick, reply in zip(picked, replies, strict=True)]


def _kept(pick: Pick, reply: Reply) -> Kept | Acted:
    if not isinstance(reply, list):
        return _outcomes([pick.id], [reply])[0]
    native, score, before, place, size, signature, dedup, dedup_ms, parent, waits, *dumps = reply
    blob = _Blob(native, score, before, place, signature, dedup, dedup_ms, parent, waits, tuple(dumps))
    whole = msgspec.msgpack.encode(blob)
    # What is too large is deleted by its place alone; the stamp then carries that place.
    stamp = f"{native.decode()} {score.decode()}"
    return Kept(
        id=pick.id, stamp=stamp, blob=whole if dumps and len(whole) <= MAX_KEPT_BYTES else None, size_bytes=int(size)
    )


def delete(source: Source, ref: QueueRef, kept: Sequence[Kept]) -> list[Acted]:
    """As the contract says. Cost: 1 round trip."""
    base = f"{ref.key}:"
    arguments: list[Argument] = [base]
    for job in kept:
        blob = _blob(job)
        native, _, score = (job.stamp or "").partition(" ")
        arguments += [_raw(job.id), native, score, blob.signature if blob else b"", blob.dedup if blob else b""]
    return _outcomes([job.id for job in kept], _run(source, "remove", [_raw(base + job.id) for job in kept], arguments))


def restore(source: Source, ref: QueueRef, kept: Sequence[Kept]) -> list[Acted]:
    """As the contract says: those that were next to run first, so that each finds the one before it. 1 round trip."""
    base = f"{ref.key}:"
    blobs = [(job, blob) for job in kept if (blob := _blob(job)) is not None and len(blob.dumps) == 6]
    blobs.sort(key=lambda pair: pair[1].place)
    arguments: list[Argument] = [base]
    for job, blob in blobs:
        arguments += [_raw(job.id), blob.native, blob.stamp, blob.before, blob.dedup, blob.dedup_ms]
        arguments += [blob.parent, blob.waits, *blob.dumps]
    script_keys = [_raw(base + job.id) for job, _ in blobs]
    done = {
        each.id: each
        for each in _outcomes([job.id for job, _ in blobs], _run(source, "restore", script_keys, arguments))
    }
    lost = Acted(id="", outcome=Outcome.REFUSED, detail="what the bin holds of it cannot be read")
    return [done.get(job.id) or msgspec.structs.replace(lost, id=job.id) for job in kept]


def _blob(job: Kept) -> _Blob | None:
    if job.blob is None:
        return None
    try:
        return msgspec.msgpack.decode(job.blob, type=_Blob)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def _copy(source: Source, ref: QueueRef, picked: Sequence[Pick], wishes: Wishes) -> list[Acted]:
    """New jobs made from others; what they were made from stays."""
    if wishes.payload is not None:
        _check_json(wishes.payload)
    base = f"{ref.key}:"
    hashes = source.batch([("HMGET", _raw(base + pick.id), "name", "data", "opts", "priority") for pick in picked])
    answers: dict[str, Acted] = {}
    arguments: list[Argument] = [base, int(now_s() * 1000)]
    made: list[str] = []
    for pick, fields in zip(picked, hashes, strict=True):
        if not isinstance(fields, list) or fields[0] is None or fields[1] is None:
            answers[pick.id] = Acted(id=pick.id, outcome=Outcome.GONE)
            continue
        name, data, raw_options, priority = fields
        options = _copied_options(raw_options)
        if options is None:
            answers[pick.id] = Acted(id=pick.id, outcome=Outcome.REFUSED, detail="its options cannot be read")
            continue
        data = data if wishes.payload is None else wishes.payload.encode()
        arguments += [name, data, options, keys.whole(priority) or 0]
        made.append(pick.id)
    if made:
        reply = _run(source, "add", [f"{base}id"], arguments)
        if isinstance(reply, ResponseError):
            answers |= {each.id: each for each in _outcomes(made, reply)}
        else:
            for job_id, new in zip(made, reply, strict=True):
                answers[job_id] = (
                    Acted(id=job_id, outcome=Outcome.REFUSED, detail=_text(new[0]))
                    if isinstance(new, list)
                    else Acted(id=job_id, outcome=Outcome.DONE, new_id=_text(new))
                )
    return [answers[pick.id] for pick in picked]


def _copied_options(raw: bytes | None) -> str | None:
    try:
        options: Any = json.loads(raw or b"{}")
    except (ValueError, RecursionError):
        return None
    if not isinstance(options, dict):
        return None
    kept = {name: value for name, value in options.items() if name not in _OWN_OPTIONS}
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))


def _check_json(text: str) -> None:
    try:
        json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise Unsupported(f"The payload is no JSON: {exc}") from None


def on_queue(source: Source, ref: QueueRef, action: Action) -> Acted:
    """As the contract says. Cost: 1 round trip a step."""
    base = f"{ref.key}:"
    if action is Action.OBLITERATE:
        reply = _run(source, "obliterate", [f"{base}meta"], [base, OBLITERATE_STEP])
        if reply == b"more":
            return Acted(id=ref.name, outcome=Outcome.DONE, more=True)
        return _outcomes([ref.name], [reply])[0]
    reply = _run(source, "pause", [f"{base}meta"], [base, action.value, MOVED_AT_ONCE])
    if isinstance(reply, int):
        return Acted(id=ref.name, outcome=Outcome.DONE, more=reply > 0)
    return _outcomes([ref.name], [reply])[0]


def on_schedule(source: Source, schedule: Schedule, action: Action) -> Acted:
    """As the contract says. Cost: 1 round trip, 2 to run it once."""
    if schedule.ref is None:
        return Acted(id=schedule.id, outcome=Outcome.GONE)
    base = f"{schedule.ref.key}:"
    if action is Action.REMOVE_SCHEDULE:
        reply = _run(source, "unschedule", [f"{base}repeat"], [base, _raw(schedule.id)])
        return _outcomes([schedule.id], [reply])[0]
    fields = source.execute("HMGET", _raw(f"{base}repeat:{schedule.id}"), "name", "data", "opts")
    if fields[0] is None:
        detail = "its template cannot be read: it is a repeatable job of an older release"
        return Acted(id=schedule.id, outcome=Outcome.REFUSED, detail=detail)
    options = _copied_options(fields[2])
    if options is None:
        return Acted(id=schedule.id, outcome=Outcome.REFUSED, detail="its options cannot be read")
    priority = json.loads(options).get("priority")
    arguments = [base, int(now_s() * 1000), fields[0], fields[1] or b"{}", options]
    reply = _run(source, "add", [f"{base}id"], [*arguments, priority if isinstance(priority, int) else 0])
    if isinstance(reply, list) and isinstance(reply[0], bytes):
        return Acted(id=schedule.id, outcome=Outcome.DONE, new_id=_text(reply[0]))
    return _outcomes([schedule.id], reply[0] if isinstance(reply, list) else reply)[0]


def _run(source: Source, name: str, script_keys: Sequence[Argument], arguments: Sequence[Argument]) -> Reply:
    """The reply to a script, or the error that the server answers in its place."""
    return source.batch([("EVAL", _script(name), len(script_keys), *script_keys, *arguments)])[0]


def _outcomes(ids: Sequence[str], replies: Reply) -> list[Acted]:
    """One Acted per id from the words of a script; an error of the server speaks for all."""
    if isinstance(replies, NoPermissionError):
        why = "Queuedeck's Redis user is not permitted to do this; the README has a line for one that is."
        return [Acted(id=each, outcome=Outcome.REFUSED, detail=why) for each in ids]
    if isinstance(replies, ResponseError):
        return [Acted(id=each, outcome=Outcome.REFUSED, detail=f"Redis refused: {str(replies)[:200]}") for each in ids]
    answers = []
    for each, reply in zip(ids, replies, strict=True):
        if isinstance(reply, ResponseError):
            answers += _outcomes([each], reply)
            continue
        word = _text(reply)
        known = word in ("done", "gone", "changed")
        answers.append(
            Acted(id=each, outcome=Outcome(word)) if known else Acted(id=each, outcome=Outcome.REFUSED, detail=word)
        )
    return answers


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(raw: Any) -> str:
    return raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else str(raw)
