"""Stats of many queues in one round trip."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from redis.exceptions import ResponseError

from ...model import Counts, NativeCount, QueueRef, QueueStats, State
from ...sources.source import Command, Reply, Source, text
from ...units import format_count
from ..lua_reads import Scripts
from ..payloads.decoding import count_or_none
from ..unreadable_data import describe_error
from . import keys
from .job_decoding import headers_of, state_of, with_headers
from .paused_queues import PausedQueue, is_paused, paused_of_reply
from .results.index import KEPT, ResultIndex
from .results.metadata import NOTHING, ResultsMetadata
from .results.metadata import of_reply as results_of_reply
from .stored_heartbeats import beats_of
from .workers import is_alive, read_mailboxes

QUEUES_PER_CALL = 40
# If there are more unacknowledged messages than this, they are counted but not inspected.
LOOK_INTO = 500
NO_AGE = "Celery does not store when a message was sent, so the age of a waiting job is unknown"
TOGETHER = "unacknowledged messages and finished jobs are stored for all queues together"
NO_RESULTS = (
    "workers ran tasks, but no results were found here: task_ignore_result stores none; if results are on another "
    "Redis, set result_url"
)


# (prefix, separator), and its queues: (index in `refs`, name).
QueueGroup: TypeAlias = tuple[tuple[str, str], list[tuple[int, str]]]
# What is cached for one queue until the next sample: the inputs, and the stats computed from them.
Seen: TypeAlias = tuple[tuple[QueueRef, Reply, int | None, bool | None], QueueStats]


class KnownFacts(NamedTuple):
    """What else is known about one prefix: the index, and the workers from their heartbeats; None = unknown."""

    ended: tuple[int | None, ...]  # in the order of keys.ENDED
    whole: bool  # the index also holds the records that existed before it was started
    running: int | None
    workers: int | None
    results: ResultsMetadata = NOTHING
    unheard: bool | None = False  # there are mailboxes of workers that may live and send no heartbeats
    ran: bool = False  # workers report that they ran tasks
    alive: Mapping[str, Mapping[str, object]] = {}  # the last heartbeats of the workers, by name
    paused: Mapping[str, PausedQueue] = {}  # queues of any prefix that were paused in Queuedeck, by location key


def read_stats(
    broker: Source,
    scripts: Scripts,
    own: Source | None,
    refs: Sequence[QueueRef],
    keeper: ResultIndex | None,
    unacked: keys.UnackedKeys,
    name: str,
    seen: dict[str, Seen] | None = None,
) -> list[QueueStats]:
    """Return the stats of `refs`, in order.

    `seen` = what earlier calls cached there, by key; this call updates it. `name` = the name of this source in
    Queuedeck's own keys.

    Cost: 1 round trip, 2 without scripts; 1 more if Queuedeck's own keys are on another server, and 1 more while known
    workers are silent and left their mailboxes.
    """
    groups = list(_queue_groups(refs))
    # Unacknowledged messages are read once for all queues of a prefix, together with the first group.
    firsts = {prefix: n for n, ((prefix, _), _) in reversed(list(enumerate(groups)))}
    calls = [
        _script_call(group, unacked.entries if firsts[group[0][0]] == n else "", keeper)
        for n, group in enumerate(groups)
    ]
    prefixes = list(dict.fromkeys(prefix for (prefix, _), _ in groups))
    boxes: list[Command] = [("SCARD", f"{prefix}{keys.MAILBOX}") for prefix in prefixes]
    kept = _index_commands(name, prefixes)
    together = own is broker
    answered = scripts.run(keys.load_script("stats"), calls, also=[*boxes, *kept] if together else boxes)
    replies = answered[0] if answered is not None else _read_without_lua(broker, groups, unacked)
    beside = answered[1] if answered is not None else []
    if own is not None and not (together and answered is not None):
        beside = [*(beside or [None] * len(boxes)), *own.run_batch(kept)]
    separators = {separator for (_, separator), _ in groups}
    facts = _gather_facts(broker, prefixes, separators, beside, len(kept), keeper)
    if keeper is not None:
        _note_workers(keeper, facts, dict(zip(prefixes, beside, strict=False)))
    running = keeper.statuses.running_ids if keeper is not None else frozenset[str]()
    revoked = keeper.statuses.revoked if keeper is not None else ()
    found: dict[int, QueueStats] = {}
    marks: dict[tuple[str, str], bytes] = {}
    for group, (((prefix, _), queues), reply) in enumerate(zip(groups, replies, strict=True)):
        waiting, taken, *more = reply if isinstance(reply, list) else ([reply] * len(queues), [None, None])
        marks.update({(prefix, name): mark for (_, name), mark in zip(queues, more[0] if more else (), strict=False)})
        for (n, _), size in zip(queues, waiting, strict=True):
            # Redis does not store which worker consumes which queue; without workers, the count is 0.
            workers = 0 if facts[prefix].workers == 0 else None
            found[n] = _stats_of_queue(refs[n], size, workers, _is_paused(refs[n], facts[prefix]), seen)
        for n, ref in enumerate(refs if firsts[prefix] == group else ()):
            if ref.shared and keys.location_of(ref).prefix == prefix:
                found[n] = _stats_of_shared(
                    ref, taken[0], divide_unacked(taken[1], running, revoked, facts[prefix]), facts[prefix]
                )
    if keeper is not None:
        keeper.tally.traces.next_marks = marks
    return [found[n] for n in range(len(refs))]


def _script_call(group: QueueGroup, unacked: str, keeper: ResultIndex | None) -> tuple[str | int, ...]:
    """The call of stats.lua for one group; `unacked`: the key of the unacknowledged messages, "" to leave them out."""
    (prefix, separator), queues = group
    marks = "1" if keeper is not None and keeper.tally.wants_marks(prefix) else ""
    return (prefix, LOOK_INTO, separator, unacked, marks, *(name for _, name in queues))


def _index_commands(name: str, prefixes: Sequence[str]) -> list[Command]:
    """The commands for what Queuedeck stores about a source: heartbeats, results, what is indexed, pauses."""
    return [
        *(("HGETALL", key) for key in (keys.workers_key(name), keys.results_key(name))),
        ("EXISTS", keys.filled_key(name)),
        *(("ZCARD", keys.index_key(name, state, prefix)) for prefix in prefixes for state in keys.ENDED),
        ("HGETALL", keys.paused_key(name)),
    ]


def _note_workers(keeper: ResultIndex, facts: Mapping[str, KnownFacts], boxes: Mapping[str, Reply]) -> None:
    """Pass on to the rates how many workers and mailboxes each prefix has."""
    keeper.tally.traces.workers = {prefix: each.workers for prefix, each in facts.items()}
    keeper.tally.traces.mailboxes = {prefix: box for prefix, box in boxes.items() if isinstance(box, int)}


def _gather_facts(
    broker: Source,
    prefixes: Sequence[str],
    separators: Collection[str],
    beside: Sequence[Reply],
    kept: int,
    keeper: ResultIndex | None,
) -> dict[str, KnownFacts]:
    boxes, index = beside[: len(prefixes)], beside[len(prefixes) :]
    beats = beats_of(index[0]) if len(index) == kept else {}
    results = results_of_reply(index[1]) if len(index) == kept else {}
    whole = len(index) == kept and index[2] == 1
    paused = paused_of_reply(index[-1]) if len(index) == kept else {}
    now = broker.now_s()
    counted = {prefix: box for prefix, box in zip(prefixes, boxes, strict=False) if isinstance(box, int)}
    known = {
        prefix: {name: beat for name, beat in beats.items() if beat.get("prefix", "") == prefix} for prefix in prefixes
    }
    living = {
        prefix: {name: beat for name, beat in known[prefix].items() if is_alive(beat, now)} for prefix in prefixes
    }
    heard_all = keeper is not None and keeper.runs.heard_all_workers
    killed = _only_killed(broker, counted, separators, known, living) if heard_all else set[str]()
    found = {}
    for n, prefix in enumerate(prefixes):
        ended = index[3 + n * len(keys.ENDED) :][: len(keys.ENDED)] if len(index) == kept else [None] * len(keys.ENDED)
        alive = living[prefix]
        running = [active for beat in alive.values() if (active := count_or_none(beat.get("active"))) is not None]
        none_alive = not alive and heard_all and (counted.get(prefix) == 0 or prefix in killed)
        found[prefix] = KnownFacts(
            ended=tuple(size if isinstance(size, int) else None for size in ended),
            whole=whole,
            running=sum(running) if alive else None,
            workers=len(alive) if alive else 0 if none_alive else None,
            results=results.get(prefix, NOTHING),
            unheard=prefix not in killed and counted[prefix] > len(alive) if prefix in counted else None,
            ran=any(count_or_none(beat.get("processed")) for beat in known[prefix].values()),
            alive=alive,
            paused=paused,
        )
    return found


def _only_killed(
    broker: Source,
    counted: Mapping[str, int],
    separators: Collection[str],
    known: Mapping[str, Mapping[str, object]],
    living: Mapping[str, Mapping[str, object]],
) -> set[str]:
    """Return the prefixes with more mailboxes than live workers, where all others belong to workers that fell silent.

    A killed worker leaves its mailbox, so a mailbox alone proves nothing. The mailbox of a worker that never sent a
    heartbeat may belong to a live worker without heartbeats. Cost: none, or 1 round trip.
    """
    asked = [prefix for prefix, box in counted.items() if len(living[prefix]) < box <= len(known[prefix])]
    found = read_mailboxes(broker, asked, separators) if asked else {}
    return {prefix for prefix, names in found.items() if names is not None and names <= known[prefix].keys()}


def _queue_groups(refs: Sequence[QueueRef]) -> Iterable[QueueGroup]:
    """Yield ((prefix, separator), their queues with their index in `refs`), in batches that one script call reads."""
    found: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for n, ref in enumerate(refs):
        place = keys.location_of(ref)
        queues = found.setdefault((place.prefix, place.separator), [])
        if place.queue is not None:
            queues.append((n, place.queue))
    for where, queues in found.items():
        for start in range(0, max(1, len(queues)), QUEUES_PER_CALL):
            yield where, queues[start : start + QUEUES_PER_CALL]


def _read_without_lua(broker: Source, groups: Sequence[QueueGroup], names: keys.UnackedKeys) -> list[Reply]:
    """Return the script's replies, read by plain commands; the messages in `unacked` are counted, not classified."""
    answers: list[Reply] = []
    for (prefix, separator), queues in groups:
        lists = [keys.QueueLocation(prefix, name, separator).list_keys() for _, name in queues]
        *sizes, unacked = broker.run_batch(
            [*(("LLEN", key) for several in lists for key in several), ("HLEN", names.keys(prefix)[0])]
        )
        width = len(keys.STEPS) + 1
        waiting: list[Reply] = []
        for n in range(len(queues)):
            several = sizes[n * width : (n + 1) * width]
            bad = next((size for size in several if isinstance(size, ResponseError)), None)
            waiting.append(bad or sum(several))
        answers.append([waiting, [unacked, None]])
    return answers


