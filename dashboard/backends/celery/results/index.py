"""Index of finished tasks: Celery stores a record of each, but no list of them, so Queuedeck keeps a bounded one.

Its keys begin with `{queuedeck}:celery:<source>:`; if they are not in Celery's database, the name also identifies the
servers (`backend.own_name`). There is one sorted set per status and prefix with the newest records, scored by when they
finished, and a hash of workers. A slow scan of the records fills it when a process starts to maintain it, and again
after the live feed was interrupted; otherwise the live feed keeps it up to date.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace
from redis.exceptions import ResponseError

from ....clock import monotonic_s
from ....errors import QueuedeckError
from ....model import State
from ....redact import masked_logger
from ....sources.source import Command, Reply, Source, raw_bytes
from ...base import FLOW_WINDOW_S, Budget
from ...completion_balance import BALANCED, CompletionBalance
from ...payloads.decoding import loads_dict, text
from ...scan import scan_step
from ..events import MAX_EVENTS, MAX_WAITING, MAX_WAITING_BYTES, RECORDS, EventListener, worker_channels
from ..job_decoding import parse_time
from ..keys import ENDED, NATIVE, RECORD, broker_prefix_of, member_of, queues_key, record_key, redbeat_key, results_key
from .decoding import TAIL_BYTES, RawRecord, outline_record
from .metadata import NOTHING, ResultsMetadata, with_prefix
from .metadata import of_reply as results_of_reply
from .metadata import to_write as results_to_write

# Members have at most 200 bytes, so this is at most about 2 MB per source and prefix.
KEPT = {State.DEAD: 5000, State.COMPLETED: 2000, State.CANCELED: 1000}
ID_LIMIT = 200
# How much a scan of the records may cost per sample.
FILL_COMMANDS, FILL_SECONDS = 10, 0.05
# Of a longer record, only the beginning and the end are read.
RECORD_LIMIT, HEAD_BYTES = 16_384, 1024
RECORDS_AT_ONCE = 200
# How long until records with an unreadable status are read again.
UNREADABLE_AGAIN_S = 600.0
# How many tasks are remembered as started or revoked, by their records; the newest.
MAX_STARTED, MAX_REVOKED = 1000, 1000
STARTED_TTL_S = 60
# How often the records are scanned if the feed cannot be received at all.
LOOK_AGAIN_S = 60.0
CHECKED = 100
# A worker sends a heartbeat every 2 s.
SUSPECT_AFTER_S, DEAD_AFTER_S = 10.0, 60.0
# A killed worker leaves its mailbox permanently; its last heartbeat is remembered for this long.
WORKERS_TTL_S = 7 * 86_400
MAX_SILENT_WORKERS = 200
QUEUES_TTL_S, MAX_QUEUES = 3600, 5000
# If no process maintains the index, its content no longer counts as complete.
FILLED_TTL_S = 60
MAX_RUNTIMES = 200
MAX_RECENT = 5000
# Commands that wait for the server of our own keys; if there are more, the records are scanned again.
MAX_UNWRITTEN = 2000
# After listening this long, every worker that sends heartbeats (one every 2 s) is known.
HEARD_ALL_AFTER_S = 10.0
# The statuses of a record after a run of a task has finished; the task may be retried.
RUN_ENDS = frozenset({"SUCCESS", "FAILURE", "RETRY", "REVOKED"})
log = masked_logger(__name__)
_STATES = {NATIVE[state]: state for state in ENDED}


def index_key(source: str, state: State, prefix: str = "") -> str:
    """Sorted set of the newest records of one status; `prefix` = the broker's key prefix."""
    return f"{{queuedeck}}:celery:{source}:{state.value}{':' if prefix else ''}{prefix}"


def filled_key(source: str) -> str:
    """Exists while the index is maintained and includes the records that existed before."""
    return f"{{queuedeck}}:celery:{source}:filled"


def started_key(source: str) -> str:
    """Set: ids of running tasks, as far as workers or records report them."""
    return f"{{queuedeck}}:celery:{source}:started"


def workers_key(source: str) -> str:
    """Hash: worker -> its last heartbeat as JSON."""
    return f"{{queuedeck}}:celery:{source}:workers"


