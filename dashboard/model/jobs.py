"""Jobs: one in full, and pages of a list of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from .base import State, Value
from .queues import QueueRef


class Payload(Value, frozen=True, kw_only=True):
    """A value that the app stored, decoded as far as is safe; never unpickled.

    `kind`: json (`value` is the decoded, redacted value), text, binary, opaque (pickled: `text` is a description made
    without unpickling it) or missing. `text` is always printable. `truncated`: Redis holds more bytes than were read.
    """

    kind: str
    text: str
    value: Any = None
    size_bytes: int | None = None
    truncated: bool = False
    note: str | None = None


class Argument(Value, frozen=True, kw_only=True):
    """An argument of a job: its name, or its position from "1", and its value as text with secrets masked.

    `cut`: the value is longer than `text`.
    """

    name: str
    text: str
    cut: bool = False


class JobError(Value, frozen=True, kw_only=True):
    """The last failure of a job."""

    class_name: str | None = None
    message: str | None = None
    stack: str | None = None


class TimelineEvent(Value, frozen=True, kw_only=True):
    """One event in the life of a job. `event` is one or two lower-case words, `detail` is free text."""

    at: datetime
    event: str
    detail: str | None = None


class JobLink(Value, frozen=True, kw_only=True):
    """A parent or child of a job. `ref` is None if its queue is not one that Queuedeck can address."""

    id: str
    queue: str
    ref: QueueRef | None = None
    state: State | None = None
    native_state: str | None = None


class Job(Value, frozen=True, kw_only=True):
    """One job. In lists the detail fields (payload, result, stack, logs, timeline, links) are empty.

    `problem` says in one line what is wrong with the data of the job; the other fields then hold what could be read.
    """

    id: str
    source: str
    backend: str
    queue: str
    version: str | None = None  # changes whenever the job finishes again; see backends/actions.py
    name: str | None = None
    state: State | None = None  # None: in none of the library's lists
    native_state: str | None = None
    enqueued_at: datetime | None = None
    scheduled_for: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempts: int | None = None
    max_attempts: int | None = None
    priority: int | None = None
    progress: Any = None
    worker: str | None = None
    summary: str | None = None  # arguments in one line, if the library stores them as plain text
    error: JobError | None = None
    payload: Payload | None = None
    options: Payload | None = None
    result: Payload | None = None
    meta: Payload | None = None
    timeline: tuple[TimelineEvent, ...] = ()
    parent: JobLink | None = None
    children: tuple[JobLink, ...] = ()
    children_total: int | None = None
    logs: tuple[str, ...] = ()
    logs_total: int | None = None
    jobs_ahead: int | None = None  # waiting jobs that start before this one
    facts: tuple[tuple[str, str], ...] = ()  # details specific to this library: (label, text)
    problem: str | None = None
    abandoned: bool = False  # not in any list, or active without a worker: it will not continue


class JobQuery(Value, frozen=True, kw_only=True):
    """A page of a list of jobs: a state, and optionally one of the library's own lists within it.

    `start` = the number of rows before it, where that is not a whole number of pages.
    """

    state: State
    native: str | None = None
    page: int = 1
    per_page: int = 50
    start: int | None = None

    @property
    def offset(self) -> int:
        """The number of rows before this page."""
        return (self.page - 1) * self.per_page if self.start is None else self.start


class JobPage(Value, frozen=True, kw_only=True):
    """One page of jobs. `order` describes its sort order, for the caption of the page."""

    jobs: tuple[Job, ...]
    page: int
    per_page: int
    total: int | None
    order: str
    scanned: int | None = None
    truncated: bool = False
    at_least: bool = False  # there are `total` jobs and possibly more that are not listed
    problems: tuple[str, ...] = ()  # the parts of the list that could not be read, and why; no figure counts their jobs
