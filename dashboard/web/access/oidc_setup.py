"""The OpenID Connect provider of the settings: opened for an app, and examined by `queuedeck doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...doctor.findings import DoctorFinding, note_finding, ok_finding, problem_finding, warning_finding
from ...errors import ConfigurationError
from ...rights.assignment import RightsAssignment
from ...settings import Settings
from ...units import format_count
from .oidc_claims import ProviderFailed

if TYPE_CHECKING:
    from .oidc import OidcProvider


def open_provider(settings: Settings) -> OidcProvider | None:
    """The provider; None without `oidc`. Makes no request. Raises ConfigurationError without the packages it needs."""
    if settings.oidc is None or settings.public_url is None:  # required with oidc
        return None
    try:
        from .oidc import OidcProvider
    except ImportError as exc:
        raise ConfigurationError(
            f"oidc: the package {exc.name} is missing", hint="Install it with: pip install 'queuedeck[oidc]'"
        ) from None
    return OidcProvider(settings.oidc, settings.public_url, RightsAssignment(settings.grants))


def examine_provider(settings: Settings) -> Iterator[tuple[str, list[DoctorFinding]]]:
    """A heading and the findings about the provider; nothing without `oidc`. Cost: 2 requests to the provider."""
    provider = open_provider(settings)
    if provider is None:
        return
    heading = f"oidc · {provider.settings.issuer}"
    try:
        document, keys = provider.load()
    except ProviderFailed as exc:
        yield (
            heading,
            [problem_finding(f"The provider cannot be used: {exc.reason}", "Until then, no user can sign in with it.")],
        )
        return
    found = [ok_finding(f"It responds, and has {format_count(keys, 'key')} for signatures")]
    found += _compare(provider, document)
    found.append(note_finding(f"The redirect URI to register there is {provider.redirect_uri}"))
    yield heading, found


def _compare(provider: OidcProvider, document: dict[str, Any]) -> Iterator[DoctorFinding]:
    """What the discovery document says against the settings. It may leave out what the provider supports."""
    from .oidc import ALGORITHMS

    settings = provider.settings
    algorithms = _names(document, "id_token_signing_alg_values_supported")
    if algorithms and not algorithms & set(ALGORITHMS):
        yield problem_finding(
            f"It signs with {', '.join(sorted(algorithms))} only", f"Expected one of {', '.join(ALGORITHMS)}."
        )
    methods = _names(document, "code_challenge_methods_supported")
    if methods and "S256" not in methods:
        yield warning_finding("It does not name the PKCE method S256, which Queuedeck uses")
    scopes, claims = _names(document, "scopes_supported"), _names(document, "claims_supported")
    if scopes and (unknown := set(settings.scopes) - scopes):
        yield warning_finding(f"It does not name the scopes {', '.join(sorted(unknown))}", "Check scopes.")
    for field, claim in (("name_claim", settings.name_claim), ("groups_claim", settings.groups_claim)):
        if claims and claim is not None and claim not in claims:
            yield note_finding(
                f"It does not name the claim {claim}", f"It may send it nevertheless; else check {field}."
            )


def _names(document: dict[str, Any], field: str) -> set[str]:
    listed = document.get(field)
    return {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else set()
