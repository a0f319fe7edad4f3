"""Secrets recognized by the name before them: in code, JSON, headers, query strings, command lines and logs."""

from __future__ import annotations

import re
from functools import lru_cache

from .mask import MASK
from .names import MAX_NAME, NAME_KEYS, NO, STATES, STRONG, TWO_WORDS, VALUE_KEYS, WEAK, WORD, strength_of, words

# A text without any of these contains no name of a secret.
_HINTS = (
    *("pass", "token", "secret", "key", "auth", "pwd", "cookie", "credential", "sess", "card", "pin", "pan", "tan"),
    *("sid", "sig", "jwt", "otp", "dsn", "bearer", "number", "string", "webhook", "code", "kennwort", "contrase"),
    *("cvc", "cvv", "iban", "ssn", "psk", "srf", "senha", "hmac", "phrase", "connstr", "social", "motdepasse"),
)
_QUOTE = r"""\\{0,7}["']"""
_QUOTED = re.compile(_QUOTE)
# A name and the characters between it and its value, in code, JSON, headers, query strings and log lines.
_NAMED = re.compile(
    r"""(?<![\w.-])(?:--?)?+([A-Za-z_][\w.-]{0,99}+)((?:\\{0,7}["']){1,2})?+([ \t]{0,40})"""
    r"""(=>|:=|[=:](?![:=]))([ \t]{0,40}+)"""
)
_FLAG = re.compile(r"""(?<![\w-])--([A-Za-z][\w-]{0,99}+)(?:[ ]++|["'],[ ]?(?=["']))(?!-)""")
_ELEMENT = re.compile(r"<(?:[\w-]{1,40}:)?([A-Za-z_][\w.-]{0,99}+)(?:[ ][^<>]{0,300})?>([^<]+)(?=</)")
# {"name": "password", "value": "x"}, and the reverse order.
_NAMES, _VALUES = "|".join(NAME_KEYS), "|".join(VALUE_KEYS)
_NAME_VALUE = re.compile(
    rf"""{_QUOTE}(?i:{_NAMES}){_QUOTE}\s{{0,9}}(?:=>|:)\s{{0,9}}{_QUOTE}([\w .-]{{1,100}}+){_QUOTE}"""
    rf""",\s{{0,40}}{_QUOTE}(?i:{_VALUES}){_QUOTE}\s{{0,9}}(?:=>|:)\s{{0,9}}"""
)
_VALUE_NAME = re.compile(
    rf"""({_QUOTE}(?i:{_VALUES}){_QUOTE}\s{{0,9}}(?:=>|:)\s{{0,9}})({_QUOTE}[^"'\\\n]{{1,4000}}+{_QUOTE}|[\w.+-]{{1,100}}+)"""
    rf"""(?=,\s{{0,40}}{_QUOTE}(?i:{_NAMES}){_QUOTE}\s{{0,9}}(?:=>|:)\s{{0,9}}{_QUOTE}([\w .-]{{1,100}}+){_QUOTE})"""
)
# <add key="password" value="x"/>
_ATTRIBUTES = re.compile(
    rf"""(?<![\w-])(?i:{_NAMES})[ ]?=[ ]?{_QUOTE}([\w .:-]{{1,100}}+){_QUOTE}\s{{1,40}}(?i:{_VALUES})[ ]?=[ ]?"""
)
# A name and its value in a query string or JSON that is part of a URL itself: password%3Dx, %22pin%22%3A%22x%22.
_PERCENT = re.compile(
    r"""(?:(?<![\w.-])|(?<=%[0-9A-Fa-f]{2})|(?<=%25[0-9A-Fa-f]{2}))([A-Za-z_][\w.-]{0,99}+)"""
    r"""((?:%(?:25){0,2}(?:22|27|5[DdCc])){0,4}+%(?:25){0,2}3[AaDd](?:\+|%(?:25){0,2}(?:20|22|27|5[Cc])){0,8}+)"""
    r"""((?:[^\s%&"'<>]|%(?!(?:25){0,2}(?:22|26|27|2[Cc]|3[Bb]|5[Cc]|7[Dd])))++)"""
)
# The same in HTML: &quot;password&quot;: &quot;x&quot;.
_ENTITY = "&(?:quot|apos|#34|#39|#x22|#x27);"
_ESCAPED = re.compile(
    rf"(?<![\w.-])([A-Za-z_][\w.-]{{0,99}}+)({_ENTITY}\s{{0,9}}(?:=>|=&gt;|[=:])\s{{0,9}}{_ENTITY})"
    rf"((?:(?!{_ENTITY})[^\n])++)"
)
# A pair within a list of pairs: [["Authorization", "Bearer x"], ("Cookie", "y")].
_PAIR = re.compile(rf"""[\[(),]\s{{0,40}}[\[(]\s{{0,40}}{_QUOTE}([A-Za-z][\w -]{{0,99}}+){_QUOTE}\s?,\s{{0,40}}""")

