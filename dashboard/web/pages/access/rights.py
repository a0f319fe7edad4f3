"""What a person may do, and why: for administrators about anyone, for everyone about themselves."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, g, render_template, request

from ....auth import Identity, Role
from ....errors import QueuedeckError, Unsupported
from ....rights.rights import Rights
from ...access.security import rights_of
from ...context import app_context, app_services
from ...views.rights.rights_table import (
    list_grants,
    list_own_grants,
    list_queues,
    list_rights,
    role_by_settings,
)
from .. import layout

bp = Blueprint("rights", __name__)
own_bp = Blueprint("own_rights", __name__)

MAX_NAME = 200
ROLES = ("viewer", "operator", "admin")


@bp.get("/rights")
def index() -> str:
    """The grants of the settings, and the rights of the user or token that the query names. Cost: none; 1 round trip
    for a token that was created on the page."""
    name = request.args.get("name", "").strip()[:MAX_NAME]
    groups = [each for part in request.args.get("groups", "").split(",")[:MAX_NAME] if (each := part.strip())]
    is_token = _asked_word("kind", ("user", "token"), "user") == "token"
    chosen = _asked_word("role", ("", *ROLES), "")
    asked = {"name": name, "groups": ", ".join(groups), "kind": "token" if is_token else "user", "role": chosen}
    more: dict[str, Any] = {"asked": asked, "grants": list_grants(app_context().settings.grants), "roles": ROLES}
    if name:
        role = Role[chosen.upper()] if chosen else _role_of(name, groups, is_token=is_token)
        person = Identity(name=name, role=role or Role.VIEWER, groups=tuple(groups), is_token=is_token)
        has_access = role is not None or app_context().rights.is_granted(name, groups)
        more |= {"person": person, "role": role, "has_access": has_access} | _describe(person)
    return _render("access/rights.html", more)


@own_bp.get("/rights/me")
def own() -> str:
    """The rights of the user who asks. Cost: none."""
    person: Identity = g.identity
    return _render(
        "access/own_rights.html", {"person": person, "rows": list_rights(g.rights, None)} | _queues(g.rights)
    )


def _describe(person: Identity) -> dict[str, Any]:
    rights = rights_of(person)
    return {"rows": list_rights(rights, _asked_queue()), "decided_by": list_own_grants(rights)} | _queues(rights)


def _queues(rights: Rights) -> dict[str, Any]:
    snapshot = app_services().snapshots.current().snapshot
    rows, count = list_queues(rights, snapshot.queues if snapshot else ())
    return {"queues": rows, "queues_count": count, "titles": app_services().sources.titles}


def _asked_word(name: str, words: tuple[str, ...], default: str) -> str:
    """One of `words` from the query. Raises Unsupported for another one."""
    word = request.args.get(name, default)
    if word not in words:
        raise Unsupported(f"{name}={word[:50]!r}: expected one of {', '.join(filter(None, words))}.")
    return word


def _asked_queue() -> tuple[str, str, str] | None:
    """The queue that the query names as SOURCE/LIBRARY/NAME. Raises Unsupported for another form."""
    text = request.args.get("queue", "").strip()
    if not text:
        return None
    source, _, rest = text.partition("/")
    backend, _, name = rest.partition("/")
    if not name:
        raise Unsupported("queue: expected SOURCE/LIBRARY/NAME, such as main/rq/mail.")
    return source, backend, name


def _role_of(name: str, groups: list[str], *, is_token: bool) -> Role | None:
    found = role_by_settings(app_context().settings, name, groups, is_token=is_token)
    store = app_context().token_store
    if found is not None or not is_token or store is None:
        return found
    try:
        tokens = [each.token for each in store.list_tokens().tokens]
    except QueuedeckError:
        return None
    return next((Role[token.role.upper()] for token in tokens if token.name == name), None)


def _render(template: str, more: dict[str, Any]) -> str:
    return render_template(template, **layout.page_context(app_services().snapshots.current(), ""), **more)
