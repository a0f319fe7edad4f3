"""What the feed reported of finished tasks: counts and run times by queue, and signs of tasks that left no record."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from ....clock import monotonic_s
from ....model import State
from ...base import FLOW_WINDOW_S
from ...class_tally import ClassTally
from ...completion_balance import BALANCED, CompletionBalance

MAX_RUNTIMES = 200
MAX_RECENT = 5000
MAX_NAME = 200
NO_NAME = "results do not name their class: set result_extended = True in the app"


@dataclass
class EndedTasks:
    """What the feed reported since the last sample, by (prefix, queue); queue "" if the record does not name it."""

    completed: Counter[tuple[str, str]] = field(default_factory=Counter)
    dead: Counter[tuple[str, str]] = field(default_factory=Counter)
    retried: Counter[tuple[str, str]] = field(default_factory=Counter)
    runtimes: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    classes: dict[tuple[str, str], ClassTally] = field(default_factory=dict)
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


class EndedTaskTally:
    """Counts finished tasks by the queue that their records name; used by one thread of the sampling process."""

    def __init__(self) -> None:
        self.ended = EndedTasks()
        self.traces = ResultTraces()
        self.nameless_at = -FLOW_WINDOW_S  # monotonic; when a record without a queue last arrived
        # Task id -> where it finished, and its class; newest last.
        self._recent: OrderedDict[str, tuple[tuple[str, str], str]] = OrderedDict()
        self.unassigned: dict[str, float] = {}  # run times by task, of the last call, whose record has not arrived yet

    def take_ended(self) -> EndedTasks:
        """Return what finished since the last call."""
        ended, self.ended = self.ended, EndedTasks()
        return ended

    def is_nameless(self, now: float) -> bool:
        """Whether recent results did not name their queue."""
        return now - self.nameless_at < FLOW_WINDOW_S

    def wants_marks(self, prefix: str) -> bool:
        """Whether records are not enough to see which queue makes progress: some are missing, or name no queue, or none
        was ever received."""
        now = monotonic_s()
        return self.is_nameless(now) or prefix not in self.traces.recorded or self.traces.hides_tasks(prefix, now)

    def count_task(self, where: tuple[str, str], task: str, state: State, job_class: object) -> None:
        """Count a finished task; `where` = its prefix and queue. `job_class`: its name, if its record has one."""
        classes = self.ended.classes.setdefault(where, ClassTally(NO_NAME))
        name = job_class[:MAX_NAME] if isinstance(job_class, str) else ""
        if name:
            classes.add(name, state is not State.DEAD, state is State.DEAD)
        else:
            classes.add_unknown()
        tally = self.ended.dead if state is State.DEAD else self.ended.completed
        tally[where] += 1
        if state is not State.CANCELED:
            times = self.traces.failed_at if state is State.DEAD else self.traces.succeeded_at
            times[where] = monotonic_s()
        if where[1]:
            self._recent[task] = where, name
            if len(self._recent) > MAX_RECENT:
                self._recent.popitem(last=False)
        else:
            self.nameless_at = monotonic_s()

    def assign_runtimes(self, runtimes: Mapping[str, float], *, two_feeds: bool) -> None:
        """Add run times by task to the queue that the record of the task names.

        With `two_feeds` (results and broker are on different servers), an event may arrive before its record: it waits
        for one call.
        """
        unassigned: dict[str, float] = {}
        for task, seconds in {**self.unassigned, **runtimes}.items():
            found = self._recent.pop(task, None)
            if found is None:
                if task in runtimes:
                    unassigned[task] = seconds
                continue
            where, name = found
            if name and where in self.ended.classes:
                self.ended.classes[where].add(name, 0, 0, [seconds])
            known = self.ended.runtimes.setdefault(where, [])
            if len(known) < MAX_RUNTIMES:
                known.append(seconds)
        self.unassigned = unassigned if two_feeds else {}
