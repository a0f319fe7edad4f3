"""The sign-in page, and the record of who signed in."""

from __future__ import annotations

from flask import render_template, request

from ....actions.audit_log import Actor, build_event
from ....backends.actions import Outcome
from ...access import sessions
from ...context import app_context, app_services

SIGN_IN, SIGN_OUT = "sign in", "sign out"
DISABLED = "Sign-in is not enabled."


def render_sign_in(
    target: str, *, wrong: str | None = None, has_signed_out: bool = False, is_refused: bool = False
) -> str:
    """The page with every way to sign in. `target`: the path to open after it; `wrong`: why the last try failed.

    `is_refused`: the provider knows the user, who has no access here.
    """
    context = app_context()
    provider = context.oidc_provider
    return render_template(
        "signin.html",
        next=target,
        wrong=wrong,
        has_codes=has_codes(),
        has_users=bool(context.settings.users),
        provider=provider.settings.title if provider else None,
        has_signed_out=has_signed_out,
        is_refused=is_refused,
        sign_out_url=sessions.provider_sign_out() if has_signed_out else None,
    )


def has_codes() -> bool:
    """Whether any local user needs a one-time code."""
    return any(user.totp_secret is not None for user in app_context().settings.users)


def record_sign_in(action: str, name: str, role: str, outcome: Outcome, detail: str | None = None) -> None:
    """Record it in the audit log and the server log. Cost: 1 round trip."""
    actor = Actor(name=name, role=role, address=request.remote_addr)
    app_services().action_service.audit_log.record_event(
        build_event(actor, action, count=1, outcomes={outcome.value: 1}, detail=detail)
    )
