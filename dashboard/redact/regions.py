"""Where a value begins and ends: within quotes or brackets, a block, or a word; and what is no secret."""

from __future__ import annotations

import re

from .names import MAX_NAME, OWN, WEAK, words
from .placeholder import MASK

# Further words of a value, up to the quote that also encloses its name: "password=correct horse".
_FURTHER_WORDS = re.compile(r"""(?:[ ]{1,9}+[^\s"'\\=:;,&]++)++(?=\\{0,7}(["']))""")
_OPENING = re.compile(r"""[bBuUrRfF]{0,2}(\\{0,7})(["'])""")
_TRIPLE = re.compile(r"""[bBuUrRfF]{0,2}("{3}|'{3})""")
# A YAML block below the name: "password: |" and indented lines.
_BLOCK = re.compile(r"[|>][+-]?[1-9]?[+-]?[ \t]*+(?:\n[ \t]++[^\n]*+)++")
_GAP = re.compile(r"\s{0,100}+")
# A run of backslashes is matched once, from its beginning.
_CLOSING = re.compile(r"""(?<!\\)(\\*+)(["'\n])""")
_BRACKETS = re.compile(r"""[\[({]|[\])}]|\n|(?<!\\)\\*+["']""")
_RUN = re.compile(r"""(?:[^\s,;&"'(){}\[\]<>\\]++|\\(?!["'\\nrtu]))++""")
_REST = re.compile(r"""(?:[(\[{<][^\s,;&"'(){}\[\]<>\\]*+[)\]}>]?[^\s,;&"'(){}\[\]<>\\]++)*+""")
# More words of a value, up to the next name.
_MORE_WORDS = re.compile(r"""(?:[ ]{1,9}+[^\s"'\\=:;,&(){}\[\]<>]++(?![=:]))*+""")
_SCHEME = re.compile(r"(?i:bearer|basic|digest|token|negotiate|ntlm|apikey|hmac|aws4-hmac-sha256|signature)[ ]++")
_PARAMETERS = re.compile(
    r"""(?:[\w-]++=\\?"[^"\n]*+"|[^\s,"'<>\\]++)(?:,[ ]?[\w-]++=(?:\\?"[^"\n]*+"|[^\s,"'<>\\]++))*+"""
)
_COOKIES = re.compile(r"""[^\s;,"'<>\\]++(?:;[ ]?[\w.$%!#*+^|~-]++=(?:[^\s;,"'<>\\]++|(?=[;\s\\]|\Z)))*+""")
_CODE = re.compile(
    r"(?:self|this|cls|settings|config|os|process|env|ENV|request|req|args|kwargs|options|opts|params|data|job|user)"
    r"\.[\w.]{1,99}+\Z"
)
_COUNT = re.compile(r"-?\d{1,3}(?:\.\d{1,20})?\Z")
_IDENTIFIER = re.compile(r"[A-Za-z_][\w.]{0,99}+\Z")
_CALL = re.compile(r"\([^()\n]{0,200}+\)(?!\w)")
_PROSE = re.compile(r"[A-Za-z]{1,40}+[ ]++[A-Za-z'-]{1,40}+(?![\w=:]|[ ]?[=:])")
# What often follows such a name without being a secret: empty values, types, words of messages and of event names.
ABSENT = frozenset({"none", "null", "nil", "undefined", "nan"})
NOTHING = ABSENT | {"true", "false"}
PLAIN = NOTHING | words(
    "str string int integer bytes bool boolean number float optional any list dict array object secretstr"
    " required missing invalid expired incorrect wrong unknown empty needed denied rejected revoked failed failure"
    " error errors ok okay yes no on off success succeeded enabled disabled anonymous basic digest bearer"
    " too must should is was has have had not cannot can't can could may might will would this that the a an"
    " field fields please unable"
    " reset refresh expire update change changed rotate validate verify sync cleanup clean create delete send check"
    " issue login logout unauthorized forbidden malformed unexpected short long weak mismatch unsupported"
)


def region_at(text: str, at: int, strength: int) -> tuple[int, int] | None:
    """Return the region of a value that begins at `at`: within quotes or brackets, or one word."""
    if strength == OWN:
        return _own_region(text, at, several_words=False)
    if (opening := _OPENING.match(text, at)) is not None:
        return _quoted_region(text, opening)
    if text[at : at + 1] in ("[", "{"):
        return _bracket_region(text, at, same_line=False)
    run = _RUN.match(text, at)
    return _unless_plain(run) if run is not None else None


def quoted_region_at(text: str, at: int) -> tuple[int, int] | None:
    """Return the region within the quotes that begin at `at`; None if none do."""
    opening = _OPENING.match(text, at)
    return _quoted_region(text, opening) if opening is not None else None


def named_region(text: str, found: re.Match[str], strength: int, *, quoted: bool) -> tuple[int, int] | None:
    """Return the region of the value after the name in `found` (see values.py); None if it is not a secret."""
    at, sign, start = found.end(), found[4], found.start(1)
    if quoted:  # JSON can put the value on the next line
        at = _gap_end(text, at)
    if (triple := _TRIPLE.match(text, at)) is not None:
        return _triple_region(text, triple)
    if strength != OWN and (opening := _OPENING.match(text, at)) is not None:
        return _quoted_region(text, opening)
    if sign == ":" and (block := _BLOCK.match(text, at)) is not None:
        return block.span()
    if strength == OWN:
        return _own_region(text, at, several_words=not quoted)
    if sign == ":" and not quoted and _is_word_of_message(text, start):
        return None
    if text[at : at + 1] in ("[", "{") or (text[at : at + 1] == "(" and (quoted or sign != ":")):
        return _bracket_region(text, at, same_line=not quoted)
    is_header = sign == ":" and not quoted and "cookie" in found[1].lower()
    if is_header and (cookies := _COOKIES.match(text, at)) is not None:
        return _unless_plain(cookies)
    if (scheme := _SCHEME.match(text, at)) is not None and (rest := _PARAMETERS.match(text, scheme.end())) is not None:
        return (at, rest.end()) if rest[0] != MASK or scheme.start() == at else None
    return _bare_region(text, found, at, strength, quoted=quoted)


