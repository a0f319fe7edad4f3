"""The rights that roles include and grants name. Pure."""

from __future__ import annotations

from enum import StrEnum


class Right(StrEnum):
    """What a person may do. All but the last two are for particular queues."""

    VIEW = "view"  # see the queue, its jobs and its alerts; secrets are masked
    RETRY = "retry"  # run jobs again, earlier, elsewhere or with another payload; trigger schedules
    DELETE = "delete"  # delete, cancel, stop and kill jobs, purge and delete queues, remove schedules; undo it
    PAUSE = "pause"  # pause and resume queues and schedules, stop workers
    BULK = "bulk"  # act on many jobs at once, in addition to the right for the action
    ALERTS = "alerts"  # acknowledge and silence alerts
    PAYLOAD = "payload"  # see the masked values of a job, which is recorded
    RULES = "rules"  # change alert rules; only for all queues
    ADMIN = "admin"  # audit log, API tokens; only for all queues


# These concern the whole dashboard.
FOR_ALL_QUEUES = frozenset({Right.RULES, Right.ADMIN})
# With one of these, a person may change something.
ACTING = frozenset({Right.RETRY, Right.DELETE, Right.PAUSE, Right.BULK, Right.ALERTS})