@dataclass
class EndedTasks:
    """What the feed reported since the last sample, by (prefix, queue); queue "" if the record does not name it."""

    completed: Counter[tuple[str, str]] = field(default_factory=Counter)
    dead: Counter[tuple[str, str]] = field(default_factory=Counter)
    runtimes: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    whole: bool = True
    runs: Counter[str] = field(default_factory=Counter)  # finished by workers, by prefix, from their heartbeats
    started: Counter[str] = field(default_factory=Counter)


@dataclass
class ResultTraces:
    """Evidence whether runs of tasks leave records, by prefix or by (prefix, queue); times are monotonic."""

    balances: dict[str, CompletionBalance] = field(default_factory=dict)
    recorded: set[str] = field(default_factory=set)  # prefixes with at least one record received
    succeeded_at: dict[tuple[str, str], float] = field(default_factory=dict)  # the last record of a success
    failed_at: dict[tuple[str, str], float] = field(default_factory=dict)
    started_at: dict[str, float] = field(default_factory=dict)  # when workers last started a task
    workers: dict[str, int | None] = field(default_factory=dict)  # live ones, from the last stats
    mailboxes: dict[str, int] = field(default_factory=dict)  # including those of killed workers, from the last stats
    # Marks of the next message of each queue, by (prefix, queue): from the last stats, and from the call before.
    next_marks: dict[tuple[str, str], bytes] = field(default_factory=dict)
    marks_before: dict[tuple[str, str], bytes] = field(default_factory=dict)

    def moved_queues(self) -> dict[tuple[str, str], bool]:
        """Return whether the next message of each queue changed since the last call, if there was one then."""
        before, self.marks_before = self.marks_before, self.next_marks
        return {where: mark != before[where] for where, mark in self.next_marks.items() if before.get(where)}

    def hides_tasks(self, prefix: str, now: float) -> bool:
        """Whether tasks finished recently without leaving a record."""
        return self.balances.get(prefix, BALANCED).hides_jobs(now)

    def errors_alone(self, where: tuple[str, str], now: float) -> bool:
        """Whether, of the tasks that finished recently, only failed ones left a record."""
        succeeded, failed = (times.get(where, -FLOW_WINDOW_S) for times in (self.succeeded_at, self.failed_at))
        return now - failed < FLOW_WINDOW_S <= now - succeeded


