"""Queuedeck's own data in Redis: scripts on its own keys, the store's clock, and the lease of the leader.

Every key shares the hash tag `{queuedeck}`, so one Cluster slot holds them and one script may touch several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from redis.exceptions import ResponseError

from ..clock import monotonic_s
from ..errors import Forbidden
from ..redact import masked_logger
from ..settings import DEFAULT_STORE_PREFIX
from ..sources.source import Argument, Command, Reply, Source
from . import key_types

log = masked_logger(__name__)

PREFIX = DEFAULT_STORE_PREFIX
LEAD = f"{PREFIX}:lead"  # string `<holder>:<epoch>`, TTL 15 s
EPOCH = f"{PREFIX}:epoch"  # string, one number; never expires
PROBE = f"{PREFIX}:writes"  # exists only within a script

# A lease lasts 15 s, so a longer one than this is invalid. An epoch is the time of a server, whose clock was at most
# this far ahead.
LONGEST_LEASE_MS = 600_000
AHEAD_MS = 10 * 365 * 86_400_000
# A sample that is dated further ahead than this is ignored: its age would never show that it is old.
AHEAD_S = 300.0

# KEYS lead, epoch, then all other keys of ours with fixed names, so that those of another type are moved aside. ARGV
# holder, lease ms. Returns {epoch or 0, current holder, seconds, microseconds}. The epoch increases even after
# eviction, FLUSHALL or a lost failover, because it is at least the server's clock. A lease of another format, or one
# that does not expire in time, is invalid: it came from a copied database or another program.
_LEASE = f"""
local now = redis.call('TIME')
local ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
local held = redis.call('GET', KEYS[1])
if held then
  local holder, epoch = string.match(held, '^(.*):(%d+)$')
  local left = redis.call('PTTL', KEYS[1])
  if holder == nil or #epoch > 15 then
    replaced(KEYS[1], 'was not a lease: replaced')
  elseif (left == -1 or left > {LONGEST_LEASE_MS}) and holder ~= ARGV[1] then
    replaced(KEYS[1], 'did not expire in time: replaced')
  elseif holder ~= ARGV[1] then
    return {{0, holder, now[1], now[2]}}
  else
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    return {{tonumber(epoch), holder, now[1], now[2]}}
  end
end
local epoch = math.max((number(KEYS[2], 0, ms + {AHEAD_MS}) or 0) + 1, ms)
redis.call('SET', KEYS[2], string.format('%.0f', epoch))
redis.call('SET', KEYS[1], ARGV[1] .. ':' .. string.format('%.0f', epoch), 'PX', ARGV[2])
return {{epoch, ARGV[1], now[1], now[2]}}
"""

# KEYS lead. ARGV lead value. Returns 1 if the lease was ours and has been released.
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""

# Each command that writes Queuedeck's own data, as it is tried: (command, its arguments).
WRITES = (
    *(("DEL", ""), ("SET", "''"), ("EXPIRE", "60"), ("PEXPIRE", "60000"), ("PERSIST", ""), ("INCR", ""), ("DECR", "")),
    *(("HSET", "'a', '1'"), ("HINCRBY", "'a', 1"), ("HDEL", "'a'"), ("SADD", "'a'"), ("SREM", "'a'")),
    *(("ZADD", "1, 'a'"), ("ZREMRANGEBYRANK", "0, 0"), ("ZREM", "'a'"), ("RPUSH", "'a'"), ("LREM", "0, 'a'")),
    *(("XADD", "'*', 'a', '1'"), ("XTRIM", "'MAXLEN', 1")),
)
# KEYS an unused key. ARGV "1" to actually run the commands if the server cannot check permissions (before 7). Returns
# the commands that the user is not allowed to run on it, in the order of WRITES; leaves nothing written. If the server
# accepts no writes at all, it can fail with that error.
_TRY_WRITES = (
    """
