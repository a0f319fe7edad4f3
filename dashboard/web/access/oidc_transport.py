"""Requests to an OpenID Connect provider: without redirects, and with bounds of time and size."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus

from authlib.integrations.requests_client import OAuth2Session
from requests import Response
from requests.exceptions import Timeout

from ...clock import monotonic_s

TIMEOUT_S = 5.0  # to connect, and for each part of an answer
WITHIN_S = 10.0  # for an answer as a whole
MAX_BYTES = 1024 * 1024
_PART_BYTES = 64 * 1024
_UNCHANGED = re.compile(r"[A-Za-z0-9._~-]*\Z")  # what both forms of authentication send as it is


class UnexpectedAnswer(Exception):
    """The provider sent something else than the standard demands."""


class ProviderSession(OAuth2Session):  # type: ignore[misc]
    """A client of the provider, whose answers are read as they arrive. `ca_file`: instead of the public CAs."""

    def __init__(self, *arguments: Any, ca_file: str | None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._ca_file = ca_file
        self.register_client_auth_method(("client_secret_basic", _encode_basic))

    def request(self, method: str, url: str, *arguments: Any, **options: Any) -> Response:
        """Send a request. Raises RequestException, UnexpectedAnswer and OSError."""
        options.update(allow_redirects=False, stream=True, timeout=TIMEOUT_S)
        if self._ca_file is not None:
            options["verify"] = self._ca_file  # of the session itself, it would lose against REQUESTS_CA_BUNDLE
        deadline = monotonic_s() + WITHIN_S
        response: Response = super().request(method, url, *arguments, **options)
        with response:
            _read_body(response, deadline)
        if response.is_redirect:
            raise UnexpectedAnswer(f"{url} redirects to {response.headers['Location']}")
        return response

    def get_json(self, url: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The JSON object at `url`. Raises what `request` raises."""
        response = self.request("GET", url, withhold_token=True, headers=headers)
        response.raise_for_status()
        try:
            found = response.json()
        except (ValueError, RecursionError):
            kind = response.headers.get("Content-Type", "no type")
            raise UnexpectedAnswer(f"{url} answered no JSON, but {kind}") from None
        if not isinstance(found, dict):
            raise UnexpectedAnswer(f"{url} answered something else than a JSON object")
        return found


def _read_body(response: Response, deadline: float) -> None:
    """Read the answer into `response`, as requests itself would, but within the bounds."""
    parts, size = [], 0
    while part := response.raw.read1(_PART_BYTES, decode_content=True):
        parts.append(part)
        size += len(part)
        if size > MAX_BYTES:
            raise UnexpectedAnswer(f"{response.url} answered more than {MAX_BYTES} bytes")
        if monotonic_s() > deadline:
            raise Timeout(f"{response.url} took more than {WITHIN_S:.0f} s")
    response._content, response._content_consumed = b"".join(parts), True


def client_authentication(client_id: str, secret: str | None, accepted: Any) -> str:
    """How the client proves who it is; `accepted`: the methods in the discovery document.

    HTTP basic authentication is the default of the standard. Not all providers decode it, so what would have to be
    encoded is sent in the form where that is accepted.
    """
    if secret is None:
        return "none"
    known = accepted if isinstance(accepted, list) else []
    is_plain = bool(_UNCHANGED.match(client_id + secret))
    in_form = "client_secret_post" in known and not (is_plain and "client_secret_basic" in known)
    return "client_secret_post" if in_form else "client_secret_basic"


def _encode_basic(
    client: Any, method: str, uri: str, headers: Mapping[str, str], body: str
) -> tuple[str, dict[str, str], str]:
    """HTTP basic authentication with encoded parts, as RFC 6749 (2.3.1) demands and Authlib does not."""
    del method
    both = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}"
    return uri, {**headers, "Authorization": f"Basic {b64encode(both.encode()).decode()}"}, body
