"""Which user the claims of an OpenID Connect provider name, and with which role."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from ...auth import Identity
from ...errors import Forbidden, QueuedeckError
from ...settings import OidcSettings
from .roles import highest_role, is_user_name


class ProviderFailed(QueuedeckError):
    """The provider does not respond, or not as it should."""

    code = "sign_in_provider"


class UserRefused(Forbidden):
    """The provider has signed in a user who has no access here. `user`: the name."""

    def __init__(self, user: str, message: str, *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.user = user


def oidc_digest(settings: OidcSettings) -> str:
    """A digest of the settings that decide who has which role: when they change, sessions end."""
    names = ("issuer", "client_id", "name_claim", "groups_claim")
    roles = ("user_roles", "domain_roles", "group_roles", "default_role")
    decisive = {name: getattr(settings, name) for name in (*names, *roles)}
    return hashlib.sha256(msgspec.json.encode(decisive)).hexdigest()[:32]


def find_claim(claims: Mapping[str, Any], name: str) -> Any:
    """The claim with that name; else the nested one, such as realm_access.roles; else None."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def identify(claims: Mapping[str, Any], settings: OidcSettings) -> Identity:
    """The user of verified claims. Raises Forbidden without a usable name, and without a role."""
    name = find_claim(claims, settings.name_claim)
    if not isinstance(name, str) or not is_user_name(name):
        raise Forbidden(
            f"{settings.title} sent no usable {settings.name_claim}.",
            hint="An administrator can set name_claim, or add a scope that contains it.",
        )
    email = _verified_email(claims)
    if settings.name_claim == "email" and email is None:
        raise UserRefused(
            name,
            f"The email address {name} is not verified at {settings.title}.",
            hint="Verify it there, or an administrator can set name_claim to another claim.",
        )
    groups = find_claim(claims, settings.groups_claim) if settings.groups_claim is not None else None
    role = highest_role(
        (
            settings.default_role,
            settings.user_roles.get(name),
            settings.domain_roles.get(email.rpartition("@")[2].lower()) if email else None,
            *(settings.group_roles.get(group) for group in _texts(groups)),
        )
    )
    if role is None:
        raise UserRefused(
            name,
            f"{name} has no role in Queuedeck.",
            hint="An administrator can add a role to user_roles, domain_roles or group_roles of oidc.",
        )
    return Identity(name=name, role=role)


def _verified_email(claims: Mapping[str, Any]) -> str | None:
    """The email address, if the provider has verified that it is the user's."""
    email, verified = claims.get("email"), claims.get("email_verified")
    # Some providers send the word instead of a boolean.
    return email if isinstance(email, str) and (verified is True or verified == "true") else None


def _texts(value: Any) -> list[str]:
    """The texts of a claim that is a text or a list."""
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, str)]