# A single pair, outside a list: ("password", "x").
_LONE_PAIR = re.compile(rf"""(?<![\w\])])\(\s{{0,9}}[bBuU]?{_QUOTE}([A-Za-z][\w -]{{0,99}}+){_QUOTE}\s?,\s{{0,9}}""")
_END_OF_PAIR = re.compile(rf"""{_QUOTE}\s?,?\s?\)|\Z""")
# Strings that follow such a name in a list of field names: ("password", "email").
_FIELDS = words("email mail user username login name id host port url address phone role type account")
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
_SCHEME = re.compile(r"(?i:bearer|basic|digest|token|negotiate|ntlm|apikey|hmac|aws4-hmac-sha256|signature)[ ]++")
_PARAMETERS = re.compile(
    r"""(?:[\w-]++=\\?"[^"\n]*+"|[^\s,"'<>\\]++)(?:,[ ]?[\w-]++=(?:\\?"[^"\n]*+"|[^\s,"'<>\\]++))*+"""
)
_COOKIES = re.compile(r"""[^\s;,"'<>\\]++(?:;[ ]?[^\s;,"'<>\\]++)*+""")
_CODE = re.compile(
    r"(?:self|this|cls|settings|config|os|process|env|ENV|request|req|args|kwargs|options|opts|params|data|job|user)"
    r"\.[\w.]{1,99}+\Z"
)
_COUNT = re.compile(r"-?\d{1,3}(?:\.\d{1,20})?\Z")
_IDENTIFIER = re.compile(r"[A-Za-z_][\w.]{0,99}+\Z")
_CALL = re.compile(r"\([^()\n]{0,200}+\)(?!\w)")
_PROSE = re.compile(r"[A-Za-z]{1,40}+[ ]++[A-Za-z'-]{1,40}+(?![\w=:]|[ ]?[=:])")
# What often follows such a name without being a secret: empty values, types, words of messages and of event names.
_NOTHING = frozenset({"none", "null", "nil", "true", "false", "undefined", "nan"})
_PLAIN = _NOTHING | words(
    "str string int integer bytes bool boolean number float optional any list dict array object secretstr"
    " required missing invalid expired incorrect wrong unknown empty needed denied rejected revoked failed failure"
    " error errors ok okay yes no on off success succeeded enabled disabled anonymous basic digest bearer"
    " too must should is was has have had not cannot can't can could may might will would this that the a an"
    " field fields please unable"
    " reset refresh expire update change changed rotate validate verify sync cleanup clean create delete send check"
    " issue login logout unauthorized forbidden malformed unexpected short long weak mismatch unsupported"
)
# What can be between a part of a name and the sign after the name; checked for at most LOOKS parts per text.
_ASSIGNED = re.compile(r"""([\w.-]{0,100}+)(?:\\{0,7}["']){0,2}[ \t]{0,40}[=:]""")
LOOKS = 100


def _names_in(text: str, low: str) -> tuple[bool, bool]:
    """Return (whether the text may contain the name of a secret, whether there may be one before `=` or `:`)."""
    signs = "=" in text or ":" in text
    if not signs and "%" not in text and "--" not in text and "</" not in text and "(" not in text and "[" not in text:
        return False, False
    hinted = False
    looks = LOOKS
    for hint in _HINTS:
        at = low.find(hint)
        while at >= 0:
            hinted = True
            if not signs:
                return True, False
            looks -= 1
            found = _ASSIGNED.match(low, at)
            if looks == 0 or (found is not None and (len(low) != len(text) or _is_named(text, at, found.end(1)))):
                return True, True
            at = low.find(hint, at + 1)
    return hinted, False


def _is_named(text: str, at: int, end: int) -> bool:
    """Whether the name that ends with text[at:end] indicates a secret."""
    begin, lowest = at, max(0, at - MAX_NAME)
    while begin > lowest and (text[begin - 1].isalnum() or text[begin - 1] in "_-."):
        begin -= 1
    name = text[begin:end]
    return (strength_of(name) or _strength_in_prose(name) or _two_words(text, begin, name)) != NO