def _is_paused(ref: QueueRef, facts: KnownFacts) -> bool | None:
    if not facts.paused:
        return None
    return is_paused(facts.paused.get(keys.location_of(ref).key), facts.alive, unheard=facts.unheard is not False)


def _stats_of_queue(
    ref: QueueRef, size: Reply, workers: int | None, paused: bool | None, seen: dict[str, Seen] | None
) -> QueueStats:
    """Return the stats of one queue, which depend on these arguments only: the age of its jobs is unknown."""
    known = (ref, size, workers, paused)
    before = seen.get(ref.key) if seen else None
    if before is not None and before[0] == known:
        return before[1]
    queue = _queue_figures(*known)
    if seen is not None:
        seen[ref.key] = (known, queue)
    return queue


def _queue_figures(ref: QueueRef, size: Reply, workers: int | None, paused: bool | None) -> QueueStats:
    waiting = size if isinstance(size, int) else None
    return QueueStats(
        source=ref.source,
        backend=ref.backend,
        name=ref.name,
        key=ref.key,
        prefix=keys.location_of(ref).prefix or None,
        paused=paused,
        counts=Counts(waiting=waiting),
        native=(NativeCount(native=keys.NATIVE[State.WAITING], state=State.WAITING, count=waiting),),
        depth=waiting,
        latency_s=0.0 if waiting == 0 else None,
        workers=workers,
        notes=(TOGETHER, NO_AGE),
        error=describe_error(size) if isinstance(size, ResponseError) else None,
    )


