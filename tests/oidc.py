"""OpenID Connect providers: a real one, and one that answers whatever a test wants, signed or not."""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.processes import ROOT, child

CLIENT, SECRET = "queuedeck", "the secret of the client"
FOLDER = ROOT / "tests" / "workloads" / "oidc"


@contextmanager
def real_provider(redirect_uri: str, accounts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The issuer of a certified provider with these accounts (claims by name), where any password is right."""
    command = ["node", FOLDER / "provider.mjs", redirect_uri, json.dumps(accounts)]
    with child(command, name="OpenID Connect provider", pipes=True) as process:
        yield process.read_line()


@cache
def new_key(kid: str) -> RSAKey:
    """A key of a provider: the same one for the same id."""
    return RSAKey.generate_key(2048, {"kid": kid, "use": "sig", "alg": "RS256"}, private=True)


@dataclass
class Scripted:
    """A provider in a thread. `answers` replaces what a path answers: JSON or (status, JSON)."""

    issuer: str = ""
    keys: list[str] = field(default_factory=lambda: ["first"])
    claims: dict[str, Any] = field(default_factory=dict)  # of the next ID token, beside those that are always there
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, Mapping[str, str], dict[str, str]]] = field(default_factory=list)  # path, headers, form
    nonce: str = ""
    drips: set[str] = field(default_factory=set)  # paths whose answers never end

    def token(self, *, key: str | None = None, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """An ID token with these claims instead of the usual ones; None leaves one out."""
        now = int(time.time())
        usual = {"iss": self.issuer, "sub": "1", "aud": CLIENT, "exp": now + 300, "iat": now, "nonce": self.nonce}
        sent = {name: value for name, value in (usual | self.claims | claims).items() if value is not None}
        kid = key or self.keys[0]
        return jwt.encode({"alg": "RS256", "kid": kid, **(header or {})}, sent, new_key(kid))

    def answer(self, path: str) -> Any:
        """What the provider answers."""
        found = self.answers.get(path)
        if found is not None:
            return found
        match path:
            case "/.well-known/openid-configuration":
                names = {"authorization_endpoint": "/auth", "token_endpoint": "/token", "jwks_uri": "/keys"}
                more = {"userinfo_endpoint": "/me", "end_session_endpoint": "/end"}
                urls = {name: self.issuer + place for name, place in (names | more).items()}
                return {"issuer": self.issuer, "id_token_signing_alg_values_supported": ["none", "HS256"], **urls}
            case "/keys":
                return {"keys": [new_key(kid).as_dict(private=False) for kid in self.keys]}
            case "/token":
                return {"access_token": "access", "token_type": "Bearer", "id_token": self.token()}
            case "/me":
                return {"sub": "1"}
            case _:
                return 404, {}


def forged(provider: Scripted, header: bytes, secret: bytes | None = None) -> str:
    """The token that the provider would send, with another header and signature: none, or HMAC-SHA256 with `secret`."""
    _, body, _ = provider.token().split(".")
    signed = f"{_base64(header)}.{body}"
    return f"{signed}.{_base64(hmac.digest(secret, signed.encode(), 'sha256')) if secret else ''}"


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@contextmanager
def scripted_provider(certificate: tuple[Path, Path] | None = None) -> Iterator[Scripted]:
    """A provider that answers what the test sets; over TLS with a certificate and its key."""
    provider = Scripted()
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
            path = urlsplit(self.path).path
            provider.asked.append((path, dict(self.headers), {name: values[0] for name, values in form.items()}))
            if path in provider.drips:
                self.drip()
                return
            answer = provider.answer(path)
            status, document = answer if isinstance(answer, tuple) else (200, answer)
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", document["to"])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def drip(self) -> None:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while not ended.wait(0.01):
                    self.wfile.write(b" ")

        do_GET = do_POST = respond  # noqa: N815

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        provider.issuer = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield provider
        ended.set()
        server.shutdown()
        thread.join()
