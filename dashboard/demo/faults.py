"""Failures of the demo's jobs: real exceptions, most of them raised by the standard library itself."""

from __future__ import annotations

import decimal
import errno
import json
import smtplib
import zlib

OUT_OF_ORDER_PAGE = "<html><head><title>503 Service Temporarily Unavailable</title></head></html>"


class UpstreamError(Exception):
    """Another company's server responded with an error."""


class UnreadableImage(Exception):
    """A file that should be an image is not one."""


def mail_server_hangs_up(recipient: str) -> None:
    """Raise SMTPServerDisconnected."""
    raise smtplib.SMTPServerDisconnected(f"Connection unexpectedly closed while sending to {recipient}")


def mailbox_unknown(recipient: str) -> None:
    """Raise SMTPRecipientsRefused."""
    raise smtplib.SMTPRecipientsRefused({recipient: (550, b"5.1.1 User unknown")})


def image_broken(path: str) -> None:
    """Raise UnreadableImage, caused by a zlib error."""
    try:
        zlib.decompress(b"\x78\x9c" + path.encode())
    except zlib.error as exc:
        raise UnreadableImage(f"cannot identify image file {path!r}") from exc


def disk_full(path: str) -> None:
    """Raise OSError with the kernel's message."""
    raise OSError(errno.ENOSPC, "No space left on device", path)


def exchange_rates_are_a_page() -> None:
    """Raise JSONDecodeError: the service returns an HTML error page."""
    json.loads(OUT_OF_ORDER_PAGE)


def amount_unreadable(text: str = "1.249,00") -> None:
    """Raise InvalidOperation: an amount in another locale's notation."""
    decimal.Decimal(text)


def connection_refused(host: str) -> None:
    """Raise ConnectionRefusedError."""
    raise ConnectionRefusedError(errno.ECONNREFUSED, f"Connect call failed ({host!r}, 443)")


def upstream_answers(status: int, url: str) -> None:
    """Raise UpstreamError."""
    words = {502: "Bad Gateway", 503: "Service Unavailable", 410: "Gone"}
    raise UpstreamError(f"{status} {words.get(status, 'Error')} for POST {url}")


def timed_out(what: str, seconds: float) -> None:
    """Raise TimeoutError."""
    raise TimeoutError(f"{what} did not answer within {seconds:.0f} s")


def field_missing(document: dict[str, object], field: str) -> object:
    """Return a field of the document, or raise KeyError if it is missing."""
    return document[field]
