"""Events of the audit log in words: "retried 2 of 3 dead jobs". Pure."""

from __future__ import annotations

from ...actions.audit_log import AuditEvent
from ...backends.actions import Outcome
from ...units import format_count
from ..formatting import one_line
from .flash import THINGS

# Action -> what its user did, and what was tried where nothing was done. {} is what it was done to.
_JOB_LINES = {
    "retry": ("retried {}", "retry {}"),
    "delete": ("deleted {}", "delete {}"),
    "promote": ("promoted {}", "promote {}"),
    "kill": ("moved {} to dead letters", "move {} to dead letters"),
    "cancel": ("canceled {}", "cancel {}"),
    "stop": ("asked {} to stop", "stop {}"),
    "duplicate": ("duplicated {}", "duplicate {}"),
    "edit": ("edited and re-ran {}", "edit and re-run {}"),
    "move": ("moved {}", "move {}"),
    "undo": ("restored {}", "restore {}"),
    "reveal": ("revealed the masked values of {}", "reveal the masked values of {}"),
}
_QUEUE_LINES = {
    "pause": ("paused {}", "pause {}"),
    "resume": ("resumed {}", "resume {}"),
    "purge": ("purged {}", "purge {}"),
    "obliterate": ("deleted {}", "delete {}"),
}
_NAMED_LINES = {
    "trigger": ("triggered {}", "trigger {}"),
    "pause_schedule": ("paused {}", "pause {}"),
    "resume_schedule": ("resumed {}", "resume {}"),
    "remove_schedule": ("removed {}", "remove {}"),
    "quiet": ("quieted {}", "quiet {}"),
    "stop_worker": ("asked {} to stop", "stop {}"),
    "create rule": ("created {}", "create {}"),
    "edit rule": ("edited {}", "edit {}"),
    "enable rule": ("enabled {}", "enable {}"),
    "disable rule": ("disabled {}", "disable {}"),
    "delete rule": ("deleted {}", "delete {}"),
    "send test notification": ("sent a test notification to {}", "send a test notification to {}"),
}
_ALERT_LINES = {
    "acknowledge": ("acknowledged {}", "acknowledge {}"),
    "silence": ("silenced {}", "silence {}"),
    "expire silence": ("ended the silence of {}", "end the silence of {}"),
}
_MARK_LINES = {
    "add mark": ("added the mark {}", "add the mark {}"),
    "delete mark": ("deleted the mark {}", "delete the mark {}"),
}
_TOKEN_LINES = {
    "create token": ("created the API token {}", "create the API token {}"),
    "revoke token": ("revoked the API token {}", "revoke the API token {}"),
}
_GROUP_LINES = {
    "acknowledge error group": ("acknowledged the error", "acknowledge the error"),
    "unacknowledge error group": ("unacknowledged the error", "unacknowledge the error"),
    "ignore error group": ("ignored the error", "ignore the error"),
    "notice error group": ("stopped ignoring the error", "stop ignoring the error"),
    "resolve error group": ("resolved the error", "resolve the error"),
    "reopen error group": ("reopened the error", "reopen the error"),
    "note error group": ("changed the notes of the error", "change the notes of the error"),
}
_BULK_LINES = {
    "start bulk operation": ("started a bulk operation", "start a bulk operation"),
    "pause bulk operation": ("paused a bulk operation", "pause a bulk operation"),
    "resume bulk operation": ("resumed a bulk operation", "resume a bulk operation"),
    "abort bulk operation": ("aborted a bulk operation", "abort a bulk operation"),
    "start undo of bulk operation": ("started to restore what was deleted", "restore what was deleted"),
    "pause undo of bulk operation": ("paused the restore", "pause the restore"),
    "resume undo of bulk operation": ("resumed the restore", "resume the restore"),
    "abort undo of bulk operation": ("aborted the restore", "abort the restore"),
}
_OTHER_LINES = {
    "resend notification": ("resent a notification", "resend a notification"),
    "dismiss notification": ("dismissed a notification", "dismiss a notification"),
    "refused action": ("acted", "act without the role for it"),
    "sign in": ("signed in", "sign in"),
    "sign out": ("signed out", "sign out"),
    "export audit log": ("exported {}", "export {}"),
}
_LINES = {
    **_JOB_LINES,
    **_QUEUE_LINES,
    **_NAMED_LINES,
    **_ALERT_LINES,
    **_MARK_LINES,
    **_TOKEN_LINES,
    **_GROUP_LINES,
    **_BULK_LINES,
    **_OTHER_LINES,
}
# The actions by which the log can be filtered, in groups.
ACTION_CHOICES = (
    ("Jobs", tuple(_JOB_LINES)),
    ("Queues", tuple(_QUEUE_LINES)),
    ("Schedules and workers", tuple(name for name in _NAMED_LINES if THINGS.get(name) in ("schedule", "worker"))),
    ("Bulk operations", tuple(_BULK_LINES)),
    ("Dead letters", tuple(_GROUP_LINES)),
    ("Alerts", (*_ALERT_LINES, *(name for name in _OTHER_LINES if "notification" in name), "send test notification")),
    ("Rules", tuple(name for name in _NAMED_LINES if name.endswith(" rule"))),
    ("Audit log", ("export audit log",)),
    ("Marks", tuple(_MARK_LINES)),
    ("Sign-in", ("sign in", "sign out", "refused action")),
    ("API tokens", tuple(_TOKEN_LINES)),
)
_NAMES = {"rule": "rule ", "notification": "channel ", "schedule": "schedule ", "worker": "worker "}


