"""Actions on Sidekiq's jobs, in two round trips: find the exact bytes, then move the entries that are unchanged.

Sidekiq identifies an entry of a set or list by its bytes alone, so each script removes an entry only if those bytes are
still there (at the same score). New payloads are built in Python (`payload_edit.py`); Lua only moves them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ....model import QueueRef, State
from ....sources.source import Source
from ...actions import Action, ActionOptions, ActionResult, JobRef, invalid_result, refused_result
from ...lua_reads import Scripts
from ...lua_writes import JobCall
from ...payloads.editing import InvalidPayload
from ...shared_entries import SHARED
from .. import keys
from . import payload_edit
from .job_lookup import Located, LocatedEntry, locate_entries, no_room
from .payload_edit import MalformedEntry, PushedJob
from .scripts import result_from_reply, run_for_each

JOB_ACTIONS: dict[State, tuple[Action, ...]] = {
    State.ACTIVE: (Action.STOP,),
    State.WAITING: (Action.MOVE, Action.DUPLICATE, Action.EDIT, Action.DELETE),
    State.SCHEDULED: (Action.PROMOTE, Action.KILL, Action.DUPLICATE, Action.EDIT, Action.DELETE),
    State.RETRYING: (
        Action.RETRY,
        Action.PROMOTE,
        Action.KILL,
        Action.DUPLICATE,
        Action.EDIT,
        Action.DELETE,
    ),
    State.DEAD: (Action.RETRY, Action.DUPLICATE, Action.EDIT, Action.DELETE),
}
# A longer payload stays on the server: it can only be deleted.
LONGEST_BYTES = 8 * 1024 * 1024
# Sidekiq's default `dead_max_jobs`. The app can change it, but Redis does not hold its setting.
DEAD_LIMIT = 10_000


def act_on_jobs(
    source: Source,
    scripts: Scripts,
    ref: QueueRef,
    action: Action,
    state: State,
    job_refs: Sequence[JobRef],
    options: ActionOptions,
) -> list[ActionResult]:
    """Implement `Backend.act_on_jobs`; `action` is one of JOB_ACTIONS except DELETE and STOP.

    Cost: that of `locate_entries` and 1 round trip, and the same again for each further 2 MiB of payloads.
    """
    place = keys.location_of(ref)
    if (place.queue is None) == (state in keys.OF_A_QUEUE):
        where = "per queue" if place.queue is None else "for all queues together"
        return [refused_result(job_ref.id, f"Sidekiq stores {state.value} jobs {where}") for job_ref in job_refs]
    try:
        make = _payload_maker(place, action, options, source.now_s())
    except (MalformedEntry, InvalidPayload) as exc:
        return [_not_made(job_ref, exc) for job_ref in job_refs]
    result: dict[int, ActionResult] = {}
    while left := [n for n in range(len(job_refs)) if n not in result]:
        asked = [job_refs[n] for n in left]
        located = locate_entries(scripts, place, state, asked, LONGEST_BYTES)
        answers = _act_on(source, place, action, state, asked, located, make)
        result.update({n: one for n, one in zip(left, answers, strict=True) if one is not None})
        if all(one is None for one in answers):
            result.update({n: no_room(job_refs[n]) for n in left})
    return [result[n] for n in range(len(job_refs))]


def _payload_maker(
    place: keys.NamespaceLocation, action: Action, options: ActionOptions, now: float
) -> Callable[[bytes], PushedJob]:
    """The function that builds the pushed job from an entry. Raises MalformedEntry or InvalidPayload if the action
    cannot be carried out as asked for in `options`.
    """
    if action is Action.RETRY:
        return lambda raw: payload_edit.push_again(raw, now, counted_back=True, reset=options.reset_attempts)
    if action is Action.PROMOTE:
        return lambda raw: payload_edit.push_again(raw, now, counted_back=False)
    if action is Action.DUPLICATE:
        return lambda raw: payload_edit.copy_payload(raw, now)
    if action is Action.EDIT:
        arguments = payload_edit.written_arguments(options.payload or "")
        return lambda raw: payload_edit.edit_payload(raw, now, arguments)
    if action is Action.MOVE:
        # A queue whose name exists in two namespaces is listed with its namespace.
        target = (options.target or "").removeprefix(place.namespace)
        if not target or target == SHARED:
            raise MalformedEntry("no destination queue given")
        if not _is_encodable(target):
            raise MalformedEntry("the name of the destination queue is not valid UTF-8, so no payload can hold it")
        return lambda raw: payload_edit.move_payload(raw, target)
    return lambda raw: PushedJob("", raw, "")


def _act_on(
    source: Source,
    place: keys.NamespaceLocation,
    action: Action,
    state: State,
    job_refs: Sequence[JobRef],
    located: Sequence[Located],
    make: Callable[[bytes], PushedJob],
) -> list[ActionResult | None]:
    """One result per job reference; None for one that must be located again."""
    results: list[ActionResult | None] = [one if isinstance(one, ActionResult) else None for one in located]
    ready: list[tuple[int, LocatedEntry, PushedJob]] = []
    for n, entry in enumerate(located):
        if not isinstance(entry, LocatedEntry):
            continue
        if entry.raw is None:
            results[n] = refused_result(
                job_refs[n].id, f"the payload of {entry.size_bytes} bytes is too large for this action"
            )
            continue
        try:
            push = make(entry.raw)
        except (MalformedEntry, InvalidPayload) as exc:
            results[n] = _not_made(job_refs[n], exc)
            continue
        if action is Action.MOVE and push.queue == place.queue:
            results[n] = refused_result(job_refs[n].id, "it is already in that queue")
        else:
            ready.append((n, entry, push))
    if place.queue is not None:
        # Removed, and pushed, in the order in which they would have run.
        ready.sort(key=lambda job: job[1].at)
    if action is Action.KILL:
        done = _kill_jobs(source, place, state, [(job_refs[n].id, entry) for n, entry, _ in ready])
    else:
        copies = action in (Action.DUPLICATE, Action.EDIT)
        done = _push_jobs(
            source, place, state, [(job_refs[n].id, entry, push) for n, entry, push in ready], copies=copies
        )
    for (n, _, _), one in zip(ready, done, strict=True):
        results[n] = one
    return results


def _push_jobs(
    source: Source,
    place: keys.NamespaceLocation,
    state: State,
    jobs: Sequence[tuple[str, LocatedEntry, PushedJob]],
    *,
    copies: bool,
) -> list[ActionResult]:
    """Push jobs into queues: out of a set or list or, for `copies`, in addition to the entries there."""
    space = place.namespace
    queues = list(dict.fromkeys(push.queue for _, _, push in jobs))
    number = {queue: 3 + n for n, queue in enumerate(queues)}
    listed = place.queue is not None
    origin = f"{space}{keys.QUEUE}{place.queue}" if listed else f"{space}{keys.SETS[state]}"
    calls = [
        JobCall((), (entry.raw or b"", entry.at, number[push.queue], push.queue, push.payload))
        for _, entry, push in jobs
    ]
    lists = [f"{space}{keys.QUEUE}{queue}" for queue in queues]
    head = ("copy" if copies else "move",)
    names = [origin, f"{space}queues", *lists]
    replies = run_for_each(source, "push_from_queue" if listed else "push_from_set", names, head, calls, counted=listed)
    return [
        result_from_reply(job_id, reply, push.jid if copies else None)
        for (job_id, _, push), reply in zip(jobs, replies, strict=True)
    ]


def _kill_jobs(
    source: Source, place: keys.NamespaceLocation, state: State, jobs: Sequence[tuple[str, LocatedEntry]]
) -> list[ActionResult]:
    space = place.namespace
    calls = [JobCall((), (entry.raw or b"", entry.at)) for _, entry in jobs]
    names = [f"{space}{keys.SETS[state]}", f"{space}{keys.SETS[State.DEAD]}"]
    replies = run_for_each(source, "kill", names, (repr(source.now_s()), DEAD_LIMIT), calls)
    return [result_from_reply(job_id, reply) for (job_id, _), reply in zip(jobs, replies, strict=True)]


def _is_encodable(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _not_made(job_ref: JobRef, exc: MalformedEntry | InvalidPayload) -> ActionResult:
    return (invalid_result if isinstance(exc, InvalidPayload) else refused_result)(job_ref.id, str(exc))
