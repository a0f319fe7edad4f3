"""Passwords in commands and SQL, which no name of a secret precedes."""

from __future__ import annotations

import re

from .placeholder import MASK
from .regions import quoted_region_at

# `curl -u user:password`, also as a list of arguments.
_CURL_USER = re.compile(
    r"""(?:(?<=[\s"'])|\A)(?:-[uU][ ]{0,4}+|--(?:proxy-)?user(?:[ ]{1,4}+|=))(?:["'],[ ]{0,4})?+"""
    r"""(?:(?P<quote>\\{0,7}["'])[^\s:"'\\]{0,200}+:(?P<quoted>[^"'\\\n]++)|(?!-)[^\s:"'\\]{0,200}+:(?P<bare>[^\s"'\\]++))"""
)
# The SQL before the password of a user.
_SQL = re.compile(
    r"""(?i:(identified)\s{1,9}(?:with\s{1,9}["'`]?\w{1,60}["'`]?\s{1,9})?(?:by|as)\s{1,9}(?:password\s{1,9})?"""
    r"""|(?:with|encrypted)\s{1,9}password\s{1,9})(?=\\{0,7}["'])"""
)
_SQL_BEFORE = ("create user", "alter user", "grant ")


def mask_commands(text: str) -> str:
    """Return `text` without the passwords in curl commands and SQL. Time: linear."""
    low = text.lower()
    if "curl" in low:
        text = _CURL_USER.sub(_mask_user, text)
    if "identified" in low or "password" in low:
        text = _mask_sql(text)
    return text


def _mask_user(found: re.Match[str]) -> str:
    part = "quoted" if found["quoted"] is not None else "bare"
    before = found[0][: found.start(part) - found.start()]
    # Docker's -u 1000:1000 names a group.
    return found[0] if found[part].isdigit() and before[-2:-1].isdigit() else f"{before}{MASK}"


def _mask_sql(text: str) -> str:
    parts: list[str] = []
    done = 0
    for found in _SQL.finditer(text):
        if found.start() < done:
            continue
        # "the job identified by 'x'" is prose.
        if found[1] and not found[1].isupper():
            before = text[max(0, found.start() - 150) : found.start()].lower()
            if not any(words in before for words in _SQL_BEFORE):
                continue
        region = quoted_region_at(text, found.end())
        if region is not None:
            parts += (text[done : region[0]], MASK)
            done = region[1]
    return "".join((*parts, text[done:])) if parts else text
