"""The overview's figures over all queues, each computed once per snapshot. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any

from ....model import Quality, QueueStats, Snapshot, SourceStats, State, states_at_least
from ....sampling.rates import join_reasons
from ....sampling.recent_history import History, known_sum
from ....sampling.total_rates import total_rates
from ..problems.checks import dead_growth
from ..problems.problem import Problem
from ..problems.problem_list import (
    NO_ALERTS,
    AlertFacts,
    ProblemLine,
    group_problems,
    list_problems,
    list_queue_problems,
)

NOTHING_OLD: Mapping[str, float] = {}
_STATES = (State.ACTIVE.value, State.SCHEDULED.value, State.RETRYING.value, State.BLOCKED.value, State.DEAD.value)


class OverviewData:
    """A snapshot with its history; each figure is computed on first access and cached.

    Computing a figure is one pass over all queues. Queues are identified by their index in `queues`.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        history: History,
        facts: AlertFacts = NO_ALERTS,
        taken_at: Mapping[str, float] = NOTHING_OLD,
    ) -> None:
        """`facts`: the firing and pending alerts, and the thresholds of the rules in force. `taken_at`: when the
        figures of sources that cannot be read now were taken, in seconds since 1970."""
        self.snapshot = snapshot
        self.history = history
        self.facts = facts
        self.taken_at = taken_at
        self.down = frozenset(source.name for source in snapshot.sources if not source.reachable)
        self.unread = self.down - taken_at.keys()  # sources without any figures
        self.queues = snapshot.queues

    @cached_property
    def problems_by_queue(self) -> list[tuple[Problem, ...]]:
        """The problems of each queue, worst first; those of an unreachable source have none of their own."""
        down, history, facts = self.down, self.history, self.facts
        harmless = facts.thresholds.harmless_dead
        return [
            ()
            if queue.source in down
            else list_queue_problems(
                queue, facts, dead_growth(queue, history) if (queue.counts.dead or 0) > harmless else 0
            )
            for queue in self.queues
        ]

    @cached_property
    def problems(self) -> list[Problem]:
        """The problems of all sources and queues, worst first."""
        return list_problems(self.snapshot, self.problems_by_queue, self.facts)

    @cached_property
    def problem_lines(self) -> list[ProblemLine]:
        """The lines of the list of problems, worst first."""
        return group_problems(self.problems)

    @cached_property
    def names(self) -> list[str]:
        """The name of each queue, case-folded for sorting and filtering."""
        return [queue.name.casefold() for queue in self.queues]

    @cached_property
    def by_name(self) -> list[int]:
        """The queues by name, then by library and source."""
        names, queues = self.names, self.queues
        return sorted(range(len(queues)), key=lambda n: (names[n], queues[n].backend, queues[n].source))

    @cached_property
    def by_severity(self) -> list[int]:
        """The queues, worst first; healthy ones by depth, largest first."""
        problems, queues = self.problems_by_queue, self.queues

        def rank(n: int) -> tuple[float, float, int]:
            return *problems[n][0].rank, -(queues[n].depth or 0)

        # Apart, since most are healthy: the rank of these is one number.
        bad = sorted([n for n in self.by_name if problems[n]], key=rank)
        healthy = [n for n in self.by_name if not problems[n]]
        return bad + sorted(healthy, key=lambda n: -(queues[n].depth or 0))

    @cached_property
    def totals(self) -> dict[str, Any]:
        """The sums over all queues."""
        return sum_queues(self.queues, self.snapshot.sources)

    @cached_property
    def at_least(self) -> tuple[State, ...]:
        """The states whose totals are lower bounds: all if a source has never been read, whose queues are unknown."""
        return tuple(State) if self.unread else states_at_least(self.queues)

    @property
    def is_throughput_at_least(self) -> bool:
        """Whether the jobs of some queue are missing from the sum of finished jobs."""
        return bool(self.totals["throughput_unknown"] or self.unread)

    @cached_property
    def estimated(self) -> str | None:
        """Why some rates are estimated, "" where no queue says why; None if all are exact."""
        reasons = {queue.flow_reason or "" for queue in self.queues if queue.flow_quality is Quality.ESTIMATED}
        return join_reasons(filter(None, reasons)) if reasons else None

    @cached_property
    def libraries(self) -> dict[str, int]:
        """How many queues each library has."""
        return _count([queue.backend for queue in self.queues])

    @cached_property
    def sources(self) -> dict[str, int]:
        """How many queues each source has."""
        return _count([queue.source for queue in self.queues])

    @cached_property
    def most_waiting(self) -> int:
        """The largest depth."""
        return max([queue.depth or 0 for queue in self.queues], default=0)


def sum_queues(queues: Sequence[QueueStats], sources: Sequence[SourceStats] = ()) -> dict[str, Any]:
    """Sums over all queues; a sum is null when none of its parts is known. Shared entries are counted once.

    `throughput_unknown` and `failed_unknown` count the queues missing from these two sums because they report no rate.
    The error ratio covers the queues that report both finished and failed jobs.
    """
    sums = total_rates(queues, sources)
    counts = [queue.counts for queue in queues]
    return {
        "depth": known_sum([queue.depth for queue in queues]),
        **{state: known_sum(map(attrgetter(state), counts)) for state in _STATES},
        "throughput_per_min": rounded(sums.throughput_per_min),
        "failed_per_min": rounded(sums.failed_per_min),
        "error_ratio": rounded(sums.error_ratio, 4),
        "throughput_unknown": sums.throughput_unknown,
        "failed_unknown": sums.failed_unknown,
    }


def rounded(value: float | None, digits: int = 3) -> float | None:
    """Round `value` for transport; None stays None."""
    return None if value is None else round(value, digits)


def _count(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts
