"""The words of a provider made fit to show: bounded, one paragraph, and without the secrets that it may repeat."""

from __future__ import annotations

import base64
import json
import re
import unicodedata
from collections.abc import Iterable
from html import escape
from urllib.parse import quote

SHOWN_LIMIT = 1000  # characters of an answer that are kept
_MASK = "•••"


class Scrubber:
    """Takes a channel's secrets out of any text, also in the spellings in which servers send them back."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if secret for form in _secret_spellings(secret)}
        # The longest first, so that no tail of a longer one is left.
        ordered = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered)), re.IGNORECASE) if ordered else None
        self._longest = max(map(len, forms), default=0)

    def redact_text(self, text: str | bytes, *, cut: bool = False) -> str:
        """The text without secrets, control characters and long spaces, at most 1,000 characters.

        `cut` says that the text ends where a limit was, perhaps within a secret: so much is then dropped at its end.
        """
        plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        if self._pattern:
            plain = self._pattern.sub(_MASK, plain)
        if cut and self._longest:
            plain = plain[: -self._longest]
        return one_line(plain, SHOWN_LIMIT)


def one_line(text: str, limit: int) -> str:
    """The text with every run of spaces and controls as one space, without characters that steer its display.

    Bidirectional marks and zero-width characters go: they make a name look like another one.
    """
    kept = "".join(_replace_invisible(character) for character in text[: 4 * limit])
    plain = " ".join(kept.split())
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


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
