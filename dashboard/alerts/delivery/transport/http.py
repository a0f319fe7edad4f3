"""The only outgoing path for webhooks: a POST with a deadline, to a checked address, without redirects.

Only the connection of urllib3 is used, not its pools, retries, redirects and proxies, because each of these would send
to an unchecked address, or send twice.
"""

from __future__ import annotations

import functools
import http.client
import math
import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec
import urllib3.connection
import urllib3.exceptions

from .... import __version__
from ..channels.base import DeliveryResult
from ..channels.config import Endpoint
from .deadline import Deadline
from .public_addresses import Address, AddressRefusedError, Resolver, connect_first, resolve_host
from .redaction import Scrubber

ANSWER_LIMIT = 65_536  # bytes of a response that are read; the rest is ignored
RETRY_AFTER_LIMIT_S = 86_400.0
# 408 and 429 mean "later"; every other 4xx means that the request itself is wrong.
TRANSIENT_4XX = frozenset({408, 429})


class HTTPAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The server's response."""

    status: int
    body: bytes = b""  # at most 64 KiB
    cut: bool = False  # the body was longer
    complete: bool = True  # False: time was up, or the connection broke, during the body
    retry_after_s: float | None = None


@functools.cache
def _system_context() -> ssl.SSLContext:
    """The TLS context with the system's CA certificates, shared by all channels: loading them takes 15 ms."""
    return ssl.create_default_context()


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """The TLS context that trusts the certificates in `ca_file`; without it, those of the system."""
    return ssl.create_default_context(cafile=ca_file) if ca_file else _system_context()


class _PlainConnection(urllib3.connection.HTTPConnection):
    """A connection to addresses checked before; the host name is only used for the Host header."""

    addresses: list[Address]
    deadline: Deadline

    def _new_conn(self) -> socket.socket:
        return connect_first(self.addresses, self.deadline)


class _TLSConnection(urllib3.connection.HTTPSConnection):
    """The same with TLS; the certificate is verified against the host name."""

    addresses: list[Address]
    deadline: Deadline

    def _new_conn(self) -> socket.socket:
        return connect_first(self.addresses, self.deadline)


class HTTPTransport:
    """Posts to one endpoint. Thread-safe: each post uses its own connection."""

    def __init__(
        self,
        endpoint: Endpoint,
        scrubber: Scrubber,
        *,
        allow_private: bool = False,
        ca_file: str | None = None,
        resolver: Resolver = socket.getaddrinfo,
    ) -> None:
        self._endpoint = endpoint
        self._scrubber = scrubber
        self._allow_private = allow_private
        self._resolver = resolver
        self._context = tls_context(ca_file) if endpoint.tls else None

    def post(self, body: bytes, headers: Mapping[str, str], deadline: Deadline) -> HTTPAnswer | DeliveryResult:
        """The response or, without one, the result of the attempt. Network errors are never raised."""
        try:
            return self._send_request(body, headers, deadline)
        except AddressRefusedError:
            said = "the host name resolves to a private address; see allow_private_webhooks"
            return DeliveryResult(ok=False, permanent=True, status="address", answer=said)
        except (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError, ValueError) as exc:
            # The clock decides first: a connection shut down at the deadline fails in many ways.
            return result_from_error(TimeoutError() if deadline.is_expired else exc)

    def result_from_answer(self, answer: HTTPAnswer | DeliveryResult) -> DeliveryResult:
        """What an HTTP status means for the message, for providers that report no more than that."""
        if isinstance(answer, DeliveryResult):
            return answer
        said = self._scrubber.redact_text(answer.body, cut=answer.cut or not answer.complete)
        status = str(answer.status)
        if 200 <= answer.status < 300:
            if answer.complete:
                return DeliveryResult(ok=True, status=status, answer=said)
            # The rest of the response could have been a refusal: a duplicate is better than a loss.
            return DeliveryResult(
                ok=False, status="timeout", answer=f"HTTP {status}, but the response did not finish in time"
            )
        if 300 <= answer.status < 400:
            return DeliveryResult(ok=False, permanent=True, status=status, answer="redirects are not followed")
        permanent = 400 <= answer.status < 500 and answer.status not in TRANSIENT_4XX
        pause_s = None if permanent else answer.retry_after_s
        return DeliveryResult(ok=False, permanent=permanent, status=status, answer=said, retry_after_s=pause_s)

    def _send_request(self, body: bytes, headers: Mapping[str, str], deadline: Deadline) -> HTTPAnswer:
        to = self._endpoint
        addresses = resolve_host(to.host, to.port, deadline, allow_private=self._allow_private, resolver=self._resolver)
        connection: _PlainConnection | _TLSConnection
        if to.tls:
            connection = _TLSConnection(to.host, to.port, ssl_context=self._context, timeout=deadline.remaining_s())
        else:
            connection = _PlainConnection(to.host, to.port, timeout=deadline.remaining_s())
        connection.addresses, connection.deadline = addresses, deadline
        sent = {"User-Agent": f"Queuedeck/{__version__}", "Accept-Encoding": "identity", "Connection": "close"}
        try:
            connection.request(
                "POST",
                to.path_and_query,
                body=body,
                headers={**sent, **headers},
                preload_content=False,
                decode_content=False,
            )
            return _read_answer(connection.getresponse(), deadline)
        finally:
            connection.close()


