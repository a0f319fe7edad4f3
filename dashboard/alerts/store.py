"""States, history, silences and acknowledgements in the store.

Only the leader writes states, and only over the revision it knows. Every write of states is one script that checks the
lease and the revisions first, then writes states, history and messages together: a leader whose lease has expired
changes nothing, and no message is written without its state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ..sources.source import Argument
from ..store.packing import pack, unpack
from ..store.redis_store import LEAD, Store
from . import keys
from .counters import COUNT
from .evaluation import preview, rule_history
from .evaluation.durations import PersistedDurations
from .evaluation.preview import RuleObservations
from .evaluation.rule_history import RuleHistories
from .evaluation.state_machine import AlertState
from .notification import HistoryEntry, QueuedNotification
from .rules.rule import Severity
from .silences import ActiveSilences, Silence
from .stored_values import (
    CheckerBeat,
    EvaluationInputs,
    StoredStates,
    decode_text,
    parse_acknowledgements,
    parse_beat,
    parse_count,
    parse_pairs,
    parse_silences,
)

INSTANCE_TTL_MS = 7 * 86_400_000
DURATIONS_TTL_MS = 600_000
HISTORIES_TTL_MS = 7_200_000
HEARTBEAT_TTL_MS = 86_400_000
CHANNELS_TTL_MS = 30_000
MAX_CHANNELS = 200
MAX_EPISODES = 5000
# Alerts per script call: each costs Redis about 20 µs.
CHUNK = 200

# For scripts that add messages: appends one to its chain. It is due if it is the first of those that still exist.
ENQUEUE = """local function enqueue(line, due, at, id)
  redis.call('RPUSH', line, id)
  local head = redis.call('LINDEX', line, 0)
  while head ~= id and redis.call('EXISTS', sound(prefix .. ':msg:' .. head, 'h')) == 0 do
    redis.call('LREM', line, 1, head)
    head = redis.call('LINDEX', line, 0)
  end
  if head == id then redis.call('ZADD', due, at, id) end
end
"""

# KEYS lead, born, changes, live, episodes, unsent, acks, counters, then per alert its hash, then per message: its hash,
# the due set and the chain of its channel.
# ARGV lead value, born value, "1" to ignore the revisions, TTL of an alert in ms, maximum history entries, numbers of
# alerts, history entries, messages, new warnings and new critical alerts, then per alert: fingerprint, revision it was
# read at, body or "" to remove it; per history entry: body; per message: id, body, due ms, made ms, channel,
# fingerprint, episode, kind, group, fallback or "". Returns "ok"; "lead" when another process leads; "data" when the
# data is not what the leader knows; or the fingerprint of an alert that has another revision. Then nothing is written.
_COMMIT = (
    f"""{ENQUEUE}{COUNT}"""
    + """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'lead' end
local force = ARGV[3] == '1'
local born = redis.call('GET', KEYS[2])
if not born then
  if not force then return 'data' end
  redis.call('SET', KEYS[2], ARGV[2])
elseif born ~= ARGV[2] and not force then return 'data' end
local changes = number(KEYS[3], 0, 999999999999999)
local instances, episodes, messages = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local at = 10
local revisions = {}
for i = 1, instances do
  local revision = redis.call('HGET', KEYS[8 + i], 'rev') or '0'
  if #revision > 15 or not string.match(revision, '^%d+$') then revision = '0' end
  if revision ~= ARGV[at + 3 * i - 1] and not force then return ARGV[at + 3 * i - 2] end
  revisions[i] = math.max(tonumber(revision) or 0, tonumber(ARGV[at + 3 * i - 1]))
end
for i = 1, instances do
  local fingerprint, body = ARGV[at + 3 * i - 2], ARGV[at + 3 * i]
  if body == '' then
    redis.call('DEL', KEYS[8 + i])
    redis.call('SREM', KEYS[4], fingerprint)
    redis.call('HDEL', KEYS[7], fingerprint)
  else
    redis.call('HSET', KEYS[8 + i], 'rev', string.format('%.0f', revisions[i] + 1), 'body', body)
    redis.call('PEXPIRE', KEYS[8 + i], ARGV[4])
    redis.call('SADD', KEYS[4], fingerprint)
  end
