"""Makes a provider's response safe to show: bounded, one paragraph, and without the secrets that it may repeat."""

from __future__ import annotations

import base64
import functools
import json
import re
import unicodedata
from collections.abc import Iterable
from html import escape
from urllib.parse import quote

SHOWN_LIMIT = 1000  # characters of a response that are stored
_MASK = "•••"


class Scrubber:
    """Removes a channel's secrets from any text, also in the encodings in which servers send them back."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if secret for form in _secret_spellings(secret)}
        # Longest first, so that no tail of a longer one is left.
        ordered = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered)), re.IGNORECASE) if ordered else None
        self._longest = max(map(len, forms), default=0)

    def redact_text(self, text: str | bytes, *, cut: bool = False) -> str:
        """The text without secrets, control characters and runs of spaces, at most 1,000 characters.

        `cut`: the text was truncated, perhaps within a secret, so its end is dropped by the length of the longest one.
        """
        plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        if self._pattern:
            plain = self._pattern.sub(_MASK, plain)
        if cut and self._longest:
            plain = plain[: -self._longest]
        return plain_line(plain, SHOWN_LIMIT)


def plain_line(text: str, limit: int) -> str:
    """The text with every run of spaces and controls as one space, without characters that change its display.

    Bidirectional marks and zero-width characters are removed, because they make one name look like another.
    """
    start = text[: 4 * limit]
    # Most names and messages have no such character.
    kept = start if start.isascii() and start.isprintable() else "".join(map(_replace_invisible, start))
    plain = " ".join(kept.split())
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


@functools.lru_cache(maxsize=4096)
def _replace_invisible(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Cc", "Zl", "Zp"):
        return " "
    return "" if category in ("Cf", "Cs") else character


def _secret_spellings(secret: str) -> set[str]:
    raw = secret.encode()
    plain = {secret, secret.strip()}
    encoded = {
        *(quote(secret, safe=""), quote(secret), escape(secret), json.dumps(secret)[1:-1]),
        secret.replace("/", "\\/"),
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode(),
    }
    return {form for form in plain | encoded if form}
