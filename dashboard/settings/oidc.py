"""What the settings may say about sign-in at an OpenID Connect provider."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..auth import LOCAL_HOSTS, host_name
from .proxies import faults_of_roles

if TYPE_CHECKING:
    from .schema import GrantSettings, OidcSettings, Settings

_CLAIM = re.compile(r"[!-~]{1,200}\Z")
_SCOPE = re.compile(r"[!#-\[\]-~]{1,100}\Z")
_DOMAIN = re.compile(r"[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){1,10}\Z")
MAX_TITLE = 40
_CHOSEN = {"name", "nickname", "given_name", "family_name", "middle_name"}  # by the users themselves
# Providers where strangers can make an account: Google, GitLab, Apple, and the personal accounts of Microsoft.
PUBLIC_ISSUERS = (
    *("https://accounts.google.com", "https://gitlab.com", "https://appleid.apple.com"),
    "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad",
)


def find_faults(settings: Settings) -> Iterator[tuple[str, str]]:
    """The invalid settings, and what was expected of each."""
    oidc = settings.oidc
    if oidc is None:
        return
    if settings.secret_key is None:
        yield "oidc", "secret_key is required for the sessions of its users: at least 32 random bytes"
    if settings.public_url is None:
        yield "oidc", "public_url is required: the address to which the provider returns users"
    elif not _is_plain_url(settings.public_url):
        yield "public_url", "expected a URL without user, query and fragment: the provider returns users to it"
    if settings.auth == "none":
        yield "auth", 'expected "auto" with oidc: "none" gives anyone on this machine access'
    for field, expected in _faults_of_provider(oidc):
        yield "oidc", f"{field}: {expected}"
    for field, expected in _faults_of_claims(oidc, settings.grants):
        yield "oidc", f"{field}: {expected}"


def _faults_of_provider(oidc: OidcSettings) -> Iterator[tuple[str, str]]:
    if not _is_issuer(oidc.issuer):
        yield "issuer", "expected the https:// URL of the provider, without user, query and fragment"
    if not oidc.client_id or not oidc.client_id.isprintable():
        yield "client_id", "expected the id of the client that was registered at the provider"
    if oidc.client_secret is not None and not oidc.client_secret.strip():
        yield "client_secret", "expected a secret; leave the setting out for a public client"
    if not oidc.title.isprintable() or not 0 < len(oidc.title) <= MAX_TITLE:
        yield "title", f"expected 1 to {MAX_TITLE} printable characters"
    if "openid" not in oidc.scopes or not all(map(_SCOPE.match, oidc.scopes)):
        yield "scopes", 'expected names of scopes, "openid" among them'
    if oidc.ca_file is not None and not _has_certificates(oidc.ca_file):
        yield "ca_file", "expected a readable file with PEM certificates"


def _faults_of_claims(oidc: OidcSettings, grants: tuple[GrantSettings, ...]) -> Iterator[tuple[str, str]]:
    of_groups, of_users = any(grant.groups for grant in grants), any(grant.users for grant in grants)
    for field in ("name_claim", "groups_claim"):
        claim = getattr(oidc, field)
        if claim is not None and not _CLAIM.match(claim):
            yield field, "expected the name of a claim, such as email or groups"
    if oidc.name_claim in _CHOSEN or (
        oidc.name_claim not in ("email", "sub") and oidc.issuer.startswith(PUBLIC_ISSUERS)
    ):
        yield "name_claim", "expected a claim that users cannot change themselves, such as email or sub"
    if bool(oidc.group_roles or of_groups) != (oidc.groups_claim is not None):
        yield "group_roles", "expected both groups_claim and group_roles, or neither"
    if not all(map(_DOMAIN.match, oidc.domain_roles)):
        yield "domain_roles", "expected domains in lower case, such as example.com"
    yield from faults_of_roles(user_roles=oidc.user_roles, domain_roles=oidc.domain_roles, group_roles=oidc.group_roles)
    if not (oidc.user_roles or oidc.domain_roles or oidc.group_roles or oidc.default_role or of_groups or of_users):
        yield (
            "default_role",
            "expected user_roles, domain_roles, group_roles or default_role: otherwise, no one has access",
        )
    if oidc.default_role is not None and oidc.issuer.startswith(PUBLIC_ISSUERS):
        yield "default_role", "expected user_roles or domain_roles: anyone can have an account at this provider"


def _has_certificates(path: str) -> bool:
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ValueError):
        return False
    return True


def _is_issuer(url: str) -> bool:
    """Whether it is an https:// URL; http:// is for providers on this machine only, since tokens arrive over it."""
    if not _is_plain_url(url):
        return False
    parts = urlsplit(url)
    is_local = host_name({"HTTP_HOST": parts.netloc}) in LOCAL_HOSTS
    return parts.scheme == "https" or (parts.scheme == "http" and is_local)


def _is_plain_url(url: str) -> bool:
    """Whether it is a URL with a host, without user, query and fragment."""
    if not url.isascii() or not url.isprintable() or any(character in url for character in ' \\?#{}<>"'):
        return False
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        return False