end
at = at + 3 * instances
for i = 1, episodes do append(KEYS[5], ARGV[5], 'e', ARGV[at + i]) end
count(KEYS[8], 'fired warning', tonumber(ARGV[9]))
count(KEYS[8], 'fired critical', tonumber(ARGV[10]))
at = at + episodes
local k = 8 + instances
for i = 1, messages do
  local id = ARGV[at + 1]
  if redis.call('EXISTS', KEYS[k + 1]) == 0 then
    redis.call('HSET', KEYS[k + 1], 'state', 'queued', 'attempts', '0', 'body', ARGV[at + 2], 'due', ARGV[at + 3],
      'made', ARGV[at + 4], 'channel', ARGV[at + 5], 'fingerprint', ARGV[at + 6], 'episode', ARGV[at + 7],
      'kind', ARGV[at + 8], 'group', ARGV[at + 9], 'fallback', ARGV[at + 10])
    redis.call('ZADD', KEYS[6], ARGV[at + 4], id)
    enqueue(KEYS[k + 3], KEYS[k + 2], ARGV[at + 3], id)
  end
  at, k = at + 10, k + 3
end
if instances > 0 then redis.call('SET', KEYS[3], string.format('%.0f', (changes or 0) + 1)) end
return 'ok'
"""
)

# KEYS lead, heartbeat, then further keys to set. ARGV lead value, holder, "1" when notifications could be delivered,
# TTL of the heartbeat in ms, then per further key: value, TTL in ms. Returns 1, or 0 when another process leads.
_RECORD_BEAT = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local t = redis.call('TIME')
local ms = string.format('%.0f', tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000))
redis.call('HSET', KEYS[2], 'at', ms, 'holder', ARGV[2], 'lead', ARGV[1], 'delivers', ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
for i = 3, #KEYS do redis.call('SET', KEYS[i], ARGV[2 * i - 1], 'PX', ARGV[2 * i]) end
return 1
"""

# KEYS lead, rules, silences, acks. ARGV lead value, rules or "", number of silences, then id and body of each silence,
# then fingerprint and body of each acknowledgement. Writes only what is missing. Returns 1, or 0 when another process
# leads.
_RESTORE_SETTINGS = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] ~= '' and redis.call('EXISTS', KEYS[2]) == 0 then redis.call('SET', KEYS[2], ARGV[2]) end
local silences = tonumber(ARGV[3])
for i = 4, #ARGV - 1, 2 do
  local key = i < 4 + 2 * silences and KEYS[3] or KEYS[4]
  if redis.call('HEXISTS', key, ARGV[i]) == 0 then redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
