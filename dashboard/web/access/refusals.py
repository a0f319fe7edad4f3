"""The record of what users tried without the role for it."""

from __future__ import annotations

from flask import request

from ...actions.audit_log import Actor, build_event
from ...auth import Identity
from ...backends.actions import Outcome
from ...redact import masked_logger
from ..context import app_services
from .sign_in_limits import AttemptCounter, SignInAttempt

log = masked_logger(__name__)
_refusals = AttemptCounter()
MAX_PATH = 200


def record_refusal(identity: Identity, why: str) -> None:
    """Record in the audit log that the user has tried to change something, and why that was refused: "which needs the
    operator role". The server log has what exceeds the limits, so that a viewer cannot fill the audit log. Never
    raises. Cost: 2 round trips."""
    detail = f"{request.method} {request.path[:MAX_PATH]}, {why}"
    attempt = SignInAttempt(name=f"refused\0{identity.name}", address=None)
    if not _refusals.count_attempt(app_services().store, attempt).is_recorded:
        log.warning("%s was refused: %s; too many to record in the audit log", identity.name, detail)
        return
    actor = Actor(name=identity.name, role=identity.role.name.lower(), address=request.remote_addr)
    event = build_event(actor, "refused action", count=1, outcomes={Outcome.REFUSED.value: 1}, detail=detail)
    app_services().action_service.audit_log.record_event(event)
