"""The rights of a person as pages show them: which are given where, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ....auth import Role, highest_role
from ....model import QueueStats
from ....rights.grants import Grant
from ....rights.right import FOR_ALL_QUEUES, Right
from ....rights.rights import Decision, Rights
from ....settings import GrantSettings, Settings

MOST_QUEUES = 100
MEANINGS = {
    Right.VIEW: "see queues, jobs and alerts, with secrets masked",
    Right.RETRY: "retry, promote, move, duplicate and edit jobs; trigger schedules",
    Right.DELETE: "delete, cancel and stop jobs; purge and delete queues; undo deletes",
    Right.PAUSE: "pause and resume queues and schedules; stop workers",
    Right.BULK: "bulk operations, with the right for their action",
    Right.ALERTS: "acknowledge and silence alerts",
    Right.PAYLOAD: "reveal the masked values of a job",
    Right.RULES: "change alert rules",
    Right.ADMIN: "audit log, API tokens, longer silences",
}


@dataclass(frozen=True, slots=True)
class RightRow:
    """One right: on how many queues it is given ("all", "some", "none"), and what decides about the asked queue."""

    right: Right
    meaning: str
    extent: str
    decision: Decision | None


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A queue that the person sees, and the rights on it."""

    queue: QueueStats
    rights: tuple[Right, ...]


@dataclass(frozen=True, slots=True)
class GrantRow:
    """A grant of the settings in words."""

    number: int
    named: tuple[str, ...]
    place: str
    is_denial: bool
    rights: tuple[str, ...]


def list_rights(rights: Rights, asked: tuple[str, str, str] | None) -> list[RightRow]:
    """All rights; `asked`: source, library and name of a queue."""
    return [
        RightRow(right, MEANINGS[right], _extent(rights, right), rights.explain(right, *asked) if asked else None)
        for right in Right
    ]


def _extent(rights: Rights, right: Right) -> str:
    if not rights.has(right):
        return "none"
    return "all" if right in FOR_ALL_QUEUES or rights.may_everywhere(right) else "some"


def list_queues(rights: Rights, queues: Iterable[QueueStats]) -> tuple[list[QueueRow], int]:
    """(the first MOST_QUEUES queues that the person sees, how many there are)."""
    seen = [queue for queue in queues if rights.may(Right.VIEW, queue.source, queue.backend, queue.name)]
    own = [right for right in Right if right not in FOR_ALL_QUEUES]
    rows = [
        QueueRow(queue, tuple(right for right in own if rights.may(right, queue.source, queue.backend, queue.name)))
        for queue in seen[:MOST_QUEUES]
    ]
    return rows, len(seen)


def list_grants(grants: Sequence[GrantSettings]) -> list[GrantRow]:
    """The grants of the settings, in their order."""
    return [
        GrantRow(
            number,
            (
                *(("all users",) if "*" in grant.users else (f"user {name}" for name in grant.users)),
                *(f"group {name}" for name in grant.groups),
                *(("all tokens",) if "*" in grant.tokens else (f"token {name}" for name in grant.tokens)),
            ),
            place_of(grant.source, grant.backend, grant.queues),
            bool(grant.deny),
            grant.allow or grant.deny,
        )
        for number, grant in enumerate(grants, 1)
    ]


def list_own_grants(rights: Rights) -> list[tuple[Grant, str]]:
    """What gives and denies the rights of a person, each with the queues that it is about."""
    return [(grant, place_of(grant.source, grant.backend, grant.queues)) for grant in rights.grants]


def place_of(source: str, backend: str, queues: Sequence[str]) -> str:
    """The queues of a grant in words: "mail-*, of bullmq on eu-1"."""
    place = "all queues" if "*" in queues else ", ".join(queues)
    if backend != "*":
        place += f" of {backend}"
    return place if source == "*" else f"{place} on {source}"


def role_by_settings(settings: Settings, name: str, groups: Sequence[str], *, is_token: bool) -> Role | None:
    """The role that the settings give to a token, or to a user with that name in these groups; None without one."""
    if is_token:
        return highest_role(role for token, role, _ in (t.split(":") for t in settings.api_tokens) if token == name)
    for user in settings.users:
        if user.name == name:
            return Role[user.role.upper()]
    found: list[str | None] = []
    for sign_in in (settings.oidc, settings.proxy_sign_in):
        if sign_in is not None:
            found += [sign_in.default_role, sign_in.user_roles.get(name)]
            found += [sign_in.group_roles.get(group) for group in groups]
    if settings.oidc is not None:
        found.append(settings.oidc.domain_roles.get(name.rpartition("@")[2].lower()))
    return highest_role(found)
