"""Actions on jobs of BullMQ 4 to 6 and Bull 4, with Queuedeck's own scripts, which check the queue's release.

No published package is safe with both BullMQ 5 and 6: the way one of them pauses queues and fills lists loses jobs in
the other. Layout: bullmq 4.18, 5.81 and 6.7 `src/commands/` (reprocessJob, promote, pause, removeJob, addStandardJob),
bull 4.16 `lib/commands/`.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from redis.exceptions import ResponseError

from ....model import QueueRef, Schedule, State
from ....sources.failures import explain_refused_command
from ....sources.source import Argument, Reply, Source, raw_bytes
from ...actions import (
    BACK,
    BACK_KEPT_S,
    MAX_KEPT_BYTES,
    Action,
    ActionOptions,
    ActionResult,
    JobBackup,
    JobRef,
    Outcome,
    back_before,
)
from ...bounded_reads import short_fields
from ...list_positions import locate_jobs
from ...payloads.decoding import loads, printable, written
from ...payloads.editing import InvalidPayload, decoded_edit, with_originals
from .. import keys, without_lua
from ..repeat_keys import parse_repeat_key

JOB_ACTIONS = {
    State.DEAD: (Action.RETRY, Action.DUPLICATE, Action.EDIT, Action.DELETE),
    State.SCHEDULED: (Action.PROMOTE, Action.DUPLICATE, Action.EDIT, Action.DELETE),
    State.WAITING: (Action.MOVE, Action.DUPLICATE, Action.EDIT, Action.DELETE),
    State.BLOCKED: (Action.DELETE,),
    State.COMPLETED: (Action.RETRY, Action.DUPLICATE, Action.EDIT, Action.DELETE),
}
# Same as BullMQ: its check for stalled jobs requeues jobs that no worker holds, and `remove` removes them.
ABANDONED_ACTIONS = {State.ACTIVE: (Action.RETRY, Action.DELETE), None: (Action.DELETE,)}
QUEUE_ACTIONS = (Action.PAUSE, Action.RESUME, Action.OBLITERATE)
SCHEDULE_ACTIONS = (Action.TRIGGER, Action.REMOVE_SCHEDULE)
EXPLAINED = {
    Action.RETRY: "Moves the job back to the waiting list. The attempt count is kept.",
    Action.PROMOTE: "Moves the job from the delayed set to the waiting jobs, by its priority.",
    Action.DELETE: "Deletes the job and its logs. Children are kept; a parent waiting only for this job is released.",
    Action.DUPLICATE: "Creates a new job with the same name, data and options, without ID, delay, parent and repeat.",
    Action.EDIT: "Creates a new job with the same name and options and your payload. The original is kept.",
    Action.MOVE: "Moves the job with all its data to the other queue, where it waits. A numeric ID changes.",
    Action.PAUSE: "Workers stop picking up jobs until you resume. Running jobs finish.",
    Action.RESUME: "Workers pick up jobs from this queue again.",
    Action.OBLITERATE: "Deletes the queue with all jobs and schedules. It reappears when the app enqueues again.",
    Action.TRIGGER: "Adds one job from the schedule's template. The schedule itself does not change.",
    Action.REMOVE_SCHEDULE: "Removes the schedule and its next run. Apps that set it up at startup recreate it.",
}
WITHHELD = {
    Action.KILL: "BullMQ cannot fail a job that no worker is running.",
    Action.CANCEL: "BullMQ has no canceled jobs. Delete the job instead.",
    Action.STOP: "BullMQ cannot stop a running job.",
    Action.MOVE: "Only waiting BullMQ jobs can be moved to another queue.",
    Action.PAUSE_SCHEDULE: "BullMQ cannot pause a schedule.",
    Action.QUIET: "BullMQ workers cannot be controlled through Redis.",
    Action.STOP_WORKER: "BullMQ workers cannot be controlled through Redis.",
}
# How often a waiting job is searched for, in a list that changes in the meantime.
LOOKS = 3
# The bytes of job backups that one script returns, and one call in total; jobs beyond it are refused.
TOLD_BYTES, MOST_BYTES = 2 * 1024 * 1024, 64 * 1024 * 1024
# The list entries that one script can walk over to restore jobs to their positions: a millisecond or two.
WALK = 100_000
LATER, LOST = b"later", b"lost"
# The start of a script's reply for a queue of an unknown library.
NOT_SUPPORTED = "not supported: "
# A waiting job that is moved to another queue is searched for among this many jobs next to run.
SEARCHED = 200_000
_NOT_NEXT = f"not among the next {SEARCHED:,} jobs to run; a worker may have picked it up, or it is further back"
OBLITERATE_STEP = 200
# The name of a job that was added without one, as clients other than the libraries' own do.
NO_NAME = b"__default__"
# A job with a longer field is not copied.
COPIED_BYTES = 4 * 1024 * 1024
MOVED_AT_ONCE = 1_000
# Options that a copy of a job must not have: those that identify the original, those about its parent (a copy has
# none), and the trace of the call that added it. Source: bullmq 6.7 `src/utils/index.ts` (optsDecodeMap),
# `src/classes/job.ts`.
_OWN_OPTIONS = frozenset(
    {
        *("jobId", "repeat", "repeatJobKey", "prevMillis", "timestamp", "delay", "deduplication", "de", "debounce"),
        *("parent", "failParentOnFailure", "fpof", "continueParentOnFailure", "cpof"),
        *("ignoreDependencyOnFailure", "idof", "removeDependencyOnFailure", "rdof", "tm"),
    }
)
_SET_WORDS = {State.DEAD: "failed", State.COMPLETED: "completed", State.SCHEDULED: "delayed"}


class _WaitPosition(NamedTuple):
    """Position of a waiting job: its list; the id that runs before it, b"" for none; its place, 1 = next to run."""

    native: str
    before: bytes
    place: int


NOWHERE = _WaitPosition("", b"", 0)


class _JobDump(msgspec.Struct, array_like=True, frozen=True):
    """All data of a deleted job, as returned by take.lua."""

    native: bytes
    version: bytes
    before: bytes
    place: int
    signature: bytes
    dedup: bytes
    dedup_ms: int
    parent: bytes
    waits: bytes
    dumps: tuple[bytes, ...]
    token: bytes = b""  # of this deletion: it can be undone once
    following: bytes = b""  # the job that the library holds back until this one finishes


def act_on_jobs(
    source: Source, ref: QueueRef, action: Action, state: State, picked: Sequence[JobRef], options: ActionOptions
) -> list[ActionResult]:
    """See `Backend.act_on_jobs`. Cost: 1 round trip; 2 for copies."""
    if action in (Action.DUPLICATE, Action.EDIT):
        return _copy_jobs(source, ref, picked, options)
    if action is Action.MOVE:
        return _move_waiting(source, ref, picked, options.target or "")
    if state is State.ACTIVE:
        reply = _run_script(
            source,
            "putback",
            [_to_bytes(f"{ref.key}:{job_ref.id}") for job_ref in picked],
            [f"{ref.key}:", *_ids_of(picked)],
        )
        return _results_from_replies([job_ref.id for job_ref in picked], reply)
    word = _SET_WORDS[state]
    base = f"{ref.key}:"
    again = "1" if options.reset_attempts else "0"
    arguments: list[Argument] = [base, action.value, word, int(source.now_s() * 1000), again]
    for job_ref in picked:
        arguments += [_to_bytes(job_ref.id), job_ref.version or ""]
    script_keys: list[Argument] = [f"{base}{word}", *(_to_bytes(base + job_ref.id) for job_ref in picked)]
    reply = _run_script(source, "move", script_keys, arguments)
    return _results_from_replies([job_ref.id for job_ref in picked], reply)


def _move_waiting(source: Source, ref: QueueRef, picked: Sequence[JobRef], target: str) -> list[ActionResult]:
    """Move waiting jobs to another queue. `target` includes the prefix if two queues have the same name."""
    prefix = ref.key.rpartition(":")[0]
    other = target if ":" in target else f"{prefix}:{target}"
    if not target or target == "*":
        why = "no destination queue given"
        return [ActionResult(id=job_ref.id, outcome=Outcome.REFUSED, detail=why) for job_ref in picked]
    base = f"{ref.key}:"
    arguments: list[Argument] = [base, _to_bytes(f"{other}:"), SEARCHED, *(_to_bytes(job_ref.id) for job_ref in picked)]
    replies = _run_script(source, "shift", [_to_bytes(base + job_ref.id) for job_ref in picked], arguments)
    if isinstance(replies, ResponseError):
        return _results_from_replies([job_ref.id for job_ref in picked], replies)
    return [
        ActionResult(id=job_ref.id, outcome=Outcome.DONE, new_id=_to_text(reply[0]))
        if isinstance(reply, list)
        else ActionResult(id=job_ref.id, outcome=Outcome.CHANGED, detail=_NOT_NEXT)
        if reply == b"far"
        else _results_from_replies([job_ref.id], [reply])[0]
        for job_ref, reply in zip(picked, replies, strict=True)
    ]


def backup_jobs(
    source: Source, ref: QueueRef, state: State | None, picked: Sequence[JobRef]
) -> list[JobBackup | ActionResult]:
    """See `Backend.backup_jobs`; with `state` None for jobs that are in no list.

    Cost: 1 round trip per 2 MiB; for waiting jobs 1 more, and a few more in long lists.
    """
    base = f"{ref.key}:"
    places, why = _find_positions(source, ref, state, [job_ref.id for job_ref in picked])
    sets = "-"
    if state is not None:
        sets = " ".join(entry.native for entry in keys.BY_STATE[state] if entry.kind == "zset")
    replies: list[Reply] = [LATER] * len(picked)
    left, room = list(range(len(picked))), MOST_BYTES
    while left and room > 0:
        arguments: list[Argument] = [base, MAX_KEPT_BYTES, TOLD_BYTES, sets]
        for n in left:
            job_ref = picked[n]
            arguments += [_to_bytes(job_ref.id), job_ref.version or "", *places.get(job_ref.id, NOWHERE)]
        answers = _run_script(source, "take", [_to_bytes(base + picked[n].id) for n in left], arguments)
        if isinstance(answers, ResponseError):
            answers = [answers] * len(left)
        for n, reply in zip(left, answers, strict=True):
            replies[n] = reply
            room -= reply[4] if isinstance(reply, list) else 0
        left = [n for n in left if replies[n] == LATER]
    return [
        _backup_from_reply(job_ref, reply, None if job_ref.id in places else why)
        for job_ref, reply in zip(picked, replies, strict=True)
    ]


def _find_positions(
    source: Source, ref: QueueRef, state: State | None, ids: Sequence[str]
) -> tuple[dict[str, _WaitPosition], str | None]:
    """Return (the `ids` that are in lists, with their positions; why others may be missing).

    The reason is None if no list was searched. Sorted sets are not searched.
    """
    found: dict[str, _WaitPosition] = {}
    why: str | None = None
    whole = True
    for entry in keys.BY_STATE[state] if state is not None else ():
        left = [job_id for job_id in ids if job_id not in found] if entry.kind == "list" else ()
        if left:
            there = locate_jobs(source, f"{ref.key}:{entry.native}", left, served_last=True)
            found |= {
                job_id: _WaitPosition(entry.native, place.after, place.behind + 1) for job_id, place in there.items()
            }
            if whole:
                why, whole = there.missing_reason, there.whole
    return found, why


def _backup_from_reply(job_ref: JobRef, reply: Reply, why: str | None) -> JobBackup | ActionResult:
    if reply == LATER:
        why = "these jobs are too large to delete in one batch; select fewer"
        return ActionResult(id=job_ref.id, outcome=Outcome.REFUSED, detail=why)
    if not isinstance(reply, list):
        return _results_from_replies([job_ref.id], [reply], changed=why)[0]
    native, score, before, place, size, signature, dedup, dedup_ms, following, parent, waits, *dumps = reply
    token = secrets.token_bytes(9)
    blob = _JobDump(
        native, score, before, place, signature, dedup, dedup_ms, parent, waits, tuple(dumps), token, following
    )
    whole = msgspec.msgpack.encode(blob)
    # A job that is too large is deleted by its position alone; the stamp then holds that position.
    version = f"{native.decode()} {score.decode()}"
    return JobBackup(
        id=job_ref.id,
        version=version,
        blob=whole if dumps and len(whole) <= MAX_KEPT_BYTES else None,
        size_bytes=int(size),
    )


def delete_jobs(source: Source, ref: QueueRef, state: State | None, backups: Sequence[JobBackup]) -> list[ActionResult]:
    """See `Backend.delete_jobs`; with `state` None for jobs that are in no list.

    Cost: 1 round trip per 2 MiB; more if a list of waiting jobs changed since the backup.
    """
    base = f"{ref.key}:"
    blobs = {job.id: blob for job in backups if (blob := _decode_dump(job)) is not None}
    natives = {job.id: (job.version or "").partition(" ")[0::2] for job in backups}
    lists = {entry.native for entry in (keys.BY_STATE[state] if state is not None else ()) if entry.kind == "list"}
    listed = [job.id for job in backups if natives[job.id][0] in lists]
    places = {each: _WaitPosition(natives[each][0], b"", blobs[each].place if each in blobs else 0) for each in listed}
    why: str | None = None
    if any(not place.place for place in places.values()):
        places, why = _find_positions(source, ref, state, listed)
    replies: list[Reply] = [LOST] * len(backups)
    left = list(range(len(backups)))
    for look in range(LOOKS):
        if look:
            places, why = _find_positions(source, ref, state, [backups[n].id for n in left])
        # Next to run first: each removed job moves the jobs behind it up by one.
        left.sort(key=lambda n: places.get(backups[n].id, NOWHERE).place)
        out: Counter[str] = Counter()
        for part in _split_by_size(backups, left):
            arguments: list[Argument] = [base]
            for job in (backups[n] for n in part):
                native, score = natives[job.id]
                place, blob = places.get(job.id, NOWHERE), blobs.get(job.id)
                native = place.native or native
                arguments += [_to_bytes(job.id), native, score, max(0, place.place - out[native])]
                arguments.append(blob.signature if blob else b"")
            answers = _run_script(source, "remove", [_to_bytes(base + backups[n].id) for n in part], arguments)
            if isinstance(answers, ResponseError):
                answers = [answers] * len(part)
            for n, reply in zip(part, answers, strict=True):
                replies[n] = reply
                if reply == b"done":
                    out[places.get(backups[n].id, NOWHERE).native] += 1
        left = [n for n in left if replies[n] == LOST]
        if not left:
            break
    acted = []
    for job, reply in zip(backups, replies, strict=True):
        if reply != LOST:
            acted += _results_from_replies([job.id], [reply])
        elif job.id in blobs and not any(blobs[job.id].dumps):
            acted.append(ActionResult(id=job.id, outcome=Outcome.GONE))
        else:
            acted.append(ActionResult(id=job.id, outcome=Outcome.CHANGED, detail=why))
    return acted


def _split_by_size(backups: Sequence[JobBackup], numbers: Sequence[int]) -> Iterator[list[int]]:
    """Yield the indexes in batches small enough for one script to read all data of their jobs."""
    part: list[int] = []
    size = 0
    for n in numbers:
        if part and size + backups[n].size_bytes > TOLD_BYTES:
            yield part
            part, size = [], 0
        part.append(n)
        size += backups[n].size_bytes
    if part:
        yield part


def restore_jobs(source: Source, ref: QueueRef, backups: Sequence[JobBackup]) -> list[ActionResult]:
    """See `Backend.restore_jobs`. Jobs that were next to run are restored first, so that each finds the one before it.

    Cost: 1 round trip; more for jobs that were far from both ends of a long list.
    """
    base = f"{ref.key}:"
    left = [(job, blob) for job in backups if (blob := _decode_dump(job)) is not None and len(blob.dumps) == 6]
    left.sort(key=lambda pair: pair[1].place)
    done: dict[str, ActionResult] = {}
    while left:
        arguments: list[Argument] = [base, WALK, source.own_key(BACK), int(source.now_s()), BACK_KEPT_S]
        for job, blob in left:
            arguments += [_to_bytes(job.id), blob.native, blob.version, blob.before, blob.dedup, blob.dedup_ms]
            arguments += [blob.following, blob.parent, blob.waits, blob.token, *blob.dumps]
        answers = _run_script(source, "restore", [_to_bytes(base + job.id) for job, _ in left], arguments)
        if isinstance(answers, ResponseError):
            answers = [answers] * len(left)
        for (job, _), reply in zip(left, answers, strict=True):
            if reply == b"again":
                done[job.id] = back_before(job.id)
            elif reply != LATER:
                done[job.id] = _results_from_replies([job.id], [reply])[0]
        left = [(job, blob) for job, blob in left if job.id not in done]
    lost = ActionResult(id="", outcome=Outcome.REFUSED, detail="its backup in the undo bin cannot be read")
    return [done.get(job.id) or msgspec.structs.replace(lost, id=job.id) for job in backups]


def _decode_dump(job: JobBackup) -> _JobDump | None:
    if job.blob is None:
        return None
    try:
        return msgspec.msgpack.decode(job.blob, type=_JobDump)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def _copy_jobs(source: Source, ref: QueueRef, picked: Sequence[JobRef], wishes: ActionOptions) -> list[ActionResult]:
    """Create new jobs from others, which are kept. Masked values in a new payload are read from the original once."""
    try:
        edited = decoded_edit(wishes.payload) if wishes.payload is not None else None
    except InvalidPayload as exc:
        return [ActionResult(id=job_ref.id, outcome=Outcome.INVALID, detail=str(exc)) for job_ref in picked]
    base = f"{ref.key}:"
    limits = dict.fromkeys(("name", "data", "opts", "priority", "timestamp"), COPIED_BYTES)
    hashes, _ = without_lua.read_fields(source, [_to_bytes(base + job_ref.id) for job_ref in picked], limits)
    answers: dict[str, ActionResult] = {}
    arguments: list[Argument] = [base, int(source.now_s() * 1000)]
    made: list[str] = []
    for job_ref, fields in zip(picked, hashes, strict=True):
        if not isinstance(fields, list) or all(value is None for value in fields):
            answers[job_ref.id] = ActionResult(id=job_ref.id, outcome=Outcome.GONE)
            continue
        if any(isinstance(value, list) for value in fields):
            why = f"a field is longer than {COPIED_BYTES} bytes, too long to copy"
            answers[job_ref.id] = ActionResult(id=job_ref.id, outcome=Outcome.REFUSED, detail=why)
            continue
        name, data, raw_options, priority, _ = fields
        options = _copied_options(raw_options)
        if options is None:
            answers[job_ref.id] = ActionResult(
                id=job_ref.id, outcome=Outcome.REFUSED, detail="its options cannot be read"
            )
            continue
        if wishes.payload is not None:
            try:
                data = written(with_originals(edited, data, "data")).encode("utf-8")
            except InvalidPayload as exc:
                answers[job_ref.id] = ActionResult(id=job_ref.id, outcome=Outcome.INVALID, detail=str(exc))
                continue
        arguments += [name or NO_NAME, data or b"{}", options, keys.parse_integer(priority) or 0]
        made.append(job_ref.id)
    if made:
        reply = _run_script(source, "add", [f"{base}id"], arguments)
        if isinstance(reply, ResponseError):
            answers |= {each.id: each for each in _results_from_replies(made, reply)}
        else:
            for job_id, new in zip(made, reply, strict=True):
                answers[job_id] = (
                    _results_from_replies([job_id], new)[0]
                    if isinstance(new, list)
                    else ActionResult(id=job_id, outcome=Outcome.DONE, new_id=_to_text(new))
                )
    return [answers[job_ref.id] for job_ref in picked]


def _copied_options(raw: bytes | None) -> str | None:
    """Return the options of a copy, each number as written; None if `raw` is not a JSON object."""
    try:
        options: Any = loads(raw or b"{}", exact=True, limit=COPIED_BYTES)
    except ValueError:
        return None
    if not isinstance(options, dict):
        return None
    return written({name: value for name, value in options.items() if name not in _OWN_OPTIONS}, compact=True)


def on_queue(source: Source, ref: QueueRef, action: Action) -> ActionResult:
    """See `Backend.act_on_queue`. Cost: 1 round trip per step."""
    base = f"{ref.key}:"
    if action is Action.OBLITERATE:
        reply = _run_script(source, "obliterate", [f"{base}meta"], [base, OBLITERATE_STEP])
        if reply == b"more":
            return ActionResult(id=ref.name, outcome=Outcome.DONE, more=True)
        return _results_from_replies([ref.name], [reply])[0]
    reply = _run_script(source, "pause", [f"{base}meta"], [base, action.value, MOVED_AT_ONCE])
    if isinstance(reply, int):
        return ActionResult(id=ref.name, outcome=Outcome.DONE, more=reply > 0)
    return _results_from_replies([ref.name], [reply])[0]


def on_schedule(source: Source, schedule: Schedule, action: Action) -> ActionResult:
    """See `Backend.act_on_schedule`. Cost: 1 round trip, 2 for TRIGGER; 4 if only the next job has the template."""
    if schedule.ref is None:
        return ActionResult(id=schedule.id, outcome=Outcome.GONE)
    base = f"{schedule.ref.key}:"
    old = parse_repeat_key(schedule.id)
    runs = [_to_bytes(start) for start in old.jobs] if old else []
    if action is Action.REMOVE_SCHEDULE:
        reply = _run_script(source, "unschedule", [f"{base}repeat"], [base, _to_bytes(schedule.id), *runs])
        return _results_from_replies([schedule.id], [reply])[0]
    fields = _read_template(source, base, schedule.id, runs)
    if isinstance(fields, str):
        return ActionResult(id=schedule.id, outcome=Outcome.REFUSED, detail=fields)
    options = _copied_options(fields[2])
    if options is None:
        return ActionResult(id=schedule.id, outcome=Outcome.REFUSED, detail="its options cannot be read")
    priority = json.loads(options).get("priority")
    arguments = [base, int(source.now_s() * 1000), fields[0], fields[1] or b"{}", options]
    reply = _run_script(source, "add", [f"{base}id"], [*arguments, priority if type(priority) is int else 0])
    if isinstance(reply, list) and isinstance(reply[0], bytes):
        return ActionResult(id=schedule.id, outcome=Outcome.DONE, new_id=_to_text(reply[0]))
    return _results_from_replies([schedule.id], reply[0] if isinstance(reply, list) else reply)[0]


def _read_template(source: Source, base: str, schedule_id: str, runs: list[bytes]) -> list[Any] | str:
    """Return the name, data and options of a schedule's jobs, or why they are unknown."""
    key = _to_bytes(f"{base}repeat:{schedule_id}")
    found = short_fields(source, [(key, name) for name in ("name", "data", "opts", "ic")], COPIED_BYTES)
    *fields, count = found
    if isinstance(fields[0], bytes) and isinstance(fields[1], bytes):
        return fields
    # Before job schedulers, only the job of the next run holds the data and the options.
    starts = [_to_bytes(f"repeat:{schedule_id}:"), *runs]
    run = _run_script(source, "nextrun", [], [base, _to_bytes(schedule_id), *starts])
    if isinstance(run, bytes):
        key = _to_bytes(base) + run
        fields = list(short_fields(source, [(key, name) for name in ("name", "data", "opts")], COPIED_BYTES))
        if isinstance(fields[0], bytes) and isinstance(fields[1], bytes):
            return fields
    elif isinstance(fields[0], bytes) and count is not None:
        return fields  # a scheduler whose template has no data
    return "its data is stored in the job of its next run, which was not found or is too large"


