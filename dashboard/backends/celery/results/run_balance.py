"""Finished runs as workers count them, compared with the records that arrived: do runs leave records at all?"""

from __future__ import annotations

from collections import Counter

from ....clock import monotonic_s
from ...completion_balance import BALANCED
from ..events import EventListener
from .ended_tasks import EndedTaskTally

# After listening this long, every worker that sends heartbeats (one every 2 s) is known.
HEARD_ALL_AFTER_S = 10.0


class RunBalance:
    """Counts the runs that workers report in their heartbeats, and weighs them against the records.

    `listener` receives the records, `workers` the heartbeats: the same if results are where the broker is.
    """

    def __init__(self, listener: EventListener, workers: EventListener, tally: EndedTaskTally) -> None:
        self._listener = listener
        self._workers = workers
        self._tally = tally
        self._since = monotonic_s()
        self._beats: dict[str, tuple[object, int, int]] = {}  # worker -> its process, tasks started, tasks finished
        self._first_beats: dict[str, object] = {}  # worker -> the time of its first heartbeat
        self._heard_again: set[str] = set()
        self._whole_since = monotonic_s()  # since when no event of the workers was missed
        self._unweighed: Counter[str] = Counter()  # finished runs, by prefix, not yet compared with the records
        self._records: Counter[str] = Counter()  # of runs, in the current call, by prefix
        self._late_runs: Counter[str] = Counter()

    @property
    def two_feeds(self) -> bool:
        """Whether records and heartbeats come from different servers, and so one of a task may arrive much later."""
        return self._workers is not self._listener

    @property
    def is_settled(self) -> bool:
        """Whether silence is meaningful by now: each worker with heartbeats has sent more than one."""
        return self._listener.is_connected and monotonic_s() - self._whole_since > HEARD_ALL_AFTER_S

    @property
    def heard_all_workers(self) -> bool:
        """Whether every worker that sends heartbeats is known by now."""
        return self._workers.is_connected and monotonic_s() - self._since > HEARD_ALL_AFTER_S

    def knows_all_runs(self, prefix: str) -> bool:
        """Whether tasks of `prefix` that finish without a record would be noticed: each of its workers has reported its
        number of runs twice by now, or has had the time to."""
        if monotonic_s() - self._since > HEARD_ALL_AFTER_S:
            return True
        beats = [(name, str(beat.get("prefix", ""))) for name, beat in list(self._workers.heartbeats.items())]
        heard = [name for name, where in beats if where == prefix]
        return len(heard) >= self._tally.traces.mailboxes.get(prefix, 0) and self._heard_again.issuperset(heard)

    def count_record(self, prefix: str) -> None:
        """Count a record that arrived, of a run that finished."""
        self._records[prefix] += 1

    def count_runs(self) -> None:
        """Count the runs of tasks that finished since the last call, by prefix, from heartbeats: the tasks a worker
        started, minus those it is still running.
        """
        now = monotonic_s()
        runs: Counter[str] = Counter()
        known = self._beats
        self._beats = {}
        for name, beat in list(self._workers.heartbeats.items()):
            begun, active = beat.get("processed"), beat.get("active")
            if not isinstance(begun, int) or not isinstance(active, int):
                continue
            if self._first_beats.setdefault(name, beat.get("at")) != beat.get("at"):
                self._heard_again.add(name)
            process, ended, prefix = beat.get("pid"), begun - active, str(beat.get("prefix", ""))
            self._beats[name] = (process, begun, ended)
            before = known.get(name)
            if before is not None and before[0] != process:
                before = (process, 0, 0)
            elif before is None:
                # If all other workers are already known, a new one has started since then.
                before = (process, 0, 0) if now - self._whole_since > HEARD_ALL_AFTER_S else self._beats[name]
            runs[prefix] += max(0, ended - before[2])
            self._tally.ended.started[prefix] += max(0, begun - before[1])
            if begun > before[1]:
                self._tally.traces.started_at[prefix] = now
        self._tally.ended.runs += runs
        self._unweighed += runs

    def weigh_records(self, *, whole: bool) -> None:
        """Compare the finished runs with the records that arrived in the same call."""
        runs, self._unweighed = self._unweighed, Counter()
        if self.two_feeds:
            # Two feeds: the records of these runs may arrive a little later.
            runs, self._late_runs = self._late_runs, runs
        if not whole:
            self._beats.clear()
            self._late_runs.clear()
            self._whole_since = monotonic_s()
        now = monotonic_s()
        records, self._records = self._records, Counter()
        self._tally.traces.recorded.update(records)
        for prefix in {*runs, *records, *self._tally.traces.balances}:
            ended = runs[prefix] if whole else 0
            balance = self._tally.traces.balances.get(prefix, BALANCED)
            self._tally.traces.balances[prefix] = balance.add(now, ended, records[prefix])
