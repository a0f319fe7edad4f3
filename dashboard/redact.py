"""Hiding secrets in everything that leaves Redis for people: pages, JSON, search, alerts and logs.

Whoever can enqueue a job chooses the text, so every pattern here is linear in its length: no run that can begin at many
places is looked at again from each of them (possessive quantifiers, and starts that a run cannot contain).
"""

from __future__ import annotations

import re

MASK = "••••••"

# Parts of a name that tell a secret wherever they stand in it; compared without case, dashes, underscores and spaces.
_PART = re.compile(
    r"passw(?:or)?d|passwort|passphrase|passcode|secret|token|apikey|accesskey|privatekey|signingkey|encryptionkey"
    r"|authorization|credential|cookie|sessionid|creditcard|cardnumber|accountnumber|connectionstring|webhookurl"
    r"|signature|securitycode"
)
# Words of a name that tell a secret only by themselves: "user_pass" does, "passenger" does not.
_WORDS = frozenset(
    ["pwd", "pass", "auth", "bearer", "jwt", "otp", "totp", "pin", "pan", "dsn", "cvc", "cvv", "iban", "ssn", "card", "tan", "psk", "csrf", "xsrf", "sid"]
)
_WORD = re.compile(r"[A-Z]?[a-z]++|[A-Z]++(?![a-z])|[A-Z]")
MAX_NAME = 100

_SHAPES = re.compile(
    # JSON web token
    r"(?<![\w-])eyJ[\w-]{8,}+\.[\w-]{8,}+(?:\.[\w-]*+)?"
    r"|-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)"
    # Amazon, GitHub, GitLab, Stripe, Slack, Google, OpenAI and others that begin alike, SendGrid, npm, PyPI, Hugging Face
    r"|(?<![A-Za-z0-9])(?:AKIA|ASIA)[0-9A-Z]{16}(?![A-Za-z0-9])"
    r"|(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{30,}+|github_pat_\w{30,}+|glpat-[\w-]{16,}+)"
    r"|(?<![A-Za-z0-9])[rsp]k_(?:live|test)_[A-Za-z0-9]{10,}+"
    r"|(?<![A-Za-z0-9])whsec_[A-Za-z0-9+/=]{16,}+"
    r"|(?<![A-Za-z0-9])xox[abeoprs]-[A-Za-z0-9-]{10,}+|(?<![A-Za-z0-9])xapp-[A-Za-z0-9-]{10,}+"
    r"|(?<![A-Za-z0-9])AIza[\w-]{35}|(?<![A-Za-z0-9])ya29\.[\w-]{20,}+"
    r"|(?<![\w-])sk-[\w-]{20,}+|(?<![A-Za-z0-9])SG\.[\w-]{16,}+\.[\w-]{16,}+"
    r"|(?<![A-Za-z0-9])(?:npm_[A-Za-z0-9]{30,}+|pypi-[\w-]{30,}+|hf_[A-Za-z0-9]{30,}+|dop_v1_[a-f0-9]{40,}+)"
    r"|(?<=hooks\.slack\.com/services/)[\w/]{10,}+"
    # user:password in a URL, and a scheme with what it carries
    r"|(?<=://)[^\s/:@\"'<>]*+:[^\s/@\"'<>]++(?=@)"
    r"|(?<![A-Za-z0-9])(?i:bearer|basic) ++[A-Za-z0-9._~+/=-]{8,}+",
    re.DOTALL,
)
# A name and what stands between it and its value, in code, JSON, headers, query strings and log lines.
_NAMED = re.compile(r"""(?<![\w.-])([A-Za-z_][\w.-]{0,99}+)(?:\\?["'])?[ \t]{0,3}(?:=>|[=:])[ \t]{0,3}""")
_VALUE = re.compile(
    r'''\\"(?:[^"\\]++|\\[^"])*+(?:\\")?'''  # within a string of JSON
    r'''|"(?:[^"\\]++|\\.)*+"?'''
    r"""|'(?:[^'\\]++|\\.)*+'?"""
    r"""|(?i:(?:bearer|basic|digest|token) ++)?[^\s,;&"'(){}\[\]<>]++""",
    re.DOTALL,
)
# What a name that tells a secret is often followed by and is none.
_PLAIN = frozenset({"none", "null", "nil", "true", "false", "undefined", '""', "''", "\\\"\\\""})


def is_secret_name(name: str) -> bool:
    """Whether what stands under this name is hidden. Time: linear, of the first MAX_NAME characters."""
    name = name[:MAX_NAME]
    folded = name.lower().replace("-", "").replace("_", "").replace(" ", "").replace(".", "")
    return _PART.search(folded) is not None or any(word.lower() in _WORDS for word in _WORD.findall(name))


def mask_text(text: str) -> str:
    """`text` with what has the shape of a secret, or stands behind the name of one, replaced by MASK. Time: linear."""
    return _SHAPES.sub(MASK, _mask_named(text))


def _mask_named(text: str) -> str:
    parts: list[str] = []
    done = 0
    for found in _NAMED.finditer(text):
        if found.start() < done or not is_secret_name(found[1]):
            continue
        value = _VALUE.match(text, found.end())
        if value is None or value[0].lower() in _PLAIN:
            continue
        quote = next((sign for sign in ('\\"', '"', "'") if value[0].startswith(sign)), "")
        closing = quote if len(value[0]) > len(quote) and value[0].endswith(quote) else ""
        parts += (text[done : found.end()], quote, MASK, closing)
        done = value.end()
    return "".join((*parts, text[done:])) if parts else text
