"""The queues of one sample by position: which of them a rule covers, and their figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import repeat

from ...globs import glob_matches
from ...model import QueueStats
from ...sampling.recent_history import key_of
from ..rules.figures import Figure
from ..rules.metrics import METRICS
from ..rules.rule import Rule
from .durations import DurationTracker, QueueFacts
from .state_machine import AlertLabels


class QueueIndex:
    """The queues of the current sample, with their labels, their durations and how long each has been watched."""

    def __init__(self) -> None:
        self.queues: Sequence[QueueStats] = ()
        self._ages: dict[str, float] = {}  # how long each queue has been watched
        self._keys: tuple[str, ...] = ()
        self._labels: list[AlertLabels] = []
        self._facts: list[QueueFacts] = []  # of each queue of the sample
        self._matches: dict[Rule, tuple[list[int], list[AlertLabels]]] = {}

    def settle_queues(self, queues: Sequence[QueueStats], grace_s: float) -> None:
        """Treat queues as watched for `grace_s` seconds."""
        for queue in queues:
            self._ages[key_of(queue)] = grace_s

    def end_grace(self) -> None:
        """Treat all queues as watched for ever."""
        self._ages = dict.fromkeys(self._keys, math.inf)

    def load_queues(self, queues: Sequence[QueueStats], durations: DurationTracker, passed: float) -> None:
        """Take the queues of the next sample, `passed` seconds after the one before."""
        self.queues = queues
        keys = tuple(map(key_of, queues))
        if keys != self._keys:
            self._keys = keys
            self._labels = [
                AlertLabels(source=queue.source, backend=queue.backend, queue=queue.name) for queue in queues
            ]
            self._matches = {}
        self._facts = list(map(durations.queues.__getitem__, keys))
        ages = self._ages
        self._ages = {key: ages[key] + passed if key in ages else 0.0 for key in keys}

    def match_queues(self, rule: Rule) -> tuple[list[int], list[AlertLabels]]:
        """(positions of the queues in the rule's scope, their labels); cached while queues and rule stay the same."""
        found = self._matches.get(rule)
        if found is None:
            indexes = [index for index, queue in enumerate(self.queues) if is_in_scope(rule, queue)]
            found = self._matches[rule] = indexes, [self._labels[index] for index in indexes]
        return found

    def queue_figures(self, rule: Rule) -> list[Figure]:
        """The figure of each queue of `match_queues`, before the reducer."""
        take = METRICS[rule.metric].take_queue
        assert take is not None
        queues = self.queues
        indexes, facts, least = self.match_queues(rule)[0], self._facts, rule.needed_events
        if len(indexes) == len(queues):
            return list(map(take, queues, facts, repeat(least)))
        return [take(queues[index], facts[index], least) for index in indexes]

    def is_new(self, index: int, rule: Rule) -> bool:
        """Whether the queue at that position is still in the rule's grace period."""
        return self._ages[self._keys[index]] < rule.new_instance_grace_s

    def queue_labels(self, index: int) -> AlertLabels:
        """The labels of the queue at that position."""
        return self._labels[index]


def is_in_scope(rule: Rule, queue: QueueStats) -> bool:
    """Whether the queue is in the rule's scope."""
    return is_name_in_scope(rule, queue.source, queue.backend, queue.name)


def is_name_in_scope(rule: Rule, source: str, backend: str, name: str) -> bool:
    """Whether a queue of that name is in the rule's scope."""
    return (
        glob_matches(rule.source, source)
        and glob_matches(rule.backend, backend)
        and (not rule.queues or any(glob_matches(glob, name) for glob in rule.queues))
        and not any(glob_matches(glob, name) for glob in rule.queues_not)
    )
