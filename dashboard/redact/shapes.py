"""Secrets recognized by their shape: tokens of many services, keys, and credentials in a URL."""

from __future__ import annotations

import re

from .names import words
from .placeholder import MASK

_START = r"(?<![A-Za-z0-9])"
# user:password in a URL, or a long token in their place; PHP writes `:\/\/` into JSON.
_USER_INFO = re.compile(
    r"(?:(?<=://)|(?<=:\\/\\/))(?:(?=[^\s/?@\"'<>:]*+:)|(?=[^\s/?@\"'<>:]{20}))(?:[^\s/?@\"'<>]*+@)++"
)
# The same if the text was cut off before the "@"; a port does not count.
_CUT_USER_INFO = re.compile(
    r"(?<=://)[^\s/?@\"'<>:]*+:(?!\d{0,5}[.…]*+(?:[\s\"'<>)\]}]|\Z))"
    r"[^\s/?@\"'<>)\]}]++(?:(?=[\"')\]}]*+\Z)|(?<=\.\.\.)|(?<=…))"
)
_CARRIED = re.compile(rf"{_START}((?i:bearer|basic)[ ]++)([A-Za-z0-9._~+/=-]{{8,}}+)(?![\"'])")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?!-----END )[\s\S])*+(?:-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----)?"
)
# The token of a Telegram bot without the address before it. It has no prefix, but always this length.
_BOT = re.compile(r"(?<![\w:.-])\d{8,10}+:([\w-]{35})(?![\w-])", re.ASCII)


def _prefixed(*shapes: tuple[str, str]) -> tuple[tuple[tuple[str, ...], re.Pattern[str]], ...]:
    return tuple(((prefix,), re.compile(_START + re.escape(prefix) + rest)) for prefix, rest in shapes)


# Strings of which the text must contain one for the pattern to be tried, and the pattern; group 1 stays visible, the
# rest is masked.
_SHAPES: tuple[tuple[tuple[str, ...], re.Pattern[str]], ...] = (
    # JSON web token, also after a dash; group 1 is what precedes it in the same word. The lookahead is tried once per
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
    (("qd_",), re.compile(rf"{_START}qd_[a-z0-9]{{12}}_[A-Za-z0-9_-]{{43}}")),  # of Queuedeck itself
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
        ("nfp_", "[A-Za-z0-9]{30,}+"),
        ("EAA", "[A-Za-z0-9]{30,}+"),
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
# A token whose end is missing, so that it no longer has its shape: RQ and Celery shorten arguments.
_CUT_TOKEN = re.compile(
    r"(?<![\w+~.-])(?:(?:[rsp]k|rzp)_(?:live|test)_|"
    + "|".join(re.escape(hint) for hints, _ in _SHAPES for hint in hints if hint[0].isalnum() and hint[-1] != "/")
    + r")(?=[\w+=.~-]{0,100}\d)[\w+~-]*+(?:\.(?!\.)[\w+~-]*+)*+(?=\.\.\.|…)"
)
# A single pattern that finds all hints except "dapi": by their last character, or by a rare one at the beginning.
_MARKS = re.compile(
    "|".join(
        f"{re.escape(mark)}(?:{'|'.join(f'(?<={re.escape(hint)})' for hint in ending)})"
        for mark in "_-./J"
        if (ending := [hint for hints, _ in _SHAPES for hint in hints if hint[-1] == mark])
    )
    + r"|/(?=bot\d)|A(?=KIA|SIA|Iza|TATT3|TBB|GE-)|S(?=K[a-f0-9])|E(?=AA[A-Za-z0-9])|\$(?=[256$as])"
)
# "Basic authentication failed" is prose; credentials after a scheme contain digits, punctuation or capitals.
_ENCODED = re.compile(r"[0-9+/=_.~-]|[a-z][A-Z]")
_WORDS_OF_SCHEMES = words(
    "authentication authorization credentials credential certificate functionality realm header headers"
)


def mask_shapes(text: str) -> str:
    """Return `text` with everything that has the shape of a secret replaced by MASK. Time: linear."""
    low = text.lower()
    if "@" in text:
        text = _USER_INFO.sub(f"{MASK}@", text)
    if "://" in text:
        text = _CUT_USER_INFO.sub(MASK, text)
    if "bearer " in low or "basic " in low:
        text = _CARRIED.sub(_carried, text)
    if "PRIVATE KEY" in text:
        text = _PRIVATE_KEY.sub(MASK, text)
    if ":" in text:
        text = _BOT.sub(_bot, text)
    if _MARKS.search(text) or "dapi" in text:
        for hints, pattern in _SHAPES:
            if _holds_any(text, hints):
                text = pattern.sub(_shape, text)
        if "..." in text or "…" in text:
            text = _CUT_TOKEN.sub(MASK, text)
    return text


def _holds_any(text: str, parts: tuple[str, ...]) -> bool:
    for part in parts:  # noqa: SIM110 any() takes three times as long, and this runs for each text
        if part in text:
            return True
    return False


def _carried(found: re.Match[str]) -> str:
    carried = found[2]
    prose = carried.lower().rstrip(".") in _WORDS_OF_SCHEMES or (carried.endswith("=") and carried[:-1].islower())
    if prose or (found[1][1] in "aA" and not _ENCODED.search(carried.rstrip("."))):
        return found[0]
    return f"{found[1]}{MASK}"


def _bot(found: re.Match[str]) -> str:
    token = found[1]
    return found[0] if token in (token.lower(), token.upper()) else MASK


def _shape(found: re.Match[str]) -> str:
    return f"{found[1]}{MASK}" if found.re.groups else MASK