def result_from_error(exc: Exception) -> DeliveryResult:
    """The result of an attempt without a response, worded without anything that was sent. All of them are transient."""
    cause = exc.__cause__ or exc.__context__
    known = exc if isinstance(exc, OSError) or not isinstance(cause, OSError) else cause
    if isinstance(known, ssl.SSLCertVerificationError):
        return DeliveryResult(ok=False, status="tls", answer=f"certificate rejected: {known.verify_message}")
    if isinstance(known, ssl.SSLError):
        return DeliveryResult(ok=False, status="tls", answer="TLS handshake failed")
    if isinstance(known, TimeoutError | urllib3.exceptions.TimeoutError):
        return DeliveryResult(ok=False, status="timeout", answer="timed out waiting for a complete response")
    if isinstance(known, socket.gaierror):
        return DeliveryResult(ok=False, status="dns", answer=f"host name not found: {known.strerror}")
    if isinstance(known, ConnectionRefusedError):
        return DeliveryResult(ok=False, status="refused", answer="connection refused")
    if isinstance(known, ConnectionError):
        return DeliveryResult(ok=False, status="reset", answer="connection closed before a response arrived")
    if isinstance(known, OSError):
        return DeliveryResult(ok=False, status="refused", answer=known.strerror or "no route to host")
    return DeliveryResult(ok=False, status="protocol", answer="the response was not HTTP")


def _read_answer(response: urllib3.HTTPResponse, deadline: Deadline) -> HTTPAnswer:
    """The response with the part of its body that arrived in time. A truncated body does not change the status."""
    parts: list[bytes] = []
    size, complete = 0, True
    try:
        while size <= ANSWER_LIMIT:
            part = response.read1(ANSWER_LIMIT + 1 - size, decode_content=False)
            if not part:
                break
            parts.append(part)
            size += len(part)
    except (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError):
        complete = False
    body = b"".join(parts)
    return HTTPAnswer(
        status=response.status,
        body=body[:ANSWER_LIMIT],
        cut=size > ANSWER_LIMIT,
        complete=size > ANSWER_LIMIT or (complete and not deadline.is_expired),
        retry_after_s=parse_retry_after(response.headers.get("Retry-After"), response.headers.get("Date")),
    )


def parse_retry_after(value: str | None, server_date: str | None) -> float | None:
    """The pause that a server asks for, in seconds, 0 to a day; None when it asks for none or the value is invalid.

    A date is compared with the server's own Date if it sent one, so that our clock does not matter.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        until, now = _parse_http_date(value), _parse_http_date(server_date) or datetime.now(UTC)
        if until is None:
            return None
        seconds = (until - now).total_seconds()
    return min(max(seconds, 0.0), RETRY_AFTER_LIMIT_S) if math.isfinite(seconds) else None


def _parse_http_date(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
