"""What `[[grants]]` of the settings may say. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ..globs import EXPECTED, GLOB_LIMIT, is_glob
from .schema import GrantSettings, Settings

MAX_GRANTS = 500
MAX_GLOBS = 50
MAX_NAMED = 200
MAX_NAME = 200
EVERYONE = "*"
# These concern the whole dashboard, so they cannot be for some queues.
_FOR_ALL = ("rules", "admin")


def find_faults(settings: Settings) -> Iterator[tuple[str, str]]:
    """The invalid grants: which one, and what was expected."""
    if len(settings.grants) > MAX_GRANTS:
        yield "", f"expected at most {MAX_GRANTS} grants"
    for number, grant in enumerate(settings.grants, 1):
        problem = find_problem(grant) or _sign_in_problem(grant, settings)
        if problem is not None:
            yield f"grant {number}: ", problem


def find_problem(grant: GrantSettings) -> str | None:
    """What is wrong with a grant, as `field: expected …`; None when it is valid."""
    named = {"users": grant.users, "groups": grant.groups, "tokens": grant.tokens}
    if not any(named.values()):
        return "users, groups, tokens: expected at least one name"
    for field, names in named.items():
        if len(names) > MAX_NAMED or not all(0 < len(name) <= MAX_NAME and name.isprintable() for name in names):
            return f"{field}: expected at most {MAX_NAMED} names of 1 to {MAX_NAME} printable characters"
        if EVERYONE in names and field == "groups":
            return 'groups: expected names of groups; users = ["*"] means everyone'
        if EVERYONE in names and grant.allow:
            return f'{field}: expected names with allow; "*" is possible with deny only, since allow replaces roles'
    if not 0 < len(grant.queues) <= MAX_GLOBS or not all(map(is_glob, grant.queues)):
        return f"queues: expected 1 to {MAX_GLOBS} {EXPECTED}"
    for field, glob in (("source", grant.source), ("backend", grant.backend)):
        if not is_glob(glob):
            return f"{field}: expected a glob of at most {GLOB_LIMIT} characters with * and ? only"
    if not grant.allow and not grant.deny:
        return 'allow, deny: expected at least one right, such as allow = ["view"]'
    if grant.allow and grant.deny:
        return "allow, deny: expected one of them; write two grants to give some rights and deny others"
    return _scope_problem(grant)


def _scope_problem(grant: GrantSettings) -> str | None:
    is_for_all = grant.source == "*" and grant.backend == "*" and "*" in grant.queues
    for right in _FOR_ALL:
        if right in (*grant.allow, *grant.deny) and not is_for_all:
            return f"{right}: expected no source, backend or queues: this right is for the whole dashboard"
    return None


def _sign_in_problem(grant: GrantSettings, settings: Settings) -> str | None:
    """What is missing elsewhere in the settings, so that the grant would never apply."""
    if grant.groups and settings.oidc is not None and settings.oidc.groups_claim is None:
        return "groups: expected groups_claim in oidc, which says where the groups of a user are"
    if grant.groups and settings.proxy_sign_in is not None and settings.proxy_sign_in.groups_header is None:
        return "groups: expected groups_header in proxy_sign_in, which says where the groups of a user are"
    return None
