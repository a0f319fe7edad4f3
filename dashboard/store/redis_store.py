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
LEAD = f"{PREFIX}:lead"  # string `<holder>:<epoch>`, 15 s to live
EPOCH = f"{PREFIX}:epoch"  # string, one number; kept for ever
PROBE = f"{PREFIX}:writes"  # there only within a script

# A lease is of 15 s; an epoch is the time of a server whose clock was that far ahead at most.
LONGEST_LEASE_MS = 600_000
AHEAD_MS = 10 * 365 * 86_400_000
# A sample of so much later than now is none: its age would never tell that it is old.
AHEAD_S = 300.0

# KEYS lead, epoch, then all our other keys of fixed names, so that those of another type are moved aside. ARGV holder,
# lease ms. Answers {epoch or 0, holder that leads, seconds, microseconds}. The epoch rises even after eviction,
# FLUSHALL or a lost failover, because it is at least the server's clock. A lease of another form, or one that does not
# run out in time, is nobody's: it came with a copied database, or from another program.
_LEASE = f"""
local now = redis.call('TIME')
local ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
local held = redis.call('GET', KEYS[1])
if held then
  local holder, epoch = string.match(held, '^(.*):(%d+)$')
  local left = redis.call('PTTL', KEYS[1])
  if holder == nil or #epoch > 15 then
    replaced(KEYS[1], 'was no lease: replaced')
  elseif (left == -1 or left > {LONGEST_LEASE_MS}) and holder ~= ARGV[1] then
    replaced(KEYS[1], 'had no end: replaced')
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

# KEYS lead. ARGV lead value. Answers 1 when the lease was ours and is given back.
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""

# Each command that writes Queuedeck's own data, as it is tried: (command, the rest of it).
WRITES = (
    *(("DEL", ""), ("SET", "''"), ("EXPIRE", "60"), ("PEXPIRE", "60000"), ("PERSIST", ""), ("INCR", ""), ("DECR", "")),
    *(("HSET", "'a', '1'"), ("HINCRBY", "'a', 1"), ("HDEL", "'a'"), ("SADD", "'a'"), ("SREM", "'a'")),
    *(("ZADD", "1, 'a'"), ("ZREMRANGEBYRANK", "0, 0"), ("ZREM", "'a'"), ("RPUSH", "'a'"), ("LREM", "0, 'a'")),
    *(("XADD", "'*', 'a', '1'"), ("XTRIM", "'MAXLEN', 1")),
)
# KEYS a key of nobody. ARGV "1" to try them for good where the server cannot say (before 7). Answers the commands that
# the user may not run on it, in the order of WRITES; nothing stays written. Where the server takes no writes at all it
# may end with that error.
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
local told, seen = {}, {}
for _, name in ipairs(refused) do
  if not seen[name] then told[#told + 1] = name end
  seen[name] = true
end
return told
"""
)

# Redis >= 7 lets such a script write even when the server is out of memory, which is when it matters most.
_ALLOW_OOM = "#!lua flags=allow-oom\n"

_OTHERS = tuple(f"{PREFIX}:{name}" for name in key_types.TYPES if name not in ("lead", "epoch"))


@dataclass(frozen=True, slots=True)
class Lease:
    """The answer to asking for the lead: `epoch` is None when `holder` is somebody else."""

    epoch: int | None
    holder: str


