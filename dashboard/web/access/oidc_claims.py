"""Which user the claims of an OpenID Connect provider name, and with which role."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ...auth import Identity, Role, highest_role
from ...errors import Forbidden, QueuedeckError
from ...rights.assignment import NO_GRANTS, RightsAssignment
from ...settings import OidcSettings
from .user_names import is_user_name

GOOGLE = "https://accounts.google.com"


class ProviderFailed(QueuedeckError):
    """The provider does not respond, or not as it should. `reason`: why, for administrators."""

    code = "sign_in_provider"

    def __init__(self, message: str, reason: str, *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class UserRefused(Forbidden):
    """The provider has signed in a user who has no access here. `user`: the name."""

    def __init__(self, user: str, message: str, *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.user = user


def oidc_digest(settings: OidcSettings, groups: Sequence[str] = ()) -> str:
    """A digest of the settings that decide who has which role: when they change, sessions end. `groups`: those that
    grants name, since a session has no others."""
    names = ("issuer", "client_id", "name_claim", "groups_claim")
    roles = ("user_roles", "domain_roles", "group_roles", "default_role")
    decisive: dict[str, Any] = {name: getattr(settings, name) for name in (*names, *roles)}
    if groups:
        decisive["groups"] = list(groups)
    return hashlib.sha256(msgspec.json.encode(decisive, order="sorted")).hexdigest()[:32]


def lacks_claims(claims: Mapping[str, Any], settings: OidcSettings) -> bool:
    """Whether a claim is missing that decides who the user is, or with which role."""
    wanted = [settings.name_claim, *([settings.groups_claim] if settings.groups_claim is not None else ())]
    if settings.name_claim == "email" or settings.domain_roles:
        wanted += ["email", "email_verified"]
    return any(_find_claim(claims, name) is None for name in wanted)


def identify(
    sources: Sequence[Mapping[str, Any]], settings: OidcSettings, rights: RightsAssignment = NO_GRANTS
) -> Identity:
    """The user of verified claims: those of the ID token, then further ones. For each claim, the first source counts
    that has it. Raises Forbidden without a usable name, and UserRefused without a role and without a grant.
    """
    email, is_verified = _email_of(sources)
    name = email if settings.name_claim == "email" else _first_claim(sources, settings.name_claim)
    if not isinstance(name, str) or not is_user_name(name):
        raise Forbidden(
            f"{settings.title} sent no usable {settings.name_claim}.",
            hint="An administrator can set name_claim, or add a scope that contains it.",
        )
    if settings.name_claim == "email" and not is_verified:
        raise UserRefused(
            name,
            f"The email address {name} is not verified at {settings.title}.",
            hint="Verify it there, or an administrator can set name_claim to another claim.",
        )
    domain = email.rpartition("@")[2].lower() if email is not None and is_verified else None
    # A private account at Google can have the address of a former employee.
    if settings.issuer == GOOGLE and _first_claim(sources, "hd") != domain:
        domain = None
    groups = _texts(_first_claim(sources, settings.groups_claim)) if settings.groups_claim is not None else []
    role = highest_role(
        (
            settings.default_role,
            settings.user_roles.get(name),
            settings.domain_roles.get(domain) if domain is not None else None,
            *(settings.group_roles.get(group) for group in groups),
        )
    )
    if role is None and not rights.is_granted(name, groups):
        raise UserRefused(
            name,
            f"{name} has no role in Queuedeck.",
            hint="An administrator can add a role to user_roles, domain_roles or group_roles of [oidc].",
        )
    return Identity(name=name, role=role or Role.VIEWER, groups=rights.named_groups(groups))


def _email_of(sources: Sequence[Mapping[str, Any]]) -> tuple[str | None, bool]:
    """The email address, and whether the provider has verified it. Both are from one source: the first that has both,
    since one must not verify the address of the other."""
    complete = [each for each in sources if each.get("email_verified") is not None and each.get("email") is not None]
    for source in complete[:1]:
        email, verified = source["email"], source["email_verified"]
        # Some providers send the word instead of a boolean.
        return email if isinstance(email, str) else None, verified is True or verified == "true"
    email = _first_claim(sources, "email")
    return email if isinstance(email, str) else None, False


def _first_claim(sources: Sequence[Mapping[str, Any]], name: str) -> Any:
    """The claim with that name, of the first source that has it; else None."""
    found = (_find_claim(source, name) for source in sources)
    return next((each for each in found if each is not None), None)


def _find_claim(claims: Mapping[str, Any], name: str) -> Any:
    """The claim with that name; else the nested one, such as realm_access.roles; else None."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _texts(value: Any) -> list[str]:
    """The texts of a claim that is a text or a list."""
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, str)]