def mask_named(text: str) -> str:
    """Return `text` with every value after the name of a secret replaced by MASK. Time: linear."""
    hinted, assigned = _names_in(text, text.lower())
    if not hinted:
        return text
    if assigned:
        text = _mask_assigned(text)
    if "val" in text or "Val" in text or "VAL" in text or '"v"' in text or "'v'" in text:
        text = _VALUE_NAME.sub(_mask_before, _mask_behind(_NAME_VALUE, text))
        text = _mask_behind(_ATTRIBUTES, text)
    if "%" in text:
        text = _PERCENT.sub(_mask_last, text)
    if "&" in text:
        text = _ESCAPED.sub(_mask_last, text)
    if "--" in text:
        text = _mask_behind(_FLAG, text)
    if "</" in text:
        text = _ELEMENT.sub(_mask_element, text)
    if "[" in text or "(" in text:
        text = _mask_behind(_PAIR, text)
    if "(" in text and "," in text:
        text = _mask_lone_pairs(text)
    return text


def mask_commands(text: str) -> str:
    """Return `text` without the passwords in curl commands and SQL, which no such name precedes. Time: linear."""
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
        opening = _OPENING.match(text, found.end())
        region = _quoted_region(text, opening) if opening is not None else None
        if region is not None:
            parts += (text[done : region[0]], MASK)
            done = region[1]
    return "".join((*parts, text[done:])) if parts else text


def _mask_lone_pairs(text: str) -> str:
    """Mask the value of each (name, value) pair on its own, not of the arguments of a call."""
    parts: list[str] = []
    done = 0
    for found in _LONE_PAIR.finditer(text):
        opening = _OPENING.match(text, found.end())
        if found.start() < done or opening is None or _strength_in_prose(found[1]) != STRONG:
            continue
        region = _quoted_region(text, opening)
        if region is None or _END_OF_PAIR.match(text, region[1]) is None:
            continue
        value = text[region[0] : region[1]]
        if value.lower() in _FIELDS or value.lower() in _PLAIN or (value.isidentifier() and strength_of(value) != NO):
            continue
        parts += (text[done : region[0]], MASK)
        done = region[1]
    return "".join((*parts, text[done:])) if parts else text


def _mask_assigned(text: str) -> str:
    """Mask the values after `name=`, `name:`, `"name":` and `name=>`."""
    parts: list[str] = []
    done = 0
    for found in _NAMED.finditer(text):
        start, name = found.start(1), found[1]
        if start < done:
            continue
        quoted = found[2] is not None
        strength = strength_of(name) if quoted else _strength_in_prose(name)
        if strength == NO and (strength := _two_words(text, start, name)) == NO:
            continue
        region = _region(text, found, strength, quoted=quoted)
        if region is None:
            continue
        begin, end = region
        parts += (text[done:begin], MASK)
        done = end
    return "".join((*parts, text[done:])) if parts else text


@lru_cache(8192)
def _strength_in_prose(name: str) -> int:
    """Return the strength of an unquoted name: only the last of dotted names counts, and names of errors do not."""
    name = name.rpartition(".")[2]
    first = WORD.match(name)
    return NO if first is not None and first[0].lower() in STATES else strength_of(name)


def _two_words(text: str, start: int, name: str) -> int:
    firsts = TWO_WORDS.get(name.lower())
    if firsts is None or text[start - 1 : start] not in (" ", "-", "_"):
        return NO
    before = text[max(0, start - 12) : start - 1].lower()
    return STRONG if before.endswith(firsts) else NO


def _region(text: str, found: re.Match[str], strength: int, *, quoted: bool) -> tuple[int, int] | None:
    """Return the start and end of the value to mask; None if it is not a secret."""
    at, sign = found.end(), found[4]
    if quoted:  # JSON can put the value on the next line
        at = _gap_end(text, at)
    if (triple := _TRIPLE.match(text, at)) is not None:
        return _triple_region(text, triple)
    if (opening := _OPENING.match(text, at)) is not None:
        return _quoted_region(text, opening)
    if sign == ":" and (block := _BLOCK.match(text, at)) is not None:
        return block.span()
    if sign == ":" and not quoted and _is_path_or_message(text, found.start(1)):
        return None
    if text[at : at + 1] in ("[", "{") or (text[at : at + 1] == "(" and (quoted or sign != ":")):
        return _bracket_region(text, at, same_line=not quoted)
    if (
        not quoted
        and sign == ":"
        and "cookie" in found[1].lower()
        and (cookies := _COOKIES.match(text, at)) is not None
    ):
        return _unless_plain(cookies)
    if (scheme := _SCHEME.match(text, at)) is not None and (rest := _PARAMETERS.match(text, scheme.end())) is not None:
        return (at, rest.end()) if rest[0] != MASK or scheme.start() == at else None
    run = _RUN.match(text, at)
    return None if run is None else _run_region(text, found, run, strength, quoted=quoted)


