"""Names of fields, headers, parameters and variables that indicate a secret."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .rules import ACTIVE, masking_cache
from .written_names import WORD, plain_name

MAX_NAME = 100


def words(text: str) -> frozenset[str]:
    """Return the words of `text`."""
    return frozenset(text.split())


# Parts that indicate a secret anywhere in a name; compared without case, dashes, underscores and spaces.
_PART = re.compile(
    r"passw(?:or)?d(?!less)|passwort|kennwort|motdepasse|contrase[nñ]a|passphrase|passcode|seedphrase"
    r"|secret(?!ar[iy])|token(?!i[sz])|apikey|accesskey|accountkey|sharedkey|privatekey|privkey|signingkey|encryptionkey"
    r"|masterkey|sshkey|authkey|authorization|credential|cookie(?!cutter|consent)|sessid|sessionid|sessionkey"
    r"|creditcard|cardnumber|accountnumber|socialsecurity|connectionstring|connstr|webhookurl|signature"
    r"|securitycode|verificationcode|recoverycode|backupcode|onetimecode|authcode"
)
# Words that indicate a secret anywhere in a name, as whole words.
_WORDS = words("pwd jwt otp totp dsn cvc cvv iban ssn psk csrf xsrf senha hmac")
# Words that indicate one only at the end of a name ("user_pass", not "pass_count"), or before one of _TAILS.
_LAST_WORDS = words("pass auth bearer pin pan card tan sid sig")
_TAILS = words("code value raw hash header new old confirm confirmation string plain")
# At the end of a name these mean that it is about a secret but contains none: "token_count", "password_changed_at".
_ABOUT = words(
    "count counts limit limits length len size type kind ttl expiry expires expired expiration timeout age lifetime"
    " policy required enabled disabled valid invalid version status state attempts retries remaining used usage at on"
    " date time name names field fields file path dir error errors exception failure failed strength provider endpoint"
    " mismatch missing"
)
# Words of class and state names: "InvalidToken: …" is an error, followed by its message.
STATES = words(
    "invalid expired missing bad unknown unexpected no wrong malformed revoked incorrect has is forgot reset"
)
# "max_tokens" and similar names count the tokens of a language model.
_COUNTED = words("max min prompt completion total input output cached reasoning num n used remaining context generated")
NO, WEAK, STRONG = 0, 1, 2
OWN = 3  # of a name in the settings: whatever its value is, except nothing
# Keys under which JSON stores the name of something, and its value.
NAME_KEYS = ("name", "key", "field", "header", "param", "parameter", "k")
VALUE_KEYS = ("value", "val", "v")

# Words before "key", "string" etc. in names that are written as two words.
TWO_WORDS = {
    "key": ("api", "access", "account", "private", "secret", "signing", "encryption", "master", "session", "ssh"),
    "string": ("connection",),
    "number": ("card", "account"),
    "code": ("security", "verification", "recovery", "backup"),
    "id": ("session",),
    "url": ("webhook",),
}


def is_secret_name(name: str) -> bool:
    """Whether a value with this name is hidden. Time: linear in the last MAX_NAME characters."""
    return strength_of(name[-MAX_NAME:]) != NO


def is_hidden(name: str, value: Any) -> bool:
    """Whether the decoded `value` with this name is hidden: not if it is empty, a boolean, or only a count.

    Booleans and counts are hidden only if the name is one of the settings.
    """
    if value is None or value in ("", [], {}):
        return False
    strength = strength_of(name[-MAX_NAME:])
    if value is True or value is False:
        return strength == OWN
    if strength == WEAK and isinstance(value, int | float):
        return abs(value) >= 1000  # {"pass": 12, "fail": 3}, {"pan": 30}; a PIN has four digits
    return strength != NO


def hidden_keys(fields: Mapping[str, Any]) -> set[str]:
    """Return the keys of decoded JSON whose values are hidden: by name, or as {"name": "password", "value": …}."""
    hidden = {key for key, value in fields.items() if is_hidden(key, value)}
    if len(fields) >= 2 and any(
        isinstance(value, str) and key.lower() in NAME_KEYS and is_secret_name(value) for key, value in fields.items()
    ):
        hidden |= {key for key, value in fields.items() if key.lower() in VALUE_KEYS and value not in (None, "")}
    return hidden


def is_list_of_pairs(items: Sequence[Any]) -> bool:
    """Whether decoded JSON is a list of [name, value] pairs, like headers: [["Cookie", "x"]]."""
    return bool(items) and all(isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) for item in items)


@masking_cache(8192)
def strength_of(name: str) -> int:
    """Return OWN for a name in the settings, STRONG for one that indicates a secret in any text, WEAK for a word that
    prose uses too, else NO."""
    own = ACTIVE.names
    if own is not None and own.hides(name):
        return OWN
    if own is not None and own.allows(name):
        return NO
    words = [word.lower() for word in WORD.findall(name)]
    while words and words[-1].isdigit():
        words.pop()
    if not words or words[-1] in _ABOUT or (words[-1] == "tokens" and words[0] in _COUNTED):
        return NO
    if words[-2:] == ["account", "sid"]:
        return NO  # Twilio's name of an account
    if _PART.search(plain_name(name)) or not _WORDS.isdisjoint(words):
        return STRONG
    while len(words) > 1 and words[-1] in _TAILS:
        words.pop()
    return WEAK if words[-1] in _LAST_WORDS else NO