local refused = {}
local function try(name, ...)
  if redis.acl_check_cmd then
    local known, allowed = pcall(redis.acl_check_cmd, name, KEYS[1], ...)
    if not known or not allowed then refused[#refused + 1] = name end -- not known: renamed or disabled
    return
  end
  if ARGV[1] ~= '1' or refused[1] == 'DEL' then return end
  local reply = redis.pcall(name, KEYS[1], ...)
  if type(reply) ~= 'table' or not reply.err then return end
  local said = string.lower(reply.err)
  if string.find(said, 'permission') or string.find(said, "can't run") or string.find(said, 'noperm') then
    refused[#refused + 1] = name
  elseif not string.find(said, 'wrongtype') and not string.find(said, 'not an integer') then
    error(reply.err)
  end
end
"""
    + "\n".join(
        f"try('{name}'{', ' + rest if rest else ''})\ntry('DEL')" if name != "DEL" else "try('DEL')"
        for name, rest in WRITES
    )
    + """
local names, seen = {}, {}
for _, name in ipairs(refused) do
  if not seen[name] then names[#names + 1] = name end
  seen[name] = true
end
return names
"""
)

# Redis >= 7 lets such a script write even when the server is out of memory, which is when it matters most.
_ALLOW_OOM = "#!lua flags=allow-oom\n"

_OTHERS = tuple(f"{PREFIX}:{name}" for name in key_types.TYPES if name not in ("lead", "epoch"))


@dataclass(frozen=True, slots=True)
class Lease:
    """The result of a request for the lease: `epoch` is None if another process is the `holder`."""

    epoch: int | None
    holder: str


class Store:
    """Queuedeck's own data on one source, thread-safe."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.clock: tuple[float, float] | None = None  # the store's time, and the monotonic time of its reading
        self._header = _ALLOW_OOM

    @property
    def prefix(self) -> str:
        """The prefix of Queuedeck's own keys in this store; modules use PREFIX, and the source replaces it by this."""
        return self.source.prefix

    def acquire_lease(self, holder: str, lease_s: float) -> Lease:
        """Acquire the lease or renew it, for `lease_s`. Raises BackendUnavailable, Forbidden. Cost: 1 round trip."""
        asked = monotonic_s()
        epoch, leader, seconds, micros = self.run_script(_LEASE, (LEAD, EPOCH, *_OTHERS), holder, int(lease_s * 1000))
        self.note_clock(seconds, micros, asked)
        return Lease(epoch or None, leader.decode("utf-8", "replace"))

    def refused_writes(self, *, by_trying: bool = True) -> tuple[str, ...]:
        """The commands that write Queuedeck's own data but are not allowed for the Redis user; usually none.

        A server before 7 cannot check permissions: each command is tried in one script that leaves nothing written;
        with `by_trying` False none is tried. Raises Forbidden if the user is not allowed to run scripts,
        BackendUnavailable. Cost: 1 round trip.
        """
        return tuple(name.decode() for name in self.run_script(_TRY_WRITES, (PROBE,), int(by_trying)))

    def not_writable(self, refused: Sequence[str]) -> Forbidden:
        """The error for a user who is not allowed to run these commands of `refused_writes`, with what to grant."""
        grants = " ".join(f"+{name.lower()}" for name in refused)
        return Forbidden(
            f"The Redis user of {self.source.address} is not allowed to run {', '.join(refused)} on {self.prefix}:*",
            hint=f"Grant {grants} and the keys ~{self.prefix}:*, or set store_url to another Redis.",
        )

    def release_lease(self, holder: str, epoch: int) -> None:
        """Release the lease if it is still held with this epoch."""
        self.run_script(_RELEASE, (LEAD,), f"{holder}:{epoch}")

    def now_s(self) -> float:
        """Seconds since 1970 by the store's clock: its last known time plus the monotonic time since then. Before the
        first reading, the same as `Source.now_s`.
        """
        clock = self.clock
        return self.source.now_s() if clock is None else clock[0] + monotonic_s() - clock[1]

    def note_clock(self, seconds: bytes, micros: bytes, asked: float) -> None:
        """Store the time from a reply to a command that was sent at `asked` (monotonic)."""
        answered = monotonic_s()
        self.clock = int(seconds) + int(micros) / 1e6, (asked + answered) / 2

    def run_script(
        self, body: str, keys: tuple[str, ...], *arguments: Argument, before: Sequence[Command] = ()
    ) -> Reply:
        """Run a script and return its result. Scripts are small and sent whole each time, so a flushed script cache is
        not a special case.

        Keys of another type than ours are moved aside first, with a line in the log for each. `before`: commands that
        are sent before the script in the same round trip; their replies are ignored. Raises BackendUnavailable,
        Forbidden. Cost: 1 round trip.
        """
        header = self._header  # read once: another thread may clear it at the same time
        try:
            try:
                reply = self._run_last([*before, self.script_command(body, keys, *arguments, header=header)])
            except ResponseError as exc:
                if not header or "compiling" not in str(exc).lower():
                    raise
                self._header = ""  # Redis < 7 does not support script flags
                reply = self.source.execute(*self.script_command(body, keys, *arguments, header=""))
        except ResponseError as exc:
            raise self.source.refusal_error(exc) from exc
        said, *answer = reply
        for line in said.decode("utf-8", "replace").splitlines():
            log.warning("own key %s", line)
        return answer[0] if answer else None

    def _run_last(self, commands: Sequence[Command]) -> Reply:
        """The reply to the last of `commands`; raises for that one as `Source.execute` does. Cost: 1 round trip."""
        if len(commands) == 1:
            return self.source.execute(*commands[0])
        reply = self.source.run_batch(commands)[-1]
        self.source.check_reply(reply)
        return reply

    def script_command(
        self, body: str, keys: tuple[str, ...], *arguments: Argument, header: str | None = None
    ) -> Command:
        """The command that `run_script` sends for a script."""
        whole = (self._header if header is None else header) + key_types.SOUND + body + key_types.END
        letters = key_types.letters_of(keys, PREFIX)
        return ("EVAL", whole, len(keys), *keys, *arguments, letters, self.prefix)

    def read_keys(self, *commands: Command) -> list[Reply]:
        """The replies to commands that read Queuedeck's own keys; None for a key of another type, treated as absent.

        Raises BackendUnavailable, Forbidden. Cost: 1 round trip, none without commands.
        """
        replies = self.source.run_batch(commands)
        for n, reply in enumerate(replies):
            if isinstance(reply, ResponseError):
                if not str(reply).startswith("WRONGTYPE"):
                    raise self.source.refusal_error(reply)
                replies[n] = None
        return replies
