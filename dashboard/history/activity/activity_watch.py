"""The jobs of now against those that are usual at this hour of the week, as a leader knows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from ...store.redis_store import Store
from ..columns import CLASS, QUEUE, SeriesKind
from ..history_reader import HistoryRange, HistoryReader
from ..series_keys import SeriesKey
from ..slots import Slot
from ..tiers import DAY_S, HOUR_S, slot_of
from .activities import NO_ACTIVITIES, Activities, Activity
from .past_reader import PastReader
from .recent_jobs import LONGEST_S, RecentJobs
from .usual_activity import (
    DAYS_S,
    STEP_S,
    WEEKS_S,
    WINDOWS_S,
    PastSlots,
    Usual,
    UsualFinder,
    compared_ranges,
    jobs_in,
    past_slots,
)
from .watched_time import BRIDGED_S, WatchedTime

# So many series of each kind are read per sample: the past of one takes up to five milliseconds.
READ_AT_ONCE = 4
# What is usual is read for so long ahead, and read again for those that have the least of it left.
AHEAD_S: Mapping[SeriesKind, int] = {QUEUE: 4 * HOUR_S, CLASS: 8 * HOUR_S}
RENEW_S = HOUR_S
# What an earlier leader stored is continued from so far back.
STORED_S: Mapping[SeriesKind, int] = {QUEUE: DAY_S, CLASS: 2 * LONGEST_S}


IsSampled = Callable[[SeriesKey], bool]


class _Stored(NamedTuple):
    """What an earlier leader stored of a series. `covered_s`: for how long before this one began it is known without a
    break; `quiet_s`: since its last job, `idle_s`: since the last one that arrived, no more than that.

    `slots`: start and jobs of those in the last LONGEST_S.
    """

    covered_s: float = 0.0
    quiet_s: float = 0.0
    idle_s: float = 0.0
    slots: tuple[tuple[int, int], ...] = ()


_NOTHING = _Stored()


class _UsualAhead(NamedTuple):
    """What is usual from `start_s` on, one for each STEP_S."""

    start_s: int
    steps: tuple[Usual, ...]

    def find(self, at: float) -> Usual | None:
        """What is usual before a moment; None if it was not read."""
        place = (slot_of(at, STEP_S) - self.start_s) // STEP_S
        return self.steps[place] if 0 <= place < len(self.steps) else None

    @property
    def end_s(self) -> int:
        return self.start_s + STEP_S * len(self.steps)


class ActivityWatch:
    """What is usual is read little by little, and so is what an earlier leader stored. Not thread-safe."""

    def __init__(self, store: Store) -> None:
        self.recent = RecentJobs()
        self._history = HistoryReader(store)
        self._past = PastReader(store)
        self._stored: dict[SeriesKey, _Stored] = {}
        self._ahead: dict[SeriesKey, _UsualAhead] = {}
        self._due_stored: dict[SeriesKind, list[SeriesKey]] = {QUEUE: [], CLASS: []}  # in turn from the end
        self._due_usual: dict[SeriesKind, list[SeriesKey]] = {QUEUE: [], CLASS: []}
        self.found = NO_ACTIVITIES

    def count_minutes(self, now_s: float, classes: Callable[[], Iterable[SeriesKey]], is_sampled: IsSampled) -> None:
        """Count the minutes that have ended. `classes`: those that are recorded by name. Cost: none."""
        if not self.recent.close_minutes(now_s):
            return
        self._forget(is_sampled)
        keys = {QUEUE: list(self.recent.queues()), CLASS: list(classes())}
        self._find_due(keys, now_s)
        described = ({key: self._describe(key, now_s) for key in keys[kind]} for kind in (QUEUE, CLASS))
        self.found = Activities(*described)

    def read_past(self, now_s: float) -> None:
        """Read more of the past.

        Raises BackendUnavailable, Forbidden. Cost: none, or 2 to 12 round trips, for at most READ_AT_ONCE series of
        each kind.
        """
        for kind in (QUEUE, CLASS):
            self._read_stored(kind, now_s)
            self._read_usual(kind, now_s)

    def _forget(self, is_sampled: IsSampled) -> None:
        self.recent.forget(is_sampled)
        for known in (self._stored, self._ahead):
            for key in [key for key in known if not is_sampled(key)]:
                del known[key]

    def _find_due(self, keys: Mapping[SeriesKind, Sequence[SeriesKey]], now_s: float) -> None:
        """Which series are to be read in the next minute: those without anything first."""
        for kind, of_kind in keys.items():
            self._due_stored[kind] = [
                key
                for key in of_kind
                if key not in self._stored and (times := self.recent.times_of(key)) is not None and _is_unbroken(times)
            ]
            ends = {key: self._ahead[key].end_s if key in self._ahead else 0 for key in of_kind}
            due = [key for key, end_s in ends.items() if not RENEW_S <= end_s - now_s <= AHEAD_S[kind]]
            self._due_usual[kind] = sorted(due, key=ends.__getitem__, reverse=True)

    def _describe(self, key: SeriesKey, now_s: float) -> Activity:
        at, windows_s, ahead = self.recent.end_s(), WINDOWS_S[key.kind], self._ahead.get(key)
        usual = ahead.find(at) if ahead is not None else None
        times = self.recent.times_of(key)
        if times is None or not times.is_known(now_s):
            return Activity(at, windows_s, (None,) * len(windows_s), usual=usual)
        stored = self._stored.get(key, _NOTHING) if _is_unbroken(times) else _NOTHING
        watched_s = times.watched_s + stored.covered_s
        recent = tuple(
            self._count_jobs(key, at, window_s, stored) if watched_s >= window_s + now_s - at else None
            for window_s in windows_s
        )
        quiet_s, quiet_at_least = self.recent.quiet_of(key)
        idle_s, idle_at_least = self._idle_of(key, now_s)
        quiet_s += stored.quiet_s if quiet_at_least else 0.0
        return Activity(at, windows_s, recent, quiet_s, quiet_at_least, idle_s, idle_at_least, usual)

    def _count_jobs(self, key: SeriesKey, at: float, window_s: int, stored: _Stored) -> int:
        """The jobs of a time, with all those of a stored slot that lies in it partly."""
        start_s = at - window_s
        before = sum(jobs for slot_s, jobs in stored.slots if slot_s + STEP_S > start_s)
        return self.recent.count_jobs(key, window_s) + before

    def _idle_of(self, key: SeriesKey, now_s: float) -> tuple[float | None, bool]:
        times = self.recent.arrivals_of(key)
        if times is None or not times.is_known(now_s):
            return None, False
        idle_s, at_least = times.quiet
        stored_s = self._stored.get(key, _NOTHING).idle_s if at_least and _is_unbroken(times) else 0.0
        return idle_s + stored_s, at_least

    def _read_stored(self, kind: SeriesKind, now_s: float) -> None:
        keys = _take(self._due_stored[kind])
        begins = {key: begin_s for key in keys if (begin_s := self._begin_of(key)) is not None}
        if not begins:
            return
        start_s = slot_of(min(begins.values()) - STORED_S[kind], STEP_S)
        wanted = HistoryRange(start_s, slot_of(max(begins.values()), STEP_S) + STEP_S, STEP_S)
        for key, slots in self._history.read_slots(list(begins), wanted, now_s).items():
            self._stored[key] = _stored_before(kind, slots, begins[key])

    def _begin_of(self, key: SeriesKey) -> float | None:
        times = self.recent.times_of(key)
        return times.begin_s if times is not None else None

    def _read_usual(self, kind: SeriesKind, now_s: float) -> None:
        keys = _take(self._due_usual[kind])
        if not keys:
            return
        start_s = slot_of(now_s, STEP_S)
        moments = range(start_s, start_s + AHEAD_S[kind], STEP_S)
        weeks = self._past.read_ranges(kind, keys, list(compared_ranges(kind, start_s, moments[-1], WEEKS_S)))
        past = {key: past_slots(kind, slots) for key, slots in weeks.items()}
        found = {key: _find_all(kind, slots, moments) for key, slots in past.items()}
        short = [key for key in keys if any(None in usual.jobs for usual in found[key])]
        if short:
            days = self._past.read_ranges(kind, short, list(compared_ranges(kind, start_s, moments[-1], DAYS_S)))
            for key, slots in days.items():
                found[key] = _find_all(kind, past_slots(kind, slots) | past[key], moments)
        for key, steps in found.items():
            self._ahead[key] = _UsualAhead(start_s, tuple(steps))


def _find_all(kind: SeriesKind, slots: PastSlots, moments: Iterable[int]) -> list[Usual]:
    finder = UsualFinder(kind, slots)
    return [finder.find(at_s) for at_s in moments]


def _take(due: list[SeriesKey]) -> list[SeriesKey]:
    taken = due[-READ_AT_ONCE:]
    del due[-READ_AT_ONCE:]
    return taken


def _is_unbroken(times: WatchedTime) -> bool:
    return times.begin_s is not None and not times.breaks


def _stored_before(kind: SeriesKind, slots: Sequence[Slot], begin_s: float) -> _Stored:
    """What slots of STEP_S show of the time before `begin_s`. The last of them may have more than that."""
    covered_s = quiet_s = idle_s = 0.0
    is_quiet = is_idle = True
    recent: list[tuple[int, int]] = []
    for slot in reversed([slot for slot in slots if slot.start_s < begin_s]):
        before_s = min(STEP_S, begin_s - slot.start_s)
        jobs = jobs_in(kind, slot, (before_s - BRIDGED_S) * 1000)
        arrived = slot.cells[kind.index_of("enqueued")] if slot.cells is not None and kind is QUEUE else None
        if jobs is None and before_s <= BRIDGED_S:
            jobs = arrived = 0  # another leader had not stored it yet
        if jobs is None:
            break
        is_quiet, is_idle = is_quiet and not jobs, is_idle and arrived == 0
        covered_s += before_s
        quiet_s += before_s if is_quiet else 0.0
        idle_s += before_s if is_idle else 0.0
        if slot.start_s + STEP_S > begin_s - LONGEST_S:
            recent.append((slot.start_s, jobs))
    return _Stored(covered_s, quiet_s, idle_s, tuple(recent))
