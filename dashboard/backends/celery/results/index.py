"""Index of finished tasks: Celery stores a record of each, but no list of them, so Queuedeck keeps a bounded one.

Its keys begin with `{queuedeck}:celery:<source>:`; if they are not in Celery's database, the name also identifies the
servers (`backend.own_name`). There is one sorted set per status and prefix with the newest records, scored by when they
finished, and a hash of workers. A slow scan of the records fills it when a process starts to maintain it, and again
after the live feed was interrupted; otherwise the live feed keeps it up to date.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from redis.exceptions import ResponseError

from ....errors import QueuedeckError
from ....model import State
from ....redact import masked_logger
from ....sources.source import Command, Reply, Source, text
from ..events import MAX_EVENTS, MAX_WAITING, MAX_WAITING_BYTES, RECORDS, EventListener, worker_channels
from ..job_decoding import parse_time
from ..keys import ENDED, NATIVE, RECORD, broker_prefix_of, filled_key, index_key, member_of, record_key
from ..stored_heartbeats import beats_to_write, drop_silent
from .decoding import RawRecord, outline_record
from .ended_tasks import EndedTaskTally
from .metadata import KnownMetadata
from .record_scan import RecordScan
from .run_balance import RunBalance
from .shared_findings import SharedFindings
from .task_statuses import TaskStatuses

# Members have at most 200 bytes, so this is at most about 2 MB per source and prefix.
KEPT = {State.DEAD: 5000, State.COMPLETED: 2000, State.CANCELED: 1000}
ID_LIMIT = 200
CHECKED = 100
# If no process maintains the index, its content no longer counts as complete.
FILLED_TTL_S = 60
# Commands that wait for the server of our own keys; if there are more, the records are scanned again.
MAX_UNWRITTEN = 2000
# The statuses of a record after a run of a task has finished; the task may be retried.
RUN_ENDS = frozenset({"SUCCESS", "FAILURE", "RETRY", "REVOKED"})
log = masked_logger(__name__)
_STATES = {NATIVE[state]: state for state in ENDED}


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
        self.tally = EndedTaskTally()
        self.runs = RunBalance(self.listener, self.workers, self.tally)
        self.statuses = TaskStatuses(self.workers)
        self._metadata = KnownMetadata(own, name)
        self.scan = RecordScan(results, self._metadata)
        self._shared = SharedFindings(name)
        self._gone: list[Command] = []
        self._published: list[tuple[bytes, RawRecord]] = []  # drained from the feed, and not yet in the tally
        self._runtimes: dict[str, float] = {}  # likewise
        self._unwritten: list[Command] = []  # of the index
        self._turn = 0
        self.prefixes: Sequence[str] = ()  # key prefixes of the brokers
        # Location keys found by the last discovery; every process that sends a job needs them.
        self.queues: frozenset[str] = frozenset()
        self.redbeats: frozenset[str] = frozenset()  # key prefixes of schedules found by the last discovery

    def close(self) -> None:
        """Stop the feeds."""
        for listener in {id(each): each for each in (self.listener, self.workers)}.values():
            listener.close()

    def maintain(self) -> None:
        """Process what the feed received, continue scanning the records, remove expired entries.

        Cost: 2 round trips, 4 with results or own keys on another server; plus the scan of the records.
        """
        whole = self._drain_feed()
        self.scan.look_again(whole=whole)
        self.tally.ended.whole = self.tally.ended.whole and whole
        windows = self._window_commands()
        sizes = self._size_commands()
        channels = [("EXISTS", channel) for channel, _ in self._published]
        there, found_own = self._ask_both(channels, [*windows, *sizes])
        members = found_own[: len(windows)]
        self._look_for_more(sizes, found_own[len(windows) :])
        self._take_published(there, whole=whole)
        oldest = [
            (command[1], member)
            for command, found in zip(windows, members, strict=True)
            for member in (found if isinstance(found, list) else ())
        ]
        exist = self._write([("EXISTS", record_key(member)) for _, member in oldest])
        self._gone = [("ZREM", key, member) for (key, member), exists in zip(oldest, exist, strict=True) if exists == 0]

    def _drain_feed(self) -> bool:
        """Take what the feed received, and return whether nothing was missed."""
        # Run times first. A worker stores the record of a task before it sends the event with its run time, so the
        # records that are drained afterwards include the record of each event that is already here. In the other order,
        # a record and its event that arrive in between would be separated, and the run time would find no record.
        # Data drained from the feed stays here until Redis has answered: a failed round trip loses none of it.
        self._runtimes.update(self.workers.drain_runtimes())
        self.runs.count_runs()  # like run times: the records of these runs are already here
        published, whole = self.listener.drain_records()
        self._published += published
        if len(self._published) > MAX_WAITING or sum(len(raw.head) for _, raw in self._published) > MAX_WAITING_BYTES:
            self._published, whole = [], False
        if len(self._runtimes) > 2 * MAX_EVENTS:
            self._runtimes = {}
        return whole

    def _take_published(self, there: Sequence[Reply], *, whole: bool) -> None:
        """Count the published records that are in this database, per `there`, and continue the scan for others."""
        # Channels are the same for all databases of a server, keys are not.
        ours = [entry for entry, exists in zip(self._published, there, strict=True) if exists == 1]
        self._published = []
        self._unwritten += self._add_commands(ours, count=True)
        self.runs.weigh_records(whole=whole)
        runtimes, self._runtimes = self._runtimes, {}
        self.tally.assign_runtimes(runtimes, two_feeds=self.runs.two_feeds)
        if len(self._unwritten) > MAX_UNWRITTEN:
            self._unwritten = []
            self.scan.restart()
        if self.scan.is_running:
            for records in self.scan.read_step():
                self._unwritten += self._add_commands(records, count=False)

    def _write(self, checks: Sequence[Command]) -> list[Reply]:
        """Write to our own keys, and return the replies of the results' server to `checks`."""
        commands = [
            *self._gone,
            *self._unwritten,
            *self._heartbeat_commands(),
            *self._shared.queues_to_write(self.queues),
            *self._shared.redbeats_to_write(self.redbeats),
            *self._metadata.changes_to_write(),
        ]
        # After what the index lacks: readers that find only this one take the index for complete.
        if self.scan.found_all:
            commands.append(("SET", filled_key(self._name), 1, "EX", FILLED_TTL_S))
        else:
            commands.append(("DEL", filled_key(self._name)))
        try:
            answered, replies = self._ask_both(checks, commands)
            self._unwritten = []
            self._replace_wrong(commands, replies)
            self._note_trimmed(commands, replies)
            started = self._shared.started_to_write(self.statuses.running_ids)
            if changes := [*started, *self._metadata.changes_to_write()]:
                self._own.run_batch(changes)
        except QueuedeckError:
            self._shared.write_again()
            self._metadata.write_again()
            raise
        return answered

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
            self.scan.restart()
            self._shared.write_queues_again()
            self._metadata.write_again()

    def _size_commands(self) -> list[Command]:
        return [
            ("ZCARD", index_key(self._name, state, prefix))
            for prefix, results in self._metadata.by_prefix().items()
            for state in sorted(results.capped)
        ]

    def _look_for_more(self, sizes: Sequence[Command], replies: Sequence[Reply]) -> None:
        """Scan for records that did not fit into the index as soon as it has room."""
        if self.scan.is_running:
            return
        known = self._metadata.by_prefix()
        room = {index_key(self._name, state, prefix): KEPT[state] for prefix in known for state in KEPT}
        waited = self.scan.is_old
        for (_, key), size in zip(sizes, replies, strict=True):
            most = room[str(key)]
            if isinstance(size, int) and size < (most if waited else most * 9 // 10):
                self.scan.begin(for_room=True)
                return

    def _note_trimmed(self, commands: Sequence[Command], replies: Sequence[Reply]) -> None:
        """Mark the states with more records than the index has room for."""
        where = {
            index_key(self._name, state, prefix): (prefix, state)
            for prefix in {*self.prefixes, *self._metadata.by_prefix(), ""}
            for state in KEPT
        }
        for command, reply in zip(commands, replies, strict=True):
            if command[0] == "ZREMRANGEBYRANK" and isinstance(reply, int) and reply > 0:
                self._metadata.add_capped(*where[str(command[1])])
        self.scan.store_findings()

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
            result_prefix, task = (text(part) for part in name.rpartition(RECORD.encode())[::2])
            prefix = broker_prefix_of(result_prefix, self.prefixes)
            self._metadata.add_result_prefix(prefix, result_prefix)
            if status is None or len(member) > ID_LIMIT:
                self._metadata.add_unlisted(prefix)
                continue
            state = _STATES.get(status)
            self.statuses.note_status(task, status)
            done = parse_time(record.get("date_done"))
            # The newest status counts, and a task that runs again under its id leaves the list it was in.
            for other in (*ENDED, None):
                touched.get((prefix, other), {}).pop(member, None)
            touched.setdefault((prefix, state), {})[member] = done.timestamp() if done else self._results.now_s()
            if count and status in RUN_ENDS:
                self.runs.count_record(prefix)
            if count and state is not None:
                self.tally.count_task((prefix, _queue_of(record)), task, state, record.get("name"))
            elif count and status == "RETRY":
                self.tally.ended.retried[prefix, _queue_of(record)] += 1
        for (prefix, state), scores in touched.items():
            if scores:
                yield from self._list_commands(prefix, state, scores)

    def _list_commands(self, prefix: str, state: State | None, scores: Mapping[bytes, float]) -> Iterable[Command]:
        """Return commands that list members under `state` only, with their scores."""
        if state is not None:
            key = index_key(self._name, state, prefix)
            yield ("ZADD", key, *(part for name, score in scores.items() for part in (repr(score), name)))
            yield ("ZREMRANGEBYRANK", key, 0, -KEPT[state] - 1)
        for other in ENDED:
            if other is not state:
                yield ("ZREM", index_key(self._name, other, prefix), *scores)

    def _heartbeat_commands(self) -> Iterable[Command]:
        beats = self.workers.heartbeats
        if not beats:
            return []
        drop_silent(beats, self._broker.now_s())
        return beats_to_write(self._name, beats)


def _queue_of(record: Mapping[str, object]) -> str:
    queue = record.get("queue")
    return queue if isinstance(queue, str) else ""
