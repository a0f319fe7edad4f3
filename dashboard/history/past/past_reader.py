"""Reads queues and Redis servers as of a moment: any process does."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...model import QueueRef, QueueStats, Snapshot, SourceStats
from ...sampling.recent_history import History, QueueHistory, key_of
from ...store.redis_store import Store
from ..columns import QUEUE, SOURCE
from ..history_reader import decode_values
from ..series_keys import IDS, SeriesKey, blocks_key, pack_key, parse_ids, parse_stored, tail_key
from ..slots import Slot, StoredSeries, sampled_slots, slice_series
from ..tiers import WRITTEN_WITHIN_S
from .past_figures import health_as_of, history_as_of, last_sampled_s, memory_as_of, queue_as_of
from .past_window import PastWindow, choose_window

# More queues than this are not shown as of a moment.
MAX_QUEUES = 2_000
# So many queues are read in a round trip: their values are some megabytes.
QUEUES_AT_ONCE = 250

Place = tuple[str, str, str]  # source, library, name


@dataclass(frozen=True, slots=True)
class KnownNow:
    """What is known of now: the address of each source, which libraries it has, and the queues of the last sample."""

    addresses: Mapping[str, str]
    libraries: Collection[tuple[str, str]]  # (source, library)
    queues: Mapping[Place, QueueStats]

    def ref_of(self, key: SeriesKey) -> QueueRef:
        """The address of a recorded queue; for one that is gone, as its name says."""
        queue = self.queues.get((key.source, key.backend, key.name))
        if queue is not None:
            return queue.ref
        shared = key.name == "*"
        return QueueRef(source=key.source, backend=key.backend, name=key.name, key=key.name, shared=shared)


@dataclass(frozen=True, slots=True)
class PastView:
    """What was recorded as of a moment. `snapshot` has the sources that were sampled in the last slot of `window`, and
    their queues; `missing` names the others. `history`: the trend before.

    `last_sampled_s`: the end of the last slot of the trend in which anything was sampled, in seconds since 1970; None
    if nothing was. `unread`: so many recorded queues were left out.
    """

    window: PastWindow
    snapshot: Snapshot
    history: History
    missing: tuple[str, ...] = ()
    last_sampled_s: int | None = None
    unread: int = 0

    @property
    def is_recorded(self) -> bool:
        """Whether anything was recorded at the moment."""
        return bool(self.snapshot.sources)


class PastReader:
    """Reads the past from the store. Thread-safe."""

    def __init__(self, store: Store, within_s: float = WRITTEN_WITHIN_S) -> None:
        """`within_s`: a slot is stored so many seconds after its end, see `written_within_s`."""
        self._store = store
        self._within_s = within_s

    def read_view(self, at_s: float, now_s: float, known: KnownNow) -> PastView:
        """All queues as of `at_s`, at most MAX_QUEUES; only of sources and libraries that are known now.

        Raises BackendUnavailable, Forbidden. Cost: 2 round trips, and 1 for each QUEUES_AT_ONCE; about 1 ms of
        computing for each queue with jobs all the time. Queues of a source that was not sampled then are not read.
        """
        window = choose_window(at_s, now_s, self._within_s)
        (raw,) = self._store.read_keys(("HGETALL", IDS))
        stored = {key: entry.series_id for key, entry in parse_ids(raw).items()}
        above = _Above(window, self._read_series(_keys_above(known.addresses), stored, window))
        sampled = set(above.sampled_sources)
        shown = sorted(
            (key for key in stored if _is_shown(key, known) and key.source in sampled), key=lambda key: key[1:]
        )
        found: list[QueueStats] = []
        trends: dict[str, QueueHistory] = {}
        for place in range(0, min(len(shown), MAX_QUEUES), QUEUES_AT_ONCE):
            part = shown[place : min(place + QUEUES_AT_ONCE, MAX_QUEUES)]
            for key, series in self._read_series(part, stored, window).items():
                slots = above.slots_of(key, series)
                if (queue := queue_as_of(known.ref_of(key), slots, window)) is not None:
                    found.append(queue)
                    trends[key_of(queue)] = history_as_of(slots, rates=False)
        return _view_of(above, known, found, trends, max(0, len(shown) - MAX_QUEUES))

    def read_queue(self, place: Place, at_s: float, now_s: float, known: KnownNow) -> PastView:
        """One queue and its source as of `at_s`; without the queue if nothing is known of it then.

        Raises BackendUnavailable, Forbidden. Cost: 2 round trips.
        """
        window, key = choose_window(at_s, now_s, self._within_s), SeriesKey(QUEUE, *place)
        keys = [*_keys_above([key.source]), key]
        (raw,) = self._store.read_keys(("HMGET", IDS, *map(pack_key, keys)))
        entries = zip(keys, map(parse_stored, raw or [None] * len(keys)), strict=True)
        series = self._read_series(keys, {one: entry.series_id for one, entry in entries if entry}, window)
        above = _Above(window, series)
        slots = above.slots_of(key, series[key])
        queue = queue_as_of(known.ref_of(key), slots, window)
        trends = {} if queue is None else {key_of(queue): history_as_of(slots)}
        return _view_of(above, known, [] if queue is None else [queue], trends, 0)

    def _read_series(
        self, keys: Sequence[SeriesKey], stored: Mapping[SeriesKey, int], window: PastWindow
    ) -> dict[SeriesKey, StoredSeries]:
        """The records of each series that the window needs; none for one that is not stored. Cost: 1 round trip."""
        name, there = window.tier.name, [key for key in keys if key in stored]
        values = self._store.read_keys(
            *(("MGET", blocks_key(name, stored[key]), tail_key(name, stored[key])) for key in there)
        )
        found = {key: StoredSeries([], []) for key in keys}
        for key, reply in zip(there, values, strict=True):
            blocks, tail = reply or (None, None)
            pairs = decode_values(key.kind, blocks, tail, window.tier, window.slots)
            pairs.sort(key=lambda pair: pair[0].start_s)
            found[key] = StoredSeries([record for record, _ in pairs], [span_s for _, span_s in pairs])
        return found


class _Above:
    """The sources, all of them together, and all queues together, in the slots of a window."""

    def __init__(self, window: PastWindow, series: Mapping[SeriesKey, StoredSeries]) -> None:
        self.window = window
        sources = {key.source: each.records for key, each in series.items() if key.kind is SOURCE}
        self._sampled = {name: sampled_slots(records, *window.slots) for name, records in sources.items()}
        self.sources = {
            name: self.slots_of(SeriesKey(SOURCE, name), series[SeriesKey(SOURCE, name)]) for name in sources
        }
        self.totals = self.slots_of(SeriesKey(QUEUE), series[SeriesKey(QUEUE)])

    @property
    def sampled_sources(self) -> list[str]:
        """Those that were sampled in the last slot."""
        return [name for name, slots in self.sources.items() if name and slots[-1].sampled_ms > 0]

    def slots_of(self, key: SeriesKey, series: StoredSeries) -> list[Slot]:
        """The slots of a series; gaps where its source was not sampled."""
        return slice_series(key.kind, series, self._sampled.get(key.source, {}), *self.window.slots)


def _keys_above(sources: Iterable[str]) -> list[SeriesKey]:
    return [SeriesKey(SOURCE), SeriesKey(QUEUE), *(SeriesKey(SOURCE, name) for name in sources)]


def _is_shown(key: SeriesKey, known: KnownNow) -> bool:
    return key.kind is QUEUE and bool(key.name) and (key.source, key.backend) in known.libraries


def _view_of(
    above: _Above,
    known: KnownNow,
    queues: list[QueueStats],
    trends: dict[str, QueueHistory],
    unread: int,
) -> PastView:
    window, of_sources = above.window, {name: slots for name, slots in above.sources.items() if name}
    sampled = above.sampled_sources
    snapshot = Snapshot(
        sampled_at=float(window.end_s),
        interval_s=float(window.step_s),
        sequence=0,
        sampler="",
        epoch=0,
        sources=tuple(
            SourceStats(
                name=name,
                address=known.addresses.get(name, ""),
                reachable=True,
                discovered=True,
                health=health_as_of(of_sources[name]),
                libraries=tuple(sorted({queue.backend for queue in queues if queue.source == name})),
            )
            for name in sampled
        ),
        queues=tuple(queues),
    )
    history = History(
        step_s=window.step_s,
        last_at=float(window.end_s),
        queues=trends,
        totals=history_as_of(above.totals),
        memory={name: memory_as_of(slots) for name, slots in of_sources.items()},
    )
    return PastView(
        window=window,
        snapshot=snapshot,
        history=history,
        missing=tuple(name for name in of_sources if name not in sampled),
        last_sampled_s=last_sampled_s(above.sources[""], window.step_s),
        unread=unread,
    )
