"""What finished in each job class, added up over a slot of the finest tier of classes. Pure: no Redis, no clock.

A source can have many more classes than queues, and an app can give each job a class of its own. So a slot has one
record for each class in which jobs finished, however many samples it covers, and the number of classes is bounded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from ..model import ClassFlow, Quality, QueueFlow
from ..sampling.rate_periods import count_ended
from .activity.recent_jobs import RecentJobs
from .columns import CLASS, QUALITY_CODES, Cells, Record
from .histogram import Histogram, add_histogram, histogram_of_jobs
from .run_times import RecentRunTimes
from .series_keys import SeriesKey
from .tiers import DAY_S, slot_of, tiers_of

# The classes that are recorded by name at a time; what finishes in others is recorded as OTHER_CLASSES.
MOST_OF_QUEUE = 50
MOST_OF_ALL = 12_000
OTHER_CLASSES = "(other classes)"
NAMELESS = "(no name)"
MAX_NAME = 200
# A class in which nothing finished for this long gives its place to another one. What is stored of it stays.
FORGET_S = DAY_S

# A flow may cover so much less than the time between two samples: their clocks are read at other moments.
SPAN_TOLERANCE_S = 0.5

Place = tuple[str, str, str]  # source, library, name of the queue


class _ClassCount:
    """What finished in a class since its last record."""

    __slots__ = ("failed", "finished", "quality", "runtimes", "seen_at", "was_unknown")

    def __init__(self, seen_at: float) -> None:
        self.finished = self.failed = 0
        self.quality = QUALITY_CODES[Quality.EXACT]
        self.runtimes: Histogram = {}
        self.seen_at = seen_at
        self.was_unknown = False  # its last record says that nothing is known

    def add(self, flow: ClassFlow, quality: int, at: float) -> None:
        ended = flow.completed + flow.dead
        self.finished += ended
        self.failed += flow.dead
        self.quality = min(self.quality, quality)
        self.seen_at = at
        add_histogram(self.runtimes, _run_times_of(flow))

    def take_cells(self, uncounted_s: float) -> Cells:
        cells = self.quality, round(uncounted_s * 1000), self.finished, self.failed, self.runtimes or None
        self.finished = self.failed = 0
        self.quality, self.runtimes = QUALITY_CODES[Quality.EXACT], {}
        return cells


class _QueueClasses:
    """The classes of one queue, and for how long they were known, and unknown, since their last records."""

    __slots__ = ("classes", "is_sampled", "known_s", "unknown_s")

    def __init__(self) -> None:
        self.classes: dict[str, _ClassCount] = {}
        self.known_s = self.unknown_s = 0.0
        self.is_sampled = False  # by this process

    def take_records(self) -> Iterator[tuple[str, Cells]]:
        """What is to be recorded of each class; nothing of one in which nothing changed."""
        uncounted_s = self.unknown_s if self.unknown_s > SPAN_TOLERANCE_S else 0.0
        is_unknown = uncounted_s > 0 and not self.known_s
        self.known_s = self.unknown_s = 0.0
        for name, count in self.classes.items():
            if is_unknown and not count.finished:
                if not count.was_unknown:
                    yield name, (QUALITY_CODES[Quality.UNKNOWN], round(uncounted_s * 1000), None, None, None)
                count.was_unknown = True
            elif count.finished or uncounted_s or count.was_unknown:
                yield name, count.take_cells(uncounted_s)
                count.was_unknown = False


class ClassCounts:
    """The classes of all queues, as one leader counts them. Not thread-safe."""

    def __init__(self, run_times: RecentRunTimes | None = None, jobs: RecentJobs | None = None) -> None:
        """`run_times` and `jobs` take in those of the classes that are recorded by name."""
        self._run_times = run_times
        self._jobs = jobs
        self._queues: dict[Place, _QueueClasses] = {}
        self._total = 0  # of all classes
        self._slot_s: int | None = None
        self._records: list[tuple[SeriesKey, Record]] = []
        self._stored: list[SeriesKey] = []

    def know_stored(self, keys: Iterable[SeriesKey]) -> None:
        """Give the classes among the series of the history their places, so that a new leader names the same ones."""
        self._stored = [key for key in keys if key.kind is CLASS]

    def is_known(self, key: SeriesKey) -> bool:
        """Whether jobs of a class finished in the last FORGET_S, in a queue that exists."""
        queue = self._queues.get((key.source, key.backend, key.name))
        return queue is not None and key.job_class in queue.classes

    def known_keys(self) -> list[SeriesKey]:
        """The classes that are recorded by name, of queues that were sampled."""
        return [
            SeriesKey(CLASS, *place, name)
            for place, queue in self._queues.items()
            if queue.is_sampled
            for name in queue.classes
            if name != OTHER_CLASSES
        ]

    def begin_sample(self, at: float) -> None:
        """End the slot before `at`, if another one has begun. To be called before `add_flow`."""
        for key in self._stored:
            self._count_of(self._queues.setdefault(key[1:4], _QueueClasses()), key.job_class, at)
        self._stored = []
        slot_s = slot_of(at, tiers_of(CLASS)[0].step_s)
        if slot_s != self._slot_s:
            self.end_slot()
            self._forget_idle(at)
            self._slot_s = slot_s

    def add_flow(self, place: Place, flow: QueueFlow | None, passed_s: float, at: float) -> None:
        """Count what finished in a queue in the `passed_s` seconds before `at`; None if it has no flow."""
        queue = self._queues.get(place)
        if queue is None:
            if flow is None or not flow.classes:
                return
            queue = self._queues[place] = _QueueClasses()
        queue.is_sampled = True
        if flow is None or flow.quality is Quality.UNKNOWN or (flow.classes is None and (flow.hidden or _ended(flow))):
            queue.unknown_s += passed_s
            return
        queue.known_s += passed_s
        if self._jobs is not None:
            self._jobs.watch_classes(place, at - min(passed_s, flow.span_s), at)
        queue.unknown_s += max(0.0, passed_s - flow.span_s - SPAN_TOLERANCE_S)
        for one in flow.classes or ():
            self._count_of(queue, one.job_class, at).add(one, QUALITY_CODES[flow.classes_quality], at)
            name = _recorded_name(one.job_class)
            if name not in queue.classes:
                continue
            key = SeriesKey(CLASS, *place, name)
            if self._run_times is not None and one.runtimes_s:
                self._run_times.add(key, at, _run_times_of(one))
            if self._jobs is not None:
                self._jobs.add_class(key, one.completed + one.dead)

    def end_missing(self, reached: Collection[str], present: Collection[Place]) -> None:
        """End the classes of the queues that are gone: those of the sources `reached` that are not `present`."""
        for place in [place for place in self._queues if place not in present and place[0] in reached]:
            queue = self._queues.pop(place)
            self._total -= len(queue.classes)
            if queue.is_sampled:
                self._add_records(place, queue)
                unknown: Cells = (None,) * len(CLASS.columns)
                self._records += [
                    (SeriesKey(CLASS, *place, name), Record(self._slot_s or 0, unknown)) for name in queue.classes
                ]

    def end_slot(self) -> None:
        """Record what was counted since the last records."""
        for place, queue in self._queues.items():
            self._add_records(place, queue)

    def take_records(self) -> list[tuple[SeriesKey, Record]]:
        """The records of the slots that ended since the last call."""
        records, self._records = self._records, []
        return records

    def _add_records(self, place: Place, queue: _QueueClasses) -> None:
        start_s = self._slot_s or 0
        self._records += [
            (SeriesKey(CLASS, *place, name), Record(start_s, cells)) for name, cells in queue.take_records()
        ]

    def _count_of(self, queue: _QueueClasses, job_class: str, at: float) -> _ClassCount:
        """The count of a class, which is that of OTHER_CLASSES if there are too many."""
        name = _recorded_name(job_class)
        found = queue.classes.get(name)
        if found is None:
            if name != OTHER_CLASSES and (len(queue.classes) >= MOST_OF_QUEUE or self._total >= MOST_OF_ALL):
                return self._count_of(queue, OTHER_CLASSES, at)
            found = queue.classes[name] = _ClassCount(at)
            self._total += 1
        return found

    def _forget_idle(self, at: float) -> None:
        for queue in self._queues.values():
            for name in [name for name, count in queue.classes.items() if at - count.seen_at > FORGET_S]:
                del queue.classes[name]
                self._total -= 1


def _recorded_name(job_class: str) -> str:
    return job_class[:MAX_NAME] or NAMELESS


def _run_times_of(flow: ClassFlow) -> Histogram:
    return histogram_of_jobs(flow.runtimes_s, flow.completed + flow.dead)


def _ended(flow: QueueFlow) -> bool:
    return count_ended(flow) > 0