class ResultIndex:
    """Maintains the index of one source; used by one thread of the sampling process."""

    def __init__(self, broker: Source, results: Source, own: Source, name: str) -> None:
        self._broker = broker
        self._results = results
        self._own = own
        self._name = name
        workers = worker_channels(broker.database)
        self.listener = EventListener(results, RECORDS if broker is not results else (*RECORDS, *workers))
        self.workers = self.listener if broker is results else EventListener(broker, workers)
        self._since = monotonic_s()
        self._cursor: int | None = 0
        self._ended_look = False  # the last step of a scan was made
        self._missed = False  # the feed has missed records since it was last complete
        self._looked_at = 0.0  # monotonic; when the last scan finished
        self._for_room = False  # the current scan only fills up an index that has room again
        self._trimmed: set[tuple[str, State]] = set()  # of the current scan: where it found more than fits
        self._unread: set[str] = set()  # of the current scan: prefixes with records that it could not list
        self._results_known: dict[str, ResultsMetadata] | None = None  # by broker prefix; None until it was read
        self._results_told: tuple[dict[str, ResultsMetadata], float] = ({}, 0.0)  # last written, and when, monotonic
        self.started: dict[str, None] = {}  # ids of running tasks, by their records
        self.revoked: dict[str, None] = {}  # ids of revoked tasks, by their records
        self._started_told: tuple[frozenset[str], float] = (frozenset(), 0.0)
        self._gone: list[Command] = []
        self._published: list[tuple[bytes, RawRecord]] = []  # drained from the feed, and not yet in `ended`
        self._runtimes: dict[str, float] = {}  # likewise
        self._unwritten: list[Command] = []  # of the index
        self._unweighed: Counter[str] = Counter()  # finished runs, by prefix, not yet compared with the records
        self._turn = 0
        self._recent: OrderedDict[str, tuple[str, str]] = OrderedDict()  # task id -> where it finished, newest last
        self._unassigned: dict[str, float] = {}  # run times by task, of the last call, whose record has not arrived yet
        self.nameless_at = -FLOW_WINDOW_S  # monotonic; when a record without a queue last arrived
        self.prefixes: Sequence[str] = ()  # key prefixes of the brokers
        # Location keys found by the last discovery; every process that sends a job needs them.
        self.queues: frozenset[str] = frozenset()
        self.redbeats: frozenset[str] = frozenset()  # key prefixes of schedules found by the last discovery
        self._redbeats_told: tuple[frozenset[str], float] = (frozenset(), 0.0)  # last written, and when, monotonic
        self._queues_told: tuple[frozenset[str], float] = (frozenset(), 0.0)  # last written, and when, monotonic
        self.ended = EndedTasks()
        self.traces = ResultTraces()
        self._beats: dict[str, tuple[object, int, int]] = {}  # worker -> its process, tasks started, tasks finished
        self._first_beats: dict[str, object] = {}  # worker -> the time of its first heartbeat
        self._heard_again: set[str] = set()
        self._whole_since = monotonic_s()  # since when no event of the workers was missed
        self._records: Counter[str] = Counter()  # of runs, in the current call, by prefix
        self._late_runs: Counter[str] = Counter()

    @property
    def is_settled(self) -> bool:
        """Whether silence is meaningful by now: each worker with heartbeats has sent more than one."""
        return self.listener.is_connected and monotonic_s() - self._whole_since > HEARD_ALL_AFTER_S

    @property
    def heard_all_workers(self) -> bool:
        """Whether every worker that sends heartbeats is known by now."""
        return self.workers.is_connected and monotonic_s() - self._since > HEARD_ALL_AFTER_S

    def knows_all_runs(self, prefix: str) -> bool:
        """Whether tasks of `prefix` that finish without a record would be noticed: each of its workers has reported its
        number of runs twice by now, or has had the time to."""
        if monotonic_s() - self._since > HEARD_ALL_AFTER_S:
            return True
        beats = [(name, str(beat.get("prefix", ""))) for name, beat in list(self.workers.heartbeats.items())]
        heard = [name for name, where in beats if where == prefix]
        return len(heard) >= self.traces.mailboxes.get(prefix, 0) and self._heard_again.issuperset(heard)

    @property
    def running_ids(self) -> frozenset[str]:
        """Ids of running tasks, as reported by workers with -E or by records of apps with task_track_started."""
        return frozenset(self.started) | frozenset(self.workers.started)

    def close(self) -> None:
        """Stop the feeds."""
        for listener in {id(each): each for each in (self.listener, self.workers)}.values():
            listener.close()

    def is_nameless(self, now: float) -> bool:
        """Whether recent results did not name their queue."""
        return now - self.nameless_at < FLOW_WINDOW_S

    def wants_marks(self, prefix: str) -> bool:
        """Whether records are not enough to see which queue makes progress: some are missing, or name no queue, or none
        was ever received."""
        now = monotonic_s()
        return self.is_nameless(now) or prefix not in self.traces.recorded or self.traces.hides_tasks(prefix, now)

    def maintain(self) -> None:
        """Process what the feed received, continue scanning the records, remove expired entries.

        Cost: 2 round trips, 4 with results or own keys on another server; plus the scan of the records.
        """
        # Run times first. A worker stores the record of a task before it sends the event with its run time, so the
        # records that are drained afterwards include the record of each event that is already here. In the other order,
        # a record and its event that arrive in between would be separated, and the run time would find no record.
        # Data drained from the feed stays here until Redis has answered: a failed round trip loses none of it.
        self._runtimes.update(self.workers.drain_runtimes())
        self._unweighed += self._count_runs()  # like run times: the records of these runs are already here
        published, whole = self.listener.drain_records()
        self._published += published
        if len(self._published) > MAX_WAITING or sum(len(raw.head) for _, raw in self._published) > MAX_WAITING_BYTES:
            self._published, whole = [], False
        if len(self._runtimes) > 2 * MAX_EVENTS:
            self._runtimes = {}
        self._look_again(whole)
        self.ended.whole = self.ended.whole and whole
        windows = self._window_commands()
        sizes = self._size_commands()
        channels = [("EXISTS", channel) for channel, _ in self._published]
        there, found_own = self._ask_both(channels, [*windows, *sizes])
        members = found_own[: len(windows)]
        self._look_for_more(sizes, found_own[len(windows) :])
        # Channels are the same for all databases of a server, keys are not.
        ours = [entry for entry, exists in zip(self._published, there, strict=True) if exists == 1]
        self._published = []
        self._unwritten += self._add_commands(ours, count=True)
        runs, self._unweighed = self._unweighed, Counter()
        self._weigh_records(runs, whole)
        runtimes, self._runtimes = self._runtimes, {}
        self._assign_runtimes(runtimes)
        if len(self._unwritten) > MAX_UNWRITTEN:
            self._unwritten, self._cursor = [], 0
        if self._cursor is not None:
            self._unwritten += self._fill_step()
        commands = [
            *self._gone,
            *self._unwritten,
            *self._heartbeat_commands(),
            *self._queue_commands(),
            *self._redbeats_to_tell(),
        ]
        if (self._cursor is None or self._for_room) and not self._missed:
            commands.append(("SET", filled_key(self._name), 1, "EX", FILLED_TTL_S))
        else:
            commands.append(("DEL", filled_key(self._name)))
        oldest = [
            (command[1], member)
            for command, found in zip(windows, members, strict=True)
            for member in (found if isinstance(found, list) else ())
        ]
        try:
            exist, replies = self._ask_both([("EXISTS", record_key(member)) for _, member in oldest], commands)
            if told := [*self._started_to_tell(), *self._results_to_tell()]:
                self._own.run_batch(told)
        except QueuedeckError:
            self._forget_told()
            raise
        self._unwritten = []
        self._replace_wrong(commands, replies)
        self._note_trimmed(commands, replies)
        self._gone = [("ZREM", key, member) for (key, member), exists in zip(oldest, exist, strict=True) if exists == 0]

    def _forget_told(self) -> None:
        """Write again what other processes need, because the last write may have failed."""
        self._queues_told = self._redbeats_told = self._started_told = (frozenset(), 0.0)
        self._results_told = ({}, 0.0)

    def _replace_wrong(self, commands: Sequence[Command], replies: Sequence[Reply]) -> None:
        """Delete own keys of the wrong type, to be rebuilt: they come from another program, or a copied database."""
        wrong = {
            str(command[1])
            for command, reply in zip(commands, replies, strict=True)
            if isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE")
        }
        if wrong:
            for key in sorted(wrong):
                log.warning("own key %s had the wrong type: deleted, will be rebuilt", key)
            self._own.run_batch([("DEL", *sorted(wrong))])
            self._cursor = 0
            self._queues_told = (frozenset(), 0.0)

    def _count_runs(self) -> Counter[str]:
        """Return how many runs of tasks finished since the last call, by prefix, from heartbeats: the tasks a worker
        started, minus those it is still running.
        """
        now = monotonic_s()
        runs: Counter[str] = Counter()
        known = self._beats
        self._beats = {}
        for name, beat in list(self.workers.heartbeats.items()):
            begun, active = beat.get("processed"), beat.get("active")
            if not isinstance(begun, int) or not isinstance(active, int):
                continue
            if self._first_beats.setdefault(name, beat.get("at")) != beat.get("at"):
                self._heard_again.add(name)
            process, ended, prefix = beat.get("pid"), begun - active, str(beat.get("prefix", ""))
            self._beats[name] = (process, begun, ended)
            before = known.get(name)
            if before is not None and before[0] != process:
                before = (process, 0, 0)
            elif before is None:
                # If all other workers are already known, a new one has started since then.
                before = (process, 0, 0) if now - self._whole_since > HEARD_ALL_AFTER_S else self._beats[name]
            runs[prefix] += max(0, ended - before[2])
            self.ended.started[prefix] += max(0, begun - before[1])
            if begun > before[1]:
                self.traces.started_at[prefix] = now
        self.ended.runs += runs
        return runs

    def _weigh_records(self, runs: Counter[str], whole: bool) -> None:
        """Compare the finished runs with the records that arrived in the same call."""
        if self.workers is not self.listener:
            # Two feeds: the records of these runs may arrive a little later.
            runs, self._late_runs = self._late_runs, runs
        if not whole:
            self._beats.clear()
            self._late_runs.clear()
            self._whole_since = monotonic_s()
        now = monotonic_s()
        records, self._records = self._records, Counter()
        self.traces.recorded.update(records)
        for prefix in {*runs, *records, *self.traces.balances}:
            ended = runs[prefix] if whole else 0
            balance = self.traces.balances.get(prefix, BALANCED)
            self.traces.balances[prefix] = balance.add(now, ended, records[prefix])

    def _look_again(self, whole: bool) -> None:
        """Start another scan to find missed records: once the feed is complete again; before, every LOOK_AGAIN_S."""
        if not whole:
            self._missed = True
            if self._cursor is None and monotonic_s() - self._looked_at > LOOK_AGAIN_S:
                self._begin_look()
        elif self._missed:
            self._missed = False
            self._begin_look()
        elif (
            self._cursor is None
            and monotonic_s() - self._looked_at > UNREADABLE_AGAIN_S
            and any(results.unlisted for results in self._known_results().values())
        ):
            self._begin_look(for_room=True)

    def _begin_look(self, *, for_room: bool = False) -> None:
        self._cursor, self._for_room = 0, for_room
        self._trimmed, self._unread = set(), set()

    def _end_look(self) -> None:
        """Store what a complete scan found to exceed the index or to be unreadable; it replaces earlier findings."""
        known = self._known_results()
        for prefix in {*known, *(prefix for prefix, _ in self._trimmed), *self._unread}:
            capped = frozenset(state for where, state in self._trimmed if where == prefix)
            known[prefix] = replace(known.get(prefix, NOTHING), capped=capped, unlisted=prefix in self._unread)

    def _known_results(self) -> dict[str, ResultsMetadata]:
        """Return what is known of the results, by broker prefix. Cost: 1 round trip the first time."""
        if self._results_known is None:
            self._results_known = results_of_reply(self._own.run_batch([("HGETALL", results_key(self._name))])[0])
        return self._results_known

    def _size_commands(self) -> list[Command]:
        return [
            ("ZCARD", index_key(self._name, state, prefix))
            for prefix, results in self._known_results().items()
            for state in sorted(results.capped)
        ]

    def _look_for_more(self, sizes: Sequence[Command], replies: Sequence[Reply]) -> None:
        """Scan for records that did not fit into the index as soon as it has room."""
        if self._cursor is not None:
            return
        room = {index_key(self._name, state, prefix): KEPT[state] for prefix in self._known_results() for state in KEPT}
        waited = monotonic_s() - self._looked_at > LOOK_AGAIN_S
        for (_, key), size in zip(sizes, replies, strict=True):
            most = room[str(key)]
            if isinstance(size, int) and size < (most if waited else most * 9 // 10):
                self._begin_look(for_room=True)
                return

    def _note_trimmed(self, commands: Sequence[Command], replies: Sequence[Reply]) -> None:
        """Mark the states with more records than the index has room for."""
        where = {
            index_key(self._name, state, prefix): (prefix, state)
            for prefix in self._broker_prefixes()
            for state in KEPT
        }
        for command, reply in zip(commands, replies, strict=True):
            if command[0] == "ZREMRANGEBYRANK" and isinstance(reply, int) and reply > 0:
                prefix, state = where[str(command[1])]
                self._trimmed.add((prefix, state))
                results = self._known_results().get(prefix, NOTHING)
                self._known_results()[prefix] = replace(results, capped=results.capped | {state})
        if self._ended_look:
            self._ended_look = False
            self._end_look()

    def _broker_prefixes(self) -> set[str]:
        return {*self.prefixes, *self._known_results(), ""}

    def _results_to_tell(self) -> Iterable[Command]:
        told, at = self._results_told
        known = self._known_results()
        if known == told and monotonic_s() - at < QUEUES_TTL_S / 2:
            return []
        self._results_told = (dict(known), monotonic_s())
        return results_to_write(self._name, known)

    def _started_to_tell(self) -> Iterable[Command]:
        told, at = self._started_told
        running = self.running_ids
        if running == told and (not running or monotonic_s() - at < STARTED_TTL_S / 2):
            return []
        self._started_told = (running, monotonic_s())
        key = started_key(self._name)
        names = [_to_bytes(each) for each in sorted(running)[:MAX_STARTED]]
        added: list[Command] = [("SADD", key, *names), ("EXPIRE", key, STARTED_TTL_S)] if names else []
        return [("DEL", key), *added]

    def _ask_both(self, results: Sequence[Command], own: Sequence[Command]) -> tuple[list[Reply], list[Reply]]:
        """Return the replies of the results' server and the own keys' server; 1 round trip if they are the same."""
        if self._results is self._own:
            replies = self._own.run_batch([*results, *own]) if results or own else []
            return replies[: len(results)], replies[len(results) :]
        return self._results.run_batch(results) if results else [], self._own.run_batch(own) if own else []

    def _window_commands(self) -> list[Command]:
        """Return commands for each set's oldest entries, which expire first, and for some others in rotation, which may
        have been deleted."""
        self._turn += 1
        commands: list[Command] = []
        for prefix in self.prefixes:
            for state in ENDED:
                key = index_key(self._name, state, prefix)
                start = self._turn % (KEPT[state] // CHECKED) * CHECKED if KEPT[state] > CHECKED else 0
                commands.append(("ZRANGE", key, 0, CHECKED - 1))
                if start:
                    commands.append(("ZRANGE", key, start, start + CHECKED - 1))
        return commands

    def _add_commands(self, records: Iterable[tuple[bytes, RawRecord]], *, count: bool) -> Iterable[Command]:
        touched: dict[tuple[str, State | None], dict[bytes, float]] = {}
        for name, raw in records:
            member = member_of(name)
            decoded = outline_record(raw)
            record, status = decoded.fields, decoded.status
            result_prefix = text(name.rpartition(RECORD.encode())[0])
            prefix = broker_prefix_of(result_prefix, self.prefixes)
            self._known_results()[prefix] = with_prefix(self._known_results().get(prefix, NOTHING), result_prefix)
            if status is None or len(member) > ID_LIMIT:
                self._unread.add(prefix)
                self._known_results()[prefix] = replace(self._known_results()[prefix], unlisted=True)
                continue
            state = _STATES.get(status)
            self._note_status(text(name.rpartition(RECORD.encode())[2]), status)
            done = parse_time(record.get("date_done"))
            # The newest status counts, and a task that runs again under its id leaves the list it was in.
            for other in (*ENDED, None):
                touched.get((prefix, other), {}).pop(member, None)
            touched.setdefault((prefix, state), {})[member] = done.timestamp() if done else self._results.now_s()
            if count and status in RUN_ENDS:
                self._records[prefix] += 1
            if count and state is not None:
                self._count_task((prefix, _queue_of(record)), text(name.rpartition(RECORD.encode())[2]), state)
        for (prefix, state), scores in touched.items():
            if not scores:
                continue
            if state is not None:
                key = index_key(self._name, state, prefix)
                yield ("ZADD", key, *(part for name, score in scores.items() for part in (repr(score), name)))
                yield ("ZREMRANGEBYRANK", key, 0, -KEPT[state] - 1)
            for other in ENDED:
                if other is not state:
                    yield ("ZREM", index_key(self._name, other, prefix), *scores)

    def _note_status(self, task: str, status: str) -> None:
        """Remember which tasks are running and which were revoked: their messages do not record it."""
        for word, tasks, most in (("STARTED", self.started, MAX_STARTED), ("REVOKED", self.revoked, MAX_REVOKED)):
            tasks.pop(task, None)
            if status == word:
                tasks[task] = None
                if len(tasks) > most:
                    del tasks[next(iter(tasks))]
        if status != "STARTED":
            self.workers.started.pop(task, None)

    def _count_task(self, where: tuple[str, str], task: str, state: State) -> None:
        tally = self.ended.dead if state is State.DEAD else self.ended.completed
        tally[where] += 1
        if state is not State.CANCELED:
            times = self.traces.failed_at if state is State.DEAD else self.traces.succeeded_at
            times[where] = monotonic_s()
        if where[1]:
            self._recent[task] = where
            if len(self._recent) > MAX_RECENT:
                self._recent.popitem(last=False)
        else:
            self.nameless_at = monotonic_s()

    def _assign_runtimes(self, runtimes: Mapping[str, float]) -> None:
        """Add run times by task to the queue that the record of the task names.

        If results and broker are on different servers, an event may arrive before its record: it waits for one call.
        """
        unassigned: dict[str, float] = {}
        for task, seconds in {**self._unassigned, **runtimes}.items():
            where = self._recent.pop(task, None)
            if where is None:
                if task in runtimes:
                    unassigned[task] = seconds
                continue
            known = self.ended.runtimes.setdefault(where, [])
            if len(known) < MAX_RUNTIMES:
                known.append(seconds)
        self._unassigned = unassigned if self.workers is not self.listener else {}

    def _fill_step(self) -> Iterable[Command]:
        """Run one step of a scan of the records."""
        assert self._cursor is not None
        keys, cursor = scan_step(
            self._results,
            self._cursor,
            Budget(FILL_COMMANDS, FILL_SECONDS),
            match=f"*{RECORD}*",
            key_type="string",
        )
        for start in range(0, len(keys), RECORDS_AT_ONCE):
            some = keys[start : start + RECORDS_AT_ONCE]
            yield from self._add_commands(self._read_records(some), count=False)
        self._cursor = cursor or None  # only now: what could not be read is scanned again
        if self._cursor is None:
            self._looked_at, self._ended_look, self._for_room = monotonic_s(), True, False

    def _read_records(self, names: Sequence[bytes]) -> list[tuple[bytes, RawRecord]]:
        """Return records as far as they are inspected. Cost: 1 round trip, 2 if some are longer than HEAD_BYTES."""
        replies = self._results.run_batch(
            [command for key in names for command in (("STRLEN", key), ("GETRANGE", key, 0, HEAD_BYTES - 1))]
        )
        found = {
            key: RawRecord(head, b"", max(size, len(head)))
            for key, size, head in zip(names, replies[::2], replies[1::2], strict=True)
            if isinstance(size, int) and isinstance(head, bytes) and head
        }
        long = [key for key, raw in found.items() if not raw.is_whole]
        wholes = self._results.run_batch(
            [
                ("GETRANGE", key, 0, RECORD_LIMIT - 1)
                if found[key].size <= RECORD_LIMIT
                else ("GETRANGE", key, -TAIL_BYTES, -1)
                for key in long
            ]
        )
        for key, more in zip(long, wholes, strict=True):
            if isinstance(more, bytes) and more:
                raw = found[key]
                found[key] = raw._replace(tail=more) if raw.size > RECORD_LIMIT else RawRecord(more, b"", len(more))
        return list(found.items())

    def _heartbeat_commands(self) -> Iterable[Command]:
        beats = self.workers.heartbeats
        if not beats:
            return []
        kept = ("pid", "active", "processed", "loadavg", "sw_ver", "at", "prefix")
        now = self._broker.now_s()
        silent = sorted((beat["at"], name) for name, beat in beats.items() if now - beat["at"] > DEAD_AFTER_S)
        for number, (at, name) in enumerate(silent):
            if now - at > WORKERS_TTL_S or number < len(silent) - MAX_SILENT_WORKERS:
                del beats[name]
        pairs: list[str] = []
        for name, beat in list(beats.items()):
            pairs += [name, json.dumps({part: beat.get(part) for part in kept}, default=str)[:2000]]
        key = workers_key(self._name)
        return [("DEL", key), ("HSET", key, *pairs), ("EXPIRE", key, WORKERS_TTL_S)] if pairs else [("DEL", key)]

    def _redbeats_to_tell(self) -> Iterable[Command]:
        told, at = self._redbeats_told
        if self.redbeats == told and (not told or monotonic_s() - at < QUEUES_TTL_S / 2):
            return []
        self._redbeats_told = (self.redbeats, monotonic_s())
        key = redbeat_key(self._name)
        names = [_to_bytes(name) for name in sorted(self.redbeats)]
        added: list[Command] = [("SADD", key, *names), ("EXPIRE", key, QUEUES_TTL_S)] if names else []
        return [("DEL", key), *added]

    def _queue_commands(self) -> Iterable[Command]:
        told, at = self._queues_told
        if not self.queues or (self.queues == told and monotonic_s() - at < QUEUES_TTL_S / 2):
            return []
        self._queues_told = (self.queues, monotonic_s())
        key = queues_key(self._name)
        names = [raw_bytes(name) for name in sorted(self.queues)[:MAX_QUEUES]]
        return [("DEL", key), ("SADD", key, *names), ("EXPIRE", key, QUEUES_TTL_S)]


def _to_bytes(name: str) -> bytes:
    return raw_bytes(name)


def _queue_of(record: Mapping[str, object]) -> str:
    queue = record.get("queue")
    return queue if isinstance(queue, str) else ""


def read_heartbeats(own: Source | None, source: str) -> Mapping[str, Mapping[str, object]]:
    """Return the last heartbeat of each known worker, by name; {} if no process stores them. Cost: 1 round trip."""
    if own is None:
        return {}
    return beats_of(own.run_batch([("HGETALL", workers_key(source))])[0])


def beats_of(reply: Reply) -> dict[str, Mapping[str, object]]:
    """Return the heartbeats in the reply to HGETALL of `workers_key`."""
    if isinstance(reply, ResponseError) or not isinstance(reply, list):
        return {}
    return {text(name): loads_dict(raw) for name, raw in zip(reply[::2], reply[1::2], strict=True)}
