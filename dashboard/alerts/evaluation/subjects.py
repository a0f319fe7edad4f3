"""The subjects of a rule in one sample, such as queues, sources or channels, with the figure of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...globs import glob_matches
from ...history.columns import CLASS
from ...model import QueueStats, Snapshot
from ..rules.activity_figures import compare_activity
from ..rules.figures import (
    NOT_USUAL,
    PAUSED,
    AtLeast,
    Figure,
    Idle,
    compare_burn_rates,
    compare_run_times,
    count_library_workers,
)
from ..rules.metrics import METRICS
from ..rules.rule import Rule
from .checker_context import CheckerContext
from .durations import DurationTracker
from .queue_index import QueueIndex, is_name_in_scope
from .state_machine import AlertLabels

UNREACHABLE = "redis.unreachable_s"


@dataclass(frozen=True, slots=True)
class Subject:
    """One subject of a rule with its figure; `frozen` = it cannot be read now."""

    labels: AlertLabels
    figure: Figure
    frozen: bool = False


class SubjectFinder:
    """Finds the subjects of rules in one sample, and knows which of them cannot be read now."""

    def __init__(
        self, snapshot: Snapshot, checker_context: CheckerContext, queues: QueueIndex, durations: DurationTracker
    ) -> None:
        self._snapshot = snapshot
        self._checker_context = checker_context
        self._queues = queues
        self._durations = durations
        self.unreachable_sources = {source.name for source in snapshot.sources if not source.reachable}
        self.incomplete_sources = {
            source.name for source in snapshot.sources if source.problems or not source.discovered
        }
        unread = self.unreachable_sources
        self.frozen = [queue.source in unread or queue.error is not None for queue in snapshot.queues]  # by position

    def find_subjects(self, rule: Rule) -> Iterator[Subject]:
        """All subjects of a rule, with the figure of each."""
        metric, checker_context = METRICS[rule.metric], self._checker_context
        if metric.subject == "queue":
            yield from self._queue_subjects(rule) if rule.scope == "each" else self._aggregate_subject(rule)
        elif metric.subject == "class":
            slower = rule.metric == "class.runtime_p95_ratio"
            yield from self._class_run_times(rule) if slower else self._class_activities(rule)
        elif metric.subject == "library":
            yield from self._library_subjects(rule)
        elif metric.subject == "source":
            assert metric.take_source is not None
            for source in self._snapshot.sources:
                if not glob_matches(rule.source, source.name):
                    continue
                figure = metric.take_source(source, self._durations.sources[source.name])
                frozen = not source.reachable and rule.metric != UNREACHABLE
                yield Subject(AlertLabels(source=source.name), None if frozen else figure, frozen)
        elif metric.subject == "error":
            yield from self._error_subjects(rule)
        elif metric.subject == "schedule":
            yield from self._schedule_subjects(rule)
        elif metric.subject == "slo":
            yield from self._slo_subjects(rule)
        elif metric.subject == "channel":
            told: Mapping[str, float] = (
                checker_context.dead_messages if rule.metric == "notify.dead" else checker_context.undelivered_s
            )
            for channel in checker_context.channels:
                yield Subject(AlertLabels(channel=channel), told.get(channel, 0.0))
        else:
            yield Subject(AlertLabels(), checker_context.heartbeat_age_s)

    def _error_subjects(self, rule: Rule) -> Iterator[Subject]:
        """The error groups with jobs in scope; an unknown figure without labels while it is unknown which are new."""
        if self._checker_context.error_groups is None:
            yield Subject(AlertLabels(), None, frozen=True)
            return
        for group in self._checker_context.error_groups:
            if any(
                glob_matches(rule.source, source) and glob_matches(rule.backend, backend)
                for source, backend, _ in group.places
            ):
                counts = group.is_new if rule.metric == "error.new" else group.is_regressed
                yield Subject(
                    AlertLabels(error=group.fingerprint, title=group.title), float(group.count) if counts else 0.0
                )

    def _schedule_subjects(self, rule: Rule) -> Iterator[Subject]:
        """The schedules in scope; an unknown figure without labels before the first reading."""
        read = self._checker_context.schedules
        if read is None:
            yield Subject(AlertLabels(), None, frozen=True)
            return
        paused = {(queue.source, queue.backend, queue.name) for queue in self._snapshot.queues if queue.paused}
        for each in read.schedules:
            place = (each.source, each.backend, each.queue or "")
            if is_name_in_scope(rule, *place):
                labels = AlertLabels(
                    source=each.source, backend=each.backend, queue=each.queue, schedule=each.id, title=each.title
                )
                figure: Figure = PAUSED if each.is_paused or place in paused else each.late_s
                yield Subject(labels, figure, each.source in self.unreachable_sources)

    def _slo_subjects(self, rule: Rule) -> Iterator[Subject]:
        """The objectives; unknown while their jobs are not counted, or were counted last long ago. While a Redis that
        they cover is down, they can fire for the jobs of others, and do not recover."""
        for status in self._checker_context.slos:
            slo = status.slo
            figure = compare_burn_rates(status, rule.metric, rule.needed_events)
            frozen = not status.is_current(self._checker_context.now)
            if any(glob_matches(slo.source, source) for source in self.unreachable_sources):
                frozen = frozen or not isinstance(figure, float)
                figure = AtLeast(figure) if isinstance(figure, float) else None
            yield Subject(AlertLabels(slo=slo.id, title=slo.title), figure, frozen)

    def _queue_subjects(self, rule: Rule) -> Iterator[Subject]:
        indexes, labels = self._queues.match_queues(rule)
        figures = self._queues.queue_figures(rule)
        for index, each, figure in zip(indexes, labels, figures, strict=True):
            yield Subject(each, figure, self.frozen[index])

    def _aggregate_subject(self, rule: Rule) -> Iterator[Subject]:
        """The sum or the maximum over all queues in scope; nothing when there is no such queue.

        PAUSED when no queue has a figure, and at least one of them because it is paused; NOT_USUAL when all of them are
        usually quiet at this hour. One that is counts for nothing beside others: as 0 it would be missed.

        It is a lower bound when a queue of a sum, or a whole source, cannot be read now.
        """
        queues = self._queues.queues
        indexes, figures = self._queues.match_queues(rule)[0], self._queues.queue_figures(rule)
        whole = all(
            source.reachable and source.discovered
            for source in self._snapshot.sources
            if glob_matches(rule.source, source.name)
        )
        if whole and not indexes:
            return
        pairs = zip(indexes, figures, strict=True)
        rows = [figure for index, figure in pairs if queues[index].source not in self.unreachable_sources]
        usual = [figure for figure in rows if figure is not NOT_USUAL]
        known = [0.0 if isinstance(figure, Idle) else figure for figure in usual if figure is not None]
        figure: Figure = None
        if whole and all(isinstance(figure, Idle) for figure in rows) and PAUSED in rows:
            figure = PAUSED  # as for one queue: that nothing is finished or served is then on purpose
        elif whole and rows and not usual:
            figure = NOT_USUAL
        elif known:
            figure = sum(known) if rule.scope == "sum" else max(known)
            unknown = not whole or (rule.scope == "sum" and len(known) < len(usual))
            if unknown or any(isinstance(number, AtLeast) for number in known):
                figure = AtLeast(figure)
        yield Subject(AlertLabels(), figure, frozen=figure is None and not whole)

    def _class_run_times(self, rule: Rule) -> Iterator[Subject]:
        for key, run_times in self._checker_context.run_times.items():
            if key.kind is CLASS and is_name_in_scope(rule, key.source, key.backend, key.name):
                labels = AlertLabels(source=key.source, backend=key.backend, queue=key.name, job_class=key.job_class)
                figure = compare_run_times(run_times, rule.needed_events)
                yield Subject(labels, figure, key.source in self.unreachable_sources)

    def _class_activities(self, rule: Rule) -> Iterator[Subject]:
        queues = {(queue.source, queue.backend, queue.name): queue for queue in self._snapshot.queues}
        for key, activity in self._checker_context.activities.classes.items():
            queue = queues.get(key[1:4])
            if queue is None or not is_name_in_scope(rule, key.source, key.backend, key.name):
                continue
            labels = AlertLabels(source=key.source, backend=key.backend, queue=key.name, job_class=key.job_class)
            figure = PAUSED if queue.paused else compare_activity(activity, rule.needed_events)
            yield Subject(labels, figure, key.source in self.unreachable_sources or queue.error is not None)

    def _library_subjects(self, rule: Rule) -> Iterator[Subject]:
        groups: dict[tuple[str, str], list[QueueStats]] = {}
        for index in self._queues.match_queues(rule)[0]:
            if not self._queues.is_new(index, rule):
                queue = self._queues.queues[index]
                groups.setdefault((queue.source, queue.backend), []).append(queue)
        for (source, backend), queues in groups.items():
            frozen = source in self.unreachable_sources
            figure = None if frozen else count_library_workers(queues)
            yield Subject(AlertLabels(source=source, backend=backend), figure, frozen)
