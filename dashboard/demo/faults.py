"""Failures of the demo's jobs: exceptions as real clients raise them."""

from __future__ import annotations

import errno
import smtplib

STATUS_WORDS = {502: "Bad Gateway", 503: "Service Unavailable"}


class UpstreamError(Exception):
    """Another company's server responded with an error; `status` is one of STATUS_WORDS."""

    def __init__(self, status: int, host: str) -> None:
        super().__init__(f"{status} {STATUS_WORDS[status]} from {host}")


def mail_server_hangs_up(recipient: str) -> None:
    """Raise SMTPServerDisconnected."""
    raise smtplib.SMTPServerDisconnected(f"Connection unexpectedly closed while sending to {recipient}")


def connection_refused(host: str) -> None:
    """Raise ConnectionRefusedError."""
    raise ConnectionRefusedError(errno.ECONNREFUSED, f"Connect call failed ({host!r}, 443)")


def timed_out(what: str, seconds: float) -> None:
    """Raise TimeoutError."""
    raise TimeoutError(f"{what} did not answer within {seconds:.0f} s")