def audit_line(event: AuditEvent) -> str:
    """What the user did, without who and where: "retried 2 of 3 dead jobs", "tried to pause queue"."""
    done, tried = _LINES.get(event.action, (one_line(event.action, 60), one_line(event.action, 60)))
    line = done if is_done(event) else f"tried to {tried}"
    return line.replace("{}", _object_of(event))


def place_word(event: AuditEvent) -> str:
    """The word between the line and the queue of the event."""
    return "" if event.action in _QUEUE_LINES else "in"


def names_object(event: AuditEvent) -> bool:
    """Whether the line already has the detail: the name of what it was done to."""
    return any(event.action in lines for lines in (_ALERT_LINES, _MARK_LINES, _TOKEN_LINES))


def is_done(event: AuditEvent) -> bool:
    """Whether at least a part was done; where nothing is counted, all of it."""
    return event.outcomes is None or event.outcomes.get(Outcome.DONE.value, 0) > 0 or event.action in _BULK_LINES


def is_complete(event: AuditEvent) -> bool:
    """Whether everything was done, so that the outcomes need no words."""
    if event.outcomes is None:
        return True
    done = event.outcomes.get(Outcome.DONE.value, 0)
    return 0 < done == sum(event.outcomes.values()) and (event.action not in _JOB_LINES or done >= event.count)


def has_job_ids(event: AuditEvent) -> bool:
    """Whether its ids are worth showing: those that its line does not name already."""
    return bool(event.ids) and (event.action in _JOB_LINES or event.action not in _LINES)


def _object_of(event: AuditEvent) -> str:
    if event.action == "export audit log":
        return f"{format_count(event.count, 'event')} of the audit log"
    if event.action in _JOB_LINES:
        return _count_jobs(event)
    if event.action in _QUEUE_LINES:
        return "queue"
    if event.action in _ALERT_LINES:
        return _name_alerts(event)
    if event.action in _MARK_LINES or event.action in _TOKEN_LINES:
        return one_line(event.detail or "", 160)
    kind = THINGS.get(event.action) or event.action.rpartition(" ")[2]
    return _NAMES.get(kind, "") + (one_line(event.ids[0], 120) if event.ids else "")


def _count_jobs(event: AuditEvent) -> str:
    """The number of jobs, and how many of them were done; what was restored can be a schedule."""
    word = "item" if event.action == "undo" and event.state is None else "job"
    what = format_count(event.count, f"{event.state} {word}" if event.state else word)
    done = (event.outcomes or {}).get(Outcome.DONE.value, event.count)
    return f"{done:,} of {what}" if 0 < done < event.count else what


def _name_alerts(event: AuditEvent) -> str:
    """The alerts by the name of their rule; events of earlier versions have only ids."""
    name = one_line(event.detail, 160) if event.detail else ""
    if event.action != "acknowledge":
        return name or "alerts"
    many = f"{event.count:,} alerts"
    return (f"{many}: {name}" if name else many) if event.count > 1 else name or "an alert"
