"""One pass over all sources: find queues, read their figures, derive rates, return a Snapshot."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from redis.exceptions import ResponseError

from ..backends.base import Backend, Budget, Discovery
from ..backends.monitored_sources import MonitoredSources
from ..backends.payloads.decoding import printable
from ..backends.scan import KEYS_PER_CALL
from ..backends.unreadable_data import read_each
from ..clock import monotonic_s, now_s
from ..errors import BackendUnavailable, Forbidden, QueuedeckError
from ..model import FlowDelta, QueueRef, QueueStats, RedisHealth, Snapshot, SourceStats
from ..redact import masked_logger
from ..sources.metering import measure_cost
from ..sources.source import Source
from .rates import FlowWindow
from .recent_history import History, HistoryKeeper, QueueHistory, known_sum

log = masked_logger(__name__)

# The first search can use more of the server, since there is nothing to show before it; later ones use little.
FIRST_BUDGET = (400, 0.5)  # commands, seconds per sample
LATER_BUDGET = (20, 0.15)
# Between the end of one search and the start of the next. A key space that takes more commands than one step allows is
# scanned less often, so that searching stays a small share of the load on Redis.
SEARCH_PAUSE_S = 4.0
LONG_SEARCH_PAUSE_S = 60.0


@contextmanager
def _collecting_later() -> Iterator[None]:
    """Disable cyclic garbage collection inside the block: a sample creates no cycles, and each of the many collections
    traverses everything stored about all queues, which took a sixth of the time for 10,000."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass(slots=True)
class _QueueSearch:
    """Progress of the search for one backend's queues."""

    cursor: Any = None
    known: dict[str, QueueRef] = field(default_factory=dict)  # by key
    seen: set[str] = field(default_factory=set)  # in the current search
    complete: bool = False  # at least one search has finished
    commands: int = 0  # of the current search
    due: float = 0.0  # monotonic; when the next search may start
    problem: str | None = None  # why the last search could not find all queues

    def add_queue(self, ref: QueueRef) -> None:
        """Add a queue found elsewhere; the current search may have passed its key before it existed."""
        self.known.setdefault(ref.key, ref)
        if self.cursor is not None:
            self.seen.add(ref.key)

    def search_progress(self, keys: int | None, scans: int) -> float | None:
        """Progress of the first search, 0..1, given the server's number of keys and how often each is scanned; None if
        `keys` is unknown."""
        if self.complete:
            return 1.0
        return min(0.99, self.commands * KEYS_PER_CALL / (scans * keys)) if keys else None


@dataclass(slots=True)
class _BackendRates:
    """The rates of one backend's queues."""

    cursor: Any = None
    seen: dict[str, Any] = field(default_factory=dict)  # by key, state that the backend needs for the next sample
    windows: dict[str, FlowWindow] = field(default_factory=dict)  # by key
    together: FlowWindow | None = None  # of the queues that cannot be distinguished


