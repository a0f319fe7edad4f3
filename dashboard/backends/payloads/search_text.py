"""The text of a job that a search looks through: bounded, printable, secrets masked as on the job's own page.

A text in which a secret can be found is a way to read it by guessing, so nothing is left unmasked for speed.
"""

from __future__ import annotations

import json
from typing import Any

from ...redact import mask_text
from .decoding import CUT, bounded, loads, printable

# Of the payload and of the error each; the rest of a longer one is not searched.
LIMIT = 8 * 1024


def of_json(raw: bytes | None, *, cut: bool = False) -> str:
    """The text of a payload that should be JSON; `cut` = `raw` is only its beginning."""
    if not raw:
        return ""
    if len(raw) > LIMIT:
        raw, cut = raw[:LIMIT], True
    # Where nothing is escaped, names and values are masked as they stand: much quicker than to decode them.
    if b"\\" in raw and not cut:
        try:
            return of_value(bounded(loads(raw))[0])
        except ValueError:
            pass  # what is no JSON is searched as it stands
    return printable(raw, LIMIT)


def of_value(value: Any) -> str:
    """The text of a value that is decoded and masked already."""
    return _cut(json.dumps(value, ensure_ascii=False))


def joined(payload: str, error: str | None) -> str:
    """Both texts, each within the limit; `error` may be of any length and is masked here."""
    failure = mask_text(error[: LIMIT + 1]) if error else ""
    return f"{_cut(payload)}\n{_cut(failure)}".strip()


def ends(stack: str | None) -> str | None:
    """A stack with secrets masked; of a long one both ends: Python tells the innermost call last, others first."""
    if stack is None or len(stack) <= 2 * LIMIT:
        return mask_text(stack) if stack else None
    return mask_text(f"{stack[:LIMIT]}\n{CUT}\n{stack[-LIMIT:]}")


def _cut(text: str) -> str:
    return text if len(text) <= LIMIT else text[:LIMIT] + CUT
