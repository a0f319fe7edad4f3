"""Reads the last seven days of what a rule covers, and replays the rule on them."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from msgspec.structs import replace

from ...clock import monotonic_s
from ...history.history_reader import HistoryReader
from ...model import Snapshot
from ..evaluation.backtest import covered_labels
from ..evaluation.rule_history import figures_mark
from ..evaluation.state_machine import AlertLabels
from ..evaluation.week_backtest import Week, build_week, is_stored, series_key, week_ranges
from ..rules.rule import Rule

# Reading one queue takes about 5 ms.
MAX_READ = 50
KEPT_S = 120.0
MAX_KEPT = 8


class WeekBacktests:
    """Thread-safe. A week stays cached for KEPT_S, so that the drafts of one form read it once."""

    def __init__(self, reader: HistoryReader) -> None:
        self._reader = reader
        self._lock = threading.Lock()
        self._weeks: dict[tuple[str, int], tuple[float, Week]] = {}

    def read_week(self, rule: Rule, snapshot: Snapshot, worst: Sequence[AlertLabels], now_s: float) -> Week | None:
        """The week of everything that a rule covers; None where the history does not have its figure.

        At most MAX_READ queues are read, first those in `worst`; a sum or maximum over more than that is None.
        Raises BackendUnavailable, Forbidden. Cost: 4 round trips, none while cached.
        """
        covered = covered_labels(replace(rule, scope="each"), snapshot)
        if not is_stored(rule) or not covered or (rule.scope != "each" and len(covered) > MAX_READ):
            return None
        mark = figures_mark(rule), hash(tuple(covered))
        kept = self._weeks.get(mark)
        if kept is not None and monotonic_s() - kept[0] < KEPT_S:
            return kept[1]
        known = set(covered)
        first = list(dict.fromkeys((*(labels for labels in worst if labels in known), *covered)))[:MAX_READ]
        ranges = week_ranges(rule, now_s)
        keys = [series_key(labels) for labels in first]
        read = [self._reader.read_slots(keys, wanted, now_s) for wanted in ranges]
        week = build_week(rule, first, ranges, read, is_part=len(covered) > len(first))
        with self._lock:
            while len(self._weeks) >= MAX_KEPT:
                del self._weeks[next(iter(self._weeks))]
            self._weeks[mark] = monotonic_s(), week
        return week
