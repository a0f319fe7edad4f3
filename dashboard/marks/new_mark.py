"""What a user or a deploy script submits as a mark, checked. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit

from ..clock import instant, iso
from ..errors import Unsupported
from ..model import Mark
from ..redact import mask_text
from ..units import format_duration

MAX_TEXT, MAX_VERSION, MAX_LINK = 200, 60, 500
KEEP_DAYS = 30
KEEP_S = KEEP_DAYS * 86_400.0
# Clocks of two machines differ by less than this.
AHEAD_S = 60.0


def build_mark(text: str, version: str | None, link: str | None, at: float | None, who: str, now: float) -> Mark:
    """A mark of `who`, without an id; `at` None is `now`, both in seconds since 1970. Secrets are masked.

    Raises Unsupported, naming the field, for an empty or too long text, a link that is not an http or https URL, and a
    time in the future or more than KEEP_DAYS ago.
    """
    words = _short_text("text", text, MAX_TEXT)
    if not words:
        raise Unsupported("text: required.", hint="Say what changed, such as deploy.")
    return Mark(
        at=now if at is None else _check_time(at, now),
        text=words,
        version=_short_text("version", version or "", MAX_VERSION) or None,
        link=_check_link(link.strip()) if link and link.strip() else None,
        who=who,
    )


def is_link(link: str) -> bool:
    """Whether it is an http or https URL without a password that pages may link to."""
    if len(link) > MAX_LINK or not link.isprintable() or " " in link or "\\" in link:
        return False
    try:
        parts = urlsplit(link)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        return False


def _short_text(name: str, text: str, most: int) -> str:
    """`text` in one line. Raises Unsupported for one that is longer than `most`."""
    if len(text) > most:
        raise Unsupported(f"{name}: expected at most {most} characters, got {len(text):,}.")
    return mask_text(" ".join(text.split()))[:most]


def _check_link(link: str) -> str:
    masked = mask_text(link)
    if max(len(link), len(masked)) > MAX_LINK:
        raise Unsupported(f"link: expected at most {MAX_LINK} characters, got {len(link):,}.")
    if not is_link(link):
        raise Unsupported("link: expected a URL that begins with http:// or https://, without a password.")
    return masked


def _check_time(at: float, now: float) -> float:
    if at > now + AHEAD_S:
        raise Unsupported(
            f"at: {format_duration(at - now)} in the future. Here it is {iso(instant(now))}.",
            hint="Check the clock of the machine that sends it, or leave `at` out to use the time here.",
        )
    if not at >= now - KEEP_S:
        raise Unsupported(f"at: more than {KEEP_DAYS} days ago, which is as far as the history goes back.")
    return at
