"""The top errors of one queue, for a notification that must not wait: read within a fixed time, or left out."""

from __future__ import annotations

import queue as queues_of_threads
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..clock import monotonic_s
from ..errors import QueuedeckError
from ..lazy_thread import LazyThread
from ..model import Job, QueueStats, Searched, State
from ..redact import mask_text, masked_logger
from .fingerprint import error_title, normalize_job_error
from .lists import BackendOf, DeadLetterList, ListUnreadable, read_window

log = masked_logger(__name__)

GROUPS = 3
ROWS = 100
# All notifications within BUDGET_PERIOD_S together wait at most this long.
BUDGET_S = 0.3
BUDGET_PERIOD_S = 5.0
# Results are cached this long: several rules can fire for one queue at the same time.
KEEP_S = 20.0
MAX_KEPT = 200
RECENT_S = 3600.0
MAX_TEXT = 160

_Key = tuple[str, str, str]


@dataclass(slots=True)
class _Task:
    key: _Key
    dead_list: DeadLetterList
    only: str | None  # the queue to include, if the list is shared by all queues
    done: threading.Event = field(default_factory=threading.Event)


class TopErrors:
    """Reads one queue after the other in a dedicated thread, so that a hanging Redis does not block the caller."""

    def __init__(self, backend_of: BackendOf, budget_s: float = BUDGET_S) -> None:
        self._backend_of = backend_of
        self._budget_s = budget_s
        self._left_s = budget_s
        self._period_ends = float("-inf")  # monotonic
        self._tasks: queues_of_threads.Queue[_Task | None] = queues_of_threads.Queue(maxsize=1)
        self._kept: dict[_Key, tuple[float, tuple[str, ...]]] = {}
        self._thread = LazyThread("queuedeck-top-errors", self._run_loop)

    def top_errors_of(self, source: str, backend: str, name: str, queues: Sequence[QueueStats]) -> tuple[str, ...]:
        """The GROUPS most frequent errors among the newest dead letters of a queue, as text; () if there are none, or
        if there was no time. Never raises. Call it from one thread only.

        Cost: at most 2 round trips in another thread, for ROWS rows; the caller waits at most as long as the budget.
        """
        key = (source, backend, name)
        kept = self._kept.get(key)
        if kept is not None and monotonic_s() - kept[0] < KEEP_S:
            return kept[1]
        task = self._build_task(key, queues)
        if task is None:
            return ()
        began = monotonic_s()
        if began >= self._period_ends:
            self._left_s, self._period_ends = self._budget_s, began + BUDGET_PERIOD_S
        if self._left_s <= 0:
            return ()
        self._thread.start()
        try:
            self._tasks.put_nowait(task)
        except queues_of_threads.Full:  # the thread is still reading another queue
            return ()
        done = task.done.wait(self._left_s)
        self._left_s -= monotonic_s() - began
        found = self._kept.get(key) if done else None
        return found[1] if found else ()

    def stop(self) -> None:
        """Stop the thread if it is idle; otherwise it does not block the exit."""
        if self._thread.has_started:
            try:
                self._tasks.put_nowait(None)
            except queues_of_threads.Full:
                return
            self._thread.join(1.0)

    def _build_task(self, key: _Key, queues: Sequence[QueueStats]) -> _Task | None:
        """What to read; None if there are no dead letters, or no list of them."""
        source, backend, name = key
        mine = [each for each in queues if each.source == source and each.backend == backend]
        queue = next((each for each in mine if each.name == name), None)
        try:
            if queue is None or State.DEAD not in self._backend_of(source, backend).states:
                return None
        except QueuedeckError:
            return None
        if queue.counts.dead:
            return _Task(key, DeadLetterList(queue, State.DEAD, queue.counts.dead), None)
        for other in mine:
            if other.shared and other.prefix == queue.prefix and other.counts.dead:
                only = name.removeprefix(f"{queue.prefix}:") if queue.prefix else name
                return _Task(key, DeadLetterList(other, State.DEAD, other.counts.dead), only)
        return None

    def _run_loop(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                self._store_texts(task.key, self._read_errors(task))
            except ListUnreadable as exc:
                log.info("no top errors in the notification about %r: %s", task.key[2], exc)
            except Exception:
                log.exception("no top errors in the notification about %r", task.key[2])
            finally:
                task.done.set()

    def _store_texts(self, key: _Key, texts: tuple[str, ...]) -> None:
        if len(self._kept) >= MAX_KEPT:
            self._kept.pop(next(iter(self._kept)), None)
        self._kept.pop(key, None)
        self._kept[key] = (monotonic_s(), texts)

    def _read_errors(self, task: _Task) -> tuple[str, ...]:
        rows = read_window(task.dead_list, self._backend_of, 1, ROWS)
        now = self._backend_of(task.dead_list.queue.source, task.dead_list.queue.backend).source.now_s()
        return texts_of([row for row in rows if task.only is None or row.job.queue == task.only], now)


def texts_of(rows: Sequence[Searched], now: float) -> tuple[str, ...]:
    """The most frequent errors of the last hour, or of all rows if no job died within it.

    Each as its newest message, with secrets masked. Pure.
    """
    recent = [row for row in rows if row.job.finished_at and now - row.job.finished_at.timestamp() <= RECENT_S]
    shown = recent or rows
    by_error: dict[str, list[Job]] = {}
    for row in shown:
        by_error.setdefault(normalize_job_error(row.job, row.stack).fingerprint, []).append(row.job)
    frequent = sorted(by_error.values(), key=lambda jobs: -len(jobs))[:GROUPS]
    among = f"the {len(shown)} dead letters from the last hour" if recent else f"the newest {len(shown)} dead letters"
    return tuple(f"{_newest_error(jobs)} ({len(jobs)} of {among})" for jobs in frequent)


def _newest_error(jobs: Sequence[Job]) -> str:
    """The error of the newest of these jobs, which died of the same error: the real one, not its pattern."""
    newest = max(jobs, key=lambda job: job.finished_at.timestamp() if job.finished_at else 0.0)
    class_name, message = (newest.error.class_name, newest.error.message) if newest.error else (None, newest.problem)
    text = mask_text(error_title(class_name, message))
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
