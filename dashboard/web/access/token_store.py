"""API tokens that administrators create on a page. They expire, and can be revoked at once.

The store has their digests, each with a MAC by `secret_key`: programs that can write to that Redis, as the applications
that enqueue jobs can, must not be able to add a token or to raise the role of one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from ...auth import Identity, Role
from ...clock import monotonic_s, now_s
from ...errors import Conflict, NotFound, QueuedeckError
from ...redact import masked_logger
from ...settings import Settings
from ...store.redis_store import PREFIX, Store

log = masked_logger(__name__)

TOKENS = f"{PREFIX}:tokens"  # hash: id -> JSON of a token, at most MAX_TOKENS
USED = f"{PREFIX}:tokens:used"  # hash: id -> time of the last use, in seconds
MAX_TOKENS = 200
MAX_DAYS = 366
DAY_S = 86_400
# The last use is written at most this often.
USED_EVERY_S = 60.0
MARK = "qd_"  # all tokens begin with it, so that scanners of secrets find them
_TOKEN = re.compile(r"qd_([a-z0-9]{12})_[A-Za-z0-9_-]{43}\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}\Z")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"

# KEYS tokens, used. ARGV maximum, id, token. Returns 1 if the token was added.
_ADD = """
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
return 1
"""
# KEYS tokens, used. ARGV id. Returns 1 if there was such a token.
_REMOVE = """
redis.call('HDEL', KEYS[2], ARGV[1])
return redis.call('HDEL', KEYS[1], ARGV[1])
"""
# KEYS tokens, used. ARGV id, seconds. A token that was revoked meanwhile is not recorded.
_USE = """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then redis.call('HSET', KEYS[2], ARGV[1], ARGV[2]) end
return 1
"""


class CreatedToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token without its secret. Times are seconds since 1970."""

    id: str
    name: str
    role: str
    digest: str  # SHA-256 of the token
    created_at: float
    created_by: str
    expires_at: float


class _Stored(msgspec.Struct, frozen=True, kw_only=True):
    token: CreatedToken
    mac: str


@dataclass(frozen=True, slots=True)
class ListedToken:
    """A token of the list. `used_at`: its last use, exact to USED_EVERY_S; None = never, or not known."""

    token: CreatedToken
    used_at: float | None


class TokenList(NamedTuple):
    """All tokens, newest first; and the ids of those that cannot be verified: of another secret_key, or forged."""

    tokens: tuple[ListedToken, ...]
    unverified: tuple[str, ...]


_stored_decoder = msgspec.json.Decoder(_Stored)


