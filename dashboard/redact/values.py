"""Secrets recognized by the name before them: in code, JSON, headers, query strings, command lines and logs."""

from __future__ import annotations

import re

from .names import MAX_NAME, NAME_KEYS, NO, OWN, STATES, STRONG, TWO_WORDS, VALUE_KEYS, strength_of, words
from .placeholder import MASK
from .regions import ABSENT, NOTHING, PLAIN, named_region, quoted_region_at, region_at
from .rules import ACTIVE, masking_cache
from .written_names import WORD

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
_ELEMENT = re.compile(r"<(?:[\w-]{1,40}:)?([A-Za-z_][\w.-]{0,99}+)(?:[ ][^<>]{0,300})?>([^<]+(?=</)|[^<\s]+(?=<?\Z))")
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
)
_PERCENT_VALUE = re.compile(r"""((?:[^\s%&"'<>]|%(?!(?:25){0,2}(?:22|26|27|2[Cc]|3[Bb]|5[Cc]|7[Dd])))++)""")
# The same in HTML: &quot;password&quot;: &quot;x&quot;.
_ENTITY = "&(?:quot|apos|#34|#39|#x22|#x27);"
_ESCAPED = re.compile(
    rf"(?<![\w.-])([A-Za-z_][\w.-]{{0,99}}+)({_ENTITY}\s{{0,9}}(?:=>|=&gt;|[=:])\s{{0,9}}{_ENTITY})"
    rf"((?:(?!{_ENTITY})[^\n])++)"
)
# A quoted name that _NAMED cannot begin with or contain: "user password (old)": "x", "2fa_secret": "x".
_ODD_KEY = re.compile(
    r"""["']([\w.-]{0,100}+[^\w.\-"'\\\n][^"'\\\n]{0,99}+|[^\WA-Za-z_][\w.-]{0,99}+)\\{0,7}["']"""
    r"""\s{0,9}(?:=>|:=|[=:](?![:=]))\s{0,40}+"""
)
# A pair within a list of pairs: [["Authorization", "Bearer x"], ("Cookie", "y")].
_PAIR = re.compile(rf"""[\[(),]\s{{0,40}}[\[(]\s{{0,40}}{_QUOTE}([A-Za-z][\w -]{{0,99}}+){_QUOTE}\s?,\s{{0,40}}""")

# A single pair, outside a list: ("password", "x").
_LONE_PAIR = re.compile(rf"""(?<![\w\])])\(\s{{0,9}}[bBuU]?{_QUOTE}([A-Za-z][\w -]{{0,99}}+){_QUOTE}\s?,\s{{0,9}}""")
_END_OF_PAIR = re.compile(rf"""{_QUOTE}\s?,?\s?\)|\Z""")
# Strings that follow such a name in a list of field names: ("password", "email").
_FIELDS = words("email mail user username login name id host port url address phone role type account")
# What can be between a part of a name and the sign after the name; checked for at most LOOKS parts per text.
_ASSIGNED = re.compile(r"""([\w.-]{0,100}+)(?:\\{0,7}["']){0,2}[ \t]{0,40}[=:]""")
LOOKS = 100


def _names_in(text: str, low: str) -> tuple[bool, bool]:
    """Return (whether the text may contain the name of a secret, whether there may be one before `=` or `:`)."""
    signs = "=" in text or ":" in text
    if not signs and "%" not in text and "--" not in text and "<" not in text and "(" not in text and "[" not in text:
        return False, False
    if ACTIVE.names is not None and ACTIVE.names.may_occur(low):
        return True, signs
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
    if ('"' in text or "'" in text) and ("=" in text or ":" in text):
        text = _mask_behind(_ODD_KEY, text)
    if "val" in text or "Val" in text or "VAL" in text or '"v"' in text or "'v'" in text:
        text = _VALUE_NAME.sub(_mask_before, _mask_behind(_NAME_VALUE, text))
        text = _mask_behind(_ATTRIBUTES, text)
    if "%" in text:
        text = _mask_percent(text)
    if "&" in text:
        text = _ESCAPED.sub(_mask_last, text)
    if "--" in text:
        text = _mask_behind(_FLAG, text)
    if "</" in text or ("<" in text and ">" in text):  # the closing tag may be cut off
        text = _ELEMENT.sub(_mask_element, text)
    if "[" in text or "(" in text:
        text = _mask_behind(_PAIR, text)
    if "(" in text and "," in text:
        text = _mask_lone_pairs(text)
    return text


def _mask_lone_pairs(text: str) -> str:
    """Mask the value of each (name, value) pair on its own, not of the arguments of a call."""
    parts: list[str] = []
    done = 0
    for found in _LONE_PAIR.finditer(text):
        if found.start() < done or _strength_in_prose(found[1]) < STRONG:
            continue
        region = quoted_region_at(text, found.end())
        if region is None or _END_OF_PAIR.match(text, region[1]) is None:
            continue
        value = text[region[0] : region[1]]
        if value.lower() in _FIELDS or value.lower() in PLAIN or (value.isidentifier() and strength_of(value) != NO):
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
        region = named_region(text, found, strength, quoted=quoted)
        if region is None:
            continue
        begin, end = region
        parts += (text[done:begin], MASK)
        done = end
    return "".join((*parts, text[done:])) if parts else text


@masking_cache(8192)
def _strength_in_prose(name: str) -> int:
    """Return the strength of an unquoted name: only the last of dotted names counts, and names of errors do not."""
    name = name.rpartition(".")[2]
    strength = strength_of(name)
    first = WORD.match(name)
    return NO if strength != OWN and first is not None and first[0].lower() in STATES else strength


def _two_words(text: str, start: int, name: str) -> int:
    firsts, own = TWO_WORDS.get(name.lower()), ACTIVE.names
    if (firsts is None and own is None) or text[start - 1 : start] not in (" ", "-", "_"):
        return NO
    if own is not None and own.ends_with_hidden(text[max(0, start - MAX_NAME) : start - 1], name):
        return OWN
    before = text[max(0, start - 12) : start - 1].lower()
    first = next((each for each in firsts or () if before.endswith(each)), None)
    return NO if first is None or (own is not None and own.allows(f"{first} {name}")) else STRONG


def _mask_behind(pattern: re.Pattern[str], text: str) -> str:
    """Mask the value after each match of `pattern` whose group 1 is the name of a secret."""
    parts: list[str] = []
    done = 0
    for found in pattern.finditer(text):
        if found.start() < done or (strength := strength_of(found[1])) == NO:
            continue
        region = region_at(text, found.end(), strength)
        if region is not None:
            parts += (text[done : region[0]], MASK)
            done = region[1]
    return "".join((*parts, text[done:])) if parts else text


def _mask_percent(text: str) -> str:
    """Mask the value of each name that is encoded for a URL; values of others are searched for such names."""
    parts: list[str] = []
    done = 0
    for found in _PERCENT.finditer(text):
        if found.start() < done or (strength := strength_of(found[1])) == NO:
            continue
        value = _PERCENT_VALUE.match(text, found.end())
        if value is None or (len(value[0]) <= 20 and value[0].lower() in (ABSENT if strength == OWN else NOTHING)):
            continue
        parts += (text[done : found.end()], MASK)
        done = value.end()
    return "".join((*parts, text[done:])) if parts else text


def _mask_last(found: re.Match[str]) -> str:
    strength = strength_of(found[1])
    if strength == NO or (len(found[3]) <= 20 and found[3].lower() in (ABSENT if strength == OWN else NOTHING)):
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
