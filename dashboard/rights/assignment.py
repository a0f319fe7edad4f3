"""Which rights a user or a token has: those of the role, or of the grants that name them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

from ..auth import Identity, Role
from ..settings import GrantSettings
from .grants import Grant
from .right import Right
from .rights import Rights

EVERYONE = "*"

_VIEWER = frozenset({Right.VIEW})
_OPERATOR = _VIEWER | {Right.RETRY, Right.DELETE, Right.PAUSE, Right.BULK, Right.ALERTS}
RIGHTS_OF_ROLES = {Role.VIEWER: _VIEWER, Role.OPERATOR: _OPERATOR, Role.ADMIN: frozenset(Right)}
MAX_SHARED = 256  # rights that are kept for those who have the same


class RightsAssignment:
    """The grants of the settings, and whom they name. Thread-safe.

    A grant that gives rights replaces the role viewer or operator of those whom it names: without it, they have none.
    Administrators keep their rights. What a grant denies is taken from everyone whom it names.
    """

    def __init__(self, grants: Sequence[GrantSettings] = ()) -> None:
        self._grants = [(each, _grant_of(each, number)) for number, each in enumerate(grants, 1)]
        # The groups that grants name, sorted.
        self.group_names = group_names(tuple(grants))

    def rights_of(self, identity: Identity) -> Rights:
        """The rights of a user or a token. Equal ones are the same object, as long as it is remembered. Cost: none."""
        named = [grant for settings, grant in self._grants if _names(settings, identity)]
        own = [_with_title(grant, number) for number, grant in enumerate(identity.grants or (), 1)]
        is_replaced = identity.grants is not None or any(grant.allow for grant in named)
        return _shared_rights(
            None if is_replaced and identity.role is not Role.ADMIN else identity.role, (*named, *own)
        )

    def is_granted(self, name: str, groups: Iterable[str]) -> bool:
        """Whether a grant gives rights to the user of that name in these groups, so that no role is required."""
        person = Identity(name=name, groups=tuple(groups))
        return any(grant.allow and _names(settings, person) for settings, grant in self._grants)

    def named_groups(self, groups: Iterable[str]) -> tuple[str, ...]:
        """Those of `groups` that a grant names, in order and each once: no others have to be remembered."""
        return tuple(dict.fromkeys(group for group in groups if group in self.group_names))


@lru_cache(8)
def group_names(grants: tuple[GrantSettings, ...]) -> tuple[str, ...]:
    """The groups that grants of the settings name, sorted."""
    return tuple(sorted({group for grant in grants for group in grant.groups}))


NO_GRANTS = RightsAssignment()


@lru_cache(MAX_SHARED)
def _shared_rights(role: Role | None, grants: tuple[Grant, ...]) -> Rights:
    """The rights of a role, without what is denied; without a role, what the grants give."""
    if role is None:
        return Rights(grants)
    of_role = Grant(allow=RIGHTS_OF_ROLES[role], title=f"the {role.name.lower()} role")
    return Rights((of_role, *(grant for grant in grants if grant.deny)))


def _names(grant: GrantSettings, identity: Identity) -> bool:
    if identity.is_token:
        return identity.name in grant.tokens or EVERYONE in grant.tokens
    if identity.name in grant.users or EVERYONE in grant.users:
        return True
    return any(group in grant.groups for group in identity.groups)


def _grant_of(settings: GrantSettings, number: int) -> Grant:
    return Grant(
        source=settings.source,
        backend=settings.backend,
        queues=settings.queues,
        allow=frozenset(map(Right, settings.allow)),
        deny=frozenset(map(Right, settings.deny)),
        title=f"grant {number} of the settings",
    )


def _with_title(grant: Grant, number: int) -> Grant:
    return grant if grant.title else replace(grant, title=f"grant {number} of the application")


def effective_role(rights: Rights) -> Role:
    """The highest role of which some right is given, on at least one queue: what routes require first."""
    if rights.has(Right.ADMIN):
        return Role.ADMIN
    return Role.OPERATOR if rights.may_act() else Role.VIEWER
