"""One pass over all sources: find queues, read their figures, derive rates, return a Snapshot."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from redis.exceptions import ResponseError

from ..backends.base import Backend
from ..backends.monitored_sources import MonitoredSources
from ..backends.payloads.decoding import printable
from ..backends.unreadable_data import read_each
from ..clock import monotonic_s, now_s
from ..errors import BackendUnavailable, Forbidden, QueuedeckError
from ..forecasts.forecasts import Forecasts
from ..forecasts.memory_trend import MemoryTrend
from ..model import FlowDelta, QueueRef, QueueStats, RedisHealth, Snapshot, SourceStats
from ..redact import masked_logger
from ..sources.metering import Meter, measure_cost
from ..sources.source import Source
from .queue_search import QueueSearch
from .rates import FlowWindow
from .recent_history import History, HistoryKeeper, QueueHistory, known_sum

log = masked_logger(__name__)


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
        self._interval_s = interval_s
        self._name = name
        self._clock = clock
        self._sequence = 0
        self._backends = {
            source: [_BackendSampler(backend, least_rate_s) for backend in backends]
            for source, backends in watch.backends.items()
        }
        self._down_since: dict[str, float] = {}
        self._keeper = HistoryKeeper(history)
        self._adopted_at = 0.0
        self._memory: dict[str, MemoryTrend] = {}  # by source
        # What finished since the sample before, by source and library; of the last sample.
        self.flows: dict[tuple[str, str], FlowDelta] = {}

    @property
    def history(self) -> History:
        """The last hour as of the last sample."""
        return self._keeper.history

    def adopt_published(self, snapshot: Snapshot | None, history: History) -> None:
        """Continue from what another sampler published. Its queues that these settings include stay known until a
        complete search does not find them. Its history is used if it is newer, without the totals of a sampler with
        other settings."""
        # A web process and the checker in it have the same name; only the samples of the checker have an epoch.
        own = snapshot is not None and snapshot.sampler == self._name and not snapshot.epoch
        if snapshot is not None and not own and snapshot.sampled_at > self._adopted_at:
            self._adopted_at = snapshot.sampled_at
            published_at = monotonic_s() - max(0.0, self._clock() - snapshot.sampled_at)
            for queue in snapshot.queues:
                backends = self._backends.get(queue.source, ()) if self._is_same_source(snapshot, queue.source) else ()
                for backend in backends:
                    backend.adopt_queue(queue, published_at)
        if history.last_at > self._keeper.history.last_at:
            if snapshot is not None and snapshot.settings_digest not in ("", self._watch.settings_digest):
                history = self._without_others(snapshot, history)
            self._keeper = HistoryKeeper(history)
            self._memory = {}

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
        self.flows = {}
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
            settings_digest=self._watch.settings_digest,
        )
        return msgspec.structs.replace(snapshot, history_version=self._keeper.add_snapshot(snapshot).version)

    def _sample_source(self, source: Source, *, leading: bool) -> tuple[SourceStats, list[QueueStats]]:
        queues: list[QueueStats] = []
        problems: list[str] = []
        together: list[float | None] = []
        backends = self._backends[source.name]
        try:
            with measure_cost() as meter:
                health = source.read_health(probe=leading or self._probe)
            self._down_since.pop(source.name, None)
            for backend in backends:
                backend.search.follow_server(health.run_id)
                rows, finished = backend.sample(meter, problems, leading=leading)
                queues.extend(rows)
                together.append(finished)
                if backend.flow is not None:
                    self.flows[source.name, backend.name] = backend.flow
        except (BackendUnavailable, Forbidden) as exc:
            return self._unreachable_stats(source, exc)
        libraries = tuple(dict.fromkeys(queue.backend for queue in queues))
        stats = SourceStats(
            name=source.name,
            address=source.address,
            reachable=True,
            health=health,
            # The nodes of a cluster fill up one by one: their sum does not show when the first is full.
            memory_full_in_s=None if source.is_cluster else self._forecast_memory(source.name, health),
            libraries=libraries,
            needs_noeviction=any(
                backend.needs_noeviction and backend.name in libraries for backend in self._watch.backends[source.name]
            ),
            discovered=all(backend.search.complete for backend in backends),
            search_progress=_source_progress(backends, health.keys),
            together_per_min=known_sum(together),
            commands=meter.commands,
            round_trips=meter.round_trips,
            cost_s=round(meter.seconds, 6),
            problems=tuple(problems),
            primary=source.primary,
            sentinel_problem=source.sentinel_problem,
            nodes=source.nodes,
        )
        return stats, queues

    def _forecast_memory(self, source: str, health: RedisHealth) -> float | None:
        trend = self._memory.get(source)
        if trend is None:  # what the last leader published counts as well
            trend = self._memory[source] = MemoryTrend(self._keeper.history.memory_points(source))
        return trend.full_in_s(self._clock(), health)

    def _unreachable_stats(
        self, source: Source, exc: BackendUnavailable | Forbidden
    ) -> tuple[SourceStats, list[QueueStats]]:
        since = self._down_since.setdefault(source.name, self._clock())
        lost = [queue for backend in self._backends[source.name] for queue in backend.known_queues(exc.message)]
        stats = SourceStats(
            name=source.name,
            address=source.address,
            reachable=False,
            error=exc.message,
            hint=exc.hint,
            unreachable_since=since,
            health=RedisHealth(),
            libraries=tuple(dict.fromkeys(queue.backend for queue in lost)),
            primary=source.primary,
        )
        return stats, lost


class _BackendSampler:
    """Samples the queues of one backend; stores its search and five minutes of flow between samples."""

    def __init__(self, backend: Backend, least_rate_s: float) -> None:
        self._backend = backend
        self._least_rate_s = least_rate_s
        self.search = QueueSearch()
        self._cursor: Any = None
        self._seen: dict[str, Any] = {}  # by key, state that the backend needs for the next sample
        self._last: dict[str, QueueStats] = {}  # by key, as they were last read here or elsewhere
        self._windows: dict[str, FlowWindow] = {}  # by key
        self._forecasts = Forecasts()
        self._together: FlowWindow | None = None  # of the queues that cannot be distinguished
        self.flow: FlowDelta | None = None  # of the last sample; None if it could not be read

    @property
    def name(self) -> str:
        """The name of its library."""
        return self._backend.name

    def adopt_queue(self, queue: QueueStats, published_at: float) -> None:
        """Add a queue that another sampler found, if it is of this backend and its settings include it. `published_at`:
        when it was sampled, by `monotonic_s`."""
        if self._backend.name != queue.backend or (ref := self._backend.configured_ref(queue.ref)) is None:
            return
        self.search.add_queue(ref)
        self._last.setdefault(queue.key, queue)
        self._forecasts.adopt(queue, published_at)

    def known_queues(self, why: str) -> list[QueueStats]:
        """The queues known so far without figures, which are out of date: they cannot be read now, and `why`."""
        refs = list(self.search.known.values())
        try:
            refs = self._backend.disambiguate(refs)
        except Exception:  # it may be why nothing could be read
            log.exception("the queues of %s on %s have no unique names", self._backend.name, self._backend.source.name)
        return [_unread_stats(ref, why, self._last.get(ref.key)) for ref in refs]

    def search_progress(self, keys: int | None) -> float | None:
        """As `QueueSearch.search_progress`; None if the backend scans no keys."""
        scans = self._backend.key_scans
        return self.search.search_progress(keys, scans) if scans else None

    def sample(self, meter: Meter, problems: list[str], *, leading: bool) -> tuple[list[QueueStats], float | None]:
        """The queues with their rates, and the throughput per minute of those that cannot be distinguished.

        Adds the cost of reading them to `meter`, and what could not be read to `problems`. Raises BackendUnavailable if
        the source cannot be reached.
        """
        backend = self._backend
        self.flow = None
        try:
            if leading:
                backend.maintain()
            problem = self.search.take_step(backend)
            if problem is not None:
                problems.append(f"{backend.title}: {problem}")
            with measure_cost() as cost:
                queues, finished = self._read_queues(problems)
            meter.commands += cost.commands
            meter.round_trips += cost.round_trips
            meter.seconds += cost.seconds
        except BackendUnavailable as exc:
            if exc.reason != "forbidden":
                raise
            why = exc.message
        except (QueuedeckError, ResponseError) as exc:
            why = printable(str(exc), 200)
        except Exception:
            # Unexpected data of one library must not hide the others.
            log.exception("reading %s on %s failed", backend.name, backend.source.name)
            why = "could not be read; the log has the details"
        else:
            return queues, finished
        problems.append(f"{backend.title}: {why}")
        return self.known_queues(why), None

    def _read_queues(self, problems: list[str]) -> tuple[list[QueueStats], float | None]:
        refs = self._backend.disambiguate(list(self.search.known.values()))
        if not refs:
            return [], None
        begun = monotonic_s()
        queues = read_each(self._refresh_stats, refs, _unread_stats)
        now = monotonic_s()
        delta = self.flow = self._read_flow(refs, problems)
        self._last = {queue.key: queue for queue in queues}
        self._forget_queues_except({ref.key for ref in refs})
        self._add_flow(now, delta, queues, blur_s=now - begun)
        nothing, least_s = FlowWindow(), self._least_rate_s
        finished = (self._together or nothing).rates(now, least_s).throughput_per_min
        windows = [self._windows.get(queue.key, nothing) for queue in queues]
        filled = [window.fill_rates(queue, now, least_s) for queue, window in zip(queues, windows, strict=True)]
        return self._forecasts.fill_forecasts(filled, delta, now), finished

    def _refresh_stats(self, refs: Sequence[QueueRef]) -> list[QueueStats]:
        """One row per ref. Raises QueuedeckError if the backend returns fewer or more: no queue vanishes silently."""
        rows = self._backend.refresh_stats(refs, self._seen)
        if len(rows) != len(refs):
            amounts = f"{len(rows):,} rows for {len(refs):,} queues"
            raise QueuedeckError(f"its backend returned {amounts}; there must be one for each")
        return rows

    def _read_flow(self, refs: Sequence[QueueRef], problems: list[str]) -> FlowDelta:
        try:
            delta, self._cursor = self._backend.read_flow(refs, self._cursor)
        except QueuedeckError:
            raise
        except Exception:
            # The other figures are useful without rates.
            log.exception("the rates of %s on %s could not be read", self._backend.name, self._backend.source.name)
            delta, self._windows = FlowDelta(queues=()), {}
            problems.append(f"{self._backend.title}: its rates could not be read; the log has the details")
        return delta

    def _forget_queues_except(self, keys: set[str]) -> None:
        for left in (self._windows, self._seen):
            for key in left.keys() - keys:
                del left[key]

    def _add_flow(self, now: float, delta: FlowDelta, queues: Sequence[QueueStats], *, blur_s: float) -> None:
        rows = {queue.key: queue for queue in queues}
        for flow in delta.queues:
            window = self._windows.get(flow.key)
            if window is None:
                window = self._windows[flow.key] = FlowWindow()
            window.add(now, flow, rows.get(flow.key), blur_s=blur_s)
        if delta.together is None:
            self._together = None
        else:
            self._together = self._together or FlowWindow()
            self._together.add(now, delta.together)


def _source_progress(backends: Sequence[_BackendSampler], keys: int | None) -> float | None:
    """Progress of the key scans of one source; None if all have finished, or if it is unknown."""
    shares = [backend.search_progress(keys) for backend in backends]
    known = [share for share in shares if share is not None]
    return sum(known) / len(known) if known and sum(known) < len(known) else None


def _unread_stats(ref: QueueRef, why: str, last: QueueStats | None = None) -> QueueStats:
    """A queue without figures. `last`: as it was last read, for what does not change."""
    return QueueStats(
        source=ref.source,
        backend=ref.backend,
        name=ref.name,
        key=ref.key,
        shared=ref.shared,
        prefix=last.prefix if last else None,
        library_version=last.library_version if last else None,
        error=why,
    )
