"""Which alerts, rules and silences someone sees who may see only some queues."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from ...globs import glob_matches, is_plain
from ...model import QueueStats
from ...rights.grants import ALL_QUEUES
from ...rights.right import Right
from ...rights.rights import Rights
from ..evaluation.state_machine import AlertLabels
from ..rules.rule import Rule
from ..rules.ruleset import RuleInForce
from ..silences import Silence


class VisibleAlerts:
    """The alerts about queues that may be seen; those about all queues of a library or a source only to those who see
    all of these. Thread-safe.
    """

    def __init__(self, rights: Rights, current_queues: Callable[[], Sequence[QueueStats]]) -> None:
        """`current_queues`: those that may be seen."""
        self._rights = rights
        self._current_queues = current_queues
        self._last: tuple[tuple[RuleInForce, ...], frozenset[str], tuple[RuleInForce, ...]] | None = None

    def sees(self, labels: AlertLabels) -> bool:
        """Whether an alert with these labels may be seen. Error groups, objectives and channels span queues."""
        if labels.error is not None or labels.slo is not None or labels.channel is not None:
            return self._rights.sees_all
        return self._rights.sees(labels.source, labels.backend, labels.queue)

    def may_handle(self, labels: AlertLabels) -> bool:
        """Whether an alert with these labels may be acknowledged: the right is given on all that it can be about."""
        if not self.sees(labels):
            return False
        if labels.source is None:
            return self._rights.may_everywhere(Right.ALERTS)
        if labels.backend is None:
            return self._rights.may_all_on(Right.ALERTS, labels.source)
        return self._rights.may(Right.ALERTS, labels.source, labels.backend, labels.queue or ALL_QUEUES)

    def may_silence(self, silence: Silence) -> bool:
        """Whether a silence covers only alerts of one queue that may be handled: it names the queue without * and ?."""
        named = (silence.source, silence.backend, silence.queue)
        return all(map(is_plain, named)) and self._rights.may(Right.ALERTS, *named)

    def rules_of(self, rules: tuple[RuleInForce, ...]) -> tuple[RuleInForce, ...]:
        """The rules about queues that may be seen, without their globs for other queues. The same tuple as long as
        neither the rules nor the names of queues change."""
        names = frozenset(queue.name for queue in self._current_queues())
        last = self._last
        if last is None or last[0] is not rules or last[1] != names:
            known = [each for each in (self._visible_part(entry, names) for entry in rules) if each is not None]
            ids = {entry.rule.id for entry in known}
            found = tuple(_without_links(entry, ids) for entry in known)
            self._last = last = (rules, names, found)
        return last[2]

    def silences_of(self, silences: Iterable[Silence]) -> tuple[Silence, ...]:
        """The silences that can concern alerts about queues that may be seen."""
        queues = self._current_queues()
        return tuple(
            silence
            for silence in silences
            if any(silence.covers_queue(queue.source, queue.backend, queue.name) for queue in queues)
        )

    def _visible_part(self, entry: RuleInForce, names: frozenset[str]) -> RuleInForce | None:
        rule = entry.rule
        is_elsewhere = is_plain(rule.source) and not self._rights.may_know_source(rule.source)
        queues = tuple(glob for glob in rule.queues if any(glob_matches(glob, name) for name in names))
        if is_elsewhere or (rule.queues and not queues):
            return None
        queues_not = tuple(glob for glob in rule.queues_not if any(glob_matches(glob, name) for name in names))
        return _with_rule(entry, replace(rule, queues=queues, queues_not=queues_not))


def _without_links(entry: RuleInForce, ids: set[str]) -> RuleInForce:
    """The rule without the names of rules that may not be seen."""
    kept = tuple(name for name in entry.rule.inhibited_by if name in ids)
    return entry if kept == entry.rule.inhibited_by else _with_rule(entry, replace(entry.rule, inhibited_by=kept))


def _with_rule(entry: RuleInForce, rule: Rule) -> RuleInForce:
    return RuleInForce(rule, entry.origin, entry.edited_by, entry.edited_at, entry.shipped)
