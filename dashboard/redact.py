"""Hiding secrets in everything that leaves Redis for people: pages, JSON, search, alerts and logs.

A secret is known by its name (`password=…`, `"api_key": …`) or by its shape (a JSON web token, `ghp_…`). Whoever can
enqueue a job chooses the text, so all of this is linear in its length: no run that can begin at many places is read
again from each of them (possessive quantifiers, starts that a run cannot contain, bounded names), and what was looked
through for the end of a value is masked and passed over.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

MASK = "••••••"
MAX_NAME = 100


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# ---- names -----------------------------------------------------------------------------------------------------------

# Parts of a name that tell a secret wherever they stand in it; compared without case, dashes, underscores and spaces.
_PART = re.compile(
    r"passw(?:or)?d(?!less)|passwort|kennwort|motdepasse|contrase[nñ]a|passphrase|passcode|seedphrase"
    r"|secret(?!ar[iy])|token(?!i[sz])|apikey|accesskey|accountkey|sharedkey|privatekey|privkey|signingkey|encryptionkey"
    r"|masterkey|sshkey|authkey|authorization|credential|cookie(?!cutter|consent)|sessid|sessionid|sessionkey"
    r"|creditcard|cardnumber|accountnumber|socialsecurity|connectionstring|connstr|webhookurl|signature"
    r"|securitycode|verificationcode|recoverycode|backupcode|onetimecode|authcode"
)
# Words that tell a secret wherever they stand in a name as words of their own.
_WORDS = _words("pwd jwt otp totp dsn cvc cvv iban ssn psk csrf xsrf senha hmac")
# Words that do so only at the end of a name ("user_pass", not "pass_count"), or before one of _TAILS.
_LAST_WORDS = _words("pass auth bearer pin pan card tan sid sig")
_TAILS = _words("code value raw hash header new old confirm confirmation string plain")
# At the end of a name these tell that it is about a secret and holds none: "token_count", "password_changed_at".
_ABOUT = _words(
    "count counts limit limits length len size type kind ttl expiry expires expired expiration timeout age lifetime"
    " policy required enabled disabled valid invalid version status state attempts retries remaining used usage at on"
    " date time name names field fields file path dir error errors exception failure failed strength provider endpoint"
    " mismatch missing"
)
# Names of classes and states: "InvalidToken: …" is an error, what follows is its message.
_STATES = _words(
    "invalid expired missing bad unknown unexpected no wrong malformed revoked incorrect has is forgot reset"
)
# "max_tokens" and the like count the tokens of a language model.
_COUNTED = _words(
    "max min prompt completion total input output cached reasoning num n used remaining context generated"
)
_WORD = re.compile(r"[A-Z]?[a-z]++|[A-Z]++(?![a-z])|[A-Z]|\d++")
_JOINTS = str.maketrans("", "", "-_ .")
NO, WEAK, STRONG = 0, 1, 2
# Under these keys JSON writes the name of something, and its value.
_NAME_KEYS = ("name", "key", "field", "header", "param", "parameter", "k")
_VALUE_KEYS = ("value", "val", "v")

# What stands before "key", "string" and the like in the names that are written as two words.
_TWO_WORDS = {
    "key": ("api", "access", "account", "private", "secret", "signing", "encryption", "master", "session", "ssh"),
    "string": ("connection",),
    "number": ("card", "account"),
    "code": ("security", "verification", "recovery", "backup"),
    "id": ("session",),
    "url": ("webhook",),
}


def is_secret_name(name: str) -> bool:
    """Whether what stands under this name is hidden. Time: linear, of the last MAX_NAME characters."""
    return _strength(name[-MAX_NAME:]) != NO


def is_hidden(name: str, value: Any) -> bool:
    """Whether the decoded `value` under this name is hidden: not where it is empty, a truth value, or only a count."""
    if value is None or value is True or value is False or value in ("", [], {}):
        return False
    strength = _strength(name[-MAX_NAME:])
    if strength == WEAK and isinstance(value, int | float):
        return abs(value) >= 1000  # {"pass": 12, "fail": 3}, {"pan": 30}; a PIN has four digits
    return strength != NO


def hidden_keys(fields: Mapping[str, Any]) -> set[str]:
    """The keys of decoded JSON whose values are hidden: by their own names, or as {"name": "password", "value": …}."""
    hidden = {key for key, value in fields.items() if is_hidden(key, value)}
    if len(fields) >= 2 and any(
        isinstance(value, str) and key.lower() in _NAME_KEYS and is_secret_name(value) for key, value in fields.items()
    ):
        hidden |= {key for key, value in fields.items() if key.lower() in _VALUE_KEYS and value not in (None, "")}
    return hidden


def is_list_of_pairs(items: Sequence[Any]) -> bool:
    """Whether decoded JSON is a list of [name, value], as headers are written: [["Cookie", "x"]]."""
    return bool(items) and all(isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) for item in items)


@lru_cache(8192)
def _strength(name: str) -> int:
    """STRONG for a name that tells a secret in any text, WEAK for a word that prose uses too, else NO."""
    words = [word.lower() for word in _WORD.findall(name)]
    while words and words[-1].isdigit():
        words.pop()
    if not words or words[-1] in _ABOUT or (words[-1] == "tokens" and words[0] in _COUNTED):
        return NO
    if _PART.search(name.lower().translate(_JOINTS)) or not _WORDS.isdisjoint(words):
        return STRONG
    while len(words) > 1 and words[-1] in _TAILS:
        words.pop()
    return WEAK if words[-1] in _LAST_WORDS else NO


# ---- values behind names ---------------------------------------------------------------------------------------------

# Without one of these in it, a text holds no name that tells a secret.
_HINTS = (
    *("pass", "token", "secret", "key", "auth", "pwd", "cookie", "credential", "sess", "card", "pin", "pan", "tan"),
    *("sid", "sig", "jwt", "otp", "dsn", "bearer", "number", "string", "webhook", "code", "kennwort", "contrase"),
    *("cvc", "cvv", "iban", "ssn", "psk", "srf", "senha", "hmac", "phrase", "connstr", "social", "motdepasse"),
)
_QUOTE = r"""\\{0,7}["']"""
_QUOTED = re.compile(_QUOTE)
# A name and what stands between it and its value, in code, JSON, headers, query strings and log lines.
_NAMED = re.compile(
    r"""(?<![\w.-])(?:--?)?+([A-Za-z_][\w.-]{0,99}+)((?:\\{0,7}["']){1,2})?+([ \t]{0,3})"""
    r"""(=>|[=:](?![:=]))([ \t]{0,3}+)"""
)
_FLAG = re.compile(r"""(?<![\w-])--([A-Za-z][\w-]{0,99}+)(?:[ ]++|["'],[ ]?(?=["']))(?!-)""")
_ELEMENT = re.compile(r"<(?:[\w-]{1,40}:)?([A-Za-z_][\w.-]{0,99}+)(?:[ ][^<>]{0,300})?>([^<]+)(?=</)")
# {"name": "password", "value": "x"}, and the other way round.
_NAMES, _VALUES = "|".join(_NAME_KEYS), "|".join(_VALUE_KEYS)
_NAME_VALUE = re.compile(
    rf"""{_QUOTE}(?i:{_NAMES}){_QUOTE}\s{{0,9}}(?:=>|:)\s{{0,9}}{_QUOTE}([\w .-]{{1,100}}+){_QUOTE}"""
    rf""",\s{{0,40}}{_QUOTE}(?i:{_VALUES}){_QUOTE}\s{{0,9}}(?:=>|:)\s{{0,9}}"""
)
_VALUE_NAME = re.compile(
    rf"""({_QUOTE}(?i:{_VALUES}){_QUOTE}\s{{0,9}}(?:=>|:)\s{{0,9}})({_QUOTE}[^"'\\\n]{{1,4000}}+{_QUOTE}|[\w.+-]{{1,100}}+)"""
    rf"""(?=,\s{{0,40}}{_QUOTE}(?i:{_NAMES}){_QUOTE}\s{{0,9}}(?:=>|:)\s{{0,9}}{_QUOTE}([\w .-]{{1,100}}+){_QUOTE})"""
)
# A pair within a list of pairs: [["Authorization", "Bearer x"], ("Cookie", "y")].
_PAIR = re.compile(rf"""[\[(),]\s{{0,40}}[\[(]\s{{0,40}}{_QUOTE}([A-Za-z][\w -]{{0,99}}+){_QUOTE}\s?,\s{{0,40}}""")

_OPENING = re.compile(r"""[bBuUrRfF]{0,2}(\\{0,7})(["'])""")
# A run of backslashes is looked at once, from its beginning.
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
# What often follows such a name and is no secret: nothing, types, and the words of messages and of names of events.
_NOTHING = frozenset({"none", "null", "nil", "true", "false", "undefined", "nan"})
_PLAIN = _NOTHING | _words(
    "str string int integer bytes bool boolean number float optional any list dict array object secretstr"
    " required missing invalid expired incorrect wrong unknown empty needed denied rejected revoked failed failure"
    " error errors ok okay yes no on off success succeeded enabled disabled anonymous basic digest bearer"
    " too must should is was has have had not cannot can't can could may might will would this that the a an"
    " field fields please unable"
    " reset refresh expire update change changed rotate validate verify sync cleanup clean create delete send check"
    " issue login logout unauthorized forbidden malformed unexpected short long weak mismatch unsupported"
)
# What may stand between a part of a name and the sign behind the name; of so many parts in a text it is looked for.
_ASSIGNED = re.compile(r"""([\w.-]{0,100}+)(?:\\{0,7}["']){0,2}[ \t]{0,3}[=:]""")
LOOKS = 100
_ASCII_ESCAPE = re.compile(r"\\u00(2[dD]|3\d|4[1-9a-fA-F]|5[0-9aAfF]|6[1-9a-fA-F]|7[0-9aA])")


def mask_text(text: str) -> str:
    """`text` with what has the shape of a secret, or stands behind the name of one, replaced by MASK. Time: linear.

    Some 50 microseconds for a row of a list of 500 characters, 10 milliseconds for 64 KiB.
    """
    if "\\u00" in text:  # JSON may write any letter of a name as an escape
        text = _ASCII_ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
    low = text.lower()
    hinted, assigned = _names_in(text, low)
    if hinted:
        text = _mask_names(text, assigned=assigned)
    if "@" in text:
        text = _USER_INFO.sub(f"{MASK}@", text)
    if "://" in text:
        text = _CUT_USER_INFO.sub(MASK, text)
    if "bearer " in low or "basic " in low:
        text = _CARRIED.sub(_mask_carried, text)
    if "PRIVATE KEY" in text:
        text = _PRIVATE_KEY.sub(MASK, text)
    if _MARKS.search(text) or "dapi" in text:
        for hints, pattern in _SHAPES:
            if _holds_any(text, hints):
                text = pattern.sub(_mask_shape, text)
    return text


def _holds_any(text: str, parts: tuple[str, ...]) -> bool:
    for part in parts:  # noqa: SIM110 any() takes three times as long, and this runs for each text
        if part in text:
            return True
    return False


def _names_in(text: str, low: str) -> tuple[bool, bool]:
    """(whether a name of a secret may be in the text, whether one may stand before `=` or `:`)."""
    signs = "=" in text or ":" in text
    if not signs and "--" not in text and "</" not in text and "(" not in text and "[" not in text:
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
    """Whether the name of which text[at:end] is the end tells a secret."""
    begin, lowest = at, max(0, at - MAX_NAME)
    while begin > lowest and (text[begin - 1].isalnum() or text[begin - 1] in "_-."):
        begin -= 1
    name = text[begin:end]
    return (_strength(name) or _strength_in_prose(name) or _two_words(text, begin, name)) != NO


def _mask_names(text: str, *, assigned: bool) -> str:
    if assigned:
        text = _mask_assigned(text)
    if "val" in text or "Val" in text or "VAL" in text or '"v"' in text or "'v'" in text:
        text = _VALUE_NAME.sub(_mask_before, _mask_behind(_NAME_VALUE, text))
    if "--" in text:
        text = _mask_behind(_FLAG, text)
    if "</" in text:
        text = _ELEMENT.sub(_mask_element, text)
    if "[" in text or "(" in text:
        text = _mask_behind(_PAIR, text)
    return text


def _mask_assigned(text: str) -> str:
    """Mask what stands behind `name=`, `name:`, `"name":` and `name=>`."""
    parts: list[str] = []
    done = 0
    for found in _NAMED.finditer(text):
        start, name = found.start(1), found[1]
        if start < done:
            continue
        quoted = found[2] is not None
        strength = _strength(name) if quoted else _strength_in_prose(name)
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
    """Of a name without quotes: only the last of dotted names counts, and names of errors are none."""
    name = name.rpartition(".")[2]
    first = _WORD.match(name)
    return NO if first is not None and first[0].lower() in _STATES else _strength(name)


def _two_words(text: str, start: int, name: str) -> int:
    firsts = _TWO_WORDS.get(name.lower())
    if firsts is None or text[start - 1 : start] not in (" ", "-", "_"):
        return NO
    before = text[max(0, start - 12) : start - 1].lower()
    return STRONG if before.endswith(firsts) else NO


def _region(text: str, found: re.Match[str], strength: int, *, quoted: bool) -> tuple[int, int] | None:
    """From where to where the value is masked; None where it is none."""
    at, sign, name = found.end(), found[4], found[1]
    if (opening := _OPENING.match(text, at)) is not None:
        return _quoted_region(text, opening)
    before = text[found.start(1) - 1] if found.start(1) else ""
    if (
        sign == ":"
        and not quoted
        and (
            before in ("/", "\\") or text[max(0, found.start(1) - 12) : found.start(1)].lower().endswith("unexpected ")
        )
    ):
        return None
    if text[at : at + 1] in ("[", "{") or (text[at : at + 1] == "(" and (quoted or sign != ":")):
        return _bracket_region(text, at, same_line=not quoted)
    folded = name.lower()
    if not quoted and sign == ":" and "cookie" in folded and (cookies := _COOKIES.match(text, at)) is not None:
        return _unless_plain(cookies)
    if (scheme := _SCHEME.match(text, at)) is not None and (rest := _PARAMETERS.match(text, scheme.end())) is not None:
        return (at, rest.end()) if rest[0] != MASK or scheme.start() == at else None
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
    if len(value) <= 20 and value.rstrip(".:!?").lower() in _PLAIN:
        return None
    if strength == WEAK and not quoted and _is_harmless(text, run, sign, spaced=bool(found[5])):
        return None
    if strength == WEAK and _COUNT.match(value):
        return None
    rest = _REST.match(text, run.end())
    end = rest.end() if rest is not None else run.end()
    return None if text[at:end] == MASK else (at, end)


def _is_harmless(text: str, run: re.Match[str], sign: str, *, spaced: bool) -> bool:
    """Whether what stands behind a word that prose uses too ("auth", "pass", "pin") is prose or a path of names."""
    if sign != ":":
        return False
    if spaced:
        return _PROSE.match(text, run.start()) is not None
    return ":" in run[0] or not any(character.isdigit() for character in run[0])


def _unless_plain(run: re.Match[str]) -> tuple[int, int] | None:
    return None if run[0] == MASK or run[0].lower() in _PLAIN else run.span()


def _quoted_region(text: str, opening: re.Match[str]) -> tuple[int, int] | None:
    """What stands between quotes, which JSON within a string writes with backslashes; to the end of the line without
    a second one."""
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


def _bracket_region(text: str, at: int, *, same_line: bool) -> tuple[int, int] | None:
    """What stands between brackets; to the end of the text or line without the closing one."""
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
    """Mask the value behind each match of `pattern` whose group 1 is the name of a secret."""
    parts: list[str] = []
    done = 0
    for found in pattern.finditer(text):
        if found.start() < done or _strength(found[1]) == NO:
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


def _mask_before(found: re.Match[str]) -> str:
    if _strength(found[3]) == NO:
        return found[0]
    opening = _QUOTED.match(found[2])
    quote = opening[0] if opening else ""
    return f"{found[1]}{quote}{MASK}{quote}"


def _mask_element(found: re.Match[str]) -> str:
    if _strength(found[1]) == NO or not found[2].strip():
        return found[0]
    return found[0][: found.start(2) - found.start()] + MASK


# ---- shapes ----------------------------------------------------------------------------------------------------------

_START = r"(?<![A-Za-z0-9])"
# user:password in a URL, or a long token instead of them; PHP writes `:\/\/` into JSON.
_USER_INFO = re.compile(
    r"(?:(?<=://)|(?<=:\\/\\/))(?:(?=[^\s/?@\"'<>:]*+:)|(?=[^\s/?@\"'<>:]{20}))(?:[^\s/?@\"'<>]*+@)++"
)
# The same where the text was cut before the "@"; a port is none.
_CUT_USER_INFO = re.compile(
    r"(?<=://)[^\s/?@\"'<>:]*+:(?!\d{0,5}[.…]*+[\"')\]}]*+\Z)[^\s/?@\"'<>)\]}]++(?=[\"')\]}]*+\Z)"
)
_CARRIED = re.compile(rf"{_START}((?i:bearer|basic)[ ]++)([A-Za-z0-9._~+/=-]{{8,}}+)(?![\"'])")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?!-----END )[\s\S])*+(?:-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----)?"
)