class UnackedCounts(NamedTuple):
    """Unacknowledged messages by state; None = unknown. Counts of the states in `at_least` are lower bounds."""

    reserved: int | None = None
    active: int | None = None
    scheduled: int | None = None
    retrying: int | None = None
    at_least: tuple[State, ...] = ()


def divide_unacked(
    entries: Reply, running: Collection[str], revoked: Collection[str], facts: KnownFacts
) -> UnackedCounts:
    """Count the entries of `unacked` by state. `entries` = (kind, id, ...) from `stats.lua`, anything else = unread.

    `running` and `revoked` hold known task ids. A worker acknowledges a task before it runs it, or with `acks_late`
    afterwards. No message records which, so if the running tasks are unknown, some entries of `unacked` may be running.
    """
    active = 0 if facts.workers == 0 else facts.running
    doubt = (State.ACTIVE,) if active is not None and facts.unheard and facts.workers != 0 else ()
    if not isinstance(entries, list):
        return UnackedCounts(active=active, at_least=doubt)
    kinds: dict[str, list[str]] = {"now": [], "eta": [], "retry": []}
    for kind, value in zip(entries[::2], entries[1::2], strict=True):
        name, task = _kind_and_id(value) if kind == b"first" else (text(kind), text(value))
        if task not in revoked:
            # With `acks_late`, a message stays in `unacked` while it runs, including one whose ETA has passed.
            kinds["now" if task in running and facts.workers != 0 else name].append(task)
    late = 0 if facts.workers == 0 else sum(task in running for task in kinds["now"])
    not_begun = len(kinds["now"]) - late
    at_least = list(doubt)
    if active is None:
        active, reserved = late or None, None if not_begun else 0
        at_least += [State.ACTIVE] if late else []
    else:
        active = max(active, late)
        reserved = not_begun
        if not_begun and active not in (0, len(running)):
            # Running tasks whose ids are unknown may be among these messages.
            unknown = active - len(running) if active > len(running) else active - late
            reserved = max(0, not_begun - unknown) or None
            at_least += [State.WAITING] if reserved else []
    return UnackedCounts(reserved, active, len(kinds["eta"]), len(kinds["retry"]), tuple(at_least))


