"""Whose an alert is: the owner and the note of its queue, and the runbook of its rule or queue. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ...settings.queue_directory import QueueDirectory, QueueInfo
from ..evaluation.state_machine import AlertState
from ..rules.ruleset import RuleInForce


class AlertOwners:
    """Finds them for alerts of `rules`, those in force."""

    def __init__(self, directory: QueueDirectory, rules: Iterable[RuleInForce]) -> None:
        self._directory = directory
        self._runbooks = {entry.rule.id: entry.rule.runbook_url for entry in rules}

    def find(self, state: AlertState) -> QueueInfo:
        """What is known about whose the alert is, with the runbook of its rule where that has one. Cost: none."""
        labels = state.labels
        found = self._directory.find(labels.source, labels.backend, labels.queue)
        runbook_url = self._runbooks.get(state.rule_id)
        return found if runbook_url is None else replace(found, runbook_url=runbook_url)