def _run_script(source: Source, name: str, script_keys: Sequence[Argument], arguments: Sequence[Argument]) -> Reply:
    """Return the reply to a script, or the error of the server in its place. Raises BackendUnavailable."""
    reply = source.run_batch([("EVAL", keys.load_writing_script(name), len(script_keys), *script_keys, *arguments)])[0]
    source.check_writable(reply)
    return reply


def _results_from_replies(ids: Sequence[str], replies: Reply, *, changed: str | None = None) -> list[ActionResult]:
    """Return one ActionResult per id from the replies of a script; an error of the server applies to all ids.

    `changed` = the detail of results that are `changed`.
    """
    if isinstance(replies, ResponseError):
        why = explain_refused_command(printable(str(replies), 200), "BullMQ")
        return [ActionResult(id=each, outcome=Outcome.REFUSED, detail=why) for each in ids]
    answers = []
    for each, reply in zip(ids, replies, strict=True):
        if isinstance(reply, ResponseError):
            answers += _results_from_replies([each], reply)
            continue
        word = _to_text(reply)
        if word.startswith(NOT_SUPPORTED):
            answers.append(ActionResult(id=each, outcome=Outcome.UNSUPPORTED, detail=printable(word, 300)))
            continue
        known = word in ("done", "gone", "changed")
        answers.append(
            ActionResult(id=each, outcome=Outcome(word), detail=changed if word == "changed" else None)
            if known
            else ActionResult(id=each, outcome=Outcome.REFUSED, detail=word)
        )
    return answers


def _ids_of(picked: Sequence[JobRef]) -> list[Argument]:
    return [_to_bytes(job_ref.id) for job_ref in picked]


def _to_bytes(text: str) -> bytes:
    return raw_bytes(text)


def _to_text(raw: Any) -> str:
    return raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else str(raw)