def _own_region(text: str, at: int, *, several_words: bool) -> tuple[int, int] | None:
    """Return the region of the value of a name in the settings: whatever it is, except nothing."""
    if (opening := _OPENING.match(text, at)) is not None:
        return _quoted_region(text, opening, ABSENT)
    if text[at : at + 1] in ("[", "{", "("):
        return _bracket_region(text, at, same_line=False)
    run = _RUN.match(text, at)
    if run is None or run[0] == MASK or run[0].lower() in ABSENT:
        return None
    rest = _REST.match(text, run.end())
    end = rest.end() if rest is not None else run.end()
    more = _MORE_WORDS.match(text, end) if several_words else None
    return (at, more.end() if more is not None else end)


def _bare_region(text: str, found: re.Match[str], at: int, strength: int, *, quoted: bool) -> tuple[int, int] | None:
    """Return the region of a value without quotes and brackets, which begins at `at`."""
    sign, name = found[4], found[1]
    run = _RUN.match(text, at)
    if run is None:
        return None
    value, following = run[0], text[run.end() : run.end() + 2]
    if len(value) <= MAX_NAME and not quoted:
        if value == name or value == name.rpartition(".")[2] or _CODE.match(value):
            return None
        if following[:1] in ("(", "[") and _IDENTIFIER.match(value):
            if following[:1] == "(" and following[1:] and (following[1] in "\"'" or following[1].isdigit()):
                return _bracket_region(text, run.end(), same_line=True)
            if following[:1] == "[" or _CALL.match(text, run.end()):
                return None
    if len(value) <= 20 and value.rstrip(".:!?").lower() in PLAIN:
        return None
    if strength == WEAK and not quoted and _is_harmless(text, run, sign, spaced=bool(found[5])):
        return None
    if strength == WEAK and _COUNT.match(value):
        return None
    rest = _REST.match(text, run.end())
    end = rest.end() if rest is not None else run.end()
    before = text[found.start(1) - 1] if found.start(1) else ""
    if sign == "=" and before in ("'", '"') and (more := _FURTHER_WORDS.match(text, end)) and more[1] == before:
        end = more.end()
    return None if text[at:end] == MASK else (at, end)


def _is_word_of_message(text: str, start: int) -> bool:
    """Whether the name at `start` is the end of a path or, as in "unexpected token:", a word of a message."""
    before = text[max(0, start - 12) : start].lower()
    return before.endswith(("/", "\\", "unexpected "))


def _is_harmless(text: str, run: re.Match[str], sign: str, *, spaced: bool) -> bool:
    """Whether the text after a word that prose uses too ("auth", "pass", "pin") is prose or a path of names."""
    if sign != ":":
        return False
    if spaced:
        return _PROSE.match(text, run.start()) is not None
    return ":" in run[0] or not any(character.isdigit() for character in run[0])


def _unless_plain(run: re.Match[str]) -> tuple[int, int] | None:
    return None if run[0] == MASK or run[0].lower() in PLAIN else run.span()


def _quoted_region(text: str, opening: re.Match[str], shown: frozenset[str] = NOTHING) -> tuple[int, int] | None:
    """Return the region between quotes, which JSON within a string writes with backslashes; without a closing quote,
    to the end of the line."""
    depth, quote, begin, end = len(opening[1]), opening[2], opening.end(), len(text)
    for found in _CLOSING.finditer(text, begin):
        slashes = len(found[1])
        if found[2] == "\n" or (found[2] == quote and slashes < depth):
            end = found.start()
            break
        if found[2] == quote and slashes % (2 * depth + 2) == depth:
            end = found.end() - 1 - depth
            break
    value = text[begin:end]
    return None if value in ("", MASK) or (len(value) < 10 and value.lower() in shown) else (begin, end)


def _gap_end(text: str, at: int) -> int:
    gap = _GAP.match(text, at)
    return gap.end() if gap is not None else at


def _triple_region(text: str, opening: re.Match[str]) -> tuple[int, int] | None:
    """Return the region between triple quotes; without closing ones, to the end of the text."""
    begin = opening.end()
    end = text.find(opening[1], begin)
    end = len(text) if end < 0 else end
    return None if text[begin:end].strip() in ("", MASK) else (begin, end)


def _bracket_region(text: str, at: int, *, same_line: bool) -> tuple[int, int] | None:
    """Return the region between brackets; without a closing one, to the end of the text or line."""
    level, within = 0, ""
    end = len(text)
    for found in _BRACKETS.finditer(text, at):
        sign = found[0]
        if sign == "\n":
            if same_line:
                end = found.start()
                break
        elif within:
            depth = len(within) - 1
            if sign[-1] == within[-1] and (len(sign) - 1) % (2 * depth + 2) == depth:
                within = ""
        elif sign[-1] in "\"'":
            within = sign
        elif sign in "[({":
            level += 1
        else:
            level -= 1
            if level == 0:
                end = found.start()
                break
    inner = text[at + 1 : end]
    return None if inner.strip() in ("", MASK) else (at + 1, end)
