"""The bodies of POST requests that act on jobs and queues: their fields and limits."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ...actions.audit_log import MAX_REASON
from ...actions.bulk.operation import DEFAULT_CANARY_WAIT_S, DEFAULT_PACE_PER_S, JobOrder
from ...backends.actions import MAX_BATCH, Action
from ...model import State
from ..forms.request_input import Body
from ..pages.bulk import operations as bulk
from ..pages.job_actions import MAX_TEXT

Text = Annotated[str, Meta(min_length=1)]
Reason = Annotated[str, Meta(max_length=MAX_REASON)]


class JobActionBody(Body, frozen=True, kw_only=True):
    """`state` and `stamp` apply the action only to the job as you saw it. Each other field belongs to one action."""

    state: State | None = None
    stamp: Text | None = None
    reason: Reason | None = None
    target: Text | None = None  # move
    payload: Annotated[str, Meta(max_length=MAX_TEXT)] | None = None  # edit
    reset_attempts: bool = False  # retry
    for_good: bool = False  # delete


class QueueActionBody(Body, frozen=True, kw_only=True):
    """`confirm` is the queue's name; required by `obliterate`."""

    reason: Reason | None = None
    confirm: str | None = None  # obliterate
    for_good: bool = False  # purge


class BulkBody(Body, frozen=True, kw_only=True):
    """Selects the jobs of one list (`source` to `native`), narrowed by `ids` or `q`, or those of an error group."""

    action: Action
    source: Text | None = None
    backend: Text | None = None
    queue: Text | None = None
    state: State | None = None
    native: Text | None = None
    ids: Annotated[tuple[str, ...], Meta(min_length=1, max_length=MAX_BATCH)] | None = None
    q: Annotated[str, Meta(min_length=1, max_length=bulk.MAX_QUERY)] | None = None
    fingerprint: Text | None = None
    preview: bool = False
    target: Text | None = None  # move
    reset_attempts: bool = False  # retry
    for_good: bool = False  # delete
    pace_per_s: Annotated[float, Meta(ge=0, le=bulk.MAX_PACE)] = DEFAULT_PACE_PER_S
    limit: Annotated[int, Meta(ge=1, le=bulk.MAX_LIMIT)] | None = None  # at most this many of the jobs
    order: JobOrder | None = None  # which of them come first; with a limit, the oldest by default
    canary: Annotated[int, Meta(ge=0, le=bulk.MAX_CANARY)] = 0
    canary_wait_s: Annotated[float, Meta(ge=1, le=3600)] = DEFAULT_CANARY_WAIT_S
    canary_max_ratio: Annotated[float, Meta(ge=0, le=1)] = 0.0
    reason: Reason | None = None


class ReasonBody(Body, frozen=True, kw_only=True):
    """`reason` is recorded in the audit log."""

    reason: Reason | None = None


ActionBody = JobActionBody | QueueActionBody | BulkBody
