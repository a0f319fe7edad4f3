"""Messages without the parts that differ between jobs: ids, numbers, addresses, paths, quoted values. Pure.

Every pattern here is linear in its input: runs are bounded, neighbors share no character, and no repetition contains
another. The input is bounded too, so that no message can block a page.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

# The part of a message that is read; the rest of a longer one does not distinguish errors.
MESSAGE_LIMIT = 2048
FOLDED_LIMIT = 500
_NUMBER, _ID, _HEX = "<n>", "<id>", "<hex>"
# A word of letters and digits is an id from this length, like `k3jd93kd0sk2`; shorter: `sha256`, `user7`.
ID_LENGTH = 12
HEX_LENGTH = 8

_TOKEN = re.compile(
    r"""
    (?P<url> (?<![\w+.-]) [A-Za-z][A-Za-z0-9+.-]{1,20} :// [^\s"'`<>()\[\]{}]+ )
  | (?P<email> (?<![\w.+-]) [\w.+-]{1,64} @ [\w-]{1,63} (?: \. [\w-]{1,63} ){1,8} )
  | (?P<quoted> (?<!\w) (?:[bru](?=['"]))?
        (?: "[^"\n]{0,1000}" | '[^'\n]{0,1000}'(?!\w) | `[^`'\n]{0,1000}[`']
          | “[^“”\n]{0,1000}+” | ‘[^‘’\n]{0,1000}+’ ) )
  | (?P<uuid> (?<!\w) [0-9A-Fa-f]{8} - [0-9A-Fa-f]{4} - [0-9A-Fa-f]{4} - [0-9A-Fa-f]{4} - [0-9A-Fa-f]{12} (?!\w) )
  | (?P<time> (?<!\w) \d{4}-\d\d-\d\d
        (?: [T\ ] \d\d:\d\d (?: :\d\d (?:[.,]\d{1,9})? )? (?: Z | [+-]\d\d:?\d\d )? )? (?!\w) )
  | (?P<ip> (?<![\w.]) \d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3} (?: :\d{1,5} )? (?![\w.]*\w) )
  | (?P<clock> (?<![\w:]) \d{1,2}:\d\d (?: :\d\d (?: [.,]\d{1,9} )? )? (?![\w:]) )
  | (?P<ip6> (?<![\w:]) (?: [0-9A-Fa-f]{1,4} : ){2,7} (?: [0-9A-Fa-f]{1,4} | : [0-9A-Fa-f:]{0,39} )
           | (?<![\w:]) (?: [0-9A-Fa-f]{1,4} )? :: [0-9A-Fa-f]{1,4} [0-9A-Fa-f:.]{0,39} )
  | (?P<drive> (?<!\w) [A-Za-z]:\\[^\s"'`<>|:*?(){}\[\],;]* )
  | (?P<path> (?<![\w/.~-]) (?: ~ | \.{1,2} )? / [^\s"'`<>|:()\[\]{},;]+ )
  | (?P<hex> (?<!\w) 0[xX][0-9A-Fa-f]{1,64} )
  | (?P<word> \w+ )
    """,
    re.VERBOSE,
)
_KINDS = {
    "email": "<email>",
    "uuid": _ID,
    **dict.fromkeys(("ip", "ip6"), "<ip>"),
    **dict.fromkeys(("path", "drive"), "<path>"),
    "quoted": "<value>",
    **dict.fromkeys(("time", "clock"), "<time>"),
    "hex": _HEX,
}
_DIGITS = re.compile(r"\d+")
_VERSION = re.compile(r"v\d{1,2}\Z")
# Splits a text so that words and separators alternate.
NON_WORDS = re.compile(r"(\W+)")
_HEX_WORD = re.compile(r"[0-9A-Fa-f]+\Z")
# 1,234.56 is one number; the length of a list of values does not matter.
_PARTS = re.compile(r"<n>(?:[.,:]<n>)+")
_LISTED = re.compile(r"(<\w{1,5}>)(?:, ?\1)+")


def normalize_message(message: str) -> str:
    """`message` on one line with placeholders for variable parts; at most FOLDED_LIMIT characters."""
    text = _TOKEN.sub(_placeholder_for, message[:MESSAGE_LIMIT])
    text = _PARTS.sub(_NUMBER, " ".join(text.split()))
    text = _LISTED.sub(r"\1, …", text)
    return text if len(text) <= FOLDED_LIMIT else text[:FOLDED_LIMIT] + "…"


def folded_word(word: str) -> str:
    """A word with its variable part replaced: `user42` becomes `user<n>`, `5f3a9c01b7` becomes `<hex>`."""
    if not any(char.isdigit() for char in word):
        return word
    if word.isdigit():
        return _NUMBER
    if len(word) >= HEX_LENGTH and _HEX_WORD.match(word):
        return _HEX
    if len(word) >= ID_LENGTH and not _is_name_with_number(word):
        return _ID
    return _DIGITS.sub(_NUMBER, word)


def _is_name_with_number(word: str) -> bool:
    """Whether it is a name that ends in a number, like `worker_process_17`, rather than random characters."""
    return len(_DIGITS.findall(word)) == 1 and word[-1].isdigit()


def _placeholder_for(match: re.Match[str]) -> str:
    kind = match.lastgroup or ""
    if kind == "word":
        return folded_word(match[0])
    if kind == "url":
        return _folded_url(match[0])
    return _KINDS[kind]


def _folded_url(url: str) -> str:
    """Scheme, host and path with variable parts replaced, without user info, port, query and fragment."""
    bare = url.rstrip(".,;:!?")
    rest = url[len(bare) :]
    try:
        parts = urlsplit(bare)
        host = parts.hostname or ""
    except ValueError:
        return "<url>" + rest
    if not any(char.isalpha() for char in host):
        host = "<ip>" if host else ""
    else:
        host = ".".join(_folded_part(label) for label in host.split("."))
    path = "/".join(_folded_part(segment) for segment in parts.path.split("/"))
    return f"{parts.scheme}://{host}{path}{rest}"


def _folded_part(part: str) -> str:
    """A path segment or host label: unchanged if it is a plain name or a version, otherwise with placeholders."""
    if not any(char.isdigit() for char in part) or _VERSION.match(part):
        return part
    words = NON_WORDS.split(part)
    return "".join(folded_word(word) for word in words) if len(part) < ID_LENGTH else _ID
