"""The right that each route requires."""

from __future__ import annotations

from dataclasses import dataclass

from ...auth import Identity, Role
from ...errors import Forbidden
from ...rights.right import Right
from ...rights.rights import Rights

ONLY_SOME = "This is about all queues together, and you may see only some of them."


@dataclass(frozen=True, slots=True)
class Required:
    """What a route requires: a role, or instead of it a right of those who have it without the role.

    `whole`: the route shows or changes what concerns all queues together, so that it requires to see all of them. The
    others leave out the queues that the user may not see.
    """

    role: Role
    right: Right | None = None
    whole: bool = False


# What each blueprint or endpoint requires. One that is not listed fails at start. None = public.
ROUTES: dict[str, Required | None] = {
    "static": None,
    "health": None,
    "metrics": None,  # checks itself: requires a token, unless it is public
    "overview": Required(Role.VIEWER),
    "queues": Required(Role.VIEWER),
    "charts": Required(Role.VIEWER),
    "redis": Required(Role.VIEWER, whole=True),
    "redis_memory": Required(Role.VIEWER, whole=True),
    "redis_leftovers": Required(Role.VIEWER, whole=True),
    "classes": Required(Role.VIEWER, whole=True),
    "slos": Required(Role.VIEWER, whole=True),
    "api_slos": Required(Role.VIEWER, whole=True),
    "incidents": Required(Role.VIEWER, whole=True),
    "api_incidents": Required(Role.VIEWER, whole=True),
    "jobs": Required(Role.VIEWER),
    "reveal": Required(Role.ADMIN, right=Right.PAYLOAD),
    "api_reveal": Required(Role.ADMIN, right=Right.PAYLOAD),
    "workers": Required(Role.VIEWER),
    "schedules": Required(Role.VIEWER),
    "search": Required(Role.VIEWER),
    "search_actions": Required(Role.OPERATOR),
    "api": Required(Role.VIEWER),
    "api_history": Required(Role.VIEWER),
    "api_marks": Required(Role.VIEWER),
    "api_marks_edit": Required(Role.OPERATOR, whole=True),
    "marks_edit": Required(Role.OPERATOR, whole=True),
    "api_redis": Required(Role.VIEWER, whole=True),
    "openapi": Required(Role.VIEWER),
    "palette": Required(Role.VIEWER),
    "dead": Required(Role.VIEWER),
    "dead_letter_actions": Required(Role.OPERATOR),
    "notes": Required(Role.OPERATOR),
    "api_dead": Required(Role.VIEWER),
    "signin": None,
    "job_actions": Required(Role.OPERATOR),
    "confirmations": Required(Role.OPERATOR),
    "bulk": Required(Role.VIEWER),
    "bulk_edit": Required(Role.OPERATOR),
    "trash": Required(Role.VIEWER),
    "trash_edit": Required(Role.OPERATOR),
    "audit": Required(Role.ADMIN, whole=True),
    "alerting": Required(Role.VIEWER),
    "alerting_edit": Required(Role.OPERATOR),
    "api_alerting": Required(Role.VIEWER),
    "api_alerting_edit": Required(Role.OPERATOR),
    "rules": Required(Role.VIEWER, whole=True),
    "rules_edit": Required(Role.ADMIN, right=Right.RULES, whole=True),
    "api_rules": Required(Role.ADMIN, right=Right.RULES, whole=True),
    "api_acts": Required(Role.OPERATOR),
    "api_bulk": Required(Role.VIEWER),
    "api_trash": Required(Role.VIEWER),
    "api_trash_edit": Required(Role.OPERATOR),
    "api_audit": Required(Role.ADMIN, whole=True),
    "tokens": Required(Role.ADMIN, whole=True),
    "rights": Required(Role.ADMIN, whole=True),
    "own_rights": Required(Role.VIEWER),
    "tokens_edit": Required(Role.ADMIN, whole=True),
}


def is_listed(endpoint: str) -> bool:
    """Whether the table has an entry for that endpoint."""
    return endpoint.partition(".")[0] in ROUTES


def required_of(endpoint: str | None) -> Required | None:
    """What the route of an endpoint requires; None for a public one. An address without a route requires to sign in."""
    return ROUTES.get((endpoint or "").partition(".")[0], Required(Role.VIEWER))


def find_obstacle(identity: Identity, rights: Rights, required: Required) -> Forbidden | None:
    """Why a user may not use a route; None if the user may. `identity` has the role that the rights amount to."""
    if not rights.has(Right.VIEW):
        return Forbidden(
            f"{identity.name} may not see any queue.", hint="An administrator can add a grant to the settings."
        )
    if required.right is not None and identity.role < required.role and rights.has(required.right):
        return None
    if identity.role < required.role:
        needed, has = required.role.name.lower(), identity.role.name.lower()
        return Forbidden(f"You need the {needed} role for this; {identity.name} has the {has} role.")
    if required.whole and not rights.sees_all:
        return Forbidden(ONLY_SOME)
    return None
