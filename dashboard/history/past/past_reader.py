"""Reads queues and Redis servers as of a moment: any process does."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...model import QueueRef, QueueStats, Snapshot, SourceStats
from ...sampling.recent_history import History, QueueHistory, key_of
from ...store.redis_store import Store
from ..columns import QUEUE, SOURCE
from ..history_reader import HistoryReader
from ..series_keys import IDS, SeriesKey, parse_ids
from ..slots import Slot
from .past_figures import health_as_of, history_as_of, last_sampled_s, memory_as_of, queue_as_of
from .past_window import PastWindow, choose_window

# More queues than this are not shown as of a moment.
MAX_QUEUES = 2_000
# So many queues are read in two round trips: their values are some megabytes.
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
    if nothing was. `unread`: so many recorded queues were left out. `gone`: the queues that no longer exist now.
    """

    window: PastWindow
    snapshot: Snapshot
    history: History
    missing: tuple[str, ...] = ()
    last_sampled_s: int | None = None
    unread: int = 0
    gone: frozenset[Place] = frozenset()

    @property
    def is_recorded(self) -> bool:
        """Whether anything was recorded at the moment."""
        return bool(self.snapshot.sources)


class PastReader:
    """Reads the past from the store. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._history = HistoryReader(store)

    def read_view(self, at_s: float, now_s: float, known: KnownNow) -> PastView:
        """All queues as of `at_s`, at most MAX_QUEUES; only of sources and libraries that are known now.

        Raises BackendUnavailable, Forbidden. Cost: 3 round trips, and 2 for each QUEUES_AT_ONCE; about 0.5 ms of
        computing for each queue.
        """
        window = choose_window(at_s, now_s)
        (raw,) = self._store.read_keys(("HGETALL", IDS))
        stored = [key for key in parse_ids(raw) if _is_shown(key, known)]
        keys = sorted(stored, key=lambda key: key[1:])[:MAX_QUEUES]
        above = self._read_above(window, now_s, known)
        found: list[QueueStats] = []
        trends: dict[str, QueueHistory] = {}
        for key, slots in self._read_queues(keys, window, now_s):
            if (queue := queue_as_of(known.ref_of(key), slots, window)) is not None:
                found.append(queue)
                trends[key_of(queue)] = history_as_of(slots, rates=False)
        return _view_of(window, known, above, found, trends, len(stored) - len(keys))

    def read_queue(self, place: Place, at_s: float, now_s: float, known: KnownNow) -> PastView:
        """One queue and its source as of `at_s`; without the queue if nothing is known of it then.

        Raises BackendUnavailable, Forbidden. Cost: 4 round trips.
        """
        window = choose_window(at_s, now_s)
        key = SeriesKey(QUEUE, *place)
        above = self._read_above(window, now_s, known, (key.source,))
        slots = self._history.read_slots([key], window.slots, now_s)[key]
        queue = queue_as_of(known.ref_of(key), slots, window)
        trends = {} if queue is None else {key_of(queue): history_as_of(slots)}
        return _view_of(window, known, above, [] if queue is None else [queue], trends, 0)

    def _read_above(
        self, window: PastWindow, now_s: float, known: KnownNow, names: Iterable[str] | None = None
    ) -> dict[SeriesKey, list[Slot]]:
        """The slots of the sources, of all of them together, and of all queues together."""
        sources = [SeriesKey(SOURCE, name) for name in (known.addresses if names is None else names)]
        return self._history.read_slots([SeriesKey(SOURCE), SeriesKey(QUEUE), *sources], window.slots, now_s)

    def _read_queues(
        self, keys: Sequence[SeriesKey], window: PastWindow, now_s: float
    ) -> Iterator[tuple[SeriesKey, list[Slot]]]:
        for place in range(0, len(keys), QUEUES_AT_ONCE):
            part = keys[place : place + QUEUES_AT_ONCE]
            yield from self._history.read_slots(part, window.slots, now_s).items()


def _is_shown(key: SeriesKey, known: KnownNow) -> bool:
    return key.kind is QUEUE and bool(key.name) and (key.source, key.backend) in known.libraries


def _view_of(
    window: PastWindow,
    known: KnownNow,
    above: Mapping[SeriesKey, Sequence[Slot]],
    queues: list[QueueStats],
    trends: dict[str, QueueHistory],
    unread: int,
) -> PastView:
    of_sources = {key.source: slots for key, slots in above.items() if key.kind is SOURCE and key.source}
    sampled = [name for name, slots in of_sources.items() if slots[-1].sampled_ms > 0]
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
        totals=history_as_of(above[SeriesKey(QUEUE)]),
        memory={name: memory_as_of(slots) for name, slots in of_sources.items()},
    )
    places = {(queue.source, queue.backend, queue.name) for queue in queues}
    return PastView(
        window=window,
        snapshot=snapshot,
        history=history,
        missing=tuple(name for name in of_sources if name not in sampled),
        last_sampled_s=last_sampled_s(above[SeriesKey(SOURCE)], window.step_s),
        unread=unread,
        gone=frozenset(places - known.queues.keys()),
    )
