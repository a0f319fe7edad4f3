"""Sign-in at an OpenID Connect provider: the authorization code flow with PKCE, by Authlib.

Needs the packages of the extra `oidc`. An ID token counts if a key of the provider has signed it, with an asymmetric
algorithm, and if issuer, audience, nonce and times are those of this sign-in.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry
from requests import RequestException, Response

from ...auth import Identity
from ...redact import masked_logger
from ...settings import OidcSettings
from ...store.cache import SingleFlightCache
from .oidc_attempts import Attempt
from .oidc_claims import ProviderFailed, find_claim, identify

log = masked_logger(__name__)

# The provider publishes the key of each of these. With HS256, everyone who knows the client secret could sign.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
DISCOVERY = "/.well-known/openid-configuration"
TIMEOUT_S = 5.0  # of each request: to connect, and for each part of the answer
KEEP_S = 3600.0  # how long the discovery document and the keys are cached
LEEWAY_S = 120  # by which the clock of the provider may differ
FAILED_HINT = "Try again; Queuedeck's log has the reason."


class _Unexpected(Exception):
    """The provider sent something else than the standard demands."""


class OidcProvider:
    """The provider of the settings. Thread-safe; makes no request before it is used."""

    def __init__(self, settings: OidcSettings, public_url: str) -> None:
        self.settings = settings
        self.public_url = public_url.rstrip("/")
        self.redirect_uri = f"{self.public_url}/login/oidc/callback"
        self._discovery: SingleFlightCache[dict[str, Any]] = SingleFlightCache(KEEP_S)
        self._keys: SingleFlightCache[Any] = SingleFlightCache(KEEP_S)

    def begin(self) -> tuple[str, Attempt]:
        """The URL at the provider where the user signs in, and the attempt. Raises ProviderFailed.

        Cost: 1 request to the provider each KEEP_S.
        """
        attempt = Attempt(secrets.token_urlsafe(16), secrets.token_urlsafe(16), secrets.token_urlsafe(36))
        with self._reports_failures(), self._session() as session:
            url, _ = session.create_authorization_url(
                self._endpoint("authorization_endpoint"),
                state=attempt.state,
                nonce=attempt.nonce,
                code_verifier=attempt.verifier,
            )
        return str(url), attempt

    def finish(self, attempt: Attempt, code: str) -> Identity:
        """The user who signed in. Raises ProviderFailed, and Forbidden for a user without a role or a usable name.

        Cost: 1 request to the provider; 1 more if the ID token lacks a claim that the settings name, and 2 each KEEP_S.
        """
        with self._reports_failures(), self._session() as session:
            token = session.fetch_token(
                self._endpoint("token_endpoint"),
                auth=session.client_auth(self._client_authentication()),
                grant_type="authorization_code",
                code=code,
                code_verifier=attempt.verifier,
                redirect_uri=self.redirect_uri,
                allow_redirects=False,
            )
            claims = self._verify(token, attempt.nonce)
            if any(find_claim(claims, name) is None for name in self._wanted_claims()):
                claims = self._user_info(session, claims) | claims
        return identify(claims, self.settings)

    def sign_out_url(self) -> str | None:
        """Where a user ends the session at the provider; None if it has no such page or does not respond.

        Cost: 1 request to the provider each KEEP_S.
        """
        try:
            with self._reports_failures():
                url = self._document().get("end_session_endpoint")
        except ProviderFailed:
            return None
        if not isinstance(url, str) or not self._is_secure(url):
            return None
        return f"{url}{'&' if '?' in url else '?'}{urlencode({'client_id': self.settings.client_id})}"

    @contextmanager
    def _reports_failures(self) -> Iterator[None]:
        """Log what fails inside the block, and raise ProviderFailed for it."""
        try:
            yield
        except (RequestException, AuthlibBaseError, JoseError, _Unexpected) as exc:
            reason = str(exc)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
            reason = f"unexpected answer: {type(exc).__name__}: {exc}"
        else:
            return
        log.warning("sign-in at %s failed: %s", self.settings.issuer, reason)
        raise ProviderFailed(f"Sign-in with {self.settings.title} failed.", hint=FAILED_HINT)

    def _session(self) -> OAuth2Session:
        settings = self.settings
        session = OAuth2Session(
            settings.client_id,
            settings.client_secret,
            scope=" ".join(settings.scopes),
            redirect_uri=self.redirect_uri,
            code_challenge_method="S256",
            default_timeout=TIMEOUT_S,
        )
        if settings.ca_file is not None:
            session.verify = settings.ca_file
        return session

    def _client_authentication(self) -> str:
        """How the client proves who it is: with HTTP basic authentication, unless the provider accepts only a form."""
        if self.settings.client_secret is None:
            return "none"
        accepted = self._document().get("token_endpoint_auth_methods_supported") or ()
        is_form = "client_secret_basic" not in accepted and "client_secret_post" in accepted
        return "client_secret_post" if is_form else "client_secret_basic"

    def _document(self) -> dict[str, Any]:
        """The discovery document."""
        return self._discovery.get(DISCOVERY, self._load_document)

    def _load_document(self) -> dict[str, Any]:
        issuer = self.settings.issuer
        document = self._get_json(issuer.rstrip("/") + DISCOVERY)
        if document.get("issuer") != issuer:
            raise _Unexpected(f"the provider calls itself {document.get('issuer')!r}: set issuer to exactly that")
        return document

    def _key_set(self) -> Any:
        return self._keys.get("jwks_uri", self._load_keys)

    def _load_keys(self) -> Any:
        document: Any = self._get_json(self._endpoint("jwks_uri"))
        return KeySet.import_key_set(document)

    def _endpoint(self, name: str) -> str:
        url = self._document().get(name)
        if not isinstance(url, str) or not self._is_secure(url):
            raise _Unexpected(f"the discovery document has no usable {name}: {url!r}")
        return url

    def _is_secure(self, url: str) -> bool:
        """Whether it is an https:// URL, or has the scheme of the issuer: http:// only on this machine."""
        return url.startswith("https://") or (url.startswith("http://") and self.settings.issuer.startswith("http://"))

    def _get_json(self, url: str) -> dict[str, Any]:
        with self._session() as session:
            return _read_json(session.get(url, withhold_token=True, allow_redirects=False))

    def _verify(self, token: Mapping[str, Any], nonce: str) -> dict[str, Any]:
        """The claims of the ID token. Raises JoseError for one that is not the answer to this attempt."""
        if not isinstance(token.get("id_token"), str):
            raise _Unexpected("the token endpoint sent no ID token")
        registry = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
        try:
            found = jwt.decode(token["id_token"], self._key_set(), registry=registry)
        except (InvalidKeyIdError, BadSignatureError):  # the provider may have new keys
            self._keys.invalidate()
            found = jwt.decode(token["id_token"], self._key_set(), registry=registry)
        # Authlib itself would accept another audience beside an azp that names this client.
        claims = CodeIDToken(
            found.claims,
            found.header,
            {
                "iss": {"essential": True, "value": self.settings.issuer},
                "aud": {"essential": True, "value": self.settings.client_id},
            },
            {"nonce": nonce, "client_id": self.settings.client_id, "access_token": token.get("access_token")},
        )
        claims.validate(leeway=LEEWAY_S)
        return dict(claims)

    def _wanted_claims(self) -> Iterator[str]:
        yield self.settings.name_claim
        if self.settings.groups_claim is not None:
            yield self.settings.groups_claim
        if self.settings.domain_roles:
            yield "email"

    def _user_info(self, session: OAuth2Session, claims: Mapping[str, Any]) -> dict[str, Any]:
        """Further claims of the user; none if the provider has no endpoint for them."""
        if "userinfo_endpoint" not in self._document():
            return {}
        found = _read_json(session.get(self._endpoint("userinfo_endpoint"), allow_redirects=False))
        if found.get("sub") != claims["sub"]:
            raise _Unexpected("the userinfo endpoint answered for another user")
        return found


def _read_json(response: Response) -> dict[str, Any]:
    """The object that the provider answered. Raises RequestException or _Unexpected for any other answer."""
    response.raise_for_status()
    if response.is_redirect:
        raise _Unexpected(f"{response.url} redirects to {response.headers['Location']}")
    found = response.json()
    if not isinstance(found, dict):
        raise _Unexpected(f"{response.url} answered something else than a JSON object")
    return found
