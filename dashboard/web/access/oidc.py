"""Sign-in at an OpenID Connect provider: the authorization code flow with PKCE, by Authlib.

Needs the packages of the extra `oidc`. An ID token counts if a key of the provider has signed it, with an asymmetric
algorithm, and if issuer, audience, nonce and times are those of this sign-in.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from authlib.common.errors import AuthlibBaseError
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError
from joserfc.jwk import Key, KeySet
from joserfc.jws import JWSRegistry
from requests import RequestException

from ...auth import Identity
from ...redact import MASK, masked_logger
from ...rights.assignment import NO_GRANTS, RightsAssignment
from ...settings import OidcSettings
from ...store.cache import SingleFlightCache
from ..formatting import one_line
from .oidc_attempts import Attempt
from .oidc_claims import ProviderFailed, identify, lacks_claims
from .oidc_transport import ProviderSession, UnexpectedAnswer, client_authentication

log = masked_logger(__name__)

# The provider publishes the key of each of these. With HS256, everyone who knows the client secret could sign.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
DISCOVERY = "/.well-known/openid-configuration"
KEEP_S = 3600.0  # how long the discovery document and the keys are cached
LEEWAY_S = 120  # by which the clock of the provider may differ
FAILED_HINT = "Try again; Queuedeck's log has the reason."
# What a key of the provider, which can be anything, makes the library raise.
_UNUSABLE_KEY = (JoseError, ValueError, TypeError, KeyError, AttributeError)


class OidcProvider:
    """The provider of the settings. Thread-safe; makes no request before it is used."""

    def __init__(self, settings: OidcSettings, public_url: str, rights: RightsAssignment = NO_GRANTS) -> None:
        self.settings = settings
        self._rights = rights
        self.public_url = public_url.rstrip("/")
        self.redirect_uri = f"{self.public_url}/login/oidc/callback"
        self._discovery: SingleFlightCache[dict[str, Any]] = SingleFlightCache(KEEP_S)
        self._keys: SingleFlightCache[KeySet] = SingleFlightCache(KEEP_S)
        self._last_document: dict[str, Any] = {}

    def begin(self, *, again: bool = False) -> tuple[str, Attempt]:
        """The URL at the provider where the user signs in, and the attempt. Raises ProviderFailed.

        `again`: also a user whom the provider knows already, who can then be another one. Cost: 1 request to the
        provider each KEEP_S.
        """
        attempt = Attempt(secrets.token_urlsafe(16), secrets.token_urlsafe(16), secrets.token_urlsafe(36))
        with self._reports_failures(), self._session() as session:
            url, _ = session.create_authorization_url(
                self._endpoint("authorization_endpoint"),
                state=attempt.state,
                nonce=attempt.nonce,
                code_verifier=attempt.verifier,
                **({"prompt": "login"} if again else {}),
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
            )
            sources = [self._verify(token, attempt.nonce)]
            if lacks_claims(sources[0], self.settings):
                sources += self._user_info(session, sources[0], token.get("access_token"))
        return identify(sources, self.settings, self._rights)

    def load(self) -> tuple[dict[str, Any], int]:
        """The discovery document, and the number of keys for signatures. Raises ProviderFailed."""
        with self._reports_failures():
            for name in ("authorization_endpoint", "token_endpoint"):
                self._endpoint(name)
            return self._document(), len(self._key_set().keys)

    def sign_out_url(self) -> str | None:
        """Where a user ends the session at the provider; None if it has no such page, or is unknown at the moment.

        Makes no request: it is known since the sign-in, in the process where that was.
        """
        url = self._last_document.get("end_session_endpoint")
        if not isinstance(url, str) or not self._is_secure(url):
            return None
        return f"{url}{'&' if '?' in url else '?'}{urlencode({'client_id': self.settings.client_id})}"

    @contextmanager
    def _reports_failures(self) -> Iterator[None]:
        """Log what fails inside the block, and raise ProviderFailed for it."""
        try:
            yield
        except (RequestException, AuthlibBaseError, JoseError, UnexpectedAnswer, OSError) as exc:
            reason = f"{exc}" or type(exc).__name__
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
            reason = f"unexpected answer: {type(exc).__name__}: {exc}"
        else:
            return
        if self.settings.client_secret is not None:
            reason = reason.replace(self.settings.client_secret, MASK)
        reason = one_line(reason, 300)
        log.warning("sign-in at %s failed: %s", self.settings.issuer, reason)
        raise ProviderFailed(f"Sign-in with {self.settings.title} failed.", reason, hint=FAILED_HINT)

    def _session(self) -> ProviderSession:
        settings = self.settings
        return ProviderSession(
            settings.client_id,
            settings.client_secret,
            ca_file=settings.ca_file,
            scope=" ".join(settings.scopes),
            redirect_uri=self.redirect_uri,
            code_challenge_method="S256",
        )

    def _client_authentication(self) -> str:
        accepted = self._document().get("token_endpoint_auth_methods_supported")
        return client_authentication(self.settings.client_id, self.settings.client_secret, accepted)

    def _document(self) -> dict[str, Any]:
        """The discovery document."""
        return self._discovery.get(DISCOVERY, self._load_document)

    def _load_document(self) -> dict[str, Any]:
        issuer = self.settings.issuer
        document = self._get_json(issuer.rstrip("/") + DISCOVERY)
        if document.get("issuer") != issuer:
            raise UnexpectedAnswer(f"the provider calls itself {document.get('issuer')!r}: set issuer to exactly that")
        self._last_document = document
        return document

    def _key_set(self) -> KeySet:
        return self._keys.get("jwks_uri", self._load_keys)

    def _load_keys(self) -> KeySet:
        """The keys for signatures. One that is of no known kind makes no other unusable (RFC 7517, section 5)."""
        url = self._endpoint("jwks_uri")
        published = self._get_json(url).get("keys")
        found: list[Key] = []
        for each in published if isinstance(published, list) else ():
            if isinstance(each, dict) and each.get("use") != "enc":
                with contextlib.suppress(*_UNUSABLE_KEY):
                    document: Any = {"keys": [each]}
                    found += KeySet.import_key_set(document).keys
        if not found:
            raise UnexpectedAnswer(f"{url} has no key that can be used")
        return KeySet(found)

    def _endpoint(self, name: str) -> str:
        url = self._document().get(name)
        if not isinstance(url, str) or not self._is_secure(url):
            raise UnexpectedAnswer(f"the discovery document has no usable {name}: {url!r}")
        return url

    def _is_secure(self, url: str) -> bool:
        """Whether it is an https:// URL, or has the scheme of the issuer: http:// only on this machine."""
        return url.startswith("https://") or (url.startswith("http://") and self.settings.issuer.startswith("http://"))

    def _get_json(self, url: str) -> dict[str, Any]:
        with self._session() as session:
            found: dict[str, Any] = session.get_json(url)
            return found

    def _verify(self, token: Mapping[str, Any], nonce: str) -> dict[str, Any]:
        """The claims of the ID token. Raises JoseError for one that is not the answer to this attempt."""
        if not isinstance(token.get("id_token"), str):
            raise UnexpectedAnswer("the token endpoint sent no ID token")
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

    def _user_info(self, session: ProviderSession, claims: Mapping[str, Any], token: Any) -> list[dict[str, Any]]:
        """Further claims of the user; none if the provider has no endpoint for them, or sent no access token."""
        if "userinfo_endpoint" not in self._document() or not isinstance(token, str):
            return []
        found = session.get_json(self._endpoint("userinfo_endpoint"), {"Authorization": f"Bearer {token}"})
        if found.get("sub") != claims["sub"]:
            raise UnexpectedAnswer("the userinfo endpoint answered for another user")
        return [found]