end
return 1
"""

# KEYS channels. ARGV ms that a process counts after its last registration, maximum number of ids, then the ids of this
# process. Returns the ids of all processes.
_REGISTER_CHANNELS = """
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
for i = 3, #ARGV do redis.call('ZADD', KEYS[1], now, ARGV[i]) end
local all, found = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), {}
for i = 1, #all, 2 do
  if math.abs(now - tonumber(all[i + 1])) > tonumber(ARGV[1]) then redis.call('ZREM', KEYS[1], all[i])
  elseif #found < tonumber(ARGV[2]) then found[#found + 1] = all[i] end
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return found
"""

# KEYS episodes, counters. ARGV maximum entries, body, "1" if it began, severity. For incidents recorded without a lead:
# the store outages.
_APPEND_HISTORY = f"""{COUNT}append(KEYS[1], ARGV[1], 'e', ARGV[2])
count(KEYS[2], 'fired ' .. ARGV[4], tonumber(ARGV[3]))
return 1
"""


class LostLead(Exception):
    """Another process leads now; nothing was written."""


class StaleRevision(Exception):
    """The store differs from what the leader knows; nothing was written, and it must be read again."""


class DataGone(Exception):
    """The store has lost its data, or holds that of another server."""


class AlertStore:
    """The alert data in the store. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.source = store.source

    def read_inputs(self) -> EvaluationInputs:
        """The inputs of an evaluation. Raises BackendUnavailable, Forbidden. Cost: 1 round trip of 9 commands."""
        time_, born, changes, rules, silences, acks, beat, unsent, dead = self.store.read_keys(
            ("TIME",),
            ("GET", keys.BORN),
            ("GET", keys.CHANGES),
            ("GET", keys.RULES),
            ("HGETALL", keys.SILENCES),
            ("HGETALL", keys.ACKS),
            ("HGETALL", keys.HEARTBEAT),
            ("ZRANGE", keys.UNSENT, 0, 999, "WITHSCORES"),
            ("ZRANGE", keys.DEAD, 0, keys.MAX_DEAD - 1),
        )
        now = int(time_[0]) + int(time_[1]) / 1e6
        undelivered: dict[str, float] = {}
        pairs = parse_pairs(unsent)
        for name, made_ms in pairs.items():
            _, colon, channel = decode_text(name).rpartition(":")
            waited_s = now - float(made_ms) / 1000
            if colon and waited_s < now:  # otherwise it is not one of our messages
                undelivered.setdefault(channel, max(0.0, waited_s))
        given_up: dict[str, int] = {}
        for name in dead if isinstance(dead, list) else ():
            _, colon, channel = decode_text(name).rpartition(":")
            if colon:
                given_up[channel] = given_up.get(channel, 0) + 1
        return EvaluationInputs(
            now=now,
            born=decode_text(born or b""),
            changes=parse_count(changes),
            rules=rules if isinstance(rules, bytes) else b"",
            active_silences=ActiveSilences(
                silences=tuple(parse_silences(silences, Silence)), acks=parse_acknowledgements(acks)
            ),
            beat=parse_beat(parse_pairs(beat)),
            undelivered=undelivered,
            dead=given_up,
            unsent=frozenset(decode_text(name) for name in pairs),
        )

    def load_states(self) -> StoredStates:
        """All stored states. Cost: 2 round trips."""
        born, changes, live = self.store.read_keys(("GET", keys.BORN), ("GET", keys.CHANGES), ("SMEMBERS", keys.LIVE))
        names = [decode_text(name) for name in live or ()][: keys.MAX_LIVE]
        rows = self.store.read_keys(
            *(("HMGET", keys.instance_key(fingerprint), "rev", "body") for fingerprint in names)
        )
        known = StoredStates(changes=parse_count(changes), born=decode_text(born or b""))
        for fingerprint, row in zip(names, rows, strict=True):
            revision, body = row if isinstance(row, list) else (None, None)
            state = unpack(body, AlertState)
            if state is not None and state.fingerprint == fingerprint:
                known.states[fingerprint] = state
                known.revisions[fingerprint] = parse_count(revision)
            else:
                known.unreadable[fingerprint] = parse_count(revision)
        return known

    def load_last_evaluation(self) -> tuple[PersistedDurations | None, RuleObservations | None]:
        """(the last leader's durations, its observations of rules that need several samples); None for one that has
        expired. Cost: 1 round trip."""
        durations, raw_observations = self.store.read_keys(("GET", keys.DURATIONS), ("GET", keys.OBSERVATIONS))
        observations = unpack(raw_observations, RuleObservations)
        if observations is not None and not preview.is_valid(observations):
            observations = None
        return unpack(durations, PersistedDurations), observations

    def load_histories(self) -> RuleHistories | None:
        """The last hour of the rules; None when there is none. Cost: 1 round trip."""
        (raw,) = self.store.read_keys(("GET", keys.RULE_HISTORIES))
        found = unpack(raw, RuleHistories)
        return found if found is not None and rule_history.is_valid(found) else None

    def commit_states(
        self,
        lead: str,
        born: str,
        states: Mapping[str, tuple[AlertState | None, int]],
        entries: Sequence[HistoryEntry],
        queued_notifications: Sequence[QueuedNotification],
        *,
        force: bool = False,
    ) -> None:
        """Write states (by fingerprint: the state or None to remove it, the revision it was read at), their history and
        queued notifications.

        Raises LostLead, StaleRevision, DataGone. If one of these is raised, or the connection fails, earlier chunks of
        CHUNK alerts may already be written: read the states again. Cost: 1 round trip per chunk.
        """
        fingerprint_notifications: dict[str, list[QueuedNotification]] = {}
        for queued in queued_notifications:
            fingerprint_notifications.setdefault(queued.notification.fingerprint, []).append(queued)
        fingerprint_entries: dict[str, list[HistoryEntry]] = {}
        for entry in entries:
            fingerprint_entries.setdefault(entry.fingerprint, []).append(entry)
        fingerprints = list(dict.fromkeys([*states, *fingerprint_notifications, *fingerprint_entries]))
        for start in range(0, max(len(fingerprints), 1), CHUNK):
            chunk = fingerprints[start : start + CHUNK]
            self._commit_chunk(
                (lead, born, force),
                {fingerprint: states[fingerprint] for fingerprint in chunk if fingerprint in states},
                [entry for fingerprint in chunk for entry in fingerprint_entries.get(fingerprint, ())],
                [queued for fingerprint in chunk for queued in fingerprint_notifications.get(fingerprint, ())],
            )

    def _commit_chunk(
        self,
        guard: tuple[str, str, bool],
        states: Mapping[str, tuple[AlertState | None, int]],
        entries: Sequence[HistoryEntry],
        queued_notifications: Sequence[QueuedNotification],
    ) -> None:
        lead, born, force = guard
        names = [LEAD, keys.BORN, keys.CHANGES, keys.LIVE, keys.EPISODES, keys.UNSENT, keys.ACKS, keys.COUNTERS]
        names += [keys.instance_key(fingerprint) for fingerprint in states]
        arguments: list[Argument] = [lead, born, int(force), INSTANCE_TTL_MS, MAX_EPISODES]
        arguments += [len(states), len(entries), len(queued_notifications)]
        began = [entry.severity for entry in entries if entry.kind == "firing"]
        arguments += [began.count(severity) for severity in Severity]  # warnings first
        for fingerprint, (state, revision) in states.items():
            arguments += [fingerprint, revision, pack(state) if state is not None else b""]
        arguments += [pack(entry) for entry in entries]
        for queued in queued_notifications:
            names += queued_keys(queued)
            arguments += queued_fields(queued)
        answer = decode_text(self.store.run_script(_COMMIT, tuple(names), *arguments))
        if answer == "lead":
            raise LostLead
        if answer == "data":
            raise DataGone
        if answer != "ok":
            raise StaleRevision(answer)

    def record_beat(
        self,
        lead: str,
        holder: str,
        *,
        delivers: bool,
        durations: PersistedDurations | None = None,
        observations: RuleObservations | None = None,
        hour: RuleHistories | None = None,
    ) -> bool:
        """Record a completed evaluation and store what is given; False when another process leads.

        Cost: 1 round trip.
        """
        names = [LEAD, keys.HEARTBEAT]
        arguments: list[Argument] = [lead, holder, int(delivers), HEARTBEAT_TTL_MS]
        given = ((keys.DURATIONS, durations, DURATIONS_TTL_MS), (keys.OBSERVATIONS, observations, DURATIONS_TTL_MS))
        for name, value, ttl_ms in (*given, (keys.RULE_HISTORIES, hour, HISTORIES_TTL_MS)):
            if value is not None:
                names.append(name)
                arguments += [pack(value), ttl_ms]
        return bool(self.store.run_script(_RECORD_BEAT, tuple(names), *arguments))

    def register_channels(self, channels: Sequence[str]) -> tuple[str, ...]:
        """Register the channels of this process and return the ids of all processes, sorted. Cost: 1 round trip."""
        found = self.store.run_script(_REGISTER_CHANNELS, (keys.CHANNELS,), CHANNELS_TTL_MS, MAX_CHANNELS, *channels)
        return tuple(sorted(map(decode_text, found)))

    def restore_settings(self, lead: str, rules: bytes, active_silences: ActiveSilences) -> None:
        """Restore rules, silences and acknowledgements after the store lost its data, without replacing newer ones.

        Raises LostLead. Cost: 1 round trip.
        """
        names = (LEAD, keys.RULES, keys.SILENCES, keys.ACKS)
        arguments: list[Argument] = [lead, rules, len(active_silences.silences)]
        for silence in active_silences.silences:
            arguments += [silence.id, msgspec.json.encode(silence)]
        for fingerprint, ack in active_silences.acks.items():
            arguments += [fingerprint, msgspec.json.encode(ack)]
        if not self.store.run_script(_RESTORE_SETTINGS, names, *arguments):
            raise LostLead

    def read_time(self) -> float:
        """The store's time in seconds since 1970. Raises BackendUnavailable. Cost: 1 round trip."""
        return self.read_heartbeat()[0]

    def read_heartbeat(self) -> tuple[float, CheckerBeat | None]:
        """(the store's time, the last completed evaluation). Raises BackendUnavailable. Cost: 1 round trip."""
        time_, beat = self.store.read_keys(("TIME",), ("HGETALL", keys.HEARTBEAT))
        return int(time_[0]) + int(time_[1]) / 1e6, parse_beat(parse_pairs(beat))

    def append_history(self, entry: HistoryEntry) -> None:
        """Add an entry that was created while the store was unavailable to the history."""
        arguments = MAX_EPISODES, pack(entry), int(entry.kind == "firing"), entry.severity.value
        self.store.run_script(_APPEND_HISTORY, (keys.EPISODES, keys.COUNTERS), *arguments)


def queued_keys(queued: QueuedNotification) -> list[str]:
    """KEYS of one queued notification, for scripts that create it."""
    fingerprint, channel = queued.notification.fingerprint, queued.channel
    return [keys.message_key(queued.id), keys.due_key(channel), keys.chain_key(channel, fingerprint)]


def queued_fields(queued: QueuedNotification) -> list[Argument]:
    """ARGV of one queued notification, for scripts that create it."""
    notification = queued.notification
    return [
        *(
            queued.id,
            pack(notification),
            int(queued.due_at * 1000),
            int(notification.at * 1000),
            queued.channel,
            notification.fingerprint,
        ),
        *(notification.episode, notification.kind, notification.group_key, notification.fallback or ""),
    ]
