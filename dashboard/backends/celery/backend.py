"""Celery 5.3 to 5.7 with Redis as broker. Layout: kombu `transport/redis.py`, celery `backends/redis.py`."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from ...errors import Forbidden, QueuedeckError
from ...globs import key_pattern
from ...model import (
    Argument,
    Capability,
    FlowDelta,
    Job,
    JobPage,
    JobQuery,
    QueueRef,
    QueueStats,
    QueueStorage,
    ScanResult,
    Schedule,
    Searched,
    State,
    Window,
    Worker,
)
from ...settings import SourceSettings
from ...sources.source import Source, text
from ..actions import Action, ActionOptions, ActionResult, JobBackup, JobRef
from ..base import NO_OPTIONS, Backend, Budget, Discovery, EventAccess
from ..lua_reads import Scripts
from ..payloads.decoding import printable
from ..payloads.search_text import ends, joined
from ..scan import scan_step
from ..shared_entries import build_refs, prefix_repeated_names
from ..unreadable_data import searched_row
from . import events, keys, rates, schedules, stats
from .actions import descriptions
from .actions.dispatch import JobActions
from .actions.queue_actions import QueueActions
from .actions.schedule_removal import remove_entry, restore_entry
from .actions.worker_control import REPLIES
from .job_decoding import OPTION_NAMES, OPTION_UNITS, arguments_in_row
from .job_detail import JobFinder
from .job_servers import JobServers
from .jobs import TaskPages
from .protocol import channel
from .results.index import ResultIndex
from .results.record_jobs import record_text, stack_of
from .workers import list_workers as read_workers

# A worker sends a heartbeat every 2 s.
BEAT_S = 2.5
# The second part of a discovery, in its cursor.
REDBEAT = "redbeat"
# A longer id would leave no room for the rest of the searched text.
LONG_ID = 200
UNHEARD = "rates, run times and live workers are unknown"


class Celery(Backend):
    """Celery's queues, and one shared entry for unacknowledged messages and finished jobs."""

    name = "celery"
    title = "Celery"
    keyed_by_id = False
    states = {  # noqa: RUF012
        state: (native, keys.RESERVED) if state is State.WAITING else (native,) for state, native in keys.NATIVE.items()
    }
    newest_first = frozenset(set(keys.NATIVE) - {State.WAITING})
    capabilities = frozenset(
        {
            Capability.WORKERS,
            Capability.RESULTS,
            Capability.PRIORITIES,
            Capability.SEARCH,
            Capability.SCHEDULES,
        }
    )

    job_actions = descriptions.JOB_ACTIONS
    action_help = descriptions.EXPLAINED
    unsupported_reasons = descriptions.WITHHELD
    option_units = OPTION_UNITS
    option_names = OPTION_NAMES
    queue_actions = descriptions.QUEUE_ACTIONS
    schedule_actions = descriptions.SCHEDULE_ACTIONS
    worker_actions = descriptions.WORKER_ACTIONS

    def __init__(self, source: Source, settings: SourceSettings) -> None:
        super().__init__(source, settings)
        self.broker = Source(source.name, settings.broker_url, source.prefix) if settings.broker_url else source
        self.results = Source(source.name, settings.result_url, source.prefix) if settings.result_url else source
        if same_database(self.broker, self.results):
            self.results = self.broker
        self.beat = Source(source.name, settings.redbeat_url) if settings.redbeat_url else self.broker
        if same_database(self.broker, self.beat):
            self.beat = self.broker
        self._scripts = Scripts(self.broker)
        self._beat_scripts = self._scripts if self.beat is self.broker else Scripts(self.beat)
        self._names = keys.UnackedKeys(settings.unacked_key, settings.unacked_index_key)
        self._keeper: ResultIndex | None = None
        self._prefixes: set[str] = set()
        self._queues: frozenset[str] = frozenset()  # location keys, from the last complete discovery
        self._found: set[str] = set()  # queues of the discovery in progress
        self._redbeats: frozenset[str] = frozenset()  # RedBeat key prefixes, from the last complete discovery
        self._redbeats_found: set[str] = set()
        self._there = bool(self.named_queues())  # no subscription on a server without Celery

    def discover_queues(self, cursor: Any, budget: Budget) -> Discovery:
        if isinstance(cursor, tuple):
            return self._discover_redbeat(cursor[1], budget)
        found, following = scan_step(self.broker, cursor or 0, budget, match=f"*{keys.BINDING}*")
        exchanges = [key for key in dict.fromkeys(found) if not key.endswith((b".pidbox", b"celeryev"))]
        replies = self.broker.run_batch([("SSCAN", key, 0, "COUNT", 1000) for key in exchanges])
        places = [keys.QueueLocation("", name) for name in self.named_queues()] if cursor is None else []
        places += self._unbound(
            [key for key, reply in zip(exchanges, replies, strict=True) if not isinstance(reply, list)]
        )
        for key, reply in zip(exchanges, replies, strict=True):
            prefix, _, exchange = text(key).partition(keys.BINDING)
            for member in reply[1] if isinstance(reply, list) else ():
                queue, separator = keys.parse_binding(exchange, text(member)) or ("", "")
                if queue and not queue.endswith(".pidbox"):
                    places += [keys.QueueLocation(prefix, None), keys.QueueLocation(prefix, queue, separator)]
        self._prefixes.update(place.prefix for place in places)
        self._found.update(place.key for place in places if place.queue is not None)
        if following == 0:
            self._there = self._there or bool(self._prefixes)
            self._queues, self._found = frozenset(self._found), set()
        refs = build_refs(self, places)
        if following == 0 and self._there:
            return Discovery(refs, complete=False, cursor=(REDBEAT, 0))
        return Discovery(refs, complete=following == 0, cursor=following)

    def _unbound(self, bindings: Sequence[bytes]) -> list[keys.QueueLocation]:
        """Return the queues of bindings that are not sets: those with a list named like the exchange, as is usual.

        Nothing else identifies these messages as Celery's. Cost: 1 round trip if there is such a binding.
        """
        parts = [text(key).partition(keys.BINDING) for key in bindings]
        places = [keys.QueueLocation(prefix, exchange) for prefix, _, exchange in parts if exchange]
        replies = self.broker.run_batch([("EXISTS", *place.list_keys()) for place in places]) if places else []
        there = [place for place, reply in zip(places, replies, strict=True) if isinstance(reply, int) and reply]
        return [one for place in there for one in (keys.QueueLocation(place.prefix, None), place)]

    def _discover_redbeat(self, cursor: int, budget: Budget) -> Discovery:
        """Run the last part of a discovery: find RedBeat's key prefixes from the names of its sorted sets."""
        found, following = scan_step(self.beat, cursor, budget, match=f"*{schedules.DUE}", key_type="zset")
        if found:
            self._redbeats_found.update(schedules.find_prefixes(self.beat, list(dict.fromkeys(found))))
        if following == 0:
            self._redbeats = frozenset(sorted(self._redbeats_found)[: schedules.MAX_PREFIXES])
            self._redbeats_found = set()
        return Discovery((), complete=following == 0, cursor=(REDBEAT, following))

    def _redbeat_prefixes(self) -> set[str]:
        """Return RedBeat's key prefixes, found by this process and by the sampling process. Cost: 1 round trip."""
        reply = (
            self.own_source.run_batch([("SMEMBERS", keys.redbeat_key(self._own_name))])[0]
            if self.own_source is not None
            else None
        )
        known = [text(raw) for raw in reply] if isinstance(reply, list | set) else []
        return {schedules.PREFIX, *self._redbeats, *known}

    def configured_ref(self, ref: QueueRef) -> QueueRef | None:
        return next(iter(build_refs(self, [keys.location_of(ref)])), None)

    def disambiguate(self, refs: Sequence[QueueRef]) -> list[QueueRef]:
        """Return `refs` with unique names: queues of the same name get their key prefix in front."""
        return prefix_repeated_names(refs, lambda ref: keys.location_of(ref).prefix)

    def read_stats(self, refs: Sequence[QueueRef]) -> list[QueueStats]:
        return stats.read_stats(
            self.broker, self._scripts, self.own_source, refs, self._keeper, self._names, self._own_name
        )

    def refresh_stats(self, refs: Sequence[QueueRef], seen: dict[str, Any]) -> list[QueueStats]:
        return stats.read_stats(
            self.broker, self._scripts, self.own_source, refs, self._keeper, self._names, self._own_name, seen
        )

    def read_flow(self, refs: Sequence[QueueRef], cursor: Any) -> tuple[FlowDelta, Any]:
        return rates.read_flow(refs, self._keeper, cursor)

    def list_jobs(self, ref: QueueRef, query: JobQuery) -> JobPage:
        return self._pages().list_jobs(ref, query)[0]

    def read_job(self, ref: QueueRef, job_id: str) -> Job:
        return JobFinder(self._servers()).read_job(ref, job_id)

    def list_workers(self, refs: Sequence[QueueRef]) -> list[Worker]:
        return read_workers(self.broker, self.own_source, self._own_name, {keys.location_of(ref) for ref in refs})

    def list_schedules(self, refs: Sequence[QueueRef]) -> list[Schedule]:
        return schedules.list_schedules(self.beat, self._beat_scripts, refs, self._redbeat_prefixes())

    def arguments_of(self, row: Searched) -> tuple[Argument, ...]:
        return arguments_in_row(row) if row.job.problem is None else ()

    def can_scan(self, state: State) -> bool:
        return state is State.WAITING and not self._scripts.are_refused

    def scan_matches(self, ref: QueueRef, state: State, word: str, offset: int) -> ScanResult | None:
        found = self._pages().scan_matches(ref, word, offset) if self.can_scan(state) and not ref.shared else None
        if found is None:
            return None
        rows, reached, more = found
        return ScanResult(rows=tuple(searched_row(_searchable_row, *row) for row in rows), reached=reached, more=more)

    def search_page(self, ref: QueueRef, query: JobQuery) -> Window:
        page, payloads = self._pages().list_jobs(ref, query)
        rows = tuple(
            searched_row(_searchable_row, job, payload) for job, payload in zip(page.jobs, payloads, strict=True)
        )
        return Window(rows=rows, total=page.total, order=page.order, at_least=page.at_least, problems=page.problems)

    def maintain(self) -> None:
        if self.own_source is None or not self._there:
            return
        if self._keeper is None:
            self._keeper = ResultIndex(self.broker, self.results, self.own_source, self._own_name)
        self._keeper.prefixes = sorted(self._prefixes) or [""]
        self._keeper.queues = self._queues
        self._keeper.redbeats = self._redbeats
        try:
            self._keeper.maintain()
        except QueuedeckError:
            self._keeper.tally.ended.whole = False
            raise

    def close(self) -> None:
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None

    def list_job_refs(self, ref: QueueRef, query: JobQuery) -> list[JobRef]:
        return self._pages().list_job_refs(ref, query)

    def offered_actions(
        self, state: State | None, *, shared: bool = False, abandoned: bool = False
    ) -> tuple[Action, ...]:
        if shared and state is State.WAITING:
            return descriptions.RESERVED_ACTIONS
        return super().offered_actions(state, abandoned=abandoned)

    def act_on_jobs(
        self,
        ref: QueueRef,
        action: Action,
        state: State,
        job_refs: Sequence[JobRef],
        options: ActionOptions = NO_OPTIONS,
    ) -> list[ActionResult]:
        if action is Action.DELETE or action not in self.offered_actions(state, shared=ref.shared):
            return super().act_on_jobs(ref, action, state, job_refs, options)
        return self._acting().act_on_jobs(ref, action, state, job_refs, options)

    def backup_jobs(self, ref: QueueRef, state: State, job_refs: Sequence[JobRef]) -> list[JobBackup | ActionResult]:
        if Action.DELETE not in self.offered_actions(state, shared=ref.shared):
            return super().backup_jobs(ref, state, job_refs)
        return self._acting().backup_jobs(ref, state, job_refs)

    def delete_jobs(self, ref: QueueRef, state: State, backups: Sequence[JobBackup]) -> list[ActionResult]:
        if Action.DELETE not in self.offered_actions(state, shared=ref.shared):
            return super().delete_jobs(ref, state, backups)
        return self._acting().delete_jobs(ref, state, backups)

    def restore_jobs(self, ref: QueueRef, state: State, backups: Sequence[JobBackup]) -> list[ActionResult]:
        if Action.DELETE not in self.offered_actions(state, shared=ref.shared):
            return super().restore_jobs(ref, state, backups)
        return self._acting().restore_jobs(ref, state, backups)

    def act_on_queue(self, ref: QueueRef, action: Action) -> ActionResult:
        if action not in self.queue_actions:
            return super().act_on_queue(ref, action)
        return QueueActions(self.broker, self.own_source, self._own_name).act_on_queue(ref, action)

    def act_on_schedule(self, schedule: Schedule, action: Action) -> ActionResult:
        if action not in self.schedule_actions:
            return super().act_on_schedule(schedule, action)
        return self._schedule_actions().act_on_schedule(schedule, action)

    def backup_schedule(self, schedule: Schedule) -> JobBackup | ActionResult | None:
        return self._schedule_actions().backup_schedule(schedule)

    def remove_schedule(self, schedule: Schedule, backup: JobBackup) -> ActionResult:
        del schedule
        return remove_entry(self.beat, backup)

    def restore_schedules(self, ref: QueueRef, backups: Sequence[JobBackup]) -> list[ActionResult]:
        del ref
        return [restore_entry(self.beat, backup) for backup in backups]

    def _schedule_actions(self) -> schedules.ScheduleActions:
        prefixes = self._redbeat_prefixes()
        return schedules.ScheduleActions(self.beat, self.broker, self.own_source, self._own_name, prefixes)

    def act_on_worker(self, worker: Worker, action: Action) -> ActionResult:
        if action not in self.worker_actions:
            return super().act_on_worker(worker, action)
        queues = QueueActions(self.broker, self.own_source, self._own_name)
        return queues.stop_worker(worker, queues.app_locations())

    def describe_storage(self, ref: QueueRef) -> QueueStorage | None:
        return keys.describe_storage(keys.location_of(ref), self._names)

    def changed_keys(self, refs: Sequence[QueueRef]) -> tuple[str, ...]:
        found = {pattern for ref in refs for pattern in self._changed(keys.location_of(ref))}
        return tuple(sorted(found or set(self._changed(keys.QueueLocation("", "celery")))))

    def _changed(self, place: keys.QueueLocation) -> Iterator[str]:
        prefix = key_pattern(place.prefix)
        if place.queue is not None:
            separator = "?" * len(place.separator)
            yield f"{prefix}{key_pattern(place.queue)}"
            yield f"{prefix}{key_pattern(place.queue)}{separator}[0-9]"
        for name in (*self._names, f"{keys.BINDING[:-1]}*", f"{keys.RECORD}*", f"*.{REPLIES}", f"{schedules.PREFIX}*"):
            yield prefix + name

    def changed_channels(self, refs: Sequence[QueueRef]) -> tuple[str, ...]:
        prefixes = sorted({keys.location_of(ref).prefix for ref in refs} or {""})
        mailboxes = (key_pattern(channel(prefix, self.broker.database)) for prefix in prefixes)
        return (*mailboxes, *(f"{key_pattern(prefix)}{keys.RECORD}*" for prefix in prefixes))

    def library_versions(self, refs: Sequence[QueueRef]) -> tuple[str, ...]:
        """Return the versions that live workers report in their heartbeats.

        Cost: 2 round trips; if no heartbeats are stored but there are workers, waits for one, up to BEAT_S.
        """
        found = {worker.version for worker in self.list_workers(refs) if worker.version}
        boxes = [("SCARD", f"{prefix}{keys.MAILBOX}") for prefix in {keys.location_of(ref).prefix for ref in refs}]
        if not found and any(isinstance(size, int) and size for size in self.broker.run_batch(boxes)):
            with contextlib.suppress(Forbidden):
                found = {printable(version, 40) for version in events.worker_versions(self.broker, BEAT_S)}
        return tuple(sorted(found))

    def event_access(self) -> EventAccess:
        """Cost: 1 round trip per channel."""
        workers = events.worker_channels(self.broker.database)
        refused = [
            *events.refused_channels(self.results, events.RECORDS),
            *events.refused_channels(self.broker, workers),
        ]
        return EventAccess(channels=(*events.RECORDS, *workers), refused=tuple(refused), without=UNHEARD)

    @property
    def _own_name(self) -> str:
        """The name of this source in Queuedeck's own keys."""
        return own_name(self.source.name, self.own_source, self.broker, self.results)

    def _acting(self) -> JobActions:
        return JobActions(self.broker, self._scripts, self.results, self.own_source, self._own_name, self._names)

    def _pages(self) -> TaskPages:
        return TaskPages(self._servers())

    def _servers(self) -> JobServers:
        return JobServers(self.broker, self.results, self.own_source, self._own_name, self._scripts, self._names)


def _searchable_row(job: Job, payload: bytes) -> Searched:
    if len(job.id) > LONG_ID:
        # A message contains it three times, before the arguments; ids are searched separately.
        payload = payload.replace(json.dumps(job.id)[1:-1].encode(), b"")
    return Searched(
        job=job,
        text=joined(record_text(payload), job.error.message if job.error else None),
        stack=ends(stack_of(payload)) if job.error else None,
    )


def same_database(one: Source, other: Source) -> bool:
    """Whether two sources are the same database of the same server, judging by their URLs."""
    return one is other or (one.address, one.database) == (other.address, other.database)


def own_name(source: str, own: Source | None, broker: Source, results: Source) -> str:
    """Return the name of a source in Queuedeck's own keys.

    If these keys are not in Celery's database, the name identifies the servers too: other dashboards may share the
    store and use the same source name for different servers.
    """
    if own is None or (same_database(own, broker) and same_database(own, results)):
        return source
    servers = json.dumps([(each.address, each.database) for each in (broker, results)])
    return f"{source}@{hashlib.sha256(servers.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"
