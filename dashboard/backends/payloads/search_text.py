"""The searchable text of a job: bounded, printable, secrets masked as on the job's page.

If a search could match a secret, it could be guessed step by step, so nothing is left unmasked for speed.
"""

from __future__ import annotations

import json
from typing import Any

from ...redact import LONGEST_WORD, mask_text, without_cut_line, without_cut_word
from .decoding import loads, printable
from .masking import CUT, mask_payload

# For the payload and the error each; the rest of a longer text is not searched.
LIMIT = 8 * 1024


def of_json(raw: bytes | None, *, cut: bool = False) -> str:
    """Return the text of a payload that should be JSON; `cut` = `raw` is only its beginning."""
    if not raw:
        return ""
    if len(raw) > LIMIT:
        raw, cut = raw[:LIMIT], True
    # If nothing is escaped, keys and values are masked in place: much faster than decoding them.
    if b"\\" in raw and not cut:
        try:
            return of_value(mask_payload(loads(raw))[0])
        except ValueError:
            pass  # anything that is not JSON is searched as it is
    return printable(raw, LIMIT, cut=cut)


def of_value(value: Any) -> str:
    """Return the text of a value that is already decoded and masked."""
    return _cut(json.dumps(value, ensure_ascii=False))


def joined(payload: str, error: str | None) -> str:
    """Return both texts, each within the limit; `error` can have any length and is masked here."""
    failure = error or ""
    most = LIMIT + LONGEST_WORD
    failure = mask_text(without_cut_word(failure[:most]) if len(failure) > most else failure)
    return f"{_cut(payload)}\n{_cut(failure)}".strip()


def ends(stack: str | None) -> str | None:
    """Return a stack trace with secrets masked, or both its ends if it is long: Python has the innermost call last,
    others first."""
    if stack is None or len(stack) <= 2 * LIMIT:
        return mask_text(stack) if stack else None
    return mask_text(f"{without_cut_word(stack[:LIMIT])}\n{CUT}\n{without_cut_line(stack[-LIMIT:])}")


def _cut(text: str) -> str:
    return text if len(text) <= LIMIT else text[:LIMIT] + CUT