def _prefixed(*shapes: tuple[str, str]) -> tuple[tuple[tuple[str, ...], re.Pattern[str]], ...]:
    return tuple(((prefix,), re.compile(_START + re.escape(prefix) + rest)) for prefix, rest in shapes)


# What must be in a text for the pattern to be tried, and the pattern; group 1 stays, the rest is masked.
_SHAPES: tuple[tuple[tuple[str, ...], re.Pattern[str]], ...] = (
    # JSON web token, also behind a dash; group 1 is what precedes it in the same word. The lookahead is tried once per
    # word and nothing backtracks, so the time is linear even for text that repeats "-eyJ".
    (
        ("eyJ",),
        re.compile(
            r"(?<![\w-])(?=[\w-]++\.(?:eyJ|[\w-]{8,}+\.))([\w-]*?)\beyJ[\w-]{8,}+\."
            r"(?:[\w-]{8,}+\.[\w-]*+|eyJ[\w-]*+)(?:\.[\w-]++)*+"
        ),
    ),
    (("hooks.slack.com/",), re.compile(r"(?<=hooks\.slack\.com/)(\w{1,20}/)[\w/-]{10,}+")),
    (("/api/webhooks/",), re.compile(r"(?<=/api/webhooks/)(\d{1,30}/)[\w-]{20,}+")),
    (("webhook.office.com/",), re.compile(r"(?<=webhook\.office\.com/)[\w@/-]{20,}+")),
    (("/bot",), re.compile(r"(?<=/bot)\d{6,12}:[\w-]{30,}+")),
    (("AKIA", "ASIA"), re.compile(rf"{_START}(?:AKIA|ASIA)[0-9A-Z]{{16}}(?![A-Za-z0-9])")),
    (("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), re.compile(rf"{_START}gh[pousr]_[A-Za-z0-9]{{30,}}+")),
    (("github_pat_",), re.compile(rf"{_START}github_pat_\w{{30,}}+")),
    (("_live_", "_test_"), re.compile(rf"{_START}(?:[rsp]k|rzp)_(?:live|test)_[A-Za-z0-9]{{10,}}+")),
    (
        ("xoxa-", "xoxb-", "xoxe-", "xoxo-", "xoxp-", "xoxr-", "xoxs-", "xapp-"),
        re.compile(rf"{_START}(?:xox[abeoprs]|xapp)-[A-Za-z0-9-]{{10,}}+"),
    ),
    (("sk-",), re.compile(r"(?<![\w-])sk-[\w-]{20,}+")),
    (("sq0atp-", "sq0csp-", "sq0idp-"), re.compile(rf"{_START}sq0(?:atp|csp|idp)-[\w-]{{20,}}+")),
    (("shpat_", "shpca_", "shppa_", "shpss_"), re.compile(rf"{_START}shp(?:at|ca|pa|ss)_[a-fA-F0-9]{{32}}")),
    (
        ("glpat-", "gldt-", "glrt-", "glptt-", "glcbt-", "glsoat-"),
        re.compile(rf"{_START}gl(?:pat|dt|rt|ptt|cbt|soat)-[\w-]{{16,}}+"),
    ),
    (("glc_", "glsa_"), re.compile(rf"{_START}gl(?:c|sa)_[\w+/=-]{{20,}}+")),
    (("dop_v1_", "doo_v1_", "dor_v1_"), re.compile(rf"{_START}do[opr]_v1_[a-f0-9]{{40,}}+")),
    (("hvs.", "hvb.", "hvr."), re.compile(rf"{_START}hv[bsr]\.[\w-]{{20,}}+")),
    (("ATATT3", "ATBB"), re.compile(rf"{_START}(?:ATATT3|ATBB)[\w=-]{{20,}}+")),
    (
        ("$2", "$argon2", "$scrypt", "$5$", "$6$"),
        re.compile(r"\$(?:2[abxy]?|argon2(?:id|i|d)|scrypt|[56])\$[\w./,=$+-]{20,}+"),
    ),
    *_prefixed(
        ("whsec_", "[A-Za-z0-9+/=]{16,}+"),
        ("AIza", r"[\w-]{35}"),
        ("ya29.", r"[\w-]{20,}+"),
        ("GOCSPX-", r"[\w-]{20,}+"),
        ("SG.", r"[\w-]{16,}+\.[\w-]{16,}+"),
        ("npm_", "[A-Za-z0-9]{30,}+"),
        ("pypi-", r"[\w-]{30,}+"),
        ("rubygems_", "[a-f0-9]{40,}+"),
        ("hf_", "[A-Za-z0-9]{30,}+"),
        ("gsk_", "[A-Za-z0-9]{30,}+"),
        ("r8_", "[A-Za-z0-9]{30,}+"),
        ("dapi", "[a-f0-9]{32}"),
        ("NRAK-", "[A-Z0-9]{20,}+"),
        ("PMAK-", "[a-f0-9-]{30,}+"),
        ("lin_api_", "[A-Za-z0-9]{30,}+"),
        ("ntn_", "[A-Za-z0-9]{30,}+"),
        ("figd_", r"[\w-]{30,}+"),
        ("sbp_", "[a-f0-9]{40}"),
        ("pscale_", r"(?:tkn|pw|oauth)_[\w.-]{30,}+"),
        ("sntrys_", r"[\w+/=.-]{30,}+"),
        ("sntryu_", "[a-f0-9]{60,}+"),
        ("dckr_pat_", r"[\w-]{20,}+"),
        ("dp.pt.", "[A-Za-z0-9]{30,}+"),
        ("xkeysib-", "[a-f0-9-]{30,}+"),
        ("AGE-SECRET-KEY-1", "[A-Z0-9]{50,}+"),
        ("key-", "[a-f0-9]{32}(?![A-Za-z0-9])"),
        ("SK", "[a-f0-9]{32}(?![A-Za-z0-9])"),
    ),
)
# One look that finds all of the hints but "dapi": by their last sign, or by a rare one at their beginning.
_MARKS = re.compile(
    "|".join(
        f"{re.escape(mark)}(?:{'|'.join(f'(?<={re.escape(hint)})' for hint in ending)})"
        for mark in "_-./J"
        if (ending := [hint for hints, _ in _SHAPES for hint in hints if hint[-1] == mark])
    )
    + r"|/(?=bot\d)|A(?=KIA|SIA|Iza|TATT3|TBB|GE-)|S(?=K[a-f0-9])|\$(?=[256$as])"
)
# "Basic authentication failed" is prose; what a scheme carries has digits, signs or capitals within.
_ENCODED = re.compile(r"[0-9+/=_.~-]|[a-z][A-Z]")
_WORDS_OF_SCHEMES = _words(
    "authentication authorization credentials credential certificate functionality realm header headers"
)


def _mask_carried(found: re.Match[str]) -> str:
    carried = found[2]
    prose = carried.lower().rstrip(".") in _WORDS_OF_SCHEMES or (carried.endswith("=") and carried[:-1].islower())
    if prose or (found[1][1] in "aA" and not _ENCODED.search(carried.rstrip("."))):
        return found[0]
    return f"{found[1]}{MASK}"


def _mask_shape(found: re.Match[str]) -> str:
    return f"{found[1]}{MASK}" if found.re.groups else MASK


# ---- our own log -----------------------------------------------------------------------------------------------------


class _Masking(logging.Filter):
    """Masks a line of the log and its traceback, whatever handlers the host has configured."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True: no line is dropped."""
        record.msg, record.args = mask_text(record.getMessage()), ()
        if record.exc_info and record.exc_info[0] is not None and not record.exc_text:
            record.exc_text = mask_text("".join(traceback.format_exception(*record.exc_info)).rstrip("\n"))
        return True


_MASKING = _Masking()


def masked_logger(name: str) -> logging.Logger:
    """The logger of that name, whose lines may hold text out of Redis: masked in each line and traceback."""
    log = logging.getLogger(name)
    log.addFilter(_MASKING)  # once: the same filter is not added twice
    return log
