"""The text of a job that a search looks through: bounded, printable, secrets masked as on the job's own page.

A text in which a secret can be found is a way to read it by guessing, so nothing is left unmasked for speed.
"""

from __future__ import annotations

import json
import re
from typing import Any

from dashboard.backends.payload import (
    CUT,
    MASK,
    bounded,
    holds_secret_name,
    is_secret_name,
    loads,
    mask_text,
    printable,
)

# Of the payload and of the error each; the rest of a longer one is not searched.
LIMIT = 8 * 1024
# The end of a name and its value. The name is looked for backwards from there: forwards it could begin at any quote.
_VALUE = re.compile(r'"\s*+:\s*+("(?:[^"\\]|\\.)*+"?|[\[{]|[^\s,\]}]++)', re.DOTALL)
NAME_LIMIT = 300


def of_json(raw: bytes | None, *, cut: bool = False) -> str:
    """The text of a payload that should be JSON; `cut` = `raw` is only its beginning."""
    if not raw:
        return ""
    if len(raw) > LIMIT:
        raw, cut = raw[:LIMIT], True
    if b"\\" not in raw and not holds_secret_name(raw.decode("utf-8", "replace")):
        return printable(raw, LIMIT)
    if not cut:
        try:
            return of_value(bounded(loads(raw))[0])
        except ValueError:
            pass  # what is no JSON is searched as it stands
    return _masked_pairs(printable(raw, LIMIT))


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


def _masked_pairs(text: str) -> str:
    """`text` of JSON that does not parse, with the values of secret names masked.

    Where such a value is a list or an object, nothing tells where it ends: the text ends there.
    """
    pieces, position = [], 0
    seen = 0
    for found in _VALUE.finditer(text):
        name = _name_before(text, found.start(), seen)
        seen = found.end()
        if name is None or not is_secret_name(_unescaped(name)):
            continue
        pieces.append(text[position : found.start(1)] + MASK)
        position = found.end(1)
        if found[1] in "[{":
            return "".join(pieces)
    return "".join(pieces) + text[position:]


def _name_before(text: str, end: int, first: int) -> str | None:
    """The name whose closing quote is at `end`, from its opening quote on, which is not before `first`."""
    first = max(first, end - NAME_LIMIT - 1)
    at = text.rfind('"', first, end)
    while at > first and text[at - 1] == "\\" and (more := text.rfind('"', first, at - 1)) >= 0:
        at = more
    return text[at + 1 : end] if at >= 0 else None


def _unescaped(name: str) -> str:
    if "\\" not in name:
        return name
    try:
        return str(json.loads(f'"{name}"'))
    except ValueError:
        return name