class Store:
    """Queuedeck's own data on one source, thread-safe."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.clock: tuple[float, float] | None = None  # the store's clock, and the monotonic time of that
        self._header = _ALLOW_OOM

    @property
    def prefix(self) -> str:
        """What our own keys begin with here; modules write PREFIX, and the source puts this in its place."""
        return self.source.prefix

    def take_lease(self, holder: str, lease_s: float) -> Lease:
        """Take or renew the lead for `lease_s` seconds. Raises BackendUnavailable, Forbidden. Cost: 1 round trip."""
        asked = monotonic_s()
        epoch, leader, seconds, micros = self.run_script(_LEASE, (LEAD, EPOCH, *_OTHERS), holder, int(lease_s * 1000))
        self.note_clock(seconds, micros, asked)
        return Lease(epoch or None, leader.decode("utf-8", "replace"))

    def refused_writes(self, *, by_trying: bool = True) -> tuple[str, ...]:
        """The commands that write our own data and that the Redis user may not run; mostly none.

        A server before 7 cannot say: there each is tried within one script that leaves nothing, or with `by_trying`
        False none is. Raises Forbidden where the user may run no scripts, BackendUnavailable. Cost: 1 round trip.
        """
        return tuple(name.decode() for name in self.run_script(_TRY_WRITES, (PROBE,), int(by_trying)))

    def not_writable(self, refused: Sequence[str]) -> Forbidden:
        """The one line for a user who may not run these commands of `refused_writes`, and what to grant."""
        grants = " ".join(f"+{name.lower()}" for name in refused)
        return Forbidden(
            f"The Redis user of {self.source.address} may not run {', '.join(refused)} on {self.prefix}:*",
            hint=f"Grant {grants} and the keys ~{self.prefix}:*, or name another Redis by store_url.",
        )

    def release_lease(self, holder: str, epoch: int) -> None:
        """Give the lead back if it is still ours."""
        self.run_script(_RELEASE, (LEAD,), f"{holder}:{epoch}")

    def now_s(self) -> float:
        """Seconds since 1970 by the store's clock as last asked, carried on by one that never steps; before that as
        Source.now_s."""
        clock = self.clock
        return self.source.now_s() if clock is None else clock[0] + monotonic_s() - clock[1]

    def note_clock(self, seconds: bytes, micros: bytes, asked: float) -> None:
        """Remember what TIME answered to a command sent at `asked` (monotonic)."""
        answered = monotonic_s()
        self.clock = int(seconds) + int(micros) / 1e6, (asked + answered) / 2

    def run_script(
        self, body: str, keys: tuple[str, ...], *arguments: Argument, before: Sequence[Command] = ()
    ) -> Reply:
        """The answer of a script, sent whole each time: they are small, and a flushed cache is no special case.

        Keys of another type than ours are moved aside before it begins, with one line in the log for each. `before`:
        commands that go before it in the same round trip; what they answer is not looked at. Raises BackendUnavailable,
        Forbidden. Cost: 1 round trip.
        """
        header = self._header  # read once: another thread may be learning the same at the same time
        try:
            try:
                reply = self._run_last([*before, self.script_command(body, keys, *arguments, header=header)])
            except ResponseError as exc:
                if not header or "compiling" not in str(exc).lower():
                    raise
                self._header = ""  # Redis < 7 knows no script flags
                reply = self.source.execute(*self.script_command(body, keys, *arguments, header=""))
        except ResponseError as exc:
            raise self.source.refusal_error(exc) from exc
        said, *answer = reply
        for line in said.decode("utf-8", "replace").splitlines():
            log.warning("own key %s", line)
        return answer[0] if answer else None

    def _run_last(self, commands: Sequence[Command]) -> Reply:
        """What the last of some commands answers; raises for that one as Source.execute does. 1 round trip."""
        if len(commands) == 1:
            return self.source.execute(*commands[0])
        reply = self.source.run_batch(commands)[-1]
        self.source.check_reply(reply)
        return reply

    def script_command(
        self, body: str, keys: tuple[str, ...], *arguments: Argument, header: str | None = None
    ) -> Command:
        """The command that runs a script as `run_script` does."""
        whole = (self._header if header is None else header) + key_types.SOUND + body + key_types.END
        letters = key_types.letters_of(keys, PREFIX)
        return ("EVAL", whole, len(keys), *keys, *arguments, letters, self.prefix)

    def read_keys(self, *commands: Command) -> list[Reply]:
        """The replies to commands that read our own keys; None for a key of another type, which counts as absent.

        Raises BackendUnavailable, Forbidden. Cost: 1 round trip, none for no commands.
        """
        replies = self.source.run_batch(commands)
        for n, reply in enumerate(replies):
            if isinstance(reply, ResponseError):
                if not str(reply).startswith("WRONGTYPE"):
                    raise self.source.refusal_error(reply)
                replies[n] = None
        return replies