class Sampler:
    """Samples all sources; stores cursors and five minutes of flow between samples. Not thread-safe."""

    def __init__(
        self,
        watch: MonitoredSources,
        interval_s: float,
        name: str,
        *,
        clock: Callable[[], float] = now_s,
        history: History | None = None,
        probe: bool = False,
        least_rate_s: float = 0.0,
    ) -> None:
        """`probe`: test with a write of our own whether a Redis accepts writes, even while another process leads.
        `least_rate_s`: report no rates over less time than this."""
        self._watch = watch
        self._probe = probe
        self._least_rate_s = least_rate_s
        self._interval_s = interval_s
        self._name = name
        self._clock = clock
        self._sequence = 0
        self._searches: dict[tuple[str, str], _QueueSearch] = {}
        self._flows: dict[tuple[str, str], _BackendRates] = {}
        self._down_since: dict[str, float] = {}
        self._last: dict[str, tuple[QueueStats, ...]] = {}
        self._keeper = HistoryKeeper(history)
        self._adopted_at = 0.0

    @property
    def history(self) -> History:
        """The last hour as of the last sample."""
        return self._keeper.history

    def adopt_published(self, snapshot: Snapshot | None, history: History) -> None:
        """Continue from what another sampler published. Its queues that these settings include stay known until a
        complete search does not find them. Its history is used if it is newer, without the totals of a sampler with
        other settings."""
        if snapshot is not None and snapshot.sampler != self._name and snapshot.sampled_at > self._adopted_at:
            self._adopted_at = snapshot.sampled_at
            for queue in snapshot.queues:
                if self._is_same_source(snapshot, queue.source):
                    self._adopt_queue(queue)
        if history.last_at > self._keeper.history.last_at:
            if snapshot is not None and snapshot.fingerprint not in ("", self._watch.fingerprint):
                history = self._without_others(snapshot, history)
            self._keeper = HistoryKeeper(history)

    def _is_same_source(self, snapshot: Snapshot, name: str) -> bool:
        """Whether the source `name` of a snapshot is the same server and database as the source of that name here."""
        source = self._watch.sources.get(name)
        return source is not None and any(
            stats.name == name and stats.address == source.address for stats in snapshot.sources
        )

    def _without_others(self, snapshot: Snapshot, history: History) -> History:
        same = {name for name in self._watch.sources if self._is_same_source(snapshot, name)}
        return msgspec.structs.replace(
            history,
            totals=QueueHistory(),
            queues={key: one for key, one in history.queues.items() if key.partition("\0")[0] in same},
            memory={name: series for name, series in history.memory.items() if name in same},
        )

    def sample(self, epoch: int = 0) -> Snapshot:
        """A new snapshot. A source or backend that cannot be read is reported in it; no error is raised.

        Cost per source: 1 round trip for its health, and for each backend those of `refresh_stats` and `read_flow`,
        plus those of the search for queues when it is due.
        """
        with _collecting_later():
            return self._sample_sources(epoch)

    def _sample_sources(self, epoch: int) -> Snapshot:
        sources: list[SourceStats] = []
        queues: list[QueueStats] = []
        for source in self._watch.sources.values():
            stats, found = self._sample_source(source, leading=epoch > 0)
            sources.append(stats)
            queues.extend(found)
        queues.sort(key=lambda queue: (queue.source, queue.backend, queue.name))
        self._sequence += 1
        snapshot = Snapshot(
            sampled_at=self._clock(),
            interval_s=self._interval_s,
            sequence=self._sequence,
            sampler=self._name,
            epoch=epoch,
            sources=tuple(sources),
            queues=tuple(queues),
            fingerprint=self._watch.fingerprint,
        )
        return msgspec.structs.replace(snapshot, history_version=self._keeper.add_snapshot(snapshot).version)

    def _sample_source(self, source: Source, *, leading: bool) -> tuple[SourceStats, list[QueueStats]]:
        with measure_cost() as meter:
            try:
                health = source.read_health(probe=leading or self._probe)
            except (BackendUnavailable, Forbidden) as exc:
                return self._unreachable_stats(source, exc)
        self._down_since.pop(source.name, None)
        queues: list[QueueStats] = []
        problems: list[str] = []
        searches: list[tuple[_QueueSearch, int]] = []
        together: list[float | None] = []
        for backend in self._watch.backends[source.name]:
            try:
                if leading:
                    backend.maintain()
                problem = self._search_step(source, backend)
                if problem is not None:
                    problems.append(f"{backend.title}: {problem}")
                with measure_cost() as cost:
                    rows, finished = self._read_queues(source, backend, problems)
                queues.extend(rows)
                together.append(finished)
                meter.commands += cost.commands
                meter.round_trips += cost.round_trips
                meter.seconds += cost.seconds
            except BackendUnavailable as exc:
                if exc.reason != "forbidden":
                    return self._unreachable_stats(source, exc)
                problems.append(f"{backend.title}: {exc.message}")
            except (QueuedeckError, ResponseError) as exc:
                problems.append(f"{backend.title}: {exc}")
            except Exception:
                # Unexpected data of one library must not hide the others.
                log.exception("reading %s on %s failed", backend.name, source.name)
                problems.append(f"{backend.title}: could not be read; the log has the details")
            searches.append((self._search_of(source, backend), backend.key_scans))
        self._last[source.name] = tuple(queues)
        stats = SourceStats(
            name=source.name,
            address=source.address,
            reachable=True,
            health=health,
            libraries=tuple(dict.fromkeys(queue.backend for queue in queues)),
            needs_noeviction=any(
                backend.needs_noeviction and any(queue.backend == backend.name for queue in queues)
                for backend in self._watch.backends[source.name]
            ),
            discovered=all(search.complete for search, _ in searches),
            search_progress=_source_progress(searches, health.keys),
            together_per_min=known_sum(together),
            commands=meter.commands,
            round_trips=meter.round_trips,
            cost_s=round(meter.seconds, 6),
            problems=tuple(problems),
        )
        return stats, queues

    def _unreachable_stats(
        self, source: Source, exc: BackendUnavailable | Forbidden
    ) -> tuple[SourceStats, list[QueueStats]]:
        since = self._down_since.setdefault(source.name, self._clock())
        lost = [
            # The last figures are out of date: list the queues without them.
            QueueStats(
                source=queue.source,
                backend=queue.backend,
                name=queue.name,
                key=queue.key,
                shared=queue.shared,
                prefix=queue.prefix,
                library_version=queue.library_version,
                error=exc.message,
            )
            for queue in self._last.get(source.name, ())
        ]
        stats = SourceStats(
            name=source.name,
            address=source.address,
            reachable=False,
            error=exc.message,
            hint=exc.hint,
            unreachable_since=since,
            health=RedisHealth(),
            libraries=tuple(dict.fromkeys(queue.backend for queue in lost)),
        )
        return stats, lost

    def _adopt_queue(self, queue: QueueStats) -> None:
        for backend in self._watch.backends.get(queue.source, ()):
            if backend.name == queue.backend and (ref := backend.configured_ref(queue.ref)) is not None:
                self._searches.setdefault((queue.source, backend.name), _QueueSearch()).add_queue(ref)

    def _search_of(self, source: Source, backend: Backend) -> _QueueSearch:
        return self._searches.setdefault((source.name, backend.name), _QueueSearch())

    def _search_step(self, source: Source, backend: Backend) -> str | None:
        """Take one step of the search if one is due; returns why the last search could not find all queues."""
        search = self._search_of(source, backend)
        if search.cursor is None and monotonic_s() < search.due:
            return search.problem
        commands, seconds = LATER_BUDGET if search.complete else FIRST_BUDGET
        budget = Budget(commands, seconds)
        try:
            step = backend.discover_queues(search.cursor, budget)
        except ResponseError as exc:
            # The queues found so far can still be read.
            step = Discovery((), complete=False, cursor=None, problem=printable(str(exc), 200))
        search.commands += commands - budget.commands
        for ref in step.found:
            search.known[ref.key] = ref
            search.seen.add(ref.key)
        if step.problem is not None:
            # Queues that it did not find may exist.
            search.seen, search.commands, search.complete = set(), 0, False
            search.due, search.cursor = monotonic_s() + SEARCH_PAUSE_S, None
            search.problem = step.problem
        elif step.complete:
            search.problem = None
            search.known = {key: ref for key, ref in search.known.items() if key in search.seen}
            # By its cost, not its steps: one slow moment of the server must not hide new queues for a minute.
            pause = SEARCH_PAUSE_S if search.commands <= LATER_BUDGET[0] else LONG_SEARCH_PAUSE_S
            search.seen, search.commands, search.complete = set(), 0, True
            search.due = monotonic_s() + pause
            search.cursor = None
        else:
            search.cursor = step.cursor
        return search.problem

    def _read_queues(
        self, source: Source, backend: Backend, problems: list[str]
    ) -> tuple[list[QueueStats], float | None]:
        """The queues with their rates, and the throughput per minute of those that cannot be distinguished."""
        refs = backend.disambiguate(list(self._search_of(source, backend).known.values()))
        if not refs:
            return [], None
        begun = monotonic_s()
        flows = self._flows.setdefault((source.name, backend.name), _BackendRates())
        queues = read_each(lambda some: _refresh_all(backend, some, flows.seen), refs, _unreadable_stats)
        now = monotonic_s()
        try:
            delta, flows.cursor = backend.read_flow(refs, flows.cursor)
        except QueuedeckError:
            raise
        except Exception:
            # The other figures are useful without rates.
            log.exception("the rates of %s on %s could not be read", backend.name, source.name)
            delta, flows.windows = FlowDelta(queues=()), {}
            problems.append(f"{backend.title}: its rates could not be read; the log has the details")
        keys = {ref.key for ref in refs}
        for left in (flows.windows, flows.seen):
            for key in left.keys() - keys:
                del left[key]
        rows = {queue.key: queue for queue in queues}
        for flow in delta.queues:
            window = flows.windows.get(flow.key)
            if window is None:
                window = flows.windows[flow.key] = FlowWindow()
            window.add(now, flow, rows.get(flow.key), blur_s=now - begun)
        nothing, least_s = FlowWindow(), self._least_rate_s
        if delta.together is None:
            flows.together = None
        else:
            flows.together = flows.together or FlowWindow()
            flows.together.add(now, delta.together)
        finished = (flows.together or nothing).rates(now, least_s).throughput_per_min
        windows = [flows.windows.get(queue.key, nothing) for queue in queues]
        return [window.fill_rates(queue, now, least_s) for queue, window in zip(queues, windows, strict=True)], finished


def _source_progress(searches: Sequence[tuple[_QueueSearch, int]], keys: int | None) -> float | None:
    """Progress of the key scans of one source; None if all have finished, or if it is unknown."""
    shares = [search.search_progress(keys, scans) for search, scans in searches if scans]
    known = [share for share in shares if share is not None]
    return sum(known) / len(known) if known and sum(known) < len(known) else None


def _refresh_all(backend: Backend, refs: Sequence[QueueRef], seen: dict[str, Any]) -> list[QueueStats]:
    """The rows of `refresh_stats`. Raises QueuedeckError unless there is one per ref: no queue vanishes silently."""
    rows = backend.refresh_stats(refs, seen)
    if len(rows) != len(refs):
        amounts = f"{len(rows):,} rows for {len(refs):,} queues"
        raise QueuedeckError(f"its backend returned {amounts}; there must be one for each")
    return rows


def _unreadable_stats(ref: QueueRef, why: str) -> QueueStats:
    return QueueStats(source=ref.source, backend=ref.backend, name=ref.name, key=ref.key, shared=ref.shared, error=why)