class TokenStore:
    """Creates, finds, lists and revokes tokens. Thread-safe. Raises BackendUnavailable, Forbidden."""

    def __init__(self, store: Store, settings: Settings) -> None:
        """`settings` must have a secret_key."""
        self._store = store
        keys = (settings.secret_key or "", *settings.secret_key_fallbacks)
        self._keys = tuple(hashlib.sha256(f"tokens\0{store.prefix}\0{key}".encode()).digest() for key in keys)
        self._recorded: dict[str, float] = {}  # id -> monotonic time of the last record of a use

    def create(self, name: str, role: Role, days: int, by: str) -> tuple[CreatedToken, str]:
        """A new token, and its text, which is shown only now. Raises Conflict if there are too many. 1 round trip."""
        token_id = "".join(secrets.choice(_ALPHABET) for _ in range(12))
        text = f"{MARK}{token_id}_{secrets.token_urlsafe(32)}"
        now = now_s()
        token = CreatedToken(
            id=token_id,
            name=name,
            role=role.name.lower(),
            digest=_digest(text),
            created_at=now,
            created_by=by[:200],
            expires_at=now + days * DAY_S,
        )
        stored = msgspec.json.encode(_Stored(token=token, mac=self._mac(token, self._keys[0])))
        if not self._store.run_script(_ADD, (TOKENS, USED), MAX_TOKENS, token_id, stored):
            raise Conflict(f"There are {MAX_TOKENS} tokens already.", hint="Revoke those that are no longer used.")
        return token, text

    def find(self, text: str) -> Identity | None:
        """Whose token this is; None for one that is unknown, revoked or expired.

        Cost: 1 round trip, and a second one when its last use is recorded.
        """
        found = _TOKEN.match(text)
        if found is None:
            return None
        (raw,) = self._store.read_keys(("HGET", TOKENS, found[1]))
        token = self._verified(raw, found[1])
        if token is None or not hmac.compare_digest(token.digest, _digest(text)) or token.expires_at <= now_s():
            return None
        self._record_use(token.id)
        return Identity(name=token.name, role=Role[token.role.upper()], is_token=True, created_by=token.created_by)

    def list_tokens(self) -> TokenList:
        """All tokens. Cost: 1 round trip."""
        tokens, used = self._store.read_keys(("HGETALL", TOKENS), ("HGETALL", USED))
        used_at = {_text(key): _seconds(value) for key, value in _pairs(used)}
        found, unverified = [], []
        for key, raw in _pairs(tokens):
            token = self._verified(raw, _text(key))
            if token is None:
                unverified.append(_text(key))
            else:
                found.append(ListedToken(token, used_at.get(token.id)))
        found.sort(key=lambda each: each.token.created_at, reverse=True)
        return TokenList(tuple(found), tuple(unverified[:MAX_TOKENS]))

    def list_names(self) -> set[str]:
        """The names of all tokens. Cost: 1 round trip."""
        return {each.token.name for each in self.list_tokens().tokens}

    def revoke(self, token_id: str) -> None:
        """Remove a token. Raises NotFound. Cost: 1 round trip."""
        if not self._store.run_script(_REMOVE, (TOKENS, USED), token_id):
            raise NotFound("This token no longer exists.")

    def remove_unverified(self) -> int:
        """Remove the entries that cannot be verified; how many there were. Cost: 1 round trip, and 1 for each."""
        found = self.list_tokens().unverified
        return sum(bool(self._store.run_script(_REMOVE, (TOKENS, USED), each)) for each in found)

    def _record_use(self, token_id: str) -> None:
        now = monotonic_s()
        if now - self._recorded.get(token_id, float("-inf")) < USED_EVERY_S:
            return
        if len(self._recorded) > 2 * MAX_TOKENS:
            self._recorded.clear()
        self._recorded[token_id] = now
        try:
            self._store.run_script(_USE, (TOKENS, USED), token_id, int(now_s()))
        except QueuedeckError as exc:
            log.warning("the last use of an API token cannot be stored: %s", exc.message)

    def _verified(self, raw: object, token_id: str) -> CreatedToken | None:
        """The token in a field of the hash; None unless this dashboard has written it there."""
        if not isinstance(raw, bytes):
            return None
        try:
            stored = _stored_decoder.decode(raw)
        except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, ValueError):
            return None
        token = stored.token
        given = stored.mac.encode()
        fits = any(hmac.compare_digest(self._mac(token, key).encode(), given) for key in self._keys)
        return token if fits and token.id == token_id else None

    @staticmethod
    def _mac(token: CreatedToken, key: bytes) -> str:
        return hmac.digest(key, msgspec.json.encode(token), "sha256").hex()


def is_created_token(text: str) -> bool:
    """Whether `text` has the form of a token that was created on the page."""
    return _TOKEN.match(text) is not None


def is_token_name(name: str) -> bool:
    """Whether a token can have this name."""
    return _NAME.match(name) is not None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _pairs(flat: object) -> list[tuple[bytes, bytes]]:
    """The fields of a hash and their values."""
    return list(zip(flat[::2], flat[1::2], strict=False)) if isinstance(flat, list) else []


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _seconds(raw: bytes) -> float | None:
    return float(raw) if raw.isdigit() and len(raw) <= 12 else None
