"""Silences and maintenance windows: list, draft, save, expire."""

from __future__ import annotations

import secrets

import msgspec

from ...errors import ConfigurationError, NotFound, Unsupported
from .. import keys
from ..rules.rule import Severity
from ..silences import Silence, WeeklyWindow
from ..store import AlertStore
from .ownership import AlertOwnership

# KEYS silences. ARGV id, body, maximum number, "1" to replace only. Removes silences that ended over a day ago.
# Returns 1; 0 when the limit is reached or there is none to replace.
_STORE_SILENCE = """
local t = redis.call('TIME')
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local ok, found = pcall(cjson.decode, all[i + 1])
  if not ok or type(found) ~= 'table' or (tonumber(found['until']) or 0) < tonumber(t[1]) - 86400 then
    redis.call('HDEL', KEYS[1], all[i])
  end
end
local there = redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1
if ARGV[4] == '1' and not there then return 0 end
if not there and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""


class SilenceEditor:
    """Lists and changes silences."""

    def __init__(self, alert_store: AlertStore, ownership: AlertOwnership) -> None:
        self.alert_store = alert_store
        self._store = alert_store.store
        self._ownership = ownership

    def list_silences(self) -> tuple[Silence, ...]:
        """All silences and maintenance windows that have not ended, earliest end first. Cost: 1 round trip."""
        if self._ownership.conflict is not None:
            return ()
        inputs = self.alert_store.read_inputs()
        return tuple(silence for silence in inputs.active_silences.silences if silence.until > inputs.now)

    def save_silence(self, silence: Silence) -> None:
        """Store a drafted silence. Raises Unsupported when the limit is reached, Conflict. Cost: 1 round trip."""
        self._ownership.check()
        if not self._store_silence(silence, replace=False):
            raise Unsupported(f"The limit of {keys.MAX_SILENCES} silences is reached. Expire some first.")

    def draft_silence(
        self,
        *,
        for_s: float,
        by: str,
        comment: str = "",
        starts_in_s: float = 0.0,
        weekly: WeeklyWindow | None = None,
        severity: Severity | None = None,
        **globs: str,
    ) -> Silence:
        """A new silence for alerts that match all globs (`rule`, `source`, `backend`, `queue`), validated, not stored.

        Raises ConfigurationError. Cost: 1 round trip.
        """
        unknown = set(globs) - {"rule", "source", "backend", "queue"}
        if unknown:
            raise ConfigurationError(f"silence: {min(unknown)}: expected rule, source, backend or queue")
        now = self.alert_store.read_time()
        silence = Silence(
            id=secrets.token_hex(6),
            created_at=now,
            starts_at=now + starts_in_s,
            until=now + starts_in_s + for_s,
            by=by,
            comment=comment,
            severity=severity,
            weekly=weekly,
            **globs,
        )
        problem = silence.find_problem()
        if problem:
            raise ConfigurationError(f"silence: {problem}")
        return silence

    def expire_silence(self, silence_id: str) -> Silence:
        """End a silence now. Raises NotFound, Conflict. Cost: 2 round trips."""
        self._ownership.check()
        inputs = self.alert_store.read_inputs()
        for silence in inputs.active_silences.silences:
            if silence.id == silence_id and silence.until > inputs.now:
                ended = msgspec.structs.replace(silence, until=inputs.now)
                if self._store_silence(ended, replace=True):
                    return ended
        raise NotFound("This silence has already ended.")

    def _store_silence(self, silence: Silence, *, replace: bool) -> bool:
        body = msgspec.json.encode(silence)
        return bool(
            self._store.run_script(_STORE_SILENCE, (keys.SILENCES,), silence.id, body, keys.MAX_SILENCES, int(replace))
        )