def _kind_and_id(body: bytes) -> tuple[str, str]:
    """Return (kind, id) of a protocol 1 message, from its body."""
    headers = headers_of(with_headers({"body": text(body), "properties": {"body_encoding": "base64"}}))
    kind = {State.SCHEDULED: "eta", State.RETRYING: "retry"}.get(state_of(headers), "now")
    task = headers.get("id")
    return kind, task if isinstance(task, str) else ""


def _ended_counts(facts: KnownFacts) -> tuple[dict[State, int | None], tuple[State, ...]]:
    """Return (number of records by state, the states whose number is a lower bound)."""
    counts = dict(zip(keys.ENDED, facts.ended, strict=True))
    more = tuple(
        state
        for state, count in counts.items()
        if count is not None and (not facts.whole or facts.results.unlisted or state in facts.results.capped)
    )
    # "At least 0" carries no information, and neither does 0 if workers ran tasks but no result was ever seen.
    unseen = facts.ran and not facts.results.seen
    counts = {state: None if not count and (state in more or unseen) else count for state, count in counts.items()}
    return counts, tuple(state for state in more if counts[state] is not None)


def _notes_of_shared(unacked: Reply, taken: UnackedCounts, facts: KnownFacts) -> list[str]:
    notes = [format_count(unacked, "unacknowledged message")] if isinstance(unacked, int) else []
    if State.WAITING in taken.at_least:
        notes.append("to see which of these are running, start workers with -E or set task_track_started = True")
    notes += [
        f"showing the newest {KEPT[state]:,} {keys.NATIVE[state]} results"
        for state in keys.ENDED
        if state in facts.results.capped
    ]
    if facts.running is not None:
        tasks = "1 active task" if facts.running == 1 else f"{facts.running} active tasks"
        notes.append(f"workers report {tasks}; tasks acknowledged early are not listed")
    if facts.results.unlisted:
        notes.append("some results are not counted: their status cannot be read, or their id is too long")
    if all(count is None for count in facts.ended):
        notes.append("finished jobs are listed once a Queuedeck process can store its own index of results")
    elif facts.ran and not facts.results.seen:
        notes.append(NO_RESULTS)
    elif not facts.whole:
        notes.append("still scanning for results: more jobs may have finished than shown")
    return notes


def _stats_of_shared(ref: QueueRef, unacked: Reply, taken: UnackedCounts, facts: KnownFacts) -> QueueStats:
    ended, more = _ended_counts(facts)
    counted: dict[State, int | None] = {
        State.WAITING: taken.reserved,
        State.ACTIVE: taken.active,
        State.SCHEDULED: taken.scheduled,
        State.RETRYING: taken.retrying,
        **ended,
    }
    native = {**keys.NATIVE, State.WAITING: keys.RESERVED}
    return QueueStats(
        source=ref.source,
        backend=ref.backend,
        name=ref.name,
        key=ref.key,
        shared=True,
        prefix=keys.location_of(ref).prefix or None,
        counts=Counts(**{state.value: count for state, count in counted.items()}),
        native=tuple(NativeCount(native=native[state], state=state, count=count) for state, count in counted.items()),
        depth=taken.reserved,
        workers=facts.workers,
        at_least=(*taken.at_least, *more),
        notes=tuple(_notes_of_shared(unacked, taken, facts)),
        error=describe_error(unacked) if isinstance(unacked, ResponseError) else None,
    )
