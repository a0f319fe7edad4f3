"""The question before an action that destroys: it names the object, says what happens, and holds the form that does it.

The same question is a page without script and a dialog with it (static/js/confirm.js).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ...backends.actions import Action
from ...clock import iso
from ...model import Job, QueueStats, Schedule, Value, Worker
from ...store.packing import pack
from ...units import format_count
from ..formatting import format_moment, interval, one_line, queue_title
from .flash import DANGER, VERBS, bulk_verb

# Actions that pages offer only with this question. A quiet worker needs a restart to fetch jobs again.
CONFIRMED = DANGER | {"quiet"}
RESTORABLE = "Deleted jobs can be restored for 24 hours."
MAX_NAMES = 5

Facts = tuple[tuple[str, str], ...]


class Confirmation(Value, frozen=True, kw_only=True):
    """One question. `facts` are (label, text) and distinguish the object from others; `notes` say what happens.

    The form goes to `target` with `fields`; `cancel` is where it goes otherwise. `name_to_type`: what must be typed
    before an action that cannot be undone. `reason`: what was already entered. `destroys`: whether the verb is red.
    """

    heading: str
    verb: str
    facts: Facts
    notes: tuple[str, ...]
    target: str
    fields: Facts
    cancel: str
    name_to_type: str | None = None
    reason: str = ""
    destroys: bool = True


def row_stamp(row: Worker | Schedule) -> str:
    """What identifies this version of a row: another worker or schedule under the same id has another stamp."""
    if isinstance(row, Worker):
        parts = [row.hostname, str(row.pid), iso(row.started_at) if row.started_at else None]
    else:
        parts = [row.name, row.pattern, row.timezone]
    return hashlib.blake2b(pack(parts), digest_size=8).hexdigest()


def worker_heading(action: Action, worker: Worker) -> str:
    """The question about a worker."""
    return f"{VERBS[action]} worker {one_line(worker.id, 120)}?"


def worker_facts(worker: Worker, title: str) -> Facts:
    """What distinguishes a worker from others, and what it runs now; `title` is the library's."""
    host = one_line(worker.hostname or "", 120) + (f", process {worker.pid}" if worker.pid is not None else "")
    running = [work.job_name or work.job_id for work in worker.work]
    if not running and worker.busy:
        running = [format_count(worker.busy, "job")]
    return _known(
        ("Library", title),
        ("Redis", worker.source),
        ("Host", host.removeprefix(", ")),
        ("Queues", list_names(worker.queues)),
        ("Running now", list_names(running) or ("nothing" if worker.busy == 0 else "")),
    )


def schedule_heading(action: Action, schedule: Schedule) -> str:
    """The question about a schedule."""
    return f"{VERBS[action]} schedule {one_line(schedule.name or schedule.id, 120)}?"


def schedule_facts(schedule: Schedule, title: str) -> Facts:
    """What distinguishes a schedule from others; `title` is the library's."""
    return _known(
        ("Library", title),
        ("Redis", schedule.source),
        ("ID", one_line(schedule.id, 120) if schedule.name and schedule.name != schedule.id else ""),
        ("Queue", one_line(schedule.queue or "", 120)),
        ("When", one_line(interval(schedule.pattern or ""), 120)),
        ("Next run", f"{format_moment(schedule.next_run_at)} UTC" if schedule.next_run_at else ""),
    )


def job_heading(action: Action, job: Job) -> str:
    """The question about one job."""
    shown = f"job {one_line(job.id, 120)}"
    return f"{bulk_verb(action, shown) if action is Action.KILL else f'{VERBS[action]} {shown}'}?"


def job_facts(job: Job, queue: QueueStats, title: str) -> Facts:
    """What distinguishes a job from others; `title` is the library's."""
    return _known(
        ("Job", one_line(job.name or "", 120)),
        *queue_facts(queue, title),
        ("State", job.state.value if job.state else "not in any list"),
    )


def jobs_heading(action: Action, count: int) -> str:
    """The question about selected jobs."""
    return f"{bulk_verb(action, format_count(count, 'job'))}?"


def queue_facts(queue: QueueStats, title: str) -> Facts:
    """What distinguishes a queue from others; `title` is the library's."""
    return (("Queue", queue_title(queue, title, 200)), ("Library", title), ("Redis", queue.source))


def list_names(names: Sequence[str]) -> str:
    """The first names in one line, and how many more there are; "" for none."""
    shown = ", ".join(one_line(name, 60) for name in names[:MAX_NAMES])
    more = len(names) - MAX_NAMES
    return f"{shown} and {more:,} more" if more > 0 else shown


def action_notes(action: Action, help_text: str) -> tuple[str, ...]:
    """What the action does in the words of the library, and whether it can be undone."""
    notes = (help_text, RESTORABLE if action is Action.DELETE else "")
    return tuple(note for note in notes if note)


def _known(*facts: tuple[str, str]) -> Facts:
    return tuple((label, text) for label, text in facts if text)