def _is_path_or_message(text: str, start: int) -> bool:
    """Whether the name at `start` is the end of a path ("/app/token: not found") or what a parser did not expect."""
    return text[start - 1 : start] in ("/", "\\") or text[max(0, start - 12) : start].lower().endswith("unexpected ")


def _run_region(
    text: str, found: re.Match[str], run: re.Match[str], strength: int, *, quoted: bool
) -> tuple[int, int] | None:
    """Return the region of a value without quotes or brackets; None if it is code or prose."""
    name, sign, value, following = found[1], found[4], run[0], text[run.end() : run.end() + 2]
    if len(value) <= MAX_NAME and not quoted:
        if value == name or value == name.rpartition(".")[2] or _CODE.match(value):
            return None
        if following[:1] in ("(", "[") and _IDENTIFIER.match(value):
            if following[:1] == "(" and following[1:] and (following[1] in "\"'" or following[1].isdigit()):
                return _bracket_region(text, run.end(), same_line=True)
            if following[:1] == "[" or _CALL.match(text, run.end()):
                return None
    if len(value) <= 20 and value.rstrip(".:!?").lower() in _PLAIN:
        return None
    if strength == WEAK and not quoted and _is_harmless(text, run, sign, spaced=bool(found[5])):
        return None
    if strength == WEAK and _COUNT.match(value):
        return None
    rest = _REST.match(text, run.end())
    end = rest.end() if rest is not None else run.end()
    before = text[found.start(1) - 1 : found.start(1)]
    if sign == "=" and before in ("'", '"') and (more := _FURTHER_WORDS.match(text, end)) and more[1] == before:
        end = more.end()
    return None if text[run.start() : end] == MASK else (run.start(), end)


def _is_harmless(text: str, run: re.Match[str], sign: str, *, spaced: bool) -> bool:
    """Whether the text after a word that prose uses too ("auth", "pass", "pin") is prose or a path of names."""
    if sign != ":":
        return False
    if spaced:
        return _PROSE.match(text, run.start()) is not None
    return ":" in run[0] or not any(character.isdigit() for character in run[0])


def _unless_plain(run: re.Match[str]) -> tuple[int, int] | None:
    return None if run[0] == MASK or run[0].lower() in _PLAIN else run.span()


def _quoted_region(text: str, opening: re.Match[str]) -> tuple[int, int] | None:
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
    return None if value in ("", MASK) or (len(value) < 10 and value.lower() in _NOTHING) else (begin, end)


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


def _mask_behind(pattern: re.Pattern[str], text: str) -> str:
    """Mask the value after each match of `pattern` whose group 1 is the name of a secret."""
    parts: list[str] = []
    done = 0
    for found in pattern.finditer(text):
        if found.start() < done or strength_of(found[1]) == NO:
            continue
        at = found.end()
        opening = _OPENING.match(text, at)
        if opening is not None:
            region = _quoted_region(text, opening)
        elif text[at : at + 1] in ("[", "{"):
            region = _bracket_region(text, at, same_line=False)
        else:
            run = _RUN.match(text, at)
            region = _unless_plain(run) if run is not None else None
        if region is not None:
            parts += (text[done : region[0]], MASK)
            done = region[1]
    return "".join((*parts, text[done:])) if parts else text


def _mask_last(found: re.Match[str]) -> str:
    if strength_of(found[1]) == NO or (len(found[3]) <= 20 and found[3].lower() in _NOTHING):
        return found[0]
    return f"{found[1]}{found[2]}{MASK}"


def _mask_before(found: re.Match[str]) -> str:
    if strength_of(found[3]) == NO:
        return found[0]
    opening = _QUOTED.match(found[2])
    quote = opening[0] if opening else ""
    return f"{found[1]}{quote}{MASK}{quote}"


def _mask_element(found: re.Match[str]) -> str:
    if strength_of(found[1]) == NO or not found[2].strip():
        return found[0]
    return found[0][: found.start(2) - found.start()] + MASK
