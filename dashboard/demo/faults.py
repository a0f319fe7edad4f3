"""Failures of the demo's jobs: exceptions as real clients raise them."""

from __future__ import annotations

import errno
import smtplib

STATUS_WORDS = {502: "Bad Gateway", 503: "Service Unavailable"}


class UpstreamError(Exception):
    """Another company's server responded with an error."""


def mail_server_hangs_up(recipient: str) -> None:
    """Raise SMTPServerDisconnected."""
    raise smtplib.SMTPServerDisconnected(f"Connection unexpectedly closed while sending to {recipient}")


def connection_refused(host: str) -> None:
    """Raise ConnectionRefusedError."""
    raise ConnectionRefusedError(errno.ECONNREFUSED, f"Connect call failed ({host!r}, 443)")


def upstream_answers(status: int, host: str) -> None:
    """Raise UpstreamError; `status` is one of STATUS_WORDS."""
    raise UpstreamError(f"{status} {STATUS_WORDS[status]} from {host}")


def timed_out(what: str, seconds: float) -> None:
    """Raise TimeoutError."""
    raise TimeoutError(f"{what} did not answer within {seconds:.0f} s")
